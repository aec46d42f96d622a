//! Selectors, peers and ports as people read them.

use super::cluster::{Operator, PolicyPeer, PolicyPort, PortRef, Protocol, Requirement, Selector};

/// A selector in the text form that kubectl takes: `app=web,tier in (a,b),!canary`; an empty one is `all`.
pub fn selector_text(selector: &Selector) -> String {
    let mut parts: Vec<String> = selector
        .match_labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    parts.extend(selector.expressions.iter().map(requirement_text));
    if parts.is_empty() {
        "all".to_owned()
    } else {
        parts.join(",")
    }
}

/// One requirement as people read it.
pub(super) fn requirement_text(requirement: &Requirement) -> String {
    let key = &requirement.key;
    let values = requirement.values.join(",");
    match requirement.operator {
        Operator::In => format!("{key} in ({values})"),
        Operator::NotIn => format!("{key} notin ({values})"),
        Operator::Exists => key.clone(),
        Operator::DoesNotExist => format!("!{key}"),
    }
}

/// The peers of a rule; no peer means everybody (rule N5).
pub(super) fn peers_text(peers: &[PolicyPeer]) -> String {
    if peers.is_empty() {
        return "everybody".to_owned();
    }
    peers.iter().map(peer_text).collect::<Vec<_>>().join(" or ")
}

fn peer_text(peer: &PolicyPeer) -> String {
    match peer {
        PolicyPeer::Block { cidr, except } if except.is_empty() => format!("addresses {cidr}"),
        PolicyPeer::Block { cidr, except } => {
            format!("addresses {cidr} except {}", except.join(", "))
        }
        PolicyPeer::Pods { namespaces, pods } => {
            let who = match pods {
                Some(s) if *s != Selector::default() => format!("pods {}", selector_text(s)),
                _ => "all pods".to_owned(),
            };
            let place = match namespaces {
                None => "of its namespace".to_owned(),
                Some(s) if *s == Selector::default() => "of every namespace".to_owned(),
                Some(s) => format!("of namespaces {}", selector_text(s)),
            };
            format!("{who} {place}")
        }
    }
}

/// The ports of a rule; no port means all of them (rule N5).
pub(super) fn ports_text(ports: &[PolicyPort]) -> String {
    if ports.is_empty() {
        return "every port".to_owned();
    }
    let one = |p: &PolicyPort| {
        let protocol = protocol_text(p.protocol);
        match (&p.port, p.end_port) {
            (None, _) => format!("every {protocol} port"),
            (Some(PortRef::Number(n)), Some(end)) => format!("{n}-{end}/{protocol}"),
            (Some(PortRef::Number(n)), None) => format!("{n}/{protocol}"),
            (Some(PortRef::Name(n)), _) => format!("{n}/{protocol}"),
        }
    };
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A protocol as the API writes it.
pub(super) fn protocol_text(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

/// A direction in running text.
pub(super) fn direction_text(direction: super::cluster::Direction) -> &'static str {
    match direction {
        super::cluster::Direction::Ingress => "ingress",
        super::cluster::Direction::Egress => "egress",
    }
}
