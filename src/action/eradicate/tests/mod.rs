//! Rotation against the simulated estate: planning and its guards; every kind from the plan to its end, killed at every entry, and with
//! everything that goes wrong.

mod killing;
mod planning;
mod plans;
mod runs;
mod scene;
mod truths;
mod world;
