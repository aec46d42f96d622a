//! A playbook bound to one incident: verdicts, digest, approvals. Pure: observed state and time are arguments.
//!
//! *Flow*: [`plan::make`] binds a playbook to what was observed; [`plan::PlanFile`] is its exact bytes and digest; [`approval`] holds a
//! signed text against one gate of it; [`policy`] says what a gate needs; [`stale`] says whether it still holds.

pub mod approval;
#[cfg(test)]
mod approval_tests;
pub mod approval_text;
pub mod call;
pub mod critical_path;
pub mod people;
#[expect(clippy::module_inception, reason = "the plan of the room of plans")]
pub mod plan;
#[cfg(test)]
mod plan_tests;
pub mod policy;
pub mod render;
pub mod seen;
pub mod stale;
pub mod values;
pub mod verdict;

pub use people::Policy;
pub use plan::{Plan, PlanFile};
pub use policy::{Need, PolicyName};
