//! Eradicate: take the intruder's credentials away and give the consumers new ones.
//!
//! [`crate::rotation`] decides what comes next for each credential; this room does it. `carry` walks one item: ask the machine, make the
//! intent durable (`writer`), fill in what the change needs (`prepare`), send it (`perform`), write the outcome (`record`), ask again. `guard` stands before each kill. `observe` looks
//! at the world after a crash, `verify`, `prove` and `scan` do the looks that a machine asks for, `rollouts` and `restart` restart a
//! workload once for all items that feed it, `fleet` runs them side by side: kills of an emergency first, a graceful rotation behind a canary.
//!
//! *Guarantees*: no change is sent before its intent is durable. A change without a usable answer is looked at before anything is sent
//! again. A value is in escrow before anyone relies on it. No secret is in an entry, an error or a line of progress.

mod carry;
mod fleet;
mod guard;
mod hand;
mod observe;
mod perform;
mod prepare;
mod prove;
mod prove_password;
mod record;
mod restart;
mod rollouts;
mod rotate_credentials;
mod scan;
mod sinks;
mod trail;
mod verify;
mod writer;

use super::Actions;

pub use rotate_credentials::RotateCredentials;

/// Adds every eradicate action.
#[must_use]
pub fn actions(to: Actions) -> Actions {
    to.with(RotateCredentials)
}

#[cfg(test)]
mod tests;
