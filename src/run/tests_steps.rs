//! One step and what can become of it: failures, doubts, gates, undo, children, interruption.

use std::collections::BTreeMap;

use crate::action::Class;
use crate::incident::{Outcome, StepPath, kind};
use crate::port::Reply;

use super::engine::{Confirmation, Confirmed};
use super::machine::Ending;
use super::testing::Lab;
use super::tests::{one_step, start};

#[tokio::test]
async fn a_lost_reply_is_looked_at_and_never_sent_again_blind() {
    let lab = Lab::new();
    lab.world
        .faults
        .lock()
        .unwrap()
        .insert("x".into(), vec![Class::InDoubt]);
    let end = start(
        &lab,
        &one_step("test.once", "irreversible", ""),
        &BTreeMap::new(),
    )
    .await
    .expect("runs");
    assert_eq!(end.ending, Ending::Completed);
    assert_eq!(
        (lab.applied("x"), end.steps["it"].by.as_str()),
        (1, "probe")
    );
}

#[tokio::test]
async fn what_cannot_be_told_is_in_doubt_until_a_person_decides() {
    let lab = Lab::new();
    lab.world
        .faults
        .lock()
        .unwrap()
        .insert("x".into(), vec![Class::InDoubt]);
    lab.world.dark.lock().unwrap().insert("x".into());
    let end = start(
        &lab,
        &one_step("test.once", "irreversible", ""),
        &BTreeMap::new(),
    )
    .await
    .expect("runs");
    assert!(matches!(end.ending, Ending::InDoubt(_)), "{end:?}");
    assert_eq!(end.in_doubt, ["it"]);
    let again = lab.engine().resume(&end.run).await.expect("resumes");
    assert!(matches!(again.ending, Ending::InDoubt(_)));
    assert_eq!(lab.applied("x"), 1);
    let step = StepPath::parse("it").expect("a path");
    let engine = lab.engine();
    engine
        .resolve(&end.run, &step, &engine.executor, "ran", "I saw it")
        .expect("open");
    let done = lab.engine().resume(&end.run).await.expect("resumes");
    assert_eq!((done.ending, lab.applied("x")), (Ending::Completed, 1));
}

#[tokio::test]
async fn a_failed_step_parks_and_a_resume_tries_it_as_a_new_attempt() {
    let lab = Lab::new();
    lab.world
        .faults
        .lock()
        .unwrap()
        .insert("x".into(), vec![Class::Denied]);
    let end = start(
        &lab,
        &one_step("test.change", "reversible", ""),
        &BTreeMap::new(),
    )
    .await
    .expect("runs");
    assert!(
        matches!(&end.ending, Ending::Parked(h) if h.code.as_deref() == Some("FB0405")),
        "{end:?}"
    );
    let done = lab.engine().resume(&end.run).await.expect("resumes");
    assert_eq!((done.ending, lab.applied("x")), (Ending::Completed, 2));
    let attempts: Vec<_> = lab
        .entries()
        .iter()
        .filter(|e| e.kind == kind::STEP_STARTED)
        .map(|e| e.refs.attempt)
        .collect();
    assert_eq!(attempts, [Some(1), Some(2)]);
}

#[tokio::test]
async fn a_right_that_a_preview_found_missing_refuses_the_run_before_it_starts() {
    let lab = Lab::new();
    lab.world.denied.lock().unwrap().insert("x".into());
    let refused = start(
        &lab,
        &one_step("test.change", "reversible", ""),
        &BTreeMap::new(),
    )
    .await;
    let error = refused.expect_err("a right is missing");
    assert_eq!(error.code(), "FB0405", "{error}");
    assert_eq!(lab.applied("x"), 0);
}

#[tokio::test]
async fn a_reading_step_is_tried_again_by_itself_and_an_effect_is_not() {
    let lab = Lab::new();
    let faults = || vec![Class::Transient, Class::Transient];
    lab.world
        .faults
        .lock()
        .unwrap()
        .insert("x".into(), faults());
    let end = start(&lab, &one_step("test.look", "read", ""), &BTreeMap::new())
        .await
        .expect("runs");
    assert_eq!((end.ending, lab.applied("x")), (Ending::Completed, 3));
    let lab = Lab::new();
    lab.world
        .faults
        .lock()
        .unwrap()
        .insert("x".into(), faults());
    let end = start(
        &lab,
        &one_step("test.change", "reversible", ""),
        &BTreeMap::new(),
    )
    .await
    .expect("runs");
    assert_eq!((end.failed, lab.applied("x")), (vec!["it".to_owned()], 1));
}

#[tokio::test]
async fn what_only_waits_goes_on_under_the_decision_it_has_and_a_failure_asks_again() {
    for (class, decisions) in [(Class::Waiting, 1), (Class::Failed, 2)] {
        let lab = Lab::new();
        let faults = vec![class];
        lab.world.faults.lock().unwrap().insert("x".into(), faults);
        let end = start(
            &lab,
            &one_step("test.once", "irreversible", ""),
            &BTreeMap::new(),
        )
        .await
        .expect("runs");
        assert!(matches!(end.ending, Ending::Parked(_)), "{end:?}");
        let again = lab.engine().resume(&end.run).await.expect("resumes");
        assert_eq!((again.ending, lab.applied("x")), (Ending::Completed, 2));
        let about = |e: &&crate::incident::Entry| e.kind == kind::GATE_DECIDED;
        let decided = lab.entries().iter().filter(about).count();
        assert_eq!(decided, decisions, "{class:?}");
    }
}

#[tokio::test]
async fn on_failure_continue_goes_on_and_stop_ends_the_run() {
    let lab = Lab::new();
    lab.world
        .faults
        .lock()
        .unwrap()
        .insert("x".into(), vec![Class::Failed]);
    let more = "    on_failure: continue\n  - id: then\n    note: later\n";
    let end = start(
        &lab,
        &one_step("test.change", "reversible", more),
        &BTreeMap::new(),
    )
    .await
    .expect("runs");
    assert_eq!(
        (end.ending, end.failed),
        (Ending::Completed, vec!["it".to_owned()])
    );
    let lab = Lab::new();
    lab.world
        .faults
        .lock()
        .unwrap()
        .insert("x".into(), vec![Class::Failed]);
    let more = "    on_failure: stop\n  - id: then\n    note: later\n";
    let end = start(
        &lab,
        &one_step("test.change", "reversible", more),
        &BTreeMap::new(),
    )
    .await
    .expect("runs");
    assert!(matches!(end.ending, Ending::Stopped { .. }));
    assert!(!end.steps.contains_key("then"));
}

#[tokio::test]
async fn without_a_terminal_a_gate_parks_and_a_typed_word_from_elsewhere_opens_it() {
    let lab = Lab::with(Reply::NoTerminal, false);
    let end = start(
        &lab,
        &one_step("test.change", "reversible", ""),
        &BTreeMap::new(),
    )
    .await
    .expect("runs");
    assert!(matches!(end.ending, Ending::Parked(_)) && lab.applied("x") == 0);
    let engine = lab.engine();
    let step = StepPath::parse("it").expect("a path");
    engine
        .approve_typed(
            &end.run,
            &step,
            &engine.executor,
            crate::incident::body::Decision::Approve,
            None,
            "0",
        )
        .expect("it waits");
    let done = lab.engine().resume(&end.run).await.expect("resumes");
    assert_eq!((done.ending, lab.applied("x")), (Ending::Completed, 1));
}

#[tokio::test]
async fn a_declined_step_fails_and_nothing_happens() {
    let lab = Lab::with(Reply::Declined, false);
    let end = start(
        &lab,
        &one_step("test.change", "reversible", ""),
        &BTreeMap::new(),
    )
    .await
    .expect("runs");
    assert!(matches!(end.ending, Ending::Parked(_)) && lab.applied("x") == 0);
    assert_eq!(end.steps["it"].class.as_deref(), Some("refused"));
}

#[tokio::test]
async fn one_confirmation_opens_reversible_steps_and_never_an_irreversible_one() {
    for (action, effect, completes) in [
        ("test.change", "reversible", true),
        ("test.once", "irreversible", false),
    ] {
        let lab = Lab::with(Reply::NoTerminal, false);
        let engine = lab.engine();
        let yaml = one_step(action, effect, "");
        let plan = engine
            .plan("one.yaml", yaml.as_bytes(), &BTreeMap::new())
            .await
            .expect("a plan");
        let given = Confirmation::Given(Confirmed {
            shown_sha256: plan.digest.clone(),
            reason: None,
        });
        let end = engine
            .start(&plan.bytes, yaml.as_bytes(), given)
            .await
            .expect("runs");
        assert_eq!(end.ending == Ending::Completed, completes, "{effect}");
    }
}

#[tokio::test]
async fn solo_never_destroys_alone() {
    let lab = Lab::new();
    let end = start(
        &lab,
        &one_step("test.once", "destructive", ""),
        &BTreeMap::new(),
    )
    .await
    .expect("runs");
    assert!(
        matches!(&end.ending, Ending::Parked(h) if h.why.contains("second person")),
        "{end:?}"
    );
    assert_eq!(lab.applied("x"), 0);
}

#[tokio::test]
async fn a_plan_is_stale_when_a_binding_fact_changed_or_its_bytes_did() {
    let lab = Lab::new();
    let engine = lab.engine();
    let yaml = one_step("test.change", "reversible", "");
    lab.world
        .facts
        .lock()
        .unwrap()
        .insert("uid".into(), "1".into());
    let plan = engine
        .plan("one.yaml", yaml.as_bytes(), &BTreeMap::new())
        .await
        .expect("a plan");
    lab.world
        .facts
        .lock()
        .unwrap()
        .insert("uid".into(), "2".into());
    let refused = engine
        .start(&plan.bytes, yaml.as_bytes(), Confirmation::AskEach)
        .await
        .expect_err("stale");
    assert_eq!(refused.code(), "FB0401");
    assert!(
        refused.to_string().contains("uid of step `it`"),
        "{refused}"
    );
    lab.world
        .facts
        .lock()
        .unwrap()
        .insert("uid".into(), "1".into());
    let other = yaml.replace("name: One", "name: Two");
    let refused = engine
        .start(&plan.bytes, other.as_bytes(), Confirmation::AskEach)
        .await
        .expect_err("stale");
    assert!(refused.to_string().contains("the playbook"), "{refused}");
    let mut edited = plan.bytes.clone();
    edited.push(b'\n');
    assert!(
        engine
            .start(&edited, yaml.as_bytes(), Confirmation::AskEach)
            .await
            .is_err()
    );
    assert!(
        lab.entries().is_empty(),
        "nothing was recorded, nothing was done"
    );
}

#[tokio::test]
async fn a_second_runner_is_refused_and_a_run_starts_once() {
    let lab = Lab::new();
    let engine = lab.engine();
    let yaml = one_step("test.look", "read", "");
    let plan = engine
        .plan("one.yaml", yaml.as_bytes(), &BTreeMap::new())
        .await
        .expect("a plan");
    let lock = engine.lock(&plan.plan.run).expect("free");
    let busy = engine
        .start(&plan.bytes, yaml.as_bytes(), Confirmation::AskEach)
        .await
        .expect_err("busy");
    assert_eq!(busy.code(), "FB0603");
    drop(lock);
    engine
        .start(&plan.bytes, yaml.as_bytes(), Confirmation::AskEach)
        .await
        .expect("runs");
    assert!(
        engine
            .start(&plan.bytes, yaml.as_bytes(), Confirmation::AskEach)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn undo_goes_backwards_only_on_request_and_says_what_is_stuck() {
    let lab = Lab::new();
    let yaml = one_step(
        "test.change",
        "reversible",
        "  - id: more\n    call: test.change\n    with: { name: why }\n    effect: reversible\n",
    );
    let end = start(&lab, &yaml, &BTreeMap::new()).await.expect("runs");
    let after = lab
        .engine()
        .undo(&end.run, &[], &Confirmation::AskEach)
        .await
        .expect("undone");
    assert_eq!(after.steps["it"].outcome, Outcome::Undone);
    let order: Vec<_> = lab
        .entries()
        .iter()
        .filter(|e| e.kind == kind::UNDO_STARTED)
        .map(|e| e.step().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(order, ["more", "it"]);
    assert!(lab.world.there.lock().unwrap().is_empty());

    let lab = Lab::new();
    let end = start(
        &lab,
        &yaml.replace("name: why", "name: glued"),
        &BTreeMap::new(),
    )
    .await
    .expect("runs");
    let after = lab
        .engine()
        .undo(&end.run, &[], &Confirmation::AskEach)
        .await
        .expect("tried");
    assert_eq!(after.stuck, [("more".to_owned(), vec!["pull".to_owned()])]);
    assert!(
        lab.world.there.lock().unwrap().contains("x"),
        "nothing before a stuck undo is taken back"
    );
}

#[tokio::test]
async fn an_interrupted_run_starts_nothing_new_and_resumes() {
    let lab = Lab::new();
    lab.cancel.send_replace(true);
    let end = start(
        &lab,
        &one_step("test.change", "reversible", ""),
        &BTreeMap::new(),
    )
    .await
    .expect("parks");
    assert!(end.interrupted && lab.applied("x") == 0);
    lab.cancel.send_replace(false);
    let done = lab.engine().resume(&end.run).await.expect("resumes");
    assert_eq!((done.ending, lab.applied("x")), (Ending::Completed, 1));
}

#[tokio::test]
async fn a_child_gets_a_clean_environment_and_its_output_a_bag() {
    let lab = Lab::new();
    let yaml = "firebreak: playbook/v1\nid: one\nname: One\nversion: 1\ntypes: [mitigation]\nvars: { out: { type: string } }\nsteps:\n  - id: it\n    run: [/usr/bin/env]\n    effect: read\n  - id: echo\n    run: [/bin/echo, hello]\n    effect: read\n    outputs: { out: { from: stdout } }\n";
    let end = start(&lab, yaml, &BTreeMap::new()).await.expect("runs");
    assert_eq!(end.ending, Ending::Completed, "{end:?}");
    assert_eq!(end.values["out"], "hello");
    let bags = lab.bags.0.lock().unwrap();
    let env = bags.iter().find(|(n, _)| n == "it/stdout").expect("kept");
    assert!(env.1.is_empty(), "{}", String::from_utf8_lossy(&env.1));
}

#[tokio::test]
async fn a_requirement_that_does_not_hold_blocks_and_done_if_leaves_nothing_to_do() {
    let lab = Lab::new();
    let more = "    require: { call: test.look, with: { name: is-z } }\n    on_failure: continue\n  - id: then\n    call: test.change\n    with: { name: why }\n    effect: reversible\n    done_if: { call: test.look, with: { name: is-z } }\n";
    let yaml = one_step("test.change", "reversible", more);
    let refused = start(&lab, &yaml, &BTreeMap::new())
        .await
        .expect_err("blocked in the plan");
    assert_eq!(refused.code(), "FB0402");
    lab.world.there.lock().unwrap().insert("z".into());
    let end = start(&lab, &yaml, &BTreeMap::new()).await.expect("runs");
    assert_eq!((lab.applied("x"), lab.applied("why")), (1, 0));
    assert_eq!(end.steps["then"].by, "probe");
}

#[tokio::test]
async fn a_drill_records_a_child_and_runs_none_and_its_later_steps_get_what_a_plan_may_assume() {
    let mut lab = Lab::new();
    lab.mode = crate::incident::Mode::Drill;
    let yaml = "firebreak: playbook/v1\nid: one\nname: One\nversion: 1\ntypes: [mitigation]\nvars: { out: { type: string } }\nsteps:\n  - id: it\n    run: [/bin/echo, hello]\n    effect: read\n    outputs: { out: { from: stdout } }\n    plan_value: { out: assumed }\n";
    let end = start(&lab, yaml, &BTreeMap::new()).await.expect("runs");
    assert_eq!(end.ending, Ending::Completed, "{end:?}");
    assert_eq!(end.values["out"], "assumed");
    assert!(lab.bags.0.lock().unwrap().is_empty(), "nothing ran");
}
