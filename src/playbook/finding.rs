//! What reading and linting have to say about a playbook, and every code they may say it with.

use serde::Serialize;
use std::fmt;

use super::model::Position;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The playbook is refused.
    Error,
    /// It works; the author should look, or allow it with a reason (`allow:`).
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One thing that is wrong with a playbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `FBnnnn`; see [`CODES`].
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// Path of the step it is about; empty for the file as a whole.
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
}

impl Finding {
    /// A finding with the severity of its code.
    pub fn new(
        code: &'static str,
        at: Position,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Finding {
            code,
            severity: severity(code),
            path: String::new(),
            line: at.line,
            column: at.column,
            message: message.into(),
            fix: fix.into(),
        }
    }
    /// Says which step it is about.
    #[must_use]
    pub fn of(mut self, path: impl fmt::Display) -> Self {
        self.path = path.to_string();
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {} {}: {}",
            self.line, self.column, self.severity, self.code, self.message
        )?;
        if !self.path.is_empty() {
            write!(f, " (step `{}`)", self.path)?;
        }
        Ok(())
    }
}

/// Sorts findings by place, errors before warnings at the same place.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        (a.line, a.column, a.severity, a.code).cmp(&(b.line, b.column, b.severity, b.code))
    });
}

/// One code: number, gravity, what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// `FBnnnn`.
    pub code: &'static str,
    /// Gravity.
    pub severity: Severity,
    /// What it means, one sentence.
    pub meaning: &'static str,
}

const fn error(code: &'static str, meaning: &'static str) -> Code {
    Code {
        code,
        severity: Severity::Error,
        meaning,
    }
}

const fn warning(code: &'static str, meaning: &'static str) -> Code {
    Code {
        code,
        severity: Severity::Warning,
        meaning,
    }
}

/// Every code of this room, for `explain` and for `allow`.
pub const CODES: &[Code] = &[
    error(
        "FB0101",
        "The file is not strict YAML of the format: unknown or duplicate key, wrong type, anchor, second document, hidden character, or too large.",
    ),
    error(
        "FB0102",
        "The format version is missing or unknown; this version reads `playbook/v1`.",
    ),
    error(
        "FB0103",
        "The id is missing, is no slug, or differs from the file's stem.",
    ),
    error(
        "FB0104",
        "The name is missing or longer than 120 characters.",
    ),
    error(
        "FB0105",
        "The version is missing, below 1, or its content differs from what was recorded under the same version.",
    ),
    error(
        "FB0106",
        "The types are missing or not of CACAO's vocabulary.",
    ),
    error("FB0107", "Severity or impact lies outside 0 to 100."),
    error("FB0108", "A role is used and not declared."),
    error(
        "FB0109",
        "A warning is allowed without a reason, or something is allowed that is no warning.",
    ),
    error(
        "FB0110",
        "A list of steps is missing or too short, or there are more than 500 steps.",
    ),
    error("FB0111", "A step has no kind or more than one."),
    error(
        "FB0114",
        "Two steps of one block have the same id, or an id is no slug.",
    ),
    error("FB0115", "An action is unknown or may not stand there."),
    error("FB0116", "An action's arguments do not fit its type."),
    error(
        "FB0117",
        "A step lacks a key that its kind needs, or carries one that its kind cannot honour.",
    ),
    error(
        "FB0118",
        "An output names something that this step does not answer.",
    ),
    error("FB0201", "A variable has no value."),
    error(
        "FB0202",
        "A value does not fit its variable's type, pattern or list of values.",
    ),
    error(
        "FB0203",
        "An expression compares a value with a literal of another type.",
    ),
    error("FB0204", "A variable is not declared."),
    error("FB0205", "A constant is assigned."),
    error(
        "FB0206",
        "An expression is not understood or goes beyond its limits.",
    ),
    error("FB0207", "An expression does not answer true or false."),
    error(
        "FB0301",
        "An approval asks for less than the floor of its step's effect.",
    ),
    error(
        "FB0302",
        "An irreversible or destructive step can neither be probed nor asks before it is resumed.",
    ),
    warning(
        "FB0303",
        "A person's step without a budget lies on the way to contained or restored.",
    ),
    warning(
        "FB0304",
        "A step disturbs a source before its more volatile acquisition.",
    ),
    error("FB0305", "A reversible step has no undo."),
    error(
        "FB0306",
        "An approval does not say what happens when nobody decides in time.",
    ),
    error(
        "FB0307",
        "`${x}` stands unquoted inside `{ }` or `[ ]`, where YAML cannot read it.",
    ),
    error(
        "FB0308",
        "A variable is read where no earlier step can have set it.",
    ),
    warning(
        "FB0309",
        "A condition is more than `=` or `!=` on text, which today's CACAO runners cannot carry.",
    ),
    error("FB0310", "A step's effect is weaker than its action's."),
    warning(
        "FB0312",
        "The planned critical path is longer than the recovery limit.",
    ),
    warning(
        "FB0313",
        "The recovery limit is longer than the tier's RTO.",
    ),
    error(
        "FB0314",
        "An effect that leaves the organisation would be carried out in a drill.",
    ),
    error("FB0316", "A shell is run with a command line."),
    error("FB0317", "A milestone step would go on after its failure."),
    error("FB0318", "A numbered step of the runbook is missing."),
    warning(
        "FB0319",
        "A numbered step of the runbook stands in another order, and no `why` says why.",
    ),
    warning("FB0320", "An image is named by tag and not by digest."),
    error(
        "FB0322",
        "A secret would enter a command line, a text or an expression.",
    ),
];

/// The severity of a code; codes are literals of this room, so an unknown one is an error.
fn severity(code: &str) -> Severity {
    find(code).map_or(Severity::Error, |c| c.severity)
}

/// Finds a code.
pub fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|c| c.code == code)
}
