//! The runbook's order, the order of volatility, and the time it takes: FB0303, FB0304, FB0312, FB0313, FB0318, FB0319.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::action::registry::{ActionSpec, Registry};
use crate::incident::{Milestone, StepPath};
use crate::playbook::duration;
use crate::playbook::model::{Kind, Playbook, Span, Step, WaitAck};
use crate::playbook::runbook;

use super::Lint;

pub(super) fn look(lint: &mut Lint<'_>) {
    numbered(lint);
    volatility(lint);
    budgets(lint);
    limits(lint);
}

/// FB0318 and FB0319.
fn numbered(lint: &mut Lint<'_>) {
    let playbook = lint.playbook;
    let steps = playbook.all_steps();
    let Some(name) = &playbook.runbook else {
        if let Some(step) = steps.iter().find(|s| !s.runbook.is_empty()) {
            lint.step(
                "FB0318",
                step,
                "/runbook",
                "the step names the runbook and the playbook names no chapter",
                "`runbook: \"scenario 3\"` at the top",
            );
        }
        return;
    };
    let Some(chapter) = runbook::chapter(name) else {
        lint.file(
            "FB0318",
            "/runbook",
            format!("the runbook has no chapter `{name}`"),
            "scenario 1 to scenario 5",
        );
        return;
    };
    let order: Vec<&str> = chapter.steps.iter().map(|(n, _)| *n).collect();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for step in &steps {
        let own: Vec<&str> = step.runbook.iter().map(String::as_str).collect();
        if let Some(i) = own.iter().position(|n| !order.contains(n)) {
            lint.step(
                "FB0318",
                step,
                &format!("/runbook/{i}"),
                format!("`{name}` has no step {}", own[i]),
                format!("it has {}", order.join(", ")),
            );
        }
        let early = own.iter().find_map(|n| {
            let before = order.iter().take_while(|o| *o != n);
            let missing: Vec<&str> = before
                .copied()
                .filter(|o| !seen.contains(o) && !own.contains(o))
                .collect();
            (order.contains(n) && !missing.is_empty()).then(|| (*n, missing.join(", ")))
        });
        if let Some((number, missing)) = early
            && step.why.as_deref().is_none_or(|w| w.trim().is_empty())
        {
            lint.step(
                "FB0319",
                step,
                "/runbook",
                format!("{number} stands before {missing}"),
                "say why: `why: …`",
            );
        }
        seen.extend(own);
    }
    for (number, text) in chapter.steps {
        if !seen.contains(number) {
            lint.file(
                "FB0318",
                "/runbook",
                format!("no step carries {number} ({text})"),
                format!("`runbook: [\"{number}\"]` on the step that does it"),
            );
        }
    }
}

/// FB0304: what is gone after a step must have been taken before it.
fn volatility(lint: &mut Lint<'_>) {
    let called: Vec<(&Step, &ActionSpec)> = lint
        .playbook
        .all_steps()
        .into_iter()
        .filter_map(|s| Some((s, lint.registry.find(&s.call()?.action)?)))
        .collect();
    for (i, (step, spec)) in called
        .iter()
        .enumerate()
        .filter(|(_, (_, s))| s.disturbs > 0)
    {
        let taken: BTreeSet<&str> = called[..i].iter().map(|(_, s)| s.name).collect();
        let late = called[i + 1..].iter().find(|(later, s)| {
            s.volatility.is_some_and(|v| v <= spec.disturbs)
                && !taken.contains(s.name)
                && later.why.is_none()
        });
        if let Some((later, acquires)) = late
            && step.why.is_none()
        {
            lint.step(
                "FB0304",
                step,
                "",
                format!(
                    "the step disturbs what `{}` acquires later (step `{}`)",
                    acquires.name, later.path
                ),
                "acquire first, most volatile first, or say why not: `why: …`",
            );
        }
    }
}

/// FB0303.
fn budgets(lint: &mut Lint<'_>) {
    let playbook = lint.playbook;
    let mut said: BTreeSet<&StepPath> = BTreeSet::new();
    for milestone in [Milestone::Contained, Milestone::Restored] {
        for target in targets(playbook, milestone) {
            for step in way_to(&playbook.steps, target) {
                let person = matches!(step.kind, Kind::Manual { .. } | Kind::Approve);
                if person && step.budget.is_none() && said.insert(&step.path) {
                    lint.step(
                        "FB0303",
                        step,
                        "",
                        format!(
                            "a person's step without a budget lies on the way to `{milestone}`"
                        ),
                        "`budget: 10m`, or move paperwork into a parallel branch",
                    );
                }
            }
        }
    }
}

fn targets(playbook: &Playbook, milestone: Milestone) -> Vec<&StepPath> {
    playbook
        .all_steps()
        .into_iter()
        .filter(|s| s.milestone.is_some_and(|m| m.name == milestone))
        .map(|s| &s.path)
        .collect()
}

/// The steps that must end before `target` has, itself among them: the way to it, with the blocks before it taken apart.
fn way_to<'a>(steps: &'a [Step], target: &StepPath) -> Vec<&'a Step> {
    let mut way = Vec::new();
    for step in steps {
        if !step.path.holds(target) {
            inside(step, &mut way);
            continue;
        }
        if step.path == *target {
            inside(step, &mut way);
        } else if let Kind::Parallel { steps } = &step.kind {
            // Its siblings go on beside it; only its own branch leads there.
            let branch = steps.iter().find(|s| s.path.holds(target));
            way.extend(
                branch
                    .map(std::slice::from_ref)
                    .map(|b| way_to(b, target))
                    .unwrap_or_default(),
            );
        } else {
            for (_, block) in step.blocks() {
                if block.iter().any(|s| s.path.holds(target)) {
                    way.extend(way_to(block, target));
                }
            }
        }
        break;
    }
    way
}

fn inside<'a>(step: &'a Step, way: &mut Vec<&'a Step>) {
    way.push(step);
    for child in step.children() {
        inside(child, way);
    }
}

/// FB0312 and FB0313.
fn limits(lint: &mut Lint<'_>) {
    let playbook = lint.playbook;
    let objectives = &playbook.objectives;
    let Some(limit) = objectives.recovery_limit_s else {
        return;
    };
    let planned = planned_time(playbook, lint.registry);
    let text = |s: u64| duration::format(Duration::from_secs(s));
    if planned.as_secs() > limit {
        lint.file(
            "FB0312",
            "/objectives/recovery",
            format!(
                "the planned critical path takes {}, the limit is {}",
                duration::format(planned),
                text(limit)
            ),
            "shorten it, run steps side by side, or state true budgets",
        );
    }
    if let Some(rto) = objectives.rto_s
        && objectives.tier.is_some()
        && limit > rto
    {
        lint.file(
            "FB0313",
            "/objectives/recovery",
            format!(
                "the recovery limit {} is longer than the tier's RTO {}",
                text(limit),
                text(rto)
            ),
            "decide which holds, and allow FB0313 with that reason",
        );
    }
}

/// The expected time to `restored`, or of the whole playbook where nothing stamps it.
pub fn planned_time(playbook: &Playbook, registry: &Registry) -> Duration {
    let clock = Clock { playbook, registry };
    targets(playbook, Milestone::Restored)
        .into_iter()
        .map(|target| clock.until(&playbook.steps, target))
        .max()
        .unwrap_or_else(|| playbook.steps.iter().map(|s| clock.step(s)).sum())
}

struct Clock<'a> {
    playbook: &'a Playbook,
    registry: &'a Registry,
}

impl Clock<'_> {
    fn until(&self, steps: &[Step], target: &StepPath) -> Duration {
        let mut total = Duration::ZERO;
        for step in steps {
            if !step.path.holds(target) || step.path == *target {
                total += self.step(step);
            } else {
                let inner = step
                    .blocks()
                    .into_iter()
                    .flat_map(|(word, block)| match word {
                        "parallel" => block.chunks(1).collect(),
                        _ => vec![block],
                    });
                total += inner
                    .filter(|block| block.iter().any(|s| s.path.holds(target)))
                    .map(|block| self.until(block, target))
                    .max()
                    .unwrap_or_default();
            }
            if step.path.holds(target) {
                break;
            }
        }
        total
    }
    /// Expected time of one step: its budget, else what its kind takes at most.
    fn step(&self, step: &Step) -> Duration {
        let longest = |steps: &[Step]| steps.iter().map(|s| self.step(s)).max().unwrap_or_default();
        let together = |steps: &[Step]| steps.iter().map(|s| self.step(s)).sum::<Duration>();
        match &step.kind {
            Kind::Parallel { steps } => longest(steps),
            Kind::Steps { steps } => together(steps),
            Kind::If {
                then, otherwise, ..
            } => together(then).max(together(otherwise)),
            Kind::Wait { time } => step.budget.unwrap_or_else(|| self.wait(time)),
            Kind::Note { .. } => Duration::ZERO,
            Kind::Notify(n) if n.wait_ack == WaitAck::None => step.budget.unwrap_or_default(),
            _ => step.budget.unwrap_or_else(|| {
                let action = step
                    .call()
                    .and_then(|c| self.registry.find(&c.action))
                    .map(|s| Duration::from_secs(s.timeout_s));
                step.timeout_or_default(&self.playbook.defaults, action)
                    .unwrap_or_default()
            }),
        }
    }
    fn wait(&self, time: &Span) -> Duration {
        match time {
            Span::Fixed(time) => *time,
            Span::Variable(name) => self
                .playbook
                .vars
                .get(name)
                .and_then(|d| duration::parse(d.sample().as_str()?))
                .unwrap_or_default(),
        }
    }
}
