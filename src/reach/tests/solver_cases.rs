//! Named cases of the relabel solver.

use super::worlds::*;
use crate::reach::solver::{Role, Seen, Solution, solve};

fn seen(role: Role, name: &str, text: &str) -> Seen {
    Seen {
        role,
        name: name.into(),
        selector: selector(text),
    }
}

fn solved(pod: &str, seen: &[Seen]) -> (String, Solution) {
    let solution = solve(&labels(pod), seen, "out");
    let text = solution
        .set
        .iter()
        .map(|(k, v)| match v {
            Some(v) => format!("{k}={v}"),
            None => format!("-{k}"),
        })
        .collect::<Vec<_>>()
        .join(" ");
    (text, solution)
}

#[test]
fn the_hash_is_enough_where_only_the_replicaset_selects() {
    let (set, s) = solved(
        "app=web,pod-template-hash=1",
        &[seen(Role::Controller, "rs", "app=web,pod-template-hash=1")],
    );
    assert_eq!(set, "-pod-template-hash");
    assert_eq!(s.escaped[0].fails, "pod-template-hash=1");
}

#[test]
fn one_change_escapes_service_replicaset_and_policy_together() {
    let (set, s) = solved(
        "app=web,pod-template-hash=1",
        &[
            seen(Role::Controller, "rs", "app=web,pod-template-hash=1"),
            seen(Role::Service, "svc", "app=web"),
            seen(Role::Allows, "np", "app=web"),
        ],
    );
    assert_eq!(set, "-app");
    assert!(s.remaining.is_empty() && s.exact && s.escaped.len() == 3);
}

#[test]
fn a_looser_replicaset_must_not_adopt_the_orphan() {
    let (set, s) = solved(
        "app=web,pod-template-hash=1",
        &[
            seen(Role::Controller, "own", "app=web,pod-template-hash=1"),
            seen(Role::Controller, "looser", "app=web"),
        ],
    );
    assert_eq!(set, "-app");
    assert_eq!(s.adopters().count(), 0);
}

#[test]
fn removing_is_given_up_for_a_fresh_value_where_it_would_match_something_else() {
    let (set, _) = solved(
        "app=web",
        &[
            seen(Role::Service, "svc", "app=web"),
            seen(Role::Allows, "for-the-nameless", "!app"),
        ],
    );
    assert_eq!(set, "app=out");
}

#[test]
fn exists_is_escaped_by_removal_only() {
    let (set, _) = solved("app=web", &[seen(Role::Allows, "np", "app")]);
    assert_eq!(set, "-app");
}

#[test]
fn an_absent_key_gets_a_fresh_value_against_doesnotexist() {
    let (set, _) = solved("app=web", &[seen(Role::Allows, "np", "!canary")]);
    assert_eq!(set, "canary=out");
}

#[test]
fn a_fresh_value_occurs_nowhere() {
    let (set, _) = solved(
        "app=web",
        &[
            seen(Role::Service, "svc", "app=web"),
            seen(Role::Service, "named-like-ours", "app=out"),
            seen(Role::Allows, "np", "!app"),
        ],
    );
    assert_eq!(set, "app=out-1");
}

#[test]
fn an_empty_selector_is_named_as_one_that_cannot_be_escaped() {
    let (set, s) = solved(
        "app=web",
        &[
            seen(Role::Allows, "everyone", ""),
            seen(Role::Service, "svc", "app=web"),
        ],
    );
    assert_eq!(set, "-app");
    assert_eq!(s.remaining.len(), 1);
    assert!(s.remaining[0].why.contains("selects every pod"));
}

#[test]
fn a_conflict_names_the_smallest_set_and_gives_up_the_least_important() {
    // Leaving the ReplicaSet needs `a` gone or fresh, which makes `b-only` match unless `b` goes; the Service keeps to `b`.
    let (_, s) = solved(
        "a=1,b=1",
        &[
            seen(Role::Controller, "rs", "a=1"),
            seen(Role::Service, "svc", "b=1"),
            seen(Role::Denies, "if-neither", "a notin (1),b notin (1)"),
        ],
    );
    assert_eq!(s.conflicts, vec![vec!["svc".to_owned(), "rs".to_owned()]]);
    assert_eq!(s.remaining[0].name, "svc");
    assert_eq!(s.adopters().count(), 0);
}

#[test]
fn labels_that_people_read_stay_where_another_serves() {
    let (set, _) = solved(
        "app=web,slot=3",
        &[seen(Role::Service, "svc", "app=web,slot=3")],
    );
    assert_eq!(set, "-slot");
}

#[test]
fn many_keys_end_within_the_bound() {
    let pod: String = (0..16).map(|n| format!("k{n:02}=v,")).collect();
    let all: Vec<Seen> = (0..16)
        .map(|n| seen(Role::Service, &format!("s{n}"), &format!("k{n:02}=v")))
        .collect();
    let (_, s) = solved(&pod, &all);
    assert_eq!(s.set.len(), 16);
}
