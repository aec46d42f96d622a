//! What every machine asks of its turn: what is done, what changed since the plan, what is in doubt; the ends that it may come to; and
//! the steps that kinds share: sinks, rollouts, labels.

use std::collections::BTreeMap;

use crate::port::{CURRENT, PENDING, PREVIOUS};
use crate::rotation::call::{Call, Change, Look, Value};
use crate::rotation::journal::{NEW_ATTEMPT, REVERTING, Standing};
use crate::rotation::plan::Escrow;
use crate::rotation::words::{Reason, RotationMode, Terminal};

use super::{Ending, Next, Shared, Turn, Verdict, settle};

/// A sink holds the new value.
pub const DISTRIBUTED: &str = "Distributed";
/// The new version is current.
pub const PROMOTED: &str = "Promoted";
/// A label is taken off.
pub const LABELS_CLEANED: &str = "LabelsCleaned";
/// What changed between the plan and the beginning of an emergency, which goes on all the same.
pub const DRIFTED: &str = "Drifted";

impl Turn<'_> {
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
            "self-target" => (
                Reason::SelfTarget,
                "it is what this run acts as: do it from another identity",
            ),
            "break-glass" => (
                Reason::BreakGlass,
                "it is excluded for good: do it by hand if it must be",
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
    /// Before anything is changed: is it still as the plan saw it? Drift stops a graceful item; an emergency writes it down and goes on
    /// killing, since whoever could stop it by a change would be the intruder.
    pub(super) fn drift(&self) -> Option<Next> {
        if !self.journal.fresh() || self.done(DRIFTED) {
            return None;
        }
        let Some(seen) = self.seen else {
            return Some(Next::Observe);
        };
        let unread = |name: &&String| !seen.binding.contains_key(*name);
        let unread: Vec<&str> = self
            .item
            .binding
            .keys()
            .filter(unread)
            .map(String::as_str)
            .collect();
        if !unread.is_empty() && !self.emergency() {
            return Some(self.pause(
                Reason::AccountUnreachable,
                format!("cannot be read now: {}", unread.join(", ")),
                "bring it back, then `rotate resume`",
            ));
        }
        let changed: BTreeMap<String, String> = self
            .item
            .binding
            .iter()
            .filter(|(name, value)| seen.binding.get(*name) != Some(value))
            .map(|(name, value)| {
                let now = seen
                    .binding
                    .get(name)
                    .map_or("not readable", String::as_str);
                (name.clone(), format!("planned {value}, now {now}"))
            })
            .collect();
        if changed.is_empty() {
            return None;
        }
        if self.emergency() {
            return Some(Next::Record {
                step: DRIFTED,
                target: String::new(),
                attempt: self.journal.attempt,
                facts: changed,
            });
        }
        let names: Vec<String> = changed.into_keys().collect();
        Some(Next::End(Ending {
            state: Terminal::NeedsHuman,
            reason: Some(Reason::Stale),
            summary: format!("changed since the plan: {}", names.join(", ")),
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
    /// Waits for the rollouts of the item's workloads. `Ok` = all are there.
    pub(super) fn rollouts(&self) -> Result<(), Next> {
        let standing = |w: &usize| self.shared.get(w).copied().unwrap_or(Shared::Pending);
        let workloads = &self.item.workloads;
        let failed = |w: &&usize| matches!(standing(w), Shared::Failed | Shared::Stuck);
        if let Some(w) = workloads.iter().find(failed) {
            let place = self.plan.workloads[*w].place();
            return Err(
                self.consumer_failed(format!("{place} did not come up with the new credential"))
            );
        }
        if workloads.iter().any(|w| standing(w) == Shared::Pending) {
            return Err(Next::AwaitRollouts);
        }
        Ok(())
    }
    /// Waits until the item's workloads run with the old values again.
    pub(super) fn rollouts_back(&self) -> Result<(), Next> {
        let standing = |w: &usize| self.shared.get(w).copied().unwrap_or(Shared::Pending);
        let workloads = &self.item.workloads;
        if let Some(w) = workloads.iter().find(|w| standing(w) == Shared::Stuck) {
            let place = self.plan.workloads[*w].place();
            return Err(Next::End(Ending {
                state: Terminal::Stuck,
                reason: Some(Reason::ConsumerFailed),
                summary: format!("{place} did not come up with the old credential again"),
                hint: Some(format!(
                    "its Secrets hold the old values: restart {place} by hand, then `rotate resume`"
                )),
                resumable: true,
            }));
        }
        let back = |w: &usize| matches!(standing(w), Shared::TakenBack | Shared::ByHand);
        if workloads.iter().all(back) {
            Ok(())
        } else {
            Err(Next::AwaitTakenBack)
        }
    }
    fn consumer_failed(&self, why: String) -> Next {
        if self.emergency() {
            self.pause(
                Reason::ConsumerFailed,
                why,
                "mend the workload, then `rotate resume`: there is no way back to a value that the intruder knows",
            )
        } else {
            self.revert(Reason::ConsumerFailed, why)
        }
    }

    /// The new value is in escrow, put there by `put`, and perhaps not in memory: then it is read back first.
    pub(super) fn at_hand(&self, escrow: &Escrow, put: &str) -> Result<(), Next> {
        match self.journal.got(put, "", "version_id") {
            Some(version) if !self.have_value => Err(Next::ReadBack {
                secret: escrow.secret.clone(),
                version: version.to_owned(),
            }),
            _ => Ok(()),
        }
    }
    /// Writes the sinks in their order, then waits for the workloads.
    pub(super) fn distribute(&self, escrow: &Escrow, put: &str) -> Result<(), Next> {
        for (sink, place) in self.places() {
            if self.done_on(DISTRIBUTED, &place) {
                continue;
            }
            // What is somebody's decision, and not an outage or a right that a resume finds mended, turns a graceful item back.
            if let Some(Standing::Refused(code)) = self.journal.standing(DISTRIBUTED, &place)
                && matches!(code.as_str(), "conflict" | "not-found" | "rejected")
                && !self.emergency()
            {
                let why = format!("{place} could not be written: {code}");
                return Err(self.revert(Reason::ConsumerFailed, why));
            }
            self.at_hand(escrow, put)?;
            let value = Value::New;
            let change = Change::new(DISTRIBUTED, Call::WriteSink { sink, value }).on(place);
            return Err(self.change(change));
        }
        self.rollouts()
    }
    /// Gives the sinks their old values, the last one first.
    pub(super) fn sinks_back(&self, escrow: &Escrow, put: &str) -> Result<(), Next> {
        for (sink, place) in self.places().rev() {
            if self.done_on(DISTRIBUTED, &place) && !self.journal.undone(DISTRIBUTED, &place) {
                // What stands there now is known by the new value.
                self.at_hand(escrow, put)?;
                let value = Value::Old;
                let change = Change::new(DISTRIBUTED, Call::WriteSink { sink, value }).on(place);
                return Err(self.change(change.back()));
            }
        }
        Ok(())
    }
    fn places(&self) -> impl DoubleEndedIterator<Item = (usize, String)> {
        let sinks = self.item.sinks.iter().enumerate();
        sinks.map(|(i, sink)| (i, sink.place()))
    }
    /// The label in use goes back to the old version, and none of ours is left on the new one.
    pub(super) fn labels_back(&self, escrow: &Escrow, put: &'static str) -> Result<(), Next> {
        let ours = self.journal.got(put, "", "version_id");
        let promoted = self.done(PROMOTED);
        if promoted && !self.journal.undone(PROMOTED, "") {
            let call = move_label(escrow, CURRENT, ours, escrow.current.as_deref());
            return Err(self.change(Change::new(PROMOTED, call).back()));
        }
        if self.done(put) && !self.journal.undone(put, "") {
            let call = move_label(escrow, PENDING, ours, None);
            return Err(self.change(Change::new(put, call).back()));
        }
        // The store itself gives the version that was in use this label.
        if promoted && !self.done_on(LABELS_CLEANED, PREVIOUS) {
            let call = move_label(escrow, PREVIOUS, ours, None);
            return Err(self.change(Change::new(LABELS_CLEANED, call).on(PREVIOUS)));
        }
        Ok(())
    }
    /// Our pending label goes, then the label of the version that leaked.
    pub(super) fn clean_labels(&self, escrow: &Escrow, put: &str) -> Result<(), Next> {
        let ours = self.journal.got(put, "", "version_id");
        for (label, version) in [(PENDING, ours), (PREVIOUS, escrow.current.as_deref())] {
            if version.is_some() && !self.done_on(LABELS_CLEANED, label) {
                let call = move_label(escrow, label, version, None);
                return Err(self.change(Change::new(LABELS_CLEANED, call).on(label)));
            }
        }
        Ok(())
    }
    /// All of it was taken back.
    pub(super) fn undone(&self, what: &str) -> Next {
        let (reason, why) = self
            .reverting()
            .unwrap_or((Reason::ConsumerFailed, String::new()));
        Next::End(Ending {
            state: Terminal::Undone,
            reason: Some(reason),
            summary: format!("taken back, {what} lives: {why}"),
            hint: Some("mend what failed, then plan anew: `rotate plan`".into()),
            resumable: false,
        })
    }
}

/// Moves a label of the escrow by compare-and-swap.
pub(super) fn move_label(
    escrow: &Escrow,
    label: &'static str,
    from: Option<&str>,
    to: Option<&str>,
) -> Call {
    Call::MoveLabel {
        secret: escrow.secret.clone(),
        label,
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
    }
}

fn text(params: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = params.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(" ")
}
