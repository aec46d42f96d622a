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
        "pod1-conntrack",
        "pod1-processes",
        "pod1-executables",
        "pod1-object",
        "pod1-events",
        "pod1-log-tail",
        "notes",
    ];
    assert_eq!(names, order);
    assert!(taken.is_sorted_by_key(|t| t.draft.volatility));
    assert_eq!(applied.result["exhibits"], 8);
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
    assert_eq!(taken[6].draft.trust, None);
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
            && said.contains("has no tool to list them")
            && said.contains("no sh or no sha256sum")
            && said.contains("on its node node-1 only"),
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

/// Answers of a container by the words of the command.
fn only(
    word: &'static str,
    answer: impl Fn() -> Vec<Result<Piece, PortError>> + Send + Sync + 'static,
) -> Fakes {
    let fakes = Fakes::new();
    fakes.pod("web");
    fakes.answers(move |_, kind| {
        let asked = format!("{kind:?}").contains(word);
        let all = || Piece::End {
            exit: Some(0),
            stderr: String::new(),
        };
        Some(if asked {
            answer()
        } else {
            vec![Ok(Piece::Bytes(b"x\n".to_vec())), Ok(all())]
        })
    });
    fakes
}

#[tokio::test]
async fn an_executable_that_cannot_be_read_is_named_and_the_other_hashes_are_kept() {
    let fakes = only("sha256sum", || {
        let end = Piece::End {
            exit: Some(3),
            stderr: "process 7 (/usr/bin/x): its executable cannot be read".into(),
        };
        let lines = b"00ff 1 /bin/app\nunreadable 7 /usr/bin/x\n".to_vec();
        vec![Ok(Piece::Bytes(lines)), Ok(end)]
    });
    let applied = Volatile
        .apply(&fakes.context(), &one())
        .await
        .expect("applied");
    let said = applied.result["incomplete"].to_string();
    assert!(said.contains("process 7 (/usr/bin/x)"), "{said}");
    let taken = fakes.taken();
    let hashes = taken.iter().find(|t| t.draft.name == "pod1-executables");
    let hashes = hashes.expect("the list is an exhibit");
    assert!(hashes.text().starts_with("00ff 1 /bin/app"));
    assert!(matches!(hashes.ended, Some(Ended::Error(_))));
}

#[tokio::test]
async fn connection_tracking_that_the_pod_does_not_show_is_named_with_what_to_type_at_its_node() {
    let end = |exit, stderr: &str| {
        let stderr = stderr.to_owned();
        vec![Ok(Piece::End { exit, stderr })]
    };
    // Not readable, and readable but empty: the node tracks for the pod.
    for (exit, stderr) in [(1, "cat: can't open '/proc/net/nf_conntrack'"), (0, "")] {
        let fakes = only("nf_conntrack", move || end(Some(exit), stderr));
        let applied = Volatile
            .apply(&fakes.context(), &one())
            .await
            .expect("applied");
        let said = applied.result["incomplete"].to_string();
        assert!(said.contains("on its node node-1 only"), "{exit}: {said}");
        let taken = fakes.taken();
        assert!(!taken.iter().any(|t| t.draft.name == "pod1-conntrack"));
        assert!(taken.iter().any(|t| t.draft.name == "pod1-executables"));
    }
}

/// The very script, run by the shell of this host in a process that we started: our own executable is in its list.
#[test]
fn the_script_hashes_what_a_process_runs() {
    use sha2::{Digest as _, Sha256};
    use std::process::Command;
    let found = Command::new("sh")
        .args(["-c", "command -v sha256sum"])
        .output();
    if !found.is_ok_and(|o| o.status.success()) {
        eprintln!("SKIPPED: needs sh and sha256sum");
        return;
    }
    let pid = std::process::id().to_string();
    // Only this process: the others of the host are nobody's business here.
    let script =
        super::inside::EXECUTABLES.replace("/proc/[0-9]*", &format!("/proc/{pid} /proc/{pid}"));
    let ran = Command::new("sh").args(["-c", &script]).output();
    let ran = ran.expect("a shell runs");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let own = std::fs::read("/proc/self/exe").expect("our own executable");
    let sum = format!("{:x}", Sha256::digest(&own));
    let lines: Vec<&str> = said.lines().collect();
    assert!(ran.status.success() && lines.len() == 2, "{said}");
    assert!(
        lines
            .iter()
            .all(|l| l.starts_with(&format!("{sum} {pid} /"))),
        "{said}"
    );
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
