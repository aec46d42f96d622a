//! The rollout of a workload that several items feed (§8, §9.6): once, after all its secrets changed.
//!
//! `RolloutTriggered → RolloutAvailable`, and on the way back, when all sinks hold the old values again, the annotation is taken off.
//! The annotation is the run's id: the same value again starts nothing.

use std::collections::BTreeMap;

use crate::rotation::call::{Call, Change, Look};
use crate::rotation::journal::{ItemJournal, Standing};

use super::{Next, Seen, Shared};

/// The pod template carries the run's id.
pub const TRIGGERED: &str = "RolloutTriggered";
/// All replicas are of the newest template and available.
pub const AVAILABLE: &str = "RolloutAvailable";

/// Its journal's name among the items.
pub fn item_id(place: &str) -> String {
    format!("workload:{place}")
}

/// What a workload waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feeding {
    /// Items still write its secrets.
    Writing,
    /// All that feed it have written theirs (or ended without).
    Written,
    /// All that feed it have taken theirs back.
    TakenBack,
}

/// The next move; `Ok` = where it stands, nothing to do now.
pub fn next(
    workload: usize,
    run: &str,
    journal: &ItemJournal,
    seen: Option<&Seen>,
    feeding: Feeding,
) -> Result<Shared, Next> {
    if let Some(intent) = journal.in_doubt() {
        let Some(there) = seen.and_then(|s| s.restarted.get(&workload)) else {
            return Err(Next::Observe);
        };
        let ours = there.as_deref() == Some(run);
        return Err(Next::Settle {
            step: intent.step.clone(),
            target: intent.target.clone(),
            reversal: intent.reversal,
            happened: ours != intent.reversal,
            facts: BTreeMap::new(),
        });
    }
    let triggered = journal.done(TRIGGERED, "");
    if feeding == Feeding::TakenBack {
        if triggered && !journal.undone(TRIGGERED, "") {
            let change = Change::new(TRIGGERED, Call::UndoRestart { workload }).back();
            return match journal.reversal(TRIGGERED, "") {
                Some(Standing::Refused(_)) => Ok(Shared::Failed),
                _ => Err(Next::Change(change)),
            };
        }
        return Ok(Shared::Failed);
    }
    if feeding == Feeding::Writing {
        return Ok(Shared::Pending);
    }
    match journal.standing(TRIGGERED, "") {
        Some(Standing::Refused(_)) => return Ok(Shared::Failed),
        Some(Standing::Done(_)) => {}
        _ => {
            let change = Change::new(TRIGGERED, Call::Restart { workload });
            return Err(Next::Change(change));
        }
    }
    match journal.standing(AVAILABLE, "") {
        Some(Standing::Done(_)) => Ok(Shared::Available),
        Some(Standing::DoesNotHold(_)) => Ok(Shared::Failed),
        _ => Err(Next::Look {
            step: AVAILABLE,
            target: String::new(),
            look: Look::RolloutDone { workload },
        }),
    }
}
