//! Sources that are larger than a segment, and folders: what lands where.
#![allow(missing_docs, reason = "a test crate has no reader of docs")]

mod scene;

use firebreak_evidence::bag::{BagError, BagWriter, SealInputs};
use firebreak_evidence::checkpoint::{Checkpoint, SignedCheckpoint};
use firebreak_evidence::gate::SigningGate;
use firebreak_evidence::map::Map;
use firebreak_evidence::memory::MemorySink;
use firebreak_evidence::record::{Mode, RECORD_MAX, SEGMENT_MAX};
use firebreak_evidence::source::BagSink;
use scene::{acquisition, bag_of, incident, signer, spec};
use std::collections::BTreeMap;
use std::io;

/// Keeps lengths of payload and bytes of the rest: a quarter of a gigabyte need not stay in memory.
#[derive(Default)]
struct Scale {
    lengths: BTreeMap<String, u64>,
    small: MemorySink,
}

impl BagSink for Scale {
    fn create(&mut self, path: &str) -> io::Result<()> {
        self.lengths.insert(path.to_owned(), 0);
        self.small.create(path)
    }
    fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        *self.lengths.entry(path.to_owned()).or_default() += bytes.len() as u64;
        if path.contains("/data/") {
            Ok(())
        } else {
            self.small.append(path, bytes)
        }
    }
    fn sync_data(&mut self, path: &str) -> io::Result<()> {
        self.small.sync_data(path)
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.small.rename(from, to)
    }
    fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        self.small.sync_dir(path)
    }
    fn truncate(&mut self, path: &str, len: u64) -> io::Result<()> {
        self.small.truncate(path, len)
    }
    fn make_dir(&mut self, path: &str) -> io::Result<()> {
        self.small.make_dir(path)
    }
}

fn ledger_head() -> SignedCheckpoint {
    let checkpoint = Checkpoint {
        origin: "x/ledger".to_owned(),
        size: 0,
        root: [0; 32],
    };
    SignedCheckpoint {
        checkpoint,
        note: String::new(),
    }
}

fn inputs<'a>(
    ledger: &'a SignedCheckpoint,
    gate: &'a mut SigningGate,
    key: &'a firebreak_evidence::note::SeedSigner,
) -> SealInputs<'a> {
    SealInputs {
        ledger,
        prev_seal_sha256: [0; 32],
        epoch: 1,
        closed: scene::CLOSED,
        signer: key,
        gate,
    }
}

#[test]
fn a_source_larger_than_a_segment_continues_in_the_next_at_a_record_end() {
    let (mut gate, key, head) = (SigningGate::default(), signer(), ledger_head());
    let mut scale = Scale::default();
    let mut bag = BagWriter::open(&mut scale, spec(1)).unwrap();
    bag.start_source("big", Mode::Line).unwrap();
    // Lines of 700,000 bytes: 383 of them fit a segment, with 335,456 bytes to spare.
    let line = [vec![b'x'; 699_999], b"\n".to_vec()].concat();
    let lines = 400;
    for i in 0..lines {
        bag.write(&line[..300_000]).unwrap();
        if i % 50 == 49 {
            bag.commit(&mut gate, &key).unwrap();
        }
        bag.write(&line[300_000..]).unwrap();
    }
    let summary = bag.finish_source(acquisition("E-0001", "big")).unwrap();
    assert_eq!(
        (summary.segments, summary.bytes, summary.records),
        (2, 700_000 * lines, lines)
    );
    let sealed = bag.seal(inputs(&head, &mut gate, &key)).unwrap();
    assert_eq!(sealed.records, lines);
    let map = Map::parse(&scale.small.snapshot().files["bags/INC-2031_0001/tlog/map.tsv"]).unwrap();
    let counts: Vec<_> = map
        .segments
        .iter()
        .map(|line| (line.first_leaf, line.count, line.path.as_str()))
        .collect();
    assert_eq!(
        counts,
        [
            (0, 383, "data/big/00000.log"),
            (383, 17, "data/big/00001.log")
        ]
    );
    let stored = |name: &str| scale.lengths[&format!("bags/INC-2031_0001/data/big/{name}")];
    assert_eq!(
        (stored("00000.log"), stored("00001.log")),
        (383 * 700_000, 17 * 700_000)
    );
    assert!(stored("00000.log") + RECORD_MAX as u64 > SEGMENT_MAX);
}

#[test]
fn a_bag_without_payload_is_refused() {
    let (mut gate, key, head) = (SigningGate::default(), signer(), ledger_head());
    let bag = BagWriter::open(MemorySink::default(), spec(1)).unwrap();
    assert!(matches!(
        bag.seal(inputs(&head, &mut gate, &key)),
        Err(BagError::NoPayload)
    ));
}

#[test]
fn calls_out_of_order_are_refused_and_break_nothing() {
    let (mut gate, key, head) = (SigningGate::default(), signer(), ledger_head());
    let mut bag = BagWriter::open(MemorySink::default(), spec(1)).unwrap();
    assert!(matches!(bag.write(b"x"), Err(BagError::Order(_))));
    bag.start_source("a", Mode::Line).unwrap();
    assert!(matches!(
        bag.start_source("b", Mode::Line),
        Err(BagError::Order(_))
    ));
    bag.write(b"x\n").unwrap();
    bag.finish_source(acquisition("E-0001", "a")).unwrap();
    assert!(matches!(
        bag.finish_source(acquisition("E-0001", "a")),
        Err(BagError::Order(_))
    ));
    let _sealed = bag.seal(inputs(&head, &mut gate, &key)).unwrap();
}

#[test]
fn sources_of_one_name_are_numbered_and_recovered_is_never_taken() {
    let mut bag = BagWriter::open(MemorySink::default(), spec(1)).unwrap();
    for (raw, name) in [
        ("/var/log/syslog", "syslog"),
        ("/old/SYSLOG", "syslog-2"),
        ("recovered", "recovered-2"),
    ] {
        assert_eq!(bag.start_source(raw, Mode::Line).unwrap(), name);
        bag.finish_source(acquisition("E-0001", raw)).unwrap();
    }
}

#[test]
fn a_folder_is_listed_first_and_its_files_follow_in_that_order() {
    let bag = bag_of(&incident(), 2);
    let listing = String::from_utf8(bag.files["data/app/files.jsonl"].clone()).unwrap();
    let lines: Vec<&str> = listing.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(
        lines[0].contains(r#""segment":"data/app/000001""#),
        "{listing}"
    );
    assert!(
        lines[1].contains(r#""kind":"link""#) && lines[1].contains(r#""target":"#),
        "{listing}"
    );
    assert!(
        lines[3].contains(r#""segment":"data/app/000002""#),
        "{listing}"
    );
    assert_eq!(bag.files["data/app/000001/00000.log"], b"one\n");
    assert_eq!(bag.files["data/app/000002/00000.bin"], b"\0\0");
    let map = Map::parse(&bag.files["tlog/map.tsv"]).unwrap();
    let paths: Vec<_> = map.segments.iter().map(|line| line.path.as_str()).collect();
    let ours: Vec<_> = paths
        .iter()
        .filter(|path| path.starts_with("data/app/"))
        .collect();
    assert_eq!(
        ours,
        [
            &"data/app/files.jsonl",
            &"data/app/000001/00000.log",
            &"data/app/000002/00000.bin"
        ]
    );
}
