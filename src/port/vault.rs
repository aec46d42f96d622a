//! The secret store: versions of a secret and the labels (stages) that say which one is current.
//!
//! Reads name a version or a label always. A label moves by compare-and-swap: *from* must hold it. *Retries*: none for calls that
//! change something. Source: AWS Secrets Manager API reference.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{Answer, Page, PortError, Secret};

/// The label of the version in use.
pub const CURRENT: &str = "AWSCURRENT";
/// The label of the version that is being brought in.
pub const PENDING: &str = "AWSPENDING";
/// The label of the version before.
pub const PREVIOUS: &str = "AWSPREVIOUS";

/// A secret, without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSeen {
    /// ARN.
    pub arn: String,
    /// Name.
    pub name: String,
    /// Tags. `None` = they could not be read.
    pub tags: Option<BTreeMap<String, String>>,
    /// Service that owns and rotates it (`rds`), if any.
    pub owning_service: Option<String>,
    /// ARN of a rotation function, if one is attached.
    pub rotation_function: Option<String>,
    /// True when scheduled rotation is on.
    pub rotation_enabled: bool,
    /// Version id → labels.
    pub versions: BTreeMap<String, Vec<String>>,
    /// Regions of replicas → status (`InSync`, `Failed`, `InProgress`).
    pub replicas: BTreeMap<String, String>,
    /// When it was scheduled for deletion, if it is.
    pub deleted: Option<DateTime<Utc>>,
    /// When its value last changed.
    pub changed: Option<DateTime<Utc>>,
    /// When it was last read, to the day.
    pub accessed: Option<DateTime<Utc>>,
}

impl SecretSeen {
    /// The version that holds `label`.
    pub fn holder(&self, label: &str) -> Option<&str> {
        self.versions
            .iter()
            .find(|(_, labels)| labels.iter().any(|l| l == label))
            .map(|(id, _)| id.as_str())
    }
}

/// Which version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionRef {
    /// By id.
    Id(String),
    /// By label.
    Label(String),
}

/// A version with its value.
pub struct SecretVersion {
    /// Version id.
    pub id: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// The value, text.
    pub value: Secret,
}

/// One secret store of one account and region.
#[async_trait]
pub trait Vault: Send + Sync {
    /// Secrets, a page at a time.
    async fn list(&self, page: Option<String>) -> Result<Page<SecretSeen>, PortError>;
    /// One secret. `NotFound` when there is none of that id.
    async fn describe(&self, id: &str) -> Result<Answer<SecretSeen>, PortError>;
    /// One version's value. `NotFound` when there is no such version or label.
    async fn read(&self, id: &str, version: &VersionRef) -> Result<SecretVersion, PortError>;
    /// Makes a secret whose first version has id `token` and is current. `Conflict` when the name is taken. Answers the version id.
    async fn create(
        &self,
        name: &str,
        token: &str,
        value: &Secret,
        tags: &BTreeMap<String, String>,
    ) -> Result<Answer<String>, PortError>;
    /// Stores a version with id `token` (32–64 characters) under `labels`. The same token with the same value is a no-op; with another
    /// value a `Conflict`. Answers the version id.
    async fn put(
        &self,
        id: &str,
        token: &str,
        value: &Secret,
        labels: &[&str],
    ) -> Result<Answer<String>, PortError>;
    /// Moves `label` from one version to another (or only removes, or only adds). `Conflict` when `from` does not hold it.
    async fn move_label(
        &self,
        id: &str,
        label: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Answer<()>, PortError>;
}
