//! What a step's end becomes in the ledger: outcome, class, code and outputs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::action::{ActionError, Class};
use crate::incident::Outcome;
use crate::incident::body::StepFinished;
use crate::plan::call::{jcs, sha256_hex};
use crate::playbook::model::{OutputFrom, Playbook, Step};
use crate::playbook::variable::Vars;

/// How a step ended, before it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    /// Done or failed.
    Finished(StepFinished),
    /// It may have happened.
    InDoubt(String),
}

/// Where outputs come from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Source {
    pub(super) result: Option<Value>,
    pub(super) stdout: Option<String>,
    pub(super) stderr: Option<String>,
    pub(super) exit: Option<i64>,
    pub(super) answer: BTreeMap<String, Value>,
}

/// A step that is done.
pub(super) fn done(by: &str, summary: impl Into<String>) -> StepFinished {
    StepFinished {
        outcome: Outcome::Done,
        by: by.into(),
        summary: short(&summary.into()),
        outputs: BTreeMap::new(),
        result_sha256: None,
        class: None,
        code: None,
        elapsed_ms: 0,
        branch: None,
    }
}

/// A step that failed, with nothing left in doubt.
pub(super) fn failed(class: &str, code: &str, summary: impl Into<String>) -> StepFinished {
    StepFinished {
        outcome: Outcome::Failed,
        class: Some(class.into()),
        code: Some(code.into()),
        ..done("result", summary)
    }
}

/// A step that is done, with the outputs that it declares. One that does not fit its variable is left out and said: what was done
/// stays done.
pub(super) fn done_with(
    by: &str,
    summary: &str,
    step: &Step,
    playbook: &Playbook,
    source: &Source,
) -> StepFinished {
    let (outputs, wrong) = outputs(step, playbook, source);
    let summary = if wrong.is_empty() {
        summary.to_owned()
    } else {
        format!("{summary}; {}", wrong.join("; "))
    };
    StepFinished {
        outputs,
        result_sha256: source.result.as_ref().map(|r| sha256_hex(&jcs(r))),
        code: (!wrong.is_empty()).then(|| "FB0202".to_owned()),
        ..done(by, summary)
    }
}

fn outputs(
    step: &Step,
    playbook: &Playbook,
    source: &Source,
) -> (BTreeMap<String, Value>, Vec<String>) {
    let mut vars = Vars::default();
    let mut wrong = Vec::new();
    for (name, from) in &step.outputs {
        match value(name, from, source) {
            None => wrong.push(format!("output `{name}` is not in its answer")),
            Some(value) => {
                let typed = playbook
                    .vars
                    .get(name)
                    .and_then(|d| value.as_str().and_then(|t| d.kind.from_text(t)))
                    .unwrap_or(value);
                if let Err(e) = vars.set(&playbook.vars, name, &typed) {
                    wrong.push(format!("output {e}"));
                }
            }
        }
    }
    (vars.values().clone(), wrong)
}

fn value(name: &str, from: &OutputFrom, source: &Source) -> Option<Value> {
    let trimmed = |t: &Option<String>| {
        t.as_deref()
            .map(|t| json!(t.strip_suffix('\n').unwrap_or(t)))
    };
    match from {
        OutputFrom::Stdout => trimmed(&source.stdout),
        OutputFrom::Stderr => trimmed(&source.stderr),
        OutputFrom::Exit => source.exit.map(|e| json!(e)),
        OutputFrom::Answer => source.answer.get(name).cloned(),
        OutputFrom::Json(pointer) => {
            let read: Value = serde_json::from_str(source.stdout.as_deref()?).ok()?;
            read.pointer(pointer).cloned()
        }
        OutputFrom::Result(pointer) => source.result.as_ref()?.pointer(pointer).cloned(),
    }
}

/// What a failed verb means. Of a reading step nothing is ever in doubt: it took too long.
pub(super) fn of_error(error: &ActionError, reads: bool) -> End {
    match error.class {
        Class::InDoubt | Class::Timeout if !reads => End::InDoubt(error.to_string()),
        Class::InDoubt => End::Finished(failed("timeout", "FB0606", error.to_string())),
        _ => End::Finished(failed(error.class.as_str(), error.code, said(error))),
    }
}

fn said(error: &ActionError) -> String {
    match &error.hint {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    }
}

/// Entries hold one line of at most 1,000 characters.
pub(super) fn short(text: &str) -> String {
    const MOST: usize = 1000;
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if line.chars().count() <= MOST {
        return line;
    }
    line.chars().take(MOST).chain("…".chars()).collect()
}
