//! Domain nouns of an incident, and the ledger's entries as types. Pure: it knows nothing of ours and nothing of the world.
//!
//! [`History`] is what every other room reads: the entries of one ledger, in order. [`kind`] holds the names of the entry
//! kinds and [`body`] their payloads, so that who writes an entry and who reads it share one definition.

pub mod body;
pub mod clock_text;
mod history;
mod ids;
pub mod kind;
pub mod rotate;
mod words;

pub use history::{Actor, ActorKind, Draft, Entry, History, Refs};
pub use ids::{IdError, IncidentId, RunId, StepPath};
pub(crate) use words::word;
pub use words::{Category, Effect, Lane, Milestone, Mode, Outcome, Phase, Severity};
