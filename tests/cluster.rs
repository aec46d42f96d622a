//! The program on a real node, looked at with other people's eyes: kubectl, a client of the pod, `sha256sum`, openssl. Needs a lab, see
//! `tests/run`.
//!
//! Nearly all tests run at once, each in a namespace of its own. What concerns the node as a whole takes it alone: `scene::alone`.
#![cfg(feature = "adapters")]

#[path = "cluster/breach.rs"]
mod breach;
#[path = "cluster/crash.rs"]
mod crash;
#[path = "cluster/first_minute.rs"]
mod first_minute;
#[path = "cluster/refusals.rs"]
mod refusals;
#[path = "cluster/rights.rs"]
mod rights;
#[path = "cluster/scene.rs"]
mod scene;
mod support;
