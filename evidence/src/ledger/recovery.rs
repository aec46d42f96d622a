//! What happens to a torn last line: it is moved, hashed and told of, never dropped.

use super::writer::{LedgerError, LedgerWriter, torn_hash};
use super::{LEDGER, RECOVERED};
use crate::durable;
use crate::entry::{Actor, EntryRef, NewEntry};
use crate::source::{BagSink, BagSource, read_all};
use serde_json::json;
use std::io;

/// A tail is shorter than this, or the ledger would not have opened.
const TAIL_MAX: u64 = 1024 * 1024;

/// What the recovery entry needs from outside.
#[derive(Clone, Debug)]
pub struct RecoveryEntry {
    /// The host's claim of the time.
    pub time: String,
    /// Who recovers.
    pub actor: Actor,
    /// Fresh random bytes.
    pub nonce: [u8; 16],
}

/// What was recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Name under `ledger/recovered/`.
    pub file: String,
    /// How many bytes were torn.
    pub bytes: u64,
    /// The entry that tells of it.
    pub entry: EntryRef,
}

impl LedgerWriter {
    /// Moves a torn last line to `ledger/recovered/` and writes a `ledger.recovered` entry. Without one it does nothing.
    ///
    /// *Crash safety*: the copy is durable before the line is cut; a copy that no entry tells of yet is told of by the
    /// next call. Running it again is safe.
    pub fn recover(
        &mut self,
        sink: &mut dyn BagSink,
        source: &dyn BagSource,
        told: RecoveryEntry,
        writer: u64,
    ) -> Result<Option<Recovered>, LedgerError> {
        self.check_open()?;
        let file = match self.torn.take() {
            Some(torn) => {
                // A name that no copy has: one that no entry tells of yet must never be written over.
                let file = (self.logged.len()..)
                    .map(|n| format!("{n:05}"))
                    .find(|name| !self.logged.contains(name) && !self.unlogged.contains(name))
                    .unwrap_or_default();
                // Closed until the cut is durable: opening again finds the torn line or the copy.
                self.close();
                move_tail(sink, &file, torn.offset, &torn.bytes)
                    .map_err(LedgerError::io("recover"))?;
                self.reopen();
                self.unlogged.insert(file.clone());
                Some((file, torn.bytes))
            }
            None => self
                .unlogged
                .first()
                .cloned()
                .map(|file| {
                    let bytes = read_all(source, &format!("{RECOVERED}/{file}"), TAIL_MAX);
                    bytes
                        .map(|bytes| (file, bytes))
                        .map_err(LedgerError::io("read the recovered tail of"))
                })
                .transpose()?,
        };
        let Some((file, bytes)) = file else {
            return Ok(None);
        };
        let body = json!({
            "file": file,
            "bytes": bytes.len(),
            "sha256": torn_hash(&bytes),
            "from": self.signed_size,
            "to": self.size(),
        });
        let RecoveryEntry { time, actor, nonce } = told;
        let entry = NewEntry {
            kind: "ledger.recovered".to_owned(),
            time,
            actor,
            target: None,
            refs: None,
            body,
            nonce,
        };
        let entry = self.append(sink, &[entry], writer)?[0];
        self.unlogged.remove(&file);
        self.logged.insert(file.clone());
        Ok(Some(Recovered {
            file,
            bytes: bytes.len() as u64,
            entry,
        }))
    }
}

fn move_tail(sink: &mut dyn BagSink, file: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
    durable::make_dir(sink, RECOVERED)?;
    let path = format!("{RECOVERED}/{file}");
    sink.create(&path)?;
    sink.append(&path, bytes)?;
    sink.sync_data(&path)?;
    sink.sync_dir(RECOVERED)?;
    sink.truncate(LEDGER, offset)?;
    sink.sync_data(LEDGER)
}
