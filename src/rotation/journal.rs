//! One item's entries, as its machine reads them. Pure: the same entries make the same journal, however often they are read.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::incident::rotate::{RotateIntent, RotateItem, RotateObserved, RotateOutcome};
use crate::incident::{Entry, kind};

/// How one step stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The intent is durable and no usable outcome is: it may have happened.
    InDoubt(Intent),
    /// It was done, or found done. Public results.
    Done(BTreeMap<String, String>),
    /// It was refused, with this code; it did not happen.
    Refused(String),
    /// It was looked at and did not hold. Facts.
    DoesNotHold(BTreeMap<String, String>),
    /// It was in doubt and did not happen.
    DidNotHappen,
}

/// An intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Its entry.
    pub seq: u64,
    /// Step.
    pub step: String,
    /// Which of several.
    pub target: String,
    /// The call.
    pub call: String,
    /// When, by our clock.
    pub at: Option<DateTime<Utc>>,
    /// Public parameters.
    pub params: BTreeMap<String, String>,
    /// What was there before.
    pub before: BTreeMap<String, String>,
    /// It takes an earlier change back.
    pub reversal: bool,
}

/// A step; its attempt is 0 where it counts for every attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    attempt: u32,
    step: String,
    target: String,
    reversal: bool,
}

impl Key {
    fn new(attempt: u32, step: &str, target: &str, reversal: bool) -> Self {
        Key {
            attempt: if PER_ATTEMPT.contains(&step) {
                attempt
            } else {
                0
            },
            step: step.to_owned(),
            target: target.to_owned(),
            reversal,
        }
    }
}

/// The journal of one item.
#[derive(Debug, Clone)]
pub struct ItemJournal {
    steps: BTreeMap<Key, Standing>,
    /// When each step was done first, by our clock.
    done_at: BTreeMap<Key, DateTime<Utc>>,
    /// Entries that each step's standing rests on.
    entries: BTreeMap<Key, Vec<u64>>,
    /// The attempt that counts.
    pub attempt: u32,
    /// How it ended last, if it did.
    pub ended: Option<RotateItem>,
    /// Proof grades by step.
    pub grades: BTreeMap<String, String>,
    /// How many entries it has.
    pub len: usize,
    /// Some change of it happened, or may have.
    changed: bool,
}

/// Steps that a new attempt does anew, because it has a new value. Whatever was killed stays killed.
const PER_ATTEMPT: [&str; 8] = [
    "Created",
    "Escrowed",
    "PendingPut",
    "NewSet",
    "Verified",
    "NewTested",
    "Promoted",
    "Distributed",
];

/// An observation of this step starts a new attempt.
pub const NEW_ATTEMPT: &str = "NewAttempt";
/// An observation of this step takes an ended item up again: what was refused or did not hold is tried anew.
pub const TAKEN_UP: &str = "TakenUp";
/// An observation of this step says that what was done is being taken back from here on.
pub const REVERTING: &str = "Reverting";

/// The same as [`ItemJournal::new`]: no journal has an attempt 0.
impl Default for ItemJournal {
    fn default() -> Self {
        ItemJournal::new()
    }
}

impl ItemJournal {
    /// An item that nothing was done for.
    pub fn new() -> Self {
        ItemJournal {
            steps: BTreeMap::new(),
            done_at: BTreeMap::new(),
            entries: BTreeMap::new(),
            attempt: 1,
            ended: None,
            grades: BTreeMap::new(),
            len: 0,
            changed: false,
        }
    }
    /// Folds the entries of every item, by item.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> BTreeMap<String, ItemJournal> {
        let mut all: BTreeMap<String, ItemJournal> = BTreeMap::new();
        for entry in entries {
            let Some(item) = entry.body.get("item").and_then(|i| i.as_str()) else {
                continue;
            };
            if entry.kind.starts_with("rotate.") {
                all.entry(item.to_owned()).or_default().fold(entry);
            }
        }
        all
    }
    /// Folds one entry in.
    pub fn fold(&mut self, entry: &Entry) {
        let at = Some(entry.time);
        match entry.kind.as_str() {
            kind::ROTATE_INTENT => {
                if let Some(b) = entry.body_as::<RotateIntent>(&entry.kind) {
                    self.intended(entry.seq, at, b);
                }
            }
            kind::ROTATE_OUTCOME => {
                if let Some(b) = entry.body_as::<RotateOutcome>(&entry.kind) {
                    self.answered(entry.seq, at, b);
                }
            }
            kind::ROTATE_OBSERVED => {
                if let Some(b) = entry.body_as::<RotateObserved>(&entry.kind) {
                    self.observed(entry.seq, at, b);
                }
            }
            kind::ROTATE_ITEM => {
                if let Some(b) = entry.body_as::<RotateItem>(&entry.kind) {
                    self.ended = Some(b);
                    self.len += 1;
                }
            }
            _ => {}
        }
    }
    /// An intent became durable.
    pub fn intended(&mut self, seq: u64, at: Option<DateTime<Utc>>, b: RotateIntent) {
        self.len += 1;
        // Going on after an end: what ended is open again.
        self.ended = None;
        self.attempt = self.attempt.max(b.attempt);
        let key = Key::new(b.attempt, &b.step, &b.target, b.reversal);
        self.entries.entry(key.clone()).or_default().push(seq);
        let intent = Intent {
            seq,
            step: b.step,
            target: b.target,
            call: b.call,
            at,
            params: b.params,
            before: b.before,
            reversal: b.reversal,
        };
        self.steps.insert(key, Standing::InDoubt(intent));
    }
    /// A change was answered.
    pub fn answered(&mut self, seq: u64, at: Option<DateTime<Utc>>, b: RotateOutcome) {
        self.len += 1;
        let key = Key::new(b.attempt, &b.step, &b.target, b.reversal);
        self.entries.entry(key.clone()).or_default().push(seq);
        let standing = match b.result.as_str() {
            "ok" => Standing::Done(b.got),
            "refused" => Standing::Refused(b.code.unwrap_or_default()),
            // In doubt stays in doubt: its intent says all that is known.
            _ => {
                self.changed = true;
                return;
            }
        };
        self.changed |= matches!(standing, Standing::Done(_));
        self.set(key, standing, at);
    }
    /// Something was looked at.
    pub fn observed(&mut self, seq: u64, at: Option<DateTime<Utc>>, b: RotateObserved) {
        self.len += 1;
        self.ended = None;
        if b.step == NEW_ATTEMPT {
            self.attempt = self.attempt.max(b.attempt);
        }
        if b.step == TAKEN_UP {
            self.steps.retain(|_, s| {
                !matches!(
                    s,
                    Standing::Refused(_) | Standing::DoesNotHold(_) | Standing::DidNotHappen
                )
            });
        }
        let key = Key::new(b.attempt, &b.step, &b.target, b.reversal);
        self.entries.entry(key.clone()).or_default().push(seq);
        if let Some(grade) = b.grade {
            self.grades.insert(b.step, grade);
        }
        self.changed |= b.settles.as_deref() == Some("happened");
        let standing = match (b.settles.as_deref(), b.holds) {
            (Some("did-not-happen"), _) => Standing::DidNotHappen,
            (_, true) => Standing::Done(b.facts),
            (_, false) => Standing::DoesNotHold(b.facts),
        };
        self.set(key, standing, at);
    }
    fn set(&mut self, key: Key, standing: Standing, at: Option<DateTime<Utc>>) {
        if let (Standing::Done(_), Some(at)) = (&standing, at) {
            self.done_at.entry(key.clone()).or_insert(at);
        }
        self.steps.insert(key, standing);
    }
    fn key(&self, step: &str, target: &str, reversal: bool) -> Key {
        Key::new(self.attempt, step, target, reversal)
    }
    /// True when no change of it is known to have happened: one may be in doubt.
    pub fn untouched(&self) -> bool {
        !self.changed
    }
    /// True when nothing was changed for it yet: what the plan is bound to must still be so.
    pub fn fresh(&self) -> bool {
        !self.changed && self.in_doubt().is_none()
    }
    /// How a step of this attempt stands; `None` = it was not begun.
    pub fn standing(&self, step: &str, target: &str) -> Option<&Standing> {
        self.steps.get(&self.key(step, target, false))
    }
    /// The same for its taking back.
    pub fn reversal(&self, step: &str, target: &str) -> Option<&Standing> {
        self.steps.get(&self.key(step, target, true))
    }
    /// True when a step of this attempt is done.
    pub fn done(&self, step: &str, target: &str) -> bool {
        matches!(self.standing(step, target), Some(Standing::Done(_)))
    }
    /// True when it was taken back.
    pub fn undone(&self, step: &str, target: &str) -> bool {
        matches!(self.reversal(step, target), Some(Standing::Done(_)))
    }
    /// True when a step was done in any attempt.
    pub fn ever(&self, step: &str, target: &str) -> bool {
        self.steps.iter().any(|(k, s)| {
            k.step == step && k.target == target && !k.reversal && matches!(s, Standing::Done(_))
        })
    }
    /// A public result of a step of this attempt.
    pub fn got(&self, step: &str, target: &str, name: &str) -> Option<&str> {
        match self.standing(step, target) {
            Some(Standing::Done(got)) => got.get(name).map(String::as_str),
            _ => None,
        }
    }
    /// When a step of this attempt was done first.
    pub fn when(&self, step: &str, target: &str) -> Option<DateTime<Utc>> {
        self.done_at.get(&self.key(step, target, false)).copied()
    }
    /// Entries that a step of this attempt rests on.
    pub fn entries(&self, step: &str, target: &str) -> Vec<u64> {
        let key = self.key(step, target, false);
        self.entries.get(&key).cloned().unwrap_or_default()
    }
    /// How often a step was looked at or done, in this attempt.
    pub fn times(&self, step: &str, target: &str) -> usize {
        let key = self.key(step, target, false);
        self.entries.get(&key).map_or(0, Vec::len)
    }
    /// The newest entry of a step, in this attempt.
    pub fn last(&self, step: &str, target: &str) -> Option<u64> {
        let key = self.key(step, target, false);
        self.entries.get(&key).and_then(|e| e.last().copied())
    }
    /// True when a step is done, by an entry after `since` where one is given.
    pub fn done_after(&self, step: &str, target: &str, since: Option<u64>) -> bool {
        self.done(step, target) && (since.is_none() || self.last(step, target) > since)
    }
    /// True when a step was done, for whichever target, by an entry after this one.
    pub fn done_since(&self, step: &str, seq: u64) -> bool {
        self.steps.iter().any(|(k, s)| {
            let after = |e: &Vec<u64>| e.iter().any(|e| *e > seq);
            k.step == step
                && matches!(s, Standing::Done(_))
                && self.entries.get(k).is_some_and(after)
        })
    }
    /// True when something was refused or did not hold, which taking the item up again tries anew.
    pub fn held_up(&self) -> bool {
        self.steps.values().any(|s| {
            matches!(
                s,
                Standing::Refused(_) | Standing::DoesNotHold(_) | Standing::DidNotHappen
            )
        })
    }
    /// The oldest intent that is in doubt.
    pub fn in_doubt(&self) -> Option<&Intent> {
        self.steps
            .values()
            .filter_map(|s| match s {
                Standing::InDoubt(i) => Some(i),
                _ => None,
            })
            .min_by_key(|i| i.seq)
    }
    /// Every step with its target and standing, of this attempt, without reversals.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &str, &Standing)> {
        self.steps
            .iter()
            .filter(|(k, _)| (k.attempt == 0 || k.attempt == self.attempt) && !k.reversal)
            .map(|(k, s)| (k.step.as_str(), k.target.as_str(), s))
    }
    /// The same over all attempts.
    pub fn all_steps(&self) -> impl Iterator<Item = (u32, &str, &str, bool, &Standing)> {
        self.steps
            .iter()
            .map(|(k, s)| (k.attempt, k.step.as_str(), k.target.as_str(), k.reversal, s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_begins_with_attempt_one_however_it_is_made() {
        assert_eq!(ItemJournal::new().attempt, 1);
        assert_eq!(ItemJournal::default().attempt, 1);
    }
}
