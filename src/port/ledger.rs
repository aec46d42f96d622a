//! The incident's ledger as the engine and the actions use it.

use crate::incident::{Draft, Entry, History};

/// Appends to and reads from one incident's ledger.
///
/// *Durability*: `append` returns only when every line is on disk; a failure is fatal for the run (intent rule). *Concurrency*: the
/// ledger lock is held per append batch, so people's commands can write while a run waits; `refresh` sees their entries.
pub trait Ledger: Send + Sync {
    /// Appends entries as one batch and waits until they are durable. Answers them as stored, in order.
    ///
    /// # Errors
    /// When they cannot be written: nothing may act on them.
    fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Entry>, LedgerError>;
    /// Signs and persists a checkpoint over everything appended so far (gates, irreversible intents, park, exit).
    ///
    /// # Errors
    /// When it cannot be signed or written.
    fn checkpoint(&self) -> Result<(), LedgerError>;
    /// The whole history, with what other processes appended since.
    ///
    /// # Errors
    /// When the ledger cannot be read or fails its own chain.
    fn history(&self) -> Result<History, LedgerError>;
}

/// A ledger that cannot be written, read or believed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// Entries could not be made durable.
    #[error("cannot write the ledger `{path}`: {detail}")]
    Write {
        /// Folder.
        path: String,
        /// The system's words.
        detail: String,
    },
    /// It could not be read.
    #[error("cannot read the ledger `{path}`: {detail}")]
    Read {
        /// Folder.
        path: String,
        /// The system's words.
        detail: String,
    },
    /// It fails verification.
    #[error("the ledger `{path}` fails verification: {detail}")]
    Tampered {
        /// Folder.
        path: String,
        /// What is wrong, with the entry number.
        detail: String,
    },
    /// Another process holds its lock.
    #[error("another process holds the ledger `{path}`")]
    Busy {
        /// Folder.
        path: String,
    },
}
