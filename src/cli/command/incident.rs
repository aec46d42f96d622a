//! `firebreak incident`: open, status, and what people say.

use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::output::{clean_line, grouped};
use crate::cli::session::{NewIncident, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::custody::Custody;
use crate::incident::body::{IncidentOpened, MilestoneReached, Note, RunCreated, WriteSeen};
use crate::incident::clock_text::millis;
use crate::incident::{Draft, History, IncidentId, Milestone, Mode, Severity, kind};
use crate::port::Ledger as _;

use super::run_choice::{self, RunArg};

/// The longest text that stands in an entry.
const TEXT_MAX: usize = 4096;

/// Arguments of `firebreak incident`.
#[derive(Debug, clap::Subcommand)]
pub enum IncidentCommand {
    /// Declare an incident and open its ledger
    Open {
        /// One line: what it is
        title: String,
        /// Id, else `INC-`, the date and 4 characters
        #[arg(long)]
        id: Option<String>,
        /// SEV1 (gravest) to SEV4
        #[arg(long, default_value = "SEV2")]
        severity: String,
        /// Who noticed, or what signalled it
        #[arg(long)]
        source: Option<String>,
    },
    /// Show an incident, or list all
    Status {
        /// Its id
        id: Option<String>,
    },
    /// Add a line to the timeline
    Note {
        /// The text
        text: String,
        /// When it happened, if not now (RFC 3339)
        #[arg(long)]
        at: Option<String>,
    },
    /// State when a milestone was reached
    Milestone {
        /// occurred, impact, detected, acknowledged, aware, classified, declared, contained, eradicated, restored, verified
        name: String,
        /// When, if not now (RFC 3339)
        #[arg(long)]
        at: Option<String>,
        /// low, medium or high
        #[arg(long)]
        confidence: Option<String>,
    },
    /// Answer a manual step of the open run
    Answer(super::run::AnswerArgs),
    /// Decide what a step in doubt did
    Resolve(super::run::ResolveArgs),
    /// Park an open run after its current steps
    Park(super::run::ParkArgs),
    /// Go on with a run that was parked or cut off
    Resume {
        /// The incident's id
        id: Option<String>,
        /// Which run
        #[command(flatten)]
        run: RunArg,
    },
    /// Close the incident and erase its key: nothing can be added afterwards
    Close {
        /// Closing words
        #[arg(long, default_value = "closed")]
        note: String,
        /// Close although runs are open or pods are isolated: nothing of them can be finished or given back afterwards
        #[arg(long)]
        leave: bool,
        /// The incident's id, typed, where there is no terminal
        #[arg(long, value_name = "ID")]
        confirm: Option<String>,
    },
}

/// Runs it.
pub fn run(session: &mut Session, command: &IncidentCommand) -> CliResult {
    match command {
        IncidentCommand::Open {
            title,
            id,
            severity,
            source,
        } => open(session, title, id.as_deref(), severity, source.clone()),
        IncidentCommand::Status { id } => status(session, id.as_deref()),
        IncidentCommand::Note { text, at } => note(session, text, at.as_deref()),
        IncidentCommand::Milestone {
            name,
            at,
            confidence,
        } => milestone(session, name, at.as_deref(), confidence.as_deref()),
        IncidentCommand::Answer(args) => super::run::answer(session, args),
        IncidentCommand::Resolve(args) => super::run::resolve(session, args),
        IncidentCommand::Park(args) => super::run::park(session, args),
        IncidentCommand::Resume { id, run } => {
            if id.is_some() {
                session.asked.clone_from(id);
            }
            super::run::resume(session, run)
        }
        IncidentCommand::Close {
            note,
            leave,
            confirm,
        } => close(session, note, *leave, confirm.as_deref()),
    }
}

fn open(
    session: &Session,
    title: &str,
    id: Option<&str>,
    severity: &str,
    source: Option<String>,
) -> CliResult {
    let id = id
        .map(IncidentId::parse)
        .transpose()
        .map_err(|e| CliError::usage(e.to_string()))?;
    let severity = Severity::parse(&severity.to_ascii_uppercase()).ok_or_else(|| {
        CliError::usage(format!("`{severity}` is no severity")).hint("SEV1, SEV2, SEV3 or SEV4")
    })?;
    let title = checked(title)?;
    let custody = session.create(NewIncident {
        id,
        mode: Mode::Live,
        title,
        severity,
        source,
        targets: Vec::new(),
        policy: None,
        declared: None,
    })?;
    let next = format!("firebreak contain pod NS/NAME --incident {}", custody.id());
    if session.out.json {
        session.out.document(&serde_json::json!({
            "schema": "firebreak/incident/v1", "incident": custody.id(), "folder": custody.place(), "fingerprint": custody.opened().fingerprint, "policy": custody.opened().policy, "next": next,
        }))?;
        return Ok(Exit::Ok);
    }
    session.out.answer(format!("incident    {}", custody.id()));
    session
        .out
        .answer(format!("folder      {}", custody.place().display()));
    session.out.answer(format!(
        "fingerprint {}",
        grouped(&custody.opened().fingerprint)
    ));
    session
        .out
        .answer(format!("policy      {}", custody.opened().policy));
    session.out.answer(
        "keep the fingerprint on paper, apart from this host: it is what a stranger verifies with",
    );
    session.out.answer(format!("next        {next}"));
    Ok(Exit::Ok)
}

fn status(session: &Session, id: Option<&str>) -> CliResult {
    if id.is_none() && session.asked.is_none() {
        return super::board::run(session);
    }
    let id = IncidentId::parse(id.or(session.asked.as_deref()).unwrap_or_default())
        .map_err(|e| CliError::usage(e.to_string()))?;
    let custody = Arc::new(session.open(&id)?);
    let history = custody.history()?;
    let waiting = run_choice::waiting(session, &custody);
    let lines = super::board::lines(&history, &waiting);
    if session.out.json {
        session
            .out
            .document(&super::board::document(&history, custody.place(), &waiting))?;
        return Ok(Exit::Ok);
    }
    lines.iter().for_each(|l| session.out.answer(clean_line(l)));
    Ok(Exit::Ok)
}

fn note(session: &Session, text: &str, at: Option<&str>) -> CliResult {
    let custody = session.incident()?;
    let body = Note {
        text: checked(text)?,
        at: at.map(instant).transpose()?,
    };
    let stored = custody.ledger().append(vec![
        Draft::new(kind::INCIDENT_NOTE, &body).by(&session.actor),
    ])?;
    tell(session, custody.id(), &stored)
}

fn milestone(
    session: &Session,
    name: &str,
    at: Option<&str>,
    confidence: Option<&str>,
) -> CliResult {
    let name = Milestone::parse(name)
        .filter(|m| *m != Milestone::Closed)
        .ok_or_else(|| {
            let all: Vec<_> = Milestone::ALL
                .iter()
                .filter(|m| **m != Milestone::Closed)
                .map(|m| m.as_str())
                .collect();
            CliError::usage(format!("`{name}` is no milestone that can be stated"))
                .hint(format!("one of {}", all.join(", ")))
        })?;
    if let Some(c) = confidence
        && !["low", "medium", "high"].contains(&c)
    {
        return Err(CliError::usage("--confidence is low, medium or high"));
    }
    let at = at.map(instant).transpose()?;
    let custody = session.incident()?;
    let body = MilestoneReached {
        name,
        tier: None,
        at,
        confidence: confidence.map(str::to_owned),
        by: "statement".into(),
    };
    let stored = custody
        .ledger()
        .append(vec![Draft::new(kind::MILESTONE, &body).by(&session.actor)])?;
    tell(session, custody.id(), &stored)
}

fn close(session: &Session, note: &str, leave: bool, confirm: Option<&str>) -> CliResult {
    let custody = session.incident()?;
    custody.tell_late_seals()?;
    let open = custody.open_bags()?;
    if !open.is_empty() {
        return Err(still_open(custody.id(), open.iter().map(|(n, _)| *n)));
    }
    let history = custody.history()?;
    if !custody.place().join("state/epoch.key").exists() {
        session.out.answer(format!(
            "{} is closed already; its folder: {}",
            custody.id(),
            custody.place().display()
        ));
        return closed(session, &custody);
    }
    let left = unfinished(&history);
    if !left.is_empty() && !leave {
        return Err(CliError::new(
            Exit::Parked,
            "FB0614",
            format!("not closed: {}", left.join("; ")),
        )
        .hint(
            "finish it: firebreak resume, firebreak contain release NS/POD, firebreak playbook undo STEP; or close with --leave",
        ));
    }
    if history.of(kind::INCIDENT_CLOSED).next().is_none() {
        session.ask_to_type(
            custody.id().as_str(),
            "close it and erase its key",
            confirm,
            "--confirm",
        )?;
    }
    for what in &left {
        session.out.answer(clean_line(&format!("left: {what}")));
    }
    let declared: Option<IncidentOpened> =
        history.bodies(kind::INCIDENT_OPENED).next().map(|(_, b)| b);
    let title = declared.map(|d| d.title).unwrap_or_default();
    let body = MilestoneReached {
        name: Milestone::Closed,
        tier: None,
        at: None,
        confidence: None,
        by: "statement".into(),
    };
    custody
        .ledger()
        .append(vec![Draft::new(kind::MILESTONE, &body).by(&session.actor)])?;
    custody.close(
        &Note {
            text: checked(note)?,
            at: None,
        },
        &session.actor,
    )?;
    session.out.answer(format!(
        "{} ({}) is closed; its key is erased, its folder stays: {}",
        custody.id(),
        clean_line(&title),
        custody.place().display()
    ));
    closed(session, &custody)
}

/// Bags that stand in the way of closing, each with the command that seals it.
fn still_open(id: &IncidentId, bags: impl Iterator<Item = u32>) -> CliError {
    let (names, seals): (Vec<String>, Vec<String>) = bags
        .map(|n| {
            let seal = format!("firebreak evidence seal --bag {n} --incident {id}");
            (format!("{n:04}"), seal)
        })
        .unzip();
    let what = match names.as_slice() {
        [one] => format!("bag {one} is still open"),
        all => format!("bags {} are still open", all.join(", ")),
    };
    CliError::new(Exit::Parked, "FB1205", what).hint(format!(
        "{}; where a run opened it: firebreak resume {id}",
        seals.join("; ")
    ))
}

/// A closed incident as a document.
fn closed(session: &Session, custody: &Custody) -> CliResult {
    if session.out.json {
        session.out.document(&serde_json::json!({
            "schema": "firebreak/incident/v1", "incident": custody.id(), "folder": custody.place(), "fingerprint": custody.opened().fingerprint, "policy": custody.opened().policy, "closed": true,
        }))?;
    }
    Ok(Exit::Ok)
}

/// What could not be finished or given back once the key is erased: open runs, pods that are still isolated, nodes that are still cordoned.
fn unfinished(history: &History) -> Vec<String> {
    let ended: BTreeSet<&str> = history
        .of(kind::RUN_ENDED)
        .filter_map(crate::incident::Entry::run)
        .collect();
    let runs = history
        .bodies::<RunCreated>(kind::RUN_CREATED)
        .filter(|(_, r)| !ended.contains(r.run.as_str()))
        .map(|(_, r)| format!("{} ({}) has not ended", r.run, r.playbook));
    let mut in_force = BTreeMap::new();
    for (_, seen) in history.bodies::<WriteSeen>(kind::WRITE_SEEN) {
        let (namespace, name) = (&seen.object.namespace, &seen.object.name);
        let what = match seen.what.as_str() {
            "label" => format!("{namespace}/{name} is still isolated"),
            "cordon" => format!("node {name} is still cordoned"),
            _ => continue,
        };
        if seen.reversal {
            in_force.remove(&seen.object.uid);
        } else if matches!(seen.verdict.as_str(), "written" | "already") {
            in_force.insert(seen.object.uid, what);
        }
    }
    runs.chain(in_force.into_values()).collect()
}

fn tell(session: &Session, id: &IncidentId, stored: &[crate::incident::Entry]) -> CliResult {
    for entry in stored {
        if session.out.json {
            session.out.document(&serde_json::json!({"schema": "firebreak/entry/v1", "incident": id, "seq": entry.seq, "time": millis(entry.time), "sha256": entry.sha256}))?;
        }
        session.out.answer(format!(
            "{id} entry {} at {}",
            entry.seq,
            millis(entry.time)
        ));
    }
    Ok(Exit::Ok)
}

/// A text for an entry: not empty, not too long, no control characters but line breaks.
pub fn checked(text: &str) -> Result<String, CliError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(CliError::usage("the text is empty"));
    }
    if text.len() > TEXT_MAX {
        return Err(CliError::usage(format!(
            "the text has {} bytes, at most {TEXT_MAX} stand in an entry",
            text.len()
        ))
        .hint("add it as an exhibit: firebreak evidence add FILE"));
    }
    if text
        .chars()
        .any(|c| c.is_control() && c != '\n' && c != '\t')
    {
        return Err(CliError::usage("the text holds control characters"));
    }
    Ok(text.to_owned())
}

/// An instant with zone, as UTC.
pub fn instant(text: &str) -> Result<String, CliError> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|t| millis(t.to_utc()))
        .map_err(|e| {
            CliError::usage(format!("`{text}` is no time: {e}"))
                .hint("for example 2026-11-24T22:15:00Z or 2026-11-24T23:15:00+01:00")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::{Actor, Entry, Refs};
    use serde_json::json;

    fn seen(what: &str, object: [&str; 3], reversal: bool) -> Entry {
        let [namespace, name, uid] = object;
        let object = json!({"kind": "Any", "namespace": namespace, "name": name, "uid": uid});
        Entry {
            seq: 0,
            time: chrono::DateTime::UNIX_EPOCH,
            kind: kind::WRITE_SEEN.into(),
            actor: Actor::tool(),
            target: None,
            refs: Refs::default(),
            body: json!({"object": object, "what": what, "seen": {}, "verdict": "written", "reversal": reversal}),
            sha256: String::new(),
            writer: 1,
            clock_back_ms: 0,
        }
    }

    #[test]
    fn a_node_that_is_still_cordoned_is_in_the_way_of_closing_as_a_pod_is() {
        let node = ["", "node-1", "n"];
        let mut history = History {
            incident: IncidentId::parse("INC-2031").expect("an id"),
            mode: Mode::Live,
            entries: vec![
                seen("label", ["shop", "web-0", "p"], false),
                seen("cordon", node, false),
            ],
            root: String::new(),
            fingerprint: String::new(),
        };
        let both = [
            "node node-1 is still cordoned",
            "shop/web-0 is still isolated",
        ];
        assert_eq!(unfinished(&history), both);
        history.entries.push(seen("cordon", node, true));
        assert_eq!(unfinished(&history), both[1..]);
    }
}
