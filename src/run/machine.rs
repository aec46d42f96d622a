//! What is next: a total, pure function of the pinned definition and the journal.
//!
//! *Guarantees*: no clock, no world; the same journal gives the same answer after a reload and in any arrival order of parallel
//! results. Time enters as `deadline.passed`, which the driver writes. A step that may have happened is never started again before
//! somebody or a probe has decided (rule 4 of the engine).
//!
//! The walk goes through the playbook in path order. A sequence stops at its first step that is not complete; the branches of a
//! `parallel` are walked all, so that a held branch does not hold its siblings.

use std::time::Duration;

use crate::incident::body::{GateRequested, StepFinished};
use crate::incident::{Effect, Mode, Outcome, StepPath};
use crate::plan::call::FilledCall;
use crate::plan::policy::{GateState, Need, judge};
use crate::plan::values;
use crate::playbook::condition::Answer;
use crate::playbook::model::{DrillMode, Kind, OnFailure, Resume, RetryOn, Step};
use crate::playbook::variable::{FillError, Vars};

use super::definition::{PinnedDefinition, is_observable};
use super::journal::{At, Attempt, Impossible, Journal, Undo};

/// Branches and steps that run at the same time, at most. Eight streams of evidence fill a laptop's disk and uplink.
pub const SIDE_BY_SIDE: usize = 8;

/// How often a step whose reply was lost and of which nothing is there is sent again before a person is asked.
const LOST_REPLIES: u32 = 3;

/// What is next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// These, in path order.
    Do(Vec<Todo>),
    /// Nothing more.
    End(Ending),
}

/// One thing to do or to wait for.
#[derive(Debug, Clone, PartialEq)]
pub enum Todo {
    /// Probe `require` and `done_if`, write the intent, act.
    Start(Start),
    /// It may have happened: look, then decide.
    Observe {
        /// Which.
        at: StepAt,
        /// The call that may have happened.
        call: FilledCall,
        /// Show the answer to a person and decide nothing (`resume: ask`).
        ask: bool,
    },
    /// Write the outcome of something that needs no act of ours any more.
    Finish {
        /// Which.
        at: StepAt,
        /// What it rests on.
        basis: Basis,
    },
    /// Probe `require` and `done_if`, then ask people.
    AskGate {
        /// Which.
        at: StepAt,
        /// The call they decide about.
        call: FilledCall,
        /// What is needed.
        need: Need,
    },
    /// People have been asked.
    AwaitGate {
        /// Which.
        at: StepAt,
        /// The call they decide about.
        call: FilledCall,
        /// What is needed.
        need: Need,
        /// What was asked.
        asked: GateRequested,
    },
    /// A person has been asked for an answer.
    AwaitAnswer {
        /// Which.
        at: StepAt,
        /// Until when.
        deadline: Option<String>,
    },
    /// A timer runs.
    AwaitDeadline {
        /// Which.
        at: StepAt,
        /// Until when.
        deadline: String,
    },
    /// Our own process works on it.
    AwaitResult {
        /// Which.
        at: StepAt,
    },
    /// A condition was evaluated: write down which way it went.
    Decide {
        /// The `if`.
        at: StepAt,
        /// Its answer.
        taken: bool,
    },
    /// A step that is not carried out.
    Skip {
        /// Which.
        at: StepAt,
        /// Why, for people.
        why: &'static str,
    },
    /// People refused: write the outcome.
    Refuse {
        /// Which.
        at: StepAt,
        /// Who and why.
        why: String,
    },
    /// A milestone is reached.
    Milestone {
        /// The step that reached it.
        path: StepPath,
    },
}

/// A step and its attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepAt {
    /// Path.
    pub path: StepPath,
    /// Attempt, from 1.
    pub attempt: u32,
}

/// A step that may start.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Which.
    pub at: StepAt,
    /// Automatic try, from 1.
    pub r#try: u32,
    /// What it does.
    pub call: FilledCall,
    /// `seq` of the decision that allows it.
    pub approval: Option<u64>,
    /// Deadline of the first try, where this is a later one.
    pub deadline: Option<String>,
    /// Time over all tries.
    pub timeout: Option<Duration>,
    /// Pause before a further try.
    pub pause: Duration,
    /// Recorded, not done (drills).
    pub simulate: bool,
}

/// What an outcome rests on that needs no act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// A person answered.
    Answer,
    /// A person said of a doubtful step that it ran.
    PersonsWord,
    /// The gate is open, and the step is nothing but the gate; `seq` of the decision.
    Gate(Option<u64>),
    /// The timer ran out.
    Timer,
    /// Nobody answered in time.
    NoAnswer,
}

/// How a run stands when there is nothing more to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Every step is complete.
    Completed,
    /// It waits for a person.
    Parked(Hold),
    /// It ended early.
    Stopped {
        /// Why.
        why: String,
    },
    /// Steps may have happened and nobody knows.
    InDoubt(Hold),
}

/// Why a run waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Why, one line.
    pub why: String,
    /// The steps that wait.
    pub steps: Vec<String>,
    /// Command that helps, typable.
    pub hint: String,
    /// Code of the first reason, where there is one.
    pub code: Option<String>,
}

/// Answers what is next.
///
/// # Errors
/// When the journal cannot be one of this definition.
pub fn next(definition: &PinnedDefinition, journal: &Journal) -> Result<Next, Impossible> {
    check_paths(definition, journal)?;
    if let Some(ended) = &journal.ended {
        return Ok(Next::End(if ended.how == "completed" {
            Ending::Completed
        } else {
            let why = ended.why.clone().unwrap_or_default();
            Ending::Stopped { why }
        }));
    }
    let mut walk = Walk::new(definition, journal);
    walk.block(&definition.playbook.steps)?;
    Ok(walk.answer())
}

/// Values of all variables: given ones, then outputs of done steps in path order (not in order of arrival).
pub fn variables(definition: &PinnedDefinition, journal: &Journal) -> Vars {
    let mut values = definition.vars.clone();
    for step in definition.playbook.all_steps() {
        let (_, attempt) = journal.attempt(step.path.as_str());
        if let At::Finished { body, .. } = attempt.at
            && body.outcome == Outcome::Done
        {
            values.restore(body.outputs);
        }
    }
    values
}

fn check_paths(definition: &PinnedDefinition, journal: &Journal) -> Result<(), Impossible> {
    let known: Vec<&str> = definition
        .playbook
        .all_steps()
        .iter()
        .map(|s| s.path.as_str())
        .collect();
    match journal.steps.keys().find(|p| !known.contains(&p.as_str())) {
        None => Ok(()),
        Some(path) => Err(Impossible {
            seq: journal.epoch_seq,
            what: format!("the run has entries of `{path}`, and its definition has no such step"),
        }),
    }
}

/// Where a step stands for what comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The next one may come.
    Complete,
    /// Something is to be done or awaited first.
    Open,
    /// A person is needed first.
    Held,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    path: String,
    why: String,
    hint: String,
    code: Option<String>,
    doubt: bool,
}

struct Walk<'a> {
    definition: &'a PinnedDefinition,
    journal: &'a Journal,
    values: Vars,
    todos: Vec<Todo>,
    held: Vec<Held>,
    stop: Option<String>,
}

impl<'a> Walk<'a> {
    fn new(definition: &'a PinnedDefinition, journal: &'a Journal) -> Self {
        Walk {
            definition,
            journal,
            values: variables(definition, journal),
            todos: Vec::new(),
            held: Vec::new(),
            stop: None,
        }
    }

    /// The answer of a finished walk.
    fn answer(mut self) -> Next {
        let closing = self.stop.is_some() || self.journal.parked.is_some();
        if closing {
            self.todos.retain(Todo::may_close);
        }
        self.limit();
        if !self.todos.is_empty() {
            return Next::Do(self.todos);
        }
        if let Some(why) = self.stop {
            return Next::End(Ending::Stopped { why });
        }
        Next::End(self.ending())
    }

    /// Keeps as many starts as may run side by side.
    fn limit(&mut self) {
        let running = self
            .todos
            .iter()
            .filter(|t| matches!(t, Todo::AwaitResult { .. }))
            .count();
        let mut free = SIDE_BY_SIDE.saturating_sub(running);
        self.todos.retain(|t| {
            if !matches!(t, Todo::Start(_)) {
                return true;
            }
            let keep = free > 0;
            free = free.saturating_sub(1);
            keep
        });
    }

    fn ending(self) -> Ending {
        let incident = &self.definition.incident;
        if self.held.is_empty() {
            return match &self.journal.parked {
                None => Ending::Completed,
                Some(park) => Ending::Parked(Hold {
                    why: park.why.clone(),
                    steps: park.steps.clone(),
                    hint: format!("firebreak resume {incident}"),
                    code: None,
                }),
            };
        }
        let doubt = self.held.iter().any(|h| h.doubt);
        let first = self.held.iter().find(|h| h.doubt).unwrap_or(&self.held[0]);
        let hold = Hold {
            why: first.why.clone(),
            steps: self.held.iter().map(|h| h.path.clone()).collect(),
            hint: first.hint.clone(),
            code: first.code.clone(),
        };
        if doubt {
            Ending::InDoubt(hold)
        } else {
            Ending::Parked(hold)
        }
    }

    fn block(&mut self, steps: &'a [Step]) -> Result<Progress, Impossible> {
        for step in steps {
            let progress = self.step(step)?;
            if progress != Progress::Complete {
                return Ok(progress);
            }
        }
        Ok(Progress::Complete)
    }

    fn step(&mut self, step: &'a Step) -> Result<Progress, Impossible> {
        if self.definition.mode == Mode::Drill && step.drill_or_default() == DrillMode::Skip {
            return Ok(self.skip_all(step, "left out in drills"));
        }
        let inside = match &step.kind {
            Kind::Steps { steps } => self.block(steps)?,
            Kind::Parallel { steps } => self.side_by_side(steps)?,
            Kind::If {
                condition,
                then,
                otherwise,
            } => self.branch(step, condition, then, otherwise)?,
            _ => return self.leaf(step),
        };
        if inside == Progress::Complete {
            return Ok(self.stamp(step));
        }
        Ok(inside)
    }

    fn side_by_side(&mut self, steps: &'a [Step]) -> Result<Progress, Impossible> {
        let mut all = Progress::Complete;
        for step in steps {
            all = match (all, self.step(step)?) {
                (Progress::Held, _) | (_, Progress::Held) => Progress::Held,
                (Progress::Open, _) | (_, Progress::Open) => Progress::Open,
                (Progress::Complete, Progress::Complete) => Progress::Complete,
            };
        }
        Ok(all)
    }

    fn branch(
        &mut self,
        step: &'a Step,
        condition: &str,
        then: &'a [Step],
        otherwise: &'a [Step],
    ) -> Result<Progress, Impossible> {
        let (number, attempt) = self.journal.attempt(step.path.as_str());
        let taken = match &attempt.at {
            At::Finished { seq, body } => body.branch.ok_or_else(|| Impossible {
                seq: *seq,
                what: format!("the condition `{}` has an outcome and no answer", step.path),
            })?,
            _ => return Ok(self.decide(step, number, condition)),
        };
        let (taken, left) = if taken {
            (then, otherwise)
        } else {
            (otherwise, then)
        };
        let mut skipped = Progress::Complete;
        for step in left {
            if self.skip_all(step, "the branch was not taken") == Progress::Open {
                skipped = Progress::Open;
            }
        }
        if skipped == Progress::Open {
            return Ok(Progress::Open);
        }
        self.block(taken)
    }

    fn decide(&mut self, step: &Step, attempt: u32, condition: &str) -> Progress {
        match values::holds(condition, self.values.values()) {
            Answer::True => self.todo(Todo::Decide {
                at: at(step, attempt),
                taken: true,
            }),
            Answer::False => self.todo(Todo::Decide {
                at: at(step, attempt),
                taken: false,
            }),
            Answer::Unknown(missing) => self.hold(
                step,
                format!("the condition `{condition}` cannot be decided: {missing} is not set"),
                Some("FB0605"),
            ),
            Answer::Error(why) => self.hold(
                step,
                format!("the condition `{condition}` cannot be evaluated: {why}"),
                Some("FB0207"),
            ),
        }
    }

    /// Steps that are not carried out get an outcome each, so that no reader has to guess.
    fn skip_all(&mut self, step: &'a Step, why: &'static str) -> Progress {
        let mut progress = Progress::Complete;
        for inner in step.children() {
            if self.skip_all(inner, why) == Progress::Open {
                progress = Progress::Open;
            }
        }
        let (number, attempt) = self.journal.attempt(step.path.as_str());
        if !step.kind.is_block() && matches!(attempt.at, At::Fresh) {
            return self.todo(Todo::Skip {
                at: at(step, number),
                why,
            });
        }
        progress
    }

    fn leaf(&mut self, step: &'a Step) -> Result<Progress, Impossible> {
        let path = step.path.as_str();
        if let Some(undo) = self.journal.step(path).and_then(|r| r.undo.as_ref()) {
            return Ok(self.undone(step, undo));
        }
        let (number, attempt) = self.journal.attempt(path);
        Ok(match &attempt.at {
            At::Fresh => self.fresh(step, number, &attempt),
            At::Started { body, .. } if body.epoch < self.journal.epoch => {
                self.cut_off(step, number, &attempt)
            }
            At::Started { .. } => self.in_flight(step, number, &attempt),
            At::Finished { body, .. } if body.outcome == Outcome::Done => {
                if body.by == "skipped" {
                    Progress::Complete
                } else {
                    self.stamp(step)
                }
            }
            At::Finished { body, .. } => self.failed(step, number, &attempt, body),
            At::InDoubt { seq, body } => {
                let looked = body.observed && *seq > self.journal.epoch_seq;
                if looked {
                    self.doubt(step, &body.known)
                } else {
                    self.look(step, number)
                }
            }
            At::Resolved { body, .. } => match (body.by.as_str(), body.verdict.as_str()) {
                ("person", "ran") => self.todo(Todo::Finish {
                    at: at(step, number),
                    basis: Basis::PersonsWord,
                }),
                (_, "ran") => self.look(step, number),
                _ if attempt.lost > LOST_REPLIES => self.doubt(
                    step,
                    "it was sent several times, each reply was lost, and nothing of it is there",
                ),
                _ => self.ready(step, number, &attempt),
            },
        })
    }

    fn undone(&mut self, step: &Step, undo: &Undo) -> Progress {
        let incident = &self.definition.incident;
        let (why, code) = match &undo.finished {
            None => ("its undo began and has not ended", None),
            Some(f) if f.outcome == Outcome::Undone => ("it was undone on request", None),
            Some(_) => ("its undo is stuck", Some("FB0607")),
        };
        let hint = if undo
            .finished
            .as_ref()
            .is_some_and(|f| f.outcome == Outcome::Undone)
        {
            format!("firebreak incident resolve {incident} {} retry", step.path)
        } else {
            format!("firebreak playbook undo {incident} {}", step.path)
        };
        self.held.push(Held {
            path: step.path.to_string(),
            why: format!("step `{}`: {why}", step.path),
            hint,
            code: code.map(str::to_owned),
            doubt: false,
        });
        Progress::Held
    }

    /// Not begun: an answer may be there already, a gate may have to be asked, or it may start.
    fn fresh(&mut self, step: &'a Step, number: u32, attempt: &Attempt) -> Progress {
        if attempt.answer.is_some() && matches!(step.kind, Kind::Manual { .. }) {
            return self.todo(Todo::Finish {
                at: at(step, number),
                basis: Basis::Answer,
            });
        }
        self.ready(step, number, attempt)
    }

    /// Everything before it is complete: fill it in, hold it against its gate, start it.
    fn ready(&mut self, step: &'a Step, number: u32, attempt: &Attempt) -> Progress {
        let call = match values::fill_step(step, &self.values) {
            Ok(call) => call,
            Err(e) => {
                let why = format!("step `{}` cannot be filled in: {e}", step.path);
                return self.hold(step, why, Some(fill_code(&e)));
            }
        };
        let need = self.definition.need(step);
        let decisions = attempt.gate.decisions.iter().map(|d| (d.seq, &d.body));
        let digest = call.digest();
        match judge(
            need,
            step.path.as_str(),
            &digest,
            &self.definition.executor,
            decisions,
        ) {
            GateState::Open(approval) if step.kind == Kind::Approve => self.todo(Todo::Finish {
                at: at(step, number),
                basis: Basis::Gate(approval),
            }),
            GateState::Open(approval) => self.start(step, number, attempt, call, approval),
            GateState::Refused { by, reason } => self.todo(Todo::Refuse {
                at: at(step, number),
                why: format!("{by} refused: {reason}"),
            }),
            GateState::SecondPerson => self.hold(
                step,
                format!(
                    "step `{}` is {} and waits for a second person: policy `solo` refuses it",
                    step.path,
                    step.effect()
                ),
                Some("FB0403"),
            ),
            GateState::Waiting { have, need: wanted } => {
                self.gate(step, number, attempt, call, need, (have, wanted))
            }
        }
    }

    fn gate(
        &mut self,
        step: &Step,
        number: u32,
        attempt: &Attempt,
        call: FilledCall,
        need: Need,
        (have, wanted): (u32, u32),
    ) -> Progress {
        let asked = attempt
            .gate
            .requested
            .as_ref()
            .filter(|(_, asked)| asked.call_sha256 == call.digest());
        let at = at(step, number);
        if let Some((_, asked)) = asked {
            let asked = asked.clone();
            return self.todo(Todo::AwaitGate {
                at,
                call,
                need,
                asked,
            });
        }
        match &attempt.gate.expired {
            Some((seq, expired)) if *seq > self.journal.epoch_seq => match expired.then.as_str() {
                "refuse" => self.todo(Todo::Refuse {
                    at,
                    why: "nobody decided in time, and the playbook takes that as a refusal".into(),
                }),
                "ask" => self.todo(Todo::AskGate { at, call, need }),
                _ => self.hold(
                    step,
                    format!(
                        "step `{}` waits for approval: {have} of {wanted}, and its time ran out",
                        step.path
                    ),
                    Some("FB0506"),
                ),
            },
            _ => self.todo(Todo::AskGate { at, call, need }),
        }
    }

    fn start(
        &mut self,
        step: &Step,
        number: u32,
        attempt: &Attempt,
        call: FilledCall,
        approval: Option<u64>,
    ) -> Progress {
        let simulate =
            self.definition.mode == Mode::Drill && step.drill_or_default() == DrillMode::Simulate;
        let timeout = match &step.kind {
            Kind::Wait { time } => match values::span(time, &self.values) {
                Ok(time) => Some(time),
                Err(why) => return self.hold(step, why, Some("FB0605")),
            },
            _ => self.definition.timeout(step),
        };
        self.todo(Todo::Start(Start {
            at: at(step, number),
            r#try: attempt.tries + 1,
            call,
            approval,
            deadline: attempt.deadline.clone(),
            timeout,
            pause: Duration::ZERO,
            simulate,
        }))
    }

    /// The intent is durable and our own process holds it.
    fn in_flight(&mut self, step: &Step, number: u32, attempt: &Attempt) -> Progress {
        let at = at(step, number);
        let deadline = attempt.deadline.clone();
        self.todo(match (&step.kind, deadline) {
            (Kind::Manual { .. }, _) if attempt.answer.is_some() => Todo::Finish {
                at,
                basis: Basis::Answer,
            },
            (Kind::Manual { .. }, _) if attempt.deadline_passed => Todo::Finish {
                at,
                basis: Basis::NoAnswer,
            },
            (Kind::Manual { .. }, deadline) => Todo::AwaitAnswer { at, deadline },
            (Kind::Wait { .. }, _) if attempt.deadline_passed => Todo::Finish {
                at,
                basis: Basis::Timer,
            },
            (Kind::Wait { .. }, Some(deadline)) => Todo::AwaitDeadline { at, deadline },
            _ => Todo::AwaitResult { at },
        })
    }

    /// Rule 4: started and not finished, and the process that started it is gone.
    fn cut_off(&mut self, step: &'a Step, number: u32, attempt: &Attempt) -> Progress {
        match &step.kind {
            Kind::Manual { .. } | Kind::Wait { .. } => self.in_flight(step, number, attempt),
            Kind::Notify(n) if n.external => self.look(step, number),
            _ if step.effect() == Effect::Read => self.ready(step, number, attempt),
            _ => self.look(step, number),
        }
    }

    /// Looks whether it happened; what nothing can look at is a person's to say.
    fn look(&mut self, step: &'a Step, number: u32) -> Progress {
        match values::fill_step(step, &self.values) {
            Ok(call) => {
                let ask = self.definition.resume(step) == Resume::Ask || !is_observable(step);
                self.todo(Todo::Observe {
                    at: at(step, number),
                    call,
                    ask,
                })
            }
            Err(e) => self.doubt(step, &format!("nothing can look at it: {e}")),
        }
    }

    fn failed(
        &mut self,
        step: &'a Step,
        number: u32,
        attempt: &Attempt,
        body: &StepFinished,
    ) -> Progress {
        let retry = self.definition.retry(step);
        let class = body.class.as_deref().unwrap_or("failed");
        if attempt.failures <= retry.max && retry.on.iter().any(|on| fits(*on, class)) {
            let progress = self.ready(step, number, attempt);
            if let Some(Todo::Start(start)) = self.todos.last_mut()
                && start.at.path == step.path
            {
                let doubled =
                    retry.backoff * 2u32.saturating_pow(attempt.failures.saturating_sub(1));
                start.pause = doubled.min(Duration::from_secs(60));
            }
            return progress;
        }
        let incident = &self.definition.incident;
        let path = &step.path;
        let why = format!("step `{path}` failed: {}", body.summary);
        match self.definition.on_failure(step) {
            OnFailure::Continue => Progress::Complete,
            OnFailure::Stop => {
                self.stop.get_or_insert(why);
                Progress::Held
            }
            OnFailure::Park => {
                let hint = format!("firebreak resume {incident}");
                self.hold_with(step, why, hint, body.code.clone())
            }
            OnFailure::OfferUndo => {
                let hint = format!("firebreak playbook undo {incident} {path}");
                self.hold_with(step, why, hint, body.code.clone())
            }
        }
    }

    /// Complete; its milestone first, where it has one that is not stamped.
    fn stamp(&mut self, step: &Step) -> Progress {
        let Some(milestone) = step.milestone else {
            return Progress::Complete;
        };
        let stamped = self
            .journal
            .step(step.path.as_str())
            .is_some_and(|r| r.milestones.iter().any(|m| m == milestone.name.as_str()));
        if stamped {
            return Progress::Complete;
        }
        let path = step.path.clone();
        self.todo(Todo::Milestone { path })
    }

    fn doubt(&mut self, step: &Step, known: &str) -> Progress {
        let incident = &self.definition.incident;
        self.held.push(Held {
            path: step.path.to_string(),
            why: format!("step `{}` is in doubt: {known}", step.path),
            hint: format!(
                "firebreak incident resolve {incident} {} ran|did-not-run|retry",
                step.path
            ),
            code: Some("FB0602".into()),
            doubt: true,
        });
        Progress::Held
    }

    fn hold(&mut self, step: &Step, why: String, code: Option<&str>) -> Progress {
        let hint = format!("firebreak resume {}", self.definition.incident);
        self.hold_with(step, why, hint, code.map(str::to_owned))
    }

    fn hold_with(
        &mut self,
        step: &Step,
        why: String,
        hint: String,
        code: Option<String>,
    ) -> Progress {
        self.held.push(Held {
            path: step.path.to_string(),
            why,
            hint,
            code,
            doubt: false,
        });
        Progress::Held
    }

    fn todo(&mut self, todo: Todo) -> Progress {
        self.todos.push(todo);
        Progress::Open
    }
}

impl Todo {
    /// What is still done when nothing new may start: results are awaited, doubts are looked at, outcomes are written.
    fn may_close(&self) -> bool {
        matches!(
            self,
            Todo::AwaitResult { .. } | Todo::Observe { .. } | Todo::Milestone { .. }
        )
    }
    /// The step it is about.
    pub fn path(&self) -> &StepPath {
        match self {
            Todo::Start(start) => &start.at.path,
            Todo::Milestone { path } => path,
            Todo::Observe { at, .. }
            | Todo::Finish { at, .. }
            | Todo::AskGate { at, .. }
            | Todo::AwaitGate { at, .. }
            | Todo::AwaitAnswer { at, .. }
            | Todo::AwaitDeadline { at, .. }
            | Todo::AwaitResult { at }
            | Todo::Decide { at, .. }
            | Todo::Skip { at, .. }
            | Todo::Refuse { at, .. } => &at.path,
        }
    }
    /// True when it needs nothing but patience.
    pub fn is_wait(&self) -> bool {
        matches!(
            self,
            Todo::AwaitGate { .. }
                | Todo::AwaitAnswer { .. }
                | Todo::AwaitDeadline { .. }
                | Todo::AwaitResult { .. }
        )
    }
}

fn at(step: &Step, attempt: u32) -> StepAt {
    StepAt {
        path: step.path.clone(),
        attempt,
    }
}

fn fill_code(error: &FillError) -> &'static str {
    match error {
        FillError::Unset(_) => "FB0605",
        FillError::Secret(_) => "FB0322",
        FillError::Malformed(_) => "FB0307",
    }
}

fn fits(on: RetryOn, class: &str) -> bool {
    class
        == match on {
            RetryOn::Transient => "transient",
            RetryOn::Throttled => "throttled",
            RetryOn::Conflict => "conflict",
            RetryOn::Timeout => "timeout",
        }
}
