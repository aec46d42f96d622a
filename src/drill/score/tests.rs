use serde_json::json;

use super::*;
use crate::incident::body::Objectives;
use crate::incident::{Actor, Entry, IncidentId, Mode, Refs};

const GOOD: (&str, u8) = ("INTACT, FRESHNESS NOT PROVEN", 0);

/// A ledger in memory: one entry a second.
struct Book(History);

impl Book {
    fn new() -> Self {
        Book(History {
            incident: IncidentId::parse("DRILL-1").expect("id"),
            mode: Mode::Drill,
            entries: Vec::new(),
            root: String::new(),
            fingerprint: String::new(),
        })
    }
    fn add(&mut self, kind: &str, step: Option<&str>, body: serde_json::Value) -> &mut Self {
        let seq = self.0.entries.len() as u64;
        self.0.entries.push(Entry {
            seq,
            time: DateTime::from_timestamp(1_790_000_000 + seq as i64, 0).expect("time"),
            kind: kind.to_owned(),
            actor: Actor::tool(),
            target: None,
            refs: Refs {
                run: Some("run-0123456789abcdef".into()),
                step: step.map(str::to_owned),
                ..Refs::default()
            },
            body,
            sha256: String::new(),
            writer: 1,
            clock_back_ms: 0,
        });
        self
    }
    fn failed(&self) -> Vec<String> {
        Score::of(&self.0, GOOD)
            .checks
            .into_iter()
            .filter(|c| !c.passed)
            .map(|c| c.name)
            .collect()
    }
}

/// Spoils a good drill.
type Fault = fn(&mut Book);

fn finished(outcome: Outcome) -> serde_json::Value {
    json!({"outcome": outcome, "by": "result", "summary": "s", "elapsed_ms": 1})
}

/// A drill in which everything went well.
fn good() -> Book {
    let mut book = Book::new();
    let objectives = Objectives {
        contain_s: Some(5),
        rto_s: Some(30),
        recovery_limit_s: Some(60),
        ..Objectives::default()
    };
    book.add(kind::INCIDENT_OPENED, None, json!({"title": "t", "severity": "SEV1", "phase": "triage", "tlp": "TLP:AMBER"}))
        .add(kind::RUN_CREATED, None, json!({
            "run": "run-0123456789abcdef", "playbook": "p", "version": 1, "playbook_sha256": "", "plan_sha256": "",
            "mode": "drill", "vars": {}, "trust_sha256": "", "policy": "team", "executor": "e", "epoch": 1,
            "objectives": objectives, "tool": "",
            "steps": [{"path": "prove", "name": "Prove", "kind": "check", "action": "contain.probe_isolation", "effect": "read"}],
        }))
        .add(kind::BAG_OPENED, Some("volatile"), json!({"bag": "0001", "purpose": "p"}))
        .add(kind::BAG_SEALED, Some("volatile"), json!({"bag": "0001", "seal_sha256": "", "records": 1, "root": "", "bytes": 1, "files": 1, "recoveries": 0}))
        .add(kind::CONTAIN_PROVEN, Some("prove"), json!({"pod": "shop/web", "pod_uid": "u", "phase": "B", "verdict": "isolated", "why": [], "cells": [], "open_connections": [], "not_seen": []}))
        .add(kind::MILESTONE, Some("prove"), json!({"name": "contained", "by": "step"}))
        .add(kind::STEP_FINISHED, Some("prove"), finished(Outcome::Done))
        .add(kind::MILESTONE, None, json!({"name": "restored", "by": "step"}))
        .add(kind::RUN_ENDED, None, json!({"how": "completed"}));
    book
}

#[test]
fn a_good_drill_passes_every_check_and_measures_its_rto() {
    let score = Score::of(&good().0, GOOD);
    assert!(score.checks.iter().all(|c| c.passed), "{:#?}", score.checks);
    assert_eq!(score.objectives_met, Some(true));
    assert_eq!(score.actual_rto_s, Some(7));
    assert!(
        Score::of(&good().0, ("RECOVERED TAIL", 22))
            .checks
            .iter()
            .all(|c| c.passed)
    );
}

#[test]
fn each_fault_fails_its_own_check_and_no_other() {
    let cases: [(&str, Fault); 9] = [
        ("no step failed", |b| {
            b.add(
                kind::STEP_FINISHED,
                Some("prove"),
                finished(Outcome::Failed),
            );
        }),
        ("no step is left in doubt", |b| {
            b.add(
                kind::STEP_IN_DOUBT,
                Some("isolate"),
                json!({"known": "k", "hint": "h"}),
            );
        }),
        ("nothing is stuck", |b| {
            b.add(
                kind::UNDO_FINISHED,
                Some("isolate"),
                json!({"outcome": "stuck", "summary": "s"}),
            );
        }),
        ("every approval was accepted", |b| {
            b.add(kind::GATE_DECIDED, Some("x"), json!({"how": "signed", "decision": "approve", "principal": "p", "steps": {}, "shown_sha256": "", "rejected": "FB0505"}));
        }),
        ("isolation is proven", |b| {
            b.add(kind::CONTAIN_PROVEN, Some("prove"), json!({"pod": "shop/web", "pod_uid": "u", "phase": "B", "verdict": "not-proven", "why": [], "cells": [], "open_connections": [], "not_seen": []}));
        }),
        ("every message says that it is an exercise", |b| {
            b.add(
                kind::NOTICE_SENT,
                None,
                json!({"to": ["security"], "channel": "print", "text": "breach"}),
            );
        }),
        ("every bag is sealed", |b| {
            b.add(
                kind::BAG_OPENED,
                None,
                json!({"bag": "0002", "purpose": "p"}),
            );
        }),
        ("the run is complete", |b| {
            b.add(kind::RUN_ENDED, None, json!({"how": "stopped", "why": "w"}));
        }),
        ("contained in time", |b| {
            b.add(
                kind::MILESTONE,
                None,
                json!({"name": "contained", "by": "step"}),
            );
        }),
    ];
    for (name, fault) in cases {
        let mut book = good();
        fault(&mut book);
        assert_eq!(book.failed(), [name]);
    }
    let score = Score::of(&good().0, ("TAMPERED", 6));
    assert_eq!(score.checks.iter().filter(|c| !c.passed).count(), 1);
}

#[test]
fn a_doubt_that_was_resolved_passes_and_a_later_success_heals_a_failure() {
    let mut book = good();
    book.add(
        kind::STEP_IN_DOUBT,
        Some("isolate"),
        json!({"known": "k", "hint": "h"}),
    )
    .add(
        kind::STEP_RESOLVED,
        Some("isolate"),
        json!({"verdict": "ran", "by": "probe", "reason": "r"}),
    )
    .add(kind::STEP_FINISHED, Some("logs"), finished(Outcome::Failed))
    .add(kind::STEP_FINISHED, Some("logs"), finished(Outcome::Done));
    assert_eq!(book.failed(), Vec::<String>::new());
}

#[test]
fn an_objective_that_cannot_be_measured_is_not_met() {
    let mut book = good();
    book.0.entries.retain(|e| e.kind != kind::MILESTONE);
    let score = Score::of(&book.0, GOOD);
    assert!(score.objectives_met == Some(false) && score.actual_rto_s.is_none());
    assert_eq!(book.failed().len(), 3);
    assert_eq!(Book::new().failed()[0], "the run is complete");
}

/// The good drill under other promises, with another action.
fn promised(objectives: &Objectives, action: &str) -> Score {
    let mut book = good();
    for entry in &mut book.0.entries {
        if entry.kind == kind::RUN_CREATED {
            entry.body["objectives"] = json!(objectives);
            entry.body["steps"][0]["action"] = json!(action);
        }
    }
    Score::of(&book.0, GOOD)
}

#[test]
fn a_playbook_that_promises_nothing_has_met_nothing() {
    let none = promised(&Objectives::default(), "contain.probe_isolation");
    assert_eq!(none.objectives_met, None);
}

#[test]
fn an_rto_that_is_missed_and_an_rpo_that_nothing_measured_are_asked_and_failed() {
    let objectives = Objectives {
        rto_s: Some(1),
        rpo_s: BTreeMap::from([("database".to_owned(), 900)]),
        ..Objectives::default()
    };
    let score = promised(&objectives, "recover.restore_database");
    let failed: Vec<&str> = score
        .checks
        .iter()
        .filter(|c| !c.passed)
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(failed, ["restored within its RTO", "RPO of database"]);
    assert_eq!(score.objectives_met, Some(false));
    let other = promised(&objectives, "contain.probe_isolation");
    assert!(other.checks.iter().all(|c| c.name != "RPO of database"));
}
