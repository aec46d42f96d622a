//! Looking at a cluster. Nothing here changes it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::reach::cluster::{ClusterSnapshot, Node, Pod, PodName};

use super::PortError;

/// How a cluster is known: the UID of `kube-system` is its identity; context and server are how it was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// Context name in the kubeconfig; `sim` for the drill's world.
    pub context: String,
    /// API server URL.
    pub server: String,
    /// UID of the namespace `kube-system`.
    pub uid: String,
    /// Server version, `v1.34.1`.
    pub version: String,
    /// Who the server says we are, if it tells.
    pub user: Option<String>,
}

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookScope {
    /// Everything that containment needs, cluster-wide.
    Cluster,
    /// The same, with namespaced lists of these namespaces only (namespaces and nodes are always listed).
    Namespaces(Vec<String>),
}

/// One right, as RBAC writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Right {
    /// API group, empty for core.
    pub group: String,
    /// Resource with subresource: `pods/log`.
    pub resource: String,
    /// Verb.
    pub verb: String,
    /// Namespace; `None` = cluster-wide.
    pub namespace: Option<String>,
}

impl Right {
    /// A right in any namespace; give it one with [`Right::within`].
    pub fn new(group: &str, resource: &str, verb: &str) -> Self {
        Right {
            group: group.into(),
            resource: resource.into(),
            verb: verb.into(),
            namespace: None,
        }
    }
    /// The same right in one namespace.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.into());
        self
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{} {}{dot}{}", self.verb, self.resource, self.group)?;
        match &self.namespace {
            Some(ns) => write!(f, " in {ns}"),
            None => write!(f, " cluster-wide"),
        }
    }
}

/// The server's answer about a right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightAnswer {
    /// The right.
    pub right: Right,
    /// Allowed. A review that could not be made is `None`: unknown, not absent.
    pub allowed: Option<bool>,
}

/// What is known about who enforces NetworkPolicy, from looking only. Only a canary or a probe proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    /// Name of the plugin recognised by its pods or DaemonSets, if any.
    pub plugin: Option<String>,
    /// Known to enforce NetworkPolicy; `None` = not known.
    pub enforces: Option<bool>,
    /// What this rests on.
    pub basis: String,
}

/// Looks at a cluster.
///
/// Reads may be repeated on transient causes by the adapter (at most 3 times); each call has a deadline of 10 s unless said.
#[async_trait]
pub trait ClusterView: Send + Sync {
    /// Who and where it is.
    async fn identity(&self) -> Result<ClusterIdentity, PortError>;
    /// One snapshot of everything containment looks at. A list that may not be read is named in `unread`, not an error.
    async fn look(&self, scope: &LookScope) -> Result<ClusterSnapshot, PortError>;
    /// One pod; `None` when it is not there.
    async fn pod(&self, pod: &PodName) -> Result<Option<Pod>, PortError>;
    /// Pods of a namespace by a label selector in its text form (`app=web,tier!=db`).
    async fn pods_by_selector(
        &self,
        namespace: &str,
        selector: &str,
    ) -> Result<Vec<Pod>, PortError>;
    /// One node; `None` when it is not there.
    async fn node(&self, name: &str) -> Result<Option<Node>, PortError>;
    /// One object as the API stores it (kind: `Pod`, `NetworkPolicy`, `Node`, `ReplicaSet`, …); `None` when it is not there.
    async fn object(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, PortError>;
    /// Events about an object, oldest first.
    async fn events(&self, namespace: &str, uid: &str) -> Result<Vec<Value>, PortError>;
    /// SelfSubjectAccessReview for each right.
    async fn may(&self, rights: &[Right]) -> Result<Vec<RightAnswer>, PortError>;
    /// Who seems to enforce NetworkPolicy.
    async fn enforcement(&self) -> Result<Enforcement, PortError>;
    /// Names of roles (ClusterRole or Role) that hold a right, for the hint when it is missing; empty when they may not be read.
    async fn roles_with(&self, right: &Right) -> Result<Vec<String>, PortError>;
}
