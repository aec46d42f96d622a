//! Why a run could not be planned, started or carried on.

use crate::incident::RunId;
use crate::plan::approval::Refusal;
use crate::plan::plan::{Missing, PlanError};
use crate::plan::stale::Stale;
use crate::playbook::variable::VarError;
use crate::port::LedgerError;

use super::journal::Impossible;

/// Why the engine refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The playbook cannot be read; its findings as text, each with its code and place.
    #[error("the playbook cannot be used: {}", .findings.join("; "))]
    Playbook {
        /// Code of the first finding.
        code: String,
        /// All of them.
        findings: Vec<String>,
    },
    /// Variables are wrong.
    #[error("{}", variables(.0))]
    Variables(Vec<VarError>),
    /// The plan file.
    #[error("cannot use the plan: {0}")]
    Plan(#[from] PlanError),
    /// FB0401.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// FB0406.
    #[error("the plan is for a {plan} incident and this one is {incident}")]
    OtherMode {
        /// In the plan.
        plan: &'static str,
        /// Here.
        incident: &'static str,
    },
    /// The plan is of another incident.
    #[error("the plan is for incident {plan}, and this is {incident}")]
    OtherIncident {
        /// In the plan.
        plan: String,
        /// Here.
        incident: String,
    },
    /// FB0402, FB0403, FB0405: something stands in the way.
    #[error("step `{}`: {}", .0.step, .0.what)]
    InTheWay(Missing),
    /// FB0603.
    #[error("another process carries out run {0}")]
    Busy(RunId),
    /// FB0604.
    #[error("the ledger cannot be this run's: {0}")]
    Impossible(#[from] Impossible),
    /// FB0601, FB0604.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Files of the run.
    #[error("cannot {tried}: {detail}")]
    Files {
        /// What was tried.
        tried: String,
        /// The system's words.
        detail: String,
    },
    /// FB0604: a pinned file is not what the ledger names.
    #[error("the pinned `{0}` is gone, or is not what the ledger names")]
    Changed(String),
    /// There is no such run.
    #[error("this incident has no run {0}")]
    NoSuchRun(RunId),
    /// There is no such step, or it is not the moment.
    #[error("{0}")]
    NotNow(String),
    /// FB0501–FB0509.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// All of them in a line. The first one's code is the error's own and is told with it; another code is named where it differs.
fn variables(all: &[VarError]) -> String {
    let own = all.first().map(|e| e.code);
    let words = all.iter().map(|e| match own {
        Some(own) if own != e.code => format!("{}: {e}", e.code),
        _ => e.to_string(),
    });
    words.collect::<Vec<_>>().join("; ")
}

impl EngineError {
    /// Its code.
    pub fn code(&self) -> &str {
        match self {
            EngineError::Playbook { code, .. } => code,
            EngineError::Variables(all) => all.first().map_or("FB0202", |e| e.code),
            EngineError::Plan(_) | EngineError::Stale(_) | EngineError::OtherIncident { .. } => {
                "FB0401"
            }
            EngineError::OtherMode { .. } => "FB0406",
            EngineError::InTheWay(missing) => &missing.code,
            EngineError::Busy(_) => "FB0603",
            EngineError::Impossible(_)
            | EngineError::Changed(_)
            | EngineError::Ledger(LedgerError::Tampered { .. }) => "FB0604",
            EngineError::Ledger(LedgerError::Busy { .. }) => "FB0603",
            EngineError::Ledger(_) | EngineError::Files { .. } => "FB0601",
            EngineError::NoSuchRun(_) | EngineError::NotNow(_) => "FB0610",
            EngineError::Refused(refusal) => refusal.code(),
        }
    }
    /// A failed file operation.
    pub fn files(tried: impl Into<String>, error: &std::io::Error) -> Self {
        EngineError::Files {
            tried: tried.into(),
            detail: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playbook::variable::Vars;
    use std::collections::BTreeMap;

    #[test]
    fn wrong_variables_name_their_code_once() {
        let given = BTreeMap::from([("one".to_owned(), "x".to_owned())]);
        let all = Vars::start(&BTreeMap::new(), &given).expect_err("not declared");
        let error = EngineError::Variables(all);
        assert_eq!(error.code(), "FB0204");
        assert!(!error.to_string().contains("FB0204"), "{error}");
    }
}
