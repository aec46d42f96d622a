//! What is next: a total, pure function of the pinned definition and the journal.
//!
//! *Guarantees*: no clock, no world; the same journal gives the same answer after a reload and in any arrival order of parallel
//! results. Time enters as `deadline.passed`, which the driver writes. A step that may have happened is never started again before
//! somebody or a probe has decided (rule 4 of the engine).
//!
//! The walk goes through the playbook in path order. A sequence stops at its first step that is not complete; the branches of a
//! `parallel` are walked all, so that a held branch does not hold its siblings.

use crate::incident::{Mode, Outcome};
use crate::plan::values;
use crate::playbook::condition::Answer;
use crate::playbook::model::{DrillMode, Kind, Step};
use crate::playbook::variable::Vars;

use super::definition::PinnedDefinition;
use super::journal::{At, Impossible, Journal};
pub use super::next::{Basis, Ending, Hold, Next, Start, StepAt, Todo};

/// Branches and steps that run at the same time, at most. Eight streams of evidence fill a laptop's disk and uplink.
pub const SIDE_BY_SIDE: usize = 8;

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

/// What a walk finds that is to be done, awaited or held, also while the run is parked.
pub(super) fn standing(
    definition: &PinnedDefinition,
    journal: &Journal,
) -> Result<(Vec<Todo>, Vec<Held>), Impossible> {
    check_paths(definition, journal)?;
    let mut walk = Walk::new(definition, journal);
    if journal.ended.is_none() {
        walk.block(&definition.playbook.steps)?;
    }
    Ok((walk.todos, walk.held))
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
pub(super) enum Progress {
    /// The next one may come.
    Complete,
    /// Something is to be done or awaited first.
    Open,
    /// A person is needed first.
    Held,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) path: String,
    pub(super) why: String,
    pub(super) hint: String,
    pub(super) or: Option<String>,
    pub(super) code: Option<String>,
    pub(super) doubt: bool,
}

pub(super) struct Walk<'a> {
    pub(super) definition: &'a PinnedDefinition,
    pub(super) journal: &'a Journal,
    pub(super) values: Vars,
    pub(super) todos: Vec<Todo>,
    pub(super) held: Vec<Held>,
    pub(super) stop: Option<String>,
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
        // A doubt comes first: a run that has ended could not be told any more what the step did.
        if let Some(why) = self.stop.take_if(|_| !self.held.iter().any(|h| h.doubt)) {
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
}

pub(super) fn at(step: &Step, attempt: u32) -> StepAt {
    StepAt {
        path: step.path.clone(),
        attempt,
    }
}
