//! Which run a command is about: the one named, else the only one that fits.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cli::compose::engine;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::operator::{Given, Terminal};
use crate::cli::session::Session;
use crate::custody::Custody;
use crate::incident::body::{RunCreated, RunEnded};
use crate::incident::{History, IncidentId, RunId, kind};
use crate::run::{Awaited, Engine, Waiting};

/// `--run`, as every command that is about one run takes it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RunArg {
    /// Run; the one that the command fits, if it is not named
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
}

/// The run named, else the only one of `all` that `fits`; what it should fit is said in `wanted`.
///
/// # Errors
/// When none is there, or several fit.
pub fn choose(
    id: &IncidentId,
    named: &RunArg,
    all: &[RunId],
    wanted: &str,
    fits: impl Fn(&RunId) -> bool,
) -> Result<RunId, CliError> {
    if let Some(run) = &named.run {
        return RunId::parse(run).map_err(|e| CliError::usage(e.to_string()));
    }
    let fitting: Vec<&RunId> = all.iter().filter(|r| fits(r)).collect();
    match (all, fitting.as_slice()) {
        (_, [one]) => Ok((*one).clone()),
        // What does not fit the only run there is, is said by the engine, which knows why.
        ([one], []) => Ok(one.clone()),
        ([], _) => Err(CliError::new(
            Exit::Usage,
            "FB0610",
            format!("{id} has no run that is open"),
        )
        .hint("firebreak playbook list shows what can be run")),
        (_, []) => Err(CliError::new(
            Exit::Usage,
            "FB0610",
            format!("no run of {id} {wanted}; there are: {}", names(all)),
        )
        .hint("firebreak incident status shows where each run stands")),
        (_, several) => Err(CliError::usage(format!(
            "more than one run of {id} {wanted}: {}; say which with --run",
            names(several.iter().copied())
        ))
        .hint(format!(
            "type the same command again with --run {}",
            several[0]
        ))),
    }
}

fn names<'r>(runs: impl IntoIterator<Item = &'r RunId>) -> String {
    let all: Vec<String> = runs.into_iter().map(ToString::to_string).collect();
    all.join(", ")
}

/// The open run that is named, or the only one that is open.
///
/// # Errors
/// When none is, or several are.
pub fn open_run(engine: &Engine, id: &IncidentId, named: &RunArg) -> Result<RunId, CliError> {
    choose(id, named, &engine.open_runs()?, "is open", |_| true)
}

/// The open run in which this step waits for that.
///
/// # Errors
/// When none does, or several do.
pub fn waiting_run(
    engine: &Engine,
    id: &IncidentId,
    named: &RunArg,
    step: &str,
    awaits: &[Awaited],
) -> Result<RunId, CliError> {
    let waits = |run: &RunId| {
        engine.status(run).is_ok_and(|end| {
            let here = |w: &Waiting| w.step == step && awaits.contains(&w.awaits);
            end.waiting.iter().any(here)
        })
    };
    let wanted = format!("waits for this at step `{step}`");
    choose(id, named, &engine.open_runs()?, &wanted, waits)
}

/// What waits in the open runs of an incident.
#[derive(Debug, Default)]
pub struct Waits {
    runs: Vec<(RunId, Vec<Waiting>)>,
    /// Why it cannot be told of a run, or of any.
    pub unread: Vec<String>,
}

impl Waits {
    /// What waits in this run.
    pub fn of(&self, run: &str) -> &[Waiting] {
        let found = self.runs.iter().find(|(r, _)| r.as_str() == run);
        found.map_or(&[], |(_, all)| all)
    }
}

/// What waits in each open run, from the ledger alone. A view does not fail for it: where pinned files do not hold, it says that nothing
/// can be told.
pub fn waiting(session: &Session, custody: &Arc<Custody>) -> Waits {
    let mut waits = Waits::default();
    if let Err(e) = fill(session, custody, &mut waits) {
        waits.unread.push(format!("[{}] {}", e.code, e.message));
    }
    waits
}

fn fill(session: &Session, custody: &Arc<Custody>, waits: &mut Waits) -> Result<(), CliError> {
    let terminal = Arc::new(Terminal::new(session.out, Given::Nothing));
    let engine = engine(session, custody, None, terminal, None)?;
    let runs = engine.open_runs()?;
    let several = runs.len() > 1;
    for run in runs {
        match engine.status(&run) {
            Ok(end) => {
                let mut waiting = end.waiting;
                if several {
                    waiting.iter_mut().for_each(|w| name_run(w, &run));
                }
                waits.runs.push((run, waiting));
            }
            Err(e) => waits.unread.push(format!("{run}: [{}] {e}", e.code())),
        }
    }
    Ok(())
}

/// Commands of a step name its run, where several are open.
pub fn name_run(waiting: &mut Waiting, run: &RunId) {
    waiting.next = with_run(&waiting.next, run);
    if let Some(or) = &mut waiting.or {
        *or = with_run(or, run);
    }
}

/// A command that names its run, for where several are open.
pub fn with_run(command: &str, run: &RunId) -> String {
    if command.starts_with("firebreak ") && !command.contains(" --run ") {
        format!("{command} --run {run}")
    } else {
        command.to_owned()
    }
}

/// True when more than one run of this history has not ended.
pub fn has_several_open(history: &History) -> bool {
    let ended: BTreeSet<&str> = history
        .bodies::<RunEnded>(kind::RUN_ENDED)
        .filter_map(|(e, _)| e.run())
        .collect();
    let created = history.bodies::<RunCreated>(kind::RUN_CREATED);
    created
        .filter(|(_, r)| !ended.contains(r.run.as_str()))
        .count()
        > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(names: &[&str]) -> Vec<RunId> {
        let parse = |n: &&str| RunId::parse(n).expect("a run");
        names.iter().map(parse).collect()
    }

    fn chosen(all: &[RunId], fits: &str) -> Result<RunId, CliError> {
        let id = IncidentId::parse("INC-2031").expect("an id");
        choose(&id, &RunArg::default(), all, "waits", |r| {
            r.as_str().contains(fits)
        })
    }

    #[test]
    fn the_run_that_waits_is_taken_and_not_the_newest() {
        let all = runs(&["run-aaaaaaaaaaaaaaaa", "run-bbbbbbbbbbbbbbbb"]);
        assert_eq!(
            chosen(&all, "aaaa").expect("one").as_str(),
            "run-aaaaaaaaaaaaaaaa"
        );
    }

    #[test]
    fn what_fits_several_runs_names_them_and_takes_none() {
        let all = runs(&["run-aaaaaaaaaaaaaaaa", "run-bbbbbbbbbbbbbbbb"]);
        let error = chosen(&all, "run").expect_err("two");
        assert_eq!(error.exit, Exit::Usage);
        assert!(
            error
                .message
                .contains("run-aaaaaaaaaaaaaaaa, run-bbbbbbbbbbbbbbbb"),
            "{}",
            error.message
        );
        assert_eq!(
            error.hint.as_deref(),
            Some("type the same command again with --run run-aaaaaaaaaaaaaaaa")
        );
        assert_eq!(chosen(&all, "cccc").expect_err("none").code, "FB0610");
    }
}
