//! What is called: FB0115, FB0116, FB0118, FB0305, FB0310.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::action::registry::{ActionSpec, ArgError, Sample, UndoSpec, Use};
use crate::incident::Effect;
use crate::playbook::model::{Call, Kind, OutputFrom, Step};
use crate::playbook::read::nearest;
use crate::playbook::variable::{self, Declaration, Type, Vars};

use super::Lint;

pub(super) fn look(lint: &mut Lint<'_>, step: &Step) {
    let calls: [(Option<&Call>, Use, &str, &str); 4] = match &step.kind {
        Kind::Check { call, .. } => own(step, call, Use::Check, "/check"),
        Kind::Call(call) => own(step, call, Use::Call, "/call"),
        _ => [
            (None, Use::Call, "", ""),
            (step.undo.as_ref(), Use::Undo, "/undo/call", "/undo/with"),
            (
                step.require.as_ref(),
                Use::Probe,
                "/require/call",
                "/require/with",
            ),
            (
                step.done_if.as_ref(),
                Use::Probe,
                "/done_if/call",
                "/done_if/with",
            ),
        ],
    };
    for (call, place, name_at, with_at) in calls {
        if let Some(call) = call {
            called(lint, step, call, place, name_at, with_at);
        }
    }
    effect(lint, step);
    outputs(lint, step);
}

type Calls<'s> = [(Option<&'s Call>, Use, &'static str, &'static str); 4];

fn own<'s>(step: &'s Step, call: &'s Call, place: Use, name_at: &'static str) -> Calls<'s> {
    [
        (Some(call), place, name_at, "/with"),
        (step.undo.as_ref(), Use::Undo, "/undo/call", "/undo/with"),
        (
            step.require.as_ref(),
            Use::Probe,
            "/require/call",
            "/require/with",
        ),
        (
            step.done_if.as_ref(),
            Use::Probe,
            "/done_if/call",
            "/done_if/with",
        ),
    ]
}

fn called(lint: &mut Lint<'_>, step: &Step, call: &Call, place: Use, name_at: &str, with_at: &str) {
    let Some(spec) = lint.registry.find(&call.action) else {
        let names: Vec<String> = lint.registry.all().map(|s| s.name.to_owned()).collect();
        let fix = match nearest(&call.action, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`firebreak playbook schema` names them all".into(),
        };
        lint.step(
            "FB0115",
            step,
            name_at,
            format!("there is no action `{}`", call.action),
            fix,
        );
        return;
    };
    if !spec.uses.contains(&place) {
        let word = match place {
            Use::Call => "call",
            Use::Check => "check",
            Use::Probe => "require or done_if",
            Use::Undo => "undo",
        };
        lint.step(
            "FB0115",
            step,
            name_at,
            format!("`{}` may not stand as `{word}`", spec.name),
            spec.about,
        );
    }
    if let Some(filled) = with_samples(&call.with, &lint.playbook.vars)
        && let Err(error) = (spec.check_args)(&filled)
        // What holds between several arguments depends on the values that the variables will have; the action checks it again then.
        && !(error.path == "." && has_variable(&call.with))
    {
        let below = argument(&error, with_at);
        let missing = error.message.starts_with("missing field");
        let pointer = format!("{}{below}", step.pointer);
        let place = if error.message.starts_with("unknown field") {
            lint.playbook.places.key(&pointer)
        } else if missing
            && with_at == "/with"
            && !lint.playbook.places.values.contains_key(&pointer)
        {
            lint.playbook
                .places
                .key(&format!("{}{name_at}", step.pointer))
        } else {
            lint.playbook.places.value(&pointer)
        };
        lint.at(
            "FB0116",
            place,
            &step.path.to_string(),
            format!(
                "`{}` does not take these arguments: {}",
                spec.name, error.message
            ),
            "`firebreak playbook schema` has the type of each argument",
        );
    }
}

/// True where an argument is a variable.
fn has_variable(with: &Value) -> bool {
    with.as_object().is_some_and(|map| {
        map.values()
            .any(|v| v.as_str().is_some_and(|t| t.contains("${")))
    })
}

/// The arguments with a possible value in place of each variable; none where something cannot be filled in, which [`super::flow`]
/// says better.
fn with_samples(with: &Value, declared: &BTreeMap<String, Declaration>) -> Option<Value> {
    let secrets = declared
        .iter()
        .filter(|(_, d)| d.kind == Type::Secret)
        .map(|(n, _)| (n.clone(), "fd:3".to_owned()));
    let mut vars = Vars::of_secrets(secrets);
    vars.restore(
        declared
            .iter()
            .filter(|(_, d)| d.kind != Type::Secret)
            .map(|(n, d)| (n.clone(), d.sample())),
    );
    variable::fill_arguments(with, &vars).ok()
}

/// `a.b[0].c` of `serde_path_to_error` as a pointer below the step.
fn argument(error: &ArgError, with_at: &str) -> String {
    let mut pointer = with_at.to_owned();
    if error.path != "." {
        for part in error.path.split(['.', '[', ']']).filter(|p| !p.is_empty()) {
            pointer.push('/');
            pointer.push_str(&part.replace('~', "~0").replace('/', "~1"));
        }
    }
    pointer
}

fn effect(lint: &mut Lint<'_>, step: &Step) {
    let spec = step.call().and_then(|c| lint.registry.find(&c.action));
    // A check of an action that is no check was refused as that.
    if let Some(spec) = spec
        && (matches!(step.kind, Kind::Call(_)) || spec.uses.contains(&Use::Check))
        && step.effect() < spec.effect
    {
        lint.step(
            "FB0310",
            step,
            "/effect",
            format!(
                "`{}` is {}, and the step says {}",
                spec.name,
                spec.effect,
                step.effect()
            ),
            format!("`effect: {}` or stronger", spec.effect),
        );
    }
    // Of an action that nobody knows, nobody can say whether it has an undo.
    let known = spec.is_some() || step.call().is_none();
    if known
        && step.effect() == Effect::Reversible
        && step.undo.is_none()
        && !spec.is_some_and(|s| s.undo == UndoSpec::Own)
    {
        let why = spec.map_or("a `run` step has none of its own", |s| s.undo.reason());
        lint.step(
            "FB0305",
            step,
            "/effect",
            format!("the step is reversible and has no undo: {why}"),
            "`undo: { call: …, with: { … } }`, or say `effect: irreversible`",
        );
    }
}

/// FB0118.
fn outputs(lint: &mut Lint<'_>, step: &Step) {
    for (name, from) in &step.outputs {
        let wrong = match (&step.kind, from) {
            (Kind::Manual { .. }, OutputFrom::Answer)
            | (
                Kind::Run { .. },
                OutputFrom::Stdout | OutputFrom::Stderr | OutputFrom::Exit | OutputFrom::Json(_),
            ) => None,
            (Kind::Call(call) | Kind::Check { call, .. }, OutputFrom::Result(pointer)) => {
                let spec = lint.registry.find(&call.action);
                spec.and_then(|s| field(s, pointer, lint.playbook.vars.get(name)))
            }
            (kind, _) => Some(format!("a `{}` step answers no such thing", kind.word())),
        };
        if let Some(wrong) = wrong {
            lint.step(
                "FB0118",
                step,
                &format!("/outputs/{name}/from"),
                format!("the output `{name}`: {wrong}"),
                "manual: answer; run: stdout, stderr, exit, json:/pointer; call and check: result:/pointer",
            );
        }
    }
}

fn field(spec: &ActionSpec, pointer: &str, declared: Option<&Declaration>) -> Option<String> {
    let mut parts = pointer.split('/').skip(1);
    let first = parts.next().unwrap_or_default();
    let Some((_, sample)) = spec.result.iter().find(|(name, _)| *name == first) else {
        let names: Vec<&str> = spec.result.iter().map(|(name, _)| *name).collect();
        return Some(format!(
            "`{}` answers {}, and no `{first}`",
            spec.name,
            names.join(", ")
        ));
    };
    let kind = &declared?.kind;
    let fits = parts.next().is_some()
        || match sample {
            Sample::Text => kind.is_text(),
            Sample::Integer => matches!(kind, Type::Integer | Type::Float),
            Sample::Bool => *kind == Type::Bool,
            Sample::Texts => matches!(kind, Type::List(inner) if inner.is_text()),
            Sample::Map => false,
        };
    (!fits).then(|| format!("`{first}` of `{}` is no {}", spec.name, kind.word()))
}
