//! A person who says stop, and waits that are real.

use std::time::Duration;

use super::plans::{
    Emergency, Graceful, Key, KeyWithoutEscrow, Password, Role, key_of, now, one, plan, shop,
};
use super::truths::{again_does_nothing, all_true};
use super::world::World;
use crate::rotation::plan::Waits;

#[tokio::test]
async fn a_stop_at_any_line_leaves_what_a_resume_finishes() {
    for (kind, mode) in [
        (Key, Graceful),
        (KeyWithoutEscrow, Graceful),
        (Key, Emergency),
        (Role, Emergency),
        (Password, Graceful),
        (Password, Emergency),
    ] {
        let whole = one(kind, mode).await;
        whole.apply().await.expect("done");
        for lines in 0..whole.told().len() {
            let world = one(kind, mode).await;
            world.stop_at(Some(lines));
            let stopped = world.apply().await;
            if lines + 1 < whole.told().len() {
                let code = stopped.expect_err("stopped").code;
                assert_eq!(code, "FB3011", "{kind:?} {mode:?} {lines}");
            }
            world.stop_at(None);
            let ended = world.apply().await;
            assert!(ended.is_ok(), "{lines}: {ended:?}\n{:#?}", world.told());
            all_true(&world).await;
            again_does_nothing(&world).await;
        }
    }
}

/// A world whose waits are slept: only the grace period is long.
async fn real(grace: Duration) -> World {
    let estate = shop();
    let mut plan = plan(&estate, &[(Key, Graceful)]).await;
    plan.waits = Waits {
        grace_ms: u64::try_from(grace.as_millis()).expect("short"),
        poll_ms: 1,
        ..Waits::none()
    };
    let world = World::with(estate, plan, now(), false);
    super::plans::without_roles(&world);
    world
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_grace_period_is_evidence_and_not_skipped_where_waits_are_real() {
    let world = real(HOUR).await;
    let old = key_of(&world.before, "shop-payments");
    world.apply().await.expect_err("parked");
    assert_eq!(
        world.state("item-0001"),
        ("needs-human".into(), "old_not_quiet".into())
    );
    world.see(|w| assert!(w.keys[&old].active, "nothing was killed"));
    // A straggler uses the old key: the period begins anew, and he is named.
    world.clock.pass(HOUR / 2);
    world.meddle(|w| {
        let at = w.server_time(now() + chrono::Duration::minutes(30));
        let key = w.keys.get_mut(&old).expect("there");
        key.used = Some(at);
        key.used_at = Some("s3".into());
    });
    world.clock.pass(HOUR * 3 / 4);
    world.apply().await.expect_err("still parked");
    let ended = world.ended("item-0001");
    assert!(ended.summary.contains("on s3"), "{}", ended.summary);
    // He has stopped for a whole period.
    world.clock.pass(HOUR);
    let ended = world.apply().await;
    assert!(ended.is_ok(), "{ended:?}\n{:#?}", world.told());
    all_true(&world).await;
}

#[tokio::test]
async fn waits_are_slept_where_they_are_real() {
    let mut world = real(Duration::ZERO).await;
    world.plan.waits.verify_apart_ms = 20;
    let began = std::time::Instant::now();
    world.apply().await.expect("done");
    // Five successes at two endpoints, with a pause between each two.
    assert!(began.elapsed() >= Duration::from_millis(160));
}
