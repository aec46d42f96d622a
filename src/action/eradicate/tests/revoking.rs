//! Killing sessions quickly, and giving back what was there.

use serde_json::json;

use crate::action::acquire::CloudTrail;
use crate::action::{Action, Observed, Undone};
use crate::incident::kind;
use crate::rotation::sessions::{POLICY_NAME, cutoff};

use super::super::RevokeSessions;
use super::planning::handed_over;
use super::scene::Scene;

fn deny(scene: &Scene, member: &str) -> Option<String> {
    scene
        .sim
        .see(|w| w.members[member].inline.get(POLICY_NAME).cloned())
}

#[tokio::test]
async fn sessions_of_the_hand_over_are_denied_with_what_was_reached_from_them_and_given_back() {
    let scene = Scene::new();
    handed_over(&scene);
    let cx = scene.cx();
    let args = json!({"handover": true});
    let done = RevokeSessions.apply(&cx, &args).await.expect("revoked");
    assert_eq!(done.result["revoked"], 3, "{done:?}");
    for member in ["role/shop-web", "role/shop-reports", "user/shop-payments"] {
        let text = deny(&scene, member).expect(member);
        assert!(cutoff(&text) > Some(cx.ports.clock.now()), "{text}");
    }
    // Every change has its intent and what was seen.
    assert_eq!(scene.count(kind::WRITE_INTENDED), 3);
    assert_eq!(scene.count(kind::WRITE_SEEN), 3);
    assert!(matches!(
        RevokeSessions.observe(&cx, &args).await.expect("seen"),
        Observed::Done(_)
    ));
    let undone = RevokeSessions.undo(&cx, &args).await.expect("undone");
    assert!(matches!(undone, Undone::Undone(_)), "{undone:?}");
    assert_eq!(deny(&scene, "role/shop-web"), None);
}

#[tokio::test]
async fn an_older_deny_is_given_back_and_a_stranger_s_is_left() {
    let scene = Scene::new();
    let old =
        crate::rotation::sessions::deny_older_than("2026-01-01T00:00:00Z".parse().expect("time"));
    scene.meddle(|w| {
        let role = w.members.get_mut("role/shop-web").expect("there");
        role.inline.insert(POLICY_NAME.into(), old.clone());
    });
    let cx = scene.cx();
    let args = json!({"roles": ["shop-web"], "chain": false});
    RevokeSessions.apply(&cx, &args).await.expect("revoked");
    assert_ne!(deny(&scene, "role/shop-web"), Some(old.clone()));
    RevokeSessions.undo(&cx, &args).await.expect("undone");
    assert_eq!(deny(&scene, "role/shop-web"), Some(old));
    // Somebody moved the cut-off on meanwhile: that is theirs.
    let scene = Scene::new();
    let cx = scene.cx();
    RevokeSessions.apply(&cx, &args).await.expect("revoked");
    let later =
        crate::rotation::sessions::deny_older_than("2030-01-01T00:00:00Z".parse().expect("time"));
    scene.meddle(|w| {
        let role = w.members.get_mut("role/shop-web").expect("there");
        role.inline.insert(POLICY_NAME.into(), later.clone());
    });
    let undone = RevokeSessions.undo(&cx, &args).await.expect("answered");
    assert!(matches!(undone, Undone::Stuck { .. }), "{undone:?}");
    assert_eq!(deny(&scene, "role/shop-web"), Some(later));
}

#[tokio::test]
async fn ourselves_are_never_denied() {
    let scene = Scene::new();
    let e = RevokeSessions
        .apply(&scene.cx(), &json!({"roles": ["firebreak-response"]}))
        .await
        .expect_err("refused");
    assert_eq!(e.code, "FB3021");
    assert_eq!(scene.changes(), 0);
}

#[tokio::test]
async fn a_second_apply_after_a_crash_goes_on_and_does_not_move_the_cut_off_back() {
    let scene = Scene::new();
    let cx = scene.cx();
    let args = json!({"roles": ["shop-web", "shop-api"], "chain": false});
    RevokeSessions.apply(&cx, &args).await.expect("revoked");
    let first = deny(&scene, "role/shop-web");
    RevokeSessions.apply(&cx, &args).await.expect("again");
    assert_eq!(deny(&scene, "role/shop-web"), first);
    assert_eq!(scene.count(kind::WRITE_INTENDED), 2);
}

#[tokio::test]
async fn the_trail_is_copied_by_key_and_region_with_what_it_could_not_say() {
    let scene = Scene::new();
    let key = scene.keys_of("shop-payments")[0].clone();
    let cx = scene.cx();
    let done = CloudTrail
        .apply(&cx, &json!({"keys": [key], "from": ""}))
        .await
        .expect("copied");
    let copied = scene.exhibits().join("");
    assert!(
        copied.contains("\"eventName\":\"ListUsers\"") && copied.contains("198.51.100.10"),
        "{copied}"
    );
    assert!(
        done.result["incomplete"]
            .to_string()
            .contains("last minutes"),
        "{done:?}"
    );
    // Without the right, the step still seals what it knows.
    scene.meddle(|w| _ = w.missing.insert("cloudtrail:LookupEvents".into()));
    let done = CloudTrail
        .apply(&cx, &json!({"keys": [key]}))
        .await
        .expect("sealed");
    assert!(
        done.result["incomplete"]
            .to_string()
            .contains("cloudtrail:LookupEvents"),
        "{done:?}"
    );
}
