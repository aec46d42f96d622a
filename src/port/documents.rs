//! The incident's documents and the long texts that people wrote for them.

use std::io;

/// Writes the files of `report/` and reads the texts of `notes/` in the incident folder.
pub trait Documents: Send + Sync {
    /// Replaces one file of `report/`: after a crash it is either the old or the new one. `name` is a plain file name.
    ///
    /// # Errors
    /// When it cannot be made durable.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// The text in `notes/<sha256>.md`; `None` when it is not there. The caller compares the digest.
    ///
    /// # Errors
    /// When it is there and cannot be read as text.
    fn text(&self, sha256: &str) -> io::Result<Option<String>>;
}
