//! One verdict a step: blocked, skip, unknown, needs-approval or run. What rests on an effect that has not happened yet is unknown,
//! never shown as skipped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::incident::{Effect, Mode};
use crate::playbook::condition::Answer;
use crate::playbook::model::{DrillMode, Kind, Step};
use crate::playbook::variable::{FillError, Vars};

use super::call::FilledCall;
use super::plan::Basis;
use super::policy::{self, Need};
use super::seen::{Observation, Previewed, Probed, StepSeen};
use super::values;

/// What a plan says of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It cannot be done now.
    Blocked,
    /// Nothing to do.
    Skip,
    /// It rests on something that has not happened yet.
    Unknown,
    /// People are asked first.
    NeedsApproval,
    /// It runs.
    Run,
}

impl Verdict {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Blocked => "blocked",
            Verdict::Skip => "skip",
            Verdict::Unknown => "unknown",
            Verdict::NeedsApproval => "needs-approval",
            Verdict::Run => "run",
        }
    }
}

/// Variables that an earlier step will set are not known while planning, whatever their default.
fn known_vars(basis: &Basis<'_>) -> Vars {
    let set: Vec<&String> = basis
        .playbook
        .all_steps()
        .into_iter()
        .flat_map(|s| s.outputs.keys())
        .collect();
    let known: BTreeMap<_, _> = basis
        .vars
        .values()
        .iter()
        .filter(|(name, _)| !set.contains(name))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    values::restored(basis.playbook, &known)
}

/// The call of a step where every value is known while planning.
pub fn known_call(basis: &Basis<'_>, step: &Step) -> Option<FilledCall> {
    values::fill_step(step, &known_vars(basis)).ok()
}

/// Verdicts of all steps by path, each with its reason.
pub fn judge(basis: &Basis<'_>, seen: &Observation) -> BTreeMap<String, (Verdict, Option<String>)> {
    let mut walk = Walk {
        basis,
        seen,
        vars: known_vars(basis),
        unproven: None,
        verdicts: BTreeMap::new(),
    };
    walk.block(&basis.playbook.steps, &Way::Sure);
    walk.verdicts
}

/// How sure it is that the walk comes by here.
#[derive(Debug, Clone)]
enum Way {
    Sure,
    Unknown(String),
    Not(&'static str),
}

struct Walk<'a> {
    basis: &'a Basis<'a>,
    seen: &'a Observation,
    vars: Vars,
    /// The newest earlier step with an effect that has not happened.
    unproven: Option<String>,
    verdicts: BTreeMap<String, (Verdict, Option<String>)>,
}

impl Walk<'_> {
    fn block(&mut self, steps: &[Step], way: &Way) {
        for step in steps {
            let skipped =
                self.basis.mode == Mode::Drill && step.drill_or_default() == DrillMode::Skip;
            let way = if skipped {
                &Way::Not("left out in drills")
            } else {
                way
            };
            match &step.kind {
                Kind::Steps { steps } | Kind::Parallel { steps } => self.block(steps, way),
                Kind::If {
                    condition,
                    then,
                    otherwise,
                } => {
                    let (yes, no) = self.ways(condition, way);
                    self.block(then, &yes);
                    self.block(otherwise, &no);
                }
                _ => self.leaf(step, way),
            }
        }
    }

    fn ways(&self, condition: &str, way: &Way) -> (Way, Way) {
        if let Way::Not(_) = way {
            return (way.clone(), way.clone());
        }
        const LEFT: Way = Way::Not("the branch is not taken");
        match values::holds(condition, self.vars.values()) {
            Answer::True => (way.clone(), LEFT),
            Answer::False => (LEFT, way.clone()),
            Answer::Unknown(name) => {
                let why = Way::Unknown(format!(
                    "`{condition}` rests on `{name}`, which is set later"
                ));
                (why.clone(), why)
            }
            Answer::Error(e) => {
                let why = Way::Unknown(format!("`{condition}` cannot be evaluated: {e}"));
                (why.clone(), why)
            }
        }
    }

    fn leaf(&mut self, step: &Step, way: &Way) {
        let path = step.path.to_string();
        let nothing = StepSeen::default();
        let seen = self.seen.steps.get(&path).unwrap_or(&nothing);
        let judged = match way {
            Way::Not(why) => (Verdict::Skip, Some((*why).to_owned())),
            Way::Unknown(why) => (Verdict::Unknown, Some(why.clone())),
            Way::Sure => self.verdict(step, seen),
        };
        if step.effect() > Effect::Read && !matches!(judged.0, Verdict::Skip | Verdict::Blocked) {
            self.unproven = Some(path.clone());
        }
        self.verdicts.insert(path, judged);
    }

    fn verdict(&self, step: &Step, seen: &StepSeen) -> (Verdict, Option<String>) {
        if let Some(blocked) = blocked(seen) {
            return match &self.unproven {
                None => (Verdict::Blocked, Some(blocked)),
                Some(earlier) => (
                    Verdict::Unknown,
                    Some(format!("{blocked}; that may change with step `{earlier}`")),
                ),
            };
        }
        if is_done(seen) {
            return match &self.unproven {
                None => (Verdict::Skip, Some("it is so already".into())),
                Some(earlier) => (
                    Verdict::Unknown,
                    Some(format!(
                        "it is so now; that may change with step `{earlier}`"
                    )),
                ),
            };
        }
        if let Some(Ok(Previewed {
            idle: Some(why), ..
        })) = &seen.preview
        {
            return (Verdict::Skip, Some(why.clone()));
        }
        if let Err(e) = values::fill_step(step, &self.vars) {
            return (Verdict::Unknown, Some(unset(&e)));
        }
        let looks = step.require.is_some()
            || step.done_if.is_some()
            || matches!(step.kind, Kind::Check { .. });
        if let (true, Some(earlier)) = (looks, &self.unproven) {
            return (
                Verdict::Unknown,
                Some(format!("it looks at what step `{earlier}` will change")),
            );
        }
        match policy::need(self.basis.policy.name, step) {
            Need::Nothing => (Verdict::Run, None),
            Need::SecondPerson => (
                Verdict::NeedsApproval,
                Some("it waits for a second person: policy `solo` refuses it".into()),
            ),
            _ => (Verdict::NeedsApproval, None),
        }
    }
}

fn unset(error: &FillError) -> String {
    match error {
        FillError::Unset(name) => format!("it needs `{name}`, which an earlier step sets"),
        other => other.to_string(),
    }
}

fn blocked(seen: &StepSeen) -> Option<String> {
    match &seen.require {
        Some(Probed::False) => return Some("its requirement does not hold".into()),
        Some(Probed::Failed(why)) => {
            return Some(format!("its requirement cannot be probed: {why}"));
        }
        Some(Probed::True) | None => {}
    }
    match &seen.preview {
        Some(Ok(preview)) if !preview.blocked.is_empty() => Some(preview.blocked.join("; ")),
        _ => None,
    }
}

fn is_done(seen: &StepSeen) -> bool {
    let previewed = matches!(&seen.preview, Some(Ok(p)) if p.already && p.blocked.is_empty());
    seen.done_if == Some(Probed::True) || (seen.done_if.is_none() && previewed)
}
