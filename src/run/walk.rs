//! The machine's walk over one step that holds no others: where it stands, and what it needs next.

use std::time::Duration;

use crate::incident::body::StepFinished;
use crate::incident::{Effect, Milestone, Mode, Outcome};
use crate::plan::call::FilledCall;
use crate::plan::policy::{GateState, Need, judge};
use crate::plan::values;
use crate::playbook::model::{DrillMode, Kind, OnFailure, Resume, RetryOn, Step};
use crate::playbook::variable::FillError;

use super::definition::is_observable;
use super::journal::{At, Attempt, Impossible, Undo};
use super::machine::{Held, Progress, Walk, at};
use super::next::{Basis, Start, Todo};

/// How often a step whose reply was lost and of which nothing is there is sent again before a person is asked.
const LOST_REPLIES: u32 = 3;

impl<'a> Walk<'a> {
    pub(super) fn leaf(&mut self, step: &'a Step) -> Result<Progress, Impossible> {
        let path = step.path.as_str();
        if let Some(undo) = self.journal.step(path).and_then(|r| r.undo.as_ref()) {
            return Ok(self.undone(step, undo));
        }
        let (number, attempt) = self.journal.attempt(path);
        Ok(match &attempt.at {
            At::Fresh => self.fresh(step, number, &attempt),
            At::Started { body, .. } if body.epoch < self.journal.epoch => {
                self.cut_off(step, number, &attempt, body.simulated)
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

    pub(super) fn undone(&mut self, step: &Step, undo: &Undo) -> Progress {
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
            format!(
                "firebreak incident resolve {} --as retry --reason TEXT --incident {incident}",
                step.path
            )
        } else {
            format!(
                "firebreak playbook undo {} --incident {incident}",
                step.path
            )
        };
        self.held.push(Held {
            path: step.path.to_string(),
            why: format!("step `{}`: {why}", step.path),
            hint,
            or: None,
            code: code.map(str::to_owned),
            doubt: false,
        });
        Progress::Held
    }

    /// Not begun: an answer may be there already, a gate may have to be asked, or it may start.
    pub(super) fn fresh(&mut self, step: &'a Step, number: u32, attempt: &Attempt) -> Progress {
        if attempt.answer.is_some() && matches!(step.kind, Kind::Manual { .. }) {
            return self.todo(Todo::Finish {
                at: at(step, number),
                basis: Basis::Answer,
            });
        }
        self.ready(step, number, attempt)
    }

    /// Everything before it is complete: fill it in, hold it against its gate, start it.
    pub(super) fn ready(&mut self, step: &'a Step, number: u32, attempt: &Attempt) -> Progress {
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

    pub(super) fn gate(
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

    pub(super) fn start(
        &mut self,
        step: &Step,
        number: u32,
        attempt: &Attempt,
        call: FilledCall,
        approval: Option<u64>,
    ) -> Progress {
        let simulate = self.definition.mode == Mode::Drill && is_simulated(step);
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
    pub(super) fn in_flight(&mut self, step: &Step, number: u32, attempt: &Attempt) -> Progress {
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
    pub(super) fn cut_off(
        &mut self,
        step: &'a Step,
        number: u32,
        attempt: &Attempt,
        simulated: bool,
    ) -> Progress {
        match &step.kind {
            Kind::Manual { .. } | Kind::Wait { .. } => self.in_flight(step, number, attempt),
            // It was only to be recorded: nothing can have happened.
            _ if simulated => self.ready(step, number, attempt),
            Kind::Notify(n) if n.external => self.look(step, number),
            _ if step.effect() == Effect::Read => self.ready(step, number, attempt),
            _ => self.look(step, number),
        }
    }

    /// Looks whether it happened; what nothing can look at is a person's to say.
    pub(super) fn look(&mut self, step: &'a Step, number: u32) -> Progress {
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

    pub(super) fn failed(
        &mut self,
        step: &'a Step,
        number: u32,
        attempt: &Attempt,
        body: &StepFinished,
    ) -> Progress {
        if self.journal.goes_on(step.path.as_str(), &attempt.at) {
            return self.ready(step, number, attempt);
        }
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
        let progress = match self.definition.on_failure(step) {
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
                let hint = format!("firebreak playbook undo {path} --incident {incident}");
                self.hold_with(step, why, hint, body.code.clone())
            }
        };
        // A gate is opened by decisions alone, and a run that stopped takes no word; of anything else a person may know better.
        if let Some(held) = self.held.last_mut()
            && held.path == path.as_str()
            && step.kind != Kind::Approve
        {
            held.or = Some(format!(
                "firebreak incident resolve {path} --as ran --reason TEXT --incident {incident}"
            ));
        }
        progress
    }

    /// Complete; its milestone first, where it has one that is not stamped.
    pub(super) fn stamp(&mut self, step: &Step) -> Progress {
        let Some(milestone) = step.milestone else {
            return Progress::Complete;
        };
        let stamped = self
            .journal
            .step(step.path.as_str())
            .is_some_and(|r| r.milestones.iter().any(|m| m == milestone.name.as_str()));
        let said_before = milestone.name == Milestone::Declared && self.journal.declared;
        if stamped || said_before {
            return Progress::Complete;
        }
        let path = step.path.clone();
        self.todo(Todo::Milestone { path })
    }

    pub(super) fn doubt(&mut self, step: &Step, known: &str) -> Progress {
        let incident = &self.definition.incident;
        self.held.push(Held {
            path: step.path.to_string(),
            why: format!(
                "step `{}` is in doubt: {known}; FOUND is ran, did-not-run or retry",
                step.path
            ),
            hint: format!(
                "firebreak incident resolve {} --as FOUND --reason TEXT --incident {incident}",
                step.path
            ),
            or: None,
            code: Some("FB0602".into()),
            doubt: true,
        });
        Progress::Held
    }

    pub(super) fn hold(&mut self, step: &Step, why: String, code: Option<&str>) -> Progress {
        let hint = format!("firebreak resume {}", self.definition.incident);
        self.hold_with(step, why, hint, code.map(str::to_owned))
    }

    pub(super) fn hold_with(
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
            or: None,
            code,
            doubt: false,
        });
        Progress::Held
    }

    pub(super) fn todo(&mut self, todo: Todo) -> Progress {
        self.todos.push(todo);
        Progress::Open
    }
}

/// What a drill only records: what leaves its world. A child process does, unless its author says that it may run.
fn is_simulated(step: &Step) -> bool {
    let child = matches!(step.kind, Kind::Run { .. }) && step.drill.is_none();
    child || step.drill_or_default() == DrillMode::Simulate
}

/// The code of a value that cannot be filled in.
pub(super) fn fill_code(error: &FillError) -> &'static str {
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
