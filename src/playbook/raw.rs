//! The format's keys as types: what serde checks and what the JSON Schema is derived from. [`super::read`] makes the model of it.
//!
//! A key that is required is an `Option` here all the same, so that a missing one gets its own code instead of serde's words.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::incident::{Category, Effect, Milestone, Phase};

use super::duration;
use super::model::{DrillMode, OnFailure, OnTimeout, Resume, RetryOn, RoleKind, WaitAck};

/// A firebreak playbook: one file that a responder reads from top to bottom.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "firebreak playbook/v1")]
#[schemars(rename = "Playbook")]
pub(super) struct RawPlaybook {
    /// The format's version: `playbook/v1`.
    #[schemars(required, extend("const" = "playbook/v1"))]
    #[expect(
        dead_code,
        reason = "here for the schema; the block reader takes it apart"
    )]
    pub(super) firebreak: Option<String>,
    /// Slug, equal to the stem of the file.
    #[schemars(required, regex(pattern = r"^[a-z][a-z0-9-]{0,62}$"))]
    pub(super) id: Option<String>,
    /// Name for people.
    #[schemars(required, length(min = 1, max = 120))]
    pub(super) name: Option<String>,
    /// Markdown for people; raw HTML is dropped.
    pub(super) description: Option<String>,
    /// Version of the content, from 1.
    #[schemars(required, range(min = 1))]
    pub(super) version: Option<i64>,
    /// CACAO playbook types.
    #[schemars(required, length(min = 1), extend("items" = {"enum": super::read::TYPES}))]
    pub(super) types: Option<Vec<String>>,
    /// CACAO activities; derived from the step kinds where nothing is said.
    pub(super) activities: Option<Vec<String>>,
    /// 0 to 100, 100 highest, 0 undefined.
    #[schemars(range(min = 0, max = 100))]
    pub(super) severity: Option<i64>,
    /// 0 to 100, 100 highest, 0 undefined.
    #[schemars(range(min = 0, max = 100))]
    pub(super) impact: Option<i64>,
    /// Traffic light, printed on every output.
    pub(super) tlp: Option<Tlp>,
    /// The runbook's chapter that it carries out, such as `scenario 3`: lint asks for each of its numbered steps.
    pub(super) runbook: Option<String>,
    /// What it promises.
    pub(super) objectives: Option<RawObjectives>,
    /// Roles by key.
    pub(super) roles: Option<BTreeMap<String, RawRole>>,
    /// Variables by name.
    pub(super) vars: Option<BTreeMap<String, RawVariable>>,
    /// Names of the environment variables that `run` children get; all others are cleared.
    pub(super) env: Option<Vec<String>>,
    /// Defaults for the steps; a step's own key wins.
    pub(super) defaults: Option<RawDefaults>,
    /// Warnings that the author allows: lint code to reason.
    pub(super) allow: Option<BTreeMap<String, String>>,
    /// The steps, in order.
    #[schemars(required, length(min = 1), with = "Vec<RawStep>")]
    #[expect(
        dead_code,
        reason = "here for the schema; the block reader takes it apart"
    )]
    pub(super) steps: Option<Value>,
}

/// Traffic Light Protocol 2.0.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(super) enum Tlp {
    #[serde(rename = "TLP:RED")]
    Red,
    #[serde(rename = "TLP:AMBER")]
    Amber,
    #[serde(rename = "TLP:AMBER+STRICT")]
    AmberStrict,
    #[serde(rename = "TLP:GREEN")]
    Green,
    #[serde(rename = "TLP:CLEAR")]
    Clear,
}

impl Tlp {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Tlp::Red => "TLP:RED",
            Tlp::Amber => "TLP:AMBER",
            Tlp::AmberStrict => "TLP:AMBER+STRICT",
            Tlp::Green => "TLP:GREEN",
            Tlp::Clear => "TLP:CLEAR",
        }
    }
}

/// What a playbook promises.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Objectives")]
pub(super) struct RawObjectives {
    /// Tier 1 to 3.
    #[schemars(range(min = 1, max = 3))]
    pub(super) tier: Option<u8>,
    /// Recovery time objective; by tier 1h, 4h, 24h.
    pub(super) rto: Option<Time>,
    /// Estimated recovery time of the scenario.
    pub(super) recovery: Option<RawRecovery>,
    /// Time to contain.
    pub(super) contain: Option<Time>,
    /// Recovery point objectives.
    pub(super) rpo: Option<RawRpo>,
}

/// Estimated recovery time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Recovery")]
pub(super) struct RawRecovery {
    /// What is expected.
    pub(super) expected: Time,
    /// What must not be exceeded.
    pub(super) limit: Time,
}

/// Recovery point objectives by class of data.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rpo")]
pub(super) struct RawRpo {
    /// Databases; 15m.
    pub(super) database: Option<Time>,
    /// File storage; 1h.
    pub(super) files: Option<Time>,
    /// Configuration; 0s.
    pub(super) config: Option<Time>,
}

/// A role.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Role")]
pub(super) struct RawRole {
    /// One person or several.
    pub(super) kind: RoleKind,
    /// Name for people.
    pub(super) name: Option<String>,
    /// The role in the people file that fills it; its own key where nothing is said.
    pub(super) contact: Option<String>,
}

/// A variable.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Variable")]
pub(super) struct RawVariable {
    /// string, integer, float, bool, duration, instant, uri, uuid, ipv4-addr, ipv6-addr, mac-addr, hexstring, md5-hash,
    /// sha256-hash, secret, or `list<…>` of one of them.
    #[schemars(regex(
        pattern = r"^(list<)?(string|integer|float|bool|duration|instant|uri|uuid|ipv4-addr|ipv6-addr|mac-addr|hexstring|md5-hash|sha256-hash|secret)>?$"
    ))]
    pub(super) r#type: String,
    /// For people.
    pub(super) description: Option<String>,
    /// Value where nobody gives one.
    pub(super) value: Option<Value>,
    /// True = given by `--var`; missing with no `value` is an error.
    pub(super) external: Option<bool>,
    /// True = nothing may assign it.
    pub(super) constant: Option<bool>,
    /// Regular expression that the whole text must match.
    pub(super) pattern: Option<String>,
    /// The only values it may have.
    pub(super) r#enum: Option<Vec<Value>>,
    /// Secrets only: `file:PATH`, `fd:N` or `kube:namespace/name/key`.
    #[schemars(regex(pattern = r"^(file:.+|fd:[0-9]+|kube:[^/]+/[^/]+/[^/]+)$"))]
    pub(super) from: Option<String>,
}

/// Defaults for the steps.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Defaults")]
pub(super) struct RawDefaults {
    /// Timeout.
    pub(super) timeout: Option<Time>,
    /// Retry.
    pub(super) retry: Option<RawRetry>,
    /// What happens after a failure.
    pub(super) on_failure: Option<OnFailure>,
}

/// How a step is tried again by itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Retry")]
pub(super) struct RawRetry {
    /// Tries after the first.
    #[schemars(range(min = 0, max = 10))]
    pub(super) max: u32,
    /// First pause; it doubles to 60 s, with jitter. 2s where nothing is said.
    pub(super) backoff: Option<Time>,
    /// Error classes; transient and throttled where nothing is said.
    pub(super) on: Option<Vec<RetryOn>>,
}

/// One step: exactly one kind, and the keys that any step may carry.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Step")]
pub(super) struct RawStep {
    /// Kind: a built-in action; its arguments stand in `with`.
    pub(super) call: Option<String>,
    /// Kind: argv words of a child process; no shell.
    #[schemars(length(min = 1))]
    pub(super) run: Option<Vec<String>>,
    /// Kind: a person does this and answers.
    pub(super) manual: Option<String>,
    /// Kind: a read-only probe of live state; its arguments stand in `with`, what must hold in `expect`.
    pub(super) check: Option<String>,
    /// Who must agree before the step; a kind of its own where no other stands.
    pub(super) approve: Option<RawApproval>,
    /// Kind: a message to roles.
    pub(super) notify: Option<RawNotify>,
    /// Kind: a branch on a CEL expression.
    pub(super) r#if: Option<String>,
    /// Steps when the expression is true.
    #[schemars(length(min = 1), with = "Option<Vec<RawStep>>")]
    #[expect(
        dead_code,
        reason = "here for the schema; the block reader takes it apart"
    )]
    pub(super) then: Option<Value>,
    /// Steps when the expression is false.
    #[schemars(with = "Option<Vec<RawStep>>")]
    #[expect(
        dead_code,
        reason = "here for the schema; the block reader takes it apart"
    )]
    pub(super) r#else: Option<Value>,
    /// Kind: steps side by side; all are awaited.
    #[schemars(length(min = 2), with = "Option<Vec<RawStep>>")]
    #[expect(
        dead_code,
        reason = "here for the schema; the block reader takes it apart"
    )]
    pub(super) parallel: Option<Value>,
    /// Kind: a named sequence.
    #[schemars(length(min = 1), with = "Option<Vec<RawStep>>")]
    #[expect(
        dead_code,
        reason = "here for the schema; the block reader takes it apart"
    )]
    pub(super) steps: Option<Value>,
    /// Kind: a timer: a duration, or `"${name}"` of a duration variable.
    #[schemars(with = "Option<TimeOrVariable>")]
    pub(super) wait: Option<String>,
    /// Kind: a line for the timeline.
    pub(super) note: Option<String>,
    /// Arguments of `call` or `check`.
    pub(super) with: Option<Map<String, Value>>,
    /// What must hold after a `check`: CEL over the result's fields and the variables; `ok == true` where nothing is said.
    pub(super) expect: Option<String>,

    /// Slug, unique in its block; without one the step is `kind-N`.
    #[schemars(regex(pattern = r"^[a-z][a-z0-9-]{0,62}$"))]
    pub(super) id: Option<String>,
    /// Name for people.
    pub(super) name: Option<String>,
    /// Why it deviates from what lint expects.
    pub(super) why: Option<String>,
    /// Numbered steps of the runbook that it carries, such as `"3.1"`.
    pub(super) runbook: Option<Vec<String>>,
    /// Phase of the incident.
    pub(super) phase: Option<Phase>,
    /// Role that does it; `manual` needs one.
    pub(super) owner: Option<String>,
    /// What it does to the world; `call` and `run` need it.
    pub(super) effect: Option<Effect>,
    /// Probe that must be true, in the plan and right before the step.
    pub(super) require: Option<RawCall>,
    /// Probe: true = nothing to do.
    pub(super) done_if: Option<RawCall>,
    /// Longest time over all tries.
    pub(super) timeout: Option<Time>,
    /// How it is tried again by itself.
    pub(super) retry: Option<RawRetry>,
    /// How it is undone; only ever on request.
    pub(super) undo: Option<RawCall>,
    /// What happens after a failure; `park` where nothing is said.
    pub(super) on_failure: Option<OnFailure>,
    /// What happens after a crash.
    pub(super) resume: Option<Resume>,
    /// What of its output becomes an exhibit.
    pub(super) evidence: Option<RawEvidence>,
    /// Variables that its result sets.
    pub(super) outputs: Option<BTreeMap<String, RawOutput>>,
    /// Milestone stamped when it is done.
    pub(super) milestone: Option<RawMilestone>,
    /// What a drill does with it.
    pub(super) drill: Option<DrillMode>,
    /// Expected time before there is history.
    pub(super) budget: Option<Time>,
    /// What a plan may assume for an output that it cannot know.
    pub(super) plan_value: Option<BTreeMap<String, Value>>,
}

/// An action with its arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Call")]
pub(super) struct RawCall {
    /// The action, `room.action`.
    pub(super) call: String,
    /// Its arguments.
    pub(super) with: Option<Map<String, Value>>,
}

/// Who must agree.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Approval")]
pub(super) struct RawApproval {
    /// Roles that may decide.
    #[schemars(length(min = 1))]
    pub(super) roles: Vec<String>,
    /// People needed; the floor of the effect where nothing is said.
    #[schemars(range(min = 1))]
    pub(super) quorum: Option<u32>,
    /// Whether they must be different people; true where nothing is said.
    pub(super) distinct: Option<bool>,
    /// How long a request stays open; 15m where nothing is said.
    pub(super) ttl: Option<Time>,
    /// What happens when nobody decides in time.
    #[schemars(required)]
    pub(super) on_timeout: Option<OnTimeout>,
    /// Whether one person may go on alone with a typed reason.
    pub(super) break_glass: Option<bool>,
}

/// A message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Notify")]
pub(super) struct RawNotify {
    /// Roles.
    #[schemars(length(min = 1))]
    pub(super) to: Vec<String>,
    /// The text; `${x}` is filled in.
    pub(super) template: String,
    /// Whose acknowledgement is awaited; `none` where nothing is said.
    pub(super) wait_ack: Option<WaitAck>,
    /// Whether it leaves the organisation.
    pub(super) external: Option<bool>,
}

/// What becomes an exhibit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Evidence")]
pub(super) struct RawEvidence {
    /// What it is.
    pub(super) kind: Category,
    /// Whether its bag is sealed at once; true where nothing is said.
    pub(super) seal: Option<bool>,
    /// Files besides the output, as globs.
    pub(super) files: Option<Vec<String>>,
    /// Patterns to redact in views for people.
    pub(super) redact: Option<Vec<String>>,
}

/// Where an output comes from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Output")]
pub(super) struct RawOutput {
    /// stdout, stderr, exit, answer, `json:/pointer` or `result:/pointer`.
    #[schemars(regex(pattern = r"^(stdout|stderr|exit|answer|json:(/.*)?|result:(/.*)?)$"))]
    pub(super) from: String,
}

/// A milestone: its name, or name and tier.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[schemars(rename = "StepMilestone")]
pub(super) enum RawMilestone {
    /// The name.
    Name(Milestone),
    /// Name and tier.
    Tiered(TieredMilestone),
}

/// A milestone of one tier.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TieredMilestone {
    /// Which.
    pub(super) name: Milestone,
    /// Tier 1 to 3.
    #[schemars(range(min = 1, max = 3))]
    pub(super) tier: Option<u8>,
}

impl<'de> Deserialize<'de> for RawMilestone {
    /// By hand: `untagged` would lose which word was wrong.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let wrong = serde::de::Error::custom::<serde_json::Error>;
        if value.is_string() {
            return serde_json::from_value(value)
                .map(RawMilestone::Name)
                .map_err(wrong);
        }
        serde_json::from_value(value)
            .map(RawMilestone::Tiered)
            .map_err(wrong)
    }
}

/// A duration such as `90s`, `5m`, `1h30m`, `2d`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(pub(super) Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Zero is a promise for an RPO ("real time"), and no duration anywhere else; the reader looks.
        if text == "0s" {
            return Ok(Time(Duration::ZERO));
        }
        duration::parse(&text).map(Time).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is no duration such as 90s, 5m, 1h30m or 2d (over 0, at most 31d)"
            ))
        })
    }
}

const TIME: &str = r"^([0-9]+(d|h|m|s|ms))+$";

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A duration such as 90s, 5m, 1h30m, 2d: over 0, at most 31d.",
            "pattern": TIME,
        })
    }
}

/// Only for the schema.
struct TimeOrVariable;

impl JsonSchema for TimeOrVariable {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DurationOrVariable".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let time = generator.subschema_for::<Time>();
        schemars::json_schema!({ "anyOf": [time, { "type": "string", "pattern": VARIABLE }] })
    }
}

/// A text that is exactly one variable, as the schema sees it.
pub(super) const VARIABLE: &str = r"^\$\{[a-z][a-z0-9_]*\}$";
