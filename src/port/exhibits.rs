//! Preserving what was acquired: bags and exhibits as the actions use them. `custody` is the one that does it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::incident::body::{BagSealed, ExhibitAcquired};
use crate::incident::{Category, Refs};

use super::LedgerError;

/// What an exhibit is, known before its bytes come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExhibitDraft {
    /// Real name of the source; the folder name under `data/` is derived from it.
    pub name: String,
    /// One line.
    pub description: String,
    /// Kind.
    pub category: Category,
    /// Ids of where it came from: `cluster`, `namespace`, `pod`, `pod_uid`, `container`, `node`, `path`, …
    pub system: BTreeMap<String, String>,
    /// How it is acquired: `GET pods/log`, `exec`, `read`.
    pub method: String,
    /// Command with secrets replaced by references, if one was run.
    pub command: Option<String>,
    /// `low` when the suspect's own tools answer.
    pub trust: Option<String>,
    /// RFC 3227 rank, 1 most volatile … 7.
    pub volatility: u8,
}

/// How an exhibit's bytes ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All of it.
    Complete,
    /// Cut off by a size or time limit, said why.
    Cap(String),
    /// The source failed, said why.
    Error(String),
}

/// Why evidence could not be taken in.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CustodyError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A file of ours could not be written: disk full, permissions.
    #[error("cannot write evidence to `{path}`: {detail}")]
    Write {
        /// Where.
        path: String,
        /// The system's words.
        detail: String,
    },
    /// A file of this host could not be read.
    #[error("cannot read `{path}`: {detail}")]
    Read {
        /// What.
        path: String,
        /// The system's words.
        detail: String,
    },
    /// A file that the ledger pins by digest is gone, or is another.
    #[error("`{path}` is not what the ledger recorded: {detail}")]
    Changed {
        /// Which.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// What is on disk does not reproduce what was signed.
    #[error("bag {bag} fails verification: {detail}")]
    Tampered {
        /// Bag number.
        bag: String,
        /// What is wrong.
        detail: String,
    },
    /// Nothing was put into the bag: an empty bag is refused.
    #[error("bag {bag} holds nothing: a bag without payload is not sealed")]
    Empty {
        /// Bag number.
        bag: String,
    },
    /// Another process has the bag.
    #[error("bag {bag} is being filled by another process")]
    Busy {
        /// Bag number.
        bag: String,
    },
    /// No randomness, no key, or another fault of the host.
    #[error("{0}")]
    Host(String),
}

/// Opens bags.
///
/// *Durability*: `bag.opened` with the number is durable before the folder exists. *Concurrency*: bags may be open side by side; each has
/// one open source at a time.
pub trait Exhibits: Send + Sync {
    /// Takes the next bag number and opens the bag. `refs` name run and step.
    ///
    /// # Errors
    /// When ledger or disk refuse.
    fn open_bag(&self, purpose: &str, refs: &Refs) -> Result<Box<dyn OpenBag>, CustodyError>;
}

/// One open bag. Dropping it unsealed leaves it open: the next resume recovers and seals it.
#[must_use = "a bag that is not sealed proves nothing: call `seal`"]
pub trait OpenBag: Send {
    /// Four digits.
    fn number(&self) -> &str;
    /// Starts an exhibit.
    ///
    /// # Errors
    /// When ledger or disk refuse.
    fn begin(&mut self, exhibit: &ExhibitDraft) -> Result<(), CustodyError>;
    /// Adds bytes to the exhibit that was begun.
    ///
    /// # Errors
    /// When the disk refuses.
    fn write(&mut self, bytes: &[u8]) -> Result<(), CustodyError>;
    /// Ends the exhibit; the entry `exhibit.acquired` is durable when this returns.
    ///
    /// # Errors
    /// When ledger or disk refuse.
    fn finish(&mut self, ended: Ended) -> Result<ExhibitAcquired, CustodyError>;
    /// Adds a file or folder of this host as one exhibit, streamed; links and special files are listed, never followed.
    /// `progress` gets bytes read so far.
    ///
    /// # Errors
    /// When it cannot be read at all, or ledger or disk refuse. Unreadable parts of a folder are listed, not an error.
    fn add_path(
        &mut self,
        path: &Path,
        exhibit: &ExhibitDraft,
        progress: &mut dyn FnMut(u64),
    ) -> Result<ExhibitAcquired, CustodyError>;
    /// Leaves the bag open for another process: what it holds is signed, so that going on is no recovery.
    ///
    /// # Errors
    /// When ledger or disk refuse.
    fn leave_open(self: Box<Self>) -> Result<(), CustodyError>;
    /// Closes and signs the bag; `bag.sealed` is durable when this returns.
    ///
    /// # Errors
    /// When it is empty, or ledger or disk refuse.
    fn seal(self: Box<Self>) -> Result<BagSealed, CustodyError>;
}
