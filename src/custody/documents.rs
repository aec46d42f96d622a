//! Files of an incident folder that are neither ledger nor bag: pinned trust files, documents, the runner's lock.

use std::io;
use std::time::Duration;

use crate::incident::RunId;
use crate::port::{CustodyError, Documents, LockGuard, RunFiles};

use super::bags::digest;
use super::folder::Custody;

impl Custody {
    /// A trust file that was pinned when the incident was opened; `None` when none of that name was.
    ///
    /// # Errors
    /// When it is gone, unreadable, or is not what was pinned.
    pub fn trusted(&self, name: &str) -> Result<Option<Vec<u8>>, CustodyError> {
        let Some(pinned) = self.opened.trust.get(name) else {
            return Ok(None);
        };
        let path = format!("trust/{name}");
        let bytes = self.load(&path)?.ok_or_else(|| CustodyError::Read {
            path: path.clone(),
            detail: "it is gone".into(),
        })?;
        if digest(&bytes) == *pinned {
            Ok(Some(bytes))
        } else {
            Err(CustodyError::Read {
                path,
                detail:
                    "it is not what was pinned when the incident was opened: its digest differs"
                        .into(),
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

impl RunFiles for Custody {
    fn pin(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut store = self.store()?;
        let path = format!("trust/{name}");
        match store.load(&path)? {
            Some(there) if there == bytes => Ok(()),
            Some(_) => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("`{path}` holds other bytes"),
            )),
            None => store.replace(&path, bytes),
        }
    }
    fn pinned(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.store()?.load(&format!("trust/{name}"))
    }
    fn lock_run(&self, run: &RunId) -> io::Result<Option<LockGuard>> {
        self.store()?
            .lock(&format!("state/{run}.lock"), Duration::ZERO)
    }
}

impl Documents for Custody {
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.store()?.replace(&format!("report/{name}"), bytes)
    }
    fn text(&self, sha256: &str) -> io::Result<Option<String>> {
        let bytes = self.store()?.load(&format!("notes/{sha256}.md"))?;
        bytes
            .map(|b| String::from_utf8(b).map_err(io::Error::other))
            .transpose()
    }
}
