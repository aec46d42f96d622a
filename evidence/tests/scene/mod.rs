//! A small incident, the same bytes every time: what the golden bags and the crash suite are made from.
#![allow(
    dead_code,
    missing_docs,
    reason = "each test crate uses its own part of the scene"
)]

pub mod faults;

use firebreak_evidence::acquisition::{AcquisitionRecord, Clock, EndState, Ended, Tool};
use firebreak_evidence::bag::{
    BagError, BagSpec, BagWriter, FolderEntry, FolderKind, SealInputs, Sealed,
};
use firebreak_evidence::entry::{Actor, ActorType, LedgerMode, NewEntry};
use firebreak_evidence::gate::SigningGate;
use firebreak_evidence::ledger::{
    LedgerError, LedgerIdentity, LedgerWriter, bag_opened_body, bag_sealed_body,
};
use firebreak_evidence::memory::{MemorySink, MemorySource};
use firebreak_evidence::note::{Fingerprint, SeedSigner, Signer as _, fingerprint};
use firebreak_evidence::record::Mode;
use firebreak_evidence::source::BagSink;
use firebreak_evidence::verify::{Given, Policy, Report, verify};
use serde_json::{Value, json};

pub const INCIDENT: &str = "INC-2031";
pub const BASE: &str = "ir.example.org/inc-2031";
pub const CLOSED: &str = "2026-08-22T12:34:56Z";

/// The key of the specification's vector.
pub fn signer() -> SeedSigner {
    SeedSigner::from_seed(std::array::from_fn(|i| 0x20 + i as u8))
}

/// Somebody else's key.
pub fn intruder() -> SeedSigner {
    SeedSigner::from_seed([0x66; 32])
}

pub fn pin() -> Fingerprint {
    fingerprint(&signer().public_key())
}

pub fn identity() -> LedgerIdentity {
    LedgerIdentity {
        incident: INCIDENT.to_owned(),
        mode: LedgerMode::Live,
        base_origin: BASE.to_owned(),
    }
}

pub fn spec(number: u32) -> BagSpec {
    BagSpec {
        incident: INCIDENT.to_owned(),
        number,
        base_origin: BASE.to_owned(),
        salt_key: std::array::from_fn(|i| i as u8 ^ (number as u8 - 1)),
        map_nonce: [number as u8; 16],
    }
}

pub fn actor() -> Actor {
    Actor {
        kind: ActorType::Person,
        id: "ana@laptop".to_owned(),
        key: None,
    }
}

/// An entry at the given second; its nonce is derived, so that the scene is the same every time.
pub fn entry(second: u64, kind: &str, body: Value) -> NewEntry {
    NewEntry {
        kind: kind.to_owned(),
        time: format!("2026-08-22T12:00:{second:02}.000Z"),
        actor: actor(),
        target: None,
        refs: None,
        body,
        nonce: [second as u8; 16],
    }
}

pub fn acquisition(exhibit: &str, name: &str) -> AcquisitionRecord {
    AcquisitionRecord {
        exhibit: format!("{INCIDENT}/{exhibit}"),
        kind: "file".to_owned(),
        system: json!({"node": "n1"}),
        original_name: name.to_owned(),
        method: "read".to_owned(),
        tool: Tool {
            name: "firebreak".to_owned(),
            version: "0.1.0".to_owned(),
            sha256: String::new(),
        },
        command: vec![
            "firebreak".to_owned(),
            "evidence".to_owned(),
            "add".to_owned(),
        ],
        started: "2026-08-22T12:00:01Z".to_owned(),
        finished: "2026-08-22T12:00:02Z".to_owned(),
        clock: Clock {
            reference: "none".to_owned(),
            offset_ms: 0,
            measured: "2026-08-22T12:00:01Z".to_owned(),
        },
        volatility: 5,
        acquired_by: "ana@laptop".to_owned(),
        authority: "security officer".to_owned(),
        legal_hold: false,
        tlp: "AMBER".to_owned(),
        ended: Ended {
            state: EndState::Complete,
            why: String::new(),
        },
        ingest_checks: Vec::new(),
        whole_sha256: None,
    }
}

/// What the payload of a bag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The three records of the specification's vector.
    Vector,
    /// A log, a binary, an empty file and a folder.
    Mixed,
}

#[derive(Debug)]
pub enum SceneError {
    Ledger(LedgerError),
    Bag(BagError),
}

impl From<LedgerError> for SceneError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<BagError> for SceneError {
    fn from(error: BagError) -> Self {
        Self::Bag(error)
    }
}

/// The running process: what a crash loses.
pub struct Desk {
    pub sink: MemorySink,
    pub ledger: LedgerWriter,
    pub gate: SigningGate,
    pub second: u64,
}

impl Desk {
    pub fn open(sink: MemorySink) -> Result<Self, SceneError> {
        let snapshot = sink.snapshot();
        let ledger = LedgerWriter::open(&snapshot, identity())?;
        let gate = SigningGate::open(&snapshot).expect("heads that were written durably read back");
        let second = ledger.size();
        Ok(Self {
            sink,
            ledger,
            gate,
            second,
        })
    }

    pub fn tell(&mut self, kind: &str, body: Value) -> Result<u64, SceneError> {
        let entry = entry(self.second, kind, body);
        self.second += 1;
        Ok(self.ledger.append(&mut self.sink, &[entry], 1)?[0].seq)
    }

    pub fn checkpoint(&mut self) -> Result<(), SceneError> {
        self.ledger
            .checkpoint(&mut self.gate, &signer(), &mut self.sink)?;
        Ok(())
    }

    pub fn open_bag(&mut self, number: u32) -> Result<BagWriter<MemorySink>, SceneError> {
        self.tell("bag.opened", bag_opened_body(number))?;
        Ok(BagWriter::open(self.sink.clone(), spec(number))?)
    }

    pub fn seal(
        &mut self,
        bag: BagWriter<MemorySink>,
        prev: [u8; 32],
    ) -> Result<Sealed, SceneError> {
        let head = self
            .ledger
            .checkpoint_kept(&mut self.gate, &signer(), &mut self.sink)?;
        let inputs = SealInputs {
            ledger: &head,
            prev_seal_sha256: prev,
            epoch: 1,
            closed: CLOSED,
            signer: &signer(),
            gate: &mut self.gate,
        };
        let sealed = bag.seal(inputs)?;
        self.tell("bag.sealed", bag_sealed_body(&sealed))?;
        self.checkpoint()?;
        Ok(sealed)
    }
}

/// Takes the payload in, with a commit in the middle of each source.
pub fn fill(
    bag: &mut BagWriter<impl BagSink>,
    gate: &mut SigningGate,
    payload: Payload,
) -> Result<(), BagError> {
    let mut take = |bag: &mut BagWriter<_>, name: &str, mode, pieces: &[&[u8]]| {
        bag.start_source(name, mode)?;
        for piece in pieces {
            bag.write(piece)?;
            bag.commit(gate, &signer())?;
        }
        let number = bag.active_source().map_or(0, str::len);
        bag.finish_source(acquisition(&format!("E-{number:04}"), name))
            .map(|_| ())
    };
    match payload {
        Payload::Vector => take(
            bag,
            "auth.log",
            Mode::Line,
            &[b"alpha\nbe", b"ta\ngam", b"ma"],
        ),
        Payload::Mixed => {
            take(
                bag,
                "/var/log/Auth.log",
                Mode::Line,
                &[b"alpha\nbe", b"ta\n", b"gamma\n"],
            )?;
            take(bag, "core", Mode::Chunk, &[b"\x7fELF\0", b"\0\x01"])?;
            take(bag, "empty", Mode::Line, &[])?;
            fill_folder(bag)
        }
    }
}

fn fill_folder(bag: &mut BagWriter<impl BagSink>) -> Result<(), BagError> {
    let entry = |path: &[u8], kind| FolderEntry {
        path: path.to_vec(),
        kind,
        mode: 0o644,
        size: 4,
        mtime: "2026-08-22T11:00:00Z".to_owned(),
    };
    let entries = [
        entry(b"a.txt", FolderKind::File),
        entry(b"link", FolderKind::Link(b"a.txt".to_vec())),
        entry(b"sub", FolderKind::Dir),
        entry(b"sub/b.bin", FolderKind::File),
    ];
    bag.start_folder("/etc/app", &entries)?;
    bag.next_file(b"one\n")?;
    bag.write(b"one\n")?;
    bag.next_file(b"\0\0")?;
    bag.write(b"\0\0")?;
    bag.finish_source(acquisition("E-0009", "/etc/app"))
        .map(|_| ())
}

/// Runs the whole incident on a sink: ledger, two bags, sealed.
pub fn play(sink: MemorySink) -> Result<(), SceneError> {
    let mut desk = Desk::open(sink)?;
    desk.tell("ledger.opened", json!({"targets": []}))?;
    desk.checkpoint()?;
    let mut bag = desk.open_bag(1)?;
    fill(&mut bag, &mut desk.gate, Payload::Vector)?;
    let first = desk.seal(bag, [0; 32])?;
    let mut bag = desk.open_bag(2)?;
    fill(&mut bag, &mut desk.gate, Payload::Mixed)?;
    let _second = desk.seal(bag, first.seal_sha256)?;
    Ok(())
}

/// The finished incident, without the writer's own `state/`.
pub fn incident() -> MemorySource {
    let sink = MemorySink::default();
    play(sink.clone()).expect("nothing fails in memory");
    without_state(sink.snapshot())
}

pub fn without_state(mut source: MemorySource) -> MemorySource {
    source.files.retain(|path, _| !path.starts_with("state/"));
    source
}

/// One bag of an incident, as a folder of its own.
pub fn bag_of(incident: &MemorySource, number: u32) -> MemorySource {
    let prefix = format!("bags/{INCIDENT}_{number:04}/");
    let inside = incident
        .files
        .iter()
        .filter_map(|(path, bytes)| Some((path.strip_prefix(&prefix)?.to_owned(), bytes.clone())));
    MemorySource {
        files: inside.collect(),
        others: Vec::new(),
    }
}

/// Verifies with the right fingerprint and nothing else.
pub fn verdict(source: &MemorySource) -> Report {
    verify(
        source,
        &Policy::default(),
        &Given {
            fingerprints: vec![pin()],
            ..Given::default()
        },
    )
}
