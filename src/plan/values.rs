//! Variables of a run at one moment: filling steps in and answering conditions.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::playbook::condition::{Answer, Condition};
use crate::playbook::duration;
use crate::playbook::model::{Call, Kind, Playbook, Span, Step};
use crate::playbook::variable::{FillError, Type, Vars, fill_arguments, fill_text};

use super::call::FilledCall;

/// What a run was given, over the playbook's secrets (by reference).
pub fn restored(playbook: &Playbook, given: &BTreeMap<String, Value>) -> Vars {
    let secrets = playbook
        .vars
        .iter()
        .filter(|(_, d)| d.kind == Type::Secret && d.from.is_some())
        .map(|(n, d)| (n.clone(), d.clone()))
        .collect();
    let mut vars = Vars::start(&secrets, &BTreeMap::new()).unwrap_or_default();
    vars.restore(given.clone());
    vars
}

/// A step's call with every value filled in.
///
/// # Errors
/// With the first variable that has no value yet.
pub fn fill_step(step: &Step, vars: &Vars) -> Result<FilledCall, FillError> {
    let (what, args) = match &step.kind {
        Kind::Call(call) => call_parts(call, vars)?,
        Kind::Check { call, expect } => {
            let (what, args) = call_parts(call, vars)?;
            (what, json!({ "with": args, "expect": expect }))
        }
        Kind::Run { argv } => {
            let words: Result<Vec<String>, FillError> =
                argv.iter().map(|w| fill_text(w, vars)).collect();
            (json!(words?), json!({}))
        }
        Kind::Manual { text } | Kind::Note { text } => (json!(fill_text(text, vars)?), json!({})),
        Kind::Notify(n) => (
            json!(fill_text(&n.template, vars)?),
            json!({ "to": n.to, "external": n.external }),
        ),
        Kind::Approve => (json!(step.title()), json!({})),
        Kind::Wait { time } => (json!(span_text(time, vars)?), json!({})),
        Kind::If { condition, .. } => (json!(condition), json!({})),
        Kind::Parallel { .. } | Kind::Steps { .. } => (json!(step.title()), json!({})),
    };
    Ok(FilledCall {
        kind: step.kind.word(),
        effect: step.effect(),
        what,
        args,
    })
}

fn call_parts(call: &Call, vars: &Vars) -> Result<(Value, Value), FillError> {
    Ok((json!(call.action), fill_arguments(&call.with, vars)?))
}

/// The arguments that the action itself gets.
pub fn action_args(call: &FilledCall) -> &Value {
    if call.kind == "check" {
        &call.args["with"]
    } else {
        &call.args
    }
}

fn span_text(span: &Span, vars: &Vars) -> Result<String, FillError> {
    match span {
        Span::Fixed(time) => Ok(duration::format(*time)),
        Span::Variable(name) => fill_text(&format!("${{{name}}}"), vars),
    }
}

/// How long a wait is; the error says why that cannot be told.
pub fn span(span: &Span, vars: &Vars) -> Result<Duration, String> {
    if let Span::Fixed(time) = span {
        return Ok(*time);
    }
    let text = span_text(span, vars).map_err(|e| e.to_string())?;
    duration::parse(&text).ok_or_else(|| format!("`{text}` is no duration"))
}

/// Answers a condition; one that does not parse is an error, never false.
pub fn holds(condition: &str, values: &BTreeMap<String, Value>) -> Answer {
    match Condition::parse(condition) {
        Ok(condition) => condition.eval(values),
        Err(e) => Answer::Error(e.to_string()),
    }
}
