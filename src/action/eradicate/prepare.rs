//! What a change needs before its intent can be written: what is there now, the value that it carries, the cut-off time.

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use crate::incident::clock_text;
use crate::incident::rotate::RotateIntent;
use crate::port::{
    Answer, Cause, Login, PortError, Principal, PrincipalSeen, Secret, SecretObject, SecretVersion,
    VersionRef,
};
use crate::rotation::call::{Call, Change, Value};
use crate::rotation::password;
use crate::rotation::plan::{DatabasePassword, Item, What};
use crate::rotation::sessions;

use super::carry::{Carrier, Rotation, token};
use super::hand::{self, Credential};

/// A change that can be sent.
pub(super) struct Prepared {
    /// Its intent.
    pub(super) intent: RotateIntent,
    /// What it carries.
    pub(super) load: Load,
}

/// What a change carries. Nothing of it is written down but fingerprints.
pub(super) enum Load {
    /// Nothing.
    Nothing,
    /// A policy document.
    Document(String),
    /// A secret's value.
    Value(Secret),
    /// A verifier, and the login of who sets it.
    Verifier(Secret, Login),
    /// The login of who ends sessions, and the instant before which they began.
    Sessions(Login, DateTime<Utc>),
    /// A sink as it is, and the values that it gets.
    Sink(SecretObject, BTreeMap<String, Secret>),
}

/// Why a change cannot be sent; nothing was.
pub(super) struct Problem {
    /// Code as the machine reads it: `conflict`, `throttled`, `unreachable`, `LimitExceeded`, or the other side's.
    pub(super) code: String,
    /// For people.
    pub(super) detail: String,
}

impl Problem {
    pub(super) fn new(code: &str, detail: impl Into<String>) -> Self {
        Problem {
            code: code.into(),
            detail: detail.into(),
        }
    }
}

impl From<PortError> for Problem {
    fn from(e: PortError) -> Self {
        Problem::new(code_of(&e), e.to_string())
    }
}

/// The machine's word for a refusal.
pub(super) fn code_of(e: &PortError) -> &'static str {
    match e.cause {
        Cause::Conflict => "conflict",
        Cause::Throttled => "throttled",
        Cause::Unreachable | Cause::LostReply | Cause::Timeout | Cause::Unreadable => "unreachable",
        Cause::NotFound => "not-found",
        Cause::Refused => "denied",
        Cause::Rejected if e.detail.contains("LimitExceeded") => "LimitExceeded",
        Cause::Rejected => "rejected",
        Cause::Unsupported => "unsupported",
        Cause::Local => "local",
    }
}

impl Rotation {
    /// Looks up what `change` needs.
    pub(super) async fn prepare(
        &self,
        at: &mut Carrier,
        change: &Change,
    ) -> Result<Prepared, Problem> {
        self.guard(&change.call)?;
        let mut intent = self.intent(at, change);
        let load = match &change.call {
            Call::CreateKey { user } => {
                let keys = self
                    .patiently(|| self.estate.cloud.access_keys(user))
                    .await?;
                let ids: Vec<&str> = keys.value.iter().map(|k| k.id.as_str()).collect();
                intent.before.insert("keys".into(), ids.join(","));
                if let Some(date) = keys.server_date {
                    let date = clock_text::seconds(date);
                    intent.before.insert("server_date".into(), date);
                }
                Load::Nothing
            }
            Call::DenySessions { principal } => {
                self.mint(at, change.step).await;
                self.deny(principal, &mut intent).await?
            }
            Call::SetTrust {
                role,
                document,
                expect,
            } => {
                self.mint(at, change.step).await;
                let principal = Principal::Role(role.clone());
                let seen = self.principal(&principal).await?.value;
                let there = seen.trust.unwrap_or_default();
                if !sessions::same_policy(&there, expect) {
                    return Err(Problem::new(
                        "conflict",
                        "the trust policy is not the one planned on",
                    ));
                }
                intent.before.insert("trust_sha256".into(), digest(&there));
                intent
                    .params
                    .insert("trust_sha256".into(), digest(document));
                Load::Document(document.clone())
            }
            Call::CreateSecret { .. } | Call::PutVersion { .. } => {
                self.escrow_value(at, change, &mut intent).await?
            }
            Call::SetVerifier { value, .. } => self.verifier(at, *value, &mut intent).await?,
            Call::EndSessions { server, .. } => {
                let password = database(self.item(at.item))?;
                let admin = self.admin(password).await?;
                let before = self.old_until(at, server);
                intent
                    .params
                    .insert("before".into(), clock_text::millis(before));
                Load::Sessions(admin, before)
            }
            Call::WriteSink { sink, value } => self.sink(at, *sink, *value, &mut intent).await?,
            _ => Load::Nothing,
        };
        Ok(Prepared { intent, load })
    }

    /// T is the later of the one in place and the account's clock; the policy must fit.
    async fn deny(
        &self,
        principal: &Principal,
        intent: &mut RotateIntent,
    ) -> Result<Load, Problem> {
        let answer = self.principal(principal).await?;
        let now = answer
            .server_date
            .unwrap_or_else(|| self.cx.ports.clock.now());
        let there = t_in_place(&answer.value);
        // Issue times have a resolution of one second: what was issued in this very second is older than the next one.
        let next = now.trunc_subsecs(0) + TimeDelta::seconds(1);
        let t = there.map_or(next, |there| there.max(next));
        let document = sessions::deny_older_than(t);
        sessions::fits(principal, &answer.value, &document)
            .map_err(|why| Problem::new("LimitExceeded", why))?;
        intent.params.insert("t".into(), clock_text::seconds(t));
        intent
            .params
            .insert("policy".into(), sessions::POLICY_NAME.into());
        if let Some(there) = there {
            intent.before.insert("t".into(), clock_text::seconds(there));
        }
        Ok(Load::Document(document))
    }

    /// The value that escrow gets. A password is made here, once: never while one of ours exists.
    async fn escrow_value(
        &self,
        at: &mut Carrier,
        change: &Change,
        intent: &mut RotateIntent,
    ) -> Result<Load, Problem> {
        let item = self.item(at.item).clone();
        let Some(escrow) = hand::escrow(&item) else {
            return Err(Problem::new("internal", "it has no escrow"));
        };
        if let (What::DatabasePassword(p), None) = (&item.what, &at.hand.new) {
            let secret = password::generate(self.cx.ports.random.as_ref())
                .map_err(|e| Problem::new("local", e.to_string()))?;
            at.hand.new = Some(Credential {
                id: p.role.clone(),
                secret,
            });
        }
        let current = match (&escrow.current, escrow.exists) {
            (Some(version), true) => Some(self.version(&escrow.secret, version).await?.value),
            _ => None,
        };
        if !escrow.exists {
            at.hand.before = self.sinks_before(&item).await?;
        }
        let Some(new) = &at.hand.new else {
            return Err(Problem::new("internal", "the new value is not at hand"));
        };
        let value = hand::to_json(escrow, new, current.as_ref(), &at.hand.before)
            .map_err(|why| Problem::new("rejected", format!("`{}`: {why}", escrow.secret)))?;
        intent.fp = Some(self.fp(&item, &new.secret));
        intent.idempotency = Some(token(&self.cx.run.to_string(), &item, at.journal.attempt));
        debug_assert!(change.call.issues());
        Ok(Load::Value(value))
    }

    async fn verifier(
        &self,
        at: &mut Carrier,
        value: Value,
        intent: &mut RotateIntent,
    ) -> Result<Load, Problem> {
        let item = self.item(at.item).clone();
        let password = database(&item)?;
        let secret = match value {
            Value::New => at.hand.new.as_ref().map(|n| n.secret.duplicate()),
            Value::Old => self.old(at).await?.map(|o| o.secret.duplicate()),
        };
        let Some(secret) = secret else {
            return Err(Problem::new(
                "not-found",
                "the password to set is not at hand",
            ));
        };
        let admin = self.admin(password).await?;
        // Same role, same cluster, and no replica: else the password would land somewhere else.
        let database = &self.estate.database;
        let seen = self
            .patiently(|| database.role(&password.primary, &admin, &password.role))
            .await?;
        if seen.system_identifier != password.system_identifier || seen.in_recovery || !seen.exists
        {
            return Err(Problem::new(
                "conflict",
                format!("{} is not the server that was planned on", password.primary),
            ));
        }
        intent.fp = Some(self.fp(&item, &secret));
        intent
            .before
            .insert("password_type".into(), seen.password_type);
        Ok(Load::Verifier(password::scram_verifier(&secret), admin))
    }

    pub(super) fn workloads(
        &self,
    ) -> Result<&std::sync::Arc<dyn crate::port::Workloads>, PortError> {
        self.estate.workloads.as_ref().ok_or_else(|| {
            PortError::new(
                Cause::Unsupported,
                "reach consumers in",
                "the cluster",
                "this command has no cluster; name one with --context or --kubeconfig",
            )
        })
    }

    /// The old credential, read once from the version that was current when the plan was made.
    pub(super) async fn old<'a>(
        &self,
        at: &'a mut Carrier,
    ) -> Result<Option<&'a Credential>, Problem> {
        if at.hand.old.is_none()
            && let Some(escrow) = hand::escrow(self.item(at.item))
            && let (true, Some(version)) = (escrow.exists, &escrow.current)
        {
            match self.version(&escrow.secret, version).await {
                Ok(read) => at.hand.old = hand::from_json(escrow, &read.value).ok(),
                Err(e) if e.cause == Cause::NotFound => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(at.hand.old.as_ref())
    }

    async fn principal(&self, principal: &Principal) -> Result<Answer<PrincipalSeen>, PortError> {
        self.patiently(|| self.estate.cloud.principal(principal))
            .await
    }

    /// A version by its id.
    pub(super) async fn version(
        &self,
        secret: &str,
        version: &str,
    ) -> Result<SecretVersion, PortError> {
        let id = VersionRef::Id(version.to_owned());
        self.patiently(|| self.estate.vault.read(secret, &id)).await
    }

    /// The login of who may change roles, read when it is needed and kept no longer.
    pub(super) async fn admin(&self, password: &DatabasePassword) -> Result<Login, Problem> {
        let label = VersionRef::Label(crate::port::CURRENT.into());
        let read = self
            .patiently(|| self.estate.vault.read(&password.admin, &label))
            .await?;
        let fields = crate::rotation::plan::Escrow {
            secret: password.admin.clone(),
            exists: true,
            fields: (hand::USERNAME.into(), hand::PASSWORD.into()),
            current: None,
        };
        let login = hand::from_json(&fields, &read.value)
            .map_err(|why| Problem::new("rejected", format!("`{}`: {why}", password.admin)))?;
        Ok(Login {
            role: login.id,
            password: login.secret,
        })
    }

    /// What may be written of a value.
    pub(super) fn fp(&self, item: &Item, secret: &Secret) -> String {
        self.estate.fingerprint.of(item.kind.as_str(), secret)
    }
}

fn database(item: &Item) -> Result<&DatabasePassword, Problem> {
    match &item.what {
        What::DatabasePassword(password) => Ok(password),
        _ => Err(Problem::new("internal", "it is no database password")),
    }
}

/// The T of our deny, where there is one.
pub(super) fn t_in_place(seen: &PrincipalSeen) -> Option<DateTime<Utc>> {
    seen.inline
        .get(sessions::POLICY_NAME)
        .and_then(|document| sessions::cutoff(document))
}

fn digest(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
