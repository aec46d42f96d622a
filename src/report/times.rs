//! Key times: which entry decides when a milestone was reached.
//!
//! A person's statement wins over what a step recorded, and a later statement over an earlier one: corrections are later lines.
//! Among steps the first counts for what begins (detected … declared), the last for what must hold for all (contained … closed).

use chrono::{DateTime, Utc};

use crate::incident::body::{IncidentOpened, MilestoneReached, Note};
use crate::incident::clock_text::millis;
use crate::incident::{Entry, History, Milestone, kind};

use super::document::{Cite, KeyTime};

/// Reads an RFC 3339 time.
pub(super) fn moment(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|t| t.with_timezone(&Utc))
}

/// The text form of a time that a payload gives, if it can be read.
pub(super) fn stated(text: Option<&str>) -> Option<String> {
    text.and_then(moment).map(millis)
}

/// The reference to an entry.
pub(super) fn cite(entry: &Entry) -> Cite {
    Cite {
        seq: entry.seq,
        sha256: entry.sha256.clone(),
    }
}

impl KeyTime {
    /// The time, when it is known.
    pub fn moment(&self) -> Option<DateTime<Utc>> {
        self.at.as_deref().and_then(moment)
    }
}

struct Claim<'a> {
    entry: &'a Entry,
    milestone: Milestone,
    tier: Option<u8>,
    at: DateTime<Utc>,
    basis: &'static str,
    confidence: Option<String>,
}

/// All key times: each milestone once for the incident, and once per tier where one was stated.
pub(super) fn key_times(history: &History) -> Vec<KeyTime> {
    let claims = claims(history);
    let mut times = Vec::new();
    for &milestone in Milestone::ALL {
        let of = |tier: Option<u8>| {
            let all: Vec<&Claim> = claims
                .iter()
                .filter(|c| c.milestone == milestone && c.tier == tier)
                .collect();
            key_time(milestone, tier, &all)
        };
        let mut tiers: Vec<u8> = claims
            .iter()
            .filter(|c| c.milestone == milestone)
            .filter_map(|c| c.tier)
            .collect();
        tiers.sort_unstable();
        tiers.dedup();
        times.push(of(None));
        times.extend(tiers.into_iter().map(|tier| of(Some(tier))));
    }
    times
}

fn claims(history: &History) -> Vec<Claim<'_>> {
    let stated = history
        .bodies::<MilestoneReached>(kind::MILESTONE)
        .map(|(entry, body)| Claim {
            entry,
            milestone: body.name,
            tier: body.tier,
            at: body.at.as_deref().and_then(moment).unwrap_or(entry.time),
            basis: if body.by == "step" {
                "step"
            } else {
                "statement"
            },
            confidence: body.confidence,
        });
    let opened = history
        .bodies::<IncidentOpened>(kind::INCIDENT_OPENED)
        .flat_map(|(entry, _)| {
            // A declaration carries the severity, so it classifies too.
            [Milestone::Classified, Milestone::Declared].map(|milestone| Claim {
                entry,
                milestone,
                tier: None,
                at: entry.time,
                basis: "declaration",
                confidence: None,
            })
        });
    let closed = history
        .bodies::<Note>(kind::INCIDENT_CLOSED)
        .map(|(entry, body)| Claim {
            entry,
            milestone: Milestone::Closed,
            tier: None,
            at: body.at.as_deref().and_then(moment).unwrap_or(entry.time),
            basis: "closing",
            confidence: None,
        });
    stated.chain(opened).chain(closed).collect()
}

fn key_time(milestone: Milestone, tier: Option<u8>, claims: &[&Claim]) -> KeyTime {
    let person_only = matches!(
        milestone,
        Milestone::Occurred | Milestone::Impact | Milestone::Aware
    );
    let statement = claims.iter().rev().find(|c| c.basis == "statement");
    let recorded = || {
        let others = claims.iter().filter(|c| !person_only || c.basis != "step");
        if milestone < Milestone::Contained {
            others.min_by_key(|c| (c.at, c.entry.seq))
        } else {
            others.max_by_key(|c| (c.at, c.entry.seq))
        }
    };
    let Some(chosen) = statement.or_else(recorded) else {
        return KeyTime {
            milestone,
            tier,
            at: None,
            basis: "unknown".into(),
            person_only,
            confidence: None,
            actor: None,
            recorded: None,
            cite: None,
            others: claims.iter().map(|c| cite(c.entry)).collect(),
        };
    };
    KeyTime {
        milestone,
        tier,
        at: Some(millis(chosen.at)),
        basis: chosen.basis.into(),
        person_only,
        confidence: chosen.confidence.clone(),
        actor: Some(chosen.entry.actor.id.clone()),
        recorded: Some(millis(chosen.entry.time)),
        cite: Some(cite(chosen.entry)),
        others: claims
            .iter()
            .filter(|c| c.entry.seq != chosen.entry.seq)
            .map(|c| cite(c.entry))
            .collect(),
    }
}
