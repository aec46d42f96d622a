//! What an answer to a manual step must give: pure, from the playbook. A value that does not fit is refused before it is in the ledger,
//! because a step that is done without its values parks its run for ever.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::incident::Outcome;
use crate::playbook::model::{OutputFrom, Playbook, Step};
use crate::playbook::variable::Declaration;

/// The values that an answer must give, each with the words for what it may be.
pub(super) fn wanted<'p>(
    step: &'p Step,
    playbook: &'p Playbook,
) -> impl Iterator<Item = (&'p str, &'p Declaration)> {
    step.outputs
        .iter()
        .filter(|(_, from)| **from == OutputFrom::Answer)
        .filter_map(|(name, _)| Some((name.as_str(), playbook.vars.get(name)?)))
}

/// `--value NAME=VALUE` for each of them.
pub(super) fn flags(step: &Step, playbook: &Playbook) -> String {
    wanted(step, playbook)
        .map(|(name, _)| format!(" --value {name}=VALUE"))
        .collect()
}

/// `restore is yes or no`, for each of them; empty where none is wanted.
pub(super) fn said(step: &Step, playbook: &Playbook) -> String {
    let all: Vec<String> = wanted(step, playbook)
        .map(|(name, declared)| format!("{name} is {}", declared.allows()))
        .collect();
    all.join("; ")
}

/// The values of an answer in their kept form. One that failed owes none.
pub(super) fn check(
    step: &Step,
    playbook: &Playbook,
    outcome: Outcome,
    given: &BTreeMap<String, Value>,
) -> Result<BTreeMap<String, Value>, String> {
    if let Some(name) = given
        .keys()
        .find(|n| !wanted(step, playbook).any(|(w, _)| w == *n))
    {
        let asked: Vec<&str> = wanted(step, playbook).map(|(w, _)| w).collect();
        return Err(if asked.is_empty() {
            format!(
                "step `{}` asks for no value, and so for no `{name}`",
                step.path
            )
        } else {
            format!(
                "step `{}` asks for no value `{name}`; it asks for {}",
                step.path,
                asked.join(", ")
            )
        });
    }
    let mut kept = BTreeMap::new();
    for (name, declared) in wanted(step, playbook) {
        match given.get(name) {
            Some(value) => {
                let typed = value.as_str().and_then(|t| declared.kind.from_text(t));
                let value = declared
                    .check(name, typed.as_ref().unwrap_or(value))
                    .map_err(|e| match declared.allowed.as_slice() {
                        [] => format!("{e}; it is {}", declared.allows()),
                        // Then the error names them.
                        _ => e.to_string(),
                    })?;
                kept.insert(name.to_owned(), value);
            }
            None if outcome == Outcome::Failed => {}
            None => {
                return Err(format!(
                    "step `{}` is not answered without its value `{name}`: it is {}",
                    step.path,
                    declared.allows()
                ));
            }
        }
    }
    Ok(kept)
}
