//! What goes wrong on purpose.

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;

use super::*;
use crate::port::CURRENT;

#[tokio::test]
async fn each_change_fails_before_its_effect_without_it_and_after_it_with_it() {
    let lab = Lab::with(EstateFault::before(
        "create_access_key",
        1,
        Cause::Unreachable,
    ));
    lab.sim.fault(EstateFault::after("create_access_key", 2));
    let keys = || lab.sim.see(|w| w.active_keys("ci-build").len());
    let cause = async || {
        lab.sim
            .create_access_key("ci-build")
            .await
            .err()
            .map(|e| e.cause)
    };
    assert_eq!(cause().await, Some(Cause::Unreachable));
    assert_eq!(keys(), 1);
    assert_eq!(cause().await, Some(Cause::LostReply));
    assert_eq!(keys(), 2);
    assert_eq!(lab.sim.see(|w| w.orphans().len()), 1);
    assert_eq!(cause().await, Some(Cause::Rejected));
}

#[tokio::test]
async fn a_fault_strikes_what_it_names_at_its_turn_and_nothing_else() {
    let fault = EstateFault::before("create_access_key", 1, Cause::Refused).on("ci-deploy");
    let lab = Lab::with(fault);
    lab.sim
        .create_access_key("ci-build")
        .await
        .expect("another user");
    let refused = lab
        .sim
        .create_access_key("ci-deploy")
        .await
        .err()
        .expect("struck");
    assert_eq!(refused.cause, Cause::Refused);
    assert!(refused.detail.starts_with("AccessDenied"));
    lab.sim
        .create_access_key("ci-deploy")
        .await
        .expect("once only");
}

#[tokio::test]
async fn a_late_effect_is_answered_with_done_and_comes_calls_later() {
    let lab = Lab::with(EstateFault::late("set_access_key", 1, 2));
    let key = lab.key_of("ci-build");
    lab.sim
        .set_access_key("ci-build", &key, false)
        .await
        .expect("done, it says");
    assert_eq!(lab.code(&key, whoami()).await, "works");
    assert_eq!(lab.code(&key, whoami()).await, "InvalidClientTokenId");
}

#[tokio::test]
async fn a_new_key_is_not_seen_at_first_and_does_not_authenticate() {
    let lab = Lab::with(EstateFault::hidden("create_access_key", 1, 3));
    let made = lab
        .sim
        .create_access_key("ci-build")
        .await
        .expect("made")
        .value;
    let listed = async || {
        let keys = lab.sim.access_keys("ci-build").await.expect("listed").value;
        keys.iter().any(|k| k.id == made.id)
    };
    assert!(!listed().await);
    assert_eq!(lab.code(&made.id, whoami()).await, "InvalidClientTokenId");
    assert!(listed().await);
    assert_eq!(lab.code(&made.id, whoami()).await, "works");
}

#[tokio::test]
async fn a_hidden_limit_throttles_and_time_fills_it() {
    let lab = Lab::new();
    lab.meddle(|w| w.buckets.push(Bucket::new(&["access_keys"], 1.0, 2.0)));
    let cause = async || lab.sim.access_keys("ci-build").await.err().map(|e| e.cause);
    assert_eq!(
        [cause().await, cause().await, cause().await],
        [None, None, Some(Cause::Throttled)]
    );
    lab.sim.identity().await.expect("another limit");
    lab.clock.pass(SECOND);
    assert_eq!(
        [cause().await, cause().await],
        [None, Some(Cause::Throttled)]
    );
    assert_eq!(lab.world().buckets[0].throttled, 2);
}

#[tokio::test]
async fn a_missing_right_is_named_and_stops_that_action_only() {
    let lab = Lab::new();
    lab.meddle(|w| {
        w.missing.insert("secretsmanager:GetSecretValue".into());
    });
    let read = lab
        .sim
        .read("shop/payments/key", &VersionRef::Label(CURRENT.into()))
        .await;
    let error = read.err().expect("refused");
    assert_eq!(error.cause, Cause::Refused);
    assert!(error.detail.contains("secretsmanager:GetSecretValue"));
    lab.sim
        .describe("shop/payments/key")
        .await
        .expect("another right");
}

#[tokio::test]
async fn a_database_that_is_down_is_unreachable_and_comes_back() {
    let then = Mishap::Down {
        host: DB_PRIMARY.into(),
        calls: 2,
    };
    let lab = Lab::with(EstateFault::of("try_login", 1, then));
    let cause = async || {
        let who = admin();
        lab.sim
            .try_login(&server(DB_PRIMARY), &who)
            .await
            .err()
            .map(|e| e.cause)
    };
    assert_eq!(cause().await, Some(Cause::Unreachable));
    assert_eq!(cause().await, Some(Cause::Unreachable));
    assert_eq!(cause().await, None);
}

#[tokio::test]
async fn hooks_see_each_change_before_and_after_and_may_end_everything() {
    let lab = Lab::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    lab.sim.hook(Some(Arc::new(move |m: &Moment| {
        log.lock().expect("log").push((m.when, m.call.clone()));
        assert!(m.on != "ci-deploy" || m.when == When::Before, "killed");
    })));
    lab.sim
        .access_keys("ci-build")
        .await
        .expect("a look has no moments");
    lab.sim.create_access_key("ci-build").await.expect("made");
    let call = || "create_access_key".to_owned();
    assert_eq!(
        *seen.lock().expect("log"),
        [(When::Before, call()), (When::After, call())]
    );
    let sim = lab.sim.clone();
    let killed = tokio::spawn(async move {
        let _ = sim.create_access_key("ci-deploy").await;
    });
    assert!(killed.await.is_err());
    // The effect was durable, and the world is whole.
    lab.sim.hook(None);
    assert_eq!(
        lab.sim
            .access_keys("ci-deploy")
            .await
            .expect("listed")
            .value
            .len(),
        2
    );
}

#[tokio::test]
async fn the_file_holds_each_effect_before_the_reply_and_resumes_to_the_same_world() {
    let file = Arc::new(Mutex::new(Vec::new()));
    let keeper = file.clone();
    let save: super::super::Saver = Arc::new(move |bytes: &[u8]| {
        *keeper.lock().expect("file") = bytes.to_vec();
        Ok(())
    });
    let lab = Lab::new();
    let sim = SimEstate::create(lab.world(), save.clone(), lab.clock.clone()).expect("created");
    sim.fault(EstateFault::after("create_access_key", 1));
    sim.create_access_key("ci-build").await.err().expect("lost");
    let bytes = file.lock().expect("file").clone();
    let again = SimEstate::resume(&bytes, save, lab.clock.clone()).expect("resumed");
    assert_eq!(again.world(), sim.world());
    assert_eq!(again.see(|w| w.active_keys("ci-build").len()), 2);
}

#[tokio::test]
async fn nothing_of_an_effect_stays_that_could_not_be_saved() {
    let broken = Arc::new(Mutex::new(false));
    let state = broken.clone();
    let save: super::super::Saver = Arc::new(move |_: &[u8]| match *state.lock().expect("state") {
        true => Err(std::io::Error::other("disk full")),
        false => Ok(()),
    });
    let lab = Lab::new();
    let sim = SimEstate::create(lab.world(), save, lab.clock.clone()).expect("created");
    *broken.lock().expect("state") = true;
    let error = sim
        .create_access_key("ci-build")
        .await
        .err()
        .expect("not saved");
    assert_eq!(error.cause, Cause::Local);
    assert_eq!(sim.see(|w| w.active_keys("ci-build").len()), 1);
}

#[tokio::test]
async fn every_secret_can_be_searched_for_also_one_of_a_deleted_key() {
    let lab = Lab::new();
    let made = lab
        .sim
        .create_access_key("ci-build")
        .await
        .expect("made")
        .value;
    lab.sim
        .delete_access_key("ci-build", &made.id)
        .await
        .expect("deleted");
    let all = lab.sim.see(EstateWorld::secret_bytes);
    assert!(all.iter().any(|(_, s)| s.same_as(&made.secret)));
    assert!(
        all.iter()
            .any(|(what, _)| what.contains("shop/db/web-sessions"))
    );
    assert!(all.iter().all(|(_, s)| s.expose_secret().len() >= 8));
    let shown = format!("{:?}", lab.world());
    assert!(all.iter().all(|(_, s)| !shown.contains(s.expose_secret())));
}

#[test]
fn a_panic_under_the_lock_leaves_a_world_that_may_be_used() {
    let lab = Lab::new();
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        lab.sim.see(|_| panic!("ours"));
    }));
    assert!(panicked.is_err());
    assert_eq!(lab.world().account, ACCOUNT);
}
