//! The intruder is awake while his key is taken away.

use super::plans::{CHAINED, Emergency, Key, KeyWithoutEscrow, intruders, key_of, one};
use super::truths::all_true;
use super::world::{Kill, World};
use crate::adapter::sim::estate::{EstateFault, Hand};
use crate::incident::kind;
use crate::incident::rotate::RotateObserved;
use crate::rotation::machine::access_key::FOREIGN_KEY;

/// Awake, with a window of so many calls in which the disabled key still works.
async fn awake(keys: u32, window: u32) -> World {
    let world = one(Key, Emergency).await;
    world.meddle(|w| {
        w.attacker.rounds = 10_000;
        w.attacker.keys_left = keys;
        // Nothing but the key: what else he has is other items' to take away.
        let key = key_of(w, "shop-payments");
        w.attacker.holds = vec![key];
        w.attacker.tokens.clear();
        w.attacker.logins.clear();
    });
    world
        .sim
        .fault(EstateFault::late("set_access_key", 1, window));
    world
}

fn flagged(world: &World) -> Vec<String> {
    world
        .entries()
        .iter()
        .filter_map(|e| e.body_as::<RotateObserved>(kind::ROTATE_OBSERVED))
        .filter(|o| o.step == FOREIGN_KEY)
        .map(|o| o.target)
        .collect()
}

/// Nothing that he holds opens anything of what the plan takes away.
fn shut_out(world: &World) {
    world.see(|w| {
        let now = super::plans::now();
        for id in &w.attacker.holds {
            let Ok(signed) = w.by_id(id, now) else {
                continue;
            };
            let planned = ["user/shop-payments".to_owned(), format!("role/{CHAINED}")];
            if planned.contains(&signed.member) {
                let allowed = w.authorize(&signed, "s3:GetObject", "*", now);
                assert!(allowed.is_err(), "{id} of {}", signed.member);
            }
        }
    });
}

#[tokio::test]
async fn a_key_that_he_makes_inside_the_window_ends_inactive_and_flagged() {
    for window in [1, 4, 8, 15] {
        let world = awake(1, window).await;
        let ended = world.apply().await;
        let his = world.see(intruders);
        if his.is_empty() {
            assert!(ended.is_ok(), "{ended:?}\n{:#?}", world.told());
            continue;
        }
        assert_eq!(flagged(&world), his, "{:#?}", world.told());
        world.see(|w| {
            let active = w.active_of(Hand::Attacker);
            let deeds: Vec<_> = w
                .attacker
                .deeds
                .iter()
                .map(|d| (d.seq, &d.action, &d.answer))
                .collect();
            assert!(
                active.is_empty(),
                "{window} {active:?} {:#?} {deeds:?} {:?}",
                world.told(),
                w.effects()
                    .iter()
                    .map(|l| (l.seq, &l.call, &l.on))
                    .collect::<Vec<_>>()
            );
            let old = key_of(&world.before, "shop-payments");
            assert!(!w.keys[&old].active);
        });
        shut_out(&world);
        // His key holds the slot: only a person may delete it.
        assert_eq!(
            world.state("item-0001"),
            ("needs-human".into(), "two_keys_used".into())
        );
        assert_eq!(world.see(|w| w.active_of(Hand::Ours).len()), 0);
    }
}

#[tokio::test]
async fn denies_that_he_takes_off_are_put_again_and_roles_that_he_assumes_are_revoked() {
    for window in [1, 4, 8, 15, 25] {
        let world = awake(0, window).await;
        let ended = world.apply().await;
        assert!(ended.is_ok(), "{window}: {ended:?}\n{:#?}", world.told());
        all_true(&world).await;
        shut_out(&world);
    }
}

#[tokio::test]
async fn a_role_that_nobody_planned_for_is_found_in_the_trail_and_revoked() {
    let mut world = awake(0, 6).await;
    if let crate::rotation::plan::What::AccessKey(key) = &mut world.plan.items[0].what {
        key.chain.clear();
    }
    let ended = world.apply().await;
    assert!(ended.is_ok(), "{ended:?}\n{:#?}", world.told());
    assert!(world.see(|w| w.attacker.deeds.iter().any(|d| d.on.ends_with(CHAINED))));
    shut_out(&world);
}

#[tokio::test]
async fn with_the_intruder_awake_a_death_at_any_entry_leaves_him_shut_out() {
    let whole = awake(0, 5).await;
    whole.apply().await.expect("done");
    for n in 1..=whole.entries().len() {
        for kill in [Kill::Before(n), Kill::After(n)] {
            let world = awake(0, 5).await;
            world.kill(kill);
            let _ = world.apply().await;
            world.revive();
            let ended = world.apply().await;
            assert!(ended.is_ok(), "{kill:?}: {ended:?}\n{:#?}", world.told());
            shut_out(&world);
            world.see(|w| assert_eq!(w.orphans(), Vec::<String>::new()));
        }
    }
}

#[tokio::test]
async fn a_key_that_appears_while_ours_is_made_is_never_adopted_and_never_deleted() {
    for kind in [Key, KeyWithoutEscrow] {
        let world = one(kind, Emergency).await;
        world.meddle(|w| {
            let old = key_of(w, "shop-payments");
            w.keys.get_mut(&old).expect("there").active = false;
        });
        let then = crate::adapter::sim::estate::Mishap::ForeignKey {
            user: "shop-payments".into(),
        };
        world
            .sim
            .fault(EstateFault::of("create_access_key", 1, then));
        let fault = EstateFault::before("create_access_key", 1, crate::port::Cause::LostReply);
        world.sim.fault(fault);
        world.apply().await.expect_err("a person is needed");
        assert_eq!(
            world.state("item-0001"),
            ("needs-human".into(), "foreign_key".into())
        );
        let his = world.see(intruders);
        assert_eq!(flagged(&world), his);
        assert_eq!(his.len(), 1);
        world.see(|w| assert!(!w.keys[&his[0]].active));
    }
}

#[tokio::test]
async fn who_comes_back_by_another_way_keeps_the_item_open_and_the_key_dead() {
    let world = awake(0, 3).await;
    world.meddle(|w| {
        // He has a session of a role that may assume the chained one whenever he likes.
        let trust = crate::adapter::sim::estate::trust_account(&w.account);
        let chained = w
            .members
            .get_mut(&format!("role/{CHAINED}"))
            .expect("there");
        chained.trust = Some(trust);
        let other = w.open_session("role/shop-api", "x", super::plans::now(), 43_200, "");
        w.attacker.holds.push(other);
    });
    world.apply().await.expect_err("he is still in");
    assert_eq!(
        world.state("item-0001"),
        ("needs-human".into(), "attacker_active".into())
    );
    world.see(|w| assert!(!w.keys[&key_of(&world.before, "shop-payments")].active));
}

#[tokio::test]
async fn where_he_assumed_our_own_role_a_person_is_told_and_we_do_not_lock_ourselves_out() {
    let world = awake(0, 6).await;
    world.meddle(|w| {
        let trust = crate::adapter::sim::estate::trust_account(&w.account);
        let ours = w.members.get_mut("role/firebreak-response").expect("ours");
        ours.trust = Some(trust);
    });
    world.apply().await.expect_err("a person is needed");
    assert_eq!(
        world.state("item-0001"),
        ("needs-human".into(), "self_target".into()),
        "{:#?}",
        world.told()
    );
    world.see(|w| {
        let ours = &w.members["role/firebreak-response"];
        assert_eq!(
            ours.inline,
            world.before.members["role/firebreak-response"].inline
        );
    });
}
