//! Rehearsing a playbook against the sim world and scoring it.
//!
//! *Flow*: [`Stage::set`] makes a drill incident with its world ([`crate::adapter::sim`]), its [`Cast`] of personas with throw-away
//! keys, and the answers embedded beside its playbook → the one engine runs the playbook, with [`Persona`](cast::Persona)s answering as its
//! [`Operator`](crate::port::Operator) → [`Score::of`] reads the ledger and the verifier and says what passed, by name. A drill that
//! was killed goes on with [`Stage::reset`].
//!
//! *Guarantees*: the mode is fixed when the incident is opened and no flag turns a drill live; signatures are real and stand in the
//! drill namespace, so none can be replayed; ledger, bags and documents are real. It asks nothing.
//!
//! *Caveats*: the cluster is simulated. Its times prove no RTO; whoever prints the score says so.

mod cast;
mod host_files;
mod operator;
mod score;
mod stage;

pub use cast::{Cast, Persona};
pub use host_files::HOST_FILES;
pub use operator::DrillOperator;
pub use score::{Check, Report, Score};
pub use stage::{DrillError, Request, Stage, Subject};

#[cfg(test)]
mod tests;
