//! Putting the rooms together: every action, the engine of one incident, and what its endings mean as exit codes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::action::{self, Actions};
use crate::adapter::webhook::{Messages, Webhook};
use crate::custody::Custody;
use crate::incident::{Actor, ActorKind, IncidentId, Mode};
use crate::plan::Policy;
use crate::port::{Cluster, Documents, Estate, Exhibits, Ledger, Operator, Ports, RunFiles};
use crate::run::{Ending, Engine, EngineError, RunEnd};

use super::error::CliError;
use super::exit::Exit;
use super::explain;
use super::output::Output;
use super::session::Session;
use super::unopened::Unopened;

/// How long a run at this terminal waits for people elsewhere before it parks.
const PATIENCE: Duration = Duration::from_secs(2);

/// Every action that this version has.
pub fn actions() -> Actions {
    let actions = action::acquire::actions(Actions::default());
    let actions = action::contain::actions(actions);
    let actions = action::eradicate::actions(actions);
    actions.with(action::report_build::ReportBuild)
}

/// What a command works on outside.
#[derive(Clone, Default)]
pub struct Outside {
    /// The cluster.
    pub cluster: Option<Cluster>,
    /// The cloud account with what rotation needs besides.
    pub estate: Option<Estate>,
}

impl From<Option<Cluster>> for Outside {
    fn from(cluster: Option<Cluster>) -> Self {
        Outside {
            cluster,
            estate: None,
        }
    }
}

/// The engine of one incident.
///
/// # Errors
/// When its pinned files do not hold, or the webhook's address is wrong.
pub fn engine(
    session: &Session,
    custody: &Arc<Custody>,
    outside: impl Into<Outside>,
    operator: Arc<dyn Operator>,
    executor: Option<&str>,
) -> Result<Engine, CliError> {
    custody.check_pins()?;
    let held = Held {
        incident: custody.id().clone(),
        mode: custody.history()?.mode,
        policy: policy(custody)?,
        ledger: custody.ledger(),
        exhibits: custody.clone(),
        files: custody.clone(),
        documents: Some(custody.clone()),
    };
    assemble(session, held, outside.into(), operator, executor)
}

/// The engine of an incident that is not open yet: it makes plans, and can carry out none.
///
/// # Errors
/// When the policy for new incidents cannot be read, or the webhook's address is wrong.
pub fn planner(
    session: &Session,
    unopened: &Arc<Unopened>,
    outside: impl Into<Outside>,
    operator: Arc<dyn Operator>,
) -> Result<Engine, CliError> {
    let (name, trust) = super::command::policy::current(session)?;
    let read = |name: &str| trust.get(name).map(Vec::as_slice);
    let policy = match (name.as_str(), read("people.yaml"), read("allowed_signers")) {
        ("solo", ..) => Policy::solo(),
        (_, Some(people), Some(signers)) => team(people, signers, read("revoked_keys"))?,
        _ => {
            let why = format!("the policy `{name}` has no people and signers");
            return Err(CliError::new(Exit::Usage, "FB1108", why));
        }
    };
    let held = Held {
        incident: unopened.id.clone(),
        mode: unopened.mode,
        policy,
        ledger: unopened.clone(),
        exhibits: unopened.clone(),
        files: unopened.clone(),
        documents: None,
    };
    assemble(session, held, outside.into(), operator, None)
}

/// What an engine holds of its incident.
struct Held {
    incident: IncidentId,
    mode: Mode,
    policy: Policy,
    ledger: Arc<dyn Ledger>,
    exhibits: Arc<dyn Exhibits>,
    files: Arc<dyn RunFiles>,
    documents: Option<Arc<dyn Documents>>,
}

fn assemble(
    session: &Session,
    held: Held,
    outside: Outside,
    operator: Arc<dyn Operator>,
    executor: Option<&str>,
) -> Result<Engine, CliError> {
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
        incident: held.incident,
        mode: held.mode,
        policy: held.policy,
        ledger: held.ledger,
        exhibits: held.exhibits,
        files: held.files,
        documents: held.documents,
        ports: Ports {
            cluster: outside.cluster,
            estate: outside.estate,
            notifier: Arc::new(messages(session)?),
            clock: session.clock.clone(),
            random: session.random.clone(),
        },
        actions: actions(),
        operator,
        executor,
        cancel: interrupts(session.out),
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
    team(&people, &signers, read("revoked_keys")?.as_deref())
}

fn team(people: &[u8], signers: &[u8], revoked: Option<&[u8]>) -> Result<Policy, CliError> {
    Policy::team(people, signers, revoked)
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
fn interrupts(out: Output) -> watch::Receiver<bool> {
    static ONE: OnceLock<watch::Receiver<bool>> = OnceLock::new();
    ONE.get_or_init(|| watch_signals(out)).clone()
}

fn watch_signals(out: Output) -> watch::Receiver<bool> {
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
                out.tell("\nleaving at once; firebreak resume goes on from the ledger");
                // A child that went on alone would change things that no entry tells of.
                crate::run::end_children();
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
            before = true;
            out.tell("\nparking after what runs now; press Ctrl-C again to leave at once");
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
        let step = end.steps.get(path);
        let code = step.and_then(|s| s.code.as_deref());
        if let Some(known) = code.and_then(of_rotation) {
            exit = exit.worst(known);
            continue;
        }
        exit = exit.worst(match step.and_then(|s| s.class.as_deref()) {
            // A release that others stood in the way of is stuck, like any undo that is.
            _ if code == Some("FB1210") => Exit::Stuck,
            Some("denied") => Exit::Denied,
            Some("conflict") => Exit::Stale,
            _ => Exit::Failed,
        });
    }
    exit
}

/// What the end of a rotation means: the first that applies of stuck, verification, stale, refused by a guard, a person, undone.
fn of_rotation(code: &str) -> Option<Exit> {
    Some(match code {
        "FB3001" | "FB3003" => Exit::Usage,
        "FB3002" => Exit::Stale,
        "FB3004" => Exit::TryAgain,
        "FB3010" => Exit::Stuck,
        "FB3011" => Exit::Parked,
        "FB3012" => Exit::Missed,
        _ => return None,
    })
}

impl From<EngineError> for CliError {
    fn from(e: EngineError) -> Self {
        let text = e.to_string();
        let code = explain::find(e.code()).map_or("FB1100", |known| known.code);
        let (exit, hint) = match &e {
            EngineError::Playbook { .. } => {
                (Exit::Usage, "correct it, then firebreak playbook lint FILE")
            }
            EngineError::Variables(_) => (
                Exit::Usage,
                "give each as --var NAME=VALUE; firebreak playbook show NAME lists them",
            ),
            EngineError::Plan(_) => (
                Exit::Usage,
                "make a new plan: firebreak playbook plan NAME -o FILE",
            ),
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
            EngineError::Impossible(_) | EngineError::Changed(_) => {
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
            EngineError::Refused(_) => {
                return CliError::new(Exit::Denied, code, text).hint(format!(
                    "nothing was approved; firebreak explain {code} says what to do"
                ));
            }
        };
        CliError::new(exit, code, text).hint(hint)
    }
}
