//! Sections on what was done: timeline, response, recovery, communications, actions; and the lessons learned.

use crate::incident::clock_text::span;
use crate::incident::{Milestone, Phase};

use super::block::{Block, Cell, Chapter, Row, Tone, table_or};
use super::document::{IncidentDocument, RunStory, StepRef, StepState, StepStory};
use super::sections::sections;
use super::view::prose;
use super::view_evidence;
use super::view_rotation;

pub(super) fn timeline(doc: &IncidentDocument) -> Vec<Block> {
    let rows = doc
        .timeline
        .iter()
        .map(|l| {
            let mut what = vec![Cell::text(&l.what)];
            if l.annotation {
                what.push(Cell::Mark(Tone::Open, "annotation by a person".into()));
            }
            if l.clock_back_ms > 0 {
                what.push(Cell::Mark(
                    Tone::Bad,
                    format!("the host's clock had gone back {} ms", l.clock_back_ms),
                ));
            }
            let occurred = match &l.occurred {
                Some(t) => Cell::Time(t.clone()),
                None => Cell::none(),
            };
            let observed = if l.observed == l.recorded {
                Cell::none()
            } else {
                Cell::Time(l.observed.clone())
            };
            Row {
                lane: Some(l.lane),
                cells: vec![
                    occurred,
                    observed,
                    Cell::Time(l.recorded.clone()),
                    Cell::text(l.lane.as_str()),
                    Cell::text(&l.actor),
                    Cell::Code(l.kind.clone()),
                    match what.len() {
                        1 => Cell::text(&l.what),
                        _ => Cell::Many(what),
                    },
                    Cell::Cites(vec![l.cite.clone()]),
                ],
            }
        })
        .collect();
    vec![
        Block::Para(
            "In the order in which things happened. A dash means: as recorded. Corrections are later lines, never edits.".into(),
        ),
        Block::Picture,
        table_or(
            "No entries.",
            "Timeline",
            &["Occurred", "Observed", "Recorded", "Lane", "Actor", "Kind", "What", "Proof"],
            rows,
        ),
    ]
}

fn tone(state: StepState) -> Tone {
    match state {
        StepState::Done | StepState::Undone => Tone::Good,
        StepState::Failed | StepState::InDoubt | StepState::Stuck => Tone::Bad,
        StepState::Skipped | StepState::Waiting | StepState::Running | StepState::NotReached => {
            Tone::Open
        }
    }
}

pub(super) fn response(doc: &IncidentDocument) -> Vec<Block> {
    let mut all = Vec::new();
    if doc.runs.is_empty() {
        all.push(Block::Para("No playbook ran.".into()));
    }
    for run in &doc.runs {
        all.extend(run_blocks(run));
    }
    all.push(Block::Heading("Containment: proof".into()));
    all.extend(view_evidence::proofs(doc));
    all.push(Block::Heading("Left possible, and not proven".into()));
    all.extend(left_lists(doc));
    all.push(Block::Heading("Credentials to rotate".into()));
    all.push(view_evidence::credentials(doc));
    all.push(Block::Heading("Credentials replaced".into()));
    all.extend(view_rotation::rotations(doc));
    all
}

fn run_blocks(run: &RunStory) -> Vec<Block> {
    let mut facts = vec![
        ("Run", Cell::Code(run.run.clone())),
        (
            "Mode and policy",
            Cell::text(format!("{}, {}", run.mode, run.policy)),
        ),
        ("Run by", Cell::text(&run.executor)),
        ("Created", Cell::Time(run.created.clone())),
        (
            "Ended",
            match &run.ended {
                Some(t) => Cell::Time(t.clone()),
                None => Cell::Mark(Tone::Open, "not ended".into()),
            },
        ),
        ("How", Cell::text(&run.how)),
    ];
    if let Some(why) = &run.why {
        facts.push(("Why", Cell::text(why)));
    }
    facts.push(("Resumed", Cell::text(format!("{} times", run.resumed))));
    facts.push(("Proof", Cell::Cites(vec![run.cite.clone()])));
    vec![
        Block::Heading(format!("Playbook {}", run.playbook)),
        Block::Facts(facts),
        table_or(
            "The playbook has no steps.",
            "Steps in playbook order",
            &[
                "Step",
                "Outcome",
                "Summary",
                "Decisions",
                "Began, took",
                "Tries",
                "Proof",
            ],
            run.steps.iter().map(step_row).collect(),
        ),
    ]
}

fn step_row(s: &StepStory) -> Row {
    let mut name = vec![Cell::text(&s.name), Cell::Code(s.path.clone())];
    let what = s.what.as_deref().unwrap_or("no action");
    let phase = s.phase.map(|p| format!(", {p}")).unwrap_or_default();
    name.push(Cell::text(format!(
        "{}: {what}, {}{phase}",
        s.kind, s.effect
    )));
    if !s.runbook.is_empty() {
        name.push(Cell::text(format!("runbook {}", s.runbook.join(", "))));
    }
    let mut outcome = vec![Cell::Mark(tone(s.state), s.state.as_str().into())];
    if let Some(by) = s.by.as_ref().filter(|b| *b != "skipped") {
        outcome.push(Cell::text(format!("by {by}")));
    }
    outcome.extend(s.red.iter().map(|r| Cell::Mark(Tone::Bad, r.clone())));
    let mut summary: Vec<Cell> = s.summary.iter().map(Cell::text).collect();
    summary.extend(s.code.iter().map(|c| Cell::Code(c.clone())));
    summary.extend(s.left.iter().map(|l| Cell::text(format!("left: {l}"))));
    vec![
        Cell::Many(name),
        Cell::Many(outcome),
        if summary.is_empty() {
            Cell::none()
        } else {
            Cell::Many(summary)
        },
        decisions(s),
        took(s),
        match s.tries {
            0 => Cell::none(),
            1 => Cell::text("1"),
            n => Cell::text(format!("{n}, attempts {}", s.attempts)),
        },
        Cell::Cites(s.cites.clone()),
    ]
    .into()
}

fn took(s: &StepStory) -> Cell {
    let Some(started) = &s.started else {
        return Cell::none();
    };
    let mut all = vec![Cell::Time(started.clone())];
    if let Some(finished) = &s.finished {
        all.push(Cell::Time(finished.clone()));
    }
    if let Some(ms) = s.elapsed_ms.and_then(|ms| i64::try_from(ms).ok()) {
        all.push(Cell::text(format!("last try {}", span(ms))));
    }
    Cell::Many(all)
}

fn decisions(s: &StepStory) -> Cell {
    let mut all = Vec::new();
    for a in &s.approvals {
        let role = a
            .role
            .as_deref()
            .map(|r| format!(" as {r}"))
            .unwrap_or_default();
        let text = format!("{}: {}{role}, {}", a.decision, a.principal, a.how);
        all.push(if a.decision == "break-glass" {
            Cell::Mark(Tone::Bad, text)
        } else {
            Cell::text(text)
        });
        all.extend(a.key.iter().map(|k| Cell::Code(k.clone())));
        all.extend(a.reason.iter().map(|r| Cell::text(format!("reason: {r}"))));
        all.extend(
            a.rejected
                .iter()
                .map(|c| Cell::Mark(Tone::Bad, format!("does not count: {c}"))),
        );
        all.push(Cell::Time(a.time.clone()));
        all.push(Cell::Cites(vec![a.cite.clone()]));
    }
    for r in &s.resolutions {
        all.push(Cell::text(format!(
            "doubt decided by {}, {}: {}",
            r.actor, r.by, r.verdict
        )));
        all.push(Cell::text(format!("reason: {}", r.reason)));
        all.push(Cell::Cites(vec![r.cite.clone()]));
    }
    if all.is_empty() {
        Cell::none()
    } else {
        Cell::Many(all)
    }
}

/// What is left possible, and what was not proven.
pub(super) fn left_lists(doc: &IncidentDocument) -> Vec<Block> {
    let rows = |list: &[super::document::Residual]| {
        list.iter()
            .map(|r| {
                vec![
                    Cell::text(&r.subject),
                    Cell::text(&r.what),
                    Cell::Cites(vec![r.cite.clone()]),
                ]
                .into()
            })
            .collect::<Vec<Row>>()
    };
    let c = &doc.containment;
    vec![
        table_or(
            "No entry records reach that is left. That is not proof that there is none.",
            "Reach that is left after containment",
            &["Subject", "What", "Proof"],
            rows(&c.residual_reach),
        ),
        table_or(
            "No entry records a point that was not proven.",
            "Not proven",
            &["Subject", "What", "Proof"],
            rows(&c.not_proven),
        ),
    ]
}

pub(super) fn recovery(doc: &IncidentDocument) -> Vec<Block> {
    let steps: Vec<Row> = doc
        .runs
        .iter()
        .flat_map(|r| &r.steps)
        .filter(|s| s.phase == Some(Phase::Recovery))
        .map(|s| {
            vec![
                Cell::text(&s.name),
                Cell::Mark(tone(s.state), s.state.as_str().into()),
                s.summary.clone().map_or_else(Cell::none, Cell::Text),
                Cell::Cites(s.cites.clone()),
            ]
            .into()
        })
        .collect();
    let end = |m| {
        let known = doc.key_time(m).filter(|k| k.at.is_some());
        match known {
            Some(k) => Cell::Many(vec![
                Cell::time(&k.at),
                Cell::text(format!(
                    "by {}, {}",
                    k.actor.as_deref().unwrap_or("unknown"),
                    k.basis
                )),
                Cell::cite(&k.cite),
            ]),
            None => Cell::time(&None),
        }
    };
    vec![
        Block::Facts(vec![
            ("Restored", end(Milestone::Restored)),
            ("Verified", end(Milestone::Verified)),
            (
                "Actual RPO",
                Cell::text("not measurable: no restore recorded its newest record"),
            ),
        ]),
        table_or(
            "No step of a playbook belongs to the phase recovery.",
            "Steps of the phase recovery",
            &["Step", "Outcome", "Summary", "Proof"],
            steps,
        ),
    ]
}

pub(super) fn communications(doc: &IncidentDocument) -> Vec<Block> {
    let rows = doc
        .communications
        .iter()
        .map(|m| {
            let tone = if m.outcome == "sent" {
                Tone::Good
            } else {
                Tone::Bad
            };
            let mut outcome = vec![Cell::Mark(tone, m.outcome.clone())];
            outcome.extend(m.error.iter().map(Cell::text));
            vec![
                Cell::Time(m.time.clone()),
                Cell::text(m.to.join(", ")),
                Cell::text(&m.channel),
                Cell::Many(outcome),
                Cell::text(&m.text),
                Cell::Cites(vec![m.cite.clone()]),
            ]
            .into()
        })
        .collect();
    vec![table_or(
        "No message was recorded.",
        "Messages",
        &["Time", "To", "Channel", "Outcome", "Text", "Proof"],
        rows,
    )]
}

pub(super) fn actions(doc: &IncidentDocument) -> Vec<Block> {
    let rows = doc
        .actions
        .iter()
        .map(|a| {
            vec![
                Cell::text(&a.kind),
                Cell::text(&a.what),
                Cell::text(&a.because),
                Cell::cite(&a.cite),
                Cell::text("⟦to be written: owner, date⟧"),
            ]
            .into()
        })
        .collect();
    vec![table_or(
        "None.",
        "Actions that the facts and the runbook ask for",
        &["Type", "Action", "Because", "Proof", "Owner, due"],
        rows,
    )]
}

/// The lessons learned: facts first, then what people say.
pub(super) fn lessons(doc: &IncidentDocument) -> Vec<Chapter> {
    let l = &doc.lessons;
    let times = l
        .times
        .iter()
        .map(|t| {
            let planned = t.expected_s.and_then(|s| i64::try_from(s).ok());
            vec![
                Cell::text(&t.name),
                Cell::Code(t.path.clone()),
                planned.map_or_else(
                    || Cell::text("not planned"),
                    |s| Cell::text(span(s.saturating_mul(1000))),
                ),
                Cell::text(t.actual.text()),
            ]
            .into()
        })
        .collect();
    let mut all = vec![
        Chapter {
            key: "planned-and-actual",
            title: "Planned and actual time of each step".into(),
            blocks: vec![table_or(
                "No step ran.",
                "Planned and actual",
                &["Step", "Path", "Planned", "Actual"],
                times,
            )],
        },
        refs("by-hand", "Steps by hand", &l.by_hand),
        refs(
            "troubled",
            "Steps that failed, were in doubt, stuck, or took several tries",
            &l.troubled,
        ),
        refs("expired", "Decisions whose time ran out", &l.expired),
        refs("late", "Deadlines that passed", &l.late),
        refs(
            "off-script",
            "Off-script actions: done, but in no playbook",
            &l.off_script,
        ),
        refs("unsent", "Messages that could not be sent", &l.unsent),
        Chapter {
            key: "actions",
            title: "Actions".into(),
            blocks: actions(doc),
        },
    ];
    for s in sections().iter().filter(|s| s.number.is_none()) {
        all.push(Chapter {
            key: s.key,
            title: s.title.into(),
            blocks: prose(doc, s.key),
        });
    }
    all
}

fn refs(key: &'static str, title: &str, list: &[StepRef]) -> Chapter {
    let rows = list
        .iter()
        .map(|r| {
            vec![
                r.path.clone().map_or_else(Cell::none, Cell::Code),
                Cell::text(&r.what),
                Cell::cite(&r.cite),
            ]
            .into()
        })
        .collect();
    Chapter {
        key,
        title: title.into(),
        blocks: vec![table_or("None.", title, &["Step", "What", "Proof"], rows)],
    }
}
