//! The timeline: one line per entry, in the order in which things happened, each with its proof.
//!
//! Corrections are later lines, never edits. What a person adds in words is marked as an annotation.

use serde_json::Value;

use crate::incident::body::*;
use crate::incident::clock_text::{millis, span};
use crate::incident::{ActorKind, Entry, History, Lane, Phase, kind};

use super::document::Line;
use super::times::{cite, moment, stated};

/// All lines; sorted by when a thing happened, then by entry number.
pub(super) fn timeline(history: &History) -> Vec<Line> {
    let outline: Vec<(String, StepOutline)> = history
        .bodies::<RunCreated>(kind::RUN_CREATED)
        .flat_map(|(_, run)| {
            let id = run.run.clone();
            run.steps.into_iter().map(move |s| (id.clone(), s))
        })
        .collect();
    let mut lines: Vec<Line> = history
        .entries
        .iter()
        .map(|e| line(e, step_lane(e, &outline)))
        .collect();
    lines.sort_by_key(|l| {
        let happened = l.occurred.as_deref().unwrap_or(&l.recorded);
        (moment(happened), l.cite.seq)
    });
    lines
}

/// The lane of the step that an entry belongs to.
fn step_lane(entry: &Entry, outline: &[(String, StepOutline)]) -> Option<Lane> {
    let (run, step) = (entry.run()?, entry.step()?);
    let (_, outline) = outline.iter().find(|(r, o)| r == run && o.path == step)?;
    let action = outline.action.as_deref().unwrap_or_default();
    Some(match (action.split('.').next(), outline.kind.as_str()) {
        (Some("acquire" | "evidence"), _) => Lane::Preserve,
        (Some("contain"), _) => Lane::Contain,
        (Some("notify"), _) | (_, "notify") => Lane::Notify,
        _ => match outline.phase? {
            Phase::Triage => Lane::Detect,
            Phase::Containment => Lane::Contain,
            Phase::Eradication | Phase::Recovery | Phase::Review => Lane::Recover,
        },
    })
}

/// What one entry says.
struct Said {
    lane: Lane,
    what: String,
    occurred: Option<String>,
    observed: Option<String>,
}

fn line(entry: &Entry, step: Option<Lane>) -> Line {
    let said = said(entry, step).unwrap_or_else(|| Said {
        lane: step.unwrap_or(Lane::Detect),
        what: unreadable(entry),
        occurred: None,
        observed: None,
    });
    let recorded = millis(entry.time);
    Line {
        occurred: said.occurred,
        observed: said.observed.unwrap_or_else(|| recorded.clone()),
        recorded,
        actor: entry.actor.id.clone(),
        kind: entry.kind.clone(),
        lane: said.lane,
        step: entry.step().map(str::to_owned),
        what: said.what,
        annotation: entry.actor.kind == ActorKind::Person
            && matches!(
                entry.kind.as_str(),
                kind::INCIDENT_NOTE | kind::REPORT_TEXT | kind::ANSWER
            ),
        clock_back_ms: entry.clock_back_ms,
        cite: cite(entry),
    }
}

/// A kind of a newer tool, or a payload that does not fit its kind: said, not dropped.
fn unreadable(entry: &Entry) -> String {
    match entry.body.get("summary").and_then(Value::as_str) {
        Some(text) => format!("{}: {text}", entry.kind),
        None => format!("{} (this version has no words for it)", entry.kind),
    }
}

fn said(e: &Entry, step: Option<Lane>) -> Option<Said> {
    about_incident(e)
        .or_else(|| about_evidence(e))
        .or_else(|| about_containment(e))
        .or_else(|| about_rotation(e, step))
        .or_else(|| about_run(e, step))
        .or_else(|| about_step(e, step))
}

fn plain(lane: Lane, what: String) -> Option<Said> {
    Some(Said {
        lane,
        what,
        occurred: None,
        observed: None,
    })
}

fn at(lane: Lane, what: String, occurred: Option<&str>) -> Option<Said> {
    Some(Said {
        lane,
        what,
        occurred: stated(occurred),
        observed: None,
    })
}

fn because(why: Option<&str>) -> String {
    why.map(|w| format!(": {w}")).unwrap_or_default()
}

fn about_incident(e: &Entry) -> Option<Said> {
    let lane = Lane::Detect;
    match e.kind.as_str() {
        kind::LEDGER_OPENED => {
            let b: LedgerOpened = e.body_as(&e.kind)?;
            let what = format!(
                "ledger opened for {} ({}, policy {})",
                b.incident, b.mode, b.policy
            );
            plain(lane, what)
        }
        kind::LEDGER_RECOVERED => plain(lane, "ledger recovered after a crash".into()),
        kind::TARGET_ADDED => {
            let b: TargetAdded = e.body_as(&e.kind)?;
            plain(lane, format!("target added: {}", target(&b.target)))
        }
        kind::INCIDENT_OPENED => {
            let b: IncidentOpened = e.body_as(&e.kind)?;
            plain(
                lane,
                format!("incident declared, {}: {}", b.severity, b.title),
            )
        }
        kind::INCIDENT_NOTE => {
            let b: Note = e.body_as(&e.kind)?;
            at(lane, format!("note: {}", b.text), b.at.as_deref())
        }
        kind::INCIDENT_CLOSED => {
            let b: Note = e.body_as(&e.kind)?;
            at(
                Lane::Recover,
                format!("incident closed: {}", b.text),
                b.at.as_deref(),
            )
        }
        kind::REPORT_TEXT => {
            let b: ReportText = e.body_as(&e.kind)?;
            plain(
                Lane::Recover,
                format!("text written for section {}", b.section),
            )
        }
        kind::REPORT_BUILT => {
            let b: ReportBuilt = e.body_as(&e.kind)?;
            let what = format!(
                "document built over {} entries, SHA-256 {}",
                b.entries, b.document_sha256
            );
            plain(Lane::Recover, what)
        }
        kind::MILESTONE => {
            let b: MilestoneReached = e.body_as(&e.kind)?;
            let tier = b.tier.map(|t| format!(" (tier {t})")).unwrap_or_default();
            let sure = b
                .confidence
                .map(|c| format!(", confidence {c}"))
                .unwrap_or_default();
            let what = format!("milestone {}{tier}, by {}{sure}", b.name, b.by);
            at(milestone_lane(b.name), what, b.at.as_deref())
        }
        _ => None,
    }
}

fn milestone_lane(name: crate::incident::Milestone) -> Lane {
    use crate::incident::Milestone as M;
    match name {
        M::Contained => Lane::Contain,
        M::Eradicated | M::Restored | M::Verified | M::Closed => Lane::Recover,
        _ => Lane::Detect,
    }
}

/// A target in one line.
pub(super) fn target(target: &Target) -> String {
    match target {
        Target::Cluster {
            context,
            server,
            uid,
        } => format!("cluster {context} ({server}, {uid})"),
        Target::Account {
            account,
            region,
            endpoint,
        } => format!("account {account} in {region} ({endpoint})"),
        Target::Host { name } => format!("host {name}"),
    }
}

fn about_evidence(e: &Entry) -> Option<Said> {
    let lane = Lane::Preserve;
    match e.kind.as_str() {
        kind::BAG_OPENED => {
            let b: BagOpened = e.body_as(&e.kind)?;
            plain(lane, format!("bag {} opened: {}", b.bag, b.purpose))
        }
        kind::BAG_SEALED => {
            let b: BagSealed = e.body_as(&e.kind)?;
            let late = if b.late {
                ", entered after a crash"
            } else {
                ""
            };
            let what = format!(
                "bag {} sealed: {} files, {} bytes, seal {}{late}",
                b.bag, b.files, b.bytes, b.seal_sha256
            );
            plain(lane, what)
        }
        kind::BAG_RECOVERED => plain(lane, "an open bag was recovered after a crash".into()),
        kind::EXHIBIT_ACQUIRED => {
            let b: ExhibitAcquired = e.body_as(&e.kind)?;
            let end = if b.ended == "complete" {
                String::new()
            } else {
                format!(", not complete ({}{})", b.ended, because(b.why.as_deref()))
            };
            Some(Said {
                lane,
                what: format!(
                    "exhibit {} acquired: {}, {} bytes{end}",
                    b.exhibit, b.description, b.bytes
                ),
                occurred: stated(Some(&b.started)),
                observed: stated(Some(&b.finished)),
            })
        }
        kind::EXHIBIT_CHECKED => {
            let b: ExhibitChecked = e.body_as(&e.kind)?;
            let what = format!("bag {} verified: {} (exit {})", b.bag, b.verdict, b.exit);
            plain(lane, what)
        }
        _ => None,
    }
}

/// An object in one phrase.
pub(super) fn object(o: &ObjectRef) -> String {
    if o.namespace.is_empty() {
        format!("{} {}", o.kind, o.name)
    } else {
        format!("{} {}/{}", o.kind, o.namespace, o.name)
    }
}

fn about_containment(e: &Entry) -> Option<Said> {
    let lane = Lane::Contain;
    match e.kind.as_str() {
        kind::WRITE_INTENDED => {
            let b: WriteIntended = e.body_as(&e.kind)?;
            let back = if b.reversal { " (takes back)" } else { "" };
            plain(
                lane,
                format!("about to {} on {}{back}", b.what, object(&b.object)),
            )
        }
        kind::WRITE_SEEN => {
            let b: WriteSeen = e.body_as(&e.kind)?;
            plain(
                lane,
                format!("{} on {}: {}", b.what, object(&b.object), b.verdict),
            )
        }
        kind::CONTAINMENT_PLANNED => {
            let b: ContainmentPlanned = e.body_as(&e.kind)?;
            if b.already {
                let what = format!(
                    "{} is isolated already under containment {}: nothing was left to do",
                    object(&b.pod),
                    b.containment
                );
                return plain(lane, what);
            }
            let what = format!(
                "containment {} planned for {} on node {}, owner {}; {} policies would still allow something",
                b.containment,
                object(&b.pod),
                b.node,
                b.owner,
                b.still_allowed.len()
            );
            plain(lane, what)
        }
        kind::CONTAIN_PROVEN => {
            let b: Proof = e.body_as(&e.kind)?;
            let what = format!(
                "{} after phase {}: {} ({} probes)",
                b.pod,
                b.phase,
                b.verdict,
                b.cells.len()
            );
            plain(lane, what)
        }
        kind::CONTAIN_CANARY => {
            let b: Canary = e.body_as(&e.kind)?;
            let what = format!(
                "canary on node {}: {}{}",
                b.node,
                b.verdict,
                because(b.why.as_deref())
            );
            plain(lane, what)
        }
        kind::CREDENTIALS_LISTED => {
            let b: Credentials = e.body_as(&e.kind)?;
            let what = format!(
                "credentials within reach of {} listed: service account {}, {} secrets",
                object(&b.pod),
                b.service_account,
                b.secrets.len()
            );
            plain(lane, what)
        }
        _ => None,
    }
}

fn about_rotation(e: &Entry, step: Option<Lane>) -> Option<Said> {
    plain(step.unwrap_or(Lane::Recover), super::rotation::said(e)?)
}

fn about_run(e: &Entry, step: Option<Lane>) -> Option<Said> {
    let lane = step.unwrap_or(Lane::Detect);
    match e.kind.as_str() {
        kind::RUN_PLANNED => {
            let b: RunPlanned = e.body_as(&e.kind)?;
            plain(
                lane,
                format!("run {} of playbook {} planned", b.run, b.playbook),
            )
        }
        kind::RUN_CREATED => {
            let b: RunCreated = e.body_as(&e.kind)?;
            let what = format!(
                "run {} of playbook {} version {} created by {}",
                b.run, b.playbook, b.version, b.executor
            );
            plain(lane, what)
        }
        kind::RUN_PARKED => {
            let b: RunParked = e.body_as(&e.kind)?;
            plain(lane, format!("run parked: {}", b.why))
        }
        kind::RUN_RESUMED => {
            let b: RunResumed = e.body_as(&e.kind)?;
            plain(lane, format!("run resumed (epoch {})", b.epoch))
        }
        kind::RUN_ENDED => {
            let b: RunEnded = e.body_as(&e.kind)?;
            plain(lane, format!("run {}{}", b.how, because(b.why.as_deref())))
        }
        kind::GATE_REQUESTED => {
            let b: GateRequested = e.body_as(&e.kind)?;
            let what = format!(
                "decision asked of {} ({} needed): {}",
                b.roles.join(", "),
                b.quorum,
                b.question
            );
            plain(lane, what)
        }
        kind::GATE_DECIDED => {
            let b: GateDecided = e.body_as(&e.kind)?;
            let counted = b
                .rejected
                .map(|c| format!(", does not count ({c})"))
                .unwrap_or_default();
            let what = format!(
                "{} {} ({}){}{counted}",
                b.principal,
                super::response::decided(b.decision),
                b.how,
                because(b.reason.as_deref())
            );
            plain(lane, what)
        }
        kind::GATE_EXPIRED => {
            let b: GateExpired = e.body_as(&e.kind)?;
            plain(
                lane,
                format!("the time to decide ran out, then: {}", b.then),
            )
        }
        kind::DEADLINE_PASSED => {
            let b: DeadlinePassed = e.body_as(&e.kind)?;
            let simulated = if b.simulated { " (simulated)" } else { "" };
            let what = format!("deadline of the {} passed{simulated}", b.which);
            at(lane, what, Some(&b.deadline))
        }
        kind::NOTICE_SENT | kind::NOTICE_FAILED => {
            let b: Notice = e.body_as(&e.kind)?;
            let word = if e.kind == kind::NOTICE_SENT {
                "sent"
            } else {
                "failed"
            };
            let what = format!(
                "message to {} by {} {word}{}",
                b.to.join(", "),
                b.channel,
                because(b.error.as_deref())
            );
            plain(Lane::Notify, what)
        }
        _ => None,
    }
}

fn about_step(e: &Entry, step: Option<Lane>) -> Option<Said> {
    let lane = step.unwrap_or(Lane::Detect);
    let path = e.step().unwrap_or("(no step)");
    match e.kind.as_str() {
        kind::STEP_STARTED => {
            let b: StepStarted = e.body_as(&e.kind)?;
            let again = if b.r#try > 1 {
                format!(", try {}", b.r#try)
            } else {
                String::new()
            };
            let simulated = if b.simulated {
                ", time only simulated"
            } else {
                ""
            };
            plain(
                lane,
                format!("{path} started: {}{again}{simulated}", b.what),
            )
        }
        kind::STEP_FINISHED => {
            let b: StepFinished = e.body_as(&e.kind)?;
            let took = span(i64::try_from(b.elapsed_ms).unwrap_or(i64::MAX));
            let word = if b.by == "skipped" {
                "skipped"
            } else {
                b.outcome.as_str()
            };
            plain(lane, format!("{path} {word} ({took}): {}", b.summary))
        }
        kind::STEP_IN_DOUBT => {
            let b: StepInDoubt = e.body_as(&e.kind)?;
            plain(lane, format!("{path} in doubt: {}", b.known))
        }
        kind::STEP_RESOLVED => {
            let b: StepResolved = e.body_as(&e.kind)?;
            plain(
                lane,
                format!(
                    "{path}: {} decided that it {}: {}",
                    b.by,
                    verdict(&b.verdict),
                    b.reason
                ),
            )
        }
        kind::UNDO_STARTED => {
            let b: UndoStarted = e.body_as(&e.kind)?;
            plain(lane, format!("undo of {path} started: {}", b.what))
        }
        kind::UNDO_FINISHED => {
            let b: UndoFinished = e.body_as(&e.kind)?;
            plain(lane, format!("{path} {}: {}", b.outcome, b.summary))
        }
        kind::ANSWER => {
            let b: Answer = e.body_as(&e.kind)?;
            plain(lane, format!("answer to {path}, {}: {}", b.outcome, b.text))
        }
        _ => None,
    }
}

fn verdict(word: &str) -> &str {
    match word {
        "ran" => "ran",
        "did-not-run" => "did not run",
        "retry" => "may be tried again",
        other => other,
    }
}

/// True for an entry whose payload does not fit its kind, or whose kind this version does not know.
pub(super) fn is_unreadable(entry: &Entry) -> bool {
    said(entry, None).is_none()
}
