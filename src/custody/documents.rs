//! Files of an incident folder that are neither ledger nor bag: pinned trust files, notes.

use crate::port::CustodyError;

use super::bags::digest;
use super::folder::Custody;

impl Custody {
    /// Keeps bytes under `trust/<sha256>.<extension>`, durable, and answers their digest. Keeping the same again changes nothing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn pin(&self, extension: &str, bytes: &[u8]) -> Result<String, CustodyError> {
        let sha256 = digest(bytes);
        self.keep(&format!("trust/{sha256}.{extension}"), bytes)?;
        Ok(sha256)
    }

    /// Loads what was pinned; what does not have its digest any more is refused.
    ///
    /// # Errors
    /// When it is gone, unreadable, or changed.
    pub fn pinned(&self, extension: &str, sha256: &str) -> Result<Vec<u8>, CustodyError> {
        let path = format!("trust/{sha256}.{extension}");
        let bytes = self.load(&path)?.ok_or_else(|| CustodyError::Read {
            path: path.clone(),
            detail: "it is gone".into(),
        })?;
        if digest(&bytes) == sha256 {
            Ok(bytes)
        } else {
            Err(CustodyError::Read {
                path,
                detail: "it is not what was pinned: its digest differs".into(),
            })
        }
    }

    /// Writes a file of the folder, durable.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep(&self, path: &str, bytes: &[u8]) -> Result<(), CustodyError> {
        let written = self.store().and_then(|mut s| s.replace(path, bytes));
        written.map_err(|e| CustodyError::Write {
            path: self.place.join(path).display().to_string(),
            detail: e.to_string(),
        })
    }

    /// Loads a file of the folder; `None` when it is not there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(&self, path: &str) -> Result<Option<Vec<u8>>, CustodyError> {
        let loaded = self.store().and_then(|s| s.load(path));
        loaded.map_err(|e| CustodyError::Read {
            path: self.place.join(path).display().to_string(),
            detail: e.to_string(),
        })
    }
}
