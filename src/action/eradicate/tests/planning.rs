//! What is planned, and what is refused by its code with nothing changed.

use std::sync::Arc;

use serde_json::json;

use crate::action::{Action, Context};
use crate::adapter::sim::estate::{DB_PRIMARY, EstateFault, EstateWorld, SimEstate};
use crate::incident::body::{Credentials, ObjectRef};
use crate::incident::kind;
use crate::port::{BreakGlassPath, Cloud};
use crate::rotation::map::RotationMap;
use crate::rotation::plan::{AccessKey, Item, RotationPlan, What};
use crate::rotation::words::{CredentialKind, Reason, RotationMode};

use super::super::{PlanRotation, draft_map};
use super::scene::Scene;

fn key(item: &Item) -> &AccessKey {
    match &item.what {
        What::AccessKey(key) => key,
        other => panic!("no key: {other:?}"),
    }
}

fn one(plan: &RotationPlan) -> &Item {
    assert_eq!(plan.items.len(), 1, "{:#?}", plan.items);
    &plan.items[0]
}

pub(super) fn handed_over(scene: &Scene) {
    let role = format!(
        "arn:aws:iam::{}:role/shop-web",
        crate::adapter::sim::estate::ACCOUNT
    );
    let secret = |how: &str| vec![how.to_owned()];
    scene.note(
        kind::CREDENTIALS_LISTED,
        &Credentials {
            pod: ObjectRef {
                kind: "Pod".into(),
                namespace: "shop".into(),
                name: "web-1".into(),
                uid: "u".into(),
            },
            service_account: "web".into(),
            role_arn: Some(role),
            secrets: [
                ("payment-api-token".to_owned(), secret("volume")),
                ("web-session-key".to_owned(), secret("env")),
            ]
            .into(),
        },
    );
}

#[tokio::test]
async fn a_user_s_key_is_found_in_the_store_in_its_sink_and_at_its_consumer() {
    let scene = Scene::new();
    let plan = scene.plan(json!({"users": ["shop-payments"]})).await;
    let item = one(&plan);
    let what = key(item);
    assert_eq!(item.mode, RotationMode::Graceful);
    assert!(
        what.escrow.exists && what.escrow.secret.contains("shop/payments/key"),
        "{:?}",
        what.escrow
    );
    assert_eq!(what.victim, None);
    assert_eq!(item.sinks.len(), 1);
    assert_eq!(item.sinks[0].place(), "shop/payment-api-token");
    assert_eq!(item.sinks[0].keys["access_key_id"], "AWS_ACCESS_KEY_ID");
    assert_eq!(
        item.sinks[0].keys["secret_access_key"],
        "AWS_SECRET_ACCESS_KEY"
    );
    let restarts: Vec<String> = item
        .workloads
        .iter()
        .map(|w| plan.workloads[*w].place())
        .collect();
    assert_eq!(restarts, ["shop/Deployment/web"]);
    assert_eq!(item.needs_human, None);
    assert_eq!(scene.changes(), 0);
}

#[tokio::test]
async fn no_secret_is_written_down_and_the_state_before_is_kept() {
    let scene = Scene::new();
    scene.plan(json!({"users": ["shop-payments"], "secrets": ["shop/db/web-sessions"], "admin": "shop/db/admin", "emergency": true})).await;
    let id = &scene.keys_of("shop-payments")[0];
    let planted: Vec<String> = scene.sim.see(|w| {
        let keys = w.keys.values().map(|k| k.secret.0.clone());
        let stored = w
            .kube_secrets
            .values()
            .flat_map(|s| s.data.values().map(|v| v.0.clone()));
        keys.chain(stored)
            .filter(|v| !v.starts_with("AKIA") && v.len() > 16)
            .collect()
    });
    assert!(planted.len() > 6);
    for secret in &planted {
        assert!(!scene.written(secret), "a secret was written down");
    }
    let before = scene.exhibits().join("");
    assert!(
        before.contains(id) && before.contains("console_password_used"),
        "{before}"
    );
}

#[tokio::test]
async fn a_second_apply_of_the_step_answers_the_same_plan() {
    let scene = Scene::new();
    let first = scene
        .apply(json!({"users": ["ci-build"]}))
        .await
        .expect("planned");
    let again = scene
        .apply(json!({"users": ["ci-build"]}))
        .await
        .expect("planned");
    assert_eq!(first, again);
    assert_eq!(scene.count(kind::ROTATION_PLANNED), 1);
}

#[tokio::test]
async fn an_expression_selects_by_tag_and_path_and_is_in_the_plan() {
    let scene = Scene::new();
    let expression = "kind == 'iam-access-key' && tags.team == 'pay' && path.startsWith('/ci/') && status == 'Active'";
    let plan = scene
        .plan(json!({"select": expression, "t0": "2026-09-20T00:00:00Z"}))
        .await;
    let names: Vec<&str> = plan.items.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["ci-build", "ci-deploy", "ci-release"]);
    assert!(plan.selector.contains("tags.team"));
    assert!(
        plan.items[0].why.iter().any(|w| w.contains("path = /ci/")),
        "{:?}",
        plan.items[0].why
    );
    // The forgotten second key of ci-release frees the slot, and is no item.
    let release = &scene.keys_of("ci-release");
    assert_eq!(key(&plan.items[2]).victim.as_ref(), Some(&release[0]));
}

#[tokio::test]
async fn members_that_cannot_be_judged_refuse_the_plan_unless_it_says_what_becomes_of_them() {
    let scene = Scene::new();
    scene.meddle(|w| _ = w.missing.insert("iam:GetUser".into()));
    let select = "kind == 'iam-access-key' && tags.team == 'ops'";
    assert_eq!(scene.refused(json!({"select": select})).await, "FB3031");
    assert_eq!(
        scene
            .refused(json!({"select": select, "on_unknown": "exclude"}))
            .await,
        "FB3032"
    );
    let plan = scene
        .plan(json!({"select": select, "on_unknown": "exclude", "allow_empty": true}))
        .await;
    assert!(
        plan.items.is_empty() && plan.excluded.len() > 3,
        "{:?}",
        plan.excluded
    );
}

#[tokio::test]
async fn an_empty_or_unreadable_selection_and_an_unknown_name_are_refused() {
    let scene = Scene::new();
    assert_eq!(
        scene.refused(json!({"select": "name == 'nobody'"})).await,
        "FB3032"
    );
    assert_eq!(scene.refused(json!({})).await, "FB3030");
    assert_eq!(
        scene.refused(json!({"select": "nmae == 'x'"})).await,
        "FB3030"
    );
    for named in ["users", "keys", "roles", "secrets"] {
        let mut args = json!({});
        args[named] = json!(["nobody"]);
        assert_eq!(scene.refused(args).await, "FB3036", "{named}");
    }
}

#[tokio::test]
async fn a_rotation_that_would_lock_us_out_is_refused() {
    let scene = Scene::new();
    assert_eq!(
        scene
            .refused(json!({"roles": ["firebreak-response"]}))
            .await,
        "FB3021"
    );
    assert_eq!(
        scene
            .refused(json!({"select": "kind == 'iam-role-sessions'"}))
            .await,
        "FB3021"
    );
    let plan = scene
        .plan(json!({"select": "kind == 'iam-role-sessions'", "exclude": ["firebreak-response"]}))
        .await;
    assert!(plan.items.iter().all(|i| i.name != "firebreak-response"));
    // With a user's key of our own.
    let scene = Scene::new();
    let mine = scene.keys_of("ci-build")[0].clone();
    scene.meddle(|w| {
        w.operator.key = mine;
        let me = w.members.get_mut("user/ci-build").expect("there");
        me.inline
            .insert("all".into(), crate::adapter::sim::estate::ALLOW_ALL.into());
    });
    assert_eq!(
        scene.refused(json!({"users": ["ci-build"]})).await,
        "FB3021"
    );
}

/// A path whose calls are made with somebody's key.
fn path(scene: &Scene, arn: &str, change: impl FnOnce(&mut EstateWorld)) -> BreakGlassPath {
    let mut world = scene.sim.world();
    change(&mut world);
    let clock = scene.cx().ports.clock;
    let cloud: Arc<dyn Cloud> = SimEstate::in_memory(world, clock);
    BreakGlassPath {
        profile: "glass".into(),
        arn: arn.into(),
        cloud,
    }
}

#[tokio::test]
async fn the_emergency_access_is_tried_and_never_rotated() {
    let mut scene = Scene::new();
    let arn = format!(
        "arn:aws:iam::{}:user/emergency/break-glass",
        crate::adapter::sim::estate::ACCOUNT
    );
    let glass = scene.keys_of("break-glass")[0].clone();
    scene.break_glass = vec![path(&scene, &arn, |w| w.operator.key = glass.clone())];
    let plan = scene
        .plan(json!({"users": ["break-glass", "ci-build"]}))
        .await;
    assert_eq!(one(&plan).name, "ci-build");
    assert_eq!(plan.excluded[0].id, glass);
    assert_eq!(plan.break_glass[0].arn, arn);
    // One that answers as somebody else, or not at all, is none.
    scene.break_glass = vec![path(&scene, &arn, |_| {})];
    scene.attempt = 2;
    assert_eq!(
        scene.refused(json!({"users": ["ci-build"]})).await,
        "FB3022"
    );
}

#[tokio::test]
async fn one_person_alone_goes_on_without_emergency_access_and_is_told_and_a_team_does_not() {
    let scene = Scene::new();
    let plan = scene.plan(json!({"users": ["ci-build"]})).await;
    assert!(
        plan.warnings
            .iter()
            .any(|w| w.contains("no emergency access")),
        "{:?}",
        plan.warnings
    );
    assert_eq!(
        Scene::new()
            .team()
            .refused(json!({"users": ["ci-build"]}))
            .await,
        "FB3022"
    );
}

#[tokio::test]
async fn deleting_waits_for_a_second_person() {
    let scene = Scene::new();
    assert_eq!(
        scene
            .refused(json!({"users": ["ci-build"], "delete": true}))
            .await,
        "FB3033"
    );
    assert_eq!(
        scene
            .refused(json!({"users": ["ci-build"], "free_slot": ["AKIAX"]}))
            .await,
        "FB3033"
    );
}

#[tokio::test]
async fn two_keys_in_use_need_a_person_and_an_emergency_takes_the_compromised_one() {
    let scene = Scene::new();
    let select = json!({"keys": [scene.keys_of("legacy-batch")[0]]});
    let plan = scene.plan(select.clone()).await;
    assert_eq!(one(&plan).needs_human, Some(Reason::TwoKeysUsed));
    let scene = Scene::new();
    let mut args = select;
    args["emergency"] = json!(true);
    let plan = scene.plan(args).await;
    let what = key(one(&plan));
    assert_eq!(what.victim.as_ref(), Some(&what.old));
}

#[tokio::test]
async fn a_canary_is_neither_read_nor_rotated() {
    let scene = Scene::new();
    let canary = scene.keys_of("ci-deploy")[0].clone();
    let plan = scene
        .plan(json!({"users": ["ci-build", "ci-deploy"], "canaries": [canary, "ci/deploy/key"]}))
        .await;
    assert_eq!(one(&plan).name, "ci-build");
    assert!(plan.excluded[0].why.contains("canary"));
    let read = scene.sim.see(|w| {
        let mut reads = w
            .log
            .iter()
            .filter(|l| l.action == "secretsmanager:GetSecretValue");
        reads.any(|l| l.on.contains("ci/deploy/key"))
    });
    assert!(!read, "the canary was read");
}

#[tokio::test]
async fn a_secret_that_somebody_else_writes_is_recognised_and_not_begun() {
    let scene = Scene::new();
    let plan = scene
        .plan(
            json!({"secrets": ["rds!cluster-reports", "shop/mail/smtp"], "admin": "shop/db/admin"}),
        )
        .await;
    assert_eq!(plan.items.len(), 2);
    assert!(
        plan.items
            .iter()
            .all(|i| i.needs_human == Some(Reason::ForeignOwner))
    );
    let scene = Scene::new();
    scene.meddle(|w| {
        let secret = w
            .kube_secrets
            .get_mut("shop/payment-api-token")
            .expect("there");
        secret.written_by = Some("ExternalSecret/payments".into());
    });
    let plan = scene.plan(json!({"users": ["shop-payments"]})).await;
    assert_eq!(one(&plan).needs_human, Some(Reason::ForeignOwner));
}

#[tokio::test]
async fn short_waits_and_a_wrong_clock_are_refused() {
    let mut scene = Scene::new();
    scene.loopback = false;
    assert_eq!(
        scene
            .refused(json!({"users": ["ci-build"], "waits": {"prove_times": 1}}))
            .await,
        "FB3035"
    );
    assert_eq!(
        scene
            .refused(json!({"users": ["ci-build"], "waits": {"nap": 1}}))
            .await,
        "FB3035"
    );
    scene.meddle(|w| w.time.ahead_ms = 600_000);
    assert_eq!(
        scene.refused(json!({"users": ["ci-build"]})).await,
        "FB3027"
    );
}

#[tokio::test]
async fn a_policy_that_does_not_fit_beside_the_others_needs_a_person() {
    let scene = Scene::new();
    scene.meddle(|w| {
        let user = w.members.get_mut("user/ci-build").expect("there");
        let long = format!(r#"{{"Statement":[],"Id":"{}"}}"#, "x".repeat(1_990));
        user.inline.insert("long".into(), long);
    });
    let plan = scene
        .plan(json!({"users": ["ci-build"], "emergency": true}))
        .await;
    assert_eq!(one(&plan).needs_human, Some(Reason::NotRevocable));
}

#[tokio::test]
async fn the_hand_over_of_a_containment_becomes_key_role_chain_and_password() {
    let scene = Scene::new();
    handed_over(&scene);
    let map = format!(
        "firebreak: rotation-map/v1\nentries:\n- id: sessions\n  kind: pg-password\n  principal: web_sessions\n  secret: {{id: shop/db/web-sessions}}\n  servers:\n    primary: {{host: {DB_PRIMARY}, port: 5432, database: shop}}\n    replicas: [{{host: db-replica.shop.example, port: 5432, database: shop}}]\n  admin: shop/db/admin\n"
    );
    let sha = crate::rotation::map::digest(map.as_bytes());
    scene.pin(&format!("{sha}.yaml"), map.as_bytes());
    let plan = scene
        .plan(json!({"handover": true, "emergency": true, "map_sha256": sha}))
        .await;
    let kinds: Vec<CredentialKind> = plan.items.iter().map(|i| i.kind).collect();
    assert!(
        kinds.contains(&CredentialKind::IamAccessKey)
            && kinds.contains(&CredentialKind::PgPassword),
        "{kinds:?}"
    );
    let role = |name: &str| {
        let item = plan.items.iter().find(|i| i.name == name).expect(name);
        match &item.what {
            What::RoleSessions(role) => role,
            other => panic!("{other:?}"),
        }
    };
    let web = role("shop-web");
    assert_eq!(web.moves.len(), 1, "{web:?}");
    let after = web.trust_after.as_deref().expect("changed");
    assert!(
        after.contains(&format!("shop:{}", web.moves[0].to)) && !after.contains("shop:web\""),
        "{after}"
    );
    // The intruder went on to this one from a session of the other.
    assert!(role("shop-reports").trust_after.is_none());
    let password = plan
        .items
        .iter()
        .find(|i| i.kind == CredentialKind::PgPassword)
        .expect("password");
    assert_eq!(password.needs_human, None, "{:?}", plan.warnings);
    let What::DatabasePassword(p) = &password.what else {
        panic!()
    };
    assert_eq!(
        (
            p.role.as_str(),
            p.replicas.len(),
            p.system_identifier.is_empty()
        ),
        ("web_sessions", 1, false)
    );
    assert_eq!(password.sinks[0].keys["password"], "DB_PASSWORD");
    assert_eq!(plan.map_sha256.as_deref(), Some(sha.as_str()));
    assert!(
        plan.items.iter().all(|i| i.needs_human.is_none()),
        "{:#?}",
        plan.warnings
    );
}

#[tokio::test]
async fn a_preview_shows_the_plan_and_leaves_nothing_behind() {
    let scene = Scene::new();
    let mut cx: Context = scene.cx();
    cx.custody = None;
    let preview = PlanRotation
        .preview(&cx, &json!({"users": ["ci-build"], "t0": ""}))
        .await
        .expect("seen");
    assert!(preview.changes[0].contains("ci-build"), "{preview:?}");
    assert_eq!(
        scene.count(kind::ROTATION_PLANNED) + scene.exhibits().len(),
        0
    );
    let blocked = PlanRotation
        .preview(&cx, &json!({"roles": ["firebreak-response"]}))
        .await
        .expect("seen");
    assert!(
        blocked.blocked[0].starts_with("FB3021"),
        "{:?}",
        blocked.blocked
    );
    // A playbook is planned before its containment has handed anything over.
    let early = PlanRotation
        .preview(&cx, &json!({"handover": true}))
        .await
        .expect("seen");
    assert!(early.blocked.is_empty() && !early.warnings.is_empty());
}

#[tokio::test]
async fn a_drafted_map_names_what_was_seen_holds_no_value_and_is_read_once_it_is_filled_in() {
    let scene = Scene::new();
    let drafted = draft_map(&scene.cx(), &[].into(), &[].into())
        .await
        .expect("drafted");
    for wanted in [
        "shop/payments/key",
        "payment-api-token",
        "AWS_SECRET_ACCESS_KEY",
        "db.shop.example",
        "DB_PASSWORD",
    ] {
        assert!(drafted.yaml.contains(wanted), "{wanted}: {}", drafted.yaml);
    }
    let secrets: Vec<String> = scene
        .sim
        .see(|w| w.keys.values().map(|k| k.secret.0.clone()).collect());
    assert!(!secrets.iter().any(|s| drafted.yaml.contains(s)));
    assert!(RotationMap::read(drafted.yaml.as_bytes()).is_err());
    let filled = drafted.yaml.replace("<fill in>", "x.example");
    assert_eq!(
        RotationMap::read(filled.as_bytes())
            .expect("a map")
            .entries
            .len(),
        drafted.entries
    );
    assert_eq!(scene.changes(), 0);
}

#[tokio::test]
async fn keys_that_could_not_be_listed_are_unknown_and_never_overlooked() {
    let scene = Scene::new();
    scene.meddle(|w| _ = w.missing.insert("iam:ListAccessKeys".into()));
    let select = json!({"select": "kind == 'iam-access-key'"});
    assert_eq!(scene.refused(select).await, "FB3031");
    assert_eq!(
        scene.refused(json!({"users": ["ci-build"]})).await,
        "FB3031"
    );
    let plan = scene
        .plan(json!({"users": ["ci-build"], "on_unknown": "include", "allow_empty": true}))
        .await;
    assert!(
        plan.items.is_empty() && plan.residual[0].contains("ci-build"),
        "{:?}",
        plan.residual
    );
}

#[tokio::test]
async fn a_user_that_is_marked_as_emergency_access_is_left_alone_whatever_the_selection_reads() {
    let scene = Scene::new();
    let plan = scene
        .plan(json!({"select": "kind == 'iam-access-key' && name != 'legacy-batch'"}))
        .await;
    assert!(plan.items.iter().all(|i| i.name != "break-glass"));
    assert!(
        plan.excluded
            .iter()
            .any(|e| e.why.contains("emergency access")),
        "{:?}",
        plan.excluded
    );
}

#[tokio::test]
async fn what_the_hand_over_holds_and_nobody_here_can_rotate_is_said() {
    let scene = Scene::new();
    handed_over(&scene);
    let key = scene.keys_of("shop-payments")[0].clone();
    scene.meddle(|w| {
        // The key is of another account, and one Secret may not be read.
        w.keys.remove(&key);
        w.kube_secrets.remove("shop/web-session-key");
    });
    let plan = scene.plan(json!({"handover": true})).await;
    let said = plan.residual.join("\n");
    assert!(
        said.contains(&format!("{key} belongs to no user")),
        "{said}"
    );
    assert!(said.contains("shop/web-session-key was not read"), "{said}");
    assert!(said.contains("service account shop/web"), "{said}");
}

#[tokio::test]
async fn the_trail_tells_what_a_key_touched_and_which_roles_it_reached() {
    let scene = Scene::new();
    let session = scene.sim.see(|w| {
        let made = w
            .trail
            .events
            .iter()
            .filter(|e| e.name == "AssumeRoleWithWebIdentity");
        made.filter_map(|e| e.made.clone())
            .next()
            .expect("a session")
    });
    let select = format!("kind == 'iam-role-sessions' && name in chain('{session}')");
    let plan = scene.plan(json!({"select": select})).await;
    assert_eq!(one(&plan).name, "shop-reports");
    // Without the trail it is not known, which is not the same as none.
    scene.meddle(|w| _ = w.missing.insert("cloudtrail:LookupEvents".into()));
    let mut again = scene;
    again.attempt = 2;
    assert_eq!(again.refused(json!({"select": select})).await, "FB3031");
}

#[tokio::test]
async fn a_role_that_may_not_be_looked_at_needs_a_person_and_keeps_no_other_from_being_planned() {
    let scene = Scene::new();
    let roles = json!({"roles": ["shop-web", "shop-api"], "keys": [scene.keys_of("ci-build")[0]], "emergency": true});
    scene.sim.fault(EstateFault {
        on: Some("role/shop-web".into()),
        ..EstateFault::before("principal", 0, crate::port::Cause::Refused)
    });
    let plan = scene.plan(roles).await;
    let held: Vec<Option<Reason>> = plan.items.iter().map(|i| i.needs_human).collect();
    assert_eq!(
        held.iter()
            .filter(|r| **r == Some(Reason::Permission))
            .count(),
        1,
        "{held:?}"
    );
    // The role that was reached from one of them is the fourth.
    assert_eq!(plan.items.len(), 4);
}
