//! Sending one change whose intent is durable, and reading the answer.

use std::collections::BTreeMap;
use std::future::Future;

use crate::incident::clock_text;
use crate::port::{Answer, Cause, PortError, Principal, SecretWrite};
use crate::rotation::call::{Call, Change};
use crate::rotation::plan::What;
use crate::rotation::sessions;

use super::carry::{Carrier, Rotation};
use super::hand::Credential;
use super::prepare::{Load, Prepared, code_of};

/// How often what certainly did not happen is sent again before it counts as refused.
const PATIENCE: u32 = 8;

/// How a change was answered.
#[derive(Default)]
pub(super) struct Sent {
    /// `ok`, `refused`, `in-doubt`.
    pub(super) result: &'static str,
    /// Code of a refusal.
    pub(super) code: Option<String>,
    /// Public results.
    pub(super) got: BTreeMap<String, String>,
    /// Request id.
    pub(super) request_id: Option<String>,
    /// The server's `Date`.
    pub(super) server_date: Option<String>,
}

impl Sent {
    /// It was refused.
    pub(super) fn refused(code: String, detail: String) -> Self {
        Sent {
            result: "refused",
            code: Some(code),
            got: BTreeMap::from([("detail".into(), short(&detail))]),
            ..Sent::default()
        }
    }
    fn ok(got: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Sent {
            result: "ok",
            got: got.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            ..Sent::default()
        }
    }
    fn of<T>(answer: &Answer<T>, got: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Sent {
            request_id: answer.request_id.clone(),
            server_date: answer.server_date.map(clock_text::seconds),
            ..Sent::ok(got)
        }
    }
    fn error(e: &PortError) -> Self {
        if e.cause.may_have_happened() {
            return Sent {
                result: "in-doubt",
                code: Some(e.cause.as_str().into()),
                got: BTreeMap::from([("detail".into(), short(&e.to_string()))]),
                ..Sent::default()
            };
        }
        Sent::refused(code_of(e).into(), e.to_string())
    }
}

/// An error's words as an entry keeps them.
fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

impl Rotation {
    /// Sends `change`. What certainly did not happen (throttled, unreachable) is sent again, with growing pauses; nothing else is.
    pub(super) async fn perform(
        &self,
        at: &mut Carrier,
        change: &Change,
        prepared: &Prepared,
    ) -> Sent {
        let mut tries = 0;
        loop {
            match self.send(at, change, &prepared.load).await {
                Err(e) if e.cause.is_transient() && self.again(&mut tries).await => {}
                Err(e) => return Sent::error(&e),
                Ok(sent) => return sent,
            }
        }
    }

    async fn send(
        &self,
        at: &mut Carrier,
        change: &Change,
        load: &Load,
    ) -> Result<Sent, PortError> {
        match &change.call {
            Call::SetKey { user, key, active } => {
                match self.estate.cloud.set_access_key(user, key, *active).await {
                    // Nothing to disable: gone is as good.
                    Err(e) if e.cause == Cause::NotFound && !active => {
                        Ok(Sent::ok([("gone", "yes".into())]))
                    }
                    other => other.map(|a| Sent::of(&a, [])),
                }
            }
            Call::DeleteKey { user, key } => {
                let answer = self.estate.cloud.delete_access_key(user, key).await?;
                let gone = if answer.value { "no" } else { "yes" };
                Ok(Sent::of(&answer, [("was_gone", gone.to_owned())]))
            }
            Call::CreateKey { user } => {
                let answer = self.estate.cloud.create_access_key(user).await?;
                let id = answer.value.id.clone();
                let sent = Sent::of(&answer, [("key_id", id.clone())]);
                self.remember(&id);
                at.hand.new = Some(Credential {
                    id,
                    secret: answer.value.secret,
                });
                Ok(sent)
            }
            Call::DenySessions { principal } => {
                let document = document(load)?;
                let name = sessions::POLICY_NAME;
                let cloud = &self.estate.cloud;
                let answer = cloud.put_inline_policy(principal, name, document).await?;
                let t = sessions::cutoff(document).map(clock_text::seconds);
                // Nothing of ours is minted before T.
                self.wait(1_000).await;
                Ok(Sent::of(&answer, t.map(|t| ("t", t))))
            }
            Call::DenyAll { user } => {
                let principal = Principal::User(user.clone());
                let name = sessions::QUARANTINE_NAME;
                let cloud = &self.estate.cloud;
                let answer = cloud
                    .put_inline_policy(&principal, name, document(load)?)
                    .await?;
                Ok(Sent::of(&answer, []))
            }
            Call::SetTrust { role, .. } => {
                let answer = self.estate.cloud.set_trust(role, document(load)?).await?;
                Ok(Sent::of(&answer, []))
            }
            Call::CreateSecret { name, token } => {
                let tags = BTreeMap::from([
                    ("firebreak-incident".into(), self.plan.incident.clone()),
                    ("firebreak-item".into(), self.item(at.item).id.clone()),
                ]);
                let vault = &self.estate.vault;
                let answer = vault.create(name, token, value(load)?, &tags).await?;
                Ok(Sent::of(&answer, [("version_id", answer.value.clone())]))
            }
            Call::PutVersion {
                secret,
                token,
                label,
            } => {
                let labels = [*label];
                let vault = &self.estate.vault;
                let answer = vault.put(secret, token, value(load)?, &labels).await?;
                Ok(Sent::of(&answer, [("version_id", answer.value.clone())]))
            }
            Call::MoveLabel {
                secret,
                label,
                from,
                to,
            } => {
                self.label(secret, label, from.as_deref(), to.as_deref())
                    .await
            }
            Call::SetVerifier { server, role, .. } => {
                let Load::Verifier(verifier, admin) = load else {
                    return Err(unprepared());
                };
                let database = &self.estate.database;
                database.set_verifier(server, admin, role, verifier).await?;
                // The database's clock after a confirmed set: sessions that began before are the old ones.
                let seen = database.role(server, admin, role).await;
                let t = seen.map_or_else(|_| self.cx.ports.clock.now(), |s| s.server_now);
                Ok(Sent::ok([("t_set", clock_text::millis(t))]))
            }
            Call::EndSessions { server, role } => {
                let Load::Sessions(admin, before) = load else {
                    return Err(unprepared());
                };
                let database = &self.estate.database;
                let ended = database.end_sessions(server, admin, role, *before).await?;
                Ok(Sent::ok([
                    ("ended", ended.matched.to_string()),
                    ("out_of_reach", ended.out_of_reach.to_string()),
                    ("clients", ended.clients.join(", ")),
                ]))
            }
            Call::WriteSink { sink, .. } => self.write_sink(at, *sink, load).await,
            Call::PutAccount { r#move } => self.put_account(at, *r#move).await,
            // These are a workload's, not an item's.
            Call::MoveAccount { .. } | Call::Restart { .. } | Call::UndoRestart { .. } => {
                Err(unprepared())
            }
        }
    }

    /// Compare-and-swap; after a refusal a look tells whether the label is where it shall be.
    async fn label(
        &self,
        secret: &str,
        label: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Sent, PortError> {
        let vault = &self.estate.vault;
        let moved = vault.move_label(secret, label, from, to).await;
        match moved {
            Ok(answer) => Ok(Sent::of(&answer, [])),
            Err(e) if matches!(e.cause, Cause::Conflict | Cause::Rejected | Cause::NotFound) => {
                let seen = vault.describe(secret).await?.value;
                let holder = seen.holder(label);
                let there = match to {
                    Some(to) => holder == Some(to),
                    None => holder != from,
                };
                if there {
                    Ok(Sent::ok([("already", "yes".into())]))
                } else {
                    Err(PortError::new(Cause::Conflict, e.tried, e.on, e.detail))
                }
            }
            Err(e) => Err(e),
        }
    }

    async fn write_sink(&self, at: &Carrier, index: usize, load: &Load) -> Result<Sent, PortError> {
        let Load::Sink(object, wanted) = load else {
            return Err(unprepared());
        };
        let sink = &self.item(at.item).sinks[index];
        let same = |(key, value): (&String, &crate::port::Secret)| {
            object.data.get(key).is_some_and(|t| t.same_as(value))
        };
        if !wanted.iter().all(same) {
            let write = SecretWrite {
                object: &object.object,
                expect: wanted
                    .keys()
                    .map(|k| (k.clone(), object.data.get(k)))
                    .collect(),
                set: wanted.iter().map(|(k, v)| (k.clone(), v)).collect(),
            };
            self.workloads()?.write_secret(&write).await?;
        }
        // What the consumer will see, not what we sent.
        let after = self.sink_object(sink).await?;
        let landed = wanted
            .iter()
            .all(|(k, v)| after.data.get(k).is_some_and(|t| t.same_as(v)));
        if !landed {
            return Err(PortError::new(
                Cause::Conflict,
                "write the Secret",
                sink.place(),
                "somebody wrote it again at once",
            ));
        }
        Ok(Sent::ok([("resource_version", after.version)]))
    }

    async fn put_account(&self, at: &Carrier, index: usize) -> Result<Sent, PortError> {
        let What::RoleSessions(role) = &self.item(at.item).what else {
            return Err(unprepared());
        };
        let m = role.moves.get(index).ok_or_else(unprepared)?;
        let made = self
            .workloads()?
            .put_service_account(&m.namespace, &m.to, &m.annotations)
            .await?;
        Ok(Sent::ok([("uid", made.uid)]))
    }

    /// A key of ours, for whichever item looks at the same user.
    pub(super) fn remember(&self, key: &str) {
        if let Ok(mut ours) = self.ours.lock() {
            ours.insert(key.to_owned());
        }
    }

    /// Waits a while, longer each time; false when it was long enough or somebody says stop.
    async fn again(&self, tries: &mut u32) -> bool {
        if *tries >= PATIENCE || self.halted() {
            return false;
        }
        self.wait(self.plan.waits.poll_ms << (*tries).min(4)).await;
        *tries += 1;
        true
    }

    /// Sends a change again that certainly did not happen; anything else is the caller's to look at.
    pub(super) async fn patiently_change<T, F>(
        &self,
        mut change: impl FnMut() -> F,
    ) -> Result<T, PortError>
    where
        F: Future<Output = Result<T, PortError>>,
    {
        let mut tries = 0;
        loop {
            match change().await {
                Err(e) if e.cause.is_transient() && self.again(&mut tries).await => {}
                other => return other,
            }
        }
    }

    /// Retries a read: it did nothing, whatever became of its answer.
    pub(super) async fn patiently<T, F>(&self, mut read: impl FnMut() -> F) -> Result<T, PortError>
    where
        F: Future<Output = Result<T, PortError>>,
    {
        let mut tries = 0;
        loop {
            match read().await {
                Err(e)
                    if (e.cause.is_transient() || e.cause.may_have_happened())
                        && self.again(&mut tries).await => {}
                other => return other,
            }
        }
    }
}

fn document(load: &Load) -> Result<&str, PortError> {
    match load {
        Load::Document(text) => Ok(text),
        _ => Err(unprepared()),
    }
}

fn value(load: &Load) -> Result<&crate::port::Secret, PortError> {
    match load {
        Load::Value(value) => Ok(value),
        _ => Err(unprepared()),
    }
}

fn unprepared() -> PortError {
    PortError::new(
        Cause::Local,
        "send",
        "a change",
        "it was not prepared as its kind needs it",
    )
}
