//! `firebreak drill run PLAYBOOK`: rehearse it in the sim world. It asks nothing; ledger, keys, approvals, sealing and documents are real.

use std::sync::Arc;

use crate::cli::compose::{Outside, engine, exit_of};
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::operator::{Given, Terminal};
use crate::cli::output::{clean, grouped};
use crate::cli::session::Session;
use crate::custody::{Custody, OpeningError};
use crate::drill::{DrillError, Report, Request, Stage};
use crate::incident::body::RunCreated;
use crate::incident::{IncidentId, Mode, RunId, kind};
use crate::playbook::{self, embedded};
use crate::port::{HostClock, Ledger as _, Operator as _};
use crate::run::{Confirmation, Confirmed, Ending, Engine, RunEnd};

use super::run::{recover, tokio_run};

/// Arguments of `firebreak drill`.
#[derive(Debug, clap::Subcommand)]
pub enum DrillCommand {
    /// Rehearse a playbook against the simulated cluster
    Run {
        /// A built-in playbook that has answers for a drill
        playbook: String,
        /// Id, else `DRILL-`, the date and 4 characters
        #[arg(long)]
        id: Option<String>,
    },
}

/// Runs it.
pub fn run(session: &mut Session, command: &DrillCommand) -> CliResult {
    let DrillCommand::Run { playbook, id } = command;
    session.clock = Arc::new(HostClock::for_drill());
    tokio_run(start(session, playbook, id.as_deref()))
}

async fn start(session: &Session, name: &str, id: Option<&str>) -> CliResult {
    let Some((text, script)) = embedded::find(name).and_then(|e| Some((e.text, e.answers?))) else {
        let all: Vec<_> = embedded::ALL
            .iter()
            .filter(|e| e.answers.is_some())
            .map(|e| e.name)
            .collect();
        return Err(CliError::usage(format!("there is no drill of `{name}`"))
            .hint(format!("one of {}", all.join(", "))));
    };
    let file = format!("{name}.yaml");
    let book = playbook::read(text.as_bytes(), Some(&file)).map_err(|_| {
        CliError::new(
            Exit::Internal,
            "FB1100",
            format!("the built-in playbook `{name}` cannot be read"),
        )
    })?;
    let id = match id {
        Some(id) => IncidentId::parse(id).map_err(|e| CliError::usage(e.to_string()))?,
        None => session.fresh_id(Mode::Drill)?,
    };
    if !id.as_str().starts_with("DRILL-") {
        return Err(
            CliError::usage(format!("`{id}` is no drill's id")).hint("it begins with DRILL-")
        );
    }
    let request = Request {
        id: id.clone(),
        org: session.config.org.value.clone(),
        actor: session.actor.clone(),
        playbook: &book,
        script: script.as_bytes(),
    };
    let stage = session.fresh_folder(&id, |store| {
        Stage::set(
            store,
            request,
            session.clock.clone(),
            session.random.clone(),
        )
        .map_err(CliError::from)
    })?;
    session.out.tell(format!(
        "DRILL {id}: {name} in the simulated cluster; nothing real is touched"
    ));
    play(session, &stage).await
}

/// Plans and carries out what is rehearsed.
async fn play(session: &Session, stage: &Stage) -> CliResult {
    let name = &stage.subject.playbook;
    let found = embedded::find(name).ok_or_else(|| {
        CliError::new(
            Exit::Failed,
            "FB1106",
            format!("this version has no playbook `{name}`"),
        )
    })?;
    let (file, text) = (format!("{name}.yaml"), found.text);
    let engine = compose(session, stage)?;
    let plan = engine.plan(&file, text.as_bytes(), &stage.vars()).await?;
    if let Some(missing) = plan.plan.missing.iter().find(|m| m.refuses) {
        return Err(crate::run::EngineError::InTheWay(missing.clone()).into());
    }
    let shown = crate::plan::call::sha256_hex(
        crate::plan::render::text(&plan.plan, &plan.digest).as_bytes(),
    );
    let given = Confirmation::Given(Confirmed {
        shown_sha256: shown,
        reason: Some("EXERCISE: rehearsal".into()),
    });
    let end = engine.start(&plan.bytes, text.as_bytes(), given).await?;
    finish(session, &stage.custody, &end)
}

/// Goes on with a drill that was left or killed.
pub fn resume(session: &mut Session, custody: Arc<Custody>) -> CliResult {
    session.clock = Arc::new(HostClock::for_drill());
    let session = &*session;
    tokio_run(async {
        let stage = Stage::reset(
            custody.clone(),
            session.clock.clone(),
            session.random.clone(),
        )?;
        let engine = compose(session, &stage)?;
        let Some(run) = engine.open_runs()?.last().cloned() else {
            // Killed before its run began, or after it ended: it begins now, or its score is told again.
            let history = custody.history()?;
            let last = history
                .bodies::<RunCreated>(kind::RUN_CREATED)
                .last()
                .and_then(|(_, r)| RunId::parse(&r.run).ok());
            return match last {
                None => play(session, &stage).await,
                Some(run) => finish(session, &custody, &engine.status(&run)?),
            };
        };
        recover(session, &custody, &run)?;
        let end = engine.resume(&run).await?;
        finish(session, &custody, &end)
    })
}

/// The one engine with the sim world behind its ports and the personas at its terminal.
fn compose(session: &Session, stage: &Stage) -> Result<Engine, CliError> {
    let terminal = Terminal::new(session.out, Given::Nothing);
    let operator = Arc::new(stage.operator(Arc::new(move |event| terminal.event(event))));
    let executor = stage.cast.executor();
    let mut engine = engine(
        session,
        &stage.custody,
        Outside {
            cluster: Some(stage.sim.cluster()),
            estate: Some(stage.estate()?),
        },
        operator,
        Some(&executor.id),
    )?;
    engine.policy = stage.policy()?;
    Ok(engine)
}

fn finish(session: &Session, custody: &Custody, end: &RunEnd) -> CliResult {
    // A drill that was killed between its last entry and the checkpoint over it is signed here.
    custody.ledger().checkpoint()?;
    let done = matches!(end.ending, Ending::Completed) && exit_of(end) == Exit::Ok;
    let history = custody.history()?;
    let report = Report::of(&history, custody.place())?;
    if session.out.json {
        session.out.document(&report)?;
    }
    session.out.answer(format!(
        "\nDRILL {} {}",
        custody.id(),
        if done { "completed" } else { "ended early" }
    ));
    for check in &report.score.checks {
        session.out.answer(clean(&format!(
            "  {} {}: {}",
            if check.passed { "passed" } else { "FAILED" },
            check.name,
            check.found
        )));
    }
    let rto = report.actual_rto_s.map_or_else(
        || "not measurable".to_owned(),
        |s| format!("{s} s (simulated: no proof of an RTO)"),
    );
    session.out.answer(format!(
        "score       {} of {}",
        report.score.passed, report.score.asked
    ));
    session.out.answer(format!("actual RTO  {rto}"));
    session
        .out
        .answer(format!("incident    {}", custody.place().display()));
    let mut bags = report.bags.clone();
    bags.sort();
    bags.iter()
        .for_each(|b| session.out.answer(format!("bag         {b}")));
    session
        .out
        .answer(format!("bags        {}", report.bag_verdict));
    session
        .out
        .answer(format!("fingerprint {}", grouped(&report.fingerprint)));
    let page = custody.place().join("report/incident.html");
    session.out.answer(if page.is_file() {
        format!("report      {}", page.display())
    } else {
        "report      not built: the drill ended before it".to_owned()
    });
    let next = match &end.ending {
        Ending::Parked(h) | Ending::InDoubt(h) => h.hint.clone(),
        _ => format!("firebreak verify --incident {}", custody.id()),
    };
    session.out.answer(format!("next        {next}"));
    Ok(if done && report.exit == 0 {
        Exit::Ok
    } else {
        Exit::Missed
    })
}

impl From<DrillError> for CliError {
    fn from(e: DrillError) -> Self {
        let text = e.to_string();
        match e {
            DrillError::Opening(inner @ (OpeningError::Exists(_) | OpeningError::Ledger(_))) => {
                inner.into()
            }
            DrillError::Ledger(inner) => inner.into(),
            DrillError::World(inner) => inner.into(),
            DrillError::Damaged(_) => CliError::new(Exit::Tampered, "FB0604", text)
                .hint("firebreak drill run PLAYBOOK starts a new one"),
            DrillError::Live(_) => CliError::new(Exit::Usage, "FB0406", text),
            DrillError::Opening(_) | DrillError::Disk { .. } => {
                CliError::new(Exit::Failed, "FB1104", text)
                    .hint("free space or fix permissions, then type the same command again")
            }
            DrillError::Script(_) | DrillError::Trust(_) | DrillError::Host(_) => {
                CliError::new(Exit::Failed, "FB1106", text)
            }
        }
    }
}
