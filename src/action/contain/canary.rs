//! `contain.run_canary`: does the network plugin of one node enforce at all?
//!
//! *Effect*: two throw-away pods of ours in the namespace `firebreak-hands` on that node, and a deny policy on them: open → denied →
//! blocked → deny removed → open. All of it is removed at the end.
//! *Undo*: removes what a cut run left.
//! *What it disturbs*: nothing of others.
//! *Permissions*: nodes get, namespaces get/create; in `firebreak-hands` replicasets and networkpolicies get/create/delete, pods
//! get/list/patch/delete, pods/exec.
//! *Cost and time*: two small pods; up to a minute where an image has to be pulled.
//! *Source*: <https://kubernetes.io/docs/concepts/services-networking/network-policies/#prerequisites>

use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::action::registry::{ActionSpec, RightSpec, Sample, UndoSpec, Use, check_as};
use crate::action::{Action, ActionError, Applied, Class, Context, Observed, Preview, Undone};
use crate::incident::body::{Canary, ObjectRef, WriteIntended, WriteSeen};
use crate::incident::{Effect, Phase, kind};
use crate::port::{CanarySpec, Cluster, ProbeSource, ProbeTarget, Tried, WriteMode};
use crate::reach::cluster::{Pod, PodName, Protocol};
use crate::reach::isolation::{HANDS, QUARANTINE};

use super::isolate_workload::{policy_ref, policy_spec};
use super::journal::{Fields, Journal};
use super::naming::{args, of_step, pod_ref};
use super::preview::bind_cluster;
use super::targets::{Named, find};

/// Kind of write: our throw-away pods.
pub(super) const CREATE_CANARY: &str = "create_canary";
/// Port on which a throw-away pod listens.
pub(super) const LISTEN: u16 = 47_999;
/// How long a plugin may take to enforce or to let go, in looks and the pause between them.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);
/// One try.
const WITHIN: Duration = Duration::from_millis(900);
/// Seconds until both pods run.
const START_S: u64 = 60;

/// Arguments of `contain.run_canary`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryArgs {
    /// Namespace of the pod whose node is tested.
    pub namespace: String,
    /// The pod whose node is tested.
    pub pod: String,
    /// Image with `sh` and `nc`; without one the canary does not run.
    #[serde(default)]
    pub probe_image: Option<String>,
}

const fn right(group: &'static str, resource: &'static str, verb: &'static str) -> RightSpec {
    RightSpec {
        group,
        resource,
        verb,
        cluster_wide: true,
    }
}

/// What removing our throw-away pods and the policy on them takes, in their namespace.
pub(super) const REMOVAL: [RightSpec; 6] = [
    right("apps", "replicasets", "get"),
    right("apps", "replicasets", "delete"),
    right("", "pods", "list"),
    right("", "pods", "delete"),
    right("networking.k8s.io", "networkpolicies", "list"),
    right("networking.k8s.io", "networkpolicies", "delete"),
];

static RIGHTS: [RightSpec; 17] = [
    REMOVAL[0],
    REMOVAL[1],
    REMOVAL[2],
    REMOVAL[3],
    REMOVAL[4],
    REMOVAL[5],
    right("", "nodes", "get"),
    right("", "namespaces", "create"),
    right("", "namespaces", "get"),
    right("apps", "replicasets", "create"),
    right("networking.k8s.io", "networkpolicies", "get"),
    right("networking.k8s.io", "networkpolicies", "create"),
    right("networking.k8s.io", "networkpolicies", "patch"),
    right("", "pods", "get"),
    right("", "pods", "patch"),
    right("", "pods/exec", "create"),
    // The upgrade of an exec is a GET; servers from 1.35 on ask for create as well.
    right("", "pods/exec", "get"),
];

static SPEC: ActionSpec = ActionSpec {
    name: "contain.run_canary",
    about: "Shows with two throw-away pods whether the network plugin of the pod's node enforces policies.",
    effect: Effect::Reversible,
    phase: Phase::Containment,
    uses: &[Use::Call],
    args_schema: || schemars::schema_for!(CanaryArgs),
    check_args: check_as::<CanaryArgs>,
    undo: UndoSpec::Own,
    result: &[("verdict", Sample::Text), ("node", Sample::Text)],
    rights: &RIGHTS,
    exhibit: None,
    volatility: None,
    disturbs: 0,
    timeout_s: 150,
};

/// Runs a canary.
pub struct RunCanary;

#[async_trait]
impl Action for RunCanary {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, value: &Value) -> Result<Preview, ActionError> {
        let args: CanaryArgs = args(value)?;
        let cluster = cx.cluster()?;
        let mut preview = Preview {
            undo: "everything it makes is removed at its end, or by its undo".into(),
            ..Preview::default()
        };
        bind_cluster(cluster, &mut preview).await?;
        if args.probe_image.is_none() {
            let why = "no `probe_image` is configured: the canary will not run";
            preview.cannot.push(why.into());
            preview.idle = Some(why.into());
            return Ok(preview);
        }
        preview.changes = vec![
            format!("run two throw-away pods of ours in `{HANDS}` on the pod's node"),
            "put a deny policy on them, and remove it again".into(),
        ];
        Ok(preview)
    }

    async fn apply(&self, cx: &Context, value: &Value) -> Result<Applied, ActionError> {
        let args: CanaryArgs = args(value)?;
        sweep(cx).await?;
        let (node, outcome) = match prepared(cx, &args).await {
            Ok(spec) => {
                let outcome = run(cx, &spec).await;
                let object = canary_ref(&spec);
                let removed = remove_canary(cx, &object).await;
                (spec.node, still_usable(outcome, removed)?)
            }
            Err(e) => (String::new(), Outcome::not_run(e)),
        };
        let body = Canary {
            node: node.clone(),
            verdict: outcome.verdict.into(),
            seen: outcome.seen.clone(),
            why: outcome.why.clone(),
        };
        cx.record(kind::CONTAIN_CANARY, &body)?;
        let why = outcome.why.map(|w| format!(": {w}")).unwrap_or_default();
        Ok(Applied {
            result: json!({"verdict": outcome.verdict, "node": node, "seen": outcome.seen}),
            summary: format!("canary: {}{why}", outcome.verdict),
        })
    }

    async fn observe(&self, cx: &Context, _: &Value) -> Result<Observed, ActionError> {
        let history = cx.ledger.history()?;
        let last = history
            .bodies::<Canary>(kind::CONTAIN_CANARY)
            .filter(|(e, _)| e.run() == Some(cx.run.as_str()) && e.step() == Some(cx.step.as_str()))
            .last();
        Ok(match last {
            Some((_, c)) => Observed::Done(Applied {
                summary: format!("canary: {}", c.verdict),
                result: json!({"verdict": c.verdict, "node": c.node, "seen": c.seen}),
            }),
            None => Observed::NotDone,
        })
    }

    async fn undo(&self, cx: &Context, _: &Value) -> Result<Undone, ActionError> {
        sweep(cx).await?;
        Ok(Undone::Undone("nothing of the canary is left".into()))
    }
}

struct Outcome {
    verdict: &'static str,
    seen: Vec<String>,
    why: Option<String>,
}

impl Outcome {
    fn not_run(why: impl ToString) -> Self {
        Outcome {
            verdict: "not-run",
            seen: Vec::new(),
            why: Some(why.to_string()),
        }
    }
}

/// A proof that cannot start is an outcome; a ledger that cannot be written, or pods of ours that stay, are failures.
fn still_usable(
    outcome: Result<Outcome, ActionError>,
    removed: Result<(), ActionError>,
) -> Result<Outcome, ActionError> {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(e) if e.class == Class::Ledger => return Err(e),
        Err(e) => Outcome::not_run(e),
    };
    removed?;
    Ok(outcome)
}

async fn prepared(cx: &Context, args: &CanaryArgs) -> Result<CanarySpec, ActionError> {
    let image = args.probe_image.clone().ok_or_else(|| {
        ActionError::new(Class::Refused, "no image to probe with")
            .hint("set `probe_image` to an image with sh and nc")
    })?;
    let named = Named {
        namespace: args.namespace.clone(),
        pod: Some(args.pod.clone()),
        ..Named::default()
    };
    let pods = find(cx.cluster()?, &named).await?;
    let node = pods.first().map(|p| p.node.clone()).unwrap_or_default();
    let id = of_step(cx);
    Ok(CanarySpec {
        namespace: HANDS.into(),
        name: format!("firebreak-canary-{}", tail(&id)),
        node,
        image,
        quarantine: id,
    })
}

/// The last part of a containment id: object names of ours stay short.
pub(super) fn tail(id: &str) -> &str {
    id.rsplit('-').next().unwrap_or(id)
}

async fn run(cx: &Context, spec: &CanarySpec) -> Result<Outcome, ActionError> {
    let cluster = cx.cluster()?;
    announce(cx, spec)?;
    let pods = cluster.change.put_canary(spec, START_S).await?;
    let [from, to] = pods.as_slice() else {
        return Ok(Outcome::not_run(format!(
            "{} pods run instead of two",
            pods.len()
        )));
    };
    let (from, to) = (
        labelled(cluster, spec, from).await?,
        labelled(cluster, spec, to).await?,
    );
    cluster
        .probe
        .listen(&source(&to), LISTEN, Duration::from_secs(60))
        .await?;
    let target = ProbeTarget {
        address: to.ips.first().cloned().unwrap_or_default(),
        port: LISTEN,
        protocol: Protocol::Tcp,
    };
    let mut seen = Vec::new();
    let open = until(cx, &from, &target, true).await?;
    seen.push(format!("without a policy: {}", open.as_str()));
    if open != Tried::Open {
        return Ok(Outcome {
            verdict: "not-run",
            seen,
            why: Some("the throw-away pods do not reach each other without any policy".into()),
        });
    }
    let policy = policy_spec(&spec.namespace, &spec.quarantine);
    let written = cluster.change.put_policy(&policy, WriteMode::Apply).await?;
    let denied = until(cx, &from, &target, false).await;
    let deleted = cluster
        .change
        .delete_policy(&written.object, WriteMode::Apply)
        .await;
    let denied = denied?;
    deleted?;
    seen.push(format!("denied: {}", denied.as_str()));
    if denied == Tried::Open {
        return Ok(Outcome {
            verdict: "unenforced",
            seen,
            why: Some("traffic went on under a deny-all policy".into()),
        });
    }
    let again = until(cx, &from, &target, true).await?;
    seen.push(format!("deny removed: {}", again.as_str()));
    Ok(if again == Tried::Open {
        Outcome {
            verdict: "enforced",
            seen,
            why: None,
        }
    } else {
        Outcome {
            verdict: "not-run",
            seen,
            why: Some(
                "blocked for another reason than the policy: it stayed blocked without it".into(),
            ),
        }
    })
}

/// Tries until the answer is as wished, or the limit; the last answer counts.
async fn until(
    cx: &Context,
    from: &Pod,
    to: &ProbeTarget,
    open: bool,
) -> Result<Tried, ActionError> {
    let cluster = cx.cluster()?;
    let mut last = Tried::Silent;
    for _ in 0..LOOKS {
        last = cluster
            .probe
            .connect(&source(from), to, WITHIN)
            .await?
            .tried;
        if (last == Tried::Open) == open {
            break;
        }
        if !cx.ports.clock.waits_are_simulated() {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(last)
}

/// A throw-away pod with our label on it, so that the deny selects it.
async fn labelled(
    cluster: &Cluster,
    spec: &CanarySpec,
    object: &ObjectRef,
) -> Result<Pod, ActionError> {
    let name = PodName {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
    };
    let pod =
        cluster.view.pod(&name).await?.ok_or_else(|| {
            ActionError::new(Class::Failed, format!("throw-away pod {name} is gone"))
        })?;
    if pod.labels.get(QUARANTINE) == Some(&spec.quarantine) {
        return Ok(pod);
    }
    let field = format!("labels/{QUARANTINE}");
    let change = crate::port::LabelChange {
        object: pod_ref(&pod),
        expect: Fields::from([(field.clone(), pod.labels.get(QUARANTINE).cloned())]),
        set: Fields::from([(field, Some(spec.quarantine.clone()))]),
    };
    cluster
        .change
        .change_labels(&change, WriteMode::Apply)
        .await?;
    Ok(pod)
}

/// Where a probe starts in a pod: its first running main container.
pub(super) fn source(pod: &Pod) -> ProbeSource {
    use crate::reach::cluster::ContainerKind;
    let running =
        |c: &&crate::reach::cluster::Container| c.kind == ContainerKind::Main && c.running;
    let container = pod.containers.iter().find(running).or_else(|| {
        pod.containers
            .iter()
            .find(|c| c.kind == ContainerKind::Main)
    });
    ProbeSource {
        pod: pod_ref(pod),
        container: container.map(|c| c.name.clone()).unwrap_or_default(),
    }
}

pub(super) fn canary_ref(spec: &CanarySpec) -> ObjectRef {
    ObjectRef {
        kind: "ReplicaSet".into(),
        namespace: spec.namespace.clone(),
        name: spec.name.clone(),
        uid: String::new(),
    }
}

/// Records that throw-away pods are about to be made.
pub(super) fn announce(cx: &Context, spec: &CanarySpec) -> Result<(), ActionError> {
    cx.intend(&WriteIntended {
        object: canary_ref(spec),
        what: CREATE_CANARY.into(),
        before: Fields::from([("pods".to_owned(), None)]),
        written: Fields::from([("pods".to_owned(), Some(spec.node.clone()))]),
        reversal: false,
    })?;
    Ok(())
}

/// Removes throw-away pods and the policy on them, and closes their writes in the ledger.
pub(super) async fn remove_canary(cx: &Context, object: &ObjectRef) -> Result<(), ActionError> {
    let cluster = cx.cluster()?;
    let journal = Journal::of(&cx.ledger.history()?);
    let Some(live) = journal.find(object, CREATE_CANARY) else {
        return Ok(());
    };
    let intent = match live.reversal {
        Some(open) => open,
        None => cx.intend(&WriteIntended {
            object: object.clone(),
            what: CREATE_CANARY.into(),
            before: live.written.clone(),
            written: live.before.clone(),
            reversal: true,
        })?,
    };
    let spec = CanarySpec {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        node: live
            .written
            .get("pods")
            .cloned()
            .flatten()
            .unwrap_or_default(),
        image: String::new(),
        quarantine: String::new(),
    };
    let world = cluster
        .view
        .look(&crate::port::LookScope::Namespaces(vec![
            object.namespace.clone(),
        ]))
        .await?;
    // A list that may not be read is no proof that nothing is left.
    if let Some(unread) = world
        .unread
        .iter()
        .find(|u| u.what.contains("networkpolic"))
    {
        return Err(ActionError::new(
            Class::Denied,
            format!(
                "whether a policy of ours is left in {} cannot be read: {}",
                object.namespace, unread.why
            ),
        )
        .hint("firebreak permissions canary"));
    }
    let policies = world.policies.iter().filter(|p| {
        p.namespace == object.namespace
            && crate::reach::isolation::is_ours(p)
            && p.name.ends_with(tail(&object.name))
    });
    for policy in policies {
        let object = ObjectRef {
            uid: policy.uid.clone(),
            ..policy_ref(
                &policy.namespace,
                policy.name.strip_prefix("firebreak-").unwrap_or_default(),
            )
        };
        cluster
            .change
            .delete_policy(&object, WriteMode::Apply)
            .await?;
    }
    cluster.change.delete_canary(&spec).await?;
    cx.saw(
        intent,
        &WriteSeen {
            object: object.clone(),
            what: CREATE_CANARY.into(),
            seen: live.before.clone(),
            verdict: "written".into(),
            reversal: true,
        },
    )
}

/// Removes what a cut run of this step left.
async fn sweep(cx: &Context) -> Result<(), ActionError> {
    let journal = Journal::of(&cx.ledger.history()?);
    let left: Vec<ObjectRef> = journal
        .live
        .iter()
        .filter(|l| l.what == CREATE_CANARY && l.is_of(&cx.run, &cx.step))
        .map(|l| l.object.clone())
        .collect();
    for object in left {
        remove_canary(cx, &object).await?;
    }
    Ok(())
}
