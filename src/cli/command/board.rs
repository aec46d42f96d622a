//! `firebreak` alone: the status board. One screen; the most important line last.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::cli::error::CliResult;
use crate::cli::exit::Exit;
use crate::cli::output::clean;
use crate::cli::session::Session;
use crate::incident::body::{
    BagOpened, BagSealed, IncidentOpened, MilestoneReached, Proof, RunCreated, RunEnded, RunParked,
    UndoFinished,
};
use crate::incident::clock_text::{seconds, span};
use crate::incident::{Entry, History, Mode, Outcome, RunId, kind};
use crate::run::Waiting;

use super::run::lines_of;
use super::run_choice;

/// Where one run stands.
struct RunState {
    run: String,
    playbook: String,
    state: String,
    next: Option<String>,
}

/// Prints the board of all incidents.
pub fn run(session: &Session) -> CliResult {
    let glances = session.glances()?;
    let mut documents = Vec::new();
    let mut last =
        "next: firebreak contain pod NS/NAME, or firebreak incident open TITLE".to_owned();
    for glance in &glances {
        let custody = match session.open(&glance.id) {
            Ok(custody) => Arc::new(custody),
            Err(e) => {
                session.out.answer(clean(&format!(
                    "{}  CANNOT BE OPENED: {}",
                    glance.id, e.message
                )));
                last = format!(
                    "next: firebreak verify {}",
                    session.places.incident(&glance.id).display()
                );
                continue;
            }
        };
        let history = custody.history()?;
        let waiting = run_choice::waiting(session, &custody);
        let closed = history.of(kind::INCIDENT_CLOSED).next().is_some();
        if session.out.json {
            documents.push(document(&history, custody.place(), &waiting));
        } else if closed {
            session.out.answer(clean(&format!(
                "{}  closed  {}",
                glance.id,
                title(&history)
            )));
        } else {
            lines(&history, &waiting)
                .iter()
                .for_each(|l| session.out.answer(clean(l)));
            if history.mode == Mode::Live || glances.iter().all(|g| g.mode == Mode::Drill) {
                last = format!("next: {}", next(&history, &waiting));
            }
        }
    }
    if session.out.json {
        session
            .out
            .document(&json!({"schema": "firebreak/board/v1", "incidents": documents}))?;
    } else {
        if glances.is_empty() {
            session
                .out
                .answer(format!("no incident in {}", session.places.root.display()));
        }
        session.out.answer(last);
    }
    Ok(Exit::Ok)
}

/// What waits in each open run.
type Waits = [(RunId, Vec<Waiting>)];

fn of_run<'w>(waiting: &'w Waits, run: &str) -> &'w [Waiting] {
    let found = waiting.iter().find(|(r, _)| r.as_str() == run);
    found.map_or(&[], |(_, all)| all)
}

/// One incident in a few lines.
pub fn lines(history: &History, waiting: &Waits) -> Vec<String> {
    let mut lines = vec![format!(
        "{}  {}  {}  {} entries, since {}",
        history.incident,
        history.mode.as_str().to_uppercase(),
        title(history),
        history.entries.len(),
        history
            .entries
            .first()
            .map(|e| seconds(e.time))
            .unwrap_or_default(),
    )];
    let reached: Vec<_> = history
        .bodies::<MilestoneReached>(kind::MILESTONE)
        .map(|(e, m)| format!("{} {}", m.name, m.at.unwrap_or_else(|| seconds(e.time))))
        .collect();
    if !reached.is_empty() {
        lines.push(format!("  milestones  {}", reached.join(" · ")));
    }
    for proof in proofs(history, |_| true) {
        lines.push(format!(
            "  {}  {}{}",
            proof.pod,
            proof.verdict,
            proof
                .why
                .first()
                .map(|w| format!(": {w}"))
                .unwrap_or_default()
        ));
    }
    let sealed: Vec<_> = history
        .bodies::<BagSealed>(kind::BAG_SEALED)
        .map(|(_, b)| b.bag)
        .collect();
    let open: Vec<_> = history
        .bodies::<BagOpened>(kind::BAG_OPENED)
        .map(|(_, b)| b.bag)
        .filter(|b| !sealed.contains(b))
        .collect();
    lines.push(format!(
        "  bags        {} sealed, {} open{}",
        sealed.len(),
        open.len(),
        if open.is_empty() {
            String::new()
        } else {
            format!(" ({})", open.join(", "))
        }
    ));
    for stuck in history
        .bodies::<UndoFinished>(kind::UNDO_FINISHED)
        .map(|(_, u)| u)
        .filter(|u| u.outcome == Outcome::Stuck)
    {
        lines.push(format!("  STUCK       {}", stuck.summary));
    }
    for run in runs(history) {
        lines.push(format!("  {}  {}  {}", run.run, run.playbook, run.state));
        lines.extend(of_run(waiting, &run.run).iter().flat_map(lines_of));
    }
    lines.push(format!("  next        {}", next(history, waiting)));
    lines
}

/// The same as a document.
pub fn document(history: &History, place: &Path, waiting: &Waits) -> Value {
    let runs: Vec<_> = runs(history)
        .into_iter()
        .map(|r| json!({"run": r.run, "playbook": r.playbook, "state": r.state, "next": r.next, "waiting": of_run(waiting, &r.run)}))
        .collect();
    let proofs: Vec<_> = proofs(history, |_| true)
        .into_iter()
        .map(|p| json!({"pod": p.pod, "verdict": p.verdict, "why": p.why}))
        .collect();
    let milestones: Vec<_> = history
        .bodies::<MilestoneReached>(kind::MILESTONE)
        .map(|(e, m)| json!({"name": m.name, "at": m.at.unwrap_or_else(|| seconds(e.time))}))
        .collect();
    json!({
        "schema": "firebreak/incident/v1", "incident": history.incident, "mode": history.mode, "title": title(history), "folder": place,
        "fingerprint": history.fingerprint, "entries": history.entries.len(), "root": history.root, "milestones": milestones,
        "closed": history.of(kind::INCIDENT_CLOSED).next().is_some(), "runs": runs, "proofs": proofs, "next": next(history, waiting),
    })
}

fn title(history: &History) -> String {
    history
        .bodies::<IncidentOpened>(kind::INCIDENT_OPENED)
        .next()
        .map(|(_, b)| b.title)
        .unwrap_or_default()
}

/// The newest proof of each pod, among the entries that `of` takes.
pub fn proofs(history: &History, of: impl Fn(&Entry) -> bool) -> Vec<Proof> {
    let mut newest: Vec<Proof> = Vec::new();
    for (_, proof) in history
        .bodies::<Proof>(kind::CONTAIN_PROVEN)
        .filter(|(e, p)| of(e) && p.phase != "before")
    {
        newest.retain(|p| p.pod_uid != proof.pod_uid);
        newest.push(proof);
    }
    newest
}

fn runs(history: &History) -> Vec<RunState> {
    history
        .bodies::<RunCreated>(kind::RUN_CREATED)
        .map(|(created, body)| {
            let of_run: Vec<_> = history
                .entries
                .iter()
                .filter(|e| e.run() == Some(body.run.as_str()))
                .collect();
            let last = of_run.last().copied().unwrap_or(created);
            let ended = of_run
                .iter()
                .find_map(|e| e.body_as::<RunEnded>(kind::RUN_ENDED));
            let parked = of_run
                .iter()
                .rev()
                .take_while(|e| e.kind != kind::RUN_RESUMED)
                .find_map(|e| e.body_as::<RunParked>(kind::RUN_PARKED));
            let took = span((last.time - created.time).num_milliseconds());
            let (state, next) = match (ended, parked) {
                (Some(e), _) => (
                    format!(
                        "{} after {took}{}",
                        e.how,
                        e.why.map(|w| format!(": {w}")).unwrap_or_default()
                    ),
                    None,
                ),
                (None, Some(p)) => (format!("PARKED: {}", p.why), Some(p.hint)),
                (None, None) => (
                    format!("running or cut off, last entry {}", seconds(last.time)),
                    Some("firebreak resume".to_owned()),
                ),
            };
            RunState {
                run: body.run,
                playbook: body.playbook,
                state,
                next,
            }
        })
        .collect()
}

fn next(history: &History, waiting: &Waits) -> String {
    if history.of(kind::INCIDENT_CLOSED).next().is_some() {
        return format!("firebreak verify --incident {}", history.incident);
    }
    let open = runs(history).into_iter().rev().find(|r| r.next.is_some());
    let hint = open.and_then(|r| match of_run(waiting, &r.run).first() {
        // What waits now is newer than what the park said.
        Some(first) => Some(first.next.clone()),
        None => r
            .next
            .map(|_| format!("firebreak resume {}", history.incident)),
    });
    match hint {
        Some(hint) => hint,
        None if history.of(kind::REPORT_BUILT).next().is_some() => {
            format!("firebreak report check --incident {}", history.incident)
        }
        None => format!("firebreak report build --incident {}", history.incident),
    }
}
