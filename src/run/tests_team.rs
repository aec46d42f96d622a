//! Policy `team`: signatures that open gates, before and after a run asks.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::incident::body::Decision;
use crate::incident::{Actor, Mode, Outcome, RunId, StepPath, kind};
use crate::plan::Policy;
use crate::plan::approval::PersonaKey;
use crate::port::{Reply, RunEvent};

use super::engine::{Confirmation, Engine, RunEnd};
use super::gates::About;
use super::machine::Ending;
use super::testing::Lab;

const PEOPLE: &str = "firebreak: people/v1\npeople:\n  - { id: amira, name: Amira, principal: amira@example.org, roles: [ic] }\n  - { id: ben, name: Ben, principal: ben@example.org, roles: [security] }\n  - { id: me, name: Me, principal: me@example.org, roles: [scribe] }\n";
const YAML: &str = "firebreak: playbook/v1\nid: one\nname: One\nversion: 1\ntypes: [mitigation]\nroles: { ic: { kind: individual, contact: ic }, security: { kind: group, contact: security } }\nsteps:\n  - id: first\n    manual: look\n    owner: ic\n  - id: it\n    call: test.once\n    with: { name: x }\n    effect: irreversible\n    approve: { roles: [ic, security], quorum: 2, ttl: 15m, on_timeout: park }\n";

fn key(who: &str) -> PersonaKey {
    PersonaKey::from_seed(&[who.as_bytes()[0]; 32])
}

fn lab(answers: bool, signers: &[&str]) -> (Lab, Policy) {
    let mut lab = Lab::with(Reply::NoTerminal, answers);
    lab.mode = Mode::Drill;
    *lab.operator.signers.lock().unwrap() = signers
        .iter()
        .map(|who| (format!("{who}@example.org"), key(who)))
        .collect();
    let allowed: String = ["amira", "ben", "me"]
        .iter()
        .map(|who| {
            format!(
                "{who}@example.org namespaces=\"approval-drill@firebreak\",valid-after=\"20260101Z\",valid-before=\"20270101Z\" {}\n",
                key(who).public_line()
            )
        })
        .collect();
    let policy = Policy::team(PEOPLE.as_bytes(), allowed.as_bytes(), None).expect("trust files");
    (lab, policy)
}

fn engine(lab: &Lab, policy: &Policy) -> Engine {
    Engine {
        executor: Actor::person("me"),
        ..lab.engine_with(policy.clone())
    }
}

async fn start(lab: &Lab, policy: &Policy) -> RunEnd {
    let engine = engine(lab, policy);
    let plan = engine
        .plan("one.yaml", YAML.as_bytes(), &BTreeMap::new())
        .await
        .expect("a plan");
    engine
        .start(&plan.bytes, YAML.as_bytes(), Confirmation::AskEach)
        .await
        .expect("it runs")
}

fn sign(engine: &Engine, end: &RunEnd, who: &str) -> Result<(), String> {
    sign_about(engine, &end.run, About::Start, who)
}

fn sign_about(engine: &Engine, run: &RunId, about: About, who: &str) -> Result<(), String> {
    let step = StepPath::parse("it").expect("a path");
    let principal = format!("{who}@example.org");
    let text = engine
        .approval_text(run, (about, &[step]), &principal, Decision::Approve, None)
        .expect("it can be decided")
        .write();
    engine
        .approve(run, &text, &key(who).sign(&text))
        .map(|_| ())
        .map_err(|e| e.code().to_owned())
}

/// A second text of somebody who has decided, made elsewhere: none is made here.
fn again(engine: &Engine, end: &RunEnd, who: &str) -> Result<(), String> {
    let step = StepPath::parse("it").expect("a path");
    let about = (About::Start, &[step][..]);
    let text = engine
        .approval_text(&end.run, about, "ben@example.org", Decision::Approve, None)
        .expect("it can be decided")
        .write()
        .replace("ben@example.org", &format!("{who}@example.org"));
    engine
        .approve(&end.run, &text, &key(who).sign(&text))
        .map(|_| ())
        .map_err(|e| e.code().to_owned())
}

fn answer(engine: &Engine, end: &RunEnd) {
    let step = StepPath::parse("first").expect("a path");
    engine
        .answer(
            &end.run,
            &step,
            &engine.executor,
            "looked",
            Outcome::Done,
            &BTreeMap::new(),
        )
        .expect("it waits");
}

fn count(lab: &Lab, of: &str) -> usize {
    lab.entries().iter().filter(|e| e.kind == of).count()
}

#[tokio::test]
async fn two_people_who_sign_when_asked_open_the_gate_and_their_signatures_stand_in_the_ledger() {
    let (lab, policy) = lab(true, &["amira", "ben"]);
    let end = start(&lab, &policy).await;
    assert_eq!((end.ending, lab.applied("x")), (Ending::Completed, 1));
    assert_eq!(count(&lab, kind::GATE_DECIDED), 2);
    let told = lab.operator.told.lock().unwrap().clone();
    let named = told.iter().filter_map(|e| match e {
        RunEvent::Decided { steps, .. } => Some(steps.clone()),
        _ => None,
    });
    let named: Vec<_> = named.collect();
    assert_eq!(named, [["it"], ["it"]], "each decision names its step");
    let started = lab
        .entries()
        .into_iter()
        .rfind(|e| e.kind == kind::STEP_STARTED);
    assert!(started.expect("a start").refs.approval.is_some());
}

#[tokio::test]
async fn one_signature_waits_and_a_person_without_the_role_is_recorded_and_does_not_count() {
    let (lab, policy) = lab(true, &["amira"]);
    let end = start(&lab, &policy).await;
    assert!(matches!(end.ending, Ending::Parked(_)) && lab.applied("x") == 0);
    let engine = engine(&lab, &policy);
    assert_eq!(sign(&engine, &end, "me"), Err("FB0505".into()));
    assert_eq!(again(&engine, &end, "amira"), Err("FB0509".into()));
    let step = [StepPath::parse("it").expect("a path")];
    let about = (About::Start, &step[..]);
    let text = engine.approval_text(
        &end.run,
        about,
        "amira@example.org",
        Decision::Approve,
        None,
    );
    assert!(
        text.expect_err("she decided")
            .to_string()
            .contains("already"),
        "no text is made to be signed for nothing"
    );
    assert_eq!(count(&lab, kind::GATE_DECIDED), 3, "refusals are recorded");
    assert_eq!(sign(&engine, &end, "ben"), Ok(()));
    let end = engine.resume(&end.run).await.expect("resumes");
    assert_eq!((end.ending, lab.applied("x")), (Ending::Completed, 1));
}

#[tokio::test]
async fn approvals_that_come_before_the_run_asks_are_honoured_without_a_request() {
    let (lab, policy) = lab(false, &[]);
    let end = start(&lab, &policy).await;
    let engine = engine(&lab, &policy);
    sign(&engine, &end, "amira").expect("it counts");
    sign(&engine, &end, "ben").expect("it counts");
    answer(&engine, &end);
    let end = engine.resume(&end.run).await.expect("resumes");
    assert_eq!(end.ending, Ending::Completed);
    assert_eq!(count(&lab, kind::GATE_REQUESTED), 0);
}

#[tokio::test]
async fn approvals_that_ran_out_before_the_step_starts_are_asked_for_again() {
    let (lab, policy) = lab(false, &[]);
    let end = start(&lab, &policy).await;
    let engine = engine(&lab, &policy);
    sign(&engine, &end, "amira").expect("it counts");
    sign(&engine, &end, "ben").expect("it counts");
    lab.ledger.minutes.store(16, Ordering::SeqCst);
    answer(&engine, &end);
    let end = engine.resume(&end.run).await.expect("resumes");
    assert!(
        matches!(end.ending, Ending::Parked(_)) && lab.applied("x") == 0,
        "{end:?}"
    );
    assert_eq!(count(&lab, kind::GATE_REQUESTED), 1);
}

#[tokio::test]
async fn a_gate_whose_time_runs_out_parks_and_a_resume_asks_again() {
    let (lab, policy) = lab(true, &[]);
    let end = start(&lab, &policy).await;
    assert!(matches!(end.ending, Ending::Parked(_)));
    lab.ledger.minutes.store(16, Ordering::SeqCst);
    let engine = engine(&lab, &policy);
    let end = engine.resume(&end.run).await.expect("resumes");
    assert!(
        matches!(&end.ending, Ending::Parked(h) if h.code.as_deref() == Some("FB0506")),
        "{end:?}"
    );
    let end = engine.resume(&end.run).await.expect("resumes");
    assert_eq!(count(&lab, kind::GATE_REQUESTED), 2, "{end:?}");
}

#[tokio::test]
async fn a_gate_that_nobody_can_open_is_refused_before_anything_starts() {
    let (lab, policy) = lab(true, &[]);
    let engine = engine(&lab, &policy);
    let yaml = YAML.replace("quorum: 2", "quorum: 3");
    let plan = engine
        .plan("one.yaml", yaml.as_bytes(), &BTreeMap::new())
        .await
        .expect("a plan");
    let refused = engine
        .start(&plan.bytes, yaml.as_bytes(), Confirmation::AskEach)
        .await;
    assert_eq!(refused.expect_err("nobody").code(), "FB0403");
    assert!(lab.entries().is_empty());
}

/// The playbook without its first question, planned and kept.
async fn kept(engine: &Engine, yaml: &str) -> crate::plan::plan::PlanFile {
    let plan = engine
        .plan("one.yaml", yaml.as_bytes(), &BTreeMap::new())
        .await
        .expect("a plan");
    engine.keep_plan(&plan, yaml.as_bytes()).expect("kept");
    plan
}

#[tokio::test]
async fn two_people_decide_from_the_plan_on_and_the_run_that_begins_honours_them() {
    let (lab, policy) = lab(true, &[]);
    let engine = engine(&lab, &policy);
    let plan = kept(&engine, YAML).await;
    for who in ["amira", "ben"] {
        assert_eq!(
            sign_about(&engine, &plan.plan.run, About::Start, who),
            Ok(())
        );
    }
    let (again, playbook) = engine.kept_plan(&plan.plan.run).expect("kept");
    assert_eq!(again.digest, plan.digest);
    let end = engine
        .start(&again.bytes, &playbook, Confirmation::AskEach)
        .await
        .expect("it runs");
    assert_eq!((end.ending, lab.applied("x")), (Ending::Completed, 1));
    assert_eq!(count(&lab, kind::GATE_REQUESTED), 0);
    assert!(engine.planned_runs().expect("read").is_empty());
}

#[tokio::test]
async fn a_run_id_that_people_signed_for_stands_for_no_other_plan() {
    let (lab, policy) = lab(true, &[]);
    let engine = engine(&lab, &policy);
    let plan = kept(&engine, YAML).await;
    let mut other = plan.plan.clone();
    other.name = "Another".into();
    let other = crate::plan::plan::PlanFile::of(other);
    let refused = engine
        .start(&other.bytes, YAML.as_bytes(), Confirmation::AskEach)
        .await
        .expect_err("another plan");
    assert_eq!(refused.code(), "FB0401");
    let refused = engine.keep_plan(&other, YAML.as_bytes());
    assert_eq!(refused.expect_err("another plan").code(), "FB0401");
}

#[tokio::test]
async fn an_undo_that_takes_signatures_is_carried_out_once_two_people_signed_for_it() {
    let (lab, policy) = lab(true, &["amira", "ben"]);
    let engine = engine(&lab, &policy);
    let undo = "    undo: { call: test.once, with: { name: back } }\n";
    let yaml = format!("{YAML}{undo}");
    let plan = kept(&engine, &yaml).await;
    let end = engine
        .start(&plan.bytes, yaml.as_bytes(), Confirmation::AskEach)
        .await
        .expect("it runs");
    assert_eq!(end.ending, Ending::Completed, "{end:?}");
    let steps = [StepPath::parse("it").expect("a path")];
    let refused = engine.undo(&end.run, &steps, &Confirmation::AskEach).await;
    let refused = refused.expect_err("nobody signed for it").to_string();
    assert!(
        refused.contains("0 of 2") && refused.contains("approve --undo --step it"),
        "{refused}"
    );
    assert_eq!(
        (count(&lab, kind::UNDO_STARTED), lab.applied("back")),
        (0, 0)
    );
    for who in ["amira", "ben"] {
        assert_eq!(sign_about(&engine, &end.run, About::Undo, who), Ok(()));
    }
    let after = engine.undo(&end.run, &steps, &Confirmation::AskEach).await;
    assert_eq!(after.expect("undone").steps["it"].outcome, Outcome::Undone);
    assert_eq!(lab.applied("back"), 1);
}
