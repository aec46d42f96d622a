//! Durable files.

use std::any::Any;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use firebreak_evidence::source::{BagSink, BagSource};

/// Holds a lock; dropping it lets go. A process that dies lets go too.
pub type LockGuard = Box<dyn Any + Send>;

/// One folder that is read and written durably: temp file, write, fsync, rename, fsync of the folder. `adapter/store` is the only
/// real one.
///
/// *Guarantees*: those of [`BagSink`]; paths are relative, separated by `/`, without `.` and `..`. *Concurrency*: handles on one folder
/// are independent; [`Store::lock`] is what keeps processes and threads apart.
pub trait Store: BagSource + BagSink + Send {
    /// The folder, for messages.
    fn place(&self) -> PathBuf;
    /// A second handle on the same folder.
    ///
    /// # Errors
    /// When the folder is gone.
    fn another(&self) -> io::Result<Box<dyn Store>>;
    /// Writes a whole small file so that after a crash it is either the old or the new one.
    ///
    /// # Errors
    /// When it cannot be made durable.
    fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Reads a whole small file (at most 64 MiB); `None` when it is not there.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self, path: &str) -> io::Result<Option<Vec<u8>>>;
    /// Removes a file, durable; one that is not there is no error.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&mut self, path: &str) -> io::Result<()>;
    /// Takes the exclusive lock of a file, waiting at most so long; `None` when somebody else kept it.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    fn lock(&self, path: &str, within: Duration) -> io::Result<Option<LockGuard>>;
}
