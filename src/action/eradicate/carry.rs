//! One item from where it stands to where it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::incident::kind;
use crate::incident::rotate::RotateIntent;
use crate::port::{CallerIdentity, Estate, LedgerError};
use crate::rotation::call::Change;
use crate::rotation::journal::{ItemJournal, NEW_ATTEMPT, TAKEN_UP};
use crate::rotation::machine::{self, Ending, Next, Seen, Shared, Turn};
use crate::rotation::plan::{Item, RotationPlan};
use crate::rotation::words::{Reason, RotationMode, Terminal};

use crate::action::Context;

use super::hand::{self, Hand};
use super::record::{observed, settling};
use super::rollouts::{Phase, Rollouts};
use super::writer::Writer;

/// How often a machine may look without writing anything down, and how many turns an item may take: more is a fault of ours.
const SILENT: u32 = 8;
const TURNS: u32 = 2_000;
/// A wait is looked at so often, in case somebody says stop.
const SLICE_MS: u64 = 500;

/// What all items of a run share.
pub(super) struct Rotation {
    pub(super) cx: Context,
    pub(super) plan: Arc<RotationPlan>,
    pub(super) estate: Estate,
    pub(super) writer: Writer,
    /// Who this run acts as.
    pub(super) me: CallerIdentity,
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
    Stopped,
}

/// One item with what is in memory for it.
pub(super) struct Carrier {
    pub(super) item: usize,
    pub(super) journal: ItemJournal,
    pub(super) hand: Hand,
    pub(super) seen: Option<Seen>,
    /// How often a change ended in doubt, by step and target.
    pub(super) doubts: BTreeMap<(String, String), u32>,
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
    pub(super) fn halted(&self) -> bool {
        self.halt.load(std::sync::atomic::Ordering::Relaxed) || self.cx.cancelled()
    }
    pub(super) fn halt(&self) {
        self.halt.store(true, std::sync::atomic::Ordering::Relaxed);
    }
    /// Waits, and no longer than until somebody says stop; in a drill the wait is only recorded.
    pub(super) async fn wait(&self, ms: u64) {
        if self.cx.ports.clock.waits_are_simulated() {
            return;
        }
        let mut left = ms;
        while left > 0 && !self.halted() {
            let slice = left.min(SLICE_MS);
            tokio::time::sleep(Duration::from_millis(slice)).await;
            left -= slice;
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
        let (mut turns, mut silent) = (0, 0);
        loop {
            let next = self.ask(&at);
            if next.goes_on() && self.halted() {
                return Ok(Carried::Stopped);
            }
            turns += 1;
            silent = if next.is_silent() { silent + 1 } else { 0 };
            if silent > SILENT || turns > TURNS {
                let ending = fault("its machine asked for the same again and again");
                return self.end(&mut at, ending).await.map(Carried::Ended);
            }
            if until == Until::Issue && issues(&next) {
                return Ok(Carried::AtIssue(Box::new(at)));
            }
            if let Next::AwaitRollouts | Next::AwaitTakenBack = next {
                // Whoever waits for others holds nobody up.
                drop(permit.take());
                let phase = match next {
                    Next::AwaitRollouts => Phase::Wrote,
                    _ => Phase::Back,
                };
                self.rollouts.arrived(self, at.item, phase).await?;
                permit = Some(self.permit().await);
            } else if let Some(ending) = self.turn(&mut at, next).await? {
                return self.end(&mut at, ending).await.map(Carried::Ended);
            }
        }
    }

    /// One turn. Answers how the item ends, if it does.
    async fn turn(&self, at: &mut Carrier, next: Next) -> Result<Option<Ending>, LedgerError> {
        let item = self.item(at.item);
        let attempt = at.journal.attempt;
        match next {
            Next::End(ending) => return Ok(Some(ending)),
            Next::Change(change) => return self.change(at, &change).await,
            Next::Observe => at.seen = Some(self.observe(at, false).await),
            Next::ObserveLater => at.seen = Some(self.observe(at, true).await),
            Next::ReadBack { secret, version } => {
                if let Err(why) = self.read_back(at, &secret, &version).await {
                    return Ok(Some(unreadable(&secret, &why)));
                }
            }
            Next::Look { step, target, look } => self.look(at, step, &target, &look).await?,
            Next::Settle {
                step,
                target,
                reversal,
                happened,
                facts,
            } => {
                let body = observed(&item.id, &step, &target, attempt, happened, facts);
                self.saw(at, settling(body, reversal)).await?;
            }
            Next::Record {
                step,
                target,
                attempt,
                facts,
            } => {
                if step == NEW_ATTEMPT {
                    at.hand.new = None;
                    at.seen = None;
                }
                let body = observed(&item.id, step, &target, attempt, true, facts);
                self.saw(at, body).await?;
            }
            Next::AwaitRollouts | Next::AwaitTakenBack => {}
        }
        Ok(None)
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
        let body = observed(&self.item(at.item).id, TAKEN_UP, "", attempt, true, facts);
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

    async fn read_back(&self, at: &mut Carrier, secret: &str, version: &str) -> Result<(), String> {
        let Some(escrow) = hand::escrow(self.item(at.item)) else {
            return Err("it has no escrow".into());
        };
        let read = self.version(secret, version).await;
        let read = read.map_err(|e| e.to_string())?;
        at.hand.new = Some(hand::from_json(escrow, &read.value)?);
        if !escrow.exists {
            at.hand.before = hand::before_of(&read.value);
        }
        Ok(())
    }

    /// True when the item is an emergency.
    pub(super) fn emergency(&self, item: usize) -> bool {
        self.item(item).mode == RotationMode::Emergency
    }
}

/// True for what brings something new into being, and for what waits until that was done.
fn issues(next: &Next) -> bool {
    match next {
        Next::Change(change) => change.call.issues(),
        Next::AwaitRollouts => true,
        _ => false,
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
