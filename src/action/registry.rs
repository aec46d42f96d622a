//! The pure side of the actions: what `playbook` and `plan` know about them. It is handed to them as a value.

use std::collections::BTreeMap;

use schemars::Schema;
use serde_json::Value;

use crate::incident::{Category, Effect, Phase};

/// One action, declared.
#[derive(Debug, Clone)]
pub struct ActionSpec {
    /// `room.action`.
    pub name: &'static str,
    /// One sentence for people.
    pub about: &'static str,
    /// Its effect; a playbook may declare more, never less.
    pub effect: Effect,
    /// Phase it belongs to.
    pub phase: Phase,
    /// Where it may stand.
    pub uses: &'static [Use],
    /// JSON Schema of its arguments.
    pub args_schema: fn() -> Schema,
    /// Checks arguments against the type; the path is that of `serde_path_to_error`.
    pub check_args: fn(&Value) -> Result<(), ArgError>,
    /// Its undo.
    pub undo: UndoSpec,
    /// Fields of its result with a sample value of the right type (for CEL checks and `outputs`).
    pub result: &'static [(&'static str, Sample)],
    /// Rights it needs.
    pub rights: &'static [RightSpec],
    /// Kind of exhibit it makes, if it acquires.
    pub exhibit: Option<Category>,
    /// RFC 3227 rank of what it acquires (1 most volatile … 7), if it acquires.
    pub volatility: Option<u8>,
    /// Highest rank of volatile sources that it disturbs (0 = none): acquire those before.
    pub disturbs: u8,
    /// Default timeout in seconds.
    pub timeout_s: u64,
}

/// Where an action may stand in a playbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// `call:`
    Call,
    /// `check:`, read-only.
    Check,
    /// `require:` and `done_if:`, answers true or false.
    Probe,
    /// `undo:`
    Undo,
}

/// How an action is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoSpec {
    /// By its own undo verb.
    Own,
    /// It cannot be, for this reason.
    None(&'static str),
}

impl UndoSpec {
    /// Why there is none.
    pub fn reason(self) -> &'static str {
        match self {
            UndoSpec::Own => "it has one",
            UndoSpec::None(why) => why,
        }
    }
}

/// A sample of a result field's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// Text.
    Text,
    /// Integer.
    Integer,
    /// Boolean.
    Bool,
    /// List of texts.
    Texts,
    /// Map.
    Map,
}

/// A right, without its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RightSpec {
    /// API group.
    pub group: &'static str,
    /// Resource.
    pub resource: &'static str,
    /// Verb.
    pub verb: &'static str,
    /// True when it must be held cluster-wide.
    pub cluster_wide: bool,
}

/// Arguments that do not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("argument `{path}`: {message}")]
pub struct ArgError {
    /// Path inside `with`, `.` for the whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// Checks `value` against the argument type `T`.
///
/// # Errors
/// With the path of the first argument that does not fit.
pub fn check_as<T: serde::de::DeserializeOwned>(value: &Value) -> Result<(), ArgError> {
    read_as::<T>(value).map(|_| ())
}

/// Reads `value` as the argument type `T`.
///
/// # Errors
/// With the path of the first argument that does not fit.
pub fn read_as<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, ArgError> {
    if !value.is_object() {
        return Err(ArgError {
            path: ".".into(),
            message: "must be a mapping".into(),
        });
    }
    serde_path_to_error::deserialize(value).map_err(|e| ArgError {
        path: e.path().to_string(),
        message: e.inner().to_string(),
    })
}

/// All specs by name.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    by_name: BTreeMap<&'static str, &'static ActionSpec>,
}

impl Registry {
    /// A registry of these.
    pub fn of(specs: impl IntoIterator<Item = &'static ActionSpec>) -> Self {
        Registry {
            by_name: specs.into_iter().map(|s| (s.name, s)).collect(),
        }
    }
    /// Finds one.
    pub fn find(&self, name: &str) -> Option<&'static ActionSpec> {
        self.by_name.get(name).copied()
    }
    /// All, by name.
    pub fn all(&self) -> impl Iterator<Item = &'static ActionSpec> + '_ {
        self.by_name.values().copied()
    }
}
