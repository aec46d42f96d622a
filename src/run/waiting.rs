//! What of a run waits for a person, and the command that moves it on: pure, from definition and journal.

use serde::Serialize;

use crate::plan::policy::Need;
use crate::playbook::model::Kind;

use super::answers;
use super::definition::PinnedDefinition;
use super::journal::{Impossible, Journal};
use super::machine::{Hold, StepAt, Todo, standing};

/// What a step waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Awaited {
    /// An answer to a manual step.
    Answer,
    /// A decision about its gate.
    Approval,
    /// A person's word about what a doubtful step did.
    Verdict,
    /// A person who mends what holds it, and resumes.
    Person,
}

impl Awaited {
    /// In a sentence: "step `x` waits for …".
    pub fn as_str(self) -> &'static str {
        match self {
            Awaited::Answer => "an answer",
            Awaited::Approval => "approval",
            Awaited::Verdict => "a person's word about what it did",
            Awaited::Person => "a person",
        }
    }
}

/// One step that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Its path.
    pub step: String,
    /// What it waits for.
    pub awaits: Awaited,
    /// Why, one line.
    pub why: String,
    /// The command that moves it on, typable.
    pub next: String,
    /// Another command that moves it on, for who knows better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or: Option<String>,
    /// Code of the reason, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Every step that waits for a person, those that are asked first.
pub(super) fn waiting(
    definition: &PinnedDefinition,
    journal: &Journal,
) -> Result<Vec<Waiting>, Impossible> {
    let (todos, held) = standing(definition, journal)?;
    let mut all: Vec<Waiting> = todos
        .iter()
        .filter_map(|todo| asked(definition, todo))
        .collect();
    all.extend(held.into_iter().map(|h| Waiting {
        awaits: if h.doubt {
            Awaited::Verdict
        } else {
            Awaited::Person
        },
        step: h.path,
        why: h.why,
        next: h.hint,
        or: h.or,
        code: h.code,
    }));
    Ok(all)
}

/// Why a run that waits for these is parked: the first is told whole, the others are counted.
pub(super) fn hold(definition: &PinnedDefinition, waiting: &[Waiting]) -> Hold {
    let Some(first) = waiting.first() else {
        return Hold {
            why: "it waits for people".into(),
            steps: Vec::new(),
            hint: format!("firebreak resume {}", definition.incident),
            code: None,
        };
    };
    let others = match waiting.len() - 1 {
        0 => String::new(),
        1 => " (and one more step waits)".to_owned(),
        n => format!(" (and {n} more steps wait)"),
    };
    Hold {
        why: format!("{}{others}", first.why),
        steps: waiting.iter().map(|w| w.step.clone()).collect(),
        hint: first.next.clone(),
        code: first.code.clone(),
    }
}

fn asked(definition: &PinnedDefinition, todo: &Todo) -> Option<Waiting> {
    match todo {
        Todo::AwaitAnswer { at, deadline } => Some(answer(definition, at, deadline.as_deref())),
        Todo::AskGate { at, need, .. } | Todo::AwaitGate { at, need, .. } => {
            Some(approval(definition, at, *need))
        }
        _ => None,
    }
}

fn answer(definition: &PinnedDefinition, at: &StepAt, deadline: Option<&str>) -> Waiting {
    let step = definition.playbook.find(&at.path);
    let names = step.map(|s| answers::flags(s, &definition.playbook));
    let names = names.unwrap_or_default();
    let values = step
        .map(|s| answers::said(s, &definition.playbook))
        .filter(|said| !said.is_empty())
        .map(|said| format!("; {said}"))
        .unwrap_or_default();
    let owner = step
        .and_then(|s| s.owner.as_deref())
        .map(|o| format!(" of {o}"))
        .unwrap_or_default();
    let until = deadline.map(|d| format!(", until {d}")).unwrap_or_default();
    Waiting {
        step: at.path.to_string(),
        awaits: Awaited::Answer,
        why: format!(
            "step `{}` waits for an answer{owner}{until}{values}",
            at.path
        ),
        next: format!(
            "firebreak incident answer {} TEXT{names} --incident {}",
            at.path, definition.incident
        ),
        or: None,
        code: None,
    }
}

fn approval(definition: &PinnedDefinition, at: &StepAt, need: Need) -> Waiting {
    let (incident, path) = (&definition.incident, &at.path);
    let gate = definition
        .playbook
        .find(path)
        .is_some_and(|s| s.kind == Kind::Approve);
    let what = if gate { "a decision" } else { "approval" };
    Waiting {
        step: path.to_string(),
        awaits: Awaited::Approval,
        why: format!(
            "step `{path}` waits for {what}: {}",
            crate::plan::plan::need_text(need)
        ),
        next: format!(
            "firebreak playbook approve --step {path}{} --incident {incident}",
            decision_flags(need)
        ),
        or: None,
        code: None,
    }
}

/// What else the command of a decision needs.
pub(super) fn decision_flags(need: Need) -> &'static str {
    match need {
        Need::Nothing | Need::Typed => "",
        Need::TypedWithReason => " --reason TEXT",
        Need::Signed { .. } | Need::SecondPerson => " --principal YOU --key FILE",
    }
}
