//! Writing an evidence bag: open, take sources in, commit, seal; and resuming one after a crash.
//!
//! *Flow*: [`BagWriter::open`] → per source [`start_source`](BagWriter::start_source) (or
//! [`start_folder`](BagWriter::start_folder)), [`write`](BagWriter::write) …,
//! [`finish_source`](BagWriter::finish_source) → [`commit`](BagWriter::commit) when due →
//! [`seal`](BagWriter::seal). After a crash [`BagWriter::recover`] gives the writer back, or tells that the bag is sealed.
//!
//! *Guarantees*: what a signed head covers is durable before it is signed; no byte that reached the disk is dropped.
//! *Memory*: one block of at most 2 MiB (5 MiB with the feature `parallel`), its record ends, the list of segments.

mod folder;
mod journal;
mod recover;
mod sealing;
mod verify_script;
mod writer;

pub use folder::{FolderEntry, FolderKind};
pub use recover::{BagRecovery, Resumed};
pub use sealing::{SealInputs, Sealed};
pub use writer::BagWriter;

use crate::gate::GateError;
use crate::json::JsonError;
use crate::record::Mode;
use std::io;

/// The program for a reader with stock tools, as it stands in every bag.
pub use verify_script::{VERIFY_SCRIPT, VERIFY_STEPS};

/// Folder under `data/` that holds torn tails; no source takes this name.
pub const RECOVERED_TAILS: &str = "recovered";
/// Where the salt key stands in a bag.
pub const SALT_KEY: &str = "tlog/salt.key";
/// Where the head of the tree stands in a bag.
pub const BAG_CHECKPOINT: &str = "tlog/checkpoint";
/// Where the public key stands in a bag.
pub const BAG_KEY: &str = "keys/log.pem";
/// Where the three verifier keys stand in a bag.
pub const BAG_VKEYS: &str = "keys/log.vkey";

/// What a new bag is made from. The key and the nonce are fresh random bytes.
#[derive(Clone)]
pub struct BagSpec {
    /// Id of the incident, for example `INC-2031`.
    pub incident: String,
    /// Number of the bag, from 1, without gaps.
    pub number: u32,
    /// Base origin, for example `ir.example.org/inc-2031`.
    pub base_origin: String,
    /// Blinds the records. Secret as the payload itself.
    pub salt_key: [u8; 32],
    /// Blinds the hash of the map in the public seal.
    pub map_nonce: [u8; 16],
}

impl BagSpec {
    /// Returns the bag's name, for example `INC-2031_0007`.
    pub fn name(&self) -> String {
        bag_name(&self.incident, self.number)
    }

    fn dir(&self) -> String {
        format!("bags/{}", self.name())
    }
}

/// Returns the name of a bag, for example `INC-2031_0007`.
pub fn bag_name(incident: &str, number: u32) -> String {
    format!("{incident}_{number:04}")
}

/// Returns where the journal of an open bag stands.
pub fn journal_path(number: u32) -> String {
    format!("state/open-{number:04}.jsonl")
}

/// One finished payload file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its path in the bag.
    pub path: String,
    /// How it is cut.
    pub mode: Mode,
    /// Index of its first record.
    pub first_leaf: u64,
    /// How many records it has.
    pub count: u64,
    /// How many bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: crate::encoding::Hash,
}

/// What was taken in as one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSummary {
    /// Folder under `data/`.
    pub source: String,
    /// How many segments.
    pub segments: u64,
    /// How many bytes.
    pub bytes: u64,
    /// How many records.
    pub records: u64,
    /// Where its acquisition record stands.
    pub acquisition: String,
}

/// Why a bag was not written.
#[derive(Debug, thiserror::Error)]
pub enum BagError {
    /// A read or write failed.
    #[error("cannot write `{path}`")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// What is stored is not what was written or signed.
    #[error("the open bag is TAMPERED at `{path}`: {what}")]
    Tampered {
        /// Which file.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// Calls out of their order.
    #[error("{0}")]
    Order(&'static str),
    /// A bag without payload proves nothing, and `sha256sum -c` rejects its empty manifest.
    #[error("refusing to seal a bag without payload")]
    NoPayload,
    /// A name or an id is not in its form.
    #[error("{what} `{value}` is not in its form")]
    Form {
        /// Which one.
        what: &'static str,
        /// What was given.
        value: String,
    },
    /// There is no journal of an open bag with this number.
    #[error("bag {0:04} is not open")]
    NotOpen(u32),
    /// A record could not be written as JSON.
    #[error("the record cannot be written")]
    Json(#[from] JsonError),
    /// The head was not signed.
    #[error("the head of the bag was not signed")]
    Gate(#[from] GateError),
    /// The seal was not signed.
    #[error("the seal was not signed")]
    Signer(#[from] crate::note::SignerError),
    /// An earlier write failed: recover the bag.
    #[error("an earlier write failed; recover the bag")]
    Closed,
}

impl BagError {
    fn io(path: &str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
