//! Payloads of rotation's entries. No secret is ever in one: a value shows as its fingerprint, parameters by an allow-list per call.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A rotation was planned; the plan's exact bytes stand in `trust/<plan_sha256>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RotationPlanned {
    /// SHA-256 of the plan's canonical JSON.
    pub plan_sha256: String,
    /// `graceful` or `emergency`, where all items agree, else `mixed`.
    pub mode: String,
    /// Account.
    pub account: String,
    /// Items by kind.
    pub items: BTreeMap<String, u64>,
    /// The selection as CEL.
    pub selector: String,
    /// RFC 3339.
    pub expires: String,
    /// SHA-256 of the rotation map, if one was used; it stands in `trust/<map_sha256>.yaml`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub map_sha256: Option<String>,
}

/// About to send one remote change (the intent).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RotateIntent {
    /// Item id of the plan, or `workload:<namespace>/<kind>/<name>` for a rollout that several items share.
    pub item: String,
    /// Kind of credential, or `rollout`.
    pub kind: String,
    /// State that this change leads to, as the machine names it: `SlotFree`, `Created`, `OldInactive`, …
    pub step: String,
    /// Attempt of the whole item, from 1: a new attempt has a new value.
    pub attempt: u32,
    /// Which of several of the same step (a sink, a server), else empty.
    #[serde(default)]
    pub target: String,
    /// The call: `iam:CreateAccessKey`, `secretsmanager:PutSecretValue`, `pg:SetVerifier`, `k8s:PatchSecret`, …
    pub call: String,
    /// Its public parameters.
    pub params: BTreeMap<String, String>,
    /// What was there before.
    #[serde(default)]
    pub before: BTreeMap<String, String>,
    /// Idempotency token sent with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub idempotency: Option<String>,
    /// Fingerprint of the value that it carries.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fp: Option<String>,
    /// True when it takes an earlier change back.
    #[serde(default)]
    pub reversal: bool,
    /// Runner epoch.
    pub epoch: u64,
}

/// How a change was answered (the outcome). Its entry refers to the intent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RotateOutcome {
    /// As in the intent.
    pub item: String,
    /// As in the intent.
    pub step: String,
    /// As in the intent.
    pub attempt: u32,
    /// As in the intent.
    #[serde(default)]
    pub target: String,
    /// `ok`, `refused` or `in-doubt`.
    pub result: String,
    /// The other side's code when refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// Public results: `key_id`, `version_id`, `t`, …
    #[serde(default)]
    pub got: BTreeMap<String, String>,
    /// Request id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
    /// The server's `Date`, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server_date: Option<String>,
    /// As in the intent.
    #[serde(default)]
    pub reversal: bool,
}

/// Something was looked at and found so: an observation on resume, a verification, a proof of death.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RotateObserved {
    /// Item.
    pub item: String,
    /// State that rests on it, or `resume`.
    pub step: String,
    /// Attempt.
    pub attempt: u32,
    /// Which of several, else empty.
    #[serde(default)]
    pub target: String,
    /// True when it holds and the machine may go on.
    pub holds: bool,
    /// Facts, public.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
    /// Proof grade, for a proof of death: `probed`, `probed-without-secret`, `state`, `quiet`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grade: Option<String>,
    /// The intent that it settles, if one was in doubt: `happened` or `did-not-happen`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub settles: Option<String>,
    /// As in the intent that it settles.
    #[serde(default)]
    pub reversal: bool,
}

/// An item ended, for now or for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RotateItem {
    /// Item.
    pub item: String,
    /// Kind.
    pub kind: String,
    /// `done`, `undone`, `stuck` or `needs-human`.
    pub state: String,
    /// Reason word when it needs a person (`two_keys_used`, `old_not_dead`, …).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// One line for people.
    pub summary: String,
    /// What a person must do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// True when it is waiting and a resume takes it up again (grace period, attacker still active).
    #[serde(default)]
    pub resumable: bool,
}

/// Where a rotation stands, as status, document and `--json` show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RotationStatus {
    /// SHA-256 of the plan.
    pub plan_sha256: String,
    /// Run that carries it out.
    pub run: String,
    /// `graceful`, `emergency` or `mixed`.
    pub mode: String,
    /// Account.
    pub account: String,
    /// One row per credential, in the plan's order.
    pub rows: Vec<CredentialRow>,
    /// Sums over the rows.
    pub totals: RotationTotals,
    /// What is not proven; never empty.
    pub not_proven: Vec<String>,
}

/// Sums over the credentials of one rotation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotationTotals {
    /// Items by state.
    pub by_state: BTreeMap<String, u64>,
    /// Old credentials that were shown to be dead.
    pub old_dead: u64,
    /// From the first change to the last old credential proven dead, once all are.
    pub time_to_last_old_dead_ms: Option<i64>,
    /// From the first change to the last consumer available with its new credential, once all are.
    pub time_to_last_consumer_ms: Option<i64>,
    /// The credential that stayed usable longest, counted from the suspected start (else from the plan) until it was disabled.
    pub longest_exposure: Option<Exposure>,
    /// Remote changes sent.
    pub calls: u64,
    /// Changes that ended throttled.
    pub throttled: u64,
}

/// How long an old credential stayed usable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exposure {
    /// Item.
    pub item: String,
    /// From, RFC 3339.
    pub since: String,
    /// Until, RFC 3339; `null` = it is usable still.
    pub until: Option<String>,
    /// Milliseconds, up to the last entry where it is usable still.
    pub ms: i64,
}

/// The proof table row of one credential, as document and status show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RotatedCredential")]
pub struct CredentialRow {
    /// Item.
    pub item: String,
    /// Account.
    pub account: String,
    /// Kind.
    pub kind: String,
    /// Mode.
    pub mode: String,
    /// Principal, secret or role.
    pub name: String,
    /// Id of the old credential (key id, version id).
    pub old: String,
    /// Id of the new one, if there is one.
    pub new: Option<String>,
    /// When the old one was disabled or refused first, RFC 3339.
    pub disabled_at: Option<String>,
    /// Sessions issued before this instant are void, RFC 3339.
    pub void_before: Option<String>,
    /// Point of no return that was passed, with its time.
    pub no_return: Option<String>,
    /// Proof grade of death.
    pub grade: Option<String>,
    /// Codes met by the probes.
    pub codes: Vec<String>,
    /// Ledger entries that the proof rests on.
    pub entries: Vec<u64>,
    /// How often and where the new one was verified.
    pub verified: Option<String>,
    /// Sinks and rollouts, one line each.
    pub consumers: Vec<String>,
    /// Attempts.
    pub attempts: u32,
    /// Orphans and foreign keys with their fate.
    pub orphans: Vec<String>,
    /// What is left over that nobody can take away here.
    pub residue: Vec<String>,
    /// `done`, `undone`, `stuck`, `needs-human`, `running`.
    pub state: String,
    /// Reason word.
    pub reason: Option<String>,
    /// What a person must do.
    pub hint: Option<String>,
    /// What is not proven.
    pub not_proven: Vec<String>,
}
