//! What people do to a run, each as one entry: confirm, approve, refuse, answer, decide about a doubt, park. None of it needs the
//! runner's lock, so it works while a run goes on, while it is parked, and (approvals) before it asks.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::incident::body::{Answer, Decision, GateDecided, RunParked, StepResolved};
use crate::incident::{Actor, Draft, Effect, Entry, Outcome, Refs, RunId, StepPath, kind};
use crate::plan::approval::{self, Accepted, Facts, GateFacts, Refusal};
use crate::plan::approval_text::ApprovalText;
use crate::plan::call::sha256_hex;
use crate::plan::plan::PlanFile;
use crate::plan::policy::{self, Need};
use crate::plan::values;
use crate::playbook::model::{Kind, Playbook};

use super::definition::PinnedDefinition;
use super::engine::{Confirmed, Engine};
use super::error::EngineError;
use super::journal::{At, Journal};
use super::machine;
use super::planned::Decidable;

/// The decision that one confirmation makes for a whole plan: every step whose call is known and that a typed word
/// may open. A gate that stands alone is there to be decided when it is reached, so it is not among them.
pub(super) fn confirmation(
    engine: &Engine,
    file: &PlanFile,
    playbook: &Playbook,
    confirmed: &Confirmed,
) -> Option<Draft> {
    let steps: BTreeMap<String, String> = file
        .plan
        .steps
        .iter()
        .filter(|planned| {
            playbook.find(&planned.path).is_some_and(|s| {
                s.kind != Kind::Approve && policy::need(engine.policy.name, s) == Need::Typed
            })
        })
        .filter_map(|p| Some((p.path.to_string(), p.call_sha256.clone()?)))
        .collect();
    if steps.is_empty() {
        return None;
    }
    let body = GateDecided {
        steps,
        shown_sha256: confirmed.shown_sha256.clone(),
        reason: confirmed.reason.clone(),
        ..typed(&engine.executor, Decision::Approve)
    };
    let refs = Refs {
        run: Some(file.plan.run.to_string()),
        attempt: Some(1),
        plan_sha256: Some(file.digest.clone()),
        ..Refs::default()
    };
    Some(
        Draft::new(kind::GATE_DECIDED, &body)
            .about(refs)
            .by(&engine.executor),
    )
}

/// A typed decision, to be filled in.
pub(super) fn typed(who: &Actor, decision: Decision) -> GateDecided {
    GateDecided {
        how: "typed".into(),
        decision,
        principal: who.id.clone(),
        role: None,
        steps: BTreeMap::new(),
        shown_sha256: String::new(),
        text: None,
        signature: None,
        key: None,
        reason: None,
        expires: None,
        rejected: None,
    }
}

/// What an approval is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Carrying steps out.
    Start,
    /// Taking steps back.
    Undo,
}

/// Gates of a run whose calls are known now: steps that need somebody and are not begun.
pub(super) fn open_gates(definition: &PinnedDefinition, journal: &Journal) -> Vec<GateFacts> {
    let vars = machine::variables(definition, journal);
    definition
        .playbook
        .all_steps()
        .into_iter()
        .filter(|s| !s.kind.is_block() && definition.need(s) != Need::Nothing)
        .filter_map(|step| {
            let (attempt, at) = journal.attempt(step.path.as_str());
            let waits =
                !matches!(&at.at, At::Finished { body, .. } if body.outcome == Outcome::Done);
            let call = values::fill_step(step, &vars).ok()?;
            waits.then(|| GateFacts {
                step: step.path.clone(),
                attempt,
                call_sha256: call.digest(),
                effect: step.effect(),
                need: definition.need(step),
                roles: step
                    .approve
                    .as_ref()
                    .map(|a| a.roles.clone())
                    .unwrap_or_default(),
            })
        })
        .collect()
}

impl Engine {
    /// Gates that can be decided now, for whoever writes an approval text.
    ///
    /// # Errors
    /// As [`Engine::pinned`].
    pub fn gates(&self, run: &RunId) -> Result<Vec<GateFacts>, EngineError> {
        let it = self.decidable(run)?;
        Ok(open_gates(&it.definition, &it.journal))
    }

    /// The same, of carrying out or of taking back.
    ///
    /// # Errors
    /// As [`Engine::pinned`].
    pub fn gates_of(&self, run: &RunId, about: About) -> Result<Vec<GateFacts>, EngineError> {
        Ok(self.gates_about(&self.decidable(run)?, about))
    }

    /// The gates that an approval can be about.
    fn gates_about(&self, it: &Decidable, about: About) -> Vec<GateFacts> {
        match about {
            About::Start => open_gates(&it.definition, &it.journal),
            About::Undo => self.undo_gates(&it.definition, &it.journal),
        }
    }

    /// The text that a person signs to decide about these steps (all that can be decided now, where none are named).
    ///
    /// # Errors
    /// When a step is not waiting, or the reason may not stand in an approval.
    pub fn approval_text(
        &self,
        run: &RunId,
        (about, steps): (About, &[StepPath]),
        principal: &str,
        decision: Decision,
        reason: Option<&str>,
    ) -> Result<ApprovalText, EngineError> {
        let it = self.decidable(run)?;
        let definition = &it.definition;
        let mut gates = self.gates_about(&it, about);
        if !steps.is_empty() {
            if let Some(path) = steps.iter().find(|p| !gates.iter().any(|g| g.step == **p)) {
                return Err(EngineError::NotNow(format!(
                    "step `{path}` cannot be decided about now: it needs nobody, is done, or a value of it is not known yet"
                )));
            }
            gates.retain(|g| steps.contains(&g.step));
        }
        // A text for who has decided already would be signed for nothing: one person counts once.
        let now = self.ports.clock.now();
        if let (About::Start, Decision::Approve) = (about, decision) {
            let before = gates.len();
            gates.retain(|g| !has_approved(&it.journal, g, principal, now));
            if gates.is_empty() && before > 0 {
                return Err(EngineError::NotNow(format!(
                    "{principal} has approved this already: one person counts once"
                )));
            }
        }
        let Some(attempt) = gates.first().map(|g| g.attempt) else {
            return Err(EngineError::NotNow("nothing waits for a decision".into()));
        };
        gates.retain(|g| g.attempt == attempt);
        if let Some(reason) = reason.filter(|r| !crate::plan::approval_text::is_reason(r)) {
            return Err(EngineError::NotNow(format!(
                "`{}` may not stand in an approval: one line of printable ASCII, at most 500",
                reason.escape_debug()
            )));
        }
        let mut nonce = [0u8; 16];
        self.ports
            .random
            .fill(&mut nonce)
            .map_err(|e| EngineError::files("take randomness from the host", &e))?;
        // The text carries whole seconds.
        let now = chrono::DateTime::from_timestamp(now.timestamp(), 0).unwrap_or(now);
        let ttl = gates
            .iter()
            .filter_map(|g| {
                definition
                    .playbook
                    .find(&g.step)?
                    .approve
                    .as_ref()
                    .map(|a| a.ttl)
            })
            .min()
            .unwrap_or(std::time::Duration::from_secs(15 * 60));
        Ok(ApprovalText {
            incident: self.incident.clone(),
            run: run.clone(),
            plan_sha256: it.plan_sha256.clone(),
            attempt,
            decision,
            effect: gates.iter().map(|g| g.effect).max().unwrap_or(Effect::Read),
            principal: principal.to_owned(),
            issued: now,
            expires: now + chrono::Duration::from_std(ttl).unwrap_or(chrono::Duration::minutes(15)),
            nonce: crate::plan::call::hex(&nonce),
            reason: reason.map(str::to_owned),
            steps: gates.into_iter().map(|g| (g.step, g.call_sha256)).collect(),
        })
    }

    /// Takes a signed approval in. One that does not count is recorded too, with its code, and refused.
    ///
    /// # Errors
    /// `Refused` with its code; or the ledger cannot be written.
    pub fn approve(
        &self,
        run: &RunId,
        text: &str,
        signature: &str,
    ) -> Result<Accepted, EngineError> {
        let it = self.decidable(run)?;
        let gates = self.gates_of_text(&it, text);
        let history = self.ledger.history()?;
        let facts = Facts {
            incident: &self.incident,
            mode: self.mode,
            run,
            plan_sha256: &it.plan_sha256,
            executor: &it.definition.executor,
            playbook: &it.definition.playbook,
            policy: &self.policy,
            gates: &gates,
            nonces: &used_nonces(history.of(kind::GATE_DECIDED)),
            counted: &counted(&it.journal, &gates),
            now: self.ports.clock.now(),
        };
        let checked = approval::check(text, signature, &facts);
        self.record_signed(run, &it.plan_sha256, text, signature, &checked)?;
        Ok(checked?)
    }

    /// The gates that a text can be held against: a step's own, or its undo's where the text names the undo's call.
    fn gates_of_text(&self, it: &Decidable, text: &str) -> Vec<GateFacts> {
        let named = ApprovalText::parse(text)
            .map(|t| t.steps)
            .unwrap_or_default();
        let undo = |g: &GateFacts| {
            named
                .iter()
                .any(|(s, call)| *s == g.step && *call == g.call_sha256)
        };
        let mut gates = self.gates_about(it, About::Undo);
        gates.retain(undo);
        if gates.is_empty() {
            gates = self.gates_about(it, About::Start);
        }
        gates
    }

    fn record_signed(
        &self,
        run: &RunId,
        plan_sha256: &str,
        text: &str,
        signature: &str,
        checked: &Result<Accepted, Refusal>,
    ) -> Result<Entry, EngineError> {
        let parsed = ApprovalText::parse(text).ok();
        let short = |t: &str| t.chars().take(16 * 1024).collect::<String>();
        let body = GateDecided {
            how: "signed".into(),
            decision: parsed.as_ref().map_or(Decision::Refuse, |p| p.decision),
            principal: parsed
                .as_ref()
                .map_or_else(|| "unknown".into(), |p| p.principal.clone()),
            role: checked.as_ref().ok().and_then(|a| a.role.clone()),
            steps: parsed
                .iter()
                .flat_map(|p| p.steps.iter().map(|(s, d)| (s.to_string(), d.clone())))
                .collect(),
            shown_sha256: sha256_hex(text.as_bytes()),
            text: Some(short(text)),
            signature: Some(short(signature)),
            key: checked.as_ref().ok().map(|a| a.key.clone()),
            reason: parsed.as_ref().and_then(|p| p.reason.clone()),
            expires: parsed.as_ref().map(|p| p.expires.to_rfc3339()),
            rejected: checked.as_ref().err().map(|r| r.code().to_owned()),
        };
        let who = match checked {
            Ok(accepted) => Actor {
                key: Some(accepted.key.clone()),
                ..Actor::person(body.principal.clone())
            },
            Err(_) => self.executor.clone(),
        };
        let refs = Refs {
            run: Some(run.to_string()),
            attempt: Some(parsed.map_or(1, |p| p.attempt)),
            plan_sha256: Some(plan_sha256.to_owned()),
            ..Refs::default()
        };
        self.write_one(Draft::new(kind::GATE_DECIDED, &body).about(refs).by(&who))
    }

    /// Records a typed decision about a step that waits for one.
    ///
    /// # Errors
    /// When the step does not wait for a typed word, or the ledger cannot be written.
    pub fn approve_typed(
        &self,
        run: &RunId,
        step: &StepPath,
        who: &Actor,
        decision: Decision,
        reason: Option<&str>,
        shown_sha256: &str,
    ) -> Result<Entry, EngineError> {
        let gate = self
            .gates(run)?
            .into_iter()
            .find(|g| g.step == *step)
            .ok_or_else(|| {
                EngineError::NotNow(format!("step `{step}` does not wait for a decision"))
            })?;
        match gate.need {
            Need::Typed => {}
            Need::TypedWithReason
                if decision == Decision::Refuse || reason.is_some_and(|r| !r.trim().is_empty()) => {
            }
            Need::TypedWithReason => {
                return Err(EngineError::NotNow(format!(
                    "step `{step}` is {} and wants a reason",
                    gate.effect
                )));
            }
            _ if decision == Decision::Refuse => {}
            _ => {
                return Err(EngineError::NotNow(format!(
                    "step `{step}` is {} and is not opened by a typed word",
                    gate.effect
                )));
            }
        }
        let body = GateDecided {
            steps: BTreeMap::from([(step.to_string(), gate.call_sha256)]),
            shown_sha256: shown_sha256.to_owned(),
            reason: reason.map(str::to_owned),
            ..typed(who, decision)
        };
        let refs = Refs {
            run: Some(run.to_string()),
            step: Some(step.to_string()),
            attempt: Some(gate.attempt),
            ..Refs::default()
        };
        self.write_one(Draft::new(kind::GATE_DECIDED, &body).about(refs).by(who))
    }

    /// Records a person's answer to a manual step.
    ///
    /// # Errors
    /// When the step is no manual step or has its outcome, a value is missing or not allowed, or the ledger cannot be written.
    pub fn answer(
        &self,
        run: &RunId,
        step: &StepPath,
        who: &Actor,
        text: &str,
        outcome: Outcome,
        given: &BTreeMap<String, String>,
    ) -> Result<Entry, EngineError> {
        let (definition, journal) = self.pinned(run)?;
        let found = definition
            .playbook
            .find(step)
            .filter(|s| matches!(s.kind, Kind::Manual { .. }))
            .ok_or_else(|| EngineError::NotNow(format!("the run has no manual step `{step}`")))?;
        let (attempt, at) = journal.attempt(step.as_str());
        match at.at {
            At::Started { .. } => {}
            // An answer before the question would be about something that nobody has seen yet.
            At::Fresh => {
                return Err(EngineError::NotNow(format!(
                    "step `{step}` has not been asked yet: what stands before it is not done"
                )));
            }
            At::Finished { .. } | At::InDoubt { .. } | At::Resolved { .. } => {
                return Err(EngineError::NotNow(format!(
                    "step `{step}` has its outcome already"
                )));
            }
        }
        let given: BTreeMap<String, Value> = given
            .iter()
            .map(|(name, text)| (name.clone(), Value::String(text.clone())))
            .collect();
        let values = super::answers::check(found, &definition.playbook, outcome, &given)
            .map_err(EngineError::NotNow)?;
        let body = Answer {
            text: text.to_owned(),
            outcome,
            values,
        };
        let refs = step_refs(run, step, attempt);
        self.write_one(Draft::new(kind::ANSWER, &body).about(refs).by(who))
    }

    /// Records what a person says of a step in doubt (`ran`, `did-not-run`, `retry`), or of one that failed or was undone (`ran` for a
    /// failed one, `retry`).
    ///
    /// # Errors
    /// When nothing of the step is open, or the ledger cannot be written.
    pub fn resolve(
        &self,
        run: &RunId,
        step: &StepPath,
        who: &Actor,
        verdict: &str,
        reason: &str,
    ) -> Result<Entry, EngineError> {
        if !["ran", "did-not-run", "retry"].contains(&verdict) {
            return Err(EngineError::NotNow(format!(
                "`{verdict}` is not ran, did-not-run or retry"
            )));
        }
        let (definition, journal) = self.pinned(run)?;
        let gate = |s: &crate::playbook::model::Step| s.kind == Kind::Approve;
        if verdict == "ran" && definition.playbook.find(step).is_some_and(gate) {
            return Err(EngineError::NotNow(format!(
                "step `{step}` is a gate: only a decision opens it (firebreak playbook approve --step {step})"
            )));
        }
        let (attempt, at) = journal.attempt(step.as_str());
        let undone = journal
            .step(step.as_str())
            .is_some_and(|r| r.undo.is_some());
        let open = match &at.at {
            At::InDoubt { .. } => true,
            At::Finished { body, .. } => {
                body.outcome == Outcome::Failed || (undone && verdict != "ran")
            }
            _ => false,
        };
        if !open {
            return Err(EngineError::NotNow(format!(
                "nothing of step `{step}` is open; if a runner was killed in it, firebreak resume {} looks first",
                self.incident
            )));
        }
        let body = StepResolved {
            verdict: verdict.into(),
            by: "person".into(),
            reason: reason.into(),
        };
        let refs = step_refs(run, step, attempt);
        self.write_one(Draft::new(kind::STEP_RESOLVED, &body).about(refs).by(who))
    }

    /// Whether a process carries this run out now.
    ///
    /// # Errors
    /// When the runner's lock cannot be read.
    pub fn is_carried_out(&self, run: &RunId) -> Result<bool, EngineError> {
        match self.lock(run) {
            Ok(_) => Ok(false),
            Err(EngineError::Busy(_)) => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// Parks a run: what runs is finished, nothing new starts, until it is resumed.
    ///
    /// # Errors
    /// When the run has ended, or the ledger cannot be written.
    pub fn park(&self, run: &RunId, who: &Actor, why: &str) -> Result<Entry, EngineError> {
        let (definition, journal) = self.pinned(run)?;
        if journal.ended.is_some() {
            return Err(EngineError::NotNow(format!("run {run} has ended")));
        }
        let waiting = super::waiting::waiting(&definition, &journal)?;
        let body = RunParked {
            why: why.into(),
            steps: waiting.into_iter().map(|w| w.step).collect(),
            hint: format!("firebreak resume {}", self.incident),
        };
        let refs = Refs {
            run: Some(run.to_string()),
            ..Refs::default()
        };
        let entry = self.write_one(Draft::new(kind::RUN_PARKED, &body).about(refs).by(who))?;
        self.ledger.checkpoint()?;
        Ok(entry)
    }

    fn write_one(&self, draft: Draft) -> Result<Entry, EngineError> {
        let mut stored = self.ledger.append(vec![draft])?;
        stored
            .pop()
            .ok_or_else(|| EngineError::NotNow("the ledger answered no entry for one draft".into()))
    }
}

/// What every entry of one attempt refers to.
pub(super) fn step_refs(run: &RunId, step: &StepPath, attempt: u32) -> Refs {
    Refs {
        run: Some(run.to_string()),
        step: Some(step.to_string()),
        attempt: Some(attempt),
        ..Refs::default()
    }
}

/// Nonces of every approval that the ledger holds and that counted.
fn used_nonces<'e>(decided: impl Iterator<Item = &'e Entry>) -> Vec<String> {
    decided
        .filter_map(|e| e.body_as::<GateDecided>(kind::GATE_DECIDED))
        .filter(|d| d.rejected.is_none())
        .filter_map(|d| ApprovalText::parse(d.text.as_deref()?).ok())
        .map(|t| t.nonce)
        .collect()
}

/// Whether this person's yes to this very call still holds.
fn has_approved(
    journal: &Journal,
    gate: &GateFacts,
    principal: &str,
    now: chrono::DateTime<chrono::Utc>,
) -> bool {
    let (_, attempt) = journal.attempt(gate.step.as_str());
    attempt.gate.decisions.iter().any(|d| {
        d.body.principal == principal
            && d.body.decision == Decision::Approve
            && d.body.steps.get(gate.step.as_str()) == Some(&gate.call_sha256)
            && !d.expired_at(now)
    })
}

fn counted(journal: &Journal, gates: &[GateFacts]) -> Vec<(StepPath, String, String)> {
    let mut found = Vec::new();
    for gate in gates {
        let (_, attempt) = journal.attempt(gate.step.as_str());
        for decided in attempt.gate.decisions {
            let same = decided.body.steps.get(gate.step.as_str()) == Some(&gate.call_sha256);
            if let (true, Some(key)) = (
                same && decided.body.decision == Decision::Approve,
                decided.body.key,
            ) {
                found.push((gate.step.clone(), decided.body.principal, key));
            }
        }
    }
    found
}
