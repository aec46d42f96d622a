//! The rollout of a workload that several items feed (§8, §9.6): once, after all its secrets changed.
//!
//! `RolloutTriggered → RolloutAvailable`, and on the way back, when all who feed it have decided, once more with the old values.
//! The annotation is the run's id: the same value again starts nothing. A workload that moves to another service account is restarted by
//! that move, and not a second time by the annotation; it never moves back, since the old account is what the intruder's tokens are of.

use std::collections::BTreeMap;

use crate::rotation::call::{Call, Change, Look};
use crate::rotation::journal::{ItemJournal, Standing};
use crate::rotation::plan::AccountMove;

use super::{Next, Seen, Shared};

/// The pod template carries the run's id, or the new service account.
pub const TRIGGERED: &str = "RolloutTriggered";
/// All replicas are of the newest template and available. On the way back its target is [`BACK`].
pub const AVAILABLE: &str = "RolloutAvailable";
/// Target of [`AVAILABLE`] on the way back.
pub const BACK: &str = "back";

/// Its journal's name among the items.
pub fn item_id(place: &str) -> String {
    format!("workload:{place}")
}

/// What a workload waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feeding {
    /// Items still write its secrets, or have not decided.
    Writing,
    /// All that feed it have written theirs (or ended without).
    Written,
    /// Some have taken theirs back, and the others have ended.
    TakenBack,
}

/// A workload of a plan.
#[derive(Debug, Clone, Copy)]
pub struct Rolled<'a> {
    /// Index into the plan's workloads.
    pub workload: usize,
    /// The run's id.
    pub run: &'a str,
    /// Its move to another service account, if it has one.
    pub moves: Option<&'a AccountMove>,
}

/// The next move; `Ok` = where it stands, nothing to do now.
pub fn next(
    of: &Rolled<'_>,
    journal: &ItemJournal,
    seen: Option<&Seen>,
    feeding: Feeding,
) -> Result<Shared, Next> {
    if let Some(intent) = journal.in_doubt() {
        let happened = seen.and_then(|s| of.happened(s, intent.reversal));
        return Err(match happened {
            None => Next::Observe,
            Some(happened) => Next::Settle {
                step: intent.step.clone(),
                target: intent.target.clone(),
                reversal: intent.reversal,
                happened,
                facts: BTreeMap::new(),
            },
        });
    }
    match feeding {
        Feeding::Writing => Ok(Shared::Pending),
        Feeding::Written => {
            match journal.standing(TRIGGERED, "") {
                Some(Standing::Refused(_)) => return Ok(Shared::Failed),
                Some(Standing::Done(_)) => {}
                _ => return Err(Next::Change(Change::new(TRIGGERED, of.trigger()))),
            }
            of.available(journal, "", Shared::Available, Shared::Failed)
        }
        Feeding::TakenBack => {
            if !journal.done(TRIGGERED, "") {
                return Ok(Shared::TakenBack);
            }
            match journal.reversal(TRIGGERED, "") {
                Some(Standing::Refused(_)) => return Ok(Shared::Stuck),
                Some(Standing::Done(_)) => {}
                _ => return Err(Next::Change(Change::new(TRIGGERED, of.untrigger()).back())),
            }
            of.available(journal, BACK, Shared::TakenBack, Shared::Stuck)
        }
    }
}

impl Rolled<'_> {
    fn trigger(&self) -> Call {
        let workload = self.workload;
        match self.moves {
            None => Call::Restart { workload },
            Some(m) => Call::MoveAccount {
                workload,
                from: m.from.clone(),
                to: m.to.clone(),
            },
        }
    }
    /// What makes its pods read the old values again.
    fn untrigger(&self) -> Call {
        let workload = self.workload;
        match self.moves {
            None => Call::UndoRestart { workload },
            Some(_) => Call::Restart { workload },
        }
    }
    /// `None` = it was not looked at.
    fn happened(&self, seen: &Seen, reversal: bool) -> Option<bool> {
        let ours = || {
            let there = seen.restarted.get(&self.workload)?;
            Some(there.as_deref() == Some(self.run))
        };
        match (self.moves, reversal) {
            (None, false) | (Some(_), true) => ours(),
            (None, true) => ours().map(|ours| !ours),
            (Some(m), false) => seen.accounts.get(&self.workload).map(|now| *now == m.to),
        }
    }
    fn available(
        &self,
        journal: &ItemJournal,
        target: &str,
        up: Shared,
        down: Shared,
    ) -> Result<Shared, Next> {
        match journal.standing(AVAILABLE, target) {
            Some(Standing::Done(_)) => Ok(up),
            Some(Standing::DoesNotHold(_)) => Ok(down),
            _ => Err(Next::Look {
                step: AVAILABLE,
                target: target.to_owned(),
                look: Look::RolloutDone {
                    workload: self.workload,
                },
            }),
        }
    }
}
