//! What is open in a document, and what contradicts itself. `report check` prints it; it exits 3 while anything stands here.
//!
//! | Code | Means |
//! |---|---|
//! | FB1001 | a person must write the text of a section |
//! | FB1002 | a person must state a time that only a person can know |
//! | FB1003 | two key times lie in the wrong order |
//! | FB1004 | a milestone says more than the steps, bags or proofs do |
//! | FB1005 | a text or an entry cannot be read as it was recorded |
//! | FB1006 | a verification did not pass |
//! | FB1007 | the host's clock went backwards |

use crate::incident::body::ReportText;
use crate::incident::{History, Milestone, kind};

use super::document::{Finding, FindingKind, IncidentDocument, KeyTime, StepState};
use super::times::{cite, moment};
use super::{document::Cite, sections, timeline};

/// Everything that is open or contradicts itself, contradictions first. [`super::build`] puts it into the document.
pub fn check(doc: &IncidentDocument, history: &History) -> Vec<Finding> {
    let mut all = Vec::new();
    order(doc, &mut all);
    claims(doc, &mut all);
    verification(doc, &mut all);
    for (cite, what) in unreadable(history) {
        all.push(contradiction("FB1005", "timeline", what, Some(cite)));
    }
    for line in doc.timeline.iter().filter(|l| l.clock_back_ms > 0) {
        let what = format!(
            "the host's clock went back by {} ms before entry {}",
            line.clock_back_ms, line.cite.seq
        );
        all.push(contradiction(
            "FB1007",
            "timeline",
            what,
            Some(line.cite.clone()),
        ));
    }
    open(doc, &mut all);
    all
}

fn contradiction(
    code: &str,
    section: &str,
    message: impl Into<String>,
    cite: Option<Cite>,
) -> Finding {
    Finding {
        code: code.into(),
        kind: FindingKind::Contradiction,
        section: section.into(),
        message: message.into(),
        cite,
    }
}

fn open(doc: &IncidentDocument, all: &mut Vec<Finding>) {
    let mut add = |code: &str, section: &str, message: String| {
        all.push(Finding {
            code: code.into(),
            kind: FindingKind::Open,
            section: section.into(),
            message,
            cite: None,
        });
    };
    for text in doc.texts.iter().filter(|t| t.written.is_none()) {
        let message = format!("“{}” is to be written: {}", text.title, text.guidance);
        add("FB1001", &text.section, message);
    }
    for time in doc.key_times.iter().filter(|k| k.at.is_none()) {
        if time.person_only {
            let message = format!("a person must state when `{}` was", time.milestone);
            add("FB1002", "key-times", message);
        }
    }
}

const ORDER: [(Milestone, Milestone); 12] = [
    (Milestone::Occurred, Milestone::Impact),
    (Milestone::Occurred, Milestone::Detected),
    (Milestone::Detected, Milestone::Acknowledged),
    (Milestone::Detected, Milestone::Declared),
    (Milestone::Declared, Milestone::Contained),
    (Milestone::Occurred, Milestone::Contained),
    (Milestone::Contained, Milestone::Eradicated),
    (Milestone::Declared, Milestone::Restored),
    (Milestone::Impact, Milestone::Restored),
    (Milestone::Restored, Milestone::Verified),
    (Milestone::Declared, Milestone::Closed),
    (Milestone::Verified, Milestone::Closed),
];

fn order(doc: &IncidentDocument, all: &mut Vec<Finding>) {
    for (first, then) in ORDER {
        let (Some(a), Some(b)) = (doc.key_time(first), doc.key_time(then)) else {
            continue;
        };
        if let (Some(start), Some(end)) = (a.moment(), b.moment())
            && end < start
        {
            let what = format!("`{then}` lies before `{first}`");
            all.push(contradiction("FB1003", "key-times", what, b.cite.clone()));
        }
    }
    let as_of = moment(&doc.control.as_of);
    for time in &doc.key_times {
        if time.moment() > as_of {
            let what = format!("`{}` lies after the document's own time", time.milestone);
            all.push(contradiction(
                "FB1003",
                "key-times",
                what,
                time.cite.clone(),
            ));
        }
    }
}

/// A milestone must not say more than the entries do.
fn claims(doc: &IncidentDocument, all: &mut Vec<Finding>) {
    let reached = |m| doc.key_time(m).filter(|k| k.at.is_some());
    let mut against = |time: &KeyTime, section: &str, what: String| {
        let what = format!("`{}` stands although {what}", time.milestone);
        all.push(contradiction("FB1004", section, what, time.cite.clone()));
    };
    let ends = [Milestone::Restored, Milestone::Verified, Milestone::Closed];
    for time in ends.into_iter().filter_map(reached) {
        for run in &doc.runs {
            for step in &run.steps {
                if matches!(step.state, StepState::InDoubt | StepState::Stuck) {
                    let what = format!("step {} is {}", step.path, step.state.as_str());
                    against(time, "response", what);
                }
            }
        }
    }
    if let Some(time) = reached(Milestone::Contained) {
        for row in latest_proofs(doc) {
            if row.proof.verdict != "isolated" {
                let what = format!(
                    "the last proof says {}: {}",
                    row.proof.pod, row.proof.verdict
                );
                against(time, "response", what);
            }
        }
    }
    if let Some(time) = reached(Milestone::Closed) {
        for run in doc.runs.iter().filter(|r| r.ended.is_none()) {
            against(time, "response", format!("run {} has not ended", run.run));
        }
        for bag in doc.bags.iter().filter(|b| b.seal_sha256.is_none()) {
            against(time, "exhibits", format!("bag {} is not sealed", bag.bag));
        }
    }
}

/// The last proof of each pod.
fn latest_proofs(doc: &IncidentDocument) -> Vec<&super::document::ProofRow> {
    let rows = &doc.containment.proofs;
    rows.iter()
        .enumerate()
        .filter(|(i, row)| {
            !rows[i + 1..].iter().any(|later| {
                later.proof.pod_uid == row.proof.pod_uid && later.proof.pod == row.proof.pod
            })
        })
        .map(|(_, row)| row)
        .collect()
}

fn verification(doc: &IncidentDocument, all: &mut Vec<Finding>) {
    for text in &doc.texts {
        if let Some(written) = text.written.as_ref().filter(|w| w.text.is_none()) {
            let what = format!(
                "the text of “{}” with SHA-256 {} is not there or has other bytes",
                text.title, written.sha256
            );
            all.push(contradiction(
                "FB1005",
                &text.section,
                what,
                Some(written.cite.clone()),
            ));
        }
    }
    for bag in &doc.bags {
        if let (Some(exit), Some(verdict)) = (bag.exit, &bag.verdict)
            && exit != 0
        {
            let what = format!("bag {} was verified with exit {exit}: {verdict}", bag.bag);
            all.push(contradiction(
                "FB1006",
                "exhibits",
                what,
                bag.cites.last().cloned(),
            ));
        }
    }
}

/// Entries of a kind that we know, whose payload does not fit it, and texts for a section that there is not.
fn unreadable(history: &History) -> Vec<(Cite, String)> {
    let mut all = Vec::new();
    for e in &history.entries {
        if timeline::is_unreadable(e) {
            let what = format!("entry {} ({}) cannot be read as its kind", e.seq, e.kind);
            all.push((cite(e), what));
        }
    }
    for (e, text) in history.bodies::<ReportText>(kind::REPORT_TEXT) {
        if sections::section(&text.section).is_none() {
            let what = format!(
                "entry {} holds text for section `{}`, which there is not",
                e.seq, text.section
            );
            all.push((cite(e), what));
        }
    }
    all
}

/// The document's findings as text lines, for `report check`.
pub fn lines(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|f| {
            let kind = match f.kind {
                FindingKind::Open => "open",
                FindingKind::Contradiction => "contradiction",
            };
            let proof = f
                .cite
                .as_ref()
                .map(|c| format!(" (entry {})", c.seq))
                .unwrap_or_default();
            let message = super::escape::line(&f.message);
            let title = sections::section(&f.section).map_or("", |s| s.title);
            format!(
                "{} {kind} in {} ({title}): {message}{proof}",
                f.code, f.section
            )
        })
        .collect()
}
