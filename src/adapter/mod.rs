//! How we get what the ports ask for: Kubernetes, AWS, PostgreSQL, durable files, HTTPS, and the sim twin, the drill's world.

pub mod aws;
pub mod kube;
pub mod postgres;
pub mod sim;
pub mod store;
pub mod webhook;
