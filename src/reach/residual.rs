//! What still allows a pod's traffic in one state: per direction the rule, its peers and its ports.

use serde::{Deserialize, Serialize};

use super::cluster::{ClusterSnapshot, Direction, NetworkPolicy, Pod, PolicyPeer};
use super::policy::{Engine, has_direction, rule_ref, rules};
use super::words::{peers_text, ports_text};

/// One thing that still allows, or may.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Remaining {
    /// Direction, as seen from the pod.
    pub direction: Direction,
    /// `namespace/name` of the policy; empty when nothing isolates the pod in this direction.
    pub policy: String,
    /// Rule number from 1; 0 where it is not about a rule.
    pub rule: usize,
    /// Whom it allows, for people.
    pub peers: String,
    /// On which ports, for people.
    pub ports: String,
    /// Concrete destinations or sources that people ask about: `2 pods (shop/db-0, …)`, `Internet`, `metadata address`.
    pub reaches: Vec<String>,
}

impl std::fmt::Display for Remaining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, way) = match self.direction {
            Direction::Ingress => ("ingress", "from"),
            Direction::Egress => ("egress", "to"),
        };
        if self.policy.is_empty() {
            return write!(
                f,
                "{word}: no policy isolates the pod, everything is allowed"
            );
        }
        write!(
            f,
            "{word} {way} {} on {}, allowed by policy {} rule {}",
            self.peers, self.ports, self.policy, self.rule
        )?;
        if !self.reaches.is_empty() {
            write!(f, " (reaches {})", self.reaches.join(", "))?;
        }
        Ok(())
    }
}

/// What is left open for one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residual {
    /// Rules that allow.
    pub allowed: Vec<Remaining>,
    /// What *may* allow: policies of kinds that we do not model, lists that we may not read.
    pub may_allow: Vec<String>,
}

impl Residual {
    /// True when nothing allows and nothing may.
    pub fn is_denied(&self) -> bool {
        self.allowed.is_empty() && self.may_allow.is_empty()
    }
    /// All of it, one line each.
    pub fn lines(&self) -> Vec<String> {
        let allowed = self.allowed.iter().map(ToString::to_string);
        let may = self.may_allow.iter().map(|m| format!("may allow: {m}"));
        allowed.chain(may).collect()
    }
}

/// What still allows `pod` (with the labels it would have) under the snapshot's policies and `extra` ones.
pub fn residual(world: &ClusterSnapshot, extra: &[NetworkPolicy], pod: &Pod) -> Residual {
    let engine = Engine::new(world, extra);
    residual_with(&engine, world, pod)
}

/// The same, with an engine that was made before (many pods, one state).
pub fn residual_with(engine: &Engine<'_>, world: &ClusterSnapshot, pod: &Pod) -> Residual {
    let mut allowed = Vec::new();
    for direction in [Direction::Ingress, Direction::Egress] {
        if !engine.isolates(pod, direction) {
            allowed.push(Remaining {
                direction,
                policy: String::new(),
                rule: 0,
                peers: "everybody".into(),
                ports: "every port".into(),
                reaches: Vec::new(),
            });
            continue;
        }
        for policy in engine
            .selecting(pod)
            .filter(|p| has_direction(p, direction))
        {
            for (n, rule) in rules(policy, direction).iter().enumerate() {
                let at = rule_ref(policy, n);
                allowed.push(Remaining {
                    direction,
                    policy: at.policy,
                    rule: at.rule,
                    peers: peers_text(&rule.peers),
                    ports: ports_text(&rule.ports),
                    reaches: reaches(engine, world, policy, &rule.peers, pod),
                });
            }
        }
    }
    Residual {
        allowed,
        may_allow: may_allow(world, pod),
    }
}

/// Kinds that we do not model and lists that we could not read never count as denied.
pub fn may_allow(world: &ClusterSnapshot, pod: &Pod) -> Vec<String> {
    let foreign = world
        .foreign_policies
        .iter()
        .filter(|f| f.namespace.is_empty() || f.namespace == pod.namespace)
        .map(|f| {
            let place = if f.namespace.is_empty() {
                f.name.clone()
            } else {
                format!("{}/{}", f.namespace, f.name)
            };
            format!("{} {place} (this kind is named, not modelled)", f.kind)
        });
    let unread = world
        .unread
        .iter()
        .filter(|u| is_about_policies(&u.what))
        .map(|u| format!("{} could not be read: {}", u.what, u.why));
    foreign.chain(unread).collect()
}

/// Of the lists that may be unreadable, those that can hold an allow rule, or a label that one depends on.
fn is_about_policies(what: &str) -> bool {
    let what = what.to_ascii_lowercase();
    what.contains("polic") || what.contains("namespaces")
}

/// Names what people ask about first; the rule's own text stays the exact answer.
fn reaches(
    engine: &Engine<'_>,
    world: &ClusterSnapshot,
    policy: &NetworkPolicy,
    peers: &[PolicyPeer],
    pod: &Pod,
) -> Vec<String> {
    let mut places = Vec::new();
    let matched: Vec<&Pod> = world
        .pods
        .iter()
        .filter(|p| p.uid != pod.uid && !p.host_network)
        .filter(|p| peers.is_empty() || peers.iter().any(|q| engine.selects_peer(policy, q, p)))
        .collect();
    if let Some(text) = pods_text(&matched) {
        places.push(text);
    }
    for (name, address) in [
        ("the metadata address", "169.254.169.254"),
        ("the Internet", "198.51.100.1"),
    ] {
        if peers.is_empty() || peers.iter().any(|p| block_holds(p, address)) {
            places.push(name.to_owned());
        }
    }
    places
}

fn pods_text(pods: &[&Pod]) -> Option<String> {
    let first: Vec<String> = pods.iter().take(3).map(|p| p.id().to_string()).collect();
    match pods.len() {
        0 => None,
        1 => Some(format!("pod {}", first[0])),
        n if n <= 3 => Some(format!("{n} pods: {}", first.join(" "))),
        n => Some(format!("{n} pods: {} …", first.join(" "))),
    }
}

fn block_holds(peer: &PolicyPeer, address: &str) -> bool {
    match peer {
        PolicyPeer::Block { cidr, except } => {
            super::cidr::holds(cidr, address)
                && !except.iter().any(|e| super::cidr::holds(e, address))
        }
        PolicyPeer::Pods { .. } => false,
    }
}
