//! Each kind in each mode, from its plan to its end.

use super::plans::{
    Emergency, Graceful, Key, KeyWithVictim, KeyWithoutEscrow, Kind, Password, Role, many, one,
};
use super::truths::{again_does_nothing, all_true};
use crate::rotation::words::RotationMode;

async fn runs_to_its_end(kind: Kind, mode: RotationMode) {
    let world = one(kind, mode).await;
    let applied = world.apply().await;
    assert!(applied.is_ok(), "{applied:?}\n{:#?}", world.told());
    all_true(&world).await;
    again_does_nothing(&world).await;
}

#[tokio::test]
async fn an_access_key_is_replaced_while_its_consumers_work() {
    runs_to_its_end(Key, Graceful).await;
}

#[tokio::test]
async fn an_access_key_whose_value_stands_nowhere_is_kept_in_a_secret_of_the_run() {
    runs_to_its_end(KeyWithoutEscrow, Graceful).await;
}

#[tokio::test]
async fn a_slot_is_freed_by_the_key_that_the_plan_names() {
    runs_to_its_end(KeyWithVictim, Graceful).await;
}

#[tokio::test]
async fn a_leaked_access_key_dies_before_the_new_one_is_made() {
    runs_to_its_end(Key, Emergency).await;
}

#[tokio::test]
async fn a_leaked_access_key_without_escrow_dies_before_the_new_one_is_made() {
    runs_to_its_end(KeyWithoutEscrow, Emergency).await;
}

#[tokio::test]
async fn sessions_of_a_role_are_denied_and_its_workload_moves() {
    runs_to_its_end(Role, Emergency).await;
    runs_to_its_end(Role, Graceful).await;
}

#[tokio::test]
async fn a_database_password_is_replaced_on_primary_and_replica() {
    runs_to_its_end(Password, Graceful).await;
}

#[tokio::test]
async fn a_leaked_database_password_dies_with_its_sessions_before_the_consumers_have_the_new_one() {
    runs_to_its_end(Password, Emergency).await;
}

#[tokio::test]
async fn three_credentials_of_one_workload_restart_it_once() {
    for mode in [Graceful, Emergency] {
        let world = many(&[(Key, mode), (Role, Emergency), (Password, mode)]).await;
        let applied = world.apply().await;
        assert!(applied.is_ok(), "{applied:?}\n{:#?}", world.told());
        all_true(&world).await;
        again_does_nothing(&world).await;
    }
}
