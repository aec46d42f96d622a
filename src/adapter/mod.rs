//! How we get what the ports ask for: Kubernetes, PostgreSQL, durable files, HTTPS, and the sim twin, the drill's world.

pub mod kube;
pub mod postgres;
pub mod sim;
pub mod store;
pub mod webhook;
