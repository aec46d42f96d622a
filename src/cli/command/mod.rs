//! One file per command: its arguments, its `run`, nothing shared.

pub mod board;
pub mod config;
pub mod evidence;
pub mod incident;
pub mod log;
pub mod papers;
pub mod policy;
pub mod verify;
