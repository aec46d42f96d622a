//! The verbs. One file each, in `acquire/` and `contain/` (rotation and recovery join as `eradicate/` and `recover/`).
//!
//! Every action has four verbs: **preview** (what would change, from observed state), **apply** (idempotent, keyed by incident and
//! step), **observe** (did it happen, what is there now) and **undo** (or a declared reason why there is none). [`registry`] is the
//! pure side: names, argument types, effects and rights, handed to `playbook` and `plan` as a value.
//!
//! An action writes each single change to the ledger before it makes it ([`Context::intend`]) and what it saw afterwards
//! ([`Context::saw`]), so that an undo compares *before, written, now* and a crash between two writes is resumed from the ledger.

pub mod acquire;
pub mod contain;
pub mod eradicate;
pub mod registry;
pub mod report_build;
pub mod rights;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::watch;

use crate::incident::body::{WriteIntended, WriteSeen};
use crate::incident::{Draft, Entry, IncidentId, Mode, Refs, RunId, StepPath, kind};
use crate::port::{
    Cause, Cluster, CustodyError, Documents, Estate, Exhibits, Ledger, LedgerError, PortError,
    Ports, Right, RunFiles,
};

pub use registry::{ActionSpec, Registry, Use};

/// What an action works with. It is made anew for each verb of each step.
#[derive(Clone)]
pub struct Context {
    /// The incident.
    pub incident: IncidentId,
    /// Live or drill.
    pub mode: Mode,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepPath,
    /// Attempt, from 1.
    pub attempt: u32,
    /// Idempotency key: first 32 hex of SHA-256(run, path, attempt; NUL-separated).
    pub key: String,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Takes exhibits in. `None` while previewing: a preview preserves nothing.
    pub custody: Option<Arc<dyn Exhibits>>,
    /// Writes the document. `None` while previewing.
    pub documents: Option<Arc<dyn Documents>>,
    /// Files that the incident pins: rotation plans among them.
    pub files: Arc<dyn RunFiles>,
    /// The outside.
    pub ports: Ports,
    /// Time left for this verb.
    pub deadline: Duration,
    /// Becomes true at the first Ctrl-C: finish what cannot be left half-done, start nothing new.
    pub cancel: watch::Receiver<bool>,
    /// One line at a time for the person who waits.
    pub progress: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Context {
    /// The cluster's ports, or an error that says that this command has no cluster.
    pub fn cluster(&self) -> Result<&Cluster, ActionError> {
        self.ports.cluster.as_ref().ok_or_else(|| {
            ActionError::new(
                Class::Refused,
                "this step needs a cluster and none is configured",
            )
            .hint("name one with --context or --kubeconfig")
        })
    }
    /// What rotation works on, or an error that says how to give it.
    pub fn estate(&self) -> Result<&Estate, ActionError> {
        self.ports.estate.as_ref().ok_or_else(|| {
            ActionError::new(
                Class::Refused,
                "this step needs a cloud account and none is configured",
            )
            .code("FB3003")
            .hint("set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `firebreak doctor` shows what it sees")
        })
    }
    /// What every entry of this step refers to.
    pub fn refs(&self) -> Refs {
        Refs {
            run: Some(self.run.to_string()),
            step: Some(self.step.to_string()),
            attempt: Some(self.attempt),
            ..Refs::default()
        }
    }
    /// Makes an intent durable; only then may the write be sent. Answers its `seq`.
    pub fn intend(&self, write: &WriteIntended) -> Result<u64, ActionError> {
        Ok(self.record(kind::WRITE_INTENDED, write)?.seq)
    }
    /// Records what was there after a write.
    pub fn saw(&self, intent: u64, seen: &WriteSeen) -> Result<(), ActionError> {
        let refs = Refs {
            intent: Some(intent),
            ..self.refs()
        };
        self.ledger
            .append(vec![Draft::new(kind::WRITE_SEEN, seen).about(refs)])?;
        Ok(())
    }
    /// Makes many intents durable in one batch, before any of their writes is sent. Answers their `seq`, in order.
    pub fn intend_all(&self, writes: &[WriteIntended]) -> Result<Vec<u64>, ActionError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let drafts = writes
            .iter()
            .map(|w| Draft::new(kind::WRITE_INTENDED, w).about(self.refs()))
            .collect();
        let stored = self.ledger.append(drafts)?;
        if stored.len() != writes.len() {
            return Err(ActionError::new(
                Class::Internal,
                "the ledger answered another number of entries than it was given",
            ));
        }
        Ok(stored.iter().map(|e| e.seq).collect())
    }
    /// Records what was there after many writes, in one batch.
    pub fn saw_all(&self, seen: &[(u64, WriteSeen)]) -> Result<(), ActionError> {
        if seen.is_empty() {
            return Ok(());
        }
        let drafts = seen
            .iter()
            .map(|(intent, body)| {
                let refs = Refs {
                    intent: Some(*intent),
                    ..self.refs()
                };
                Draft::new(kind::WRITE_SEEN, body).about(refs)
            })
            .collect();
        self.ledger.append(drafts)?;
        Ok(())
    }
    /// Appends one entry of this step, durable.
    pub fn record(&self, kind: &str, body: &impl serde::Serialize) -> Result<Entry, ActionError> {
        let mut stored = self
            .ledger
            .append(vec![Draft::new(kind, body).about(self.refs())])?;
        stored.pop().ok_or_else(|| {
            ActionError::new(
                Class::Internal,
                "the ledger answered no entry for one draft",
            )
        })
    }
    /// True once the person asked to stop.
    pub fn cancelled(&self) -> bool {
        *self.cancel.borrow()
    }
}

/// Whose move it is after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Arguments or observed state do not allow it; nothing happened.
    Refused,
    /// A right is missing; nothing happened.
    Denied,
    /// Something changed since the plan; nothing happened.
    Conflict,
    /// It did not happen and may be tried again as it is.
    Transient,
    /// It took too long and, being read-only or looked at, left nothing in doubt.
    Timeout,
    /// It may have happened.
    InDoubt,
    /// It is not over: it waits for time or for a person outside, and goes on under the decision that it has.
    Waiting,
    /// It failed, nothing is left in doubt.
    Failed,
    /// The ledger cannot be written: the run stops.
    Ledger,
    /// Our own fault.
    Internal,
}

impl Class {
    /// The word in entries.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Refused => "refused",
            Class::Denied => "denied",
            Class::Conflict => "conflict",
            Class::Transient => "transient",
            Class::Timeout => "timeout",
            Class::InDoubt => "in-doubt",
            Class::Waiting => "waiting",
            Class::Failed => "failed",
            Class::Ledger => "ledger",
            Class::Internal => "internal",
        }
    }
}

/// A failed verb.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ActionError {
    /// Whose move it is.
    pub class: Class,
    /// Stable code, `FB1201` and up for actions; see `firebreak explain`.
    pub code: &'static str,
    /// What was tried, on what, and why it failed.
    pub message: String,
    /// What to type or do next.
    pub hint: Option<String>,
}

impl ActionError {
    /// A failure with the general code of its class.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        let code = match class {
            Class::Refused => "FB1201",
            Class::Denied => "FB0405",
            Class::Conflict => "FB0401",
            Class::Transient => "FB1202",
            Class::Timeout => "FB0606",
            Class::InDoubt => "FB0602",
            Class::Waiting | Class::Failed => "FB1203",
            Class::Ledger => "FB0601",
            Class::Internal => "FB1100",
        };
        ActionError {
            class,
            code,
            message: message.into(),
            hint: None,
        }
    }
    /// Gives it a code of its own.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }
    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<PortError> for ActionError {
    fn from(e: PortError) -> Self {
        let class = match e.cause {
            Cause::Refused => Class::Denied,
            Cause::Conflict => Class::Conflict,
            Cause::NotFound | Cause::Rejected | Cause::Unsupported | Cause::Local => Class::Failed,
            Cause::Throttled | Cause::Unreachable => Class::Transient,
            Cause::LostReply | Cause::Timeout | Cause::Unreadable => Class::InDoubt,
        };
        ActionError::new(class, e.to_string())
    }
}

impl From<LedgerError> for ActionError {
    fn from(e: LedgerError) -> Self {
        let code = if matches!(e, LedgerError::Tampered { .. }) {
            "FB0604"
        } else {
            "FB0601"
        };
        ActionError::new(Class::Ledger, e.to_string()).code(code)
    }
}

/// What a preview found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Preview {
    /// What would change, one line each; empty = nothing to do.
    pub changes: Vec<String>,
    /// True when everything is already as it shall be.
    pub already: bool,
    /// Why it would change nothing although nothing is as it shall be yet.
    pub idle: Option<String>,
    /// Why it cannot be done now; empty = it can.
    pub blocked: Vec<String>,
    /// Facts the plan is bound to: name → value. A change of one makes the plan stale.
    pub binding: BTreeMap<String, String>,
    /// Facts that are shown but may move.
    pub shown: BTreeMap<String, String>,
    /// What the step could reach beyond its target.
    pub blast_radius: Vec<String>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// What cannot be proven or undone here.
    pub cannot: Vec<String>,
    /// How it is undone, in words, or why it cannot be.
    pub undo: String,
    /// Details for people, printed before they confirm, in order: (heading, lines).
    pub details: Vec<(String, Vec<String>)>,
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The result: fields that `outputs` and `expect` may use. Integers, texts, booleans, lists and maps.
    pub result: Value,
    /// One line for people.
    pub summary: String,
}

/// What an observation saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    /// It happened; the result as `apply` would have answered it.
    Done(Applied),
    /// It did not happen.
    NotDone,
    /// It cannot be told.
    Unknown(String),
}

/// What an undo did.
#[derive(Debug, Clone, PartialEq)]
pub enum Undone {
    /// All was taken back.
    Undone(String),
    /// Something is left: summary and exact instructions.
    Stuck {
        /// One line.
        summary: String,
        /// What is left, each with what to do.
        left: Vec<String>,
    },
}

/// One verb of the responder.
///
/// *Guarantees*: `preview` and `observe` change nothing. `apply` may run twice, may be cut at any await, and resumes from the ledger's
/// write entries of this step. `undo` may run when `apply` never did. Arguments were checked against the spec's type before.
#[async_trait]
pub trait Action: Send + Sync {
    /// Its entry in the registry.
    fn spec(&self) -> &'static ActionSpec;
    /// What would change, from observed state.
    async fn preview(&self, cx: &Context, args: &Value) -> Result<Preview, ActionError>;
    /// Does it.
    async fn apply(&self, cx: &Context, args: &Value) -> Result<Applied, ActionError>;
    /// Looks whether it happened.
    async fn observe(&self, cx: &Context, args: &Value) -> Result<Observed, ActionError>;
    /// Takes it back. Actions whose spec has no undo answer an error.
    async fn undo(&self, cx: &Context, args: &Value) -> Result<Undone, ActionError> {
        let _ = (cx, args);
        Err(ActionError::new(
            Class::Refused,
            format!(
                "`{}` has no undo: {}",
                self.spec().name,
                self.spec().undo.reason()
            ),
        ))
    }
    /// Rights it needs, given its arguments.
    fn rights(&self, args: &Value) -> Vec<Right> {
        let namespace = args.get("namespace").and_then(Value::as_str);
        self.spec()
            .rights
            .iter()
            .map(|r| {
                let right = Right::new(r.group, r.resource, r.verb);
                match namespace {
                    Some(ns) if !r.cluster_wide => right.within(ns),
                    _ => right,
                }
            })
            .collect()
    }
}

/// Every action by name.
#[derive(Clone, Default)]
pub struct Actions {
    by_name: BTreeMap<&'static str, Arc<dyn Action>>,
}

impl Actions {
    /// Adds one.
    #[must_use]
    pub fn with(mut self, action: impl Action + 'static) -> Self {
        self.by_name.insert(action.spec().name, Arc::new(action));
        self
    }
    /// Finds one.
    pub fn find(&self, name: &str) -> Option<&Arc<dyn Action>> {
        self.by_name.get(name)
    }
    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Action>> {
        self.by_name.values()
    }
    /// The pure side.
    pub fn registry(&self) -> Registry {
        Registry::of(self.by_name.values().map(|a| a.spec()))
    }
}

impl From<CustodyError> for ActionError {
    fn from(e: CustodyError) -> Self {
        match e {
            CustodyError::Ledger(e) => e.into(),
            other => ActionError::new(Class::Failed, other.to_string()).code("FB1204"),
        }
    }
}

/// For tests of actions that read no pinned file.
#[cfg(test)]
pub(crate) struct NoFiles;

#[cfg(test)]
impl RunFiles for NoFiles {
    fn pin(&self, _: &str, _: &[u8]) -> std::io::Result<()> {
        Err(std::io::Error::other("nothing is pinned in this test"))
    }
    fn pinned(&self, _: &str) -> std::io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
    fn lock_run(&self, _: &RunId) -> std::io::Result<Option<crate::port::LockGuard>> {
        Ok(None)
    }
}
