//! NetworkPolicy v1, clause by clause.
//!
//! Source: Kubernetes API reference `networking.k8s.io/v1` and the concept page "Network Policies". The clauses are numbered
//! N1–N12; the number stands beside the line that follows it.
//!
//! - N1 A pod-to-pod flow needs egress of the source *and* ingress of the destination; replies are implicit.
//! - N2 A pod is isolated in a direction iff a policy of its namespace selects it and has that direction in `policyTypes`.
//! - N3 Missing `policyTypes`: Ingress always, Egress iff egress rules exist.
//! - N4 Allowed = union over all selecting policies. No order, no deny. No rule = nothing; one empty rule = everything.
//! - N5 A rule = (ports: empty = all) and (peers: empty = all).
//! - N6 Peer: podSelector alone → the policy's namespace; namespaceSelector alone → all pods there; both → and.
//! - N7 Selector semantics, in [`super::cluster::Selector::matches`].
//! - N8 Protocol TCP by default; `endPort` inclusive; a named port is resolved on the destination pod, never on an address.
//! - N9 ipBlock = cidr minus `except`, meant for outside addresses; against pod addresses plugins differ → undefined.
//! - N10 A pod and its own node always reach each other. hostNetwork pods are undefined as subjects and as selector peers.
//! - N11 Only TCP, UDP and SCTP are sure to be denied: ICMP is no flow of this engine.
//! - N12 An empty egress list means nothing is allowed (as N4), however it was written.

use std::collections::{BTreeMap, HashMap};

use super::cidr;
use super::cluster::{
    ClusterSnapshot, Direction, Labels, NetworkPolicy, Pod, PolicyPeer, PolicyPort, PolicyRule,
    PortRef, Protocol,
};

/// One end of a flow.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    /// A pod.
    Pod(&'a Pod),
    /// The node of this name, by its own address.
    Node {
        /// Its name.
        name: &'a str,
        /// Its address.
        address: &'a str,
    },
    /// An address outside the cluster.
    Address(&'a str),
}

/// Where a flow goes: destination port and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowPort {
    /// Destination port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// A rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleRef {
    /// `namespace/name`.
    pub policy: String,
    /// Rule number in its direction, from 1.
    pub rule: usize,
}

/// What the policies say about a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No policy isolates the pods concerned in the directions concerned.
    Free,
    /// These rules allow it.
    AllowedBy(Vec<RuleRef>),
    /// Denied.
    Denied,
    /// The standard does not say.
    Undefined(&'static str),
}

impl Verdict {
    /// True when the flow is certainly allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Verdict::Free | Verdict::AllowedBy(_))
    }
}

const OWN_NODE: &str = "own node";
const HOST_NETWORK: &str = "hostNetwork pods are outside NetworkPolicy (N10)";
const BLOCK_ON_POD: &str = "an ipBlock names a pod's address; plugins differ (N9)";
const SELF: &str = "a pod talking to itself is outside NetworkPolicy (N10)";

/// The policies of one state of a cluster.
pub struct Engine<'a> {
    namespaces: &'a BTreeMap<String, Labels>,
    by_namespace: HashMap<&'a str, Vec<&'a NetworkPolicy>>,
}

/// Whether a rule matches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    Unclear(&'static str),
}

impl<'a> Engine<'a> {
    /// The snapshot's policies, and `extra` ones that a plan would add.
    pub fn new(world: &'a ClusterSnapshot, extra: &'a [NetworkPolicy]) -> Self {
        let mut by_namespace: HashMap<&str, Vec<&NetworkPolicy>> = HashMap::new();
        for policy in world.policies.iter().chain(extra) {
            by_namespace
                .entry(policy.namespace.as_str())
                .or_default()
                .push(policy);
        }
        Engine {
            namespaces: &world.namespaces,
            by_namespace,
        }
    }

    /// Policies of the pod's namespace that select it, whatever their direction.
    pub fn selecting<'s>(&'s self, pod: &'s Pod) -> impl Iterator<Item = &'a NetworkPolicy> + 's {
        self.by_namespace
            .get(pod.namespace.as_str())
            .into_iter()
            .flatten()
            .copied()
            .filter(|p| p.pod_selector.matches(&pod.labels))
    }

    /// N2: a policy that selects the pod has this direction.
    pub fn isolates(&self, pod: &Pod, direction: Direction) -> bool {
        self.selecting(pod).any(|p| has_direction(p, direction))
    }

    /// N1: the whole flow, both ends.
    pub fn flow(&self, from: End<'_>, to: End<'_>, port: FlowPort) -> Verdict {
        if let Some(verdict) = exempt(from, to) {
            return verdict;
        }
        let out = match from {
            End::Pod(pod) => self.side(pod, Direction::Egress, to, port),
            _ => Verdict::Free,
        };
        let into = match to {
            End::Pod(pod) => self.side(pod, Direction::Ingress, from, port),
            _ => Verdict::Free,
        };
        both(out, into)
    }

    /// One side: what the policies that select `pod` say in `direction` about `peer`. `port` is the destination's.
    pub fn side(&self, pod: &Pod, direction: Direction, peer: End<'_>, port: FlowPort) -> Verdict {
        if pod.host_network {
            return Verdict::Undefined(HOST_NETWORK);
        }
        let mut isolated = false;
        let mut allowed = Vec::new();
        let mut unclear = None;
        let destination = match (direction, peer) {
            (Direction::Ingress, _) => Some(pod),
            (Direction::Egress, End::Pod(peer)) => Some(peer),
            (Direction::Egress, _) => None,
        };
        for policy in self.selecting(pod).filter(|p| has_direction(p, direction)) {
            isolated = true;
            for (n, rule) in rules(policy, direction).iter().enumerate() {
                if !ports_match(&rule.ports, port, destination) {
                    continue;
                }
                match self.peers_match(policy, rule, peer) {
                    Match::Yes => allowed.push(rule_ref(policy, n)),
                    Match::Unclear(why) => unclear = Some(why),
                    Match::No => {}
                }
            }
        }
        match (isolated, allowed.is_empty(), unclear) {
            (false, ..) => Verdict::Free,
            (true, false, _) => Verdict::AllowedBy(allowed),
            (true, true, Some(why)) => Verdict::Undefined(why),
            (true, true, None) => Verdict::Denied,
        }
    }

    /// N5: any peer, or no peer at all.
    fn peers_match(&self, policy: &NetworkPolicy, rule: &PolicyRule, peer: End<'_>) -> Match {
        if rule.peers.is_empty() {
            return Match::Yes;
        }
        let mut best = Match::No;
        for candidate in &rule.peers {
            match self.peer_matches(policy, candidate, peer) {
                Match::Yes => return Match::Yes,
                Match::Unclear(why) => best = Match::Unclear(why),
                Match::No => {}
            }
        }
        best
    }

    fn peer_matches(&self, policy: &NetworkPolicy, candidate: &PolicyPeer, peer: End<'_>) -> Match {
        match (candidate, peer) {
            (PolicyPeer::Pods { .. }, End::Pod(pod)) => {
                match (self.selects_peer(policy, candidate, pod), pod.host_network) {
                    (true, true) => Match::Unclear(HOST_NETWORK),
                    (true, false) => Match::Yes,
                    (false, _) => Match::No,
                }
            }
            (PolicyPeer::Pods { .. }, _) => Match::No,
            (PolicyPeer::Block { cidr, except }, End::Address(a)) => yes(in_block(cidr, except, a)),
            (PolicyPeer::Block { cidr, except }, End::Node { address, .. }) => {
                yes(in_block(cidr, except, address))
            }
            (PolicyPeer::Block { cidr, except }, End::Pod(pod)) => {
                let hit = pod.ips.iter().any(|a| in_block(cidr, except, a));
                match (hit, pod.host_network) {
                    (true, true) => Match::Yes,
                    (true, false) => Match::Unclear(BLOCK_ON_POD),
                    (false, _) => Match::No,
                }
            }
        }
    }

    /// N6: whether the selectors of a peer choose the pod.
    pub fn selects_peer(&self, policy: &NetworkPolicy, peer: &PolicyPeer, pod: &Pod) -> bool {
        let PolicyPeer::Pods { namespaces, pods } = peer else {
            return false;
        };
        let place = match namespaces {
            None => pod.namespace == policy.namespace,
            Some(selector) => self
                .namespaces
                .get(&pod.namespace)
                .is_some_and(|labels| selector.matches(labels)),
        };
        place && pods.as_ref().is_none_or(|s| s.matches(&pod.labels))
    }
}

/// N3 and N12: whether a policy speaks about a direction.
pub fn has_direction(policy: &NetworkPolicy, direction: Direction) -> bool {
    match (&policy.policy_types, direction) {
        (Some(types), d) => types.contains(&d),
        (None, Direction::Ingress) => true,
        (None, Direction::Egress) => !policy.egress.is_empty(),
    }
}

/// Its rules in a direction.
pub fn rules(policy: &NetworkPolicy, direction: Direction) -> &[PolicyRule] {
    match direction {
        Direction::Ingress => &policy.ingress,
        Direction::Egress => &policy.egress,
    }
}

/// Names a rule; `index` counts from 0.
pub fn rule_ref(policy: &NetworkPolicy, index: usize) -> RuleRef {
    RuleRef {
        policy: format!("{}/{}", policy.namespace, policy.name),
        rule: index + 1,
    }
}

/// N10: flows that no policy decides.
fn exempt(from: End<'_>, to: End<'_>) -> Option<Verdict> {
    match (from, to) {
        (End::Pod(a), End::Pod(b)) if a.uid == b.uid => Some(Verdict::Undefined(SELF)),
        (End::Pod(p), End::Node { name, .. }) | (End::Node { name, .. }, End::Pod(p))
            if p.node == name =>
        {
            Some(Verdict::AllowedBy(vec![RuleRef {
                policy: OWN_NODE.to_owned(),
                rule: 0,
            }]))
        }
        _ => None,
    }
}

/// N8: any port, or no port at all.
fn ports_match(ports: &[PolicyPort], flow: FlowPort, destination: Option<&Pod>) -> bool {
    ports.is_empty() || ports.iter().any(|p| port_matches(p, flow, destination))
}

fn port_matches(port: &PolicyPort, flow: FlowPort, destination: Option<&Pod>) -> bool {
    if port.protocol != flow.protocol {
        return false;
    }
    match (&port.port, port.end_port) {
        (None, _) => true,
        (Some(PortRef::Number(n)), Some(end)) => (*n..=end).contains(&flow.port),
        (Some(PortRef::Number(n)), None) => *n == flow.port,
        (Some(PortRef::Name(name)), _) => destination.is_some_and(|pod| {
            pod.containers
                .iter()
                .flat_map(|c| &c.ports)
                .any(|p| p.name == *name && p.protocol == flow.protocol && p.port == flow.port)
        }),
    }
}

/// N9.
fn in_block(block: &str, except: &[String], address: &str) -> bool {
    cidr::holds(block, address) && !except.iter().any(|e| cidr::holds(e, address))
}

fn yes(matches: bool) -> Match {
    if matches { Match::Yes } else { Match::No }
}

/// Both sides must allow; what one side surely denies is denied whatever the other leaves undefined.
fn both(a: Verdict, b: Verdict) -> Verdict {
    match (a, b) {
        (Verdict::Denied, _) | (_, Verdict::Denied) => Verdict::Denied,
        (Verdict::Undefined(why), _) | (_, Verdict::Undefined(why)) => Verdict::Undefined(why),
        (Verdict::AllowedBy(mut a), Verdict::AllowedBy(b)) => {
            a.extend(b);
            Verdict::AllowedBy(a)
        }
        (Verdict::AllowedBy(a), Verdict::Free) | (Verdict::Free, Verdict::AllowedBy(a)) => {
            Verdict::AllowedBy(a)
        }
        (Verdict::Free, Verdict::Free) => Verdict::Free,
    }
}
