//! Workloads that several items feed: each restarts once, when all of them have written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::incident::kind;
use crate::incident::rotate::{RotateIntent, RotateObserved, RotateOutcome};
use crate::port::LedgerError;
use crate::rotation::call::{Call, Change};
use crate::rotation::journal::{ItemJournal, TAKEN_UP};
use crate::rotation::machine::rollout::{self, Feeding};
use crate::rotation::machine::{Next, Seen, Shared};
use crate::rotation::plan::RotationPlan;
use crate::rotation::words::Terminal;

use super::carry::Rotation;

/// How often a restart may end in doubt before it counts as failed.
const DOUBTS: u32 = 5;

#[derive(Default)]
struct Workload {
    place: String,
    rollable: bool,
    journal: ItemJournal,
    /// Items that feed it and have neither arrived nor ended.
    waiting: BTreeSet<usize>,
    /// Items that wrote and have not taken back.
    wrote: BTreeSet<usize>,
    /// Some item took back.
    taken_back: bool,
    standing: Option<Shared>,
    /// Somebody is moving it.
    busy: bool,
    available: Option<DateTime<Utc>>,
}

/// All workloads of a plan.
pub(super) struct Rollouts {
    all: Mutex<Vec<Workload>>,
    changed: watch::Sender<u64>,
}

impl Rollouts {
    /// From the plan and the journals of the ledger.
    pub(super) fn new(plan: &RotationPlan, journals: &mut BTreeMap<String, ItemJournal>) -> Self {
        let mut all: Vec<Workload> = plan
            .workloads
            .iter()
            .map(|w| Workload {
                place: w.place(),
                rollable: w.rollable,
                journal: journals
                    .remove(&rollout::item_id(&w.place()))
                    .unwrap_or_else(ItemJournal::new),
                ..Workload::default()
            })
            .collect();
        for (index, item) in plan.items.iter().enumerate() {
            for w in &item.workloads {
                if let Some(workload) = all.get_mut(*w) {
                    workload.waiting.insert(index);
                }
            }
        }
        for w in &mut all {
            w.available = w.journal.when(rollout::AVAILABLE, "");
            if w.journal.done(rollout::AVAILABLE, "") && !w.journal.undone(rollout::TRIGGERED, "") {
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
            .map(|(w, workload)| {
                let standing = if workload.rollable {
                    workload.standing.unwrap_or(Shared::Pending)
                } else {
                    Shared::ByHand
                };
                (w, standing)
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

    /// An item has written its sinks and waits. Returns when its workloads have ended.
    pub(super) async fn arrived(
        &self,
        rotation: &Rotation,
        item: usize,
    ) -> Result<(), LedgerError> {
        let workloads = rotation.item(item).workloads.clone();
        self.with(|all| {
            for w in &workloads {
                if let Some(workload) = all.get_mut(*w) {
                    workload.waiting.remove(&item);
                    workload.wrote.insert(item);
                }
            }
        });
        let mut changed = self.changed.subscribe();
        loop {
            for w in &workloads {
                self.advance(rotation, *w).await?;
            }
            let pending = self
                .standing(&workloads)
                .values()
                .any(|s| *s == Shared::Pending);
            if !pending || rotation.halted() {
                return Ok(());
            }
            // Whoever else moves it, or arrives, tells; now and then a stop is looked for.
            let pause = std::time::Duration::from_millis(500);
            let _ = tokio::time::timeout(pause, changed.changed()).await;
        }
    }

    /// An item has ended: nobody waits for it, and one that took back frees the way for taking the restart back.
    pub(super) async fn ended(
        &self,
        rotation: &Rotation,
        item: usize,
        state: Terminal,
    ) -> Result<(), LedgerError> {
        let workloads = rotation.item(item).workloads.clone();
        let undone = state == Terminal::Undone;
        self.with(|all| {
            for w in &workloads {
                if let Some(workload) = all.get_mut(*w) {
                    workload.waiting.remove(&item);
                    if undone {
                        workload.wrote.remove(&item);
                        workload.taken_back = true;
                    }
                }
            }
        });
        for w in &workloads {
            self.advance(rotation, *w).await?;
        }
        Ok(())
    }

    /// Items that a halt leaves where they are: nobody waits for them in this run.
    pub(super) fn done_before(&self, item: usize, wrote: bool, plan: &RotationPlan) {
        self.with(|all| {
            for w in &plan.items[item].workloads {
                if let Some(workload) = all.get_mut(*w) {
                    workload.waiting.remove(&item);
                    if wrote {
                        workload.wrote.insert(item);
                    }
                }
            }
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<Workload>) -> T) -> Option<T> {
        let result = self.all.lock().ok().map(|mut all| f(&mut all));
        self.changed.send_modify(|n| *n += 1);
        result
    }

    /// Moves one workload as far as it goes now; one mover at a time.
    async fn advance(&self, rotation: &Rotation, w: usize) -> Result<(), LedgerError> {
        let taken = self.with(|all| {
            let workload = all.get_mut(w)?;
            let feeding = feeding(workload);
            if workload.busy || !workload.rollable || settled(workload, feeding) {
                return None;
            }
            workload.busy = true;
            let first = workload.standing.is_none();
            Some((workload.journal.clone(), feeding, first))
        });
        let Some(Some((mut journal, feeding, first))) = taken else {
            return Ok(());
        };
        if first && feeding == Some(Feeding::Written) && journal.len > 0 {
            let body = rotation.workload_saw(w, TAKEN_UP, true, BTreeMap::new());
            fold(rotation, &mut journal, kind::ROTATE_OBSERVED, &body, None).await?;
        }
        let moved = self.walk(rotation, w, journal, feeding).await;
        let error = match moved {
            Ok((journal, standing)) => {
                self.with(|all| {
                    let workload = &mut all[w];
                    workload.busy = false;
                    workload.available = journal.when(rollout::AVAILABLE, "");
                    workload.journal = journal;
                    workload.standing = Some(standing);
                });
                None
            }
            Err(e) => {
                self.with(|all| all[w].busy = false);
                Some(e)
            }
        };
        error.map_or(Ok(()), Err)
    }

    async fn walk(
        &self,
        rotation: &Rotation,
        w: usize,
        mut journal: ItemJournal,
        feeding: Option<Feeding>,
    ) -> Result<(ItemJournal, Shared), LedgerError> {
        let Some(feeding) = feeding else {
            // Nobody wrote anything that it reads.
            return Ok((journal, Shared::Available));
        };
        let run = rotation.cx.run.to_string();
        let mut seen: Option<Seen> = None;
        let mut doubts = 0;
        loop {
            let next = match rollout::next(w, &run, &journal, seen.as_ref(), feeding) {
                Ok(standing) => return Ok((journal, standing)),
                Err(next) => next,
            };
            match next {
                Next::Observe => {
                    let object = &rotation.plan.workloads[w].object;
                    let mut look = Seen::default();
                    if let Ok(workloads) = rotation.workloads()
                        && let Ok(r) = rotation.patiently(|| workloads.rollout(object)).await
                    {
                        look.restarted.insert(w, r.restarted_by);
                    } else {
                        doubts += 1;
                        rotation.wait(rotation.plan.waits.poll_ms).await;
                        if doubts >= DOUBTS {
                            return Ok((journal, Shared::Failed));
                        }
                    }
                    seen = Some(look);
                }
                Next::Settle {
                    step,
                    reversal,
                    happened,
                    ..
                } => {
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
                        ..rotation.workload_saw(w, &step, happened, BTreeMap::new())
                    };
                    fold(rotation, &mut journal, kind::ROTATE_OBSERVED, &body, None).await?;
                    seen = None;
                }
                Next::Change(change) => {
                    let sent = self.restart(rotation, w, &mut journal, &change).await?;
                    doubts += u32::from(sent == "in-doubt");
                    if doubts >= DOUBTS {
                        return Ok((journal, Shared::Failed));
                    }
                    seen = None;
                }
                Next::Look { step, .. } => {
                    let found = rotation.rollout_done(w).await;
                    if !found.holds && rotation.halted() {
                        return Ok((journal, Shared::Pending));
                    }
                    let body = rotation.workload_saw(w, step, found.holds, found.facts);
                    fold(rotation, &mut journal, kind::ROTATE_OBSERVED, &body, None).await?;
                }
                _ => return Ok((journal, Shared::Failed)),
            }
        }
    }

    async fn restart(
        &self,
        rotation: &Rotation,
        w: usize,
        journal: &mut ItemJournal,
        change: &Change,
    ) -> Result<&'static str, LedgerError> {
        let workload = &rotation.plan.workloads[w];
        let run = rotation.cx.run.to_string();
        let intent = RotateIntent {
            item: rollout::item_id(&workload.place()),
            kind: "rollout".into(),
            step: change.step.into(),
            attempt: 1,
            target: String::new(),
            call: change.call.name().into(),
            params: BTreeMap::from([
                ("workload".into(), workload.place()),
                ("annotation".into(), run.clone()),
            ]),
            before: BTreeMap::new(),
            idempotency: None,
            fp: None,
            reversal: change.reversal,
            epoch: rotation.epoch,
        };
        let seq = fold(rotation, journal, kind::ROTATE_INTENT, &intent, None).await?;
        let value = matches!(change.call, Call::Restart { .. }).then_some(run.as_str());
        let sent = match rotation.workloads() {
            Ok(workloads) => {
                rotation
                    .patiently_change(|| workloads.restart(&workload.object, value))
                    .await
            }
            Err(e) => Err(e),
        };
        let (result, code) = match &sent {
            Ok(()) => ("ok", None),
            Err(e) if e.cause.may_have_happened() => ("in-doubt", Some(e.cause.as_str())),
            Err(e) => ("refused", Some(super::prepare::code_of(e))),
        };
        let outcome = RotateOutcome {
            item: intent.item,
            step: intent.step,
            attempt: 1,
            target: String::new(),
            result: result.into(),
            code: code.map(str::to_owned),
            got: BTreeMap::new(),
            request_id: None,
            server_date: None,
            reversal: change.reversal,
        };
        fold(rotation, journal, kind::ROTATE_OUTCOME, &outcome, Some(seq)).await?;
        (rotation.cx.progress)(&format!("{} {}: {result}", workload.place(), change.step));
        Ok(result)
    }
}

fn feeding(workload: &Workload) -> Option<Feeding> {
    if !workload.waiting.is_empty() {
        Some(Feeding::Writing)
    } else if !workload.wrote.is_empty() {
        Some(Feeding::Written)
    } else if workload.taken_back {
        Some(Feeding::TakenBack)
    } else {
        None
    }
}

/// Nothing more comes of moving it now.
fn settled(workload: &Workload, feeding: Option<Feeding>) -> bool {
    match feeding {
        Some(Feeding::Written) => {
            matches!(workload.standing, Some(Shared::Available | Shared::Failed))
        }
        Some(Feeding::TakenBack) => workload.journal.undone(rollout::TRIGGERED, ""),
        Some(Feeding::Writing) => true,
        None => workload.standing.is_some(),
    }
}

async fn fold(
    rotation: &Rotation,
    journal: &mut ItemJournal,
    kind: &str,
    body: &impl serde::Serialize,
    intent: Option<u64>,
) -> Result<u64, LedgerError> {
    let entry = rotation.append(kind, body, intent).await?;
    journal.fold(&entry);
    Ok(entry.seq)
}

impl Rotation {
    fn workload_saw(
        &self,
        w: usize,
        step: &str,
        holds: bool,
        facts: BTreeMap<String, String>,
    ) -> RotateObserved {
        RotateObserved {
            item: rollout::item_id(&self.plan.workloads[w].place()),
            step: step.into(),
            attempt: 1,
            target: String::new(),
            holds,
            facts,
            grade: None,
            settles: None,
            reversal: false,
        }
    }
}
