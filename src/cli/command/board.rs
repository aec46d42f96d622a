//! `firebreak` alone: the status board. One screen; the most important line last.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::cli::error::CliResult;
use crate::cli::exit::Exit;
use crate::cli::output::clean_line;
use crate::cli::session::Session;
use crate::incident::body::{
    BagOpened, BagSealed, IncidentOpened, MilestoneReached, Proof, RunCreated, RunEnded, RunParked,
    UndoFinished, WriteSeen,
};
use crate::incident::clock_text::{seconds, span};
use crate::incident::{Entry, History, Mode, Outcome, kind};

use super::run::lines_of;
use super::run_choice::{self, Waits};

/// Where one run stands.
struct RunState {
    run: String,
    playbook: String,
    state: String,
    next: Option<String>,
}

/// Prints the board of all incidents.
pub fn run(session: &Session) -> CliResult {
    let mut glances = session.glances()?;
    if session.asked.is_some()
        && let Some(asked) = session.chosen()?
    {
        // Somebody who names an incident that is not here is told so.
        session.open(&asked)?;
        glances.retain(|g| g.id == asked);
    }
    let mut documents = Vec::new();
    let mut last =
        "next: firebreak contain pod NS/NAME, or firebreak incident open TITLE".to_owned();
    for glance in &glances {
        let opened = session
            .open(&glance.id)
            .and_then(|custody| Ok((custody.history()?, Arc::new(custody))));
        let (history, custody) = match opened {
            Ok(opened) => opened,
            Err(e) => {
                let verify = format!("firebreak verify --incident {}", glance.id);
                session.out.answer(clean_line(&format!(
                    "{}  CANNOT BE OPENED: {}",
                    glance.id, e.message
                )));
                documents.push(json!({"schema": "firebreak/incident/v1", "incident": glance.id, "mode": glance.mode, "folder": session.places.incident(&glance.id), "wrong": e.message, "next": verify}));
                last = format!("next: {verify}");
                continue;
            }
        };
        let waiting = run_choice::waiting(session, &custody);
        let closed = history.of(kind::INCIDENT_CLOSED).next().is_some();
        if session.out.json {
            let mut shown = document(&history, custody.place(), &waiting);
            shown["wrong"] = json!(glance.wrong);
            documents.push(shown);
        } else if closed {
            session.out.answer(clean_line(&format!(
                "{}  closed  {}",
                glance.id,
                title(&history)
            )));
        } else {
            lines(&history, &waiting)
                .iter()
                .for_each(|l| session.out.answer(clean_line(l)));
            if let Some(wrong) = &glance.wrong {
                session
                    .out
                    .answer(clean_line(&format!("  WRONG       {wrong}")));
                last = format!(
                    "next: firebreak verify --incident {}, then go on in a new one: firebreak incident open TITLE",
                    glance.id
                );
            } else if history.mode == Mode::Live || glances.iter().all(|g| g.mode == Mode::Drill) {
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
        session.out.answer(clean_line(&last));
    }
    Ok(Exit::Ok)
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
    let reached: Vec<_> = milestones(history)
        .into_iter()
        .map(|(name, at)| format!("{name} {at}"))
        .collect();
    if !reached.is_empty() {
        lines.push(format!("  milestones  {}", reached.join(" · ")));
    }
    let released = released(history);
    for proof in proofs(history, |_| true) {
        let verdict = if released.contains(&proof.pod_uid) {
            "released: given back, no longer isolated".to_owned()
        } else {
            let why = proof.why.first().map(|w| format!(": {w}"));
            format!("{}{}", proof.verdict, why.unwrap_or_default())
        };
        lines.push(format!("  {}  {verdict}", proof.pod));
    }
    let sealed = history.of(kind::BAG_SEALED).count();
    let open: Vec<_> = open_bags(history).into_iter().map(|(bag, _)| bag).collect();
    lines.push(format!(
        "  bags        {sealed} sealed, {} open{}",
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
        let waits = waiting.of(&run.run);
        // What the park said is said again, and newer, by what waits.
        let told = waits.iter().any(|w| run.state.contains(&w.why));
        let state = if told { "PARKED" } else { &run.state };
        lines.push(format!("  {}  {}  {state}", run.run, run.playbook));
        lines.extend(waits.iter().flat_map(lines_of));
    }
    for unread in &waiting.unread {
        lines.push(format!(
            "  UNREADABLE  for whom it waits cannot be told: {unread}"
        ));
    }
    lines.push(format!("  next        {}", next(history, waiting)));
    lines
}

/// The same as a document.
pub fn document(history: &History, place: &Path, waiting: &Waits) -> Value {
    let runs: Vec<_> = runs(history)
        .into_iter()
        .map(|r| json!({"run": r.run, "playbook": r.playbook, "state": r.state, "next": r.next, "waiting": waiting.of(&r.run)}))
        .collect();
    let released = released(history);
    let proofs: Vec<_> = proofs(history, |_| true)
        .into_iter()
        .map(|p| json!({"pod": p.pod, "verdict": p.verdict, "why": p.why, "released": released.contains(&p.pod_uid)}))
        .collect();
    let milestones: Vec<_> = milestones(history)
        .into_iter()
        .map(|(name, at)| json!({"name": name, "at": at}))
        .collect();
    json!({
        "schema": "firebreak/incident/v1", "incident": history.incident, "mode": history.mode, "title": title(history), "folder": place,
        "fingerprint": history.fingerprint, "entries": history.entries.len(), "root": history.root, "milestones": milestones,
        "closed": history.of(kind::INCIDENT_CLOSED).next().is_some(), "runs": runs, "unreadable": waiting.unread, "proofs": proofs, "next": next(history, waiting),
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

/// Each milestone by the newest statement of it, in the order of the first.
fn milestones(history: &History) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (entry, m) in history.bodies::<MilestoneReached>(kind::MILESTONE) {
        let at = m.at.unwrap_or_else(|| seconds(entry.time));
        let name = m.name.to_string();
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = at,
            None => all.push((name, at)),
        }
    }
    all
}

/// Pods (by UID) whose label we have taken off again: what was proven of them holds no longer.
fn released(history: &History) -> BTreeSet<String> {
    let mut released = BTreeSet::new();
    for (_, seen) in history
        .bodies::<WriteSeen>(kind::WRITE_SEEN)
        .filter(|(_, w)| w.what == "label")
    {
        if seen.reversal {
            released.insert(seen.object.uid);
        } else {
            released.remove(&seen.object.uid);
        }
    }
    released
}

/// Bags that are not sealed, and whether a person opened them by hand: a run's own are its resume's to seal.
fn open_bags(history: &History) -> Vec<(String, bool)> {
    let sealed: BTreeSet<String> = history
        .bodies::<BagSealed>(kind::BAG_SEALED)
        .map(|(_, b)| b.bag)
        .collect();
    history
        .bodies::<BagOpened>(kind::BAG_OPENED)
        .filter(|(_, b)| !sealed.contains(&b.bag))
        .map(|(e, b)| (b.bag, e.run().is_none()))
        .collect()
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
                    Some(format!("firebreak resume {}", history.incident)),
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

/// The one command that helps most now. Whole and typable, with the incident's id: several may be open.
pub fn next(history: &History, waiting: &Waits) -> String {
    let id = &history.incident;
    if history.of(kind::INCIDENT_CLOSED).next().is_some() {
        return format!("firebreak verify --incident {id}");
    }
    let open: Vec<_> = runs(history)
        .into_iter()
        .filter(|r| r.next.is_some())
        .collect();
    // What waits now is newer than what the park said.
    if let Some(first) = open.iter().find_map(|r| waiting.of(&r.run).first()) {
        return first.next.clone();
    }
    if !waiting.unread.is_empty() {
        return format!("firebreak verify --incident {id}");
    }
    if !open.is_empty() {
        // What it was parked for is done.
        return format!("firebreak resume {id}");
    }
    if let Some((bag, _)) = open_bags(history).into_iter().find(|(_, by_hand)| *by_hand) {
        let number = bag.trim_start_matches('0');
        return format!("firebreak evidence seal --bag {number} --incident {id}");
    }
    if history.mode == Mode::Live {
        let released = released(history);
        let unproven = proofs(history, |_| true)
            .into_iter()
            .find(|p| p.verdict != "isolated" && !released.contains(&p.pod_uid));
        if let Some(proof) = unproven {
            // The same command again isolates what is not, and proves what is.
            return format!("firebreak contain pod {} --incident {id}", proof.pod);
        }
        let nothing_yet = [kind::RUN_CREATED, kind::BAG_OPENED, kind::REPORT_BUILT];
        if nothing_yet.iter().all(|k| history.of(k).next().is_none()) {
            return format!("firebreak contain pod NS/NAME --incident {id}");
        }
    }
    if history.of(kind::REPORT_BUILT).next().is_some() {
        format!("firebreak report check --incident {id}")
    } else {
        format!("firebreak report build --incident {id}")
    }
}
