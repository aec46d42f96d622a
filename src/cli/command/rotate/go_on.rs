//! Carrying a rotation's run on, and how it ended.

use std::sync::Arc;

use crate::cli::compose::exit_of;
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::output::clean;
use crate::cli::session::Session;
use crate::custody::Custody;
use crate::incident::body::RunCreated;
use crate::incident::{RunId, kind};
use crate::run::{Ending, EngineError, RunEnd};

use super::live::Watching;
use super::place::Place;
use super::voice::{Gate, Voice};
use super::{GoOnArgs, Speak, show, text};
use crate::cli::command::run::{document, recover};

/// `rotate apply` and `rotate resume`: the newest open run that holds a rotation.
pub(super) async fn run(session: &Session, args: &GoOnArgs) -> CliResult {
    let custody = Arc::new(session.incident()?);
    let id = newest(&custody)?;
    let place = Place::taken(session, custody.clone(), &args.outside).await?;
    let gate = Gate::ask(custody.id().as_str(), &args.speak);
    let voice = Arc::new(Voice::new(session, &custody, gate, true));
    let engine = place.engine(session, &custody, voice, None)?;
    recover(session, &custody, &id)?;
    carry(session, &custody, &id, &args.speak, engine.resume(&id)).await
}

/// The newest run of the playbook `rotate` that has not ended.
fn newest(custody: &Custody) -> Result<RunId, CliError> {
    let history = custody.history()?;
    let is_over = |run: &str| history.of(kind::RUN_ENDED).any(|e| e.run() == Some(run));
    let open = history
        .bodies::<RunCreated>(kind::RUN_CREATED)
        .filter(|(_, r)| r.playbook == "rotate" && !is_over(&r.run))
        .last();
    let (_, run) = open.ok_or_else(|| {
        CliError::new(
            Exit::Usage,
            "FB3001",
            format!("{} has no rotation that is open", custody.id()),
        )
        .hint("firebreak rotate plan --user NAME makes one; a playbook that rotates goes on by firebreak resume")
    })?;
    RunId::parse(&run.run).map_err(|e| CliError::new(Exit::Tampered, "FB0604", e.to_string()))
}

/// Carries a run while somebody looks, and says how it ended.
pub(super) async fn carry(
    session: &Session,
    custody: &Arc<Custody>,
    run: &RunId,
    speak: &Speak,
    work: impl Future<Output = Result<RunEnd, EngineError>>,
) -> CliResult {
    let watching = Watching::begin(session.out, custody.clone(), run.to_string(), speak.jsonl);
    let end = work.await;
    watching.end().await;
    finish(session, custody, &end?, speak.jsonl)
}

/// Verdict first, then each credential, what is not proven, and what to type next.
fn finish(session: &Session, custody: &Custody, end: &RunEnd, jsonl: bool) -> CliResult {
    let standing = show::standing(custody, Some(end.run.as_str())).ok();
    let began = standing.as_ref().is_some_and(|s| s.totals.calls > 0);
    // Where the rotation has begun, its credentials say how it ended; before that the run does.
    let exit = match &standing {
        Some(status) if began => exit_of(end).worst(show::exit_of(status)),
        _ => exit_of(end),
    };
    let out = &session.out;
    if out.json {
        let run = document(custody, end, exit);
        match &standing {
            Some(status) => out.document(&show::document(custody, status, exit, Some(run)))?,
            None => out.document(&run)?,
        }
        return Ok(exit);
    }
    // With --jsonl stdout holds nothing but events.
    let say = |line: String| {
        if jsonl {
            out.tell(line)
        } else {
            out.answer(line)
        }
    };
    for step in end.failed.iter().chain(&end.in_doubt) {
        let why = end.steps.get(step).map_or("", |s| &s.summary);
        say(clean(&format!("not done: {step}: {why}")));
    }
    if let Some(status) = standing.as_ref().filter(|_| began) {
        say(clean(&format!("\n{}", text::status(status))));
    }
    say(clean(&next(custody, end, exit)));
    Ok(exit)
}

fn next(custody: &Custody, end: &RunEnd, exit: Exit) -> String {
    let id = custody.id();
    match &end.ending {
        Ending::Completed => show::next(custody, exit),
        Ending::Stopped { why } => {
            format!("stopped: {why}\nnext: firebreak log --incident {id} -n 20")
        }
        Ending::Parked(hold) if end.failed.is_empty() && end.in_doubt.is_empty() => {
            let approve = custody.opened().policy != "solo";
            let how = if approve {
                "firebreak rotate approve --principal PRINCIPAL --key FILE"
            } else {
                "firebreak rotate approve --reason TEXT"
            };
            format!(
                "parked: {}\nnext: firebreak rotate show --incident {id}, then {how} --incident {id}, then firebreak rotate apply --incident {id}",
                hold.why
            )
        }
        Ending::Parked(hold) | Ending::InDoubt(hold) if hold.hint.contains("resolve") => {
            format!("parked: {}\nnext: {}", hold.why, hold.hint)
        }
        Ending::Parked(_) | Ending::InDoubt(_) => show::next(custody, exit),
    }
}
