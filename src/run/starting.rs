//! How the driver starts a step: probes and pause first, then the intent, durable, and only then the act.

use std::time::Duration;

use crate::incident::body::{GateExpired, StepFinished, StepStarted};
use crate::incident::{Draft, Effect, Refs, clock_text, kind};
use crate::plan::call::idempotency_key;
use crate::playbook::model::{Kind, Step};
use crate::port::RunEvent;

use super::driver::{Came, Driver, Round, until};
use super::gates::step_refs;
use super::journal::Journal;
use super::machine::Start;
use super::outcome::{done, failed};

/// Deadline of a step that states none.
const LONGEST: Duration = Duration::from_secs(600);

impl Driver {
    pub(super) fn take_start(&mut self, start: &Start, journal: &Journal, round: &mut Round) {
        if self.is_cancelled() {
            return;
        }
        if self.approval_ran_out(start, journal) {
            let body = GateExpired { then: "ask".into() };
            let refs = step_refs(&self.definition.run, &start.at.path, start.at.attempt);
            return round.write(Draft::new(kind::GATE_EXPIRED, &body).about(refs));
        }
        let Some(step) = self.step(&start.at) else {
            return;
        };
        let probes = step.require.is_some() || step.done_if.is_some();
        let pause = self.pause(start);
        if start.simulate || (!probes && pause.is_zero()) {
            return self.begin(start, &step, journal, round);
        }
        let job = self.job(journal, &start.at, Duration::from_secs(60));
        let start = Box::new(start.clone());
        let at = start.at.clone();
        self.spawn(&at, true, async move {
            tokio::time::sleep(pause).await;
            let end = job.prepare().await;
            Came::Prepared(start, end)
        });
    }

    /// Pause before a further try, with jitter; a drill does not sleep.
    pub(super) fn pause(&self, start: &Start) -> Duration {
        if start.pause.is_zero() || self.engine.ports.clock.waits_are_simulated() {
            return Duration::ZERO;
        }
        let mut byte = [0u8; 1];
        // Without randomness the pause has no jitter, and that is all.
        let _ = self.engine.ports.random.fill(&mut byte);
        start.pause + start.pause * u32::from(byte[0]) / 1024
    }

    /// Writes the intent; the step begins when it is durable.
    pub(super) fn begin(
        &mut self,
        start: &Start,
        step: &Step,
        journal: &Journal,
        round: &mut Round,
    ) {
        let now = self.now();
        let timeout = start.timeout.unwrap_or(LONGEST);
        let deadline = start.deadline.clone().unwrap_or_else(|| {
            clock_text::millis(now + chrono::Duration::from_std(timeout).unwrap_or_default())
        });
        let left = until(&deadline, now).unwrap_or(timeout);
        if left.is_zero() && start.r#try > 1 {
            let body = failed("timeout", "FB0606", "its time ran out before a further try");
            return round.finish(&self.definition, &start.at, &body);
        }
        let simulated_wait =
            matches!(step.kind, Kind::Wait { .. }) && self.engine.ports.clock.waits_are_simulated();
        let body = StepStarted {
            r#try: start.r#try,
            key: idempotency_key(&self.definition.run, &start.at.path, start.at.attempt),
            call_sha256: start.call.digest(),
            what: start.call.label(),
            effect: start.call.effect,
            epoch: journal.epoch,
            deadline: Some(deadline),
            simulated: start.simulate || simulated_wait,
        };
        let refs = Refs {
            approval: start.approval,
            ..step_refs(&self.definition.run, &start.at.path, start.at.attempt)
        };
        round.write(Draft::new(kind::STEP_STARTED, &body).about(refs));
        round.checkpoint |= start.call.effect >= Effect::Irreversible;
        round.events.push(RunEvent::Started {
            step: start.at.path.to_string(),
            title: step.title().to_owned(),
            what: body.what,
            r#try: start.r#try,
        });
        if start.simulate {
            return self.simulate(start, step, round);
        }
        match &step.kind {
            Kind::Note { .. } => {
                let text = start.call.what.as_str().unwrap_or_default().to_owned();
                round.finish(&self.definition, &start.at, &done("result", text));
            }
            Kind::Manual { .. } | Kind::Wait { .. } => {}
            _ => round
                .begin
                .push((self.job(journal, &start.at, left), start.call.clone())),
        }
    }

    /// In a drill: recorded and shown, never done.
    pub(super) fn simulate(&self, start: &Start, step: &Step, round: &mut Round) {
        if let Kind::Notify(n) = &step.kind {
            let text = format!("EXERCISE {}", start.call.what.as_str().unwrap_or_default());
            let body = crate::incident::body::Notice {
                to: n.to.clone(),
                channel: "simulated".into(),
                text: text.clone(),
                error: None,
            };
            let refs = step_refs(&self.definition.run, &start.at.path, start.at.attempt);
            round.write(Draft::new(kind::NOTICE_SENT, &body).about(refs));
            round.events.push(RunEvent::Notice {
                to: n.to.clone(),
                text,
                channel: "simulated".into(),
            });
        }
        // What the step would have answered is what its author let a plan assume.
        let body = StepFinished {
            outputs: step.plan_value.clone(),
            ..done("result", "simulated: it leaves the drill's world")
        };
        round.finish(&self.definition, &start.at, &body);
    }
}
