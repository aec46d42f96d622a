//! The score of a drill: checks passed of checks asked, each by name, from the ledger and the verifier alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Serialize;

use firebreak_evidence::note::Fingerprint;
use firebreak_evidence::source::DirSource;
use firebreak_evidence::verify::{Given, Policy, verify};

use crate::incident::body::{
    BagOpened, BagSealed, GateDecided, IncidentOpened, MilestoneReached, Notice, Proof, RunCreated,
    RunEnded, StepFinished, UndoFinished,
};
use crate::incident::rotate::{RotateIntent, RotateItem, RotateObserved, RotationPlanned};
use crate::incident::{History, Milestone, Outcome, kind};

use super::stage::DrillError;

/// Exit code of a drill that missed something.
const MISSED: u8 = 5;
/// Exit code of the verifier for evidence that was recovered after a crash.
const RECOVERED: u8 = 22;

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, for people.
    pub name: String,
    /// Passed.
    pub passed: bool,
    /// What was found.
    pub found: String,
}

/// All checks of one drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Score {
    /// Checks passed.
    pub passed: usize,
    /// Checks asked.
    pub asked: usize,
    /// Checks, in the order in which they are told.
    pub checks: Vec<Check>,
    /// Whether every objective that was at stake was measured and met; none where the playbook promises nothing.
    #[serde(skip)]
    pub objectives_met: Option<bool>,
    /// Seconds from impact to restored, where both are known.
    #[serde(skip)]
    pub actual_rto_s: Option<u64>,
}

/// What a drill answers with `--json` (first-use, "Drills").
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `firebreak/drill/v1`.
    pub schema: &'static str,
    /// The incident.
    pub incident: String,
    /// Its folder.
    pub incident_dir: String,
    /// Its sealed bags, as paths.
    pub bags: Vec<String>,
    /// Fingerprint of the epoch key, 64 hex.
    pub fingerprint: String,
    /// The verifier's words about ledger and bags.
    pub bag_verdict: String,
    /// The verifier's exit code, which is not the drill's.
    pub bag_exit: u8,
    /// Every objective that was at stake was measured and met; none where the playbook promises nothing.
    pub objectives_met: Option<bool>,
    /// Seconds from impact to restored. The cluster was simulated: no proof of an RTO.
    pub actual_rto_s: Option<u64>,
    /// Checks passed of checks asked.
    pub score: Score,
    /// 0 when every check passed, else 5.
    pub exit: u8,
}

impl Report {
    /// Verifies the incident folder and scores the drill in it.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn of(history: &History, place: &Path) -> Result<Self, DrillError> {
        let source = DirSource::open(place)
            .map_err(|e| DrillError::read(&place.display().to_string(), &e))?;
        let given = Given {
            fingerprints: Fingerprint::parse(&history.fingerprint)
                .ok()
                .into_iter()
                .collect(),
            ..Given::default()
        };
        let verified = verify(&source, &Policy::default(), &given);
        let score = Score::of(history, (&verified.verdict, verified.exit));
        Ok(Report {
            schema: "firebreak/drill/v1",
            incident: history.incident.to_string(),
            incident_dir: place.display().to_string(),
            bags: history
                .bodies::<BagSealed>(kind::BAG_SEALED)
                .map(|(_, b)| {
                    place
                        .join("bags")
                        .join(format!("{}_{}", history.incident, b.bag))
                        .display()
                        .to_string()
                })
                .collect(),
            fingerprint: history.fingerprint.clone(),
            bag_verdict: verified.verdict,
            bag_exit: verified.exit,
            objectives_met: score.objectives_met,
            actual_rto_s: score.actual_rto_s,
            exit: if score.passed == score.asked {
                0
            } else {
                MISSED
            },
            score,
        })
    }
}

impl Score {
    /// Scores the newest run of a drill. `verified` is what the verifier says of ledger and bags: words and exit code.
    pub fn of(history: &History, verified: (&str, u8)) -> Self {
        let run = history
            .bodies::<RunCreated>(kind::RUN_CREATED)
            .last()
            .map(|(_, r)| r);
        let mut checks = vec![completed(history, run.as_ref()), failures(history)];
        checks.push(doubts(history));
        checks.push(undos(history));
        checks.push(gates(history));
        if run.as_ref().is_some_and(contains_something) {
            checks.push(isolation(history));
        }
        checks.extend(rotation(history));
        checks.push(messages(history));
        let objectives = run
            .as_ref()
            .map(|r| objectives(history, r))
            .unwrap_or_default();
        let objectives_met = (!objectives.is_empty()).then(|| objectives.iter().all(|c| c.passed));
        checks.extend(objectives);
        checks.push(bags(history));
        checks.push(check(
            "ledger and bags verify",
            matches!(verified.1, 0 | RECOVERED),
            verified.0.to_owned(),
        ));
        Score {
            passed: checks.iter().filter(|c| c.passed).count(),
            asked: checks.len(),
            checks,
            objectives_met,
            actual_rto_s: measured(history, Milestone::Restored),
        }
    }
}

fn check(name: &str, passed: bool, found: String) -> Check {
    Check {
        name: name.to_owned(),
        passed,
        found,
    }
}

/// `none`, or the names.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<&str> = names.into_iter().collect();
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    }
}

fn completed(history: &History, run: Option<&RunCreated>) -> Check {
    let name = "the run is complete";
    let Some(run) = run else {
        return check(name, false, "no run was started".to_owned());
    };
    let ended = history
        .of(kind::RUN_ENDED)
        .filter(|e| e.run() == Some(run.run.as_str()))
        .last()
        .and_then(|e| e.body_as::<RunEnded>(kind::RUN_ENDED));
    match ended {
        Some(end) => check(name, end.how == "completed", end.why.unwrap_or(end.how)),
        None => check(name, false, "it has not ended".to_owned()),
    }
}

/// How each step stands by the last word about it.
fn last_outcomes(history: &History) -> BTreeMap<&str, Outcome> {
    history
        .of(kind::STEP_FINISHED)
        .filter_map(|e| {
            let body: StepFinished = e.body_as(kind::STEP_FINISHED)?;
            Some((e.step()?, body.outcome))
        })
        .collect()
}

fn failures(history: &History) -> Check {
    let outcomes = last_outcomes(history);
    let failed: Vec<&str> = outcomes
        .iter()
        .filter(|(_, o)| **o != Outcome::Done)
        .map(|(step, _)| *step)
        .collect();
    let found = if failed.is_empty() {
        format!("{} steps done or skipped", outcomes.len())
    } else {
        format!("failed: {}", listed(failed.iter().copied()))
    };
    check("no step failed", failed.is_empty(), found)
}

fn doubts(history: &History) -> Check {
    let mut open: BTreeSet<&str> = BTreeSet::new();
    let mut seen = 0;
    for entry in &history.entries {
        let Some(step) = entry.step() else { continue };
        match entry.kind.as_str() {
            kind::STEP_IN_DOUBT => {
                seen += 1;
                open.insert(step);
            }
            kind::STEP_RESOLVED | kind::STEP_FINISHED => {
                open.remove(step);
            }
            _ => {}
        }
    }
    let found = if open.is_empty() {
        format!("{seen} were in doubt, all resolved")
    } else {
        format!("in doubt: {}", listed(open.iter().copied()))
    };
    check("no step is left in doubt", open.is_empty(), found)
}

fn undos(history: &History) -> Check {
    let stuck: Vec<&str> = history
        .bodies::<UndoFinished>(kind::UNDO_FINISHED)
        .filter(|(_, b)| b.outcome == Outcome::Stuck)
        .filter_map(|(e, _)| e.step())
        .collect();
    check(
        "nothing is stuck",
        stuck.is_empty(),
        listed(stuck.iter().copied()),
    )
}

fn gates(history: &History) -> Check {
    let decided: Vec<GateDecided> = history
        .bodies::<GateDecided>(kind::GATE_DECIDED)
        .map(|(_, d)| d)
        .collect();
    let rejected: Vec<&str> = decided
        .iter()
        .filter_map(|d| d.rejected.as_deref())
        .collect();
    let signed = decided.iter().filter(|d| d.how == "signed").count();
    let found = if rejected.is_empty() {
        format!("{signed} signed, {} typed", decided.len() - signed)
    } else {
        format!("refused: {}", listed(rejected.iter().copied()))
    };
    check("every approval was accepted", rejected.is_empty(), found)
}

fn contains_something(run: &RunCreated) -> bool {
    run.steps
        .iter()
        .any(|s| s.action.as_deref() == Some("contain.probe_isolation"))
}

fn isolation(history: &History) -> Check {
    let last: BTreeMap<String, String> = history
        .bodies::<Proof>(kind::CONTAIN_PROVEN)
        .map(|(_, p)| (p.pod, p.verdict))
        .collect();
    let passed = !last.is_empty() && last.values().all(|v| v == "isolated");
    let found: Vec<String> = last.iter().map(|(pod, v)| format!("{pod}: {v}")).collect();
    let found = if found.is_empty() {
        "no proof was made".to_owned()
    } else {
        found.join(", ")
    };
    check("isolation is proven", passed, found)
}

/// Where credentials were planned to be replaced: each is, the old one proven dead, and whoever reads it came back.
fn rotation(history: &History) -> Vec<Check> {
    let planned: u64 = history
        .bodies::<RotationPlanned>(kind::ROTATION_PLANNED)
        .flat_map(|(_, p)| p.items.into_values())
        .sum();
    if planned == 0 {
        return Vec::new();
    }
    let ended: BTreeMap<String, RotateItem> = history
        .bodies::<RotateItem>(kind::ROTATE_ITEM)
        .map(|(_, b)| (b.item.clone(), b))
        .collect();
    let done = ended.values().filter(|b| b.state == "done").count() as u64;
    let open: Vec<&str> = ended
        .values()
        .filter(|b| b.state != "done")
        .map(|b| b.summary.as_str())
        .collect();
    let found = match open.as_slice() {
        [] => format!("{done} of {planned}"),
        open => format!("{done} of {planned}; {}", open.join("; ")),
    };
    let mut restarts: BTreeMap<String, bool> = BTreeMap::new();
    for (_, b) in history.bodies::<RotateIntent>(kind::ROTATE_INTENT) {
        if b.item.starts_with("workload:") {
            restarts.entry(b.item).or_default();
        }
    }
    for (_, b) in history.bodies::<RotateObserved>(kind::ROTATE_OBSERVED) {
        if let Some(available) = restarts.get_mut(&b.item) {
            *available |= b.holds && b.step == "RolloutAvailable";
        }
    }
    let down = restarts.iter().filter(|(_, up)| !**up);
    let down: Vec<&str> = down.map(|(place, _)| place.as_str()).collect();
    vec![
        check(
            "credentials are replaced and the old ones proven dead",
            done == planned,
            found,
        ),
        check(
            "consumers are healthy with new credentials",
            down.is_empty(),
            match down.as_slice() {
                [] => format!("{} restarted, all available", restarts.len()),
                down => format!("not available: {}", listed(down.iter().copied())),
            },
        ),
    ]
}

fn messages(history: &History) -> Check {
    let notices: Vec<Notice> = history
        .bodies::<Notice>(kind::NOTICE_SENT)
        .map(|(_, n)| n)
        .collect();
    let bare = notices
        .iter()
        .filter(|n| !n.text.starts_with("EXERCISE"))
        .count();
    let found = format!("{} messages, {bare} without the mark", notices.len());
    check(
        "every message says that it is an exercise",
        bare == 0,
        found,
    )
}

fn objectives(history: &History, run: &RunCreated) -> Vec<Check> {
    let o = &run.objectives;
    let mut checks: Vec<Check> = [
        ("contained in time", o.contain_s, Milestone::Contained),
        ("restored within its RTO", o.rto_s, Milestone::Restored),
        (
            "recovered within the scenario's limit",
            o.recovery_limit_s,
            Milestone::Restored,
        ),
    ]
    .into_iter()
    .filter_map(|(name, limit, milestone)| {
        let limit = limit?;
        Some(match measured(history, milestone) {
            None => check(
                name,
                false,
                format!("not measurable: no milestone `{milestone}`"),
            ),
            Some(took) => {
                let found = format!("{took} s of {limit} s (simulated)");
                check(name, took <= limit, found)
            }
        })
    })
    .collect();
    if restores_something(run) {
        checks.extend(o.rpo_s.iter().map(|(class, limit)| {
            let found =
                format!("not measurable against {limit} s: no restore recorded its newest record");
            check(&format!("RPO of {class}"), false, found)
        }));
    }
    checks
}

/// An RPO is at stake only where an action of the run restores data.
fn restores_something(run: &RunCreated) -> bool {
    let restores = |action: &str| action.starts_with("recover.restore");
    run.steps
        .iter()
        .any(|s| s.action.as_deref().is_some_and(restores))
}

/// Seconds from impact (else the declaration) to a milestone, rounded up: a limit is never met by rounding.
fn measured(history: &History, milestone: Milestone) -> Option<u64> {
    let start = reached(history, Milestone::Impact).or_else(|| {
        history
            .bodies::<IncidentOpened>(kind::INCIDENT_OPENED)
            .next()
            .map(|(e, _)| e.time)
    })?;
    let took = (reached(history, milestone)? - start).num_milliseconds();
    u64::try_from(took).ok().map(|ms| ms.div_ceil(1000))
}

fn reached(history: &History, milestone: Milestone) -> Option<DateTime<Utc>> {
    history
        .bodies::<MilestoneReached>(kind::MILESTONE)
        .filter(|(_, m)| m.name == milestone)
        .last()
        .map(|(e, m)| {
            m.at.as_deref()
                .and_then(|t| DateTime::parse_from_rfc3339(t).ok())
                .map_or(e.time, |t| t.with_timezone(&Utc))
        })
}

fn bags(history: &History) -> Check {
    let sealed: BTreeSet<String> = history
        .bodies::<BagSealed>(kind::BAG_SEALED)
        .map(|(_, b)| b.bag)
        .collect();
    let open: Vec<String> = history
        .bodies::<BagOpened>(kind::BAG_OPENED)
        .map(|(_, b)| b.bag)
        .filter(|b| !sealed.contains(b))
        .collect();
    let found = if open.is_empty() {
        format!("{} sealed", sealed.len())
    } else {
        format!("open: {}", listed(open.iter().map(String::as_str)))
    };
    check(
        "every bag is sealed",
        open.is_empty() && !sealed.is_empty(),
        found,
    )
}

#[cfg(test)]
mod tests;
