//! Volatile acquisition: the order, the time, and what is said of what could not be had.

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::Duration;

use super::bag::{Got, Limit, StepBag};
use super::fakes::Fakes;
use super::pods::Source;
use super::volatile::{Volatile, VolatileArgs, check, run};
use crate::action::registry::read_as;
use crate::action::{Action, Context, Observed};
use crate::incident::Category;
use crate::port::{CaptureKind, Cause, Ended, Piece, PortError};

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
