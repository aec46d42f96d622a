//! Leases as objects of a bucket, changed only where nobody else changed them.
//!
//! # Guarantees
//! - A lease is made with `If-None-Match: *` and changed with `If-Match` only. Of any number that claim at once, one wins.
//! - A store that ignores these preconditions cannot guard anything. The first claim of a connection tries both on the object that it has
//!   just won, and refuses the store as `Unsupported` if it lets them pass.
//! - Giving back leaves the object with an expiry long past, so that its epoch goes on counting.
//!
//! Source: "Conditional writes", S3 user guide.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use chrono::{DateTime, Utc};

use super::connect::Inner;
use super::rate::Service;
use super::wire::{Call, Does};
use crate::port::{Cause, Claim, Held, LeaseTerms, Leases, PortError};

/// Tries of a claim while others change the object under us.
const TRIES: u32 = 5;
/// A lease that is longer than this is not one of ours.
const LONGEST: usize = 64 * 1024;

/// One bucket's leases.
pub(super) struct BucketLeases {
    inner: Arc<Inner>,
    bucket: String,
    prefix: String,
    /// The store was seen to keep preconditions.
    proven: AtomicBool,
}

/// What a write must meet.
#[derive(Debug, Clone, Copy)]
enum If<'a> {
    Absent,
    Matches(&'a str),
}

impl BucketLeases {
    pub(super) fn new(inner: Arc<Inner>, bucket: String, prefix: String) -> Self {
        BucketLeases {
            inner,
            bucket,
            prefix: prefix.trim_matches('/').to_owned(),
            proven: AtomicBool::new(false),
        }
    }

    fn key(&self, what: &str) -> String {
        let name = format!("{what}.lease.json");
        if self.prefix.is_empty() {
            name
        } else {
            format!("{}/{name}", self.prefix)
        }
    }

    fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    async fn put(
        &self,
        tried: &'static str,
        terms: &LeaseTerms,
        only: If<'_>,
    ) -> Result<Held, PortError> {
        let key = self.key(&terms.what);
        let url = self.url(&key);
        let body = serde_json::to_vec(terms)
            .map_err(|e| PortError::new(Cause::Local, tried, &url, e.to_string()))?;
        let make = || {
            let request = self.inner.s3.put_object().bucket(&self.bucket).key(&key);
            let request = request.content_type("application/json");
            let request = match only {
                If::Absent => request.if_none_match("*"),
                If::Matches(tag) => request.if_match(tag),
            };
            request.body(ByteStream::from(body.clone())).send()
        };
        let call = Call::new(Service::S3, Does::Issue, tried, &url);
        let out = self.inner.wire.call(call, make).await?.value;
        let tag = out.e_tag.ok_or_else(|| {
            PortError::new(
                Cause::Unreadable,
                tried,
                &url,
                "the answer has no entity tag",
            )
        })?;
        Ok(Held {
            terms: terms.clone(),
            tag,
        })
    }

    async fn read(&self, what: &str) -> Result<Option<Held>, PortError> {
        let tried = "read the lease";
        let key = self.key(what);
        let url = self.url(&key);
        let call = Call::new(Service::S3, Does::Read, tried, &url);
        let make = || {
            let request = self.inner.s3.get_object().bucket(&self.bucket).key(&key);
            request.send()
        };
        let out = match self.inner.wire.call(call, make).await {
            Ok(answer) => answer.value,
            Err(e) if e.cause == Cause::NotFound && !e.detail.starts_with("NoSuchBucket") => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let unreadable = |detail: String| PortError::new(Cause::Unreadable, tried, &url, detail);
        let tag = out
            .e_tag
            .ok_or_else(|| unreadable("the answer has no entity tag".into()))?;
        let body = out.body.collect().await;
        let body = body
            .map_err(|e| PortError::new(Cause::Unreachable, tried, &url, e.to_string()))?
            .into_bytes();
        if body.len() > LONGEST {
            return Err(unreadable("it is too long for a lease".into()));
        }
        let terms = serde_json::from_slice(&body)
            .map_err(|e| unreadable(format!("it is no lease of firebreak: {e}")))?;
        Ok(Some(Held { terms, tag }))
    }

    /// One try; `None` = somebody changed it meanwhile.
    async fn try_claim(
        &self,
        asked: &LeaseTerms,
        now: DateTime<Utc>,
    ) -> Result<Option<Claim>, PortError> {
        let written = match self.read(&asked.what).await? {
            None => self.put("claim the lease", asked, If::Absent).await,
            Some(held) => match held.terms.taken_over(asked, now) {
                None => return Ok(Some(Claim::Theirs(held.terms))),
                Some(next) => {
                    self.put("claim the lease", &next, If::Matches(&held.tag))
                        .await
                }
            },
        };
        match written {
            Ok(held) => Ok(Some(Claim::Ours(held))),
            Err(e) if e.cause == Cause::Conflict || e.cause == Cause::NotFound => {
                // A missing bucket is not somebody else's doing.
                if e.detail.starts_with("NoSuchBucket") {
                    return Err(e);
                }
                Ok(None)
            }
            // It may be ours: the next look tells.
            Err(e) if e.cause.may_have_happened() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Changes a lease that is ours. Where a reply was lost, now or last time, the tag that we hold is old although the lease is ours: then
    /// what is there says so by its run and epoch, and is changed once more by the tag that it has.
    async fn change(
        &self,
        tried: &'static str,
        held: &Held,
        terms: &LeaseTerms,
    ) -> Result<Held, PortError> {
        let written = self.put(tried, terms, If::Matches(&held.tag)).await;
        let failed = match written {
            Err(e) if e.cause.may_have_happened() || e.cause == Cause::Conflict => e,
            other => return other,
        };
        match self.read(&terms.what).await {
            Ok(Some(there)) if there.terms == *terms => Ok(there),
            Ok(Some(there)) if there.terms.run == terms.run && there.terms.epoch == terms.epoch => {
                self.put(tried, terms, If::Matches(&there.tag)).await
            }
            _ => Err(failed),
        }
    }

    /// Tries what the store must refuse, on the lease that is ours.
    async fn prove(&self, held: &Held) -> Result<(), PortError> {
        if self.proven.load(Ordering::SeqCst) {
            return Ok(());
        }
        let wrong = "\"00000000000000000000000000000000\"";
        for (only, header) in [
            (If::Absent, "If-None-Match"),
            (If::Matches(wrong), "If-Match"),
        ] {
            match self
                .put("test the preconditions of", &held.terms, only)
                .await
            {
                Err(e) if e.cause == Cause::Conflict => {}
                Err(e) => return Err(e),
                Ok(_) => {
                    let place = self.url(&self.key(&held.terms.what));
                    let detail = format!(
                        "it ignores {header}, so two runs could hold the lease; name a bucket that keeps conditional writes"
                    );
                    return Err(PortError::new(
                        Cause::Unsupported,
                        "keep a lease in",
                        place,
                        detail,
                    ));
                }
            }
        }
        self.proven.store(true, Ordering::SeqCst);
        Ok(())
    }
}

#[async_trait]
impl Leases for BucketLeases {
    async fn claim(&self, terms: &LeaseTerms, now: DateTime<Utc>) -> Result<Claim, PortError> {
        for _ in 0..TRIES {
            if let Some(claim) = self.try_claim(terms, now).await? {
                if let Claim::Ours(held) = &claim {
                    self.prove(held).await?;
                }
                return Ok(claim);
            }
        }
        let place = self.url(&self.key(&terms.what));
        let detail = "others change it again and again; try again";
        Err(PortError::new(
            Cause::Conflict,
            "claim the lease",
            place,
            detail,
        ))
    }

    async fn renew(&self, held: &Held, expires: DateTime<Utc>) -> Result<Held, PortError> {
        let terms = LeaseTerms {
            expires,
            ..held.terms.clone()
        };
        self.change("renew the lease", held, &terms).await
    }

    async fn release(&self, held: &Held) -> Result<(), PortError> {
        let terms = LeaseTerms {
            expires: DateTime::UNIX_EPOCH,
            ..held.terms.clone()
        };
        match self.change("give back the lease", held, &terms).await {
            Ok(_) => Ok(()),
            // Gone, or somebody else's by now: there is nothing of ours to give back.
            Err(e) if e.cause == Cause::NotFound || e.cause == Cause::Conflict => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn place(&self) -> String {
        self.url(&self.prefix)
    }
}
