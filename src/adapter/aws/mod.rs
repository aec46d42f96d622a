//! AWS as rotation sees it: IAM, STS and the trail as a [`Cloud`], Secrets Manager as a [`Vault`], an S3 object as [`Leases`].
//!
//! # Guarantees
//! - Nothing that changes something is ever sent twice by this room: the SDK's retries are off. Reads are repeated here, a few times.
//! - An error says whether the call may have happened. *Never sent* is known, not guessed: a look at the request just before it leaves
//!   ([`wire`]) and the connection error tell it from *sent, no answer* ([`classify`]).
//! - Every call passes the account's budget ([`rate`]); kills go before issues.
//! - A probe signs with somebody's credentials through the same endpoint and connections, once, and never within five seconds of another
//!   secret for the same key id ([`sts`]).
//! - Secrets stay in [`crate::port::Secret`]; of what the SDK copies nothing is logged ([`hygiene`]).
//!
//! # Caveats
//! - IAM and Secrets Manager are eventually consistent: what a read does not show may be there.
//! - A store that only looks like S3 may ignore preconditions; [`lease`] finds out before it trusts one.
//!
//! Source: API references of IAM, STS, CloudTrail, Secrets Manager, S3 and Account Management.

mod classify;
mod cloud;
mod config;
mod connect;
mod doctor;
mod iam;
mod lease;
mod permissions;
mod policy;
mod rate;
mod sts;
mod trail;
mod vault;
mod wire;

pub mod hygiene;

pub use config::{Hop, Options, Pace};
pub use connect::{Aws, connect};
pub use doctor::{Checkup, Finding, RightSeen};
pub use permissions::{CallRights, PolicyFor, permissions, policy_document};
pub use rate::{BudgetSeen, Kind, Rates, Service};

#[cfg(doc)]
use crate::port::{Cloud, Leases, Vault};
