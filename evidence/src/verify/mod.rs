//! The verifier: the only place that makes a [`VerifiedBag`].
//!
//! It reads every byte, lists **all** findings in order and never stops at the first, and always says what it did not
//! check. There is no fast mode that skips hashing. Trust starts only from what the reader brings in [`Given`].
//!
//! Past verifiers passed silently; each of their ways is closed here: an absent seal is 23 and never success, an empty
//! range never passes, a torn tail is not called tampered, keys found in a bag are claims.

mod bag;
mod incident;
mod ledger;
mod payload;
mod pinned;
mod report;
mod tags;
mod text;

pub use report::{
    CHECKS, Check, Finding, LedgerFacts, Report, SealFacts, Severity, State, Verdict, VerifiedBag,
};
pub use text::escape;

use crate::encoding::Hash;
use crate::ledger::LEDGER;
use crate::manifest::{BAGIT, MANIFEST};
use crate::note::Fingerprint;
use crate::source::BagSource;
use report::Book;

/// Whether evidence that is good, but that nothing outside pins in time, is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    /// It is, and said loudly: exit 0.
    #[default]
    Optional,
    /// It is not: exit 20.
    Required,
}

/// What the reader accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether an anchor is required.
    pub anchor: Anchor,
}

/// A size and root that the reader knows from elsewhere: the tree must be at least that large and begin that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtLeast {
    /// How many leaves.
    pub size: u64,
    /// The root over the first `size` leaves.
    pub root: Hash,
}

/// What the reader brings. Nothing in the evidence can stand in for it.
#[derive(Clone, Default)]
pub struct Given<'a> {
    /// Pinned key fingerprints, from paper.
    pub fingerprints: Vec<Fingerprint>,
    /// SHA-256 of the seal that the reader noted.
    pub expect_seal: Option<Hash>,
    /// A head that the reader noted: of the ledger where there is one, else of the bag.
    pub at_least: Option<AtLeast>,
    /// A folder with the ledger of the incident, for a bag on its own.
    pub ledger: Option<&'a dyn BagSource>,
}

/// Verifies a bag or a whole incident folder; the latter is as good as its worst part.
pub fn verify(source: &dyn BagSource, policy: &Policy, given: &Given<'_>) -> Report {
    let listed = match source.list() {
        Ok(listed) => listed,
        Err(error) => return unreadable(policy, &error.to_string()),
    };
    let has = |path: &str| listed.iter().any(|item| item.path == path);
    let in_bags = listed.iter().any(|item| item.path.starts_with("bags/"));
    if has("record.tlog-proof") {
        return unsupported(
            policy,
            "an exhibit of one record: use verify-record.sh from a release",
        );
    }
    if has(LEDGER) || in_bags || (has("ledger") && !has("data")) {
        incident::verify(source, &listed, policy, given)
    } else if [BAGIT, MANIFEST, "data", "seal", "tlog"]
        .into_iter()
        .any(has)
    {
        bag::verify_alone(source, &listed, policy, given)
    } else {
        unsupported(policy, "neither a bag nor an incident folder")
    }
}

fn unreadable(policy: &Policy, why: &str) -> Report {
    let mut book = Book::default();
    book.fail(
        "C01",
        Severity::Incomplete,
        ".",
        None,
        "a folder that can be listed",
        why,
    );
    book.into_report("unknown", policy)
}

fn unsupported(policy: &Policy, what: &str) -> Report {
    let mut book = Book::default();
    book.fail(
        "C01",
        Severity::Incomplete,
        ".",
        None,
        "a bag or an incident folder of format v1",
        &format!("unsupported copy: {what}"),
    );
    book.into_report("unknown", policy)
}
