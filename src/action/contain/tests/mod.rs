//! The contain actions against a small world of their own: a cluster that keeps state, has a ReplicaSet controller, enforces policies or
//! not, loses replies, and a ledger that can be killed after any entry.

mod again;
mod choosing;
mod isolating;
mod looking;
mod others;
mod proving;
mod releasing;
mod shops;
mod world;
