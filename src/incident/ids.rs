//! Identifiers that come from outside, parsed once at the door.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Returned when a text is not a well-formed identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct IdError {
    /// What was given.
    pub text: String,
    /// What it should have been.
    pub wanted: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);
        impl $name {
            /// Parses the text form.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err(IdError { text: text.to_owned(), wanted: $wanted }) }
            }
            /// The text form.
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> { Self::parse(&text) }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String { id.0 }
        }
    };
}

text_id!(
    /// An incident's id: `INC-20261124-7K2Q`, `DRILL-…`, or the user's own (`[A-Z0-9][A-Z0-9-]{0,62}`).
    IncidentId,
    "an incident id (capital letters, digits and `-`, at most 63)",
    |t| {
        (1..=63).contains(&t.len())
            && !t.starts_with('-')
            && t.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
    }
);

text_id!(
    /// A run's id, minted by `plan` so that approvals can name it before the run exists: `run-` and 16 lower-case base32 characters.
    RunId,
    "a run id (`run-` and 16 characters)",
    |t| {
        t.strip_prefix("run-")
            .is_some_and(|r| r.len() == 16 && r.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
    }
);

text_id!(
    /// A step's path in its playbook: ids joined by `/`; a step without an id is `kind-N` by its place in the block.
    StepPath,
    "a step path (slugs joined by `/`)",
    |t| {
        !t.is_empty()
            && t.split('/').all(|p| {
                !p.is_empty() && p.len() <= 80 && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'[' | b']'))
            })
    }
);

impl StepPath {
    /// The path of a step inside this one.
    pub fn child(&self, id: &str) -> Result<StepPath, IdError> {
        StepPath::parse(&format!("{}/{id}", self.0))
    }
    /// The enclosing block's path, if any.
    pub fn parent(&self) -> Option<StepPath> {
        self.0.rsplit_once('/').map(|(p, _)| StepPath(p.to_owned()))
    }
    /// True when `other` is this step or lies inside it.
    pub fn holds(&self, other: &StepPath) -> bool {
        other.0 == self.0
            || other
                .0
                .strip_prefix(&self.0)
                .is_some_and(|r| r.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incident_ids_refuse_lower_case_paths_and_length() {
        assert!(IncidentId::parse("INC-20261124-7K2Q").is_ok());
        for bad in ["", "-A", "inc", "A/B", "..", &"A".repeat(64)] {
            assert!(IncidentId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_step_holds_itself_and_what_lies_inside() {
        let p = |t| StepPath::parse(t).expect("path");
        assert!(
            p("a/b").holds(&p("a/b/c")) && p("a/b").holds(&p("a/b")) && !p("a/b").holds(&p("a/bc"))
        );
    }
}
