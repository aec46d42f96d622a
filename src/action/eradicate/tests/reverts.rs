//! A consumer that fails: a graceful item takes itself back, an emergency waits for a person.

use super::plans::{
    Emergency, Graceful, Key, KeyWithoutEscrow, Kind, Password, Role, WEB, key_of, many, one,
};
use super::truths::{keeps_quiet, rest_unchanged};
use super::world::{Kill, World};
use crate::adapter::sim::estate::{EstateFault, Hand};
use crate::port::Cause;

/// Pods that start anew get no session of their role, so that they never become ready; those that run are not touched.
fn break_new_pods(world: &World) {
    world.meddle(|w| {
        let account = w.accounts.get_mut("shop/web").expect("there");
        account.annotations.clear();
    });
}

/// The consumer of a key does not start anew; that of a password reads it from another place than the map says.
async fn failing(kind: Kind) -> World {
    let mut world = one(kind, Graceful).await;
    match kind {
        Password => misplace(&mut world, 0),
        _ => break_new_pods(&world),
    }
    world
}

fn misplace(world: &mut World, item: usize) {
    let keys = &mut world.plan.items[item].sinks[0].keys;
    keys.insert("password".into(), "DB_PASS".into());
}

fn taken_back(world: &World, kind: Kind) {
    world.see(|w| {
        let d = w.deployments.iter().find(|d| d.name == "web").expect("web");
        assert_eq!(d.restarted_by, None, "the annotation is undone");
        let ready = d.pods.iter().filter(|p| p.ready).count();
        assert_eq!(
            ready,
            2,
            "{:?}",
            d.pods.iter().map(|p| &p.why).collect::<Vec<_>>()
        );
        let before = &world.before;
        for name in ["shop/payment-api-token", "shop/web-session-key"] {
            for (key, value) in &before.kube_secrets[name].data {
                let now = &w.kube_secrets[name].data[key];
                assert_eq!(now, value, "{name} {key}");
            }
        }
        if kind != Password {
            let alone = world.plan.items.len() == 1;
            let old = key_of(before, "shop-payments");
            assert!(w.keys[&old].active, "the old key lives");
            assert_eq!(w.active_of(Hand::Ours), Vec::<String>::new());
            // With one role the set of a new password is an outage for who connects anew.
            assert!(!alone || w.outages(WEB).is_empty());
        }
        let secret = match kind {
            Password => "shop/db/web-sessions",
            _ => "shop/payments/key",
        };
        assert_eq!(w.labelled(secret), (1, 0));
        assert_eq!(
            w.secrets[secret].current(),
            before.secrets[secret].current()
        );
    });
    keeps_quiet(world);
    rest_unchanged(world);
}

#[tokio::test]
async fn when_its_consumer_fails_a_graceful_item_takes_itself_back_and_the_old_one_lives() {
    for kind in [Key, KeyWithoutEscrow, Password] {
        let world = failing(kind).await;
        world.apply().await.expect_err("it is no success");
        let id = world.plan.items[0].id.clone();
        let ended = world.ended(&id);
        assert_eq!(
            ended.state,
            "undone",
            "{}\n{:#?}",
            ended.summary,
            world.told()
        );
        assert_eq!(ended.reason.as_deref(), Some("consumer_failed"));
        taken_back(&world, kind);
        let mutations = world.mutations().len();
        world.apply().await.expect_err("still no success");
        assert_eq!(
            world.mutations().len(),
            mutations,
            "a second resume does nothing"
        );
    }
}

#[tokio::test]
async fn taking_back_survives_a_death_at_every_entry() {
    for kind in [Key, KeyWithoutEscrow, Password] {
        let whole = failing(kind).await;
        let _ = whole.apply().await;
        for n in 1..=whole.entries().len() {
            for kill in [Kill::Before(n), Kill::After(n)] {
                let world = failing(kind).await;
                world.kill(kill);
                let _ = world.apply().await;
                world.revive();
                let _ = world.apply().await;
                let id = world.plan.items[0].id.clone();
                let ended = world.ended(&id);
                assert_eq!(
                    ended.state,
                    "undone",
                    "{kind:?} {kill:?}\n{:#?}",
                    world.told()
                );
                taken_back(&world, kind);
            }
        }
    }
}

#[tokio::test]
async fn an_undo_that_fails_is_stuck_and_says_what_is_left_until_a_resume_finishes_it() {
    for (kind, call, nth) in [
        (Key, "write_secret", 2),
        (Key, "restart", 2),
        (Key, "move_label", 2),
        (Password, "write_secret", 2),
        (Password, "set_verifier", 2),
    ] {
        let world = failing(kind).await;
        world
            .sim
            .fault(EstateFault::before(call, nth, Cause::Refused));
        world.apply().await.expect_err("stuck");
        let id = world.plan.items[0].id.clone();
        let ended = world.ended(&id);
        assert_eq!(
            ended.state,
            "stuck",
            "{call}: {}\n{:#?}",
            ended.summary,
            world.told()
        );
        assert!(ended.hint.is_some(), "it says what to do");
        let _ = world.apply().await;
        assert_eq!(
            world.ended(&id).state,
            "undone",
            "{call}\n{:#?}",
            world.told()
        );
        taken_back(&world, kind);
    }
}

#[tokio::test]
async fn a_sink_that_somebody_else_changed_is_not_overwritten() {
    let world = one(Key, Graceful).await;
    world.meddle(|w| {
        let secret = w
            .kube_secrets
            .get_mut("shop/payment-api-token")
            .expect("there");
        secret.set("AWS_ACCESS_KEY_ID", "AKIASOMEBODYELSE", "somebody");
    });
    world.apply().await.expect_err("taken back");
    assert_eq!(world.ended("item-0001").state, "undone");
    world.see(|w| {
        let secret = &w.kube_secrets["shop/payment-api-token"];
        assert_eq!(secret.data["AWS_ACCESS_KEY_ID"].0, "AKIASOMEBODYELSE");
        assert!(w.keys[&key_of(&world.before, "shop-payments")].active);
    });
}

#[tokio::test]
async fn in_an_emergency_a_failed_consumer_waits_for_a_person_and_nothing_goes_back() {
    for kind in [Key, Password, Role] {
        let world = one(kind, Emergency).await;
        if kind == Role {
            world.meddle(|w| w.missing.extend(["k8s:PatchWorkload".into()]));
        } else {
            break_new_pods(&world);
        }
        world.apply().await.expect_err("parked");
        let id = world.plan.items[0].id.clone();
        assert_eq!(
            world.state(&id),
            ("needs-human".into(), "consumer_failed".into()),
            "{kind:?} {:#?}",
            world.told()
        );
        world.meddle(|w| {
            w.missing.clear();
            let account = world.before.accounts["shop/web"].clone();
            w.accounts.insert("shop/web".into(), account);
        });
        let ended = world.apply().await;
        assert!(ended.is_ok(), "{kind:?} {ended:?}\n{:#?}", world.told());
        super::truths::all_true(&world).await;
    }
}

#[tokio::test]
async fn when_one_of_two_credentials_of_a_workload_fails_both_go_back_and_it_restarts_once_for_that()
 {
    let mut world = many(&[(Key, Graceful), (Password, Graceful)]).await;
    misplace(&mut world, 1);
    world.apply().await.expect_err("no success");
    for item in ["item-0001", "item-0003"] {
        assert_eq!(world.ended(item).state, "undone", "{:#?}", world.told());
    }
    taken_back(&world, Key);
    let restarts = world.see(|w| w.count("restart", WEB));
    assert_eq!(restarts, 2, "there and back");
}
