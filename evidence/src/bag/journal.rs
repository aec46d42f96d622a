//! The journal of an open bag, `state/open-NNNN.jsonl`: what resuming needs and the bag itself does not say yet.
//!
//! One line an event, durable before what it announces. It never leaves the writer's host.

use super::{BagError, journal_path};
use crate::durable;
use crate::json;
use crate::record::Mode;
use crate::source::{BagSink, BagSource, read_if_there};
use serde::{Deserialize, Serialize};
use std::io;

const JOURNAL_MAX: u64 = 1024 * 1024 * 1024;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Event {
    /// The bag was opened. Always first.
    Open {
        v: u32,
        incident: String,
        bag: u32,
        origin: String,
        nonce: String,
    },
    /// A source begins.
    Source { name: String },
    /// A payload file begins; the one before is complete and durable.
    Segment { path: String, mode: Mode },
    /// The source is complete, its acquisition record durable.
    Finished { name: String },
    /// The bag was resumed after a crash inside a source or past the signed head.
    Recovered {
        from: u64,
        to: u64,
        tail: Option<String>,
    },
}

/// The journal as stored.
pub(super) struct Journal {
    pub(super) events: Vec<Event>,
    /// Bytes of whole lines.
    pub(super) bytes: u64,
}

impl Journal {
    /// Reads a journal; a torn last line never took effect and is left out.
    pub(super) fn read(source: &dyn BagSource, number: u32) -> Result<Option<Self>, BagError> {
        let path = journal_path(number);
        let Some(stored) =
            read_if_there(source, &path, JOURNAL_MAX).map_err(BagError::io(&path))?
        else {
            return Ok(None);
        };
        let whole = stored
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let lines = stored[..whole].split_inclusive(|b| *b == b'\n');
        let events = lines
            .map(serde_json::from_slice)
            .collect::<Result<Vec<_>, _>>();
        let events = events.map_err(|error| BagError::Tampered {
            path,
            what: error.to_string(),
        })?;
        Ok(Some(Self {
            events,
            bytes: whole as u64,
        }))
    }
}

/// Begins a journal, durable with its name.
pub(super) fn begin(sink: &mut dyn BagSink, number: u32, open: &Event) -> Result<(), BagError> {
    let path = journal_path(number);
    let line = json::canonical_line(open)?;
    let write = |sink: &mut dyn BagSink| -> io::Result<()> {
        durable::make_dir(sink, "state")?;
        durable::replace(sink, &path, &line)
    };
    write(sink).map_err(BagError::io(&path))
}

/// Appends one event, durable when this returns.
pub(super) fn append(sink: &mut dyn BagSink, number: u32, event: &Event) -> Result<(), BagError> {
    let path = journal_path(number);
    let line = json::canonical_line(event)?;
    sink.append(&path, &line)
        .and_then(|()| sink.sync_data(&path))
        .map_err(BagError::io(&path))
}

/// Puts the journal of a sealed bag aside.
pub(super) fn retire(sink: &mut dyn BagSink, number: u32) -> Result<(), BagError> {
    let path = journal_path(number);
    let done = format!("state/sealed-{number:04}.jsonl");
    sink.rename(&path, &done)
        .and_then(|()| sink.sync_dir("state"))
        .map_err(BagError::io(&path))
}
