//! Who can reach whom under which policies, before and after; the relabel solver. Pure.
//!
//! [`cluster`] is the world as one consistent snapshot, in the responder's words; it is what the port `ClusterView` answers.
//! [`policy`] evaluates `networking.k8s.io/v1` on it, clause by clause (N1–N12). [`residual`] names what still allows,
//! [`solver`] chooses the label changes that move a pod out, [`monotone`] checks that no state of a plan opens a flow, and
//! [`isolation`] puts them together into the plan for one pod.
//!
//! *Guarantee*: what we do not model or may not read counts as *may allow*, never as denied.

pub mod cidr;
pub mod cluster;
pub mod isolation;
pub mod monotone;
pub mod policy;
pub mod residual;
pub mod solver;
mod solver_search;
mod words;

pub use words::selector_text;

#[cfg(test)]
mod tests;
