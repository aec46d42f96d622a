//! The cloud account: who we are, users and their access keys, policies of principals, sessions, the audit trail.
//!
//! *Retries*: none in the adapter for calls that change something; a failed call says by its [`super::Cause`] whether it may have
//! happened, and the caller looks before it sends anything again. *Already gone* is not an error of a delete. *Consistency*: what a
//! list does not show may still exist for a minute; absence is judged by the caller. One value of this port serves one account.
//! Source of the shapes: IAM, STS and CloudTrail API references of AWS.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{PortError, Secret};

/// An answer, with what the ledger keeps of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was answered.
    pub value: T,
    /// The server's request id, where it gave one.
    pub request_id: Option<String>,
    /// The server's `Date`: the clock that cut-off times are taken from.
    pub server_date: Option<DateTime<Utc>>,
}

impl<T> Answer<T> {
    /// The same answer with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        Answer {
            value: f(self.value),
            request_id: self.request_id,
            server_date: self.server_date,
        }
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// Give this back for the next page; `None` = this was the last.
    pub next: Option<String>,
}

/// Who a call was made as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    /// `arn:aws:iam::…:user/…` or `arn:aws:sts::…:assumed-role/…/…`.
    pub arn: String,
    /// Twelve digits.
    pub account: String,
    /// Unique id (`AIDA…`, `AROA…:session`).
    pub user_id: String,
    /// The access key id we sign with.
    pub access_key_id: String,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSeen {
    /// Name.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Path, `/` at least.
    pub path: String,
    /// Tags. `None` = they could not be read, which is not the same as none.
    pub tags: Option<BTreeMap<String, String>>,
    /// Groups. `None` = they could not be read.
    pub groups: Option<Vec<String>>,
}

/// An access key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKeySeen {
    /// `AKIA…`.
    pub id: String,
    /// True = Active.
    pub active: bool,
    /// When it was made.
    pub created: Option<DateTime<Utc>>,
}

/// When a key was last used. AWS updates it with a lag it does not state: a hint, the trail decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastUsed {
    /// When; `None` = never.
    pub at: Option<DateTime<Utc>>,
    /// Service.
    pub service: Option<String>,
    /// Region.
    pub region: Option<String>,
}

/// A fresh access key. The secret exists in this value and nowhere else.
pub struct NewAccessKey {
    /// `AKIA…`.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// When the cloud says it was made.
    pub created: Option<DateTime<Utc>>,
}

/// Credentials that a probe signs with.
pub struct Signer {
    /// Access key id.
    pub id: String,
    /// Secret.
    pub secret: Secret,
    /// Session token, for temporary credentials.
    pub token: Option<Secret>,
}

/// A principal whose policies we look at or change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Principal {
    /// A user, by name.
    User(String),
    /// A role, by name.
    Role(String),
}

impl Principal {
    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Principal::User(name) | Principal::Role(name) => name,
        }
    }
}

/// A principal as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalSeen {
    /// ARN.
    pub arn: String,
    /// Path.
    pub path: String,
    /// Inline policies: name → document (JSON text as the cloud holds it).
    pub inline: BTreeMap<String, String>,
    /// ARNs of attached managed policies.
    pub attached: Vec<String>,
    /// Trust policy (JSON text), of a role.
    pub trust: Option<String>,
    /// Longest session in seconds, of a role.
    pub max_session_s: Option<u64>,
    /// Serial numbers of MFA devices, of a user.
    pub mfa: Vec<String>,
    /// When the console password was made; `None` = there is none, or it is a role.
    pub console_password_created: Option<DateTime<Utc>>,
    /// When the console password was last used.
    pub console_password_used: Option<DateTime<Utc>>,
    /// Tags. `None` = they could not be read.
    pub tags: Option<BTreeMap<String, String>>,
}

/// A call that a probe makes with somebody's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeCall {
    /// `sts:GetCallerIdentity` at this endpoint (`None` = the configured region's). It answers even under deny-all: it shows whether a
    /// **key** lives, never whether a session was revoked by policy.
    CallerIdentity {
        /// Region of the endpoint.
        region: Option<String>,
    },
    /// `iam:ListAccountAliases`: harmless, authorised by policy.
    ListAccountAliases,
    /// `secretsmanager:DescribeSecret` of this id.
    DescribeSecret(String),
    /// `sts:AssumeRole` of this ARN.
    AssumeRole(String),
}

/// What a probe met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// It was answered: the credential works for this call. The ARN where the call tells it.
    Works(Option<String>),
    /// It was refused, with the protocol's own code: `InvalidClientTokenId`, `SignatureDoesNotMatch`, `AccessDenied`, `ExpiredToken`, …
    Refused {
        /// The code.
        code: String,
        /// The server's words.
        text: String,
    },
}

/// One attribute that the trail is searched by. `LookupEvents` takes exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrailBy {
    /// Events made with this access key id.
    AccessKey(String),
    /// Events of this name.
    EventName(String),
    /// Events of this user or session name.
    Username(String),
    /// Events about this resource.
    Resource(String),
}

/// A question to the trail: management events of at most 90 days, 50 a page, two requests a second and region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailQuery {
    /// Region; IAM's own events land in `us-east-1`.
    pub region: String,
    /// Attribute, or everything.
    pub by: Option<TrailBy>,
    /// From.
    pub from: DateTime<Utc>,
    /// To.
    pub to: DateTime<Utc>,
    /// Page.
    pub page: Option<String>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailEvent {
    /// Event id.
    pub id: String,
    /// `CreateAccessKey`, `AssumeRole`, …
    pub name: String,
    /// `iam.amazonaws.com`, …
    pub source: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Access key id it was made with, if any.
    pub access_key: Option<String>,
    /// User name or session name, if any.
    pub username: Option<String>,
    /// The whole event as the trail holds it (JSON text), if it gave it.
    pub raw: Option<String>,
}

/// Fresh temporary credentials.
pub struct Session {
    /// What to sign with.
    pub signer: Signer,
    /// ARN of the assumed role's session.
    pub arn: String,
    /// Until when.
    pub expires: Option<DateTime<Utc>>,
}

/// One cloud account.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// Who we are; its `server_date` is the clock of the account.
    async fn identity(&self) -> Result<Answer<CallerIdentity>, PortError>;
    /// Regions that the account has enabled, the configured one first.
    async fn regions(&self) -> Result<Vec<String>, PortError>;
    /// Users, a page at a time, without tags and groups (both `None`).
    async fn list_users(&self, page: Option<String>) -> Result<Page<UserSeen>, PortError>;
    /// One user with tags and groups.
    async fn user(&self, name: &str) -> Result<UserSeen, PortError>;
    /// Roles, a page at a time: name and ARN.
    async fn list_roles(&self, page: Option<String>) -> Result<Page<(String, String)>, PortError>;
    /// All access keys of a user: two at most, though more have been seen.
    async fn access_keys(&self, user: &str) -> Result<Answer<Vec<AccessKeySeen>>, PortError>;
    /// When a key was last used.
    async fn key_last_used(&self, key: &str) -> Result<LastUsed, PortError>;
    /// Makes an access key. There is no idempotency token: after an unclear answer look, never send again.
    async fn create_access_key(&self, user: &str) -> Result<Answer<NewAccessKey>, PortError>;
    /// Sets a key Active or Inactive. Safe to repeat. `NotFound` when it is gone.
    async fn set_access_key(
        &self,
        user: &str,
        key: &str,
        active: bool,
    ) -> Result<Answer<()>, PortError>;
    /// Deletes a key. `false` when it was gone already.
    async fn delete_access_key(&self, user: &str, key: &str) -> Result<Answer<bool>, PortError>;
    /// A principal's policies, trust, MFA, console password.
    async fn principal(&self, principal: &Principal) -> Result<Answer<PrincipalSeen>, PortError>;
    /// Puts an inline policy under a fixed name. Safe to repeat. `Rejected` when it does not fit (`LimitExceeded`).
    async fn put_inline_policy(
        &self,
        principal: &Principal,
        name: &str,
        document: &str,
    ) -> Result<Answer<()>, PortError>;
    /// Removes an inline policy. `false` when it was gone already.
    async fn delete_inline_policy(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Answer<bool>, PortError>;
    /// Replaces a role's trust policy. IAM has no precondition: re-read afterwards.
    async fn set_trust(&self, role: &str, document: &str) -> Result<Answer<()>, PortError>;
    /// Of these actions, the ones that `principal` (ARN) would be denied, with this extra policy document in place. It may not see
    /// organisation policies.
    async fn simulate(
        &self,
        principal: &str,
        actions: &[String],
        extra: Option<&str>,
    ) -> Result<Vec<String>, PortError>;
    /// Makes one call with somebody's credentials and says how it was answered. No answer at all is an error.
    async fn probe(
        &self,
        signer: &Signer,
        call: &ProbeCall,
    ) -> Result<Answer<ProbeAnswer>, PortError>;
    /// One `GetCallerIdentity` signed for this key id with a random secret: `InvalidClientTokenId` = dead,
    /// `SignatureDoesNotMatch` = alive. Never beside a probe with the true secret of the same id: STS then refuses a good one.
    async fn probe_without_secret(
        &self,
        key: &str,
        region: Option<String>,
    ) -> Result<Answer<ProbeAnswer>, PortError>;
    /// Assumes a role with our own credentials.
    async fn assume_role(&self, arn: &str, session: &str) -> Result<Answer<Session>, PortError>;
    /// One page of the trail, newest first.
    async fn trail(&self, query: &TrailQuery) -> Result<Page<TrailEvent>, PortError>;
}
