//! The engine held against its promises: killed at every append, at any order, resumed to the same end.

use std::collections::BTreeMap;

use crate::incident::{Outcome, RunId, kind};

use super::engine::{Confirmation, RunEnd};
use super::journal::Journal;
use super::machine::{Ending, Next, Todo, next};
use super::testing::{Cut, Lab, history};
use super::*;

const TWELVE: &str = r#"
firebreak: playbook/v1
id: twelve
name: Twelve kinds of trouble
version: 1
types: [mitigation]
roles: { ic: { kind: individual, contact: incident-commander } }
vars:
  ns: { type: string, external: true }
  seen: { type: string }
  given: { type: string }
steps:
  - id: first
    call: test.look
    with: { name: "${ns}" }
    effect: read
    outputs: { seen: { from: "result:/value" } }
  - id: change
    call: test.change
    with: { name: a }
    effect: reversible
    milestone: contained
  - parallel:
      - id: left
        call: test.change
        with: { name: left }
        effect: reversible
      - id: right
        steps:
          - id: one
            call: test.look
            with: { name: right }
            effect: read
          - id: two
            call: test.once
            with: { name: two }
            effect: irreversible
      - id: say
        notify: { to: [ic], template: "pod in ${ns}" }
    id: beside
  - id: choice
    if: seen == 'shop-seen'
    then:
      - id: right-way
        call: test.once
        with: { name: "${seen}" }
        effect: irreversible
    else:
      - id: wrong-way
        call: test.change
        with: { name: never }
        effect: reversible
  - id: hold
    wait: 1h
  - id: ask
    manual: look at the door
    owner: ic
    outputs: { given: { from: answer } }
  - id: last
    check: test.look
    with: { name: is-a }
    effect: read
  - id: line
    note: "answer was ${given}"
    milestone: restored
"#;

fn vars() -> BTreeMap<String, String> {
    BTreeMap::from([("ns".to_owned(), "shop".to_owned())])
}

pub(super) async fn start(
    lab: &Lab,
    yaml: &str,
    given: &BTreeMap<String, String>,
) -> Result<RunEnd, EngineError> {
    let engine = lab.engine();
    let id = yaml
        .lines()
        .find_map(|l| l.strip_prefix("id: "))
        .expect("an id");
    let plan = engine
        .plan(&format!("{id}.yaml"), yaml.as_bytes(), given)
        .await?;
    engine
        .start(&plan.bytes, yaml.as_bytes(), Confirmation::AskEach)
        .await
}

/// The run of the ledger, if it was created.
pub(super) fn run_of(lab: &Lab) -> Option<RunId> {
    let entries = lab.entries();
    let created = entries.iter().find(|e| e.kind == kind::RUN_CREATED)?;
    RunId::parse(created.run()?).ok()
}

fn outcomes(end: &RunEnd) -> BTreeMap<String, Outcome> {
    end.steps
        .iter()
        .map(|(p, s)| (p.clone(), s.outcome))
        .collect()
}

async fn uncut() -> (Lab, RunEnd) {
    let lab = Lab::new();
    let end = start(&lab, TWELVE, &vars()).await.expect("it runs");
    (lab, end)
}

#[tokio::test]
async fn a_run_of_every_kind_completes_and_the_branch_not_taken_is_skipped() {
    let (lab, end) = uncut().await;
    assert_eq!(end.ending, Ending::Completed, "{end:?}");
    assert_eq!(end.steps["choice/wrong-way"].by, "skipped");
    assert_eq!(lab.applied("never"), 0);
    assert_eq!(end.steps["line"].summary, "answer was given");
    let stamped = lab
        .entries()
        .iter()
        .filter(|e| e.kind == kind::MILESTONE)
        .count();
    assert_eq!(stamped, 2);
}

#[tokio::test]
async fn killed_at_every_append_in_every_way_it_resumes_to_the_same_end() {
    let (whole, expected) = uncut().await;
    let appends = *whole.ledger.appends.lock().unwrap();
    for cut in [Cut::Before, Cut::After, Cut::Torn] {
        for at in 0..appends {
            let lab = Lab::new();
            *lab.ledger.cut.lock().unwrap() = Some((at, cut));
            let first = start(&lab, TWELVE, &vars()).await;
            assert!(first.is_err(), "{cut:?} at {at} did not stop the run");
            lab.ledger.revive();
            let end = match run_of(&lab) {
                Some(run) => lab.engine().resume(&run).await,
                None => start(&lab, TWELVE, &vars()).await,
            };
            let end = end.unwrap_or_else(|e| panic!("{cut:?} at {at}: {e}"));
            assert_eq!(end.ending, Ending::Completed, "{cut:?} at {at}: {end:?}");
            assert_eq!(outcomes(&end), outcomes(&expected), "{cut:?} at {at}");
            for once in ["two", "shop-seen"] {
                assert!(lab.applied(once) <= 1, "{once} ran twice: {cut:?} at {at}");
            }
            assert_eq!(
                *lab.world.there.lock().unwrap(),
                *whole.world.there.lock().unwrap()
            );
            let stamped = lab
                .entries()
                .iter()
                .filter(|e| e.kind == kind::MILESTONE)
                .count();
            assert_eq!(stamped, 2, "{cut:?} at {at}");
        }
    }
}

#[tokio::test]
async fn an_intent_that_cannot_be_written_leaves_no_effect() {
    let lab = Lab::new();
    let engine = lab.engine();
    let yaml = one_step("test.once", "irreversible", "");
    let plan = engine
        .plan("one.yaml", yaml.as_bytes(), &BTreeMap::new())
        .await
        .expect("a plan");
    // run.created, gate.requested, gate.decided, then the intent.
    *lab.ledger.cut.lock().unwrap() = Some((3, Cut::Before));
    let ended = engine
        .start(&plan.bytes, yaml.as_bytes(), Confirmation::AskEach)
        .await;
    assert_eq!(ended.expect_err("the ledger is gone").code(), "FB0601");
    assert_eq!(lab.applied("x"), 0);
}

pub(super) fn one_step(action: &str, effect: &str, more: &str) -> String {
    format!(
        "firebreak: playbook/v1\nid: one\nname: One\nversion: 1\ntypes: [mitigation]\nsteps:\n  - id: it\n    call: {action}\n    with: {{ name: x }}\n    effect: {effect}\n{more}"
    )
}

async fn definition_of(lab: &Lab) -> (PinnedDefinition, RunId) {
    let run = run_of(lab).expect("a run");
    (lab.engine().pinned(&run).expect("pinned").0, run)
}

#[tokio::test]
async fn next_is_total_and_the_same_after_a_reload_for_every_prefix_of_a_journal() {
    let (lab, _) = uncut().await;
    let (definition, run) = definition_of(&lab).await;
    let entries = lab.entries();
    for n in 1..=entries.len() {
        let prefix = history(entries[..n].to_vec());
        let journal = Journal::of(&prefix, &run).expect("possible");
        let answer = next(&definition, &journal).expect("total");
        let again =
            next(&definition, &Journal::of(&prefix, &run).expect("possible")).expect("total");
        assert_eq!(answer, again);
        // What is begun and has no outcome is never started again by the epoch that began it.
        if let Next::Do(todos) = &answer {
            for todo in todos {
                if let Todo::Start(start) = todo {
                    let (_, attempt) = journal.attempt(start.at.path.as_str());
                    assert!(
                        !matches!(attempt.at, journal::At::Started { .. }),
                        "{n}: {todo:?}"
                    );
                }
            }
        }
    }
}

/// Orders of the entries in which each step's own entries keep theirs.
fn shuffled(entries: &[crate::incident::Entry], seed: u64) -> Vec<crate::incident::Entry> {
    let mut queues: BTreeMap<String, Vec<crate::incident::Entry>> = BTreeMap::new();
    for entry in entries.iter().rev() {
        queues
            .entry(entry.step().unwrap_or_default().to_owned())
            .or_default()
            .push(entry.clone());
    }
    let mut state = seed;
    let mut order = Vec::new();
    while !queues.is_empty() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let pick = usize::try_from(state >> 33).unwrap_or(0) % queues.len();
        let key = queues.keys().nth(pick).expect("in range").clone();
        let queue = queues.get_mut(&key).expect("there");
        let mut entry = queue.pop().expect("not empty");
        entry.seq = order.len() as u64;
        order.push(entry);
        if queue.is_empty() {
            queues.remove(&key);
        }
    }
    order
}

#[tokio::test]
async fn the_order_in_which_parallel_results_arrive_changes_nothing() {
    let (lab, _) = uncut().await;
    let (definition, run) = definition_of(&lab).await;
    let entries = lab.entries();
    let beside = |e: &&crate::incident::Entry| e.step().is_some_and(|s| s.starts_with("beside"));
    let first = entries
        .iter()
        .position(|e| beside(&e))
        .expect("parallel steps");
    let last = entries
        .iter()
        .rposition(|e| beside(&e))
        .expect("parallel steps");
    let expected = {
        let journal = Journal::of(&history(entries[..=last].to_vec()), &run).expect("possible");
        next(&definition, &journal).expect("total")
    };
    for seed in 0..200 {
        let mut order = entries[..first].to_vec();
        order.extend(shuffled(&entries[first..=last], seed));
        for (n, entry) in order.iter_mut().enumerate() {
            entry.seq = n as u64;
        }
        let journal = Journal::of(&history(order), &run).expect("possible");
        assert_eq!(
            next(&definition, &journal).expect("total"),
            expected,
            "seed {seed}"
        );
    }
}

#[tokio::test]
async fn a_history_that_cannot_have_happened_is_an_error() {
    let (lab, _) = uncut().await;
    let (_, run) = definition_of(&lab).await;
    let entries = lab.entries();
    let started = entries
        .iter()
        .position(|e| e.kind == kind::STEP_STARTED)
        .expect("a start");
    let mut twice = entries[..=started].to_vec();
    twice.push(entries[started].clone());
    assert!(Journal::of(&history(twice), &run).is_err(), "started twice");
    let mut again = entries[..=started].to_vec();
    again[started].body["epoch"] = serde_json::json!(7);
    assert!(
        Journal::of(&history(again), &run).is_err(),
        "a runner of another epoch"
    );
    let created = vec![entries[0].clone(), entries[0].clone()];
    assert!(
        Journal::of(&history(created), &run).is_err(),
        "created twice"
    );
}
