//! The proxy before the cloud's doubles: each thing that it adds or breaks, in front of a real double. Needs ministack and moto, which
//! `tests/run` installs.
#![cfg(feature = "adapters")]

#[path = "cloud_proxy/added.rs"]
mod added;
#[path = "cloud_proxy/faults.rs"]
mod faults;
#[path = "cloud_proxy/scene.rs"]
mod scene;
mod support;
#[path = "cloud_proxy/trail.rs"]
mod trail;
#[path = "cloud_proxy/ways.rs"]
mod ways;
