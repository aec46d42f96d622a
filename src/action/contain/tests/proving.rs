//! Proof: contained means that probes with controls say so.

use serde_json::{Value, json};

use super::world::*;
use crate::action::contain::{IsolateWorkload, NOT_SEEN, ProbeIsolation, RunCanary};
use crate::action::{Action, Observed};
use crate::incident::body::{Canary, Proof};
use crate::incident::kind;

fn web0() -> Value {
    json!({"namespace": "shop", "pod": "web-0"})
}

async fn isolate(world: &World, args: &Value) {
    let cx = world.step("isolate");
    IsolateWorkload.apply(&cx, args).await.expect("isolated");
}

async fn probe(world: &World, args: &Value) -> Value {
    let cx = world.step("prove");
    let applied = ProbeIsolation.apply(&cx, args).await;
    applied.expect("a proof is never an error").result
}

#[tokio::test]
async fn was_open_is_blocked_and_still_open_for_others_is_isolated() {
    let world = shop(4);
    isolate(&world, &web0()).await;
    let result = probe(&world, &web0()).await;
    assert_eq!(result["verdict"], "isolated", "{result}");
    let proofs: Vec<Proof> = world.bodies(kind::CONTAIN_PROVEN);
    let phases: Vec<&str> = proofs.iter().map(|p| p.phase.as_str()).collect();
    assert_eq!(phases, ["before", "A", "B"]);
    let last = proofs.last().expect("a proof");
    assert!(
        last.cells
            .iter()
            .any(|c| c.direction == "ingress" && c.verdict == "match")
    );
    assert!(
        last.cells
            .iter()
            .any(|c| c.direction == "egress" && c.basis.contains("low trust"))
    );
    assert_eq!(last.not_seen.len(), NOT_SEEN.len());
}

const SHELL: &str = "10.244.0.10:41234 → 198.51.100.10:4444";

#[tokio::test]
async fn a_connection_that_stays_open_is_never_isolated_until_it_is_cut() {
    let world = shop(4);
    world.lock().connections = vec![SHELL.into()];
    isolate(&world, &web0()).await;
    let result = probe(&world, &web0()).await;
    assert_eq!(result["verdict"], "not-proven");
    assert_eq!(result["open_connections"], json!([SHELL]));
    let why = result["why"].to_string();
    assert!(why.contains("denied for new flows only: 1 connection(s)"));
    assert!(why.contains(
        "on node node-1 `conntrack -D -s 10.244.0.10` and `conntrack -D -d 10.244.0.10`"
    ));

    world.lock().stalled = vec![SHELL.into()];
    let result = probe(&world, &web0()).await;
    assert_eq!(result["verdict"], "isolated", "{result}");
    let proofs: Vec<Proof> = world.bodies(kind::CONTAIN_PROVEN);
    let last = proofs.last().expect("a proof");
    assert_eq!(last.cut_connections, [SHELL], "it is still named");
}

#[tokio::test]
async fn isolating_again_to_prove_again_is_seen_as_done() {
    let world = shop(4);
    let again = world.step("again");
    let observed = IsolateWorkload.observe(&again, &web0()).await;
    assert_eq!(observed.expect("a look"), Observed::NotDone);
    isolate(&world, &web0()).await;
    let writes = world.lock().writes;
    IsolateWorkload
        .apply(&again, &web0())
        .await
        .expect("already");
    let observed = IsolateWorkload.observe(&again, &web0()).await;
    assert!(matches!(observed, Ok(Observed::Done(_))));
    assert_eq!(world.lock().writes, writes, "nothing is written twice");
}

#[tokio::test]
async fn connections_with_the_own_node_or_our_probes_are_not_counted() {
    let world = shop(4);
    world.lock().connections = vec![
        "10.244.0.10:8080 → 192.0.2.1:50000".into(),
        "10.244.0.10:47999 → 10.244.0.11:50001".into(),
        "127.0.0.1:50002 → 127.0.0.1:8080".into(),
        "10.244.0.10:50003 → 10.244.0.10:8080".into(),
    ];
    isolate(&world, &web0()).await;
    assert_eq!(probe(&world, &web0()).await["verdict"], "isolated");
}

#[tokio::test]
async fn a_plugin_that_is_late_is_waited_for_and_the_time_is_recorded() {
    let world = shop(4);
    isolate(&world, &web0()).await;
    world.lock().late = 9;
    let result = probe(&world, &web0()).await;
    assert_eq!(result["verdict"], "isolated", "{result}");
    let proofs: Vec<Proof> = world.bodies(kind::CONTAIN_PROVEN);
    let last = proofs.last().expect("a proof");
    assert!(last.time_to_enforce_ms.is_some());
}

#[tokio::test]
async fn a_plugin_that_does_not_enforce_is_never_contained() {
    let world = shop(4);
    world.lock().enforces = false;
    isolate(&world, &web0()).await;
    let result = probe(&world, &web0()).await;
    assert_eq!(result["verdict"], "not-contained");
    assert!(
        result["why"].to_string().contains("does not enforce"),
        "{result}"
    );
}

#[tokio::test]
async fn a_policy_that_still_allows_is_named_in_the_verdict() {
    use crate::reach::cluster::{Direction, NetworkPolicy, PolicyRule};
    let world = shop(4);
    world.lock().cluster.policies.push(NetworkPolicy {
        namespace: "shop".into(),
        name: "allow-all".into(),
        policy_types: Some(vec![Direction::Egress]),
        egress: vec![PolicyRule::default()],
        ..NetworkPolicy::default()
    });
    isolate(&world, &web0()).await;
    let result = probe(&world, &web0()).await;
    assert_eq!(result["verdict"], "not-contained");
    assert!(result["why"].to_string().contains("shop/allow-all"));
}

#[tokio::test]
async fn without_tools_or_a_baseline_it_is_isolated_but_not_proven() {
    let world = shop(4);
    world.lock().no_tools = (0..4).map(|n| format!("web-{n}")).collect();
    isolate(&world, &web0()).await;
    let result = probe(&world, &web0()).await;
    assert_eq!(result["verdict"], "not-proven", "{result}");

    let world = shop(4);
    isolate(
        &world,
        &json!({"namespace": "shop", "pod": "web-0", "isolate_first": true}),
    )
    .await;
    let result = probe(&world, &web0()).await;
    assert_eq!(result["verdict"], "not-proven");
    assert!(
        result["why"].to_string().contains("not seen open before"),
        "{result}"
    );
}

#[tokio::test]
async fn a_pod_without_siblings_is_not_proven_and_a_throw_away_pod_is_removed_again() {
    let world = shop(1);
    world.lock().cluster.controllers.clear();
    isolate(&world, &web0()).await;
    let result = probe(&world, &web0()).await;
    assert_eq!(result["verdict"], "not-proven");
    let args = json!({"namespace": "shop", "pod": "web-0", "probe_image": "busybox@sha256:0"});
    let result = probe(&world, &args).await;
    assert_eq!(result["verdict"], "not-proven", "ingress has no control");
    assert_eq!(world.lock().cluster.pods.len(), 1);
}

#[tokio::test]
async fn a_pod_that_was_never_isolated_is_not_contained() {
    let world = shop(4);
    let result = probe(&world, &web0()).await;
    assert_eq!(result["verdict"], "not-contained");
}

#[tokio::test]
async fn a_pod_that_is_gone_is_not_proven_and_no_error() {
    let world = shop(1);
    let result = probe(&world, &json!({"namespace": "shop", "pod": "nobody"})).await;
    assert_eq!(result["verdict"], "not-proven");
}

#[tokio::test]
async fn pods_of_a_selector_are_proven_too_and_those_beyond_the_first_eight_say_why_not() {
    let world = shop(11);
    let outsider = world.pod("web-10");
    {
        let mut s = world.lock();
        s.cluster.controllers.clear();
        let pod = s.cluster.pods.iter_mut().find(|p| p.uid == outsider.uid);
        pod.expect("it is there").labels = labels("app=client");
    }
    let args = json!({"namespace": "shop", "selector": "app=web"});
    isolate(&world, &args).await;
    let result = probe(&world, &args).await;
    let verdicts: Vec<&str> = result["pods"]
        .as_array()
        .expect("pods")
        .iter()
        .filter_map(|p| p["verdict"].as_str())
        .collect();
    let proven = verdicts.iter().filter(|v| **v == "isolated").count();
    assert_eq!((verdicts.len(), proven), (10, 8), "{result}");
    assert!(
        result["why"]
            .to_string()
            .contains("beyond the first 8 pods")
    );
}

#[tokio::test]
async fn a_selector_finds_the_pods_that_isolation_moved_out_of_it() {
    let world = shop(2);
    let args = json!({"namespace": "shop", "selector": "app=web"});
    isolate(&world, &args).await;
    let result = probe(&world, &args).await;
    let names: Vec<&str> = result["pods"]
        .as_array()
        .expect("pods")
        .iter()
        .filter_map(|p| p["name"].as_str())
        .collect();
    assert_eq!(names, ["shop/web-0", "shop/web-1"]);
}

async fn canary(world: &World, image: Option<&str>) -> Value {
    let mut args = web0();
    if let Some(image) = image {
        args["probe_image"] = json!(image);
    }
    let cx = world.step("canary");
    RunCanary.apply(&cx, &args).await.expect("an answer").result
}

#[tokio::test]
async fn a_canary_tells_enforced_from_unenforced_and_leaves_nothing() {
    for (enforces, verdict) in [(true, "enforced"), (false, "unenforced")] {
        let world = shop(3);
        world.lock().enforces = enforces;
        let before = picture(&world);
        assert_eq!(canary(&world, Some("busybox")).await["verdict"], verdict);
        assert_eq!(picture(&world), before);
        let entries: Vec<Canary> = world.bodies(kind::CONTAIN_CANARY);
        assert_eq!((entries.len(), entries[0].node.as_str()), (1, "node-1"));
    }
}

#[tokio::test]
async fn a_canary_without_an_image_does_not_run_and_says_why() {
    let world = shop(3);
    assert_eq!(canary(&world, None).await["verdict"], "not-run");
    let entries: Vec<Canary> = world.bodies(kind::CONTAIN_CANARY);
    assert!(entries[0].why.as_deref().expect("why").contains("image"));
}

#[tokio::test]
async fn a_canary_that_is_killed_is_swept_by_the_next_run_or_its_undo() {
    let whole = shop(3);
    canary(&whole, Some("busybox")).await;
    let entries = whole.lock().entries.len();
    for kill_at in 1..=entries {
        let world = shop(3);
        let before = picture(&world);
        world.lock().kill_at = Some(kill_at);
        let mut args = web0();
        args["probe_image"] = json!("busybox");
        let cx = world.step("canary");
        let _ = RunCanary.apply(&cx, &args).await;
        world.revive();
        RunCanary.undo(&cx, &args).await.expect("swept");
        assert_eq!(picture(&world), before, "killed at {kill_at}");
    }
}
