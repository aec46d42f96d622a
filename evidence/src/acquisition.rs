//! `acquisition/<source>.json`: how one exhibit was acquired, by whom and under which authority.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// No record is longer.
pub const ACQUISITION_MAX: usize = 1024 * 1024;

/// The program that acquired.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// SHA-256 of the program, in hex; empty where it is not known.
    pub sha256: String,
}

/// The clock of the host against a reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// What it was compared with; `none` where it was not.
    pub reference: String,
    /// Host minus reference, in milliseconds.
    pub offset_ms: i64,
    /// When it was compared.
    pub measured: String,
}

/// How an acquisition ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndState {
    /// The source was read to its end.
    #[default]
    Complete,
    /// A limit was reached.
    Cap,
    /// The source failed.
    Error,
    /// The acquiring process died.
    Crash,
}

/// How an acquisition ended, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub state: EndState,
    /// Why; empty for a complete one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub why: String,
}

/// What the acquirer knows. The bag writer adds source, segments, bytes and records.
///
/// Secrets never enter: `command` holds references in their place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AcquisitionRecord {
    /// Exhibit number, for example `INC-2031/E-0007`.
    pub exhibit: String,
    /// What kind of thing it is, for example `pod-log`.
    pub kind: String,
    /// Ids of the system that it came from.
    pub system: Value,
    /// The real name of the source.
    pub original_name: String,
    /// How it was acquired.
    pub method: String,
    /// With which program.
    pub tool: Tool,
    /// With which command, secrets replaced by references.
    pub command: Vec<String>,
    /// When it began.
    pub started: String,
    /// When it ended.
    pub finished: String,
    /// The host's clock against a reference.
    pub clock: Clock,
    /// RFC 3227 rank, 1 (most volatile) to 7.
    pub volatility: u8,
    /// Who acquired it.
    pub acquired_by: String,
    /// Under which authority.
    pub authority: String,
    /// Whether it is under legal hold.
    pub legal_hold: bool,
    /// Traffic Light Protocol label.
    pub tlp: String,
    /// How it ended.
    pub ended: Ended,
    /// Checks made while it was taken in.
    pub ingest_checks: Vec<Value>,
    /// SHA-256 of the whole stream, where the acquirer computed it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub whole_sha256: Option<String>,
}

/// Records that were kept after a crash, past the last signed head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveredRange {
    /// First leaf past the last signed head.
    pub from: u64,
    /// One past the last kept leaf, a torn tail not counted.
    pub to: u64,
    /// Where the torn tail was moved, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tail: Option<String>,
}

/// The stored form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredAcquisition {
    /// Format version, 1.
    pub v: u64,
    /// Folder under `data/`.
    pub source: String,
    /// Its segments in order.
    pub segments: Vec<String>,
    /// Bytes in them.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
    /// What was recovered after a crash.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub recovered: Vec<RecoveredRange>,
    /// What the acquirer said.
    #[serde(flatten)]
    pub record: AcquisitionRecord,
}

/// Returns where the record of a source stands.
pub fn path_of(source: &str) -> String {
    format!("acquisition/{source}.json")
}
