//! The rotation plan: what people approve, and all that a run works from besides the ledger and the world.
//!
//! Canonical JSON (RFC 8785), known by the SHA-256 of its bytes; unknown fields are refused. It holds no secret: new values do not
//! exist yet, old ones are named by the place they are read from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::incident::body::ObjectRef;
use crate::port::Server;

use super::words::{CredentialKind, Reason, RotationMode};

/// The format's name; the first field of every plan.
pub const FORMAT: &str = "rotation-plan/v1";

/// A plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationPlan {
    /// [`FORMAT`].
    pub format: String,
    /// Incident.
    pub incident: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Until when it may be begun, RFC 3339.
    pub expires: String,
    /// Suspected start of the compromise, RFC 3339. A key used since then is never freed by itself.
    pub t0: Option<String>,
    /// Account.
    pub account: String,
    /// Region of the secret store.
    pub region: String,
    /// Who planned it, ARN.
    pub caller: String,
    /// The selection as CEL.
    pub selector: String,
    /// What was done with members that could not be judged: `refuse`, `include`, `exclude`.
    pub on_unknown: String,
    /// What a changed item does to the rest: `refuse` or `skip`.
    pub on_stale: String,
    /// Digest of the map, if one was used.
    pub map_sha256: Option<String>,
    /// Whether old credentials may be deleted by this plan.
    pub deletions: bool,
    /// Items, in the order they are begun.
    pub items: Vec<Item>,
    /// Workloads that restart, each once.
    pub workloads: Vec<Workload>,
    /// Credentials that are left alone for good, with the reason.
    pub excluded: Vec<Excluded>,
    /// Emergency access, tested while planning.
    pub break_glass: Vec<BreakGlass>,
    /// What each guard answered.
    pub guards: Vec<GuardResult>,
    /// Found and not rotated by this version.
    pub residual: Vec<String>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// Waits.
    pub waits: Waits,
    /// Items at a time.
    pub concurrency: u32,
}

/// Waits and repetitions. Shorter ones than the defaults are accepted for a loopback endpoint only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Waits {
    /// How long something may be missing before it counts as absent, from the intent on.
    pub absence_ms: u64,
    /// Between the two equal reads that absence takes.
    pub absence_apart_ms: u64,
    /// Successes in a row that show that a new key works, at each endpoint.
    pub verify_times: u32,
    /// Between them.
    pub verify_apart_ms: u64,
    /// When to give up.
    pub verify_cap_ms: u64,
    /// Refusals in a row that show that the old one is dead, at each endpoint.
    pub prove_times: u32,
    /// Between them.
    pub prove_apart_ms: u64,
    /// When to give up.
    pub prove_cap_ms: u64,
    /// Between two scans for what the intruder did.
    pub scan_apart_ms: u64,
    /// How long to scan before giving up on two clean ones.
    pub scan_cap_ms: u64,
    /// How long nobody may have used the old one (graceful).
    pub grace_ms: u64,
    /// Lag of the trail.
    pub trail_lag_ms: u64,
    /// How long a rollout may take.
    pub rollout_ms: u64,
    /// Between two looks at something that is awaited.
    pub poll_ms: u64,
}

impl Default for Waits {
    fn default() -> Self {
        Waits {
            absence_ms: 60_000,
            absence_apart_ms: 10_000,
            verify_times: 5,
            verify_apart_ms: 1_000,
            verify_cap_ms: 90_000,
            prove_times: 5,
            prove_apart_ms: 3_750,
            prove_cap_ms: 180_000,
            scan_apart_ms: 10_000,
            scan_cap_ms: 300_000,
            grace_ms: 24 * 3_600_000,
            trail_lag_ms: 900_000,
            rollout_ms: 300_000,
            poll_ms: 1_000,
        }
    }
}

impl Waits {
    /// No deliberate wait: for loopback endpoints (benchmarks, tests) only.
    pub fn none() -> Self {
        Waits {
            absence_ms: 0,
            absence_apart_ms: 0,
            verify_apart_ms: 0,
            prove_apart_ms: 0,
            scan_apart_ms: 0,
            grace_ms: 0,
            trail_lag_ms: 0,
            poll_ms: 20,
            ..Waits::default()
        }
    }
}

/// One credential to replace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// `item-0001`.
    pub id: String,
    /// Kind.
    pub kind: CredentialKind,
    /// Mode.
    pub mode: RotationMode,
    /// Name for people: user, role or secret.
    pub name: String,
    /// ARN, where there is one.
    pub arn: String,
    /// Why it is in the set.
    pub why: Vec<String>,
    /// What was observed and must still be so when it begins: name → value.
    pub binding: BTreeMap<String, String>,
    /// What is particular to its kind.
    pub what: What,
    /// Where consumers read it from, in the order they are written.
    pub sinks: Vec<Sink>,
    /// Indices into [`RotationPlan::workloads`].
    pub workloads: Vec<usize>,
    /// Its point of no return, in words.
    pub no_return: String,
    /// Decided while planning: it is shown, and not begun.
    pub needs_human: Option<Reason>,
}

/// What is particular to a kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// An access key.
    AccessKey(AccessKey),
    /// Sessions of a role.
    RoleSessions(RoleSessions),
    /// A database password.
    DatabasePassword(DatabasePassword),
}

/// An access key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// User.
    pub user: String,
    /// The key to replace.
    pub old: String,
    /// Ids of all keys when the plan was made.
    pub before: Vec<String>,
    /// Key that is removed to free a slot, where both are taken.
    pub victim: Option<String>,
    /// Where the new one is kept: an existing secret, or the name of one to make.
    pub escrow: Escrow,
    /// Roles that were assumed with it or from there, in the order found: their sessions are revoked too (emergency).
    pub chain: Vec<String>,
    /// What the chain could not follow.
    pub open_ends: Vec<String>,
}

/// Where a new value is kept before anyone relies on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escrow {
    /// Secret id (ARN or name).
    pub secret: String,
    /// False: it is made by the run, and stays until a person has taken it over.
    pub exists: bool,
    /// Field names of the id and of the secret in its JSON: (`access_key_id`, `secret_access_key`), or (`username`, `password`).
    pub fields: (String, String),
    /// Its current version when the plan was made.
    pub current: Option<String>,
}

/// Sessions of a role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSessions {
    /// Role name.
    pub role: String,
    /// Longest session in seconds.
    pub max_session_s: u64,
    /// Trust policy when the plan was made.
    pub trust_before: String,
    /// Trust policy as it shall be; `None` = it is not changed (and the plan says what that leaves open).
    pub trust_after: Option<String>,
    /// Workloads that move to a new service account, with the trust that only the new one is given.
    pub moves: Vec<AccountMove>,
    /// What the chain could not follow.
    pub open_ends: Vec<String>,
}

/// A workload that gets a new service account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountMove {
    /// Index into [`RotationPlan::workloads`].
    pub workload: usize,
    /// Namespace.
    pub namespace: String,
    /// From.
    pub from: String,
    /// To: deterministic, made by the run.
    pub to: String,
    /// Annotations of the new one.
    pub annotations: BTreeMap<String, String>,
}

/// A database password.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabasePassword {
    /// The secret that holds it; its `current` is what the old password is read from.
    pub escrow: Escrow,
    /// Role on the server.
    pub role: String,
    /// The server that takes writes.
    pub primary: Server,
    /// Replicas, each of which has sessions of its own.
    pub replicas: Vec<Server>,
    /// Secret id of the admin's login (`username`, `password`).
    pub admin: String,
    /// System identifier of the cluster when the plan was made.
    pub system_identifier: String,
}

impl DatabasePassword {
    /// Primary first, then the replicas.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        std::iter::once(&self.primary).chain(self.replicas.iter())
    }
}

/// A place that a consumer reads from: keys of a Kubernetes Secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// The Secret with its UID.
    pub object: ObjectRef,
    /// Field of the credential → key of the Secret. Fields: `access_key_id`, `secret_access_key`, `username`, `password`.
    pub keys: BTreeMap<String, String>,
}

impl Sink {
    /// Name for entries: `namespace/name`.
    pub fn place(&self) -> String {
        format!("{}/{}", self.object.namespace, self.object.name)
    }
}

/// A workload that restarts once, after all its secrets changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The workload with its UID.
    pub object: ObjectRef,
    /// How it uses which secrets, for people.
    pub how: Vec<String>,
    /// False: a person restarts it (a bare pod, a running Job, a process on a machine).
    pub rollable: bool,
}

impl Workload {
    /// Name for entries: `namespace/Kind/name`.
    pub fn place(&self) -> String {
        let o = &self.object;
        format!("{}/{}/{}", o.namespace, o.kind, o.name)
    }
}

/// Left alone for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excluded {
    /// Key id, ARN or name.
    pub id: String,
    /// Why.
    pub why: String,
}

/// An emergency access path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// Profile name.
    pub profile: String,
    /// The ARN that it answered with, as configured.
    pub arn: String,
    /// When it was tested, RFC 3339.
    pub tested: String,
}

/// A guard's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardResult {
    /// `self-lockout`, `break-glass`, `slots`, `not-ours`, `size`, `owner`, `lease`, `time`.
    pub guard: String,
    /// `passed`, `refused`, `not-checked`.
    pub verdict: String,
    /// Detail for people.
    pub detail: String,
}

impl RotationPlan {
    /// The plan's canonical bytes.
    ///
    /// # Errors
    /// When it cannot be written as canonical JSON, which a plan of ours always can.
    pub fn canonical(&self) -> Result<Vec<u8>, String> {
        serde_json_canonicalizer::to_vec(self).map_err(|e| e.to_string())
    }
    /// SHA-256 of [`Self::canonical`], hex.
    ///
    /// # Errors
    /// As there.
    pub fn digest(&self) -> Result<String, String> {
        Ok(hex(&Sha256::digest(self.canonical()?)))
    }
    /// Reads a plan back from its bytes; they must be its canonical form.
    ///
    /// # Errors
    /// When the bytes are not a plan of this format, or not canonical.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let plan: RotationPlan = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if plan.format != FORMAT {
            return Err(format!("format `{}` is not `{FORMAT}`", plan.format));
        }
        if plan.canonical()? != bytes {
            return Err("it is not in canonical form".into());
        }
        plan.check_references()?;
        Ok(plan)
    }
    /// Items may name only what the plan has.
    fn check_references(&self) -> Result<(), String> {
        for item in &self.items {
            let mut named = item.workloads.clone();
            if let What::RoleSessions(role) = &item.what {
                named.extend(role.moves.iter().map(|m| m.workload));
            }
            if let Some(w) = named.iter().find(|w| **w >= self.workloads.len()) {
                return Err(format!(
                    "{} names workload {w}, which it does not have",
                    item.id
                ));
            }
        }
        Ok(())
    }
    /// `graceful`, `emergency` or `mixed`.
    pub fn mode(&self) -> &'static str {
        let emergency = self
            .items
            .iter()
            .filter(|i| i.mode == RotationMode::Emergency)
            .count();
        match emergency {
            0 => "graceful",
            n if n == self.items.len() => "emergency",
            _ => "mixed",
        }
    }
    /// Finds an item.
    pub fn item(&self, id: &str) -> Option<&Item> {
        self.items.iter().find(|i| i.id == id)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
