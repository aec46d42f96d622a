//! Credentials: which there are, which to replace, and how each kind is replaced so that a crash at any line leaves nothing behind. Pure.
//!
//! - [`words`]: the closed vocabularies (kinds, modes, ends, grades of proof).
//! - [`plan`]: what people approve: items in order, each with what was observed, its sinks and the workloads that must restart.
//! - [`map`]: what no API says about a credential, written by people (`rotation-map/v1`); [`draft`] begins one.
//! - [`inventory`], [`select`]: the facts of each credential, and which are meant, three-valued.
//! - [`chain`]: what was reached from a credential, by the audit trail. [`trust`]: who may assume a role.
//! - [`guards`]: what must hold before anything is killed.
//! - [`journal`]: the view of one item's entries in the ledger.
//! - [`machine`]: `next(item, journal, seen)`: what to do now. One file per kind of credential.
//! - [`call`]: the remote changes that a machine may ask for, and what of them may be written down.
//! - [`status`]: the proof table: a view of plan and entries.
//! - [`password`]: new passwords, and the verifier that a database server is told instead.
//!
//! The ledger is the write-ahead log; there is no second one. Who carries a plan out (`action::eradicate`) writes the intent of each
//! change, sends it, writes the outcome, and asks the machine again; after a crash it looks at the world first.

pub mod binding;
pub mod call;
pub mod chain;
pub mod draft;
pub mod guards;
pub mod inventory;
pub mod journal;
pub mod machine;
pub mod map;
pub mod password;
pub mod plan;
pub mod select;
pub mod sessions;
pub mod status;
pub mod trust;
pub mod words;

pub use call::{Call, Change, Look};
pub use journal::ItemJournal;
pub use machine::{Next, Seen};
pub use plan::{Item, RotationPlan};
pub use words::{CredentialKind, Grade, Reason, RotationMode, Terminal};
