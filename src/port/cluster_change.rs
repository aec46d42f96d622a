//! Changing a cluster: small writes, each with the identity and precondition it was planned with.
//!
//! *Retries*: none in the adapter. A failed call says by its [`super::Cause`] whether it may have happened; the caller looks
//! before it sends anything again. *Preview*: [`WriteMode::Preview`] is a server-side dry-run of the very same request.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::incident::body::ObjectRef;
use crate::reach::cluster::{Labels, Selector};

use super::PortError;

/// Whether the server shall only say what it would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// Server-side dry-run: admission runs, nothing is stored.
    Preview,
    /// The write itself.
    Apply,
}

/// A deny-all NetworkPolicy of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySpec {
    /// Namespace.
    pub namespace: String,
    /// Deterministic name, `firebreak-<containment id>`.
    pub name: String,
    /// Labels of the policy object: ours only, never a workload's.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// Pods it selects. It has both policy types and no rule at all: everything is denied.
    pub pod_selector: Selector,
}

/// A change of an object's labels or annotations, guarded by JSON Patch `test` on UID and on each old value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelChange {
    /// The object with its UID.
    pub object: ObjectRef,
    /// `labels/<key>` or `annotations/<key>` → value it must have now; `None` = must be absent.
    pub expect: BTreeMap<String, Option<String>>,
    /// `labels/<key>` or `annotations/<key>` → new value; `None` = removed.
    pub set: BTreeMap<String, Option<String>>,
}

/// Throw-away pods that show whether the policy plugin of one node enforces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanarySpec {
    /// Namespace for them, made if absent.
    pub namespace: String,
    /// Name of the ReplicaSet of two.
    pub name: String,
    /// Node they must run on.
    pub node: String,
    /// Image with `sh` and `nc`, already present there or pullable.
    pub image: String,
    /// Value of the quarantine label that will be put on them.
    pub quarantine: String,
}

/// What the server says was written (or would be).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The object with its UID.
    pub object: ObjectRef,
    /// True when it was so already and nothing had to be changed.
    pub already: bool,
    /// Fields that admission changed against what we sent (path: sent → stored). A mutated deny object is a failed preview.
    pub mutated: Vec<String>,
    /// Warnings of the server.
    pub warnings: Vec<String>,
}

/// Changes a cluster.
#[async_trait]
pub trait ClusterChange: Send + Sync {
    /// Creates our deny-all policy by server-side apply, field manager `firebreak`. Refuses (`Conflict`) an object of that name
    /// that does not carry our label.
    async fn put_policy(&self, policy: &PolicySpec, mode: WriteMode) -> Result<Written, PortError>;
    /// Deletes a policy of ours by name and UID. `Ok(false)` when it was gone.
    async fn delete_policy(&self, policy: &ObjectRef, mode: WriteMode) -> Result<bool, PortError>;
    /// Changes labels or annotations of a pod, guarded.
    async fn change_labels(
        &self,
        change: &LabelChange,
        mode: WriteMode,
    ) -> Result<Written, PortError>;
    /// Marks a node unschedulable and adds our NoSchedule taint `firebreak/quarantine=<value>`; guarded by its UID.
    async fn cordon(
        &self,
        node: &ObjectRef,
        value: &str,
        mode: WriteMode,
    ) -> Result<Written, PortError>;
    /// Takes our taint off and, where `was_schedulable`, makes it schedulable again.
    async fn uncordon(
        &self,
        node: &ObjectRef,
        value: &str,
        was_schedulable: bool,
        mode: WriteMode,
    ) -> Result<Written, PortError>;
    /// Deletes a pod by UID. `Ok(false)` when it was gone.
    async fn delete_pod(&self, pod: &ObjectRef, mode: WriteMode) -> Result<bool, PortError>;
    /// Makes the canary's namespace and ReplicaSet and waits until both pods run (at most `deadline_s`); answers their names.
    async fn put_canary(
        &self,
        canary: &CanarySpec,
        deadline_s: u64,
    ) -> Result<Vec<ObjectRef>, PortError>;
    /// Makes one throw-away probe pod from the spec's image in the namespace of the canary (sleeping, so that it can be exec'd).
    async fn put_probe_pod(
        &self,
        canary: &CanarySpec,
        deadline_s: u64,
    ) -> Result<ObjectRef, PortError>;
    /// Removes everything of a canary or probe pod. Idempotent.
    async fn delete_canary(&self, canary: &CanarySpec) -> Result<(), PortError>;
}
