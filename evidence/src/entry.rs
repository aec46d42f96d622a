//! One entry of the ledger: what a room hands in, what is stored, and how a stored line is read.

use crate::encoding::{Hash, hex, unhex};
use crate::json::{self, JsonError};
use crate::time::parse_millis;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// No line is longer, its LF included.
pub const LINE_MAX: usize = 65_535;

/// Whether the history is of a real incident or of a rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LedgerMode {
    /// A real incident.
    Live,
    /// A rehearsal.
    Drill,
}

/// What kind of actor did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorType {
    /// A human being.
    Person,
    /// firebreak itself or another program.
    Tool,
    /// A service that acted by itself.
    Service,
}

/// Who did something, by their own claim unless a key is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// What kind of actor.
    #[serde(rename = "type")]
    pub kind: ActorType,
    /// Who, for example `ana@laptop`.
    pub id: String,
    /// The key that they signed with, where they did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
}

/// What a room hands to the ledger; sequence, chain, incident and mode are filled in there.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEntry {
    /// Dotted name of what happened.
    pub kind: String,
    /// The host's claim of the time: UTC, RFC 3339 with milliseconds and `Z`.
    pub time: String,
    /// Who did it.
    pub actor: Actor,
    /// What was acted on, as a reference.
    pub target: Option<Value>,
    /// Links to run, step, approval, bag and so on.
    pub refs: Option<Value>,
    /// The fields of this kind. Digests and references only: secrets and bulk bytes never enter.
    pub body: Value,
    /// Fresh random bytes: they blind the hash of the line.
    pub nonce: [u8; 16],
}

/// Where an entry stands, once it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef {
    /// Its number, which is its leaf index.
    pub seq: u64,
    /// SHA-256 of the stored line with its LF: the next entry's `prev`.
    pub hash: Hash,
    /// Its leaf hash in the ledger's tree.
    pub leaf: Hash,
}

/// A stored entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number, from 0.
    pub seq: u64,
    /// SHA-256 of the stored line before; zeros first.
    pub prev: Hash,
    /// Which incident.
    pub incident: String,
    /// Live or drill.
    pub mode: LedgerMode,
    /// The host's claim of the time.
    pub time: String,
    /// The same in milliseconds since 1970.
    pub millis: i64,
    /// How far the clock stepped back since the entry before, where it did.
    pub clock_back_ms: Option<u64>,
    /// Fencing number of the process that wrote it.
    pub writer: u64,
    /// Random bytes.
    pub nonce: [u8; 16],
    /// Dotted name of what happened.
    pub kind: String,
    /// Who did it.
    pub actor: Actor,
    /// What was acted on.
    pub target: Option<Value>,
    /// Links to run, step, approval, bag and so on.
    pub refs: Option<Value>,
    /// The fields of this kind.
    pub body: Value,
    /// Fields that this version does not know: a finding, and no reason to stop.
    pub unknown: Vec<String>,
}

/// Why a line is not an entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Longer than [`LINE_MAX`].
    #[error("the line has {0} bytes, more than {LINE_MAX}")]
    TooLong(usize),
    /// Not the JSON that we allow.
    #[error("not JSON of the allowed kind: {0}")]
    Json(#[from] JsonError),
    /// Another version of the format.
    #[error("format version {0} is unknown")]
    Version(String),
    /// A field is absent or not in its form.
    #[error("field `{0}` is absent or not in its form")]
    Field(&'static str),
}

/// Where the writer puts an entry.
pub(crate) struct Place<'a> {
    pub(crate) seq: u64,
    pub(crate) prev: &'a Hash,
    pub(crate) incident: &'a str,
    pub(crate) mode: LedgerMode,
    pub(crate) writer: u64,
    pub(crate) last_millis: Option<i64>,
}

/// The stored form; RFC 8785 sorts the fields.
#[derive(Serialize)]
struct Stored<'a> {
    v: u64,
    seq: u64,
    prev: String,
    incident: &'a str,
    mode: LedgerMode,
    time: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_back_ms: Option<u64>,
    writer: u64,
    nonce: String,
    kind: &'a str,
    actor: &'a Actor,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refs: Option<&'a Value>,
    body: &'a Value,
}

impl NewEntry {
    /// Returns the line to store, with its LF, and its time in milliseconds.
    pub(crate) fn line(&self, place: &Place<'_>) -> Result<(Vec<u8>, i64), EntryError> {
        let millis = parse_millis(&self.time).ok_or(EntryError::Field("time"))?;
        if !is_kind(&self.kind) {
            return Err(EntryError::Field("kind"));
        }
        if self.refs.as_ref().is_some_and(|refs| !refs.is_object()) {
            return Err(EntryError::Field("refs"));
        }
        for value in self.target.iter().chain(&self.refs).chain([&self.body]) {
            json::check_integers(value)?;
        }
        let line = json::canonical_line(&Stored {
            v: 1,
            seq: place.seq,
            prev: hex(place.prev),
            incident: place.incident,
            mode: place.mode,
            time: &self.time,
            clock_back_ms: clock_back(place.last_millis, millis),
            writer: place.writer,
            nonce: hex(&self.nonce),
            kind: &self.kind,
            actor: &self.actor,
            target: self.target.as_ref(),
            refs: self.refs.as_ref(),
            body: &self.body,
        })?;
        if line.len() > LINE_MAX {
            return Err(EntryError::TooLong(line.len()));
        }
        Ok((line, millis))
    }
}

/// Returns how far the clock stepped back, if it did.
pub(crate) fn clock_back(last: Option<i64>, now: i64) -> Option<u64> {
    last.and_then(|last| u64::try_from(last - now).ok())
        .filter(|back| *back > 0)
}

/// Whether a kind is a dotted lower-case name.
pub fn is_kind(kind: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    kind.len() <= 64 && kind.split('.').all(part)
}

impl Entry {
    /// Reads a stored line with its LF.
    pub fn parse(line: &[u8]) -> Result<Self, EntryError> {
        if line.len() > LINE_MAX {
            return Err(EntryError::TooLong(line.len()));
        }
        let text = line.strip_suffix(b"\n").ok_or(EntryError::Field("LF"))?;
        let Value::Object(mut fields) = json::parse(text)? else {
            return Err(EntryError::Field("{}"));
        };
        match fields.remove("v") {
            Some(Value::Number(one)) if one.as_u64() == Some(1) => {}
            other => return Err(EntryError::Version(other.unwrap_or_default().to_string())),
        }
        let time = text_field(&mut fields, "time")?;
        let entry = Self {
            seq: number_field(&mut fields, "seq")?,
            prev: unhex(&text_field(&mut fields, "prev")?).ok_or(EntryError::Field("prev"))?,
            incident: text_field(&mut fields, "incident")?,
            mode: typed_field(&mut fields, "mode")?,
            millis: parse_millis(&time).ok_or(EntryError::Field("time"))?,
            time,
            clock_back_ms: match fields.contains_key("clock_back_ms") {
                true => Some(number_field(&mut fields, "clock_back_ms")?),
                false => None,
            },
            writer: number_field(&mut fields, "writer")?,
            nonce: unhex(&text_field(&mut fields, "nonce")?).ok_or(EntryError::Field("nonce"))?,
            kind: Some(text_field(&mut fields, "kind")?)
                .filter(|kind| is_kind(kind))
                .ok_or(EntryError::Field("kind"))?,
            actor: typed_field(&mut fields, "actor")?,
            target: fields.remove("target"),
            refs: fields.remove("refs"),
            body: fields.remove("body").ok_or(EntryError::Field("body"))?,
            unknown: fields.into_iter().map(|(name, _)| name).collect(),
        };
        Ok(entry)
    }
}

fn text_field(fields: &mut Map<String, Value>, name: &'static str) -> Result<String, EntryError> {
    match fields.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(EntryError::Field(name)),
    }
}

fn number_field(fields: &mut Map<String, Value>, name: &'static str) -> Result<u64, EntryError> {
    fields
        .remove(name)
        .and_then(|value| value.as_u64())
        .ok_or(EntryError::Field(name))
}

fn typed_field<T: serde::de::DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &'static str,
) -> Result<T, EntryError> {
    let value = fields.remove(name).ok_or(EntryError::Field(name))?;
    serde_json::from_value(value).map_err(|_| EntryError::Field(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry() -> NewEntry {
        NewEntry {
            kind: "incident.note".to_owned(),
            time: "2026-08-22T12:34:56.789Z".to_owned(),
            actor: Actor {
                kind: ActorType::Person,
                id: "ana@laptop".to_owned(),
                key: None,
            },
            target: None,
            refs: Some(json!({"run": "R-1"})),
            body: json!({"text": "hello"}),
            nonce: [0xab; 16],
        }
    }

    fn place(last_millis: Option<i64>) -> Place<'static> {
        Place {
            seq: 3,
            prev: &[0; 32],
            incident: "INC-1",
            mode: LedgerMode::Live,
            writer: 2,
            last_millis,
        }
    }

    #[test]
    fn a_line_is_canonical_and_reads_back() {
        let (line, millis) = entry().line(&place(None)).unwrap();
        let text = String::from_utf8(line.clone()).unwrap();
        assert!(text.starts_with(r#"{"actor":{"id":"ana@laptop","type":"person"},"body":{"text":"hello"},"incident":"INC-1","#));
        let read = Entry::parse(&line).unwrap();
        assert_eq!((read.seq, read.writer, read.millis), (3, 2, millis));
        assert_eq!(read.clock_back_ms, None);
        assert!(read.unknown.is_empty());
    }

    #[test]
    fn a_clock_that_steps_back_is_recorded() {
        let (line, millis) = entry().line(&place(None)).unwrap();
        drop(line);
        let (line, _) = entry().line(&place(Some(millis + 250))).unwrap();
        assert_eq!(Entry::parse(&line).unwrap().clock_back_ms, Some(250));
    }

    #[test]
    fn what_would_not_read_back_is_not_written() {
        let bad = [
            NewEntry {
                time: "2026-08-22T12:34:56Z".to_owned(),
                ..entry()
            },
            NewEntry {
                kind: "Bad Kind".to_owned(),
                ..entry()
            },
            NewEntry {
                body: json!({"x": 0.5}),
                ..entry()
            },
            NewEntry {
                refs: Some(json!([])),
                ..entry()
            },
            NewEntry {
                body: json!("x".repeat(LINE_MAX)),
                ..entry()
            },
        ];
        for entry in bad {
            assert!(entry.line(&place(None)).is_err(), "{}", entry.kind);
        }
    }

    #[test]
    fn unknown_fields_are_named_and_other_versions_refused() {
        let (line, _) = entry().line(&place(None)).unwrap();
        let text = String::from_utf8(line).unwrap();
        let more = text.replace("{\"actor\"", "{\"aa\":1,\"actor\"");
        assert_eq!(Entry::parse(more.as_bytes()).unwrap().unknown, ["aa"]);
        let newer = text.replace("\"v\":1", "\"v\":2");
        assert!(matches!(
            Entry::parse(newer.as_bytes()),
            Err(EntryError::Version(_))
        ));
        let twice = text.replace("\"v\":1", "\"v\":1,\"v\":1");
        assert!(matches!(
            Entry::parse(twice.as_bytes()),
            Err(EntryError::Json(_))
        ));
    }
}
