//! Tells fixture histories: entries as a ledger would hold them, with made-up digests that depend on nothing but their content.

use chrono::{DateTime, TimeDelta, Utc};
use firebreak::incident::body::*;
use firebreak::incident::*;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// Seconds after the fixture's beginning.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-11-24T22:00:00Z")
        .expect("time")
        .with_timezone(&Utc)
        + TimeDelta::seconds(seconds)
}

pub const RUN: &str = "run-abcdefgh23456789";

/// Tells a history, entry by entry.
pub struct Story {
    mode: Mode,
    now: i64,
    actor: Actor,
    refs: Refs,
    entries: Vec<Entry>,
}

impl Story {
    pub fn new(mode: Mode) -> Story {
        let mut story = Story {
            mode,
            now: 0,
            actor: Actor::tool(),
            refs: Refs::default(),
            entries: vec![],
        };
        story.tell(
            kind::LEDGER_OPENED,
            &LedgerOpened {
                incident: story.id(),
                mode,
                origin: "example.org/inc".into(),
                public_key: "11".repeat(32),
                fingerprint: "22".repeat(32),
                targets: vec![Target::Cluster {
                    context: "shop-prod".into(),
                    server: "https://10.0.0.1:6443".into(),
                    uid: "5d0e0000-0000-4000-8000-000000000001".into(),
                }],
                policy: "team".into(),
                trust: BTreeMap::from([("allowed_signers".into(), hex(b"signers"))]),
                tool: "firebreak/0.1.0".into(),
            },
        );
        story
    }
    fn id(&self) -> String {
        match self.mode {
            Mode::Live => "INC-20261124-7K2Q".into(),
            Mode::Drill => "DRILL-20261124-7K2Q".into(),
        }
    }
    pub fn time(&mut self, seconds: i64) -> &mut Self {
        self.now = seconds;
        self
    }
    pub fn wait(&mut self, seconds: i64) -> &mut Self {
        self.now += seconds;
        self
    }
    pub fn by(&mut self, person: &str) -> &mut Self {
        self.actor = Actor::person(person);
        self
    }
    pub fn tool(&mut self) -> &mut Self {
        self.actor = Actor::tool();
        self
    }
    pub fn step(&mut self, path: &str) -> &mut Self {
        self.refs = Refs {
            run: Some(RUN.into()),
            step: Some(path.into()),
            attempt: Some(1),
            ..Refs::default()
        };
        self
    }
    pub fn run(&mut self) -> &mut Self {
        self.refs = Refs {
            run: Some(RUN.into()),
            ..Refs::default()
        };
        self
    }
    pub fn apart(&mut self) -> &mut Self {
        self.refs = Refs::default();
        self
    }
    pub fn tell(&mut self, kind: &str, body: &impl serde::Serialize) -> &mut Self {
        let body = serde_json::to_value(body).expect("body");
        self.tell_json(kind, body)
    }
    pub fn tell_json(&mut self, kind: &str, body: serde_json::Value) -> &mut Self {
        let seq = self.entries.len() as u64;
        let line = json!([seq, kind, body, self.actor, self.now]).to_string();
        self.entries.push(Entry {
            seq,
            time: at(self.now),
            kind: kind.into(),
            actor: self.actor.clone(),
            target: None,
            refs: self.refs.clone(),
            body,
            sha256: hex(line.as_bytes()),
            writer: 1,
            clock_back_ms: 0,
        });
        self
    }
    pub fn history(&self) -> History {
        History {
            incident: IncidentId::parse(&self.id()).expect("id"),
            mode: self.mode,
            entries: self.entries.clone(),
            root: "Xm9vdCBvZiB0aGUgdHJlZSBmb3IgdGhlIHRlc3RzIQ==".into(),
            fingerprint: "22".repeat(32),
        }
    }

    pub fn declare(&mut self, title: &str) -> &mut Self {
        self.tell(
            kind::INCIDENT_OPENED,
            &IncidentOpened {
                title: title.into(),
                severity: Severity::Sev1,
                phase: Phase::Triage,
                tlp: "TLP:AMBER".into(),
                source: Some("alert on egress from shop/web".into()),
            },
        )
    }
    pub fn milestone(&mut self, name: Milestone, by: &str, when: Option<i64>) -> &mut Self {
        self.tell(
            kind::MILESTONE,
            &MilestoneReached {
                name,
                tier: None,
                at: when.map(|s| clock_text::millis(at(s))),
                confidence: (by == "statement").then(|| "medium".into()),
                by: by.into(),
            },
        )
    }
    pub fn created(&mut self, policy: &str, steps: Vec<StepOutline>) -> &mut Self {
        let mode = self.mode;
        self.run().tell(
            kind::RUN_CREATED,
            &RunCreated {
                run: RUN.into(),
                playbook: "security-breach".into(),
                version: 3,
                playbook_sha256: hex(b"playbook"),
                plan_sha256: hex(b"plan"),
                mode,
                vars: BTreeMap::from([("pod".into(), json!("web-7d9"))]),
                trust_sha256: hex(b"trust"),
                policy: policy.into(),
                executor: "ayse".into(),
                epoch: 1,
                objectives: Objectives {
                    tier: Some(1),
                    rto_s: None,
                    recovery_expected_s: Some(4 * 3600),
                    recovery_limit_s: Some(12 * 3600),
                    contain_s: Some(900),
                    rpo_s: BTreeMap::from([("database".into(), 900)]),
                },
                steps,
                tool: "firebreak/0.1.0".into(),
            },
        )
    }
    pub fn start(&mut self, path: &str, what: &str, effect: Effect) -> &mut Self {
        self.tool().step(path).tell(
            kind::STEP_STARTED,
            &StepStarted {
                r#try: 1,
                key: "0".repeat(32),
                call_sha256: hex(path.as_bytes()),
                what: what.into(),
                effect,
                epoch: 1,
                deadline: None,
                simulated: false,
            },
        )
    }
    pub fn finish(&mut self, path: &str, outcome: Outcome, by: &str, summary: &str) -> &mut Self {
        let failed = outcome == Outcome::Failed;
        self.tool().step(path).tell(
            kind::STEP_FINISHED,
            &StepFinished {
                outcome,
                by: by.into(),
                summary: summary.into(),
                outputs: BTreeMap::new(),
                result_sha256: None,
                class: failed.then(|| "denied".into()),
                code: failed.then(|| "FB0405".into()),
                elapsed_ms: 1500,
                branch: None,
            },
        )
    }
    pub fn gate(&mut self, path: &str, effect: Effect) -> &mut Self {
        self.tool().step(path).tell(
            kind::GATE_REQUESTED,
            &GateRequested {
                roles: vec!["incident-commander".into(), "security-lead".into()],
                quorum: 2,
                effect,
                call_sha256: hex(path.as_bytes()),
                question: format!("May {path} go on?"),
                expires: None,
            },
        )
    }
    pub fn decide(&mut self, path: &str, who: &str, how: &str, decision: Decision) -> &mut Self {
        let signed = how == "signed";
        self.by(who).step(path).tell(
            kind::GATE_DECIDED,
            &GateDecided {
                how: how.into(),
                decision,
                principal: who.into(),
                role: Some("security-lead".into()),
                steps: BTreeMap::from([(path.into(), hex(path.as_bytes()))]),
                shown_sha256: hex(b"shown"),
                text: signed.then(|| "firebreak approval v1".into()),
                signature: signed.then(|| "-----BEGIN SSH SIGNATURE-----".into()),
                key: signed.then(|| "SHA256:Zm9yIHRoZSB0ZXN0cw".into()),
                reason: Some("the pod talks to the intruder".into()),
                expires: None,
                rejected: None,
            },
        )
    }
    pub fn bag(&mut self, number: u32, what: &str) -> &mut Self {
        let bag = format!("{number:04}");
        let started = clock_text::millis(at(self.now));
        self.tell(
            kind::BAG_OPENED,
            &BagOpened {
                bag: bag.clone(),
                purpose: what.into(),
            },
        );
        self.wait(2);
        let finished = clock_text::millis(at(self.now));
        let exhibit = format!("{}/E-{number:04}", self.id());
        self.tell(
            kind::EXHIBIT_ACQUIRED,
            &ExhibitAcquired {
                exhibit,
                bag: bag.clone(),
                description: what.into(),
                category: Category::Logs,
                source: "web-7d9-logs".into(),
                system: BTreeMap::from([
                    ("namespace".into(), "shop".into()),
                    ("pod".into(), "web-7d9".into()),
                ]),
                method: "GET pods/log".into(),
                trust: (number == 1).then(|| "low".into()),
                bytes: 40_960,
                records: 512,
                sha256: Some(hex(what.as_bytes())),
                ended: if number == 2 { "cap" } else { "complete" }.into(),
                why: (number == 2).then(|| "10 MiB a container".into()),
                volatility: 3,
                started,
                finished,
            },
        );
        self.tell(
            kind::BAG_SEALED,
            &BagSealed {
                bag: bag.clone(),
                seal_sha256: hex(bag.as_bytes()),
                records: 512,
                root: "cm9vdA==".into(),
                bytes: 40_960,
                files: 3,
                recoveries: 0,
                late: false,
            },
        );
        self.tell(
            kind::EXHIBIT_CHECKED,
            &ExhibitChecked {
                bag,
                verdict: "intact".into(),
                exit: 0,
            },
        )
    }
}

pub use super::incidents::*;
