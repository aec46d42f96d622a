//! Workloads that several items feed: each restarts once, when all of them have written, and once more when they took it back.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::port::LedgerError;
use crate::rotation::journal::ItemJournal;
use crate::rotation::machine::Shared;
use crate::rotation::machine::rollout::{self, Feeding};
use crate::rotation::plan::RotationPlan;
use crate::rotation::words::Terminal;

use super::carry::Rotation;

/// Now and then a stop is looked for.
const PAUSE: Duration = Duration::from_millis(500);

/// Where an item stands towards a workload that it feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// On its way.
    Waiting,
    /// Its sinks hold the new values, and it has not ended.
    Wrote,
    /// Its sinks hold the old values again.
    Back,
    /// It ended, and its sinks hold the new values.
    Kept,
    /// It ended without having written.
    Out,
}

#[derive(Default)]
struct Workload {
    rollable: bool,
    journal: ItemJournal,
    items: BTreeMap<usize, Phase>,
    standing: Option<Shared>,
    /// Somebody is moving it.
    busy: bool,
    /// It was taken up by this process.
    taken_up: bool,
    available: Option<DateTime<Utc>>,
}

impl Workload {
    /// What it waits for; `None` = nobody wrote anything that it reads.
    fn feeding(&self) -> Option<Feeding> {
        let any = |phase: Phase| self.items.values().any(|p| *p == phase);
        if any(Phase::Waiting) || (any(Phase::Back) && any(Phase::Wrote)) {
            Some(Feeding::Writing)
        } else if any(Phase::Back) {
            Some(Feeding::TakenBack)
        } else if any(Phase::Wrote) || any(Phase::Kept) {
            Some(Feeding::Written)
        } else {
            None
        }
    }
    /// Nothing more comes of moving it now.
    fn settled(&self, feeding: Feeding) -> bool {
        match feeding {
            Feeding::Writing => true,
            Feeding::Written => matches!(self.standing, Some(Shared::Available | Shared::Failed)),
            Feeding::TakenBack => {
                matches!(self.standing, Some(Shared::TakenBack | Shared::Stuck))
            }
        }
    }
}

/// All workloads of a plan.
pub(super) struct Rollouts {
    all: Mutex<Vec<Workload>>,
    changed: watch::Sender<u64>,
}

/// A workload that is being moved on.
pub(super) struct Moving {
    pub(super) workload: usize,
    pub(super) journal: ItemJournal,
    pub(super) feeding: Feeding,
    /// What was refused or did not hold before this process is tried anew.
    pub(super) take_up: bool,
}

impl Rollouts {
    /// From the plan and the journals of the ledger.
    pub(super) fn new(plan: &RotationPlan, journals: &mut BTreeMap<String, ItemJournal>) -> Self {
        let mut all: Vec<Workload> = plan
            .workloads
            .iter()
            .map(|w| Workload {
                rollable: w.rollable,
                journal: journals
                    .remove(&rollout::item_id(&w.place()))
                    .unwrap_or_default(),
                ..Workload::default()
            })
            .collect();
        for (index, item) in plan.items.iter().enumerate() {
            for w in &item.workloads {
                if let Some(workload) = all.get_mut(*w) {
                    workload.items.insert(index, Phase::Waiting);
                }
            }
        }
        for w in &mut all {
            w.available = w.journal.when(rollout::AVAILABLE, "");
            let up = w.journal.done(rollout::AVAILABLE, "");
            if up && w.journal.reversal(rollout::TRIGGERED, "").is_none() {
                w.standing = Some(Shared::Available);
            }
        }
        Rollouts {
            all: Mutex::new(all),
            changed: watch::channel(0).0,
        }
    }

    /// Where these workloads stand.
    pub(super) fn standing(&self, of: &[usize]) -> BTreeMap<usize, Shared> {
        let Ok(all) = self.all.lock() else {
            return BTreeMap::new();
        };
        of.iter()
            .filter_map(|w| all.get(*w).map(|workload| (*w, workload)))
            .map(|(w, workload)| match workload.rollable {
                true => (w, workload.standing.unwrap_or(Shared::Pending)),
                false => (w, Shared::ByHand),
            })
            .collect()
    }

    /// When the last of these workloads was complete with the new secrets.
    pub(super) fn available_at(&self, of: &[usize]) -> Option<DateTime<Utc>> {
        let all = self.all.lock().ok()?;
        of.iter()
            .filter_map(|w| all.get(*w).and_then(|w| w.available))
            .max()
    }

    /// An item ended in a run before this one.
    pub(super) fn ended_before(&self, of: &[usize], item: usize, phase: Phase) {
        self.set(of, item, |_| phase);
    }

    /// An item has written its sinks, or given them their old values back, and waits. Returns when its workloads have ended.
    pub(super) async fn arrived(
        &self,
        rotation: &Rotation,
        item: usize,
        phase: Phase,
    ) -> Result<(), LedgerError> {
        let workloads = &rotation.item(item).workloads;
        self.set(workloads, item, |_| phase);
        let mut changed = self.changed.subscribe();
        loop {
            self.advance_all(rotation, workloads).await?;
            let over = |s: &Shared| match phase {
                Phase::Back => matches!(s, Shared::TakenBack | Shared::Stuck | Shared::ByHand),
                _ => *s != Shared::Pending,
            };
            if self.standing(workloads).values().all(over) || rotation.halted() {
                return Ok(());
            }
            let _ = tokio::time::timeout(PAUSE, changed.changed()).await;
        }
    }

    /// An item has ended: nobody waits for it any more.
    pub(super) async fn ended(
        &self,
        rotation: &Rotation,
        item: usize,
        state: Terminal,
    ) -> Result<(), LedgerError> {
        let workloads = &rotation.item(item).workloads;
        let undone = state == Terminal::Undone;
        self.set(workloads, item, |workload| {
            match workload.items.get(&item) {
                Some(Phase::Back) => Phase::Back,
                _ if undone => Phase::Back,
                Some(Phase::Wrote | Phase::Kept) => Phase::Kept,
                _ if workload.standing == Some(Shared::Available) => Phase::Kept,
                _ => Phase::Out,
            }
        });
        self.advance_all(rotation, workloads).await
    }

    fn set(&self, of: &[usize], item: usize, phase: impl Fn(&Workload) -> Phase) {
        self.with(|all| {
            for w in of {
                if let Some(workload) = all.get_mut(*w) {
                    let phase = phase(workload);
                    workload.items.insert(item, phase);
                }
            }
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<Workload>) -> T) -> Option<T> {
        let result = self.all.lock().ok().map(|mut all| f(&mut all));
        self.changed.send_modify(|n| *n += 1);
        result
    }

    /// Moves these workloads as far as they go now.
    pub(super) async fn advance_all(
        &self,
        rotation: &Rotation,
        of: &[usize],
    ) -> Result<(), LedgerError> {
        for w in of {
            let Some(moving) = self.take(*w) else {
                continue;
            };
            let moved = rotation.move_workload(moving).await;
            self.with(|all| {
                let workload = &mut all[*w];
                workload.busy = false;
                if let Ok((journal, standing)) = &moved {
                    workload.available = journal.when(rollout::AVAILABLE, "");
                    workload.journal = journal.clone();
                    workload.standing = Some(*standing);
                }
            });
            moved?;
        }
        Ok(())
    }

    /// Takes a workload to move it, if there is anything to do; one mover at a time.
    fn take(&self, w: usize) -> Option<Moving> {
        self.all.lock().ok().and_then(|mut all| {
            let workload = all.get_mut(w)?;
            let feeding = workload.feeding()?;
            if workload.busy || !workload.rollable || workload.settled(feeding) {
                return None;
            }
            workload.busy = true;
            let take_up = !workload.taken_up && workload.journal.held_up();
            workload.taken_up = true;
            Some(Moving {
                workload: w,
                journal: workload.journal.clone(),
                feeding,
                take_up,
            })
        })
    }
}
