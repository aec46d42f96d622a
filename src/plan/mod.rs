//! A playbook bound to one incident: verdicts, digest, approvals. Pure: observed state and time are arguments.

pub mod call;
pub mod policy;
pub mod values;
