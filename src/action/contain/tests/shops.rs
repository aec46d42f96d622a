//! The cluster of these tests: a small shop.

use std::sync::{Arc, Mutex};

use super::world::{State, World};
use crate::reach::cluster::*;

/// `k=v,k=v` as labels.
pub(super) fn labels(text: &str) -> Labels {
    text.split(',')
        .filter_map(|p| p.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

pub(super) fn web(n: usize) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: format!("web-{n}"),
        uid: format!("uid-web-{n}"),
        labels: labels("app=web,pod-template-hash=7d9"),
        node: "node-1".into(),
        ips: vec![format!("10.244.0.{}", n + 10)],
        host_ip: "192.0.2.1".into(),
        phase: "Running".into(),
        ready: true,
        service_account: "web".into(),
        owner: Some(Owner {
            kind: "ReplicaSet".into(),
            name: "web-7d9".into(),
            uid: "uid-rs".into(),
        }),
        containers: vec![Container {
            name: "main".into(),
            image: "web:1".into(),
            running: true,
            ports: vec![ContainerPort {
                name: "http".into(),
                port: 8080,
                protocol: Protocol::Tcp,
            }],
            ..Container::default()
        }],
        secrets: vec![SecretUse {
            name: "db-password".into(),
            how: "env".into(),
        }],
        ..Pod::default()
    }
}

/// A shop: `pods` pods of a ReplicaSet behind a Service, an ordinary allow policy, an enforcing plugin.
pub(super) fn shop(pods: usize) -> World {
    let mut cluster = ClusterSnapshot::default();
    for ns in ["shop", "default", "kube-system"] {
        cluster
            .namespaces
            .insert(ns.into(), labels(&format!("ns={ns}")));
    }
    cluster.pods = (0..pods).map(web).collect();
    cluster.nodes.push(Node {
        name: "node-1".into(),
        uid: "uid-node-1".into(),
        ips: vec!["192.0.2.1".into()],
        ready: true,
        ..Node::default()
    });
    cluster.controllers.push(Controller {
        kind: "ReplicaSet".into(),
        namespace: "shop".into(),
        name: "web-7d9".into(),
        uid: "uid-rs".into(),
        selector: Selector::labels(labels("app=web,pod-template-hash=7d9")),
        replicas: u32::try_from(pods).expect("few"),
        owner: None,
    });
    cluster.services = vec![
        service("shop", "web", "10.96.0.10", 80, Some(labels("app=web"))),
        service("default", "kubernetes", "10.96.0.1", 443, None),
    ];
    cluster.policies.push(NetworkPolicy {
        namespace: "shop".into(),
        name: "allow-web".into(),
        uid: "uid-allow-web".into(),
        pod_selector: Selector::labels(labels("app=web")),
        policy_types: Some(vec![Direction::Ingress]),
        ingress: vec![PolicyRule::default()],
        ..NetworkPolicy::default()
    });
    cluster.service_accounts.push(ServiceAccount {
        namespace: "shop".into(),
        name: "web".into(),
        annotations: labels("eks.amazonaws.com/role-arn=arn:aws:iam::1:role/web"),
        image_pull_secrets: vec!["registry".into()],
    });
    World(Arc::new(Mutex::new(State {
        cluster,
        enforces: true,
        ..State::default()
    })))
}

fn service(ns: &str, name: &str, ip: &str, port: u16, selector: Option<Labels>) -> Service {
    Service {
        namespace: ns.into(),
        name: name.into(),
        selector,
        cluster_ip: ip.into(),
        ports: vec![ServicePort {
            port,
            target: Some(PortRef::Number(8080)),
            protocol: Protocol::Tcp,
        }],
    }
}
