//! Objects in the API's own shape, for exhibits: made from the world's domain types.

use serde_json::{Value, json};

use crate::port::Right;
use crate::reach::cluster::{
    Controller, Direction, NetworkPolicy, Node, Pod, PolicyPeer, PolicyPort, PolicyRule, PortRef,
    Requirement, Selector, Service,
};

use super::world::World;

/// The right to read one object of a kind.
pub(super) fn right_to_get(kind: &str, namespace: &str) -> Right {
    let (group, resource) = match kind {
        "Pod" => ("", "pods"),
        "Node" => ("", "nodes"),
        "Service" => ("", "services"),
        "ServiceAccount" => ("", "serviceaccounts"),
        "Namespace" => ("", "namespaces"),
        "NetworkPolicy" => ("networking.k8s.io", "networkpolicies"),
        "EndpointSlice" => ("discovery.k8s.io", "endpointslices"),
        "Deployment" => ("apps", "deployments"),
        "StatefulSet" => ("apps", "statefulsets"),
        "DaemonSet" => ("apps", "daemonsets"),
        _ => ("apps", "replicasets"),
    };
    let right = Right::new(group, resource, "get");
    if namespace.is_empty() {
        right
    } else {
        right.within(namespace)
    }
}

/// Finds an object; `None` when it is not there or of a kind the sim does not keep.
pub(super) fn find(world: &World, kind: &str, namespace: &str, name: &str) -> Option<Value> {
    let all = &world.cluster;
    match kind {
        "Pod" => world.pod(namespace, name).map(pod),
        "Node" => world.node(name).map(node),
        "NetworkPolicy" => world.policy(namespace, name).map(|p| {
            let mut value = policy(p);
            if let Some(annotations) = world.policy_annotations.get(&p.uid) {
                value["metadata"]["annotations"] = json!(annotations);
            }
            value
        }),
        "Service" => all
            .services
            .iter()
            .find(|s| s.namespace == namespace && s.name == name)
            .map(service),
        "Namespace" => all.namespaces.get(name).map(|labels| {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        }),
        "ServiceAccount" => all
            .service_accounts
            .iter()
            .find(|s| s.namespace == namespace && s.name == name)
            .map(|s| {
                json!({
                    "apiVersion": "v1", "kind": "ServiceAccount",
                    "metadata": {"namespace": s.namespace, "name": s.name, "annotations": s.annotations},
                })
            }),
        "Deployment" => deployment(world, namespace, name),
        _ => all
            .controllers
            .iter()
            .find(|c| c.kind == kind && c.namespace == namespace && c.name == name)
            .map(controller),
    }
}

fn pod(p: &Pod) -> Value {
    let owners: Vec<Value> = p
        .owner
        .iter()
        .map(|o| {
            json!({
                "apiVersion": "apps/v1", "kind": o.kind, "name": o.name, "uid": o.uid,
                "controller": true, "blockOwnerDeletion": true,
            })
        })
        .collect();
    let containers: Vec<Value> = p
        .containers
        .iter()
        .map(|c| {
            let ports: Vec<Value> = c
                .ports
                .iter()
                .map(|port| json!({"name": port.name, "containerPort": port.port, "protocol": port.protocol}))
                .collect();
            json!({"name": c.name, "image": c.image, "ports": ports})
        })
        .collect();
    let statuses: Vec<Value> = p
        .containers
        .iter()
        .map(|c| {
            json!({
                "name": c.name, "image": c.image, "imageID": c.image_id, "containerID": c.container_id,
                "ready": p.ready, "restartCount": c.restarts,
            })
        })
        .collect();
    let volumes: Vec<Value> = p
        .secrets
        .iter()
        .filter(|s| s.how == "volume")
        .map(|s| json!({"name": s.name, "secret": {"secretName": s.name}}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": p.namespace, "name": p.name, "uid": p.uid,
            "labels": p.labels, "annotations": p.annotations, "ownerReferences": owners,
        },
        "spec": {
            "nodeName": p.node, "serviceAccountName": p.service_account, "hostNetwork": p.host_network,
            "containers": containers, "volumes": volumes,
        },
        "status": {
            "phase": p.phase, "hostIP": p.host_ip, "podIP": p.ips.first(),
            "podIPs": p.ips.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
            "containerStatuses": statuses,
            "conditions": [{"type": "Ready", "status": if p.ready { "True" } else { "False" }}],
        },
    })
}

fn node(n: &Node) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": n.name, "uid": n.uid},
        "spec": {"unschedulable": n.unschedulable, "taints": n.taints.iter().map(|t| taint(t)).collect::<Vec<_>>()},
        "status": {
            "addresses": n.ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect::<Vec<_>>(),
            "conditions": [{"type": "Ready", "status": if n.ready { "True" } else { "False" }}],
            "images": [{"names": n.images}],
        },
    })
}

fn taint(text: &str) -> Value {
    let (rest, effect) = text.rsplit_once(':').unwrap_or((text, ""));
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    json!({"key": key, "value": value, "effect": effect})
}

fn service(s: &Service) -> Value {
    let ports: Vec<Value> = s
        .ports
        .iter()
        .map(|p| json!({"port": p.port, "targetPort": p.target, "protocol": p.protocol}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": s.namespace, "name": s.name},
        "spec": {"selector": s.selector, "clusterIP": s.cluster_ip, "ports": ports},
    })
}

fn controller(c: &Controller) -> Value {
    let owners: Vec<Value> = c
        .owner
        .iter()
        .map(|o| json!({"apiVersion": "apps/v1", "kind": o.kind, "name": o.name, "uid": o.uid, "controller": true}))
        .collect();
    json!({
        "apiVersion": "apps/v1", "kind": c.kind,
        "metadata": {"namespace": c.namespace, "name": c.name, "uid": c.uid, "ownerReferences": owners},
        "spec": {"replicas": c.replicas, "selector": selector(&c.selector)},
    })
}

/// A Deployment is known only by the ReplicaSet that it owns.
fn deployment(world: &World, namespace: &str, name: &str) -> Option<Value> {
    let set = world.cluster.controllers.iter().find(|c| {
        c.namespace == namespace
            && c.owner
                .as_ref()
                .is_some_and(|o| o.kind == "Deployment" && o.name == name)
    })?;
    let uid = set.owner.as_ref().map(|o| o.uid.as_str());
    let mut labels = set.selector.match_labels.clone();
    labels.remove("pod-template-hash");
    Some(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": name, "uid": uid},
        "spec": {"replicas": set.replicas, "selector": {"matchLabels": labels}},
    }))
}

fn policy(p: &NetworkPolicy) -> Value {
    let mut spec = json!({"podSelector": selector(&p.pod_selector)});
    if let Some(types) = &p.policy_types {
        spec["policyTypes"] = types
            .iter()
            .map(|t| match t {
                Direction::Ingress => "Ingress",
                Direction::Egress => "Egress",
            })
            .collect();
    }
    if !p.ingress.is_empty() {
        spec["ingress"] = p.ingress.iter().map(|r| rule(r, "from")).collect();
    }
    if !p.egress.is_empty() {
        spec["egress"] = p.egress.iter().map(|r| rule(r, "to")).collect();
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": p.namespace, "name": p.name, "uid": p.uid, "labels": p.labels},
        "spec": spec,
    })
}

fn rule(r: &PolicyRule, peers: &str) -> Value {
    let mut value = json!({});
    if !r.ports.is_empty() {
        value["ports"] = r.ports.iter().map(port).collect();
    }
    if !r.peers.is_empty() {
        value[peers] = r.peers.iter().map(peer).collect();
    }
    value
}

fn port(p: &PolicyPort) -> Value {
    let mut value = json!({"protocol": p.protocol});
    match &p.port {
        Some(PortRef::Number(n)) => value["port"] = json!(n),
        Some(PortRef::Name(n)) => value["port"] = json!(n),
        None => {}
    }
    if let Some(end) = p.end_port {
        value["endPort"] = json!(end);
    }
    value
}

fn peer(p: &PolicyPeer) -> Value {
    match p {
        PolicyPeer::Block { cidr, except } => json!({"ipBlock": {"cidr": cidr, "except": except}}),
        PolicyPeer::Pods { namespaces, pods } => {
            let mut value = json!({});
            if let Some(s) = namespaces {
                value["namespaceSelector"] = selector(s);
            }
            if let Some(s) = pods {
                value["podSelector"] = selector(s);
            }
            value
        }
    }
}

fn selector(s: &Selector) -> Value {
    let mut value = json!({});
    if !s.match_labels.is_empty() {
        value["matchLabels"] = json!(s.match_labels);
    }
    if !s.expressions.is_empty() {
        value["matchExpressions"] = s.expressions.iter().map(requirement).collect();
    }
    value
}

fn requirement(r: &Requirement) -> Value {
    json!({"key": r.key, "operator": r.operator, "values": r.values})
}
