//! Where the time went: the interval to a milestone, cut along the critical path. Each instant lies in one class, so the parts sum to
//! the whole.
//!
//! The walk goes backwards from the milestone: the step that reached it, then the step that had finished last when that one began,
//! and so on. What lies between two steps belongs to the tool while a run is open, and to people while none is.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::incident::body::{GateDecided, RunCreated, RunParked, StepFinished, StepOutline};
use crate::incident::clock_text::millis;
use crate::incident::{Entry, History, kind};

type Time = DateTime<Utc>;

/// What an instant was spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub enum Class {
    /// The tool worked.
    #[serde(rename = "machine")]
    Machine,
    /// A decision was awaited.
    #[serde(rename = "approval")]
    Approval,
    /// A person's own step, or nobody had started anything.
    #[serde(rename = "person")]
    Person,
    /// A wait that the playbook asks for.
    #[serde(rename = "timer")]
    Timer,
    /// The run was parked.
    #[serde(rename = "parked")]
    Parked,
    /// It was not known whether a step had happened.
    #[serde(rename = "in doubt")]
    InDoubt,
}

impl Class {
    /// All classes, in the order they are printed.
    pub const ALL: [Class; 6] = [
        Class::Machine,
        Class::Approval,
        Class::Person,
        Class::Timer,
        Class::Parked,
        Class::InDoubt,
    ];
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Machine => "machine",
            Class::Approval => "waiting for approval",
            Class::Person => "waiting for a person",
            Class::Timer => "timer",
            Class::Parked => "parked",
            Class::InDoubt => "in doubt",
        }
    }
}

/// One class and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Part {
    /// Class.
    pub class: Class,
    /// Milliseconds.
    pub ms: i64,
}

/// One stretch of the critical path.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PathPart {
    /// Run, when a step owns the stretch.
    pub run: Option<String>,
    /// Step, when one owns it; `null` = between steps.
    pub step: Option<String>,
    /// RFC 3339.
    pub begin: String,
    /// RFC 3339.
    pub end: String,
    /// Seconds that the plan expected.
    pub expected_s: Option<u64>,
    /// Its parts.
    pub parts: Vec<Part>,
}

/// An interval, cut.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Split {
    /// `declared to contained`.
    pub interval: String,
    /// RFC 3339.
    pub begin: String,
    /// RFC 3339.
    pub end: String,
    /// Milliseconds of the whole.
    pub whole_ms: i64,
    /// Every class once; they sum to the whole.
    pub parts: Vec<Part>,
    /// The critical path, first to last.
    pub path: Vec<PathPart>,
}

struct Activity {
    run: String,
    step: String,
    own: Class,
    begin: Time,
    end: Time,
    expected_s: Option<u64>,
}

struct Overlay {
    class: Class,
    run: String,
    /// Steps it concerns; empty = the whole run.
    steps: Vec<String>,
    begin: Time,
    end: Time,
}

struct Run {
    id: String,
    outline: Vec<StepOutline>,
    begin: Time,
    end: Time,
}

struct Journal {
    activities: Vec<Activity>,
    overlays: Vec<Overlay>,
    runs: Vec<Run>,
}

/// Cuts `begin … end`. `milestone` is the entry that marks the end. `None` when the interval is empty or runs backwards.
pub(super) fn split(
    history: &History,
    interval: &str,
    begin: Time,
    end: Time,
    milestone: Option<u64>,
) -> Option<Split> {
    if end <= begin {
        return None;
    }
    let journal = Journal::read(history, end);
    let carrier = milestone
        .and_then(|seq| history.entries.iter().find(|e| e.seq == seq))
        .and_then(|e| Some((e.run()?.to_owned(), e.step()?.to_owned())));
    let mut path = journal.walk(begin, end, carrier);
    path.reverse();
    let parts: Vec<Part> = Class::ALL
        .iter()
        .map(|&class| Part {
            class,
            ms: path
                .iter()
                .flat_map(|p| &p.parts)
                .filter(|p| p.class == class)
                .map(|p| p.ms)
                .sum(),
        })
        .collect();
    Some(Split {
        interval: interval.to_owned(),
        begin: millis(begin),
        end: millis(end),
        whole_ms: ms(begin, end),
        parts,
        path,
    })
}

/// Whole milliseconds on the scale that entries are written in, so that adjacent stretches add up.
fn ms(begin: Time, end: Time) -> i64 {
    end.timestamp_millis() - begin.timestamp_millis()
}

fn is_inside(step: &str, block: &str) -> bool {
    step == block
        || step
            .strip_prefix(block)
            .is_some_and(|rest| rest.starts_with('/'))
}

impl Journal {
    fn read(history: &History, until: Time) -> Journal {
        let runs: Vec<Run> = history
            .bodies::<RunCreated>(kind::RUN_CREATED)
            .map(|(e, body)| Run {
                end: last(history, &body.run, &[kind::RUN_ENDED]).unwrap_or(until),
                id: body.run,
                outline: body.steps,
                begin: e.time,
            })
            .collect();
        let activities = runs
            .iter()
            .flat_map(|run| activities(history, run, until))
            .collect();
        let overlays = runs
            .iter()
            .flat_map(|run| overlays(history, run, until))
            .collect();
        Journal {
            activities,
            overlays,
            runs,
        }
    }

    /// From the end backwards. Each turn either moves to an earlier instant or ends.
    fn walk(&self, begin: Time, end: Time, carrier: Option<(String, String)>) -> Vec<PathPart> {
        let mut path = Vec::new();
        let mut at = end;
        let mut next = carrier
            .and_then(|(run, step)| {
                self.activities
                    .iter()
                    .filter(|a| a.run == run && is_inside(&a.step, &step) && a.begin < end)
                    .max_by_key(|a| a.end)
            })
            .or_else(|| self.before(end));
        while at > begin {
            match next {
                Some(activity) if activity.begin < at => {
                    let finished = activity.end.clamp(begin, at);
                    if finished < at {
                        path.push(self.stretch(finished, at, None));
                    }
                    let began = activity.begin.max(begin);
                    if began < finished {
                        path.push(self.stretch(began, finished, Some(activity)));
                    }
                    at = began;
                    next = self.before(at);
                }
                _ => {
                    path.push(self.stretch(begin, at, None));
                    at = begin;
                }
            }
        }
        path
    }

    /// The step that had finished last at `at`.
    fn before(&self, at: Time) -> Option<&Activity> {
        self.activities
            .iter()
            .filter(|a| a.end <= at && a.begin < at)
            .max_by_key(|a| (a.end, a.begin))
    }

    fn stretch(&self, begin: Time, end: Time, owner: Option<&Activity>) -> PathPart {
        let mut cuts: Vec<Time> = self
            .overlays
            .iter()
            .flat_map(|o| [o.begin, o.end])
            .chain(self.runs.iter().flat_map(|r| [r.begin, r.end]))
            .filter(|t| begin < *t && *t < end)
            .chain([begin, end])
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut parts: Vec<Part> = Vec::new();
        for pair in cuts.windows(2) {
            let class = self.class(pair[0], owner);
            let spent = ms(pair[0], pair[1]);
            match parts.iter_mut().find(|p| p.class == class) {
                Some(part) => part.ms += spent,
                None => parts.push(Part { class, ms: spent }),
            }
        }
        parts.retain(|p| p.ms > 0);
        parts.sort_by_key(|p| p.class);
        PathPart {
            run: owner.map(|a| a.run.clone()),
            step: owner.map(|a| a.step.clone()),
            begin: millis(begin),
            end: millis(end),
            expected_s: owner.and_then(|a| a.expected_s),
            parts,
        }
    }

    /// The class of the instants that begin at `at`. A doubt outweighs everything; a person or an approver outweighs parking, because
    /// a run is parked *while* it waits for them.
    fn class(&self, at: Time, owner: Option<&Activity>) -> Class {
        let covers = |class: Class| {
            self.overlays.iter().any(|o| {
                o.class == class
                    && o.begin <= at
                    && at < o.end
                    && owner.is_none_or(|a| {
                        a.run == o.run
                            && (o.steps.is_empty() || o.steps.iter().any(|s| is_inside(&a.step, s)))
                    })
            })
        };
        let own = owner.map(|a| a.own);
        if covers(Class::InDoubt) {
            Class::InDoubt
        } else if covers(Class::Approval) {
            Class::Approval
        } else if let Some(own @ (Class::Person | Class::Approval)) = own {
            own
        } else if covers(Class::Parked) {
            Class::Parked
        } else if let Some(own) = own {
            own
        } else if self.runs.iter().any(|r| r.begin <= at && at < r.end) {
            Class::Machine
        } else {
            Class::Person
        }
    }
}

fn of_run<'a>(history: &'a History, run: &'a str) -> impl Iterator<Item = &'a Entry> + 'a {
    history.entries.iter().filter(move |e| e.run() == Some(run))
}

fn last(history: &History, run: &str, kinds: &[&str]) -> Option<Time> {
    of_run(history, run)
        .filter(|e| kinds.contains(&e.kind.as_str()))
        .map(|e| e.time)
        .last()
}

fn activities(history: &History, run: &Run, until: Time) -> Vec<Activity> {
    let mut steps: Vec<&str> = of_run(history, &run.id).filter_map(Entry::step).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
        .into_iter()
        .filter_map(|step| activity(history, run, step, until))
        .collect()
}

/// From the first request or start of a step to its last end. Blocks own no time: their steps do.
fn activity(history: &History, run: &Run, step: &str, until: Time) -> Option<Activity> {
    let outline = run.outline.iter().find(|o| o.path == step);
    let own = match outline.map(|o| o.kind.as_str()) {
        Some("steps" | "parallel" | "if") => return None,
        Some("manual") => Class::Person,
        Some("approve") => Class::Approval,
        Some("wait") => Class::Timer,
        _ => Class::Machine,
    };
    let times = |kinds: &'static [&'static str]| {
        of_run(history, &run.id)
            .filter(move |e| e.step() == Some(step) && kinds.contains(&e.kind.as_str()))
            .map(|e| e.time)
    };
    let begin = times(&[kind::STEP_STARTED, kind::GATE_REQUESTED]).min()?;
    let end = times(&[
        kind::STEP_FINISHED,
        kind::STEP_RESOLVED,
        kind::ANSWER,
        kind::GATE_DECIDED,
    ])
    .max()
    .unwrap_or(until)
    .max(begin);
    Some(Activity {
        run: run.id.clone(),
        step: step.to_owned(),
        own,
        begin,
        end,
        expected_s: outline.and_then(|o| o.expected_s),
    })
}

fn overlays(history: &History, run: &Run, until: Time) -> Vec<Overlay> {
    let mut all = Vec::new();
    let mut open: Vec<Overlay> = Vec::new();
    for entry in of_run(history, &run.id) {
        let step: Vec<String> = entry.step().map(str::to_owned).into_iter().collect();
        match entry.kind.as_str() {
            kind::STEP_IN_DOUBT => begin(&mut open, Class::InDoubt, run, step, entry.time),
            kind::GATE_REQUESTED => begin(&mut open, Class::Approval, run, step, entry.time),
            kind::RUN_PARKED => {
                let steps = entry
                    .body_as::<RunParked>(kind::RUN_PARKED)
                    .map_or_else(Vec::new, |p| p.steps);
                begin(&mut open, Class::Parked, run, steps, entry.time);
            }
            kind::RUN_RESUMED | kind::RUN_ENDED => {
                close(&mut open, &mut all, entry.time, |o| {
                    o.class == Class::Parked
                });
            }
            kind::STEP_RESOLVED | kind::STEP_FINISHED if resolves(entry) => {
                close(&mut open, &mut all, entry.time, |o| {
                    o.class == Class::InDoubt && o.steps == step
                });
            }
            // The effect's intent means that its gate is open, however many decisions it took.
            kind::STEP_STARTED | kind::GATE_EXPIRED => {
                close(&mut open, &mut all, entry.time, |o| {
                    o.class == Class::Approval && o.steps == step
                });
            }
            kind::GATE_DECIDED if counts(entry) => {
                // A refusal, or the last decision, closes the gate; a later start closes it for good.
                let later = of_run(history, &run.id).any(|e| {
                    e.seq > entry.seq
                        && e.kind == kind::GATE_DECIDED
                        && e.refs.step == entry.refs.step
                });
                if !later {
                    close(&mut open, &mut all, entry.time, |o| {
                        o.class == Class::Approval && o.steps == step
                    });
                }
            }
            _ => {}
        }
    }
    all.extend(open.into_iter().map(|o| Overlay { end: until, ..o }));
    all
}

fn resolves(entry: &Entry) -> bool {
    entry.kind == kind::STEP_RESOLVED
        || entry.body_as::<StepFinished>(kind::STEP_FINISHED).is_some()
}

fn counts(entry: &Entry) -> bool {
    entry
        .body_as::<GateDecided>(kind::GATE_DECIDED)
        .is_some_and(|d| d.rejected.is_none())
}

fn begin(open: &mut Vec<Overlay>, class: Class, run: &Run, steps: Vec<String>, time: Time) {
    open.push(Overlay {
        class,
        run: run.id.clone(),
        steps,
        begin: time,
        end: time,
    });
}

fn close(
    open: &mut Vec<Overlay>,
    all: &mut Vec<Overlay>,
    time: Time,
    which: impl Fn(&Overlay) -> bool,
) {
    let (done, left): (Vec<Overlay>, Vec<Overlay>) = open.drain(..).partition(which);
    all.extend(done.into_iter().map(|o| Overlay { end: time, ..o }));
    *open = left;
}
