//! What becomes of one connection in the simulated network.
//!
//! It evaluates additive NetworkPolicy on its own, without the rules of `reach`: a plan that `reach` got wrong must not be
//! confirmed by the same mistake in the probe.

use std::net::IpAddr;

use crate::port::{ProbeTarget, Tried};
use crate::reach::cluster::{
    Direction, Labels, NetworkPolicy, Pod, PolicyPeer, PolicyPort, PolicyRule, PortRef, Protocol,
    Selector,
};

use super::world::{Enforcing, World};

/// One end of a flow.
#[derive(Clone, Copy)]
struct End<'a> {
    pod: Option<&'a Pod>,
    address: IpAddr,
}

/// Policies and labels as the plugin enforces them now.
struct Enforced<'a> {
    world: &'a World,
    policies: &'a [NetworkPolicy],
}

impl<'a> Enforced<'a> {
    fn of(world: &'a World) -> Self {
        let policies = match (world.enforcing, &world.behind) {
            (Enforcing::Never, _) => &[],
            (_, Some(behind)) => behind.policies.as_slice(),
            _ => world.cluster.policies.as_slice(),
        };
        Enforced { world, policies }
    }
    fn labels(&self, pod: &'a Pod) -> &'a Labels {
        self.world
            .behind
            .as_ref()
            .and_then(|b| b.labels.get(&pod.uid))
            .unwrap_or(&pod.labels)
    }
    /// True when no policy isolates the pod in this direction or one of them allows the other end.
    fn allows(
        &self,
        direction: Direction,
        pod: &'a Pod,
        other: End<'a>,
        to: &'a Pod,
        port: (u16, Protocol),
    ) -> bool {
        self.allows_port(direction, pod, other, Some(to), port)
    }
    fn allows_port(
        &self,
        direction: Direction,
        pod: &'a Pod,
        other: End<'a>,
        to: Option<&'a Pod>,
        port: (u16, Protocol),
    ) -> bool {
        if pod.host_network || own_node(pod, other) {
            return true;
        }
        let mut isolating = self
            .policies
            .iter()
            .filter(|p| p.namespace == pod.namespace)
            .filter(|p| p.pod_selector.matches(self.labels(pod)) && has_type(p, direction))
            .peekable();
        if isolating.peek().is_none() {
            return true;
        }
        isolating.any(|policy| {
            rules(policy, direction)
                .iter()
                .any(|r| ports_match(r, to, port) && self.peers_match(policy, r, other))
        })
    }
    fn peers_match(&self, policy: &NetworkPolicy, rule: &PolicyRule, other: End<'a>) -> bool {
        rule.peers.is_empty()
            || rule
                .peers
                .iter()
                .any(|p| self.peer_matches(policy, p, other))
    }
    fn peer_matches(&self, policy: &NetworkPolicy, peer: &PolicyPeer, other: End<'a>) -> bool {
        match peer {
            PolicyPeer::Block { cidr, except } => {
                within(other.address, cidr) && !except.iter().any(|e| within(other.address, e))
            }
            PolicyPeer::Pods { namespaces, pods } => {
                let Some(pod) = other.pod.filter(|p| !p.host_network) else {
                    return false;
                };
                let place = match namespaces {
                    None => pod.namespace == policy.namespace,
                    Some(s) => s.matches(&self.namespace_labels(&pod.namespace)),
                };
                place
                    && pods
                        .as_ref()
                        .is_none_or(|s: &Selector| s.matches(self.labels(pod)))
            }
        }
    }
    fn namespace_labels(&self, name: &str) -> Labels {
        let mut labels = self
            .world
            .cluster
            .namespaces
            .get(name)
            .cloned()
            .unwrap_or_default();
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
        labels
    }
}

/// Tries a connection from a pod.
pub(super) fn connect(world: &World, from: &Pod, to: &ProbeTarget) -> Tried {
    let Ok(address) = to.address.parse::<IpAddr>() else {
        return Tried::Silent;
    };
    if let Some((pod, port)) = behind_service(world, &to.address, to.port) {
        return connect_pod(world, from, pod, port, to.protocol);
    }
    if is_service(world, &to.address) {
        return connect_outside(world, from, address, to);
    }
    match pod_at(world, &to.address) {
        Some(pod) => connect_pod(world, from, pod, to.port, to.protocol),
        None => connect_outside(world, from, address, to),
    }
}

/// Ends the open connections that the plugin denies now, unless it lets open ones be.
pub(super) fn cut_denied(world: &mut World) {
    if world.keeps_connections {
        return;
    }
    let mut denied: Vec<(String, String)> = Vec::new();
    for (uid, inside) in &world.inside {
        let Some(pod) = world.cluster.pods.iter().find(|p| p.uid == *uid) else {
            continue;
        };
        let cut = |line: &&String| !passes(world, pod, &inside.listening, line);
        let lines = inside.established.iter().filter(cut);
        denied.extend(lines.map(|l| (uid.clone(), l.clone())));
    }
    for (uid, line) in denied {
        if let Some(inside) = world.inside.get_mut(&uid) {
            inside.established.retain(|l| *l != line);
        }
    }
}

/// Whether the packets of a connection may pass at the pod: one that came in to a port on which it listens, or one that it opened.
fn passes(world: &World, pod: &Pod, listening: &[u16], line: &str) -> bool {
    let end = |text: &str| {
        let (address, port) = text.rsplit_once(':')?;
        Some((address.parse::<IpAddr>().ok()?, port.parse::<u16>().ok()?))
    };
    let ends = line.split_once(" → ");
    let Some(((_, near), (address, far))) = ends.and_then(|(l, r)| end(l).zip(end(r))) else {
        return true;
    };
    let other = End {
        pod: pod_at(world, &address.to_string()),
        address,
    };
    let net = Enforced::of(world);
    if listening.contains(&near) {
        let port = (near, Protocol::Tcp);
        net.allows_port(Direction::Ingress, pod, other, Some(pod), port)
    } else {
        let port = (far, Protocol::Tcp);
        net.allows_port(Direction::Egress, pod, other, other.pod, port)
    }
}

fn connect_pod(world: &World, from: &Pod, to: &Pod, port: u16, protocol: Protocol) -> Tried {
    let net = Enforced::of(world);
    let (Some(source), Some(target)) = (end(from), end(to)) else {
        return Tried::Silent;
    };
    let through = from.uid == to.uid
        || (net.allows(Direction::Egress, from, target, to, (port, protocol))
            && net.allows(Direction::Ingress, to, source, to, (port, protocol)));
    let listens = world
        .inside
        .get(&to.uid)
        .is_some_and(|i| i.listening.contains(&port));
    match (through, listens && to.phase == "Running") {
        (false, _) => Tried::Silent,
        (true, true) => Tried::Open,
        (true, false) => Tried::Refused,
    }
}

fn connect_outside(world: &World, from: &Pod, address: IpAddr, to: &ProbeTarget) -> Tried {
    let net = Enforced::of(world);
    let there = End { pod: None, address };
    if !net.allows_port(Direction::Egress, from, there, None, (to.port, to.protocol)) {
        return Tried::Silent;
    }
    let answers = |a: &str| {
        world
            .outside
            .iter()
            .any(|l| l.address == a && l.port == to.port)
    };
    if answers(&to.address) {
        Tried::Open
    } else if world
        .cluster
        .nodes
        .iter()
        .any(|n| n.ips.contains(&to.address))
    {
        Tried::Refused
    } else {
        Tried::Silent
    }
}

/// The pod a Service would pick, with its port; the first ready endpoint, so that probes can be repeated.
fn behind_service<'a>(world: &'a World, address: &str, port: u16) -> Option<(&'a Pod, u16)> {
    let service = world
        .cluster
        .services
        .iter()
        .find(|s| s.cluster_ip == address && s.selector.is_some())?;
    let wanted = service.ports.iter().find(|p| p.port == port)?;
    let slice = world
        .cluster
        .endpoint_slices
        .iter()
        .find(|s| s.namespace == service.namespace && s.service == service.name)?;
    let uid = slice
        .endpoints
        .iter()
        .find(|e| e.ready)?
        .pod_uid
        .as_deref()?;
    let pod = world.cluster.pods.iter().find(|p| p.uid == uid)?;
    let target = match &wanted.target {
        None => port,
        Some(PortRef::Number(n)) => *n,
        Some(PortRef::Name(name)) => named_port(pod, name, wanted.protocol)?,
    };
    Some((pod, target))
}

fn is_service(world: &World, address: &str) -> bool {
    world
        .cluster
        .services
        .iter()
        .any(|s| s.cluster_ip == address)
}

fn pod_at<'a>(world: &'a World, address: &str) -> Option<&'a Pod> {
    world
        .cluster
        .pods
        .iter()
        .find(|p| !p.host_network && p.ips.iter().any(|i| i == address))
}

fn end(pod: &Pod) -> Option<End<'_>> {
    let address = pod.ips.first()?.parse().ok()?;
    Some(End {
        pod: Some(pod),
        address,
    })
}

/// Traffic between a pod and its own node is always allowed by the standard (kubelet probes).
fn own_node(pod: &Pod, other: End<'_>) -> bool {
    other.pod.is_none_or(|p| p.host_network) && pod.host_ip.parse() == Ok(other.address)
}

fn has_type(policy: &NetworkPolicy, direction: Direction) -> bool {
    match &policy.policy_types {
        Some(types) => types.contains(&direction),
        // Defaulting by the API: Ingress always, Egress when there are egress rules.
        None => direction == Direction::Ingress || !policy.egress.is_empty(),
    }
}

fn rules(policy: &NetworkPolicy, direction: Direction) -> &[PolicyRule] {
    match direction {
        Direction::Ingress => &policy.ingress,
        Direction::Egress => &policy.egress,
    }
}

fn ports_match(rule: &PolicyRule, to: Option<&Pod>, port: (u16, Protocol)) -> bool {
    rule.ports.is_empty() || rule.ports.iter().any(|p| port_matches(p, to, port))
}

fn port_matches(rule: &PolicyPort, to: Option<&Pod>, (port, protocol): (u16, Protocol)) -> bool {
    rule.protocol == protocol
        && match (&rule.port, rule.end_port) {
            (None, _) => true,
            (Some(PortRef::Number(first)), Some(last)) => (*first..=last).contains(&port),
            (Some(PortRef::Number(n)), None) => *n == port,
            (Some(PortRef::Name(name)), _) => {
                to.and_then(|p| named_port(p, name, protocol)) == Some(port)
            }
        }
}

fn named_port(pod: &Pod, name: &str, protocol: Protocol) -> Option<u16> {
    pod.containers
        .iter()
        .flat_map(|c| &c.ports)
        .find(|p| p.name == name && p.protocol == protocol)
        .map(|p| p.port)
}

/// True when the address lies in the block; a block that cannot be read holds nothing.
fn within(address: IpAddr, cidr: &str) -> bool {
    let Some((base, bits)) = cidr.split_once('/') else {
        return false;
    };
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (address, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) if bits <= 32 => {
            (u32::from(a) ^ u32::from(b))
                .checked_shr(32 - bits)
                .unwrap_or(0)
                == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) if bits <= 128 => {
            (u128::from(a) ^ u128::from(b))
                .checked_shr(128 - bits)
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_what_their_prefix_says() {
        let a = |t: &str| t.parse::<IpAddr>().expect("address");
        assert!(within(a("198.51.100.10"), "0.0.0.0/0"));
        assert!(within(a("10.244.0.7"), "10.244.0.0/16"));
        assert!(!within(a("10.245.0.7"), "10.244.0.0/16"));
        assert!(within(a("10.0.0.1"), "10.0.0.1/32") && !within(a("10.0.0.2"), "10.0.0.1/32"));
        assert!(within(a("2001:db8::1"), "::/0") && !within(a("10.0.0.1"), "::/0"));
        assert!(!within(a("10.0.0.1"), "10.0.0.0/40") && !within(a("10.0.0.1"), "nonsense"));
    }
}
