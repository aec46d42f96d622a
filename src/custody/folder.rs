//! One incident folder: made, opened, closed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firebreak_evidence::encoding::{hex, unhex};
use firebreak_evidence::gate::HEADS;
use firebreak_evidence::note::fingerprint;
use firebreak_evidence::source::{BagSource, DirSource};

use crate::incident::body::{LedgerOpened, Note, Target};
use crate::incident::{Actor, Draft, Entry, History, IncidentId, Mode, kind};
use crate::port::{Clock, FingerprintKey, Ledger, LedgerError, Random, Store};

use super::incident_ledger::{IncidentLedger, Keep, public_key};
use super::key;

/// The lines of an incident's ledger.
const LEDGER: &str = "ledger/ledger.jsonl";
/// What stands in a folder once a head of its ledger was signed.
const SIGNED: [&str; 2] = ["ledger/checkpoint", HEADS];
/// No line of a ledger is longer.
const LINE_MAX: u64 = 65_536;

/// An open incident folder.
#[derive(Clone)]
pub struct Custody {
    pub(super) store: Arc<dyn Fn() -> std::io::Result<Box<dyn Store>> + Send + Sync>,
    pub(super) ledger: Arc<IncidentLedger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) opened: LedgerOpened,
    pub(super) id: IncidentId,
    pub(super) place: PathBuf,
    pub(super) acquired_by: String,
}

/// What is fixed when an incident is opened.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// Its id.
    pub id: IncidentId,
    /// Live or drill.
    pub mode: Mode,
    /// Organisation part of the origin, `unregistered.invalid` by default.
    pub org: String,
    /// Targets known now.
    pub targets: Vec<Target>,
    /// `solo` or `team`.
    pub policy: String,
    /// Trust files to pin: name → bytes.
    pub trust: BTreeMap<String, Vec<u8>>,
    /// Who opens it.
    pub actor: Actor,
}

/// Why an incident folder could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// There is a ledger already.
    #[error("incident {0} exists already")]
    Exists(IncidentId),
    /// There is none.
    #[error("there is no incident {0} here")]
    Missing(String),
    /// A file could not be written.
    #[error("cannot write `{}`: {detail}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// A file could not be read.
    #[error("cannot read `{}`: {detail}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// A file is not what we wrote.
    #[error("`{}` is damaged: {detail}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The host lacks something.
    #[error("{0}")]
    Host(String),
}

impl OpeningError {
    pub(super) fn write(store: &dyn Store, path: &str, e: &std::io::Error) -> Self {
        OpeningError::Write {
            path: store.place().join(path),
            detail: e.to_string(),
        }
    }
    pub(super) fn read(store: &dyn Store, path: &str, e: &std::io::Error) -> Self {
        OpeningError::Read {
            path: store.place().join(path),
            detail: e.to_string(),
        }
    }
}

impl Custody {
    /// Makes an incident folder: key, trust files and `ledger.opened`, each durable; the ledger's first checkpoint is kept.
    ///
    /// A crash before `ledger.opened` leaves no incident: the same request makes it again, and [`withdraw`] takes back what a failure
    /// leaves.
    ///
    /// # Errors
    /// When it exists, or disk or host refuse.
    pub fn create(
        mut store: Box<dyn Store>,
        request: OpenRequest,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, OpeningError> {
        let place = store.place();
        check_vacant(store.as_ref(), &place, &request.id)?;
        // A first line that a crash or a full disk cut is nobody's: it is written anew, whole.
        store
            .remove(LEDGER)
            .map_err(|e| OpeningError::write(store.as_ref(), LEDGER, &e))?;
        let signer = key::make(store.as_mut(), random.as_ref())?;
        let mut trust = BTreeMap::new();
        for (name, bytes) in &request.trust {
            let path = format!("trust/{name}");
            store
                .replace(&path, bytes)
                .map_err(|e| OpeningError::write(store.as_ref(), &path, &e))?;
            trust.insert(
                name.clone(),
                hex(&firebreak_evidence::encoding::sha256(bytes)),
            );
        }
        let public = public_key(&signer);
        let opened = LedgerOpened {
            incident: request.id.to_string(),
            mode: request.mode,
            origin: origin(&request.org, &request.id, request.mode),
            public_key: hex(&public),
            fingerprint: fingerprint(&public).hex(),
            targets: request.targets,
            policy: request.policy,
            trust,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let signer = Some(Arc::new(signer));
        let other = store
            .another()
            .map_err(|e| OpeningError::read(store.as_ref(), "", &e))?;
        let ledger = IncidentLedger::open(
            store,
            request.id.clone(),
            request.mode,
            opened.origin.clone(),
            &public,
            signer,
            clock.clone(),
            random.clone(),
        )?;
        ledger.append(vec![
            Draft::new(kind::LEDGER_OPENED, &opened).by(&request.actor),
        ])?;
        ledger.locked(|inner| inner.sign(Keep::Yes))?;
        Ok(Self::of(
            other,
            ledger,
            opened,
            request.id,
            place,
            clock,
            random,
            request.actor.id,
        ))
    }

    /// Opens the incident in `store`'s folder. Its ledger must reproduce every head that was signed.
    ///
    /// # Errors
    /// When there is none, it is damaged, or it fails verification.
    pub fn open(
        store: Box<dyn Store>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        actor: &Actor,
    ) -> Result<Self, OpeningError> {
        let opened = first_entry(store.as_ref())?;
        let place = store.place();
        let damaged = |detail: &str| OpeningError::Damaged {
            path: place.join("ledger/ledger.jsonl"),
            detail: detail.to_owned(),
        };
        let id = IncidentId::parse(&opened.incident)
            .map_err(|_| damaged("its first entry names no incident"))?;
        let public: [u8; 32] =
            unhex(&opened.public_key).ok_or_else(|| damaged("its first entry names no key"))?;
        let signer = key::load(store.as_ref())?;
        if let Some(signer) = &signer
            && public_key(signer) != public
        {
            return Err(OpeningError::Damaged {
                path: place.join("state/epoch.key"),
                detail: "it is another incident's key".into(),
            });
        }
        let other = store
            .another()
            .map_err(|e| OpeningError::read(store.as_ref(), "", &e))?;
        let ledger = IncidentLedger::open(
            store,
            id.clone(),
            opened.mode,
            opened.origin.clone(),
            &public,
            signer.map(Arc::new),
            clock.clone(),
            random.clone(),
        )?;
        Ok(Self::of(
            other,
            ledger,
            opened,
            id,
            place,
            clock,
            random,
            actor.id.clone(),
        ))
    }

    fn of(
        store: Box<dyn Store>,
        ledger: IncidentLedger,
        opened: LedgerOpened,
        id: IncidentId,
        place: PathBuf,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        acquired_by: String,
    ) -> Self {
        let store = std::sync::Mutex::new(store);
        let handles = move || {
            store
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .another()
        };
        Custody {
            store: Arc::new(handles),
            ledger: Arc::new(ledger),
            clock,
            random,
            opened,
            id,
            place,
            acquired_by,
        }
    }

    /// The ledger.
    pub fn ledger(&self) -> Arc<IncidentLedger> {
        self.ledger.clone()
    }
    /// Everything that is in it.
    ///
    /// # Errors
    /// When it cannot be read or believed.
    pub fn history(&self) -> Result<History, LedgerError> {
        self.ledger.history()
    }
    /// What the opening entry fixed.
    pub fn opened(&self) -> &LedgerOpened {
        &self.opened
    }
    /// The incident.
    pub fn id(&self) -> &IncidentId {
        &self.id
    }
    /// The folder.
    pub fn place(&self) -> &std::path::Path {
        &self.place
    }
    /// A handle on the folder's files.
    ///
    /// # Errors
    /// When the folder is gone.
    pub fn store(&self) -> std::io::Result<Box<dyn Store>> {
        (self.store)()
    }
    /// The epoch key's public half.
    pub fn public_key(&self) -> Option<[u8; 32]> {
        unhex(&self.opened.public_key)
    }

    /// The key that fingerprints of secrets are made with, made when it is first asked for.
    ///
    /// # Errors
    /// When it is damaged, or disk or host refuse.
    pub fn fingerprint_key(&self, random: &dyn Random) -> Result<FingerprintKey, OpeningError> {
        let mut store = self
            .store()
            .map_err(|e| OpeningError::Host(e.to_string()))?;
        key::fingerprint(store.as_mut(), random)
    }

    /// Closes the incident: last entry, last checkpoint (kept), then the epoch key is erased.
    ///
    /// # Errors
    /// When ledger or disk refuse; a rerun finishes it.
    pub fn close(&self, note: &Note, actor: &Actor) -> Result<Entry, OpeningError> {
        let mut stored = self
            .ledger
            .append(vec![Draft::new(kind::INCIDENT_CLOSED, note).by(actor)])?;
        self.ledger.locked(|inner| inner.sign(Keep::Yes))?;
        let mut store = self
            .store()
            .map_err(|e| OpeningError::Host(e.to_string()))?;
        key::erase(store.as_mut())
            .map_err(|e| OpeningError::write(store.as_ref(), "state/epoch.key", &e))?;
        self.ledger.forget_key();
        stored
            .pop()
            .ok_or_else(|| OpeningError::Host("the ledger answered no entry for one draft".into()))
    }
}

/// Base origin of the notes: `<org>/<id in lower case>`; a drill's last part starts with `drill-`.
fn origin(org: &str, id: &IncidentId, mode: Mode) -> String {
    let id = id.as_str().to_ascii_lowercase();
    match mode {
        Mode::Drill if !id.starts_with("drill-") => format!("{org}/drill-{id}"),
        _ => format!("{org}/{id}"),
    }
}

/// Whether an incident may be opened in this folder: none was, or only half.
///
/// # Errors
/// When one is there, or was: the key of an incident is never made anew.
pub fn check_vacant(
    source: &dyn BagSource,
    place: &Path,
    id: &IncidentId,
) -> Result<(), OpeningError> {
    let unreadable = |path: &str, e: &std::io::Error| OpeningError::Read {
        path: place.join(path),
        detail: e.to_string(),
    };
    let first = first_line(source).map_err(|e| unreadable(LEDGER, &e))?;
    if first.is_some() {
        return Err(OpeningError::Exists(id.clone()));
    }
    for sign in SIGNED {
        match source.len(sign) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(unreadable(sign, &e)),
            Ok(_) => {
                return Err(OpeningError::Damaged {
                    path: place.join(LEDGER),
                    detail: format!("it holds no entry, and `{sign}` tells of a signed head"),
                });
            }
        }
    }
    Ok(())
}

/// Takes back the folder that this process has just made for an incident which then could not be opened: a full disk leaves nothing
/// half-made behind. Where an entry is durable the incident is there, and stays.
pub fn withdraw(folder: &Path, id: &IncidentId) {
    let vacant = DirSource::open(folder).is_ok_and(|f| check_vacant(&f, folder, id).is_ok());
    if vacant {
        _ = std::fs::remove_dir_all(folder);
    }
}

/// Whether the ledger's last entry closes the incident. Nothing is appended after that one.
///
/// # Errors
/// When the ledger cannot be read.
pub fn ends_closed(source: &dyn BagSource) -> std::io::Result<bool> {
    let len = source.len(LEDGER)?;
    let from = len.saturating_sub(2 * LINE_MAX);
    let mut tail = vec![0; usize::try_from(len - from).unwrap_or(0)];
    let have = read_up_to(source, from, &mut tail)?;
    let last = tail[..have]
        .split_inclusive(|b| *b == b'\n')
        .rfind(|line| line.ends_with(b"\n"));
    Ok(last
        .and_then(|line| firebreak_evidence::entry::Entry::parse(line).ok())
        .is_some_and(|entry| entry.kind == kind::INCIDENT_CLOSED))
}

fn read_up_to(source: &dyn BagSource, from: u64, buf: &mut [u8]) -> std::io::Result<usize> {
    let mut have = 0;
    while have < buf.len() {
        match source.read_at(LEDGER, from + have as u64, &mut buf[have..])? {
            0 => break,
            n => have += n,
        }
    }
    Ok(have)
}

/// The first whole line of the ledger; `None` when there is none yet.
fn first_line(source: &dyn BagSource) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = vec![0; LINE_MAX as usize];
    let have = match read_up_to(source, 0, &mut head) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let end = head[..have].iter().position(|b| *b == b'\n');
    if end.is_none() && have == head.len() {
        return Err(std::io::Error::other("its first line has no end"));
    }
    Ok(end.map(|end| {
        head.truncate(end + 1);
        head
    }))
}

/// Reads the opening entry, before anything is believed: it says which key to check the rest with.
fn first_entry(store: &dyn Store) -> Result<LedgerOpened, OpeningError> {
    let place = store.place();
    if matches!(store.len(LEDGER), Err(e) if e.kind() == std::io::ErrorKind::NotFound) {
        return Err(OpeningError::Missing(place.display().to_string()));
    }
    let damaged = |detail: String| OpeningError::Damaged {
        path: place.join(LEDGER),
        detail,
    };
    let line = first_line(store)
        .map_err(|e| OpeningError::read(store, LEDGER, &e))?
        .ok_or_else(|| damaged("it holds no whole entry".into()))?;
    let entry = firebreak_evidence::entry::Entry::parse(&line)
        .map_err(|e| damaged(super::incident_ledger::chain(&e)))?;
    if entry.kind != kind::LEDGER_OPENED {
        return Err(damaged(format!("its first entry is `{}`", entry.kind)));
    }
    serde_json::from_value(entry.body).map_err(|e| damaged(e.to_string()))
}
