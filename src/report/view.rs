//! The document as chapters of blocks: which fact stands where, once for all formats.

use crate::incident::Milestone;
use crate::incident::clock_text::span;

use super::block::{Block, Cell, Chapter, Row, Tone, table_or};
use super::document::{FindingKind, IncidentDocument, Split, Verdict};
use super::sections::{Fill, Section, sections};
use super::{view_evidence, view_response};

/// The incident document, section 0 to 17.
pub(super) fn incident(doc: &IncidentDocument) -> Vec<Chapter> {
    sections()
        .iter()
        .filter_map(|s| {
            let title = format!("{}. {}", s.number?, s.title);
            Some(Chapter {
                key: s.key,
                title,
                blocks: blocks(doc, s),
            })
        })
        .collect()
}

fn blocks(doc: &IncidentDocument, section: &Section) -> Vec<Block> {
    let mut all = Vec::new();
    if section.fill == Fill::Prompt {
        all.extend(prose(doc, section.key));
    }
    all.extend(match section.key {
        "document-control" => control(doc),
        "executive-summary" => vec![facts_line(doc)],
        "classification" => classification(doc),
        "key-times" => key_times(doc),
        "metrics" => metrics(doc),
        "detection" => detection(doc),
        "timeline" => view_response::timeline(doc),
        "impact" => impact(doc),
        "technical-narrative" => view_evidence::exhibit_list(doc),
        "response" => view_response::response(doc),
        "exhibits" => view_evidence::register(doc),
        "recovery" => view_response::recovery(doc),
        "communications" => view_response::communications(doc),
        "residual-risk" => view_response::left_lists(doc),
        "actions" => view_response::actions(doc),
        "annexes" => annexes(doc),
        _ => vec![],
    });
    all
}

/// The text in force, or the prompt.
pub(super) fn prose(doc: &IncidentDocument, key: &str) -> Vec<Block> {
    let Some(prose) = doc.text(key) else {
        return vec![];
    };
    match &prose.written {
        Some(written) => {
            let mut all = vec![Block::Written(written.clone())];
            if !prose.superseded.is_empty() {
                all.push(Block::Facts(vec![(
                    "Earlier texts, superseded",
                    Cell::Cites(prose.superseded.clone()),
                )]));
            }
            all
        }
        None => vec![Block::Prompt(prose.guidance.clone())],
    }
}

fn control(doc: &IncidentDocument) -> Vec<Block> {
    let c = &doc.control;
    let many = |items: &[String]| {
        if items.is_empty() {
            Cell::none()
        } else {
            Cell::Many(items.iter().map(Cell::text).collect())
        }
    };
    let identities = match c.policy.as_deref() {
        Some("solo") => Cell::text("solo: identities are self-asserted, one person approves"),
        Some(other) => Cell::text(other),
        None => Cell::or_unknown(&None),
    };
    let trust = c
        .ledger
        .trust
        .iter()
        .map(|(name, digest)| Cell::Code(format!("{name} {digest}")))
        .collect();
    let mut all = vec![Block::Facts(vec![
        ("Incident", Cell::Code(c.incident.clone())),
        ("Title", Cell::or_unknown(&c.title)),
        (
            "Mode",
            Cell::text(if doc.is_drill() {
                "DRILL: an exercise"
            } else {
                "LIVE"
            }),
        ),
        ("Marking", Cell::or_unknown(&c.tlp)),
        (
            "Status",
            Cell::Mark(Tone::Open, format!("{}, not reviewed", c.status)),
        ),
        ("Version", Cell::text(c.version.to_string())),
        ("As of", Cell::Time(c.as_of.clone())),
        ("Authors of text", many(&c.authors)),
        ("Reviewers", Cell::text("none: this draft was not reviewed")),
        ("Policy", identities),
        ("Targets", many(&c.targets)),
        ("Ledger entries", Cell::text(c.ledger.entries.to_string())),
        ("Last entry", Cell::cite(&c.ledger.last)),
        ("Merkle root", Cell::Code(c.ledger.root.clone())),
        (
            "Key fingerprint",
            Cell::Code(groups_of_four(&c.ledger.fingerprint)),
        ),
        (
            "Ledger origin",
            c.origin.clone().map_or_else(Cell::none, Cell::Code),
        ),
        (
            "Pinned trust files",
            if c.ledger.trust.is_empty() {
                Cell::none()
            } else {
                Cell::Many(trust)
            },
        ),
        ("Built by", Cell::Code(c.tool.clone())),
    ])];
    all.push(Block::Heading("Open points and contradictions".into()));
    all.push(table_or(
        "None.",
        "What is open, and what contradicts itself",
        &["Code", "Kind", "Section", "What", "Proof"],
        findings(doc),
    ));
    all
}

fn findings(doc: &IncidentDocument) -> Vec<Row> {
    doc.findings
        .iter()
        .map(|f| {
            let kind = match f.kind {
                FindingKind::Open => Cell::Mark(Tone::Open, "open".into()),
                FindingKind::Contradiction => Cell::Mark(Tone::Bad, "contradiction".into()),
            };
            vec![
                Cell::Code(f.code.clone()),
                kind,
                Cell::text(&f.section),
                Cell::text(&f.message),
                Cell::cite(&f.cite),
            ]
            .into()
        })
        .collect()
}

/// A digest in groups of four, to be compared by eye.
pub(super) fn groups_of_four(hex: &str) -> String {
    let chars: Vec<char> = hex.chars().collect();
    let groups: Vec<String> = chars.chunks(4).map(|c| c.iter().collect()).collect();
    groups.join(" ")
}

fn facts_line(doc: &IncidentDocument) -> Block {
    let time = |m| Cell::time(&doc.key_time(m).and_then(|k| k.at.clone()));
    let steps: Vec<_> = doc.runs.iter().flat_map(|r| &r.steps).collect();
    let red = steps.iter().filter(|s| !s.red.is_empty()).count();
    let reached = steps.iter().filter(|s| !s.cites.is_empty()).count();
    Block::Facts(vec![
        ("Severity", Cell::or_unknown(&doc.classification.severity)),
        ("Declared", time(Milestone::Declared)),
        ("Contained", time(Milestone::Contained)),
        ("Restored", time(Milestone::Restored)),
        (
            "Steps",
            Cell::text(format!(
                "{reached} of {} reached, {red} marked red",
                steps.len()
            )),
        ),
        (
            "Exhibits",
            Cell::text(format!("{} in {} bags", doc.exhibits.len(), doc.bags.len())),
        ),
        (
            "Left possible or not proven",
            Cell::text(format!(
                "{} and {} points, section 9",
                doc.containment.residual_reach.len(),
                doc.containment.not_proven.len()
            )),
        ),
    ])
}

fn classification(doc: &IncidentDocument) -> Vec<Block> {
    let c = &doc.classification;
    vec![Block::Facts(vec![
        ("Severity at declaration", Cell::or_unknown(&c.severity)),
        (
            "Declared in phase",
            Cell::or_unknown(&c.declared_in.map(|p| p.to_string())),
        ),
        ("Proof", Cell::cite(&c.cite)),
    ])]
}

fn key_times(doc: &IncidentDocument) -> Vec<Block> {
    let rows = doc
        .key_times
        .iter()
        .map(|k| {
            let name = match k.tier {
                Some(tier) => format!("{} (tier {tier})", k.milestone),
                None => k.milestone.to_string(),
            };
            let at = if k.at.is_none() && k.person_only {
                Cell::Mark(
                    Tone::Open,
                    format!(
                        "⟦to be written: a person states it: firebreak incident milestone {}⟧",
                        k.milestone
                    ),
                )
            } else {
                Cell::time(&k.at)
            };
            let basis = match &k.confidence {
                Some(c) => format!("{}, confidence {c}", k.basis),
                None => k.basis.clone(),
            };
            let mut cites: Vec<_> = k.cite.iter().cloned().collect();
            cites.extend(k.others.iter().cloned());
            vec![
                Cell::text(name),
                at,
                Cell::text(basis),
                k.actor.clone().map_or_else(Cell::none, Cell::Text),
                k.recorded.clone().map_or_else(Cell::none, Cell::Time),
                Cell::Cites(cites),
            ]
            .into()
        })
        .collect();
    vec![
        Block::Para(
            "A person's statement wins over what a step recorded, a later statement over an earlier one. The first proof is the one \
             that decided."
                .into(),
        ),
        table_or(
            "None.",
            "Key times",
            &["Milestone", "Time", "Rests on", "By", "Recorded", "Proof"],
            rows,
        ),
    ]
}

fn metrics(doc: &IncidentDocument) -> Vec<Block> {
    let m = &doc.metrics;
    let objectives = m
        .objectives
        .iter()
        .map(|o| {
            let tone = match o.verdict {
                Verdict::Met => Tone::Good,
                Verdict::Missed => Tone::Bad,
                Verdict::NotMeasurable => Tone::Open,
            };
            let target = i64::try_from(o.target_s).unwrap_or(i64::MAX / 1000);
            let mut formula = vec![Cell::text(&o.formula)];
            formula.extend(o.remark.iter().map(Cell::text));
            vec![
                Cell::text(&o.name),
                Cell::text(&o.playbook),
                Cell::text(span(target.saturating_mul(1000))),
                Cell::text(o.actual.text()),
                Cell::Mark(tone, o.verdict_text()),
                Cell::Many(formula),
            ]
            .into()
        })
        .collect();
    let spans = m
        .spans
        .iter()
        .map(|s| {
            let cites = s.from.iter().chain(&s.to).cloned().collect();
            vec![
                Cell::text(&s.name),
                Cell::text(&s.formula),
                Cell::text(s.value.text()),
                Cell::Cites(cites),
            ]
            .into()
        })
        .collect();
    let mut all = vec![
        table_or(
            "No playbook that ran states an objective.",
            "Objectives: target, actual, verdict",
            &[
                "Objective",
                "Playbook",
                "Target",
                "Actual",
                "Verdict",
                "Formula",
            ],
            objectives,
        ),
        table_or(
            "None.",
            "Spans between key times",
            &["Metric", "Formula", "Value", "Proof"],
            spans,
        ),
    ];
    for split in &m.splits {
        all.extend(split_blocks(split));
    }
    all
}

fn split_blocks(split: &Split) -> Vec<Block> {
    let whole = split.whole_ms.max(1);
    let rows: Vec<Row> = split
        .parts
        .iter()
        .map(|p| {
            // Tenths of a percent in integers: no floating point decides a byte of the document.
            let permille = p.ms.saturating_mul(1000) / whole;
            vec![
                Cell::text(p.class.as_str()),
                Cell::text(span(p.ms)),
                Cell::text(format!("{}.{} %", permille / 10, permille % 10)),
            ]
            .into()
        })
        .chain([vec![
            Cell::text("whole"),
            Cell::text(span(split.whole_ms)),
            Cell::text("100 %"),
        ]
        .into()])
        .collect();
    let path = split
        .path
        .iter()
        .map(|p| {
            let took: i64 = p.parts.iter().map(|p| p.ms).sum();
            let parts = p
                .parts
                .iter()
                .map(|p| format!("{} {}", p.class.as_str(), span(p.ms)))
                .collect::<Vec<_>>()
                .join(", ");
            let expected = p
                .expected_s
                .and_then(|s| i64::try_from(s).ok())
                .map_or_else(Cell::none, |s| Cell::text(span(s.saturating_mul(1000))));
            vec![
                Cell::text(p.step.clone().unwrap_or_else(|| "between steps".into())),
                Cell::Time(p.begin.clone()),
                Cell::text(span(took)),
                expected,
                Cell::text(parts),
            ]
            .into()
        })
        .collect();
    vec![
        Block::Heading(format!("Where the time went: {}", split.interval)),
        table_or(
            "None.",
            format!(
                "{} by what it was spent on; the parts sum to the whole",
                split.interval
            ),
            &["Spent on", "Time", "Share"],
            rows,
        ),
        table_or(
            "None.",
            "Critical path, first to last",
            &["Step", "Began", "Took", "Planned", "Spent on"],
            path,
        ),
    ]
}

fn detection(doc: &IncidentDocument) -> Vec<Block> {
    let detected = doc.key_time(Milestone::Detected);
    vec![Block::Facts(vec![
        (
            "Source as entered",
            Cell::or_unknown(&doc.classification.source),
        ),
        ("Detected", Cell::time(&detected.and_then(|k| k.at.clone()))),
        (
            "Time to detect",
            Cell::text(
                doc.metrics
                    .spans
                    .first()
                    .map(|m| m.value.text())
                    .unwrap_or_default(),
            ),
        ),
    ])]
}

fn impact(doc: &IncidentDocument) -> Vec<Block> {
    let rows = doc
        .downtime
        .iter()
        .map(|d| {
            let tier = d
                .tier
                .map_or("as a whole".to_owned(), |t| format!("tier {t}"));
            vec![Cell::text(tier), Cell::text(d.down.text())].into()
        })
        .collect();
    vec![table_or(
        "No time down is measurable.",
        "Time down: from the start of the impact to restored",
        &["Services", "Down"],
        rows,
    )]
}

fn annexes(doc: &IncidentDocument) -> Vec<Block> {
    let rows = doc
        .playbooks
        .iter()
        .map(|p| {
            vec![
                Cell::text(format!("{} v{}", p.playbook, p.version)),
                Cell::Code(p.run.clone()),
                Cell::Code(p.playbook_sha256.clone()),
                Cell::Code(p.plan_sha256.clone()),
                Cell::Code(p.trust_sha256.clone()),
            ]
            .into()
        })
        .collect();
    let c = &doc.control;
    vec![
        table_or(
            "No playbook ran.",
            "Playbooks in force, with the digests of their exact bytes",
            &["Playbook", "Run", "Playbook SHA-256", "Plan SHA-256", "Trust SHA-256"],
            rows,
        ),
        Block::Heading("How to verify".into()),
        Block::Para(
            "This document does not prove itself. Verify the incident folder with firebreak-verify and the key fingerprint that you \
             received by another way; then compare the entry numbers and digests cited here with the ledger, and the document's \
             SHA-256 with that of incident.json."
                .into(),
        ),
        Block::Command(format!(
            "firebreak-verify {} --fingerprint {}",
            c.incident, c.ledger.fingerprint
        )),
        Block::Command("sha256sum report/incident.json".into()),
        Block::Heading("Glossary".into()),
        Block::Facts(GLOSSARY.iter().map(|(w, t)| (*w, Cell::text(*t))).collect()),
    ]
}

const GLOSSARY: [(&str, &str); 9] = [
    (
        "ledger",
        "append-only, hash-chained, signed history of the incident; the document is a view of it",
    ),
    (
        "entry",
        "one line of the ledger, cited by number and SHA-256",
    ),
    ("exhibit", "one preserved item, with a number of its own"),
    (
        "bag",
        "exhibits in one folder, closed by a signed seal; nothing is added after",
    ),
    (
        "in doubt",
        "a step that may have happened: nobody saw its end",
    ),
    ("stuck", "a step whose undo failed: something is left"),
    (
        "break-glass",
        "one person went on where several should have decided",
    ),
    (
        "isolated",
        "every probe of the proof table was blocked while its control from an unaffected pod went through",
    ),
    (
        "actual RTO",
        "measured time to restore; the objective is the RTO",
    ),
];
