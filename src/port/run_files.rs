//! Files of runs: pinned copies and the runner's lock.

use std::io;

use crate::incident::RunId;

use super::LockGuard;

/// Keeps what a run is pinned to, and keeps runners apart.
pub trait RunFiles: Send + Sync {
    /// Pins bytes under a name in the incident's `trust/`, durable when this returns. The same bytes again are no error; other bytes
    /// under a name that is taken are refused.
    ///
    /// # Errors
    /// When they cannot be made durable, or the name holds other bytes.
    fn pin(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// What is pinned under a name; `None` when nothing is.
    ///
    /// # Errors
    /// When it cannot be read.
    fn pinned(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Takes the run's lock at once; `None` when another runner holds it. It is apart from the ledger's append lock, so that people can
    /// decide and answer while a run goes on.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    fn lock_run(&self, run: &RunId) -> io::Result<Option<LockGuard>>;
}
