//! Carrying out a plan: what is next (pure), the journal as a view of the ledger (pure), the driver (waits).
//!
//! *Flow*: [`engine::Engine::plan`] looks and binds; [`engine::Engine::start`] pins and records; the driver asks [`machine::next`] again
//! and again and carries out its answer; [`engine::Engine::resume`] is the same code from the ledger alone.
//!
//! *Guarantees*: the intent is durable before the effect; one runner; a step that may have happened is looked at before anything of it
//! is done again; undo only on request. *Assumptions*: an action's `apply` may run twice. *Errors*: [`error::EngineError`], each with
//! its code.

mod act;
mod answers;
mod asking;
mod child;
pub mod definition;
mod driver;
pub mod engine;
pub mod error;
mod files;
pub mod gates;
pub mod journal;
pub mod machine;
mod next;
mod outcome;
mod planned;
mod starting;
mod survey;
pub mod undo;
mod waiting;
mod walk;

pub use child::end_children;
pub use definition::PinnedDefinition;
pub use engine::{Confirmation, Confirmed, Engine, RunEnd, StepEnd};
pub use error::EngineError;
pub use gates::About;
pub use journal::{Impossible, Journal};
pub use machine::{Ending, Hold, Next, StepAt, Todo, next};
pub use waiting::{Awaited, Waiting};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_people;
#[cfg(test)]
mod tests_steps;
#[cfg(test)]
mod tests_team;
