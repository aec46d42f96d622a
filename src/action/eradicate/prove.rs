//! Proofs that the old credential is dead, each with its grade.

use chrono::{DateTime, Utc};

use crate::incident::clock_text;
use crate::port::{Cause, LoginAnswer, Principal, ProbeAnswer, ProbeCall, Secret, Signer};
use crate::rotation::machine::database_password::NEW_SET;
use crate::rotation::machine::role_sessions::REVOKED;
use crate::rotation::plan::{DatabasePassword, What};
use crate::rotation::sessions;
use crate::rotation::words::Grade;

use super::carry::{Carrier, Rotation};
use super::prepare::t_in_place;
use super::verify::{Found, said};

/// A dead key's code at STS and IAM.
const DEAD: &str = "InvalidClientTokenId";
/// Two clean scans.
const CLEAN: u32 = 2;

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
                last = self.key_answer(key, secret.as_ref(), region.clone()).await;
                if last == DEAD {
                    in_a_row += 1;
                    refusals += 1;
                } else {
                    in_a_row = 0;
                }
                spent += waits.prove_apart_ms.max(50);
                if spent > waits.prove_cap_ms || self.cx.cancelled() {
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
    ) -> String {
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
        match answer {
            Ok(answer) => match answer.value {
                ProbeAnswer::Works(_) => "answered".into(),
                ProbeAnswer::Refused { code, .. } => code,
            },
            Err(e) => e.cause.as_str().into(),
        }
    }

    /// Two clean scans apart: no key but those of the plan and ours, the deny in place.
    pub(super) async fn scan_clean(&self, at: &Carrier, user: &str) -> Found {
        let What::AccessKey(planned) = &self.item(at.item).what else {
            return Found::not([("why", "it is no access key".into())]);
        };
        let waits = &self.plan.waits;
        let principal = Principal::User(user.to_owned());
        let (mut clean, mut spent) = (0, 0);
        while clean < CLEAN {
            let keys = self.patiently(|| self.estate.cloud.access_keys(user)).await;
            let seen = self
                .patiently(|| self.estate.cloud.principal(&principal))
                .await;
            let (keys, seen) = match (keys, seen) {
                (Ok(keys), Ok(seen)) => (keys.value, seen.value),
                (Err(e), _) | (_, Err(e)) => {
                    return Found::not([("gave_up", e.to_string())]);
                }
            };
            let ours = self.ours.lock().map(|o| o.clone()).unwrap_or_default();
            let foreign: Vec<&str> = keys
                .iter()
                .filter(|k| k.active && !planned.before.contains(&k.id) && !ours.contains(&k.id))
                .map(|k| k.id.as_str())
                .collect();
            if !foreign.is_empty() {
                return Found::not([("keys", foreign.join(","))]);
            }
            if t_in_place(&seen).is_none() {
                return Found::not([("deny_missing", at.journal.len.to_string())]);
            }
            clean += 1;
            spent += waits.scan_apart_ms;
            if spent > waits.scan_cap_ms || self.cx.cancelled() {
                return Found::not([("gave_up", "not two clean scans in time".into())]);
            }
            if clean < CLEAN {
                self.wait(waits.scan_apart_ms).await;
            }
        }
        Found::holds([("scans", CLEAN.to_string())])
    }

    /// The changed trust reads back as planned, twice apart.
    pub(super) async fn trust_effective(&self, at: &Carrier, role: &str) -> Found {
        let What::RoleSessions(planned) = &self.item(at.item).what else {
            return Found::not([("why", "it is no role".into())]);
        };
        let Some(after) = &planned.trust_after else {
            return Found::holds([]);
        };
        let principal = Principal::Role(role.to_owned());
        for look in 0..CLEAN {
            let seen = self
                .patiently(|| self.estate.cloud.principal(&principal))
                .await;
            match seen {
                Ok(seen) => {
                    let there = seen.value.trust.unwrap_or_default();
                    if !sessions::same_policy(&there, after) {
                        return Found::not([("why", "the trust policy is another one".into())]);
                    }
                }
                Err(e) => return Found::not([("why", e.to_string())]),
            }
            if look + 1 < CLEAN {
                self.wait(self.plan.waits.scan_apart_ms).await;
            }
        }
        Found::holds([("reads", CLEAN.to_string())])
    }

    /// Where we hold a session from before the cut-off, a call that it was allowed is refused to it now; else the state of the policy.
    pub(super) async fn sessions_denied(&self, at: &Carrier, role: &str) -> Found {
        let t = ["2", "1"]
            .iter()
            .find_map(|n| at.journal.got(REVOKED, n, "t"))
            .and_then(|t| t.parse::<DateTime<Utc>>().ok());
        let principal = Principal::Role(role.to_owned());
        let seen = self
            .patiently(|| self.estate.cloud.principal(&principal))
            .await;
        let there = match seen {
            Ok(seen) => t_in_place(&seen.value),
            Err(e) => return Found::not([("why", e.to_string())]),
        };
        if there.is_none() || there < t {
            return Found::not([("why", "the deny is not in place".into())]);
        }
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
            spent += waits.prove_apart_ms.max(50);
            if spent > waits.prove_cap_ms || self.cx.cancelled() {
                return Found::not([("code", last)]);
            }
            if refused < waits.prove_times {
                self.wait(waits.prove_apart_ms).await;
            }
        }
        Found::holds([
            ("t", since),
            ("code", last),
            ("refusals", refused.to_string()),
        ])
        .graded(Grade::Probed)
    }

    /// No session that began before the set, twice, on every server.
    pub(super) async fn sessions_gone(&self, at: &Carrier, step: &str, target: &str) -> Found {
        let What::DatabasePassword(password) = &self.item(at.item).what else {
            return Found::not([("why", "it is no database password".into())]);
        };
        let admin = match self.admin(password).await {
            Ok(admin) => admin,
            Err(problem) => return Found::not([("why", problem.detail)]),
        };
        let set = at.journal.got(NEW_SET, "", "t_set");
        let before = set.and_then(|t| t.parse().ok());
        let before = before.unwrap_or_else(|| self.cx.ports.clock.now());
        let again = at.journal.entries(step, target).len() + 1;
        for look in 0..CLEAN {
            for server in password.servers() {
                let found = self
                    .patiently(|| {
                        let database = &self.estate.database;
                        database.sessions(server, &admin, &password.role, before)
                    })
                    .await;
                match found {
                    Ok(found) if found.out_of_reach > 0 => {
                        return Found::not([
                            ("server", server.to_string()),
                            ("out_of_reach", found.out_of_reach.to_string()),
                        ]);
                    }
                    Ok(found) if found.matched > 0 => {
                        return Found::not([
                            ("server", server.to_string()),
                            ("left", found.matched.to_string()),
                            ("again", again.to_string()),
                        ]);
                    }
                    Ok(_) => {}
                    Err(e) => {
                        return Found::not([
                            ("server", server.to_string()),
                            ("why", e.to_string()),
                            ("again", again.to_string()),
                        ]);
                    }
                }
            }
            if look + 1 < CLEAN {
                self.wait(self.plan.waits.poll_ms).await;
            }
        }
        Found::holds([("looks", CLEAN.to_string())])
    }

    /// On each server the old password is refused with 28P01 while the new one is accepted.
    pub(super) async fn old_password_dead(&self, at: &mut Carrier) -> Found {
        let item = self.item(at.item).clone();
        let What::DatabasePassword(password) = &item.what else {
            return Found::not([("why", "it is no database password".into())]);
        };
        let old = match self.old(at).await {
            Ok(old) => old.map(|o| o.secret.duplicate()),
            Err(problem) => return Found::not([("why", problem.detail)]),
        };
        let Some(new) = at.hand.new.as_ref().map(|n| n.secret.duplicate()) else {
            return Found::not([("why", "the new password is not at hand".into())]);
        };
        let Some(old) = old else {
            return self.verifier_changed(password, &new).await;
        };
        let mut codes = Vec::new();
        for server in password.servers() {
            let refused = self.login(server, &password.role, &old).await;
            let control = self.login(server, &password.role, &new).await;
            let dead = matches!(&refused, Ok(LoginAnswer::Refused { sqlstate, .. }) if sqlstate == "28P01");
            let works = matches!(control, Ok(LoginAnswer::Accepted { .. }));
            codes.push(format!(
                "{server}: {} (control {})",
                said(&refused),
                said(&control)
            ));
            if !dead || !works {
                return Found::not([("code", codes.join("; "))]);
            }
        }
        Found::holds([("code", codes.join("; "))]).graded(Grade::Probed)
    }

    /// The old password is in no version any more: the server holds another verifier, and the new password is accepted.
    async fn verifier_changed(&self, password: &DatabasePassword, new: &Secret) -> Found {
        for server in password.servers() {
            let control = self.login(server, &password.role, new).await;
            if !matches!(control, Ok(LoginAnswer::Accepted { .. })) {
                return Found::not([("server", server.to_string()), ("code", said(&control))]);
            }
        }
        Found::holds([("why", "the old password was not at hand to try".into())])
            .graded(Grade::State)
    }

    /// A session of the role, minted before the cut-off, with a call that it is allowed. Where we may not assume the role there is none.
    pub(super) async fn mint(&self, at: &mut Carrier, role_arn: &str) {
        let name = format!("firebreak-{}", self.cx.run);
        let name: String = name.chars().take(64).collect();
        match self.estate.cloud.assume_role(role_arn, &name).await {
            Ok(answer) => {
                let session = answer.value;
                let call = ProbeCall::ListAccountAliases;
                let works = self.estate.cloud.probe(&session.signer, &call).await;
                if matches!(works, Ok(a) if matches!(a.value, ProbeAnswer::Works(_))) {
                    at.hand.session = Some(session);
                }
            }
            Err(e) if e.cause == Cause::Refused => {}
            // Without a session the proof rests on the policy's state, and says so.
            Err(_) => {}
        }
    }
}
