//! The incident document, lessons learned and metrics: one model from the ledger, many formats. Pure.
//!
//! # Flow
//! [`build`] makes an [`IncidentDocument`] of a [`History`] and the texts that people wrote. Every format renders that one value:
//! [`json`] is its canonical form, whose SHA-256 stands on every page of the others; [`markdown`] and [`html`] print the same blocks
//! (`view`), so that neither can say what the other does not. The lessons learned are a document of their own.
//!
//! # Guarantees
//! - Same ledger, same `as_of`, same tool: same bytes. No clock, no locale, no random source is read.
//! - Each fact leads to the number and digest of the entry that holds it.
//! - What is not known is said ("unknown", "not measurable"), never 0. What a person must write is a prompt: `⟦to be written: …⟧`.
//! - Texts in the ledger may be hostile: [`escape`] is the only way into a format.
//!
//! Assumes that `history` was verified by whoever read it: this room draws conclusions, it does not check signatures.

mod block;
pub mod check;
pub mod document;
pub mod escape;
mod exhibits;
pub mod html;
pub mod json;
mod lessons;
pub mod markdown;
pub mod metrics;
mod path;
mod proof;
mod response;
mod rotation;
pub mod sections;
mod story;
mod svg;
mod timeline;
mod times;
mod view;
mod view_evidence;
mod view_response;
mod view_rotation;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::incident::body::{IncidentOpened, LedgerOpened, ReportText, RunCreated, TargetAdded};
use crate::incident::clock_text::millis;
use crate::incident::{Entry, History, Milestone, kind};

pub use document::IncidentDocument;
pub use rotation::said as said_of_rotation;
pub use sections::{Fill, Section, section, sections};

use document::{
    Classification, Control, Downtime, LedgerHead, PlaybookUsed, Prose, SCHEMA, Written,
};
use times::cite;

/// Long texts by their SHA-256 (64 hex), as they stand in the incident's `notes/`, and rotation plans, as they stand in its `trust/`.
pub type Texts = BTreeMap<String, String>;

/// The files of a built document: name → bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Files {
    /// SHA-256 of `incident.json`: the document's digest.
    pub document_sha256: String,
    /// `incident.json`, `incident.md`, `incident.html`, `lessons.md`.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

impl Files {
    /// Name and bytes of each, in the order in which they are to be written.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.files
            .iter()
            .map(|(name, bytes)| (*name, bytes.as_slice()))
    }
}

/// Makes the document from the entries, as of a time.
pub fn build(history: &History, texts: &Texts, as_of: DateTime<Utc>) -> IncidentDocument {
    let key_times = times::key_times(history);
    let runs = response::runs(history);
    let containment = proof::containment(history);
    let prose = prose(history, texts);
    let mut doc = IncidentDocument {
        schema: SCHEMA.into(),
        control: control(history, as_of),
        classification: classification(history),
        metrics: metrics::metrics(history, &key_times),
        timeline: timeline::timeline(history),
        downtime: downtime(&key_times),
        exhibits: exhibits::register(history),
        bags: exhibits::bags(history),
        communications: response::messages(history),
        actions: lessons::actions(&runs, &containment),
        playbooks: playbooks(history),
        lessons: lessons::lessons(history, &runs),
        texts: prose,
        key_times,
        runs,
        containment,
        rotations: rotation::rotations(history, texts),
        findings: vec![],
    };
    doc.findings = check::check(&doc, history);
    doc
}

/// Renders every format.
pub fn render(doc: &IncidentDocument, history: &History) -> Files {
    let canonical = json::canonical(doc);
    let sha256 = canonical.sha256.clone();
    Files {
        files: vec![
            ("incident.md", markdown::incident(doc, &sha256).into_bytes()),
            (
                "incident.html",
                html::incident(doc, &canonical, history).into_bytes(),
            ),
            ("lessons.md", markdown::lessons(doc, &sha256).into_bytes()),
            // Last, so that a digest is never there before what carries it.
            ("incident.json", canonical.bytes),
        ],
        document_sha256: sha256,
    }
}

fn control(history: &History, as_of: DateTime<Utc>) -> Control {
    let opened = history.bodies::<LedgerOpened>(kind::LEDGER_OPENED).next();
    let declared = declared(history);
    let opened = opened.map(|(_, b)| b);
    let mut targets: Vec<String> = opened
        .iter()
        .flat_map(|o| &o.targets)
        .map(timeline::target)
        .collect();
    for (_, added) in history.bodies::<TargetAdded>(kind::TARGET_ADDED) {
        targets.push(timeline::target(&added.target));
    }
    let mut authors: Vec<String> = Vec::new();
    for e in history.of(kind::REPORT_TEXT) {
        if !authors.contains(&e.actor.id) {
            authors.push(e.actor.id.clone());
        }
    }
    let built = history.of(kind::REPORT_BUILT).count();
    Control {
        incident: history.incident.to_string(),
        title: declared.as_ref().map(|(_, b)| b.title.clone()),
        tlp: declared.as_ref().map(|(_, b)| b.tlp.clone()),
        mode: history.mode,
        status: "draft".into(),
        version: u64::try_from(built).unwrap_or(u64::MAX).saturating_add(1),
        as_of: millis(as_of),
        authors,
        policy: opened.as_ref().map(|o| o.policy.clone()),
        origin: opened.as_ref().map(|o| o.origin.clone()),
        targets,
        ledger: LedgerHead {
            entries: u64::try_from(history.entries.len()).unwrap_or(u64::MAX),
            last: history.entries.last().map(cite),
            root: history.root.clone(),
            fingerprint: history.fingerprint.clone(),
            trust: opened.map(|o| o.trust).unwrap_or_default(),
        },
        tool: concat!("firebreak/", env!("CARGO_PKG_VERSION")).into(),
    }
}

fn declared(history: &History) -> Option<(&Entry, IncidentOpened)> {
    history.bodies(kind::INCIDENT_OPENED).next()
}

fn classification(history: &History) -> Classification {
    let declared = declared(history);
    Classification {
        severity: declared.as_ref().map(|(_, b)| b.severity.to_string()),
        declared_in: declared.as_ref().map(|(_, b)| b.phase),
        source: declared.as_ref().and_then(|(_, b)| b.source.clone()),
        cite: declared.map(|(e, _)| cite(e)),
    }
}

/// Each section that a person writes, with the text in force.
fn prose(history: &History, texts: &Texts) -> Vec<Prose> {
    sections()
        .iter()
        .filter(|s| s.fill == Fill::Prompt)
        .map(|s| {
            let mut all: Vec<(&Entry, ReportText)> = history
                .bodies::<ReportText>(kind::REPORT_TEXT)
                .filter(|(_, b)| b.section == s.key)
                .collect();
            let written = all.pop().map(|(e, b)| written(e, b, texts));
            Prose {
                section: s.key.into(),
                title: s.title.into(),
                guidance: s.guidance.into(),
                written,
                superseded: all.iter().map(|(e, _)| cite(e)).collect(),
            }
        })
        .collect()
}

/// The text as entered; a text whose bytes do not have the digest of the entry is not shown as if it had.
fn written(entry: &Entry, body: ReportText, texts: &Texts) -> Written {
    let text = body
        .text
        .or_else(|| texts.get(&body.sha256).cloned())
        .filter(|t| json::sha256_hex(t.as_bytes()) == body.sha256);
    Written {
        text,
        sha256: body.sha256,
        author: entry.actor.id.clone(),
        time: millis(entry.time),
        cite: cite(entry),
    }
}

/// As a whole, then for each tier that has a `restored` of its own.
fn downtime(times: &[document::KeyTime]) -> Vec<Downtime> {
    let tiers = times
        .iter()
        .filter(|k| k.milestone == Milestone::Restored)
        .map(|k| k.tier);
    tiers
        .map(|tier| Downtime {
            tier,
            down: metrics::between(times, tier, Milestone::Impact, Milestone::Restored),
        })
        .collect()
}

fn playbooks(history: &History) -> Vec<PlaybookUsed> {
    history
        .bodies::<RunCreated>(kind::RUN_CREATED)
        .map(|(_, r)| PlaybookUsed {
            playbook: r.playbook,
            version: r.version,
            playbook_sha256: r.playbook_sha256,
            plan_sha256: r.plan_sha256,
            trust_sha256: r.trust_sha256,
            run: r.run,
        })
        .collect()
}
