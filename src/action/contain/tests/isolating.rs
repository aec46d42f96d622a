//! Isolation: what it writes, in which order, and what survives.

use serde_json::{Value, json};

use super::world::*;
use crate::action::contain::IsolateWorkload;
use crate::action::{Action, Class, Observed};
use crate::incident::body::{ContainmentPlanned, WriteIntended, WriteSeen};
use crate::incident::kind;
use crate::reach::cluster::Owner;
use crate::reach::isolation::QUARANTINE;

fn web0() -> Value {
    json!({"namespace": "shop", "pod": "web-0", "isolate_first": true})
}

async fn isolate(world: &World, args: &Value) -> Result<Value, crate::action::ActionError> {
    let cx = world.step("isolate");
    IsolateWorkload.apply(&cx, args).await.map(|a| a.result)
}

#[tokio::test]
async fn a_pod_is_denied_first_and_moved_out_second() {
    let world = shop(3);
    let result = isolate(&world, &web0()).await.expect("isolated");
    assert_eq!(result["verdict"], "contained-by-policy", "{result}");
    assert_eq!(result["pods"][0]["phase"], "B");
    let pod = world.pod("web-0");
    assert!(pod.labels.contains_key(QUARANTINE) && pod.owner.is_none());
    assert!(!pod.labels.contains_key("app"), "{:?}", pod.labels);
    let s = world.lock();
    assert_eq!(
        s.effects,
        [
            format!(
                "policy firebreak-{}",
                result["containment"].as_str().expect("id")
            ),
            "labels web-0".into(),
            "labels web-0".into()
        ]
    );
    assert_eq!(
        s.cluster.pods.len(),
        4,
        "the ReplicaSet started a replacement"
    );
}

#[tokio::test]
async fn every_write_has_its_intent_before_and_what_was_seen_after() {
    let world = shop(3);
    isolate(&world, &web0()).await.expect("isolated");
    let intents: Vec<WriteIntended> = world.bodies(kind::WRITE_INTENDED);
    let seen: Vec<WriteSeen> = world.bodies(kind::WRITE_SEEN);
    let whats: Vec<&str> = intents.iter().map(|w| w.what.as_str()).collect();
    assert_eq!(whats, ["create_policy", "label", "move_out"]);
    assert!(seen.iter().all(|s| s.verdict == "written"));
    assert_eq!(intents[2].before["labels/app"].as_deref(), Some("web"));
    let planned: Vec<ContainmentPlanned> = world.bodies(kind::CONTAINMENT_PLANNED);
    assert_eq!(planned[0].services, ["Service shop/web"]);
}

#[tokio::test]
async fn a_kill_after_any_entry_is_resumed_to_the_same_end() {
    let whole = shop(3);
    isolate(&whole, &web0()).await.expect("isolated");
    let entries = whole.lock().entries.len();
    let end = whole.pod("web-0").labels;
    for kill_at in 1..=entries {
        let world = shop(3);
        world.lock().kill_at = Some(kill_at);
        let _ = isolate(&world, &web0()).await;
        world.revive();
        let result = isolate(&world, &web0()).await.expect("resumed");
        assert_eq!(
            result["verdict"], "contained-by-policy",
            "killed at {kill_at}"
        );
        assert_eq!(world.pod("web-0").labels, end, "killed at {kill_at}");
        assert_eq!(
            world.lock().effects.len(),
            3,
            "killed at {kill_at}: a write ran twice"
        );
        let first: Vec<WriteIntended> = world.bodies(kind::WRITE_INTENDED);
        let moved = first.iter().find(|w| w.what == "move_out").expect("moved");
        assert_eq!(moved.before["labels/app"].as_deref(), Some("web"));
    }
}

#[tokio::test]
async fn a_lost_reply_at_any_write_is_looked_at_before_anything_is_sent_again() {
    for n in 1..=3 {
        for fault in [Fault::LostBefore, Fault::LostAfter, Fault::Throttled] {
            let world = shop(3);
            world.lock().fault = Some((n, fault));
            let result = isolate(&world, &web0()).await.expect("isolated");
            assert_eq!(result["verdict"], "contained-by-policy", "{fault:?} at {n}");
            let s = world.lock();
            assert_eq!(s.effects.len(), 3, "{fault:?} at {n}");
            let again = usize::from(fault != Fault::LostAfter);
            assert_eq!(s.writes, 3 + again, "{fault:?} at {n}");
        }
    }
}

#[tokio::test]
async fn a_second_apply_writes_nothing() {
    let world = shop(3);
    isolate(&world, &web0()).await.expect("isolated");
    let writes = world.lock().writes;
    let result = isolate(&world, &web0()).await.expect("again");
    assert_eq!(result["verdict"], "contained-by-policy");
    assert_eq!(world.lock().writes, writes);
}

#[tokio::test]
async fn a_pod_recreated_under_its_name_is_a_conflict_and_is_left_alone() {
    let world = shop(3);
    world.lock().kill_at = Some(3);
    let _ = isolate(&world, &web0()).await;
    world.revive();
    world.lock().cluster.pods[0].uid = "uid-another".into();
    let error = isolate(&world, &web0()).await.expect_err("a conflict");
    assert_eq!(error.class, Class::Conflict, "{error}");
    assert!(!world.pod("web-0").labels.contains_key(QUARANTINE));
}

#[tokio::test]
async fn a_uid_that_differs_from_the_plans_is_a_conflict() {
    let world = shop(3);
    let args = json!({"namespace": "shop", "pod": "web-0", "uid": "uid-of-the-plan"});
    let error = isolate(&world, &args).await.expect_err("a conflict");
    assert_eq!(error.class, Class::Conflict);
    assert!(world.lock().effects.is_empty());
}

#[tokio::test]
async fn one_pod_that_fails_does_not_stop_the_others() {
    let world = shop(12);
    world.lock().always = Some(("web-3".into(), Fault::Rejected));
    let args = json!({"namespace": "shop", "selector": "app=web"});
    let result = isolate(&world, &args).await.expect("some are isolated");
    assert_eq!(
        (result["isolated"].as_u64(), result["failed"].as_u64()),
        (Some(11), Some(1))
    );
    assert_eq!(result["verdict"], "not-contained");
    let failed = result["pods"]
        .as_array()
        .expect("pods")
        .iter()
        .find(|p| p["name"] == "shop/web-3");
    let failed = failed.expect("it is in the result");
    assert_eq!(
        (failed["outcome"].as_str(), failed["phase"].as_str()),
        (Some("failed"), Some("-"))
    );
    let policies = world.lock().cluster.policies.len();
    assert_eq!(policies, 2, "one policy for the namespace");
}

#[tokio::test]
async fn a_bulk_that_is_killed_goes_on_with_the_pods_it_began() {
    let args = json!({"namespace": "shop", "selector": "app=web"});
    let whole = shop(5);
    isolate(&whole, &args).await.expect("isolated");
    let entries = whole.lock().entries.len();
    for kill_at in 1..=entries {
        let world = shop(5);
        world.lock().kill_at = Some(kill_at);
        let _ = isolate(&world, &args).await;
        world.revive();
        let result = isolate(&world, &args).await.expect("resumed");
        assert_eq!(result["isolated"].as_u64(), Some(5), "killed at {kill_at}");
        for n in 0..5 {
            let pod = world.pod(&format!("web-{n}"));
            assert!(pod.owner.is_none() && pod.labels.contains_key(QUARANTINE));
        }
    }
}

#[tokio::test]
async fn a_pod_of_a_statefulset_gets_phase_a_and_is_not_called_contained() {
    let world = shop(3);
    world.lock().cluster.pods[0].owner = Some(Owner {
        kind: "StatefulSet".into(),
        name: "web".into(),
        uid: "uid-sts".into(),
    });
    let result = isolate(&world, &web0()).await.expect("phase A");
    assert_eq!(result["verdict"], "not-contained");
    assert_eq!(result["pods"][0]["phase"], "A");
    assert!(
        result["pods"][0]["still_allowed"][0]
            .as_str()
            .expect("a line")
            .contains("shop/allow-web")
    );
    assert_eq!(world.pod("web-0").labels["app"], "web");
}

#[tokio::test]
async fn a_host_network_pod_is_blocked_with_what_to_do_instead() {
    let world = shop(3);
    world.lock().cluster.pods[0].host_network = true;
    let cx = world.step("isolate");
    let preview = IsolateWorkload
        .preview(&cx, &web0())
        .await
        .expect("a preview");
    assert!(
        preview.blocked[0].contains("instead"),
        "{:?}",
        preview.blocked
    );
    let error = isolate(&world, &web0()).await.expect_err("refused");
    assert_eq!(error.class, Class::Refused);
    assert!(world.lock().effects.is_empty());
}

#[tokio::test]
async fn a_pod_that_is_not_there_and_a_selector_that_names_none_are_refused_by_the_preview() {
    let world = shop(3);
    let cx = world.step("isolate");
    for args in [
        json!({"namespace": "shop", "pod": "web-77"}),
        json!({"namespace": "shop", "selector": "app=nothing"}),
        json!({"namespace": "shop", "pod": "web-0", "uid": "uid-of-another"}),
    ] {
        let preview = IsolateWorkload.preview(&cx, &args).await;
        let preview = preview.expect("a preview");
        assert_eq!(preview.blocked.len(), 1, "{args}");
        assert!(!preview.already);
    }
}

#[tokio::test]
async fn a_preview_changes_nothing_names_the_facts_and_binds_them() {
    let world = shop(3);
    let before = picture(&world);
    let cx = world.step("isolate");
    let preview = IsolateWorkload
        .preview(&cx, &web0())
        .await
        .expect("a preview");
    assert_eq!(picture(&world), before);
    assert!(world.lock().entries.is_empty());
    assert_eq!(world.lock().writes, 0);
    assert_eq!(preview.binding["cluster"], "uid-kube-system");
    assert_eq!(preview.binding["pod shop/web-0"], "uid-web-0");
    let text = format!("{:?}", preview.details);
    for fact in [
        "Service shop/web",
        "arn:aws:iam::1:role/web",
        "db-password",
        "starts a replacement",
    ] {
        assert!(text.contains(fact), "{fact}: {text}");
    }
}

#[tokio::test]
async fn a_webhook_that_refuses_blocks_and_a_missing_right_is_denied() {
    let world = shop(3);
    world.lock().always = Some(("web-0".into(), Fault::Rejected));
    let cx = world.step("isolate");
    let preview = IsolateWorkload
        .preview(&cx, &web0())
        .await
        .expect("a preview");
    assert!(!preview.blocked.is_empty());
    world.lock().always = Some(("web-0".into(), Fault::Refused));
    let error = IsolateWorkload
        .preview(&cx, &web0())
        .await
        .expect_err("denied");
    assert_eq!((error.class, error.code), (Class::Denied, "FB0405"));
    assert!(error.hint.is_some());
}

#[tokio::test]
async fn a_second_policy_that_allows_is_named_and_keeps_it_from_being_contained() {
    use crate::reach::cluster::{Direction, NetworkPolicy, PolicyRule};
    let world = shop(3);
    world.lock().cluster.policies.push(NetworkPolicy {
        namespace: "shop".into(),
        name: "allow-all".into(),
        policy_types: Some(vec![Direction::Egress]),
        egress: vec![PolicyRule::default()],
        ..NetworkPolicy::default()
    });
    let result = isolate(&world, &web0())
        .await
        .expect("isolated as far as it goes");
    assert_eq!(result["verdict"], "not-contained");
    assert!(
        result["pods"][0]["still_allowed"][0]
            .as_str()
            .expect("a line")
            .contains("shop/allow-all")
    );
}

#[tokio::test]
async fn observe_tells_done_from_not_done() {
    let world = shop(3);
    let cx = world.step("isolate");
    let look = || IsolateWorkload.observe(&cx, &Value::Null);
    assert_eq!(look().await.expect("looked"), Observed::NotDone);
    isolate(&world, &web0()).await.expect("isolated");
    assert!(matches!(look().await.expect("looked"), Observed::Done(_)));
}

#[tokio::test]
async fn a_server_that_stays_away_after_a_write_leaves_it_in_doubt_and_resumes() {
    let world = shop(3);
    world.lock().always = Some(("web-0".into(), Fault::LostBefore));
    let error = isolate(&world, &web0()).await.expect_err("in doubt");
    assert_eq!(error.class, Class::InDoubt);
    world.lock().always = None;
    let result = isolate(&world, &web0()).await.expect("resumed");
    assert_eq!(result["verdict"], "contained-by-policy");
    assert_eq!(world.lock().effects.len(), 3);
}

#[tokio::test]
async fn a_kill_between_a_write_and_its_record_sends_nothing_twice() {
    for n in 1..=3 {
        let world = shop(3);
        world.lock().kill_at_write = Some(n);
        let _ = isolate(&world, &web0()).await;
        world.revive();
        let result = isolate(&world, &web0()).await.expect("resumed");
        assert_eq!(
            result["verdict"], "contained-by-policy",
            "killed at write {n}"
        );
        assert_eq!(world.lock().writes, 3, "killed at write {n}");
    }
}
