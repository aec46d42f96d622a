//! Simulated leases: one object each, made if there is none, renewed if its tag fits.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::port::{Cause, Claim, Held, LeaseTerms, Leases, PortError};

use super::{Call, SimEstate};

#[async_trait]
impl Leases for SimEstate {
    async fn claim(&self, terms: &LeaseTerms, now: DateTime<Utc>) -> Result<Claim, PortError> {
        let call = Call::change("claim", "lease:Claim", "claim the lease of", &terms.what);
        self.call(call, |w, scene| {
            let terms = match w.leases.get(&terms.what) {
                None => LeaseTerms {
                    epoch: 1,
                    ..terms.clone()
                },
                // Ours again after a crash keeps its epoch: the new tag puts off a holder that still runs.
                Some((there, _)) => match there.taken_over(terms, now) {
                    Some(terms) => terms,
                    None => return Ok(Claim::Theirs(there.clone())),
                },
            };
            let tag = format!("\"{}\"", w.mint("", 16));
            w.leases
                .insert(terms.what.clone(), (terms.clone(), tag.clone()));
            scene.effect = true;
            Ok(Claim::Ours(Held { terms, tag }))
        })
    }

    async fn renew(&self, held: &Held, expires: DateTime<Utc>) -> Result<Held, PortError> {
        let call = Call::change(
            "renew",
            "lease:Renew",
            "renew the lease of",
            &held.terms.what,
        );
        self.call(call, |w, scene| {
            let tag = format!("\"{}\"", w.mint("", 16));
            let found = w.leases.get_mut(&held.terms.what);
            let Some(found) = found.filter(|(_, tag)| *tag == held.tag) else {
                return Err(call.error(
                    Cause::Conflict,
                    "PreconditionFailed: it is not ours any more",
                ));
            };
            found.0.expires = expires;
            found.1 = tag;
            scene.effect = true;
            Ok(Held {
                terms: found.0.clone(),
                tag: found.1.clone(),
            })
        })
    }

    async fn release(&self, held: &Held) -> Result<(), PortError> {
        let call = Call::change(
            "release",
            "lease:Release",
            "give back the lease of",
            &held.terms.what,
        );
        self.call(call, |w, scene| {
            let there = w.leases.get_mut(&held.terms.what);
            if let Some((terms, _)) = there.filter(|(_, tag)| *tag == held.tag) {
                // The object stays, run out: the next holder's epoch goes on from it.
                terms.expires = DateTime::UNIX_EPOCH;
                scene.effect = true;
            }
            Ok(())
        })
    }

    fn place(&self) -> String {
        "sim://leases".to_owned()
    }
}
