//! The durable ledger of one incident, shared by processes: the lock is held per append batch, never per run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::DateTime;
use firebreak_evidence::checkpoint::SignedCheckpoint;
use firebreak_evidence::encoding::{base64, hex};
use firebreak_evidence::entry as raw;
use firebreak_evidence::gate::{GateError, SigningGate};
use firebreak_evidence::ledger::{
    LedgerError as RawError, LedgerIdentity, LedgerWriter, RecoveryEntry,
};
use firebreak_evidence::note::{SeedSigner, Signer as _, fingerprint};

use crate::incident::clock_text::millis;
use crate::incident::{Actor, ActorKind, Draft, Entry, History, IncidentId, Mode, Refs, kind};
use crate::port::{Clock, Ledger, LedgerError, LockGuard, Random, Store};

use super::fault;

/// How long an append waits for another process to finish its batch.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// While entries arrive a head is signed at least this often.
const SIGN_EVERY: Duration = Duration::from_secs(1);
/// The append lock.
const LOCK: &str = "state/ledger.lock";

/// One incident's ledger.
pub struct IncidentLedger {
    inner: Mutex<Inner>,
    id: IncidentId,
    mode: Mode,
    fingerprint: String,
}

pub(super) struct Inner {
    writer: LedgerWriter,
    /// For writing.
    sink: Box<dyn Store>,
    /// For reading beside it.
    source: Box<dyn Store>,
    identity: LedgerIdentity,
    signer: Option<Arc<SeedSigner>>,
    entries: Vec<Entry>,
    /// Our fencing number, once we have appended.
    fencing: Option<u64>,
    last_signed: Option<(Duration, u64)>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl IncidentLedger {
    /// Opens the ledger in `sink`'s folder, or begins one; it must reproduce every head that was signed.
    pub(super) fn open(
        sink: Box<dyn Store>,
        id: IncidentId,
        mode: Mode,
        base_origin: String,
        public_key: &[u8; 32],
        signer: Option<Arc<SeedSigner>>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, LedgerError> {
        let place = sink.place().display().to_string();
        let source = sink.another().map_err(|e| LedgerError::Read {
            path: place.clone(),
            detail: e.to_string(),
        })?;
        let identity = LedgerIdentity {
            incident: id.to_string(),
            mode: raw_mode(mode),
            base_origin,
        };
        let mut stored = Vec::new();
        let writer = LedgerWriter::open_with(source.as_ref(), identity.clone(), &mut |e| {
            stored.push(e.clone())
        })
        .map_err(|e| worded(&place, &e))?;
        let mut inner = Inner {
            writer,
            sink,
            source,
            identity,
            signer,
            entries: Vec::new(),
            fencing: None,
            last_signed: None,
            clock,
            random,
        };
        inner.take_stored(&stored)?;
        Ok(IncidentLedger {
            inner: Mutex::new(inner),
            id,
            mode,
            fingerprint: fingerprint(public_key).hex(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic while appending leaves the writer closed at worst; what is on disk is read again before anything is written.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` under the append lock with the ledger up to date: for commits and seals of bags, which sign through the same gate.
    pub(super) fn locked<T, E: From<LedgerError>>(
        &self,
        work: impl FnOnce(&mut Inner) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut inner = self.inner();
        let _guard = inner.lock()?;
        inner.refresh()?;
        work(&mut inner)
    }

    /// Fingerprint (64 hex) of the epoch key.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Erases the signer from memory after the last signature.
    pub(super) fn forget_key(&self) {
        self.inner().signer = None;
    }
}

impl Drop for IncidentLedger {
    /// Signs what this process appended and has not signed yet: unsigned entries prove nothing to a stranger. A process that is killed
    /// leaves them to the next one that appends.
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let unsigned = inner.fencing.is_some()
            && inner
                .last_signed
                .is_none_or(|(_, size)| size < inner.writer.size());
        if unsigned && inner.signer.is_some() {
            _ = inner.lock().and_then(|guard| {
                inner.refresh()?;
                inner.sign(Keep::No)?;
                drop(guard);
                Ok(())
            });
        }
    }
}

impl Ledger for IncidentLedger {
    fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Entry>, LedgerError> {
        self.locked(|inner| {
            let stored = inner.append(&drafts)?;
            inner.sign_if_due()?;
            Ok(stored)
        })
    }

    fn checkpoint(&self) -> Result<(), LedgerError> {
        self.locked(|inner| inner.sign(Keep::No).map(|_| ()))
    }

    fn history(&self) -> Result<History, LedgerError> {
        let mut inner = self.inner();
        inner.refresh()?;
        Ok(History {
            incident: self.id.clone(),
            mode: self.mode,
            entries: inner.entries.clone(),
            root: base64(&inner.writer.root()),
            fingerprint: self.fingerprint.clone(),
        })
    }
}

/// Whether a checkpoint is kept for ever.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Yes,
    No,
}

impl Inner {
    fn place(&self) -> String {
        self.sink.place().join("ledger").display().to_string()
    }

    fn lock(&self) -> Result<LockGuard, LedgerError> {
        match self.sink.lock(LOCK, LOCK_WAIT) {
            Ok(Some(guard)) => Ok(guard),
            Ok(None) => Err(LedgerError::Busy { path: self.place() }),
            Err(e) => Err(LedgerError::Write {
                path: self.place(),
                detail: e.to_string(),
            }),
        }
    }

    /// Reads what other processes appended; a writer that failed before is opened anew from what is on disk.
    fn refresh(&mut self) -> Result<(), LedgerError> {
        match self.writer.catch_up(self.source.as_ref()) {
            Ok(new) => self.take_stored(&new),
            Err(RawError::Closed) => {
                let mut stored = Vec::new();
                self.writer = LedgerWriter::open_with(
                    self.source.as_ref(),
                    self.identity.clone(),
                    &mut |e| stored.push(e.clone()),
                )
                .map_err(|e| worded(&self.place(), &e))?;
                self.entries.clear();
                self.take_stored(&stored)
            }
            Err(e) => Err(worded(&self.place(), &e)),
        }
    }

    fn take_stored(&mut self, new: &[raw::Entry]) -> Result<(), LedgerError> {
        for (i, entry) in new.iter().enumerate() {
            // An entry's hash stands in its successor; the last one's is the writer's.
            let sha256 = new
                .get(i + 1)
                .map_or_else(|| hex(self.writer.last_hash()), |next| hex(&next.prev));
            let entry = read(entry, sha256).map_err(|detail| LedgerError::Tampered {
                path: self.place(),
                detail,
            })?;
            self.entries.push(entry);
        }
        Ok(())
    }

    /// Appends as one batch. A torn tail that a crash left is set aside first, and told of.
    ///
    /// Without the epoch key nothing is appended: an entry that nobody can sign proves nothing.
    pub(super) fn append(&mut self, drafts: &[Draft]) -> Result<Vec<Entry>, LedgerError> {
        self.signer()?;
        let fencing = match self.fencing {
            Some(ours) if ours == self.writer.last_writer() => ours,
            _ => self.writer.last_writer() + 1,
        };
        self.set_torn_tail_aside(fencing)?;
        let new = drafts
            .iter()
            .map(|d| self.raw(d))
            .collect::<Result<Vec<_>, _>>()?;
        let refs = self
            .writer
            .append(self.sink.as_mut(), &new, fencing)
            .map_err(|e| worded(&self.place(), &e))?;
        self.fencing = Some(fencing);
        let last = self.entries.last().map(|e| e.time);
        let stored: Vec<Entry> = drafts
            .iter()
            .zip(&new)
            .zip(&refs)
            .map(|((draft, raw), at)| {
                let time = parse_time(&raw.time);
                let clock_back_ms = last
                    .map_or(0, |l| (l - time).num_milliseconds().max(0))
                    .unsigned_abs();
                Entry {
                    seq: at.seq,
                    time,
                    kind: draft.kind.clone(),
                    actor: draft.actor.clone(),
                    target: draft.target.clone(),
                    refs: draft.refs.clone(),
                    body: draft.body.clone(),
                    sha256: hex(&at.hash),
                    writer: fencing,
                    clock_back_ms,
                }
            })
            .collect();
        self.entries.extend(stored.iter().cloned());
        refs.iter().for_each(|at| fault::after_entry(at.seq));
        Ok(stored)
    }

    fn set_torn_tail_aside(&mut self, fencing: u64) -> Result<(), LedgerError> {
        let told = RecoveryEntry {
            time: millis(self.clock.now()),
            actor: raw_actor(&Actor::tool()),
            nonce: self.nonce()?,
        };
        let recovered = self
            .writer
            .recover(self.sink.as_mut(), self.source.as_ref(), told, fencing)
            .map_err(|e| worded(&self.place(), &e))?;
        if recovered.is_some() {
            // The recovery entry is read back like anybody's, so that there is one way in.
            let mut stored = Vec::new();
            LedgerWriter::open_with(self.source.as_ref(), self.identity.clone(), &mut |e| {
                stored.push(e.clone())
            })
            .map_err(|e| worded(&self.place(), &e))?;
            let new = stored.split_off(self.entries.len().min(stored.len()));
            self.take_stored(&new)?;
            self.fencing = Some(fencing);
        }
        Ok(())
    }

    fn raw(&self, draft: &Draft) -> Result<raw::NewEntry, LedgerError> {
        let refs = if draft.refs == Refs::default() {
            None
        } else {
            serde_json::to_value(&draft.refs).ok()
        };
        Ok(raw::NewEntry {
            kind: draft.kind.clone(),
            time: millis(self.clock.now()),
            actor: raw_actor(&draft.actor),
            target: draft.target.clone(),
            refs,
            body: draft.body.clone(),
            nonce: self.nonce()?,
        })
    }

    fn nonce(&self) -> Result<[u8; 16], LedgerError> {
        let mut nonce = [0; 16];
        self.random
            .fill(&mut nonce)
            .map_err(|e| LedgerError::Write {
                path: self.place(),
                detail: format!("no randomness: {e}"),
            })?;
        Ok(nonce)
    }

    fn sign_if_due(&mut self) -> Result<(), LedgerError> {
        let due = self
            .last_signed
            .is_none_or(|(at, _)| self.clock.monotonic().saturating_sub(at) >= SIGN_EVERY);
        if due && self.signer.is_some() {
            self.sign(Keep::No).map(|_| ())
        } else {
            Ok(())
        }
    }

    /// Signs the head. Only the holder of the epoch key can.
    pub(super) fn sign(&mut self, keep: Keep) -> Result<SignedCheckpoint, LedgerError> {
        let place = self.place();
        let signer = self.signer()?;
        let mut gate = self.gate()?;
        let sink = self.sink.as_mut();
        let signed = match keep {
            Keep::Yes => self
                .writer
                .checkpoint_kept(&mut gate, signer.as_ref(), sink),
            Keep::No => self.writer.checkpoint(&mut gate, signer.as_ref(), sink),
        }
        .map_err(|e| worded(&place, &e))?;
        self.last_signed = Some((self.clock.monotonic(), self.writer.size()));
        Ok(signed)
    }

    /// The one gate, read anew under the lock: another process may have signed since.
    pub(super) fn gate(&self) -> Result<SigningGate, LedgerError> {
        SigningGate::open(self.source.as_ref()).map_err(|e| {
            let (path, detail) = (self.place(), chain(&e));
            match e {
                GateError::Io(_) => LedgerError::Read { path, detail },
                _ => LedgerError::Tampered { path, detail },
            }
        })
    }

    pub(super) fn signer(&self) -> Result<Arc<SeedSigner>, LedgerError> {
        let closed = || self.entries.iter().any(|e| e.kind == kind::INCIDENT_CLOSED);
        self.signer.clone().ok_or_else(|| LedgerError::Write {
            path: self.place(),
            detail: if closed() {
                "the incident is closed: its key was erased".into()
            } else {
                "its key `state/epoch.key` is missing although the incident is not closed".into()
            },
        })
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

fn raw_mode(mode: Mode) -> raw::LedgerMode {
    match mode {
        Mode::Live => raw::LedgerMode::Live,
        Mode::Drill => raw::LedgerMode::Drill,
    }
}

fn raw_actor(actor: &Actor) -> raw::Actor {
    let kind = match actor.kind {
        ActorKind::Person => raw::ActorType::Person,
        ActorKind::Tool => raw::ActorType::Tool,
        ActorKind::Service => raw::ActorType::Service,
    };
    raw::Actor {
        kind,
        id: actor.id.clone(),
        key: actor.key.clone(),
    }
}

fn read(entry: &raw::Entry, sha256: String) -> Result<Entry, String> {
    let kind = match entry.actor.kind {
        raw::ActorType::Person => ActorKind::Person,
        raw::ActorType::Tool => ActorKind::Tool,
        raw::ActorType::Service => ActorKind::Service,
    };
    let refs = match &entry.refs {
        None => Refs::default(),
        Some(v) => serde_json::from_value(v.clone())
            .map_err(|e| format!("entry {}: its `refs` are not in their form: {e}", entry.seq))?,
    };
    Ok(Entry {
        seq: entry.seq,
        time: parse_time(&entry.time),
        kind: entry.kind.clone(),
        actor: Actor {
            kind,
            id: entry.actor.id.clone(),
            key: entry.actor.key.clone(),
        },
        target: entry.target.clone(),
        refs,
        body: entry.body.clone(),
        sha256,
        writer: entry.writer,
        clock_back_ms: entry.clock_back_ms.unwrap_or(0),
    })
}

/// Reads a time that the evidence crate has already checked; the epoch for what it has not.
fn parse_time(text: &str) -> chrono::DateTime<chrono::Utc> {
    DateTime::parse_from_rfc3339(text).map_or(DateTime::UNIX_EPOCH, |t| t.to_utc())
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn worded(place: &str, error: &RawError) -> LedgerError {
    let (path, detail) = (place.to_owned(), chain(error));
    match error {
        RawError::Tampered { .. } => LedgerError::Tampered { path, detail },
        RawError::Gate(gate) if is_tampering(gate) => LedgerError::Tampered { path, detail },
        RawError::Io { what, .. } if what.starts_with("read") || what.starts_with("list") => {
            LedgerError::Read { path, detail }
        }
        _ => LedgerError::Write { path, detail },
    }
}

/// Whether what the gate refuses was signed otherwise before: the stored heads are damaged, or the tree was set back or forked.
pub(super) fn is_tampering(gate: &GateError) -> bool {
    matches!(
        gate,
        GateError::Damaged(_) | GateError::Smaller { .. } | GateError::Fork { .. }
    )
}

/// The public key of a signer, for the opening entry.
pub(super) fn public_key(signer: &SeedSigner) -> [u8; 32] {
    signer.public_key()
}

#[cfg(all(test, feature = "adapters"))]
mod tests {
    use std::collections::BTreeMap;

    use firebreak_evidence::note::Fingerprint;
    use firebreak_evidence::source::DirSource;
    use firebreak_evidence::verify::{Given, Policy, verify};

    use super::*;
    use crate::adapter::store::DirStore;
    use crate::custody::{Custody, OpenRequest};
    use crate::incident::body::Note;
    use crate::port::{HostClock, HostRandom};

    /// Small files are loaded whole, up to 64 MiB; a ledger is no small file.
    #[test]
    fn a_ledger_of_more_than_64_mib_is_opened_appended_to_and_verified() {
        let place = std::env::temp_dir().join(format!("firebreak-long-{}", std::process::id()));
        _ = std::fs::remove_dir_all(&place);
        let store = || Box::new(DirStore::open(&place).expect("folder"));
        let (clock, random) = (Arc::new(HostClock::new()), Arc::new(HostRandom));
        let request = OpenRequest {
            id: IncidentId::parse("INC-LONG").expect("id"),
            mode: Mode::Live,
            org: "test.invalid".into(),
            targets: Vec::new(),
            policy: "solo".into(),
            trust: BTreeMap::new(),
            actor: Actor::person("me@here"),
        };
        let note = |bytes: usize| {
            let text = "x".repeat(bytes);
            Draft::new(kind::INCIDENT_NOTE, &Note { text, at: None })
        };
        let custody =
            Custody::create(store(), request, clock.clone(), random.clone()).expect("made");
        for _ in 0..11 {
            let batch = (0..100).map(|_| note(64_000)).collect();
            custody.ledger().append(batch).expect("appended");
        }
        drop(custody);
        let len = std::fs::metadata(place.join("ledger/ledger.jsonl")).map(|m| m.len());
        assert!(len.expect("there") > 64 * 1024 * 1024);
        let custody =
            Custody::open(store(), clock, random, &Actor::person("me@here")).expect("opened");
        custody.ledger().append(vec![note(1)]).expect("appended");
        custody.ledger().checkpoint().expect("signed");
        assert_eq!(custody.history().expect("read").entries.len(), 1102);
        let given = Given {
            fingerprints: vec![Fingerprint::parse(&custody.opened().fingerprint).expect("hex")],
            ..Given::default()
        };
        let source = DirSource::open(&place).expect("folder");
        assert_eq!(verify(&source, &Policy::default(), &given).exit, 0);
        std::fs::remove_dir_all(place).expect("clean");
    }
}
