//! One file per command: its arguments, its `run`, nothing shared.

pub mod approve;
pub mod board;
pub mod config;
pub mod contain;
pub mod doctor;
pub mod drill;
pub mod evidence;
pub mod incident;
pub mod log;
pub mod papers;
pub mod permissions;
pub mod playbook;
pub mod policy;
pub mod report;
pub mod rotate;
pub mod run;
pub mod run_choice;
pub mod verify;
