//! Proofs that the old credential is dead, each with its grade.

use chrono::{DateTime, Utc};

use crate::incident::clock_text;
use crate::port::{PortError, Principal, ProbeAnswer, ProbeCall, Secret, Session, Signer};
use crate::rotation::machine::role_sessions::{AGAIN, REVOKED, TRUST_FIXED};
use crate::rotation::plan::What;
use crate::rotation::sessions;
use crate::rotation::words::Grade;

use super::carry::{Carrier, Rotation};
use super::prepare::t_in_place;
use super::verify::Found;

/// A dead key's code at STS and IAM.
const DEAD: &str = "InvalidClientTokenId";
/// Two clean looks.
pub(super) const CLEAN: u32 = 2;
/// What a round counts towards its cap where its wait is nought.
pub(super) const LEAST_MS: u64 = 50;

impl Rotation {
    /// Refused with the expected code, so many times in a row at each endpoint: with the old secret where escrow still has it, else with a
    /// random one. Never both for one id: within seconds the second would be refused for the first one's sake.
    pub(super) async fn old_key_dead(&self, at: &mut Carrier, user: &str, key: &str) -> Found {
        let secret = match self.old(at).await {
            Ok(Some(old)) if old.id == key => Some(old.secret.duplicate()),
            _ => None,
        };
        let grade = match &secret {
            Some(_) => Grade::Probed,
            None => Grade::ProbedWithoutSecret,
        };
        let waits = &self.plan.waits;
        let (mut spent, mut refusals, mut last) = (0, 0, String::new());
        for region in self.endpoints() {
            let mut in_a_row = 0;
            while in_a_row < waits.prove_times {
                match self.key_answer(key, secret.as_ref(), region.clone()).await {
                    Ok(code) if code == DEAD => {
                        last = code;
                        in_a_row += 1;
                        refusals += 1;
                    }
                    Ok(code) => {
                        last = code;
                        in_a_row = 0;
                    }
                    // No answer says nothing about the key.
                    Err(e) => last = e.cause.as_str().into(),
                }
                spent += waits.prove_apart_ms.max(LEAST_MS);
                if spent > waits.prove_cap_ms || self.halted() {
                    return Found::not([("code", last)]);
                }
                if in_a_row < waits.prove_times {
                    self.wait(waits.prove_apart_ms).await;
                }
            }
        }
        let keys = self.patiently(|| self.estate.cloud.access_keys(user)).await;
        let state = match keys {
            Ok(keys) => match keys.value.iter().find(|k| k.id == key) {
                None => "absent",
                Some(k) if k.active => "Active",
                Some(_) => "Inactive",
            },
            Err(_) => "not readable",
        };
        if state == "Active" {
            return Found::not([("code", last), ("state", state.into())]);
        }
        Found::holds([
            ("code", last),
            ("refusals", refusals.to_string()),
            ("endpoints", "2".into()),
            ("state", state.into()),
        ])
        .graded(grade)
    }

    /// The code of a refusal, or what else was met.
    async fn key_answer(
        &self,
        key: &str,
        secret: Option<&Secret>,
        region: Option<String>,
    ) -> Result<String, PortError> {
        let answer = match secret {
            Some(secret) => {
                let signer = Signer {
                    id: key.to_owned(),
                    secret: secret.duplicate(),
                    token: None,
                };
                let call = ProbeCall::CallerIdentity { region };
                self.estate.cloud.probe(&signer, &call).await
            }
            None => self.estate.cloud.probe_without_secret(key, region).await,
        };
        Ok(match answer?.value {
            ProbeAnswer::Works(_) => "answered".into(),
            ProbeAnswer::Refused { code, .. } => code,
        })
    }

    /// The changed trust reads back as planned, twice apart.
    pub(super) async fn trust_effective(&self, at: &Carrier, role: &str) -> Found {
        let What::RoleSessions(planned) = &self.item(at.item).what else {
            return Found::not([("why", "it is no role".into())]);
        };
        let Some(after) = &planned.trust_after else {
            return Found::holds([]);
        };
        let waits = &self.plan.waits;
        let principal = Principal::Role(role.to_owned());
        let (mut reads, mut spent) = (0, 0);
        while reads < CLEAN {
            let seen = self
                .patiently(|| self.estate.cloud.principal(&principal))
                .await;
            let there = match seen {
                Ok(seen) => seen.value.trust.unwrap_or_default(),
                Err(e) => return Found::not([("why", e.to_string())]),
            };
            if sessions::same_policy(&there, after) {
                reads += 1;
            } else if sessions::same_policy(&there, &planned.trust_before) {
                // It has not taken hold yet.
                reads = 0;
            } else {
                return Found::not([("why", "it is another one now".into())]);
            }
            spent += waits.scan_apart_ms.max(LEAST_MS);
            if spent > waits.prove_cap_ms || self.halted() {
                return Found::not([("why", "it still reads as before".into())]);
            }
            if reads < CLEAN {
                self.wait(waits.scan_apart_ms).await;
            }
        }
        Found::holds([("reads", CLEAN.to_string())])
    }

    /// Where we hold a session from before the cut-off, a call that it was allowed is refused to it now; else the state of the policy.
    pub(super) async fn sessions_denied(&self, at: &Carrier, role: &str) -> Found {
        let t = [AGAIN, "2", "1"]
            .iter()
            .filter_map(|n| at.journal.got(REVOKED, n, "t"))
            .filter_map(|t| t.parse::<DateTime<Utc>>().ok())
            .max();
        let there = match self
            .deny_in_place(&Principal::Role(role.to_owned()), t)
            .await
        {
            Ok(there) => there,
            Err(found) => return found,
        };
        let since = there.map(clock_text::seconds).unwrap_or_default();
        let Some(session) = &at.hand.session else {
            return Found::holds([
                ("t", since),
                (
                    "why",
                    "no session from before the cut-off was at hand to try".into(),
                ),
            ])
            .graded(Grade::State);
        };
        self.session_refused(session, &since).await
    }

    /// The T in place, once it is the one that was put: an effect may come late.
    async fn deny_in_place(
        &self,
        principal: &Principal,
        t: Option<DateTime<Utc>>,
    ) -> Result<Option<DateTime<Utc>>, Found> {
        let waits = &self.plan.waits;
        let mut spent = 0;
        loop {
            let seen = self
                .patiently(|| self.estate.cloud.principal(principal))
                .await;
            let there = match seen {
                Ok(seen) => t_in_place(&seen.value),
                Err(e) => return Err(Found::not([("why", e.to_string())])),
            };
            if there.is_some() && there >= t {
                return Ok(there);
            }
            spent += waits.prove_apart_ms.max(LEAST_MS);
            if spent > waits.scan_apart_ms.max(10 * LEAST_MS) || self.halted() {
                return Err(Found::not([("deny_missing", "yes".into())]));
            }
            self.wait(waits.prove_apart_ms).await;
        }
    }

    /// A call that the session was allowed is refused to it, so many times in a row.
    async fn session_refused(&self, session: &Session, since: &str) -> Found {
        let waits = &self.plan.waits;
        let (mut refused, mut spent, mut last) = (0, 0, String::new());
        while refused < waits.prove_times {
            let call = ProbeCall::ListAccountAliases;
            match self.estate.cloud.probe(&session.signer, &call).await {
                Ok(answer) => match answer.value {
                    ProbeAnswer::Refused { code, .. } => {
                        last = code;
                        refused = if last.starts_with("AccessDenied") {
                            refused + 1
                        } else {
                            0
                        };
                    }
                    ProbeAnswer::Works(_) => {
                        last = "answered".into();
                        refused = 0;
                    }
                },
                Err(e) => last = e.cause.as_str().into(),
            }
            spent += waits.prove_apart_ms.max(LEAST_MS);
            if spent > waits.prove_cap_ms || self.halted() {
                return Found::not([("code", last)]);
            }
            if refused < waits.prove_times {
                self.wait(waits.prove_apart_ms).await;
            }
        }
        Found::holds([
            ("t", since.to_owned()),
            ("code", last),
            ("refusals", refused.to_string()),
        ])
        .graded(Grade::Probed)
    }

    /// A session of the item's role, minted before the cut-off, with a call that it is allowed. Where we may not assume the role there
    /// is none, and the proof rests on the policy's state and says so. It is no change of anything, so it has no intent.
    pub(super) async fn mint(&self, at: &mut Carrier, step: &str) {
        if !matches!(step, TRUST_FIXED | REVOKED) || at.hand.session.is_some() {
            return;
        }
        let name = format!("firebreak-{}", self.cx.run);
        let name: String = name.chars().take(64).collect();
        let arn = &self.item(at.item).arn;
        if let Ok(answer) = self.estate.cloud.assume_role(arn, &name).await {
            let session = answer.value;
            let call = ProbeCall::ListAccountAliases;
            let works = self.estate.cloud.probe(&session.signer, &call).await;
            if matches!(works, Ok(a) if matches!(a.value, ProbeAnswer::Works(_))) {
                at.hand.session = Some(session);
            }
        }
    }
}
