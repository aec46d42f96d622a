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
async fn of_a_pod_that_was_never_contained_there_is_nothing_to_release_or_to_keep() {
    let (_, world) = isolated().await;
    for keep in [false, true] {
        for (pod, nothing) in [("web-1", true), ("web-0", false)] {
            let args = json!({"namespace": "shop", "pod": pod, "keep": keep});
            let preview = ReleaseWorkload.preview(&world.step("release"), &args).await;
            let preview = preview.expect("previewed");
            assert_eq!(preview.already, nothing, "{pod}, keep {keep}: {preview:?}");
        }
    }
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

fn our_policy(world: &World) -> String {
    let s = world.lock();
    let ours = |p: &&crate::reach::cluster::NetworkPolicy| p.name.starts_with("firebreak-");
    s.cluster
        .policies
        .iter()
        .find(ours)
        .expect("ours")
        .name
        .clone()
}

async fn preview(world: &World) -> Result<crate::action::Preview, crate::action::ActionError> {
    let args = json!({"namespace": "shop", "pod": "web-0"});
    ReleaseWorkload.preview(&world.step("release"), &args).await
}

#[tokio::test]
async fn a_right_that_is_missing_is_found_before_anything_is_given_back() {
    let (_, world) = isolated().await;
    let policy = our_policy(&world);
    preview(&world).await.expect("every right is there");
    world.lock().always = Some((policy, Fault::Refused));
    let error = preview(&world).await.expect_err("denied");
    assert_eq!((error.class, error.code), (Class::Denied, "FB0405"));
    assert_eq!(error.hint.as_deref(), Some("firebreak permissions release"));
    world.lock().always = Some(("web-0".into(), Fault::Refused));
    let error = preview(&world).await.expect_err("denied");
    assert_eq!(error.class, Class::Denied);
}

#[tokio::test]
async fn a_right_that_went_missing_half_way_is_denied_and_a_second_try_ends_it() {
    let (found, world) = isolated().await;
    let policy = our_policy(&world);
    world.lock().always = Some((policy, Fault::Refused));
    let error = release(&world).await.expect_err("denied");
    assert_eq!((error.class, error.code), (Class::Denied, "FB0405"));
    let hint = error.hint.expect("what to type");
    assert!(hint.contains("kubectl delete networkpolicy"), "{hint}");
    world.lock().always = None;
    let args = json!({"namespace": "shop", "pod": "web-0"});
    let looked = ReleaseWorkload.observe(&world.step("release"), &args).await;
    assert_eq!(looked.expect("looked"), crate::action::Observed::NotDone);
    assert!(!preview(&world).await.expect("a preview").already);
    release(&world).await.expect("released");
    as_found(&found, &world);
}

#[tokio::test]
async fn a_pod_whose_labels_do_not_come_back_stays_denied() {
    let (found, world) = isolated().await;
    // The deletion cost first, then the labels.
    let labels = world.lock().writes + 2;
    world.lock().fault = Some((labels, Fault::Refused));
    let error = release(&world).await.expect_err("denied");
    assert_eq!(error.class, Class::Denied, "{error}");
    let pod = world.pod("web-0");
    assert!(
        pod.labels.contains_key("firebreak/quarantine"),
        "no label of ours and none of its own: nothing would deny it: {:?}",
        pod.labels
    );
    assert_eq!(world.lock().cluster.policies.len(), 2);
    release(&world).await.expect("released");
    as_found(&found, &world);
}

#[tokio::test]
async fn a_release_says_what_is_true_for_the_owner_of_the_pod() {
    for (owner, words) in [
        (Some("ReplicaSet"), "ReplicaSet/web-7d9 takes the pod back"),
        (
            Some("StatefulSet"),
            "belongs to StatefulSet/web-7d9 all along",
        ),
        (Some("DaemonSet"), "belongs to DaemonSet/web-7d9 all along"),
        (None, "nobody owns the pod"),
    ] {
        let world = shop(3);
        if owner != Some("ReplicaSet") {
            let mut s = world.lock();
            s.cluster.controllers.clear();
            let of = |kind: &str| crate::reach::cluster::Owner {
                kind: kind.into(),
                name: "web-7d9".into(),
                uid: "uid-owner".into(),
            };
            s.cluster.pods[0].owner = owner.map(of);
        }
        let args = json!({"namespace": "shop", "pod": "web-0", "isolate_first": true});
        IsolateWorkload
            .apply(&world.step("isolate"), &args)
            .await
            .expect("isolated");
        let preview = preview(&world).await.expect("a preview");
        let text = preview.blast_radius.join("; ");
        assert!(text.contains(words), "{owner:?}: {text}");
        let says_replicaset = format!("{preview:?}").contains("ReplicaSet");
        assert_eq!(says_replicaset, owner == Some("ReplicaSet"), "{preview:?}");
    }
}

#[tokio::test]
async fn a_bare_pod_gets_no_deletion_cost_that_nobody_reads() {
    let world = shop(3);
    world.lock().cluster.controllers.clear();
    world.lock().cluster.pods[0].owner = None;
    let found = world.pod("web-0");
    let args = json!({"namespace": "shop", "pod": "web-0", "isolate_first": true});
    IsolateWorkload
        .apply(&world.step("isolate"), &args)
        .await
        .expect("isolated");
    let before = world.lock().writes;
    release(&world).await.expect("released");
    assert_eq!(world.lock().writes - before, 3, "labels, ours, policy");
    assert_eq!(world.pod("web-0").labels, found.labels);
}

#[tokio::test]
async fn a_release_that_could_not_remove_our_throw_away_pods_is_refused_beforehand() {
    let (_, world) = isolated().await;
    let spec = crate::port::CanarySpec {
        namespace: "firebreak-hands".into(),
        name: "firebreak-canary-00000000".into(),
        node: "node-1".into(),
        image: "busybox".into(),
        quarantine: "x".into(),
    };
    super::super::canary::announce(&world.step("canary"), &spec).expect("written");
    let shown = preview(&world).await.expect("a preview").changes;
    assert!(
        shown.iter().any(|c| c.contains("throw-away pods")),
        "{shown:?}"
    );
    world.lock().lacks = Some("replicasets".into());
    let error = preview(&world).await.expect_err("denied");
    assert_eq!((error.class, error.code), (Class::Denied, "FB0405"));
    assert!(error.message.contains("replicasets"), "{error}");
}
