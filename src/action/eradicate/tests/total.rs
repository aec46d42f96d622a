//! `next` is total: whatever prefix of a ledger is read and whatever is seen of the world, it answers, and the same after a reload.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Duration;

use super::plans::{
    Emergency, Graceful, Key, KeyWithVictim, KeyWithoutEscrow, Kind, Password, Role, now, one,
};
use super::world::World;
use crate::adapter::sim::estate::EstateFault;
use crate::incident::Entry;
use crate::port::{AccessKeySeen, SecretSeen};
use crate::rotation::journal::ItemJournal;
use crate::rotation::machine::rollout::{self, Feeding, Rolled};
use crate::rotation::machine::{Accepts, Holds, Next, Seen, Shared, Turn, next};
use crate::rotation::plan::{Item, What};
use crate::rotation::words::RotationMode;

/// Ledgers of real runs: undisturbed, with lost replies, with a consumer that fails.
async fn ledgers(kind: Kind, mode: RotationMode) -> Vec<(World, Vec<Entry>)> {
    let mut all = Vec::new();
    for fault in [
        None,
        Some(EstateFault::after("create_access_key", 1)),
        Some(EstateFault::after("set_verifier", 1)),
        Some(EstateFault::before(
            "restart",
            1,
            crate::port::Cause::Refused,
        )),
        Some(EstateFault::before(
            "write_secret",
            1,
            crate::port::Cause::Conflict,
        )),
        Some(EstateFault::after("put_inline_policy", 2)),
    ] {
        let world = one(kind, mode).await;
        if let Some(fault) = fault {
            world.sim.fault(fault);
        }
        let _ = world.apply().await;
        let entries = world.entries();
        // A fault that did not strike tells nothing new.
        let known = all
            .iter()
            .any(|(_, e): &(World, Vec<Entry>)| e.len() == entries.len());
        if !known {
            all.push((world, entries));
        }
    }
    all
}

/// Everything that the world may look like to an item, from small parts.
fn sights(item: &Item, journal: &ItemJournal) -> Vec<Seen> {
    let mut sights = vec![Seen::default()];
    let whole = Seen {
        binding: item.binding.clone(),
        denies: BTreeMap::from([(item.name.clone(), Some(now() + Duration::hours(1)))]),
        trust: Some("{}".into()),
        ..Seen::default()
    };
    for keys in keys(item, journal) {
        for secret in secrets(item, journal) {
            for absence_believed in [false, true] {
                for (accepts, holds) in holdings() {
                    let mut seen = Seen {
                        keys: keys.clone(),
                        secret: secret.clone(),
                        absence_believed,
                        sinks: BTreeMap::from([(0, holds)]),
                        escrowed: holds == Holds::New,
                        ..whole.clone()
                    };
                    if let What::DatabasePassword(p) = &item.what {
                        seen.logins.insert(p.primary.to_string(), accepts);
                    }
                    sights.push(seen);
                }
            }
        }
    }
    sights
}

fn keys(item: &Item, journal: &ItemJournal) -> Vec<Option<Vec<AccessKeySeen>>> {
    let What::AccessKey(key) = &item.what else {
        return vec![None];
    };
    let seen = |id: &str, active: bool| AccessKeySeen {
        id: id.to_owned(),
        active,
        created: Some(now()),
    };
    let before: Vec<AccessKeySeen> = key.before.iter().map(|id| seen(id, true)).collect();
    let with = |id: &str, active| {
        let more = std::iter::once(seen(id, active));
        Some(before.iter().cloned().chain(more).collect::<Vec<_>>())
    };
    let mut all = vec![None, Some(vec![]), Some(before.clone())];
    all.push(with("AKIASOMEBODYSKEY", true));
    all.push(with("AKIASOMEBODYSKEY", false));
    if let Some(new) = journal.got("Created", "", "key_id") {
        all.push(with(new, true));
    }
    all
}

fn secrets(item: &Item, journal: &ItemJournal) -> Vec<Option<Option<SecretSeen>>> {
    let secret = |versions: &[(&str, &[&str])]| SecretSeen {
        arn: "arn:aws:secretsmanager:eu-central-1:111122223333:secret:x".into(),
        name: "x".into(),
        tags: None,
        owning_service: None,
        rotation_function: None,
        rotation_enabled: false,
        versions: versions
            .iter()
            .map(|(id, labels)| {
                let labels = labels.iter().map(|l| (*l).to_owned()).collect();
                ((*id).to_owned(), labels)
            })
            .collect(),
        replicas: BTreeMap::new(),
        deleted: None,
        changed: None,
        accessed: None,
    };
    let current = match &item.what {
        What::AccessKey(k) => k.escrow.current.clone(),
        What::DatabasePassword(p) => p.escrow.current.clone(),
        What::RoleSessions(_) => return vec![None],
    };
    let current = current.unwrap_or_else(|| "none".into());
    let ours = journal
        .got("Escrowed", "", "version_id")
        .or_else(|| journal.got("PendingPut", "", "version_id"))
        .unwrap_or(TOKEN);
    vec![
        None,
        Some(None),
        Some(Some(secret(&[(&current, &["AWSCURRENT"])]))),
        Some(Some(secret(&[
            (&current, &["AWSCURRENT"]),
            (ours, &["AWSPENDING"]),
        ]))),
        Some(Some(secret(&[
            (&current, &["AWSPREVIOUS"]),
            (ours, &["AWSCURRENT", "AWSPENDING"]),
        ]))),
        Some(Some(secret(&[
            ("somebody", &["AWSCURRENT"]),
            ("else", &["AWSPENDING"]),
        ]))),
    ]
}

fn holdings() -> Vec<(Accepts, Holds)> {
    let accepts = |new, old| Accepts {
        new,
        old,
        now: Some(now()),
    };
    vec![
        (accepts(None, None), Holds::Other),
        (accepts(Some(true), Some(false)), Holds::New),
        (accepts(Some(false), Some(true)), Holds::Old),
        (accepts(Some(false), Some(false)), Holds::Gone),
    ]
}

const TOKEN: &str = "0f0f0f0f-0000-5000-8000-000000000000";

/// The same entries after they were written down and read back.
fn reloaded(entries: &[Entry]) -> Vec<Entry> {
    entries
        .iter()
        .map(|e| {
            let text = serde_json::to_string(&e.body).expect("JSON");
            Entry {
                body: serde_json::from_str(&text).expect("JSON"),
                ..e.clone()
            }
        })
        .collect()
}

fn ask_all(world: &World, entries: &[Entry], answers: &mut BTreeSet<String>) -> usize {
    let item = &world.plan.items[0];
    let mut asked = 0;
    let journal_of = |entries: &[Entry], name: &str| {
        let mut all = ItemJournal::of(entries);
        all.remove(name).unwrap_or_default()
    };
    let place = rollout::item_id(&world.plan.workloads[0].place());
    for n in 0..=entries.len() {
        let again = reloaded(&entries[..n]);
        let journal = journal_of(&entries[..n], &item.id);
        let read_again = journal_of(&again, &item.id);
        for seen in sights(item, &journal) {
            for have_value in [false, true] {
                for shared in [
                    Shared::Pending,
                    Shared::Available,
                    Shared::Failed,
                    Shared::TakenBack,
                    Shared::Stuck,
                ] {
                    let shared = BTreeMap::from([(0, shared)]);
                    let ask = |journal: &ItemJournal| {
                        next(&Turn {
                            plan: &world.plan,
                            item,
                            journal,
                            seen: Some(&seen),
                            have_value,
                            shared: &shared,
                            token: TOKEN.into(),
                        })
                    };
                    let answer = ask(&journal);
                    if have_value {
                        assert_eq!(answer, ask(&read_again), "after a reload");
                    }
                    answers.insert(name_of(&answer));
                    asked += 1;
                }
            }
        }
        let journal = journal_of(&entries[..n], &place);
        for feeding in [Feeding::Writing, Feeding::Written, Feeding::TakenBack] {
            for annotation in [
                None,
                Some(None),
                Some(Some("run-aaaaaaaaaaaaaaaa".to_owned())),
            ] {
                let seen = annotation.map(|a| Seen {
                    restarted: BTreeMap::from([(0, a)]),
                    ..Seen::default()
                });
                let of = Rolled {
                    workload: 0,
                    run: "run-aaaaaaaaaaaaaaaa",
                    moves: None,
                };
                let _ = rollout::next(&of, &journal, seen.as_ref(), feeding);
                asked += 1;
            }
        }
    }
    asked
}

/// What kind of answer it is.
fn name_of(next: &Next) -> String {
    let text = format!("{next:?}");
    text.split([' ', '(', '{']).next().unwrap_or("").to_owned()
}

#[tokio::test]
async fn next_answers_for_every_prefix_and_every_sight_and_the_same_after_a_reload() {
    let mut answers = BTreeSet::new();
    let mut asked = 0;
    for (kind, mode) in [
        (Key, Graceful),
        (KeyWithoutEscrow, Graceful),
        (KeyWithVictim, Graceful),
        (Key, Emergency),
        (Role, Emergency),
        (Password, Graceful),
        (Password, Emergency),
    ] {
        for (world, entries) in ledgers(kind, mode).await {
            asked += ask_all(&world, &entries, &mut answers);
        }
    }
    println!("asked {asked} times: {answers:?}");
    assert!(asked > 100_000, "{asked}");
    let all = [
        "AwaitRollouts",
        "AwaitTakenBack",
        "Change",
        "End",
        "Look",
        "ObserveLater",
        "ReadBack",
        "Record",
        "Settle",
    ];
    for answer in all {
        assert!(answers.contains(answer), "{answer} of {answers:?}");
    }
}
