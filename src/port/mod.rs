//! What we need from outside, in the responder's words and small. Shapes are domain types, never an SDK's.
//!
//! Each port has two ends in `adapter`: the real one and its `sim` twin, which can fail before an effect and after it.
//! Every method may be cut at any await; a change carries the identity (UID) and the precondition it was planned with.

mod acquire;
mod cloud;
mod cluster_change;
mod cluster_view;
mod database;
mod documents;
mod error;
mod exhibits;
mod host;
mod lease;
mod ledger;
mod notifier;
mod operator;
mod probe;
mod run_files;
mod secret;
mod store;
mod vault;
mod workloads;

pub use acquire::{Acquire, ByteStream, CaptureKind, Piece};
pub use cloud::{
    AccessKeySeen, Answer, CallerIdentity, Cloud, LastUsed, NewAccessKey, Page, Principal,
    PrincipalSeen, ProbeAnswer, ProbeCall, Session, Signer, TrailBy, TrailEvent, TrailQuery,
    UserSeen,
};
pub use cluster_change::{CanarySpec, ClusterChange, LabelChange, PolicySpec, WriteMode, Written};
pub use cluster_view::{ClusterIdentity, ClusterView, Enforcement, LookScope, Right, RightAnswer};
pub use database::{Database, Login, LoginAnswer, RoleSeen, Server, Sessions};
pub use documents::Documents;
pub use error::{Cause, PortError};
pub use exhibits::{CustodyError, Ended, ExhibitDraft, Exhibits, OpenBag};
pub use host::{Clock, HostClock, HostRandom, Random};
pub use lease::{Claim, Held, LeaseTerms, Leases};
pub use ledger::{Ledger, LedgerError};
pub use notifier::{Message, Notifier};
pub use operator::{ManualQuestion, Operator, Question, Reply, RunEvent, SignedText};
pub use probe::{Probe, ProbeResult, ProbeSource, ProbeTarget, Sockets, Tried};
pub use run_files::RunFiles;
pub use secret::{FingerprintKey, Secret};
pub use store::{LockGuard, Store};
pub use vault::{CURRENT, PENDING, PREVIOUS, SecretSeen, SecretVersion, Vault, VersionRef};
pub use workloads::{Consumer, Rollout, SecretObject, SecretWrite, WORKLOAD_RIGHTS, Workloads};

use std::sync::Arc;

/// The cluster's four ports, of one cluster.
#[derive(Clone)]
pub struct Cluster {
    /// Look.
    pub view: Arc<dyn ClusterView>,
    /// Change.
    pub change: Arc<dyn ClusterChange>,
    /// Probe.
    pub probe: Arc<dyn Probe>,
    /// Acquire.
    pub acquire: Arc<dyn Acquire>,
}

/// What rotation works on.
#[derive(Clone)]
pub struct Estate {
    /// The cloud account.
    pub cloud: Arc<dyn Cloud>,
    /// Its secret store.
    pub vault: Arc<dyn Vault>,
    /// Database servers.
    pub database: Arc<dyn Database>,
    /// Consumers in the cluster, if the command has one.
    pub workloads: Option<Arc<dyn Workloads>>,
    /// Who else rotates in this account.
    pub leases: Arc<dyn Leases>,
    /// The incident's fingerprint key.
    pub fingerprint: Arc<FingerprintKey>,
    /// Emergency access as the configuration names it; empty = none is configured, which is said and refuses nothing for one person alone.
    pub break_glass: Vec<BreakGlassPath>,
    /// Every endpoint is on this host: a double or a drill. Only then may waits be shorter than the defaults.
    pub loopback: bool,
}

/// One way in that must keep working: a named profile, and who it must turn out to be.
#[derive(Clone)]
pub struct BreakGlassPath {
    /// Profile.
    pub profile: String,
    /// The ARN that its `identity` must answer with.
    pub arn: String,
    /// The account through it.
    pub cloud: Arc<dyn Cloud>,
}

/// Everything an action may use.
#[derive(Clone)]
pub struct Ports {
    /// The cluster, if the command has one.
    pub cluster: Option<Cluster>,
    /// What rotation works on, if the command has an account.
    pub estate: Option<Estate>,
    /// Messages.
    pub notifier: Arc<dyn Notifier>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}
