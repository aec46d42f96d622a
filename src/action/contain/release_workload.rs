//! `contain.release_workload`: gives a pod back exactly as it was found.
//!
//! *Effect*: old labels restored, our label and annotations removed, our policy removed with its last target. With `keep`, isolation
//! stays and only our throw-away pods go.
//! *Undo*: none; isolate it again.
//! *What it disturbs*: the ReplicaSet is one over and deletes a pod; the deletion cost is raised for that moment so that it is another.
//! *Permissions*: pods get/list/patch; networkpolicies list/delete.
//! *Cost and time*: three writes; up to ten seconds until the ReplicaSet has its number.
//! *Source*: <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost>

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::action::registry::{ActionSpec, RightSpec, Sample, UndoSpec, Use, check_as};
use crate::action::{Action, ActionError, Applied, Class, Context, Observed, Preview};
use crate::incident::{Effect, Phase};
use crate::reach::cluster::PodName;

use super::canary::{CREATE_CANARY, remove_canary};
use super::journal::Journal;
use super::naming::args;
use super::preview::bind_cluster;
use super::release::{Released, release_pod, summary};
use super::release_preview::{of_release, to_take_back};

/// Arguments of `contain.release_workload`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseArgs {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Leave it isolated; only remove our throw-away pods.
    #[serde(default)]
    pub keep: bool,
}

impl ReleaseArgs {
    fn name(&self) -> PodName {
        PodName {
            namespace: self.namespace.clone(),
            name: self.pod.clone(),
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

static RIGHTS: [RightSpec; 6] = [
    right("", "pods", "get"),
    right("", "pods", "list"),
    right("", "pods", "patch"),
    right("networking.k8s.io", "networkpolicies", "get"),
    right("networking.k8s.io", "networkpolicies", "list"),
    right("networking.k8s.io", "networkpolicies", "delete"),
];

static SPEC: ActionSpec = ActionSpec {
    name: "contain.release_workload",
    about: "Gives an isolated pod back exactly as it was found, or keeps it isolated and only cleans up.",
    effect: Effect::Reversible,
    phase: Phase::Recovery,
    uses: &[Use::Call, Use::Undo],
    args_schema: || schemars::schema_for!(ReleaseArgs),
    check_args: check_as::<ReleaseArgs>,
    undo: UndoSpec::None("isolate the pod again"),
    result: &[
        ("verdict", Sample::Text),
        ("done", Sample::Texts),
        ("left", Sample::Texts),
    ],
    rights: &RIGHTS,
    exhibit: None,
    volatility: None,
    disturbs: 0,
    timeout_s: 60,
};

/// Releases a pod.
pub struct ReleaseWorkload;

#[async_trait]
impl Action for ReleaseWorkload {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, value: &Value) -> Result<Preview, ActionError> {
        let args: ReleaseArgs = args(value)?;
        let cluster = cx.cluster()?;
        let mut preview = Preview {
            undo: SPEC.undo.reason().into(),
            ..Preview::default()
        };
        bind_cluster(cluster, &mut preview).await?;
        if args.keep {
            preview.already = to_take_back(&cx.ledger.history()?, &args.name()).is_empty();
            preview.changes = vec!["remove our throw-away pods; the pod stays isolated".into()];
            return Ok(preview);
        }
        of_release(cx, &args.name(), &mut preview).await?;
        Ok(preview)
    }

    async fn apply(&self, cx: &Context, value: &Value) -> Result<Applied, ActionError> {
        let args: ReleaseArgs = args(value)?;
        if args.keep {
            return keep(cx, &args).await;
        }
        let released = release_pod(cx, &args.name()).await?;
        if released.left.is_empty() {
            let words = summary(&released);
            return Ok(Applied {
                result: json!({"verdict": "released", "done": released.done, "left": []}),
                summary: format!("{} released: {words}", args.name()),
            });
        }
        Err(not_wholly(&args.name(), &released))
    }

    async fn observe(&self, cx: &Context, value: &Value) -> Result<Observed, ActionError> {
        let args: ReleaseArgs = args(value)?;
        let history = cx.ledger.history()?;
        let open = if args.keep {
            let journal = Journal::of(&history);
            journal.live.iter().any(|l| l.what == CREATE_CANARY)
        } else {
            !to_take_back(&history, &args.name()).is_empty()
        };
        if open {
            return Ok(Observed::NotDone);
        }
        Ok(Observed::Done(Applied {
            result: json!({"verdict": if args.keep { "kept" } else { "released" }, "done": [], "left": []}),
            summary: format!("nothing of ours is in force on {}", args.name()),
        }))
    }
}

/// What others changed is theirs to decide, and has a code of its own; a right that is missing is named as such.
fn not_wholly(pod: &PodName, released: &Released) -> ActionError {
    let lines = released.lines();
    let class = released.class();
    let error = ActionError::new(
        class,
        format!("{pod} is not wholly released: {}", lines.join("; ")),
    );
    let error = match class {
        Class::Conflict => error.code("FB1210"),
        _ => error,
    };
    error.hint(lines.join("\n"))
}

async fn keep(cx: &Context, args: &ReleaseArgs) -> Result<Applied, ActionError> {
    let journal = Journal::of(&cx.ledger.history()?);
    let mut done = Vec::new();
    for live in journal.live.iter().filter(|l| l.what == CREATE_CANARY) {
        remove_canary(cx, &live.object).await?;
        done.push(format!("{} removed", live.object.name));
    }
    Ok(Applied {
        result: json!({"verdict": "kept", "done": done, "left": []}),
        summary: format!("{} stays isolated; our own pods are removed", args.name()),
    })
}
