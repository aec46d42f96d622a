//! `rotate show`, `rotate status`, `rotate report`: from the ledger and the pinned plan alone; nothing outside is asked.

use serde_json::json;

use crate::cli::command::report::ReportCommand;
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::output::clean;
use crate::cli::session::Session;
use crate::custody::Custody;
use crate::incident::rotate::{RotationPlanned, RotationStatus};
use crate::incident::{Entry, History, kind};
use crate::plan::call::sha256_hex;
use crate::rotation::plan::RotationPlan;
use crate::rotation::status;

use super::text;

/// Reads a pinned plan.
///
/// # Errors
/// When it is not there, or is not what its name says.
pub(super) fn read(custody: &Custody, sha256: &str) -> Result<RotationPlan, CliError> {
    let path = format!("trust/{sha256}.json");
    let damaged = |why: String| CliError::new(Exit::Tampered, "FB0604", format!("`{path}` {why}"));
    let bytes = custody
        .load(&path)?
        .ok_or_else(|| damaged("is gone".into()))?;
    if sha256_hex(&bytes) != sha256 {
        return Err(damaged("changed since it was planned".into()));
    }
    RotationPlan::read(&bytes).map_err(|why| damaged(format!("is no rotation plan: {why}")))
}

/// Every plan of an incident, oldest first, with the run that made it.
fn planned(history: &History) -> Vec<(&Entry, RotationPlanned)> {
    history.bodies(kind::ROTATION_PLANNED).collect()
}

fn none(custody: &Custody) -> CliError {
    CliError::new(
        Exit::Usage,
        "FB3001",
        format!("nothing was planned to be rotated in {}", custody.id()),
    )
    .hint("firebreak rotate plan --user NAME, or firebreak rotate user NAME")
}

/// The plan whose digest begins so, the newest if nothing is named; with its digest.
///
/// # Errors
/// When there is none, or it is not what was pinned.
pub(super) fn found(
    custody: &Custody,
    named: Option<&str>,
) -> Result<(RotationPlan, String), CliError> {
    let history = custody.history()?;
    let named = named.unwrap_or_default().trim_start_matches("sha256:");
    let plans = planned(&history);
    let (_, found) = plans
        .iter()
        .rfind(|(_, p)| p.plan_sha256.starts_with(named))
        .ok_or_else(|| none(custody))?;
    Ok((
        read(custody, &found.plan_sha256)?,
        found.plan_sha256.clone(),
    ))
}

/// Prints a plan, the newest if none is named.
pub(super) fn plan(session: &Session, named: Option<&str>) -> CliResult {
    let custody = session.incident()?;
    let (plan, digest) = found(&custody, named)?;
    if session.out.json {
        session.out.document(
            &json!({"schema": "firebreak/rotation-plan/v1", "plan_sha256": digest, "plan": plan}),
        )?;
    }
    session.out.answer(clean(&text::plan(&plan, &digest)));
    Ok(Exit::Ok)
}

/// Where the newest rotation stands; `run` narrows it to one.
///
/// # Errors
/// When nothing was planned, or the plan is not what was pinned.
pub(super) fn standing(custody: &Custody, run: Option<&str>) -> Result<RotationStatus, CliError> {
    let history = custody.history()?;
    let plans = planned(&history);
    let (entry, found) = plans
        .iter()
        .rfind(|(e, _)| run.is_none_or(|r| e.run() == Some(r)))
        .ok_or_else(|| none(custody))?;
    let plan = read(custody, &found.plan_sha256)?;
    let run = entry.run().unwrap_or_default();
    let entries = history.entries.iter().filter(|e| e.run() == Some(run));
    Ok(status::status(&plan, &found.plan_sha256, run, entries))
}

/// What a standing means as an exit code: the first that applies.
pub(super) fn exit_of(status: &RotationStatus) -> Exit {
    let any = |state: &str| status.totals.by_state.contains_key(state);
    if any("stuck") {
        Exit::Stuck
    } else if status
        .rows
        .iter()
        .any(|r| r.reason.as_deref() == Some("in_doubt"))
    {
        Exit::InDoubt
    } else if any("needs-human") || any(status::WAITING) || any(status::RUNNING) {
        Exit::Parked
    } else if any("undone") {
        Exit::Missed
    } else {
        Exit::Ok
    }
}

/// Prints where each credential stands.
pub(super) fn status(session: &Session) -> CliResult {
    let custody = session.incident()?;
    let status = standing(&custody, None)?;
    let exit = exit_of(&status);
    if session.out.json {
        session
            .out
            .document(&document(&custody, &status, exit, None))?;
    }
    session.out.answer(clean(&text::status(&status)));
    session.out.answer(next(&custody, exit));
    Ok(exit)
}

/// A standing as a document.
pub(super) fn document(
    custody: &Custody,
    status: &RotationStatus,
    exit: Exit,
    run: Option<serde_json::Value>,
) -> serde_json::Value {
    json!({
        "schema": "firebreak/rotation/v1", "incident": custody.id(), "incident_dir": custody.place(), "rotation": status,
        "run": run, "fingerprint": custody.opened().fingerprint, "exit": exit.code(),
    })
}

/// What to type next.
pub(super) fn next(custody: &Custody, exit: Exit) -> String {
    let id = custody.id();
    match exit {
        Exit::Ok => format!(
            "next: firebreak verify --incident {id}, then firebreak rotate report --incident {id}"
        ),
        Exit::Missed => format!(
            "next: mend the consumer that is named, then plan again: firebreak rotate plan --incident {id}"
        ),
        _ => format!("next: do what is named above, then firebreak rotate resume --incident {id}"),
    }
}

/// Builds the document, and prints the table.
pub(super) fn report(session: &Session) -> CliResult {
    let custody = session.incident()?;
    let standing = standing(&custody, None)?;
    if !session.out.json {
        session.out.answer(clean(&text::status(&standing)));
    }
    let command = ReportCommand::Build { at: None };
    crate::cli::command::report::run(session, &command)
}
