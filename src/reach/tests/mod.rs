//! Tests of the room: truth tables, cases of the solver and of the plan, properties over random worlds.

mod plan_cases;
mod properties;
mod solver_cases;
mod truth_tables;
mod worlds;
