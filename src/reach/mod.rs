//! Who can reach whom under which policies, before and after; the relabel solver. Pure.
//!
//! [`cluster`] is the world as one consistent snapshot, in the responder's words; it is what the port `ClusterView` answers.

pub mod cluster;
