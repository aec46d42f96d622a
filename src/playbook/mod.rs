//! Reading, checking and explaining playbooks. Pure: bytes in, model and findings out.

pub mod condition;
pub mod duration;
pub mod finding;
pub mod lint;
pub mod model;
mod raw;
pub mod read;
mod read_step;
pub mod runbook;
mod tree;
pub mod variable;

pub use model::{Call, Kind, Playbook, Step};
