//! Files of an incident folder that are neither ledger nor bag: pinned trust files, documents, the runner's lock.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use crate::incident::body::RunCreated;
use crate::incident::rotate::RotationPlanned;
use crate::incident::{Entry, RunId, kind};
use crate::port::{CustodyError, Documents, LockGuard, RunFiles};

use super::bags::digest;
use super::folder::Custody;

impl Custody {
    /// A trust file that was pinned when the incident was opened; `None` when none of that name was.
    ///
    /// # Errors
    /// When it is gone, unreadable, or is not what was pinned.
    pub fn trusted(&self, name: &str) -> Result<Option<Vec<u8>>, CustodyError> {
        match self.opened.trust.get(name) {
            None => Ok(None),
            Some(pinned) => self.pinned_as(name, pinned).map(Some),
        }
    }

    /// Looks at what entries pin and what goes on from it: every trust file, and playbook, plan and rotation plan of each run that has
    /// not ended.
    ///
    /// # Errors
    /// When one is gone, unreadable, or is not what was pinned.
    pub fn check_pins(&self) -> Result<(), CustodyError> {
        for name in self.opened.trust.keys() {
            self.trusted(name)?;
        }
        let history = self.history()?;
        let ended: BTreeSet<&str> = history.of(kind::RUN_ENDED).filter_map(Entry::run).collect();
        for (_, run) in history
            .bodies::<RunCreated>(kind::RUN_CREATED)
            .filter(|(_, run)| !ended.contains(run.run.as_str()))
        {
            let (playbook, plan) = (&run.playbook_sha256, &run.plan_sha256);
            self.pinned_as(&format!("{playbook}.yaml"), playbook)?;
            self.pinned_as(&format!("{plan}.json"), plan)?;
        }
        for (_, rotation) in history
            .bodies::<RotationPlanned>(kind::ROTATION_PLANNED)
            .filter(|(e, _)| e.run().is_none_or(|run| !ended.contains(run)))
        {
            let plan = &rotation.plan_sha256;
            self.pinned_as(&format!("{plan}.json"), plan)?;
            if let Some(map) = &rotation.map_sha256 {
                self.pinned_as(&format!("{map}.yaml"), map)?;
            }
        }
        Ok(())
    }

    fn pinned_as(&self, name: &str, sha256: &str) -> Result<Vec<u8>, CustodyError> {
        let path = format!("trust/{name}");
        let detail = match self.load(&path)? {
            Some(bytes) if digest(&bytes) == sha256 => return Ok(bytes),
            Some(_) => "its digest differs from the one that was pinned".to_owned(),
            None => "it is gone".to_owned(),
        };
        Err(CustodyError::Changed { path, detail })
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
