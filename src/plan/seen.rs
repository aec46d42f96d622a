//! What was observed for a plan, as values: probes and previews come in as arguments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The answer of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer", content = "why")]
pub enum Probed {
    /// True.
    True,
    /// False.
    False,
    /// It could not be told.
    Failed(String),
}

/// What a preview found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Previewed {
    /// What would change.
    pub changes: Vec<String>,
    /// Everything is already as it shall be.
    pub already: bool,
    /// Why it would change nothing although nothing is as it shall be yet.
    pub idle: Option<String>,
    /// Why it cannot be done now.
    pub blocked: Vec<String>,
    /// Facts the plan is bound to.
    pub binding: BTreeMap<String, String>,
    /// Facts that are shown but may move.
    pub shown: BTreeMap<String, String>,
    /// What it could reach beyond its target.
    pub blast_radius: Vec<String>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// What cannot be proven or undone here.
    pub cannot: Vec<String>,
    /// How it is undone.
    pub undo: String,
    /// Details for people.
    pub details: Vec<(String, Vec<String>)>,
}

/// What was observed for one step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepSeen {
    /// Its `require`.
    pub require: Option<Probed>,
    /// Its `done_if`.
    pub done_if: Option<Probed>,
    /// Its preview; the error's text where it failed.
    pub preview: Option<Result<Previewed, String>>,
}

/// Everything that was observed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// Facts that always bind: context, server, UID of `kube-system`.
    pub binding: BTreeMap<String, String>,
    /// By step path.
    pub steps: BTreeMap<String, StepSeen>,
    /// Rights that are missing: step path → each right with the roles that hold it.
    pub missing_rights: BTreeMap<String, Vec<String>>,
    /// Seconds that earlier runs of a step took, by step path.
    pub history_s: BTreeMap<String, Vec<u64>>,
}
