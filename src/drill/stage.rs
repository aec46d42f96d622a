//! One drill incident: its folder with world, personas and answers, made or taken up again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::adapter::sim::estate::{ESTATE_FILE, SimEstate, estate_shop};
use crate::adapter::sim::{
    COMPROMISED, NAMESPACE, PROBE_IMAGE, Saver, SimCluster, WORLD_FILE, world_shop,
};
use crate::custody::{Custody, OpenRequest, OpeningError, check_vacant};
use crate::incident::body::{Answer, IncidentOpened, MilestoneReached};
use crate::incident::clock_text::millis;
use crate::incident::{Actor, Draft, IncidentId, Milestone, Mode, Phase, Severity, StepPath, kind};
use crate::plan::people::{Policy, TrustError};
use crate::playbook::embedded;
use crate::playbook::model::Playbook;
use crate::port::{Clock, Estate, Ledger as _, LedgerError, PortError, Random, RunEvent, Store};

use super::cast::Cast;
use super::host_files::{self, HOST_FILES};
use super::operator::DrillOperator;

/// The answers as they were when the drill began.
const ANSWERS: &str = "state/drill-answers.yaml";
/// What is rehearsed, so that a drill that was killed before its run began can still begin.
const SUBJECT: &str = "state/drill.json";

/// The user of the simulated account who is its emergency access.
const WAY_IN: &str = "break-glass";

/// What is rehearsed, and with which values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Id of the playbook.
    pub playbook: String,
    /// Its name for people.
    pub name: String,
    /// Its marking.
    pub tlp: String,
    /// Who started it.
    pub actor: Actor,
    /// Values for its variables, as `--var` would give them: the compromised pod, an image to probe with, the files of the drill's host.
    pub vars: BTreeMap<String, String>,
}

/// What a drill starts with.
pub struct Request<'a> {
    /// Incident id, `DRILL-…`.
    pub id: IncidentId,
    /// Organisation part of the origin.
    pub org: String,
    /// Who started it.
    pub actor: Actor,
    /// The playbook.
    pub playbook: &'a Playbook,
    /// Exact bytes of the answers embedded beside it; empty where it asks nobody.
    pub script: &'a [u8],
}

/// A drill incident, ready to be played.
pub struct Stage {
    /// The incident folder.
    pub custody: Arc<Custody>,
    /// The world.
    pub sim: Arc<SimCluster>,
    /// Its cloud account, secret store, databases and consumers.
    pub cloud: Arc<SimEstate>,
    /// The personas.
    pub cast: Arc<Cast>,
    /// Their answers, by step.
    pub answers: BTreeMap<StepPath, Answer>,
    /// What is rehearsed.
    pub subject: Subject,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// Why a drill could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The incident folder.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The answers.
    #[error("cannot use the drill's answers: {0}")]
    Script(String),
    /// The world.
    #[error(transparent)]
    World(#[from] PortError),
    /// The pinned trust files.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A file of the drill is not what was kept.
    #[error("the drill's folder is damaged: {0}")]
    Damaged(String),
    /// The incident is live: it is never played with.
    #[error("incident {0} is live, not a drill")]
    Live(IncidentId),
    /// The disk.
    #[error("cannot {tried} `{path}`: {detail}")]
    Disk {
        /// `read` or `write`.
        tried: &'static str,
        /// Which.
        path: String,
        /// The system's words.
        detail: String,
    },
    /// The host lacks something.
    #[error("{0}")]
    Host(String),
}

impl DrillError {
    pub(super) fn write(path: &str, error: &std::io::Error) -> Self {
        DrillError::disk("write", path, error)
    }
    pub(super) fn read(path: &str, error: &std::io::Error) -> Self {
        DrillError::disk("read", path, error)
    }
    fn disk(tried: &'static str, path: &str, error: &std::io::Error) -> Self {
        DrillError::Disk {
            tried,
            path: path.to_owned(),
            detail: error.to_string(),
        }
    }
}

impl Stage {
    /// Opens a drill incident in `store`'s folder. World, keys and answers are durable before its ledger begins, so that a drill that has
    /// a ledger can always go on.
    ///
    /// # Errors
    /// When the answers cannot be read, the incident exists, or disk or host refuse.
    pub fn set(
        mut store: Box<dyn Store>,
        request: Request<'_>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, DrillError> {
        let answers = read_answers(request.script)?;
        let id = request.id.clone();
        check_vacant(store.as_ref(), &store.place(), &id)?;
        let now = clock.now();
        let subject = Subject {
            playbook: request.playbook.id.clone(),
            name: request.playbook.name.clone(),
            tlp: request.playbook.tlp.clone(),
            actor: request.actor.clone(),
            vars: vars_for(request.playbook, &store.place()),
        };
        let cast = Cast::new(request.playbook, random.as_ref())?;
        cast.keep(store.as_mut())?;
        store
            .replace(ANSWERS, request.script)
            .map_err(|e| DrillError::write(ANSWERS, &e))?;
        let bytes =
            serde_json::to_vec_pretty(&subject).map_err(|e| DrillError::Host(e.to_string()))?;
        store
            .replace(SUBJECT, &bytes)
            .map_err(|e| DrillError::write(SUBJECT, &e))?;
        host_files::write(store.as_mut(), now)?;
        let mut seed = [0u8; 16];
        random
            .fill(&mut seed)
            .map_err(|e| DrillError::Host(format!("no randomness for the world: {e}")))?;
        let world = world_shop(now, seed);
        let cloud = SimEstate::create(
            estate_shop(now, &world),
            saver(store.as_ref(), ESTATE_FILE)?,
            clock.clone(),
        )?;
        let sim = SimCluster::create(world, saver(store.as_ref(), WORLD_FILE)?, clock.clone())?;
        let open = OpenRequest {
            id,
            mode: Mode::Drill,
            org: request.org,
            targets: vec![sim.target()],
            policy: "team".to_owned(),
            trust: BTreeMap::from([
                ("people.yaml".to_owned(), cast.people_yaml().into_bytes()),
                (
                    "allowed_signers".to_owned(),
                    cast.allowed_signers(now).into_bytes(),
                ),
            ]),
            actor: request.actor,
        };
        let custody = Custody::create(store, open, clock.clone(), random.clone())?;
        declare(&custody, &subject, clock.as_ref())?;
        Ok(Stage {
            custody: Arc::new(custody),
            sim: Arc::new(sim),
            cloud,
            cast: Arc::new(cast),
            answers,
            subject,
            clock,
            random,
        })
    }

    /// Takes up a drill that was left or killed.
    ///
    /// # Errors
    /// When it is no drill, or its folder is damaged.
    pub fn reset(
        custody: Arc<Custody>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, DrillError> {
        if custody.opened().mode != Mode::Drill {
            return Err(DrillError::Live(custody.id().clone()));
        }
        let store = custody.store().map_err(|e| DrillError::read("", &e))?;
        let needed = |path: &str| {
            store
                .load(path)
                .map_err(|e| DrillError::read(path, &e))?
                .ok_or_else(|| DrillError::Damaged(format!("`{path}` is not there")))
        };
        let answers = read_answers(&needed(ANSWERS)?)?;
        let subject: Subject = serde_json::from_slice(&needed(SUBJECT)?)
            .map_err(|e| DrillError::Damaged(format!("`{SUBJECT}`: {e}")))?;
        let kept = saver(store.as_ref(), WORLD_FILE)?;
        let sim = SimCluster::resume(&needed(WORLD_FILE)?, kept, clock.clone())?;
        let kept = saver(store.as_ref(), ESTATE_FILE)?;
        let cloud = SimEstate::resume(&needed(ESTATE_FILE)?, kept, clock.clone())?;
        if !custody.opened().targets.contains(&sim.target()) {
            return Err(DrillError::Damaged(
                "its world is not the one it was opened for".into(),
            ));
        }
        declare(&custody, &subject, clock.as_ref())?;
        Ok(Stage {
            sim: Arc::new(sim),
            cloud,
            cast: Arc::new(Cast::load(store.as_ref())?),
            custody,
            answers,
            subject,
            clock,
            random,
        })
    }

    /// The policy that was pinned when the drill was opened.
    ///
    /// # Errors
    /// When a trust file is gone or was changed since.
    pub fn policy(&self) -> Result<Policy, DrillError> {
        let pinned = |name: &str| {
            self.custody
                .trusted(name)
                .map_err(|e| DrillError::Damaged(e.to_string()))?
                .ok_or_else(|| DrillError::Damaged(format!("`trust/{name}` was not pinned")))
        };
        Ok(Policy::team(
            &pinned("people.yaml")?,
            &pinned("allowed_signers")?,
            None,
        )?)
    }

    /// What rotation works on in this world, with the drill's own fingerprint key.
    ///
    /// # Errors
    /// When the key cannot be kept or read.
    pub fn estate(&self) -> Result<Estate, DrillError> {
        let key = self.custody.fingerprint_key(self.random.as_ref())?;
        Ok(Estate {
            break_glass: self.cloud.way_in(WAY_IN).into_iter().collect(),
            ..self.cloud.estate(Arc::new(key))
        })
    }

    /// The personas at the terminal; `watch` is told what happens.
    pub fn operator(&self, watch: Arc<dyn Fn(&RunEvent) + Send + Sync>) -> DrillOperator {
        DrillOperator {
            incident: self.custody.id().clone(),
            cast: self.cast.clone(),
            answers: self.answers.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            ledger: self.custody.ledger(),
            watch,
        }
    }

    /// Values for the playbook's variables, as `--var` would give them.
    pub fn vars(&self) -> BTreeMap<String, String> {
        self.subject.vars.clone()
    }
}

/// Answers by step; no bytes are no answers.
fn read_answers(bytes: &[u8]) -> Result<BTreeMap<StepPath, Answer>, DrillError> {
    if bytes.is_empty() {
        return Ok(BTreeMap::new());
    }
    embedded::answers(bytes).map_err(|findings| {
        let all: Vec<String> = findings.iter().map(|f| f.message.clone()).collect();
        DrillError::Script(all.join("; "))
    })
}

/// What this world has for the variables that the playbook declares.
fn vars_for(playbook: &Playbook, place: &Path) -> BTreeMap<String, String> {
    let files = serde_json::json!([place.join(HOST_FILES)]).to_string();
    [
        ("ns", NAMESPACE.to_owned()),
        ("pod", COMPROMISED.to_owned()),
        ("probe_image", PROBE_IMAGE.to_owned()),
        ("files", files),
        ("cloud", "true".to_owned()),
        ("database_admin", "shop/db/admin".to_owned()),
    ]
    .into_iter()
    .filter(|(name, _)| playbook.vars.contains_key(*name))
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// Replaces a world's file through a handle of its own.
fn saver(store: &dyn Store, file: &'static str) -> Result<Saver, DrillError> {
    let store = store.another().map_err(|e| DrillError::read("", &e))?;
    let store = Mutex::new(store);
    Ok(Arc::new(move |bytes| {
        // The store keeps no state between two calls that a panic could have left half-done.
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        store.replace(file, bytes)
    }))
}

/// Declares the incident, or what a crash cut off of it. Its first signal and impact are stated as of now: an exercise suffers from its own
/// beginning only.
fn declare(custody: &Custody, subject: &Subject, clock: &dyn Clock) -> Result<(), DrillError> {
    let history = custody.history()?;
    let stated = |name: Milestone| {
        history
            .bodies::<MilestoneReached>(kind::MILESTONE)
            .any(|(_, m)| m.name == name)
    };
    let mut drafts = Vec::new();
    if history.of(kind::INCIDENT_OPENED).next().is_none() {
        drafts.push(Draft::new(kind::INCIDENT_OPENED, &subject.declaration()));
    }
    for name in [Milestone::Impact, Milestone::Detected] {
        if !stated(name) {
            let body = MilestoneReached {
                name,
                tier: None,
                at: Some(millis(clock.now())),
                confidence: Some("high".into()),
                by: "statement".into(),
            };
            drafts.push(Draft::new(kind::MILESTONE, &body));
        }
    }
    if !drafts.is_empty() {
        let drafts = drafts.into_iter().map(|d| d.by(&subject.actor)).collect();
        custody.ledger().append(drafts)?;
    }
    Ok(())
}

impl Subject {
    fn declaration(&self) -> IncidentOpened {
        IncidentOpened {
            title: format!("EXERCISE: {}", self.name),
            severity: Severity::Sev1,
            phase: Phase::Triage,
            tlp: self.tlp.clone(),
            source: Some("drill: simulated detection of a reverse shell in a web pod".into()),
        }
    }
}

#[cfg(test)]
mod tests;
