//! Rotation against the simulated estate: what planning finds, every kind from the plan to its end, killed at every entry, and with everything
//! that goes wrong.

mod faults;
mod guards;
mod intruder;
mod kill;
mod planning;
mod plans;
mod reverts;
mod revoking;
mod runs;
mod scene;
mod stops;
mod truths;
mod world;
