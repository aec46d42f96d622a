//! Verdicts, staleness and bytes of plans.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};

use crate::action::registry::Registry;
use crate::incident::{IncidentId, Mode, RunId};
use crate::playbook::model::Playbook;
use crate::playbook::variable::Vars;

use super::people::Policy;
use super::plan::{Basis, Plan, PlanError, PlanFile, make};
use super::render;
use super::seen::{Observation, Previewed, Probed, StepSeen};
use super::stale;
use super::verdict::Verdict;

const YAML: &str = r#"
firebreak: playbook/v1
id: one
name: One
version: 1
types: [mitigation]
objectives: { contain: 1m }
vars:
  ns: { type: string, external: true }
  seen: { type: string }
steps:
  - id: look
    call: a.look
    with: { ns: "${ns}" }
    effect: read
    outputs: { seen: { from: "result:/value" } }
    budget: 5s
  - id: change
    call: a.change
    with: { ns: "${ns}" }
    effect: reversible
    undo: { call: a.back, with: {} }
    milestone: contained
    budget: 90s
  - id: check
    check: a.look
    with: { ns: "${ns}" }
    effect: read
  - id: uses
    call: a.look
    with: { ns: "${seen}" }
    effect: read
  - if: ns == 'shop'
    then:
      - id: here
        note: here
    else:
      - id: there
        note: there
  - if: seen == 'x'
    then:
      - id: perhaps
        note: perhaps
"#;

fn now() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-11-24T12:00:00Z")
        .expect("a time")
        .with_timezone(&Utc)
}

fn playbook() -> Playbook {
    crate::playbook::read::read(YAML.as_bytes(), None).expect("a playbook")
}

fn plan_of(playbook: &Playbook, seen: &Observation, at: DateTime<Utc>) -> Plan {
    let given = BTreeMap::from([("ns".to_owned(), "shop".to_owned())]);
    let vars = Vars::start(&playbook.vars, &given).expect("variables");
    make(
        &Basis {
            incident: &IncidentId::parse("INC-1").expect("an id"),
            mode: Mode::Live,
            run: &RunId::parse("run-0123456789abcdef").expect("an id"),
            playbook,
            vars: &vars,
            policy: &Policy::solo(),
            executor: "me@laptop",
            registry: &Registry::default(),
            now: at,
        },
        seen,
    )
}

fn verdict(plan: &Plan, path: &str) -> Verdict {
    let found = plan.steps.iter().find(|s| s.path.as_str() == path);
    found.expect("planned").verdict
}

fn seen(path: &str, step: StepSeen) -> Observation {
    Observation {
        steps: BTreeMap::from([(path.to_owned(), step)]),
        ..Observation::default()
    }
}

#[test]
fn what_rests_on_an_effect_that_has_not_happened_is_unknown_and_never_skipped() {
    let plan = plan_of(&playbook(), &Observation::default(), now());
    assert_eq!(verdict(&plan, "look"), Verdict::Run);
    assert_eq!(verdict(&plan, "change"), Verdict::NeedsApproval);
    assert_eq!(verdict(&plan, "check"), Verdict::Unknown);
    assert_eq!(verdict(&plan, "uses"), Verdict::Unknown);
    assert_eq!(verdict(&plan, "if-5/here"), Verdict::Run);
    assert_eq!(verdict(&plan, "if-5/there"), Verdict::Skip);
    assert_eq!(verdict(&plan, "if-6/perhaps"), Verdict::Unknown);
    let why = &plan
        .steps
        .iter()
        .find(|s| s.path.as_str() == "uses")
        .expect("planned")
        .why;
    assert!(
        why.as_deref().is_some_and(|w| w.contains("`seen`")),
        "{why:?}"
    );
}

#[test]
fn a_requirement_blocks_what_is_done_is_skipped_and_a_blocked_preview_refuses() {
    let blocked = StepSeen {
        require: Some(Probed::False),
        ..StepSeen::default()
    };
    let plan = plan_of(&playbook(), &seen("change", blocked), now());
    assert_eq!(verdict(&plan, "change"), Verdict::Blocked);
    assert!(plan.missing.iter().any(|m| m.code == "FB0402" && m.refuses));
    let done = StepSeen {
        done_if: Some(Probed::True),
        ..StepSeen::default()
    };
    let plan = plan_of(&playbook(), &seen("change", done), now());
    assert_eq!(verdict(&plan, "change"), Verdict::Skip);
    let host = Previewed {
        blocked: vec!["the pod uses the host's network".into()],
        ..Previewed::default()
    };
    let preview = StepSeen {
        preview: Some(Ok(host)),
        ..StepSeen::default()
    };
    let plan = plan_of(&playbook(), &seen("change", preview), now());
    assert_eq!(verdict(&plan, "change"), Verdict::Blocked);
}

#[test]
fn a_step_that_would_do_nothing_is_skipped_for_its_own_reason() {
    let idle = Previewed {
        idle: Some("no image is configured".into()),
        ..Previewed::default()
    };
    let preview = StepSeen {
        preview: Some(Ok(idle)),
        ..StepSeen::default()
    };
    let plan = plan_of(&playbook(), &seen("change", preview), now());
    assert_eq!(verdict(&plan, "change"), Verdict::Skip);
    let step = plan.steps.iter().find(|s| s.path.as_str() == "change");
    let why = step.and_then(|s| s.why.clone());
    assert_eq!(why.as_deref(), Some("no image is configured"));
}

#[test]
fn the_same_facts_give_the_same_bytes_and_only_those_bytes_are_a_plan() {
    let first = PlanFile::of(plan_of(&playbook(), &Observation::default(), now()));
    let again = PlanFile::of(plan_of(&playbook(), &Observation::default(), now()));
    assert_eq!((&first.bytes, &first.digest), (&again.bytes, &again.digest));
    assert_eq!(PlanFile::read(&first.bytes).expect("a plan"), first);
    let mut spaced = first.bytes.clone();
    spaced.insert(1, b' ');
    assert_eq!(PlanFile::read(&spaced), Err(PlanError::NotCanonical));
    let longer = String::from_utf8(first.bytes)
        .expect("text")
        .replacen('{', "{\"more\":1,", 1);
    assert!(matches!(
        PlanFile::read(longer.as_bytes()),
        Err(PlanError::Unreadable(_))
    ));
}

#[test]
fn stale_on_each_binding_fact_by_name_and_on_no_other() {
    let facts = |uid: &str, pods: &str, cluster: &str| {
        let preview = Previewed {
            binding: BTreeMap::from([("pod uid".to_owned(), uid.to_owned())]),
            shown: BTreeMap::from([("pods".to_owned(), pods.to_owned())]),
            ..Previewed::default()
        };
        Observation {
            binding: BTreeMap::from([("cluster".to_owned(), cluster.to_owned())]),
            ..seen(
                "change",
                StepSeen {
                    preview: Some(Ok(preview)),
                    ..StepSeen::default()
                },
            )
        }
    };
    let book = playbook();
    let plan = plan_of(&book, &facts("1", "3", "c"), now());
    let later = now() + Duration::minutes(29);
    let fresh = |o: &Observation| stale::check(&plan, &plan_of(&book, o, later), later);
    assert_eq!(
        fresh(&facts("1", "4", "c")),
        Ok(()),
        "what always moves does not bind"
    );
    assert_eq!(
        fresh(&facts("2", "3", "c")).expect_err("stale").fact,
        "pod uid of step `change`"
    );
    assert_eq!(
        fresh(&facts("1", "3", "d")).expect_err("stale").fact,
        "cluster"
    );
    let old = now() + Duration::minutes(31);
    assert_eq!(
        stale::check(&plan, &plan, old).expect_err("old").fact,
        "its time"
    );
    let mut other = plan.clone();
    other.trust_sha256 = "0".into();
    assert!(
        stale::check(&plan, &other, now())
            .expect_err("stale")
            .fact
            .contains("trust")
    );
    let mut other = plan.clone();
    other.vars.insert("ns".into(), "bank".into());
    assert_eq!(
        stale::check(&plan, &other, now()).expect_err("stale").fact,
        "variable `ns`"
    );
}

#[test]
fn the_plan_says_when_an_objective_does_not_fit_and_hides_terminal_escapes() {
    let mut book = playbook();
    book.name = "One\u{1b}[31m\u{202e}".into();
    let plan = plan_of(&book, &Observation::default(), now());
    assert!(
        plan.objectives_said
            .iter()
            .any(|s| s.contains("does not fit")),
        "{:?}",
        plan.objectives_said
    );
    let text = render::text(&plan, "00");
    assert!(
        !text.contains('\u{1b}') && !text.contains('\u{202e}'),
        "{text}"
    );
    assert!(text.contains("\\u{001b}"));
}
