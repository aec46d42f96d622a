//! Properties over random small worlds. A failing case is named by its seed.

use super::worlds::*;
use crate::reach::cluster::*;
use crate::reach::isolation::{QUARANTINE, with_labels};
use crate::reach::monotone::{Classes, State, check, deny_policy, opens};
use crate::reach::policy::{End, Engine, FlowPort, Verdict};
use crate::reach::solver::{selectors_that_see, solve};

const WORLDS: u64 = 400;

const PORTS: [(u16, Protocol); 4] = [
    (80, Protocol::Tcp),
    (443, Protocol::Tcp),
    (5432, Protocol::Udp),
    (7, Protocol::Sctp),
];

fn states(pod: &Pod, solution: &crate::reach::solver::Solution) -> Vec<State> {
    let deny = vec![deny_policy(&pod.namespace, "firebreak-x", QUARANTINE, "x")];
    let mut a = pod.labels.clone();
    a.insert(QUARANTINE.into(), "x".into());
    let b = solution.apply(&a);
    vec![
        State {
            name: "before",
            extra: vec![],
            pod: pod.clone(),
        },
        State {
            name: "policy",
            extra: deny.clone(),
            pod: pod.clone(),
        },
        State {
            name: "A",
            extra: deny.clone(),
            pod: with_labels(pod, a),
        },
        State {
            name: "B",
            extra: deny,
            pod: with_labels(pod, b),
        },
    ]
}

/// All flows of a state, among all pods: the slow and plain way.
fn flows(world: &ClusterSnapshot, state: &State) -> Vec<Verdict> {
    let pods: Vec<Pod> = world
        .pods
        .iter()
        .map(|p| {
            if p.uid == state.pod.uid {
                state.pod.clone()
            } else {
                p.clone()
            }
        })
        .collect();
    let engine = Engine::new(world, &state.extra);
    let mut all = Vec::new();
    for from in &pods {
        for to in &pods {
            for (port, protocol) in PORTS {
                all.push(engine.flow(End::Pod(from), End::Pod(to), FlowPort { port, protocol }));
            }
        }
    }
    all
}

#[test]
fn every_prefix_of_a_plan_is_monotone_by_the_checker_and_by_brute_force() {
    for seed in 0..WORLDS {
        let world = random(seed);
        let target = &world.pods[Dice::new(seed).below(world.pods.len())];
        let solution = solve(&target.labels, &selectors_that_see(&world, target), "out");
        let states = states(target, &solution);
        let widened = check(&world, &Classes::of(&world), &states);
        assert_eq!(widened, vec![], "seed {seed}");
        for pair in states.windows(2) {
            let (before, after) = (flows(&world, &pair[0]), flows(&world, &pair[1]));
            let opened = before.iter().zip(&after).find(|(b, a)| opens(b, a));
            assert_eq!(opened, None, "seed {seed} state {}", pair[1].name);
        }
    }
}

#[test]
fn the_solver_never_adds_a_match_and_escapes_what_it_says() {
    for seed in 0..WORLDS {
        let world = random(seed);
        for target in &world.pods {
            let seen = selectors_that_see(&world, target);
            let solution = solve(&target.labels, &seen, "out");
            let after = solution.apply(&target.labels);
            for s in &seen {
                let (was, is) = (
                    s.selector.matches(&target.labels),
                    s.selector.matches(&after),
                );
                assert!(was || !is, "seed {seed}: {} is new", s.name);
                let must = !matches!(
                    s.role,
                    crate::reach::solver::Role::Budget | crate::reach::solver::Role::Denies
                );
                let said = solution.remaining.iter().any(|r| r.name == s.name);
                assert!(!(is && must) || said, "seed {seed}: {} is not said", s.name);
            }
        }
    }
}

#[test]
fn other_pods_keep_every_flow_among_themselves() {
    for seed in 0..WORLDS {
        let world = random(seed);
        let target = &world.pods[0];
        let solution = solve(&target.labels, &selectors_that_see(&world, target), "out");
        let states = states(target, &solution);
        let (before, after) = (flows(&world, &states[0]), flows(&world, &states[3]));
        let n = world.pods.len();
        for (i, (b, a)) in before.iter().zip(&after).enumerate() {
            let (from, to) = (i / (n * PORTS.len()), (i / PORTS.len()) % n);
            if from != 0 && to != 0 {
                assert_eq!(b, a, "seed {seed}");
            }
        }
    }
}

#[test]
fn what_the_residual_calls_denied_lets_no_flow_through() {
    for seed in 0..WORLDS {
        let world = random(seed);
        let target = &world.pods[0];
        let solution = solve(&target.labels, &selectors_that_see(&world, target), "out");
        let last = states(target, &solution).pop().expect("a last state");
        let left = crate::reach::residual::residual(&world, &last.extra, &last.pod);
        let through = flows(&world, &last)
            .into_iter()
            .enumerate()
            .filter(|(i, _)| {
                let n = world.pods.len();
                let (from, to) = (i / (n * PORTS.len()), (i / PORTS.len()) % n);
                (from == 0) != (to == 0)
            })
            .any(|(_, v)| v.is_allowed());
        assert!(!(left.is_denied() && through), "seed {seed}");
    }
}

#[test]
fn a_policy_more_never_opens_a_flow_unless_it_has_rules() {
    for seed in 0..WORLDS {
        let world = random(seed);
        let deny = deny_policy("red", "firebreak-x", "app", "a");
        let states = [
            State {
                name: "before",
                extra: vec![],
                pod: world.pods[0].clone(),
            },
            State {
                name: "deny",
                extra: vec![deny],
                pod: world.pods[0].clone(),
            },
        ];
        let (before, after) = (flows(&world, &states[0]), flows(&world, &states[1]));
        assert!(
            !before.iter().zip(&after).any(|(b, a)| opens(b, a)),
            "seed {seed}"
        );
    }
}

#[test]
fn the_checker_catches_a_step_that_widens() {
    // Moving out without the deny first escapes the policy that isolated the pod.
    let mut world = nine_pods();
    let mut only_b = policy("x", "only-b", "pod=a");
    only_b.ingress = vec![rule(vec![], vec![pods_peer(None, Some("pod=b"))])];
    world.policies.push(only_b);
    let states = [
        State {
            name: "before",
            extra: vec![],
            pod: world.pods[0].clone(),
        },
        State {
            name: "B alone",
            extra: vec![],
            pod: with_labels(&world.pods[0], labels("")),
        },
    ];
    let widened = check(&world, &Classes::of(&world), &states);
    assert!(
        widened.iter().any(|w| w.flow.contains("y/a → x/a")),
        "{widened:?}"
    );
}
