//! Bags of one incident: opened with a number from the ledger, gone on with after a crash.

use std::collections::BTreeMap;

use firebreak_evidence::bag::{BagError, BagSpec, BagWriter, Resumed, Sealed};
use firebreak_evidence::encoding::{hex, sha256};
use firebreak_evidence::gate::{GateError, HEADS};

use crate::incident::body::{BagOpened, BagSealed};
use crate::incident::{Category, Draft, Entry, Refs, kind};
use crate::port::{CustodyError, ExhibitDraft, Exhibits, LockGuard, OpenBag, Random, Store};

use super::folder::Custody;
use super::incident_ledger::{chain, is_tampering};

impl Exhibits for Custody {
    fn open_bag(&self, purpose: &str, refs: &Refs) -> Result<Box<dyn OpenBag>, CustodyError> {
        let mut lock = None;
        let number = self.ledger.locked(|inner| -> Result<u32, CustodyError> {
            let number = 1 + count(inner.entries(), kind::BAG_OPENED);
            lock = Some(self.bag_lock(number)?);
            let bag = format!("{number:04}");
            let refs = Refs {
                bag: Some(bag.clone()),
                ..refs.clone()
            };
            let body = BagOpened {
                bag,
                purpose: purpose.to_owned(),
            };
            inner.append(&[Draft::new(kind::BAG_OPENED, &body).about(refs)])?;
            Ok(number)
        })?;
        let lock = lock.ok_or_else(|| CustodyError::Host("no lock for the bag".into()))?;
        let spec = self.spec(number)?;
        let writer = BagWriter::open(self.handle()?, spec).map_err(|e| worded(number, &e))?;
        Ok(Box::new(self.filling(number, refs, writer, lock)))
    }
}

impl Custody {
    pub(super) fn handle(&self) -> Result<Box<dyn Store>, CustodyError> {
        self.store().map_err(|e| CustodyError::Read {
            path: self.place.display().to_string(),
            detail: e.to_string(),
        })
    }

    fn spec(&self, number: u32) -> Result<BagSpec, CustodyError> {
        let mut salt_key = [0; 32];
        let mut map_nonce = [0; 16];
        let random: &dyn Random = self.random.as_ref();
        random
            .fill(&mut salt_key)
            .and_then(|()| random.fill(&mut map_nonce))
            .map_err(|e| CustodyError::Host(format!("no randomness for the bag's salts: {e}")))?;
        Ok(BagSpec {
            incident: self.id.to_string(),
            number,
            base_origin: self.opened.origin.clone(),
            salt_key,
            map_nonce,
        })
    }

    pub(super) fn bag_lock(&self, number: u32) -> Result<LockGuard, CustodyError> {
        let path = format!("state/bag-{number:04}.lock");
        match self.handle()?.lock(&path, std::time::Duration::ZERO) {
            Ok(Some(guard)) => Ok(guard),
            Ok(None) => Err(CustodyError::Busy {
                bag: format!("{number:04}"),
            }),
            Err(e) => Err(CustodyError::Write {
                path,
                detail: e.to_string(),
            }),
        }
    }

    /// Bags that were opened and are not sealed: number and refs, in order.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn open_bags(&self) -> Result<Vec<(u32, Refs)>, CustodyError> {
        let history = self.history()?;
        let sealed: Vec<_> = history
            .bodies::<BagSealed>(kind::BAG_SEALED)
            .map(|(_, b)| b.bag)
            .collect();
        let open = history
            .bodies::<BagOpened>(kind::BAG_OPENED)
            .filter(|(_, b)| !sealed.contains(&b.bag));
        Ok(open
            .filter_map(|(e, b)| Some((b.bag.parse().ok()?, e.refs.clone())))
            .collect())
    }

    /// Goes on with a bag that `evidence open` opened in another process.
    ///
    /// # Errors
    /// When it is sealed, held by another process, or damaged.
    pub fn reopen_bag(&self, number: u32) -> Result<Box<dyn OpenBag>, CustodyError> {
        let refs = self
            .open_bags()?
            .into_iter()
            .find(|(n, _)| *n == number)
            .map(|(_, refs)| refs);
        let refs =
            refs.ok_or_else(|| CustodyError::Host(format!("bag {number:04} is not open")))?;
        let lock = self.bag_lock(number)?;
        match self.resume(number)? {
            Resumed::Open(writer, recovery) => {
                let mut bag = self.filling(number, &refs, *writer, lock);
                if recovery.is_some() {
                    bag.finish_interrupted()?;
                }
                self.tell_missing_exhibits(number, &refs)?;
                Ok(Box::new(bag))
            }
            Resumed::Sealed(sealed) => {
                self.tell_missing_exhibits(number, &refs)?;
                self.tell_late(number, &sealed, &refs)?;
                Err(CustodyError::Host(format!(
                    "bag {number:04} is sealed already"
                )))
            }
        }
    }

    pub(super) fn resume(&self, number: u32) -> Result<Resumed<Box<dyn Store>>, CustodyError> {
        let source = self.handle()?;
        match BagWriter::recover(self.handle()?, source.as_ref(), self.spec(number)?) {
            // The crash came between `bag.opened` and the bag's journal: there is nothing on disk, so it is opened now.
            Err(BagError::NotOpen(_)) => {
                let writer = BagWriter::open(self.handle()?, self.spec(number)?)
                    .map_err(|e| worded(number, &e))?;
                Ok(Resumed::Open(Box::new(writer), None))
            }
            other => other.map_err(|e| worded(number, &e)),
        }
    }
}

pub(super) fn recovery_note() -> ExhibitDraft {
    ExhibitDraft {
        name: "recovery-note".into(),
        description: "note of the recovery: nothing had been taken in".into(),
        category: Category::Other,
        system: BTreeMap::new(),
        method: "recovery".into(),
        command: None,
        trust: None,
        volatility: 7,
    }
}

pub(super) fn sealed_body(sealed: &Sealed) -> BagSealed {
    BagSealed {
        bag: format!("{:04}", sealed.number),
        seal_sha256: hex(&sealed.seal_sha256),
        records: sealed.records,
        root: firebreak_evidence::encoding::base64(&sealed.root),
        bytes: sealed.bytes,
        files: sealed.files,
        recoveries: sealed.recoveries,
        late: false,
    }
}

pub(super) fn count(entries: &[Entry], kind: &str) -> u32 {
    u32::try_from(entries.iter().filter(|e| e.kind == kind).count()).unwrap_or(u32::MAX)
}

pub(super) fn worded(number: u32, e: &BagError) -> CustodyError {
    let bag = format!("{number:04}");
    match e {
        BagError::NoPayload => CustodyError::Empty { bag },
        BagError::Tampered { .. } => CustodyError::Tampered {
            bag,
            detail: chain(e),
        },
        BagError::Gate(gate) if is_tampering(gate) => CustodyError::Tampered {
            bag,
            detail: chain(e),
        },
        BagError::Gate(GateError::Io(source)) => CustodyError::Write {
            path: HEADS.to_owned(),
            detail: source.to_string(),
        },
        BagError::Io { path, source } => CustodyError::Write {
            path: path.clone(),
            detail: source.to_string(),
        },
        other => CustodyError::Host(format!("bag {bag}: {}", chain(other))),
    }
}

/// SHA-256 of bytes as hex, for callers that pin files.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex(&sha256(bytes))
}
