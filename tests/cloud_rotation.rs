//! Access keys rotated on a whole double of AWS, behind a proxy that counts what happened and loses what a test wants lost. What is true
//! is asked from the double and from the proxy's log, not from us. Skipped, with the reason, where the double is not installed.
#![cfg(feature = "adapters")]

#[path = "cloud_rotation/crash.rs"]
mod crash;
#[path = "cloud_rotation/stage.rs"]
mod stage;
mod support;

use firebreak::rotation::words::RotationMode;
use support::aws::{Match, Order};

use stage::Stage;

#[tokio::test]
async fn a_graceful_key_ends_replaced_dead_and_deleted_with_one_current_version() {
    let Some(stage) = Stage::begin("graceful", RotationMode::Graceful, 3).await else {
        return;
    };
    let applied = stage.rotate().await.expect("it ends");
    assert!(applied.summary.starts_with("3 of 3"), "{}", applied.summary);
    stage.assert_all_replaced().await;
    stage.assert_no_secret_is_told();
    for user in &stage.users {
        assert_eq!(stage.creations(user), 1, "one create for {user}");
    }
    // Again: nothing is sent any more.
    let before = stage.proxy.log().last().map_or(0, |c| c.number);
    stage.rotate().await.expect("it is so already");
    let changes: Vec<_> = stage.proxy.log_after(before);
    assert!(
        changes.iter().all(|c| !c.call.writes()),
        "a second run changes nothing: {changes:?}"
    );
}

#[tokio::test]
async fn an_emergency_kills_every_key_before_the_first_new_one() {
    let Some(stage) = Stage::begin("emergency", RotationMode::Emergency, 3).await else {
        return;
    };
    stage.rotate().await.expect("it ends");
    stage.assert_all_replaced().await;
    let log = stage.proxy.log();
    let first_new = log
        .iter()
        .find(|c| c.call.action == "CreateAccessKey" && c.number > stage.seeded);
    let first_new = first_new.expect("a new key").number;
    let last_kill = log
        .iter()
        .filter(|c| c.call.action == "UpdateAccessKey")
        .map(|c| c.number)
        .max();
    assert!(last_kill < Some(first_new), "kills come first");
}

#[tokio::test]
async fn a_lost_reply_of_a_creation_leaves_no_orphan_and_no_third_key() {
    let Some(stage) = Stage::begin("lost-create", RotationMode::Graceful, 1).await else {
        return;
    };
    let create = Match::action("iam", "CreateAccessKey").with("UserName", &stage.users[0]);
    stage
        .proxy
        .order(Order::new(create, support::aws::Fault::LoseReply));
    stage.rotate().await.expect("it ends");
    stage.assert_all_replaced().await;
    assert_eq!(stage.creations(&stage.users[0]), 2);
    assert_eq!(
        stage.keys(&stage.users[0]).await.len(),
        1,
        "the orphan is gone"
    );
}
