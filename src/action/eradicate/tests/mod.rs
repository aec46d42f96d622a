//! Rotation against the simulated estate: every kind from the plan to its end, killed at every entry, and with everything that goes wrong.

mod kill;
mod plans;
mod runs;
mod truths;
mod world;
