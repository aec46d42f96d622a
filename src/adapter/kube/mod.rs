//! The Kubernetes adapter: the cluster's four ports (look, change, probe, acquire) and that of its workloads (the Secrets that they read
//! from, their rollouts) over the API server.
//!
//! # Flow
//! [`connect`] reads a kubeconfig (or the pod's own account), asks the server once who it is, and answers a
//! [`Connected`] with the ports of exactly that cluster. Every request goes through `wire`: one place for deadlines,
//! causes, warnings and paging.
//!
//! # Guarantees
//! - Writes are never repeated here; an error's [`Cause`](crate::port::Cause) says whether one may have happened.
//! - Reads are repeated at most three times within one deadline of 10 s.
//! - Names from outside are put into URLs only after they were checked: an empty one would address a whole collection.
//! - No text of the server reaches an error without [`clean`]: no control characters, no tokens. What it says about a Secret's values reaches
//!   none at all.
//!
//! # Caveats
//! `exec` looks at the pod's UID before it starts; the API has no precondition for exec, so a pod that is replaced between
//! the two requests would be the one that answers.

mod acquire;
mod canary;
mod change;
mod connect;
mod consumers;
mod convert;
mod enforcement;
mod error;
mod exec;
mod foreign;
mod patch;
mod probe;
mod rights;
mod rollout;
mod secret;
mod view;
mod wire;
mod workloads;

pub use connect::{ConnectOptions, Connected, connect};
pub use error::clean;

use std::sync::Arc;

use crate::port::{Cluster, Workloads};

/// One cluster, reached over one API server. Implements all its ports.
pub struct KubeCluster {
    wire: wire::Wire,
    context: String,
    server: String,
}

impl KubeCluster {
    /// The four ports of this cluster, and its workloads.
    fn into_ports(self) -> (Cluster, Arc<dyn Workloads>) {
        let me = Arc::new(self);
        let cluster = Cluster {
            view: me.clone(),
            change: me.clone(),
            probe: me.clone(),
            acquire: me.clone(),
        };
        (cluster, me)
    }
}
