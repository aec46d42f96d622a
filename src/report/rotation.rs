//! What was rotated: each plan that the ledger holds with the table of its credentials, and the words of the timeline for it.

use crate::incident::clock_text::millis;
use crate::incident::rotate::{
    RotateIntent, RotateItem, RotateObserved, RotateOutcome, RotationPlanned,
};
use crate::incident::{Entry, History, kind};
use crate::rotation::plan::RotationPlan;
use crate::rotation::status::status;

use super::Texts;
use super::document::RotationStory;
use super::json::sha256_hex;
use super::times::cite;

/// Every rotation in the order in which it was planned.
pub(super) fn rotations(history: &History, texts: &Texts) -> Vec<RotationStory> {
    history
        .bodies::<RotationPlanned>(kind::ROTATION_PLANNED)
        .map(|(entry, planned)| {
            let plan = texts
                .get(&planned.plan_sha256)
                .filter(|t| sha256_hex(t.as_bytes()) == planned.plan_sha256)
                .and_then(|t| RotationPlan::read(t.as_bytes()).ok());
            let run = entry.run().unwrap_or_default();
            let of_run = history.entries.iter().filter(|e| e.run() == Some(run));
            RotationStory {
                plan_sha256: planned.plan_sha256.clone(),
                account: planned.account,
                mode: planned.mode,
                selector: planned.selector,
                planned: millis(entry.time),
                run: run.to_owned(),
                status: plan.map(|plan| status(&plan, &planned.plan_sha256, run, of_run)),
                cite: cite(entry),
            }
        })
        .collect()
}

/// What an entry of a rotation says; `None` = it is none, or its payload does not fit.
pub fn said(e: &Entry) -> Option<String> {
    match e.kind.as_str() {
        kind::ROTATION_PLANNED => planned(&e.body_as(&e.kind)?),
        kind::ROTATE_INTENT => intended(&e.body_as(&e.kind)?),
        kind::ROTATE_OUTCOME => answered(&e.body_as(&e.kind)?),
        kind::ROTATE_OBSERVED => observed(&e.body_as(&e.kind)?),
        kind::ROTATE_ITEM => ended(&e.body_as(&e.kind)?),
        _ => return None,
    }
    .into()
}

fn planned(b: &RotationPlanned) -> String {
    let kinds: Vec<String> = b.items.iter().map(|(k, n)| format!("{n} {k}")).collect();
    format!(
        "rotation planned in account {}, {}: {}, plan {}, selected by {}",
        b.account,
        b.mode,
        kinds.join(", "),
        b.plan_sha256,
        b.selector
    )
}

fn on(target: &str) -> String {
    if target.is_empty() {
        String::new()
    } else {
        format!(" ({target})")
    }
}

fn intended(b: &RotateIntent) -> String {
    let params: Vec<String> = b.params.iter().map(|(k, v)| format!("{k} {v}")).collect();
    let back = if b.reversal { " (takes back)" } else { "" };
    format!(
        "{}: about to call {} for {}{}{back}: {}",
        b.item,
        b.call,
        b.step,
        on(&b.target),
        params.join(", ")
    )
}

fn answered(b: &RotateOutcome) -> String {
    let code = b.code.as_deref().map(|c| format!(" ({c})"));
    let back = if b.reversal { ", taken back" } else { "" };
    format!(
        "{}: {}{}: {}{}{back}",
        b.item,
        b.step,
        on(&b.target),
        b.result,
        code.unwrap_or_default()
    )
}

fn observed(b: &RotateObserved) -> String {
    let word = match (b.settles.as_deref(), b.holds) {
        (Some(settled), _) => settled,
        (None, true) => "seen",
        (None, false) => "does not hold",
    };
    let grade = b.grade.as_deref().map(|g| format!(", proof {g}"));
    let facts: Vec<String> = b.facts.iter().map(|(k, v)| format!("{k} {v}")).collect();
    format!(
        "{}: {}{}: {word}{}: {}",
        b.item,
        b.step,
        on(&b.target),
        grade.unwrap_or_default(),
        facts.join(", ")
    )
}

fn ended(b: &RotateItem) -> String {
    let reason = b.reason.as_deref().map(|r| format!(" ({r})"));
    format!(
        "{}: {}{}: {}",
        b.item,
        b.state,
        reason.unwrap_or_default(),
        b.summary
    )
}
