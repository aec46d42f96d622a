//! What a run is pinned to: everything that decides the next step besides the journal. It never changes while the run lives.

use std::time::Duration;

use crate::action::registry::Registry;
use crate::incident::{IncidentId, Mode, RunId};
use crate::plan::policy::{self, Need, PolicyName};
use crate::playbook::model::{Kind, OnFailure, Playbook, Resume, Retry, Step};
use crate::playbook::variable::Vars;

/// A playbook bound to one run.
#[derive(Debug, Clone)]
pub struct PinnedDefinition {
    /// The incident.
    pub incident: IncidentId,
    /// The run.
    pub run: RunId,
    /// Live or drill.
    pub mode: Mode,
    /// The pinned playbook.
    pub playbook: Playbook,
    /// Variables that the run was given; secrets by reference.
    pub vars: Vars,
    /// The policy.
    pub policy: PolicyName,
    /// Who runs it: their principal under `team`.
    pub executor: String,
    /// What is known about the actions.
    pub registry: Registry,
}

impl PinnedDefinition {
    /// What a step needs before it may start.
    pub fn need(&self, step: &Step) -> Need {
        policy::need(self.policy, step)
    }
    /// Time over all tries and waits.
    pub fn timeout(&self, step: &Step) -> Option<Duration> {
        let action = step
            .call()
            .and_then(|c| self.registry.find(&c.action))
            .map(|s| Duration::from_secs(s.timeout_s));
        step.timeout_or_default(&self.playbook.defaults, action)
    }
    /// How it is tried again.
    pub fn retry(&self, step: &Step) -> Retry {
        step.retry_or_default(&self.playbook.defaults)
    }
    /// What happens after a failure.
    pub fn on_failure(&self, step: &Step) -> OnFailure {
        step.on_failure_or_default(&self.playbook.defaults)
    }
    /// What happens after a crash.
    pub fn resume(&self, step: &Step) -> Resume {
        step.resume_or_default(is_observable(step))
    }
}

/// Whether something can tell afterwards if the step happened: an action's own `observe`, or a `done_if`.
pub fn is_observable(step: &Step) -> bool {
    matches!(step.kind, Kind::Call(_)) || step.done_if.is_some()
}
