//! The engine: what the command line and the drill hold to plan, start, resume and undo runs of one incident.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use crate::action::{Actions, Context};
use crate::incident::body::RunCreated;
use crate::incident::{Actor, Draft, IncidentId, Mode, Outcome, Refs, RunId, StepPath, kind};
use crate::plan::call::idempotency_key;
use crate::plan::plan::{self as planning, PlanFile};
use crate::plan::policy::PolicyName;
use crate::plan::{Policy, stale, values};
use crate::playbook::model::Playbook;
use crate::playbook::variable::Vars;
use crate::port::{Documents, Exhibits, Ledger, LockGuard, Operator, Ports, RunFiles};

use super::definition::PinnedDefinition;
use super::driver::Driver;
use super::error::EngineError;
use super::journal::{At, Journal};
use super::machine::Ending;
use super::waiting::Waiting;
use super::{gates, survey};

/// Runs of one incident.
#[derive(Clone)]
pub struct Engine {
    /// The incident.
    pub incident: IncidentId,
    /// Live or drill.
    pub mode: Mode,
    /// Policy, people, keys.
    pub policy: Policy,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Takes exhibits in.
    pub exhibits: Arc<dyn Exhibits>,
    /// Pinned files and the runner's lock.
    pub files: Arc<dyn RunFiles>,
    /// The incident's documents.
    pub documents: Option<Arc<dyn Documents>>,
    /// The outside.
    pub ports: Ports,
    /// Every action.
    pub actions: Actions,
    /// The person at the terminal.
    pub operator: Arc<dyn Operator>,
    /// Who runs it: an id of the people file under `team`.
    pub executor: Actor,
    /// True after the first Ctrl-C.
    pub cancel: watch::Receiver<bool>,
    /// How long a run waits for people who are not at this terminal before it parks, when there is nothing else to do.
    pub patience: Duration,
}

/// A confirmation that was given once for a whole plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Digest of what was shown.
    pub shown_sha256: String,
    /// Why, where it was given.
    pub reason: Option<String>,
}

/// How typed confirmations come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// Given once, for every step of the plan that a typed word may open (irreversible ones still ask for their reason).
    Given(Confirmed),
    /// Asked step by step.
    AskEach,
}

/// How a step stands at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepEnd {
    /// Outcome.
    pub outcome: Outcome,
    /// `result`, `probe`, `skipped`, `answer`.
    pub by: String,
    /// One line.
    pub summary: String,
    /// Class, when failed.
    pub class: Option<String>,
    /// Code, when failed.
    pub code: Option<String>,
}

/// How a run stands when the engine lets go of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// The run.
    pub run: RunId,
    /// Its ending.
    pub ending: Ending,
    /// Steps by path; those without an outcome are not here.
    pub steps: BTreeMap<String, StepEnd>,
    /// Steps that failed (also where the run went on).
    pub failed: Vec<String>,
    /// Steps in doubt.
    pub in_doubt: Vec<String>,
    /// Steps whose undo is stuck, each with what is left.
    pub stuck: Vec<(String, Vec<String>)>,
    /// Steps that wait for a person, each with the command that moves it on.
    pub waiting: Vec<Waiting>,
    /// True after Ctrl-C.
    pub interrupted: bool,
    /// Values of the run's variables.
    pub values: BTreeMap<String, Value>,
}

impl Engine {
    /// Makes a plan: probes and previews only, nothing changes.
    ///
    /// # Errors
    /// When the playbook or a variable cannot be used.
    pub async fn plan(
        &self,
        name: &str,
        playbook: &[u8],
        vars: &BTreeMap<String, String>,
    ) -> Result<PlanFile, EngineError> {
        let playbook = survey::read_playbook(name, playbook, &self.actions.registry())?;
        let vars = Vars::start(&playbook.vars, vars).map_err(EngineError::Variables)?;
        let run = self.mint()?;
        self.plan_for(&playbook, &vars, &run).await
    }

    async fn plan_for(
        &self,
        playbook: &Playbook,
        vars: &Vars,
        run: &RunId,
    ) -> Result<PlanFile, EngineError> {
        let registry = self.actions.registry();
        let basis = planning::Basis {
            incident: &self.incident,
            mode: self.mode,
            run,
            playbook,
            vars,
            policy: &self.policy,
            executor: &self.executor.id,
            registry: &registry,
            now: self.ports.clock.now(),
        };
        let seen = survey::observe(self, &basis).await?;
        Ok(PlanFile::of(planning::make(&basis, &seen)))
    }

    fn mint(&self) -> Result<RunId, EngineError> {
        const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut bytes = [0u8; 16];
        self.ports
            .random
            .fill(&mut bytes)
            .map_err(|e| EngineError::files("take randomness from the host", &e))?;
        let text: String = bytes
            .iter()
            .map(|b| char::from(LETTERS[usize::from(*b) % 32]))
            .collect();
        RunId::parse(&format!("run-{text}")).map_err(|e| EngineError::NotNow(e.to_string()))
    }

    /// Starts the run of a plan: looks again, refuses a stale plan, pins what it runs by, records it and carries it out.
    ///
    /// # Errors
    /// When it is refused before anything began, or the ledger cannot be written.
    pub async fn start(
        &self,
        plan: &[u8],
        playbook_bytes: &[u8],
        confirmation: Confirmation,
    ) -> Result<RunEnd, EngineError> {
        let file = PlanFile::read(plan)?;
        let (playbook, given) = self.still_fits(&file, playbook_bytes).await?;
        let _lock = self.lock(&file.plan.run)?;
        self.not_begun(&file)?;
        self.pin(&format!("{}.yaml", playbook.sha256), playbook_bytes)?;
        self.pin(&format!("{}.json", file.digest), plan)?;
        let mut first = vec![self.created(&file, &playbook)];
        if let Confirmation::Given(confirmed) = &confirmation {
            first.extend(gates::confirmation(self, &file, &playbook, confirmed));
        }
        self.ledger.append(first)?;
        self.drive(&file.plan.run, playbook, given).await
    }

    /// Whether a plan could be started now: of this incident, not begun, and the facts that it is bound to as they were. Answers the
    /// playbook and the variables that it starts with.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn still_fits(
        &self,
        file: &PlanFile,
        playbook: &[u8],
    ) -> Result<(Playbook, Vars), EngineError> {
        self.same_incident(file)?;
        self.not_begun(file)?;
        let name = format!("{}.yaml", file.plan.playbook);
        let playbook = survey::read_playbook(&name, playbook, &self.actions.registry())?;
        let given = values::restored(&playbook, &file.plan.vars);
        let fresh = self.plan_for(&playbook, &given, &file.plan.run).await?;
        stale::check(&file.plan, &fresh.plan, self.ports.clock.now())?;
        if let Some(missing) = fresh.plan.missing.iter().find(|m| m.refuses) {
            return Err(EngineError::InTheWay(missing.clone()));
        }
        Ok((playbook, given))
    }

    /// A run id stands for one plan, and is begun once.
    fn not_begun(&self, file: &PlanFile) -> Result<(), EngineError> {
        let history = self.ledger.history()?;
        super::planned::same_plan(&history, file)?;
        if Journal::of(&history, &file.plan.run)?.created.is_some() {
            return Err(EngineError::NotNow(format!(
                "the plan's run {} was started before: firebreak resume {}",
                file.plan.run, self.incident
            )));
        }
        Ok(())
    }

    fn same_incident(&self, file: &PlanFile) -> Result<(), EngineError> {
        if file.plan.mode != self.mode {
            return Err(EngineError::OtherMode {
                plan: file.plan.mode.as_str(),
                incident: self.mode.as_str(),
            });
        }
        if file.plan.incident != self.incident {
            return Err(EngineError::OtherIncident {
                plan: file.plan.incident.to_string(),
                incident: self.incident.to_string(),
            });
        }
        Ok(())
    }

    pub(super) fn pin(&self, name: &str, bytes: &[u8]) -> Result<(), EngineError> {
        self.files
            .pin(name, bytes)
            .map_err(|e| EngineError::files(format!("pin `{name}`"), &e))
    }

    pub(super) fn lock(&self, run: &RunId) -> Result<LockGuard, EngineError> {
        self.files
            .lock_run(run)
            .map_err(|e| EngineError::files(format!("lock run {run}"), &e))?
            .ok_or_else(|| EngineError::Busy(run.clone()))
    }

    fn created(&self, file: &PlanFile, playbook: &Playbook) -> Draft {
        let plan = &file.plan;
        let body = RunCreated {
            run: plan.run.to_string(),
            playbook: plan.playbook.clone(),
            version: plan.version,
            playbook_sha256: plan.playbook_sha256.clone(),
            plan_sha256: file.digest.clone(),
            mode: plan.mode,
            vars: plan.vars.clone(),
            trust_sha256: plan.trust_sha256.clone(),
            policy: plan.policy.clone(),
            executor: plan.executor.clone(),
            epoch: 1,
            objectives: plan.objectives.clone(),
            steps: planning::outline(playbook, plan),
            tool: plan.tool.clone(),
        };
        let refs = Refs {
            run: Some(plan.run.to_string()),
            plan_sha256: Some(file.digest.clone()),
            playbook_sha256: Some(plan.playbook_sha256.clone()),
            ..Refs::default()
        };
        Draft::new(kind::RUN_CREATED, &body)
            .about(refs)
            .by(&self.executor)
    }

    /// Goes on with a run, from its pinned definition and the ledger alone.
    ///
    /// # Errors
    /// When there is no such run, another process holds it, or the ledger cannot be written or believed.
    pub async fn resume(&self, run: &RunId) -> Result<RunEnd, EngineError> {
        let _lock = self.lock(run)?;
        let (definition, journal) = self.pinned(run)?;
        if journal.ended.is_some() {
            return Ok(end_of(
                &definition,
                &journal,
                super::machine::next(&definition, &journal)?,
                false,
            ));
        }
        let refs = Refs {
            run: Some(run.to_string()),
            ..Refs::default()
        };
        let resumed = crate::incident::body::RunResumed {
            epoch: journal.epoch + 1,
        };
        let draft = Draft::new(kind::RUN_RESUMED, &resumed)
            .about(refs)
            .by(&self.executor);
        self.ledger.append(vec![draft])?;
        Driver::new(self, definition).drive().await
    }

    async fn drive(
        &self,
        run: &RunId,
        playbook: Playbook,
        vars: Vars,
    ) -> Result<RunEnd, EngineError> {
        let definition = PinnedDefinition {
            incident: self.incident.clone(),
            run: run.clone(),
            mode: self.mode,
            playbook,
            vars,
            policy: self.policy.name,
            executor: self.policy.principal_of(&self.executor.id),
            registry: self.actions.registry(),
        };
        Driver::new(self, definition).drive().await
    }

    /// The pinned definition of a run, and its journal.
    ///
    /// # Errors
    /// When there is no such run or its pinned files do not have the recorded digests.
    pub fn pinned(&self, run: &RunId) -> Result<(PinnedDefinition, Journal), EngineError> {
        let journal = Journal::of(&self.ledger.history()?, run)?;
        let created = journal
            .created
            .clone()
            .ok_or_else(|| EngineError::NoSuchRun(run.clone()))?;
        let bytes = self.pinned_bytes(&format!("{}.yaml", created.playbook_sha256))?;
        let stem = format!("{}.yaml", created.playbook);
        let playbook = survey::read_playbook(&stem, &bytes, &self.actions.registry())?;
        let vars = values::restored(&playbook, &created.vars);
        let definition = PinnedDefinition {
            incident: self.incident.clone(),
            run: run.clone(),
            mode: created.mode,
            playbook,
            vars,
            policy: PolicyName::parse(&created.policy).unwrap_or(PolicyName::Team),
            executor: self.policy.principal_of(&created.executor),
            registry: self.actions.registry(),
        };
        Ok((definition, journal))
    }

    /// How a run stands, without touching it.
    ///
    /// # Errors
    /// As [`Engine::pinned`].
    pub fn status(&self, run: &RunId) -> Result<RunEnd, EngineError> {
        let (definition, journal) = self.pinned(run)?;
        let next = super::machine::next(&definition, &journal)?;
        Ok(end_of(&definition, &journal, next, false))
    }

    /// Runs of this incident that have not ended, oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn open_runs(&self) -> Result<Vec<RunId>, EngineError> {
        let history = self.ledger.history()?;
        let mut open = Vec::new();
        for run in self.runs()? {
            if Journal::of(&history, &run)?.ended.is_none() {
                open.push(run);
            }
        }
        Ok(open)
    }

    /// Every run of this incident, ended or not, oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn runs(&self) -> Result<Vec<RunId>, EngineError> {
        let history = self.ledger.history()?;
        let created = history.bodies::<RunCreated>(kind::RUN_CREATED);
        Ok(created
            .filter_map(|(_, c)| RunId::parse(&c.run).ok())
            .collect())
    }

    /// What an action of this run works with.
    /// What a look outside of any run works with. It belongs to no step, so nothing of it is an entry.
    ///
    /// # Errors
    /// When the host has no randomness.
    pub fn looking(&self) -> Result<Context, EngineError> {
        let step = StepPath::parse("look").map_err(|e| EngineError::NotNow(e.to_string()))?;
        Ok(Context {
            custody: None,
            documents: None,
            ..self.context(&self.mint()?, &step, 1, Duration::from_secs(1_800))
        })
    }

    pub(super) fn context(
        &self,
        run: &RunId,
        step: &StepPath,
        attempt: u32,
        deadline: Duration,
    ) -> Context {
        let operator = Arc::clone(&self.operator);
        let path = step.to_string();
        Context {
            incident: self.incident.clone(),
            mode: self.mode,
            run: run.clone(),
            step: step.clone(),
            attempt,
            key: idempotency_key(run, step, attempt),
            ledger: Arc::clone(&self.ledger),
            custody: Some(Arc::clone(&self.exhibits)),
            documents: self.documents.clone(),
            files: Arc::clone(&self.files),
            ports: self.ports.clone(),
            deadline,
            cancel: self.cancel.clone(),
            progress: Arc::new(move |line: &str| {
                operator.event(&crate::port::RunEvent::Progress {
                    step: path.clone(),
                    line: line.to_owned(),
                });
            }),
        }
    }
}

/// How a run stands, from definition and journal.
pub(super) fn end_of(
    definition: &PinnedDefinition,
    journal: &Journal,
    next: super::machine::Next,
    interrupted: bool,
) -> RunEnd {
    let ending = match next {
        super::machine::Next::End(ending) => ending,
        super::machine::Next::Do(todos) => Ending::Parked(super::machine::Hold {
            why: if interrupted {
                "it was interrupted".into()
            } else {
                "it goes on when it is resumed".into()
            },
            steps: todos.iter().map(|t| t.path().to_string()).collect(),
            hint: format!("firebreak resume {}", definition.incident),
            code: None,
        }),
    };
    let mut end = RunEnd {
        run: definition.run.clone(),
        ending,
        steps: BTreeMap::new(),
        failed: Vec::new(),
        in_doubt: Vec::new(),
        stuck: Vec::new(),
        // The same walk answered `next` a moment ago: a history that is impossible has been told there.
        waiting: super::waiting::waiting(definition, journal).unwrap_or_default(),
        interrupted,
        values: super::machine::variables(definition, journal)
            .values()
            .clone(),
    };
    for step in definition.playbook.all_steps() {
        let path = step.path.to_string();
        let undo = journal
            .step(&path)
            .and_then(|r| r.undo.as_ref())
            .and_then(|u| u.finished.as_ref());
        if let Some(undo) = undo {
            if undo.outcome == Outcome::Stuck {
                end.stuck.push((path.clone(), undo.left.clone()));
            }
            end.steps.insert(
                path,
                StepEnd {
                    outcome: undo.outcome,
                    by: "result".into(),
                    summary: undo.summary.clone(),
                    class: None,
                    code: (undo.outcome == Outcome::Stuck).then(|| "FB0607".into()),
                },
            );
            continue;
        }
        match journal.attempt(&path).1.at {
            At::Finished { body, .. } => {
                if body.outcome == Outcome::Failed {
                    end.failed.push(path.clone());
                }
                end.steps.insert(
                    path,
                    StepEnd {
                        outcome: body.outcome,
                        by: body.by,
                        summary: body.summary,
                        class: body.class,
                        code: body.code,
                    },
                );
            }
            At::InDoubt { body, .. } => {
                end.in_doubt.push(path.clone());
                end.steps.insert(
                    path,
                    StepEnd {
                        outcome: Outcome::InDoubt,
                        by: "probe".into(),
                        summary: body.known,
                        class: Some("in-doubt".into()),
                        code: Some("FB0602".into()),
                    },
                );
            }
            At::Fresh | At::Started { .. } | At::Resolved { .. } => {}
        }
    }
    end
}
