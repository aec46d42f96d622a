//! What people say to a run, and going on with one: `answer`, `resolve`, `park`, `resume`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::cli::cloud::{estate_of, wants_account};
use crate::cli::cluster::{ClusterArgs, reach_bound, targets};
use crate::cli::command::incident::checked;
use crate::cli::compose::{engine, exit_of};
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::operator::{Given, Terminal};
use crate::cli::output::clean;
use crate::cli::session::Session;
use crate::custody::Custody;
use crate::incident::body::Target;
use crate::incident::{IncidentId, Mode, Outcome, RunId, StepPath};
use crate::run::{Ending, Engine, RunEnd};

/// Arguments of `incident answer`.
#[derive(Debug, clap::Args)]
pub struct AnswerArgs {
    /// Path of the manual step
    step: String,
    /// The answer
    text: String,
    /// It was not done
    #[arg(long)]
    failed: bool,
    /// A value that the step asks for: name=value (may repeat)
    #[arg(long, value_name = "NAME=VALUE")]
    value: Vec<String>,
}

/// Arguments of `incident resolve`.
#[derive(Debug, clap::Args)]
pub struct ResolveArgs {
    /// Path of the step in doubt
    step: String,
    /// What you found
    #[arg(long, value_enum)]
    as_: Found,
    /// How you found out
    #[arg(long)]
    reason: String,
}

/// What a person found about a step in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Found {
    /// It happened
    Ran,
    /// It did not happen
    DidNotRun,
    /// It did not happen and shall be tried again
    Retry,
}

/// An engine that only writes what people say: it needs no cluster.
fn ledger_engine(session: &Session) -> Result<(Arc<Custody>, Engine, RunId), CliError> {
    let custody = Arc::new(session.incident()?);
    let terminal = Arc::new(Terminal::new(session.out, Given::Nothing));
    let engine = engine(session, &custody, None, terminal, None)?;
    let run = only_run(&engine, custody.id())?;
    Ok((custody, engine, run))
}

/// The newest run that is open.
///
/// # Errors
/// When none is.
pub fn only_run(engine: &Engine, id: &IncidentId) -> Result<RunId, CliError> {
    let open = engine.open_runs()?;
    open.last().cloned().ok_or_else(|| {
        CliError::new(
            Exit::Usage,
            "FB0610",
            format!("{id} has no run that is open"),
        )
        .hint("firebreak playbook list shows what can be run")
    })
}

fn step(text: &str) -> Result<StepPath, CliError> {
    StepPath::parse(text).map_err(|e| CliError::usage(e.to_string()))
}

/// Answers a manual step.
pub fn answer(session: &Session, args: &AnswerArgs) -> CliResult {
    let mut values = BTreeMap::new();
    for pair in &args.value {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| CliError::usage(format!("`{pair}` is not name=value")))?;
        values.insert(name.to_owned(), value.to_owned());
    }
    let text = checked(&args.text)?;
    let (custody, engine, run) = ledger_engine(session)?;
    let outcome = if args.failed {
        Outcome::Failed
    } else {
        Outcome::Done
    };
    engine.answer(
        &run,
        &step(&args.step)?,
        &session.actor,
        &text,
        outcome,
        &values,
    )?;
    session.out.answer(format!(
        "answered {}; next: firebreak resume {}",
        clean(&args.step),
        custody.id()
    ));
    Ok(Exit::Ok)
}

/// Decides what a step in doubt did.
pub fn resolve(session: &Session, args: &ResolveArgs) -> CliResult {
    let reason = checked(&args.reason)?;
    let (custody, engine, run) = ledger_engine(session)?;
    let verdict = match args.as_ {
        Found::Ran => "ran",
        Found::DidNotRun => "did-not-run",
        Found::Retry => "retry",
    };
    engine.resolve(&run, &step(&args.step)?, &session.actor, verdict, &reason)?;
    session.out.answer(format!(
        "resolved {} as {verdict}; next: firebreak resume {}",
        clean(&args.step),
        custody.id()
    ));
    Ok(Exit::Ok)
}

/// Parks the open run.
pub fn park(session: &Session, reason: &str) -> CliResult {
    let reason = checked(reason)?;
    let (custody, engine, run) = ledger_engine(session)?;
    engine.park(&run, &session.actor, &reason)?;
    session.out.answer(format!(
        "{run} parks after what runs now; next: firebreak resume {}",
        custody.id()
    ));
    Ok(Exit::Ok)
}

/// Goes on with the open run, from the ledger alone: the target is the incident's, never a flag's.
pub fn resume(session: &mut Session) -> CliResult {
    let custody = Arc::new(session.incident()?);
    let history = custody.history()?;
    if history.mode == Mode::Drill {
        return super::drill::resume(session, custody);
    }
    tokio_run(async {
        // Bags of no run were opened by hand and stay open until their owner seals them; `evidence add` and `seal` recover them.
        let wants_cluster = targets(&history)
            .iter()
            .any(|t| matches!(t, Target::Cluster { .. }));
        let answered = if wants_cluster {
            reach_bound(session, &history, &ClusterArgs::default()).await?
        } else {
            None
        };
        let terminal = Arc::new(Terminal::new(session.out, Given::Nothing));
        let mut engine = engine(
            session,
            &custody,
            answered.as_ref().map(|a| a.connected.cluster.clone()),
            terminal,
            None,
        )?;
        let run = only_run(&engine, custody.id())?;
        if wants_account(&engine.pinned(&run)?.0.playbook) {
            let workloads = answered.map(|a| a.connected.workloads);
            engine.ports.estate = estate_of(session, &custody, workloads).await?;
        }
        recover(session, &custody, &run)?;
        let end = engine.resume(&run).await?;
        finish(session, &custody, &end)
    })
}

/// Recovers the bags that a crashed process of this run left open.
///
/// # Errors
/// When what is on disk does not reproduce what was signed.
pub fn recover(session: &Session, custody: &Custody, run: &RunId) -> Result<(), CliError> {
    for recovered in custody.recover_bags(Some(run.as_str()))? {
        session.out.tell(format!(
            "bag {} was open after a crash: recovered and sealed",
            recovered.bag
        ));
    }
    Ok(())
}

/// Runs something that waits.
///
/// # Errors
/// Its own, or that no runtime could be made.
pub fn tokio_run(work: impl Future<Output = CliResult>) -> CliResult {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime
        .map_err(|e| CliError::new(Exit::Internal, "FB1106", format!("cannot start: {e}")))?;
    let answer = runtime.block_on(work);
    // A blocked read of the terminal must not keep the process.
    runtime.shutdown_background();
    answer
}

/// Says how a run ended. `contain` has its own words.
///
/// # Errors
/// When the ledger cannot be read.
pub fn finish(session: &Session, custody: &Custody, end: &RunEnd) -> CliResult {
    if end.steps.keys().any(|s| s == "isolate")
        && custody
            .history()?
            .bodies::<crate::incident::body::RunCreated>(crate::incident::kind::RUN_CREATED)
            .any(|(_, r)| r.run == end.run.as_str() && r.playbook == "contain-pod")
    {
        return super::contain::finish(session, custody, end);
    }
    let exit = exit_of(end);
    if session.out.json {
        session.out.document(&document(custody, end, exit))?;
    }
    for (step, left) in &end.stuck {
        session.out.answer(clean(&format!("STUCK {step}")));
        left.iter()
            .for_each(|l| session.out.answer(clean(&format!("  left: {l}"))));
    }
    for step in &end.in_doubt {
        session.out.answer(clean(&format!(
            "IN DOUBT {step}: {}",
            end.steps.get(step).map_or("", |s| &s.summary)
        )));
    }
    for step in &end.failed {
        session.out.answer(clean(&format!(
            "failed {step}: {}",
            end.steps.get(step).map_or("", |s| &s.summary)
        )));
    }
    session.out.answer(clean(&ending(custody.id(), end)));
    Ok(exit)
}

/// A run as a document.
pub fn document(custody: &Custody, end: &RunEnd, exit: Exit) -> Value {
    let steps: BTreeMap<_, _> = end.steps.iter().map(|(p, s)| (p, serde_json::json!({"outcome": s.outcome, "by": s.by, "summary": s.summary, "class": s.class, "code": s.code}))).collect();
    let (state, why, next) = match &end.ending {
        Ending::Completed => ("completed", None, None),
        Ending::Parked(h) => ("parked", Some(&h.why), Some(&h.hint)),
        Ending::Stopped { why } => ("stopped", Some(why), None),
        Ending::InDoubt(h) => ("in doubt", Some(&h.why), Some(&h.hint)),
    };
    serde_json::json!({
        "schema": "firebreak/run/v1", "incident": custody.id(), "incident_dir": custody.place(), "run": end.run, "state": state, "why": why, "next": next,
        "steps": steps, "failed": end.failed, "in_doubt": end.in_doubt, "stuck": end.stuck, "fingerprint": custody.opened().fingerprint, "exit": exit.code(),
    })
}

fn ending(id: &IncidentId, end: &RunEnd) -> String {
    match &end.ending {
        Ending::Completed => format!(
            "{} completed\nnext: firebreak verify --incident {id}, then firebreak report check --incident {id}",
            end.run
        ),
        Ending::Stopped { why } => format!(
            "{} stopped: {why}\nnext: firebreak log --incident {id} -n 20",
            end.run
        ),
        Ending::Parked(h) => format!("{} is parked: {}\nnext: {}", end.run, h.why, h.hint),
        Ending::InDoubt(h) => format!("{} is in doubt: {}\nnext: {}", end.run, h.why, h.hint),
    }
}
