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
            let found = w.leases.get(&terms.what).map(|(t, _)| t.clone());
            let epoch = match found {
                Some(theirs) if theirs.run != terms.run && theirs.expires > now => {
                    return Ok(Claim::Theirs(theirs));
                }
                // Ours again after a crash: same hands, but the new tag puts off a holder that still runs.
                Some(ours) if ours.run == terms.run => ours.epoch,
                Some(run_out) => run_out.epoch + 1,
                None => 1,
            };
            let terms = LeaseTerms {
                epoch,
                ..terms.clone()
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
            let ours = w
                .leases
                .get(&held.terms.what)
                .is_some_and(|(_, tag)| *tag == held.tag);
            if ours {
                w.leases.remove(&held.terms.what);
                scene.effect = true;
            }
            Ok(())
        })
    }

    fn place(&self) -> String {
        "sim://leases".to_owned()
    }
}
