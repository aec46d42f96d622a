//! What to do next for one item: a total, pure function of the plan, the item's journal and what was seen of the world.
//!
//! A machine is read top to bottom in the order of its states. Every change is intent → call → outcome; a change without an outcome is
//! *in doubt* and settled first, from an observation, never by sending it again blindly. On resume the first turn is given a fresh
//! observation, so that neither the ledger alone nor the world alone decides.

pub mod access_key;
pub mod database_password;
mod kill;
mod orphan;
pub mod role_sessions;
pub mod rollout;
mod settle;
pub mod turn;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::port::{AccessKeySeen, SecretSeen};

use super::call::{Change, Look};
use super::journal::ItemJournal;
use super::plan::{Item, RotationPlan, What};
use super::words::{Reason, Terminal};

pub use settle::{Verdict, settle};

/// What was seen of the world for one item. `None` = not looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// What the plan is bound to, as it is now.
    pub binding: BTreeMap<String, String>,
    /// All keys of the user.
    pub keys: Option<Vec<AccessKeySeen>>,
    /// Key ids that are ours: made by a change of this run, for whichever item.
    pub ours: Vec<String>,
    /// The secret; `Some(None)` = there is none.
    pub secret: Option<Option<SecretSeen>>,
    /// The version of this attempt can be read, whatever labels it has.
    pub escrowed: bool,
    /// Key id in it.
    pub escrowed_key: Option<String>,
    /// Principal's name → T of the deny in place; `None` = there is no deny.
    pub denies: BTreeMap<String, Option<DateTime<Utc>>>,
    /// The role's trust policy.
    pub trust: Option<String>,
    /// Server → which password it accepts.
    pub logins: BTreeMap<String, Accepts>,
    /// Index of the sink → what it holds.
    pub sinks: BTreeMap<usize, Holds>,
    /// Index of the workload → our restart annotation.
    pub restarted: BTreeMap<usize, Option<String>>,
    /// Index of the workload → its service account.
    pub accounts: BTreeMap<usize, String>,
    /// This look was taken late enough, and was equal to one long enough before it, for what is missing to be missing.
    pub absence_believed: bool,
    /// The new value is at hand: in memory, or read back from escrow.
    pub have_value: bool,
}

/// Which password a server accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepts {
    /// The new one; `None` = there is none at hand to try.
    pub new: Option<bool>,
    /// The old one; `None` = it is not at hand.
    pub old: Option<bool>,
    /// The server's clock.
    pub now: Option<DateTime<Utc>>,
}

/// What a sink holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// The new value.
    New,
    /// The old value.
    Old,
    /// Something else.
    Other,
    /// It is gone.
    Gone,
}

/// Where a rollout that several items share stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// Not all items that feed it are there yet, or it is under way.
    Pending,
    /// It is complete, with the new secrets.
    Available,
    /// It did not come up.
    Failed,
    /// A person restarts it.
    ByHand,
    /// It was restarted with the old secrets again, and came up.
    TakenBack,
    /// That failed.
    Stuck,
}

/// One turn of a machine.
pub struct Turn<'a> {
    /// The plan.
    pub plan: &'a RotationPlan,
    /// The item.
    pub item: &'a Item,
    /// Its journal.
    pub journal: &'a ItemJournal,
    /// What was seen, if anything was looked at since the last change.
    pub seen: Option<&'a Seen>,
    /// The new value is at hand.
    pub have_value: bool,
    /// Index of the workload → where its rollout stands.
    pub shared: &'a BTreeMap<usize, Shared>,
    /// Token for this attempt's version (a UUIDv5 of run, secret, item and attempt).
    pub token: String,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Look at the world, then ask again.
    Observe,
    /// Look again later: what is missing does not count as missing yet.
    ObserveLater,
    /// The new value is in escrow and not in memory: read it back by its version id.
    ReadBack {
        /// Secret.
        secret: String,
        /// Version id.
        version: String,
    },
    /// Intent, call, outcome.
    Change(Change),
    /// Look at something particular and write down what was found.
    Look {
        /// State that rests on it.
        step: &'static str,
        /// Which of several.
        target: String,
        /// What to look at.
        look: Look,
    },
    /// Write down that an intent in doubt happened or did not.
    Settle {
        /// Its step.
        step: String,
        /// Its target.
        target: String,
        /// It takes an earlier change back.
        reversal: bool,
        /// It happened.
        happened: bool,
        /// Public results, as its outcome would have had them.
        facts: BTreeMap<String, String>,
    },
    /// Write down a fact of the machine: a new attempt, the turn to taking back, a flagged key.
    Record {
        /// Step.
        step: &'static str,
        /// Which of several.
        target: String,
        /// Attempt it belongs to.
        attempt: u32,
        /// Facts.
        facts: BTreeMap<String, String>,
    },
    /// Its sinks are written: wait until all items that feed its workloads are there and their rollouts have ended.
    AwaitRollouts,
    /// Its sinks hold the old values again: wait until its workloads have restarted with them.
    AwaitTakenBack,
    /// It ended, for now or for good.
    End(Ending),
}

impl Next {
    /// True when it looks at the world or changes it: whoever was told to stop does not begin it.
    pub fn goes_on(&self) -> bool {
        !matches!(
            self,
            Next::Settle { .. } | Next::Record { .. } | Next::End(_)
        )
    }
    /// True when it leaves no entry behind: again and again, it would be a fault of ours.
    pub fn is_silent(&self) -> bool {
        matches!(
            self,
            Next::Observe | Next::ObserveLater | Next::ReadBack { .. }
        )
    }
}

impl Seen {
    /// True when both looks saw the same; clocks of servers go on between two looks.
    pub fn same_as(&self, other: &Seen) -> bool {
        let still = |seen: &Seen| {
            let mut seen = seen.clone();
            seen.logins.values_mut().for_each(|l| l.now = None);
            seen
        };
        still(self) == still(other)
    }
}

/// An end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// How.
    pub state: Terminal,
    /// Why, when a person is needed.
    pub reason: Option<Reason>,
    /// One line.
    pub summary: String,
    /// What a person must do.
    pub hint: Option<String>,
    /// A resume takes it up again by itself.
    pub resumable: bool,
}

/// The next move of an item.
pub fn next(turn: &Turn<'_>) -> Next {
    if let Some(reason) = turn.item.needs_human {
        return turn.needs_human(reason, "it was not begun: the plan says why");
    }
    match &turn.item.what {
        What::AccessKey(key) => access_key::next(turn, key),
        What::RoleSessions(role) => role_sessions::next(turn, role),
        What::DatabasePassword(password) => database_password::next(turn, password),
    }
}

#[cfg(test)]
mod tests;
