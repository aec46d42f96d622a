//! The table of credentials that were replaced, with proof and with what is not proven.

use crate::incident::clock_text::span;
use crate::incident::rotate::{CredentialRow, RotationStatus};

use super::block::{Block, Cell, Row, Tone, table_or};
use super::document::{IncidentDocument, RotationStory};

/// Blocks of every rotation.
pub(super) fn rotations(doc: &IncidentDocument) -> Vec<Block> {
    if doc.rotations.is_empty() {
        return vec![Block::Para(
            "No rotation was planned. That says nothing of what people replaced by other means."
                .into(),
        )];
    }
    doc.rotations.iter().flat_map(blocks).collect()
}

fn blocks(story: &RotationStory) -> Vec<Block> {
    let mut facts = vec![
        ("Account", Cell::text(&story.account)),
        ("Mode", Cell::text(&story.mode)),
        ("Selected by", Cell::text(&story.selector)),
        ("Planned", Cell::Time(story.planned.clone())),
        ("Run", Cell::Code(story.run.clone())),
        ("Plan SHA-256", Cell::Code(story.plan_sha256.clone())),
        ("Proof", Cell::Cites(vec![story.cite.clone()])),
    ];
    let Some(status) = &story.status else {
        let gone = "the pinned plan is not there, or is not what was planned";
        facts.push(("Credentials", Cell::Mark(Tone::Bad, gone.into())));
        return vec![Block::Facts(facts)];
    };
    facts.extend(totals(status));
    vec![
        Block::Facts(facts),
        table_or(
            "The plan has no credential.",
            format!("Credentials of plan {}", story.plan_sha256),
            &[
                "Credential",
                "Outcome",
                "Old, new",
                "Disabled, void, no return",
                "Old is dead",
                "New, consumers",
                "Left over, not proven",
            ],
            status.rows.iter().map(row).collect(),
        ),
        table_or(
            "Nothing.",
            "Not proven by this rotation",
            &["What"],
            status
                .not_proven
                .iter()
                .map(|l| vec![Cell::text(l)].into())
                .collect(),
        ),
    ]
}

fn totals(status: &RotationStatus) -> Vec<(&'static str, Cell)> {
    let t = &status.totals;
    let states: Vec<String> = t.by_state.iter().map(|(s, n)| format!("{n} {s}")).collect();
    let time = |ms: Option<i64>| match ms {
        Some(ms) => Cell::text(span(ms)),
        None => Cell::Mark(Tone::Open, "not all yet".into()),
    };
    let exposure = match &t.longest_exposure {
        None => Cell::none(),
        Some(e) => {
            let until = match &e.until {
                Some(until) => Cell::Time(until.clone()),
                None => Cell::Mark(Tone::Bad, "usable still".into()),
            };
            Cell::Many(vec![
                Cell::text(format!("{}: {}", e.item, span(e.ms))),
                Cell::Time(e.since.clone()),
                until,
            ])
        }
    };
    vec![
        ("Credentials", Cell::text(states.join(", "))),
        (
            "Old ones proven dead",
            Cell::text(format!("{} of {}", t.old_dead, status.rows.len())),
        ),
        ("Time to last old dead", time(t.time_to_last_old_dead_ms)),
        (
            "Time to last consumer healthy",
            time(t.time_to_last_consumer_ms),
        ),
        ("Longest exposure", exposure),
        (
            "Changes sent",
            Cell::text(format!("{}, {} throttled", t.calls, t.throttled)),
        ),
    ]
}

fn tone(state: &str) -> Tone {
    match state {
        "done" => Tone::Good,
        "stuck" | "undone" => Tone::Bad,
        _ => Tone::Open,
    }
}

fn row(r: &CredentialRow) -> Row {
    let mut outcome = vec![Cell::Mark(tone(&r.state), r.state.clone())];
    outcome.extend(r.reason.iter().map(|w| Cell::Mark(Tone::Open, w.clone())));
    outcome.extend(r.hint.iter().map(|h| Cell::text(format!("to do: {h}"))));
    if r.attempts > 1 {
        outcome.push(Cell::text(format!("{} attempts", r.attempts)));
    }
    let mut ids = vec![Cell::Code(r.old.clone())];
    ids.extend(r.new.iter().cloned().map(Cell::Code));
    let mut times = Vec::new();
    times.extend(r.disabled_at.iter().cloned().map(Cell::Time));
    times.extend(
        r.void_before
            .iter()
            .flat_map(|t| [Cell::text("void before"), Cell::Time(t.clone())]),
    );
    times.extend(
        r.no_return
            .iter()
            .map(|t| Cell::text(format!("no return: {t}"))),
    );
    let mut dead = match &r.grade {
        Some(grade) => vec![Cell::text(grade)],
        None => vec![Cell::Mark(Tone::Open, "not shown".into())],
    };
    dead.extend(r.codes.iter().cloned().map(Cell::Code));
    if !r.entries.is_empty() {
        let entries: Vec<String> = r.entries.iter().map(|e| format!("#{e}")).collect();
        dead.push(Cell::text(entries.join(", ")));
    }
    let new = texts(r.verified.iter().chain(&r.consumers));
    let left = r.orphans.iter().chain(&r.residue);
    let mut left: Vec<Cell> = left.map(Cell::text).collect();
    left.extend(
        r.not_proven
            .iter()
            .map(|l| Cell::Mark(Tone::Open, l.clone())),
    );
    vec![
        Cell::Many(vec![
            Cell::text(&r.name),
            Cell::text(format!(
                "{} {}, {}, account {}",
                r.item, r.kind, r.mode, r.account
            )),
        ]),
        Cell::Many(outcome),
        Cell::Many(ids),
        many(times),
        Cell::Many(dead),
        many(new),
        many(left),
    ]
    .into()
}

fn texts<'a>(of: impl Iterator<Item = &'a String>) -> Vec<Cell> {
    of.map(Cell::text).collect()
}

fn many(cells: Vec<Cell>) -> Cell {
    if cells.is_empty() {
        Cell::none()
    } else {
        Cell::Many(cells)
    }
}
