//! Payloads of the entry kinds: shared by who writes and who reads. Integers, texts, lists and maps only (RFC 8785, no
//! fractions), at most 65,535 bytes a line; bulk bytes are referred to by digest.
//!
//! A payload may gain optional fields; it never loses or renames one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Category, Effect, Milestone, Mode, Outcome, Phase, Severity};

/// One target of the incident: which cluster (or host) it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Target {
    /// A Kubernetes cluster. The UID of `kube-system` is its identity; the rest is how it was reached.
    Cluster {
        /// Context name in the kubeconfig (`sim` for the drill's world).
        context: String,
        /// API server URL.
        server: String,
        /// UID of the namespace `kube-system`.
        uid: String,
    },
    /// A cloud account.
    Account {
        /// Twelve digits.
        account: String,
        /// Region of its secret store.
        region: String,
        /// Where it answered.
        endpoint: String,
    },
    /// The host firebreak runs on.
    Host {
        /// Its name.
        name: String,
    },
}

/// Fixes what the ledger is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerOpened {
    /// Incident id.
    pub incident: String,
    /// Live or drill, for ever.
    pub mode: Mode,
    /// Base origin of the notes, `org/id`.
    pub origin: String,
    /// Epoch key, 64 hex.
    pub public_key: String,
    /// Its fingerprint, 64 hex.
    pub fingerprint: String,
    /// Targets known at the start.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// `solo` or `team`.
    pub policy: String,
    /// Digests of pinned trust files by name (`allowed_signers`, `people.yaml`, `revoked_keys`).
    #[serde(default)]
    pub trust: BTreeMap<String, String>,
    /// Tool version.
    pub tool: String,
}

/// A target joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetAdded {
    /// The target.
    pub target: Target,
}

/// The declaration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentOpened {
    /// One line.
    pub title: String,
    /// Severity at declaration.
    pub severity: Severity,
    /// Phase it starts in.
    pub phase: Phase,
    /// TLP marking.
    pub tlp: String,
    /// Who noticed or what signalled it, free text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
}

/// A person's line for the timeline (≤ 4 KiB), also used when closing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The text.
    pub text: String,
    /// When the noted thing happened, if not now (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<String>,
}

/// Text for a section of the document. A later one for the same section supersedes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportText {
    /// Section key, as `report check` names it (`executive-summary`, `impact`, …).
    pub section: String,
    /// The text itself when at most 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
    /// Digest of the text, which stands in `notes/<sha256>.md` when longer.
    pub sha256: String,
}

/// The document was built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportBuilt {
    /// SHA-256 of `incident.json`.
    pub document_sha256: String,
    /// Entries it covers.
    pub entries: u64,
    /// File names written.
    pub files: Vec<String>,
}

/// A bag's number is taken, before its folder exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BagOpened {
    /// Four digits.
    pub bag: String,
    /// What it is for.
    pub purpose: String,
}

/// A bag is sealed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BagSealed {
    /// Four digits.
    pub bag: String,
    /// SHA-256 of `seal/seal.note`.
    pub seal_sha256: String,
    /// Leaves in its tree.
    pub records: u64,
    /// Base64 root.
    pub root: String,
    /// Payload bytes.
    pub bytes: u64,
    /// Payload files.
    pub files: u64,
    /// Recovered ranges.
    pub recoveries: u64,
    /// True when the entry was written after a crash had cut it off.
    #[serde(default)]
    pub late: bool,
}

/// An exhibit was taken in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExhibitAcquired {
    /// `INC-…/E-0007`.
    pub exhibit: String,
    /// Bag number.
    pub bag: String,
    /// What it is, one line.
    pub description: String,
    /// Kind.
    pub category: Category,
    /// Folder under `data/`.
    pub source: String,
    /// Where it came from: ids of system, namespace, pod UID, container, path.
    pub system: BTreeMap<String, String>,
    /// How it was acquired.
    pub method: String,
    /// `low` when the suspect's own tools produced it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trust: Option<String>,
    /// Bytes.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// SHA-256 of the whole when it is one segment.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    /// `complete`, `cap`, `error` or `crash`.
    pub ended: String,
    /// Why, where it is not complete.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// RFC 3227 rank, 1 most volatile … 7.
    pub volatility: u8,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339.
    pub finished: String,
}

/// A bag was verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExhibitChecked {
    /// Bag number, or `ledger`.
    pub bag: String,
    /// Verdict text of the verifier.
    pub verdict: String,
    /// Its exit code.
    pub exit: u8,
}

/// A plan was kept; its definition stands in `trust/<playbook_sha256>.yaml`, it in `trust/<plan_sha256>.json`. Nothing has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunPlanned {
    /// The run that it would be.
    pub run: String,
    /// Playbook id.
    pub playbook: String,
    /// Digest of its exact bytes.
    pub playbook_sha256: String,
    /// Digest of the plan.
    pub plan_sha256: String,
}

/// A run exists; its definition stands in `trust/<playbook_sha256>.yaml`, its plan in `trust/<plan_sha256>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunCreated {
    /// Run id.
    pub run: String,
    /// Playbook id.
    pub playbook: String,
    /// Playbook version.
    pub version: u64,
    /// Digest of its exact bytes.
    pub playbook_sha256: String,
    /// Digest of the plan's exact bytes.
    pub plan_sha256: String,
    /// Live or drill.
    pub mode: Mode,
    /// Variables without secrets.
    pub vars: BTreeMap<String, Value>,
    /// Digest over trust files and policy.
    pub trust_sha256: String,
    /// `solo` or `team`.
    pub policy: String,
    /// Who runs it (an id of people.yaml under `team`).
    pub executor: String,
    /// How often created or resumed: 1.
    pub epoch: u64,
    /// Objectives in seconds where the playbook states them.
    pub objectives: Objectives,
    /// Ids, names and kinds of all steps in path order, for reports.
    pub steps: Vec<StepOutline>,
    /// Tool version.
    pub tool: String,
}

/// What the playbook promises, in seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Objectives {
    /// Tier 1–3.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tier: Option<u8>,
    /// RTO.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rto_s: Option<u64>,
    /// Expected time of the scenario.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recovery_expected_s: Option<u64>,
    /// Limit of the scenario.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recovery_limit_s: Option<u64>,
    /// Time to contain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub contain_s: Option<u64>,
    /// RPO by class, seconds.
    #[serde(default)]
    pub rpo_s: BTreeMap<String, u64>,
}

/// One step for a reader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepOutline {
    /// Path.
    pub path: String,
    /// Name.
    pub name: String,
    /// Step kind (`call`, `manual`, …).
    pub kind: String,
    /// Action name, where it calls one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action: Option<String>,
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub phase: Option<Phase>,
    /// Effect.
    pub effect: Effect,
    /// Numbered steps of the runbook.
    #[serde(default)]
    pub runbook: Vec<String>,
    /// Expected seconds, if the plan knew.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected_s: Option<u64>,
}

/// A run (or one block of it) waits for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunParked {
    /// Why, one line.
    pub why: String,
    /// The steps that wait.
    pub steps: Vec<String>,
    /// Command that helps, typable.
    pub hint: String,
}

/// A run goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResumed {
    /// Epoch, +1 each time.
    pub epoch: u64,
}

/// A run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunEnded {
    /// `completed` or `stopped`.
    pub how: String,
    /// Why, when stopped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
}

/// A gate waits for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateRequested {
    /// Roles that may decide.
    pub roles: Vec<String>,
    /// Distinct people needed.
    pub quorum: u32,
    /// Effect it opens.
    pub effect: Effect,
    /// Digest of the call: SHA-256 of the JCS bytes of `[kind, effect, action or argv, filled-in arguments]`.
    pub call_sha256: String,
    /// What is asked, for people.
    pub question: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<String>,
}

/// How somebody decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// Go on.
    Approve,
    /// Do not.
    Refuse,
    /// One person goes on alone; red in the document.
    BreakGlass,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateDecided {
    /// `typed` (a confirmation at the terminal) or `signed` (SSHSIG).
    pub how: String,
    /// What was decided.
    pub decision: Decision,
    /// The person: principal when signed, `user@host` when typed.
    pub principal: String,
    /// Role in which they decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<String>,
    /// Steps it covers, with the digest of each call.
    pub steps: BTreeMap<String, String>,
    /// Digest of what was shown (the plan's preview text, or the approval text).
    pub shown_sha256: String,
    /// The approval text, exact bytes, when signed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
    /// The armoured SSHSIG, when signed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signature: Option<String>,
    /// Fingerprint of the signing key (`SHA256:…`), when signed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// Reason, typed or signed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// RFC 3339; a decision counts only for steps started before it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<String>,
    /// Why it does not count (`FB0505`), when it was refused as an approval.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rejected: Option<String>,
}

/// A gate's time ran out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateExpired {
    /// What then: `escalate`, `park` or `refuse`.
    pub then: String,
}

/// **The intent.** Durable before the effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepStarted {
    /// Automatic try, from 1.
    pub r#try: u32,
    /// Idempotency key, 32 hex.
    pub key: String,
    /// Digest of the call.
    pub call_sha256: String,
    /// Action or argv0, for readers.
    pub what: String,
    /// Effect.
    pub effect: Effect,
    /// Runner epoch.
    pub epoch: u64,
    /// RFC 3339 deadline.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deadline: Option<String>,
    /// Wait that is only recorded, not slept (drills).
    #[serde(default)]
    pub simulated: bool,
}

/// **The outcome.**
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFinished {
    /// Done or failed.
    pub outcome: Outcome,
    /// `result` (it answered), `probe` (it was looked at), `skipped` (done_if, branch not taken), `answer` (a person).
    pub by: String,
    /// One line for people.
    pub summary: String,
    /// Values set by `outputs`.
    #[serde(default)]
    pub outputs: BTreeMap<String, Value>,
    /// Digest of the action's whole result (JCS).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result_sha256: Option<String>,
    /// Error class when failed: `refused`, `timeout`, `transient`, `conflict`, `invalid`, `denied`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub class: Option<String>,
    /// Error code when failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// Milliseconds from start to end, by the monotonic clock.
    pub elapsed_ms: u64,
    /// Which way an `if` went.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub branch: Option<bool>,
}

/// It may have happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepInDoubt {
    /// What is known.
    pub known: String,
    /// True when somebody has looked and could not tell: only a person, or a look after a resume, decides.
    #[serde(default)]
    pub observed: bool,
    /// Command that helps.
    pub hint: String,
}

/// Decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepResolved {
    /// `ran`, `did-not-run` or `retry`.
    pub verdict: String,
    /// `person` or `probe`.
    pub by: String,
    /// Reason.
    pub reason: String,
}

/// Intent of an undo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UndoStarted {
    /// Digest of the undo's call.
    pub call_sha256: String,
    /// Action.
    pub what: String,
}

/// Outcome of an undo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UndoFinished {
    /// Undone or stuck.
    pub outcome: Outcome,
    /// One line.
    pub summary: String,
    /// What is left, when stuck: exact instructions.
    #[serde(default)]
    pub left: Vec<String>,
}

/// A person's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Text of the answer.
    pub text: String,
    /// `done` or `failed`, as the person says.
    pub outcome: Outcome,
    /// Values given for the step's `outputs` from `answer`.
    #[serde(default)]
    pub values: BTreeMap<String, Value>,
}

/// A milestone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MilestoneReached {
    /// Which.
    pub name: Milestone,
    /// Tier it is about, if one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tier: Option<u8>,
    /// When it was reached (RFC 3339), if not the entry's own time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<String>,
    /// `low`, `medium` or `high`, for a person's estimate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub confidence: Option<String>,
    /// `step` or `statement`.
    pub by: String,
}

/// A deadline went by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadlinePassed {
    /// `step`, `gate` or `wait`.
    pub which: String,
    /// The deadline (RFC 3339).
    pub deadline: String,
    /// True when time was only simulated (drills).
    #[serde(default)]
    pub simulated: bool,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Roles it is for.
    pub to: Vec<String>,
    /// `print`, `webhook` or `simulated`.
    pub channel: String,
    /// The text as shown (≤ 4 KiB).
    pub text: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// An object in the cluster, by name and identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// `Pod`, `NetworkPolicy`, `Node`, …
    pub kind: String,
    /// Namespace, empty for cluster-wide kinds.
    #[serde(default)]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID; empty when it does not exist yet.
    #[serde(default)]
    pub uid: String,
}

/// About to write to the cluster. Release compares `before`, `written` and what is there then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WriteIntended {
    /// The object.
    pub object: ObjectRef,
    /// `create_policy`, `label`, `move_out`, `cordon`, `create_canary`, `annotate`, `delete_pod`, … and their reversals.
    pub what: String,
    /// Fields before: name → value, null = absent (`labels/app`).
    pub before: BTreeMap<String, Option<String>>,
    /// Fields as they shall be.
    pub written: BTreeMap<String, Option<String>>,
    /// True when this write takes an earlier one back.
    #[serde(default)]
    pub reversal: bool,
}

/// What was there after the write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WriteSeen {
    /// The object, now with its UID.
    pub object: ObjectRef,
    /// As in the intent.
    pub what: String,
    /// The same fields as seen afterwards.
    pub seen: BTreeMap<String, Option<String>>,
    /// `written`, `already` (it was so before), `refused`, `gone`, `changed-by-others`.
    pub verdict: String,
    /// As in the intent.
    #[serde(default)]
    pub reversal: bool,
}

/// What containment saw and decided, per pod, before it acted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainmentPlanned {
    /// Containment id: value of the quarantine label.
    pub containment: String,
    /// The pod.
    pub pod: ObjectRef,
    /// Node.
    pub node: String,
    /// Owner, `ReplicaSet/web-7d9` or `none`.
    pub owner: String,
    /// Services that will let go.
    pub services: Vec<String>,
    /// Policies that would still allow something, each with rule and direction.
    pub still_allowed: Vec<String>,
    /// Policies that select the pod in the final state.
    pub still_selecting: Vec<String>,
    /// Label changes of phase B: key → new value, null = removed.
    pub move_out: BTreeMap<String, Option<String>>,
    /// What phase B cannot give here, said.
    pub cannot: Vec<String>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// An earlier run isolated the pod and nothing was left to do: the plan stands here so that the run still names it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub already: bool,
}

/// One cell of a proof table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProofCell {
    /// `ingress` or `egress`.
    pub direction: String,
    /// From, for people.
    pub from: String,
    /// To, for people (`10.244.0.7:8080/TCP`).
    pub to: String,
    /// `open`, `refused`, `silent`, `not-tried` before isolation.
    pub before: String,
    /// The same after.
    pub after: String,
    /// The same, at the same moment from an unaffected pod to the same destination (positive control).
    pub control: String,
    /// `match`, `bypass`, `overblock`, `unreachable`, `no-control`, `spec-exception`, `undefined`.
    pub verdict: String,
    /// What the verdict rests on (`exec in target, low trust`, `probe pod firebreak-probe-…`).
    pub basis: String,
}

/// A proof table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// Namespace/name.
    pub pod: String,
    /// UID.
    pub pod_uid: String,
    /// `A` or `B`: after which phase.
    pub phase: String,
    /// `isolated`, `not-proven`, `not-contained`.
    pub verdict: String,
    /// Why, where it is not `isolated`.
    pub why: Vec<String>,
    /// Cells.
    pub cells: Vec<ProofCell>,
    /// Milliseconds from the write to the first blocked probe, if seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time_to_enforce_ms: Option<u64>,
    /// Connections that were open before and stay open (policy is for new connections only).
    pub open_connections: Vec<String>,
    /// Connections that still stand in the pod, but of which nothing gets through any more: what it sends is sent again and again.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cut_connections: Vec<String>,
    /// What probes cannot see.
    pub not_seen: Vec<String>,
}

/// A canary's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Node.
    pub node: String,
    /// `enforced`, `unenforced`, `not-run`.
    pub verdict: String,
    /// What was seen at each point: open, denied, open again.
    pub seen: Vec<String>,
    /// Why it was not run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
}

/// What a pod could use: names only, for rotation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Credentials {
    /// The pod.
    pub pod: ObjectRef,
    /// Its service account.
    pub service_account: String,
    /// Cloud role it assumes, from the account's annotation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role_arn: Option<String>,
    /// Secrets: name → how it gets there (`env`, `envFrom`, `volume`, `imagePullSecret`).
    pub secrets: BTreeMap<String, Vec<String>>,
}
