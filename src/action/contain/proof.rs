//! Proof tables: a baseline before the first write, a quick look after phase A, the whole table afterwards.
//!
//! *Guarantee*: nothing here stops an isolation. A probe that cannot be made is a gap in the table, said; only a ledger that cannot be
//! written is an error. A pod with a connection that stays open is never `isolated`: policies deny new flows, and the intruder's shell
//! is an old one.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::action::{ActionError, Context};
use crate::incident::body::{ObjectRef, Proof};
use crate::incident::{History, kind};

use super::isolate_workload::{LABEL, MOVE_OUT};
use super::journal::Journal;
use super::matrix::{self, Cell, NOT_TRIED, row, to_text};
use super::measure::{Around, Asked, Table, look_again, measure, wait_for_plugin};
use super::naming::place;
use super::targets::Target;

/// What probes cannot see; printed with every verdict.
pub const NOT_SEEN: [&str; 9] = [
    "secondary network interfaces (Multus)",
    "ICMP, and protocols other than TCP",
    "name service on the node itself",
    "host paths, shared volumes and sockets",
    "stolen credentials used from elsewhere",
    "paths of a service mesh",
    "the address family that was not probed",
    "the pod's own node, which always gets through",
    "destinations outside the cluster: they are never tried, not to warn anybody",
];

/// Phase word of a baseline.
pub(super) const BEFORE: &str = "before";
/// Pods that get a baseline: more would take longer than isolation may wait.
pub(super) const MOST_BASELINES: usize = 8;

/// Before the first write, within one budget for all: what is open now. Recorded, so that *blocked afterwards* means something.
///
/// # Errors
/// When the ledger refuses.
pub(super) async fn baseline(
    cx: &Context,
    targets: &[Target],
    budget: Duration,
) -> Result<(), ActionError> {
    let affected: BTreeSet<String> = targets.iter().map(|t| t.pod.uid.clone()).collect();
    let (asked, mut running) = (Asked::default(), JoinSet::new());
    let open = targets.iter().filter(|t| t.refused.is_none() && !t.already);
    for target in open.take(MOST_BASELINES) {
        let (cx, asked, affected) = (cx.clone(), asked.clone(), affected.clone());
        let pod = target.pod.clone();
        running.spawn(async move {
            let around = Around {
                journal: &Journal::default(),
                affected: &affected,
                earlier: None,
                asked: &asked,
            };
            let table = measure(&cx, &pod, &around).await;
            (pod, table)
        });
    }
    let began = cx.ports.clock.monotonic();
    let left = || budget.saturating_sub(cx.ports.clock.monotonic().saturating_sub(began));
    while let Ok(Some(ended)) = tokio::time::timeout(left(), running.join_next()).await {
        if let Ok((pod, Some(table))) = ended {
            cx.record(kind::CONTAIN_PROVEN, &baseline_of(&pod, table))?;
        }
    }
    if !running.is_empty() {
        (cx.progress)(&format!(
            "no baseline of {} pod(s): the probes did not end in time",
            running.len()
        ));
    }
    Ok(())
}

fn baseline_of(pod: &ObjectRef, table: Table) -> Proof {
    let cells = table
        .tried
        .iter()
        .map(|(cell, tried, control)| {
            let word = tried.map_or(NOT_TRIED, crate::port::Tried::as_str);
            let mut row = row(cell, word, None, *control);
            row.verdict = "baseline".into();
            row
        })
        .collect();
    Proof {
        cells,
        why: table.notes,
        open_connections: table.sockets.established,
        ..empty(pod, BEFORE, "not-proven")
    }
}

/// After phase A, within the budget: is anything blocked already? Phase B follows whatever it says.
///
/// # Errors
/// When the ledger refuses.
pub(super) async fn quick(
    cx: &Context,
    target: &Target,
    budget: Duration,
) -> Result<(), ActionError> {
    let history = cx.ledger.history()?;
    let journal = Journal::of(&history);
    let earlier = earlier(&history, &target.pod);
    let around = Around {
        journal: &journal,
        affected: &BTreeSet::new(),
        earlier: earlier.as_ref(),
        asked: &Asked::default(),
    };
    let measured = tokio::time::timeout(budget, measure(cx, &target.pod, &around)).await;
    let Ok(Some(table)) = measured else {
        return Ok(());
    };
    let mut proof = table_to_proof(&target.pod, &table, "A", &[], earlier.as_ref());
    if proof.cells.iter().any(|c| c.verdict == "match") {
        proof.time_to_enforce_ms = since_write(cx, &history, &journal, &target.pod);
    }
    if proof.verdict == "isolated" {
        // The policies of the workload's labels still hold until phase B.
        proof.verdict = "not-proven".into();
        proof.why.push("phase B was still to come".into());
    }
    cx.record(kind::CONTAIN_PROVEN, &proof)?;
    Ok(())
}

/// The whole table for one pod. What is still open though the policies deny it is tried again until the plugin had its time.
///
/// # Errors
/// When the ledger refuses.
pub(super) async fn whole(
    cx: &Context,
    pod: &ObjectRef,
    asked: &Asked,
    still_allowed: &[String],
    may_allow: &[String],
) -> Result<Proof, ActionError> {
    let history = cx.ledger.history()?;
    let journal = Journal::of(&history);
    let moved = journal.find(pod, MOVE_OUT).is_some();
    let earlier = earlier(&history, pod);
    let around = Around {
        journal: &journal,
        affected: &BTreeSet::new(),
        earlier: earlier.as_ref(),
        asked,
    };
    let measured = measure(cx, pod, &around).await;
    let mut table = measured.unwrap_or_else(|| Table {
        notes: vec!["the cluster could not be looked at".into()],
        ..Table::default()
    });
    if still_allowed.is_empty() {
        wait_for_plugin(cx, &mut table).await;
    }
    let enforced_after = (was_open(&history, pod) || table.closed_later) && !table.is_open();
    let took = since_write(cx, &history, &journal, pod).filter(|_| enforced_after);
    look_again(cx, pod, &mut table).await;
    let phase = if moved { "B" } else { "A" };
    let mut proof = table_to_proof(pod, &table, phase, still_allowed, earlier.as_ref());
    if proof.cells.iter().any(|c| c.verdict == "match") {
        proof.time_to_enforce_ms = took;
    }
    proof
        .not_seen
        .extend(may_allow.iter().map(|m| format!("what it may allow: {m}")));
    Ok(proof)
}

fn table_to_proof(
    pod: &ObjectRef,
    table: &Table,
    phase: &str,
    still_allowed: &[String],
    earlier: Option<&Proof>,
) -> Proof {
    let cells: Vec<_> = table
        .tried
        .iter()
        .map(|(cell, after, control)| row(cell, &before(earlier, cell), *after, *control))
        .collect();
    let (mut verdict, mut why) = matrix::verdict(&cells, still_allowed);
    if earlier.is_none() && !why.is_empty() {
        why.push(format!(
            "nothing was tried before isolation: it was isolated first, or beyond the first {MOST_BASELINES} pods, or the time was over"
        ));
    }
    why.extend(table.notes.iter().cloned());
    let is_cut = |c: &&String| table.sockets.stalled.contains(c);
    let (cut, open): (Vec<&String>, Vec<&String>) =
        table.sockets.established.iter().partition(is_cut);
    if !open.is_empty() {
        why.push(matrix::open_words(
            &place(pod),
            open.len(),
            &table.node,
            &table.addresses,
        ));
        if verdict == "isolated" {
            verdict = "not-proven";
        }
    }
    Proof {
        why,
        cells,
        open_connections: open.into_iter().cloned().collect(),
        cut_connections: cut.into_iter().cloned().collect(),
        ..empty(pod, phase, verdict)
    }
}

fn empty(pod: &ObjectRef, phase: &str, verdict: &str) -> Proof {
    Proof {
        pod: place(pod),
        pod_uid: pod.uid.clone(),
        phase: phase.into(),
        verdict: verdict.into(),
        why: Vec::new(),
        cells: Vec::new(),
        time_to_enforce_ms: None,
        open_connections: Vec::new(),
        cut_connections: Vec::new(),
        not_seen: NOT_SEEN.iter().map(|s| (*s).to_owned()).collect(),
    }
}

/// The newest baseline of this pod.
fn earlier(history: &History, pod: &ObjectRef) -> Option<Proof> {
    history
        .bodies::<Proof>(kind::CONTAIN_PROVEN)
        .filter(|(_, p)| p.pod_uid == pod.uid && p.phase == BEFORE)
        .map(|(_, p)| p)
        .last()
}

/// True when the newest table of this pod after isolation saw something get through.
fn was_open(history: &History, pod: &ObjectRef) -> bool {
    history
        .bodies::<Proof>(kind::CONTAIN_PROVEN)
        .filter(|(_, p)| p.pod_uid == pod.uid && p.phase != BEFORE)
        .last()
        .is_some_and(|(_, p)| p.cells.iter().any(|c| c.verdict == "bypass"))
}

/// Milliseconds since our label came to be on the pod, by the ledger's clock.
fn since_write(cx: &Context, history: &History, journal: &Journal, pod: &ObjectRef) -> Option<u64> {
    let label = journal.find(pod, LABEL)?;
    let entry = history.entries.iter().find(|e| e.seq == label.intent)?;
    let took = cx.ports.clock.now() - entry.time;
    u64::try_from(took.num_milliseconds()).ok()
}

/// What the same try answered before: the same source to the same destination.
fn before(earlier: Option<&Proof>, cell: &Cell) -> String {
    let (from, to) = (
        format!("pod {}", cell.from.id()),
        to_text(&cell.to_name, &cell.to),
    );
    earlier
        .and_then(|p| {
            p.cells
                .iter()
                .find(|c| c.direction == cell.direction && c.from == from && c.to == to)
        })
        .map_or_else(|| NOT_TRIED.to_owned(), |c| c.before.clone())
}
