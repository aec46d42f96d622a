//! A playbook as types: what [`super::read()`] makes of a file and what `plan` and `run` work from.
//!
//! Blocks nest; nothing points at anything, so nothing can dangle. A step is found by its [`StepPath`]: ids joined by `/`, and a
//! step without an id is `kind-N` by its place in its block (`then` and `else` of one `if` count as one block).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::incident::body::Objectives;
use crate::incident::{Category, Effect, Milestone, Phase, StepPath};

use super::variable::Declaration;

/// A place in the file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

/// One playbook, read and well-formed. Whether it is sensible is [`super::lint()`]'s matter.
#[derive(Debug, Clone, PartialEq)]
pub struct Playbook {
    /// Slug, equal to the stem of its file.
    pub id: String,
    /// Name for people, at most 120 characters.
    pub name: String,
    /// Markdown.
    pub description: String,
    /// Version, from 1.
    pub version: u64,
    /// CACAO playbook types.
    pub types: Vec<String>,
    /// CACAO activities.
    pub activities: Vec<String>,
    /// 0–100, 100 highest, 0 undefined.
    pub severity: u8,
    /// 0–100, 100 highest, 0 undefined.
    pub impact: u8,
    /// Traffic light, printed on every output.
    pub tlp: String,
    /// The runbook's chapter that it carries out, such as `scenario 3`.
    pub runbook: Option<String>,
    /// What it promises; `rto_s` and `rpo_s` hold the defaults where the file says nothing.
    pub objectives: Objectives,
    /// Roles by key.
    pub roles: BTreeMap<String, Role>,
    /// Variables by name.
    pub vars: BTreeMap<String, Declaration>,
    /// Names of the environment variables that `run` children get.
    pub env: Vec<String>,
    /// Defaults for its steps.
    pub defaults: Defaults,
    /// Warnings that its author allows: lint code → reason.
    pub allow: BTreeMap<String, String>,
    /// The steps.
    pub steps: Vec<Step>,
    /// SHA-256 of the exact bytes it was read from, lower-case hex.
    pub sha256: String,
    /// Where things stand in the file.
    pub places: Places,
}

/// Positions by JSON pointer (`/steps/0/with/pod`): of a value, and of the key that holds it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Places {
    pub(super) values: BTreeMap<String, Position>,
    pub(super) keys: BTreeMap<String, Position>,
    /// Texts in quotes: their first character stands one column after the position.
    pub(super) quoted: BTreeSet<String>,
}

impl Places {
    /// Where a value begins, or where the nearest thing that holds it does.
    pub fn value(&self, pointer: &str) -> Position {
        nearest(&self.values, pointer)
    }
    /// Where a character of a one-line text stands; `offset` counts characters from 0.
    pub fn inside(&self, pointer: &str, offset: u32) -> Position {
        let at = self.value(pointer);
        let quote = u32::from(self.quoted.contains(pointer));
        Position {
            line: at.line,
            column: at.column.saturating_add(quote).saturating_add(offset),
        }
    }
    /// Where a key stands, or where its value (or the nearest thing that holds it) begins.
    pub fn key(&self, pointer: &str) -> Position {
        self.keys
            .get(pointer)
            .copied()
            .unwrap_or_else(|| self.value(pointer))
    }
}

fn nearest(known: &BTreeMap<String, Position>, pointer: &str) -> Position {
    let mut at = pointer;
    loop {
        if let Some(found) = known.get(at) {
            return *found;
        }
        match at.rsplit_once('/') {
            Some((outer, _)) => at = outer,
            None => return Position { line: 1, column: 1 },
        }
    }
}

/// A role of the playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// One person or several.
    pub kind: RoleKind,
    /// Name for people.
    pub name: Option<String>,
    /// The role in the people file that fills it; its own key where the file says nothing.
    pub contact: String,
}

/// Whether a role is one person or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RoleKind {
    /// One person.
    Individual,
    /// Several.
    Group,
}

/// A playbook's defaults for its steps; a step's own key wins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Defaults {
    /// Timeout.
    pub timeout: Option<Duration>,
    /// Retry.
    pub retry: Option<Retry>,
    /// What happens after a failure.
    pub on_failure: Option<OnFailure>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its path in the playbook.
    pub path: StepPath,
    /// Its own id, where it has one.
    pub id: Option<String>,
    /// Name for people.
    pub name: Option<String>,
    /// Why it deviates from what lint expects.
    pub why: Option<String>,
    /// Numbered steps of the runbook that it carries.
    pub runbook: Vec<String>,
    /// Phase, where it says one.
    pub phase: Option<Phase>,
    /// Role that does it.
    pub owner: Option<String>,
    /// Effect, where it says one; see [`Step::effect`].
    pub effect: Option<Effect>,
    /// Must be true, in the plan and again right before the step.
    pub require: Option<Call>,
    /// True = nothing to do.
    pub done_if: Option<Call>,
    /// Approval that it asks for.
    pub approve: Option<Approval>,
    /// Timeout, where it says one; see [`Step::timeout_or_default`].
    pub timeout: Option<Duration>,
    /// Retry, where it says one; see [`Step::retry_or_default`].
    pub retry: Option<Retry>,
    /// How it is undone, only ever on request.
    pub undo: Option<Call>,
    /// What happens after a failure, where it says so; see [`Step::on_failure_or_default`].
    pub on_failure: Option<OnFailure>,
    /// What happens after a crash, where it says so; see [`Step::resume_or_default`].
    pub resume: Option<Resume>,
    /// What of its output becomes an exhibit.
    pub evidence: Option<Evidence>,
    /// Variables that its result sets.
    pub outputs: BTreeMap<String, OutputFrom>,
    /// Milestone stamped when it is done.
    pub milestone: Option<StepMilestone>,
    /// What a drill does with it, where it says so; see [`Step::drill_or_default`].
    pub drill: Option<DrillMode>,
    /// Expected time before there is history.
    pub budget: Option<Duration>,
    /// What a plan may assume for an output that it cannot know.
    pub plan_value: BTreeMap<String, Value>,
    /// What it is.
    pub kind: Kind,
    /// JSON pointer of the step in the file, for [`Places`].
    pub pointer: String,
}

/// The kinds of a step; exactly one each.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A built-in action.
    Call(Call),
    /// A child process; no shell.
    Run {
        /// Its argv words.
        argv: Vec<String>,
    },
    /// A person does it and answers.
    Manual {
        /// What to do.
        text: String,
    },
    /// A read-only probe of live state; an expectation that does not hold is a failure.
    Check {
        /// The action.
        call: Call,
        /// CEL over the result's fields and the variables, `ok == true` where the file says nothing.
        expect: String,
    },
    /// A gate that stands alone; the gate itself is the step's `approve`.
    Approve,
    /// A message.
    Notify(Notify),
    /// A branch.
    If {
        /// CEL over the variables.
        condition: String,
        /// Steps when true.
        then: Vec<Step>,
        /// Steps when false.
        otherwise: Vec<Step>,
    },
    /// Steps side by side; all are awaited, at most 8 at a time.
    Parallel {
        /// The branches.
        steps: Vec<Step>,
    },
    /// A named sequence.
    Steps {
        /// The steps, in order.
        steps: Vec<Step>,
    },
    /// A timer.
    Wait {
        /// How long.
        time: Span,
    },
    /// A line for the timeline.
    Note {
        /// The line.
        text: String,
    },
}

/// How long a wait is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    /// This long.
    Fixed(Duration),
    /// As long as this variable of type `duration` says (`"${hold}"`).
    Variable(String),
}

/// An action with its arguments, not yet filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `room.action`.
    pub action: String,
    /// Arguments: always an object.
    pub with: Value,
}

/// Who must agree before a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Roles that may decide.
    pub roles: Vec<String>,
    /// People needed, where it says so; else the floor of the effect.
    pub quorum: Option<u32>,
    /// Whether they must be different people.
    pub distinct: bool,
    /// How long a request stays open.
    pub ttl: Duration,
    /// What then.
    pub on_timeout: OnTimeout,
    /// Whether one person may go on alone with a typed reason.
    pub break_glass: bool,
}

/// What happens when nobody decides in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnTimeout {
    /// Ask the next level; the last level parks. Without contacts it parks.
    Escalate,
    /// Wait for people.
    Park,
    /// Taken as a refusal.
    Refuse,
}

/// How often and when a step is tried again by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Tries after the first, 0–10.
    pub max: u32,
    /// First pause; doubles to 60 s, with jitter.
    pub backoff: Duration,
    /// Error classes it is for.
    pub on: Vec<RetryOn>,
}

/// Error classes that a retry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// It did not happen and may be tried again.
    Transient,
    /// Asked to slow down.
    Throttled,
    /// Changed under us.
    Conflict,
    /// Took too long; only where an observation can tell.
    Timeout,
}

/// What happens after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Stop the block and wait for a person.
    Park,
    /// Record it and go on.
    Continue,
    /// Park, with undo prepared.
    OfferUndo,
    /// End the run.
    Stop,
}

/// What happens with a started step after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Resume {
    /// Look, then decide.
    Auto,
    /// Ask a person, with what was seen.
    Ask,
}

/// What of a step's output becomes an exhibit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What it is.
    pub kind: Category,
    /// Whether the bag is sealed at once.
    pub seal: bool,
    /// Files to take besides the output, as globs.
    pub files: Vec<String>,
    /// Patterns to redact in views for people; the exhibit itself stays whole.
    pub redact: Vec<String>,
}

/// Where an output's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputFrom {
    /// The child's standard output, without the last line end.
    Stdout,
    /// The child's standard error, without the last line end.
    Stderr,
    /// The child's exit code.
    Exit,
    /// The value that a person gave under the variable's name.
    Answer,
    /// A JSON pointer into standard output read as JSON.
    Json(String),
    /// A JSON pointer into the action's result.
    Result(String),
}

/// A milestone that a step stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepMilestone {
    /// Which.
    pub name: Milestone,
    /// Tier it is about, if one.
    pub tier: Option<u8>,
}

/// What a drill does with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrillMode {
    /// The same as live, against the drill's world.
    Run,
    /// Record it, send nothing.
    Simulate,
    /// Leave it out.
    Skip,
}

/// A message to roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Roles.
    pub to: Vec<String>,
    /// The text, `${x}` filled in; never a secret.
    pub template: String,
    /// Whose acknowledgement the step waits for.
    pub wait_ack: WaitAck,
    /// Whether it leaves the organisation.
    pub external: bool,
}

/// Whose acknowledgement a message waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WaitAck {
    /// Nobody's.
    None,
    /// One person's.
    One,
    /// Everybody's.
    All,
}

const MINUTE: u64 = 60;

impl Kind {
    /// The key that names the kind in a file.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Call(_) => "call",
            Kind::Run { .. } => "run",
            Kind::Manual { .. } => "manual",
            Kind::Check { .. } => "check",
            Kind::Approve => "approve",
            Kind::Notify(_) => "notify",
            Kind::If { .. } => "if",
            Kind::Parallel { .. } => "parallel",
            Kind::Steps { .. } => "steps",
            Kind::Wait { .. } => "wait",
            Kind::Note { .. } => "note",
        }
    }
    /// True for `if`, `parallel` and `steps`: it does nothing itself, its steps do.
    pub fn is_block(&self) -> bool {
        matches!(
            self,
            Kind::If { .. } | Kind::Parallel { .. } | Kind::Steps { .. }
        )
    }
}

impl Step {
    /// Name for people: its name, else its path.
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(self.path.as_str())
    }
    /// The action it calls (`call` and `check`).
    pub fn call(&self) -> Option<&Call> {
        match &self.kind {
            Kind::Call(call) | Kind::Check { call, .. } => Some(call),
            _ => None,
        }
    }
    /// Its blocks, each with the key that holds it: one for `parallel` and `steps`, two for `if`, none else.
    pub fn blocks(&self) -> Vec<(&'static str, &[Step])> {
        match &self.kind {
            Kind::If {
                then, otherwise, ..
            } => vec![("then", then), ("else", otherwise)],
            Kind::Parallel { steps } => vec![("parallel", steps)],
            Kind::Steps { steps } => vec![("steps", steps)],
            _ => Vec::new(),
        }
    }
    /// The steps directly inside it, in order.
    pub fn children(&self) -> impl Iterator<Item = &Step> {
        self.blocks().into_iter().flat_map(|(_, steps)| steps)
    }
    /// What it does to the world. Only `call` and `run` may be more than `read`, and the reader demands that they say so.
    pub fn effect(&self) -> Effect {
        self.effect.unwrap_or(match self.kind {
            Kind::Run { .. } => Effect::Irreversible,
            _ => Effect::Read,
        })
    }
    /// How long it may take, over all tries: its own, else the playbook's, else the action's, else that of its kind. None
    /// for blocks and notes, which take no time of their own, and for a `wait`, whose time is its value.
    pub fn timeout_or_default(
        &self,
        defaults: &Defaults,
        action: Option<Duration>,
    ) -> Option<Duration> {
        let minutes = match &self.kind {
            Kind::Call(_) | Kind::Run { .. } => 10,
            Kind::Manual { .. } => 60,
            Kind::Check { .. } => 1,
            Kind::Notify(_) => 5,
            Kind::Approve => return self.approve.as_ref().map(|a| a.ttl),
            Kind::If { .. }
            | Kind::Parallel { .. }
            | Kind::Steps { .. }
            | Kind::Wait { .. }
            | Kind::Note { .. } => return self.timeout,
        };
        Some(
            self.timeout
                .or(defaults.timeout)
                .or(action)
                .unwrap_or(Duration::from_secs(minutes * MINUTE)),
        )
    }
    /// How it is tried again: its own, else the playbook's, else three times for a `read` call, check or run and never else.
    pub fn retry_or_default(&self, defaults: &Defaults) -> Retry {
        if let Some(said) = self.retry.as_ref().or(defaults.retry.as_ref()) {
            return said.clone();
        }
        let machine = matches!(
            self.kind,
            Kind::Call(_) | Kind::Check { .. } | Kind::Run { .. }
        );
        Retry {
            max: if machine && self.effect() == Effect::Read {
                3
            } else {
                0
            },
            backoff: Duration::from_secs(2),
            on: vec![RetryOn::Transient, RetryOn::Throttled],
        }
    }
    /// What happens after a failure: its own word, else the playbook's, else park.
    pub fn on_failure_or_default(&self, defaults: &Defaults) -> OnFailure {
        self.on_failure
            .or(defaults.on_failure)
            .unwrap_or(OnFailure::Park)
    }
    /// What happens after a crash: its own word, else auto; ask for irreversible and destructive ones that nothing can probe.
    /// `observable` says whether the action's own `observe` can tell.
    pub fn resume_or_default(&self, observable: bool) -> Resume {
        self.resume.unwrap_or(
            if self.effect() >= Effect::Irreversible && self.done_if.is_none() && !observable {
                Resume::Ask
            } else {
                Resume::Auto
            },
        )
    }
    /// What a drill does with it: its own word, else simulate what leaves the organisation and run the rest.
    pub fn drill_or_default(&self) -> DrillMode {
        self.drill.unwrap_or(match &self.kind {
            Kind::Notify(n) if n.external => DrillMode::Simulate,
            _ => DrillMode::Run,
        })
    }
}

impl Playbook {
    /// Every step in path order: a block before what it holds.
    pub fn all_steps(&self) -> Vec<&Step> {
        let mut found = Vec::new();
        collect(&self.steps, &mut found);
        found
    }
    /// The step with this path.
    pub fn find(&self, path: &StepPath) -> Option<&Step> {
        self.all_steps().into_iter().find(|s| s.path == *path)
    }
    /// The block that holds a step; none for a step of the outermost sequence.
    pub fn parent(&self, path: &StepPath) -> Option<&Step> {
        self.find(&path.parent()?)
    }
}

fn collect<'a>(steps: &'a [Step], into: &mut Vec<&'a Step>) {
    for step in steps {
        into.push(step);
        for (_, block) in step.blocks() {
            collect(block, into);
        }
    }
}
