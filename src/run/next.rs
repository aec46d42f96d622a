//! The machine's answer as types.

use std::time::Duration;

use crate::incident::StepPath;
use crate::incident::body::GateRequested;
use crate::plan::call::FilledCall;
use crate::plan::policy::Need;

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

impl Todo {
    /// What is still done when nothing new may start: results are awaited, doubts are looked at, outcomes are written.
    pub(super) fn may_close(&self) -> bool {
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
