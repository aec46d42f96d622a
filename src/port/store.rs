//! Durable files.

use std::path::PathBuf;

use firebreak_evidence::source::{BagSink, BagSource};

/// One folder that is read and written durably: temp file, write, fsync, rename, fsync of the folder. `adapter/store` is the only
/// real one; its simulated twin cuts before or after every call.
pub trait Store: BagSource + BagSink + Send {
    /// The folder, for messages.
    fn place(&self) -> PathBuf;
    /// Writes a whole small file so that it is either the old or the new one after a crash.
    ///
    /// # Errors
    /// When it cannot be made durable.
    fn replace(&mut self, path: &str, bytes: &[u8]) -> std::io::Result<()>;
    /// Reads a whole small file (at most 16 MiB); `None` when it is not there.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self, path: &str) -> std::io::Result<Option<Vec<u8>>>;
}
