//! Moving one workload: its restart, the wait for its rollout, and the restart with the old values.

use std::collections::BTreeMap;

use crate::incident::kind;
use crate::incident::rotate::{RotateIntent, RotateObserved, RotateOutcome};
use crate::port::{LedgerError, PortError};
use crate::rotation::call::{Call, Change};
use crate::rotation::journal::{ItemJournal, TAKEN_UP};
use crate::rotation::machine::rollout::{self, Rolled};
use crate::rotation::machine::{Next, Seen, Shared};
use crate::rotation::plan::{AccountMove, What};

use super::carry::Rotation;
use super::prepare::code_of;
use super::record::{observed, settling};
use super::rollouts::Moving;

/// How often a restart may end in doubt before it counts as failed.
const DOUBTS: u32 = 5;

impl Rotation {
    /// Moves a workload as far as it goes now.
    pub(super) async fn move_workload(
        &self,
        moving: Moving,
    ) -> Result<(ItemJournal, Shared), LedgerError> {
        let (w, mut journal) = (moving.workload, moving.journal);
        let run = self.cx.run.to_string();
        let of = Rolled {
            workload: w,
            run: &run,
            moves: self.moves(w),
        };
        if moving.take_up {
            self.workload_saw(w, &mut journal, self.of_workload(w, TAKEN_UP, true))
                .await?;
        }
        let mut seen: Option<Seen> = None;
        let mut doubts = 0;
        loop {
            if doubts >= DOUBTS {
                return Ok((journal, Shared::Failed));
            }
            let next = match rollout::next(&of, &journal, seen.as_ref(), moving.feeding) {
                Ok(standing) => return Ok((journal, standing)),
                Err(next) => next,
            };
            if next.goes_on() && self.halted() {
                return Ok((journal, Shared::Pending));
            }
            match next {
                Next::Observe => {
                    seen = self.see_workload(w).await;
                    doubts += u32::from(seen.is_none());
                }
                Next::Settle {
                    step,
                    reversal,
                    happened,
                    ..
                } => {
                    let body = settling(self.of_workload(w, &step, happened), reversal);
                    self.workload_saw(w, &mut journal, body).await?;
                    seen = None;
                }
                Next::Change(change) => {
                    let sent = self.restart(w, &mut journal, &change).await?;
                    doubts += u32::from(sent == "in-doubt");
                    seen = None;
                }
                Next::Look { step, target, .. } => {
                    let found = self.rollout_done(w).await;
                    if !found.holds && self.halted() {
                        return Ok((journal, Shared::Pending));
                    }
                    let body = RotateObserved {
                        target,
                        facts: found.facts,
                        ..self.of_workload(w, step, found.holds)
                    };
                    self.workload_saw(w, &mut journal, body).await?;
                }
                _ => return Ok((journal, Shared::Failed)),
            }
        }
    }

    /// The move to another service account that some item of the plan makes with a workload.
    fn moves(&self, w: usize) -> Option<&AccountMove> {
        self.plan.items.iter().find_map(|item| match &item.what {
            What::RoleSessions(role) if item.needs_human.is_none() => {
                role.moves.iter().find(|m| m.workload == w)
            }
            _ => None,
        })
    }

    async fn see_workload(&self, w: usize) -> Option<Seen> {
        let object = &self.plan.workloads[w].object;
        let workloads = self.workloads().ok()?;
        match self.patiently(|| workloads.rollout(object)).await {
            Ok(rollout) => Some(Seen {
                restarted: BTreeMap::from([(w, rollout.restarted_by)]),
                accounts: BTreeMap::from([(w, rollout.service_account)]),
                ..Seen::default()
            }),
            Err(_) => {
                self.wait(self.plan.waits.poll_ms).await;
                None
            }
        }
    }

    async fn restart(
        &self,
        w: usize,
        journal: &mut ItemJournal,
        change: &Change,
    ) -> Result<&'static str, LedgerError> {
        let place = self.plan.workloads[w].place();
        let mut params = change.call.params();
        params.insert("workload".into(), place.clone());
        params.insert("annotation".into(), self.cx.run.to_string());
        let intent = RotateIntent {
            item: rollout::item_id(&place),
            kind: "rollout".into(),
            step: change.step.into(),
            attempt: 1,
            target: String::new(),
            call: change.call.name().into(),
            params,
            before: BTreeMap::new(),
            idempotency: None,
            fp: None,
            reversal: change.reversal,
            epoch: self.epoch,
        };
        let entry = self.append(kind::ROTATE_INTENT, &intent, None).await?;
        journal.fold(&entry);
        let sent = self
            .patiently_change(|| self.send_restart(w, &change.call))
            .await;
        let (result, code) = match &sent {
            Ok(()) => ("ok", None),
            Err(e) if e.cause.may_have_happened() => ("in-doubt", Some(e.cause.as_str())),
            Err(e) => ("refused", Some(code_of(e))),
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
        let entry = self
            .append(kind::ROTATE_OUTCOME, &outcome, Some(entry.seq))
            .await?;
        journal.fold(&entry);
        (self.cx.progress)(&format!("{place} {}: {result}", change.step));
        Ok(result)
    }

    async fn send_restart(&self, w: usize, call: &Call) -> Result<(), PortError> {
        let object = &self.plan.workloads[w].object;
        let workloads = self.workloads()?;
        let run = self.cx.run.to_string();
        match call {
            Call::MoveAccount { from, to, .. } => {
                workloads.move_service_account(object, from, to).await
            }
            Call::Restart { .. } => workloads.restart(object, Some(run.as_str())).await,
            _ => workloads.restart(object, None).await,
        }
    }

    fn of_workload(&self, w: usize, step: &str, holds: bool) -> RotateObserved {
        let item = rollout::item_id(&self.plan.workloads[w].place());
        observed(&item, step, "", 1, holds, BTreeMap::new())
    }

    async fn workload_saw(
        &self,
        w: usize,
        journal: &mut ItemJournal,
        body: RotateObserved,
    ) -> Result<(), LedgerError> {
        let entry = self.append(kind::ROTATE_OBSERVED, &body, None).await?;
        journal.fold(&entry);
        if body.step == rollout::AVAILABLE {
            let how = if body.holds { "up" } else { "not up" };
            (self.cx.progress)(&format!("{}: {how}", self.plan.workloads[w].place()));
        }
        Ok(())
    }
}
