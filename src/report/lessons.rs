//! Facts for the lessons learned, and the actions that facts demand.

use crate::incident::body::{DeadlinePassed, GateExpired, Notice, RunCreated};
use crate::incident::{History, kind};

use super::document::{
    ActionItem, Containment, Lessons, Measure, RunStory, StepRef, StepState, StepStory, StepTime,
};
use super::timeline;
use super::times::{cite, moment};

/// Gathers them.
pub(super) fn lessons(history: &History, runs: &[RunStory]) -> Lessons {
    let steps = || runs.iter().flat_map(|r| &r.steps);
    Lessons {
        times: steps()
            .filter(|s| s.started.is_some() && !is_block(s))
            .map(step_time)
            .collect(),
        by_hand: steps()
            .filter(|s| s.kind == "manual" && s.started.is_some())
            .map(|s| step_ref(s, s.name.clone()))
            .collect(),
        troubled: steps().filter_map(troubled).collect(),
        expired: history
            .bodies::<GateExpired>(kind::GATE_EXPIRED)
            .map(|(e, b)| StepRef {
                path: e.step().map(str::to_owned),
                what: format!("the time to decide ran out, then: {}", b.then),
                cite: Some(cite(e)),
            })
            .collect(),
        late: history
            .bodies::<DeadlinePassed>(kind::DEADLINE_PASSED)
            .map(|(e, b)| StepRef {
                path: e.step().map(str::to_owned),
                what: format!("deadline of the {} passed at {}", b.which, b.deadline),
                cite: Some(cite(e)),
            })
            .collect(),
        off_script: off_script(history),
        unsent: history
            .bodies::<Notice>(kind::NOTICE_FAILED)
            .map(|(e, b)| StepRef {
                path: e.step().map(str::to_owned),
                what: format!(
                    "message to {} by {}: {}",
                    b.to.join(", "),
                    b.channel,
                    b.error.unwrap_or_else(|| "no reason recorded".into())
                ),
                cite: Some(cite(e)),
            })
            .collect(),
    }
}

/// Blocks take the time of their steps.
fn is_block(s: &StepStory) -> bool {
    matches!(s.kind.as_str(), "steps" | "parallel" | "if")
}

fn step_ref(s: &StepStory, what: String) -> StepRef {
    StepRef {
        path: Some(s.path.clone()),
        what,
        cite: s.cites.last().cloned(),
    }
}

fn step_time(s: &StepStory) -> StepTime {
    let at = |t: &Option<String>| t.as_deref().and_then(moment);
    StepTime {
        path: s.path.clone(),
        name: s.name.clone(),
        expected_s: s.expected_s,
        actual: match (at(&s.started), at(&s.finished)) {
            (Some(begin), Some(end)) => Measure::Measured {
                ms: (end - begin).num_milliseconds(),
            },
            _ => Measure::missing("it has not ended"),
        },
    }
}

/// Steps that failed, are in doubt or stuck, were decided by a person, or took more than one try.
fn troubled(s: &StepStory) -> Option<StepRef> {
    let summary = s.summary.as_deref().unwrap_or("no summary recorded");
    let bad = matches!(
        s.state,
        StepState::Failed | StepState::InDoubt | StepState::Stuck
    );
    if bad {
        let code = s
            .code
            .as_deref()
            .map(|c| format!(" [{c}]"))
            .unwrap_or_default();
        Some(step_ref(
            s,
            format!("{}{code}: {summary}", s.state.as_str()),
        ))
    } else if let Some(r) = s.resolutions.last() {
        Some(step_ref(
            s,
            format!("was in doubt, decided by {}: {}", r.by, r.reason),
        ))
    } else if s.tries > 1 {
        Some(step_ref(
            s,
            format!("{} after {} tries", s.state.as_str(), s.tries),
        ))
    } else {
        None
    }
}

/// What was done to the world without a run that a playbook opened.
fn off_script(history: &History) -> Vec<StepRef> {
    let runs: Vec<String> = history
        .bodies::<RunCreated>(kind::RUN_CREATED)
        .map(|(_, r)| r.run)
        .collect();
    let acts = [
        kind::WRITE_INTENDED,
        kind::EXHIBIT_ACQUIRED,
        kind::NOTICE_SENT,
        kind::NOTICE_FAILED,
        kind::CONTAIN_CANARY,
    ];
    let outside = |run: Option<&str>| run.is_none_or(|r| !runs.iter().any(|known| known == r));
    let seqs: Vec<u64> = history
        .entries
        .iter()
        .filter(|e| acts.contains(&e.kind.as_str()) && outside(e.run()))
        .map(|e| e.seq)
        .collect();
    timeline::timeline(history)
        .into_iter()
        .filter(|l| seqs.contains(&l.cite.seq))
        .map(|l| StepRef {
            path: l.step,
            what: l.what,
            cite: Some(l.cite),
        })
        .collect()
}

/// Post-incident actions: what these facts demand, then the runbook's six.
pub(super) fn actions(runs: &[RunStory], containment: &Containment) -> Vec<ActionItem> {
    let mut all = Vec::new();
    for step in runs.iter().flat_map(|r| &r.steps) {
        let cite = step.cites.last().cloned();
        for red in &step.red {
            all.push(ActionItem {
                kind: "respond".into(),
                what: format!("review step {} with a second person", step.path),
                because: red.clone(),
                cite: cite.clone(),
            });
        }
        for left in &step.left {
            all.push(ActionItem {
                kind: "recover".into(),
                what: left.clone(),
                because: format!("step {} is stuck", step.path),
                cite: cite.clone(),
            });
        }
    }
    for c in &containment.credentials {
        all.push(ActionItem {
            kind: "respond".into(),
            what: format!("rotate {} {}", c.kind, c.name),
            because: format!("{} could use it", c.pod),
            cite: Some(c.cite.clone()),
        });
    }
    all.extend(RUNBOOK.iter().map(|(kind, what)| ActionItem {
        kind: (*kind).into(),
        what: (*what).into(),
        because: "the runbook asks for it after every incident".into(),
        cite: None,
    }));
    all
}

const RUNBOOK: [(&str, &str); 6] = [
    ("respond", "document the incident timeline"),
    ("prevent", "root cause analysis"),
    ("respond", "update the runbook based on learnings"),
    ("respond", "share lessons with the team"),
    ("detect", "update monitoring and alerting"),
    ("respond", "schedule follow-up training"),
];
