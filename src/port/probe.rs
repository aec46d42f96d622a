//! Trying a connection, from inside the cluster's pods.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::incident::body::ObjectRef;
use crate::reach::cluster::Protocol;

use super::PortError;

/// Where a probe starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSource {
    /// The pod, with UID.
    pub pod: ObjectRef,
    /// Container to exec in.
    pub container: String,
}

/// Where a probe goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeTarget {
    /// Address.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Protocol; TCP is what `nc` can tell.
    pub protocol: Protocol,
}

impl std::fmt::Display for ProbeTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

/// What came of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tried {
    /// Connected.
    Open,
    /// Refused at once (RST or ICMP): closed, or a plugin that rejects.
    Refused,
    /// No answer within the time: dropped, or dead.
    Silent,
}

impl Tried {
    /// The word in proof tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Tried::Open => "open",
            Tried::Refused => "refused",
            Tried::Silent => "silent",
        }
    }
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResult {
    /// The try.
    pub tried: Tried,
    /// Milliseconds it took.
    pub elapsed_ms: u64,
}

/// Tries connections by exec in a pod. Changes nothing but opens one connection.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Tries to connect. `Err(Unsupported)` where the image has no tool for it; `Err(Refused)` where exec is not allowed.
    async fn connect(
        &self,
        from: &ProbeSource,
        to: &ProbeTarget,
        within: Duration,
    ) -> Result<ProbeResult, PortError>;
    /// Listens on a port inside the pod for the given time (positive control for inbound probes), in the background.
    async fn listen(&self, at: &ProbeSource, port: u16, lasting: Duration)
    -> Result<(), PortError>;
    /// Sees which TCP ports listen in the pod, and which connections are established (`local → remote`), from `/proc/net`.
    async fn sockets(&self, at: &ProbeSource) -> Result<Sockets, PortError>;
}

/// Sockets of a pod's network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sockets {
    /// Listening TCP ports.
    pub listening: Vec<u16>,
    /// Established TCP connections as `10.244.0.7:41234 → 198.51.100.10:4444`.
    pub established: Vec<String>,
    /// Of these, those whose data was sent again at least three times without an answer.
    #[serde(default)]
    pub stalled: Vec<String>,
}
