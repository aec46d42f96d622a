//! What to do next for one item: a total, pure function of the plan, the item's journal and what was seen of the world.
//!
//! A machine is read top to bottom in the order of its states. Every change is intent → call → outcome; a change without an outcome is
//! *in doubt* and settled first, from an observation, never by sending it again blindly. On resume the first turn is given a fresh
//! observation, so that neither the ledger alone nor the world alone decides.

pub mod access_key;
pub mod database_password;
pub mod role_sessions;
pub mod rollout;
mod settle;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::port::{AccessKeySeen, SecretSeen};

use super::call::{Change, Look};
use super::journal::{ItemJournal, NEW_ATTEMPT, REVERTING, Standing};
use super::plan::{Item, RotationPlan, What};
use super::words::{Reason, RotationMode, Terminal};

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
    /// Key id in the version of ours, if it could be read.
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
    /// Index of the move → the workload's account now, and whether the new account exists.
    pub accounts: BTreeMap<usize, (String, bool)>,
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
    /// Wait until all items that feed these workloads are there and their rollouts have ended.
    Await(Vec<usize>),
    /// It ended, for now or for good.
    End(Ending),
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

impl Turn<'_> {
    /// Nothing was done for it yet.
    pub(super) fn fresh(&self) -> bool {
        self.journal.len == 0
    }
    pub(super) fn emergency(&self) -> bool {
        self.item.mode == RotationMode::Emergency
    }
    pub(super) fn done(&self, step: &str) -> bool {
        self.journal.done(step, "")
    }
    pub(super) fn done_on(&self, step: &str, target: &str) -> bool {
        self.journal.done(step, target)
    }
    /// A change that was not done: the change itself, or the end that its refusal means.
    pub(super) fn change(&self, change: Change) -> Next {
        let standing = if change.reversal {
            self.journal.reversal(change.step, &change.target)
        } else {
            self.journal.standing(change.step, &change.target)
        };
        match standing {
            Some(Standing::Refused(code)) => self.refused(&change, code),
            _ => Next::Change(change),
        }
    }
    fn refused(&self, change: &Change, code: &str) -> Next {
        let what = format!("{} was refused: {code}", change.call.name());
        if change.reversal {
            return Next::End(Ending {
                state: Terminal::Stuck,
                reason: None,
                summary: format!("taking back failed at {}: {what}", change.step),
                hint: Some(format!(
                    "do by hand: {} {}",
                    change.call.name(),
                    text(&change.call.params())
                )),
                resumable: true,
            });
        }
        let (reason, hint) = match code {
            "conflict" => (
                Reason::Stale,
                "somebody changed it meanwhile: look, then plan anew",
            ),
            "throttled" => (Reason::ThrottledOut, "try again later: `rotate resume`"),
            "unreachable" => (
                Reason::AccountUnreachable,
                "bring the server back, then `rotate resume`",
            ),
            "LimitExceeded" => (
                Reason::TwoKeysUsed,
                "the user has no free slot: free one by a plan that names the key to delete",
            ),
            _ => (
                Reason::Permission,
                "grant the right (`permissions rotate`), then `rotate resume`",
            ),
        };
        Next::End(Ending {
            state: Terminal::NeedsHuman,
            reason: Some(reason),
            summary: what,
            hint: Some(hint.into()),
            resumable: true,
        })
    }
    pub(super) fn needs_human(&self, reason: Reason, summary: impl Into<String>) -> Next {
        Next::End(Ending {
            state: Terminal::NeedsHuman,
            reason: Some(reason),
            summary: summary.into(),
            hint: None,
            resumable: false,
        })
    }
    /// It waits for something that comes by itself or from a person; a resume takes it up again.
    pub(super) fn pause(
        &self,
        reason: Reason,
        summary: impl Into<String>,
        hint: impl Into<String>,
    ) -> Next {
        Next::End(Ending {
            state: Terminal::NeedsHuman,
            reason: Some(reason),
            summary: summary.into(),
            hint: Some(hint.into()),
            resumable: true,
        })
    }
    pub(super) fn end(&self, state: Terminal, summary: impl Into<String>) -> Next {
        Next::End(Ending {
            state,
            reason: None,
            summary: summary.into(),
            hint: None,
            resumable: false,
        })
    }
    pub(super) fn look(&self, step: &'static str, look: Look) -> Next {
        Next::Look {
            step,
            target: String::new(),
            look,
        }
    }
    /// A look of which the answer was that it does not hold.
    pub(super) fn failed_look(
        &self,
        step: &str,
        target: &str,
    ) -> Option<&BTreeMap<String, String>> {
        match self.journal.standing(step, target) {
            Some(Standing::DoesNotHold(facts)) => Some(facts),
            _ => None,
        }
    }
    /// From here on what was done is taken back.
    pub(super) fn revert(&self, reason: Reason, why: impl Into<String>) -> Next {
        Next::Record {
            step: REVERTING,
            target: String::new(),
            attempt: self.journal.attempt,
            facts: BTreeMap::from([
                ("reason".into(), reason.as_str().into()),
                ("why".into(), why.into()),
            ]),
        }
    }
    /// Why it is being taken back, once that was decided.
    pub(super) fn reverting(&self) -> Option<(Reason, String)> {
        let reason = self.journal.got(REVERTING, "", "reason")?;
        let why = self.journal.got(REVERTING, "", "why").unwrap_or_default();
        Some((
            Reason::parse(reason).unwrap_or(Reason::ConsumerFailed),
            why.to_owned(),
        ))
    }
    pub(super) fn new_attempt(&self, why: &str) -> Next {
        Next::Record {
            step: NEW_ATTEMPT,
            target: String::new(),
            attempt: self.journal.attempt + 1,
            facts: BTreeMap::from([("why".into(), why.into())]),
        }
    }
    /// Before anything is done: is it still as the plan saw it? Drift stops a graceful item; an emergency goes on killing.
    pub(super) fn drift(&self) -> Option<Next> {
        if !self.fresh() {
            return None;
        }
        let Some(seen) = self.seen else {
            return Some(Next::Observe);
        };
        let changed: Vec<String> = self
            .item
            .binding
            .iter()
            .filter(|(name, value)| seen.binding.get(*name) != Some(value))
            .map(|(name, _)| name.clone())
            .collect();
        if changed.is_empty() || self.emergency() {
            return None;
        }
        Some(Next::End(Ending {
            state: Terminal::NeedsHuman,
            reason: Some(Reason::Stale),
            summary: format!("changed since the plan: {}", changed.join(", ")),
            hint: Some("plan anew: `rotate plan`".into()),
            resumable: false,
        }))
    }
    /// Settles what is in doubt, if anything is.
    pub(super) fn doubt(&self) -> Option<Next> {
        let intent = self.journal.in_doubt()?;
        let Some(seen) = self.seen else {
            return Some(Next::Observe);
        };
        Some(match settle(self, intent, seen) {
            Verdict::Happened(facts) => Next::Settle {
                step: intent.step.clone(),
                target: intent.target.clone(),
                reversal: intent.reversal,
                happened: true,
                facts,
            },
            Verdict::DidNot => Next::Settle {
                step: intent.step.clone(),
                target: intent.target.clone(),
                reversal: intent.reversal,
                happened: false,
                facts: BTreeMap::new(),
            },
            Verdict::Later => Next::ObserveLater,
            Verdict::Do(next) => *next,
        })
    }
    /// Waits for the rollouts of the item's workloads. `None` = all are there.
    pub(super) fn rollouts(&self) -> Result<(), Next> {
        let of = |w: &usize| self.shared.get(w).copied().unwrap_or(Shared::Pending);
        let workloads = &self.item.workloads;
        if let Some(w) = workloads.iter().find(|w| of(w) == Shared::Failed) {
            let place = self.plan.workloads[*w].place();
            let why = format!("{place} did not come up with the new credential");
            return Err(if self.emergency() {
                self.pause(
                    Reason::ConsumerFailed,
                    why,
                    "mend the workload, then `rotate resume`: there is no way back to a value that the intruder knows",
                )
            } else {
                self.revert(Reason::ConsumerFailed, why)
            });
        }
        let pending: Vec<usize> = workloads
            .iter()
            .copied()
            .filter(|w| of(w) == Shared::Pending)
            .collect();
        if pending.is_empty() {
            Ok(())
        } else {
            Err(Next::Await(pending))
        }
    }
}

fn text(params: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = params.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(" ")
}
