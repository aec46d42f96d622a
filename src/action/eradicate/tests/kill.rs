//! The kill matrix (§13): a rotation dies at every entry of its ledger, before it is durable and after, with a torn line, and once more
//! while it is resumed. Whatever happens, the resume ends it, and everything is true.
//!
//! *Before* an outcome is durable its change has happened; *after* an intent is durable its change has not been sent: with every entry
//! in both ways these are the three places at which a process can die around a change.

use super::plans::{
    Emergency, Graceful, Key, KeyWithVictim, KeyWithoutEscrow, Kind, Password, Role, now, plan,
    shop,
};
use super::truths::{again_does_nothing, all_true};
use super::world::{Kill, World};
use crate::adapter::sim::estate::EstateWorld;
use crate::rotation::plan::RotationPlan;
use crate::rotation::words::RotationMode;

/// What a scenario begins with.
struct Scenario {
    name: String,
    estate: EstateWorld,
    plan: RotationPlan,
}

impl Scenario {
    async fn of(items: &[(Kind, RotationMode)]) -> Self {
        let estate = shop();
        let plan = plan(&estate, items).await;
        Scenario {
            name: format!("{items:?}"),
            estate,
            plan,
        }
    }
    fn world(&self) -> World {
        World::new(self.estate.clone(), self.plan.clone(), now())
    }
    /// How many entries a run has that nobody disturbs.
    async fn length(&self) -> usize {
        let world = self.world();
        world.apply().await.expect("done");
        world.entries().len()
    }
    /// Dies as `first` says, and once more while it is resumed if `second` says so; then it is resumed to its end.
    async fn dies(&self, first: Kill, torn: bool, second: Option<usize>) {
        let world = self.world();
        world.kill(first);
        let died = world.apply().await;
        assert!(died.is_err() && world.is_dead(), "{first:?}: {died:?}");
        if torn {
            world.tear();
        }
        world.revive();
        if let Some(more) = second {
            let at = world.entries().len() + more / 2 + 1;
            world.kill(match more % 2 {
                0 => Kill::Before(at),
                _ => Kill::After(at),
            });
            let _ = world.apply().await;
            world.revive();
        }
        let how = format!("{} {first:?} torn {torn} then {second:?}", self.name);
        let ended = world.apply().await;
        assert!(
            ended.is_ok(),
            "{how}: {ended:?}\n{:#?}\n{:#?}",
            world.told(),
            world.entries().iter().map(|e| &e.body).collect::<Vec<_>>()
        );
        all_true(&world).await;
        again_does_nothing(&world).await;
    }
    /// Every entry in every way. Answers how often it died.
    async fn matrix(&self) -> usize {
        let length = self.length().await;
        let mut deaths = 0;
        for n in 1..=length {
            for first in [Kill::Before(n), Kill::After(n)] {
                self.dies(first, false, None).await;
                self.dies(first, false, Some(n * 5 % 13)).await;
                deaths += 3;
            }
            self.dies(Kill::After(n), true, (n % 2 == 0).then_some(n % 7))
                .await;
            deaths += 1 + usize::from(n % 2 == 0);
        }
        println!("{}: {length} entries, {deaths} deaths", self.name);
        deaths
    }
}

async fn matrix(items: &[(Kind, RotationMode)]) {
    let deaths = Scenario::of(items).await.matrix().await;
    assert!(deaths > 60, "{deaths}");
}

#[tokio::test]
async fn a_graceful_access_key_survives_a_death_at_every_entry() {
    matrix(&[(Key, Graceful)]).await;
}

#[tokio::test]
async fn an_access_key_without_escrow_survives_a_death_at_every_entry() {
    matrix(&[(KeyWithoutEscrow, Graceful)]).await;
}

#[tokio::test]
async fn an_access_key_that_needs_a_slot_survives_a_death_at_every_entry() {
    matrix(&[(KeyWithVictim, Graceful)]).await;
}

#[tokio::test]
async fn an_emergency_of_an_access_key_survives_a_death_at_every_entry() {
    matrix(&[(Key, Emergency)]).await;
}

#[tokio::test]
async fn an_emergency_without_escrow_survives_a_death_at_every_entry() {
    matrix(&[(KeyWithoutEscrow, Emergency)]).await;
}

#[tokio::test]
async fn role_sessions_survive_a_death_at_every_entry() {
    matrix(&[(Role, Emergency)]).await;
}

#[tokio::test]
async fn a_graceful_database_password_survives_a_death_at_every_entry() {
    matrix(&[(Password, Graceful)]).await;
}

#[tokio::test]
async fn an_emergency_of_a_database_password_survives_a_death_at_every_entry() {
    matrix(&[(Password, Emergency)]).await;
}

#[tokio::test]
async fn three_credentials_of_one_workload_survive_a_death_at_every_entry() {
    for mode in [Graceful, Emergency] {
        let items = [(Key, mode), (Role, Emergency), (Password, mode)];
        let scenario = Scenario::of(&items).await;
        let length = scenario.length().await;
        for n in 1..=length {
            for first in [Kill::Before(n), Kill::After(n)] {
                scenario
                    .dies(first, false, (n % 3 == 0).then_some(n % 8))
                    .await;
            }
        }
        println!(
            "{}: {length} entries, {} deaths",
            scenario.name,
            length * 2 + length / 3 * 2
        );
    }
}
