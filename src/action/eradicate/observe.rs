//! Looking at the world for one item: after a crash, after a lost answer, and before it is begun.

use crate::port::{Cause, LoginAnswer, Principal};
use crate::rotation::machine::access_key::{CREATED, ESCROWED};
use crate::rotation::machine::database_password::PENDING_PUT;
use crate::rotation::machine::{Accepts, Holds, Seen};
use crate::rotation::plan::{AccessKey, DatabasePassword, RoleSessions, What};

use super::carry::{Carrier, Rotation, token};
use super::hand;
use super::prepare::t_in_place;

impl Rotation {
    /// Looks. With `believe_absence` it looks so late, and twice, that what is missing is missing.
    pub(super) async fn observe(&self, at: &Carrier, believe_absence: bool) -> Seen {
        let waits = &self.plan.waits;
        if !believe_absence {
            return self.once(at).await;
        }
        let since = at.journal.in_doubt().and_then(|i| i.at);
        let age = since.map_or(0, |t| {
            let age = self.cx.ports.clock.now() - t;
            u64::try_from(age.num_milliseconds()).unwrap_or(0)
        });
        self.wait(
            waits
                .absence_ms
                .saturating_sub(age + waits.absence_apart_ms),
        )
        .await;
        let first = self.once(at).await;
        self.wait(waits.absence_apart_ms).await;
        let mut second = self.once(at).await;
        second.absence_believed = first.same_as(&second);
        second
    }

    async fn once(&self, at: &Carrier) -> Seen {
        let item = self.item(at.item);
        let mut seen = Seen {
            have_value: at.hand.new.is_some(),
            ours: self
                .ours
                .lock()
                .map(|o| o.iter().cloned().collect())
                .unwrap_or_default(),
            ..Seen::default()
        };
        match &item.what {
            What::AccessKey(key) => self.see_key(at, key, &mut seen).await,
            What::RoleSessions(role) => self.see_role(role, &mut seen).await,
            What::DatabasePassword(password) => self.see_password(at, password, &mut seen).await,
        }
        self.see_sinks(at, &mut seen).await;
        seen
    }

    async fn see_key(&self, at: &Carrier, key: &AccessKey, seen: &mut Seen) {
        let keys = self
            .patiently(|| self.estate.cloud.access_keys(&key.user))
            .await;
        if let Ok(answer) = keys {
            seen.binding
                .extend(crate::rotation::binding::keys(&answer.value));
            seen.keys = Some(answer.value);
        }
        if key.escrow.exists || at.journal.standing(ESCROWED, "").is_some() {
            self.see_secret(&key.escrow.secret, seen).await;
        }
        if at.journal.standing(ESCROWED, "").is_some() {
            seen.escrowed_key = self.escrowed(at).await.map(|h| h.0.id);
            seen.escrowed = seen.escrowed_key.is_some();
        }
        if at.journal.len > 0 {
            let mut principals = vec![Principal::User(key.user.clone())];
            principals.extend(key.chain.iter().map(|r| Principal::Role(r.clone())));
            for principal in &principals {
                self.see_deny(principal, seen).await;
            }
        }
        // A key that this item made and then lost is still ours to others, not to itself.
        if let Some(id) = at.journal.got(CREATED, "", "key_id") {
            seen.ours.retain(|k| k != id);
        }
    }

    async fn see_deny(&self, principal: &Principal, seen: &mut Seen) {
        let answer = self
            .patiently(|| self.estate.cloud.principal(principal))
            .await;
        if let Ok(answer) = answer {
            let t = t_in_place(&answer.value);
            seen.denies.insert(principal.name().to_owned(), t);
        }
    }

    async fn see_secret(&self, id: &str, seen: &mut Seen) {
        match self.patiently(|| self.estate.vault.describe(id)).await {
            Ok(answer) => {
                seen.binding
                    .extend(crate::rotation::binding::secret(&answer.value));
                seen.secret = Some(Some(answer.value));
            }
            Err(e) if e.cause == Cause::NotFound => seen.secret = Some(None),
            Err(_) => {}
        }
    }

    async fn see_role(&self, role: &RoleSessions, seen: &mut Seen) {
        let principal = Principal::Role(role.role.clone());
        let answer = self
            .patiently(|| self.estate.cloud.principal(&principal))
            .await;
        if let Ok(answer) = answer {
            let role_seen = &answer.value;
            seen.binding
                .extend(crate::rotation::binding::role(role_seen));
            seen.denies.insert(role.role.clone(), t_in_place(role_seen));
            seen.trust.clone_from(&role_seen.trust);
        }
    }

    async fn see_password(&self, at: &Carrier, password: &DatabasePassword, seen: &mut Seen) {
        self.see_secret(&password.escrow.secret, seen).await;
        let version = at.journal.standing(PENDING_PUT, "").map(|_| {
            token(
                &self.cx.run.to_string(),
                self.item(at.item),
                at.journal.attempt,
            )
        });
        if at.journal.untouched()
            && let Ok(admin) = self.admin(password).await
            && let Ok(role) = self
                .estate
                .database
                .role(&password.primary, &admin, &password.role)
                .await
        {
            seen.binding
                .extend(crate::rotation::binding::database(&role));
        }
        if at.journal.fresh() {
            return;
        }
        let new = match &at.hand.new {
            Some(new) => Some(new.secret.duplicate()),
            None => match version {
                Some(v) => self.password_of(password, &v).await,
                None => None,
            },
        };
        let old = match &password.escrow.current {
            Some(version) => self.password_of(password, version).await,
            None => None,
        };
        let server = &password.primary;
        let mut accepts = Accepts::default();
        if let Some(new) = new {
            let (works, now) = self.tried(server, &password.role, new).await;
            (accepts.new, accepts.now) = (works, now);
        }
        if let Some(old) = old {
            let (works, now) = self.tried(server, &password.role, old).await;
            accepts.old = works;
            accepts.now = accepts.now.or(now);
        }
        if accepts.new.is_some() || accepts.old.is_some() {
            seen.logins.insert(server.to_string(), accepts);
        }
    }

    async fn password_of(
        &self,
        password: &DatabasePassword,
        version: &str,
    ) -> Option<crate::port::Secret> {
        let read = self.version(&password.escrow.secret, version).await.ok()?;
        hand::from_json(&password.escrow, &read.value)
            .ok()
            .map(|c| c.secret)
    }

    async fn tried(
        &self,
        server: &crate::port::Server,
        role: &str,
        password: crate::port::Secret,
    ) -> (Option<bool>, Option<chrono::DateTime<chrono::Utc>>) {
        let login = crate::port::Login {
            role: role.to_owned(),
            password,
        };
        let answer = self
            .patiently(|| self.estate.database.try_login(server, &login))
            .await;
        match answer {
            Ok(LoginAnswer::Accepted { server_now }) => (Some(true), Some(server_now)),
            Ok(LoginAnswer::Refused { .. }) => (Some(false), None),
            Err(_) => (None, None),
        }
    }

    async fn see_sinks(&self, at: &Carrier, seen: &mut Seen) {
        let Some(intent) = at.journal.in_doubt() else {
            return;
        };
        if intent.call != "kubernetes:PatchSecret" {
            return;
        }
        let item = self.item(at.item);
        let Some((index, sink)) = item
            .sinks
            .iter()
            .enumerate()
            .find(|(_, s)| s.place() == intent.target)
        else {
            return;
        };
        // The values to compare with are read anew: after a crash nothing of them is in memory.
        let mut look = Carrier::new(at.item, at.journal.clone());
        if let Some((new, before)) = self.escrowed(at).await {
            look.hand.new = Some(new);
            look.hand.before = before;
        }
        let new = self.new_values(&look, sink);
        let old = self.old_values(&mut look, sink).await.unwrap_or_default();
        let holds = match self.sink_object(sink).await {
            Err(e) if matches!(e.cause, Cause::NotFound | Cause::Conflict) => Holds::Gone,
            Err(_) => return,
            Ok(object) => {
                let all = |values: &std::collections::BTreeMap<String, crate::port::Secret>| {
                    !values.is_empty()
                        && values
                            .iter()
                            .all(|(k, v)| object.data.get(k).is_some_and(|t| t.same_as(v)))
                };
                if all(&new) {
                    Holds::New
                } else if all(&old) {
                    Holds::Old
                } else {
                    Holds::Other
                }
            }
        };
        seen.sinks.insert(index, holds);
    }

    /// What the version of this attempt holds, where it can be read: the credential, and what the sinks held before.
    async fn escrowed(&self, at: &Carrier) -> Option<(hand::Credential, hand::Before)> {
        let item = self.item(at.item);
        let escrow = hand::escrow(item)?;
        let version = token(&self.cx.run.to_string(), item, at.journal.attempt);
        let read = self.version(&escrow.secret, &version).await.ok()?;
        let new = hand::from_json(escrow, &read.value).ok()?;
        Some((new, hand::before_of(&read.value)))
    }
}
