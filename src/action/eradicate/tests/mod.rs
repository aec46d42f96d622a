//! Rotation against the simulated estate: what planning finds, every kind from the plan to its end, killed at every entry, and with everything
//! that goes wrong.

mod kill;
mod planning;
mod plans;
mod revoking;
mod runs;
mod scene;
mod truths;
mod world;
