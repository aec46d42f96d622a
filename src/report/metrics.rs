//! Metrics: each with its formula, and "not measurable" where an end is missing, never 0.
//!
//! Objectives are compared for the incident as a whole and, where milestones carry a tier, for each tier. `actual_rto` counts from
//! the start of the impact; when nobody stated that, it counts from the declaration and says so.

use schemars::JsonSchema;
use serde::Serialize;

use crate::incident::body::{Objectives, RunCreated};
use crate::incident::clock_text::span;
use crate::incident::{History, Milestone, kind};

use super::document::{Cite, KeyTime};
use super::path;
pub use super::path::{Class, Part, PathPart, Split};

/// A measured span, or what is missing to measure it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "state")]
pub enum Measure {
    /// Milliseconds.
    #[serde(rename = "measured")]
    Measured {
        /// Milliseconds.
        ms: i64,
    },
    /// It cannot be told.
    #[serde(rename = "not measurable")]
    NotMeasurable {
        /// What is missing.
        missing: Vec<String>,
    },
}

impl Measure {
    /// Not measurable for one reason.
    pub fn missing(what: impl Into<String>) -> Self {
        Measure::NotMeasurable {
            missing: vec![what.into()],
        }
    }
    /// Milliseconds, if measured.
    pub fn ms(&self) -> Option<i64> {
        match self {
            Measure::Measured { ms } => Some(*ms),
            Measure::NotMeasurable { .. } => None,
        }
    }
    /// For people.
    pub fn text(&self) -> String {
        match self {
            Measure::Measured { ms } => span(*ms),
            Measure::NotMeasurable { missing } => {
                format!("not measurable: {}", missing.join(", "))
            }
        }
    }
}

/// Section 4.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Metrics {
    /// Spans between key times.
    pub spans: Vec<Metric>,
    /// Targets and verdicts.
    pub objectives: Vec<Objective>,
    /// Where the time went.
    pub splits: Vec<Split>,
}

/// A span between two key times.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Metric {
    /// Name.
    pub name: String,
    /// Formula, printed.
    pub formula: String,
    /// Value.
    pub value: Measure,
    /// Entry of the earlier end.
    pub from: Option<Cite>,
    /// Entry of the later end.
    pub to: Option<Cite>,
}

/// How an objective came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Verdict {
    /// Within the target.
    #[serde(rename = "met")]
    Met,
    /// Beyond it.
    #[serde(rename = "missed")]
    Missed,
    /// It cannot be told.
    #[serde(rename = "not measurable")]
    NotMeasurable,
}

/// A target and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Objective {
    /// Name.
    pub name: String,
    /// Playbook that states it.
    pub playbook: String,
    /// Target in seconds.
    pub target_s: u64,
    /// Formula of the actual value.
    pub formula: String,
    /// Actual.
    pub actual: Measure,
    /// Verdict.
    pub verdict: Verdict,
    /// By how many milliseconds it was missed.
    pub missed_by_ms: Option<i64>,
    /// The end that decided, when it was not the first choice.
    pub remark: Option<String>,
}

impl Objective {
    /// The verdict for people.
    pub fn verdict_text(&self) -> String {
        match (self.verdict, self.missed_by_ms) {
            (Verdict::Met, _) => "met".into(),
            (Verdict::Missed, Some(ms)) => format!("missed by {}", span(ms)),
            (Verdict::Missed, None) => "missed".into(),
            (Verdict::NotMeasurable, _) => "not measurable".into(),
        }
    }
}

/// The runbook's RTO by tier, in seconds.
fn tier_rto_s(tier: u8) -> Option<u64> {
    match tier {
        1 => Some(3_600),
        2 => Some(4 * 3_600),
        3 => Some(24 * 3_600),
        _ => None,
    }
}

const SPANS: [(&str, Milestone, Milestone); 9] = [
    ("time to detect", Milestone::Occurred, Milestone::Detected),
    (
        "time to acknowledge",
        Milestone::Detected,
        Milestone::Acknowledged,
    ),
    ("time to declare", Milestone::Detected, Milestone::Declared),
    ("time to contain", Milestone::Declared, Milestone::Contained),
    ("dwell time", Milestone::Occurred, Milestone::Contained),
    ("actual RTO", Milestone::Impact, Milestone::Restored),
    (
        "actual RTO from the declaration",
        Milestone::Declared,
        Milestone::Restored,
    ),
    ("time to verify", Milestone::Restored, Milestone::Verified),
    ("time to close", Milestone::Verified, Milestone::Closed),
];

/// Measures everything that the key times give.
pub(super) fn metrics(history: &History, times: &[KeyTime]) -> Metrics {
    Metrics {
        spans: SPANS
            .iter()
            .map(|&(name, from, to)| Metric {
                name: name.into(),
                formula: format!("{to} − {from}"),
                value: between(times, None, from, to),
                from: find(times, None, from).and_then(|k| k.cite.clone()),
                to: find(times, None, to).and_then(|k| k.cite.clone()),
            })
            .collect(),
        objectives: objectives(history, times),
        splits: splits(history, times),
    }
}

/// The key time of a milestone for a tier; a tier without its own falls back to the incident's.
fn find(times: &[KeyTime], tier: Option<u8>, milestone: Milestone) -> Option<&KeyTime> {
    let of = |tier: Option<u8>| {
        times
            .iter()
            .find(|k| k.milestone == milestone && k.tier == tier && k.at.is_some())
    };
    of(tier).or_else(|| of(None))
}

/// `to − from`, or what is missing.
pub(super) fn between(
    times: &[KeyTime],
    tier: Option<u8>,
    from: Milestone,
    to: Milestone,
) -> Measure {
    let at = |m| find(times, tier, m).and_then(KeyTime::moment);
    match (at(from), at(to)) {
        (Some(start), Some(end)) if end < start => {
            Measure::missing(format!("`{to}` lies before `{from}`"))
        }
        (Some(start), Some(end)) => Measure::Measured {
            ms: (end - start).num_milliseconds(),
        },
        (start, end) => Measure::NotMeasurable {
            missing: [(start, from), (end, to)]
                .iter()
                .filter(|(time, _)| time.is_none())
                .map(|(_, m)| format!("`{m}` is unknown"))
                .collect(),
        },
    }
}

struct Actual {
    formula: String,
    value: Measure,
    remark: Option<String>,
}

/// Restored − impact; − declared where the impact is not stated.
fn rto(times: &[KeyTime], tier: Option<u8>) -> Actual {
    let from = if find(times, tier, Milestone::Impact).is_some() {
        Milestone::Impact
    } else {
        Milestone::Declared
    };
    Actual {
        formula: format!("restored − {from}"),
        value: between(times, tier, from, Milestone::Restored),
        remark: (from == Milestone::Declared)
            .then(|| "nobody stated when the impact began, so the declaration decides".to_owned()),
    }
}

fn objectives(history: &History, times: &[KeyTime]) -> Vec<Objective> {
    // A playbook that ran twice promises once: its latest run decides.
    let mut runs: Vec<RunCreated> = Vec::new();
    for (_, run) in history.bodies::<RunCreated>(kind::RUN_CREATED) {
        runs.retain(|r| r.playbook != run.playbook);
        runs.push(run);
    }
    runs.iter()
        .flat_map(|run| of_playbook(&run.playbook, &run.objectives, times))
        .collect()
}

fn of_playbook(playbook: &str, stated: &Objectives, times: &[KeyTime]) -> Vec<Objective> {
    let mut all = Vec::new();
    let mut add = |name: String, target: Option<u64>, actual: Actual| {
        if let Some(target_s) = target {
            all.push(judge(name, playbook, target_s, actual));
        }
    };
    let contain = Actual {
        formula: "contained − declared".into(),
        value: between(times, None, Milestone::Declared, Milestone::Contained),
        remark: None,
    };
    add("time to contain".into(), stated.contain_s, contain);
    let target = stated.rto_s.or_else(|| stated.tier.and_then(tier_rto_s));
    let name = match stated.tier {
        Some(tier) => format!("RTO, tier {tier}"),
        None => "RTO".into(),
    };
    add(name, target, rto(times, stated.tier));
    for tier in other_tiers(times, stated.tier) {
        let name = format!("RTO, tier {tier}");
        add(name, tier_rto_s(tier), rto(times, Some(tier)));
    }
    let limit = stated.recovery_limit_s;
    add("limit of the scenario".into(), limit, rto(times, None));
    for (class, &target) in &stated.rpo_s {
        let actual = Actual {
            formula: "impact − newest record present after the restore".into(),
            value: Measure::missing("no restore recorded its newest record"),
            remark: None,
        };
        add(format!("RPO, {class}"), Some(target), actual);
    }
    all
}

/// Tiers for which a milestone was stated, but the playbook's own.
fn other_tiers(times: &[KeyTime], own: Option<u8>) -> Vec<u8> {
    times
        .iter()
        .filter(|k| k.milestone == Milestone::Restored)
        .filter_map(|k| k.tier)
        .filter(|t| Some(*t) != own)
        .collect()
}

fn judge(name: String, playbook: &str, target_s: u64, actual: Actual) -> Objective {
    let target_ms = i64::try_from(target_s)
        .unwrap_or(i64::MAX)
        .saturating_mul(1000);
    let (verdict, missed_by_ms) = match actual.value.ms() {
        None => (Verdict::NotMeasurable, None),
        Some(ms) if ms <= target_ms => (Verdict::Met, None),
        Some(ms) => (Verdict::Missed, Some(ms - target_ms)),
    };
    Objective {
        name,
        playbook: playbook.to_owned(),
        target_s,
        formula: actual.formula,
        actual: actual.value,
        verdict,
        missed_by_ms,
        remark: actual.remark,
    }
}

fn splits(history: &History, times: &[KeyTime]) -> Vec<Split> {
    let from_impact = if find(times, None, Milestone::Impact).is_some() {
        Milestone::Impact
    } else {
        Milestone::Declared
    };
    [
        (Milestone::Declared, Milestone::Contained),
        (from_impact, Milestone::Restored),
    ]
    .into_iter()
    .filter_map(|(from, to)| {
        let start = find(times, None, from)?.moment()?;
        let end = find(times, None, to)?;
        let seq = end.cite.as_ref().map(|c| c.seq);
        path::split(
            history,
            &format!("{from} to {to}"),
            start,
            end.moment()?,
            seq,
        )
    })
    .collect()
}
