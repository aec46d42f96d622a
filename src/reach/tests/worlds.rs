//! Small worlds, made by hand or at random from a number.

use crate::reach::cluster::*;

pub(super) fn labels(text: &str) -> Labels {
    text.split(',')
        .filter_map(|p| p.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// `app=web,tier in (a;b),!canary,team` as a selector.
pub(super) fn selector(text: &str) -> Selector {
    let mut s = Selector::default();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (key, operator, values) = if let Some((k, v)) = part.split_once(" notin ") {
            (k, Operator::NotIn, v)
        } else if let Some((k, v)) = part.split_once(" in ") {
            (k, Operator::In, v)
        } else if let Some((k, v)) = part.split_once('=') {
            s.match_labels.insert(k.into(), v.into());
            continue;
        } else if let Some(k) = part.strip_prefix('!') {
            (k, Operator::DoesNotExist, "")
        } else {
            (part, Operator::Exists, "")
        };
        s.expressions.push(Requirement {
            key: key.into(),
            operator,
            values: values
                .trim_matches(['(', ')'])
                .split(';')
                .filter(|v| !v.is_empty())
                .map(str::to_owned)
                .collect(),
        });
    }
    s
}

pub(super) fn pod(namespace: &str, name: &str, text: &str, ip: &str) -> Pod {
    Pod {
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("uid-{namespace}-{name}"),
        labels: labels(text),
        node: "node-1".into(),
        ips: vec![ip.into()],
        phase: "Running".into(),
        ready: true,
        ..Pod::default()
    }
}

pub(super) fn policy(namespace: &str, name: &str, subject: &str) -> NetworkPolicy {
    NetworkPolicy {
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        pod_selector: selector(subject),
        ..NetworkPolicy::default()
    }
}

pub(super) fn pods_peer(namespaces: Option<&str>, pods: Option<&str>) -> PolicyPeer {
    PolicyPeer::Pods {
        namespaces: namespaces.map(selector),
        pods: pods.map(selector),
    }
}

pub(super) fn block(cidr: &str, except: &[&str]) -> PolicyPeer {
    PolicyPeer::Block {
        cidr: cidr.into(),
        except: except.iter().map(|e| (*e).to_owned()).collect(),
    }
}

pub(super) fn tcp(port: u16) -> PolicyPort {
    PolicyPort {
        port: Some(PortRef::Number(port)),
        ..PolicyPort::default()
    }
}

pub(super) fn rule(ports: Vec<PolicyPort>, peers: Vec<PolicyPeer>) -> PolicyRule {
    PolicyRule { ports, peers }
}

/// Three namespaces with three pods each, as the conformance suites have them: x, y, z × a, b, c.
pub(super) fn nine_pods() -> ClusterSnapshot {
    let mut world = ClusterSnapshot::default();
    for (i, ns) in ["x", "y", "z"].into_iter().enumerate() {
        world
            .namespaces
            .insert(ns.into(), labels(&format!("ns={ns}")));
        for (j, name) in ["a", "b", "c"].into_iter().enumerate() {
            let mut p = pod(
                ns,
                name,
                &format!("pod={name}"),
                &format!("10.0.{i}.{}", j + 1),
            );
            p.containers.push(Container {
                name: "main".into(),
                ports: vec![ContainerPort {
                    name: format!("serve-{}", if name == "a" { 81 } else { 80 }),
                    port: 80,
                    protocol: Protocol::Tcp,
                }],
                running: true,
                ..Container::default()
            });
            world.pods.push(p);
        }
    }
    world
}

/// A deterministic source of numbers (xorshift).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n).expect("small")).expect("small")
    }
    pub(super) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
    fn often(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

const KEYS: [&str; 4] = ["app", "tier", "pod-template-hash", "team"];
const VALUES: [&str; 3] = ["a", "b", "c"];

fn some_labels(dice: &mut Dice, percent: usize) -> Labels {
    KEYS.iter()
        .filter(|_| dice.often(percent))
        .map(|k| ((*k).to_owned(), "x".to_owned()))
        .collect::<Labels>()
        .into_keys()
        .map(|k| (k, (*dice.one(&VALUES)).to_owned()))
        .collect()
}

pub(super) fn some_selector(dice: &mut Dice) -> Selector {
    let mut s = Selector::labels(some_labels(dice, 30));
    if dice.often(35) {
        let operator = *dice.one(&[
            Operator::In,
            Operator::NotIn,
            Operator::Exists,
            Operator::DoesNotExist,
        ]);
        let values = match operator {
            Operator::In | Operator::NotIn => vec![(*dice.one(&VALUES)).to_owned()],
            _ => Vec::new(),
        };
        s.expressions.push(Requirement {
            key: (*dice.one(&KEYS)).to_owned(),
            operator,
            values,
        });
    }
    s
}

fn some_rule(dice: &mut Dice) -> PolicyRule {
    let ports = (0..dice.below(2))
        .map(|_| PolicyPort {
            protocol: *dice.one(&[Protocol::Tcp, Protocol::Udp]),
            port: Some(PortRef::Number(*dice.one(&[80, 443, 5432]))),
            end_port: None,
        })
        .collect();
    let peers = (0..dice.below(3))
        .map(|_| match dice.below(4) {
            0 => block("0.0.0.0/0", &["10.0.0.0/8"]),
            1 => pods_peer(Some(""), None),
            2 => PolicyPeer::Pods {
                namespaces: Some(Selector::default()),
                pods: Some(some_selector(dice)),
            },
            _ => PolicyPeer::Pods {
                namespaces: None,
                pods: Some(some_selector(dice)),
            },
        })
        .collect();
    rule(ports, peers)
}

/// A small world from a number: two namespaces, eight pods, policies, Services and controllers over few keys and values.
pub(super) fn random(seed: u64) -> ClusterSnapshot {
    let mut dice = Dice::new(seed);
    let mut world = ClusterSnapshot::default();
    for ns in ["red", "blue"] {
        world
            .namespaces
            .insert(ns.into(), labels(&format!("ns={ns}")));
        for n in 0..4 {
            let mut p = pod(ns, &format!("p{n}"), "", &format!("10.1.0.{n}"));
            p.labels = some_labels(&mut dice, 60);
            world.pods.push(p);
        }
        for n in 0..dice.below(4) {
            let mut p = policy(ns, &format!("np{n}"), "");
            p.pod_selector = some_selector(&mut dice);
            p.ingress = (0..dice.below(3)).map(|_| some_rule(&mut dice)).collect();
            p.egress = (0..dice.below(3)).map(|_| some_rule(&mut dice)).collect();
            p.policy_types = match dice.below(3) {
                0 => None,
                1 => Some(vec![Direction::Ingress]),
                _ => Some(vec![Direction::Ingress, Direction::Egress]),
            };
            world.policies.push(p);
        }
        for n in 0..dice.below(3) {
            world.services.push(Service {
                namespace: ns.into(),
                name: format!("svc{n}"),
                selector: Some(some_labels(&mut dice, 40)).filter(|l| !l.is_empty()),
                ..Service::default()
            });
        }
        for n in 0..dice.below(3) {
            let mut selector = some_selector(&mut dice);
            selector.match_labels.insert("app".into(), "a".into());
            world.controllers.push(Controller {
                kind: "ReplicaSet".into(),
                namespace: ns.into(),
                name: format!("rs{n}"),
                uid: format!("rs-{ns}-{n}"),
                selector,
                replicas: 2,
                owner: None,
            });
        }
    }
    world
}
