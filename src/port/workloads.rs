//! Consumers in a cluster: the Secret they read from, and their rollout.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::incident::body::ObjectRef;

use super::{PortError, Secret};

/// Rights that this port needs in the namespaces of the consumers: API group, resource, verb. `patch` of secrets and workloads also shows
/// what it answers, so a role that may write and not read is none.
pub const WORKLOAD_RIGHTS: [(&str, &str, &str); 17] = [
    ("", "secrets", "get"),
    ("", "secrets", "patch"),
    ("", "pods", "list"),
    ("", "serviceaccounts", "get"),
    ("", "serviceaccounts", "create"),
    ("apps", "deployments", "get"),
    ("apps", "deployments", "list"),
    ("apps", "deployments", "patch"),
    ("apps", "statefulsets", "get"),
    ("apps", "statefulsets", "list"),
    ("apps", "statefulsets", "patch"),
    ("apps", "daemonsets", "get"),
    ("apps", "daemonsets", "list"),
    ("apps", "daemonsets", "patch"),
    ("apps", "replicasets", "list"),
    ("batch", "jobs", "list"),
    ("batch", "cronjobs", "list"),
];

/// A Kubernetes Secret with its values.
pub struct SecretObject {
    /// Namespace, name, UID.
    pub object: ObjectRef,
    /// `resourceVersion`.
    pub version: String,
    /// Values by key, of valid UTF-8; others are left out and named in `binary`.
    pub data: BTreeMap<String, Secret>,
    /// Keys whose value is not UTF-8.
    pub binary: Vec<String>,
    /// It refuses changes for ever.
    pub immutable: bool,
    /// Field managers that wrote it, newest last.
    pub managers: Vec<String>,
    /// Who owns it, where something writes it from elsewhere: `ExternalSecret/x`, `SealedSecret/x`, `helm`, `argocd`, …
    pub written_by: Option<String>,
}

/// A guarded write of some keys of a Secret: JSON Patch with a `test` on the UID and on each old value.
pub struct SecretWrite<'a> {
    /// The Secret with its UID.
    pub object: &'a ObjectRef,
    /// Key → value it must have now (`None` = must be absent).
    pub expect: BTreeMap<String, Option<&'a Secret>>,
    /// Key → new value.
    pub set: BTreeMap<String, &'a Secret>,
}

/// A workload that uses a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// `Deployment`, `StatefulSet`, `DaemonSet`, or what cannot be rolled out: `Pod`, `Job`, `ReplicaSet`.
    pub object: ObjectRef,
    /// `env`, `envFrom`, `volume`, `subPath`.
    pub how: Vec<String>,
    /// It can be rolled out by its pod template.
    pub rollable: bool,
    /// Reloader is in charge of restarting it.
    pub reloader: bool,
}

/// Where a rollout stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// The workload with its UID.
    pub object: ObjectRef,
    /// Value of our restart annotation on the pod template, if it is there.
    pub restarted_by: Option<String>,
    /// The controller has seen the newest template.
    pub observed: bool,
    /// Replicas wanted.
    pub desired: u32,
    /// Replicas of the newest template.
    pub updated: u32,
    /// Replicas available.
    pub available: u32,
    /// Replicas in all, those that are told to end and still run among them: more than `desired` while old ones go.
    pub total: u32,
    /// When the oldest pod that still runs was made.
    pub oldest_pod: Option<DateTime<Utc>>,
    /// Why it does not come up, if something says so (`CrashLoopBackOff in web-1`).
    pub trouble: Option<String>,
    /// Its ServiceAccount.
    pub service_account: String,
}

impl Rollout {
    /// Everything wanted is of the newest template and available, and nothing old is left.
    pub fn complete(&self) -> bool {
        self.observed
            && self.updated == self.desired
            && self.available == self.desired
            && self.total == self.desired
    }
}

/// Consumers of one cluster.
#[async_trait]
pub trait Workloads: Send + Sync {
    /// A Secret with its values.
    async fn secret(&self, namespace: &str, name: &str) -> Result<SecretObject, PortError>;
    /// Writes keys of a Secret. `Conflict` when it is not as expected.
    async fn write_secret(&self, write: &SecretWrite<'_>) -> Result<ObjectRef, PortError>;
    /// Workloads that use a Secret.
    async fn consumers(&self, namespace: &str, secret: &str) -> Result<Vec<Consumer>, PortError>;
    /// Where a workload's rollout stands.
    async fn rollout(&self, workload: &ObjectRef) -> Result<Rollout, PortError>;
    /// Sets (or with `None` removes) our restart annotation on the pod template, guarded by UID. The same value again starts nothing.
    async fn restart(&self, workload: &ObjectRef, value: Option<&str>) -> Result<(), PortError>;
    /// Makes a ServiceAccount with these annotations, or answers the one that is there with exactly these.
    async fn put_service_account(
        &self,
        namespace: &str,
        name: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<ObjectRef, PortError>;
    /// Moves a workload from one ServiceAccount to another, guarded by UID and by the one it has now.
    async fn move_service_account(
        &self,
        workload: &ObjectRef,
        from: &str,
        to: &str,
    ) -> Result<(), PortError>;
}
