//! Which pods a step is about, and the plan for each: worked out once, then read from the ledger for ever.

use std::collections::BTreeMap;

use crate::action::{ActionError, Class, Context};
use crate::incident::body::{ContainmentPlanned, ObjectRef};
use crate::incident::{Draft, History, kind};
use crate::port::{Cluster, LookScope};
use crate::reach::cluster::{ClusterSnapshot, Pod, PodName};
use crate::reach::isolation::{GUARDS, IsolationPlan, Planner, Wish};

use super::isolate_workload::{ANNOTATE, MOVE_OUT};
use super::journal::{Fields, Journal};
use super::naming::{of_step, place, pod_ref};

/// Lines of one list in an entry: an entry has a size limit, and what is more than this nobody reads one by one.
const MOST_LINES: usize = 40;

/// How pods are named in arguments.
#[derive(Debug, Clone, Default)]
pub(super) struct Named {
    /// Namespace.
    pub namespace: String,
    /// By name.
    pub pod: Option<String>,
    /// By labels.
    pub selector: Option<String>,
    /// The UID that the named pod must have.
    pub uid: Option<String>,
}

/// One pod of a containment.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The pod with its UID.
    pub pod: ObjectRef,
    /// Value of the quarantine label.
    pub containment: String,
    /// `labels/<key>` and `annotations/<key>` that phase B writes.
    pub move_out: Fields,
    /// Why it is left alone.
    pub refused: Option<String>,
    /// Nothing is left to do: an earlier run isolated it.
    pub already: bool,
}

impl Target {
    /// A target of a plan.
    pub fn of(plan: &IsolationPlan) -> Self {
        Target {
            pod: pod_ref(&plan.pod),
            containment: plan.containment.clone(),
            move_out: second_fields(&plan.move_out, plan.already),
            refused: plan
                .refused
                .as_ref()
                .map(|r| format!("{}; instead: {}", r.why, r.instead)),
            already: plan.already,
        }
    }
    /// A target as an earlier apply of this step planned it.
    fn recorded(planned: ContainmentPlanned) -> Self {
        Target {
            move_out: second_fields(&planned.move_out, planned.already),
            pod: planned.pod,
            containment: planned.containment,
            refused: None,
            already: planned.already,
        }
    }
    /// Kind of the second write.
    pub fn second_write(&self) -> &'static str {
        if self.moves_out() { MOVE_OUT } else { ANNOTATE }
    }
    /// True when phase B changes a label and not only the guards.
    pub fn moves_out(&self) -> bool {
        self.move_out.keys().any(|k| k.starts_with("labels/"))
    }
}

/// What the second write sets: the labels that move out, and the guards.
fn second_fields(move_out: &BTreeMap<String, Option<String>>, already: bool) -> Fields {
    if already {
        return Fields::new();
    }
    let labels = move_out
        .iter()
        .map(|(k, v)| (format!("labels/{k}"), v.clone()));
    let guards = GUARDS
        .iter()
        .map(|(k, v)| (format!("annotations/{k}"), Some((*v).to_owned())));
    labels.chain(guards).collect()
}

/// The pods that arguments name, now.
pub(super) async fn find(cluster: &Cluster, named: &Named) -> Result<Vec<Pod>, ActionError> {
    match (&named.pod, &named.selector) {
        (Some(name), None) => {
            let id = PodName {
                namespace: named.namespace.clone(),
                name: name.clone(),
            };
            let pod = cluster.view.pod(&id).await?.ok_or_else(|| {
                ActionError::new(Class::Refused, format!("there is no pod `{id}`"))
                    .hint(format!("kubectl get pods -n {}", named.namespace))
            })?;
            check_uid(named, &pod)?;
            Ok(vec![pod])
        }
        (None, Some(selector)) => {
            let mut pods = cluster
                .view
                .pods_by_selector(&named.namespace, selector)
                .await?;
            pods.sort_by(|a, b| a.name.cmp(&b.name));
            if pods.is_empty() {
                return Err(ActionError::new(
                    Class::Refused,
                    format!("no pod of `{}` matches `{selector}`", named.namespace),
                ));
            }
            Ok(pods)
        }
        _ => Err(ActionError::new(
            Class::Refused,
            "name either `pod` or `selector`",
        )),
    }
}

fn check_uid(named: &Named, pod: &Pod) -> Result<(), ActionError> {
    match &named.uid {
        Some(uid) if *uid != pod.uid => Err(ActionError::new(
            Class::Conflict,
            format!(
                "pod `{}` is another one now: UID {} instead of {uid}",
                pod.id(),
                pod.uid
            ),
        )
        .hint("plan again; acquire what the old one left behind")),
        _ => Ok(()),
    }
}

/// One snapshot of everything that can concern these pods.
pub(super) async fn snapshot(cluster: &Cluster) -> Result<ClusterSnapshot, ActionError> {
    Ok(cluster.view.look(&LookScope::Cluster).await?)
}

/// Plans for the pods that arguments name.
pub(super) async fn plan(
    cx: &Context,
    named: &Named,
    phase_a_only: bool,
) -> Result<(ClusterSnapshot, Vec<IsolationPlan>), ActionError> {
    let cluster = cx.cluster()?;
    let pods = find(cluster, named).await?;
    let world = snapshot(cluster).await?;
    let wish = Wish {
        containment: of_step(cx),
        phase_a_only,
        named: named.pod.is_some(),
    };
    let plans = {
        let mut planner = Planner::new(&world);
        pods.iter()
            .map(|pod| {
                // The snapshot is the later look; a pod that went in between keeps its first one and fails by its UID.
                let pod = world.pods.iter().find(|p| p.uid == pod.uid).unwrap_or(pod);
                planner.plan(pod, &wish)
            })
            .collect()
    };
    Ok((world, plans))
}

/// The targets that an earlier apply of this step began to write to; empty when it wrote nothing that is in force.
pub(super) fn begun(cx: &Context, history: &History, journal: &Journal) -> Vec<Target> {
    if !journal.live.iter().any(|l| l.is_of(&cx.run, &cx.step)) {
        return Vec::new();
    }
    let mut by_uid: BTreeMap<String, Target> = BTreeMap::new();
    for (entry, planned) in history.bodies::<ContainmentPlanned>(kind::CONTAINMENT_PLANNED) {
        if entry.run() == Some(cx.run.as_str()) && entry.step() == Some(cx.step.as_str()) {
            by_uid.insert(planned.pod.uid.clone(), Target::recorded(planned));
        }
    }
    let mut targets: Vec<Target> = by_uid.into_values().collect();
    targets.sort_by_key(|t| place(&t.pod));
    targets
}

/// Records the plans, one entry a pod, in one batch; those with nothing left to do too, so that proof, undo and document know them.
pub(super) fn record(cx: &Context, plans: &[IsolationPlan]) -> Result<(), ActionError> {
    let drafts: Vec<Draft> = plans
        .iter()
        .filter(|p| p.refused.is_none())
        .map(|p| Draft::new(kind::CONTAINMENT_PLANNED, &planned(p)).about(cx.refs()))
        .collect();
    if !drafts.is_empty() {
        cx.ledger.append(drafts)?;
    }
    Ok(())
}

fn planned(plan: &IsolationPlan) -> ContainmentPlanned {
    ContainmentPlanned {
        containment: plan.containment.clone(),
        pod: pod_ref(&plan.pod),
        node: plan.pod.node.clone(),
        owner: plan.owner.clone(),
        services: capped(plan.services_leaving.clone()),
        still_allowed: capped(plan.in_the_end.lines()),
        still_selecting: capped(plan.still_selecting.clone()),
        move_out: plan.move_out.clone(),
        cannot: capped(plan.cannot.clone()),
        warnings: capped(plan.warnings.clone()),
        already: plan.already,
    }
}

/// At most so many lines, and how many more there are.
pub(super) fn capped(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > MOST_LINES {
        let more = lines.len() - MOST_LINES;
        lines.truncate(MOST_LINES);
        lines.push(format!("… and {more} more"));
    }
    lines
}
