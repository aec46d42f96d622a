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
use crate::cli::output::clean_line;
use crate::cli::session::Session;
use crate::custody::Custody;
use crate::incident::body::Target;
use crate::incident::clock_text::millis;
use crate::incident::{Entry, IncidentId, Mode, Outcome, RunId, StepPath};
use crate::run::{Awaited, Ending, Engine, RunEnd, Waiting};

use super::run_choice::{RunArg, has_several_open, name_run, open_run, waiting_run, with_run};

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
    /// Which run
    #[command(flatten)]
    run: RunArg,
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
    /// Which run
    #[command(flatten)]
    run: RunArg,
}

/// Arguments of `incident park`.
#[derive(Debug, clap::Args)]
pub struct ParkArgs {
    /// Why
    reason: String,
    /// Which run
    #[command(flatten)]
    run: RunArg,
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
fn ledger_engine(session: &Session) -> Result<(Arc<Custody>, Engine), CliError> {
    let custody = Arc::new(session.incident()?);
    let terminal = Arc::new(Terminal::new(session.out, Given::Nothing));
    let engine = engine(session, &custody, None, terminal, None)?;
    Ok((custody, engine))
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
    let path = step(&args.step)?;
    let (custody, engine) = ledger_engine(session)?;
    let asked = [Awaited::Answer];
    let run = waiting_run(&engine, custody.id(), &args.run, path.as_str(), &asked)?;
    let outcome = if args.failed {
        Outcome::Failed
    } else {
        Outcome::Done
    };
    let answered = engine.answer(&run, &path, &session.actor, &text, outcome, &values);
    let entry = answered.map_err(|e| {
        let waits = engine.status(&run).map(|end| end.waiting);
        let mut waits = waits.unwrap_or_default().into_iter();
        match waits.find(|w| w.step == path.as_str()) {
            Some(w) => CliError::from(e).hint(w.next),
            None => CliError::from(e),
        }
    })?;
    said(
        session,
        &custody,
        (&run, &entry),
        &format!("answered {path}"),
    )
}

/// Decides what a step in doubt did.
pub fn resolve(session: &Session, args: &ResolveArgs) -> CliResult {
    let reason = checked(&args.reason)?;
    let path = step(&args.step)?;
    let (custody, engine) = ledger_engine(session)?;
    let open = [Awaited::Verdict, Awaited::Person];
    let run = waiting_run(&engine, custody.id(), &args.run, path.as_str(), &open)?;
    let verdict = match args.as_ {
        Found::Ran => "ran",
        Found::DidNotRun => "did-not-run",
        Found::Retry => "retry",
    };
    let entry = engine.resolve(&run, &path, &session.actor, verdict, &reason)?;
    let what = format!("resolved {path} as {verdict}");
    said(session, &custody, (&run, &entry), &what)
}

/// Parks an open run.
pub fn park(session: &Session, args: &ParkArgs) -> CliResult {
    let reason = checked(&args.reason)?;
    let (custody, engine) = ledger_engine(session)?;
    let run = open_run(&engine, custody.id(), &args.run)?;
    let what = if engine.is_carried_out(&run)? {
        format!("{run} parks after what runs now")
    } else if engine.pinned(&run)?.1.parked.is_some() {
        format!("{run} was parked before; your reason stands beside the first")
    } else {
        format!("{run} is parked; nothing runs it now")
    };
    let entry = engine.park(&run, &session.actor, &reason)?;
    said(session, &custody, (&run, &entry), &what)
}

/// Says what was written and what to type next.
fn said(
    session: &Session,
    custody: &Custody,
    (run, entry): (&RunId, &Entry),
    what: &str,
) -> CliResult {
    let mut next = format!("firebreak resume {}", custody.id());
    if has_several_open(&custody.history()?) {
        next = with_run(&next, run);
    }
    if session.out.json {
        session.out.document(&serde_json::json!({
            "schema": "firebreak/entry/v1", "incident": custody.id(), "seq": entry.seq, "time": millis(entry.time), "sha256": entry.sha256,
            "run": run, "step": entry.step(), "next": next,
        }))?;
    }
    session
        .out
        .answer(clean_line(&format!("{what}; next: {next}")));
    Ok(Exit::Ok)
}

/// Goes on with an open run, from the ledger alone: the target is the incident's, never a flag's.
pub fn resume(session: &mut Session, named: &RunArg) -> CliResult {
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
        let run = open_run(&engine, custody.id(), named)?;
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
    let named = has_several_open(&custody.history()?).then(|| with_run_everywhere(end.clone()));
    let end = named.as_ref().unwrap_or(end);
    if session.out.json {
        session.out.document(&document(custody, end, exit))?;
    }
    let line = |text: String| session.out.answer(clean_line(&text));
    let summary = |step: &String| end.steps.get(step).map_or("", |s| &s.summary);
    for (step, left) in &end.stuck {
        line(format!("STUCK {step}"));
        left.iter().for_each(|l| line(format!("  left: {l}")));
    }
    for step in &end.in_doubt {
        line(format!("IN DOUBT {step}: {}", summary(step)));
    }
    for step in &end.failed {
        line(format!("failed {step}: {}", summary(step)));
    }
    ending(custody.id(), end).into_iter().for_each(line);
    // The first is the hint of the ending; the others wait too.
    if let Some(or) = end.waiting.first().and_then(|w| w.or.as_ref()) {
        line(format!("or:   {or}"));
    }
    for waiting in end.waiting.iter().skip(1) {
        lines_of(waiting).into_iter().for_each(line);
    }
    Ok(exit)
}

/// A step that waits, and its commands, as lines.
pub fn lines_of(waiting: &Waiting) -> Vec<String> {
    let mut lines = vec![
        format!("  waits     {}", waiting.why),
        format!("            {}", waiting.next),
    ];
    lines.extend(waiting.or.iter().map(|or| format!("         or {or}")));
    lines
}

/// Commands of a run that is not the only open one name it.
fn with_run_everywhere(mut end: RunEnd) -> RunEnd {
    let run = end.run.clone();
    end.waiting.iter_mut().for_each(|w| name_run(w, &run));
    if let Ending::Parked(hold) | Ending::InDoubt(hold) = &mut end.ending {
        hold.hint = with_run(&hold.hint, &run);
    }
    end
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
        "steps": steps, "failed": end.failed, "in_doubt": end.in_doubt, "stuck": end.stuck, "waiting": end.waiting, "fingerprint": custody.opened().fingerprint, "exit": exit.code(),
    })
}

/// How it ended, and what is next: a line each.
fn ending(id: &IncidentId, end: &RunEnd) -> [String; 2] {
    let run = &end.run;
    match &end.ending {
        Ending::Completed => [
            format!("{run} completed"),
            format!(
                "next: firebreak verify --incident {id}, then firebreak report check --incident {id}"
            ),
        ],
        Ending::Stopped { why } => [
            format!("{run} stopped: {why}"),
            format!("next: firebreak log --incident {id} -n 20"),
        ],
        Ending::Parked(h) => [
            format!("{run} is parked: {}", h.why),
            format!("next: {}", h.hint),
        ],
        Ending::InDoubt(h) => [
            format!("{run} is in doubt: {}", h.why),
            format!("next: {}", h.hint),
        ],
    }
}
