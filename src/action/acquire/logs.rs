//! `acquire.logs`: the whole logs of pods, of every container, this instance and the one before.

use async_trait::async_trait;
use serde_json::Value;

use crate::action::registry::{ActionSpec, UndoSpec, Use};
use crate::action::{Action, ActionError, Applied, Context, Observed, Preview};
use crate::incident::{Category, Effect, Phase};
use crate::port::{CaptureKind, Cluster, Right};
use crate::reach::cluster::{Container, ContainerKind};

use super::bag::StepBag;
use super::pods::{self, PodArgs, Source};
use super::{READS, RESULT, look_for_bag, right, wide};

static SPEC: ActionSpec = ActionSpec {
    name: "acquire.logs",
    about: "Copies the whole logs of pods: every container, this instance and the one before.",
    effect: Effect::Read,
    phase: Phase::Containment,
    uses: &[Use::Call],
    args_schema: || schemars::schema_for!(PodArgs),
    check_args: pods::check,
    undo: UndoSpec::None(READS),
    result: RESULT,
    rights: &[
        right("", "pods", "get"),
        right("", "pods", "list"),
        right("", "pods/log", "get"),
        wide("namespaces", "get"),
    ],
    exhibit: Some(Category::Logs),
    volatility: Some(5),
    disturbs: 0,
    timeout_s: 1800,
};

/// Copies the whole logs of pods, with timestamps, as streams.
///
/// *Effect*: read. *Undo*: none needed. *What it disturbs*: nothing. *Permissions*: pods get (list with a selector), pods/log get. *Cost
/// and time*: as long as the logs are; a stream that fails midway keeps what came and says so. The kubelet keeps only the newest log file
/// of a container and the one of its instance before: what it rotated away is not here. *Source*:
/// <https://kubernetes.io/docs/concepts/cluster-administration/logging/>.
pub struct Logs;

#[async_trait]
impl Action for Logs {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, args: &Value) -> Result<Preview, ActionError> {
        pods::read::<PodArgs>(args)?
            .preview(cx, "the whole logs")
            .await
    }

    async fn apply(&self, cx: &Context, args: &Value) -> Result<Applied, ActionError> {
        let args: PodArgs = pods::read(args)?;
        let cluster = cx.cluster()?;
        let found = args.find(cx, cluster).await?;
        let uid = pods::cluster_uid(cluster).await;
        let mut bag = StepBag::open(cx, "logs of pods")?;
        bag.gone(&found.gone);
        for (at, pod) in found.pods.into_iter().enumerate() {
            let source = Source::new(&uid, at + 1, pod);
            (cx.progress)(&format!("logs of {}", source.id()));
            for container in &source.pod.containers {
                of_container(cx, cluster, &mut bag, &source, container).await?;
            }
        }
        bag.seal()
    }

    async fn observe(&self, cx: &Context, _args: &Value) -> Result<Observed, ActionError> {
        look_for_bag(cx)
    }

    fn rights(&self, args: &Value) -> Vec<Right> {
        pods::rights_of(&SPEC, args)
    }
}

async fn of_container(
    cx: &Context,
    cluster: &Cluster,
    bag: &mut StepBag,
    source: &Source,
    container: &Container,
) -> Result<(), ActionError> {
    let kind = match container.kind {
        ContainerKind::Init => "init",
        ContainerKind::Main => "main",
        ContainerKind::Ephemeral => "ephemeral",
    };
    for previous in [false, true] {
        let (name, what) = match previous {
            false => ("log", "log"),
            true => ("log-previous", "log of the instance before"),
        };
        let draft = source.draft(name, what, Category::Logs, "GET pods/log", 5);
        let mut draft = source.of_container(container, draft);
        draft.system.insert("container_kind".into(), kind.into());
        if container.container_id.is_empty() {
            if !previous {
                bag.missing(&draft.description, "the container has never started");
            }
            continue;
        }
        if previous && container.restarts == 0 {
            continue;
        }
        let kind = CaptureKind::Logs {
            container: container.name.clone(),
            previous,
            tail_lines: None,
        };
        let from = (cluster.acquire.as_ref(), &source.object, &kind);
        bag.capture(cx, from, &draft, None, false).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fakes::Fakes;
    use super::*;
    use crate::port::{Cause, Ended, Piece, PortError};
    use serde_json::json;

    #[tokio::test]
    async fn a_stream_that_fails_midway_keeps_what_came_and_says_so() {
        let fakes = Fakes::new();
        fakes.pod("web");
        fakes.answers(|_, _| {
            Some(vec![
                Ok(Piece::Bytes(b"one\n".to_vec())),
                Ok(Piece::Bytes(b"tw".to_vec())),
                Err(PortError::new(
                    Cause::LostReply,
                    "read",
                    "x",
                    "connection reset",
                )),
            ])
        });
        let args = json!({ "namespace": "shop", "pod": "web" });
        let applied = Logs.apply(&fakes.context(), &args).await.expect("applied");
        let taken = fakes.taken();
        assert_eq!(taken[0].text(), "one\ntw");
        assert_eq!(
            taken[0].ended,
            Some(Ended::Error("connection reset".into()))
        );
        assert!(
            applied.summary.contains("1 incomplete")
                && applied.summary.contains("connection reset")
        );
    }

    #[tokio::test]
    async fn every_container_is_taken_now_and_before_its_restart() {
        let fakes = Fakes::new();
        let mut pod = Fakes::new().pod("web");
        let container = |name: &str, kind, restarts, id: &str| Container {
            name: name.into(),
            kind,
            restarts,
            container_id: id.into(),
            ..Container::default()
        };
        pod.containers = vec![
            container("init", ContainerKind::Init, 0, "c1"),
            container("main", ContainerKind::Main, 2, "c2"),
            container("debug", ContainerKind::Ephemeral, 0, "c3"),
            container("never", ContainerKind::Main, 0, ""),
        ];
        fakes.add(pod);
        let args = json!({ "namespace": "shop", "selector": "app=web" });
        let applied = Logs.apply(&fakes.context(), &args).await.expect("applied");
        let taken = fakes.taken();
        let of = |t: &super::super::fakes::Taken| {
            let container = t.draft.system.get("container").cloned().unwrap_or_default();
            format!("{} {container}", t.draft.name)
        };
        let got: Vec<String> = taken.iter().map(of).collect();
        assert_eq!(
            got,
            [
                "pod1-log init",
                "pod1-log main",
                "pod1-log-previous main",
                "pod1-log debug",
                "notes "
            ]
        );
        assert!(
            applied.result["incomplete"][0]
                .as_str()
                .expect("a text")
                .contains("never started")
        );
    }
}
