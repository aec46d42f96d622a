//! Reading, checking and explaining playbooks. Pure: bytes in, model and findings out.
//!
//! *Flow*: bytes → [`mod@read`] (strict YAML, positions, the format's types) → [`Playbook`] → [`mod@lint`] (is it sensible, given the
//! action registry) → `plan`. [`condition`] and [`variable`] are used again while a run goes on; [`embedded`] holds the playbooks
//! that travel with the program, [`mod@schema`] helps editors, [`mod@explain`] helps people.
//!
//! *Guarantees*: reading never panics and is bounded in time and memory; every finding has a code, a line, a column and a fix; what
//! was read is what was shown (no hidden character, no anchor, no second document); a secret is never filled into a text.
//!
//! It may know `incident` and the action registry.

pub use crate::condition;
pub mod duration;
pub mod embedded;
pub mod explain;
pub mod fill;
pub mod finding;
pub mod lint;
pub mod model;
mod raw;
pub mod read;
mod read_step;
pub mod runbook;
pub mod schema;
mod tree;
mod unbuilt;
pub mod variable;
pub mod vars;

pub use condition::{Answer, Condition};
pub use embedded::Embedded;
pub use explain::{explain, outline};
pub use finding::{Finding, Severity};
pub use lint::{check, lint};
pub use model::{Call, Kind, Playbook, Step};
pub use read::read;
pub use schema::schema;
pub use vars::Vars;
