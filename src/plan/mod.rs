//! A playbook bound to one incident: verdicts, digest, approvals. Pure: observed state and time are arguments.

pub mod approval;
pub mod approval_text;
pub mod call;
pub mod people;
pub mod policy;
pub mod values;
