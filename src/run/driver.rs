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
    Answer, MilestoneReached, RunEnded, RunParked, StepFinished, StepInDoubt, StepResolved,
};
use crate::incident::{Draft, Refs, kind};
use crate::plan::call::FilledCall;
use crate::plan::policy::Need;
use crate::playbook::model::Step;
use crate::port::{LedgerError, Question, Reply, RunEvent, SignedText};

use super::act::{ActResult, Job, Seen};
use super::definition::PinnedDefinition;
use super::engine::{Engine, RunEnd, end_of};
use super::error::EngineError;
use super::gates::step_refs;
use super::journal::Journal;
use super::machine::{self, Ending, Next, Start, StepAt, Todo};
use super::outcome::{End, done, failed, short};
use super::waiting;

/// How often the ledger is read again for what people wrote meanwhile, while it waits for them.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// The same while a step runs: a person may park the run.
const LOOK_AGAIN_LATER: Duration = Duration::from_secs(1);

/// What a task of the driver came back with.
pub(super) enum Came {
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
pub(super) struct Busy {
    pub(super) handle: AbortHandle,
    /// True when it may be dropped at any time: it changes nothing.
    pub(super) idle: bool,
}

/// What one round writes: entries, then what is told and begun once they are durable.
#[derive(Default)]
pub(super) struct Round {
    pub(super) drafts: Vec<Draft>,
    pub(super) events: Vec<RunEvent>,
    pub(super) begin: Vec<(Job, FilledCall)>,
    pub(super) checkpoint: bool,
}

impl Round {
    pub(super) fn write(&mut self, draft: Draft) {
        self.drafts.push(draft);
    }
    pub(super) fn finish(
        &mut self,
        definition: &PinnedDefinition,
        at: &StepAt,
        body: &StepFinished,
    ) {
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
    pub(super) engine: Arc<Engine>,
    pub(super) definition: Arc<PinnedDefinition>,
    pub(super) tasks: JoinSet<(StepAt, Came)>,
    pub(super) busy: BTreeMap<StepAt, Busy>,
    pub(super) by_task: HashMap<Id, StepAt>,
    /// Questions that this process has put, with the digest of what they were about.
    pub(super) asked: BTreeSet<(StepAt, String)>,
    /// Since when there is nothing but waiting for people.
    pub(super) idle_since: Option<Duration>,
    pub(super) plan_sha256: String,
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

    pub(super) fn journal(&mut self) -> Result<Journal, EngineError> {
        let journal = Journal::of(&self.engine.ledger.history()?, &self.definition.run)?;
        if let Some(created) = &journal.created {
            self.plan_sha256.clone_from(&created.plan_sha256);
        }
        Ok(journal)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        *self.engine.cancel.borrow()
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.engine.ports.clock.now()
    }

    /// Makes a round durable, then tells and begins what rests on it. When the write fails, nothing of it has begun.
    pub(super) fn commit(&mut self, round: Round) -> Result<(), EngineError> {
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

    pub(super) fn spawn(
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
    pub(super) fn drop_idle(&mut self) {
        self.busy.retain(|_, b| {
            if b.idle {
                b.handle.abort();
            }
            !b.idle
        });
    }

    pub(super) fn job(&self, journal: &Journal, at: &StepAt, limit: Duration) -> Job {
        Job {
            engine: Arc::clone(&self.engine),
            definition: Arc::clone(&self.definition),
            vars: machine::variables(&self.definition, journal),
            at: at.clone(),
            limit,
        }
    }

    pub(super) fn step(&self, at: &StepAt) -> Option<Step> {
        self.definition.playbook.find(&at.path).cloned()
    }

    /// One thing that the machine wants done.
    pub(super) fn take(&mut self, todo: &Todo, journal: &Journal, round: &mut Round) {
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
            // Nothing of ours works on it any more: nobody will ever answer.
            Todo::AwaitResult { .. } => self.doubt(at, "our own process lost it", false, round),
            Todo::Milestone { .. } => {}
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

    pub(super) fn stamp(&self, path: &crate::incident::StepPath, round: &mut Round) {
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

    /// Until a task comes back, a deadline goes by, somebody may have written to the ledger, or the operator interrupts.
    pub(super) async fn wait(&mut self, todos: &[Todo]) -> Result<(), EngineError> {
        let people = todos
            .iter()
            .any(|t| matches!(t, Todo::AwaitGate { .. } | Todo::AwaitAnswer { .. }));
        let mut pause = if people { LOOK_AGAIN } else { LOOK_AGAIN_LATER };
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
    pub(super) fn absorb(
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
    pub(super) fn lost(&mut self, error: &tokio::task::JoinError, round: &mut Round) {
        let Some(at) = self.by_task.remove(&error.id()) else {
            return;
        };
        if error.is_cancelled() {
            return;
        }
        self.busy.remove(&at);
        self.doubt(&at, "our own process failed in it", false, round);
    }

    pub(super) fn come(
        &mut self,
        at: &StepAt,
        came: Came,
        round: &mut Round,
    ) -> Result<(), EngineError> {
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
            Came::Signed(texts) => self.signed(at, &texts)?,
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

    pub(super) fn doubt(&self, at: &StepAt, known: &str, observed: bool, round: &mut Round) {
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

    pub(super) fn looked(&self, at: &StepAt, seen: Seen, ask: bool, round: &mut Round) {
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

    /// Waits for people without this process: recorded, signed, left.
    pub(super) fn leave(
        &mut self,
        journal: &Journal,
        todos: &[Todo],
        interrupted: bool,
    ) -> Result<RunEnd, EngineError> {
        let waiting = waiting::waiting(&self.definition, journal)?;
        let mut hold = waiting::hold(&self.definition, &waiting);
        if interrupted {
            hold.why = "it was interrupted by the operator".into();
            hold.hint = format!("firebreak resume {}", self.definition.incident);
            let begun = todos.iter().map(|t| t.path().to_string());
            hold.steps
                .extend(begun.filter(|p| !waiting.iter().any(|w| w.step == *p)));
        }
        self.close(journal, Next::End(Ending::Parked(hold)), interrupted)
    }

    /// Writes the ending, signs the ledger's head, says how it stands.
    pub(super) fn close(
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
                // A person may have parked it before a step failed: what is tried again at the next resume is what a park names.
                let named = |p: &RunParked| hold.steps.iter().all(|s| p.steps.contains(s));
                let said = journal.parked.as_ref().is_some_and(named);
                (!said).then(|| Draft::new(kind::RUN_PARKED, &body))
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

/// Time left until an RFC 3339 moment; zero when it is over, none for a text that is no time.
pub(super) fn until(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let then = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    Some((then - now).to_std().unwrap_or(Duration::ZERO))
}
