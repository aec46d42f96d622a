//! `contain.probe_isolation`: tries what the plan says is denied, each try with a positive control.
//!
//! *Effect*: opens and closes connections from pods of the cluster; writes a proof table into the ledger. Where no unaffected pod can be
//! asked and `probe_image` is given, one throw-away pod of ours is made in `firebreak-hands` and removed again.
//! *Undo*: none is needed.
//! *What it disturbs*: an exec in the target runs its own `nc`: a process and a few sockets more.
//! *Permissions*: pods get/list, pods/exec create; with `probe_image` pods create/delete in `firebreak-hands`.
//! *Cost and time*: a few seconds a pod; up to ten more where the network plugin is slow to enforce.
//! *Source*: <https://kubernetes.io/docs/concepts/services-networking/network-policies/>

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::action::registry::{ActionSpec, RightSpec, Sample, UndoSpec, Use, check_as};
use crate::action::{Action, ActionError, Applied, Class, Context, Observed, Preview};
use crate::incident::body::{ContainmentPlanned, Proof};
use crate::incident::{Effect, Phase, kind};
use crate::port::CanarySpec;
use crate::reach::cluster::{ClusterSnapshot, Pod};
use crate::reach::isolation::{HANDS, QUARANTINE};
use crate::reach::residual::residual;

use super::canary::{announce, remove_canary, tail};
use super::choice::candidates;
use super::isolate_workload::LOOK_RIGHTS;
use super::measure::Asked;
use super::naming::{args, of_step, pod_ref};
use super::preview::bind_cluster;
use super::proof::{BEFORE, NOT_SEEN, whole};
use super::targets::{Named, find, snapshot};

/// Pods probed at once.
const AT_ONCE: usize = 8;
/// Seconds until a throw-away pod runs.
const START_S: u64 = 30;

/// Arguments of `contain.probe_isolation`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeArgs {
    /// Namespace of the pods.
    pub namespace: String,
    /// Name of the pod.
    #[serde(default)]
    pub pod: Option<String>,
    /// Label selector, instead of a name. Pods that an isolation moved out are found by what it recorded.
    #[serde(default)]
    pub selector: Option<String>,
    /// Image with `sh` and `nc` for a throw-away pod where no pod of the cluster can be asked.
    #[serde(default)]
    pub probe_image: Option<String>,
}

static RIGHTS: [RightSpec; 14] = {
    let mut rights = [LOOK_RIGHTS[0]; 14];
    let mut n = 0;
    while n < LOOK_RIGHTS.len() {
        rights[n] = LOOK_RIGHTS[n];
        n += 1;
    }
    rights[12] = RightSpec {
        group: "",
        resource: "pods/exec",
        verb: "create",
        cluster_wide: true,
    };
    // The upgrade of an exec is a GET; servers from 1.35 on ask for create as well.
    rights[13] = RightSpec {
        verb: "get",
        ..rights[12]
    };
    rights
};

static SPEC: ActionSpec = ActionSpec {
    name: "contain.probe_isolation",
    about: "Proves by probes with positive controls that a pod is isolated, or says what is missing.",
    effect: Effect::Read,
    phase: Phase::Containment,
    uses: &[Use::Call, Use::Check],
    args_schema: || schemars::schema_for!(ProbeArgs),
    check_args: check_as::<ProbeArgs>,
    undo: UndoSpec::None("it changes nothing"),
    result: &[
        ("verdict", Sample::Text),
        ("why", Sample::Texts),
        ("open_connections", Sample::Texts),
    ],
    rights: &RIGHTS,
    exhibit: None,
    volatility: None,
    disturbs: 0,
    timeout_s: 90,
};

/// Probes an isolation.
pub struct ProbeIsolation;

#[async_trait]
impl Action for ProbeIsolation {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, value: &Value) -> Result<Preview, ActionError> {
        let args: ProbeArgs = args(value)?;
        let cluster = cx.cluster()?;
        let mut preview = Preview {
            undo: "it changes nothing".into(),
            cannot: NOT_SEEN
                .iter()
                .map(|n| format!("not seen by probes: {n}"))
                .collect(),
            ..Preview::default()
        };
        bind_cluster(cluster, &mut preview).await?;
        let world = snapshot(cluster).await?;
        for pod in pods(cx, &args).await? {
            preview
                .binding
                .insert(format!("pod {}", pod.id()), pod.uid.clone());
            if candidates(&world, &pod, &BTreeSet::new()).is_empty() && args.probe_image.is_none() {
                preview.cannot.push(format!(
                    "no unaffected pod can be asked about {}: set `probe_image`",
                    pod.id()
                ));
            }
        }
        Ok(preview)
    }

    async fn apply(&self, cx: &Context, value: &Value) -> Result<Applied, ActionError> {
        let args: ProbeArgs = args(value)?;
        let mut proofs = Vec::new();
        let pods = match pods(cx, &args).await {
            Ok(pods) => pods,
            Err(e) if e.class == Class::Ledger => return Err(e),
            Err(e) => return Ok(not_proven(&e)),
        };
        let world = match snapshot(cx.cluster()?).await {
            Ok(world) => world,
            Err(e) => return Ok(not_proven(&e)),
        };
        (cx.progress)(&format!("probing {} pod(s)", pods.len()));
        // A throw-away pod has one name a step: with an image, one pod after the other.
        let at_once = if args.probe_image.is_some() {
            1
        } else {
            AT_ONCE
        };
        let (world, asked) = (Arc::new(world), Asked::default());
        for batch in pods.chunks(at_once) {
            for proof in prove_batch(cx, &world, batch, &args, &asked).await? {
                cx.record(kind::CONTAIN_PROVEN, &proof)?;
                proofs.push(proof);
            }
        }
        Ok(answer(&proofs))
    }

    async fn observe(&self, cx: &Context, _: &Value) -> Result<Observed, ActionError> {
        let history = cx.ledger.history()?;
        let proofs: Vec<Proof> = history
            .bodies::<Proof>(kind::CONTAIN_PROVEN)
            .filter(|(e, p)| e.refs == cx.refs() && p.phase != BEFORE)
            .map(|(_, p)| p)
            .collect();
        Ok(if proofs.is_empty() {
            Observed::NotDone
        } else {
            Observed::Done(answer(&proofs))
        })
    }
}

/// Named pods; for a selector also those that an isolation of this incident moved out of it.
async fn pods(cx: &Context, args: &ProbeArgs) -> Result<Vec<Pod>, ActionError> {
    let cluster = cx.cluster()?;
    let named = Named {
        namespace: args.namespace.clone(),
        pod: args.pod.clone(),
        selector: args.selector.clone(),
        uid: None,
    };
    if args.selector.is_none() {
        return find(cluster, &named).await;
    }
    let history = cx.ledger.history()?;
    let isolated: Vec<String> = history
        .bodies::<ContainmentPlanned>(kind::CONTAINMENT_PLANNED)
        .filter(|(e, p)| p.pod.namespace == args.namespace && e.run() == Some(cx.run.as_str()))
        .map(|(_, p)| p.pod.uid)
        .collect();
    if isolated.is_empty() {
        return find(cluster, &named).await;
    }
    let world = snapshot(cluster).await?;
    Ok(world
        .pods
        .into_iter()
        .filter(|p| isolated.contains(&p.uid))
        .collect())
}

async fn prove_batch(
    cx: &Context,
    world: &Arc<ClusterSnapshot>,
    batch: &[Pod],
    args: &ProbeArgs,
    asked: &Asked,
) -> Result<Vec<Proof>, ActionError> {
    let mut running = JoinSet::new();
    for (n, pod) in batch.iter().enumerate() {
        let (cx, world) = (cx.clone(), Arc::clone(world));
        let (pod, args, asked) = (pod.clone(), args.clone(), asked.clone());
        running.spawn(async move { (n, prove(&cx, &world, &pod, &args, &asked).await) });
    }
    let mut proofs = Vec::new();
    while let Some(ended) = running.join_next().await {
        let (n, proof) = ended.map_err(|e| {
            ActionError::new(
                Class::Internal,
                format!("a probe ended without an answer: {e}"),
            )
        })?;
        proofs.push((n, proof?));
    }
    proofs.sort_by_key(|(n, _)| *n);
    Ok(proofs.into_iter().map(|(_, p)| p).collect())
}

async fn prove(
    cx: &Context,
    world: &ClusterSnapshot,
    pod: &Pod,
    args: &ProbeArgs,
    asked: &Asked,
) -> Result<Proof, ActionError> {
    let left = residual(world, &[], pod);
    let mut allowed: Vec<String> = left.allowed.iter().map(ToString::to_string).collect();
    if !pod.labels.contains_key(QUARANTINE) {
        allowed.insert(0, format!("the pod carries no label `{QUARANTINE}`"));
    }
    let object = pod_ref(pod);
    let needs_pod = candidates(world, pod, &BTreeSet::new()).is_empty();
    let Some(image) = args.probe_image.as_ref().filter(|_| needs_pod) else {
        return whole(cx, &object, asked, &allowed, &left.may_allow).await;
    };
    let spec = CanarySpec {
        namespace: HANDS.into(),
        name: format!("firebreak-probe-{}", tail(&of_step(cx))),
        node: pod.node.clone(),
        image: image.clone(),
        quarantine: String::new(),
    };
    announce(cx, &spec)?;
    let made = cx.cluster()?.change.put_probe_pod(&spec, START_S).await;
    let proof = whole(cx, &object, asked, &allowed, &left.may_allow).await;
    let removed = remove_canary(cx, &super::canary::canary_ref(&spec)).await;
    let mut proof = proof?;
    if let Err(e) = made {
        proof.why.push(format!("no throw-away pod: {e}"));
    }
    match removed {
        Err(e) if e.class == Class::Ledger => return Err(e),
        Err(e) => proof
            .why
            .push(format!("our throw-away pod {} may be left: {e}", spec.name)),
        Ok(()) => {}
    }
    Ok(proof)
}

/// A proof that cannot start is an answer, never a failure.
fn not_proven(why: &ActionError) -> Applied {
    Applied {
        result: json!({"verdict": "not-proven", "why": [why.to_string()], "open_connections": [], "pods": []}),
        summary: format!("isolated, not proven: {why}"),
    }
}

fn rank(verdict: &str) -> u8 {
    match verdict {
        "isolated" => 0,
        "not-proven" => 1,
        _ => 2,
    }
}

/// The worst verdict wins.
fn answer(proofs: &[Proof]) -> Applied {
    let worst = proofs.iter().max_by_key(|p| rank(&p.verdict));
    let verdict = worst.map_or("not-proven", |p| p.verdict.as_str());
    let why: Vec<String> = proofs
        .iter()
        .flat_map(|p| p.why.iter().map(|w| format!("{}: {w}", p.pod)))
        .collect();
    let open: Vec<&String> = proofs.iter().flat_map(|p| &p.open_connections).collect();
    let of = |word: &str| proofs.iter().filter(|p| p.verdict == word).count();
    let first = worst.and_then(|p| p.why.first()).cloned();
    let summary = match (verdict, first) {
        ("isolated", _) => format!("isolated: {} pod(s) proven by probes", of("isolated")),
        ("not-contained", Some(why)) => format!("not contained: {why}"),
        (_, why) => format!(
            "isolated, not proven: {}",
            why.unwrap_or_else(|| "no pod was probed".into())
        ),
    };
    Applied {
        result: json!({
            "verdict": verdict,
            "why": why,
            "open_connections": open,
            "pods": proofs.iter().map(|p| json!({"name": p.pod, "uid": p.pod_uid, "verdict": p.verdict, "phase": p.phase, "why": p.why})).collect::<Vec<_>>(),
        }),
        summary,
    }
}
