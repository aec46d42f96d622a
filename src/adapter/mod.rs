//! How we get what the ports ask for: Kubernetes, durable files, HTTPS, and the sim twin, the drill's world.

pub mod kube;
pub mod sim;
pub mod store;
pub mod webhook;
