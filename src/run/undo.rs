//! Taking steps back, only ever on request: in reverse order of done, each with its preview, its approval and its entries.
//!
//! A failed undo is **stuck**: said first, with what is left, and nothing before it is taken back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::action::{Action, ActionError, Class, Observed, Undone};
use crate::incident::body::{Decision, GateDecided, UndoFinished, UndoStarted};
use crate::incident::{Draft, Effect, Outcome, RunId, StepPath, kind};
use crate::plan::approval::GateFacts;
use crate::plan::call::FilledCall;
use crate::plan::policy::{self, GateState, Need};
use crate::plan::values;
use crate::playbook::model::{Kind, Step};
use crate::playbook::variable::fill_arguments;
use crate::port::{LedgerError, Question, Reply, RunEvent};

use super::definition::PinnedDefinition;
use super::engine::{Confirmation, Engine, RunEnd, end_of};
use super::error::EngineError;
use super::gates::{step_refs, typed};
use super::journal::{At, Journal};
use super::machine;
use super::outcome::short;
use super::waiting::decision_flags;

/// Time for one undo.
const LIMIT: Duration = Duration::from_secs(600);

/// One step that can be taken back, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct UndoStep {
    /// The step.
    pub path: StepPath,
    /// Its attempt.
    pub attempt: u32,
    /// The undo's call.
    pub call: FilledCall,
    /// True when it is the action's own undo verb; false when it is another action's apply.
    pub own: bool,
    /// What it needs.
    pub need: Need,
    done_at: u64,
}

impl Engine {
    /// What an undo of these steps would be, in the order in which it would happen; all that can be taken back where none are named.
    ///
    /// # Errors
    /// When a named step is not there, did nothing, or cannot be undone.
    pub fn undo_plan(&self, run: &RunId, steps: &[StepPath]) -> Result<Vec<UndoStep>, EngineError> {
        let (definition, journal) = self.pinned(run)?;
        let mut found = Vec::new();
        for step in definition.playbook.all_steps() {
            let named = steps.contains(&step.path);
            if !named && !steps.is_empty() {
                continue;
            }
            match self.undo_of(&definition, &journal, step) {
                Ok(undo) => found.push(undo),
                Err(why) if named => {
                    return Err(EngineError::NotNow(format!("step `{}`: {why}", step.path)));
                }
                Err(_) => {}
            }
        }
        if let Some(path) = steps.iter().find(|p| definition.playbook.find(p).is_none()) {
            return Err(EngineError::NotNow(format!("the run has no step `{path}`")));
        }
        found.sort_by_key(|u| std::cmp::Reverse(u.done_at));
        Ok(found)
    }

    fn undo_of(
        &self,
        definition: &PinnedDefinition,
        journal: &Journal,
        step: &Step,
    ) -> Result<UndoStep, String> {
        if step.effect() == Effect::Read {
            return Err("it only looks: there is nothing to undo".into());
        }
        let path = step.path.as_str();
        let undo = journal
            .step(path)
            .and_then(|r| r.undo.as_ref())
            .and_then(|u| u.finished.as_ref());
        if undo.is_some_and(|u| u.outcome == Outcome::Undone) {
            return Err("it was undone before".into());
        }
        let (attempt, at) = journal.attempt(path);
        let done_at = match &at.at {
            At::Finished { body, .. } if body.by == "skipped" => {
                return Err("it was not carried out".into());
            }
            At::Finished { seq, .. }
            | At::InDoubt { seq, .. }
            | At::Resolved { seq, .. }
            | At::Started { seq, .. } => *seq,
            At::Fresh => return Err("it has not begun".into()),
        };
        let (call, own) = self.undo_call(definition, journal, step)?;
        let need = policy::floor(definition.policy, call.effect);
        Ok(UndoStep {
            path: step.path.clone(),
            attempt,
            call,
            own,
            need,
            done_at,
        })
    }

    fn undo_call(
        &self,
        definition: &PinnedDefinition,
        journal: &Journal,
        step: &Step,
    ) -> Result<(FilledCall, bool), String> {
        let vars = machine::variables(definition, journal);
        if let Some(undo) = &step.undo {
            let args = fill_arguments(&undo.with, &vars).map_err(|e| e.to_string())?;
            let action = self
                .actions
                .find(&undo.action)
                .ok_or_else(|| format!("there is no action `{}`", undo.action))?;
            (action.spec().check_args)(&args).map_err(|e| e.to_string())?;
            let effect = action.spec().effect.max(Effect::Reversible);
            return Ok((
                FilledCall {
                    kind: "undo",
                    effect,
                    what: json!(undo.action),
                    args,
                },
                false,
            ));
        }
        let Kind::Call(call) = &step.kind else {
            return Err("it declares no undo".into());
        };
        let spec = self.actions.find(&call.action).map(|a| a.spec());
        match spec.map(|s| s.undo) {
            Some(crate::action::registry::UndoSpec::Own) => {
                let filled = values::fill_step(step, &vars).map_err(|e| e.to_string())?;
                // Taking back what can be taken back is itself reversible: it can be done again.
                let call = FilledCall {
                    kind: "undo",
                    effect: Effect::Reversible,
                    ..filled
                };
                Ok((call, true))
            }
            Some(none) => Err(format!("it cannot be undone: {}", none.reason())),
            None => Err(format!("there is no action `{}`", call.action)),
        }
    }

    /// Takes steps back, in reverse order of done.
    ///
    /// # Errors
    /// When nothing can be taken back, it is not confirmed, another process holds the run, or the ledger cannot be written. An undo that
    /// fails is no error here: it is in [`RunEnd::stuck`].
    pub async fn undo(
        &self,
        run: &RunId,
        steps: &[StepPath],
        confirmation: &Confirmation,
    ) -> Result<RunEnd, EngineError> {
        let _lock = self.lock(run)?;
        let undos = self.undo_plan(run, steps)?;
        if undos.is_empty() {
            return Err(EngineError::NotNow(
                "nothing of this run can be taken back".into(),
            ));
        }
        // All before the first: half of what was asked for is not begun for want of a signature.
        for undo in undos
            .iter()
            .filter(|u| matches!(u.need, Need::Signed { .. }))
        {
            self.signed_undo(run, undo)?;
        }
        for undo in &undos {
            if *self.cancel.borrow() || !self.undo_one(run, undo, confirmation).await? {
                break;
            }
        }
        self.ledger.checkpoint()?;
        let (definition, journal) = self.pinned(run)?;
        let next = machine::next(&definition, &journal)?;
        Ok(end_of(&definition, &journal, next, *self.cancel.borrow()))
    }

    /// Answers false when it is stuck.
    async fn undo_one(
        &self,
        run: &RunId,
        undo: &UndoStep,
        confirmation: &Confirmation,
    ) -> Result<bool, EngineError> {
        let name = undo.call.what.as_str().unwrap_or_default();
        let action = self
            .actions
            .find(name)
            .ok_or_else(|| EngineError::NotNow(format!("there is no action `{name}`")))?;
        let approval = self
            .confirm_undo(run, undo, action.as_ref(), confirmation)
            .await?;
        let mut refs = step_refs(run, &undo.path, undo.attempt);
        refs.approval = approval;
        let started = UndoStarted {
            call_sha256: undo.call.digest(),
            what: name.to_owned(),
        };
        // A crash after this line leaves an undo that has begun: it is asked for again and done again, it may run twice.
        self.ledger.append(vec![
            Draft::new(kind::UNDO_STARTED, &started)
                .about(refs.clone())
                .by(&self.executor),
        ])?;
        let finished = self.take_back(run, undo, action.as_ref()).await?;
        self.ledger
            .append(vec![Draft::new(kind::UNDO_FINISHED, &finished).about(refs)])?;
        self.operator.event(&RunEvent::Undone {
            step: undo.path.to_string(),
            outcome: finished.outcome,
            summary: finished.summary.clone(),
            left: finished.left.clone(),
        });
        Ok(finished.outcome == Outcome::Undone)
    }

    async fn take_back(
        &self,
        run: &RunId,
        undo: &UndoStep,
        action: &dyn Action,
    ) -> Result<UndoFinished, LedgerError> {
        let cx = self.context(run, &undo.path, undo.attempt, LIMIT);
        let work = async {
            if undo.own {
                return action.undo(&cx, &undo.call.args).await;
            }
            let applied = action.apply(&cx, &undo.call.args).await?;
            if undo.call.effect == Effect::Read {
                return Ok(Undone::Undone(applied.summary));
            }
            // As with a step: an answer alone is not taken for an effect that nothing shows.
            let why = match action.observe(&cx, &undo.call.args).await {
                Ok(Observed::Done(_)) => return Ok(Undone::Undone(applied.summary)),
                Ok(Observed::NotDone) => "nothing of it can be seen".to_owned(),
                Ok(Observed::Unknown(why)) => format!("it cannot be told: {why}"),
                Err(e) if e.class == Class::Ledger => return Err(e),
                Err(e) => format!("the look at it failed: {e}"),
            };
            Ok(Undone::Stuck {
                summary: format!("it answered `{}`, and {why}", applied.summary),
                left: vec!["look whether it happened, then undo again".into()],
            })
        };
        let ended = tokio::time::timeout(LIMIT, work).await;
        Ok(match ended {
            Ok(Ok(Undone::Undone(summary))) => UndoFinished {
                outcome: Outcome::Undone,
                summary: short(&summary),
                left: Vec::new(),
            },
            Ok(Ok(Undone::Stuck { summary, left })) => stuck(&summary, left),
            Ok(Err(e)) if e.class == Class::Ledger => {
                return Err(LedgerError::Write {
                    path: "ledger".into(),
                    detail: e.to_string(),
                });
            }
            Ok(Err(e)) => stuck(&e.to_string(), left_of(&e)),
            Err(_) => stuck(
                &format!("no answer within {} s", LIMIT.as_secs()),
                vec!["it may have happened in part: look, then undo again".into()],
            ),
        })
    }

    /// Asks by the undo's own effect; answers the entry of the decision.
    async fn confirm_undo(
        &self,
        run: &RunId,
        undo: &UndoStep,
        action: &dyn Action,
        confirmation: &Confirmation,
    ) -> Result<Option<u64>, EngineError> {
        let needs_reason = undo.need == Need::TypedWithReason;
        let (reason, shown) = match (undo.need, confirmation) {
            (Need::Nothing, _) => return Ok(None),
            (Need::Signed { .. }, _) => return self.signed_undo(run, undo),
            (Need::SecondPerson, _) => {
                return Err(EngineError::NotNow(format!(
                    "the undo of `{}` is {} and waits for a second person: policy `solo` refuses it",
                    undo.path, undo.call.effect
                )));
            }
            (_, Confirmation::Given(given)) if !needs_reason || given.reason.is_some() => {
                (given.reason.clone(), given.shown_sha256.clone())
            }
            _ => {
                let question = self.undo_question(run, undo, action, needs_reason).await;
                match self.operator.confirm(&question).await {
                    Reply::Typed {
                        reason,
                        shown_sha256,
                    } if !needs_reason || reason.is_some() => {
                        (reason, shown_sha256.unwrap_or_else(|| undo.call.digest()))
                    }
                    _ => {
                        return Err(EngineError::NotNow(format!(
                            "the undo of `{}` was not confirmed",
                            undo.path
                        )));
                    }
                }
            }
        };
        let body = GateDecided {
            steps: BTreeMap::from([(undo.path.to_string(), undo.call.digest())]),
            shown_sha256: shown,
            reason,
            ..typed(&self.executor, Decision::Approve)
        };
        let refs = step_refs(run, &undo.path, undo.attempt);
        let stored = self.ledger.append(vec![
            Draft::new(kind::GATE_DECIDED, &body)
                .about(refs)
                .by(&self.executor),
        ])?;
        Ok(stored.first().map(|e| e.seq))
    }

    /// The decision that opens an undo which takes signatures; what has run out does not count.
    fn signed_undo(&self, run: &RunId, undo: &UndoStep) -> Result<Option<u64>, EngineError> {
        let (definition, journal) = self.pinned(run)?;
        let (path, now) = (undo.path.as_str(), self.ports.clock.now());
        let (_, attempt) = journal.attempt(path);
        let valid = attempt.gate.decisions.iter().filter(|d| !d.expired_at(now));
        let decisions = valid.map(|d| (d.seq, &d.body));
        let call = undo.call.digest();
        let why = match policy::judge(undo.need, path, &call, &definition.executor, decisions) {
            GateState::Open(seq) => return Ok(seq),
            GateState::Refused { by, reason } => format!("{by} refused it: {reason}"),
            GateState::Waiting { have, need } => format!("it has {have} of {need} signatures"),
            GateState::SecondPerson => "it waits for a second person".to_owned(),
        };
        Err(EngineError::NotNow(format!(
            "the undo of `{path}` is {}: {why}; firebreak playbook approve --undo --step {path}{} --run {run} --incident {}",
            undo.call.effect,
            decision_flags(undo.need),
            self.incident
        )))
    }

    /// Undos of a run that take signatures.
    pub(super) fn undo_gates(
        &self,
        definition: &PinnedDefinition,
        journal: &Journal,
    ) -> Vec<GateFacts> {
        let steps = definition.playbook.all_steps().into_iter();
        steps
            .filter_map(|step| {
                let undo = self.undo_of(definition, journal, step).ok()?;
                matches!(undo.need, Need::Signed { .. }).then(|| GateFacts {
                    call_sha256: undo.call.digest(),
                    step: undo.path,
                    attempt: undo.attempt,
                    effect: undo.call.effect,
                    need: undo.need,
                    roles: step.approve.iter().flat_map(|a| a.roles.clone()).collect(),
                })
            })
            .collect()
    }

    async fn undo_question(
        &self,
        run: &RunId,
        undo: &UndoStep,
        action: &dyn Action,
        needs_reason: bool,
    ) -> Question {
        let mut lines = vec![format!("undo of step {}: {}", undo.path, undo.call.label())];
        if !undo.own {
            let mut cx = self.context(run, &undo.path, undo.attempt, Duration::from_secs(30));
            cx.custody = None;
            match tokio::time::timeout(cx.deadline, action.preview(&cx, &undo.call.args)).await {
                Ok(Ok(preview)) => {
                    lines.extend(preview.changes.iter().map(|c| format!("would {c}")));
                    lines.extend(preview.warnings.iter().map(|w| format!("warning: {w}")));
                    lines.extend(preview.blocked.iter().map(|b| format!("in the way: {b}")));
                }
                Ok(Err(e)) => lines.push(format!("its preview failed: {e}")),
                Err(_) => lines.push("its preview took too long".into()),
            }
        }
        Question {
            run: run.to_string(),
            step: undo.path.to_string(),
            attempt: undo.attempt,
            title: format!("undo {}", undo.path),
            effect: undo.call.effect,
            what: undo.call.label(),
            call_sha256: undo.call.digest(),
            plan_sha256: String::new(),
            needs_reason,
            quorum: 1,
            signed: false,
            roles: Vec::new(),
            expires: None,
            lines,
        }
    }
}

fn stuck(summary: &str, left: Vec<String>) -> UndoFinished {
    UndoFinished {
        outcome: Outcome::Stuck,
        summary: short(summary),
        left,
    }
}

fn left_of(error: &ActionError) -> Vec<String> {
    vec![
        error
            .hint
            .clone()
            .unwrap_or_else(|| "look at what is left of it, then undo again".into()),
    ]
}
