//! The script and the steps that travel in every bag, for a reader with stock tools.

/// `VERIFY.sh`. The copy in a bag proves nothing about that bag: take it from a release.
pub const VERIFY_SCRIPT: &str = include_str!("../../scripts/VERIFY.sh");
/// `VERIFY.txt`: steps for people.
pub const VERIFY_STEPS: &str = include_str!("../../scripts/VERIFY.txt");
