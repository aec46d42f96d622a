//! Release: everything as it was found, nothing of others touched.

use serde_json::json;

use super::world::*;
use crate::action::contain::{IsolateWorkload, ReleaseWorkload};
use crate::action::{Action, Class, Undone};

async fn isolated() -> (World, World) {
    let (found, world) = (shop(3), shop(3));
    let args = json!({"namespace": "shop", "pod": "web-0", "isolate_first": true});
    IsolateWorkload
        .apply(&world.step("isolate"), &args)
        .await
        .expect("isolated");
    (found, world)
}

async fn release(world: &World) -> Result<serde_json::Value, crate::action::ActionError> {
    let args = json!({"namespace": "shop", "pod": "web-0"});
    let cx = world.step("release");
    ReleaseWorkload.apply(&cx, &args).await.map(|a| a.result)
}

fn as_found(found: &World, world: &World) {
    let (pod, was) = (world.pod("web-0"), found.pod("web-0"));
    assert_eq!(pod.labels, was.labels);
    assert_eq!(pod.annotations, was.annotations);
    assert_eq!(pod.owner, was.owner);
    assert_eq!(picture(world).1, picture(found).1, "policies");
    assert_eq!(
        world.lock().cluster.pods.len(),
        3,
        "the replacement is gone again"
    );
}

#[tokio::test]
async fn release_gives_everything_back_exactly_as_found() {
    let (found, world) = isolated().await;
    let result = release(&world).await.expect("released");
    assert_eq!(result["verdict"], "released");
    as_found(&found, &world);
}

#[tokio::test]
async fn the_undo_of_the_step_is_the_same() {
    let (found, world) = isolated().await;
    let undone = IsolateWorkload
        .undo(&world.step("isolate"), &json!({}))
        .await
        .expect("undone");
    assert!(matches!(undone, Undone::Undone(_)), "{undone:?}");
    as_found(&found, &world);
}

#[tokio::test]
async fn undo_may_run_when_apply_never_did() {
    let world = shop(3);
    let before = picture(&world);
    let undone = IsolateWorkload
        .undo(&world.step("isolate"), &json!({}))
        .await;
    assert!(matches!(undone, Ok(Undone::Undone(_))));
    assert_eq!(picture(&world), before);
}

#[tokio::test]
async fn a_kill_after_any_entry_of_a_release_is_resumed_to_the_same_end() {
    let (_, whole) = isolated().await;
    let start = whole.lock().entries.len();
    release(&whole).await.expect("released");
    let end = whole.lock().entries.len();
    for kill_at in start + 1..=end {
        let (found, world) = isolated().await;
        world.lock().kill_at = Some(kill_at);
        let _ = release(&world).await;
        world.revive();
        release(&world).await.expect("resumed");
        as_found(&found, &world);
    }
}

#[tokio::test]
async fn a_lost_reply_at_any_write_of_a_release_ends_the_same() {
    for n in 1..=5 {
        for fault in [Fault::LostBefore, Fault::LostAfter, Fault::Throttled] {
            let (found, world) = isolated().await;
            let at = world.lock().writes + n;
            world.lock().fault = Some((at, fault));
            release(&world).await.expect("released");
            as_found(&found, &world);
        }
    }
}

#[tokio::test]
async fn undo_after_a_kill_at_any_entry_of_apply_gives_everything_back() {
    let (_, whole) = isolated().await;
    let entries = whole.lock().entries.len();
    let args = json!({"namespace": "shop", "pod": "web-0", "isolate_first": true});
    for kill_at in 1..=entries {
        let (found, world) = (shop(3), shop(3));
        world.lock().kill_at = Some(kill_at);
        let cx = world.step("isolate");
        let _ = IsolateWorkload.apply(&cx, &args).await;
        world.revive();
        let undone = IsolateWorkload.undo(&cx, &json!({})).await.expect("undone");
        assert!(
            matches!(undone, Undone::Undone(_)),
            "killed at {kill_at}: {undone:?}"
        );
        as_found(&found, &world);
    }
}

#[tokio::test]
async fn what_somebody_changed_since_is_left_and_named_with_the_command() {
    let (_, world) = isolated().await;
    world.lock().cluster.pods[0]
        .labels
        .insert("app".into(), "theirs".into());
    let error = release(&world).await.expect_err("stuck");
    assert_eq!((error.class, error.code), (Class::Conflict, "FB1210"));
    let hint = error.hint.expect("what to type");
    assert!(
        hint.contains("kubectl label pod -n shop web-0 app=web --overwrite"),
        "{hint}"
    );
    assert_eq!(world.pod("web-0").labels["app"], "theirs");
    assert!(
        !world
            .pod("web-0")
            .labels
            .contains_key("firebreak/quarantine")
    );
}

#[tokio::test]
async fn a_policy_that_somebody_widened_is_left_and_named() {
    let (_, world) = isolated().await;
    let ours = |p: &&mut crate::reach::cluster::NetworkPolicy| p.name.starts_with("firebreak-");
    if let Some(p) = world.lock().cluster.policies.iter_mut().find(ours) {
        p.egress.push(crate::reach::cluster::PolicyRule::default());
    }
    let undone = IsolateWorkload
        .undo(&world.step("isolate"), &json!({}))
        .await;
    let Ok(Undone::Stuck { left, .. }) = undone else {
        panic!("{undone:?}");
    };
    assert!(
        left[0].contains("kubectl delete networkpolicy -n shop"),
        "{left:?}"
    );
}

#[tokio::test]
async fn the_policy_stays_while_another_pod_carries_its_label() {
    let world = shop(3);
    let args = json!({"namespace": "shop", "selector": "app=web"});
    IsolateWorkload
        .apply(&world.step("isolate"), &args)
        .await
        .expect("isolated");
    release(&world).await.expect("one released");
    assert_eq!(world.lock().cluster.policies.len(), 2);
    for name in ["web-1", "web-2"] {
        let args = json!({"namespace": "shop", "pod": name});
        let cx = world.step("release");
        ReleaseWorkload.apply(&cx, &args).await.expect("released");
    }
    assert_eq!(world.lock().cluster.policies.len(), 1);
}

#[tokio::test]
async fn keep_leaves_it_isolated() {
    let (_, world) = isolated().await;
    let before = picture(&world);
    let args = json!({"namespace": "shop", "pod": "web-0", "keep": true});
    let cx = world.step("release");
    ReleaseWorkload.apply(&cx, &args).await.expect("kept");
    assert_eq!(picture(&world), before);
}

#[tokio::test]
async fn a_pod_that_is_gone_leaves_no_policy_behind() {
    let (_, world) = isolated().await;
    world.lock().cluster.pods.retain(|p| p.name != "web-0");
    release(&world).await.expect("released");
    assert_eq!(world.lock().cluster.policies.len(), 1);
    assert_eq!(release(&world).await.expect("again")["verdict"], "released");
}

#[tokio::test]
async fn isolating_again_after_a_release_starts_afresh() {
    let (_, world) = isolated().await;
    release(&world).await.expect("released");
    let args = json!({"namespace": "shop", "pod": "web-0", "isolate_first": true});
    let cx = world.step("isolate");
    let again = IsolateWorkload.apply(&cx, &args).await.expect("isolated");
    assert_eq!(again.result["verdict"], "contained-by-policy");
}

#[tokio::test]
async fn a_kill_between_a_write_of_a_release_and_its_record_ends_the_same() {
    for n in 1..=5 {
        let (found, world) = isolated().await;
        let at = world.lock().writes + n;
        world.lock().kill_at_write = Some(at);
        let _ = release(&world).await;
        world.revive();
        release(&world).await.expect("resumed");
        as_found(&found, &world);
    }
}

#[tokio::test]
async fn undo_after_a_kill_between_a_write_and_its_record_gives_everything_back() {
    let args = json!({"namespace": "shop", "pod": "web-0", "isolate_first": true});
    for n in 1..=3 {
        let (found, world) = (shop(3), shop(3));
        world.lock().kill_at_write = Some(n);
        let cx = world.step("isolate");
        let _ = IsolateWorkload.apply(&cx, &args).await;
        world.revive();
        let undone = IsolateWorkload.undo(&cx, &json!({})).await.expect("undone");
        assert!(matches!(undone, Undone::Undone(_)), "killed at write {n}");
        as_found(&found, &world);
    }
}
