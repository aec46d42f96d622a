//! Reading, checking and explaining playbooks. Pure: bytes in, model and findings out.

pub mod model;
pub mod variable;

pub use model::{Call, Kind, Playbook, Step};
