//! The crash suite: cut at every call that writes, lost before and after its effect, and a full disk; then resume, then
//! verify. The verdict after a resume is intact or RECOVERED TAIL; it is never TAMPERED.
#![allow(missing_docs, reason = "a test crate has no reader of docs")]

mod scene;

use firebreak_evidence::bag::{BagError, BagWriter, Resumed, bag_name};
use firebreak_evidence::encoding::sha256;
use firebreak_evidence::gate::SigningGate;
use firebreak_evidence::ledger::{
    LedgerError, LedgerWriter, RecoveryEntry, bag_opened_body, bag_sealed_body,
};
use firebreak_evidence::memory::{Crash, Fault, MemorySink, MemorySource};
use firebreak_evidence::record::Mode;
use firebreak_evidence::verify::Report;
use scene::{
    Desk, INCIDENT, SceneError, acquisition, actor, entry, identity, play, signer, spec, verdict,
    without_state,
};
use serde_json::json;
use std::collections::BTreeMap;

const CRASHES: [Crash; 3] = [Crash::Killed, Crash::PowerCut, Crash::Torn];

/// What the ledger says of bags.
fn bags_of(snapshot: &MemorySource) -> (BTreeMap<u64, bool>, u64) {
    let (mut bags, mut entries) = (BTreeMap::new(), 0);
    LedgerWriter::open_with(snapshot, identity(), &mut |entry| {
        entries += 1;
        let bag = entry
            .body
            .get("bag")
            .and_then(|bag| bag.as_str()?.parse::<u64>().ok());
        match (entry.kind.as_str(), bag) {
            ("bag.opened", Some(bag)) => _ = bags.entry(bag).or_insert(false),
            ("bag.sealed", Some(bag)) => _ = bags.insert(bag, true),
            _ => {}
        }
    })
    .expect("a ledger after a crash opens");
    (bags, entries)
}

/// What the program does after a crash: the ledger first, then every bag that is open.
fn resume(sink: MemorySink) -> Result<(), SceneError> {
    let snapshot = sink.snapshot();
    let mut desk = Desk::open(sink.clone())?;
    let told = RecoveryEntry {
        time: "2026-08-22T13:00:00.000Z".to_owned(),
        actor: actor(),
        nonce: [0xee; 16],
    };
    desk.ledger.recover(&mut desk.sink, &snapshot, told, 2)?;
    if desk.ledger.size() == 0 {
        desk.ledger
            .append(&mut desk.sink, &[entry(0, "ledger.opened", json!({}))], 2)?;
    }
    let (bags, _) = bags_of(&sink.snapshot());
    let mut prev = [0; 32];
    for (number, sealed) in bags {
        let seal = format!("bags/{}/seal/seal.note", bag_name(INCIDENT, number as u32));
        if !sealed {
            resume_bag(&mut desk, number as u32, prev)?;
        }
        prev = sha256(&sink.snapshot().files[&seal]);
    }
    desk.ledger
        .checkpoint(&mut desk.gate, &signer(), &mut desk.sink)?;
    Ok(())
}

fn resume_bag(desk: &mut Desk, number: u32, prev: [u8; 32]) -> Result<(), SceneError> {
    let snapshot = desk.sink.snapshot();
    let mut bag = match BagWriter::recover(desk.sink.clone(), &snapshot, spec(number)) {
        Ok(Resumed::Sealed(sealed)) => {
            desk.ledger.append(
                &mut desk.sink,
                &[entry(50, "bag.sealed", bag_sealed_body(&sealed))],
                2,
            )?;
            return Ok(());
        }
        Ok(Resumed::Open(bag, _)) => *bag,
        Err(BagError::NotOpen(_)) => BagWriter::open(desk.sink.clone(), spec(number))?,
        Err(error) => return Err(error.into()),
    };
    if bag.active_source().is_some() {
        bag.finish_source(acquisition("E-0001", "resumed"))?;
    }
    bag.start_source("after the crash", Mode::Line)?;
    bag.write(b"resumed\n")?;
    bag.finish_source(acquisition("E-0002", "after the crash"))?;
    let head = desk
        .ledger
        .checkpoint_kept(&mut desk.gate, &signer(), &mut desk.sink)?;
    let sealed = bag.seal(firebreak_evidence::bag::SealInputs {
        ledger: &head,
        prev_seal_sha256: prev,
        epoch: 1,
        closed: scene::CLOSED,
        signer: &signer(),
        gate: &mut desk.gate,
    })?;
    desk.ledger.append(
        &mut desk.sink,
        &[entry(51, "bag.sealed", bag_sealed_body(&sealed))],
        2,
    )?;
    Ok(())
}

fn calls_of(run: impl FnOnce(MemorySink) -> Result<(), SceneError>, disk: MemorySource) -> u64 {
    let sink = MemorySink::holding(disk);
    sink.arm(None);
    run(sink.clone()).expect("nothing fails without a fault");
    sink.calls()
}

fn check(report: &Report, what: &str) {
    assert!([0, 22].contains(&report.exit), "{what}\n{report}");
    assert!(!report.bags.is_empty() || report.ledger.is_some(), "{what}");
}

#[test]
fn a_cut_at_any_call_loses_nothing_signed_and_is_never_called_tampered() {
    let calls = calls_of(play, MemorySource::default());
    assert!(calls > 150, "the scene makes {calls} calls");
    let mut exits = BTreeMap::new();
    let mut called_tampered = Vec::new();
    for at in 0..calls {
        for fault in [Fault::CutBefore(at), Fault::CutAfter(at), Fault::Full(at)] {
            // A full disk is no power cut.
            let kept = if matches!(fault, Fault::Full(_)) {
                &CRASHES[..1]
            } else {
                &CRASHES[..]
            };
            for crash in kept.iter().copied() {
                let what = format!("{fault:?} then {crash:?}");
                let sink = MemorySink::default();
                sink.arm(Some(fault));
                let cut = play(sink.clone());
                assert!(cut.is_err(), "{what}: the cut must reach the caller");
                let found = MemorySink::holding(sink.after(crash));
                let left = verdict(&without_state(found.snapshot()));
                if left.exit == 6 {
                    called_tampered.push(format!("{what}\n{left}"));
                }
                resume(found.clone()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
                let report = verdict(&without_state(found.snapshot()));
                check(&report, &what);
                *exits.entry(report.exit).or_insert(0) += 1;
            }
        }
    }
    println!("{calls} calls; verdicts after the resume: {exits:?}");
    assert!(
        called_tampered.is_empty(),
        "what a crash leaves is called tampered before the resume, {} times, first: {}",
        called_tampered.len(),
        called_tampered[0]
    );
    assert!(exits[&0] > 0 && exits[&22] > 0, "both endings occur");
}

#[test]
fn a_second_cut_inside_the_resume_is_resumed_too() {
    let calls = calls_of(play, MemorySource::default());
    for at in (0..calls).step_by(11) {
        for crash in [Crash::Killed, Crash::Torn] {
            let sink = MemorySink::default();
            sink.arm(Some(Fault::CutAfter(at)));
            assert!(play(sink.clone()).is_err());
            let first = sink.after(crash);
            let again = calls_of(resume, first.clone());
            for second in (0..again).step_by(3) {
                let what =
                    format!("cut after {at}, {crash:?}, then cut before {second} of the resume");
                let sink = MemorySink::holding(first.clone());
                sink.arm(Some(Fault::CutBefore(second)));
                assert!(resume(sink.clone()).is_err(), "{what}");
                let found = MemorySink::holding(sink.after(Crash::Torn));
                resume(found.clone()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
                check(&verdict(&without_state(found.snapshot())), &what);
            }
        }
    }
}

#[test]
fn acknowledged_entries_survive_every_crash() {
    let write = |sink: MemorySink, acknowledged: &mut u64| -> Result<(), SceneError> {
        let mut desk = Desk::open(sink)?;
        for second in 0..6 {
            let batch = [
                entry(second, "incident.note", json!({"n": second})),
                entry(second, "incident.note", json!({})),
            ];
            desk.ledger.append(&mut desk.sink, &batch, 1)?;
            *acknowledged += 2;
        }
        Ok(())
    };
    let calls = calls_of(|sink| write(sink, &mut 0), MemorySource::default());
    for at in 0..calls {
        for fault in [Fault::CutBefore(at), Fault::CutAfter(at), Fault::Full(at)] {
            for crash in CRASHES {
                let sink = MemorySink::default();
                sink.arm(Some(fault));
                let mut acknowledged = 0;
                assert!(write(sink.clone(), &mut acknowledged).is_err());
                let (_, stored) = bags_of(&sink.after(crash));
                assert!(
                    stored >= acknowledged,
                    "{fault:?} {crash:?}: {stored} of {acknowledged}"
                );
            }
        }
    }
}

#[test]
fn finished_sources_survive_every_crash_byte_for_byte() {
    let sources: [(&str, &[u8]); 3] = [
        ("a.log", b"one\ntwo"),
        ("b.log", b"three\n"),
        ("c.log", b""),
    ];
    let take = |sink: MemorySink, finished: &mut usize| -> Result<(), SceneError> {
        let mut desk = Desk::open(sink)?;
        let mut bag = desk.open_bag(1)?;
        for (name, bytes) in sources {
            bag.start_source(name, Mode::Line)?;
            bag.write(bytes)?;
            bag.finish_source(acquisition("E-0001", name))?;
            *finished += 1;
        }
        Ok(())
    };
    let calls = calls_of(|sink| take(sink, &mut 0), MemorySource::default());
    for at in 0..calls {
        for fault in [Fault::CutBefore(at), Fault::CutAfter(at), Fault::Full(at)] {
            for crash in CRASHES {
                let sink = MemorySink::default();
                sink.arm(Some(fault));
                let mut finished = 0;
                assert!(take(sink.clone(), &mut finished).is_err());
                let found = MemorySink::holding(sink.after(crash));
                resume(found.clone())
                    .unwrap_or_else(|error| panic!("{fault:?} {crash:?}: {error:?}"));
                let files = found.snapshot().files;
                for (name, bytes) in &sources[..finished] {
                    let path = format!("bags/INC-2031_0001/data/{name}/00000.log");
                    assert_eq!(
                        files.get(&path).map(Vec::as_slice),
                        Some(*bytes),
                        "{fault:?} {crash:?} {name}"
                    );
                    let record = format!("bags/INC-2031_0001/acquisition/{name}.json");
                    assert!(
                        !String::from_utf8_lossy(&files[&record]).contains("crash"),
                        "{fault:?} {crash:?} {name}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_torn_ledger_line_is_moved_hashed_and_told_of() {
    let sink = MemorySink::default();
    let mut desk = Desk::open(sink.clone()).unwrap();
    desk.tell("ledger.opened", json!({})).unwrap();
    sink.arm(Some(Fault::Full(0)));
    assert!(desk.tell("incident.note", json!({"text": "lost"})).is_err());
    assert!(matches!(
        desk.tell("incident.note", json!({})),
        Err(SceneError::Ledger(LedgerError::Closed))
    ));
    let found = MemorySink::holding(sink.snapshot());
    let mut desk = Desk::open(found.clone()).unwrap();
    let torn = desk.ledger.torn().expect("half of a line").bytes.clone();
    assert!(matches!(
        desk.tell("incident.note", json!({})),
        Err(SceneError::Ledger(LedgerError::Torn(_)))
    ));
    resume(found.clone()).unwrap();
    let files = found.snapshot().files;
    assert_eq!(files["ledger/recovered/00000"], torn);
    let lines = String::from_utf8(files["ledger/ledger.jsonl"].clone()).unwrap();
    assert!(lines.lines().nth(1).unwrap().contains("ledger.recovered"));
    assert!(lines.contains(&firebreak_evidence::encoding::hex(&sha256(&torn))));
}

#[test]
fn a_torn_line_of_a_bag_moves_to_its_own_segment_and_no_byte_is_lost() {
    let sink = MemorySink::default();
    let mut desk = Desk::open(sink.clone()).unwrap();
    desk.tell("ledger.opened", json!({})).unwrap();
    let mut bag = desk.open_bag(1).unwrap();
    bag.start_source("auth.log", Mode::Line).unwrap();
    bag.write(b"alpha\nbeta\ngam").unwrap();
    bag.commit(&mut desk.gate, &signer()).unwrap();
    drop(bag);
    let found = MemorySink::holding(sink.after(Crash::PowerCut));
    resume(found.clone()).unwrap();
    let files = found.snapshot().files;
    let dir = "bags/INC-2031_0001";
    assert_eq!(
        files[&format!("{dir}/data/auth.log/00000.log")],
        b"alpha\nbeta\n"
    );
    assert_eq!(files[&format!("{dir}/data/recovered/00000.bin")], b"gam");
    let record =
        String::from_utf8(files[&format!("{dir}/acquisition/auth.log.json")].clone()).unwrap();
    assert!(
        record.contains(r#""recovered":[{"from":2,"tail":"data/recovered/00000.bin","to":2}]"#),
        "{record}"
    );
    assert!(record.contains(r#""state":"crash""#), "{record}");
    let report = verdict(&without_state(found.snapshot()));
    assert_eq!(report.verdict, "RECOVERED TAIL", "{report}");
}

#[test]
fn signed_records_that_are_gone_or_changed_stop_the_resume_as_tampered() {
    let sink = MemorySink::default();
    let mut desk = Desk::open(sink.clone()).unwrap();
    desk.tell("ledger.opened", json!({})).unwrap();
    let mut bag = desk.open_bag(1).unwrap();
    bag.start_source("auth.log", Mode::Line).unwrap();
    bag.write(b"alpha\nbeta\n").unwrap();
    bag.commit(&mut desk.gate, &signer()).unwrap();
    let path = "bags/INC-2031_0001/data/auth.log/00000.log";
    for bytes in [&b"alpha\n"[..], b"alphA\nbeta\n", b"", b"alpha\nbeta"] {
        let mut disk = sink.snapshot();
        disk.files.insert(path.to_owned(), bytes.to_vec());
        let found = MemorySink::holding(disk.clone());
        let resumed = BagWriter::recover(found.clone(), &disk, spec(1));
        assert!(
            matches!(resumed, Err(BagError::Tampered { .. })),
            "{bytes:?}"
        );
        assert_eq!(
            found.snapshot().files[path],
            bytes,
            "evidence of tampering is left as it is"
        );
    }
}

#[test]
fn a_ledger_that_was_set_back_below_its_signed_head_does_not_open() {
    let sink = MemorySink::default();
    let mut desk = Desk::open(sink.clone()).unwrap();
    desk.tell("ledger.opened", json!({})).unwrap();
    let old = sink.snapshot().files["ledger/ledger.jsonl"].clone();
    desk.tell("bag.opened", bag_opened_body(1)).unwrap();
    desk.checkpoint().unwrap();
    let mut disk = sink.snapshot();
    disk.files.insert("ledger/ledger.jsonl".to_owned(), old);
    assert!(matches!(
        LedgerWriter::open(&disk, identity()),
        Err(LedgerError::Tampered { .. })
    ));
    // An older genuine checkpoint beside it does not help: the gate's head is in `state/`.
    disk.files.remove("ledger/checkpoint");
    assert!(matches!(
        LedgerWriter::open(&disk, identity()),
        Err(LedgerError::Tampered { .. })
    ));
    assert!(
        SigningGate::open(&disk)
            .unwrap()
            .head("ir.example.org/inc-2031/ledger")
            .is_some()
    );
}

#[test]
fn a_process_with_an_older_fencing_number_is_refused() {
    let sink = MemorySink::default();
    let mut first = Desk::open(sink.clone()).unwrap();
    first.tell("ledger.opened", json!({})).unwrap();
    let mut second = Desk::open(sink.clone()).unwrap();
    second
        .ledger
        .append(&mut second.sink, &[entry(1, "incident.note", json!({}))], 2)
        .unwrap();
    assert_eq!(first.ledger.catch_up(&sink.snapshot()).unwrap().len(), 1);
    let refused = first
        .ledger
        .append(&mut first.sink, &[entry(2, "incident.note", json!({}))], 1);
    assert!(matches!(
        refused,
        Err(LedgerError::Fenced { writer: 1, last: 2 })
    ));
    first
        .ledger
        .append(&mut first.sink, &[entry(2, "incident.note", json!({}))], 3)
        .unwrap();
    assert_eq!(second.ledger.catch_up(&sink.snapshot()).unwrap().len(), 1);
}
