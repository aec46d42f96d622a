//! All items of a plan: the kills of an emergency before the first replacement, a graceful rotation behind a canary, at most so many side
//! by side, under a lease that is renewed all the while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::task::JoinSet;

use crate::port::{Cause, Claim, Held, LeaseTerms, LedgerError};
use crate::rotation::journal::ItemJournal;
use crate::rotation::machine::Ending;
use crate::rotation::machine::access_key::DISTRIBUTED;
use crate::rotation::plan::{Item, Sink};
use crate::rotation::words::{Reason, Terminal};

use super::carry::{Carried, Carrier, Rotation, Until};
use super::rollouts::Phase;

/// How long a lease counts without being renewed.
const LEASE: TimeDelta = TimeDelta::seconds(60);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(15);

/// How the items ended, by index; an item that was stopped is not in it.
pub(super) type Endings = BTreeMap<usize, Ending>;

/// Why a run over the fleet did not happen.
pub(super) enum NotRun {
    /// The ledger.
    Ledger(LedgerError),
    /// Somebody else rotates in this account.
    Leased(LeaseTerms),
    /// The lease could not be had or read.
    Lease(crate::port::PortError),
}

impl From<LedgerError> for NotRun {
    fn from(e: LedgerError) -> Self {
        NotRun::Ledger(e)
    }
}

/// Claims the account, carries every item, gives the account back.
pub(super) async fn run(
    rotation: Arc<Rotation>,
    journals: BTreeMap<String, ItemJournal>,
) -> Result<Endings, NotRun> {
    let clock = rotation.cx.ports.clock.clone();
    let terms = LeaseTerms {
        what: format!("account/{}", rotation.plan.account),
        owner: rotation.me.arn.clone(),
        run: rotation.cx.run.to_string(),
        epoch: rotation.epoch,
        expires: clock.now() + LEASE,
    };
    let leases = rotation.estate.leases.clone();
    let claimed = rotation
        .patiently_change(|| leases.claim(&terms, clock.now()))
        .await;
    let held = match claimed.map_err(NotRun::Lease)? {
        Claim::Ours(held) => held,
        Claim::Theirs(terms) => return Err(NotRun::Leased(terms)),
    };
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let keeper = tokio::spawn(keep(rotation.clone(), held, stopped));
    let endings = carry_all(&rotation, journals).await;
    let _ = stop.send(());
    if let Ok(held) = keeper.await {
        // A lease that cannot be given back runs out by itself.
        let _ = leases.release(&held).await;
    }
    Ok(endings?)
}

/// Renews the lease; when it cannot be renewed in time nothing new is begun.
async fn keep(
    rotation: Arc<Rotation>,
    mut held: Held,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) -> Held {
    loop {
        if tokio::time::timeout(RENEW, &mut stopped).await.is_ok() {
            return held;
        }
        let now = rotation.cx.ports.clock.now();
        match rotation.estate.leases.renew(&held, now + LEASE).await {
            Ok(renewed) => held = renewed,
            Err(e) if e.cause == Cause::Conflict => {
                (rotation.cx.progress)("the lease on the account is not ours any more: stopping");
                rotation.halt();
            }
            // Stop before the expiry, so that no call of ours is under way when somebody else begins.
            Err(_) if now + TimeDelta::seconds(30) > held.terms.expires => rotation.halt(),
            Err(_) => {}
        }
    }
}

async fn carry_all(
    rotation: &Arc<Rotation>,
    mut journals: BTreeMap<String, ItemJournal>,
) -> Result<Endings, LedgerError> {
    let mut endings = Endings::new();
    let mut carriers = Vec::new();
    for (index, item) in rotation.plan.items.iter().enumerate() {
        let journal = journals.remove(&item.id).unwrap_or_default();
        if let Some(id) = journal.got("Created", "", "key_id") {
            rotation.remember(id);
        }
        match over(&journal) {
            Some(ending) => {
                let phase = phase(item, &journal, &ending);
                let rollouts = &rotation.rollouts;
                rollouts.ended_before(&item.workloads, index, phase);
                endings.insert(index, ending);
            }
            None => carriers.push(Carrier::new(index, journal)),
        }
    }
    // What was ended before may have left a restart to be taken back.
    let all: Vec<usize> = (0..rotation.plan.workloads.len()).collect();
    rotation.rollouts.advance_all(rotation, &all).await?;
    let (urgent, graceful): (Vec<_>, Vec<_>) = groups(rotation, carriers)
        .into_iter()
        .partition(|g| g.iter().any(|c| rotation.emergency(c.item)));
    // Graceful items that share a workload with an emergency go with it, so that the workload restarts once.
    let (emergency, along): (Vec<_>, Vec<_>) = urgent
        .into_iter()
        .flatten()
        .partition(|c| rotation.emergency(c.item));
    let mut killed = pass(rotation, emergency, Until::Issue, &mut endings).await?;
    if rotation.halted() {
        return Ok(endings);
    }
    killed.extend(along);
    pass(rotation, killed, Until::End, &mut endings).await?;
    for batch in batches(graceful) {
        let indices: Vec<usize> = batch.iter().map(|c| c.item).collect();
        if rotation.halted() {
            break;
        }
        pass(rotation, batch, Until::End, &mut endings).await?;
        if indices
            .iter()
            .any(|i| endings.get(i).is_some_and(failed_its_consumer))
        {
            (rotation.cx.progress)("a consumer failed: the items after this batch are not begun");
            break;
        }
    }
    Ok(endings)
}

/// Where an item that ended before stands towards its workloads.
fn phase(item: &Item, journal: &ItemJournal, ending: &Ending) -> Phase {
    let wrote = |s: &Sink| journal.done(DISTRIBUTED, &s.place());
    match ending.state {
        Terminal::Undone => Phase::Back,
        Terminal::Done => Phase::Kept,
        _ if item.sinks.iter().any(wrote) => Phase::Kept,
        _ => Phase::Out,
    }
}

/// An item that needs nothing more in this plan.
fn over(journal: &ItemJournal) -> Option<Ending> {
    let ended = journal.ended.as_ref()?;
    let state = Terminal::parse(&ended.state)?;
    if ended.resumable {
        return None;
    }
    Some(Ending {
        state,
        reason: ended.reason.as_deref().and_then(Reason::parse),
        summary: ended.summary.clone(),
        hint: ended.hint.clone(),
        resumable: false,
    })
}

fn failed_its_consumer(ending: &Ending) -> bool {
    matches!(ending.state, Terminal::Undone | Terminal::Stuck)
        || matches!(
            ending.reason,
            Some(Reason::ConsumerFailed | Reason::NewNotVerified)
        )
}

/// Carries these side by side. Answers those that stand before their first issuing change.
async fn pass(
    rotation: &Arc<Rotation>,
    carriers: Vec<Carrier>,
    until: Until,
    endings: &mut Endings,
) -> Result<Vec<Carrier>, LedgerError> {
    let mut tasks = JoinSet::new();
    for carrier in carriers {
        let rotation = rotation.clone();
        tasks.spawn(async move {
            let index = carrier.item;
            (index, rotation.carry(carrier, until).await)
        });
    }
    let mut waiting = Vec::new();
    let mut broken = None;
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((index, Ok(Carried::Ended(ending)))) => {
                endings.insert(index, ending);
            }
            Ok((_, Ok(Carried::AtIssue(carrier)))) => waiting.push(*carrier),
            Ok((_, Ok(Carried::Stopped))) => {}
            Ok((_, Err(e))) => {
                // The ledger cannot be written: nobody acts any more.
                rotation.halt.store(true, Ordering::Relaxed);
                broken = Some(e);
            }
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    match broken {
        Some(e) => Err(e),
        None => {
            waiting.sort_by_key(|c| c.item);
            Ok(waiting)
        }
    }
}

/// One group, then a tenth, then the rest.
fn batches(groups: Vec<Vec<Carrier>>) -> Vec<Vec<Carrier>> {
    let total = groups.len();
    let mut batches: Vec<Vec<Carrier>> = Vec::new();
    let sizes = [1, total.div_ceil(10), total];
    let mut groups = groups.into_iter();
    for size in sizes {
        let batch: Vec<Carrier> = groups.by_ref().take(size).flatten().collect();
        if !batch.is_empty() {
            batches.push(batch);
        }
    }
    batches
}

/// Items that share a workload stand in one group, so that it restarts once.
fn groups(rotation: &Rotation, carriers: Vec<Carrier>) -> Vec<Vec<Carrier>> {
    let mut groups: Vec<(BTreeSet<usize>, Vec<Carrier>)> = Vec::new();
    let mut alone: Vec<Vec<Carrier>> = Vec::new();
    for carrier in carriers {
        let feeds: BTreeSet<usize> = rotation
            .item(carrier.item)
            .workloads
            .iter()
            .copied()
            .collect();
        if feeds.is_empty() {
            alone.push(vec![carrier]);
            continue;
        }
        let (joined, apart): (Vec<_>, Vec<_>) = groups
            .into_iter()
            .partition(|(w, _)| !w.is_disjoint(&feeds));
        groups = apart;
        let mut merged = (feeds, Vec::new());
        for (w, items) in joined {
            merged.0.extend(w);
            merged.1.extend(items);
        }
        merged.1.push(carrier);
        groups.push(merged);
    }
    let mut all: Vec<Vec<Carrier>> = groups.into_iter().map(|(_, items)| items).collect();
    all.extend(alone);
    // In the plan's order, by the first item of each.
    all.sort_by_key(|g| g.iter().map(|c| c.item).min());
    all
}

/// Journals of this run's items and workloads, from the ledger.
pub(super) fn journals(
    history: &crate::incident::History,
    run: &str,
) -> BTreeMap<String, ItemJournal> {
    let entries = history
        .entries
        .iter()
        .filter(|e| e.refs.run.as_deref() == Some(run));
    ItemJournal::of(entries)
}
