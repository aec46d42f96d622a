//! One consistent snapshot of a cluster, as far as containment needs it.
//!
//! Source of the shapes: Kubernetes API reference v1.34 (core/v1, networking.k8s.io/v1, discovery.k8s.io/v1, policy/v1,
//! apps/v1). Absent and empty are kept apart wherever the API gives them different meanings.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Labels or annotations.
pub type Labels = BTreeMap<String, String>;

/// Namespace and name of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Everything containment looks at, taken at one time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterSnapshot {
    /// When it was taken.
    pub taken: DateTime<Utc>,
    /// Namespaces and their labels.
    pub namespaces: BTreeMap<String, Labels>,
    /// Pods of all namespaces that may be read.
    pub pods: Vec<Pod>,
    /// `networking.k8s.io/v1` policies.
    pub policies: Vec<NetworkPolicy>,
    /// Services.
    pub services: Vec<Service>,
    /// EndpointSlices.
    pub endpoint_slices: Vec<EndpointSlice>,
    /// ReplicaSets, StatefulSets, DaemonSets, Jobs, ReplicationControllers.
    pub controllers: Vec<Controller>,
    /// PodDisruptionBudgets.
    pub disruption_budgets: Vec<DisruptionBudget>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Service accounts (names and annotations only).
    pub service_accounts: Vec<ServiceAccount>,
    /// Policies of kinds that we name but do not model (ClusterNetworkPolicy, Cilium, Calico): they *may allow*.
    pub foreign_policies: Vec<ForeignPolicy>,
    /// Lists that could not be read, with the reason: what is in them counts as *may allow*, never as denied.
    pub unread: Vec<Unread>,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// Namespace and name.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// Node, empty while unscheduled.
    pub node: String,
    /// Pod addresses, the primary first.
    pub ips: Vec<String>,
    /// The node's address.
    pub host_ip: String,
    /// `Running`, `Pending`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: String,
    /// Condition Ready.
    pub ready: bool,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// The owner reference with `controller: true`, if any.
    pub owner: Option<Owner>,
    /// Service account.
    pub service_account: String,
    /// Containers: init, main and ephemeral.
    pub containers: Vec<Container>,
    /// Secrets it uses, names only.
    pub secrets: Vec<SecretUse>,
    /// True for a static pod's mirror (`kubernetes.io/config.mirror`).
    pub mirror: bool,
    /// True once a deletion was requested.
    pub deleting: bool,
}

impl Pod {
    /// Its namespace and name.
    pub fn id(&self) -> PodName {
        PodName {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

/// The controller of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// A container of a pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Init, main or ephemeral.
    pub kind: ContainerKind,
    /// Image as written.
    pub image: String,
    /// Image digest as the runtime reports it.
    pub image_id: String,
    /// Container id as the runtime reports it.
    pub container_id: String,
    /// Declared ports.
    pub ports: Vec<ContainerPort>,
    /// Running now.
    pub running: bool,
    /// Restarts; above 0 there are logs of a previous instance.
    pub restarts: u32,
    /// Has a liveness probe that goes over the network.
    pub network_liveness: bool,
}

/// Kind of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerKind {
    /// `spec.initContainers`.
    Init,
    /// `spec.containers`.
    #[default]
    Main,
    /// `spec.ephemeralContainers`.
    Ephemeral,
}

/// A declared port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPort {
    /// Name, may be empty.
    pub name: String,
    /// Number.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// How a pod uses a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// Secret name in the pod's namespace.
    pub name: String,
    /// `env`, `envFrom`, `volume`, `projected`, `imagePullSecret`, `csi`.
    pub how: String,
}

/// Transport protocol.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Protocol {
    /// TCP, the default of the API.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
    /// SCTP.
    #[serde(rename = "SCTP")]
    Sctp,
}

/// A label selector. `None` where the API distinguishes absent from empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// All must be equal.
    pub match_labels: Labels,
    /// All must hold.
    pub expressions: Vec<Requirement>,
}

/// One requirement of a selector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// Operator.
    pub operator: Operator,
    /// Values for `In` and `NotIn`.
    pub values: Vec<String>,
}

/// Operators of a selector. `NotIn` and `DoesNotExist` hold when the key is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// Value is one of.
    In,
    /// Value is none of, or the key is absent.
    NotIn,
    /// Key present.
    Exists,
    /// Key absent.
    DoesNotExist,
}

impl Selector {
    /// A selector of equal labels.
    pub fn labels(labels: Labels) -> Self {
        Selector {
            match_labels: labels,
            expressions: Vec::new(),
        }
    }
    /// Rule N7: matchLabels and all matchExpressions hold. An empty selector matches everything.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels
            .iter()
            .all(|(k, v)| labels.get(k) == Some(v))
            && self.expressions.iter().all(|r| r.holds(labels))
    }
}

impl Requirement {
    /// True when the labels fulfil it.
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// `networking.k8s.io/v1` NetworkPolicy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkPolicy {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Labels of the object.
    pub labels: Labels,
    /// Pods it applies to.
    pub pod_selector: Selector,
    /// As stored; `None` where missing (rule N3: Ingress always, Egress iff egress rules exist).
    pub policy_types: Option<Vec<Direction>>,
    /// Ingress rules; no rule = nothing allowed.
    pub ingress: Vec<PolicyRule>,
    /// Egress rules.
    pub egress: Vec<PolicyRule>,
}

/// Direction as seen from the selected pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

/// One rule: (ports: empty = all) and (peers: empty = all).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// Ports.
    pub ports: Vec<PolicyPort>,
    /// Peers (`from` or `to`).
    pub peers: Vec<PolicyPeer>,
}

/// A port of a rule (rule N8).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyPort {
    /// Protocol, TCP by default.
    pub protocol: Protocol,
    /// Number or name; none = every port of the protocol.
    pub port: Option<PortRef>,
    /// End of a numeric range, inclusive.
    pub end_port: Option<u16>,
}

/// A port by number or name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortRef {
    /// Number.
    Number(u16),
    /// Name, resolved on the destination pod.
    Name(String),
}

/// A peer of a rule (rule N6).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum PolicyPeer {
    /// Pods: absent selectors and empty ones differ.
    Pods {
        /// Absent = the policy's own namespace.
        namespaces: Option<Selector>,
        /// Absent = all pods of those namespaces.
        pods: Option<Selector>,
    },
    /// Addresses.
    Block {
        /// CIDR.
        cidr: String,
        /// Excluded parts.
        except: Vec<String>,
    },
}

/// A Service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Equality selector; `None` = no selector (endpoints are managed by hand).
    pub selector: Option<Labels>,
    /// Cluster address, empty for headless ones.
    pub cluster_ip: String,
    /// Ports: number, target, protocol.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Number at the Service.
    pub port: u16,
    /// Target at the pod.
    pub target: Option<PortRef>,
    /// Protocol.
    pub protocol: Protocol,
}

/// An EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The Service it belongs to (`kubernetes.io/service-name`), may be empty.
    pub service: String,
    /// Addresses with readiness.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Addresses.
    pub addresses: Vec<String>,
    /// Ready.
    pub ready: bool,
    /// Target pod's UID, if it names one.
    pub pod_uid: Option<String>,
}

/// A workload controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Controller {
    /// `ReplicaSet`, `StatefulSet`, `DaemonSet`, `Job`, `ReplicationController`.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Its selector.
    pub selector: Selector,
    /// Wanted replicas.
    pub replicas: u32,
    /// Its own controller (a Deployment).
    pub owner: Option<Owner>,
}

/// A PodDisruptionBudget.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DisruptionBudget {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its selector; `None` selects nothing.
    pub selector: Option<Selector>,
    /// Disruptions allowed now.
    pub allowed: i32,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Internal addresses.
    pub ips: Vec<String>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// Taints as `key=value:Effect`.
    pub taints: Vec<String>,
    /// Condition Ready.
    pub ready: bool,
    /// Images present on it (names).
    pub images: Vec<String>,
}

/// A service account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceAccount {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Annotations (`eks.amazonaws.com/role-arn`).
    pub annotations: Labels,
    /// imagePullSecrets.
    pub image_pull_secrets: Vec<String>,
}

/// A policy of a kind that we do not model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignPolicy {
    /// `group/version Kind`.
    pub kind: String,
    /// Namespace, empty for cluster-wide.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A list that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}
