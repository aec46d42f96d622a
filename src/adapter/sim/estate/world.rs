//! The estate's state, as it stands in `state/sim-estate.json`. It holds secrets, as the disks of the servers that it stands for do:
//! it is never copied out, and what looks for leaked secrets leaves this one file out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Duration, Timelike, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::port::{Cause, LeaseTerms, PortError, Principal};

use super::attacker::Attacker;
use super::consumer::{Accounts, Deployment, Health, KubeSecret, Reader};
use super::database::DatabaseCluster;
use super::fault::{Bucket, Fault};
use super::key::{Key, Session};
use super::log::Logged;
use super::scram::Checked;
use super::trail::Trail;
use super::vault::StoredSecret;

/// Version of the file.
pub const ESTATE_FORMAT: &str = "sim-estate/v1";

/// A secret as a server keeps it. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kept(pub String);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(kept)")
    }
}

/// The servers' time: the clock that the estate was given, and what was added to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// How far the servers' clock is ahead of ours, in milliseconds.
    pub ahead_ms: i64,
    /// Time that passed beyond the clock's: skipped waits.
    pub passed_ms: i64,
    /// Time that passes with each call.
    pub per_call_ms: i64,
}

/// A user or a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Name.
    pub name: String,
    /// Path, `/` at least.
    pub path: String,
    /// Unique id, `AIDA…` or `AROA…`.
    pub id: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Groups, of a user.
    pub groups: Vec<String>,
    /// Inline policies.
    pub inline: BTreeMap<String, String>,
    /// ARNs of attached managed policies.
    pub attached: Vec<String>,
    /// Trust policy, of a role.
    pub trust: Option<String>,
    /// Longest session, of a role.
    pub max_session_s: Option<u64>,
    /// MFA devices, of a user.
    pub mfa: Vec<String>,
    /// When the console password was made.
    pub console_created: Option<DateTime<Utc>>,
    /// When it was last used.
    pub console_used: Option<DateTime<Utc>>,
}

/// Who we are in the estate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorKey {
    /// Id of the key or session that we sign with.
    pub key: String,
    /// Application name in the user agent; the trail shows it.
    pub app: String,
}

/// An effect of the account, as data: so that it can come late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// A key's status.
    SetKey {
        /// Key id.
        key: String,
        /// Active or Inactive.
        active: bool,
    },
    /// A key's end.
    DeleteKey {
        /// Key id.
        key: String,
    },
    /// An inline policy.
    PutInline {
        /// Member, as [`member_key`] names it.
        member: String,
        /// Its name.
        name: String,
        /// Its document.
        document: String,
    },
    /// An inline policy's end.
    DeleteInline {
        /// Member, as [`member_key`] names it.
        member: String,
        /// Its name.
        name: String,
    },
    /// A role's trust policy.
    SetTrust {
        /// Member, as [`member_key`] names it.
        member: String,
        /// The document.
        document: String,
    },
}

/// An effect that was answered with *done* and is not yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deferred {
    /// Calls of ours until it takes hold.
    pub calls_left: u32,
    /// What it is.
    pub effect: Effect,
}

/// Everything that rotation meets outside: one cloud account, its secret store, database servers, consumers, an attacker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EstateWorld {
    /// [`ESTATE_FORMAT`].
    pub format: String,
    /// What names, ids and secrets are made from.
    pub seed: String,
    /// Twelve digits.
    pub account: String,
    /// Enabled regions, ours first.
    pub regions: Vec<String>,
    /// Time.
    pub time: Time,
    /// Items on a page of a list.
    pub page_size: usize,
    /// Users and roles, by [`member_key`].
    pub members: BTreeMap<String, Member>,
    /// Access keys by id.
    pub keys: BTreeMap<String, Key>,
    /// Deleted keys, for those who search for their secrets.
    pub buried: BTreeMap<String, Key>,
    /// Temporary credentials by id.
    pub sessions: BTreeMap<String, Session>,
    /// Managed policies: ARN → document.
    pub managed: BTreeMap<String, String>,
    /// Documents of organisation policies; they hold for every principal, and simulation does not see them.
    pub organisation: Vec<String>,
    /// Who we are.
    pub operator: OperatorKey,
    /// The audit trail.
    pub trail: Trail,
    /// Secrets by name.
    pub secrets: BTreeMap<String, StoredSecret>,
    /// Database clusters.
    pub databases: Vec<DatabaseCluster>,
    /// Kubernetes Secrets, by `namespace/name`.
    pub kube_secrets: BTreeMap<String, KubeSecret>,
    /// Workloads.
    pub deployments: Vec<Deployment>,
    /// ServiceAccounts.
    pub accounts: Accounts,
    /// Consumers outside the cluster, which read the secret store themselves.
    pub readers: Vec<Reader>,
    /// Leases by what is leased, with their tags.
    pub leases: BTreeMap<String, (LeaseTerms, String)>,
    /// The intruder.
    pub attacker: Attacker,
    /// What goes wrong on purpose.
    pub faults: Vec<Fault>,
    /// Hidden rate limits.
    pub buckets: Vec<Bucket>,
    /// Actions that our rights lack: `iam:CreateAccessKey`.
    pub missing: BTreeSet<String>,
    /// Effects that are still to come.
    pub deferred: Vec<Deferred>,
    /// Calls of ours so far.
    pub calls: u64,
    /// Each call that reached the estate.
    pub log: Vec<Logged>,
    /// How each consumer fared at every moment, by its name.
    pub health: BTreeMap<String, Health>,
    /// Things minted so far.
    pub minted: u64,
    /// Verifiers that were tried before: a cache, no part of the state.
    #[serde(skip)]
    pub(super) checked: Checked,
}

/// `user/<name>` or `role/<name>`.
pub fn member_key(principal: &Principal) -> String {
    match principal {
        Principal::User(name) => format!("user/{name}"),
        Principal::Role(name) => format!("role/{name}"),
    }
}

impl EstateWorld {
    /// An account with nobody in it but us: the role `firebreak-response`, with a session.
    pub fn empty(account: &str, region: &str, now: DateTime<Utc>, seed: &str) -> Self {
        let mut world = EstateWorld {
            format: ESTATE_FORMAT.to_owned(),
            seed: seed.to_owned(),
            account: account.to_owned(),
            regions: vec![region.to_owned()],
            time: Time::default(),
            page_size: 50,
            members: BTreeMap::new(),
            keys: BTreeMap::new(),
            buried: BTreeMap::new(),
            sessions: BTreeMap::new(),
            managed: BTreeMap::new(),
            organisation: Vec::new(),
            operator: OperatorKey {
                key: String::new(),
                app: "firebreak".to_owned(),
            },
            trail: Trail::default(),
            secrets: BTreeMap::new(),
            databases: Vec::new(),
            kube_secrets: BTreeMap::new(),
            deployments: Vec::new(),
            accounts: Accounts::default(),
            readers: Vec::new(),
            leases: BTreeMap::new(),
            attacker: Attacker::default(),
            faults: Vec::new(),
            buckets: Vec::new(),
            missing: BTreeSet::new(),
            deferred: Vec::new(),
            calls: 0,
            log: Vec::new(),
            health: BTreeMap::new(),
            minted: 0,
            checked: Checked::default(),
        };
        // Its people sign in elsewhere: nobody of the account gets in by a policy of his own.
        let trust = format!(
            r#"{{"Statement":[{{"Effect":"Allow","Principal":{{"Federated":"arn:aws:iam::{account}:saml-provider/staff"}},"Action":"sts:AssumeRoleWithSAML"}}]}}"#
        );
        world.add_role("firebreak-response", "/", ALLOW_ALL, &trust);
        let session = world.open_session("role/firebreak-response", "operator", now, 12 * 3600, "");
        world.operator.key = session;
        world
    }
    /// Reads a world from its file's bytes.
    ///
    /// # Errors
    /// When they are no estate of a format that we know.
    pub fn read(bytes: &[u8]) -> Result<Self, PortError> {
        let bad = |detail: String| {
            PortError::new(
                Cause::Local,
                "read the simulated estate",
                super::ESTATE_FILE,
                detail,
            )
        };
        let world: EstateWorld = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if world.format == ESTATE_FORMAT {
            Ok(world)
        } else {
            Err(bad(format!(
                "it is `{}`, not `{ESTATE_FORMAT}`",
                world.format
            )))
        }
    }
    /// The file's bytes.
    ///
    /// # Panics
    /// Never: the world is plain data.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an estate is plain data")
    }
    /// The region that we are configured for.
    pub fn region(&self) -> &str {
        self.regions.first().map_or("us-east-1", String::as_str)
    }
    /// The servers' time when the host's clock says `host`.
    pub fn server_time(&self, host: DateTime<Utc>) -> DateTime<Utc> {
        host + Duration::milliseconds(self.time.ahead_ms + self.time.passed_ms)
    }
    /// Adds a user with one inline policy.
    pub fn add_user(&mut self, name: &str, path: &str, tags: &[(&str, &str)], policy: &str) {
        let id = self.mint("AIDA", 17);
        let tags = tags
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let member = Member {
            name: name.to_owned(),
            path: path.to_owned(),
            id,
            tags,
            inline: BTreeMap::from([("permissions".to_owned(), policy.to_owned())]),
            ..Member::default()
        };
        self.members.insert(format!("user/{name}"), member);
    }
    /// Adds a role with one inline policy and its trust.
    pub fn add_role(&mut self, name: &str, path: &str, policy: &str, trust: &str) {
        let id = self.mint("AROA", 17);
        let member = Member {
            name: name.to_owned(),
            path: path.to_owned(),
            id,
            inline: BTreeMap::from([("permissions".to_owned(), policy.to_owned())]),
            trust: Some(trust.to_owned()),
            max_session_s: Some(12 * 3600),
            ..Member::default()
        };
        self.members.insert(format!("role/{name}"), member);
    }
    /// ARN of a member.
    pub fn arn(&self, member: &str) -> String {
        let path = self.members.get(member).map_or("/", |m| m.path.as_str());
        let (kind, name) = member.split_once('/').unwrap_or(("user", member));
        format!("arn:aws:iam::{}:{kind}{path}{name}", self.account)
    }
    /// The member of an ARN of this account: a user, a role, or a role's session.
    pub fn member_of_arn(&self, arn: &str) -> Option<String> {
        let rest = arn.splitn(6, ':').nth(5)?;
        let (kind, tail) = rest.split_once('/')?;
        let name = match kind {
            "assumed-role" => tail.split('/').next()?,
            _ => tail.rsplit('/').next()?,
        };
        let kind = if kind == "user" { "user" } else { "role" };
        let key = format!("{kind}/{name}");
        (arn.contains(&self.account) && self.members.contains_key(&key)).then_some(key)
    }
    /// A text of `length` letters and digits after `prefix`, never given twice: derived from the seed and a counter, so that a resumed
    /// estate goes on in the same row.
    pub fn mint(&mut self, prefix: &str, length: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let digest = self.mint_digest();
        let letters = digest
            .iter()
            .take(length)
            .map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()]));
        prefix.chars().chain(letters).collect()
    }
    /// A secret of 40 characters, as the cloud makes them.
    pub fn mint_secret(&mut self) -> Kept {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let more = [self.mint_digest(), self.mint_digest()].concat();
        let text = more
            .iter()
            .take(40)
            .map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()]))
            .collect();
        Kept(text)
    }
    /// A UID in the API's form.
    pub fn mint_uid(&mut self) -> String {
        self.minted += 1;
        super::super::world::uid_of(&format!("{}/{}", self.seed, self.minted))
    }
    fn mint_digest(&mut self) -> [u8; 32] {
        self.minted += 1;
        Sha256::digest(format!("{}/{}", self.seed, self.minted)).into()
    }
    /// Lets late things come one call nearer.
    pub(super) fn tick(&mut self) {
        for deferred in &mut self.deferred {
            deferred.calls_left = deferred.calls_left.saturating_sub(1);
        }
        let (due, left): (Vec<Deferred>, _) = std::mem::take(&mut self.deferred)
            .into_iter()
            .partition(|d| d.calls_left == 0);
        self.deferred = left;
        for deferred in due {
            self.take_hold(deferred.effect);
        }
        for key in self.keys.values_mut() {
            key.unlisted_for = key.unlisted_for.saturating_sub(1);
            key.unusable_for = key.unusable_for.saturating_sub(1);
        }
        for secret in self.secrets.values_mut() {
            secret.tick();
        }
        for cluster in &mut self.databases {
            cluster.tick();
        }
        for secret in self.kube_secrets.values_mut() {
            secret.tick();
        }
    }
    /// Lets an effect take hold now.
    pub(super) fn take_hold(&mut self, effect: Effect) {
        match effect {
            Effect::SetKey { key, active } => {
                if let Some(key) = self.keys.get_mut(&key) {
                    key.active = active;
                }
            }
            Effect::DeleteKey { key } => {
                if let Some(gone) = self.keys.remove(&key) {
                    self.buried.insert(key, gone);
                }
            }
            Effect::PutInline {
                member,
                name,
                document,
            } => {
                if let Some(member) = self.members.get_mut(&member) {
                    member.inline.insert(name, document);
                }
            }
            Effect::DeleteInline { member, name } => {
                if let Some(member) = self.members.get_mut(&member) {
                    member.inline.remove(&name);
                }
            }
            Effect::SetTrust { member, document } => {
                if let Some(member) = self.members.get_mut(&member) {
                    member.trust = Some(document);
                }
            }
        }
    }
}

/// What may do everything.
pub const ALLOW_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

/// A trust policy for everybody of this account.
pub fn trust_account(account: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{account}:root"}},"Action":"sts:AssumeRole"}}]}}"#
    )
}

/// A time as the cloud tells it: whole seconds.
pub fn whole_seconds(at: DateTime<Utc>) -> DateTime<Utc> {
    at.with_nanosecond(0).unwrap_or(at)
}
