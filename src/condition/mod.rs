//! The one expression language for everything that a person may write as a condition or a selection: CEL, three-valued, within limits.
//! Pure; it knows nothing of ours.
//!
//! [`Condition`] is a text that parses and keeps within the limits; it answers *true*, *false*, *unknown* (with the name that has no
//! value) or an error. `playbook` asks it about a run's variables, `rotation` about the facts of each credential.

#[expect(clippy::module_inception, reason = "the room is named by its one noun")]
mod condition;
mod expression;

pub use condition::{
    Answer, Comparison, Condition, ConditionError, Given, Literal, MAX_BYTES, MAX_ITEMS, Sets,
    strangers,
};
