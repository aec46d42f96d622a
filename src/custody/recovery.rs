//! What a crash left open: bags are recovered by the code of the first attempt, sealed, and everything in them is told of.

use std::collections::{BTreeMap, BTreeSet};

use firebreak_evidence::acquisition::{EndState, StoredAcquisition};
use firebreak_evidence::bag::{Resumed, Sealed};
use firebreak_evidence::seal::SEAL;

use crate::incident::body::{BagOpened, BagSealed, ExhibitAcquired};
use crate::incident::{Category, Draft, Entry, Refs, kind};
use crate::port::{CustodyError, Ended, OpenBag as _};

use super::bags::{recovery_note, sealed_body};
use super::folder::Custody;

/// What was done about one bag that a crash had left open.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// Bag number.
    pub bag: String,
    /// Its seal.
    pub sealed: BagSealed,
}

impl Custody {
    /// Recovers and seals the bags that a crashed process left open: those of `run`, or those of no run. A bag that a living process
    /// holds is left alone.
    ///
    /// # Errors
    /// When what is on disk does not reproduce what was signed, or ledger or disk refuse; a rerun goes on.
    pub fn recover_bags(&self, run: Option<&str>) -> Result<Vec<Recovered>, CustodyError> {
        let open = self
            .open_bags()?
            .into_iter()
            .filter(|(_, refs)| refs.run.as_deref() == run);
        let mut done = Vec::new();
        for (number, refs) in open {
            let Ok(lock) = self.bag_lock(number) else {
                continue;
            };
            let sealed = match self.resume(number)? {
                Resumed::Sealed(sealed) => {
                    self.tell_missing_exhibits(number, &refs)?;
                    self.tell_late(number, &sealed, &refs)?
                }
                Resumed::Open(writer, _) => {
                    let mut bag = self.filling(number, &refs, *writer, lock);
                    bag.finish_interrupted()?;
                    self.tell_missing_exhibits(number, &refs)?;
                    match Box::new(bag).seal() {
                        Err(CustodyError::Empty { .. }) => self.seal_empty(number, &refs)?,
                        other => other?,
                    }
                }
            };
            done.push(Recovered {
                bag: format!("{number:04}"),
                sealed,
            });
        }
        Ok(done)
    }

    /// A bag that was opened and got nothing before the crash holds a line that says so: an empty bag could never be sealed.
    fn seal_empty(&self, number: u32, refs: &Refs) -> Result<BagSealed, CustodyError> {
        let lock = self.bag_lock(number)?;
        let Resumed::Open(writer, _) = self.resume(number)? else {
            return Err(CustodyError::Empty {
                bag: format!("{number:04}"),
            });
        };
        let mut bag = self.filling(number, refs, *writer, lock);
        bag.begin(&recovery_note())?;
        bag.write(
            format!(
                "bag {number:04}: the acquiring process ended before it had taken anything in\n"
            )
            .as_bytes(),
        )?;
        bag.finish(Ended::Error(
            "the acquiring process ended before it had taken anything in".into(),
        ))?;
        Box::new(bag).seal()
    }

    /// The seal is on disk and its entry is not: the crash came between the two.
    pub(super) fn tell_late(
        &self,
        number: u32,
        sealed: &Sealed,
        refs: &Refs,
    ) -> Result<BagSealed, CustodyError> {
        let body = BagSealed {
            late: true,
            ..sealed_body(sealed)
        };
        let refs = Refs {
            bag: Some(format!("{number:04}")),
            ..refs.clone()
        };
        self.ledger.locked(|inner| {
            // Somebody else may have told of it meanwhile.
            if let Some(told) = sealed_bags(inner.entries()).remove(&body.bag) {
                return Ok(told);
            }
            inner.append(&[Draft::new(kind::BAG_SEALED, &body).about(refs)])?;
            Ok(body)
        })
    }

    /// Tells of every seal that is on disk and whose entry a crash cut off. The next seal then names it as the one before. A bag that a
    /// living process holds is left alone.
    ///
    /// # Errors
    /// When a seal cannot be read, or ledger or disk refuse.
    pub fn tell_late_seals(&self) -> Result<Vec<BagSealed>, CustodyError> {
        let mut told = Vec::new();
        for (number, refs) in self.open_bags()? {
            if !self.has_seal(number)? {
                continue;
            }
            let Ok(_lock) = self.bag_lock(number) else {
                continue;
            };
            if let Resumed::Sealed(sealed) = self.resume(number)? {
                self.tell_missing_exhibits(number, &refs)?;
                told.push(self.tell_late(number, &sealed, &refs)?);
            }
        }
        Ok(told)
    }

    /// A bag other than `own` whose seal is on disk and in no entry; asked under the ledger's lock.
    pub(super) fn untold_seal(
        &self,
        entries: &[Entry],
        own: u32,
    ) -> Result<Option<String>, CustodyError> {
        let sealed = sealed_bags(entries);
        let opened = entries
            .iter()
            .filter_map(|e| e.body_as::<BagOpened>(kind::BAG_OPENED));
        for bag in opened.map(|b| b.bag).filter(|b| !sealed.contains_key(b)) {
            let number = bag.parse().unwrap_or(own);
            if number != own && self.has_seal(number)? {
                return Ok(Some(bag));
            }
        }
        Ok(None)
    }

    fn has_seal(&self, number: u32) -> Result<bool, CustodyError> {
        let path = format!("bags/{}_{number:04}/{SEAL}", self.id);
        Ok(self.load(&path)?.is_some())
    }

    /// An exhibit whose acquisition record is in the bag and whose entry is not: the crash came between the two. Without the entry no
    /// register would ever name it.
    pub(super) fn tell_missing_exhibits(
        &self,
        number: u32,
        refs: &Refs,
    ) -> Result<(), CustodyError> {
        let bag = format!("{number:04}");
        let folder = format!("bags/{}_{bag}/acquisition/", self.id);
        let history = self.history()?;
        let told: BTreeSet<String> = history
            .bodies::<ExhibitAcquired>(kind::EXHIBIT_ACQUIRED)
            .map(|(_, e)| e.exhibit)
            .collect();
        let store = self.handle()?;
        let unreadable = |path: &str, detail: String| CustodyError::Read {
            path: path.to_owned(),
            detail,
        };
        let listed = store
            .list()
            .map_err(|e| unreadable(&folder, e.to_string()))?;
        let records = listed
            .iter()
            .filter(|i| i.path.starts_with(&folder) && i.path.ends_with(".json"));
        let mut drafts = Vec::new();
        for item in records {
            let bytes = store
                .load(&item.path)
                .map_err(|e| unreadable(&item.path, e.to_string()))?;
            let stored: StoredAcquisition = serde_json::from_slice(&bytes.unwrap_or_default())
                .map_err(|e| unreadable(&item.path, e.to_string()))?;
            if told.contains(&stored.record.exhibit) {
                continue;
            }
            let refs = Refs {
                bag: Some(bag.clone()),
                exhibit: Some(stored.record.exhibit.clone()),
                ..refs.clone()
            };
            drafts.push(Draft::new(kind::EXHIBIT_ACQUIRED, &from_record(stored, &bag)).about(refs));
        }
        if drafts.is_empty() {
            return Ok(());
        }
        Ok(self
            .ledger
            .locked(|inner| inner.append(&drafts).map(|_| ()))?)
    }
}

fn sealed_bags(entries: &[Entry]) -> BTreeMap<String, BagSealed> {
    entries
        .iter()
        .filter_map(|e| e.body_as::<BagSealed>(kind::BAG_SEALED))
        .map(|b| (b.bag.clone(), b))
        .collect()
}

/// The entry's body as far as the acquisition record holds it.
fn from_record(stored: StoredAcquisition, bag: &str) -> ExhibitAcquired {
    let record = stored.record;
    ExhibitAcquired {
        exhibit: record.exhibit,
        bag: bag.to_owned(),
        description: format!("{} (told of after a crash)", record.original_name),
        category: Category::parse(&record.kind).unwrap_or(Category::Other),
        source: stored.source,
        system: serde_json::from_value(record.system).unwrap_or_default(),
        method: record.method,
        trust: None,
        bytes: stored.bytes,
        records: stored.records,
        sha256: None,
        ended: match record.ended.state {
            EndState::Complete => "complete",
            EndState::Cap => "cap",
            EndState::Error => "error",
            EndState::Crash => "crash",
        }
        .into(),
        why: Some(record.ended.why).filter(|w| !w.is_empty()),
        volatility: record.volatility,
        started: record.started,
        finished: record.finished,
    }
}

#[cfg(all(test, feature = "adapters"))]
mod tests {
    use std::sync::Arc;

    use firebreak_evidence::acquisition::AcquisitionRecord;
    use firebreak_evidence::record::Mode as Cut;

    use super::*;
    use crate::adapter::store::DirStore;
    use crate::custody::OpenRequest;
    use crate::incident::{Actor, IncidentId, Mode};
    use crate::port::{Exhibits as _, HostClock, HostRandom};

    #[test]
    fn an_exhibit_whose_entry_a_crash_cut_off_is_told_of_before_its_bag_is_sealed() {
        let place = std::env::temp_dir().join(format!("firebreak-recovery-{}", std::process::id()));
        _ = std::fs::remove_dir_all(&place);
        let request = OpenRequest {
            id: IncidentId::parse("INC-R").expect("id"),
            mode: Mode::Live,
            org: "test.invalid".into(),
            targets: Vec::new(),
            policy: "solo".into(),
            trust: BTreeMap::new(),
            actor: Actor::person("me@here"),
        };
        let store = Box::new(DirStore::open(&place).expect("folder"));
        let custody = Custody::create(
            store,
            request,
            Arc::new(HostClock::new()),
            Arc::new(HostRandom),
        )
        .expect("made");
        drop(custody.open_bag("test", &Refs::default()).expect("opened"));
        let Resumed::Open(mut writer, _) = custody.resume(1).expect("resumed") else {
            panic!("the bag is open");
        };
        writer.start_source("auth.log", Cut::Line).expect("started");
        writer.write(b"one\n").expect("written");
        let record = AcquisitionRecord {
            exhibit: "INC-R/E-0001".into(),
            kind: "logs".into(),
            original_name: "auth.log".into(),
            ..AcquisitionRecord::default()
        };
        writer.finish_source(record).expect("finished");
        // The process dies here: the source is whole in the bag, and the ledger does not know of it.
        drop(writer);
        assert_eq!(custody.recover_bags(None).expect("recovered").len(), 1);
        let history = custody.history().expect("history");
        let named: Vec<_> = history
            .bodies::<ExhibitAcquired>(kind::EXHIBIT_ACQUIRED)
            .map(|(_, e)| e.exhibit)
            .collect();
        assert_eq!(named, ["INC-R/E-0001"]);
        std::fs::remove_dir_all(place).expect("clean");
    }
}
