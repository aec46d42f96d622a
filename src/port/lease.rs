//! One run per account: a lease that another operator's firebreak sees.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::PortError;

/// What the lease object says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTerms {
    /// What is leased: `account/123456789012`.
    pub what: String,
    /// Who holds it, `user@host`.
    pub owner: String,
    /// The run.
    pub run: String,
    /// +1 each time it changes hands.
    pub epoch: u64,
    /// Until when it counts without being renewed.
    pub expires: DateTime<Utc>,
}

impl LeaseTerms {
    /// What the lease says after `asked` claims what `self` says now; `None` = it is somebody else's and counts still.
    pub fn taken_over(&self, asked: &LeaseTerms, now: DateTime<Utc>) -> Option<LeaseTerms> {
        let epoch = match self.run == asked.run {
            true => self.epoch,
            false if self.expires <= now => self.epoch + 1,
            false => return None,
        };
        Some(LeaseTerms {
            epoch,
            ..asked.clone()
        })
    }
}

/// A lease that we hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its terms.
    pub terms: LeaseTerms,
    /// What a renewal must match (an entity tag, a file's digest).
    pub tag: String,
}

/// Answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Ours(Held),
    /// Somebody holds it.
    Theirs(LeaseTerms),
}

/// Leases.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Claims it: free, expired (by `now`) or already of the same run → ours.
    async fn claim(&self, terms: &LeaseTerms, now: DateTime<Utc>) -> Result<Claim, PortError>;
    /// Renews it. `Conflict` when it is not ours any more: stop before the expiry.
    async fn renew(&self, held: &Held, expires: DateTime<Utc>) -> Result<Held, PortError>;
    /// Gives it back. Gone already is fine.
    async fn release(&self, held: &Held) -> Result<(), PortError>;
    /// Where it is kept, for people: `s3://bucket/key`, or a folder of this host, which guards this host only.
    fn place(&self) -> String;
}
