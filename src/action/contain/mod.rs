//! Contain: isolate a pod, prove it, give it back; cordon its node; list what it could use; delete it last.
//!
//! Every write goes one way: intent into the ledger, the guarded write, a look where the reply was lost, what was seen into the ledger
//! (`write`). `journal` reads those entries back: it is how a killed apply goes on and how a release knows what was there.
//! Plans come from [`crate::reach::isolation`]; nothing here decides who can reach whom.
//!
//! *Guarantees*: no write is sent before its intent is durable. A write whose outcome is not known is looked at before anything is
//! sent again. `before` is what was there before the first of our writes, however often apply ran. Nothing of others is
//! overwritten: a value that somebody changed since is left and named.

mod canary;
mod choice;
mod cordon_node;
mod delete_pod;
mod isolate_workload;
mod journal;
mod list_credentials;
mod matrix;
mod measure;
mod naming;
mod outcome;
mod preview;
mod probe_isolation;
mod proof;
mod release;
mod release_preview;
mod release_workload;
mod targets;
mod write;

use super::Actions;

pub use canary::RunCanary;
pub use cordon_node::CordonNode;
pub use delete_pod::DeletePod;
pub use isolate_workload::IsolateWorkload;
pub use list_credentials::ListCredentials;
pub use naming::containment_id;
pub use probe_isolation::ProbeIsolation;
pub use proof::NOT_SEEN;
pub use release_workload::ReleaseWorkload;

/// Adds every contain action.
#[must_use]
pub fn actions(to: Actions) -> Actions {
    to.with(IsolateWorkload)
        .with(ReleaseWorkload)
        .with(ProbeIsolation)
        .with(RunCanary)
        .with(CordonNode)
        .with(ListCredentials)
        .with(DeletePod)
}

#[cfg(test)]
mod tests;
