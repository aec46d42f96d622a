//! The invariant of every plan: a flow may be allowed after a state only if it was allowed before it (or stays undefined for the
//! same reason). It is checked by evaluating representative flows, independent of the reasoning that made the plan.

use std::collections::{BTreeMap, BTreeSet};

use super::cidr;
use super::cluster::{
    ClusterSnapshot, Direction, Labels, NetworkPolicy, Pod, PolicyPeer, PortRef, Protocol, Selector,
};
use super::policy::{End, Engine, FlowPort, Verdict, rules};
use super::solver::keys_of;

/// One state of a plan: the policies that it adds and the pod as it then is.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Name for people: `before`, `A`, `B`.
    pub name: &'static str,
    /// Policies added to the snapshot's.
    pub extra: Vec<NetworkPolicy>,
    /// The pod with the labels it has then.
    pub pod: Pod,
}

/// A flow that a state opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Widened {
    /// The state that opens it.
    pub state: &'static str,
    /// The flow, for people.
    pub flow: String,
}

/// Pods of the snapshot that no policy can tell apart, one of each kind. Made once, used for every target.
pub struct Classes<'a> {
    peers: Vec<&'a Pod>,
}

impl<'a> Classes<'a> {
    /// Groups by namespace, labels that some selector names, named ports, node and host network.
    pub fn of(world: &'a ClusterSnapshot) -> Self {
        let named = named_keys(world);
        let mut seen = BTreeSet::new();
        let peers = world
            .pods
            .iter()
            .filter(|p| {
                let labels: Vec<(&str, &str)> = p
                    .labels
                    .iter()
                    .filter(|(k, _)| named.contains(k.as_str()))
                    .map(|(k, v)| (k.as_str(), v.as_str()))
                    .collect();
                let ports: Vec<(&str, u16)> = p
                    .containers
                    .iter()
                    .flat_map(|c| &c.ports)
                    .filter(|p| !p.name.is_empty())
                    .map(|p| (p.name.as_str(), p.port))
                    .collect();
                seen.insert((p.namespace.as_str(), labels, ports, p.host_network))
            })
            .collect();
        Classes { peers }
    }
}

/// Checks every state against the one before it. The first state is what is there now.
pub fn check(world: &ClusterSnapshot, classes: &Classes<'_>, states: &[State]) -> Vec<Widened> {
    let probes = Probes::of(world, states);
    let mut widened = Vec::new();
    for pair in states.windows(2) {
        let (was, is) = (&pair[0], &pair[1]);
        let (before, after) = (
            Engine::new(world, &was.extra),
            Engine::new(world, &is.extra),
        );
        for peer in classes.peers.iter().filter(|p| p.uid != is.pod.uid) {
            probes.each(|port| {
                let mut see = |from: [End<'_>; 2], to: [End<'_>; 2]| {
                    let (b, a) = (
                        before.flow(from[0], to[0], port),
                        after.flow(from[1], to[1], port),
                    );
                    if opens(&b, &a) {
                        widened.push(Widened {
                            state: is.name,
                            flow: format!(
                                "{} → {} on {}/{:?}",
                                name(from[1]),
                                name(to[1]),
                                port.port,
                                port.protocol
                            ),
                        });
                    }
                };
                let peer = End::Pod(peer);
                let pods = [End::Pod(&was.pod), End::Pod(&is.pod)];
                see(pods, [peer; 2]);
                see([peer; 2], pods);
            });
        }
        for address in &probes.addresses {
            probes.each(|port| {
                let outside = End::Address(address);
                for direction in [Direction::Ingress, Direction::Egress] {
                    let b = before.side(&was.pod, direction, outside, port);
                    let a = after.side(&is.pod, direction, outside, port);
                    if opens(&b, &a) {
                        widened.push(Widened {
                            state: is.name,
                            flow: format!(
                                "{} {} {address} on {}/{:?}",
                                is.pod.id(),
                                super::words::direction_text(direction),
                                port.port,
                                port.protocol
                            ),
                        });
                    }
                }
            });
        }
    }
    widened
}

/// True when `after` allows, or leaves undefined, what `before` did not.
pub fn opens(before: &Verdict, after: &Verdict) -> bool {
    match (before, after) {
        (_, Verdict::Denied) => false,
        // What was allowed may become undefined: that is no new permission.
        (before, _) if before.is_allowed() => false,
        (Verdict::Undefined(a), Verdict::Undefined(b)) => a != b,
        _ => true,
    }
}

/// The ports and addresses at which an answer can change.
struct Probes {
    ports: BTreeSet<FlowPort>,
    addresses: BTreeSet<String>,
}

impl Probes {
    fn of(world: &ClusterSnapshot, states: &[State]) -> Self {
        let mut ports = BTreeSet::new();
        let mut addresses: BTreeSet<String> =
            ["198.51.100.1".to_owned(), "2001:db8::1".to_owned()].into();
        let extra = states.iter().flat_map(|s| &s.extra);
        let engine = Engine::new(world, &[]);
        for policy in world.policies.iter().chain(extra) {
            if !concerns(&engine, policy, states) {
                continue;
            }
            for rule in rules(policy, Direction::Ingress)
                .iter()
                .chain(rules(policy, Direction::Egress))
            {
                for port in &rule.ports {
                    let mut put = |port_number| {
                        ports.insert(FlowPort {
                            port: port_number,
                            protocol: port.protocol,
                        });
                    };
                    match &port.port {
                        Some(PortRef::Number(n)) => {
                            put(*n);
                            if let Some(end) = port.end_port {
                                put(end);
                                put(end.saturating_add(1));
                            }
                        }
                        Some(PortRef::Name(name)) => {
                            let declared = world.pods.iter().flat_map(|p| &p.containers);
                            declared
                                .flat_map(|c| &c.ports)
                                .filter(|p| p.name == *name)
                                .for_each(|p| put(p.port));
                        }
                        None => put(1),
                    }
                }
                for peer in &rule.peers {
                    if let PolicyPeer::Block { cidr, except } = peer {
                        let firsts = std::iter::once(cidr)
                            .chain(except)
                            .filter_map(|c| cidr::first(c));
                        addresses.extend(firsts.map(|a| a.to_string()));
                    }
                }
            }
        }
        // A port that no rule names stands for all such ports.
        let unnamed = (1..u16::MAX).find(|n| ports.iter().all(|p| p.port != *n));
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            if let Some(port) = unnamed {
                ports.insert(FlowPort { port, protocol });
            }
        }
        Probes { ports, addresses }
    }

    fn each(&self, mut see: impl FnMut(FlowPort)) {
        self.ports.iter().for_each(|p| see(*p));
    }
}

/// Policies that select the pod in some state, or name it as a peer in one state and not in another.
fn concerns(engine: &Engine<'_>, policy: &NetworkPolicy, states: &[State]) -> bool {
    let subject = states
        .iter()
        .any(|s| s.pod.namespace == policy.namespace && policy.pod_selector.matches(&s.pod.labels));
    subject
        || rules(policy, Direction::Ingress)
            .iter()
            .chain(rules(policy, Direction::Egress))
            .flat_map(|r| &r.peers)
            .any(|peer| {
                let mut answers = states
                    .iter()
                    .map(|s| engine.selects_peer(policy, peer, &s.pod));
                let first = answers.next();
                answers.any(|a| Some(a) != first)
            })
}

/// Label keys that any policy of the snapshot names.
fn named_keys(world: &ClusterSnapshot) -> BTreeSet<&str> {
    let mut keys = BTreeSet::new();
    for policy in &world.policies {
        keys.extend(keys_of(&policy.pod_selector));
        for rule in policy.ingress.iter().chain(&policy.egress) {
            for peer in &rule.peers {
                if let PolicyPeer::Pods {
                    pods: Some(selector),
                    ..
                } = peer
                {
                    keys.extend(keys_of(selector));
                }
            }
        }
    }
    keys
}

/// Selectors of the cluster that name a label key, with whose they are.
pub fn who_names(world: &ClusterSnapshot, key: &str) -> Vec<String> {
    let names = |s: &Selector| keys_of(s).contains(key);
    let mut who = BTreeSet::new();
    for p in &world.policies {
        let peers = p.ingress.iter().chain(&p.egress).flat_map(|r| &r.peers);
        let in_peers = peers.into_iter().any(|peer| match peer {
            PolicyPeer::Pods { pods, .. } => pods.as_ref().is_some_and(names),
            PolicyPeer::Block { .. } => false,
        });
        if names(&p.pod_selector) || in_peers {
            who.insert(format!("policy {}/{}", p.namespace, p.name));
        }
    }
    for s in &world.services {
        if s.selector.as_ref().is_some_and(|l| l.contains_key(key)) {
            who.insert(format!("Service {}/{}", s.namespace, s.name));
        }
    }
    for c in world.controllers.iter().filter(|c| names(&c.selector)) {
        who.insert(format!("{} {}/{}", c.kind, c.namespace, c.name));
    }
    for b in &world.disruption_budgets {
        if b.selector.as_ref().is_some_and(names) {
            who.insert(format!("PodDisruptionBudget {}/{}", b.namespace, b.name));
        }
    }
    who.into_iter().collect()
}

fn name(end: End<'_>) -> String {
    match end {
        End::Pod(p) => p.id().to_string(),
        End::Node { name, .. } => format!("node {name}"),
        End::Address(a) => a.to_owned(),
    }
}

/// A policy of ours: no rule, both directions, exactly the pods with this label value.
pub fn deny_policy(namespace: &str, name: &str, key: &str, value: &str) -> NetworkPolicy {
    let label: Labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    NetworkPolicy {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        pod_selector: Selector::labels(label),
        policy_types: Some(vec![Direction::Ingress, Direction::Egress]),
        ..NetworkPolicy::default()
    }
}
