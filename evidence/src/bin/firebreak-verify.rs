//! Verifies a bag or an incident folder.
fn main() {}
