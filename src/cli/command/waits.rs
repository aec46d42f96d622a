//! For what the open runs wait, and the command that gives it: read from the ledger, so that any terminal can tell.

use std::collections::BTreeSet;

use crate::incident::body::{Decision, GateDecided, GateRequested, RunCreated, RunParked};
use crate::incident::{Entry, History, kind};

/// One step that waits for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Its path.
    pub step: String,
    /// For what, one line.
    pub what: String,
    /// The command that gives it, whole but for the words in capitals.
    pub command: String,
}

/// Every step of a parked run that waits for an answer or a decision, in the order in which the run named them.
pub fn waits(history: &History) -> Vec<Wait> {
    let runs = history.bodies::<RunCreated>(kind::RUN_CREATED);
    runs.flat_map(|(_, run)| of_run(history, &run)).collect()
}

fn of_run(history: &History, run: &RunCreated) -> Vec<Wait> {
    let entries: Vec<&Entry> = history
        .entries
        .iter()
        .filter(|e| e.run() == Some(run.run.as_str()))
        .collect();
    let last = |k: &str| entries.iter().rposition(|e| e.kind == k);
    if last(kind::RUN_ENDED).is_some() || last(kind::RUN_RESUMED) > last(kind::RUN_PARKED) {
        return Vec::new();
    }
    let Some(parked) =
        last(kind::RUN_PARKED).and_then(|at| entries[at].body_as::<RunParked>(kind::RUN_PARKED))
    else {
        return Vec::new();
    };
    let steps = parked.steps.into_iter();
    steps
        .filter_map(|step| of_step(history, run, &entries, step))
        .collect()
}

fn of_step(history: &History, run: &RunCreated, entries: &[&Entry], step: String) -> Option<Wait> {
    let own: Vec<&Entry> = entries
        .iter()
        .copied()
        .filter(|e| e.step() == Some(step.as_str()))
        .collect();
    let outline = run.steps.iter().find(|s| s.path == step)?;
    let id = &history.incident;
    let asked = own.iter().rposition(|e| e.kind == kind::GATE_REQUESTED);
    if let Some(at) = asked {
        let gate: GateRequested = own[at].body_as(kind::GATE_REQUESTED)?;
        let decided = decided(entries, &step, own[at].seq);
        return (decided < gate.quorum as usize).then(|| Wait {
            what: format!("{} of {} has decided", decided, gate.quorum),
            command: approve(run, &step, id),
            step,
        });
    }
    let answered = own.iter().any(|e| e.kind == kind::ANSWER);
    (outline.kind == "manual" && !answered).then(|| Wait {
        what: format!("an answer ({})", outline.name),
        command: format!("firebreak incident answer {step} TEXT --incident {id}"),
        step,
    })
}

/// How many people have said yes to a step since it was asked.
fn decided(entries: &[&Entry], step: &str, asked: u64) -> usize {
    let since = entries.iter().filter(|e| e.seq > asked);
    let yes: BTreeSet<String> = since
        .filter_map(|e| e.body_as::<GateDecided>(kind::GATE_DECIDED))
        .filter(|d| d.rejected.is_none() && d.decision != Decision::Refuse)
        .filter(|d| d.steps.contains_key(step))
        .map(|d| d.principal)
        .collect();
    yes.len()
}

fn approve(run: &RunCreated, step: &str, id: &impl std::fmt::Display) -> String {
    let key = if run.policy == "solo" {
        ""
    } else {
        " --principal PRINCIPAL --key FILE"
    };
    format!("firebreak playbook approve --step {step}{key} --incident {id}")
}
