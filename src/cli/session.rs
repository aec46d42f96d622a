//! What every command starts from: places, configuration, the incident it is about, the cluster it may use.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firebreak_evidence::source::DirSource;

use crate::adapter::store::{DirStore, Places};
use crate::custody::{Custody, OpenRequest, ends_closed, withdraw};
use crate::incident::body::{IncidentOpened, MilestoneReached, Target};
use crate::incident::{Actor, Draft, History, IncidentId, Milestone, Mode, Phase, Severity, kind};
use crate::port::{Clock, HostClock, HostRandom, Ledger as _, LockGuard, Random};

use super::config::Config;
use super::error::CliError;
use super::exit::Exit;
use super::output::Output;

/// Held while an incident is made in its folder.
const OPENING: &str = "state/opening.lock";
/// How long one waits for another process that opens an incident: a few durable writes.
const OPENING_TAKES: Duration = Duration::from_secs(5);

/// One command's surroundings.
pub struct Session {
    /// Places.
    pub places: Places,
    /// Configuration.
    pub config: Config,
    /// Streams.
    pub out: Output,
    /// `--incident`.
    pub asked: Option<String>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The person at the terminal.
    pub actor: Actor,
}

/// A short look at one incident.
#[derive(Debug, Clone)]
pub struct Glance {
    /// Its id.
    pub id: IncidentId,
    /// Live or drill.
    pub mode: Mode,
    /// True once it is closed.
    pub closed: bool,
    /// Why nothing can be added to it although it is open.
    pub wrong: Option<String>,
}

impl Session {
    /// Gathers it.
    ///
    /// # Errors
    /// When the environment names no home or the configuration is wrong.
    pub fn new(out: Output, asked: Option<String>) -> Result<Self, CliError> {
        let places = Places::from_env()?;
        let config = Config::load(&places)?;
        Ok(Session {
            places,
            config,
            out,
            asked,
            clock: Arc::new(HostClock::new()),
            random: Arc::new(HostRandom),
            actor: Actor::person(user_at_host()),
        })
    }

    /// Every incident here, with what a glance tells.
    ///
    /// # Errors
    /// When the root cannot be read.
    pub fn glances(&self) -> Result<Vec<Glance>, CliError> {
        let ids = self.places.incidents()?;
        Ok(ids.into_iter().map(|id| self.glance(id)).collect())
    }

    fn glance(&self, id: IncidentId) -> Glance {
        let folder = self.places.incident(&id);
        let mode = if id.as_str().starts_with("DRILL-") {
            Mode::Drill
        } else {
            Mode::Live
        };
        let (closed, wrong) = standing(&folder);
        Glance {
            id,
            mode,
            closed,
            wrong,
        }
    }

    /// The incident a command is about: the one named, else the only one that is open. A drill is only ever taken by name, unless
    /// there is nothing else.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn incident(&self) -> Result<Custody, CliError> {
        match self.chosen()? {
            Some(id) => self.open(&id),
            None => Err(self.none_open()?),
        }
    }

    fn none_open(&self) -> Result<CliError, CliError> {
        let glances = self.glances()?;
        let broken = glances.iter().find_map(|g| Some((g, g.wrong.as_ref()?)));
        Ok(match broken {
            None => CliError::new(Exit::Usage, "FB1103", "there is no open incident")
                .hint("firebreak incident open TITLE, or firebreak contain pod NS/NAME"),
            Some((glance, wrong)) => CliError::new(
                Exit::Usage,
                "FB1103",
                format!("there is no open incident that can go on; {}: {wrong}", glance.id),
            )
            .hint(format!("firebreak verify --incident {} says what is left; go on in a new one: firebreak incident open TITLE", glance.id)),
        })
    }

    /// The chosen incident's id; `None` when none is open. One that nothing can be added to stands in nobody's way.
    ///
    /// # Errors
    /// When the name is wrong or several are open.
    pub fn chosen(&self) -> Result<Option<IncidentId>, CliError> {
        if let Some(asked) = &self.asked {
            return IncidentId::parse(asked).map(Some).map_err(|e| {
                CliError::usage(e.to_string())
                    .hint("firebreak incident status lists the incidents that there are")
            });
        }
        let open: Vec<_> = self
            .glances()?
            .into_iter()
            .filter(|g| !g.closed && g.wrong.is_none())
            .collect();
        let live: Vec<_> = open.iter().filter(|g| g.mode == Mode::Live).collect();
        let candidates: Vec<IncidentId> = if live.is_empty() {
            open.iter().map(|g| g.id.clone()).collect()
        } else {
            live.iter().map(|g| g.id.clone()).collect()
        };
        match candidates.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            several => {
                let names = several
                    .iter()
                    .map(|id| id.to_string())
                    .collect::<Vec<_>>()
                    .join(", ");
                Err(CliError::new(
                    Exit::Usage,
                    "FB1109",
                    format!("several incidents are open: {names}"),
                )
                .hint(format!(
                    "firebreak incident status tells them apart; then type the same command with --incident {}",
                    several[0]
                )))
            }
        }
    }

    /// Whether there is an incident of that name here, whatever has become of it.
    pub fn has_ledger(&self, id: &IncidentId) -> bool {
        self.places
            .incident(id)
            .join("ledger/ledger.jsonl")
            .is_file()
    }

    /// Opens an incident folder.
    ///
    /// # Errors
    /// When it is not there, damaged, or fails verification.
    pub fn open(&self, id: &IncidentId) -> Result<Custody, CliError> {
        let folder = self.places.incident(id);
        if !self.has_ledger(id) {
            let known = self
                .places
                .incidents()?
                .iter()
                .map(|i| i.to_string())
                .collect::<Vec<_>>()
                .join(", ");
            let hint = if known.is_empty() {
                "firebreak incident open TITLE".to_owned()
            } else {
                format!("firebreak incident status shows them; there are: {known}")
            };
            return Err(CliError::new(
                Exit::Usage,
                "FB1103",
                format!(
                    "there is no incident {id} in `{}`",
                    self.places.root.display()
                ),
            )
            .hint(hint));
        }
        let store = store(&folder)?;
        Ok(Custody::open(
            store,
            self.clock.clone(),
            self.random.clone(),
            &self.actor,
        )?)
    }

    /// Makes a new incident folder and declares the incident in it.
    ///
    /// # Errors
    /// When it exists, or disk or host refuse.
    pub fn create(&self, request: NewIncident) -> Result<Custody, CliError> {
        let id = match request.id.clone() {
            Some(id) => id,
            None => self.fresh_id(request.mode)?,
        };
        let (policy, trust) = super::command::policy::current(self)?;
        let open = OpenRequest {
            id: id.clone(),
            mode: request.mode,
            org: self.config.org.value.clone(),
            targets: request.targets.clone(),
            policy: request.policy.clone().unwrap_or(policy),
            trust,
            actor: self.actor.clone(),
        };
        self.fresh_folder(&id, |store| {
            let made = Custody::create(store, open, self.clock.clone(), self.random.clone());
            let custody = match made.map_err(CliError::from) {
                Err(e) if e.code == "FB1102" => self.half_opened(&id, request.mode)?.ok_or(e)?,
                made => made?,
            };
            self.declare(&custody, &request)?;
            Ok(custody)
        })
    }

    /// Declares an incident whose opening was cut off after its first entry; one that is declared stays as it is.
    ///
    /// # Errors
    /// When another process opens it at this moment, or the ledger cannot be written.
    pub fn finish_opening(&self, custody: &Custody, request: &NewIncident) -> Result<(), CliError> {
        if is_declared(&custody.history()?) {
            return Ok(());
        }
        let files = store(custody.place())?;
        let _lock = opening(files.as_ref(), custody.id(), OPENING_TAKES)?;
        self.declare(custody, request)
    }

    /// Declares the incident in its ledger, unless that was done; whoever calls holds the opening's lock.
    fn declare(&self, custody: &Custody, request: &NewIncident) -> Result<(), CliError> {
        if is_declared(&custody.history()?) {
            return Ok(());
        }
        let opened = IncidentOpened {
            title: request.title.clone(),
            severity: request.severity,
            phase: Phase::Triage,
            tlp: "TLP:AMBER".into(),
            source: request.source.clone(),
        };
        let declared = MilestoneReached {
            name: Milestone::Declared,
            tier: None,
            at: request.declared.clone(),
            confidence: None,
            by: "statement".into(),
        };
        // One batch: a crash or a full disk leaves `ledger.opened` alone, and the same command finishes it.
        custody.ledger().append(vec![
            Draft::new(kind::INCIDENT_OPENED, &opened).by(&self.actor),
            Draft::new(kind::MILESTONE, &declared).by(&self.actor),
        ])?;
        custody.ledger().checkpoint()?;
        Ok(())
    }

    /// An incident of this name whose opening was cut off after its first entry: nothing has been declared in it.
    fn half_opened(&self, id: &IncidentId, mode: Mode) -> Result<Option<Custody>, CliError> {
        let custody = self.open(id)?;
        let history = custody.history()?;
        let untouched = history
            .entries
            .iter()
            .all(|e| e.kind == kind::LEDGER_OPENED);
        Ok((untouched && history.mode == mode).then_some(custody))
    }

    /// Makes an incident in its folder. Where that fails before anything is in its ledger, a folder that was not there before is taken
    /// back: nothing half-made is left. One that was there is finished by typing the same again.
    ///
    /// # Errors
    /// What `make` says, when another process opens it at this moment, or when the folder cannot be made.
    pub fn fresh_folder<T>(
        &self,
        id: &IncidentId,
        make: impl FnOnce(Box<dyn crate::port::Store>) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        let folder = self.places.incident(id);
        let was_there = folder.exists();
        let locked = store(&folder).and_then(|s| {
            let lock = opening(s.as_ref(), id, Duration::ZERO)?;
            Ok((s, lock))
        });
        // Held over the taking back too: nobody's folder is removed but our own.
        let (of_ours, _lock) = locked.inspect_err(|_| {
            if !was_there {
                // Only what is empty: another process may be making it.
                _ = std::fs::remove_dir(folder.join("state"));
                _ = std::fs::remove_dir(&folder);
            }
        })?;
        let made = make(of_ours);
        if made.is_err() && !was_there {
            withdraw(&folder, id);
        }
        made
    }

    /// `INC-<yyyymmdd>-<4 base32>`, one that is not taken.
    ///
    /// # Errors
    /// When the host has no randomness, or no id is free.
    pub fn fresh_id(&self, mode: Mode) -> Result<IncidentId, CliError> {
        const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let prefix = if mode == Mode::Drill { "DRILL" } else { "INC" };
        let day = self.clock.now().format("%Y%m%d");
        for _ in 0..64 {
            let mut bytes = [0; 4];
            self.random.fill(&mut bytes).map_err(|e| {
                CliError::new(Exit::Failed, "FB1106", format!("no randomness: {e}"))
            })?;
            let tail: String = bytes
                .iter()
                .map(|b| char::from(BASE32[usize::from(b % 32)]))
                .collect();
            let id = IncidentId::parse(&format!("{prefix}-{day}-{tail}"))
                .map_err(|e| CliError::new(Exit::Internal, "FB1100", e.to_string()))?;
            if !self.places.incident(&id).exists() {
                return Ok(id);
            }
        }
        Err(CliError::new(
            Exit::Failed,
            "FB1106",
            "found no free incident id in 64 tries",
        )
        .hint("name one with --id"))
    }

    /// Asks the person to type exactly this word. Without a terminal it is refused, never assumed.
    ///
    /// # Errors
    /// When nobody can be asked, or something else was typed.
    pub fn ask_to_type(
        &self,
        word: &str,
        what: &str,
        confirm: Option<&str>,
        flag: &str,
    ) -> Result<(), CliError> {
        self.ask_to_type_or((word, None), what, confirm, flag)
    }

    /// The same, where a shorter word will do for who has just read the longer one; never for the flag.
    ///
    /// # Errors
    /// As [`Session::ask_to_type`].
    pub fn ask_to_type_or(
        &self,
        (word, short): (&str, Option<&str>),
        what: &str,
        confirm: Option<&str>,
        flag: &str,
    ) -> Result<(), CliError> {
        let refused = |why: String| {
            CliError::new(
                Exit::Denied,
                "FB1110",
                format!("not confirmed: {why}; nothing was changed"),
            )
            .hint(format!("type {word} when asked, or give {flag} {word}"))
        };
        if let Some(given) = confirm {
            return if given == word {
                Ok(())
            } else {
                Err(refused(format!("{flag} says `{given}`, not `{word}`")))
            };
        }
        if !self.out.can_ask {
            return Err(refused("there is no terminal to ask on".into()));
        }
        let typed = read_line(&format!("Type {} to {what}: ", self.out.strong(word)))?;
        if typed == word || short == Some(typed.as_str()) {
            Ok(())
        } else {
            Err(refused("something else was typed".into()))
        }
    }
}

fn is_declared(history: &History) -> bool {
    history.of(kind::INCIDENT_OPENED).next().is_some()
}

/// The lock of the opening of an incident.
fn opening(
    store: &dyn crate::port::Store,
    id: &IncidentId,
    within: Duration,
) -> Result<LockGuard, CliError> {
    let taken = store.lock(OPENING, within);
    let lock = taken.map_err(|e| cannot_use(&store.place(), &e))?;
    lock.ok_or_else(|| {
        CliError::new(
            Exit::TryAgain,
            "FB0603",
            format!("another process opens incident {id} at this moment"),
        )
        .hint(format!(
            "firebreak incident status {id}, or choose another --id"
        ))
    })
}

/// Whether the incident in a folder is closed, and else why nothing can be added to it.
fn standing(folder: &Path) -> (bool, Option<String>) {
    // The epoch key is erased at close: its absence is the cheapest sign, and the last entry decides.
    let closed = match DirSource::open(folder).and_then(|f| ends_closed(&f)) {
        Ok(closed) => closed,
        Err(e) => return (false, Some(format!("its ledger cannot be read: {e}"))),
    };
    let wrong = if folder.join("state/epoch.key").exists() {
        let empty = folder
            .join("ledger/ledger.jsonl")
            .metadata()
            .is_ok_and(|m| m.len() == 0);
        empty.then(|| "its ledger is empty".to_owned())
    } else if closed {
        return (true, None);
    } else {
        Some(
            "its key `state/epoch.key` is missing although it is not closed: nothing can be added"
                .to_owned(),
        )
    };
    (false, wrong)
}

/// What a new incident starts with.
pub struct NewIncident {
    /// Its id, else a fresh one.
    pub id: Option<IncidentId>,
    /// Live or drill.
    pub mode: Mode,
    /// One line.
    pub title: String,
    /// Severity.
    pub severity: Severity,
    /// Who noticed.
    pub source: Option<String>,
    /// Targets.
    pub targets: Vec<Target>,
    /// Policy, else the configured one.
    pub policy: Option<String>,
    /// When it was declared, if not now (RFC 3339).
    pub declared: Option<String>,
}

/// Opens a folder as a store.
///
/// # Errors
/// When it cannot be made.
pub fn store(folder: &Path) -> Result<Box<dyn crate::port::Store>, CliError> {
    let opened = DirStore::open(folder);
    Ok(Box::new(opened.map_err(|e| cannot_use(folder, &e))?))
}

fn cannot_use(folder: &Path, e: &std::io::Error) -> CliError {
    CliError::new(
        Exit::Failed,
        "FB1104",
        format!("cannot use the folder `{}`: {e}", folder.display()),
    )
    .hint("free space, fix permissions, or set FIREBREAK_HOME to another folder")
}

/// Reads one line from the terminal.
///
/// # Errors
/// When the terminal is gone.
pub fn read_line(prompt: &str) -> Result<String, CliError> {
    use std::io::Write as _;
    let gone = |e: std::io::Error| {
        CliError::new(
            Exit::Failed,
            "FB1110",
            format!("cannot read from the terminal: {e}"),
        )
    };
    write!(std::io::stderr(), "{prompt}")
        .and_then(|()| std::io::stderr().flush())
        .map_err(gone)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(gone)?;
    Ok(line.trim().to_owned())
}

/// True when bytes are piped in.
pub fn stdin_is_piped() -> bool {
    !std::io::stdin().is_terminal()
}

/// `user@host`, as the host says; self-asserted.
fn user_at_host() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()));
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    format!(
        "{}@{host}",
        user.unwrap_or_else(|| format!("uid{}", rustix::process::getuid().as_raw()))
    )
}
