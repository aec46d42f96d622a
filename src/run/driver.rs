//! Carries out what the machine says is next, and writes down what came of it.
//!
//! *Flow*: read the journal → ask the machine → write intents and facts as one batch, durable → only then act → write outcomes as
//! they come → again. Everything that a crash could leave behind is named beside the line that could leave it.
//!
//! *Guarantees*: nothing acts before its `step.started` is durable; a ledger that cannot be written stops the run; what runs at the
//! first Ctrl-C is finished and recorded, nothing new starts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::{AbortHandle, Id, JoinSet};

use crate::incident::body::{
    Answer, DeadlinePassed, Decision, GateDecided, GateExpired, GateRequested, MilestoneReached,
    RunEnded, RunParked, StepFinished, StepInDoubt, StepResolved, StepStarted,
};
use crate::incident::{Draft, Effect, Outcome, Refs, clock_text, kind};
use crate::plan::call::{FilledCall, idempotency_key};
use crate::plan::policy::Need;
use crate::playbook::model::{Kind, OnTimeout, Step};
use crate::port::{LedgerError, ManualQuestion, Question, Reply, RunEvent, SignedText};

use super::act::{ActResult, Job, Seen};
use super::definition::PinnedDefinition;
use super::engine::{Engine, RunEnd, end_of};
use super::error::EngineError;
use super::gates::{step_refs, typed};
use super::journal::Journal;
use super::machine::{self, Basis, Ending, Hold, Next, Start, StepAt, Todo};
use super::outcome::{End, Source, done, done_with, failed, short};

/// How often the ledger is read again for what people wrote meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// Deadline of a step that states none.
const LONGEST: Duration = Duration::from_secs(600);

/// What a task of the driver came back with.
enum Came {
    /// `require` and `done_if` of a step were probed; it may start, or it has its outcome.
    Prepared(Box<Start>, Option<StepFinished>),
    /// The same before people are asked.
    PreparedGate(FilledCall, Need, Option<StepFinished>),
    /// A step was carried out.
    Acted(ActResult),
    /// A doubtful step was looked at; true = show it to a person, decide nothing.
    Looked(Seen, bool),
    /// The operator answered a gate.
    Replied(Box<Question>, Reply),
    /// People handed signatures in.
    Signed(Vec<SignedText>),
    /// The operator answered a manual step.
    Answered(Option<Answer>),
}

/// A task of the driver that is under way.
struct Busy {
    handle: AbortHandle,
    /// True when it may be dropped at any time: it changes nothing.
    idle: bool,
}

/// What one round writes: entries, then what is told and begun once they are durable.
#[derive(Default)]
struct Round {
    drafts: Vec<Draft>,
    events: Vec<RunEvent>,
    begin: Vec<(Job, FilledCall)>,
    checkpoint: bool,
}

impl Round {
    fn write(&mut self, draft: Draft) {
        self.drafts.push(draft);
    }
    fn finish(&mut self, definition: &PinnedDefinition, at: &StepAt, body: &StepFinished) {
        let refs = step_refs(&definition.run, &at.path, at.attempt);
        self.write(Draft::new(kind::STEP_FINISHED, body).about(refs));
        let step = at.path.to_string();
        self.events.push(if body.by == "skipped" {
            RunEvent::Skipped {
                step,
                why: body.summary.clone(),
            }
        } else {
            let title = definition
                .playbook
                .find(&at.path)
                .map_or("", |s| s.title())
                .to_owned();
            RunEvent::Finished {
                step,
                title,
                outcome: body.outcome,
                summary: body.summary.clone(),
                elapsed_ms: body.elapsed_ms,
            }
        });
    }
}

/// Carries out one run.
pub(super) struct Driver {
    engine: Arc<Engine>,
    definition: Arc<PinnedDefinition>,
    tasks: JoinSet<(StepAt, Came)>,
    busy: BTreeMap<StepAt, Busy>,
    by_task: HashMap<Id, StepAt>,
    /// Questions that this process has put, with the digest of what they were about.
    asked: BTreeSet<(StepAt, String)>,
    /// Since when there is nothing but waiting for people.
    idle_since: Option<Duration>,
    plan_sha256: String,
}

impl Driver {
    pub(super) fn new(engine: &Engine, definition: PinnedDefinition) -> Self {
        Driver {
            engine: Arc::new(engine.clone()),
            definition: Arc::new(definition),
            tasks: JoinSet::new(),
            busy: BTreeMap::new(),
            by_task: HashMap::new(),
            asked: BTreeSet::new(),
            idle_since: None,
            plan_sha256: String::new(),
        }
    }

    /// Until there is nothing more to do here.
    pub(super) async fn drive(mut self) -> Result<RunEnd, EngineError> {
        loop {
            let journal = self.journal()?;
            let next = machine::next(&self.definition, &journal)?;
            let Next::Do(todos) = &next else {
                return self.close(&journal, next, false);
            };
            if self.is_cancelled() {
                self.drop_idle();
            }
            let mut round = Round::default();
            for todo in todos {
                self.take(todo, &journal, &mut round);
            }
            if !round.drafts.is_empty() {
                self.commit(round)?;
                self.idle_since = None;
                continue;
            }
            let leaves = self.is_cancelled() || self.has_waited_enough(todos);
            if leaves && self.busy.values().all(|b| b.idle) {
                self.drop_idle();
                let interrupted = self.is_cancelled();
                return self.leave(&journal, todos, interrupted);
            }
            self.wait(todos).await?;
        }
    }

    fn journal(&mut self) -> Result<Journal, EngineError> {
        let journal = Journal::of(&self.engine.ledger.history()?, &self.definition.run)?;
        if let Some(created) = &journal.created {
            self.plan_sha256.clone_from(&created.plan_sha256);
        }
        Ok(journal)
    }

    fn is_cancelled(&self) -> bool {
        *self.engine.cancel.borrow()
    }

    fn now(&self) -> DateTime<Utc> {
        self.engine.ports.clock.now()
    }

    /// Makes a round durable, then tells and begins what rests on it. When the write fails, nothing of it has begun.
    fn commit(&mut self, round: Round) -> Result<(), EngineError> {
        self.engine.ledger.append(round.drafts)?;
        if round.checkpoint {
            // A crash here leaves signed intents and no effect: resume looks before it acts.
            self.engine.ledger.checkpoint()?;
        }
        for event in &round.events {
            self.engine.operator.event(event);
        }
        for (job, call) in round.begin {
            let at = job.at.clone();
            self.spawn(&at, false, async move { Came::Acted(job.act(&call).await) });
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        at: &StepAt,
        idle: bool,
        work: impl Future<Output = Came> + Send + 'static,
    ) {
        let name = at.clone();
        let handle = self.tasks.spawn(async move { (name, work.await) });
        self.by_task.insert(handle.id(), at.clone());
        self.busy.insert(at.clone(), Busy { handle, idle });
    }

    /// Drops questions and pauses; what acts is left alone.
    fn drop_idle(&mut self) {
        self.busy.retain(|_, b| {
            if b.idle {
                b.handle.abort();
            }
            !b.idle
        });
    }

    fn job(&self, journal: &Journal, at: &StepAt, limit: Duration) -> Job {
        Job {
            engine: Arc::clone(&self.engine),
            definition: Arc::clone(&self.definition),
            vars: machine::variables(&self.definition, journal),
            at: at.clone(),
            limit,
        }
    }

    fn step(&self, at: &StepAt) -> Option<Step> {
        self.definition.playbook.find(&at.path).cloned()
    }

    /// One thing that the machine wants done.
    fn take(&mut self, todo: &Todo, journal: &Journal, round: &mut Round) {
        let at = match todo {
            Todo::Milestone { path } => return self.stamp(path, round),
            Todo::Start(start) => &start.at,
            Todo::Observe { at, .. }
            | Todo::Finish { at, .. }
            | Todo::AskGate { at, .. }
            | Todo::AwaitGate { at, .. }
            | Todo::AwaitAnswer { at, .. }
            | Todo::AwaitDeadline { at, .. }
            | Todo::AwaitResult { at }
            | Todo::Decide { at, .. }
            | Todo::Skip { at, .. }
            | Todo::Refuse { at, .. } => at,
        };
        let waits_for_people = matches!(todo, Todo::AwaitGate { .. } | Todo::AwaitAnswer { .. });
        if self.busy.contains_key(at) && !waits_for_people {
            return;
        }
        match todo {
            Todo::Start(start) => self.take_start(start, journal, round),
            Todo::Observe { call, ask, .. } => {
                let job = self.job(journal, at, Duration::from_secs(30));
                let (call, ask) = (call.clone(), *ask);
                self.spawn(at, false, async move {
                    Came::Looked(job.observe(&call).await, ask)
                });
            }
            Todo::Finish { basis, .. } => self.finish(at, *basis, journal, round),
            Todo::AskGate { call, need, .. } => self.take_gate(at, call, *need, journal, round),
            Todo::AwaitGate {
                call, need, asked, ..
            } => self.await_gate(at, call, *need, asked, round),
            Todo::AwaitAnswer { deadline, .. } => {
                self.await_answer(at, deadline.as_deref(), journal, round)
            }
            Todo::AwaitDeadline { deadline, .. } => self.await_timer(at, deadline, round),
            Todo::AwaitResult { .. } | Todo::Milestone { .. } => {}
            Todo::Decide { taken, .. } => {
                let mut body = done(
                    "result",
                    if *taken {
                        "the condition is true"
                    } else {
                        "the condition is false"
                    },
                );
                body.branch = Some(*taken);
                round.finish(&self.definition, at, &body);
            }
            Todo::Skip { why, .. } => round.finish(&self.definition, at, &done("skipped", *why)),
            Todo::Refuse { why, .. } => {
                let mut body = failed("refused", "FB0510", why.clone());
                body.by = "answer".into();
                round.finish(&self.definition, at, &body);
            }
        }
    }

    fn stamp(&self, path: &crate::incident::StepPath, round: &mut Round) {
        let Some(milestone) = self
            .definition
            .playbook
            .find(path)
            .and_then(|s| s.milestone)
        else {
            return;
        };
        let body = MilestoneReached {
            name: milestone.name,
            tier: milestone.tier,
            at: None,
            confidence: None,
            by: "step".into(),
        };
        round.write(Draft::new(kind::MILESTONE, &body).about(step_refs(
            &self.definition.run,
            path,
            1,
        )));
        round.events.push(RunEvent::Milestone {
            name: milestone.name,
            step: path.to_string(),
        });
    }

    fn take_start(&mut self, start: &Start, journal: &Journal, round: &mut Round) {
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
    fn pause(&self, start: &Start) -> Duration {
        if start.pause.is_zero() || self.engine.ports.clock.waits_are_simulated() {
            return Duration::ZERO;
        }
        let mut byte = [0u8; 1];
        // Without randomness the pause has no jitter, and that is all.
        let _ = self.engine.ports.random.fill(&mut byte);
        start.pause + start.pause * u32::from(byte[0]) / 1024
    }

    /// An approval must be valid when `step.started` is written; a step already begun may go on to a safe state.
    fn approval_ran_out(&self, start: &Start, journal: &Journal) -> bool {
        let (_, attempt) = journal.attempt(start.at.path.as_str());
        let now = self.now();
        start.approval.is_some()
            && attempt.tries == 0
            && attempt.gate.decisions.iter().any(|d| d.expired_at(now))
    }

    /// Writes the intent; the step begins when it is durable.
    fn begin(&mut self, start: &Start, step: &Step, journal: &Journal, round: &mut Round) {
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
    fn simulate(&self, start: &Start, step: &Step, round: &mut Round) {
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
        round.finish(
            &self.definition,
            &start.at,
            &done("result", "simulated: it leaves the drill's world"),
        );
    }

    fn finish(&self, at: &StepAt, basis: Basis, journal: &Journal, round: &mut Round) {
        let (_, attempt) = journal.attempt(at.path.as_str());
        let Some(step) = self.definition.playbook.find(&at.path) else {
            return;
        };
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

    fn take_gate(
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

    fn ask(&self, at: &StepAt, call: &FilledCall, need: Need, step: &Step, round: &mut Round) {
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

    fn await_gate(
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

    fn question(
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

    fn await_answer(
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
        let question = ManualQuestion {
            run: self.definition.run.to_string(),
            step: at.path.to_string(),
            attempt: at.attempt,
            title: step.title().to_owned(),
            text,
            owner: step.owner.clone(),
            values: step
                .outputs
                .keys()
                .filter_map(|n| Some((n.clone(), self.definition.playbook.vars.get(n)?.sample())))
                .collect(),
            deadline: deadline.map(str::to_owned),
        };
        let operator = Arc::clone(&self.engine.operator);
        operator.event(&RunEvent::Waiting {
            step: at.path.to_string(),
            what: "an answer".into(),
            until: question.deadline.clone(),
        });
        self.spawn(at, true, async move {
            Came::Answered(operator.answer(&question).await)
        });
    }

    fn await_timer(&self, at: &StepAt, deadline: &str, round: &mut Round) {
        let simulated = self.engine.ports.clock.waits_are_simulated();
        if simulated || until(deadline, self.now()).is_none_or(|d| d.is_zero()) {
            self.deadline_passed(at, "wait", deadline, simulated, round);
        }
    }

    fn deadline_passed(
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

    /// True when there has been nothing but waiting for people for longer than this process has patience.
    fn has_waited_enough(&mut self, todos: &[Todo]) -> bool {
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

    /// Until a task comes back, a deadline goes by, somebody may have written to the ledger, or the operator interrupts.
    async fn wait(&mut self, todos: &[Todo]) -> Result<(), EngineError> {
        let mut pause = LOOK_AGAIN;
        let now = self.now();
        for todo in todos {
            let deadline = match todo {
                Todo::AwaitGate { asked, .. } => asked.expires.as_deref(),
                Todo::AwaitAnswer { deadline, .. } => deadline.as_deref(),
                Todo::AwaitDeadline { deadline, .. } => Some(deadline.as_str()),
                _ => None,
            };
            if let Some(left) = deadline.and_then(|d| until(d, now)) {
                pause = pause.min(left.max(Duration::from_millis(1)));
            }
        }
        let mut cancel = self.engine.cancel.clone();
        let cancelled = self.is_cancelled();
        tokio::select! {
            biased;
            Some(joined) = self.tasks.join_next_with_id() => self.absorb(joined),
            Ok(()) = cancel.changed(), if !cancelled => Ok(()),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    /// Writes what came back; all that is there at the same moment becomes one batch.
    fn absorb(
        &mut self,
        first: Result<(Id, (StepAt, Came)), tokio::task::JoinError>,
    ) -> Result<(), EngineError> {
        let mut round = Round::default();
        let mut next = Some(first);
        while let Some(joined) = next {
            match joined {
                Ok((id, (at, came))) => {
                    self.by_task.remove(&id);
                    self.busy.remove(&at);
                    self.come(&at, came, &mut round)?;
                }
                Err(e) => self.lost(&e, &mut round),
            }
            next = self.tasks.try_join_next_with_id();
        }
        if round.drafts.is_empty() {
            return Ok(());
        }
        self.commit(round)
    }

    /// A task that panicked: its step was begun and nobody knows.
    fn lost(&mut self, error: &tokio::task::JoinError, round: &mut Round) {
        let Some(at) = self.by_task.remove(&error.id()) else {
            return;
        };
        if error.is_cancelled() {
            return;
        }
        self.busy.remove(&at);
        self.doubt(&at, "our own process failed in it", false, round);
    }

    fn come(&mut self, at: &StepAt, came: Came, round: &mut Round) -> Result<(), EngineError> {
        match came {
            Came::Prepared(_, Some(end)) | Came::PreparedGate(_, _, Some(end)) => {
                round.finish(&self.definition, at, &end);
            }
            Came::Prepared(start, None) => {
                let journal = self.journal()?;
                let still = matches!(machine::next(&self.definition, &journal)?, Next::Do(todos)
                    if todos.iter().any(|t| matches!(t, Todo::Start(s) if s.at == start.at && s.r#try == start.r#try)));
                if let (true, false, Some(step)) = (still, self.is_cancelled(), self.step(at)) {
                    self.begin(&start, &step, &journal, round);
                }
            }
            Came::PreparedGate(call, need, None) => {
                if let (false, Some(step)) = (self.is_cancelled(), self.step(at)) {
                    self.ask(at, &call, need, &step, round);
                }
            }
            Came::Acted(acted) => {
                let acted = acted.map_err(|e: LedgerError| EngineError::Ledger(e))?;
                acted.beside.into_iter().for_each(|d| round.write(d));
                match acted.end {
                    End::Finished(body) => round.finish(&self.definition, at, &body),
                    End::InDoubt(known) => self.doubt(at, &known, false, round),
                }
            }
            Came::Looked(seen, ask) => self.looked(at, seen, ask, round),
            Came::Replied(question, reply) => self.replied(at, &question, reply, round),
            Came::Signed(texts) => self.signed(&texts)?,
            Came::Answered(Some(answer)) => {
                let refs = step_refs(&self.definition.run, &at.path, at.attempt);
                round.write(
                    Draft::new(kind::ANSWER, &answer)
                        .about(refs)
                        .by(&self.engine.executor),
                );
            }
            Came::Answered(None) => {}
        }
        Ok(())
    }

    fn doubt(&self, at: &StepAt, known: &str, observed: bool, round: &mut Round) {
        let body = StepInDoubt {
            known: short(known),
            observed,
            hint: format!("firebreak resume {}", self.definition.incident),
        };
        let refs = step_refs(&self.definition.run, &at.path, at.attempt);
        round.write(Draft::new(kind::STEP_IN_DOUBT, &body).about(refs));
        round.events.push(RunEvent::InDoubt {
            step: at.path.to_string(),
            known: body.known,
        });
    }

    fn looked(&self, at: &StepAt, seen: Seen, ask: bool, round: &mut Round) {
        let refs = step_refs(&self.definition.run, &at.path, at.attempt);
        let mut resolve = |verdict: &str, reason: &str| {
            let body = StepResolved {
                verdict: verdict.into(),
                by: "probe".into(),
                reason: reason.into(),
            };
            round.write(Draft::new(kind::STEP_RESOLVED, &body).about(refs.clone()));
        };
        match (seen, ask) {
            (Seen::Ran(body), false) => {
                resolve("ran", &body.summary);
                round.finish(
                    &self.definition,
                    at,
                    &StepFinished {
                        by: "probe".into(),
                        ..body
                    },
                );
            }
            (Seen::DidNot, false) => resolve("did-not-run", "nothing of it is there"),
            (Seen::Ran(body), true) => self.doubt(
                at,
                &format!("it seems to have happened: {}", body.summary),
                true,
                round,
            ),
            (Seen::DidNot, true) => self.doubt(
                at,
                "it seems not to have happened: nothing of it is there",
                true,
                round,
            ),
            (Seen::Unknown(why), _) => self.doubt(at, &why, true, round),
        }
    }

    fn replied(&mut self, at: &StepAt, question: &Question, reply: Reply, round: &mut Round) {
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
            // Asked again: without a reason it opens nothing.
            self.asked
                .remove(&(at.clone(), question.call_sha256.clone()));
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
    fn signed(&self, texts: &[SignedText]) -> Result<(), EngineError> {
        for signed in texts {
            let taken = self
                .engine
                .approve(&self.definition.run, &signed.text, &signed.signature);
            let (who, how) = match taken {
                Ok(accepted) => (accepted.text.principal, "signed".to_owned()),
                Err(EngineError::Refused(refusal)) => {
                    ("unknown".to_owned(), refusal.code().to_owned())
                }
                Err(other) => return Err(other),
            };
            self.engine.operator.event(&RunEvent::Decided {
                steps: Vec::new(),
                who,
                how,
            });
        }
        Ok(())
    }

    /// Waits for people without this process: recorded, signed, left.
    fn leave(
        &mut self,
        journal: &Journal,
        todos: &[Todo],
        interrupted: bool,
    ) -> Result<RunEnd, EngineError> {
        let hold = Hold {
            why: if interrupted {
                "it was interrupted by the operator".into()
            } else {
                "it waits for people".into()
            },
            steps: todos.iter().map(|t| t.path().to_string()).collect(),
            hint: format!("firebreak resume {}", self.definition.incident),
            code: None,
        };
        self.close(journal, Next::End(Ending::Parked(hold)), interrupted)
    }

    /// Writes the ending, signs the ledger's head, says how it stands.
    fn close(
        &mut self,
        journal: &Journal,
        next: Next,
        interrupted: bool,
    ) -> Result<RunEnd, EngineError> {
        let refs = Refs {
            run: Some(self.definition.run.to_string()),
            ..Refs::default()
        };
        let draft = match &next {
            Next::End(Ending::Completed) => Some(ended("completed", None)),
            Next::End(Ending::Stopped { why }) => Some(ended("stopped", Some(why.clone()))),
            Next::End(Ending::Parked(hold) | Ending::InDoubt(hold)) => {
                let body = RunParked {
                    why: short(&hold.why),
                    steps: hold.steps.clone(),
                    hint: hold.hint.clone(),
                };
                self.engine.operator.event(&RunEvent::Parked {
                    why: hold.why.clone(),
                    hint: hold.hint.clone(),
                });
                journal
                    .parked
                    .is_none()
                    .then(|| Draft::new(kind::RUN_PARKED, &body))
            }
            Next::Do(_) => None,
        };
        if let Some(draft) = draft.filter(|_| journal.ended.is_none()) {
            self.engine.ledger.append(vec![draft.about(refs)])?;
        }
        self.engine.ledger.checkpoint()?;
        let journal = self.journal()?;
        Ok(end_of(&self.definition, &journal, next, interrupted))
    }
}

fn ended(how: &str, why: Option<String>) -> Draft {
    Draft::new(
        kind::RUN_ENDED,
        &RunEnded {
            how: how.into(),
            why,
        },
    )
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

/// Time left until an RFC 3339 moment; zero when it is over, none for a text that is no time.
fn until(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let then = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    Some((then - now).to_std().unwrap_or(Duration::ZERO))
}
