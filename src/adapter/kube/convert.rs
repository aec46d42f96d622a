//! API objects → `reach::cluster` types. Absent and empty stay apart wherever the API gives them different meanings.

use k8s_openapi::api::apps::v1::{DaemonSet, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice as ApiSlice;
use k8s_openapi::api::networking::v1 as net;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::reach::cluster::*;

pub(super) fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

pub(super) fn selector(from: &LabelSelector) -> Selector {
    let expressions = from.match_expressions.iter().flatten();
    Selector {
        match_labels: from.match_labels.clone().unwrap_or_default(),
        expressions: expressions
            .filter_map(|r| {
                Some(Requirement {
                    key: r.key.clone(),
                    operator: operator(&r.operator)?,
                    values: r.values.clone().unwrap_or_default(),
                })
            })
            .collect(),
    }
}

fn operator(word: &str) -> Option<Operator> {
    match word {
        "In" => Some(Operator::In),
        "NotIn" => Some(Operator::NotIn),
        "Exists" => Some(Operator::Exists),
        "DoesNotExist" => Some(Operator::DoesNotExist),
        _ => None,
    }
}

fn protocol(word: Option<&str>) -> Protocol {
    match word {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

fn port_ref(value: &IntOrString) -> PortRef {
    match value {
        IntOrString::Int(n) => PortRef::Number(number(*n)),
        IntOrString::String(name) => PortRef::Name(name.clone()),
    }
}

/// Ports are validated by the server; one out of range can only be a server that lies, and 0 matches nothing.
fn number(n: i32) -> u16 {
    u16::try_from(n).unwrap_or(0)
}

fn owner(meta: &ObjectMeta) -> Option<Owner> {
    let mut references = meta.owner_references.iter().flatten();
    references
        .find(|r| r.controller == Some(true))
        .map(|r| Owner {
            kind: r.kind.clone(),
            name: r.name.clone(),
            uid: r.uid.clone(),
        })
}

pub(super) fn pod(from: &core::Pod) -> Pod {
    let meta = &from.metadata;
    let spec = from.spec.clone().unwrap_or_default();
    let status = from.status.clone().unwrap_or_default();
    let annotations = meta.annotations.clone().unwrap_or_default();
    let mut ips: Vec<String> = status.pod_ip.iter().cloned().collect();
    for ip in status.pod_ips.iter().flatten().map(|i| i.ip.clone()) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    let ready = |c: &core::PodCondition| c.type_ == "Ready" && c.status == "True";
    Pod {
        namespace: text(&meta.namespace),
        name: text(&meta.name),
        uid: text(&meta.uid),
        labels: meta.labels.clone().unwrap_or_default(),
        mirror: annotations.contains_key("kubernetes.io/config.mirror"),
        annotations,
        node: text(&spec.node_name),
        ips,
        host_ip: text(&status.host_ip),
        phase: text(&status.phase),
        ready: status.conditions.iter().flatten().any(ready),
        host_network: spec.host_network == Some(true),
        owner: owner(meta),
        service_account: text(&spec.service_account_name),
        containers: containers(&spec, &status),
        secrets: secrets(&spec),
        deleting: meta.deletion_timestamp.is_some(),
    }
}

fn containers(spec: &core::PodSpec, status: &core::PodStatus) -> Vec<Container> {
    let init = spec.init_containers.iter().flatten();
    let init_states = &status.init_container_statuses;
    let mut all: Vec<Container> = init
        .map(|c| container(c, ContainerKind::Init, init_states))
        .collect();
    let main = spec.containers.iter();
    all.extend(main.map(|c| container(c, ContainerKind::Main, &status.container_statuses)));
    for e in spec.ephemeral_containers.iter().flatten() {
        let image = core::Container {
            name: e.name.clone(),
            image: e.image.clone(),
            ..core::Container::default()
        };
        let states = &status.ephemeral_container_statuses;
        all.push(container(&image, ContainerKind::Ephemeral, states));
    }
    all
}

fn container(
    from: &core::Container,
    kind: ContainerKind,
    states: &Option<Vec<core::ContainerStatus>>,
) -> Container {
    let state = states.iter().flatten().find(|s| s.name == from.name);
    let ports = from.ports.iter().flatten().map(|p| ContainerPort {
        name: text(&p.name),
        port: number(p.container_port),
        protocol: protocol(p.protocol.as_deref()),
    });
    let over_network =
        |p: &core::Probe| p.http_get.is_some() || p.tcp_socket.is_some() || p.grpc.is_some();
    Container {
        name: from.name.clone(),
        kind,
        image: text(&from.image),
        image_id: state.map(|s| s.image_id.clone()).unwrap_or_default(),
        container_id: state.map(|s| text(&s.container_id)).unwrap_or_default(),
        ports: ports.collect(),
        running: state
            .and_then(|s| s.state.as_ref())
            .is_some_and(|s| s.running.is_some()),
        restarts: state.map_or(0, |s| u32::try_from(s.restart_count).unwrap_or(0)),
        network_liveness: from.liveness_probe.as_ref().is_some_and(over_network),
    }
}

/// Every Secret that a pod's specification names, by name only.
fn secrets(spec: &core::PodSpec) -> Vec<SecretUse> {
    let mut found = Vec::new();
    let mut add = |name: &str, how: &str| {
        let used = SecretUse {
            name: name.to_owned(),
            how: how.to_owned(),
        };
        if !name.is_empty() && !found.contains(&used) {
            found.push(used);
        }
    };
    for c in spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
    {
        secrets_of_env(&c.env, &c.env_from, &mut add);
    }
    for c in spec.ephemeral_containers.iter().flatten() {
        secrets_of_env(&c.env, &c.env_from, &mut add);
    }
    for v in spec.volumes.iter().flatten() {
        secrets_of_volume(v, &mut add);
    }
    for s in spec.image_pull_secrets.iter().flatten() {
        add(&s.name, "imagePullSecret");
    }
    found
}

fn secrets_of_env(
    env: &Option<Vec<core::EnvVar>>,
    from: &Option<Vec<core::EnvFromSource>>,
    add: &mut impl FnMut(&str, &str),
) {
    for e in env.iter().flatten() {
        if let Some(s) = e
            .value_from
            .as_ref()
            .and_then(|v| v.secret_key_ref.as_ref())
        {
            add(&s.name, "env");
        }
    }
    for e in from.iter().flatten() {
        if let Some(s) = &e.secret_ref {
            add(&s.name, "envFrom");
        }
    }
}

fn secrets_of_volume(v: &core::Volume, add: &mut impl FnMut(&str, &str)) {
    if let Some(name) = v.secret.as_ref().and_then(|s| s.secret_name.as_ref()) {
        add(name, "volume");
    }
    for source in v.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
        if let Some(s) = &source.secret {
            add(&s.name, "projected");
        }
    }
    let csi = v.csi.as_ref();
    if let Some(s) = csi.and_then(|c| c.node_publish_secret_ref.as_ref()) {
        add(&s.name, "csi");
    }
    let class = csi.and_then(|c| c.volume_attributes.as_ref()?.get("secretProviderClass"));
    if let Some(class) = class {
        add(class, "csi");
    }
}

pub(super) fn policy(from: &net::NetworkPolicy) -> NetworkPolicy {
    let meta = &from.metadata;
    let spec = from.spec.clone().unwrap_or_default();
    let ingress = spec.ingress.iter().flatten().map(|r| PolicyRule {
        ports: policy_ports(&r.ports),
        peers: policy_peers(&r.from),
    });
    let egress = spec.egress.iter().flatten().map(|r| PolicyRule {
        ports: policy_ports(&r.ports),
        peers: policy_peers(&r.to),
    });
    let direction = |word: &String| match word.as_str() {
        "Ingress" => Some(Direction::Ingress),
        "Egress" => Some(Direction::Egress),
        _ => None,
    };
    NetworkPolicy {
        namespace: text(&meta.namespace),
        name: text(&meta.name),
        uid: text(&meta.uid),
        labels: meta.labels.clone().unwrap_or_default(),
        pod_selector: spec.pod_selector.as_ref().map(selector).unwrap_or_default(),
        policy_types: spec
            .policy_types
            .as_ref()
            .map(|types| types.iter().filter_map(direction).collect()),
        ingress: ingress.collect(),
        egress: egress.collect(),
    }
}

fn policy_ports(from: &Option<Vec<net::NetworkPolicyPort>>) -> Vec<PolicyPort> {
    let ports = from.iter().flatten().map(|p| PolicyPort {
        protocol: protocol(p.protocol.as_deref()),
        port: p.port.as_ref().map(port_ref),
        end_port: p.end_port.map(number),
    });
    ports.collect()
}

fn policy_peers(from: &Option<Vec<net::NetworkPolicyPeer>>) -> Vec<PolicyPeer> {
    let peers = from.iter().flatten().map(|p| match &p.ip_block {
        Some(block) => PolicyPeer::Block {
            cidr: block.cidr.clone(),
            except: block.except.clone().unwrap_or_default(),
        },
        None => PolicyPeer::Pods {
            namespaces: p.namespace_selector.as_ref().map(selector),
            pods: p.pod_selector.as_ref().map(selector),
        },
    });
    peers.collect()
}

pub(super) fn service(from: &core::Service) -> Service {
    let spec = from.spec.clone().unwrap_or_default();
    let ports = spec.ports.iter().flatten().map(|p| ServicePort {
        port: number(p.port),
        target: p.target_port.as_ref().map(port_ref),
        protocol: protocol(p.protocol.as_deref()),
    });
    Service {
        namespace: text(&from.metadata.namespace),
        name: text(&from.metadata.name),
        // An empty selector selects nothing, like an absent one.
        selector: spec.selector.filter(|s| !s.is_empty()),
        cluster_ip: spec
            .cluster_ip
            .filter(|ip| ip != "None")
            .unwrap_or_default(),
        ports: ports.collect(),
    }
}

pub(super) fn endpoint_slice(from: &ApiSlice) -> EndpointSlice {
    let labels = from.metadata.labels.as_ref();
    let endpoints = from.endpoints.iter().map(|e| Endpoint {
        addresses: e.addresses.clone(),
        // Absent means ready, by the API's own rule.
        ready: e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true),
        pod_uid: e
            .target_ref
            .as_ref()
            .filter(|t| t.kind.as_deref() == Some("Pod"))
            .and_then(|t| t.uid.clone()),
    });
    EndpointSlice {
        namespace: text(&from.metadata.namespace),
        name: text(&from.metadata.name),
        service: labels
            .and_then(|l| l.get("kubernetes.io/service-name").cloned())
            .unwrap_or_default(),
        endpoints: endpoints.collect(),
    }
}

fn controller(
    kind: &str,
    meta: &ObjectMeta,
    selector: Selector,
    replicas: Option<i32>,
) -> Controller {
    Controller {
        kind: kind.to_owned(),
        namespace: text(&meta.namespace),
        name: text(&meta.name),
        uid: text(&meta.uid),
        selector,
        replicas: u32::try_from(replicas.unwrap_or(1)).unwrap_or(0),
        owner: owner(meta),
    }
}

pub(super) fn replica_set(from: &ReplicaSet) -> Controller {
    let spec = from.spec.clone().unwrap_or_default();
    controller(
        "ReplicaSet",
        &from.metadata,
        selector(&spec.selector),
        spec.replicas,
    )
}

pub(super) fn stateful_set(from: &StatefulSet) -> Controller {
    let spec = from.spec.clone().unwrap_or_default();
    controller(
        "StatefulSet",
        &from.metadata,
        selector(&spec.selector),
        spec.replicas,
    )
}

pub(super) fn daemon_set(from: &DaemonSet) -> Controller {
    let wanted = from.status.as_ref().map(|s| s.desired_number_scheduled);
    let spec = from.spec.clone().unwrap_or_default();
    controller(
        "DaemonSet",
        &from.metadata,
        selector(&spec.selector),
        wanted,
    )
}

pub(super) fn job(from: &Job) -> Controller {
    let spec = from.spec.clone().unwrap_or_default();
    let own = spec.selector.as_ref().map(selector).unwrap_or_default();
    controller("Job", &from.metadata, own, spec.parallelism)
}

pub(super) fn replication_controller(from: &core::ReplicationController) -> Controller {
    let spec = from.spec.clone().unwrap_or_default();
    let own = Selector {
        match_labels: spec.selector.unwrap_or_default(),
        expressions: Vec::new(),
    };
    controller("ReplicationController", &from.metadata, own, spec.replicas)
}

pub(super) fn disruption_budget(from: &PodDisruptionBudget) -> DisruptionBudget {
    DisruptionBudget {
        namespace: text(&from.metadata.namespace),
        name: text(&from.metadata.name),
        selector: from
            .spec
            .as_ref()
            .and_then(|s| s.selector.as_ref())
            .map(selector),
        allowed: from.status.as_ref().map_or(0, |s| s.disruptions_allowed),
    }
}

pub(super) fn node(from: &core::Node) -> Node {
    let spec = from.spec.clone().unwrap_or_default();
    let status = from.status.clone().unwrap_or_default();
    let addresses = status.addresses.iter().flatten();
    let taints = spec.taints.iter().flatten();
    Node {
        name: text(&from.metadata.name),
        uid: text(&from.metadata.uid),
        ips: addresses
            .filter(|a| a.type_ == "InternalIP")
            .map(|a| a.address.clone())
            .collect(),
        unschedulable: spec.unschedulable == Some(true),
        taints: taints
            .map(|t| format!("{}={}:{}", t.key, text(&t.value), t.effect))
            .collect(),
        ready: status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True"),
        images: status
            .images
            .iter()
            .flatten()
            .flat_map(|i| i.names.clone().unwrap_or_default())
            .collect(),
    }
}

pub(super) fn service_account(from: &core::ServiceAccount) -> ServiceAccount {
    ServiceAccount {
        namespace: text(&from.metadata.namespace),
        name: text(&from.metadata.name),
        annotations: from.metadata.annotations.clone().unwrap_or_default(),
        image_pull_secrets: from
            .image_pull_secrets
            .iter()
            .flatten()
            .map(|s| s.name.clone())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_and_empty_selectors_stay_apart() {
        let from = json!({ "spec": { "podSelector": {}, "ingress": [
            { "from": [{ "podSelector": {} }, { "namespaceSelector": {} }, { "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"] } }] }, {} ] } });
        let got = policy(&serde_json::from_value(from).expect("a policy"));
        assert_eq!(got.policy_types, None);
        let peers = &got.ingress[0].peers;
        assert_eq!(
            peers[0],
            PolicyPeer::Pods {
                namespaces: None,
                pods: Some(Selector::default())
            }
        );
        assert_eq!(
            peers[1],
            PolicyPeer::Pods {
                namespaces: Some(Selector::default()),
                pods: None
            }
        );
        assert!(matches!(&peers[2], PolicyPeer::Block { except, .. } if except.len() == 1));
        assert_eq!(got.ingress[1], PolicyRule::default());
    }

    #[test]
    fn every_way_to_a_secret_is_found_by_name() {
        let from = json!({ "spec": { "containers": [{ "name": "a",
              "env": [{ "name": "X", "valueFrom": { "secretKeyRef": { "name": "s1", "key": "k" } } }],
              "envFrom": [{ "secretRef": { "name": "s2" } }] }],
            "imagePullSecrets": [{ "name": "s5" }],
            "volumes": [{ "name": "v", "secret": { "secretName": "s3" } },
              { "name": "p", "projected": { "sources": [{ "secret": { "name": "s4" } }] } },
              { "name": "c", "csi": { "driver": "d", "volumeAttributes": { "secretProviderClass": "s6" } } }] } });
        let got = pod(&serde_json::from_value(from).expect("a pod"));
        let names: Vec<String> = got
            .secrets
            .iter()
            .map(|s| format!("{} {}", s.name, s.how))
            .collect();
        assert_eq!(
            names,
            [
                "s1 env",
                "s2 envFrom",
                "s3 volume",
                "s4 projected",
                "s6 csi",
                "s5 imagePullSecret"
            ]
        );
    }

    #[test]
    fn a_headless_service_has_no_address_and_an_empty_selector_selects_nothing() {
        let from = json!({ "spec": { "clusterIP": "None", "selector": {}, "ports": [{ "port": 80, "targetPort": "web" }] } });
        let got = service(&serde_json::from_value(from).expect("a service"));
        assert_eq!((got.cluster_ip.as_str(), got.selector), ("", None));
        assert_eq!(got.ports[0].target, Some(PortRef::Name("web".into())));
    }
}
