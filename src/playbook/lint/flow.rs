//! What is known when it is read: FB0202 to FB0205, FB0207, FB0308, FB0309 and the variables' part of FB0322.
//!
//! A walk in path order with the set of names that some earlier step *can* have set: after an `if` what either branch sets; inside
//! a `parallel` block only what was set before it, after it what all branches set.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::registry::Sample;
use crate::playbook::condition::{Comparison, Condition, Literal, strangers};
use crate::playbook::model::{Kind, Span, Step};
use crate::playbook::variable::{self, FillError, Piece, Type};

use super::Lint;
use super::leak::each_text;

type Set = BTreeSet<String>;

pub(super) fn look(lint: &mut Lint<'_>) {
    let playbook = lint.playbook;
    let start: Set = playbook
        .vars
        .iter()
        .filter(|(_, d)| d.external || d.value.is_some() || d.kind == Type::Secret)
        .map(|(name, _)| name.clone())
        .collect();
    block(lint, &playbook.steps, start);
}

fn block(lint: &mut Lint<'_>, steps: &[Step], mut set: Set) -> Set {
    for step in steps {
        set = one(lint, step, set);
    }
    set
}

fn one(lint: &mut Lint<'_>, step: &Step, set: Set) -> Set {
    reads(lint, step, &set);
    let mut after = set.clone();
    match &step.kind {
        Kind::If {
            condition,
            then,
            otherwise,
        } => {
            branch(lint, step, condition, &set);
            after.extend(block(lint, then, set.clone()));
            after.extend(block(lint, otherwise, set));
        }
        Kind::Parallel { steps } => {
            for inner in steps {
                after.extend(one(lint, inner, set.clone()));
            }
        }
        Kind::Steps { steps } => after = block(lint, steps, set),
        Kind::Check { call, expect } => {
            let fields: BTreeMap<&str, Sample> = lint
                .registry
                .find(&call.action)
                .map(|s| s.result.iter().copied().collect())
                .unwrap_or_default();
            if lint.registry.find(&call.action).is_some() {
                expression(lint, step, expect, "/expect", &set, &fields);
            }
        }
        _ => {}
    }
    writes(lint, step, &mut after);
    after
}

/// Variables in texts.
fn reads(lint: &mut Lint<'_>, step: &Step, set: &Set) {
    // An undo runs after its step: it may use what the step itself has set.
    let mut undo_set = set.clone();
    undo_set.extend(step.outputs.keys().cloned());
    each_text(step, &mut |below, _, text| {
        let known = if below.starts_with("/undo/") {
            &undo_set
        } else {
            set
        };
        // One level below `with`: a whole argument, where a secret may go by reference.
        let whole = below
            .split_once("/with/")
            .is_some_and(|(_, rest)| !rest.contains('/'));
        texts(lint, step, &below, text, known, whole);
    });
    if let Kind::Wait {
        time: Span::Variable(name),
    } = &step.kind
    {
        texts(lint, step, "/wait", &format!("${{{name}}}"), set, false);
        let kind = lint.playbook.vars.get(name).map(|d| d.kind.clone());
        if kind.is_some_and(|k| k != Type::Duration) {
            lint.step(
                "FB0202",
                step,
                "/wait",
                format!("`{name}` is no duration"),
                "declare it with `type: duration`",
            );
        }
    }
}

fn texts(
    lint: &mut Lint<'_>,
    step: &Step,
    below: &str,
    text: &str,
    set: &Set,
    whole_argument: bool,
) {
    let pieces = match variable::pieces(text) {
        Ok(pieces) => pieces,
        Err(FillError::Malformed(what)) => {
            lint.step(
                "FB0204",
                step,
                below,
                format!("`{what}` names no variable"),
                "`${name}`: lower-case letters, digits and `_`",
            );
            return;
        }
        Err(_) => return,
    };
    for piece in &pieces {
        let Piece::Name(name) = piece else { continue };
        let Some(declared) = lint.playbook.vars.get(*name) else {
            lint.step(
                "FB0204",
                step,
                below,
                format!("the variable `{name}` is not declared"),
                "declare it under `vars:`",
            );
            continue;
        };
        if declared.kind == Type::Secret && !(whole_argument && pieces.len() == 1) {
            lint.step(
                "FB0322",
                step,
                below,
                format!("the secret `{name}` would become text"),
                "give it to an action as a whole argument: it goes by reference",
            );
        }
        if !set.contains(*name) {
            unset(lint, step, below, name);
        }
    }
}

fn unset(lint: &mut Lint<'_>, step: &Step, below: &str, name: &str) {
    lint.step(
        "FB0308",
        step,
        below,
        format!("no step before this one can have set `{name}`"),
        "give it a `value`, `external: true`, or an output of an earlier step",
    );
}

fn branch(lint: &mut Lint<'_>, step: &Step, condition: &str, set: &Set) {
    expression(lint, step, condition, "/if", set, &BTreeMap::new());
    if Condition::parse(condition).is_ok_and(|c| !c.is_text_comparison()) {
        lint.step(
            "FB0309",
            step,
            "/if",
            "today's CACAO runners carry only `==` and `!=` on text",
            "compare a text, or allow FB0309 with a reason",
        );
    }
}

fn expression(
    lint: &mut Lint<'_>,
    step: &Step,
    text: &str,
    below: &str,
    set: &Set,
    fields: &BTreeMap<&str, Sample>,
) {
    // A condition that does not parse was refused by the reader.
    let Ok(condition) = Condition::parse(text) else {
        return;
    };
    let mut known = set.clone();
    known.extend(fields.keys().map(|f| (*f).to_owned()));
    let pointer = format!("{}{below}", step.pointer);
    for (name, column) in strangers(&condition, &known) {
        let place = lint.playbook.places.inside(&pointer, column);
        let (message, fix) = if fields.is_empty() {
            (
                format!("no step before this one can have set `{name}`"),
                "give it a `value`, `external: true`, or an output of an earlier step".to_owned(),
            )
        } else {
            let names: Vec<&str> = fields.keys().copied().collect();
            (
                format!("neither the result nor an earlier step sets `{name}`"),
                format!("the result has {}", names.join(", ")),
            )
        };
        lint.at("FB0308", place, &step.path.to_string(), message, fix);
    }
    for name in condition.names().keys() {
        if !fields.contains_key(name.as_str())
            && lint
                .playbook
                .vars
                .get(name)
                .is_some_and(|d| d.kind == Type::Secret)
        {
            lint.step(
                "FB0322",
                step,
                below,
                format!("the secret `{name}` is read by an expression"),
                "expressions never see secrets",
            );
        }
    }
    for comparison in condition.comparisons() {
        compared(lint, step, &pointer, comparison, fields);
    }
    let bare = condition
        .bare_name()
        .and_then(|name| type_of(lint, name, fields));
    if condition.never_boolean() || bare.is_some_and(|t| t != Family::Bool) {
        lint.step(
            "FB0207",
            step,
            below,
            "the expression does not answer true or false",
            "compare it with something",
        );
    }
}

/// What a literal must be to be comparable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Text,
    Number,
    Bool,
    Other,
}

fn type_of(lint: &Lint<'_>, name: &str, fields: &BTreeMap<&str, Sample>) -> Option<Family> {
    if let Some(sample) = fields.get(name) {
        return Some(match sample {
            Sample::Text => Family::Text,
            Sample::Integer => Family::Number,
            Sample::Bool => Family::Bool,
            Sample::Texts | Sample::Map => Family::Other,
        });
    }
    Some(match &lint.playbook.vars.get(name)?.kind {
        Type::Integer | Type::Float => Family::Number,
        Type::Bool => Family::Bool,
        // Said already, as FB0322.
        Type::Secret => return None,
        Type::List(_) => Family::Other,
        _ => Family::Text,
    })
}

fn compared(
    lint: &mut Lint<'_>,
    step: &Step,
    pointer: &str,
    c: &Comparison,
    fields: &BTreeMap<&str, Sample>,
) {
    let Some(family) = type_of(lint, &c.name, fields) else {
        return;
    };
    let literal = match c.literal {
        Literal::Text => Family::Text,
        Literal::Integer | Literal::Float => Family::Number,
        Literal::Bool => Family::Bool,
        Literal::Null | Literal::Bytes => Family::Other,
    };
    let place = lint.playbook.places.inside(pointer, c.column);
    let path = step.path.to_string();
    if family != literal || family == Family::Other {
        lint.at(
            "FB0203",
            place,
            &path,
            format!("`{}` is compared with a literal of another type", c.name),
            "compare it with a value of its own type",
        );
        return;
    }
    let declared = lint
        .playbook
        .vars
        .get(&c.name)
        .filter(|_| !fields.contains_key(c.name.as_str()));
    if let (Some(text), Some(d)) = (&c.text, declared)
        && !d.allowed.is_empty()
        && !d.allowed.iter().any(|a| a.as_str() == Some(text))
    {
        lint.at(
            "FB0202",
            place,
            &path,
            format!("`{}` can never be '{text}'", c.name),
            "compare it with one of its `enum`",
        );
    }
}

/// Outputs and planned values.
fn writes(lint: &mut Lint<'_>, step: &Step, set: &mut Set) {
    for name in step.outputs.keys() {
        let below = format!("/outputs/{name}");
        match lint.playbook.vars.get(name) {
            None => lint.step(
                "FB0204",
                step,
                &below,
                format!("the variable `{name}` is not declared"),
                "declare it under `vars:`",
            ),
            Some(d) if d.constant => lint.step(
                "FB0205",
                step,
                &below,
                format!("`{name}` is a constant"),
                "set another variable",
            ),
            Some(d) if d.kind == Type::Secret => {
                lint.step(
                    "FB0322",
                    step,
                    &below,
                    format!("`{name}` is a secret and never an output"),
                    "outputs are recorded; secrets never are",
                );
            }
            Some(_) => {
                set.insert(name.clone());
            }
        }
    }
    for (name, value) in &step.plan_value {
        let below = format!("/plan_value/{name}");
        match lint.playbook.vars.get(name) {
            None => lint.step(
                "FB0204",
                step,
                &below,
                format!("the variable `{name}` is not declared"),
                "declare it under `vars:`",
            ),
            Some(d) => {
                if let Err(e) = d.check(name, value) {
                    lint.step(
                        e.code,
                        step,
                        &below,
                        e.to_string(),
                        "assume a value that fits",
                    );
                }
            }
        }
    }
}
