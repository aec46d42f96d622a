//! The journal of one run: a view of the incident's ledger. There is no second file.
//!
//! Folding the entries also holds them against what can have happened: a history that no run of ours can have written is an
//! [`Impossible`], never a shrug.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::incident::body::{
    Answer, Decision, GateDecided, GateExpired, GateRequested, MilestoneReached, RunCreated,
    RunEnded, RunParked, RunResumed, StepFinished, StepInDoubt, StepResolved, StepStarted,
    UndoFinished, UndoStarted,
};
use crate::incident::{Actor, Effect, Entry, History, Milestone, Outcome, RunId, kind};

/// A history that cannot have happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq} cannot have happened: {what}")]
pub struct Impossible {
    /// The entry.
    pub seq: u64,
    /// What is impossible about it.
    pub what: String,
}

/// What is known of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Journal {
    /// The run.
    pub run: RunId,
    /// How it was created; `None` before `run.created`.
    pub created: Option<RunCreated>,
    /// How often it was created or resumed.
    pub epoch: u64,
    /// `seq` of the newest `run.created` or `run.resumed`.
    pub epoch_seq: u64,
    /// The newest park of this epoch: nothing new starts until it is resumed.
    pub parked: Option<RunParked>,
    /// Who parked it.
    pub parked_by: Option<Actor>,
    /// How it ended.
    pub ended: Option<RunEnded>,
    /// True when the incident was declared by a person's statement: an incident is declared once.
    pub declared: bool,
    /// Steps by path.
    pub steps: BTreeMap<String, StepRecord>,
    /// Parks with the steps that they name.
    parks: Vec<(u64, Vec<String>)>,
    resumes: Vec<u64>,
}

/// What is known of one step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepRecord {
    /// By attempt, from 1.
    pub attempts: BTreeMap<u32, Attempt>,
    /// Its undo, where one was asked for.
    pub undo: Option<Undo>,
    /// Milestones that were stamped for it.
    pub milestones: Vec<String>,
}

/// An undo that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Undo {
    /// `seq` of its newest entry.
    pub seq: u64,
    /// Its intent.
    pub started: UndoStarted,
    /// Its outcome.
    pub finished: Option<UndoFinished>,
}

/// One attempt of one step: automatic tries belong to it, a person asks for a new one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attempt {
    /// Where it stands.
    pub at: At,
    /// Tries so far.
    pub tries: u32,
    /// Tries that ended failed.
    pub failures: u32,
    /// Tries whose reply was lost or that were cut off, and of which a probe said that nothing happened.
    pub lost: u32,
    /// Deadline over all tries, RFC 3339.
    pub deadline: Option<String>,
    /// Time of the first intent.
    pub began: Option<DateTime<Utc>>,
    /// The gate.
    pub gate: Gate,
    /// A person's answer.
    pub answer: Option<(u64, Answer)>,
    /// True once `deadline.passed` stands for it.
    pub deadline_passed: bool,
}

/// Where an attempt stands.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum At {
    /// Not begun.
    #[default]
    Fresh,
    /// The intent is durable.
    Started {
        /// Entry.
        seq: u64,
        /// The intent.
        body: StepStarted,
    },
    /// An outcome is there.
    Finished {
        /// Entry.
        seq: u64,
        /// The outcome.
        body: StepFinished,
    },
    /// It may have happened.
    InDoubt {
        /// Entry.
        seq: u64,
        /// What is known.
        body: StepInDoubt,
    },
    /// Somebody or a probe decided.
    Resolved {
        /// Entry.
        seq: u64,
        /// The decision.
        body: StepResolved,
    },
}

/// A gate of one attempt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gate {
    /// The open question.
    pub requested: Option<(u64, GateRequested)>,
    /// The newest expiry, with its entry.
    pub expired: Option<(u64, GateExpired)>,
    /// Decisions that count, in order.
    pub decisions: Vec<Decided>,
}

/// One decision that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// Entry.
    pub seq: u64,
    /// When it was written.
    pub time: DateTime<Utc>,
    /// It.
    pub body: GateDecided,
}

impl Decided {
    /// True when its time has run out at `now`; a text that is no time counts as run out.
    pub fn expired_at(&self, now: DateTime<Utc>) -> bool {
        match &self.body.expires {
            None => false,
            Some(text) => {
                DateTime::parse_from_rfc3339(text).map_or(true, |t| t.with_timezone(&Utc) <= now)
            }
        }
    }
}

impl Journal {
    /// The journal of `run` in `history`.
    ///
    /// # Errors
    /// When the history cannot have happened.
    pub fn of(history: &History, run: &RunId) -> Result<Journal, Impossible> {
        let mut journal = Journal {
            run: run.clone(),
            created: None,
            epoch: 0,
            epoch_seq: 0,
            parked: None,
            parked_by: None,
            ended: None,
            declared: is_declared(history),
            steps: BTreeMap::new(),
            parks: Vec::new(),
            resumes: Vec::new(),
        };
        for entry in history
            .entries
            .iter()
            .filter(|e| e.run() == Some(run.as_str()))
        {
            journal.take(entry)?;
        }
        Ok(journal)
    }

    /// The step's record, if anything is known of it.
    pub fn step(&self, path: &str) -> Option<&StepRecord> {
        self.steps.get(path)
    }

    /// The attempt that counts now, from 1, and what is known of it.
    pub fn attempt(&self, path: &str) -> (u32, Attempt) {
        let Some(record) = self.steps.get(path) else {
            return (1, Attempt::default());
        };
        let begun = record
            .attempts
            .iter()
            .rfind(|(_, a)| a.at != At::Fresh)
            .map_or(1, |(n, _)| *n);
        let now = match record.attempts.get(&begun) {
            Some(attempt) if self.is_superseded(path, attempt) => begun + 1,
            _ => begun,
        };
        (now, record.attempts.get(&now).cloned().unwrap_or_default())
    }

    /// A person asked for a new attempt: by `resolve`, or by resuming a run that was parked on this very failure. A failure that
    /// the run went past is not tried again because something else parked it later.
    fn is_superseded(&self, path: &str, attempt: &Attempt) -> bool {
        match &attempt.at {
            At::Resolved { body, .. } => body.by == "person" && body.verdict != "ran",
            At::Finished { seq, body } if body.outcome == Outcome::Failed => {
                !is_waiting(body) && self.was_parked_on_and_resumed_after(path, *seq)
            }
            _ => false,
        }
    }

    /// True for an attempt that only waited, once the run was resumed: it goes on, under the decision that it has.
    pub fn goes_on(&self, path: &str, at: &At) -> bool {
        matches!(at, At::Finished { seq, body }
            if is_waiting(body) && self.was_parked_on_and_resumed_after(path, *seq))
    }

    fn was_parked_on_and_resumed_after(&self, path: &str, seq: u64) -> bool {
        self.parks.iter().any(|(park, steps)| {
            *park > seq && steps.iter().any(|s| s == path) && self.resumes.iter().any(|r| r > park)
        })
    }

    fn take(&mut self, entry: &Entry) -> Result<(), Impossible> {
        match entry.kind.as_str() {
            kind::RUN_CREATED => self.take_created(entry),
            kind::RUN_RESUMED => self.take_resumed(entry),
            kind::RUN_PARKED => {
                let body: RunParked = read(entry)?;
                self.parks.push((entry.seq, body.steps.clone()));
                self.parked = Some(body);
                self.parked_by = Some(entry.actor.clone());
                Ok(())
            }
            kind::RUN_ENDED => {
                self.ended = Some(read(entry)?);
                Ok(())
            }
            kind::GATE_DECIDED => self.take_decision(entry),
            kind::GATE_REQUESTED
            | kind::GATE_EXPIRED
            | kind::STEP_STARTED
            | kind::STEP_FINISHED
            | kind::STEP_IN_DOUBT
            | kind::STEP_RESOLVED
            | kind::UNDO_STARTED
            | kind::UNDO_FINISHED
            | kind::ANSWER
            | kind::DEADLINE_PASSED => self.take_step(entry),
            kind::MILESTONE => {
                if let (Some(path), Some(name)) = (
                    entry.step(),
                    entry.body.get("name").and_then(|n| n.as_str()),
                ) {
                    let record = self.steps.entry(path.to_owned()).or_default();
                    record.milestones.push(name.to_owned());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_created(&mut self, entry: &Entry) -> Result<(), Impossible> {
        if self.created.is_some() {
            return Err(impossible(entry, "the run was created before"));
        }
        self.created = Some(read(entry)?);
        self.epoch = 1;
        self.epoch_seq = entry.seq;
        Ok(())
    }

    fn take_resumed(&mut self, entry: &Entry) -> Result<(), Impossible> {
        let body: RunResumed = read(entry)?;
        if self.created.is_none() || body.epoch != self.epoch + 1 {
            return Err(impossible(
                entry,
                &format!("epoch {} does not follow epoch {}", body.epoch, self.epoch),
            ));
        }
        self.epoch = body.epoch;
        self.epoch_seq = entry.seq;
        self.parked = None;
        self.parked_by = None;
        self.resumes.push(entry.seq);
        Ok(())
    }

    fn take_decision(&mut self, entry: &Entry) -> Result<(), Impossible> {
        let body: GateDecided = read(entry)?;
        if body.rejected.is_some() {
            return Ok(());
        }
        for path in body.steps.keys() {
            let attempt = self.attempt_entry(path, entry.refs.attempt.unwrap_or(1));
            attempt.gate.decisions.push(Decided {
                seq: entry.seq,
                time: entry.time,
                body: body.clone(),
            });
        }
        Ok(())
    }

    fn attempt_entry(&mut self, path: &str, number: u32) -> &mut Attempt {
        self.steps
            .entry(path.to_owned())
            .or_default()
            .attempts
            .entry(number)
            .or_default()
    }

    fn take_step(&mut self, entry: &Entry) -> Result<(), Impossible> {
        let path = entry
            .step()
            .ok_or_else(|| impossible(entry, "it names no step"))?
            .to_owned();
        match entry.kind.as_str() {
            kind::UNDO_STARTED => {
                let record = self.steps.entry(path).or_default();
                record.undo = Some(Undo {
                    seq: entry.seq,
                    started: read(entry)?,
                    finished: None,
                });
                return Ok(());
            }
            kind::UNDO_FINISHED => {
                let undo = self
                    .steps
                    .get_mut(&path)
                    .and_then(|r| r.undo.as_mut())
                    .filter(|u| u.finished.is_none())
                    .ok_or_else(|| impossible(entry, "an undo ended that had not begun"))?;
                undo.finished = Some(read(entry)?);
                undo.seq = entry.seq;
                return Ok(());
            }
            _ => {}
        }
        let number = entry.refs.attempt.unwrap_or(1);
        if entry.kind == kind::STEP_RESOLVED && self.take_persons_word(entry, &path, number)? {
            return Ok(());
        }
        if entry.kind == kind::ANSWER && self.attempt(&path).0 != number {
            return Ok(());
        }
        self.check_number(entry, &path, number)?;
        let epoch = self.epoch;
        let attempt = self.attempt_entry(&path, number);
        match entry.kind.as_str() {
            kind::GATE_REQUESTED => attempt.gate.requested = Some((entry.seq, read(entry)?)),
            kind::GATE_EXPIRED => {
                attempt.gate.expired = Some((entry.seq, read(entry)?));
                attempt.gate.requested = None;
                attempt
                    .gate
                    .decisions
                    .retain(|d| d.body.decision != Decision::Refuse && !d.expired_at(entry.time));
            }
            kind::STEP_STARTED => attempt.start(entry, epoch)?,
            kind::STEP_FINISHED => attempt.finish(entry)?,
            kind::STEP_IN_DOUBT => attempt.doubt(entry)?,
            kind::STEP_RESOLVED => attempt.resolve(entry)?,
            kind::ANSWER => attempt.answer = Some((entry.seq, read(entry)?)),
            _ => attempt.deadline_passed = true,
        }
        Ok(())
    }

    /// A person decides without the runner's lock, so the word may come when nothing is open any more: then it stands in the
    /// ledger and changes nothing. Answers true when the entry is a person's.
    fn take_persons_word(
        &mut self,
        entry: &Entry,
        path: &str,
        number: u32,
    ) -> Result<bool, Impossible> {
        let body: StepResolved = read(entry)?;
        if body.by != "person" {
            return Ok(false);
        }
        let (now, attempt) = self.attempt(path);
        let undone = self.steps.get(path).is_some_and(|r| r.undo.is_some());
        let open = match &attempt.at {
            At::InDoubt { .. } => true,
            At::Finished { body: f, .. } => {
                f.outcome == Outcome::Failed || (undone && body.verdict != "ran")
            }
            _ => false,
        };
        if open && number == now {
            self.attempt_entry(path, number).at = At::Resolved {
                seq: entry.seq,
                body,
            };
            if let Some(record) = self.steps.get_mut(path) {
                record.undo = None;
            }
        }
        Ok(true)
    }

    /// Entries of a step belong to the attempt that counts.
    fn check_number(&self, entry: &Entry, path: &str, number: u32) -> Result<(), Impossible> {
        let (now, _) = self.attempt(path);
        if number == now {
            return Ok(());
        }
        Err(impossible(
            entry,
            &format!(
                "it is about attempt {number} of `{path}`, and attempt {now} is the one that counts"
            ),
        ))
    }
}

impl Attempt {
    fn start(&mut self, entry: &Entry, epoch: u64) -> Result<(), Impossible> {
        let body: StepStarted = read(entry)?;
        if body.epoch != epoch {
            return Err(impossible(
                entry,
                &format!(
                    "it was written by a runner of epoch {}, the run is in epoch {epoch}",
                    body.epoch
                ),
            ));
        }
        let may = match &self.at {
            At::Fresh => true,
            At::Finished { body: f, .. } => f.outcome == Outcome::Failed,
            At::Resolved { body: r, .. } => r.by == "probe" && r.verdict == "did-not-run",
            At::Started { body: s, .. } => s.epoch < epoch && s.effect == Effect::Read,
            At::InDoubt { .. } => false,
        };
        if !may {
            return Err(impossible(entry, "the step was started twice"));
        }
        self.tries += 1;
        self.began.get_or_insert(entry.time);
        if self.deadline.is_none() {
            self.deadline.clone_from(&body.deadline);
        }
        self.at = At::Started {
            seq: entry.seq,
            body,
        };
        Ok(())
    }

    fn finish(&mut self, entry: &Entry) -> Result<(), Impossible> {
        let body: StepFinished = read(entry)?;
        if !matches!(body.outcome, Outcome::Done | Outcome::Failed) {
            return Err(impossible(entry, "a step ends done or failed"));
        }
        match &self.at {
            At::Finished { body: before, .. } if before.outcome == Outcome::Done => {
                return Err(impossible(entry, "the step was done before"));
            }
            At::InDoubt { .. } => {
                return Err(impossible(
                    entry,
                    "the step is in doubt and nobody has decided",
                ));
            }
            _ => {}
        }
        if body.outcome == Outcome::Failed {
            self.failures += 1;
        }
        self.at = At::Finished {
            seq: entry.seq,
            body,
        };
        Ok(())
    }

    fn doubt(&mut self, entry: &Entry) -> Result<(), Impossible> {
        if !matches!(
            self.at,
            At::Started { .. } | At::InDoubt { .. } | At::Resolved { .. }
        ) {
            return Err(impossible(entry, "a step that had not begun is in doubt"));
        }
        self.at = At::InDoubt {
            seq: entry.seq,
            body: read(entry)?,
        };
        Ok(())
    }

    fn resolve(&mut self, entry: &Entry) -> Result<(), Impossible> {
        let body: StepResolved = read(entry)?;
        if matches!(self.at, At::Fresh | At::Finished { .. }) {
            return Err(impossible(entry, "there was nothing to decide"));
        }
        if body.verdict == "did-not-run" {
            self.lost += 1;
        }
        self.at = At::Resolved {
            seq: entry.seq,
            body,
        };
        Ok(())
    }
}

/// A milestone `declared` that no run stamped: `incident open` states it.
fn is_declared(history: &History) -> bool {
    history
        .bodies::<MilestoneReached>(kind::MILESTONE)
        .any(|(e, m)| m.name == Milestone::Declared && e.run().is_none())
}

fn read<T: serde::de::DeserializeOwned>(entry: &Entry) -> Result<T, Impossible> {
    serde_json::from_value(entry.body.clone())
        .map_err(|e| impossible(entry, &format!("its payload cannot be read: {e}")))
}

fn impossible(entry: &Entry, what: &str) -> Impossible {
    Impossible {
        seq: entry.seq,
        what: format!("{}: {what}", entry.kind),
    }
}

/// It ended for now only: see [`crate::action::Class::Waiting`].
fn is_waiting(body: &StepFinished) -> bool {
    body.outcome == Outcome::Failed && body.class.as_deref() == Some("waiting")
}
