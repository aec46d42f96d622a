//! Measures sealing, verifying and ledger appends in memory: `cargo run --release -p firebreak-evidence --example speed`.
//!
//! Prints the same work by `openssl dgst -sha256` and `sha256sum` beside it where they are installed.

#![expect(
    clippy::disallowed_methods,
    reason = "the crate has no clock; measuring it needs one"
)]

use firebreak_evidence::acquisition::AcquisitionRecord;
use firebreak_evidence::bag::{BagSpec, BagWriter, SealInputs};
use firebreak_evidence::entry::{Actor, ActorType, LedgerMode, NewEntry};
use firebreak_evidence::gate::SigningGate;
use firebreak_evidence::ledger::{LedgerIdentity, LedgerWriter};
use firebreak_evidence::memory::MemorySource;
use firebreak_evidence::note::{SeedSigner, Signer as _, fingerprint};
use firebreak_evidence::record::Mode;
use firebreak_evidence::source::BagSink;
use firebreak_evidence::verify::{Given, Policy, verify};
use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

/// Keeps what is written, or lets the payload go, so that not the memory is measured.
#[derive(Default)]
struct Sink {
    files: BTreeMap<String, Vec<u8>>,
    lets_payload_go: bool,
}

impl BagSink for Sink {
    fn create(&mut self, path: &str) -> io::Result<()> {
        self.files.insert(path.to_owned(), Vec::new());
        Ok(())
    }
    fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        if self.lets_payload_go && path.contains("/data/") {
            return Ok(());
        }
        self.files
            .get_mut(path)
            .ok_or(io::ErrorKind::NotFound)?
            .extend_from_slice(bytes);
        Ok(())
    }
    fn sync_data(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let bytes = self.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.files.insert(to.to_owned(), bytes);
        Ok(())
    }
    fn sync_dir(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn truncate(&mut self, path: &str, len: u64) -> io::Result<()> {
        self.files
            .get_mut(path)
            .ok_or(io::ErrorKind::NotFound)?
            .truncate(len as usize);
        Ok(())
    }
    fn make_dir(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

fn main() {
    let mebibytes: usize = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(512);
    let log = auth_log(mebibytes * 1024 * 1024);
    let lines = log.iter().filter(|byte| **byte == b'\n').count();
    println!(
        "{mebibytes} MiB, {lines} lines of {} bytes on average",
        log.len() / lines
    );
    let signer = SeedSigner::from_seed([1; 32]);
    let mut gate = SigningGate::default();
    let only_hash = Sink {
        lets_payload_go: true,
        ..Sink::default()
    };
    _ = seal(
        "seal, bytes let go",
        only_hash,
        &log,
        lines,
        &signer,
        &mut SigningGate::default(),
    );
    let (bag, _) = seal(
        "seal into memory",
        Sink::default(),
        &log,
        lines,
        &signer,
        &mut gate,
    );
    check(&bag, &signer, lines);
    append(&signer, &mut gate);
    rivals(&log);
}

fn report(what: &str, bytes: usize, lines: usize, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    println!(
        "{what:<24} {seconds:>7.3} s  {:>6.3} GB/s  {:>6.2} M lines/s",
        bytes as f64 / seconds / 1e9,
        lines as f64 / seconds / 1e6
    );
}

fn auth_log(bytes: usize) -> Vec<u8> {
    let (mut log, mut n) = (Vec::with_capacity(bytes + 300), 0u64);
    while log.len() < bytes {
        n = n
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let pad = "x".repeat((n >> 40) as usize % 80);
        log.extend_from_slice(format!("Aug 22 12:34:{:02} n1 sshd[{}]: Failed password for invalid user u{} from 198.51.100.{} port {} ssh2 {pad}\n", n % 60, n >> 50, n >> 44, n >> 56, n >> 48).as_bytes());
    }
    log
}

fn identity() -> LedgerIdentity {
    LedgerIdentity {
        incident: "INC-1".to_owned(),
        mode: LedgerMode::Drill,
        base_origin: "x.invalid/drill-1".to_owned(),
    }
}

fn seal(
    what: &str,
    mut sink: Sink,
    log: &[u8],
    lines: usize,
    signer: &SeedSigner,
    gate: &mut SigningGate,
) -> (Sink, LedgerWriter) {
    let spec = BagSpec {
        incident: "INC-1".to_owned(),
        number: 1,
        base_origin: "x.invalid/drill-1".to_owned(),
        salt_key: [7; 32],
        map_nonce: [7; 16],
    };
    let mut ledger =
        LedgerWriter::open(&MemorySource::default(), identity()).expect("an empty ledger opens");
    let head = ledger
        .checkpoint_kept(gate, signer, &mut sink)
        .expect("memory");
    let start = Instant::now();
    let mut bag = BagWriter::open(&mut sink, spec).expect("memory");
    bag.start_source("auth.log", Mode::Line).expect("memory");
    for piece in log.chunks(1 << 20) {
        bag.write(piece).expect("memory");
        if bag.commit_due() {
            bag.commit(gate, signer).expect("memory");
        }
    }
    bag.finish_source(AcquisitionRecord::default())
        .expect("memory");
    let inputs = SealInputs {
        ledger: &head,
        prev_seal_sha256: [0; 32],
        epoch: 1,
        closed: "2026-08-22T12:34:56Z",
        signer,
        gate,
    };
    let sealed = bag.seal(inputs).expect("memory");
    report(what, log.len(), lines, start);
    println!(
        "root {}",
        firebreak_evidence::encoding::base64(&sealed.root)
    );
    (sink, ledger)
}

fn check(sink: &Sink, signer: &SeedSigner, lines: usize) {
    let files = sink.files.iter().filter_map(|(path, bytes)| {
        Some((
            path.strip_prefix("bags/INC-1_0001/")?.to_owned(),
            bytes.clone(),
        ))
    });
    let bag = MemorySource {
        files: files.collect(),
        others: Vec::new(),
    };
    let bytes = bag
        .files
        .iter()
        .filter(|(path, _)| path.starts_with("data/"))
        .map(|(_, bytes)| bytes.len())
        .sum();
    let given = Given {
        fingerprints: vec![fingerprint(&signer.public_key())],
        ..Given::default()
    };
    let start = Instant::now();
    let found = verify(&bag, &Policy::default(), &given);
    report("verify", bytes, lines, start);
    println!("{} (exit {})", found.verdict, found.exit);
}

fn append(signer: &SeedSigner, gate: &mut SigningGate) {
    let mut sink = Sink::default();
    let mut ledger = LedgerWriter::open(
        &MemorySource::default(),
        LedgerIdentity {
            base_origin: "x.invalid/drill-2".to_owned(),
            ..identity()
        },
    )
    .expect("an empty ledger opens");
    let entry = NewEntry {
        kind: "step.started".to_owned(),
        time: "2026-08-22T12:34:56.789Z".to_owned(),
        actor: Actor {
            kind: ActorType::Tool,
            id: "firebreak".to_owned(),
            key: None,
        },
        target: Some(serde_json::json!({"pod": "shop/web-7d9"})),
        refs: Some(serde_json::json!({"run": "R-1", "step": "isolate", "attempt": 1})),
        body: serde_json::json!({"plan_sha256": "0".repeat(64), "effect": "reversible"}),
        nonce: [3; 16],
    };
    let batch = vec![entry; 500];
    let start = Instant::now();
    for _ in 0..200 {
        ledger.append(&mut sink, &batch, 1).expect("memory");
    }
    ledger.checkpoint(gate, signer, &mut sink).expect("memory");
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "ledger append            {seconds:>7.3} s  {:>6.1} k entries/s in batches of 500",
        100.0 / seconds
    );
}

fn rivals(log: &[u8]) {
    let path = std::env::temp_dir().join("firebreak-speed.log");
    if std::fs::write(&path, log).is_err() {
        return;
    }
    for (tool, arguments) in [("openssl", vec!["dgst", "-sha256"]), ("sha256sum", vec![])] {
        let start = Instant::now();
        let run = std::process::Command::new(tool)
            .args(arguments)
            .arg(&path)
            .output();
        match run {
            Ok(out) if out.status.success() => report(tool, log.len(), 0, start),
            _ => println!("{tool}: not installed"),
        }
    }
    _ = std::fs::remove_file(path);
}
