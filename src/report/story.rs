//! The part of the document that tells what was done: runs, steps, and who decided.

use schemars::JsonSchema;
use serde::Serialize;

use crate::incident::{Effect, Mode, Phase};

use super::document::Cite;

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RunStory {
    /// Run id.
    pub run: String,
    /// Playbook id and version.
    pub playbook: String,
    /// Live or drill.
    pub mode: Mode,
    /// `solo` or `team`.
    pub policy: String,
    /// Who ran it.
    pub executor: String,
    /// Created at.
    pub created: String,
    /// Ended at.
    pub ended: Option<String>,
    /// `completed`, `stopped`, `parked` or `open`.
    pub how: String,
    /// Why it was stopped or is parked.
    pub why: Option<String>,
    /// How often it was resumed.
    pub resumed: u64,
    /// Steps in playbook order.
    pub steps: Vec<StepStory>,
    /// Entry.
    pub cite: Cite,
}

/// State of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum StepState {
    /// It happened.
    #[serde(rename = "done")]
    Done,
    /// It did not happen.
    #[serde(rename = "failed")]
    Failed,
    /// It may have happened.
    #[serde(rename = "in doubt")]
    InDoubt,
    /// It was reversed.
    #[serde(rename = "undone")]
    Undone,
    /// Its undo failed.
    #[serde(rename = "stuck")]
    Stuck,
    /// It was left out, with a reason.
    #[serde(rename = "skipped")]
    Skipped,
    /// It waits for a decision.
    #[serde(rename = "waiting")]
    Waiting,
    /// It began and has not ended.
    #[serde(rename = "running")]
    Running,
    /// It never began.
    #[serde(rename = "not reached")]
    NotReached,
}

impl StepState {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Done => "done",
            StepState::Failed => "failed",
            StepState::InDoubt => "in doubt",
            StepState::Undone => "undone",
            StepState::Stuck => "stuck",
            StepState::Skipped => "skipped",
            StepState::Waiting => "waiting",
            StepState::Running => "running",
            StepState::NotReached => "not reached",
        }
    }
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StepStory {
    /// Path.
    pub path: String,
    /// Name.
    pub name: String,
    /// Step kind.
    pub kind: String,
    /// Action or program.
    pub what: Option<String>,
    /// Phase.
    pub phase: Option<Phase>,
    /// Effect.
    pub effect: Effect,
    /// Numbered steps of the runbook.
    pub runbook: Vec<String>,
    /// State.
    pub state: StepState,
    /// How the outcome is known: `result`, `probe`, `skipped`, `answer`.
    pub by: Option<String>,
    /// One line of the outcome.
    pub summary: Option<String>,
    /// Error code when failed.
    pub code: Option<String>,
    /// What is left, when stuck.
    pub left: Vec<String>,
    /// Attempts that people asked for.
    pub attempts: u32,
    /// Tries in all, automatic ones included.
    pub tries: u32,
    /// First start.
    pub started: Option<String>,
    /// Last end.
    pub finished: Option<String>,
    /// Milliseconds that the last try took.
    pub elapsed_ms: Option<u64>,
    /// Seconds that the plan expected.
    pub expected_s: Option<u64>,
    /// Decisions about it.
    pub approvals: Vec<Approval>,
    /// How a doubt was decided.
    pub resolutions: Vec<Resolution>,
    /// What a reader must not overlook: `break-glass`, `irreversible alone`, `forced by a person`.
    pub red: Vec<String>,
    /// Entries: intents, outcomes, undo.
    pub cites: Vec<Cite>,
}

/// A decision about a step.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Approval {
    /// `typed` or `signed`.
    pub how: String,
    /// `approve`, `refuse` or `break-glass`.
    pub decision: String,
    /// Who.
    pub principal: String,
    /// In which role.
    pub role: Option<String>,
    /// Fingerprint of the signing key.
    pub key: Option<String>,
    /// Reason.
    pub reason: Option<String>,
    /// Code, when it did not count.
    pub rejected: Option<String>,
    /// When.
    pub time: String,
    /// Entry.
    pub cite: Cite,
}

/// A doubt that was decided.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Resolution {
    /// `ran`, `did-not-run` or `retry`.
    pub verdict: String,
    /// `person` or `probe`.
    pub by: String,
    /// Who recorded it.
    pub actor: String,
    /// Reason.
    pub reason: String,
    /// Entry.
    pub cite: Cite,
}
