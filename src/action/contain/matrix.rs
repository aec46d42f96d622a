//! Which probes are made, and what each says. Pure.
//!
//! Every cell has its positive control: an unaffected pod to the same destination (egress), or the same source to an unaffected pod's
//! port (ingress), at the same moment. Destinations are the cluster's own: never the suspect's peers, a probe must not warn anybody.

use crate::incident::body::ProofCell;
use crate::port::{ProbeTarget, Tried};
use crate::reach::cluster::{ClusterSnapshot, Pod, Protocol};
use crate::reach::isolation::QUARANTINE;

/// Unaffected pods that are asked whether they can probe.
pub(super) const MOST_HELPERS: usize = 3;
/// Services of the namespace that are tried.
const MOST_SERVICES: usize = 2;
/// Ports of the target that are tried.
const MOST_PORTS: usize = 3;
/// The word for a probe that was not made.
pub(super) const NOT_TRIED: &str = "not-tried";
/// What an exec in the suspect's own container is worth.
const LOW_TRUST: &str = "exec in target, low trust";

/// One cell before it is tried.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// Where the probe starts.
    pub from: Pod,
    /// Where it goes.
    pub to: ProbeTarget,
    /// For people.
    pub to_name: String,
    /// Where the control starts and goes; none where nobody can be asked.
    pub control: Option<(Pod, ProbeTarget)>,
    /// What it rests on.
    pub basis: String,
}

/// A pod that can probe, and the ports on which it listens.
#[derive(Debug, Clone)]
pub(super) struct Helper {
    /// The pod.
    pub pod: Pod,
    /// Listening TCP ports.
    pub listening: Vec<u16>,
}

/// Unaffected pods, best first: those that an earlier proof used, on the same node, of the same namespace.
pub(super) fn candidates(world: &ClusterSnapshot, target: &Pod) -> Vec<Pod> {
    let mut pods: Vec<&Pod> = world
        .pods
        .iter()
        .filter(|p| p.uid != target.uid && p.phase == "Running" && p.ready && !p.deleting)
        .filter(|p| !p.host_network && !p.ips.is_empty() && !p.labels.contains_key(QUARANTINE))
        .filter(|p| p.containers.iter().any(|c| c.running))
        .collect();
    pods.sort_by_key(|p| {
        (
            p.namespace != target.namespace,
            p.node != target.node,
            p.namespace.clone(),
            p.name.clone(),
        )
    });
    pods.into_iter().take(MOST_HELPERS).cloned().collect()
}

/// The cells for one target.
pub(super) fn cells(
    world: &ClusterSnapshot,
    target: &Pod,
    target_listens: &[u16],
    helpers: &[Helper],
) -> Vec<Cell> {
    let mut cells = egress(world, target, helpers);
    cells.extend(ingress(target, target_listens, helpers));
    cells
}

fn egress(world: &ClusterSnapshot, target: &Pod, helpers: &[Helper]) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut add = |to: ProbeTarget, to_name: String, control: Option<&Helper>| {
        cells.push(Cell {
            direction: "egress",
            from: target.clone(),
            control: control.map(|h| (h.pod.clone(), to.clone())),
            to,
            to_name,
            basis: LOW_TRUST.into(),
        });
    };
    let services = world.services.iter().filter(|s| {
        let api = s.namespace == "default" && s.name == "kubernetes";
        (api || s.namespace == target.namespace) && has_address(&s.cluster_ip)
    });
    let (api, of_namespace): (Vec<_>, Vec<_>) =
        services.partition(|s| s.namespace == "default" && s.name == "kubernetes");
    for service in api
        .into_iter()
        .chain(of_namespace.into_iter().take(MOST_SERVICES))
    {
        if let Some(port) = service.ports.iter().find(|p| p.protocol == Protocol::Tcp) {
            let name = if service.name == "kubernetes" && service.namespace == "default" {
                "the API server".to_owned()
            } else {
                format!("Service {}/{}", service.namespace, service.name)
            };
            add(tcp(&service.cluster_ip, port.port), name, helpers.first());
        }
    }
    // Another pod's own port: the control must be a third one, a pod to itself proves nothing.
    if let Some((at, sibling)) = helpers
        .iter()
        .enumerate()
        .find(|(_, h)| !h.listening.is_empty())
    {
        let control = helpers.iter().enumerate().find(|(n, _)| *n != at);
        if let Some((_, control)) = control {
            add(
                tcp(&sibling.pod.ips[0], sibling.listening[0]),
                format!("pod {}", sibling.pod.id()),
                Some(control),
            );
        }
    }
    cells
}

fn ingress(target: &Pod, listens: &[u16], helpers: &[Helper]) -> Vec<Cell> {
    let Some(source) = helpers.first() else {
        return Vec::new();
    };
    let Some(address) = target.ips.first() else {
        return Vec::new();
    };
    let control = helpers
        .iter()
        .skip(1)
        .find(|h| h.listening.iter().any(|p| listens.contains(p)))
        .or_else(|| helpers.iter().skip(1).find(|h| !h.listening.is_empty()));
    listens
        .iter()
        .take(MOST_PORTS)
        .map(|port| Cell {
            direction: "ingress",
            from: source.pod.clone(),
            to: tcp(address, *port),
            to_name: format!("pod {}", target.id()),
            control: control.map(|h| {
                let same = h.listening.iter().find(|p| *p == port);
                let at = same.or_else(|| h.listening.first()).copied();
                (source.pod.clone(), tcp(&h.pod.ips[0], at.unwrap_or(*port)))
            }),
            basis: format!("exec in {}", source.pod.id()),
        })
        .collect()
}

fn has_address(cluster_ip: &str) -> bool {
    !cluster_ip.is_empty() && cluster_ip != "None"
}

fn tcp(address: &str, port: u16) -> ProbeTarget {
    ProbeTarget {
        address: address.to_owned(),
        port,
        protocol: Protocol::Tcp,
    }
}

/// The cell as the proof table holds it, before its verdict.
pub(super) fn row(
    cell: &Cell,
    before: &str,
    after: Option<Tried>,
    control: Option<Tried>,
) -> ProofCell {
    let word = |t: Option<Tried>| t.map_or(NOT_TRIED, Tried::as_str).to_owned();
    let (after, control) = (word(after), word(control));
    ProofCell {
        direction: cell.direction.into(),
        from: format!("pod {}", cell.from.id()),
        to: format!("{} ({}/TCP)", cell.to_name, cell.to),
        before: before.to_owned(),
        verdict: judge(before, &after, &control).into(),
        after,
        control,
        basis: cell.basis.clone(),
    }
}

/// What a cell says. Only *was open, is blocked, still open for others* proves a deny.
pub(super) fn judge(before: &str, after: &str, control: &str) -> &'static str {
    match (before, after, control) {
        (_, "open", _) => "bypass",
        (_, NOT_TRIED, _) => NOT_TRIED,
        ("open", "refused" | "silent", "open") => "match",
        ("open", "refused" | "silent", _) => "no-control",
        _ => "unreachable",
    }
}

/// The verdict over a table, with what is missing. `still_allowed` is what the policies say.
pub(super) fn verdict(
    cells: &[ProofCell],
    still_allowed: &[String],
) -> (&'static str, Vec<String>) {
    let mut why: Vec<String> = cells
        .iter()
        .filter(|c| c.verdict == "bypass")
        .map(|c| format!("{} from {} to {} got through", c.direction, c.from, c.to))
        .collect();
    let bypassed = !why.is_empty();
    why.extend(
        still_allowed
            .iter()
            .map(|line| format!("still allowed: {line}")),
    );
    if bypassed && still_allowed.is_empty() {
        why.push(
            "the policies deny it, so the network plugin does not enforce them here (yet)".into(),
        );
    }
    if bypassed || !still_allowed.is_empty() {
        return ("not-contained", why);
    }
    for direction in ["egress", "ingress"] {
        let of = |v: &str| {
            cells
                .iter()
                .filter(|c| c.direction == direction && c.verdict == v)
                .count()
        };
        if of("match") > 0 {
            continue;
        }
        why.push(if of("no-control") > 0 {
            format!("{direction}: blocked, but no unaffected pod got through at that moment either, or none could be asked")
        } else if of("unreachable") > 0 {
            format!("{direction}: blocked, but it was not seen open before isolation")
        } else {
            format!("{direction}: no probe could be made")
        });
    }
    if why.is_empty() {
        ("isolated", why)
    } else {
        ("not-proven", why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(direction: &str, before: &str, after: &str, control: &str) -> ProofCell {
        ProofCell {
            direction: direction.into(),
            from: "pod a".into(),
            to: "pod b".into(),
            before: before.into(),
            after: after.into(),
            control: control.into(),
            verdict: judge(before, after, control).into(),
            basis: String::new(),
        }
    }

    #[test]
    fn only_was_open_is_blocked_and_open_for_others_is_a_match() {
        for (before, after, control, verdict) in [
            ("open", "silent", "open", "match"),
            ("open", "refused", "open", "match"),
            ("not-tried", "refused", "open", "unreachable"),
            ("not-tried", "silent", "open", "unreachable"),
            ("silent", "silent", "open", "unreachable"),
            ("open", "silent", "silent", "no-control"),
            ("open", "silent", "not-tried", "no-control"),
            ("open", "open", "open", "bypass"),
            ("not-tried", "open", "not-tried", "bypass"),
            ("open", "not-tried", "open", "not-tried"),
        ] {
            assert_eq!(
                judge(before, after, control),
                verdict,
                "{before} {after} {control}"
            );
        }
    }

    #[test]
    fn isolated_needs_a_match_in_both_directions() {
        let out = cell("egress", "open", "silent", "open");
        let into = cell("ingress", "open", "refused", "open");
        assert_eq!(verdict(&[out.clone(), into.clone()], &[]).0, "isolated");
        assert_eq!(verdict(std::slice::from_ref(&out), &[]).0, "not-proven");
        assert_eq!(verdict(&[], &[]).0, "not-proven");
        let through = cell("egress", "open", "open", "open");
        assert_eq!(verdict(&[out, into, through], &[]).0, "not-contained");
    }

    #[test]
    fn what_policies_still_allow_is_never_contained() {
        let out = cell("egress", "open", "silent", "open");
        let into = cell("ingress", "open", "silent", "open");
        let (word, why) = verdict(&[out, into], &["egress to everybody".into()]);
        assert_eq!(word, "not-contained");
        assert!(why[0].contains("egress to everybody"));
    }
}
