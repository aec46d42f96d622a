//! What the verifier says of good evidence and of tampered evidence.
#![allow(missing_docs, reason = "a test crate has no reader of docs")]

mod scene;

use firebreak_evidence::encoding::{sha256, unbase64_hash};
use firebreak_evidence::memory::MemorySource;
use firebreak_evidence::note::Signer as _;
use firebreak_evidence::verify::{Anchor, AtLeast, Given, Policy, Severity, State, verify};
use scene::{bag_of, incident, pin, verdict};

#[test]
fn a_good_bag_passes_and_says_that_freshness_is_not_proven() {
    for number in [1, 2] {
        let report = verdict(&bag_of(&incident(), number));
        assert_eq!(
            (report.exit, report.verdict.as_str()),
            (0, "INTACT, FRESHNESS NOT PROVEN"),
            "{report}"
        );
        assert!(report.findings.is_empty(), "{report}");
        assert_eq!(report.verified.len(), 1);
        assert!(!report.not_checked.is_empty());
    }
}

#[test]
fn a_good_incident_passes_with_its_ledger() {
    let report = verdict(&incident());
    assert_eq!(report.exit, 0, "{report}");
    assert_eq!(report.bags.len(), 2);
    assert_eq!(report.verified.len(), 2);
    for bag in &report.bags {
        let c13 = bag.checks.iter().find(|check| check.id == "C13").unwrap();
        assert_eq!(c13.state, State::Passed, "{report}");
    }
}

#[test]
fn the_vector_of_the_specification_is_the_tree_of_the_first_bag() {
    let bag = bag_of(&incident(), 1);
    let note = String::from_utf8(bag.files["tlog/checkpoint"].clone()).unwrap();
    assert!(note.ends_with("9pF0A9I6Qk44vYeb8EHuma9Si6pSnlNqE3C5nQ6Jdq225847mOJkCMf4Pj2vrQyoPFF0jySjB/Nja9DUwQcIRkMTUwE=\n"), "{note}");
}

#[test]
fn without_a_fingerprint_nothing_is_trusted_and_with_another_it_is_tampered() {
    let bag = bag_of(&incident(), 1);
    let report = verify(&bag, &Policy::default(), &Given::default());
    assert_eq!((report.exit, report.verified.len()), (21, 0), "{report}");
    let other = firebreak_evidence::note::fingerprint(&scene::intruder().public_key());
    let report = verify(
        &bag,
        &Policy::default(),
        &Given {
            fingerprints: vec![other],
            ..Given::default()
        },
    );
    assert_eq!(report.exit, 6, "{report}");
}

#[test]
fn an_anchor_is_a_seal_or_a_head_from_elsewhere() {
    let all = incident();
    let bag = bag_of(&all, 1);
    let root = unbase64_hash("MavrW9OQIN0NkrcrPT5zFiSoRC6Kgs3KfwMz1bE/gds=").unwrap();
    let base = Given {
        fingerprints: vec![pin()],
        ..Given::default()
    };
    let required = Policy {
        anchor: Anchor::Required,
    };
    assert_eq!(verify(&bag, &required, &base).exit, 20);
    let seal = Given {
        expect_seal: Some(sha256(&bag.files["seal/seal.note"])),
        ..base.clone()
    };
    assert_eq!(verify(&bag, &required, &seal).verdict, "INTACT+ANCHORED");
    let head = Given {
        at_least: Some(AtLeast { size: 3, root }),
        ..base.clone()
    };
    assert_eq!(verify(&bag, &required, &head).verdict, "INTACT+ANCHORED");
    for wrong in [AtLeast { size: 4, root }, AtLeast { size: 2, root }] {
        assert_eq!(
            verify(
                &bag,
                &required,
                &Given {
                    at_least: Some(wrong),
                    ..base.clone()
                }
            )
            .exit,
            6
        );
    }
    let wrong = Given {
        expect_seal: Some([1; 32]),
        ..base.clone()
    };
    assert_eq!(verify(&bag, &required, &wrong).exit, 6);
    // The ledger's newest head pins the whole incident.
    let facts = verdict(&all).ledger.unwrap();
    let head = AtLeast {
        size: facts.size,
        root: unbase64_hash(&facts.root).unwrap(),
    };
    let report = verify(
        &all,
        &required,
        &Given {
            at_least: Some(head),
            ..base
        },
    );
    assert_eq!(report.verdict, "INTACT+ANCHORED", "{report}");
}

#[test]
fn a_bag_alone_is_checked_against_a_ledger_that_the_reader_gives() {
    let all = incident();
    let given = Given {
        fingerprints: vec![pin()],
        ledger: Some(&all),
        ..Given::default()
    };
    let report = verify(&bag_of(&all, 2), &Policy::default(), &given);
    assert_eq!(report.exit, 0, "{report}");
    let c13 = report
        .checks
        .iter()
        .find(|check| check.id == "C13")
        .unwrap();
    assert_eq!(c13.state, State::Passed);
}

#[test]
fn all_findings_are_listed_and_not_only_the_first() {
    let mut bag = bag_of(&incident(), 2);
    for (path, bytes) in &mut bag.files {
        if path.starts_with("data/") {
            bytes.push(b'!');
        }
    }
    let report = verdict(&bag);
    let files = bag.files.keys().filter(|path| path.starts_with("data/"));
    for path in files {
        assert!(
            report
                .findings
                .iter()
                .any(|finding| finding.path == *path && finding.check == "C02"),
            "{path}\n{report}"
        );
    }
}

#[test]
fn every_flipped_bit_of_a_bag_is_seen() {
    let bag = bag_of(&incident(), 1);
    let mut flips = 0;
    for (path, bytes) in &bag.files {
        for at in 0..bytes.len() {
            let mut mutant = bag.clone();
            mutant.files.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
            let report = verdict(&mutant);
            assert_eq!(report.exit, 6, "{path} byte {at}\n{report}");
            flips += 1;
        }
    }
    println!("{flips} mutants, all TAMPERED");
}

#[test]
fn every_flipped_bit_of_a_ledger_is_seen() {
    let mut all = incident();
    all.files.retain(|path, _| path.starts_with("ledger/"));
    all.files.retain(|path, _| path != "bags");
    for (path, bytes) in all.files.clone() {
        for at in 0..bytes.len() {
            let mut mutant = all.clone();
            mutant.files.get_mut(&path).unwrap()[at] ^= 1 << (at % 8);
            let report = verdict(&mutant);
            let tampered = report
                .findings
                .iter()
                .any(|finding| finding.check != "C15" && finding.severity >= Severity::Incomplete);
            assert!(tampered, "{path} byte {at}\n{report}");
        }
    }
}

#[test]
fn what_grew_after_sealing_is_named_unprotected_and_changes_no_verdict() {
    let mut bag = bag_of(&incident(), 1);
    for path in ["forms/custody-form.html", "seal/extra", "custody/0001.json"] {
        bag.files.insert(path.to_owned(), b"x".to_vec());
    }
    let report = verdict(&bag);
    assert_eq!(report.exit, 0, "{report}");
    let named = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Unprotected);
    assert_eq!(named.count(), 3, "{report}");
    assert!(
        report
            .to_string()
            .contains("UNPROTECTED  C01 forms/custody-form.html"),
        "{report}"
    );
}

#[test]
fn names_from_evidence_cannot_drive_a_terminal() {
    let mut bag = bag_of(&incident(), 1);
    bag.files
        .insert("data/\u{1b}[2J\u{202e}x".to_owned(), Vec::new());
    let report = verdict(&bag);
    assert_eq!(report.exit, 6);
    assert!(
        report
            .to_string()
            .bytes()
            .all(|b| b == b'\n' || (b' '..=b'~').contains(&b))
    );
}

#[test]
fn an_empty_folder_or_another_thing_is_incomplete_and_never_a_pass() {
    assert_eq!(verdict(&MemorySource::default()).exit, 24);
    let mut other = MemorySource::default();
    other.files.insert("readme".to_owned(), b"x".to_vec());
    assert_eq!(verdict(&other).exit, 24);
}

#[test]
fn the_json_form_has_the_facts_of_the_text() {
    let report = verdict(&bag_of(&incident(), 1));
    let json = serde_json::to_value(&report).unwrap();
    for field in ["verdict", "exit", "checks", "findings", "not_checked"] {
        assert!(json.get(field).is_some(), "{field}");
    }
    assert_eq!(json["checks"][0]["state"], "PASSED");
    assert_eq!(json["checks"][7]["state"], "NOT CHECKED");
    assert_eq!(json["checks"].as_array().unwrap().len(), 21);
}

#[test]
fn a_seal_that_the_ledger_knows_and_nobody_can_find_is_tampering_not_an_open_bag() {
    let mut found = incident();
    let seal = "bags/INC-2031_0001/seal/seal.note";
    assert!(found.files.remove(seal).is_some(), "the scene has it");
    let report = verdict(&found);
    assert_eq!(report.exit, 6, "{report}");
    assert!(report.findings.iter().any(|f| f.path == seal), "{report}");
}

/// An incident whose entries pin a trust file, a playbook, a plan and a long text.
fn incident_with_pins() -> (MemorySource, [String; 4]) {
    let digest = |bytes: &[u8]| firebreak_evidence::encoding::hex(&sha256(bytes));
    let (playbook, plan, text) = (digest(b"playbook"), digest(b"plan"), digest(b"text"));
    let sink = firebreak_evidence::memory::MemorySink::default();
    let mut desk = scene::Desk::open(sink.clone()).expect("a desk");
    let trust = serde_json::json!({"people.yaml": digest(b"people")});
    let opened = serde_json::json!({"targets": [], "trust": trust});
    let created = serde_json::json!({"playbook_sha256": playbook, "plan_sha256": plan});
    let written = serde_json::json!({"section": "impact", "sha256": text});
    let short = serde_json::json!({"section": "impact", "text": "x", "sha256": digest(b"x")});
    for (kind, body) in [
        ("ledger.opened", opened),
        ("run.created", created),
        ("report.text", written),
        ("report.text", short),
    ] {
        desk.tell(kind, body).expect("told");
    }
    desk.checkpoint().expect("signed");
    let mut all = scene::without_state(sink.snapshot());
    let paths = [
        "trust/people.yaml".to_owned(),
        format!("trust/{playbook}.yaml"),
        format!("trust/{plan}.json"),
        format!("notes/{text}.md"),
    ];
    for (path, bytes) in paths.iter().zip(["people", "playbook", "plan", "text"]) {
        all.files.insert(path.clone(), bytes.as_bytes().to_vec());
    }
    (all, paths)
}

#[test]
fn a_pinned_file_that_was_changed_or_taken_away_fails_the_incident() {
    let (good, paths) = incident_with_pins();
    let report = verdict(&good);
    let c21 = |report: &firebreak_evidence::verify::Report| {
        let check = report.checks.iter().find(|check| check.id == "C21");
        check.expect("C21 is listed").state
    };
    assert_eq!((report.exit, c21(&report)), (0, State::Passed), "{report}");
    for path in &paths {
        let (mut changed, mut gone) = (good.clone(), good.clone());
        changed.files.insert(path.clone(), b"other bytes".to_vec());
        gone.files.remove(path);
        for bad in [changed, gone] {
            let report = verdict(&bad);
            assert_eq!((report.exit, c21(&report)), (6, State::Failed), "{report}");
            assert_eq!(report.verdict, format!("TAMPERED at {path}"), "{report}");
        }
    }
    let mut loose = good.clone();
    loose
        .files
        .insert("trust/revoked_keys".into(), b"x".to_vec());
    let report = verdict(&loose);
    assert_eq!(report.exit, 0, "{report}");
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.path == "trust/revoked_keys" && f.severity == Severity::Unprotected)
    );
}
