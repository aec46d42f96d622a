//! Each way to be refused, by its code.

use chrono::{DateTime, Duration, Utc};

use crate::incident::body::Decision;
use crate::incident::{Effect, IncidentId, Mode, RunId, StepPath};
use crate::playbook::model::Playbook;

use super::approval::{Accepted, Facts, GateFacts, PersonaKey, Refusal, check};
use super::approval_text::ApprovalText;
use super::people::Policy;
use super::policy::{Executor, Need};

const PLAYBOOK: &str = "firebreak: playbook/v1\nid: one\nname: One\nversion: 1\ntypes: [mitigation]\nroles: { ic: { kind: individual, contact: incident-commander }, security: { kind: group, contact: security-officer } }\nsteps:\n  - id: it\n    note: x\n";
const PEOPLE: &str = "firebreak: people/v1\npeople:\n  - { id: amira, name: Amira, principal: amira@example.org, roles: [incident-commander] }\n  - { id: ben, name: Ben, principal: ben@example.org, roles: [security-officer] }\n  - { id: cy, name: Cy, principal: cy@example.org, roles: [scribe] }\n";

fn key(n: u8) -> PersonaKey {
    PersonaKey::from_seed(&[n; 32])
}

fn now() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-11-24T12:00:00Z")
        .expect("a time")
        .with_timezone(&Utc)
}

/// Everything that one approval is held against, to be bent by each test.
struct Bench {
    playbook: Playbook,
    policy: Policy,
    incident: IncidentId,
    run: RunId,
    mode: Mode,
    gates: Vec<GateFacts>,
    nonces: Vec<String>,
    counted: Vec<(StepPath, String, String)>,
    executor: String,
    now: DateTime<Utc>,
}

impl Bench {
    fn new() -> Self {
        let line = |who: &str, n: u8, after: &str, before: &str| {
            format!(
                "{who}@example.org namespaces=\"approval-drill@firebreak\",valid-after=\"{after}\",valid-before=\"{before}\" {}\n",
                key(n).public_line()
            )
        };
        let signers = [
            line("amira", 1, "20260101Z", "20270101Z"),
            line("ben", 2, "20260101Z", "20270101Z"),
            line("cy", 3, "20260101Z", "20270101Z"),
            line("amira", 4, "20250101Z", "20260101Z"),
            line("ben", 5, "20260101Z", "20270101Z"),
            line("amira", 6, "20260101Z", "20270101Z").replace("approval-drill@", "custody@"),
        ]
        .concat();
        let revoked = format!("{}\n", key(5).public_line());
        let policy = Policy::team(
            PEOPLE.as_bytes(),
            signers.as_bytes(),
            Some(revoked.as_bytes()),
        );
        let step = StepPath::parse("it").expect("a path");
        Bench {
            playbook: crate::playbook::read::read(PLAYBOOK.as_bytes(), None).expect("a playbook"),
            policy: policy.expect("trust files"),
            incident: IncidentId::parse("DRILL-1").expect("an id"),
            run: RunId::parse("run-0123456789abcdef").expect("an id"),
            mode: Mode::Drill,
            gates: vec![GateFacts {
                step,
                attempt: 1,
                call_sha256: "11".repeat(32),
                effect: Effect::Irreversible,
                need: Need::Signed {
                    quorum: 2,
                    executor: Executor::CountsOnce,
                    break_glass: false,
                },
                roles: vec!["ic".into(), "security".into()],
            }],
            nonces: Vec::new(),
            counted: Vec::new(),
            executor: "ben@example.org".into(),
            now: now(),
        }
    }
    fn text(&self) -> ApprovalText {
        ApprovalText {
            incident: self.incident.clone(),
            run: self.run.clone(),
            plan_sha256: "00".repeat(32),
            steps: vec![(self.gates[0].step.clone(), "11".repeat(32))],
            attempt: 1,
            decision: Decision::Approve,
            effect: Effect::Irreversible,
            principal: "amira@example.org".into(),
            issued: now() - Duration::minutes(1),
            expires: now() + Duration::minutes(14),
            nonce: "ab".repeat(16),
            reason: Some("spreading".into()),
        }
    }
    fn check(&self, text: &str, armour: &str) -> Result<Accepted, Refusal> {
        check(
            text,
            armour,
            &Facts {
                incident: &self.incident,
                mode: self.mode,
                run: &self.run,
                plan_sha256: &"00".repeat(32),
                executor: &self.executor,
                playbook: &self.playbook,
                policy: &self.policy,
                gates: &self.gates,
                nonces: &self.nonces,
                counted: &self.counted,
                now: self.now,
            },
        )
    }
    fn refused(&self, by: u8, bend: impl FnOnce(&mut ApprovalText)) -> &'static str {
        let mut text = self.text();
        bend(&mut text);
        let text = text.write();
        self.check(&text, &key(by).sign(&text))
            .expect_err("it must not count")
            .code()
    }
}

#[test]
fn a_good_approval_counts_with_its_role_and_key() {
    let bench = Bench::new();
    let text = bench.text().write();
    let accepted = bench.check(&text, &key(1).sign(&text)).expect("it counts");
    assert_eq!(accepted.role.as_deref(), Some("ic"));
    assert!(accepted.key.starts_with("SHA256:"));
}

#[test]
fn fb0501_malformed_text() {
    let bench = Bench::new();
    let text = bench
        .text()
        .write()
        .replace("spreading", "spreading\nattempt 2");
    assert_eq!(
        bench
            .check(&text, &key(1).sign(&text))
            .expect_err("refused")
            .code(),
        "FB0501"
    );
}

#[test]
fn fb0502_a_signature_over_other_bytes_or_with_bytes_around_it() {
    let bench = Bench::new();
    let text = bench.text().write();
    let good = key(1).sign(&text);
    let code = |armour: &str| bench.check(&text, armour).expect_err("refused").code();
    assert_eq!(code(&key(1).sign("another text")), "FB0502");
    assert_eq!(code(&format!("{good}more\n")), "FB0502");
    assert_eq!(code(&format!("{good}{good}")), "FB0502");
    assert_eq!(code(&good.replace('\n', "\r\n")), "FB0502");
    assert_eq!(code(good.trim_end()), "FB0502");
    assert_eq!(code("nothing"), "FB0502");
    for (at, c) in good
        .char_indices()
        .filter(|(_, c)| c.is_ascii_alphanumeric())
        .step_by(7)
    {
        let mut bent = good.clone();
        bent.replace_range(at..=at, if c == 'A' { "B" } else { "A" });
        assert!(bench.check(&text, &bent).is_err(), "byte {at}");
    }
}

#[test]
fn fb0503_a_key_that_is_not_theirs_or_not_for_this() {
    let bench = Bench::new();
    assert_eq!(bench.refused(9, |_| {}), "FB0503", "unknown key");
    assert_eq!(bench.refused(2, |_| {}), "FB0503", "somebody else's key");
    assert_eq!(bench.refused(6, |_| {}), "FB0503", "a key for custody only");
    let mut live = Bench::new();
    live.mode = Mode::Live;
    assert_eq!(
        live.refused(1, |_| {}),
        "FB0503",
        "a drill's signature on a live plan"
    );
}

#[test]
fn fb0504_revoked_or_outside_its_dates() {
    let bench = Bench::new();
    assert_eq!(bench.refused(4, |_| {}), "FB0504");
    assert_eq!(
        bench.refused(5, |t| t.principal = "ben@example.org".into()),
        "FB0504"
    );
}

#[test]
fn fb0505_a_role_that_was_not_asked() {
    let bench = Bench::new();
    assert_eq!(
        bench.refused(3, |t| t.principal = "cy@example.org".into()),
        "FB0505"
    );
}

#[test]
fn fb0506_too_late_or_from_the_future() {
    let mut bench = Bench::new();
    bench.now = now() + Duration::minutes(14);
    assert_eq!(bench.refused(1, |_| {}), "FB0506");
    bench.now = now() - Duration::minutes(4);
    assert_eq!(bench.refused(1, |_| {}), "FB0506");
}

#[test]
fn fb0507_another_incident_run_plan_step_call_attempt_or_effect() {
    let bench = Bench::new();
    assert_eq!(
        bench.refused(1, |t| t.incident =
            IncidentId::parse("DRILL-2").expect("id")),
        "FB0507"
    );
    assert_eq!(
        bench.refused(1, |t| t.run =
            RunId::parse("run-fedcba9876543210").expect("id")),
        "FB0507"
    );
    assert_eq!(
        bench.refused(1, |t| t.plan_sha256 = "22".repeat(32)),
        "FB0507"
    );
    assert_eq!(
        bench.refused(1, |t| t.steps[0].0 =
            StepPath::parse("other").expect("path")),
        "FB0507"
    );
    assert_eq!(
        bench.refused(1, |t| t.steps[0].1 = "22".repeat(32)),
        "FB0507"
    );
    assert_eq!(bench.refused(1, |t| t.attempt = 2), "FB0507");
    assert_eq!(
        bench.refused(1, |t| t.effect = Effect::Reversible),
        "FB0507"
    );
}

#[test]
fn fb0508_a_nonce_that_was_used() {
    let mut bench = Bench::new();
    bench.nonces.push("ab".repeat(16));
    assert_eq!(bench.refused(1, |_| {}), "FB0508");
}

#[test]
fn fb0509_the_same_person_the_same_key_or_the_executor_where_they_do_not_count() {
    let mut bench = Bench::new();
    let step = bench.gates[0].step.clone();
    bench.counted = vec![(step.clone(), "amira@example.org".into(), "SHA256:x".into())];
    assert_eq!(bench.refused(1, |_| {}), "FB0509", "same person");
    let text = bench.text().write();
    bench.counted.clear();
    let fingerprint = bench.check(&text, &key(1).sign(&text)).expect("counts").key;
    bench.counted = vec![(step, "ben@example.org".into(), fingerprint)];
    assert_eq!(bench.refused(1, |_| {}), "FB0509", "same key");
    bench.counted.clear();
    bench.gates[0].need = Need::Signed {
        quorum: 2,
        executor: Executor::NeverCounts,
        break_glass: false,
    };
    assert_eq!(
        bench.refused(2, |t| t.principal = "ben@example.org".into()),
        "FB0509",
        "executor"
    );
    assert_eq!(
        bench.refused(1, |t| t.decision = Decision::BreakGlass),
        "FB0509",
        "no break-glass here"
    );
}
