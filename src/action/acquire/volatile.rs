//! `acquire.volatile`: what isolation would disturb, in seconds.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Duration;

use crate::action::registry::{ActionSpec, ArgError, UndoSpec, Use, read_as};
use crate::action::{Action, ActionError, Applied, Class, Context, Observed, Preview};
use crate::incident::{Category, Effect, Phase};
use crate::port::{CaptureKind, Cluster, Right};

use super::bag::{Limit, StepBag};
use super::inside::Inside;
use super::pods::{self, PodArgs, Source};
use super::{READS, RESULT, look_for_bag, right, wide};

/// Longest for all pods of a step together.
const ALL: Duration = Duration::from_secs(60);
/// Lines of each log that are taken here; `acquire.logs` takes them whole.
const TAIL: u32 = 500;

/// Arguments.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolatileArgs {
    /// Namespace.
    pub namespace: String,
    /// Name of one pod. Give this or `selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Label selector, `app=web,tier!=db`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Seconds for each pod, 1 to 60.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 60))]
    pub budget_s: u64,
}

fn five() -> u64 {
    5
}

impl VolatileArgs {
    fn pods(&self) -> PodArgs {
        PodArgs {
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            selector: self.selector.clone(),
        }
    }
}

pub(super) fn check(value: &Value) -> Result<(), ArgError> {
    let args: VolatileArgs = read_as(value)?;
    pods::one_way(args.pod.as_deref(), args.selector.as_deref())?;
    if (1..=60).contains(&args.budget_s) {
        return Ok(());
    }
    Err(ArgError {
        path: "budget_s".into(),
        message: "must be 1 to 60 seconds".into(),
    })
}

static SPEC: ActionSpec = ActionSpec {
    name: "acquire.volatile",
    about: "Copies sockets, processes and their executables' hashes, status, events and log tails of pods, most volatile first, within seconds.",
    effect: Effect::Read,
    phase: Phase::Containment,
    uses: &[Use::Call],
    args_schema: || schemars::schema_for!(VolatileArgs),
    check_args: check,
    undo: UndoSpec::None(READS),
    result: RESULT,
    rights: &[
        right("", "pods", "get"),
        right("", "pods", "list"),
        right("", "pods/exec", "create"),
        right("", "pods/exec", "get"),
        right("", "pods/log", "get"),
        right("", "events", "list"),
        wide("namespaces", "get"),
    ],
    exhibit: Some(Category::Network),
    volatility: Some(2),
    disturbs: 0,
    timeout_s: 75,
};

/// Copies what isolation would disturb.
///
/// *Effect*: read. *Undo*: none needed. *What it disturbs*: nothing that it looks for; each exec starts a short process in the container,
/// which a suspect can see. *Permissions*: pods get (list with a selector), pods/exec, pods/log, events list. *Cost and time*: at most
/// `budget_s` for each pod and 60 s in all; what is cut off says so and is never a reason to wait with isolation: only a ledger that
/// cannot be written fails this step. *Source*: RFC 3227 §2.1 (order of volatility);
/// <https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.34/#pod-v1-core>.
pub struct Volatile;

#[async_trait]
impl Action for Volatile {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, args: &Value) -> Result<Preview, ActionError> {
        let args: VolatileArgs = pods::read(args)?;
        let mut preview = args.pods().preview(cx, "volatile state").await?;
        let budget = format!("at most {} s for each pod, 60 s in all", args.budget_s);
        preview.shown.insert("time".into(), budget);
        Ok(preview)
    }

    async fn apply(&self, cx: &Context, args: &Value) -> Result<Applied, ActionError> {
        let args: VolatileArgs = pods::read(args)?;
        let cluster = cx.cluster()?;
        match run(cx, cluster, &args, Duration::from_secs(args.budget_s)).await {
            Err(e) if e.class != Class::Ledger => Ok(nothing(&e.message)),
            done => done,
        }
    }

    async fn observe(&self, cx: &Context, _args: &Value) -> Result<Observed, ActionError> {
        look_for_bag(cx)
    }

    fn rights(&self, args: &Value) -> Vec<Right> {
        pods::rights_of(&SPEC, args)
    }
}

/// Nothing was taken: said, and not a reason to wait with what comes next.
fn nothing(why: &str) -> Applied {
    Applied {
        result: json!({ "bag": "", "exhibits": 0, "bytes": 0, "seal_sha256": "", "incomplete": [why] }),
        summary: format!("nothing was acquired: {why}"),
    }
}

/// The whole step; `budget` is for each pod.
pub(super) async fn run(
    cx: &Context,
    cluster: &Cluster,
    args: &VolatileArgs,
    budget: Duration,
) -> Result<Applied, ActionError> {
    let all = Limit::of(ALL, "cut off: the 60 s for all pods were over");
    let per_pod = || {
        let why = format!("cut off: the {} s for this pod were over", args.budget_s);
        Limit::of(budget, why).earlier(&all)
    };
    // The clock runs from the first request on: an API server that hangs must not delay isolation either.
    let first = per_pod();
    let found = tokio::time::timeout(budget.max(Duration::from_secs(1)), async {
        let pods = args.pods();
        tokio::join!(pods.find(cx, cluster), pods::cluster_uid(cluster))
    });
    let (found, uid) = match found.await {
        Ok((found, uid)) => (found?, uid),
        Err(_) => {
            return Err(ActionError::new(
                Class::Timeout,
                "the API server did not name the pods in time",
            ));
        }
    };
    let mut bag = StepBag::open(cx, "volatile state before isolation")?;
    bag.gone(&found.gone);
    for (at, pod) in found.pods.into_iter().enumerate() {
        let limit = if at == 0 { first.clone() } else { per_pod() };
        let source = Source::new(&uid, at + 1, pod);
        if limit.is_over() {
            bag.missing(&format!("pod {}", source.id()), limit.why());
            continue;
        }
        (cx.progress)(&format!("volatile state of {}", source.id()));
        of_pod(cx, cluster, &mut bag, &source, &limit).await?;
    }
    bag.seal()
}

/// One pod, most volatile first.
async fn of_pod(
    cx: &Context,
    cluster: &Cluster,
    bag: &mut StepBag,
    source: &Source,
    limit: &Limit,
) -> Result<(), ActionError> {
    let inside = Inside {
        cx,
        cluster,
        source,
        limit,
    };
    inside.take(bag).await?;
    objects(cluster, bag, source, limit).await?;
    for container in &source.pod.containers {
        if container.container_id.is_empty() {
            continue;
        }
        let draft = source.draft("log-tail", "log tail", Category::Logs, "GET pods/log", 5);
        let draft = source.of_container(container, draft);
        let kind = CaptureKind::Logs {
            container: container.name.clone(),
            previous: false,
            tail_lines: Some(TAIL),
        };
        let from = (cluster.acquire.as_ref(), &source.object, &kind);
        bag.capture(cx, from, &draft, Some(limit), false).await?;
    }
    Ok(())
}

/// The pod object with its status, and its events, as the API server has them.
async fn objects(
    cluster: &Cluster,
    bag: &mut StepBag,
    source: &Source,
    limit: &Limit,
) -> Result<(), ActionError> {
    let pod = &source.pod;
    let object = cluster.view.object("Pod", &pod.namespace, &pod.name);
    let draft = source.draft(
        "object",
        "object and status",
        Category::Config,
        "GET pods",
        5,
    );
    match limit.wait(object).await {
        Err(why) => bag.missing(&draft.description, &why),
        Ok(Ok(Some(object))) => bag.bytes(&draft, format!("{object}\n").as_bytes())?,
        Ok(Ok(None)) => bag.missing(&draft.description, "it is not there any more"),
        Ok(Err(e)) => bag.missing(&draft.description, &e.detail),
    }
    let draft = source.draft("events", "events", Category::Logs, "LIST events", 5);
    match limit
        .wait(cluster.view.events(&pod.namespace, &pod.uid))
        .await
    {
        Err(why) => bag.missing(&draft.description, &why),
        Ok(Err(e)) => bag.missing(&draft.description, &e.detail),
        Ok(Ok(events)) if events.is_empty() => {}
        Ok(Ok(events)) => bag.bytes(&draft, super::lines(&events).as_bytes())?,
    }
    Ok(())
}
