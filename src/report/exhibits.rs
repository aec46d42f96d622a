//! The exhibit register: what was acquired, in which bag, and what the verifier last said of that bag.

use crate::incident::body::{BagOpened, BagSealed, ExhibitAcquired, ExhibitChecked};
use crate::incident::clock_text::millis;
use crate::incident::{History, kind};

use super::document::{BagRow, ExhibitRow};
use super::times::{cite, moment};

/// Every exhibit in order of acquisition.
pub(super) fn register(history: &History) -> Vec<ExhibitRow> {
    let time = |text: String| moment(&text).map(millis).unwrap_or(text);
    history
        .bodies::<ExhibitAcquired>(kind::EXHIBIT_ACQUIRED)
        .map(|(e, x)| ExhibitRow {
            exhibit: x.exhibit,
            bag: x.bag,
            description: x.description,
            category: x.category.to_string(),
            source: x.source,
            system: x.system,
            method: x.method,
            trust: x.trust,
            acquired_by: e.actor.id.clone(),
            bytes: x.bytes,
            records: x.records,
            sha256: x.sha256,
            ended: x.ended,
            why: x.why,
            volatility: x.volatility,
            started: time(x.started),
            finished: time(x.finished),
            cite: cite(e),
        })
        .collect()
}

/// Every bag in order of its number being taken, sealed or not.
pub(super) fn bags(history: &History) -> Vec<BagRow> {
    let mut bags: Vec<BagRow> = Vec::new();
    for e in &history.entries {
        if let Some(b) = e.body_as::<BagOpened>(kind::BAG_OPENED) {
            let row = bag(&mut bags, &b.bag);
            row.purpose = Some(b.purpose);
            row.cites.push(cite(e));
        } else if let Some(b) = e.body_as::<BagSealed>(kind::BAG_SEALED) {
            let row = bag(&mut bags, &b.bag);
            row.seal_sha256 = Some(b.seal_sha256);
            row.bytes = Some(b.bytes);
            row.files = Some(b.files);
            row.records = Some(b.records);
            row.recoveries = Some(b.recoveries);
            row.cites.push(cite(e));
        } else if let Some(b) = e.body_as::<ExhibitChecked>(kind::EXHIBIT_CHECKED)
            && b.bag != "ledger"
        {
            let row = bag(&mut bags, &b.bag);
            row.verdict = Some(b.verdict);
            row.exit = Some(b.exit);
            row.cites.push(cite(e));
        }
    }
    bags
}

/// The row of a bag; a bag that is named without having been opened gets one too, so that it is not lost.
fn bag<'a>(bags: &'a mut Vec<BagRow>, number: &str) -> &'a mut BagRow {
    let at = bags
        .iter()
        .position(|b| b.bag == number)
        .unwrap_or_else(|| {
            bags.push(BagRow {
                bag: number.to_owned(),
                purpose: None,
                seal_sha256: None,
                bytes: None,
                files: None,
                records: None,
                recoveries: None,
                verdict: None,
                exit: None,
                cites: vec![],
            });
            bags.len() - 1
        });
    &mut bags[at]
}
