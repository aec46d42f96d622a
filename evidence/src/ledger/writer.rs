//! Appending to a ledger durably, and signing its heads.

use super::chain::{Chain, Line, Lines};
use super::{CHECKPOINT, CHECKPOINTS, LEDGER, LEDGER_KEY, RECOVERED, kept_checkpoint};
use crate::checkpoint::{Checkpoint, SignedCheckpoint, ledger_origin};
use crate::durable;
use crate::encoding::sha256;
use crate::entry::{Entry, EntryError, EntryRef, LedgerMode, NewEntry, Place};
use crate::gate::{GateError, SigningGate};
use crate::note::{self, NOTE_MAX, Signer};
use crate::source::{BagSink, BagSource, read_if_there};
use std::collections::BTreeSet;
use std::io;

/// Which ledger this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerIdentity {
    /// Id of the incident, drill or catalog.
    pub incident: String,
    /// Live or drill.
    pub mode: LedgerMode,
    /// Base origin, for example `ir.example.org/inc-2031`.
    pub base_origin: String,
}

/// The bytes after the last whole line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Where they begin in the file.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Why the ledger was not written. Every failure is fatal for the act that needed the entry.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A read or write failed.
    #[error("cannot {what} the ledger")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// What is stored is not what was written or signed.
    #[error("the ledger is TAMPERED at entry {seq}: {what}")]
    Tampered {
        /// At which entry.
        seq: u64,
        /// What is wrong.
        what: String,
    },
    /// The last write was cut: [`LedgerWriter::recover`] it first.
    #[error("the ledger ends in a torn line of {0} bytes; recover it first")]
    Torn(usize),
    /// Another process has taken over writing.
    #[error("fencing number {writer} is below {last}: another process writes now")]
    Fenced {
        /// The number that was used.
        writer: u64,
        /// The highest one in the ledger.
        last: u64,
    },
    /// An entry is not in its form.
    #[error("the entry cannot be written")]
    Entry(#[from] EntryError),
    /// An earlier write failed: open the ledger again.
    #[error("an earlier write failed; open the ledger again")]
    Closed,
    /// The head was not signed.
    #[error("the head of the ledger was not signed")]
    Gate(#[from] GateError),
}

impl LedgerError {
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// The writing end of a ledger.
///
/// *Flow*: under the caller's lock: open or [`catch_up`](Self::catch_up), [`append`](Self::append), sign if due,
/// unlock. *Guarantees*: an entry that was acknowledged is durable and chained; a head that was signed is reproduced
/// by what is stored, or opening fails as tampered. *Caveats*: after any failed write the writer is closed.
#[derive(Debug)]
pub struct LedgerWriter {
    pub(super) identity: LedgerIdentity,
    pub(super) chain: Chain,
    /// Bytes of whole lines.
    pub(super) bytes: u64,
    pub(super) torn: Option<Torn>,
    /// Names under `ledger/recovered/` that an entry tells of, and those that none does yet.
    pub(super) logged: BTreeSet<String>,
    pub(super) unlogged: BTreeSet<String>,
    /// Size of the newest head that was signed or was about to be, when opened.
    pub(super) signed_size: u64,
    exists: bool,
    /// Whether lines may be stored that are not known to be durable.
    unsynced: bool,
    key_written: bool,
    closed: bool,
}

impl LedgerWriter {
    /// Opens the ledger of an incident folder, or begins one.
    ///
    /// The chain is read whole. It must reproduce `ledger/checkpoint` and the highest signed head in `state/`.
    pub fn open(source: &dyn BagSource, identity: LedgerIdentity) -> Result<Self, LedgerError> {
        Self::open_with(source, identity, &mut |_| ())
    }

    /// Opens the ledger and hands each stored entry to `each`, in order.
    pub fn open_with(
        source: &dyn BagSource,
        identity: LedgerIdentity,
        each: &mut dyn FnMut(&Entry),
    ) -> Result<Self, LedgerError> {
        let io = LedgerError::io;
        let signed = signed_heads(source, &identity)?;
        let mut writer = Self {
            chain: Chain::of(&identity.incident, identity.mode),
            identity,
            bytes: 0,
            torn: None,
            logged: BTreeSet::new(),
            unlogged: BTreeSet::new(),
            signed_size: signed.iter().map(|head| head.size).max().unwrap_or(0),
            exists: false,
            unsynced: true,
            key_written: false,
            closed: false,
        };
        signed.iter().for_each(|head| writer.chain.want(head.size));
        let listed = source.list().map_err(io("list"))?;
        writer.exists = listed.iter().any(|item| item.path == LEDGER);
        if writer.exists {
            writer.read_from(source, each)?;
        }
        for head in signed {
            if writer.chain.root_at(head.size) != Some(head.root) {
                let what = format!(
                    "it does not reproduce the signed head of size {}",
                    head.size
                );
                return Err(LedgerError::Tampered {
                    seq: writer.chain.size().min(head.size),
                    what,
                });
            }
        }
        let recovered = listed
            .iter()
            .filter_map(|item| item.path.strip_prefix(RECOVERED)?.strip_prefix('/'));
        writer.unlogged = recovered
            .map(str::to_owned)
            .filter(|name| !writer.logged.contains(name))
            .collect();
        Ok(writer)
    }

    /// Reads what another process has appended since, and returns those entries.
    pub fn catch_up(&mut self, source: &dyn BagSource) -> Result<Vec<Entry>, LedgerError> {
        self.check_open()?;
        let len = match source.len(LEDGER) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.exists => {
                return Ok(Vec::new());
            }
            len => len.map_err(LedgerError::io("read"))?,
        };
        if len < self.bytes {
            let what = format!("it shrank from {} to {len} bytes", self.bytes);
            return Err(LedgerError::Tampered {
                seq: self.chain.size(),
                what,
            });
        }
        self.exists = true;
        self.torn = None;
        let mut new = Vec::new();
        self.read_from(source, &mut |entry| new.push(entry.clone()))?;
        self.unsynced |= !new.is_empty();
        Ok(new)
    }

    /// Reads from the last whole line on.
    fn read_from(
        &mut self,
        source: &dyn BagSource,
        each: &mut dyn FnMut(&Entry),
    ) -> Result<(), LedgerError> {
        let mut lines = Lines::new(source, LEDGER, self.bytes);
        while let Some(line) = lines.next_line().map_err(LedgerError::io("read"))? {
            match line {
                Line::Whole(line) => self.take(&line, each)?,
                Line::Torn(bytes) => {
                    self.torn = Some(Torn {
                        offset: self.bytes,
                        bytes,
                    })
                }
                Line::TooLong => {
                    let what = "a line is longer than any that is written".to_owned();
                    return Err(LedgerError::Tampered {
                        seq: self.chain.size(),
                        what,
                    });
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, line: &[u8], each: &mut dyn FnMut(&Entry)) -> Result<(), LedgerError> {
        let mut first = None;
        let entry = self
            .chain
            .take(line, &mut |fault| _ = first.get_or_insert(fault));
        if let Some(fault) = first {
            let what = format!(
                "{}: expected {}, found {}",
                fault.what, fault.expected, fault.found
            );
            return Err(LedgerError::Tampered {
                seq: fault.seq,
                what,
            });
        }
        if let Some(entry) = entry {
            if entry.kind == "ledger.recovered"
                && let Some(file) = entry.body.get("file").and_then(|file| file.as_str())
            {
                self.logged.insert(file.to_owned());
            }
            each(&entry);
        }
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Returns which ledger this is.
    pub fn identity(&self) -> &LedgerIdentity {
        &self.identity
    }

    /// Returns how many entries are stored.
    pub fn size(&self) -> u64 {
        self.chain.size()
    }

    /// Returns the root over them.
    pub fn root(&self) -> crate::encoding::Hash {
        self.chain.root()
    }

    /// Returns the hash of the last stored line; zeros before the first.
    pub fn last_hash(&self) -> &crate::encoding::Hash {
        self.chain.prev()
    }

    /// Returns the fencing number of the last entry; 0 before the first. A process that takes over uses one more.
    pub fn last_writer(&self) -> u64 {
        self.chain.last_writer()
    }

    /// Returns the bytes of a write that was cut, if there are some.
    pub fn torn(&self) -> Option<&Torn> {
        self.torn.as_ref()
    }

    /// Appends entries: one write of whole lines, one sync; only then are they acknowledged.
    ///
    /// A crash before the sync leaves some of the lines, or a part of one, which is then torn.
    #[must_use = "an entry counts only once this says Ok"]
    pub fn append(
        &mut self,
        sink: &mut dyn BagSink,
        entries: &[NewEntry],
        writer: u64,
    ) -> Result<Vec<EntryRef>, LedgerError> {
        self.check_open()?;
        if let Some(torn) = &self.torn {
            return Err(LedgerError::Torn(torn.bytes.len()));
        }
        if writer < self.chain.last_writer() {
            return Err(LedgerError::Fenced {
                writer,
                last: self.chain.last_writer(),
            });
        }
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let mut next = self.chain.clone();
        let mut bytes = Vec::with_capacity(entries.len() * 512);
        let mut refs = Vec::with_capacity(entries.len());
        for entry in entries {
            let (line, millis) = entry.line(&Place {
                seq: next.size(),
                prev: next.prev(),
                incident: &self.identity.incident,
                mode: self.identity.mode,
                writer,
                last_millis: next.last_millis(),
            })?;
            let seq = next.size();
            let leaf = next.grow(&line);
            next.wrote(millis, writer);
            refs.push(EntryRef {
                seq,
                hash: *next.prev(),
                leaf,
            });
            bytes.extend_from_slice(&line);
        }
        // Closed until the bytes are known to be durable: what a failed write leaves is found by opening again.
        self.closed = true;
        self.store(sink, &bytes)
            .map_err(LedgerError::io("append to"))?;
        self.closed = false;
        self.chain = next;
        self.bytes += bytes.len() as u64;
        Ok(refs)
    }

    fn store(&mut self, sink: &mut dyn BagSink, bytes: &[u8]) -> io::Result<()> {
        if !self.exists {
            durable::make_dir(sink, "ledger")?;
            sink.create(LEDGER)?;
            sink.sync_dir("ledger")?;
            self.exists = true;
        }
        sink.append(LEDGER, bytes)?;
        sink.sync_data(LEDGER)?;
        self.unsynced = false;
        Ok(())
    }

    /// Signs the head and replaces `ledger/checkpoint`.
    ///
    /// The head is durable in `state/` before it is signed; a crash in between leaves it unsigned, to be signed next time.
    pub fn checkpoint(
        &mut self,
        gate: &mut SigningGate,
        signer: &dyn Signer,
        sink: &mut dyn BagSink,
    ) -> Result<SignedCheckpoint, LedgerError> {
        let signed = self.sign(gate, signer, sink)?;
        durable::replace(sink, CHECKPOINT, signed.note.as_bytes())
            .map_err(LedgerError::io("write the checkpoint of"))?;
        Ok(signed)
    }

    /// Signs the head, keeps it for ever under `ledger/checkpoints/`, and replaces `ledger/checkpoint`.
    pub fn checkpoint_kept(
        &mut self,
        gate: &mut SigningGate,
        signer: &dyn Signer,
        sink: &mut dyn BagSink,
    ) -> Result<SignedCheckpoint, LedgerError> {
        let io = LedgerError::io;
        let signed = self.sign(gate, signer, sink)?;
        durable::make_dir(sink, CHECKPOINTS).map_err(io("keep a checkpoint of"))?;
        let kept = kept_checkpoint(signed.checkpoint.size);
        durable::replace(sink, &kept, signed.note.as_bytes())
            .map_err(io("keep a checkpoint of"))?;
        durable::replace(sink, CHECKPOINT, signed.note.as_bytes())
            .map_err(io("write the checkpoint of"))?;
        Ok(signed)
    }

    fn sign(
        &mut self,
        gate: &mut SigningGate,
        signer: &dyn Signer,
        sink: &mut dyn BagSink,
    ) -> Result<SignedCheckpoint, LedgerError> {
        self.check_open()?;
        if self.exists && self.unsynced {
            // Lines of a process that died may be in the page cache only; a signed head must never outlive them.
            self.closed = true;
            sink.sync_data(LEDGER).map_err(LedgerError::io("sync"))?;
            (self.closed, self.unsynced) = (false, false);
        }
        if !self.exists {
            durable::make_dir(sink, "ledger").map_err(LedgerError::io("make the folder of"))?;
        }
        if !self.key_written {
            let pem = note::pem(&signer.public_key());
            durable::replace(sink, LEDGER_KEY, pem.as_bytes())
                .map_err(LedgerError::io("write the key of"))?;
            self.key_written = true;
        }
        let origin = ledger_origin(&self.identity.base_origin);
        let head = Checkpoint {
            origin,
            size: self.size(),
            root: self.root(),
        };
        Ok(gate.sign(sink, head, signer)?)
    }

    pub(super) fn check_open(&self) -> Result<(), LedgerError> {
        if self.closed {
            Err(LedgerError::Closed)
        } else {
            Ok(())
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn reopen(&mut self) {
        self.closed = false;
    }
}

/// The heads that the stored lines must reproduce: the newest checkpoint, and the gate's, which may be newer.
fn signed_heads(
    source: &dyn BagSource,
    identity: &LedgerIdentity,
) -> Result<Vec<Checkpoint>, LedgerError> {
    let mut heads = Vec::new();
    if let Some(bytes) = read_if_there(source, CHECKPOINT, NOTE_MAX as u64)
        .map_err(LedgerError::io("read the checkpoint of"))?
    {
        let body = note::split_note(&bytes).ok().map(|(body, _)| body);
        let head = body.and_then(Checkpoint::parse);
        heads.push(head.ok_or_else(|| LedgerError::Tampered {
            seq: 0,
            what: format!("`{CHECKPOINT}` is not a checkpoint"),
        })?);
    }
    let gate = SigningGate::open(source).map_err(|error| match error {
        GateError::Io(source) => LedgerError::Io {
            what: "read the signed heads of",
            source,
        },
        other => LedgerError::Gate(other),
    })?;
    heads.extend(gate.head(&ledger_origin(&identity.base_origin)).cloned());
    Ok(heads)
}

/// Returns the hash that a `ledger.recovered` entry and its file agree on.
pub(super) fn torn_hash(bytes: &[u8]) -> String {
    crate::encoding::hex(&sha256(bytes))
}
