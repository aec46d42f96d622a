//! An incident that is not open yet: it can be planned for, and it takes nothing.
//!
//! A plan names the incident's id, so a person who is shown one needs an id before they decide. Where the plan is refused, or nobody
//! confirms it, nothing of that incident may be left behind; so nothing of it is written before.

use std::io;

use crate::incident::{Draft, Entry, History, IncidentId, Mode, Refs, RunId};
use crate::port::{CustodyError, Exhibits, Ledger, LedgerError, LockGuard, OpenBag, RunFiles};

/// The id of an incident that may be opened.
#[derive(Debug, Clone)]
pub struct Unopened {
    /// Its id.
    pub id: IncidentId,
    /// Live or drill.
    pub mode: Mode,
}

impl Unopened {
    fn refused(&self) -> LedgerError {
        LedgerError::Write {
            path: self.id.to_string(),
            detail: "the incident is not open yet".into(),
        }
    }
}

impl Ledger for Unopened {
    fn append(&self, _: Vec<Draft>) -> Result<Vec<Entry>, LedgerError> {
        Err(self.refused())
    }
    fn checkpoint(&self) -> Result<(), LedgerError> {
        Err(self.refused())
    }
    fn history(&self) -> Result<History, LedgerError> {
        Ok(History {
            incident: self.id.clone(),
            mode: self.mode,
            entries: Vec::new(),
            root: String::new(),
            fingerprint: String::new(),
        })
    }
}

impl Exhibits for Unopened {
    fn open_bag(&self, _: &str, _: &Refs) -> Result<Box<dyn OpenBag>, CustodyError> {
        Err(self.refused().into())
    }
}

impl RunFiles for Unopened {
    fn pin(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::Error::other(self.refused()))
    }
    fn pinned(&self, _: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
    fn lock_run(&self, _: &RunId) -> io::Result<Option<LockGuard>> {
        Err(io::Error::other(self.refused()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_that_is_not_open_can_be_read_and_takes_nothing() {
        let id = IncidentId::parse("INC-20261124-7K2Q").expect("an id");
        let unopened = Unopened {
            id: id.clone(),
            mode: Mode::Live,
        };
        let history = unopened.history().expect("an empty history");
        assert!(history.entries.is_empty() && history.incident == id);
        assert!(unopened.append(Vec::new()).is_err() && unopened.checkpoint().is_err());
        assert!(unopened.open_bag("a test", &Refs::default()).is_err());
        assert!(unopened.pin("plan", b"x").is_err());
        let run = RunId::parse("run-aaaaaaaaaaaaaaaa").expect("a run");
        assert!(unopened.lock_run(&run).is_err());
    }
}
