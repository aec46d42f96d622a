//! Carrying out a plan: what is next (pure), the journal as a view of the ledger (pure), the driver (waits).

pub mod definition;
pub mod journal;
pub mod machine;

pub use definition::PinnedDefinition;
pub use journal::{Impossible, Journal};
pub use machine::{Ending, Hold, Next, StepAt, Todo, next};
