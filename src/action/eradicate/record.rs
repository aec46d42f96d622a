//! What is written down of an item: the outcome of a change, what a look found, how it ended.

use std::collections::BTreeMap;

use crate::incident::rotate::{RotateIntent, RotateItem, RotateObserved, RotateOutcome};
use crate::incident::{Draft, Entry, Refs, kind};
use crate::port::LedgerError;
use crate::rotation::call::{Change, Look};
use crate::rotation::machine::Ending;
use crate::rotation::words::{Reason, Terminal};

use super::carry::{Carrier, Rotation};
use super::perform::Sent;

/// How often one change may end in doubt before a person decides.
const DOUBTS: u32 = 5;

impl Rotation {
    pub(super) async fn outcome(
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
    pub(super) async fn not_prepared(
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

    /// Looks at what the machine asks for and writes down what was found. A look that was cut short by a stop found nothing.
    pub(super) async fn look(
        &self,
        at: &mut Carrier,
        step: &'static str,
        target: &str,
        look: &Look,
    ) -> Result<(), LedgerError> {
        at.seen = None;
        let found = self.find(at, look).await;
        if !found.holds && self.halted() {
            return Ok(());
        }
        let how = if found.holds {
            "holds"
        } else {
            "does not hold"
        };
        self.tell(at, step, target, how);
        let (item, attempt) = (&self.item(at.item).id, at.journal.attempt);
        let body = RotateObserved {
            grade: found.grade.map(|g| g.as_str().to_owned()),
            ..observed(item, step, target, attempt, found.holds, found.facts)
        };
        self.saw(at, body).await
    }

    pub(super) async fn saw(
        &self,
        at: &mut Carrier,
        body: RotateObserved,
    ) -> Result<(), LedgerError> {
        let entry = self.append(kind::ROTATE_OBSERVED, &body, None).await?;
        at.journal.fold(&entry);
        Ok(())
    }

    pub(super) async fn append(
        &self,
        kind: &str,
        body: &impl serde::Serialize,
        intent: Option<u64>,
    ) -> Result<Entry, LedgerError> {
        let refs = Refs {
            intent,
            ..self.cx.refs()
        };
        self.writer.append(Draft::new(kind, body).about(refs)).await
    }

    /// An item ended, for now or for good.
    pub(super) async fn end(
        &self,
        at: &mut Carrier,
        ending: Ending,
    ) -> Result<Ending, LedgerError> {
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
}

/// Something that was looked at, or a fact of the machine.
pub(super) fn observed(
    item: &str,
    step: &str,
    target: &str,
    attempt: u32,
    holds: bool,
    facts: BTreeMap<String, String>,
) -> RotateObserved {
    RotateObserved {
        item: item.to_owned(),
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

/// The same as what settles an intent in doubt: it holds when it happened.
pub(super) fn settling(body: RotateObserved, reversal: bool) -> RotateObserved {
    let settles = if body.holds {
        "happened"
    } else {
        "did-not-happen"
    };
    RotateObserved {
        settles: Some(settles.into()),
        reversal,
        ..body
    }
}
