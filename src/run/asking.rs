//! What the driver asks of people and of time: gates, answers, timers. It asks once per process and then watches the ledger, because an
//! answer may come from another terminal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::incident::body::{
    Answer, DeadlinePassed, Decision, GateDecided, GateExpired, GateRequested, StepFinished,
};
use crate::incident::{Draft, Outcome, clock_text, kind};
use crate::plan::call::FilledCall;
use crate::plan::policy::Need;
use crate::playbook::model::{OnTimeout, Step};
use crate::port::{ManualQuestion, Question, Reply, RunEvent, SignedText};

use super::answers;
use super::definition::PinnedDefinition;
use super::driver::{Came, Driver, Round, until};
use super::error::EngineError;
use super::gates::{step_refs, typed};
use super::journal::Journal;
use super::machine::{self, Basis, Start, StepAt, Todo};
use super::outcome::{Source, done, done_with, failed, short};

/// How often one process asks for an answer that fits.
const ASK_AGAIN: u32 = 3;

impl Driver {
    pub(super) fn finish(&self, at: &StepAt, basis: Basis, journal: &Journal, round: &mut Round) {
        let (_, attempt) = journal.attempt(at.path.as_str());
        let Some(step) = self.definition.playbook.find(&at.path) else {
            return;
        };
        let now = self.now();
        if matches!(basis, Basis::Gate(_))
            && attempt.gate.decisions.iter().any(|d| d.expired_at(now))
        {
            // A decision that has run out opens nothing, whenever its gate is reached: it is asked again.
            let body = GateExpired { then: "ask".into() };
            let refs = step_refs(&self.definition.run, &at.path, at.attempt);
            return round.write(Draft::new(kind::GATE_EXPIRED, &body).about(refs));
        }
        let body = match basis {
            Basis::Answer => match attempt.answer {
                Some((_, answer)) => answered(step, &self.definition, answer),
                None => return,
            },
            Basis::PersonsWord => done("answer", "a person says that it ran"),
            Basis::Gate(_) => done("answer", "approved"),
            Basis::Timer => done("result", "the time is over"),
            Basis::NoAnswer => failed("timeout", "FB0606", "nobody answered in time"),
        };
        round.finish(&self.definition, at, &body);
    }

    pub(super) fn take_gate(
        &mut self,
        at: &StepAt,
        call: &FilledCall,
        need: Need,
        journal: &Journal,
        round: &mut Round,
    ) {
        if self.is_cancelled() {
            return;
        }
        let Some(step) = self.step(at) else { return };
        if step.require.is_none() && step.done_if.is_none() {
            return self.ask(at, call, need, &step, round);
        }
        // People are not asked about a step that is blocked, or that has nothing to do.
        let job = self.job(journal, at, Duration::from_secs(60));
        let call = call.clone();
        self.spawn(at, true, async move {
            let end = job.prepare().await;
            Came::PreparedGate(call, need, end)
        });
    }

    pub(super) fn ask(
        &self,
        at: &StepAt,
        call: &FilledCall,
        need: Need,
        step: &Step,
        round: &mut Round,
    ) {
        let signed = matches!(need, Need::Signed { .. });
        let ttl = step.approve.as_ref().map(|a| a.ttl);
        let ttl = ttl.or(signed.then_some(Duration::from_secs(15 * 60)));
        let body = GateRequested {
            roles: step
                .approve
                .as_ref()
                .map(|a| a.roles.clone())
                .unwrap_or_default(),
            quorum: quorum(need),
            effect: call.effect,
            call_sha256: call.digest(),
            question: short(&format!(
                "{}: {} ({})",
                step.title(),
                call.label(),
                call.effect
            )),
            expires: ttl
                .and_then(|t| chrono::Duration::from_std(t).ok())
                .map(|t| clock_text::millis(self.now() + t)),
        };
        let refs = step_refs(&self.definition.run, &at.path, at.attempt);
        round.write(Draft::new(kind::GATE_REQUESTED, &body).about(refs));
        round.checkpoint = true;
    }

    pub(super) fn await_gate(
        &mut self,
        at: &StepAt,
        call: &FilledCall,
        need: Need,
        asked: &GateRequested,
        round: &mut Round,
    ) {
        let Some(step) = self.step(at) else { return };
        let over = asked
            .expires
            .as_deref()
            .and_then(|t| until(t, self.now()))
            .is_some_and(|d| d.is_zero());
        if over {
            let then = match step.approve.as_ref().map(|a| a.on_timeout) {
                Some(OnTimeout::Refuse) => "refuse",
                Some(OnTimeout::Escalate) => "escalate",
                Some(OnTimeout::Park) | None => "park",
            };
            if let Some(busy) = self.busy.remove(at) {
                busy.handle.abort();
            }
            let refs = step_refs(&self.definition.run, &at.path, at.attempt);
            return round.write(
                Draft::new(kind::GATE_EXPIRED, &GateExpired { then: then.into() }).about(refs),
            );
        }
        let name = (at.clone(), asked.call_sha256.clone());
        if self.busy.contains_key(at) || self.asked.contains(&name) || self.is_cancelled() {
            return;
        }
        self.asked.insert(name);
        let question = self.question(at, call, need, asked, &step);
        let operator = Arc::clone(&self.engine.operator);
        operator.event(&RunEvent::Waiting {
            step: at.path.to_string(),
            what: crate::plan::plan::need_text(need),
            until: asked.expires.clone(),
        });
        self.spawn(at, true, async move {
            if question.signed {
                return Came::Signed(operator.signatures(&question).await);
            }
            let reply = operator.confirm(&question).await;
            Came::Replied(Box::new(question), reply)
        });
    }

    pub(super) fn question(
        &self,
        at: &StepAt,
        call: &FilledCall,
        need: Need,
        asked: &GateRequested,
        step: &Step,
    ) -> Question {
        let mut lines = vec![format!("{} ({})", call.label(), call.effect)];
        if let serde_json::Value::Object(args) = &call.args {
            lines.extend(args.iter().map(|(k, v)| format!("{k}: {v}")));
        }
        Question {
            run: self.definition.run.to_string(),
            step: at.path.to_string(),
            attempt: at.attempt,
            title: step.title().to_owned(),
            effect: call.effect,
            what: call.label(),
            call_sha256: asked.call_sha256.clone(),
            plan_sha256: self.plan_sha256.clone(),
            needs_reason: need == Need::TypedWithReason,
            quorum: asked.quorum,
            signed: matches!(need, Need::Signed { .. }),
            roles: asked.roles.clone(),
            expires: asked.expires.clone(),
            lines,
        }
    }

    pub(super) fn await_answer(
        &mut self,
        at: &StepAt,
        deadline: Option<&str>,
        journal: &Journal,
        round: &mut Round,
    ) {
        if deadline
            .and_then(|t| until(t, self.now()))
            .is_some_and(|d| d.is_zero())
        {
            return self.deadline_passed(at, "step", deadline.unwrap_or_default(), false, round);
        }
        let name = (at.clone(), "answer".to_owned());
        if self.busy.contains_key(at) || self.asked.contains(&name) || self.is_cancelled() {
            return;
        }
        self.asked.insert(name);
        let Some(step) = self.step(at) else { return };
        let vars = machine::variables(&self.definition, journal);
        let text = crate::plan::values::fill_step(&step, &vars)
            .ok()
            .and_then(|c| c.what.as_str().map(str::to_owned))
            .unwrap_or_default();
        let mut question = ManualQuestion {
            run: self.definition.run.to_string(),
            step: at.path.to_string(),
            attempt: at.attempt,
            title: step.title().to_owned(),
            text,
            owner: step.owner.clone(),
            values: answers::wanted(&step, &self.definition.playbook)
                .map(|(name, declared)| (name.to_owned(), declared.sample()))
                .collect(),
            allows: answers::wanted(&step, &self.definition.playbook)
                .map(|(name, declared)| (name.to_owned(), declared.allows()))
                .collect(),
            refused: None,
            deadline: deadline.map(str::to_owned),
        };
        let operator = Arc::clone(&self.engine.operator);
        operator.event(&RunEvent::Waiting {
            step: at.path.to_string(),
            what: "an answer".into(),
            until: question.deadline.clone(),
        });
        let definition = Arc::clone(&self.definition);
        self.spawn(at, true, async move {
            for _ in 0..ASK_AGAIN {
                let Some(mut answer) = operator.answer(&question).await else {
                    break;
                };
                let playbook = &definition.playbook;
                match answers::check(&step, playbook, answer.outcome, &answer.values) {
                    Ok(values) => {
                        answer.values = values;
                        return Came::Answered(Some(answer));
                    }
                    Err(why) => question.refused = Some(why),
                }
            }
            // Nothing that fits was said here: it waits for `incident answer`.
            Came::Answered(None)
        });
    }

    pub(super) fn await_timer(&self, at: &StepAt, deadline: &str, round: &mut Round) {
        let simulated = self.engine.ports.clock.waits_are_simulated();
        if simulated || until(deadline, self.now()).is_none_or(|d| d.is_zero()) {
            self.deadline_passed(at, "wait", deadline, simulated, round);
        }
    }

    pub(super) fn deadline_passed(
        &self,
        at: &StepAt,
        which: &str,
        deadline: &str,
        simulated: bool,
        round: &mut Round,
    ) {
        let body = DeadlinePassed {
            which: which.into(),
            deadline: deadline.into(),
            simulated,
        };
        let refs = step_refs(&self.definition.run, &at.path, at.attempt);
        round.write(Draft::new(kind::DEADLINE_PASSED, &body).about(refs));
    }

    pub(super) fn replied(
        &mut self,
        at: &StepAt,
        question: &Question,
        reply: Reply,
        round: &mut Round,
    ) {
        let who = &self.engine.executor;
        let (decision, reason, shown) = match reply {
            Reply::NoTerminal => return,
            Reply::Declined => (Decision::Refuse, None, None),
            Reply::Typed {
                reason,
                shown_sha256,
            } => (Decision::Approve, reason, shown_sha256),
        };
        let missing = reason.as_deref().is_none_or(|r| r.trim().is_empty());
        if decision == Decision::Approve && question.needs_reason && missing {
            // Without a reason it opens nothing: the gate waits for one from elsewhere.
            return;
        }
        let body = GateDecided {
            steps: BTreeMap::from([(at.path.to_string(), question.call_sha256.clone())]),
            shown_sha256: shown.unwrap_or_else(|| question.call_sha256.clone()),
            reason,
            ..typed(who, decision)
        };
        let refs = step_refs(&self.definition.run, &at.path, at.attempt);
        round.write(Draft::new(kind::GATE_DECIDED, &body).about(refs).by(who));
        round.events.push(RunEvent::Decided {
            steps: vec![at.path.to_string()],
            who: who.id.clone(),
            how: "typed".into(),
        });
    }

    /// Each is checked and recorded like one that was handed in from outside.
    pub(super) fn signed(&self, at: &StepAt, texts: &[SignedText]) -> Result<(), EngineError> {
        for signed in texts {
            let taken = self
                .engine
                .approve(&self.definition.run, &signed.text, &signed.signature);
            let (steps, who, how) = match taken {
                Ok(accepted) => {
                    let steps = accepted.text.steps.iter().map(|(s, _)| s.to_string());
                    let steps: Vec<String> = steps.collect();
                    (steps, accepted.text.principal, "signed".to_owned())
                }
                Err(EngineError::Refused(refusal)) => {
                    let how = refusal.code().to_owned();
                    (vec![at.path.to_string()], "unknown".to_owned(), how)
                }
                Err(other) => return Err(other),
            };
            self.engine
                .operator
                .event(&RunEvent::Decided { steps, who, how });
        }
        Ok(())
    }

    /// True when there has been nothing but waiting for people for longer than this process has patience.
    pub(super) fn has_waited_enough(&mut self, todos: &[Todo]) -> bool {
        let people = todos
            .iter()
            .all(|t| matches!(t, Todo::AwaitGate { .. } | Todo::AwaitAnswer { .. }));
        if !people || !self.busy.is_empty() {
            self.idle_since = None;
            return false;
        }
        let now = self.engine.ports.clock.monotonic();
        let since = *self.idle_since.get_or_insert(now);
        now.saturating_sub(since) >= self.engine.patience
    }

    /// An approval must be valid when `step.started` is written; a step already begun may go on to a safe state.
    pub(super) fn approval_ran_out(&self, start: &Start, journal: &Journal) -> bool {
        let (_, attempt) = journal.attempt(start.at.path.as_str());
        let now = self.now();
        start.approval.is_some()
            && attempt.tries == 0
            && attempt.gate.decisions.iter().any(|d| d.expired_at(now))
    }
}

fn quorum(need: Need) -> u32 {
    match need {
        Need::Signed { quorum, .. } => quorum,
        Need::SecondPerson => 2,
        Need::Nothing | Need::Typed | Need::TypedWithReason => 1,
    }
}

fn answered(step: &Step, definition: &PinnedDefinition, answer: Answer) -> StepFinished {
    if answer.outcome == Outcome::Done {
        let source = Source {
            answer: answer.values,
            ..Source::default()
        };
        return done_with("answer", &answer.text, step, &definition.playbook, &source);
    }
    let mut body = failed("answer", "FB0613", answer.text);
    body.by = "answer".into();
    body
}
