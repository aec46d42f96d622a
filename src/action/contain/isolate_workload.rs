//! `contain.isolate_workload`: a deny-all policy and our label (phase A), then the pod moved out of Services, its ReplicaSet and allow
//! policies (phase B).
//!
//! *Effect*: one NetworkPolicy `firebreak-<containment>` a namespace; on each pod the label `firebreak/quarantine`, and one change of
//! the labels that the solver chose, with two annotations that keep autoscalers from evicting it.
//! *Undo*: exactly as found, from the ledger, by a three-way comparison; what others changed since is left and named.
//! *What it disturbs*: network state of the pod (rank 1–2): acquire sockets and connections before. Exec, logs and capture go on.
//! *Permissions*: pods get/list/patch; networkpolicies list/create/patch/delete in the namespace; reads of Services and controllers.
//! *Cost and time*: one write a namespace and two a pod, eight at once; seconds.
//! *Source*: <https://kubernetes.io/docs/concepts/services-networking/network-policies/>

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::action::registry::{ActionSpec, RightSpec, Sample, UndoSpec, Use, check_as};
use crate::action::{Action, ActionError, Applied, Class, Context, Observed, Preview, Undone};
use crate::incident::body::ObjectRef;
use crate::incident::{Effect, Phase};
use crate::port::PolicySpec;
use crate::reach::cluster::{ClusterSnapshot, Pod, Selector};
use crate::reach::isolation::{CONTAINMENT, QUARANTINE, is_ours, policy_name};

use super::journal::{Fields, Journal};
use super::naming::{args, place};
use super::outcome::{Problems, applied, finish, outcomes};
use super::preview;
use super::proof;
use super::release;
use super::targets::{self, Named, Target};
use super::write::{Change, DENY_ALL, Landing, Op, POLICY_FIELD, make, make_all, pod_fields};

/// Kind of write: our policy.
pub(super) const CREATE_POLICY: &str = "create_policy";
/// Kind of write: our label.
pub(super) const LABEL: &str = "label";
/// Kind of write: phase B.
pub(super) const MOVE_OUT: &str = "move_out";
/// Kind of write: only the guards against eviction, where nothing moves out.
pub(super) const ANNOTATE: &str = "annotate";
/// The label as a field.
pub(super) const LABEL_FIELD: &str = "labels/firebreak/quarantine";
/// What a quick look may take before and between the phases.
const QUICK: Duration = Duration::from_secs(2);

/// Arguments of `contain.isolate_workload`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IsolateArgs {
    /// Namespace of the pods.
    pub namespace: String,
    /// Name of the pod.
    #[serde(default)]
    pub pod: Option<String>,
    /// UID that the named pod must have.
    #[serde(default)]
    pub uid: Option<String>,
    /// Label selector, instead of a name: `app=web,tier!=db`.
    #[serde(default)]
    pub selector: Option<String>,
    /// Do not spend up to two seconds on a baseline before the first write: without one, blocked probes prove less.
    #[serde(default)]
    pub isolate_first: bool,
    /// Deny only; leave the pod in its Services and its controller.
    #[serde(default)]
    pub phase_a_only: bool,
}

impl IsolateArgs {
    pub(super) fn named(&self) -> Named {
        Named {
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            selector: self.selector.clone(),
            uid: self.uid.clone(),
        }
    }
}

const fn right(group: &'static str, resource: &'static str, verb: &'static str) -> RightSpec {
    RightSpec {
        group,
        resource,
        verb,
        cluster_wide: false,
    }
}

const fn cluster_right(
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
) -> RightSpec {
    RightSpec {
        group,
        resource,
        verb,
        cluster_wide: true,
    }
}

/// What one snapshot of the cluster reads.
pub(super) const LOOK_RIGHTS: [RightSpec; 12] = [
    cluster_right("", "pods", "list"),
    cluster_right("", "namespaces", "get"),
    cluster_right("", "namespaces", "list"),
    cluster_right("", "nodes", "list"),
    cluster_right("", "services", "list"),
    cluster_right("", "serviceaccounts", "list"),
    cluster_right("apps", "replicasets", "list"),
    cluster_right("apps", "statefulsets", "list"),
    cluster_right("apps", "daemonsets", "list"),
    cluster_right("batch", "jobs", "list"),
    cluster_right("networking.k8s.io", "networkpolicies", "list"),
    cluster_right("discovery.k8s.io", "endpointslices", "list"),
];

static RIGHTS: [RightSpec; 20] = [
    LOOK_RIGHTS[0],
    LOOK_RIGHTS[1],
    LOOK_RIGHTS[2],
    LOOK_RIGHTS[3],
    LOOK_RIGHTS[4],
    LOOK_RIGHTS[5],
    LOOK_RIGHTS[6],
    LOOK_RIGHTS[7],
    LOOK_RIGHTS[8],
    LOOK_RIGHTS[9],
    LOOK_RIGHTS[10],
    LOOK_RIGHTS[11],
    cluster_right("", "replicationcontrollers", "list"),
    cluster_right("policy", "poddisruptionbudgets", "list"),
    right("", "pods", "get"),
    right("", "pods", "patch"),
    right("networking.k8s.io", "networkpolicies", "get"),
    right("networking.k8s.io", "networkpolicies", "create"),
    right("networking.k8s.io", "networkpolicies", "patch"),
    right("networking.k8s.io", "networkpolicies", "delete"),
];

static SPEC: ActionSpec = ActionSpec {
    name: "contain.isolate_workload",
    about: "Denies all traffic of the named pods, then moves them out of Services, ReplicaSet and allow policies.",
    effect: Effect::Reversible,
    phase: Phase::Containment,
    uses: &[Use::Call],
    args_schema: || schemars::schema_for!(IsolateArgs),
    check_args: check_as::<IsolateArgs>,
    undo: UndoSpec::Own,
    result: &[
        ("verdict", Sample::Text),
        ("containment", Sample::Text),
        ("isolated", Sample::Integer),
        ("failed", Sample::Integer),
    ],
    rights: &RIGHTS,
    exhibit: None,
    volatility: None,
    disturbs: 2,
    timeout_s: 120,
};

/// Isolates pods.
pub struct IsolateWorkload;

#[async_trait]
impl Action for IsolateWorkload {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, value: &Value) -> Result<Preview, ActionError> {
        let args: IsolateArgs = args(value)?;
        preview::isolate(cx, &args).await
    }

    async fn apply(&self, cx: &Context, value: &Value) -> Result<Applied, ActionError> {
        let args: IsolateArgs = args(value)?;
        let history = cx.ledger.history()?;
        let journal = Journal::of(&history);
        let begun = targets::begun(cx, &history, &journal);
        let fresh = begun.is_empty();
        let (world, targets) = if fresh {
            if cx.cancelled() {
                return Err(ActionError::new(
                    Class::Refused,
                    "stopped before the first write; nothing was changed",
                ));
            }
            let (world, plans) = targets::plan(cx, &args.named(), args.phase_a_only).await?;
            targets::record(cx, &plans)?;
            (world, plans.iter().map(Target::of).collect())
        } else {
            (targets::snapshot(cx.cluster()?).await?, begun)
        };
        let single = single(&targets);
        if fresh && !args.isolate_first {
            (cx.progress)("baseline: what is open now");
            proof::baseline(cx, &targets, QUICK).await?;
        }
        let mut problems = Problems::default();
        phase_a(cx, &journal, &world, &targets, &mut problems).await?;
        if let Some(target) = single.filter(|t| !problems.has(t)) {
            proof::quick(cx, target, QUICK).await?;
        }
        phase_b(cx, &journal, &world, &targets, &mut problems).await?;
        finish(cx, &targets, &problems).await
    }

    async fn observe(&self, cx: &Context, value: &Value) -> Result<Observed, ActionError> {
        let history = cx.ledger.history()?;
        let journal = Journal::of(&history);
        let targets = targets::begun(cx, &history, &journal);
        if targets.is_empty() {
            // Without arguments that can be read nobody knows which pods are meant, and this step wrote nothing.
            return match args(value) {
                Ok(args) => observe_already(cx, &args).await,
                Err(_) => Ok(Observed::NotDone),
            };
        }
        let cluster = cx.cluster()?;
        let world = targets::snapshot(cluster).await?;
        let all_there = targets.iter().all(|t| {
            find(&world, &t.pod).is_some_and(|pod| {
                let label = Some(&t.containment) == pod.labels.get(QUARANTINE);
                label && pod_fields(pod, t.move_out.keys()) == t.move_out
            })
        });
        if !all_there {
            return Ok(Observed::NotDone);
        }
        let outcomes = outcomes(&world, &targets, &Problems::default());
        Ok(Observed::Done(applied(cx, outcomes)))
    }

    async fn undo(&self, cx: &Context, _: &Value) -> Result<Undone, ActionError> {
        release::undo_step(cx).await
    }
}

/// A step that wrote nothing is done where every pod it names was isolated already, by an earlier step.
async fn observe_already(cx: &Context, args: &IsolateArgs) -> Result<Observed, ActionError> {
    let (world, plans) = match targets::plan(cx, &args.named(), args.phase_a_only).await {
        Ok(planned) => planned,
        Err(e) if matches!(e.class, Class::Refused | Class::Conflict) => {
            return Ok(Observed::NotDone);
        }
        Err(e) => return Err(e),
    };
    if plans.is_empty() || !plans.iter().all(|p| p.already) {
        return Ok(Observed::NotDone);
    }
    let targets: Vec<Target> = plans.iter().map(Target::of).collect();
    let outcomes = outcomes(&world, &targets, &Problems::default());
    Ok(Observed::Done(applied(cx, outcomes)))
}

/// The only target, when there is one: looks at many between the phases would take longer than they may.
fn single(targets: &[Target]) -> Option<&Target> {
    match targets {
        [one] if one.refused.is_none() && !one.already => Some(one),
        _ => None,
    }
}

/// One policy a namespace, then the label on each pod. Without the policy no label is written.
async fn phase_a(
    cx: &Context,
    journal: &Journal,
    world: &ClusterSnapshot,
    targets: &[Target],
    problems: &mut Problems,
) -> Result<(), ActionError> {
    let places: BTreeSet<(String, String)> = open(targets, problems)
        .filter(|t| !is_denied(journal, world, t))
        .map(|t| (t.pod.namespace.clone(), t.containment.clone()))
        .collect();
    for (namespace, containment) in places {
        let landing = put_policy(cx, journal, &namespace, &containment).await?;
        if let Some(error) = landing.error {
            for target in targets.iter().filter(|t| t.pod.namespace == namespace) {
                problems.note(&target.pod.uid, error.clone());
            }
        }
    }
    let mut changes = Vec::new();
    for target in open(targets, problems).filter(|t| !is_denied(journal, world, t)) {
        let wanted = Fields::from([(LABEL_FIELD.to_owned(), Some(target.containment.clone()))]);
        changes.push((target, LABEL, wanted));
    }
    write_labels(cx, journal, world, changes, problems, "phase A").await
}

/// Phase A is in force by the hand of another incident: its label and policy are there, and this ledger never wrote them.
fn is_denied(journal: &Journal, world: &ClusterSnapshot, target: &Target) -> bool {
    let carries = |p: &Pod| p.labels.get(QUARANTINE) == Some(&target.containment);
    let (namespace, name) = (&target.pod.namespace, policy_name(&target.containment));
    journal.find(&target.pod, LABEL).is_none()
        && find(world, &target.pod).is_some_and(carries)
        && world
            .policies
            .iter()
            .any(|p| p.namespace == *namespace && p.name == name && is_ours(p))
}

async fn phase_b(
    cx: &Context,
    journal: &Journal,
    world: &ClusterSnapshot,
    targets: &[Target],
    problems: &mut Problems,
) -> Result<(), ActionError> {
    let changes: Vec<_> = open(targets, problems)
        .filter(|t| !t.move_out.is_empty())
        .map(|t| (t, t.second_write(), t.move_out.clone()))
        .collect();
    if changes.is_empty() {
        return Ok(());
    }
    write_labels(cx, journal, world, changes, problems, "phase B").await
}

fn open<'t>(targets: &'t [Target], problems: &Problems) -> impl Iterator<Item = &'t Target> {
    let failed = problems.uids();
    targets
        .iter()
        .filter(move |t| t.refused.is_none() && !t.already && !failed.contains(&t.pod.uid))
}

async fn put_policy(
    cx: &Context,
    journal: &Journal,
    namespace: &str,
    containment: &str,
) -> Result<Landing, ActionError> {
    let spec = policy_spec(namespace, containment);
    let object = policy_ref(namespace, containment);
    let live = journal.find(&object, CREATE_POLICY);
    let there = || Fields::from([(POLICY_FIELD.to_owned(), Some(DENY_ALL.to_owned()))]);
    let change = Change {
        object: object.clone(),
        what: CREATE_POLICY.into(),
        before: Fields::from([(POLICY_FIELD.to_owned(), None)]),
        written: there(),
        reversal: false,
        open: live.filter(|l| !l.seen).map(|l| l.intent),
        op: Op::PutPolicy(spec),
    };
    if let Some(live) = live.filter(|l| l.seen) {
        let now = super::write::find_policy(cx.cluster()?, &object).await?;
        match now {
            Some((_, DENY_ALL)) => {
                return Ok(Landing {
                    object: live.object.clone(),
                    seen: there(),
                    verdict: Some("already"),
                    error: None,
                });
            }
            Some(_) => {
                return Ok(Landing {
                    object: live.object.clone(),
                    seen: Fields::new(),
                    verdict: Some("changed-by-others"),
                    error: Some(
                        ActionError::new(
                            Class::Conflict,
                            format!("somebody changed our policy {}", place(&object)),
                        )
                        .hint("look at it, delete it if it is not wanted, and apply again"),
                    ),
                });
            }
            None => {}
        }
    }
    (cx.progress)(&format!("policy {}", place(&object)));
    make(cx, change).await
}

/// Our policy as the port takes it.
pub(super) fn policy_spec(namespace: &str, containment: &str) -> PolicySpec {
    let ours = BTreeMap::from([(CONTAINMENT.to_owned(), containment.to_owned())]);
    let target = BTreeMap::from([(QUARANTINE.to_owned(), containment.to_owned())]);
    PolicySpec {
        namespace: namespace.to_owned(),
        name: policy_name(containment),
        labels: ours,
        annotations: BTreeMap::new(),
        pod_selector: Selector::labels(target),
    }
}

/// Our policy as entries name it before it exists.
pub(super) fn policy_ref(namespace: &str, containment: &str) -> ObjectRef {
    ObjectRef {
        kind: "NetworkPolicy".into(),
        namespace: namespace.to_owned(),
        name: policy_name(containment),
        uid: String::new(),
    }
}

/// Writes labels of many pods: what is there already is not sent, what was begun is looked at first.
async fn write_labels(
    cx: &Context,
    journal: &Journal,
    world: &ClusterSnapshot,
    wanted: Vec<(&Target, &str, Fields)>,
    problems: &mut Problems,
    words: &str,
) -> Result<(), ActionError> {
    let mut changes = Vec::new();
    for (target, what, fields) in wanted {
        match prepare(journal, world, target, what, fields) {
            Ok(Some(change)) => changes.push(change),
            Ok(None) => {}
            Err(error) => problems.note(&target.pod.uid, error),
        }
    }
    (cx.progress)(&format!("{words}: {} pod(s)", changes.len()));
    for (change, landing) in make_all(cx, changes).await? {
        problems.landed(&change.object.uid, landing);
    }
    Ok(())
}

/// The write that is still to be made, or none when it is there. `before` is never taken from a state that we wrote ourselves.
fn prepare(
    journal: &Journal,
    world: &ClusterSnapshot,
    target: &Target,
    what: &str,
    wanted: Fields,
) -> Result<Option<Change>, ActionError> {
    let pod = find(world, &target.pod).ok_or_else(|| recreated(world, &target.pod))?;
    let change = |before: Fields, written: Fields, open| {
        Some(Change {
            op: Op::Labels,
            object: target.pod.clone(),
            what: what.to_owned(),
            before,
            written,
            reversal: false,
            open,
        })
    };
    let Some(live) = journal.find(&target.pod, what) else {
        let before = pod_fields(pod, wanted.keys());
        return Ok(change(before, wanted, None));
    };
    if !live.seen {
        let written = live.written.clone();
        return Ok(change(live.expected(), written, Some(live.intent)));
    }
    // What an earlier write holds, and what this one adds to it: a Service that came later, a label that somebody put back.
    let mut written = live.written.clone();
    written.extend(wanted);
    let now = pod_fields(pod, written.keys());
    let foreign = live
        .written
        .iter()
        .any(|(k, v)| now.get(k) != Some(v) && now.get(k) != live.before.get(k));
    if foreign {
        return Err(ActionError::new(
            Class::Conflict,
            format!(
                "somebody changed labels of {} meanwhile",
                place(&target.pod)
            ),
        ));
    }
    Ok((now != written)
        .then(|| change(now, written, None))
        .flatten())
}

/// The pod of exactly this UID.
pub(super) fn find<'w>(world: &'w ClusterSnapshot, pod: &ObjectRef) -> Option<&'w Pod> {
    world.pods.iter().find(|p| p.uid == pod.uid)
}

fn recreated(world: &ClusterSnapshot, pod: &ObjectRef) -> ActionError {
    let another = world
        .pods
        .iter()
        .find(|p| p.namespace == pod.namespace && p.name == pod.name);
    let words = match another {
        Some(now) => format!(
            "pod {} was deleted and made again: UID {} instead of {}",
            place(pod),
            now.uid,
            pod.uid
        ),
        None => format!("pod {} with UID {} is gone", place(pod), pod.uid),
    };
    ActionError::new(Class::Conflict, words).hint("plan again for the pod that is there now")
}
