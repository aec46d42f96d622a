//! What became of each pod of an isolation, as a last look at the cluster shows it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::json;

use crate::action::{ActionError, Applied, Class, Context};
use crate::reach::cluster::ClusterSnapshot;
use crate::reach::isolation::QUARANTINE;
use crate::reach::residual::residual;

use super::isolate_workload::find;
use super::naming::{of_step, place};
use super::targets::{self, Target};
use super::write::{Landing, pod_fields};

/// What became of one pod.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct PodOutcome {
    /// `namespace/name`.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Value of the quarantine label: that of an earlier run where that one isolated it.
    pub containment: String,
    /// `A`, `B`, or `-` when nothing is in force.
    pub phase: &'static str,
    /// `isolated`, `already`, `refused`, `conflict`, `denied`, `in-doubt`, `failed`.
    pub outcome: String,
    /// What still allows.
    pub still_allowed: Vec<String>,
    /// Why it is not as planned.
    pub why: Option<String>,
}

/// Why pods are not as planned, by UID.
#[derive(Default)]
pub(super) struct Problems {
    by_uid: BTreeMap<String, ActionError>,
}

impl Problems {
    /// Who is not as planned.
    pub fn uids(&self) -> BTreeSet<String> {
        self.by_uid.keys().cloned().collect()
    }
    /// True when it is not as planned.
    pub fn has(&self, target: &Target) -> bool {
        self.by_uid.contains_key(&target.pod.uid)
    }
    /// The first reason stays.
    pub fn note(&mut self, uid: &str, error: ActionError) {
        self.by_uid.entry(uid.to_owned()).or_insert(error);
    }
    /// Notes a write that did not come to be.
    pub fn landed(&mut self, uid: &str, landing: Landing) {
        if let Some(error) = landing.error {
            self.note(uid, error);
        } else if !landing.is_there() {
            self.note(
                uid,
                ActionError::new(Class::Failed, "the write did not come to be"),
            );
        }
    }
}

/// Looks once more and says what is true now, not what was planned.
pub(super) async fn finish(
    cx: &Context,
    targets: &[Target],
    problems: &Problems,
) -> Result<Applied, ActionError> {
    let world = targets::snapshot(cx.cluster()?).await.map_err(|e| {
        ActionError::new(
            Class::InDoubt,
            format!("the writes were made, but the cluster could not be looked at afterwards: {e}"),
        )
        .hint("firebreak resume")
    })?;
    let outcomes = outcomes(&world, targets, problems);
    let worst = |class: Class| problems.by_uid.values().find(|e| e.class == class).cloned();
    if let Some(doubt) = worst(Class::InDoubt) {
        return Err(doubt);
    }
    let good = outcomes
        .iter()
        .filter(|o| matches!(o.outcome.as_str(), "isolated" | "already"))
        .count();
    if good == 0 {
        let first = problems.by_uid.values().next().cloned();
        let refused = outcomes.iter().find_map(|o| o.why.clone());
        return Err(first.unwrap_or_else(|| {
            ActionError::new(
                Class::Refused,
                refused.unwrap_or_else(|| "no pod could be isolated".into()),
            )
        }));
    }
    Ok(applied(cx, outcomes))
}

pub(super) fn outcomes(
    world: &ClusterSnapshot,
    targets: &[Target],
    problems: &Problems,
) -> Vec<PodOutcome> {
    let one = |t: &Target| {
        let now = find(world, &t.pod);
        let labelled = now.is_some_and(|p| p.labels.get(QUARANTINE) == Some(&t.containment));
        let moved =
            t.moves_out() && now.is_some_and(|p| pod_fields(p, t.move_out.keys()) == t.move_out);
        let problem = problems.by_uid.get(&t.pod.uid);
        let outcome = match (&t.refused, problem, t.already) {
            (Some(_), ..) => "refused".to_owned(),
            (None, Some(e), _) => e.class.as_str().to_owned(),
            (None, None, true) => "already".to_owned(),
            (None, None, false) => "isolated".to_owned(),
        };
        let left = now.map_or_else(Vec::new, |p| residual(world, &[], p).lines());
        PodOutcome {
            name: place(&t.pod),
            uid: t.pod.uid.clone(),
            containment: t.containment.clone(),
            phase: match (labelled, moved) {
                (_, true) => "B",
                (true, false) => "A",
                (false, false) => "-",
            },
            outcome,
            still_allowed: targets::capped(left),
            why: t
                .refused
                .clone()
                .or_else(|| problem.map(ToString::to_string)),
        }
    };
    targets.iter().map(one).collect()
}

/// The one under which all pods are, else that of this step: pods of earlier runs name their own.
fn containment(cx: &Context, outcomes: &[PodOutcome]) -> String {
    match outcomes.first() {
        Some(first) if outcomes.iter().all(|o| o.containment == first.containment) => {
            first.containment.clone()
        }
        _ => of_step(cx),
    }
}

pub(super) fn applied(cx: &Context, outcomes: Vec<PodOutcome>) -> Applied {
    let good = outcomes
        .iter()
        .filter(|o| matches!(o.outcome.as_str(), "isolated" | "already"))
        .count();
    let open = outcomes
        .iter()
        .filter(|o| !o.still_allowed.is_empty())
        .count();
    let failed = outcomes.len() - good;
    let contained = failed == 0 && open == 0;
    let verdict = if contained {
        "contained-by-policy"
    } else {
        "not-contained"
    };
    let summary = match (contained, outcomes.as_slice()) {
        (true, [one]) => format!(
            "{} is contained by policy; probes have yet to prove it",
            one.name
        ),
        (true, all) => format!(
            "{} pods are contained by policy; probes have yet to prove it",
            all.len()
        ),
        (false, [one]) => format!(
            "{} is not contained: {}",
            one.name,
            one.why
                .clone()
                .or_else(|| one.still_allowed.first().cloned())
                .unwrap_or_default()
        ),
        (false, all) => format!(
            "not contained: {failed} of {} pods failed, {open} still have something allowed",
            all.len()
        ),
    };
    Applied {
        result: json!({
            "verdict": verdict,
            "containment": containment(cx, &outcomes),
            "pods": outcomes,
            "isolated": good,
            "failed": failed,
        }),
        summary,
    }
}
