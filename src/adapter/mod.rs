//! How we get what the ports ask for: Kubernetes, AWS, durable files, HTTPS, and the sim twin, the drill's world.

pub mod aws;
pub mod kube;
pub mod sim;
pub mod store;
pub mod webhook;
