//! Taking exhibits in, sealing them, and keeping the durable ledger: drives the evidence crate with durable files.
//!
//! *Flow*: [`Custody::create`] or [`Custody::open`] an incident folder → its [`IncidentLedger`] appends under a lock per batch →
//! [`Exhibits`](crate::port::Exhibits) opens bags, takes bytes in, seals → after a crash [`Custody::recover_bags`] runs the same code over
//! what is stored.
//!
//! *Guarantees*: what was acknowledged is on disk; a head is durable before it is signed; a bag's number is in the ledger before its
//! folder exists; a failed sync is fatal. *Assumptions*: the folder is on a local disk with working fsync and locks.

mod bags;
mod documents;
mod fault;
mod filling;
mod folder;
mod incident_ledger;
mod key;
mod recovery;
mod walk;

pub use folder::{Custody, OpenRequest, OpeningError, check_vacant, ends_closed, withdraw};
pub use incident_ledger::IncidentLedger;
pub use recovery::Recovered;
pub use walk::{lies_in_own, takable};
