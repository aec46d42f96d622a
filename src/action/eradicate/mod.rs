//! Eradicate: take the intruder's credentials away and give the consumers new ones.
//!
//! `revoke_sessions` kills sessions quickly and issues nothing (`contain.revoke_sessions`: it stands here because it walks the same chain
//! as the plan does).
//!
//! `plan_rotation` plans: `gather` reads the account, `holders` the cluster's side of it, `walk` the audit trail; `planner` has it selected
//! (`plan_select`) and guarded (`plan_guards`), and `plan_items`, `plan_keys`, `plan_passwords` make an item of each credential.
//!
//! [`crate::rotation`] decides what comes next for each credential; this room does it. `carry` walks one item: ask the machine, make the
//! intent durable (`writer`), fill in what the change needs (`prepare`), send it (`perform`), write the outcome (`record`), ask again. `guard` stands before each kill. `observe` looks
//! at the world after a crash, `verify`, `prove` and `scan` do the looks that a machine asks for, `rollouts` and `restart` restart a
//! workload once for all items that feed it, `fleet` runs them side by side: kills of an emergency first, a graceful rotation behind a canary.
//!
//! *Guarantees*: no change is sent before its intent is durable. A change without a usable answer is looked at before anything is sent
//! again. A value is in escrow before anyone relies on it. No secret is in an entry, an error or a line of progress.

mod carry;
mod contents;
mod draft_map;
mod fleet;
mod gather;
mod guard;
mod hand;
mod holders;
mod observe;
mod perform;
mod plan_args;
mod plan_guards;
mod plan_items;
mod plan_keys;
mod plan_passwords;
mod plan_rotation;
mod plan_select;
mod planner;
mod prepare;
mod prove;
mod prove_password;
mod record;
mod restart;
mod revoke_sessions;
mod revoke_targets;
mod rollouts;
mod rotate_credentials;
mod scan;
mod side_by_side;
mod sinks;
mod trail;
mod verify;
mod walk;
mod writer;

use super::Actions;

pub use draft_map::{DraftedMap, draft_map};
pub use plan_args::PlanArgs;
pub use plan_rotation::{PlanRotation, summary};
pub use revoke_sessions::{RevokeArgs, RevokeSessions};
pub use rotate_credentials::RotateCredentials;

/// Adds every eradicate action.
#[must_use]
pub fn actions(to: Actions) -> Actions {
    to.with(PlanRotation)
        .with(RevokeSessions)
        .with(RotateCredentials)
}

#[cfg(test)]
mod tests;
