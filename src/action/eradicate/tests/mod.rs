//! Rotation against the simulated estate: every kind from the plan to its end, killed at every entry, and with everything that goes wrong.

mod faults;
mod guards;
mod intruder;
mod kill;
mod plans;
mod reverts;
mod runs;
mod stops;
mod truths;
mod world;
