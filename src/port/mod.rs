//! What we need from outside, in the responder's words and small. Shapes are domain types, never an SDK's.
//!
//! Each port has two ends in `adapter`: the real one and its `sim` twin, which can fail before an effect and after it.
//! Every method may be cut at any await; a change carries the identity (UID) and the precondition it was planned with.

mod acquire;
mod cluster_change;
mod cluster_view;
mod documents;
mod error;
mod exhibits;
mod host;
mod ledger;
mod notifier;
mod operator;
mod probe;
mod run_files;
mod store;

pub use acquire::{Acquire, ByteStream, CaptureKind, Piece};
pub use cluster_change::{CanarySpec, ClusterChange, LabelChange, PolicySpec, WriteMode, Written};
pub use cluster_view::{ClusterIdentity, ClusterView, Enforcement, LookScope, Right, RightAnswer};
pub use documents::Documents;
pub use error::{Cause, PortError};
pub use exhibits::{CustodyError, Ended, ExhibitDraft, Exhibits, OpenBag};
pub use host::{Clock, HostClock, HostRandom, Random};
pub use ledger::{Ledger, LedgerError};
pub use notifier::{Message, Notifier};
pub use operator::{ManualQuestion, Operator, Question, Reply, RunEvent, SignedText};
pub use probe::{Probe, ProbeResult, ProbeSource, ProbeTarget, Sockets, Tried};
pub use run_files::RunFiles;
pub use store::{LockGuard, Store};

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

/// Everything an action may use.
#[derive(Clone)]
pub struct Ports {
    /// The cluster, if the command has one.
    pub cluster: Option<Cluster>,
    /// Messages.
    pub notifier: Arc<dyn Notifier>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}
