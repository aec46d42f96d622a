//! Sections on what is proven: exhibits and bags, proof tables, canaries, credentials.

use crate::incident::clock_text::span;

use super::block::{Block, Cell, Row, Tone, table_or};
use super::document::{BagRow, ExhibitRow, IncidentDocument, ProofRow};
use super::view::groups_of_four;

/// The short list beside the narrative.
pub(super) fn exhibit_list(doc: &IncidentDocument) -> Vec<Block> {
    let rows = doc
        .exhibits
        .iter()
        .map(|x| {
            vec![
                Cell::Code(x.exhibit.clone()),
                Cell::text(&x.description),
                Cell::text(&x.category),
            ]
            .into()
        })
        .collect();
    vec![table_or(
        "No exhibit was acquired.",
        "Exhibits to cite",
        &["Exhibit", "What", "Kind"],
        rows,
    )]
}

pub(super) fn register(doc: &IncidentDocument) -> Vec<Block> {
    vec![
        table_or(
            "No exhibit was acquired.",
            "Exhibit register",
            &[
                "Exhibit",
                "What, from where",
                "How acquired",
                "Size",
                "Digest",
                "Started, finished",
                "Proof",
            ],
            doc.exhibits.iter().map(exhibit_row).collect(),
        ),
        table_or(
            "No bag was opened.",
            "Evidence bags",
            &[
                "Bag",
                "Purpose",
                "Seal SHA-256",
                "Holds",
                "Last verification",
                "Proof",
            ],
            doc.bags.iter().map(bag_row).collect(),
        ),
        Block::Facts(vec![
            (
                "Authority (who ordered, legal basis)",
                Cell::text("⟦to be written: by a person⟧"),
            ),
            ("Witness", Cell::text("⟦to be written: by a person⟧")),
            ("Legal hold", Cell::text("⟦to be written: by a person⟧")),
        ]),
    ]
}

fn exhibit_row(x: &ExhibitRow) -> Row {
    let mut what = vec![Cell::text(format!("{} ({})", x.description, x.category))];
    what.push(Cell::Code(format!("bag {} data/{}", x.bag, x.source)));
    what.extend(
        x.system
            .iter()
            .map(|(name, value)| Cell::text(format!("{name}: {value}"))),
    );
    let mut how = vec![
        Cell::text(&x.method),
        Cell::text(format!("by {}", x.acquired_by)),
        Cell::text(format!("volatility rank {}", x.volatility)),
    ];
    if let Some(trust) = &x.trust {
        let text = format!("{trust} trust: the suspect's own tools answered");
        how.push(Cell::Mark(Tone::Open, text));
    }
    if x.ended != "complete" {
        let why = x.why.as_deref().unwrap_or("no reason recorded");
        how.push(Cell::Mark(
            Tone::Bad,
            format!("not complete ({}): {why}", x.ended),
        ));
    }
    vec![
        Cell::Code(x.exhibit.clone()),
        Cell::Many(what),
        Cell::Many(how),
        Cell::Many(vec![
            Cell::text(format!("{} bytes", x.bytes)),
            Cell::text(format!("{} records", x.records)),
        ]),
        match &x.sha256 {
            Some(digest) => Cell::Code(digest.clone()),
            None => Cell::text("several segments: the bag's seal covers each"),
        },
        Cell::Many(vec![
            Cell::Time(x.started.clone()),
            Cell::Time(x.finished.clone()),
        ]),
        Cell::Cites(vec![x.cite.clone()]),
    ]
    .into()
}

fn bag_row(b: &BagRow) -> Row {
    let seal = match &b.seal_sha256 {
        Some(seal) => Cell::Code(groups_of_four(seal)),
        None => Cell::Mark(Tone::Bad, "not sealed".into()),
    };
    let holds = match (b.files, b.bytes, b.records, b.recoveries) {
        (Some(files), Some(bytes), Some(records), Some(recoveries)) => Cell::Many(vec![
            Cell::text(format!("{files} files, {bytes} bytes")),
            Cell::text(format!("{records} records, {recoveries} recovered ranges")),
        ]),
        _ => Cell::Mark(Tone::Open, "unknown until sealed".into()),
    };
    let verdict = match (&b.verdict, b.exit) {
        (Some(verdict), Some(0)) => Cell::Mark(Tone::Good, format!("{verdict} (exit 0)")),
        (Some(verdict), Some(exit)) => Cell::Mark(Tone::Bad, format!("{verdict} (exit {exit})")),
        _ => Cell::Mark(Tone::Open, "not recorded".into()),
    };
    vec![
        Cell::Code(b.bag.clone()),
        Cell::or_unknown(&b.purpose),
        seal,
        holds,
        verdict,
        Cell::Cites(b.cites.clone()),
    ]
    .into()
}

/// Proof tables and canaries.
pub(super) fn proofs(doc: &IncidentDocument) -> Vec<Block> {
    let c = &doc.containment;
    let mut all = Vec::new();
    if c.proofs.is_empty() {
        all.push(Block::Para(
            "No proof was recorded: nothing here says that anything is isolated.".into(),
        ));
    }
    for row in &c.proofs {
        all.extend(proof(row));
    }
    let canaries = c
        .canaries
        .iter()
        .map(|c| {
            let tone = if c.verdict == "enforced" {
                Tone::Good
            } else {
                Tone::Bad
            };
            let mut verdict = vec![Cell::Mark(tone, c.verdict.clone())];
            verdict.extend(c.why.iter().map(Cell::text));
            vec![
                Cell::text(&c.node),
                Cell::Many(verdict),
                Cell::text(c.seen.join(" → ")),
                Cell::Cites(vec![c.cite.clone()]),
            ]
            .into()
        })
        .collect();
    all.push(table_or(
        "No canary was recorded.",
        "Canaries: does the network plugin enforce policies on this node",
        &["Node", "Verdict", "Seen", "Proof"],
        canaries,
    ));
    all
}

fn proof(row: &ProofRow) -> Vec<Block> {
    let p = &row.proof;
    let tone = |isolated: bool| if isolated { Tone::Good } else { Tone::Bad };
    let enforced = match p.time_to_enforce_ms.and_then(|ms| i64::try_from(ms).ok()) {
        Some(ms) => Cell::text(span(ms)),
        None => Cell::text("not seen"),
    };
    let list = |items: &[String], none: &str| {
        if items.is_empty() {
            Cell::text(none)
        } else {
            Cell::Many(items.iter().map(Cell::text).collect())
        }
    };
    let cells = p
        .cells
        .iter()
        .map(|c| {
            vec![
                Cell::text(&c.direction),
                Cell::text(format!("{} → {}", c.from, c.to)),
                Cell::text(&c.before),
                Cell::text(&c.after),
                Cell::text(&c.control),
                Cell::Mark(tone(c.verdict == "match"), c.verdict.clone()),
                Cell::text(&c.basis),
            ]
            .into()
        })
        .collect();
    vec![
        Block::Facts(vec![
            (
                "Pod",
                Cell::Many(vec![Cell::text(&p.pod), Cell::Code(p.pod_uid.clone())]),
            ),
            ("After phase", Cell::text(&p.phase)),
            (
                "Verdict",
                Cell::Mark(tone(p.verdict == "isolated"), p.verdict.clone()),
            ),
            ("Why", list(&p.why, "–")),
            ("Probed", Cell::Time(row.time.clone())),
            ("Time to enforce", enforced),
            (
                "Connections that stay open",
                list(&p.open_connections, "none recorded"),
            ),
            (
                "Connections that stand, and that nothing gets through any more",
                list(&p.cut_connections, "none recorded"),
            ),
            ("What probes cannot see", list(&p.not_seen, "none recorded")),
            ("Proof", Cell::Cites(vec![row.cite.clone()])),
        ]),
        table_or(
            "No probe was made.",
            format!("Proof table of {}, after phase {}", p.pod, p.phase),
            &[
                "Direction",
                "From → to",
                "Before",
                "After",
                "Control",
                "Verdict",
                "Rests on",
            ],
            cells,
        ),
    ]
}

pub(super) fn credentials(doc: &IncidentDocument) -> Block {
    let rows = doc
        .containment
        .credentials
        .iter()
        .map(|c| {
            vec![
                Cell::text(&c.kind),
                Cell::Code(c.name.clone()),
                Cell::text(&c.pod),
                Cell::text(c.through.join(", ")),
                Cell::Cites(vec![c.cite.clone()]),
            ]
            .into()
        })
        .collect();
    table_or(
        "No entry lists credentials. That is not proof that none are at risk.",
        "Credentials that a contained pod could use: names only",
        &["Kind", "Name", "Pod", "Through", "Proof"],
        rows,
    )
}
