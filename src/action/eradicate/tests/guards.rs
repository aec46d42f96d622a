//! What a rotation does not begin: stale, expired and empty plans, leases of others, items that a person must decide.

use std::time::Duration;

use serde_json::json;

use super::plans::{
    Emergency, Graceful, Key, KeyWithVictim, Password, Role, many, now, one, plan, shop,
};
use super::truths::all_true;
use super::world::World;
use crate::action::Action;
use crate::action::eradicate::RotateCredentials;
use crate::port::{Claim, LeaseTerms, Leases};
use crate::rotation::plan::What;
use crate::rotation::words::Reason;

#[tokio::test]
async fn a_plan_a_day_old_begins_nothing_and_what_it_began_goes_on() {
    let day = Duration::from_secs(25 * 3_600);
    let world = one(Key, Graceful).await;
    world.clock.pass(day);
    let refused = world.apply().await.expect_err("expired");
    assert_eq!(refused.code, "FB3002");
    assert_eq!(world.mutations(), []);

    let world = one(Key, Graceful).await;
    super::plans::without_roles(&world);
    world.kill(super::world::Kill::After(9));
    world.apply().await.expect_err("killed");
    world.revive();
    world.clock.pass(day);
    // Our own session has to be a fresh one by then.
    world.meddle(|w| {
        let at = now() + chrono::Duration::hours(25);
        w.operator.key = w.open_session("role/firebreak-response", "operator", at, 43_200, "");
    });
    let ended = world.apply().await;
    assert!(ended.is_ok(), "{ended:?}\n{:#?}", world.told());
    all_true(&world).await;
}

#[tokio::test]
async fn a_plan_without_items_is_refused() {
    let estate = shop();
    let empty = plan(&estate, &[]).await;
    let world = World::new(estate, empty, now());
    let refused = world.apply().await.expect_err("nothing to do");
    assert_eq!(refused.code, "FB3001");
    let args = json!({ "plan_sha256": world.plan.digest().expect("digest") });
    let preview = RotateCredentials.preview(&world.context(), &args).await;
    assert!(!preview.expect("previewed").blocked.is_empty());
}

#[tokio::test]
async fn a_graceful_item_that_changed_since_the_plan_is_not_begun() {
    for kind in [Key, Password, Role] {
        let world = one(kind, Graceful).await;
        world.meddle(|w| {
            let user = "shop-payments";
            w.add_key(user, now(), crate::adapter::sim::estate::Hand::Shop);
            let role = w.members.get_mut("role/shop-web").expect("there");
            role.inline.insert("more".into(), "{}".into());
            let secret = w.secrets.get_mut("shop/db/web-sessions").expect("there");
            secret.rotation_function = Some("arn:aws:lambda:x".into());
        });
        world.apply().await.expect_err("stale");
        let id = world.plan.items[0].id.clone();
        assert_eq!(world.state(&id), ("needs-human".into(), "stale".into()));
        assert_eq!(world.mutations(), []);
    }
}

#[tokio::test]
async fn an_emergency_writes_a_change_down_and_kills_all_the_same() {
    let world = one(Role, Emergency).await;
    world.meddle(|w| {
        let role = w.members.get_mut("role/shop-web").expect("there");
        role.tags.insert("x".into(), "y".into());
        role.inline.insert(
            "more".into(),
            r#"{"Version":"2012-10-17","Statement":[]}"#.into(),
        );
    });
    let ended = world.apply().await;
    assert!(ended.is_ok(), "{ended:?}\n{:#?}", world.told());
    let drifted = world.entries();
    let drifted = drifted.iter().find(|e| e.body["step"] == "Drifted");
    let facts = drifted.expect("written down").body["facts"].to_string();
    assert!(facts.contains("inline"), "{facts}");
}

#[tokio::test]
async fn while_another_run_holds_the_account_nothing_is_changed() {
    let world = one(Key, Graceful).await;
    let terms = LeaseTerms {
        what: format!("account/{}", world.plan.account),
        owner: "somebody".into(),
        run: "run-cccccccccccccccc".into(),
        epoch: 1,
        expires: now() + chrono::Duration::seconds(60),
    };
    let leases: &dyn Leases = world.sim.as_ref();
    let held = leases.claim(&terms, now()).await.expect("claimed");
    assert!(matches!(held, Claim::Ours(_)));
    let refused = world.apply().await.expect_err("leased");
    assert_eq!(refused.code, "FB3004");
    assert_eq!(world.mutations(), []);
    world.clock.pass(Duration::from_secs(61));
    world.apply().await.expect("it ran out");
    all_true(&world).await;
}

#[tokio::test]
async fn of_two_runners_one_works() {
    let world = one(Key, Graceful).await;
    let other = world.another_run();
    let (first, second) = tokio::join!(world.apply(), other.apply());
    assert!(first.is_ok(), "{first:?}");
    let code = second.expect_err("the other has it").code;
    assert_eq!(code, "FB3004");
    assert_eq!(other.entries().len(), 0);
    all_true(&world).await;
}

#[tokio::test]
async fn an_item_that_the_plan_leaves_to_a_person_is_shown_and_not_begun() {
    let mut world = many(&[(Key, Graceful), (Password, Graceful)]).await;
    world.plan.items[0].needs_human = Some(Reason::TwoKeysUsed);
    world.apply().await.expect_err("one is open");
    assert_eq!(
        world.state("item-0001"),
        ("needs-human".into(), "two_keys_used".into())
    );
    assert_eq!(
        world.ended("item-0003").state,
        "done",
        "{:#?}",
        world.told()
    );
    assert_eq!(
        world.see(|w| w.count("create_access_key", "shop-payments")),
        0
    );
}

#[tokio::test]
async fn with_both_slots_taken_and_no_victim_named_no_key_is_touched() {
    let mut world = one(KeyWithVictim, Graceful).await;
    if let What::AccessKey(key) = &mut world.plan.items[0].what {
        key.victim = None;
    }
    world.apply().await.expect_err("no slot");
    assert_eq!(
        world.state("item-0001"),
        ("needs-human".into(), "two_keys_used".into())
    );
    untouched(&world);
}

#[tokio::test]
async fn without_deletions_no_slot_is_freed_and_no_key_goes() {
    let mut world = one(KeyWithVictim, Graceful).await;
    world.plan.deletions = false;
    world.apply().await.expect_err("held");
    assert_eq!(
        world.state("item-0001"),
        ("needs-human".into(), "deletion_held".into())
    );
    untouched(&world);

    let mut world = one(Key, Graceful).await;
    world.plan.deletions = false;
    world.apply().await.expect("done");
    let old = super::plans::key_of(&world.before, "shop-payments");
    world.see(|w| assert!(!w.keys[&old].active, "Inactive, and still there"));
}

/// Keys are as they were, but for who used them when.
fn untouched(world: &World) {
    let keys = |w: &crate::adapter::sim::estate::EstateWorld| -> Vec<(String, bool)> {
        let keys = w.keys.iter();
        keys.map(|(id, k)| (id.clone(), k.active)).collect()
    };
    assert_eq!(world.see(keys), keys(&world.before));
}

#[tokio::test]
async fn what_we_act_as_and_what_must_keep_working_is_never_denied_whatever_the_plan_says() {
    for (role, reason) in [
        ("firebreak-response", "self_target"),
        ("shop-reports", "break_glass"),
    ] {
        let mut world = one(Key, Emergency).await;
        if let What::AccessKey(key) = &mut world.plan.items[0].what {
            key.chain = vec![role.into()];
        }
        world.plan.excluded = vec![crate::rotation::plan::Excluded {
            id: "arn:aws:iam::111122223333:role/shop-reports".into(),
            why: "it pages people".into(),
        }];
        world.apply().await.expect_err("refused");
        assert_eq!(
            world.state("item-0001"),
            ("needs-human".into(), reason.into())
        );
        let member = format!("role/{role}");
        world.see(|w| assert_eq!(w.members[&member], world.before.members[&member]));
    }
}
