//! Arguments of `eradicate.plan_rotation`.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::action::ActionError;
use crate::rotation::select::{OnUnknown, Wanted};
use crate::rotation::words::{CredentialKind, RotationMode};

use super::planner::refuse;

/// Arguments of `eradicate.plan_rotation`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlanArgs {
    /// A CEL expression over one credential.
    #[serde(deserialize_with = "unless_empty")]
    pub select: Option<String>,
    /// Users whose access keys are meant.
    pub users: Vec<String>,
    /// Access key ids.
    pub keys: Vec<String>,
    /// Roles, by name or ARN, whose sessions are meant.
    pub roles: Vec<String>,
    /// Secrets of the store, by name or ARN.
    pub secrets: Vec<String>,
    /// What the incident's contained pods could use.
    pub handover: bool,
    /// Only these kinds.
    pub kinds: Vec<CredentialKind>,
    /// Only below this IAM path.
    pub path_prefix: Option<String>,
    /// Only with these tags.
    pub tags: BTreeMap<String, String>,
    /// Digest of a map that is pinned in the incident's `trust/`.
    #[serde(deserialize_with = "unless_empty")]
    pub map_sha256: Option<String>,
    /// How they are replaced; graceful by default.
    pub mode: Option<RotationMode>,
    /// How those of a kind are replaced.
    pub modes: BTreeMap<CredentialKind, RotationMode>,
    /// All at once: kill first, accept the outage.
    pub emergency: bool,
    /// Suspected start of the compromise, RFC 3339.
    #[serde(deserialize_with = "unless_empty")]
    pub t0: Option<String>,
    /// What becomes of members that cannot be judged: refuse, include, exclude.
    pub on_unknown: Option<OnUnknown>,
    /// Go on with the others when one changed since the plan.
    pub skip_stale: bool,
    /// An empty selection is no error.
    pub allow_empty: bool,
    /// Old credentials may be deleted. Only a team may.
    pub delete: bool,
    /// Keys that may be deleted to free a slot.
    pub free_slot: Vec<String>,
    /// Left alone: key ids, users, roles, secrets.
    pub exclude: Vec<String>,
    /// Canary keys and secrets: never called, never read.
    pub canaries: Vec<String>,
    /// Secret with the login of who may alter database roles, where neither map nor secret names one.
    #[serde(deserialize_with = "unless_empty")]
    pub admin: Option<String>,
    /// Values of secrets are not looked at to find where a credential lives.
    pub skip_values: bool,
    /// Namespaces whose Secrets are looked at; all by default.
    pub namespaces: Vec<String>,
    /// How long nobody may have used an old credential, in seconds; a day by default.
    pub grace_s: Option<u64>,
    /// Other waits by name. Shorter ones than the defaults only where every endpoint is on this host.
    pub waits: BTreeMap<String, u64>,
    /// Items at a time.
    pub concurrency: Option<u32>,
}

/// A playbook gives a variable that was not set as an empty text.
fn unless_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.filter(|t| !t.is_empty()))
}

impl PlanArgs {
    /// A playbook has no absent texts: an empty one stands for none.
    pub(super) fn tidy(mut self) -> Self {
        for text in [
            &mut self.select,
            &mut self.path_prefix,
            &mut self.map_sha256,
            &mut self.t0,
            &mut self.admin,
        ] {
            if text.as_deref().is_some_and(|t| t.trim().is_empty()) {
                *text = None;
            }
        }
        self
    }
    /// The selection that they ask for; the hand-over is added when it is known.
    pub(super) fn wanted(&self) -> Wanted {
        let set = |names: &[String]| -> BTreeSet<String> { names.iter().cloned().collect() };
        Wanted {
            expression: self.select.clone(),
            users: set(&self.users),
            keys: set(&self.keys),
            roles: set(&self.roles),
            secrets: set(&self.secrets),
            handover: self.handover.then(BTreeSet::new),
            kinds: self.kinds.iter().copied().collect(),
            path_prefix: self.path_prefix.clone(),
            tags: self.tags.clone(),
        }
    }
    /// How a kind is replaced.
    pub(super) fn mode_of(&self, kind: CredentialKind) -> RotationMode {
        if self.emergency {
            return RotationMode::Emergency;
        }
        let of_kind = self.modes.get(&kind).copied();
        of_kind.or(self.mode).unwrap_or(RotationMode::Graceful)
    }
    /// What becomes of unknown members.
    pub(super) fn on_unknown(&self) -> OnUnknown {
        self.on_unknown.unwrap_or(OnUnknown::Refuse)
    }
    /// What a changed item does to the rest.
    pub(super) fn on_stale(&self) -> &'static str {
        if self.skip_stale { "skip" } else { "refuse" }
    }
    /// The suspected start.
    pub(super) fn t0(&self) -> Result<Option<DateTime<Utc>>, ActionError> {
        let Some(text) = &self.t0 else {
            return Ok(None);
        };
        let time = text.parse::<DateTime<Utc>>();
        time.map(Some).map_err(|_| {
            refuse(
                "FB1201",
                format!("t0: `{text}` is no time (2026-11-25T03:04:05Z)"),
            )
        })
    }
}
