//! Plays a row: the machine itself is asked for each step of `after`, and answered as the row says; then it is asked with what is seen.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};

use super::rows::Row;
use crate::incident::body::ObjectRef;
use crate::incident::clock_text;
use crate::incident::rotate::{RotateIntent, RotateObserved, RotateOutcome};
use crate::port::{AccessKeySeen, SecretSeen, Server};
use crate::rotation::binding;
use crate::rotation::call::Change;
use crate::rotation::journal::ItemJournal;
use crate::rotation::machine::rollout::{self, Feeding, Rolled};
use crate::rotation::machine::{Accepts, Holds, Next, Seen, Shared, Turn, next};
use crate::rotation::plan::*;
use crate::rotation::words::{CredentialKind, RotationMode};

const TOKEN: &str = "0f0f0f0f-0000-5000-8000-000000000000";
const RUN: &str = "run-aaaaaaaaaaaaaaaa";
const OLD: &str = "AKIAOLD";
const NEW: &str = "AKIANEW";
const VICTIM: &str = "AKIAVICTIM";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).expect("time")
}

fn key_seen(id: &str, active: bool) -> AccessKeySeen {
    AccessKeySeen {
        id: id.into(),
        active,
        created: Some(
            now()
                - Duration::days(if id == NEW || id == "AKIAORPHAN" {
                    0
                } else {
                    90
                }),
        ),
    }
}

fn secret_seen(versions: &[(&str, &[&str])]) -> SecretSeen {
    SecretSeen {
        arn: "arn".into(),
        name: "secret".into(),
        tags: None,
        owning_service: None,
        rotation_function: None,
        rotation_enabled: false,
        versions: versions
            .iter()
            .map(|(id, labels)| ((*id).into(), labels.iter().map(|l| (*l).into()).collect()))
            .collect(),
        replicas: BTreeMap::new(),
        deleted: None,
        changed: None,
        accessed: None,
    }
}

fn server(host: &str) -> Server {
    Server {
        host: host.into(),
        port: 5432,
        database: "shop".into(),
        ca_file: None,
    }
}

fn object(kind: &str, name: &str) -> ObjectRef {
    ObjectRef {
        kind: kind.into(),
        namespace: "shop".into(),
        name: name.into(),
        uid: "uid".into(),
    }
}

/// Keys of the user when the plan was made.
fn before(row: &Row) -> Vec<AccessKeySeen> {
    let mut keys = vec![key_seen(OLD, true)];
    if row.item.contains("victim") {
        keys.push(key_seen(VICTIM, true));
    }
    keys
}

fn what(row: &Row, emergency: bool) -> What {
    let escrow = |exists: bool| Escrow {
        secret: "secret".into(),
        exists,
        fields: ("id".into(), "secret".into()),
        current: exists.then(|| "old-version".into()),
    };
    if row.item.starts_with("role") {
        return What::RoleSessions(RoleSessions {
            role: "role".into(),
            max_session_s: 3_600,
            trust_before: r#"{"a":1}"#.into(),
            trust_after: Some(r#"{"a":2}"#.into()),
            moves: vec![AccountMove {
                workload: 0,
                namespace: "shop".into(),
                from: "old".into(),
                to: "new".into(),
                annotations: BTreeMap::new(),
            }],
            open_ends: vec![],
        });
    }
    if row.item.starts_with("password") {
        return What::DatabasePassword(DatabasePassword {
            escrow: escrow(true),
            role: "app".into(),
            primary: server("primary"),
            replicas: vec![server("replica")],
            admin: "admin".into(),
            system_identifier: "1".into(),
        });
    }
    What::AccessKey(AccessKey {
        user: "user".into(),
        old: OLD.into(),
        before: before(row).into_iter().map(|k| k.id).collect(),
        victim: row.item.contains("victim").then(|| VICTIM.into()),
        escrow: escrow(!row.item.contains("without escrow")),
        chain: if emergency {
            vec!["chained".into()]
        } else {
            vec![]
        },
        open_ends: vec![],
    })
}

fn plan(row: &Row) -> RotationPlan {
    let emergency = row.item.contains("emergency");
    let kind = match row.item.split(' ').next() {
        Some("role") => CredentialKind::IamRoleSessions,
        Some("password") => CredentialKind::PgPassword,
        _ => CredentialKind::IamAccessKey,
    };
    let mut bound = BTreeMap::new();
    if kind == CredentialKind::IamAccessKey {
        bound.extend(binding::keys(&before(row)));
    }
    let sinks = match kind {
        CredentialKind::IamRoleSessions => vec![],
        _ => vec![Sink {
            object: object("Secret", "sink"),
            keys: BTreeMap::from([("password".into(), "PASSWORD".into())]),
        }],
    };
    let item = Item {
        id: "item-0001".into(),
        kind,
        mode: match emergency {
            true => RotationMode::Emergency,
            false => RotationMode::Graceful,
        },
        name: "it".into(),
        arn: "arn".into(),
        why: vec![],
        binding: bound,
        what: what(row, emergency),
        sinks,
        workloads: vec![0],
        no_return: String::new(),
        needs_human: None,
    };
    RotationPlan {
        format: FORMAT.into(),
        incident: "INC-20261124-7K2Q".into(),
        created: String::new(),
        expires: String::new(),
        t0: None,
        account: "111122223333".into(),
        region: "eu-central-1".into(),
        caller: "arn".into(),
        selector: "true".into(),
        on_unknown: "refuse".into(),
        on_stale: "refuse".into(),
        map_sha256: None,
        deletions: true,
        items: vec![item],
        workloads: vec![Workload {
            object: object("Deployment", "web"),
            how: vec![],
            rollable: true,
        }],
        excluded: vec![],
        break_glass: vec![],
        guards: vec![],
        residual: vec![],
        warnings: vec![],
        waits: Waits::default(),
        concurrency: 1,
    }
}

/// A row as it is played.
struct Played {
    plan: RotationPlan,
    journal: ItemJournal,
    seq: u64,
    rollout: bool,
    taken_back: bool,
}

/// What the machine does, one answer after the other, up to the first call, look or end.
pub(super) fn play(row: &Row) -> String {
    let mut played = Played {
        plan: plan(row),
        journal: ItemJournal::new(),
        seq: 0,
        rollout: row.item == "rollout",
        taken_back: false,
    };
    for step in row.after.split_whitespace() {
        if let Err(wrong) = played.answer(row, step) {
            return wrong;
        }
    }
    played.taken_back = row.seen.contains("taken-back");
    let seen = seen(row);
    let mut said = Vec::new();
    loop {
        let answer = played.ask(&seen, shared(row), row.seen.contains("value"));
        said.push(match &answer {
            Ok(standing) => format!("{standing:?}").to_lowercase(),
            Err(next) => name(next),
        });
        let Err(next @ (Next::Settle { .. } | Next::Record { .. })) = answer else {
            return said.join(", ");
        };
        assert!(said.len() < 9, "{said:?}");
        played.note(&next);
    }
}

fn shared(row: &Row) -> Shared {
    match words(row.seen, "rollout:") {
        Some("up") => Shared::Available,
        Some("failed") => Shared::Failed,
        Some("back") => Shared::TakenBack,
        _ => Shared::Pending,
    }
}

fn words<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_whitespace().find_map(|w| w.strip_prefix(name))
}

impl Played {
    fn ask(&self, seen: &Seen, shared: Shared, have_value: bool) -> Result<Shared, Next> {
        if self.rollout {
            let of = Rolled {
                workload: 0,
                run: RUN,
                moves: None,
            };
            let feeding = match self.taken_back {
                true => Feeding::TakenBack,
                false => Feeding::Written,
            };
            return rollout::next(&of, &self.journal, Some(seen), feeding);
        }
        let shared = BTreeMap::from([(0, shared)]);
        Err(next(&Turn {
            plan: &self.plan,
            item: &self.plan.items[0],
            journal: &self.journal,
            seen: Some(seen),
            have_value,
            shared: &shared,
            token: TOKEN.into(),
        }))
    }

    /// The machine must ask for this step; it is answered as the row says.
    fn answer(&mut self, row: &Row, script: &str) -> Result<(), String> {
        let end = script.find(['?', '!', '-', '~']).unwrap_or(script.len());
        let (step, how) = script.split_at(end);
        let mut instead = String::new();
        for _ in 0..6 {
            // Where its value is in memory, and where it is not.
            for have_value in [true, false] {
                let seen = during(row, &self.journal);
                match self.ask(&seen, during_shared(step), have_value) {
                    Err(Next::Change(change)) if change.step == step => {
                        self.changed(&change, how);
                        return Ok(());
                    }
                    Err(Next::Look {
                        step: s, target, ..
                    }) if s == step => {
                        self.looked(s, &target, how);
                        return Ok(());
                    }
                    Err(next @ (Next::Record { .. } | Next::Settle { .. })) => {
                        self.note(&next);
                        break;
                    }
                    Err(next) => instead = name(&next),
                    Ok(standing) => instead = format!("{standing:?}"),
                }
            }
        }
        Err(format!("{script} is not asked for, but {instead}"))
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn changed(&mut self, change: &Change, how: &str) {
        let mut params = change.call.params();
        if change.call.name().contains("Policy") && !change.call.name().contains("Assume") {
            params.insert("t".into(), clock_text::seconds(now()));
        }
        let intent = RotateIntent {
            item: "item-0001".into(),
            kind: "x".into(),
            step: change.step.into(),
            attempt: self.journal.attempt,
            target: change.target.clone(),
            call: change.call.name().into(),
            params,
            before: BTreeMap::new(),
            idempotency: None,
            fp: None,
            reversal: change.reversal,
            epoch: 1,
        };
        assert_eq!(change.reversal, how.starts_with('~'), "{change:?}");
        let seq = self.next_seq();
        self.journal.intended(seq, Some(now()), intent);
        if how == "?" {
            return;
        }
        let got = [
            ("key_id", NEW),
            ("version_id", TOKEN),
            ("t", "2026-09-21T14:13:20Z"),
        ];
        let outcome = RotateOutcome {
            item: "item-0001".into(),
            step: change.step.into(),
            attempt: self.journal.attempt,
            target: change.target.clone(),
            result: if how.starts_with('!') {
                "refused"
            } else {
                "ok"
            }
            .into(),
            code: how.strip_prefix('!').map(str::to_owned),
            got: got.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            request_id: None,
            server_date: None,
            reversal: change.reversal,
        };
        let seq = self.next_seq();
        self.journal.answered(seq, Some(now()), outcome);
    }

    fn looked(&mut self, step: &str, target: &str, how: &str) {
        let facts: BTreeMap<String, String> = how
            .trim_start_matches('-')
            .split(',')
            .filter_map(|f| f.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        // Who made a key is an answer, whatever it is.
        let holds = !how.starts_with('-') || step == "OrphanAttributed";
        self.saw(
            step,
            target,
            (holds, None, false),
            self.journal.attempt,
            facts,
        );
    }

    fn note(&mut self, next: &Next) {
        match next {
            Next::Settle {
                step,
                target,
                reversal,
                happened,
                facts,
            } => {
                let settles = if *happened {
                    "happened"
                } else {
                    "did-not-happen"
                };
                let mut facts = facts.clone();
                facts.insert("version_id".into(), TOKEN.into());
                let how = (*happened, Some(settles), *reversal);
                self.saw(step, target, how, self.journal.attempt, facts);
            }
            Next::Record {
                step,
                target,
                attempt,
                facts,
            } => self.saw(step, target, (true, None, false), *attempt, facts.clone()),
            _ => {}
        }
    }

    fn saw(
        &mut self,
        step: &str,
        target: &str,
        (holds, settles, reversal): (bool, Option<&str>, bool),
        attempt: u32,
        facts: BTreeMap<String, String>,
    ) {
        let body = RotateObserved {
            item: "item-0001".into(),
            step: step.into(),
            attempt,
            target: target.into(),
            holds,
            facts,
            grade: None,
            settles: settles.map(str::to_owned),
            reversal,
        };
        let seq = self.next_seq();
        self.journal.observed(seq, Some(now()), body);
    }
}

/// While the run goes on nothing is disturbed, but for what a doubt needs.
fn during(row: &Row, journal: &ItemJournal) -> Seen {
    let mut keys = before(row);
    let doubt = journal.in_doubt().is_some();
    if doubt && row.after.starts_with("Created?") && !journal.ever("OrphanDeleted", "AKIAORPHAN") {
        keys.push(key_seen(
            "AKIAORPHAN",
            !journal.ever("OrphanInactive", "AKIAORPHAN"),
        ));
    }
    // The key that somebody deleted, of the row in which a label goes off what was escrowed.
    let gone = row.after.ends_with(" Escrowed Escrowed~") && journal.done("Escrowed", "");
    if let Some(new) = journal.got("Created", "", "key_id")
        && !gone
    {
        keys.push(key_seen(new, true));
    }
    Seen {
        binding: binding::keys(&before(row)),
        keys: Some(keys),
        absence_believed: gone,
        ..Seen::default()
    }
}

/// Once a later step is asked for, its workloads are up, or back where that is what comes.
fn during_shared(step: &str) -> Shared {
    match step {
        "NewInactive" => Shared::TakenBack,
        _ => Shared::Available,
    }
}

/// What the row says is seen.
fn seen(row: &Row) -> Seen {
    let mut keys = before(row);
    for (who, id) in [("old:", OLD), ("victim:", VICTIM)] {
        match words(row.seen, who) {
            Some("inactive") => keys
                .iter_mut()
                .filter(|k| k.id == id)
                .for_each(|k| k.active = false),
            Some("absent") => keys.retain(|k| k.id != id),
            _ => {}
        }
    }
    match words(row.seen, "keys:") {
        Some("+new") => keys.push(key_seen(NEW, true)),
        Some("+orphan") => keys.push(key_seen("AKIAORPHAN", true)),
        Some("+orphan-inactive") => keys.push(key_seen("AKIAORPHAN", false)),
        Some("changed") => keys.push(key_seen("AKIAOTHER", true)),
        _ => {}
    }
    let unread = row.seen.contains("keys:unread");
    let mut seen = Seen {
        binding: match row.seen.contains("unread") {
            true => BTreeMap::new(),
            false => binding::keys(&keys),
        },
        keys: (!unread).then_some(keys),
        secret: Some(secret(row)),
        absence_believed: row.seen.contains("believed"),
        trust: words(row.seen, "trust:").map(|w| match w {
            "before" => r#"{ "a": 1 }"#.into(),
            "after" => r#"{ "a": 2 }"#.into(),
            _ => r#"{"a":3}"#.into(),
        }),
        restarted: match words(row.seen, "annotation:") {
            Some("ours") => BTreeMap::from([(0, Some(RUN.into()))]),
            Some(_) => BTreeMap::from([(0, None)]),
            None => BTreeMap::new(),
        },
        ..Seen::default()
    };
    if let Some(deny) = words(row.seen, "deny:") {
        let t = match deny {
            "none" => None,
            "older" => Some(now() - Duration::hours(1)),
            _ => Some(now()),
        };
        seen.denies = BTreeMap::from([("user".into(), t), ("role".into(), t)]);
    }
    if let Some(login) = words(row.seen, "login:") {
        let accepts = Accepts {
            new: Some(login == "new"),
            old: Some(login == "old"),
            now: Some(now()),
        };
        seen.logins = BTreeMap::from([(server("primary").to_string(), accepts)]);
    }
    let holds = words(row.seen, "sink:").map(|s| match s {
        "new" => Holds::New,
        "old" => Holds::Old,
        _ => Holds::Other,
    });
    seen.sinks = holds.map(|h| (0, h)).into_iter().collect();
    seen
}

fn secret(row: &Row) -> Option<SecretSeen> {
    let (current, pending, previous) = ("AWSCURRENT", "AWSPENDING", "AWSPREVIOUS");
    Some(match words(row.seen, "secret:") {
        Some("absent") => return None,
        Some("pending") => secret_seen(&[("old-version", &[current]), (TOKEN, &[pending])]),
        Some("promoted") => {
            secret_seen(&[("old-version", &[previous]), (TOKEN, &[current, pending])])
        }
        Some("clean") => secret_seen(&[("old-version", &[previous]), (TOKEN, &[current])]),
        Some("foreign") => secret_seen(&[("somebody", &[current])]),
        Some("foreign-pending") => {
            secret_seen(&[("old-version", &[current]), ("somebody", &[pending])])
        }
        _ => secret_seen(&[("old-version", &[current])]),
    })
}

/// An answer in the tables' words.
fn name(next: &Next) -> String {
    let on = |target: &str| match target {
        "" => String::new(),
        // Whose key it is stands in the step's own name.
        "AKIAORPHAN" | NEW | VICTIM => String::new(),
        target => format!("@{target}"),
    };
    let back = |reversal: bool| if reversal { "~" } else { "" };
    match next {
        Next::Observe => "observe".into(),
        Next::ObserveLater => "later".into(),
        Next::ReadBack { .. } => "read-back".into(),
        Next::Change(c) => format!("do {}{}{}", c.step, on(&c.target), back(c.reversal)),
        Next::Look { step, target, .. } => format!("look {step}{}", on(target)),
        Next::Settle {
            step,
            target,
            happened,
            ..
        } => {
            let how = if *happened { "happened" } else { "not" };
            format!("{how} {step}{}", on(target))
        }
        Next::Record { step, .. } => format!("record {step}"),
        Next::AwaitRollouts => "await".into(),
        Next::AwaitTakenBack => "await-back".into(),
        Next::End(ending) => {
            let reason = ending.reason.map_or(String::new(), |r| format!(" {r}"));
            format!("end {}{reason}", ending.state)
        }
    }
}
