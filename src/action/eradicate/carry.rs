//! One item from where it stands to where it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::incident::rotate::{RotateIntent, RotateItem, RotateObserved, RotateOutcome};
use crate::incident::{Draft, Refs, kind};
use crate::port::{Estate, LedgerError};
use crate::rotation::call::{Change, Look};
use crate::rotation::journal::{ItemJournal, TAKEN_UP};
use crate::rotation::machine::{self, Ending, Next, Seen, Shared, Turn};
use crate::rotation::plan::{Item, RotationPlan};
use crate::rotation::words::{Reason, RotationMode, Terminal};

use crate::action::Context;

use super::hand::{self, Hand};
use super::perform::Sent;
use super::rollouts::Rollouts;
use super::writer::Writer;

/// How often one change may end in doubt before a person decides.
const DOUBTS: u32 = 5;
/// How often a machine may be asked without anything new: more is a fault of ours.
const IDLE: u32 = 8;

/// What all items of a run share.
pub(super) struct Rotation {
    pub(super) cx: Context,
    pub(super) plan: Arc<RotationPlan>,
    pub(super) estate: Estate,
    pub(super) writer: Writer,
    /// Runner epoch.
    pub(super) epoch: u64,
    pub(super) rollouts: Rollouts,
    /// Key ids that this run made.
    pub(super) ours: std::sync::Mutex<std::collections::BTreeSet<String>>,
    /// Items at a time.
    pub(super) permits: Arc<Semaphore>,
    /// Set when nothing new may be begun: the lease is gone, or a batch failed.
    pub(super) halt: std::sync::atomic::AtomicBool,
}

/// How far an item is carried in this pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Up to the first change that issues something: the kills.
    Issue,
    /// To its end.
    End,
}

/// How a pass over an item ended.
pub(super) enum Carried {
    /// It ended, for now or for good.
    Ended(Ending),
    /// It stands before its first issuing change.
    AtIssue(Box<Carrier>),
    /// The person, the lease or the batch stopped it: a resume goes on.
    Stopped(Box<Carrier>),
}

/// One item with what is in memory for it.
pub(super) struct Carrier {
    pub(super) item: usize,
    pub(super) journal: ItemJournal,
    pub(super) hand: Hand,
    seen: Option<Seen>,
    doubts: BTreeMap<(String, String), u32>,
}

impl Carrier {
    /// An item with what the ledger has of it.
    pub(super) fn new(item: usize, journal: ItemJournal) -> Self {
        Carrier {
            item,
            journal,
            hand: Hand::default(),
            seen: None,
            doubts: BTreeMap::new(),
        }
    }
}

impl Rotation {
    pub(super) fn item(&self, index: usize) -> &Item {
        &self.plan.items[index]
    }
    fn refs(&self) -> Refs {
        self.cx.refs()
    }
    pub(super) fn halted(&self) -> bool {
        self.halt.load(std::sync::atomic::Ordering::Relaxed) || self.cx.cancelled()
    }
    pub(super) fn halt(&self) {
        self.halt.store(true, std::sync::atomic::Ordering::Relaxed);
    }
    /// Waits; in a drill the wait is only recorded.
    pub(super) async fn wait(&self, ms: u64) {
        if ms > 0 && !self.cx.ports.clock.waits_are_simulated() {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    /// Carries an item on.
    pub(super) async fn carry(
        &self,
        mut at: Carrier,
        until: Until,
    ) -> Result<Carried, LedgerError> {
        let mut permit = Some(self.permit().await);
        if at.journal.len > 0 && at.seen.is_none() {
            self.take_up(&mut at).await?;
            at.seen = Some(self.observe(&at, false).await);
        }
        let mut idle = 0;
        loop {
            if idle > IDLE {
                let ending = fault("its machine asked for the same look again and again");
                return self.end(&mut at, ending).await.map(Carried::Ended);
            }
            let next = self.ask(&at);
            let goes_on = !matches!(
                next,
                Next::Settle { .. } | Next::Record { .. } | Next::End(_)
            );
            if goes_on && self.halted() {
                return Ok(Carried::Stopped(Box::new(at)));
            }
            idle = match next {
                Next::Observe | Next::ObserveLater | Next::ReadBack { .. } => idle + 1,
                _ => 0,
            };
            match next {
                Next::Observe => at.seen = Some(self.observe(&at, false).await),
                Next::ObserveLater => at.seen = Some(self.observe(&at, true).await),
                Next::ReadBack { secret, version } => {
                    if let Err(why) = self.read_back(&mut at, &secret, &version).await {
                        let ending = unreadable(&secret, &why);
                        return self.end(&mut at, ending).await.map(Carried::Ended);
                    }
                }
                Next::Change(change) => {
                    if until == Until::Issue && change.call.issues() {
                        return Ok(Carried::AtIssue(Box::new(at)));
                    }
                    if let Some(ending) = self.change(&mut at, &change).await? {
                        return self.end(&mut at, ending).await.map(Carried::Ended);
                    }
                }
                Next::Look { step, target, look } => {
                    self.look(&mut at, step, &target, &look).await?;
                }
                Next::Settle {
                    step,
                    target,
                    reversal,
                    happened,
                    facts,
                } => {
                    let attempt = at.journal.attempt;
                    let body = RotateObserved {
                        settles: Some(
                            if happened {
                                "happened"
                            } else {
                                "did-not-happen"
                            }
                            .into(),
                        ),
                        reversal,
                        ..observed(self.item(at.item), &step, &target, attempt, happened, facts)
                    };
                    self.saw(&mut at, body).await?;
                }
                Next::Record {
                    step,
                    target,
                    attempt,
                    facts,
                } => {
                    if step == crate::rotation::journal::NEW_ATTEMPT {
                        at.hand.new = None;
                    }
                    let body = observed(self.item(at.item), step, &target, attempt, true, facts);
                    self.saw(&mut at, body).await?;
                }
                Next::Await(_) => {
                    // Whoever waits for others holds nobody up.
                    drop(permit.take());
                    self.rollouts.arrived(self, at.item).await?;
                    permit = Some(self.permit().await);
                }
                Next::End(ending) => return self.end(&mut at, ending).await.map(Carried::Ended),
            }
        }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        let permits = Arc::clone(&self.permits);
        permits
            .acquire_owned()
            .await
            .expect("the semaphore is never closed")
    }

    fn ask(&self, at: &Carrier) -> Next {
        let item = self.item(at.item);
        let shared: BTreeMap<usize, Shared> = self.rollouts.standing(&item.workloads);
        machine::next(&Turn {
            plan: &self.plan,
            item,
            journal: &at.journal,
            seen: at.seen.as_ref(),
            have_value: at.hand.new.is_some(),
            shared: &shared,
            token: token(&self.cx.run.to_string(), item, at.journal.attempt),
        })
    }

    /// What ended for now is taken up again.
    async fn take_up(&self, at: &mut Carrier) -> Result<(), LedgerError> {
        if at.journal.ended.is_none() {
            return Ok(());
        }
        let attempt = at.journal.attempt;
        let facts = BTreeMap::new();
        let body = observed(self.item(at.item), TAKEN_UP, "", attempt, true, facts);
        self.saw(at, body).await
    }

    async fn change(
        &self,
        at: &mut Carrier,
        change: &Change,
    ) -> Result<Option<Ending>, LedgerError> {
        at.seen = None;
        let prepared = match self.prepare(at, change).await {
            Ok(prepared) => prepared,
            Err(problem) => return self.not_prepared(at, change, problem).await,
        };
        let entry = self
            .append(kind::ROTATE_INTENT, &prepared.intent, None)
            .await?;
        at.journal.fold(&entry);
        let sent = self.perform(at, change, &prepared).await;
        self.outcome(at, change, entry.seq, sent).await
    }

    async fn outcome(
        &self,
        at: &mut Carrier,
        change: &Change,
        intent: u64,
        sent: Sent,
    ) -> Result<Option<Ending>, LedgerError> {
        let in_doubt = sent.result == "in-doubt";
        let body = RotateOutcome {
            item: self.item(at.item).id.clone(),
            step: change.step.into(),
            attempt: at.journal.attempt,
            target: change.target.clone(),
            result: sent.result.into(),
            code: sent.code,
            got: sent.got,
            request_id: sent.request_id,
            server_date: sent.server_date,
            reversal: change.reversal,
        };
        let entry = self
            .append(kind::ROTATE_OUTCOME, &body, Some(intent))
            .await?;
        at.journal.fold(&entry);
        self.tell(at, change.step, &change.target, &body.result);
        if !in_doubt {
            return Ok(None);
        }
        let count = at
            .doubts
            .entry((change.step.into(), change.target.clone()))
            .or_default();
        *count += 1;
        Ok((*count >= DOUBTS).then(|| Ending {
            state: Terminal::NeedsHuman,
            reason: Some(Reason::InDoubt),
            summary: format!(
                "{} was sent {count} times and never answered",
                change.call.name()
            ),
            hint: Some("look whether it happened, then `rotate resume`".into()),
            resumable: true,
        }))
    }

    /// What a change needs could not be had: nothing was sent. It stands as a refused change, so that the machine decides.
    async fn not_prepared(
        &self,
        at: &mut Carrier,
        change: &Change,
        problem: super::prepare::Problem,
    ) -> Result<Option<Ending>, LedgerError> {
        let intent = RotateIntent {
            params: change.call.params(),
            ..self.intent(at, change)
        };
        let entry = self.append(kind::ROTATE_INTENT, &intent, None).await?;
        at.journal.fold(&entry);
        let sent = Sent::refused(problem.code, problem.detail);
        self.outcome(at, change, entry.seq, sent).await
    }

    /// The intent of a change, as far as it is known without looking.
    pub(super) fn intent(&self, at: &Carrier, change: &Change) -> RotateIntent {
        let item = self.item(at.item);
        RotateIntent {
            item: item.id.clone(),
            kind: item.kind.as_str().into(),
            step: change.step.into(),
            attempt: at.journal.attempt,
            target: change.target.clone(),
            call: change.call.name().into(),
            params: change.call.params(),
            before: BTreeMap::new(),
            idempotency: None,
            fp: None,
            reversal: change.reversal,
            epoch: self.epoch,
        }
    }

    async fn look(
        &self,
        at: &mut Carrier,
        step: &'static str,
        target: &str,
        look: &Look,
    ) -> Result<(), LedgerError> {
        at.seen = None;
        let found = self.find(at, step, target, look).await;
        let body = RotateObserved {
            grade: found.grade.map(|g| g.as_str().to_owned()),
            ..observed(
                self.item(at.item),
                step,
                target,
                at.journal.attempt,
                found.holds,
                found.facts,
            )
        };
        self.tell(
            at,
            step,
            target,
            if found.holds {
                "holds"
            } else {
                "does not hold"
            },
        );
        self.saw(at, body).await
    }

    async fn saw(&self, at: &mut Carrier, body: RotateObserved) -> Result<(), LedgerError> {
        let entry = self.append(kind::ROTATE_OBSERVED, &body, None).await?;
        at.journal.fold(&entry);
        Ok(())
    }

    pub(super) async fn append(
        &self,
        kind: &str,
        body: &impl serde::Serialize,
        intent: Option<u64>,
    ) -> Result<crate::incident::Entry, LedgerError> {
        let refs = Refs {
            intent,
            ..self.refs()
        };
        self.writer.append(Draft::new(kind, body).about(refs)).await
    }

    async fn read_back(&self, at: &mut Carrier, secret: &str, version: &str) -> Result<(), String> {
        let Some(escrow) = hand::escrow(self.item(at.item)) else {
            return Err("it has no escrow".into());
        };
        let id = crate::port::VersionRef::Id(version.to_owned());
        let read = self.estate.vault.read(secret, &id).await;
        let read = read.map_err(|e| e.to_string())?;
        at.hand.new = Some(hand::from_json(escrow, &read.value)?);
        if !escrow.exists {
            at.hand.before = hand::before_of(&read.value);
        }
        Ok(())
    }

    async fn end(&self, at: &mut Carrier, ending: Ending) -> Result<Ending, LedgerError> {
        let item = self.item(at.item);
        let body = RotateItem {
            item: item.id.clone(),
            kind: item.kind.as_str().into(),
            state: ending.state.as_str().into(),
            reason: ending.reason.map(|r| r.as_str().to_owned()),
            summary: ending.summary.clone(),
            hint: ending.hint.clone(),
            resumable: ending.resumable,
        };
        // A second resume of an ended item writes nothing anew.
        if at.journal.ended.as_ref() != Some(&body) {
            let entry = self.append(kind::ROTATE_ITEM, &body, None).await?;
            at.journal.fold(&entry);
        }
        (self.cx.progress)(&format!("{} {}: {}", item.id, ending.state, ending.summary));
        self.rollouts.ended(self, at.item, ending.state).await?;
        Ok(ending)
    }

    fn tell(&self, at: &Carrier, step: &str, target: &str, how: &str) {
        let item = self.item(at.item);
        let on = if target.is_empty() {
            String::new()
        } else {
            format!(" {target}")
        };
        (self.cx.progress)(&format!("{} {} {step}{on}: {how}", item.id, item.name));
    }

    /// True when the item is an emergency.
    pub(super) fn emergency(&self, item: usize) -> bool {
        self.item(item).mode == RotationMode::Emergency
    }
}

/// The token of an attempt: the same for the same run, secret, item and attempt.
pub(super) fn token(run: &str, item: &Item, attempt: u32) -> String {
    let secret = hand::escrow(item)
        .map(|e| e.secret.as_str())
        .unwrap_or_default();
    let name = format!("{run}\n{secret}\n{}\n{attempt}", item.id);
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
}

pub(super) fn observed(
    item: &Item,
    step: &str,
    target: &str,
    attempt: u32,
    holds: bool,
    facts: BTreeMap<String, String>,
) -> RotateObserved {
    RotateObserved {
        item: item.id.clone(),
        step: step.into(),
        attempt,
        target: target.into(),
        holds,
        facts,
        grade: None,
        settles: None,
        reversal: false,
    }
}

fn unreadable(secret: &str, why: &str) -> Ending {
    Ending {
        state: Terminal::NeedsHuman,
        reason: Some(Reason::Permission),
        summary: format!("the new value cannot be read back from `{secret}`: {why}"),
        hint: Some("make it readable, then `rotate resume`".into()),
        resumable: true,
    }
}

fn fault(what: &str) -> Ending {
    Ending {
        state: Terminal::NeedsHuman,
        reason: Some(Reason::InDoubt),
        summary: what.into(),
        hint: Some("`rotate resume` looks again".into()),
        resumable: true,
    }
}
