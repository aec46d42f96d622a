//! What must be true of the world after a rotation, told from the servers' side: the assertions of the kill matrix.

use std::collections::BTreeSet;

use super::plans::{Emergency, Graceful, WEB};
use super::world::World;
use crate::adapter::sim::estate::{EstateWorld, Hand};
use crate::incident::kind;
use crate::incident::rotate::{RotateIntent, RotateObserved};
use crate::port::{CURRENT, VersionRef};
use crate::rotation::machine::{access_key, database_password, role_sessions};
use crate::rotation::plan::{AccessKey, DatabasePassword, Item, What};

/// Every item is done and everything is true.
pub(super) async fn all_true(world: &World) {
    for item in &world.plan.items {
        let ended = world.ended(&item.id);
        assert_eq!(
            ended.state,
            "done",
            "{}: {}\n{:#?}",
            item.id,
            ended.summary,
            world.told()
        );
        match &item.what {
            What::AccessKey(key) => key_replaced(world, item, key),
            What::RoleSessions(role) => {
                graded(world, item, role_sessions::OLD_DENIED);
                sessions_denied(world, &role.role);
            }
            What::DatabasePassword(password) => password_replaced(world, item, password).await,
        }
    }
    consumers_work(world);
    keeps_quiet(world);
    rest_unchanged(world);
}

/// 2, 3, 6, 13.
fn key_replaced(world: &World, item: &Item, key: &AccessKey) {
    graded(world, item, access_key::OLD_DEAD);
    world.see(|w| {
        assert!(
            w.by_id(&key.old, world.before.server_time(super::plans::now()))
                .is_err()
        );
        assert_eq!(
            w.orphans(),
            Vec::<String>::new(),
            "an active key of ours without escrow"
        );
        let ours: Vec<String> = w
            .active_keys(&key.user)
            .into_iter()
            .filter(|(_, by)| *by == Hand::Ours)
            .map(|(id, _)| id)
            .collect();
        assert_eq!(ours.len(), 1, "one new key: {ours:?}");
        let current = w.secrets[&key.escrow.secret].current().expect("current");
        assert!(current.contains(&ours[0]), "escrow has the new key in use");
        assert_eq!(w.labelled(&key.escrow.secret), (1, 0), "labels");
        let gone = !w.keys.contains_key(&key.old);
        assert_eq!(
            gone,
            item.mode == Graceful,
            "graceful deletes, an emergency keeps"
        );
        for (id, by) in w.active_keys(&key.user) {
            assert_ne!(by, Hand::Attacker, "{id} of the intruder is active");
        }
    });
    one_creation_each_attempt(world, item, &key.user);
    if item.mode == Graceful {
        let outages = world.see(|w| w.outages(WEB));
        let alone = world.plan.items.len() == 1;
        assert!(!alone || outages.is_empty(), "outages at {outages:?}");
        let outages = world.see(|w| w.outages("job/ci-release"));
        assert!(outages.is_empty(), "outages at {outages:?}");
    } else {
        sessions_denied_of(world, &format!("user/{}", key.user));
        for role in &key.chain {
            sessions_denied(world, role);
        }
    }
}

fn one_creation_each_attempt(world: &World, item: &Item, user: &str) {
    let attempts: BTreeSet<u32> = world
        .entries()
        .iter()
        .filter_map(|e| e.body_as::<RotateIntent>(kind::ROTATE_INTENT))
        .filter(|i| i.item == item.id && i.step == access_key::CREATED)
        .map(|i| i.attempt)
        .collect();
    let made = world.see(|w| w.count("create_access_key", user));
    assert!(
        made <= attempts.len(),
        "{made} keys in {} attempts",
        attempts.len()
    );
}

async fn password_replaced(world: &World, item: &Item, password: &DatabasePassword) {
    graded(world, item, database_password::OLD_DEAD);
    let secret = &password.escrow.secret;
    world.see(|w| {
        assert_eq!(w.labelled(secret), (1, 0), "labels");
        let version = password.escrow.current.as_deref().expect("old version");
        assert_ne!(w.secrets[secret].holder(CURRENT), Some(version));
        for node in &w.databases[0].nodes {
            let his = node
                .sessions
                .iter()
                .filter(|s| s.client.starts_with("198.51"));
            assert_eq!(his.count(), 0, "the intruder is still on {}", node.host);
        }
    });
    let vault: &dyn crate::port::Vault = world.sim.as_ref();
    let old = VersionRef::Id(password.escrow.current.clone().expect("old version"));
    for (version, accepted) in [(old, false), (VersionRef::Label(CURRENT.into()), true)] {
        let value = vault.read(secret, &version).await.expect("readable").value;
        let value: serde_json::Value = serde_json::from_str(value.expose_secret()).expect("JSON");
        for server in password.servers() {
            let login = crate::port::Login {
                role: password.role.clone(),
                password: crate::port::Secret::new(
                    value["password"].as_str().expect("text").into(),
                ),
            };
            let database: &dyn crate::port::Database = world.sim.as_ref();
            let answer = database.try_login(server, &login).await.expect("answered");
            let works = matches!(answer, crate::port::LoginAnswer::Accepted { .. });
            assert_eq!(works, accepted, "{version:?} on {server}");
        }
    }
}

/// 3: the proof of death is in the ledger, with its grade.
fn graded(world: &World, item: &Item, step: &str) {
    let proof = world
        .entries()
        .iter()
        .filter_map(|e| e.body_as::<RotateObserved>(kind::ROTATE_OBSERVED))
        .find(|o| o.item == item.id && o.step == step && o.holds);
    assert!(proof.expect("a proof").grade.is_some());
}

fn sessions_denied(world: &World, role: &str) {
    sessions_denied_of(world, &format!("role/{role}"));
}

/// Every session that the intruder ever had of this member is denied.
fn sessions_denied_of(world: &World, member: &str) {
    world.see(|w| {
        let now = super::plans::now();
        for (id, session) in &w.sessions {
            let his = w.attacker.holds.contains(id);
            if his && session.member == member {
                let signed = w.by_id(id, now).expect("a session");
                let allowed = w.authorize(&signed, "s3:GetObject", "*", now);
                assert!(
                    allowed.is_err(),
                    "{member}: {id} of {} lives",
                    session.issued
                );
            }
        }
    });
}

/// 1 and 7: consumers work in the end, and none restarted twice.
pub(super) fn consumers_work(world: &World) {
    world.see(|w| {
        for d in &w.deployments {
            let ready = d.pods.iter().filter(|p| p.ready).count();
            let why: Vec<_> = d.pods.iter().map(|p| &p.why).collect();
            assert!(ready == d.replicas as usize, "{}: {why:?}", d.full_name());
            let fed = world.plan.items.iter().any(|i| !i.workloads.is_empty());
            let wanted = u32::from(fed && d.full_name() == WEB);
            assert_eq!(d.rollouts, wanted, "rollouts of {}", d.full_name());
        }
    });
}

/// 4: no secret in the ledger or in what is told.
pub(super) fn keeps_quiet(world: &World) {
    let mut text =
        serde_json::to_string(&world.entries().iter().map(|e| &e.body).collect::<Vec<_>>())
            .expect("JSON");
    text.push_str(&world.told().join("\n"));
    for (what, secret) in world.see(EstateWorld::secret_bytes) {
        // The role's name stands in a Secret as well.
        if secret.expose_secret() == "web_sessions" || what.contains("AWS_ACCESS_KEY_ID") {
            continue;
        }
        let secret = secret.expose_secret();
        assert!(!text.contains(secret), "{what} leaked");
        let escaped = secret.replace('/', "\\/");
        assert!(!text.contains(&escaped), "{what} leaked");
    }
}

/// 8: what is not in the plan is as it was.
pub(super) fn rest_unchanged(world: &World) {
    let planned: Vec<&str> = world.plan.items.iter().map(|i| i.name.as_str()).collect();
    let before = &world.before;
    world.see(|w| {
        for (id, key) in before
            .keys
            .iter()
            .filter(|(_, k)| !planned.contains(&k.user.as_str()))
        {
            let now = &w.keys[id];
            assert_eq!((now.active, &now.secret), (key.active, &key.secret), "{id}");
        }
        for name in [
            "user/break-glass",
            "role/firebreak-response",
            "role/shop-api",
        ] {
            assert_eq!(w.members[name], before.members[name], "{name}");
        }
        for (name, secret) in &before.secrets {
            let touched = world.plan.items.iter().any(|i| match &i.what {
                What::AccessKey(k) => k.escrow.secret == *name,
                What::DatabasePassword(p) => p.escrow.secret == *name,
                What::RoleSessions(_) => false,
            });
            if !touched {
                let versions = |s: &crate::adapter::sim::estate::StoredSecret| s.versions.clone();
                assert_eq!(versions(&w.secrets[name]), versions(secret), "{name}");
            }
        }
    });
}

/// 9: what is done stays so, and doing it again does nothing.
pub(super) async fn again_does_nothing(world: &World) {
    let (mutations, entries) = (world.mutations().len(), world.entries().len());
    world.apply().await.expect("still done");
    assert_eq!(world.mutations().len(), mutations);
    assert_eq!(world.entries().len(), entries);
    let _ = Emergency;
}
