//! A plan as text for people. What is shown here is what a typed confirmation is about; its digest stands in the decision.

use crate::incident::Mode;
use crate::incident::clock_text::span;

use super::plan::{Plan, PlannedStep};

/// The plan as text.
pub fn text(plan: &Plan, digest: &str) -> String {
    let mut out = String::new();
    let drill = if plan.mode == Mode::Drill {
        "DRILL "
    } else {
        ""
    };
    line(
        &mut out,
        0,
        &format!(
            "{drill}Plan: {} (version {}), {}",
            plan.name, plan.version, plan.tlp
        ),
    );
    line(
        &mut out,
        0,
        &format!(
            "Incident {}, run {}, policy {}, executor {}",
            plan.incident, plan.run, plan.policy, plan.executor
        ),
    );
    for (fact, value) in &plan.binding {
        line(&mut out, 0, &format!("{fact}: {value}"));
    }
    for step in &plan.steps {
        one(&mut out, step);
    }
    line(
        &mut out,
        0,
        &format!(
            "Expected: {}, along {}",
            seconds(plan.expected_s),
            plan.critical_path.join(" → ")
        ),
    );
    for said in &plan.objectives_said {
        line(&mut out, 0, said);
    }
    for missing in &plan.missing {
        let word = if missing.refuses {
            "In the way"
        } else {
            "Warning"
        };
        line(
            &mut out,
            0,
            &format!(
                "{word} ({}): step {}: {}",
                missing.code, missing.step, missing.what
            ),
        );
    }
    if plan.empty {
        line(&mut out, 0, "Nothing to do.");
    }
    line(&mut out, 0, &format!("Plan digest sha256:{digest}"));
    out
}

fn one(out: &mut String, step: &PlannedStep) {
    let runbook = if step.runbook.is_empty() {
        String::new()
    } else {
        format!(" [{}]", step.runbook.join(", "))
    };
    let what = step.action.as_deref().unwrap_or(&step.kind);
    out.push('\n');
    line(
        out,
        0,
        &format!(
            "{} {}{runbook}: {what}, {}",
            mark(step),
            step.path,
            step.effect
        ),
    );
    if let Some(why) = &step.why {
        line(out, 1, why);
    }
    for change in &step.changes {
        line(out, 1, &format!("would {change}"));
    }
    for (heading, lines) in &step.details {
        line(out, 1, heading);
        lines.iter().for_each(|l| line(out, 2, l));
    }
    for reach in &step.blast_radius {
        line(out, 1, &format!("reaches beyond: {reach}"));
    }
    for warning in &step.warnings {
        line(out, 1, &format!("warning: {warning}"));
    }
    for cannot in &step.cannot {
        line(out, 1, &format!("cannot: {cannot}"));
    }
    if step.approval != "nothing" {
        line(out, 1, &format!("approval: {}{}", step.approval, who(step)));
        line(out, 1, &format!("undo: {}", step.undo));
    }
    line(
        out,
        1,
        &format!(
            "expected {} (by {})",
            seconds(step.expected_s),
            step.expected_by
        ),
    );
}

fn who(step: &PlannedStep) -> String {
    step.holders
        .iter()
        .map(|(role, people)| {
            let people = if people.is_empty() {
                "nobody".into()
            } else {
                people.join(", ")
            };
            format!("; {role}: {people}")
        })
        .collect()
}

fn mark(step: &PlannedStep) -> String {
    format!("{:<14}", step.verdict.as_str())
}

fn seconds(s: u64) -> String {
    span(i64::try_from(s.saturating_mul(1000)).unwrap_or(i64::MAX))
}

/// Control and bidirectional characters never reach a terminal from here.
fn line(out: &mut String, indent: usize, text: &str) {
    out.push_str(&"  ".repeat(indent));
    for c in text.chars() {
        let hidden = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if hidden {
            out.push_str(&format!("\\u{{{:04x}}}", c as u32));
        } else {
            out.push(c);
        }
    }
    out.push('\n');
}
