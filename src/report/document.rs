//! The incident document as a value: what every format renders, and what `incident.json` is.
//!
//! What is not known is said: a time is `null` with `basis: "unknown"`, a measure is `not measurable` with what is missing. It is
//! never 0. Texts stand here as they were written; each format escapes them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::incident::body::Proof;
use crate::incident::rotate::RotationStatus;
use crate::incident::{Lane, Milestone, Mode, Phase};

pub use super::metrics::{
    Class, Measure, Metric, Metrics, Objective, Part, PathPart, Split, Verdict,
};
pub use super::story::{Approval, Resolution, RunStory, StepState, StepStory};

/// Version of the JSON form.
pub const SCHEMA: &str = "firebreak/incident-document/v1";

/// Where a fact is proven: an entry of the ledger and the digest of its stored line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Cite {
    /// Entry number.
    pub seq: u64,
    /// SHA-256 (hex) of the stored line with its line feed.
    pub sha256: String,
}

/// The whole document.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct IncidentDocument {
    /// [`SCHEMA`].
    pub schema: String,
    /// Section 0.
    pub control: Control,
    /// What people wrote or must still write, by section, the lessons learned included.
    pub texts: Vec<Prose>,
    /// Section 2: severity and phase as declared.
    pub classification: Classification,
    /// Section 3.
    pub key_times: Vec<KeyTime>,
    /// Section 4.
    pub metrics: Metrics,
    /// Section 6.
    pub timeline: Vec<Line>,
    /// Section 7: minutes down as measured.
    pub downtime: Vec<Downtime>,
    /// Section 9: runs and their steps.
    pub runs: Vec<RunStory>,
    /// Section 9: what was proven about containment, and what was not.
    pub containment: Containment,
    /// Section 9: what was rotated, with proof, and what is not proven.
    pub rotations: Vec<RotationStory>,
    /// Section 10.
    pub exhibits: Vec<ExhibitRow>,
    /// Section 10: bags.
    pub bags: Vec<BagRow>,
    /// Section 12.
    pub communications: Vec<Message>,
    /// Section 16.
    pub actions: Vec<ActionItem>,
    /// Section 17: playbooks in force.
    pub playbooks: Vec<PlaybookUsed>,
    /// Facts for the lessons learned.
    pub lessons: Lessons,
    /// What is open, and what contradicts itself.
    pub findings: Vec<Finding>,
}

/// Section 0.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Control {
    /// Incident id.
    pub incident: String,
    /// Title as declared.
    pub title: Option<String>,
    /// TLP marking.
    pub tlp: Option<String>,
    /// Live or drill.
    pub mode: Mode,
    /// `draft`: this version of the tool has no review workflow, so no document says more of itself.
    pub status: String,
    /// Counts the documents that were built, this one included.
    pub version: u64,
    /// The document shows what was known at this time (RFC 3339).
    pub as_of: String,
    /// Who wrote text, in order of their first text.
    pub authors: Vec<String>,
    /// `solo` (identities are self-asserted) or `team`.
    pub policy: Option<String>,
    /// Origin of the ledger's notes.
    pub origin: Option<String>,
    /// Targets, one line each.
    pub targets: Vec<String>,
    /// Ledger head.
    pub ledger: LedgerHead,
    /// Tool and version that built the document.
    pub tool: String,
}

/// The ledger that the document is a view of.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct LedgerHead {
    /// Entries covered.
    pub entries: u64,
    /// The last of them.
    pub last: Option<Cite>,
    /// Base64 Merkle root over all of them.
    pub root: String,
    /// Fingerprint (64 hex) of the key that signs it.
    pub fingerprint: String,
    /// Pinned trust files with their digests.
    pub trust: BTreeMap<String, String>,
}

/// A section's text.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Prose {
    /// Section key.
    pub section: String,
    /// Its title.
    pub title: String,
    /// One line of guidance.
    pub guidance: String,
    /// The text in force; `null` = to be written.
    pub written: Option<Written>,
    /// Earlier texts that were superseded.
    pub superseded: Vec<Cite>,
}

/// What a person wrote.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Written {
    /// The text; `null` when the file with this digest is not there.
    pub text: Option<String>,
    /// Its digest as entered.
    pub sha256: String,
    /// Who.
    pub author: String,
    /// When (RFC 3339).
    pub time: String,
    /// Entry.
    pub cite: Cite,
}

/// Section 2.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Classification {
    /// Severity at declaration; `null` = not declared.
    pub severity: Option<String>,
    /// Phase at declaration.
    pub declared_in: Option<Phase>,
    /// Who or what signalled it, as entered.
    pub source: Option<String>,
    /// The declaration.
    pub cite: Option<Cite>,
}

/// One key time.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct KeyTime {
    /// Which.
    pub milestone: Milestone,
    /// Tier it is about, if one.
    pub tier: Option<u8>,
    /// RFC 3339; `null` = unknown.
    pub at: Option<String>,
    /// What it rests on: `statement`, `step`, `declaration`, `closing` or `unknown`.
    pub basis: String,
    /// Only a person may state it.
    pub person_only: bool,
    /// A person's confidence.
    pub confidence: Option<String>,
    /// Who recorded it.
    pub actor: Option<String>,
    /// When it was recorded.
    pub recorded: Option<String>,
    /// Entry.
    pub cite: Option<Cite>,
    /// Other entries for the same milestone.
    pub others: Vec<Cite>,
}

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Line {
    /// When it happened, if the entry says so apart from its own time.
    pub occurred: Option<String>,
    /// When it was seen.
    pub observed: String,
    /// When it was written to the ledger.
    pub recorded: String,
    /// Who.
    pub actor: String,
    /// Entry kind.
    pub kind: String,
    /// Lane of the picture.
    pub lane: Lane,
    /// Step it belongs to.
    pub step: Option<String>,
    /// What happened.
    pub what: String,
    /// True for what a person adds in words.
    pub annotation: bool,
    /// The host's clock had gone back by so many milliseconds; 0 if it had not.
    pub clock_back_ms: u64,
    /// Proof.
    pub cite: Cite,
}

/// Minutes down of one tier (or of all).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Downtime {
    /// Tier; `null` = as a whole.
    pub tier: Option<u8>,
    /// From the start of the impact to `restored`.
    pub down: Measure,
}

/// What is proven about containment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Containment {
    /// Proof tables in order.
    pub proofs: Vec<ProofRow>,
    /// Canaries.
    pub canaries: Vec<CanaryRow>,
    /// What a contained pod may still reach or be reached by, each with its pod.
    pub residual_reach: Vec<Residual>,
    /// What was not proven, each with its pod.
    pub not_proven: Vec<Residual>,
    /// Credentials that a contained pod could use: names only, to be rotated.
    pub credentials: Vec<CredentialRow>,
}

/// A rotation.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RotationStory {
    /// SHA-256 of the plan.
    pub plan_sha256: String,
    /// Account.
    pub account: String,
    /// `graceful`, `emergency` or `mixed`.
    pub mode: String,
    /// The selection as CEL.
    pub selector: String,
    /// When it was planned (RFC 3339).
    pub planned: String,
    /// Run that carries it out.
    pub run: String,
    /// Where each credential stands; `null` = the pinned plan is not there.
    pub status: Option<RotationStatus>,
    /// Entry.
    pub cite: Cite,
}

/// A proof table with its entry.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ProofRow {
    /// The table.
    pub proof: Proof,
    /// When.
    pub time: String,
    /// Entry.
    pub cite: Cite,
}

/// A canary.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CanaryRow {
    /// Node.
    pub node: String,
    /// `enforced`, `unenforced`, `not-run`.
    pub verdict: String,
    /// What was seen.
    pub seen: Vec<String>,
    /// Why it was not run.
    pub why: Option<String>,
    /// Entry.
    pub cite: Cite,
}

/// Something that is left.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Residual {
    /// Pod or node.
    pub subject: String,
    /// What.
    pub what: String,
    /// Entry.
    pub cite: Cite,
}

/// A credential to rotate.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CredentialRow {
    /// Pod that could use it.
    pub pod: String,
    /// `service account`, `cloud role` or `secret`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// How the pod gets it.
    pub through: Vec<String>,
    /// Entry.
    pub cite: Cite,
}

/// An exhibit.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ExhibitRow {
    /// Exhibit number.
    pub exhibit: String,
    /// Bag.
    pub bag: String,
    /// What it is.
    pub description: String,
    /// Kind.
    pub category: String,
    /// Folder under `data/`.
    pub source: String,
    /// Where it came from.
    pub system: BTreeMap<String, String>,
    /// How it was acquired.
    pub method: String,
    /// `low` when the suspect's own tools produced it.
    pub trust: Option<String>,
    /// Acquired by.
    pub acquired_by: String,
    /// Bytes.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// SHA-256 of the whole when it is one segment; else the bag's seal covers each segment.
    pub sha256: Option<String>,
    /// `complete`, `cap`, `error` or `crash`.
    pub ended: String,
    /// Why, where it is not complete.
    pub why: Option<String>,
    /// RFC 3227 rank.
    pub volatility: u8,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339.
    pub finished: String,
    /// Entry.
    pub cite: Cite,
}

/// A bag.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BagRow {
    /// Four digits.
    pub bag: String,
    /// What it is for.
    pub purpose: Option<String>,
    /// SHA-256 of its seal note; `null` = not sealed.
    pub seal_sha256: Option<String>,
    /// Payload bytes, once sealed.
    pub bytes: Option<u64>,
    /// Payload files, once sealed.
    pub files: Option<u64>,
    /// Records, once sealed.
    pub records: Option<u64>,
    /// Recovered ranges, once sealed.
    pub recoveries: Option<u64>,
    /// Last verdict of the verifier; `null` = never verified by this ledger.
    pub verdict: Option<String>,
    /// Exit code of that verification.
    pub exit: Option<u8>,
    /// Entries.
    pub cites: Vec<Cite>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Message {
    /// Roles.
    pub to: Vec<String>,
    /// Channel.
    pub channel: String,
    /// Text as shown.
    pub text: String,
    /// When.
    pub time: String,
    /// `sent` or `failed`.
    pub outcome: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Entry.
    pub cite: Cite,
}

/// A post-incident action that the facts demand.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ActionItem {
    /// `prevent`, `detect`, `respond` or `recover`.
    pub kind: String,
    /// What to do.
    pub what: String,
    /// Why: the fact that demands it.
    pub because: String,
    /// Entry, where one demands it.
    pub cite: Option<Cite>,
}

/// A playbook that was in force.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PlaybookUsed {
    /// Id.
    pub playbook: String,
    /// Version.
    pub version: u64,
    /// Digest of its exact bytes.
    pub playbook_sha256: String,
    /// Digest of the plan.
    pub plan_sha256: String,
    /// Digest over trust files and policy.
    pub trust_sha256: String,
    /// Run.
    pub run: String,
}

/// Facts for the lessons learned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Lessons {
    /// Planned against actual time of each step that ran.
    pub times: Vec<StepTime>,
    /// Steps that a person did by hand.
    pub by_hand: Vec<StepRef>,
    /// Failed, in doubt and stuck steps.
    pub troubled: Vec<StepRef>,
    /// Approvals whose time ran out.
    pub expired: Vec<StepRef>,
    /// Deadlines that went by.
    pub late: Vec<StepRef>,
    /// Actions that no playbook holds.
    pub off_script: Vec<StepRef>,
    /// Messages that could not be sent.
    pub unsent: Vec<StepRef>,
}

/// Planned against actual.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StepTime {
    /// Path.
    pub path: String,
    /// Name.
    pub name: String,
    /// Expected seconds; `null` = the plan did not say.
    pub expected_s: Option<u64>,
    /// From first start to last end.
    pub actual: Measure,
}

/// A step (or an entry outside any step) and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StepRef {
    /// Path, if it belongs to a step.
    pub path: Option<String>,
    /// What.
    pub what: String,
    /// Entry.
    pub cite: Option<Cite>,
}

/// What `report check` prints.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Finding {
    /// Stable code, `FB1001` and up.
    pub code: String,
    /// `open` (a person must write) or `contradiction`.
    pub kind: FindingKind,
    /// Section key.
    pub section: String,
    /// What.
    pub message: String,
    /// Entry, where one shows it.
    pub cite: Option<Cite>,
}

/// Two kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FindingKind {
    /// A person must write or state something.
    Open,
    /// Facts do not fit together.
    Contradiction,
}

impl IncidentDocument {
    /// The key time of `milestone` for the incident as a whole.
    pub fn key_time(&self, milestone: Milestone) -> Option<&KeyTime> {
        self.key_times
            .iter()
            .find(|k| k.milestone == milestone && k.tier.is_none())
    }
    /// The text of a section.
    pub fn text(&self, key: &str) -> Option<&Prose> {
        self.texts.iter().find(|t| t.section == key)
    }
    /// True when it is an exercise.
    pub fn is_drill(&self) -> bool {
        self.control.mode == Mode::Drill
    }
}
