//! Putting the rooms together: every action, the engine of one incident, and what its endings mean as exit codes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::action::{self, Actions};
use crate::adapter::webhook::{Messages, Webhook};
use crate::custody::Custody;
use crate::incident::{Actor, ActorKind};
use crate::plan::Policy;
use crate::port::{Cluster, Operator, Ports};
use crate::run::{Ending, Engine, EngineError, RunEnd};

use super::error::CliError;
use super::exit::Exit;
use super::explain;
use super::session::Session;

/// How long a run at this terminal waits for people elsewhere before it parks.
const PATIENCE: Duration = Duration::from_secs(2);

/// Every action that this version has.
pub fn actions() -> Actions {
    let actions = action::acquire::actions(Actions::default());
    let actions = action::contain::actions(actions);
    actions.with(action::report_build::ReportBuild)
}

/// The engine of one incident.
///
/// # Errors
/// When its pinned trust files do not hold, or the webhook's address is wrong.
pub fn engine(
    session: &Session,
    custody: &Arc<Custody>,
    cluster: Option<Cluster>,
    operator: Arc<dyn Operator>,
    executor: Option<&str>,
) -> Result<Engine, CliError> {
    let history = custody.history()?;
    let executor = executor
        .map(str::to_owned)
        .or_else(|| Some(session.config.me.value.clone()).filter(|m| !m.is_empty()));
    let executor = executor.map_or_else(
        || session.actor.clone(),
        |id| Actor {
            kind: ActorKind::Person,
            id,
            key: None,
        },
    );
    Ok(Engine {
        incident: custody.id().clone(),
        mode: history.mode,
        policy: policy(custody)?,
        ledger: custody.ledger(),
        exhibits: custody.clone(),
        files: custody.clone(),
        documents: Some(custody.clone()),
        ports: Ports {
            cluster,
            notifier: Arc::new(messages(session)?),
            clock: session.clock.clone(),
            random: session.random.clone(),
        },
        actions: actions(),
        operator,
        executor,
        cancel: interrupts(),
        patience: PATIENCE,
    })
}

/// The policy that the incident was opened with, from its pinned files; a file that changed is refused.
///
/// # Errors
/// When a trust file is gone or is not what was pinned.
pub fn policy(custody: &Custody) -> Result<Policy, CliError> {
    let opened = custody.opened();
    if opened.policy == "solo" {
        return Ok(Policy::solo());
    }
    let read = |name: &str| custody.trusted(name);
    let (Some(people), Some(signers)) = (read("people.yaml")?, read("allowed_signers")?) else {
        return Err(CliError::new(
            Exit::Tampered,
            "FB0604",
            "the incident's policy is `team` and its trust files are not pinned",
        ));
    };
    let revoked = read("revoked_keys")?;
    Policy::team(&people, &signers, revoked.as_deref())
        .map_err(|e| CliError::new(Exit::Usage, "FB1108", e.to_string()))
}

fn messages(session: &Session) -> Result<Messages, CliError> {
    let url = &session.config.webhook_url.value;
    if url.is_empty() {
        return Ok(Messages::shown());
    }
    let ca = Some(&session.config.webhook_ca.value)
        .filter(|c| !c.is_empty())
        .map(Into::into);
    Ok(Messages::posted(Webhook::new(url, ca)?))
}

/// First Ctrl-C (or SIGTERM): start nothing new, park. Second: leave at once; the ledger resumes.
///
/// One for the whole process: a command that composes two engines must not count one Ctrl-C twice.
fn interrupts() -> watch::Receiver<bool> {
    static ONE: OnceLock<watch::Receiver<bool>> = OnceLock::new();
    ONE.get_or_init(watch_signals).clone()
}

fn watch_signals() -> watch::Receiver<bool> {
    let (tell, cancel) = watch::channel(false);
    // What only writes an entry (`incident answer`) has no runtime and nothing to park: there Ctrl-C ends the process as anywhere.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return cancel;
    };
    runtime.spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut int), Ok(mut term)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) else {
            return;
        };
        let mut before = false;
        loop {
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            if before {
                eprintln!("\nleaving at once; firebreak resume goes on from the ledger");
                // A child that went on alone would change things that no entry tells of.
                crate::run::end_children();
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
            before = true;
            eprintln!("\nparking after what runs now; press Ctrl-C again to leave at once");
            _ = tell.send(true);
        }
    });
    cancel
}

/// What the ending of a run means as an exit code, before objectives.
pub fn exit_of(end: &RunEnd) -> Exit {
    let mut exit = match &end.ending {
        Ending::Completed => Exit::Ok,
        Ending::Parked(_) if end.interrupted => Exit::Interrupted,
        Ending::Parked(hold) if hold.code.as_deref().is_some_and(|c| c.starts_with("FB05")) => {
            Exit::Denied
        }
        Ending::Parked(_) => Exit::Parked,
        Ending::Stopped { .. } => Exit::Failed,
        Ending::InDoubt(_) => Exit::InDoubt,
    };
    if !end.stuck.is_empty() {
        exit = exit.worst(Exit::Stuck);
    }
    if !end.in_doubt.is_empty() {
        exit = exit.worst(Exit::InDoubt);
    }
    for path in &end.failed {
        exit = exit.worst(match end.steps.get(path).and_then(|s| s.class.as_deref()) {
            Some("denied") => Exit::Denied,
            Some("conflict") => Exit::Stale,
            _ => Exit::Failed,
        });
    }
    exit
}

impl From<EngineError> for CliError {
    fn from(e: EngineError) -> Self {
        let text = e.to_string();
        let code = explain::find(e.code()).map_or("FB1100", |known| known.code);
        let (exit, hint) = match &e {
            EngineError::Playbook { .. } | EngineError::Variables(_) => {
                (Exit::Usage, "correct it, then firebreak playbook lint FILE")
            }
            EngineError::Plan(_) => (Exit::Usage, "make a new plan: firebreak playbook plan"),
            EngineError::Stale(_) => (
                Exit::Stale,
                "make a new plan, look at it, approve it: nothing was done",
            ),
            EngineError::OtherMode { .. } | EngineError::OtherIncident { .. } => {
                (Exit::Stale, "name the plan's incident with --incident")
            }
            EngineError::InTheWay(m) if m.code == "FB0405" => (
                Exit::Denied,
                "firebreak permissions contain prints the least role; have it bound, then plan again",
            ),
            EngineError::InTheWay(m) if m.code == "FB0403" => (
                Exit::Denied,
                "add a person with that role to people.yaml; incidents opened afterwards pin it",
            ),
            EngineError::InTheWay(_) => (
                Exit::Failed,
                "nothing was done; correct what is named, then plan again",
            ),
            EngineError::Busy(_) => (
                Exit::TryAgain,
                "wait for it, or type the same command again",
            ),
            EngineError::Impossible(_) => {
                (Exit::Tampered, "firebreak verify --last says what is left")
            }
            EngineError::Ledger(inner) => return CliError::from(inner.clone()),
            EngineError::Files { .. } => (
                Exit::Failed,
                "free space or fix permissions, then firebreak resume",
            ),
            EngineError::NoSuchRun(_) | EngineError::NotNow(_) => {
                return CliError::new(Exit::Usage, "FB0610", text)
                    .hint("firebreak incident status shows where each run stands");
            }
            EngineError::Refused(_) => (
                Exit::Denied,
                "firebreak explain CODE says why; nothing was approved",
            ),
        };
        CliError::new(exit, code, text).hint(hint)
    }
}
