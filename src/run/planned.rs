//! A plan that is kept before it is carried out: people can decide about its run meanwhile, and `start` honours what they decided.
//!
//! *Guarantees*: the plan and its definition are pinned before `run.planned` names them; a run id stands for one plan for ever, so that
//! an approval never meets another.

use crate::incident::body::{RunCreated, RunPlanned};
use crate::incident::{Draft, History, Refs, RunId, kind};
use crate::plan::plan::PlanFile;
use crate::plan::policy::PolicyName;
use crate::plan::stale::{self, Stale};
use crate::plan::values;

use super::definition::PinnedDefinition;
use super::engine::Engine;
use super::error::EngineError;
use super::journal::Journal;
use super::survey;

/// A run that people can decide about: it was created, or it is planned.
pub(super) struct Decidable {
    pub(super) definition: PinnedDefinition,
    pub(super) journal: Journal,
    pub(super) plan_sha256: String,
}

impl Engine {
    /// Keeps a plan, so that people can decide about its steps before it is carried out.
    ///
    /// # Errors
    /// When its run id stands for another plan, or files or ledger cannot be written.
    pub fn keep_plan(&self, file: &PlanFile, playbook: &[u8]) -> Result<(), EngineError> {
        let plan = &file.plan;
        let history = self.ledger.history()?;
        same_plan(&history, file)?;
        if planned(&history, &plan.run).is_some() {
            return Ok(());
        }
        // A crash between these lines leaves pinned files that nothing names.
        self.pin(&format!("{}.yaml", plan.playbook_sha256), playbook)?;
        self.pin(&format!("{}.json", file.digest), &file.bytes)?;
        let body = RunPlanned {
            run: plan.run.to_string(),
            playbook: plan.playbook.clone(),
            playbook_sha256: plan.playbook_sha256.clone(),
            plan_sha256: file.digest.clone(),
        };
        let refs = Refs {
            run: Some(plan.run.to_string()),
            plan_sha256: Some(file.digest.clone()),
            playbook_sha256: Some(plan.playbook_sha256.clone()),
            ..Refs::default()
        };
        let draft = Draft::new(kind::RUN_PLANNED, &body).about(refs);
        self.ledger.append(vec![draft.by(&self.executor)])?;
        self.ledger.checkpoint()?;
        Ok(())
    }

    /// The kept plan of a run, with its playbook's bytes.
    ///
    /// # Errors
    /// When there is none, or the pinned files are not what the ledger names.
    pub fn kept_plan(&self, run: &RunId) -> Result<(PlanFile, Vec<u8>), EngineError> {
        let planned = planned(&self.ledger.history()?, run)
            .ok_or_else(|| EngineError::NoSuchRun(run.clone()))?;
        let plan = self.pinned_bytes(&format!("{}.json", planned.plan_sha256))?;
        let playbook = self.pinned_bytes(&format!("{}.yaml", planned.playbook_sha256))?;
        Ok((PlanFile::read(&plan)?, playbook))
    }

    /// Runs that are planned, whose plan is still good, and that were never begun, oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn planned_runs(&self) -> Result<Vec<RunId>, EngineError> {
        let history = self.ledger.history()?;
        let good_for = chrono::Duration::minutes(stale::GOOD_FOR_MIN);
        let now = self.ports.clock.now();
        let begun: Vec<String> = history
            .bodies::<RunCreated>(kind::RUN_CREATED)
            .map(|(_, c)| c.run)
            .collect();
        Ok(history
            .bodies::<RunPlanned>(kind::RUN_PLANNED)
            .filter(|(e, p)| now - e.time <= good_for && !begun.contains(&p.run))
            .filter_map(|(_, p)| RunId::parse(&p.run).ok())
            .collect())
    }

    /// The bytes that are pinned under the name of their digest.
    pub(super) fn pinned_bytes(&self, name: &str) -> Result<Vec<u8>, EngineError> {
        let digest = name.split('.').next().unwrap_or_default();
        self.files
            .pinned(name)
            .map_err(|e| EngineError::files(format!("read the pinned `{name}`"), &e))?
            .filter(|b| crate::plan::call::sha256_hex(b) == digest)
            .ok_or_else(|| EngineError::Changed(name.to_owned()))
    }

    /// What people decide about: a created run by its pinned definition, a planned one by its kept plan.
    pub(super) fn decidable(&self, run: &RunId) -> Result<Decidable, EngineError> {
        let journal = Journal::of(&self.ledger.history()?, run)?;
        if journal.created.is_some() {
            let (definition, journal) = self.pinned(run)?;
            let created = journal.created.as_ref();
            return Ok(Decidable {
                plan_sha256: created.map(|c| c.plan_sha256.clone()).unwrap_or_default(),
                definition,
                journal,
            });
        }
        let (file, bytes) = self.kept_plan(run)?;
        let name = format!("{}.yaml", file.plan.playbook);
        let playbook = survey::read_playbook(&name, &bytes, &self.actions.registry())?;
        let vars = values::restored(&playbook, &file.plan.vars);
        let definition = PinnedDefinition {
            incident: self.incident.clone(),
            run: run.clone(),
            mode: file.plan.mode,
            playbook,
            vars,
            policy: PolicyName::parse(&file.plan.policy).unwrap_or(PolicyName::Team),
            executor: self.policy.principal_of(&file.plan.executor),
            registry: self.actions.registry(),
        };
        Ok(Decidable {
            definition,
            journal,
            plan_sha256: file.digest,
        })
    }
}

fn planned(history: &History, run: &RunId) -> Option<RunPlanned> {
    history
        .bodies::<RunPlanned>(kind::RUN_PLANNED)
        .map(|(_, p)| p)
        .find(|p| p.run == run.as_str())
}

/// A run id that people may have signed for stands for the plan that they saw.
pub(super) fn same_plan(history: &History, file: &PlanFile) -> Result<(), EngineError> {
    match planned(history, &file.plan.run) {
        Some(kept) if kept.plan_sha256 != file.digest => Err(Stale {
            fact: format!("the plan of {}", file.plan.run),
            planned: kept.plan_sha256,
            now: file.digest.clone(),
        }
        .into()),
        _ => Ok(()),
    }
}
