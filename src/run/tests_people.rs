//! What waits for people: doubts that a look leaves, failures that a run went past, answers, and what a park says.

use std::collections::BTreeMap;

use crate::action::Class;
use crate::incident::{Outcome, RunId, StepPath, kind};
use crate::port::{Ledger as _, Reply};

use super::engine::RunEnd;
use super::error::EngineError;
use super::machine::Ending;
use super::testing::Lab;
use super::tests::{one_step, start};
use super::waiting::Awaited;

const TWO_QUESTIONS: &str = "firebreak: playbook/v1\nid: one\nname: One\nversion: 1\ntypes: [mitigation]\nroles: { ic: { kind: individual, contact: ic } }\nvars: { found: { type: string } }\nsteps:\n  - id: first\n    manual: look\n    owner: ic\n    outputs: { found: { from: answer } }\n  - id: second\n    manual: look again\n    owner: ic\n";

fn path(text: &str) -> StepPath {
    StepPath::parse(text).expect("a path")
}

fn fault(lab: &Lab, name: &str, classes: Vec<Class>) {
    let mut faults = lab.world.faults.lock().unwrap();
    faults.insert(name.into(), classes);
}

async fn changed(lab: &Lab) -> RunEnd {
    let yaml = one_step("test.change", "reversible", "");
    start(lab, &yaml, &BTreeMap::new()).await.expect("it runs")
}

fn answer(lab: &Lab, run: &RunId, step: &str) -> Result<(), EngineError> {
    answer_with(lab, run, step, Outcome::Done, &[])
}

fn answer_with(
    lab: &Lab,
    run: &RunId,
    step: &str,
    outcome: Outcome,
    given: &[(&str, &str)],
) -> Result<(), EngineError> {
    let engine = lab.engine();
    let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let given = given.iter().map(text).collect();
    let who = &engine.executor;
    engine
        .answer(run, &path(step), who, "seen", outcome, &given)
        .map(|_| ())
}

#[tokio::test]
async fn an_effect_that_the_look_afterwards_cannot_tell_is_in_doubt_and_never_done() {
    let lab = Lab::new();
    lab.world.dark.lock().unwrap().insert("x".into());
    let end = changed(&lab).await;
    assert!(matches!(end.ending, Ending::InDoubt(_)), "{end:?}");
    assert_eq!((end.in_doubt, lab.applied("x")), (vec!["it".into()], 1));
    lab.world.dark.lock().unwrap().clear();
    let done = lab.engine().resume(&end.run).await.expect("it looks again");
    assert_eq!((done.ending, lab.applied("x")), (Ending::Completed, 1));
    assert_eq!(done.steps["it"].by, "probe");
}

#[tokio::test]
async fn an_effect_at_which_the_look_fails_is_in_doubt_and_never_done() {
    let lab = Lab::new();
    lab.world.blind.lock().unwrap().insert("x".into());
    let end = changed(&lab).await;
    assert!(matches!(end.ending, Ending::InDoubt(_)), "{end:?}");
    assert!(
        end.steps["it"].summary.contains("the server is away"),
        "{end:?}"
    );
    let waits = &end.waiting[0];
    assert_eq!(waits.awaits, Awaited::Verdict);
    assert_eq!(
        waits.next,
        "firebreak incident resolve it --as FOUND --reason TEXT --incident INC-2031"
    );
    assert!(
        waits.why.ends_with("FOUND is ran, did-not-run or retry"),
        "{}",
        waits.why
    );
}

#[tokio::test]
async fn a_failure_that_the_run_went_past_is_not_tried_again_after_a_later_park() {
    let lab = Lab::with(
        Reply::Typed {
            reason: None,
            shown_sha256: None,
        },
        false,
    );
    fault(&lab, "x", vec![Class::Failed]);
    let more = "    on_failure: continue\n  - id: ask\n    manual: look\n    owner: ic\n";
    let yaml = one_step("test.change", "reversible", more).replace(
        "steps:\n",
        "roles: { ic: { kind: individual, contact: ic } }\nsteps:\n",
    );
    let end = start(&lab, &yaml, &BTreeMap::new()).await.expect("parks");
    assert!(matches!(end.ending, Ending::Parked(_)), "{end:?}");
    answer(&lab, &end.run, "ask").expect("it was asked");
    let done = lab.engine().resume(&end.run).await.expect("resumes");
    assert_eq!(done.ending, Ending::Completed);
    assert_eq!((done.failed, lab.applied("x")), (vec!["it".into()], 1));
}

#[tokio::test]
async fn a_failure_in_a_branch_is_tried_again_when_the_run_was_parked_by_a_person_meanwhile() {
    let lab = Lab::with(Reply::NoTerminal, false);
    fault(&lab, "x", vec![Class::Failed]);
    let yaml = one_step("test.look", "read", "");
    let end = start(&lab, &yaml, &BTreeMap::new()).await.expect("parks");
    let engine = lab.engine();
    engine
        .park(&end.run, &engine.executor, "lunch")
        .expect("it parks");
    let done = lab.engine().resume(&end.run).await.expect("resumes");
    assert_eq!((done.ending, lab.applied("x")), (Ending::Completed, 2));
}

#[tokio::test]
async fn a_park_names_the_step_that_waits_and_the_command_that_moves_it_on() {
    let lab = Lab::with(Reply::NoTerminal, false);
    let end = start(&lab, TWO_QUESTIONS, &BTreeMap::new())
        .await
        .expect("parks");
    let Ending::Parked(hold) = &end.ending else {
        panic!("{end:?}");
    };
    assert!(
        hold.why
            .starts_with("step `first` waits for an answer of ic")
    );
    assert_eq!(hold.steps, ["first"]);
    let command = "firebreak incident answer first TEXT --value found=VALUE --incident INC-2031";
    assert_eq!(hold.hint, command);
    let parked = lab
        .entries()
        .into_iter()
        .find(|e| e.kind == kind::RUN_PARKED);
    assert_eq!(parked.expect("a park").body["hint"], command);
    assert_eq!(end.waiting[0].next, command);
    let gate = Lab::with(Reply::NoTerminal, false);
    let end = changed(&gate).await;
    assert_eq!(
        (end.waiting[0].awaits, end.waiting[0].next.as_str()),
        (
            Awaited::Approval,
            "firebreak playbook approve --step it --incident INC-2031"
        )
    );
}

#[tokio::test]
async fn a_manual_step_takes_no_answer_before_it_is_asked() {
    let lab = Lab::with(Reply::NoTerminal, false);
    let end = start(&lab, TWO_QUESTIONS, &BTreeMap::new())
        .await
        .expect("parks");
    let early = answer(&lab, &end.run, "second").expect_err("not asked");
    assert_eq!(early.code(), "FB0610");
    assert!(
        early.to_string().contains("has not been asked yet"),
        "{early}"
    );
    let found = [("found", "a shell")];
    answer_with(&lab, &end.run, "first", Outcome::Done, &found).expect("it was asked");
}

#[tokio::test]
async fn an_answer_without_its_value_or_with_one_that_is_not_allowed_is_refused_and_says_what_is() {
    let lab = Lab::with(Reply::NoTerminal, false);
    let yaml = TWO_QUESTIONS.replace(
        "found: { type: string }",
        "found: { type: string, enum: [\"yes\", \"no\"] }",
    );
    let end = start(&lab, &yaml, &BTreeMap::new()).await.expect("parks");
    assert!(
        end.waiting[0].why.ends_with("; found is yes or no"),
        "{end:?}"
    );
    let before = lab.entries().len();
    for given in [&[][..], &[("found", "not sure")], &[("other", "yes")]] {
        let refused = answer_with(&lab, &end.run, "first", Outcome::Done, given);
        let refused = refused.expect_err("it does not fit");
        assert_eq!(refused.code(), "FB0610");
        let named = refused.to_string();
        assert!(
            ["yes or no", "\"yes\", \"no\"", "it asks for found"]
                .iter()
                .any(|n| named.contains(n)),
            "{named}"
        );
    }
    assert_eq!(
        lab.entries().len(),
        before,
        "nothing of it is in the ledger"
    );
    answer_with(&lab, &end.run, "first", Outcome::Done, &[("found", "no")]).expect("it fits");
    let done = lab.engine().resume(&end.run).await.expect("goes on");
    assert_eq!(done.values["found"], "no");
    assert_eq!(done.waiting[0].step, "second");
}

#[tokio::test]
async fn an_answer_at_the_terminal_that_does_not_fit_is_asked_again_and_never_written() {
    let lab = Lab::with(Reply::NoTerminal, true);
    let yaml = TWO_QUESTIONS.replace(
        "found: { type: string }",
        "found: { type: string, enum: [\"yes\", \"no\"] }",
    );
    let end = start(&lab, &yaml, &BTreeMap::new()).await.expect("parks");
    assert_eq!(end.waiting[0].step, "first", "{end:?}");
    assert!(lab.entries().iter().all(|e| e.kind != kind::ANSWER));
}

#[tokio::test]
async fn a_failure_says_in_one_short_line_what_happened_and_keeps_the_other_way_apart() {
    let lab = Lab::new();
    fault(&lab, "x", vec![Class::Failed]);
    let end = changed(&lab).await;
    let Ending::Parked(hold) = &end.ending else {
        panic!("{end:?}");
    };
    assert!(!hold.why.contains("firebreak "), "{}", hold.why);
    assert_eq!(
        end.waiting[0].or.as_deref(),
        Some("firebreak incident resolve it --as ran --reason TEXT --incident INC-2031")
    );
    let stopping = Lab::new();
    fault(&stopping, "x", vec![Class::Failed]);
    let yaml = one_step("test.change", "reversible", "    on_failure: stop\n");
    let end = start(&stopping, &yaml, &BTreeMap::new()).await;
    let end = end.expect("it ends");
    let Ending::Stopped { why } = &end.ending else {
        panic!("{end:?}");
    };
    assert!(!why.contains("resolve") && end.waiting.is_empty(), "{why}");
}

#[tokio::test]
async fn a_refused_gate_is_not_opened_by_a_word_about_it() {
    let lab = Lab::with(Reply::Declined, false);
    let yaml = "firebreak: playbook/v1\nid: one\nname: One\nversion: 1\ntypes: [mitigation]\nroles: { ic: { kind: individual, contact: ic } }\nsteps:\n  - id: gate\n    approve: { roles: [ic], quorum: 1, ttl: 5m, on_timeout: park }\n  - id: then\n    note: later\n";
    let end = start(&lab, yaml, &BTreeMap::new()).await.expect("parks");
    assert_eq!(end.failed, ["gate"]);
    let engine = lab.engine();
    let said = engine.resolve(&end.run, &path("gate"), &engine.executor, "ran", "I say so");
    assert_eq!(said.expect_err("a gate").code(), "FB0610");
}

#[tokio::test]
async fn an_incident_that_was_declared_is_not_declared_again_by_a_step() {
    for (stated, stamps) in [(false, 1), (true, 0)] {
        let lab = Lab::new();
        if stated {
            let body = serde_json::json!({"name": "declared", "by": "statement"});
            let draft = crate::incident::Draft::new(kind::MILESTONE, &body);
            lab.ledger.append(vec![draft]).expect("written");
        }
        let yaml = one_step("test.look", "read", "    milestone: declared\n");
        start(&lab, &yaml, &BTreeMap::new()).await.expect("runs");
        let by_step = |e: &&crate::incident::Entry| e.kind == kind::MILESTONE && e.run().is_some();
        assert_eq!(lab.entries().iter().filter(by_step).count(), stamps);
    }
}

#[tokio::test]
async fn files_that_a_child_leaves_become_exhibits_and_what_is_not_there_is_said() {
    let lab = Lab::new();
    let yaml = "firebreak: playbook/v1\nid: one\nname: One\nversion: 1\ntypes: [mitigation]\nvars: { home: { type: string, value: / } }\nsteps:\n  - id: it\n    run: [/bin/true]\n    effect: read\n    evidence: { kind: logs, files: [\"/etc/pass*d\", \"/etc/${home}none\", \"/etc/no-such-*\"] }\n";
    let end = start(&lab, yaml, &BTreeMap::new()).await.expect("runs");
    let summary = &end.steps["it"].summary;
    assert!(
        summary.contains("no file fits `/etc/no-such-*`"),
        "{summary}"
    );
    assert!(
        lab.bags
            .0
            .lock()
            .unwrap()
            .iter()
            .any(|(n, _)| n == "it/files/etc/passwd")
    );
}

#[tokio::test]
async fn an_undo_by_another_action_of_which_nothing_can_be_told_is_stuck_and_never_undone() {
    let lab = Lab::new();
    let more = "    undo: { call: test.change, with: { name: back } }\n";
    let yaml = one_step("test.change", "reversible", more);
    let end = start(&lab, &yaml, &BTreeMap::new()).await.expect("runs");
    lab.world.dark.lock().unwrap().insert("back".into());
    let engine = lab.engine();
    let after = engine
        .undo(&end.run, &[], &super::Confirmation::AskEach)
        .await;
    let after = after.expect("it was tried");
    assert_eq!(after.steps["it"].outcome, Outcome::Stuck, "{after:?}");
}
