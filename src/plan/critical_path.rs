//! Expected times: of a step, along the longest chain, and against the objectives.

use crate::incident::Milestone;
use crate::incident::body::Objectives;
use crate::incident::clock_text::span;
use crate::playbook::model::{Kind, Step};

use super::plan::{Basis, PlannedStep};
use super::seen::Observation;
use super::values;
use super::verdict::Verdict;

/// Expected seconds of a step and what they rest on: the median of at least three earlier runs, else its budget, else its timeout.
pub fn expected(basis: &Basis<'_>, seen: &Observation, step: &Step) -> (u64, &'static str) {
    if let Some(median) = seen
        .history_s
        .get(step.path.as_str())
        .and_then(|h| median(h))
    {
        return (median, "history");
    }
    if let Some(budget) = step.budget {
        return (budget.as_secs(), "budget");
    }
    if let Kind::Wait { time } = &step.kind {
        return (
            values::span(time, basis.vars).map_or(0, |t| t.as_secs()),
            "timer",
        );
    }
    let action = step
        .call()
        .and_then(|c| basis.registry.find(&c.action))
        .map(|s| std::time::Duration::from_secs(s.timeout_s));
    let timeout = step.timeout_or_default(&basis.playbook.defaults, action);
    (timeout.map_or(0, |t| t.as_secs()), "timeout")
}

fn median(times: &[u64]) -> Option<u64> {
    if times.len() < 3 {
        return None;
    }
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    Some(sorted[sorted.len() / 2])
}

/// The longest chain through a block: expected seconds and its steps. What is skipped takes no time.
pub fn longest(steps: &[Step], planned: &[PlannedStep]) -> (u64, Vec<String>) {
    let mut total = 0;
    let mut path = Vec::new();
    for step in steps {
        let (time, mut chain) = one(step, planned);
        total += time;
        path.append(&mut chain);
    }
    (total, path)
}

fn one(step: &Step, planned: &[PlannedStep]) -> (u64, Vec<String>) {
    let slower = |a: (u64, Vec<String>), b: (u64, Vec<String>)| if b.0 > a.0 { b } else { a };
    match &step.kind {
        Kind::Steps { steps } => longest(steps, planned),
        Kind::Parallel { steps } => steps
            .iter()
            .map(|s| one(s, planned))
            .fold((0, Vec::new()), slower),
        Kind::If {
            then, otherwise, ..
        } => slower(longest(then, planned), longest(otherwise, planned)),
        _ => {
            let found = planned.iter().find(|p| p.path == step.path);
            match found.filter(|p| p.verdict != Verdict::Skip && p.expected_s > 0) {
                Some(p) => (p.expected_s, vec![p.path.to_string()]),
                None => (0, Vec::new()),
            }
        }
    }
}

/// Seconds until a milestone may be stamped, on the way there; `None` when no step stamps it.
fn until(name: Milestone, steps: &[Step], planned: &[PlannedStep]) -> Option<u64> {
    let mut before = 0;
    for step in steps {
        let inside = match &step.kind {
            Kind::Steps { steps } => until(name, steps, planned),
            Kind::Parallel { steps } => steps
                .iter()
                .filter_map(|s| until(name, std::slice::from_ref(s), planned))
                .min(),
            Kind::If {
                then, otherwise, ..
            } => {
                let ways = [until(name, then, planned), until(name, otherwise, planned)];
                ways.into_iter().flatten().min()
            }
            _ => None,
        };
        if let Some(inside) = inside {
            return Some(before + inside);
        }
        before += one(step, planned).0;
        if step.milestone.is_some_and(|m| m.name == name) {
            return Some(before);
        }
    }
    None
}

/// The objectives in words, each with what the plan expects.
pub fn against(
    objectives: &Objectives,
    steps: &[Step],
    planned: &[PlannedStep],
    total: u64,
) -> Vec<String> {
    let restored = until(Milestone::Restored, steps, planned).unwrap_or(total);
    let contained = until(Milestone::Contained, steps, planned);
    let mut said = Vec::new();
    let mut say = |what: &str, limit: Option<u64>, expected: Option<u64>| {
        let Some(limit) = limit else { return };
        let limit_text = span(i64::try_from(limit * 1000).unwrap_or(i64::MAX));
        said.push(match expected {
            None => format!("{what} {limit_text}: not measurable, no step stamps it"),
            Some(t) => {
                let verdict = if t <= limit { "fits" } else { "does not fit" };
                let t = span(i64::try_from(t * 1000).unwrap_or(i64::MAX));
                format!("{what} {limit_text}: {verdict}, expected {t}")
            }
        });
    };
    say("time to contain", objectives.contain_s, contained);
    say(
        "recovery limit",
        objectives.recovery_limit_s,
        Some(restored),
    );
    say("RTO", objectives.rto_s, Some(restored));
    said
}
