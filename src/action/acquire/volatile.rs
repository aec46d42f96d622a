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

use super::bag::{Got, Limit, StepBag};
use super::pods::{self, PodArgs, Source};
use super::{READS, RESULT, look_for_bag, right, wide};

/// Longest for all pods of a step together.
const ALL: Duration = Duration::from_secs(60);
/// Lines of each log that are taken here; `acquire.logs` takes them whole.
const TAIL: u32 = 500;

/// The network state as the kernel shows it inside the pod: all containers share it.
const SOCKETS: [&str; 8] = [
    "cat",
    "/proc/net/tcp",
    "/proc/net/tcp6",
    "/proc/net/udp",
    "/proc/net/udp6",
    "/proc/net/unix",
    "/proc/net/arp",
    "/proc/net/route",
];

/// Each process with its exact arguments (NUL between them), status, executable and open files.
const PROCESSES: &str = r#"for p in /proc/[0-9]*; do
  [ -r "$p/cmdline" ] || continue
  echo "==> $p/cmdline <=="; cat "$p/cmdline" 2>/dev/null; echo
  echo "==> $p/status <=="; cat "$p/status" 2>/dev/null
  echo "==> $p/exe <=="; readlink "$p/exe" 2>/dev/null
  echo "==> $p/fd <=="; ls -l "$p/fd" 2>/dev/null
done; true"#;

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

fn check(value: &Value) -> Result<(), ArgError> {
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
    about: "Copies sockets, processes, status, events and log tails of pods, most volatile first, within seconds.",
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
    sockets(cx, cluster, bag, source, limit).await?;
    processes(cx, cluster, bag, source, limit).await?;
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

/// From the first container that can: they share one network.
async fn sockets(
    cx: &Context,
    cluster: &Cluster,
    bag: &mut StepBag,
    source: &Source,
    limit: &Limit,
) -> Result<(), ActionError> {
    let what = "network state";
    for container in source.pod.containers.iter().filter(|c| c.running) {
        let mut draft = source.draft("sockets", what, Category::Network, "POST pods/exec", 2);
        draft = source.of_container(container, draft);
        draft.command = Some(SOCKETS.join(" "));
        draft.trust = Some("low".into());
        let kind = CaptureKind::Exec {
            container: container.name.clone(),
            argv: SOCKETS.map(str::to_owned).to_vec(),
        };
        let from = (cluster.acquire.as_ref(), &source.object, &kind);
        if bag.capture(cx, from, &draft, Some(limit), true).await? != Got::Nothing(true) {
            return Ok(());
        }
    }
    bag.missing(
        &format!("{what} of pod {}", source.id()),
        "no running container has a tool to read it",
    );
    Ok(())
}

/// From every running container: each has processes of its own.
async fn processes(
    cx: &Context,
    cluster: &Cluster,
    bag: &mut StepBag,
    source: &Source,
    limit: &Limit,
) -> Result<(), ActionError> {
    let ways: [&[&str]; 3] = [&["sh", "-c", PROCESSES], &["ps", "-ef"], &["ps"]];
    for container in source.pod.containers.iter().filter(|c| c.running) {
        let draft = source.draft(
            "processes",
            "processes",
            Category::Process,
            "POST pods/exec",
            2,
        );
        let mut draft = source.of_container(container, draft);
        draft.trust = Some("low".into());
        let mut got = Got::Nothing(true);
        for argv in ways {
            draft.command = Some(argv.join(" "));
            let kind = CaptureKind::Exec {
                container: container.name.clone(),
                argv: argv.iter().map(|w| (*w).to_owned()).collect(),
            };
            let from = (cluster.acquire.as_ref(), &source.object, &kind);
            got = bag.capture(cx, from, &draft, Some(limit), true).await?;
            if got != Got::Nothing(true) {
                break;
            }
        }
        if got == Got::Nothing(true) {
            bag.missing(&draft.description, "its image has no tool to list them");
        }
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

#[cfg(test)]
mod tests {
    use super::super::fakes::Fakes;
    use super::*;
    use crate::port::{Cause, Ended, Piece, PortError};

    fn args(value: Value) -> VolatileArgs {
        read_as(&value).expect("arguments")
    }

    fn one() -> Value {
        json!({ "namespace": "shop", "pod": "web" })
    }

    #[tokio::test]
    async fn the_most_volatile_comes_first_and_every_exhibit_names_its_pod() {
        let fakes = Fakes::new();
        fakes.pod("web");
        let applied = Volatile
            .apply(&fakes.context(), &one())
            .await
            .expect("applied");
        let taken = fakes.taken();
        let names: Vec<&str> = taken.iter().map(|t| t.draft.name.as_str()).collect();
        let order = [
            "pod1-sockets",
            "pod1-processes",
            "pod1-object",
            "pod1-events",
            "pod1-log-tail",
            "notes",
        ];
        assert_eq!(names, order);
        assert!(taken.is_sorted_by_key(|t| t.draft.volatility));
        assert_eq!(applied.result["exhibits"], 6);
        assert_eq!(applied.result["incomplete"], json!([]));
        let system = &taken[0].draft.system;
        for (key, value) in [
            ("cluster", "cluster-1"),
            ("pod_uid", "uid-web"),
            ("image_digest", "i@sha256:00"),
        ] {
            assert_eq!(system.get(key).map(String::as_str), Some(value));
        }
        assert_eq!(taken[0].draft.trust.as_deref(), Some("low"));
        assert_eq!(taken[4].draft.trust, None);
    }

    #[tokio::test]
    async fn an_overrun_is_cut_off_and_said_and_is_no_error() {
        let fakes = Fakes::new();
        fakes.pod("web");
        fakes.answers(|_, _| None);
        let cx = fakes.context();
        let applied = run(
            &cx,
            &fakes.cluster(),
            &args(one()),
            Duration::from_millis(1),
        )
        .await
        .expect("applied");
        let said = applied.result["incomplete"].to_string();
        assert!(
            said.contains("cut off: the 5 s for this pod were over"),
            "{said}"
        );
        let last = fakes.taken().pop().expect("notes");
        assert!(last.draft.name == "notes" && last.text().contains("cut off"));
    }

    #[tokio::test]
    async fn what_came_before_the_budget_was_over_is_kept_as_cut_off() {
        let fakes = Fakes::new();
        fakes.pod("web");
        let cx = fakes.context();
        let mut bag = StepBag::open(&cx, "test").expect("a bag");
        let source = Source::new("c", 1, fakes.pod("web"));
        let draft = source.draft("log", "log", Category::Logs, "GET", 5);
        let hangs = Hangs(Some(Piece::Bytes(b"first line\n".to_vec())).into());
        let kind = CaptureKind::Exec {
            container: "main".into(),
            argv: Vec::new(),
        };
        let limit = Limit::of(Duration::from_millis(1), "cut off: over");
        let got = bag
            .capture(
                &cx,
                (&hangs, &source.object, &kind),
                &draft,
                Some(&limit),
                false,
            )
            .await;
        assert_eq!(got.expect("taken"), Got::Taken);
        let taken = fakes.taken();
        assert_eq!(taken[0].text(), "first line\n");
        assert_eq!(taken[0].ended, Some(Ended::Cap("cut off: over".into())));
    }

    /// Gives one piece and then nothing, for ever.
    struct Hangs(std::sync::Mutex<Option<Piece>>);

    #[async_trait]
    impl crate::port::Acquire for Hangs {
        async fn capture(
            &self,
            _: &crate::incident::body::ObjectRef,
            _: &CaptureKind,
        ) -> Result<Box<dyn crate::port::ByteStream>, PortError> {
            Ok(Box::new(Hanging(self.0.lock().expect("lock").take())))
        }
    }

    struct Hanging(Option<Piece>);

    #[async_trait]
    impl crate::port::ByteStream for Hanging {
        async fn next(&mut self) -> Option<Result<Piece, PortError>> {
            match self.0.take() {
                Some(piece) => Some(Ok(piece)),
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn an_image_without_tools_is_said_and_the_rest_is_taken() {
        let fakes = Fakes::new();
        fakes.pod("web");
        fakes.answers(|_, kind| {
            Some(match kind {
                CaptureKind::Exec { .. } => vec![Err(PortError::new(
                    Cause::Unsupported,
                    "exec",
                    "x",
                    "no sh",
                ))],
                CaptureKind::Logs { .. } => vec![Ok(Piece::End {
                    exit: None,
                    stderr: String::new(),
                })],
            })
        });
        let applied = Volatile
            .apply(&fakes.context(), &one())
            .await
            .expect("applied");
        let said = applied.result["incomplete"].to_string();
        assert!(
            said.contains("no running container has a tool")
                && said.contains("has no tool to list them"),
            "{said}"
        );
        let taken = fakes.taken();
        let names: Vec<&str> = taken.iter().map(|t| t.draft.name.as_str()).collect();
        assert_eq!(
            names,
            ["pod1-object", "pod1-events", "notes"],
            "an empty log makes no exhibit"
        );
        assert!(fakes.taken()[2].text().contains("\"empty\""));
    }

    #[tokio::test]
    async fn a_pod_that_is_gone_never_holds_isolation_up() {
        let fakes = Fakes::new();
        let applied = Volatile
            .apply(&fakes.context(), &one())
            .await
            .expect("applied");
        assert_eq!(applied.result["exhibits"], 0);
        assert!(
            applied.result["incomplete"][0]
                .as_str()
                .expect("a text")
                .contains("it is not there")
        );
    }

    #[tokio::test]
    async fn a_sealed_step_is_done_and_one_without_a_seal_runs_again() {
        let fakes = Fakes::new();
        fakes.pod("web");
        let cx = fakes.context();
        assert_eq!(
            Volatile.observe(&cx, &one()).await.expect("looked"),
            Observed::NotDone
        );
        Volatile.apply(&cx, &one()).await.expect("applied");
        assert!(
            matches!(Volatile.observe(&cx, &one()).await.expect("looked"), Observed::Done(a) if a.result["bag"] == "0001")
        );
        let again = Context { attempt: 2, ..cx };
        assert_eq!(
            Volatile.observe(&again, &one()).await.expect("looked"),
            Observed::NotDone
        );
    }

    #[tokio::test]
    async fn after_isolation_the_selector_means_the_isolated_pods_and_not_their_replacements() {
        use crate::incident::{Draft, kind};
        use crate::port::Ledger as _;
        let fakes = Fakes::new();
        let (web, new) = (fakes.pod("web"), fakes.pod("web-replacement"));
        let cx = fakes.context();
        let wrote = |name: &str, uid: &str| {
            let body = json!({
                "object": { "kind": "Pod", "namespace": "shop", "name": name, "uid": uid }, "what": "label",
                "before": { "labels/firebreak/quarantine": null }, "written": { "labels/firebreak/quarantine": "inc-1" },
            });
            let draft = Draft::new(kind::WRITE_INTENDED, &body).about(cx.refs());
            fakes.append(vec![draft]).expect("appended");
        };
        wrote(&web.name, &web.uid);
        wrote(&new.name, "another uid");
        let args = json!({ "namespace": "shop", "pod": "", "selector": "app=web" });
        let applied = Volatile.apply(&cx, &args).await.expect("applied");
        let pods: Vec<Option<String>> = fakes
            .taken()
            .iter()
            .map(|t| t.draft.system.get("pod").cloned())
            .collect();
        assert!(
            pods.iter().flatten().all(|p| *p == web.name) && pods[0].is_some(),
            "{pods:?}"
        );
        assert!(
            applied.result["incomplete"][0]
                .as_str()
                .expect("a text")
                .contains("was replaced")
        );
    }

    #[test]
    fn pods_are_named_in_exactly_one_way() {
        for (value, fits) in [
            (one(), true),
            (
                json!({ "namespace": "shop", "selector": "app=web", "budget_s": 10 }),
                true,
            ),
            (
                json!({ "namespace": "shop", "pod": "web", "selector": "" }),
                true,
            ),
            (
                json!({ "namespace": "shop", "pod": "", "selector": "" }),
                false,
            ),
            (json!({ "namespace": "shop" }), false),
            (
                json!({ "namespace": "shop", "pod": "a", "selector": "b" }),
                false,
            ),
            (
                json!({ "namespace": "shop", "pod": "a", "budget_s": 61 }),
                false,
            ),
            (
                json!({ "namespace": "shop", "pod": "a", "budget": 5 }),
                false,
            ),
        ] {
            assert_eq!(check(&value).is_ok(), fits, "{value}");
        }
        let listed = |v: &Value| {
            Volatile
                .rights(v)
                .iter()
                .any(|r| r.verb == "list" && r.resource == "pods")
        };
        assert!(!listed(&one()) && listed(&json!({ "namespace": "shop", "selector": "app=web" })));
    }
}
