//! What people complain about in other tools (§15), each with a test named after it.

use super::plans::{
    Emergency, Graceful, Key, KeyWithVictim, KeyWithoutEscrow, Password, WEB, key_of, one,
};
use super::truths::all_true;
use super::world::Kill;
use crate::adapter::sim::estate::{EstateFault, Hand};
use crate::incident::kind;
use crate::incident::rotate::{RotateIntent, RotateObserved};
use crate::port::Cause;

#[tokio::test]
async fn a_crash_between_making_a_key_and_keeping_it_never_costs_the_live_key() {
    let world = one(Key, Graceful).await;
    // The key is made, and its outcome is durable; its secret dies with the process.
    world.kill(Kill::After(2));
    world.apply().await.expect_err("killed");
    world.revive();
    let old = key_of(&world.before, "shop-payments");
    world.kill(Kill::After(9));
    world.apply().await.expect_err("killed again");
    world.see(|w| assert!(w.keys[&old].active, "the live key is not what is deleted"));
    world.revive();
    world.apply().await.expect("done");
    all_true(&world).await;
}

#[tokio::test]
async fn a_new_key_counts_as_working_only_after_five_answers_in_a_row_at_two_endpoints() {
    let world = one(Key, Graceful).await;
    world
        .sim
        .fault(EstateFault::hidden("create_access_key", 1, 12));
    world.apply().await.expect("done");
    let entries = world.entries();
    let verified = entries
        .iter()
        .filter_map(|e| e.body_as::<RotateObserved>(kind::ROTATE_OBSERVED))
        .find(|o| o.step == "Verified")
        .expect("verified");
    assert_eq!(verified.facts["times"], "5");
    assert_eq!(verified.facts["endpoints"], "2");
    assert_ne!(verified.facts["failures"], "0", "it did not work at once");
    all_true(&world).await;
}

#[tokio::test]
async fn the_old_key_is_deleted_with_the_operator_s_identity_and_not_with_the_new_key() {
    let world = one(Key, Graceful).await;
    world.apply().await.expect("done");
    let ours = world.before.operator.key.clone();
    world.see(|w| {
        let mut deletions = w
            .trail
            .events
            .iter()
            .filter(|e| e.name == "DeleteAccessKey");
        assert!(deletions.all(|e| e.key.as_deref() == Some(ours.as_str())));
    });
}

#[tokio::test]
async fn a_third_key_is_never_asked_for() {
    for (kind, mode) in [
        (KeyWithVictim, Graceful),
        (KeyWithVictim, Emergency),
        (Key, Graceful),
    ] {
        let world = one(kind, mode).await;
        world.apply().await.expect("done");
        world.see(|w| {
            let creations = w.log.iter().filter(|l| l.call == "create_access_key");
            let refused: Vec<_> = creations.filter(|l| l.answer != "ok").collect();
            assert!(refused.is_empty(), "{refused:?}");
        });
    }
}

#[tokio::test]
async fn resumes_do_not_mint_key_after_key() {
    let world = one(Key, Graceful).await;
    for n in [2, 8, 14] {
        world.kill(Kill::After(n));
        let _ = world.apply().await;
        world.revive();
    }
    world.apply().await.expect("done");
    all_true(&world).await;
}

#[tokio::test]
async fn a_password_is_in_escrow_before_the_server_is_told_of_it() {
    let world = one(Password, Graceful).await;
    world
        .sim
        .fault(EstateFault::before("vault_put", 1, Cause::Refused));
    world.apply().await.expect_err("no escrow");
    assert_eq!(world.see(|w| w.effects().len() - leases(w)), 0);
    world.apply().await.expect("done");
    let calls: Vec<String> = world.mutations().into_iter().map(|(c, _)| c).collect();
    let at = |call: &str| calls.iter().position(|c| c == call).expect("called");
    assert!(at("vault_put") < at("set_verifier"));
    all_true(&world).await;
}

fn leases(w: &crate::adapter::sim::estate::EstateWorld) -> usize {
    let effects = w.effects();
    effects
        .iter()
        .filter(|l| matches!(l.call.as_str(), "claim" | "release"))
        .count()
}

#[tokio::test]
async fn what_is_already_gone_is_a_success_and_jams_nothing() {
    for mode in [Graceful, Emergency] {
        let world = one(Key, mode).await;
        let old = key_of(&world.before, "shop-payments");
        let step = match mode {
            Graceful => "delete_access_key",
            Emergency => "set_access_key",
        };
        // Somebody deletes the old key right before we get to it, and the answer to us is lost as well.
        world
            .sim
            .fault(EstateFault::before(step, 1, Cause::LostReply));
        let gone = old.clone();
        if mode == Emergency {
            world.meddle(move |w| {
                w.keys.remove(&gone);
            });
        }
        let ended = world.apply().await;
        assert!(ended.is_ok(), "{mode:?} {ended:?}\n{:#?}", world.told());
        world.see(|w| assert!(!w.keys.contains_key(&old)));
    }
}

#[tokio::test]
async fn sessions_of_a_dead_key_are_denied_and_not_only_the_key() {
    let world = one(Key, Emergency).await;
    world.meddle(|w| {
        let key = key_of(w, "shop-payments");
        let session = w.open_session("user/shop-payments", "", super::plans::now(), 43_200, &key);
        w.attacker.holds.push(session);
    });
    world.apply().await.expect("done");
    all_true(&world).await;
}

#[tokio::test]
async fn pods_do_not_keep_the_old_secret_and_restart_once() {
    let world = one(Password, Graceful).await;
    world.apply().await.expect("done");
    assert_eq!(world.see(|w| w.count("restart", WEB)), 1);
    let old = world.before.kube_secrets["shop/web-session-key"].data["DB_PASSWORD"].clone();
    world.see(|w| {
        let web = w.deployments.iter().find(|d| d.name == "web").expect("web");
        for pod in &web.pods {
            assert_ne!(
                pod.read["web-session-key"]["DB_PASSWORD"], old,
                "{}",
                pod.name
            );
        }
    });
}

#[tokio::test]
async fn a_job_that_runs_with_the_old_key_keeps_it_until_nobody_uses_it() {
    let world = one(KeyWithVictim, Graceful).await;
    world.apply().await.expect("done");
    assert_eq!(
        world.see(|w| w.outages("job/ci-release")),
        Vec::<u64>::new()
    );
}

#[tokio::test]
async fn a_sink_that_cannot_be_written_leaves_no_orphan_and_no_split() {
    for kind in [Key, KeyWithoutEscrow] {
        let world = one(kind, Graceful).await;
        world
            .sim
            .fault(EstateFault::before("write_secret", 1, Cause::Conflict));
        world.apply().await.expect_err("taken back");
        assert_eq!(world.ended("item-0001").state, "undone");
        world.see(|w| {
            assert_eq!(w.active_of(Hand::Ours), Vec::<String>::new());
            let before = &world.before.kube_secrets["shop/payment-api-token"].data;
            assert_eq!(w.kube_secrets["shop/payment-api-token"].data, *before);
            assert_eq!(w.labelled("shop/payments/key"), (1, 0));
        });
    }
}

#[tokio::test]
async fn no_pending_label_is_left_behind() {
    for kind in [Key, Password] {
        let world = one(kind, Graceful).await;
        world.sim.fault(EstateFault::after("move_label", 2));
        world.apply().await.expect("done");
        for secret in ["shop/payments/key", "shop/db/web-sessions"] {
            assert_eq!(world.see(|w| w.labelled(secret)), (1, 0));
        }
    }
}

#[tokio::test]
async fn the_server_is_told_a_verifier_and_old_sessions_end_on_every_server() {
    let world = one(Password, Emergency).await;
    world.meddle(|w| {
        for node in &mut w.databases[0].nodes {
            let mut session = node.sessions.first().cloned().unwrap_or_else(|| {
                crate::adapter::sim::estate::OpenSession {
                    pid: 1,
                    role: String::new(),
                    began: super::plans::now(),
                    client: String::new(),
                    application: "psql".into(),
                }
            });
            session.role = "web_sessions".into();
            session.client = "198.51.100.10".into();
            session.began = super::plans::now() - chrono::Duration::hours(1);
            node.sessions.push(session);
        }
    });
    world.apply().await.expect("done");
    all_true(&world).await;
    let ended = world.mutations();
    let ended = ended.iter().filter(|(c, _)| c == "end_sessions").count();
    assert_eq!(ended, 2, "primary and replica");
}

#[tokio::test]
async fn death_is_a_state_of_the_machine_with_a_grade_and_comes_before_any_deletion() {
    let world = one(Key, Graceful).await;
    world.apply().await.expect("done");
    let entries = world.entries();
    let proof = entries.iter().find_map(|e| {
        let seen = e.body_as::<RotateObserved>(kind::ROTATE_OBSERVED)?;
        (seen.step == "OldProvenDead" && seen.holds).then_some((e.seq, seen.grade))
    });
    let deletion = entries.iter().find_map(|e| {
        let intent = e.body_as::<RotateIntent>(kind::ROTATE_INTENT)?;
        (intent.step == "OldDeleted").then_some(e.seq)
    });
    let (proven, grade) = proof.expect("proven");
    assert_eq!(grade.as_deref(), Some("probed"));
    assert!(proven < deletion.expect("deleted"));
}
