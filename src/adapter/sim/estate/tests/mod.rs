//! Each imitated fact, and each way to fail.

mod account;
mod consumers;
mod faults;
mod intruder;
mod store;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::super::shop::{NAMESPACE, world_shop};
use super::*;
use crate::port::{
    Cloud, Database, Leases, Login, LoginAnswer, Principal, ProbeAnswer, ProbeCall, Secret, Server,
    Signer, TrailBy, TrailEvent, TrailQuery, Vault, VersionRef, Workloads,
};

const SECOND: Duration = Duration::from_secs(1);

/// The shop's estate under a clock that stands still.
struct Lab {
    sim: Arc<SimEstate>,
    clock: Arc<SimClock>,
}

impl Lab {
    fn new() -> Self {
        let now = DateTime::from_timestamp(1_790_000_000, 0).expect("time");
        let clock = Arc::new(SimClock::new(now));
        let mut world = estate_shop(now, &world_shop(now, [7; 16]));
        // Time is what these tests let pass.
        world.time.per_call_ms = 0;
        Lab {
            sim: SimEstate::in_memory(world, clock.clone()),
            clock,
        }
    }
    fn with(fault: EstateFault) -> Self {
        let lab = Lab::new();
        lab.sim.fault(fault);
        lab
    }
    fn meddle(&self, change: impl FnOnce(&mut EstateWorld)) {
        self.sim.meddle(change).expect("saved");
    }
    fn world(&self) -> EstateWorld {
        self.sim.world()
    }
    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
    /// Id of a user's first key.
    fn key_of(&self, user: &str) -> String {
        self.sim.see(|w| {
            let mut keys: Vec<_> = w.keys.iter().filter(|(_, k)| k.user == user).collect();
            keys.sort_by_key(|(_, k)| k.created);
            keys.last().expect("a key").0.clone()
        })
    }
    fn signer(&self, id: &str) -> Signer {
        self.sim.see(|w| w.signer(id)).expect("known")
    }
    async fn code(&self, id: &str, call: ProbeCall) -> String {
        code(
            self.sim
                .probe(&self.signer(id), &call)
                .await
                .expect("answered")
                .value,
        )
    }
    async fn events(&self, region: &str, by: TrailBy) -> Vec<TrailEvent> {
        let query = TrailQuery {
            region: region.into(),
            by: Some(by),
            from: self.now() - chrono::Duration::hours(2),
            to: self.now() + chrono::Duration::hours(2),
            page: None,
        };
        self.sim.trail(&query).await.expect("trail").items
    }
}

fn code(answer: ProbeAnswer) -> String {
    match answer {
        ProbeAnswer::Works(_) => "works".into(),
        ProbeAnswer::Refused { code, .. } => code,
    }
}

fn whoami() -> ProbeCall {
    ProbeCall::CallerIdentity { region: None }
}

fn server(host: &str) -> Server {
    Server {
        host: host.into(),
        port: 5432,
        database: "shop".into(),
        ca_file: None,
    }
}

fn login(role: &str, password: &str) -> Login {
    Login {
        role: role.into(),
        password: Secret::new(password.into()),
    }
}

fn admin() -> Login {
    login(DB_ADMIN, DB_ADMIN_PASSWORD)
}

fn deny_older(than: DateTime<Utc>) -> String {
    let than = than.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Action":"*","Resource":"*","Condition":{{"DateLessThan":{{"aws:TokenIssueTime":"{than}"}}}}}}]}}"#
    )
}

fn json(text: &str, key: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).expect("json");
    value[key].as_str().expect("text").to_owned()
}
