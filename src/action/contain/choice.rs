//! Which pods probe what: chosen with the policy engine, so that a block afterwards means something. Pure.
//!
//! A blocked try proves a deny only where the same try was open before. So sources and destinations are those that the policies
//! allowed *before* isolation: the cluster without our policies, the target with the labels that it had ([`as_it_was`]). Destinations
//! are the cluster's own, never an address outside: a probe must not warn anybody.

use std::collections::BTreeSet;

use crate::incident::body::Proof;
use crate::port::ProbeTarget;
use crate::reach::cluster::{
    ClusterSnapshot, ContainerKind, Pod, PortRef, Protocol, Service, ServicePort,
};
use crate::reach::isolation::{QUARANTINE, is_ours};
use crate::reach::policy::{End, Engine, FlowPort, Verdict};

use super::canary::LISTEN;
use super::journal::Journal;
use super::matrix::{Cell, to_text};

/// Unaffected pods of each kind (allowed sources, siblings) that are asked whether they can probe.
const MOST_ASKED: usize = 3;
/// Services that are tried.
const MOST_SERVICES: usize = 2;
/// Ports of the target that are tried.
const MOST_PORTS: usize = 3;
/// What an exec in the suspect's own container is worth.
const LOW_TRUST: &str = "exec in target, low trust";

/// A pod that can probe, and the ports on which it listens.
#[derive(Debug, Clone)]
pub(super) struct Helper {
    /// The pod.
    pub pod: Pod,
    /// Listening TCP ports.
    pub listening: Vec<u16>,
}

/// Everything that a choice rests on.
pub(super) struct Choice<'w> {
    /// The cluster as it was before isolation.
    was: &'w ClusterSnapshot,
    engine: Engine<'w>,
    /// The target with the labels that it had.
    target: Pod,
    /// Pods of the same containment: they can be no control.
    affected: &'w BTreeSet<String>,
    /// `direction from to` of what the baseline saw open: tried again first.
    seen: BTreeSet<String>,
}

/// A place to go, and how sure the policies are that the target may go there.
struct Place {
    to: ProbeTarget,
    name: String,
    /// The pods behind it; empty for the API server.
    pods: Vec<(Pod, u16)>,
    /// Addresses behind it, where no pods are.
    addresses: Vec<String>,
    /// It may be the pod's own node, which always gets through.
    own_node: bool,
}

/// The cluster without our policies, and with the labels that our pods had.
pub(super) fn as_it_was(world: &ClusterSnapshot, journal: &Journal) -> ClusterSnapshot {
    let mut was = world.clone();
    was.policies.retain(|p| !is_ours(p));
    for pod in &mut was.pods {
        let written = journal
            .live
            .iter()
            .filter(|l| l.object.kind == "Pod" && l.object.uid == pod.uid);
        for (field, value) in written.flat_map(|l| &l.before) {
            let Some(key) = field.strip_prefix("labels/") else {
                continue;
            };
            match value {
                Some(value) => pod.labels.insert(key.to_owned(), value.clone()),
                None => pod.labels.remove(key),
            };
        }
    }
    was
}

/// Pods that an isolation does not concern, best first: siblings, the same namespace, the same node.
pub(super) fn candidates(
    world: &ClusterSnapshot,
    target: &Pod,
    affected: &BTreeSet<String>,
) -> Vec<Pod> {
    let mut pods: Vec<&Pod> = world
        .pods
        .iter()
        .filter(|p| p.uid != target.uid && p.phase == "Running" && p.ready && !p.deleting)
        .filter(|p| !p.host_network && !p.ips.is_empty() && !p.labels.contains_key(QUARANTINE))
        .filter(|p| !affected.contains(&p.uid))
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
    pods.into_iter().cloned().collect()
}

/// TCP ports that a pod declares.
pub(super) fn declared(pod: &Pod) -> Vec<u16> {
    let main = pod
        .containers
        .iter()
        .filter(|c| c.kind == ContainerKind::Main);
    main.flat_map(|c| &c.ports)
        .filter(|p| p.protocol == Protocol::Tcp)
        .map(|p| p.port)
        .collect()
}

/// The ports to try: those that it declares and listens on; an intruder's own port only where there is nothing else.
pub(super) fn ports_to_try(target: &Pod, listening: &[u16]) -> Vec<u16> {
    let declared = declared(target);
    let ordinary: Vec<u16> = declared
        .iter()
        .filter(|p| listening.contains(p))
        .copied()
        .collect();
    match (ordinary.is_empty(), listening.is_empty()) {
        (false, _) => ordinary,
        (true, false) => listening.to_vec(),
        (true, true) => declared,
    }
}

impl<'w> Choice<'w> {
    /// A choice for one target. `was` comes from [`as_it_was`].
    pub fn new(
        was: &'w ClusterSnapshot,
        target: &Pod,
        affected: &'w BTreeSet<String>,
        earlier: Option<&Proof>,
    ) -> Self {
        let cells = earlier.map(|p| p.cells.as_slice()).unwrap_or_default();
        Choice {
            was,
            engine: Engine::new(was, &[]),
            target: was
                .pods
                .iter()
                .find(|p| p.uid == target.uid)
                .unwrap_or(target)
                .clone(),
            affected,
            seen: cells
                .iter()
                .filter(|c| c.before == "open")
                .map(|c| key(&c.direction, &c.from, &c.to))
                .collect(),
        }
    }

    /// Whom to ask: sources that were allowed in, siblings as controls, and others to have somebody at all.
    pub fn to_ask(&self, ports: &[u16]) -> Vec<Pod> {
        let all = candidates(self.was, &self.target, self.affected);
        let mut sources: Vec<(bool, u8, &Pod)> = all
            .iter()
            .filter_map(|p| {
                let best = ports.iter().filter_map(|n| self.may_enter(p, *n)).min()?;
                let seen = ports.iter().any(|n| self.seen_in(p, *n));
                Some((!seen, best, p))
            })
            .collect();
        sources.sort_by_key(|(unseen, rank, p)| (*unseen, *rank, self.is_sibling(p)));
        let siblings = all.iter().filter(|p| self.is_sibling(p)).take(MOST_ASKED);
        let mut asked: Vec<Pod> = Vec::new();
        let first = sources.into_iter().map(|(_, _, p)| p).take(MOST_ASKED);
        for pod in first.chain(siblings) {
            if !asked.iter().any(|a| a.uid == pod.uid) {
                asked.push(pod.clone());
            }
        }
        for pod in &all {
            if asked.len() >= MOST_ASKED {
                break;
            }
            if !asked.iter().any(|a| a.uid == pod.uid) {
                asked.push(pod.clone());
            }
        }
        asked
    }

    /// The cells, and what could not be chosen.
    pub fn cells(&self, ports: &[u16], helpers: &[Helper]) -> (Vec<Cell>, Vec<String>) {
        let mut notes = Vec::new();
        let mut cells = self.egress(helpers, &mut notes);
        cells.extend(self.ingress(ports, helpers, &mut notes));
        (cells, notes)
    }

    fn egress(&self, helpers: &[Helper], notes: &mut Vec<String>) -> Vec<Cell> {
        let from = format!("pod {}", self.target.id());
        let mut found: Vec<(bool, u8, Cell)> = Vec::new();
        for place in self.places(helpers) {
            let Some(rank) = self.may_go(&self.target, &place) else {
                continue;
            };
            let control = self.control_out(helpers, &place);
            let unseen =
                !self
                    .seen
                    .contains(&key("egress", &from, &to_text(&place.name, &place.to)));
            let basis = control.map_or_else(
                || LOW_TRUST.to_owned(),
                |c| format!("{LOW_TRUST}; control: exec in {}", c.id()),
            );
            found.push((
                unseen || control.is_none(),
                rank,
                Cell {
                    direction: "egress",
                    from: self.target.clone(),
                    control: control.map(|c| (c.clone(), place.to.clone())),
                    to: place.to,
                    to_name: place.name,
                    own_node: place.own_node,
                    basis,
                },
            ));
        }
        if found.is_empty() {
            notes.push("egress: the policies allowed the pod no destination in the cluster that can be tried".into());
        }
        found.sort_by_key(|(unseen, rank, _)| (*unseen, *rank));
        found.truncate(MOST_SERVICES + 2);
        found.into_iter().map(|(_, _, c)| c).collect()
    }

    fn ingress(&self, ports: &[u16], helpers: &[Helper], notes: &mut Vec<String>) -> Vec<Cell> {
        let Some(address) = self.target.ips.first() else {
            return Vec::new();
        };
        let mut cells = Vec::new();
        let mut allowed = false;
        for port in ports {
            let ranked = helpers.iter().map(|h| {
                let rank = self.may_enter(&h.pod, *port).unwrap_or(2);
                let alone = self.control_in(&h.pod, *port, helpers).is_none();
                let unseen = !self.seen_in(&h.pod, *port);
                ((rank == 2, unseen, alone, rank, self.is_sibling(&h.pod)), h)
            });
            let Some(((denied, ..), source)) = ranked.min_by_key(|(rank, _)| *rank) else {
                continue;
            };
            allowed |= !denied;
            let control = self.control_in(&source.pod, *port, helpers);
            let mut basis = format!("exec in {}", source.pod.id());
            if let Some((to, name)) = &control {
                basis.push_str(&format!("; control: {}", to_text(name, to)));
            }
            cells.push((
                denied,
                Cell {
                    direction: "ingress",
                    from: source.pod.clone(),
                    to: tcp(address, *port),
                    to_name: format!("pod {}", self.target.id()),
                    control: control.map(|(to, _)| (source.pod.clone(), to)),
                    own_node: false,
                    basis,
                },
            ));
        }
        if !allowed && !helpers.is_empty() {
            notes.push(
                "ingress: no pod that can be asked was allowed to reach the pod before isolation"
                    .into(),
            );
        }
        cells.sort_by_key(|(denied, _)| *denied);
        cells.truncate(MOST_PORTS);
        cells.into_iter().map(|(_, c)| c).collect()
    }

    /// Where an egress probe can go: the API server, Services with pods behind them, pods that listen.
    fn places(&self, helpers: &[Helper]) -> Vec<Place> {
        let mut services: Vec<&Service> = self
            .was
            .services
            .iter()
            .filter(|s| !s.cluster_ip.is_empty() && s.cluster_ip != "None")
            .collect();
        services.sort_by_key(|s| (!is_api(s), s.namespace != self.target.namespace));
        let mut places: Vec<Place> = services
            .into_iter()
            .filter_map(|s| self.place_of(s))
            .collect();
        // At most so many Services that the policies allow; pods after them.
        let mut kept = 0;
        places.retain(|p| {
            kept += usize::from(self.may_go(&self.target, p).is_some());
            kept <= MOST_SERVICES + 1
        });
        let pods = helpers.iter().filter(|h| {
            let port = h.listening.first();
            port.is_some_and(|n| *n != LISTEN && self.flow(&self.target, &h.pod, *n).is_some())
        });
        places.extend(pods.take(MOST_SERVICES).map(|h| Place {
            to: tcp(&h.pod.ips[0], h.listening[0]),
            name: format!("pod {}", h.pod.id()),
            pods: vec![(h.pod.clone(), h.listening[0])],
            addresses: Vec::new(),
            own_node: false,
        }));
        places
    }

    fn place_of(&self, service: &Service) -> Option<Place> {
        let port = service.ports.iter().find(|p| p.protocol == Protocol::Tcp)?;
        let to = tcp(&service.cluster_ip, port.port);
        if is_api(service) {
            let addresses: Vec<String> = self.slices(service).cloned().collect();
            return Some(Place {
                to,
                name: "the API server".into(),
                pods: Vec::new(),
                own_node: addresses.contains(&self.target.host_ip),
                addresses,
            });
        }
        // A Service without a selector may lead out of the cluster.
        let wanted = service.selector.as_ref().filter(|s| !s.is_empty())?;
        let pods: Vec<(Pod, u16)> = self
            .was
            .pods
            .iter()
            .filter(|p| p.namespace == service.namespace && p.ready && !p.host_network)
            .filter(|p| wanted.iter().all(|(k, v)| p.labels.get(k) == Some(v)))
            .filter_map(|p| Some((p.clone(), target_port(p, port)?)))
            .collect();
        // A pod that reaches itself through its own Service proves nothing.
        let own = pods.iter().any(|(p, _)| p.uid == self.target.uid);
        let affected = pods.iter().any(|(p, _)| self.affected.contains(&p.uid));
        (!pods.is_empty() && !own && !affected).then(|| Place {
            to,
            name: format!("Service {}/{}", service.namespace, service.name),
            pods,
            addresses: Vec::new(),
            own_node: false,
        })
    }

    fn slices(&self, service: &Service) -> impl Iterator<Item = &String> {
        let (namespace, name) = (service.namespace.clone(), service.name.clone());
        self.was
            .endpoint_slices
            .iter()
            .filter(move |s| s.namespace == namespace && s.service == name)
            .flat_map(|s| &s.endpoints)
            .flat_map(|e| &e.addresses)
    }

    /// An unaffected pod that may go there too, and is not what stands there.
    fn control_out<'h>(&self, helpers: &'h [Helper], place: &Place) -> Option<&'h Pod> {
        helpers
            .iter()
            .map(|h| &h.pod)
            .filter(|p| !place.pods.iter().any(|(q, _)| q.uid == p.uid))
            .filter_map(|p| Some((self.may_go(p, place)?, p)))
            .min_by_key(|(rank, p)| (*rank, !self.is_sibling(p)))
            .map(|(_, p)| p)
    }

    /// Where the same source gets through at the same moment: a sibling's same port, else a pod's or Service's, else the API server.
    fn control_in(
        &self,
        source: &Pod,
        port: u16,
        helpers: &[Helper],
    ) -> Option<(ProbeTarget, String)> {
        let pods = candidates(self.was, &self.target, self.affected);
        let listening = |p: &Pod| {
            let asked = helpers.iter().find(|h| h.pod.uid == p.uid);
            asked.map_or_else(|| declared(p), |h| h.listening.clone())
        };
        let best = pods
            .iter()
            .filter(|p| p.uid != source.uid)
            .flat_map(|p| listening(p).into_iter().map(move |n| (p, n)))
            .filter_map(|(p, n)| Some((self.flow(source, p, n)?, p, n)))
            .min_by_key(|(rank, p, n)| {
                let elsewhere = p.node != self.target.node;
                (*rank, !self.is_sibling(p), *n != port, elsewhere)
            });
        if let Some((_, pod, n)) = best {
            return Some((tcp(&pod.ips[0], n), format!("pod {}", pod.id())));
        }
        self.was
            .services
            .iter()
            .filter_map(|s| self.place_of(s))
            .filter(|p| !p.pods.iter().any(|(q, _)| q.uid == source.uid))
            .filter_map(|p| Some((self.may_go(source, &p)?, p)))
            .min_by_key(|(rank, p)| (*rank, p.pods.is_empty()))
            .map(|(_, p)| (p.to, p.name))
    }

    /// How sure it is that the pod may go to every end of a place; `None` where one is denied.
    fn may_go(&self, from: &Pod, place: &Place) -> Option<u8> {
        if place.pods.is_empty() {
            let ends = if place.addresses.is_empty() {
                std::slice::from_ref(&place.to.address)
            } else {
                place.addresses.as_slice()
            };
            let sure = |a: &String| {
                let port = flow_port(place.to.port);
                rank(&self.engine.flow(End::Pod(from), End::Address(a), port))
            };
            return ends.iter().map(sure).try_fold(0, |w, r| Some(w.max(r?)));
        }
        let sure = |(p, n): &(Pod, u16)| self.flow(from, p, *n);
        place
            .pods
            .iter()
            .map(sure)
            .try_fold(0, |worst, r| Some(worst.max(r?)))
    }

    fn may_enter(&self, from: &Pod, port: u16) -> Option<u8> {
        self.flow(from, &self.target, port)
    }

    fn flow(&self, from: &Pod, to: &Pod, port: u16) -> Option<u8> {
        let verdict = self
            .engine
            .flow(End::Pod(from), End::Pod(to), flow_port(port));
        rank(&verdict)
    }

    fn seen_in(&self, from: &Pod, port: u16) -> bool {
        let Some(address) = self.target.ips.first() else {
            return false;
        };
        let to = to_text(&format!("pod {}", self.target.id()), &tcp(address, port));
        self.seen
            .contains(&key("ingress", &format!("pod {}", from.id()), &to))
    }

    /// Made from the same template: the same container ports and image, in the same namespace.
    fn is_sibling(&self, pod: &Pod) -> bool {
        let images = |p: &Pod| -> Vec<String> {
            let main = p
                .containers
                .iter()
                .filter(|c| c.kind == ContainerKind::Main);
            main.map(|c| format!("{} {}", c.name, c.image)).collect()
        };
        pod.namespace == self.target.namespace
            && images(pod) == images(&self.target)
            && pod.service_account == self.target.service_account
    }
}

/// 0 where the policies certainly allow, 1 where the standard does not say, nothing where they deny.
fn rank(verdict: &Verdict) -> Option<u8> {
    match verdict {
        Verdict::Free | Verdict::AllowedBy(_) => Some(0),
        Verdict::Undefined(_) => Some(1),
        Verdict::Denied => None,
    }
}

fn key(direction: &str, from: &str, to: &str) -> String {
    format!("{direction} {from} {to}")
}

fn is_api(service: &Service) -> bool {
    service.namespace == "default" && service.name == "kubernetes"
}

fn target_port(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target {
        None => Some(port.port),
        Some(PortRef::Number(n)) => Some(*n),
        Some(PortRef::Name(name)) => pod
            .containers
            .iter()
            .flat_map(|c| &c.ports)
            .find(|p| p.name == *name && p.protocol == port.protocol)
            .map(|p| p.port),
    }
}

fn flow_port(port: u16) -> FlowPort {
    FlowPort {
        port,
        protocol: Protocol::Tcp,
    }
}

fn tcp(address: &str, port: u16) -> ProbeTarget {
    ProbeTarget {
        address: address.to_owned(),
        port,
        protocol: Protocol::Tcp,
    }
}
