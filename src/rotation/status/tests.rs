use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::*;
use crate::incident::body::ObjectRef;
use crate::incident::rotate::{RotateItem, RotateObserved};
use crate::incident::{Actor, Refs};
use crate::rotation::plan::{AccessKey, Escrow, Sink, Waits, Workload};
use crate::rotation::words::{CredentialKind, Reason};

const T0: &str = "2026-11-24T10:00:00Z";

fn at(seconds: i64) -> DateTime<Utc> {
    T0.parse::<DateTime<Utc>>().expect("time") + TimeDelta::seconds(seconds)
}

fn object(kind: &str, name: &str) -> ObjectRef {
    ObjectRef {
        kind: kind.into(),
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
    }
}

fn item(id: &str, user: &str, mode: RotationMode) -> Item {
    Item {
        id: id.into(),
        kind: CredentialKind::IamAccessKey,
        mode,
        name: user.into(),
        arn: format!("arn:aws:iam::111122223333:user/{user}"),
        why: vec![],
        binding: BTreeMap::new(),
        what: What::AccessKey(AccessKey {
            user: user.into(),
            old: format!("AKIAOLD{user}"),
            before: vec![],
            victim: None,
            escrow: Escrow {
                secret: format!("shop/{user}"),
                exists: true,
                fields: ("access_key_id".into(), "secret_access_key".into()),
                current: Some("v1".into()),
            },
            chain: vec![],
            open_ends: vec!["account 999988887777 cannot be entered".into()],
        }),
        sinks: vec![Sink {
            object: object("Secret", "token"),
            keys: BTreeMap::new(),
        }],
        workloads: vec![0],
        no_return: "OldDeleted".into(),
        needs_human: None,
    }
}

fn plan(items: Vec<Item>) -> RotationPlan {
    RotationPlan {
        format: crate::rotation::plan::FORMAT.into(),
        incident: "INC-1".into(),
        created: T0.into(),
        expires: T0.into(),
        t0: Some(T0.into()),
        account: "111122223333".into(),
        region: "eu-central-1".into(),
        caller: "arn".into(),
        selector: "true".into(),
        on_unknown: "refuse".into(),
        on_stale: "refuse".into(),
        map_sha256: None,
        deletions: false,
        items,
        workloads: vec![Workload {
            object: object("Deployment", "web"),
            how: vec![],
            rollable: true,
        }],
        excluded: vec![],
        break_glass: vec![],
        guards: vec![],
        residual: vec!["SSH key of old-admin".into()],
        warnings: vec![],
        waits: Waits::none(),
        concurrency: 1,
    }
}

#[derive(Default)]
struct Told(Vec<Entry>);

impl Told {
    fn entry(&mut self, s: i64, kind: &str, body: serde_json::Value) -> &mut Self {
        self.0.push(Entry {
            seq: self.0.len() as u64,
            time: at(s),
            kind: kind.into(),
            actor: Actor::tool(),
            target: None,
            refs: Refs::default(),
            body,
            sha256: String::new(),
            writer: 1,
            clock_back_ms: 0,
        });
        self
    }
    fn change(&mut self, s: i64, item: &str, step: &str, target: &str, got: &[(&str, &str)]) {
        let got: BTreeMap<&str, &str> = got.iter().copied().collect();
        self.entry(s, kind::ROTATE_INTENT, json!({
            "item": item, "kind": "iam-access-key", "step": step, "attempt": 1, "target": target, "call": "x", "params": {}, "epoch": 1,
        }));
        self.entry(s + 1, kind::ROTATE_OUTCOME, json!({
            "item": item, "step": step, "attempt": 1, "target": target, "result": "ok", "got": got,
        }));
    }
    fn saw(&mut self, s: i64, seen: &RotateObserved) {
        self.entry(
            s,
            kind::ROTATE_OBSERVED,
            serde_json::to_value(seen).expect("body"),
        );
    }
    fn end(&mut self, s: i64, item: &str, state: &str, reason: Option<Reason>) {
        let body = RotateItem {
            item: item.into(),
            kind: "iam-access-key".into(),
            state: state.into(),
            reason: reason.map(|r| r.to_string()),
            summary: "s".into(),
            hint: None,
            resumable: false,
        };
        self.entry(
            s,
            kind::ROTATE_ITEM,
            serde_json::to_value(body).expect("body"),
        );
    }
}

fn seen(item: &str, step: &str, facts: &[(&str, &str)], grade: Option<Grade>) -> RotateObserved {
    RotateObserved {
        item: item.into(),
        step: step.into(),
        attempt: 1,
        target: String::new(),
        holds: true,
        facts: facts
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect(),
        grade: grade.map(|g| g.to_string()),
        settles: None,
        reversal: false,
    }
}

/// The first item is replaced as an emergency; the second is not begun.
fn emergency() -> (RotationPlan, Vec<Entry>) {
    let plan = plan(vec![
        item("item-0001", "pay", RotationMode::Emergency),
        item("item-0002", "ci", RotationMode::Emergency),
    ]);
    let mut told = Told::default();
    let one = "item-0001";
    told.change(10, one, key::OLD_INACTIVE, "", &[]);
    told.change(
        12,
        one,
        key::SESSIONS_DENIED,
        "",
        &[("t", "2026-11-24T10:00:12Z")],
    );
    told.change(14, one, key::INTRUDER_INACTIVE, "AKIAEVIL", &[]);
    told.saw(
        16,
        &RotateObserved {
            target: "AKIAEVIL".into(),
            ..seen(one, key::FOREIGN_KEY, &[], None)
        },
    );
    told.saw(
        20,
        &seen(
            one,
            key::OLD_DEAD,
            &[("code", "InvalidClientTokenId")],
            Some(Grade::ProbedWithoutSecret),
        ),
    );
    told.change(30, one, key::CREATED, "", &[("key_id", "AKIANEW")]);
    told.change(32, one, key::ESCROWED, "", &[("version_id", "v2")]);
    told.saw(
        35,
        &seen(
            one,
            key::VERIFIED,
            &[("times", "5"), ("endpoints", "2")],
            None,
        ),
    );
    told.change(40, one, turn::DISTRIBUTED, "shop/token", &[]);
    let web = "workload:shop/Deployment/web";
    told.change(42, web, rollout::TRIGGERED, "", &[]);
    told.saw(55, &seen(web, rollout::AVAILABLE, &[], None));
    told.end(60, one, "done", None);
    (plan, told.0)
}

#[test]
fn a_row_holds_old_and_new_proof_consumers_and_what_is_left() {
    let (plan, entries) = emergency();
    let status = status(&plan, "d", "run-1", &entries);
    let row = &status.rows[0];
    assert_eq!(
        (row.old.as_str(), row.new.as_deref()),
        ("AKIAOLDpay", Some("AKIANEW"))
    );
    assert_eq!(row.disabled_at.as_deref(), Some("2026-11-24T10:00:11Z"));
    assert_eq!(row.void_before.as_deref(), Some("2026-11-24T10:00:12Z"));
    assert_eq!(row.grade.as_deref(), Some("probed-without-secret"));
    assert_eq!(row.codes, ["InvalidClientTokenId"]);
    assert_eq!(row.entries, [0, 1, 7], "intent, outcome and proof");
    assert_eq!(
        row.verified.as_deref(),
        Some("5 answers in a row at each of 2 endpoints")
    );
    assert_eq!(
        row.consumers,
        [
            "Secret shop/token: written",
            "shop/Deployment/web: restarted once, available after 12.0 s"
        ]
    );
    assert_eq!(
        row.orphans,
        ["AKIAEVIL: not ours: Inactive and flagged, kept as evidence"]
    );
    assert!(
        row.residue
            .iter()
            .any(|r| r.contains("is Inactive and not deleted"))
    );
    assert_eq!(row.no_return, None);
    assert_eq!(row.state, "done");
}

#[test]
fn totals_count_what_is_there_and_say_nothing_of_what_is_not() {
    let (plan, entries) = emergency();
    let totals = status(&plan, "d", "run-1", &entries).totals;
    assert_eq!(
        totals.by_state,
        BTreeMap::from([("done".into(), 1), ("waiting".into(), 1)])
    );
    assert_eq!((totals.old_dead, totals.calls), (1, 7));
    assert_eq!(
        totals.time_to_last_old_dead_ms, None,
        "the second is not dead yet"
    );
    assert_eq!(totals.time_to_last_consumer_ms, Some(45_000));
    let exposure = totals.longest_exposure.expect("one");
    assert_eq!(
        (exposure.item.as_str(), exposure.until, exposure.ms),
        ("item-0002", None, 60_000),
        "what is usable still is worse than what was closed"
    );
}

#[test]
fn the_not_proven_list_is_never_empty_and_names_what_is_open() {
    let (plan, entries) = emergency();
    let status = status(&plan, "d", "run-1", &entries);
    let all = status.not_proven.join("\n");
    assert!(all.contains("pay: open end: account 999988887777 cannot be entered"));
    assert!(all.contains("ci: the old credential is not shown to be dead"));
    assert!(all.contains("not rotated: SSH key of old-admin"));
    let nothing = super::status(&super::tests::plan(vec![]), "d", "run-1", &[]);
    assert!(!nothing.not_proven.is_empty());
}

#[test]
fn what_was_taken_back_counts_as_alive() {
    let plan = plan(vec![item("item-0001", "pay", RotationMode::Graceful)]);
    let mut told = Told::default();
    told.change(1, "item-0001", key::CREATED, "", &[("key_id", "AKIANEW")]);
    told.change(3, "item-0001", turn::DISTRIBUTED, "shop/token", &[]);
    let web = "workload:shop/Deployment/web";
    told.change(5, web, rollout::TRIGGERED, "", &[]);
    let down = RotateObserved {
        holds: false,
        ..seen(web, rollout::AVAILABLE, &[], None)
    };
    told.saw(9, &down);
    told.end(20, "item-0001", "undone", None);
    let status = status(&plan, "d", "run-1", &told.0);
    let row = &status.rows[0];
    assert_eq!((row.state.as_str(), &row.disabled_at), ("undone", &None));
    assert!(row.consumers[1].contains("did not come up"));
    assert!(row.not_proven[0].contains("not shown to be dead"));
    assert_eq!(status.totals.old_dead, 0);
}
