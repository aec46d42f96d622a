//! Known truth tables of NetworkPolicy, re-expressed as our own: the situations are those of the Kubernetes end-to-end suite
//! (`test/e2e/network/netpol`) and of policy-assistant's integration cases (network-policy-api), both Apache-2.0.

use super::worlds::*;
use crate::reach::cluster::*;
use crate::reach::policy::{End, Engine, FlowPort, Verdict};

/// Lines `from > to port: yes|no|?` over the nine pods.
fn expect(policies: Vec<NetworkPolicy>, table: &str) {
    let mut world = nine_pods();
    world.policies = policies;
    let engine = Engine::new(&world, &[]);
    let find = |id: &str| {
        world
            .pods
            .iter()
            .find(|p| p.id().to_string() == id)
            .expect("a pod of the nine")
    };
    for line in table.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (flow, expected) = line.split_once(": ").expect("flow: answer");
        let (from, rest) = flow.split_once(" > ").expect("from > to");
        let (to, port) = rest.split_once(' ').expect("to port");
        let (number, protocol) = match port.split_once('/') {
            Some((n, "UDP")) => (n, Protocol::Udp),
            Some((n, _)) => (n, Protocol::Sctp),
            None => (port, Protocol::Tcp),
        };
        let port = FlowPort {
            port: number.parse().expect("port"),
            protocol,
        };
        let end = |id: &'static str| End::Address(id);
        let end_of = |id: &str| match id {
            "outside" => end("198.51.100.7"),
            "internal" => end("192.168.1.7"),
            "node-1" => End::Node {
                name: "node-1",
                address: "192.0.2.1",
            },
            "node-2" => End::Node {
                name: "node-2",
                address: "192.0.2.2",
            },
            id => End::Pod(find(id)),
        };
        let answer = match engine.flow(end_of(from), end_of(to), port) {
            Verdict::Free | Verdict::AllowedBy(_) => "yes",
            Verdict::Denied => "no",
            Verdict::Undefined(_) => "?",
        };
        assert_eq!(answer, expected, "{line}");
    }
}

fn ingress(mut p: NetworkPolicy, rules: Vec<PolicyRule>) -> NetworkPolicy {
    p.ingress = rules;
    p.policy_types = Some(vec![Direction::Ingress]);
    p
}

fn egress(mut p: NetworkPolicy, rules: Vec<PolicyRule>) -> NetworkPolicy {
    p.egress = rules;
    p.policy_types = Some(vec![Direction::Egress]);
    p
}

#[test]
fn without_policies_everything_is_allowed() {
    expect(
        vec![],
        "x/a > y/b 80: yes
         outside > x/a 80: yes
         x/a > outside 443: yes",
    );
}

#[test]
fn default_deny_ingress_closes_the_namespace_and_nothing_else() {
    expect(
        vec![ingress(policy("x", "deny", ""), vec![])],
        "x/b > x/a 80: no
         y/b > x/a 80: no
         outside > x/a 80: no
         x/a > y/a 80: yes
         y/a > z/b 80: yes",
    );
}

#[test]
fn default_deny_egress_leaves_ingress_alone() {
    expect(
        vec![egress(policy("x", "deny", ""), vec![])],
        "x/a > y/a 80: no
         x/a > outside 443: no
         y/a > x/a 80: yes",
    );
}

#[test]
fn one_empty_rule_allows_everything() {
    expect(
        vec![ingress(policy("x", "all", ""), vec![PolicyRule::default()])],
        "y/b > x/a 80: yes
         outside > x/a 9/UDP: yes",
    );
}

#[test]
fn a_pod_selector_alone_means_the_policys_own_namespace() {
    let rules = vec![rule(vec![], vec![pods_peer(None, Some("pod=b"))])];
    expect(
        vec![ingress(policy("x", "from-b", "pod=a"), rules)],
        "x/b > x/a 80: yes
         y/b > x/a 80: no
         x/c > x/a 80: no
         x/c > x/b 80: yes",
    );
}

#[test]
fn a_namespace_selector_alone_means_all_its_pods() {
    let rules = vec![rule(vec![], vec![pods_peer(Some("ns=y"), None)])];
    expect(
        vec![ingress(policy("x", "from-y", "pod=a"), rules)],
        "y/a > x/a 80: yes
         y/c > x/a 80: yes
         x/b > x/a 80: no
         z/a > x/a 80: no",
    );
}

#[test]
fn both_selectors_in_one_peer_are_and_two_peers_are_or() {
    let and = vec![rule(vec![], vec![pods_peer(Some("ns=y"), Some("pod=a"))])];
    expect(
        vec![ingress(policy("x", "and", "pod=a"), and)],
        "y/a > x/a 80: yes
         y/b > x/a 80: no
         x/b > x/a 80: no",
    );
    let or = vec![rule(
        vec![],
        vec![
            pods_peer(Some("ns=y"), None),
            pods_peer(None, Some("pod=b")),
        ],
    )];
    expect(
        vec![ingress(policy("x", "or", "pod=a"), or)],
        "y/c > x/a 80: yes
         x/b > x/a 80: yes
         x/c > x/a 80: no",
    );
}

#[test]
fn an_empty_pod_selector_in_a_peer_is_every_pod_of_the_namespace() {
    let rules = vec![rule(vec![], vec![pods_peer(None, Some(""))])];
    expect(
        vec![ingress(policy("x", "same", ""), rules)],
        "x/b > x/a 80: yes
         y/a > x/a 80: no
         outside > x/a 80: no",
    );
}

#[test]
fn ports_and_peers_of_one_rule_must_both_hold() {
    let rules = vec![rule(vec![tcp(80)], vec![pods_peer(None, Some("pod=b"))])];
    expect(
        vec![ingress(policy("x", "both", "pod=a"), rules)],
        "x/b > x/a 80: yes
         x/b > x/a 81: no
         x/b > x/a 80/UDP: no
         x/c > x/a 80: no",
    );
}

#[test]
fn policies_add_up_and_never_take_away() {
    let deny = ingress(policy("x", "deny", ""), vec![]);
    let allow = ingress(
        policy("x", "allow", "pod=a"),
        vec![rule(vec![tcp(80)], vec![])],
    );
    expect(
        vec![deny, allow],
        "y/b > x/a 80: yes
         y/b > x/a 81: no
         y/b > x/b 80: no",
    );
}

#[test]
fn a_flow_needs_both_ends() {
    let out = egress(
        policy("y", "out", "pod=b"),
        vec![rule(vec![], vec![pods_peer(Some("ns=x"), None)])],
    );
    let into = ingress(
        policy("x", "in", "pod=a"),
        vec![rule(vec![], vec![pods_peer(Some("ns=z"), None)])],
    );
    expect(
        vec![out, into],
        "y/b > x/a 80: no
         y/b > x/b 80: yes
         y/b > z/a 80: no
         z/c > x/a 80: yes",
    );
}

#[test]
fn a_named_port_is_resolved_on_the_destination() {
    let named = PolicyPort {
        port: Some(PortRef::Name("serve-80".into())),
        ..PolicyPort::default()
    };
    expect(
        vec![egress(
            policy("x", "named", "pod=a"),
            vec![rule(vec![named], vec![])],
        )],
        "x/a > y/b 80: yes
         x/a > y/a 80: no
         x/a > outside 80: no",
    );
}

#[test]
fn a_port_range_is_inclusive_at_both_ends() {
    let range = PolicyPort {
        end_port: Some(90),
        ..tcp(80)
    };
    expect(
        vec![egress(
            policy("x", "range", "pod=a"),
            vec![rule(vec![range], vec![])],
        )],
        "x/a > y/b 79: no
         x/a > y/b 80: yes
         x/a > outside 90: yes
         x/a > y/b 91: no",
    );
}

#[test]
fn a_block_allows_outside_without_its_exceptions_and_is_undefined_on_pods() {
    let rules = vec![rule(vec![], vec![block("0.0.0.0/0", &["192.168.0.0/16"])])];
    expect(
        vec![egress(policy("x", "net", "pod=a"), rules)],
        "x/a > outside 443: yes
         x/a > internal 443: no
         x/a > y/b 80: ?",
    );
}

#[test]
fn missing_policy_types_mean_ingress_and_egress_only_with_rules() {
    let bare = policy("x", "bare", "pod=a");
    let mut with_egress = policy("x", "with-egress", "pod=b");
    with_egress.egress = vec![rule(vec![tcp(80)], vec![])];
    expect(
        vec![bare, with_egress],
        "y/a > x/a 80: no
         x/a > y/a 443: yes
         x/b > y/a 443: no
         x/b > y/a 80: yes
         y/a > x/b 80: no",
    );
}

#[test]
fn absent_keys_satisfy_notin_and_doesnotexist() {
    expect(
        vec![ingress(
            policy("x", "negative", "team notin (red),!canary,pod in (a;b)"),
            vec![],
        )],
        "y/a > x/a 80: no
         y/a > x/b 80: no
         y/a > x/c 80: yes",
    );
}

#[test]
fn the_own_node_always_gets_through_and_another_node_is_an_address() {
    expect(
        vec![ingress(policy("x", "deny", ""), vec![])],
        "node-1 > x/a 80: yes
         node-2 > x/a 80: no",
    );
}

#[test]
fn host_network_is_undefined_on_either_side() {
    let mut world = nine_pods();
    world.pods[0].host_network = true;
    world.policies = vec![
        ingress(policy("x", "deny", "pod=a"), vec![]),
        ingress(
            policy("y", "from-x", ""),
            vec![rule(vec![], vec![pods_peer(Some("ns=x"), None)])],
        ),
    ];
    let engine = Engine::new(&world, &[]);
    let port = FlowPort {
        port: 80,
        protocol: Protocol::Tcp,
    };
    for (from, to) in [(3, 0), (0, 3)] {
        let verdict = engine.flow(End::Pod(&world.pods[from]), End::Pod(&world.pods[to]), port);
        assert!(matches!(verdict, Verdict::Undefined(_)), "{verdict:?}");
    }
}
