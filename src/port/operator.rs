//! The person at the terminal, as a run sees them. The command line and the drill are the two ends of it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;

use crate::incident::body::Answer;
use crate::incident::{Effect, Milestone, Outcome};

/// What a person decides about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The run.
    pub run: String,
    /// The step.
    pub step: String,
    /// Its attempt.
    pub attempt: u32,
    /// Name for people.
    pub title: String,
    /// Effect.
    pub effect: Effect,
    /// Action or first word.
    pub what: String,
    /// Digest of the call.
    pub call_sha256: String,
    /// Digest of the run's plan.
    pub plan_sha256: String,
    /// True when a reason is asked for.
    pub needs_reason: bool,
    /// People needed, 1 for a typed confirmation.
    pub quorum: u32,
    /// True when it must be signed; typing does not open it.
    pub signed: bool,
    /// Roles that may decide; empty = the operator.
    pub roles: Vec<String>,
    /// RFC 3339; until then it stays open.
    pub expires: Option<String>,
    /// What it does, for people.
    pub lines: Vec<String>,
}

/// What a person typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Confirmed.
    Typed {
        /// Why, where it was asked or given.
        reason: Option<String>,
        /// Digest of what was shown; the digest of the call where nothing more was.
        shown_sha256: Option<String>,
    },
    /// Not confirmed.
    Declined,
    /// Nobody can type here.
    NoTerminal,
}

/// A manual step.
#[derive(Debug, Clone, PartialEq)]
pub struct ManualQuestion {
    /// The run.
    pub run: String,
    /// The step.
    pub step: String,
    /// Its attempt.
    pub attempt: u32,
    /// Name for people.
    pub title: String,
    /// What to do.
    pub text: String,
    /// Role that does it.
    pub owner: Option<String>,
    /// Values that the answer should give: variable → a sample of its type.
    pub values: BTreeMap<String, Value>,
    /// What each may be, in words.
    pub allows: BTreeMap<String, String>,
    /// Why the answer that was given a moment ago does not fit.
    pub refused: Option<String>,
    /// RFC 3339.
    pub deadline: Option<String>,
}

/// A signed approval as a person hands it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedText {
    /// The approval text, exact bytes.
    pub text: String,
    /// The armoured SSHSIG.
    pub signature: String,
}

/// Something happened that the waiting person wants to see.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEvent {
    /// A step's intent is durable and it goes on.
    Started {
        /// Path.
        step: String,
        /// Name for people.
        title: String,
        /// Action or first word.
        what: String,
        /// Automatic try.
        r#try: u32,
    },
    /// One line of a step that runs.
    Progress {
        /// Path.
        step: String,
        /// The line.
        line: String,
    },
    /// A step ended.
    Finished {
        /// Path.
        step: String,
        /// Name for people.
        title: String,
        /// Done or failed.
        outcome: Outcome,
        /// One line.
        summary: String,
        /// How long.
        elapsed_ms: u64,
    },
    /// A step was not carried out.
    Skipped {
        /// Path.
        step: String,
        /// Why.
        why: String,
    },
    /// A step may have happened.
    InDoubt {
        /// Path.
        step: String,
        /// What is known.
        known: String,
    },
    /// The run waits for a person or for time.
    Waiting {
        /// Path.
        step: String,
        /// For what.
        what: String,
        /// RFC 3339.
        until: Option<String>,
    },
    /// Somebody decided.
    Decided {
        /// Paths.
        steps: Vec<String>,
        /// Who.
        who: String,
        /// How: `typed`, `signed`, or the code that refused it.
        how: String,
    },
    /// A milestone was stamped.
    Milestone {
        /// Which.
        name: Milestone,
        /// Path.
        step: String,
    },
    /// A message went out, or was shown only.
    Notice {
        /// Roles.
        to: Vec<String>,
        /// The text.
        text: String,
        /// How it went.
        channel: String,
    },
    /// The run waits for a person and this process leaves.
    Parked {
        /// Why.
        why: String,
        /// Command that helps.
        hint: String,
    },
    /// A step was taken back, or not.
    Undone {
        /// Path.
        step: String,
        /// Undone or stuck.
        outcome: Outcome,
        /// One line.
        summary: String,
        /// What is left.
        left: Vec<String>,
    },
}

/// The person at the terminal.
///
/// *Concurrency*: questions come one at a time per step, and side by side for steps that run side by side; events may come at any time.
#[async_trait]
pub trait Operator: Send + Sync {
    /// Asks for a typed confirmation.
    async fn confirm(&self, question: &Question) -> Reply;
    /// Asks for the answer to a manual step; `None` when nobody can answer here (the run then waits for `incident answer`).
    async fn answer(&self, question: &ManualQuestion) -> Option<Answer>;
    /// Is told that a gate waits for signatures, and may hand some in at once (a drill's personas do).
    async fn signatures(&self, question: &Question) -> Vec<SignedText> {
        let _ = question;
        Vec::new()
    }
    /// Is told what happens.
    fn event(&self, event: &RunEvent);
}
