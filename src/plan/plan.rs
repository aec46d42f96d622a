//! The plan: one value that is previewed, approved and carried out. Its bytes are JCS; its digest is over those exact bytes.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::registry::{Registry, UndoSpec};
use crate::incident::body::{Objectives, StepOutline};
use crate::incident::{Effect, IncidentId, Mode, Phase, RunId, StepPath, clock_text};
use crate::playbook::model::{Kind, OnFailure, Playbook, Step};
use crate::playbook::variable::Vars;

use super::call::{jcs, sha256_hex};
use super::critical_path;
use super::people::Policy;
use super::policy::{self, Need};
use super::seen::{Observation, Previewed, StepSeen};
use super::values;
use super::verdict::{self, Verdict};

/// Format of the file.
pub const FORMAT: &str = "firebreak/plan/v1";

/// A playbook bound to one incident, one run and what was observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// `firebreak/plan/v1`.
    pub format: String,
    /// Incident.
    pub incident: IncidentId,
    /// Live or drill.
    pub mode: Mode,
    /// Run id, minted here so that approvals can name it.
    pub run: RunId,
    /// When it was made, RFC 3339.
    pub made: String,
    /// Playbook id.
    pub playbook: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// SHA-256 of its exact bytes.
    pub playbook_sha256: String,
    /// Traffic light.
    pub tlp: String,
    /// Variables without secrets.
    pub vars: BTreeMap<String, Value>,
    /// `solo` or `team`.
    pub policy: String,
    /// Who will run it.
    pub executor: String,
    /// Digest over policy and trust files.
    pub trust_sha256: String,
    /// Tool version.
    pub tool: String,
    /// What the playbook promises.
    pub objectives: Objectives,
    /// Facts that always bind.
    pub binding: BTreeMap<String, String>,
    /// Steps in path order; blocks are not listed.
    pub steps: Vec<PlannedStep>,
    /// Expected seconds along the longest chain, to the end.
    pub expected_s: u64,
    /// The steps of that chain.
    pub critical_path: Vec<String>,
    /// Expected seconds against each objective.
    pub objectives_said: Vec<String>,
    /// What stands in the way before anything starts.
    pub missing: Vec<Missing>,
    /// True when nothing would be done.
    pub empty: bool,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedStep {
    /// Path.
    pub path: StepPath,
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// Action.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action: Option<String>,
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub phase: Option<Phase>,
    /// Effect.
    pub effect: Effect,
    /// Numbered steps of the runbook.
    pub runbook: Vec<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, where it is not simply `run`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// Action, argv or text after filling in; none while a value is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub what: Option<Value>,
    /// Arguments after filling in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub args: Option<Value>,
    /// Digest of the call.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub call_sha256: Option<String>,
    /// What is needed before it: `nothing`, `typed`, `typed with a reason`, `2 signatures`, `a second person`.
    pub approval: String,
    /// Roles that may decide, each with who holds it now.
    pub holders: BTreeMap<String, Vec<String>>,
    /// What would change.
    pub changes: Vec<String>,
    /// What it could reach beyond its target.
    pub blast_radius: Vec<String>,
    /// How it is undone, or why it cannot be.
    pub undo: String,
    /// Expected seconds.
    pub expected_s: u64,
    /// What that rests on: `history`, `budget`, `timeout`.
    pub expected_by: String,
    /// Evidence that it disturbs: rank of the most volatile source, 0 = none.
    pub disturbs: u8,
    /// Facts the plan is bound to.
    pub binding: BTreeMap<String, String>,
    /// Facts that may move.
    pub shown: BTreeMap<String, String>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// What cannot be proven or undone here.
    pub cannot: Vec<String>,
    /// Details for people: (heading, lines).
    pub details: Vec<(String, Vec<String>)>,
}

/// Something that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// `FB0402`, `FB0403` or `FB0405`.
    pub code: String,
    /// The step.
    pub step: String,
    /// What.
    pub what: String,
    /// True when the run is refused for it; else it is a warning.
    pub refuses: bool,
}

/// A plan with its exact bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanFile {
    /// The value.
    pub plan: Plan,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes, hex.
    pub digest: String,
}

/// A file that is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It cannot be read.
    #[error("it is no plan: {0}")]
    Unreadable(String),
    /// Its bytes are not those that the tool writes.
    #[error("its bytes are not canonical: somebody has edited the plan")]
    NotCanonical,
}

impl PlanFile {
    /// The file of a plan.
    pub fn of(plan: Plan) -> Self {
        let bytes = jcs(&plan);
        let digest = sha256_hex(&bytes);
        PlanFile {
            plan,
            bytes,
            digest,
        }
    }
    /// Reads a file: only the exact canonical bytes are a plan.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, PlanError> {
        let plan: Plan =
            serde_json::from_slice(bytes).map_err(|e| PlanError::Unreadable(e.to_string()))?;
        if plan.format != FORMAT {
            return Err(PlanError::Unreadable(format!(
                "`{}` is not `{FORMAT}`",
                plan.format
            )));
        }
        let file = PlanFile::of(plan);
        if file.bytes == bytes {
            Ok(file)
        } else {
            Err(PlanError::NotCanonical)
        }
    }
}

/// What a plan is made from, besides what was observed.
#[derive(Debug, Clone)]
pub struct Basis<'a> {
    /// Incident.
    pub incident: &'a IncidentId,
    /// Live or drill.
    pub mode: Mode,
    /// Run id.
    pub run: &'a RunId,
    /// The playbook.
    pub playbook: &'a Playbook,
    /// Its variables.
    pub vars: &'a Vars,
    /// Policy, people, keys.
    pub policy: &'a Policy,
    /// Who will run it.
    pub executor: &'a str,
    /// What is known about the actions.
    pub registry: &'a Registry,
    /// When.
    pub now: DateTime<Utc>,
}

/// Makes the plan.
pub fn make(basis: &Basis<'_>, seen: &Observation) -> Plan {
    let verdicts = verdict::judge(basis, seen);
    let steps: Vec<PlannedStep> = basis
        .playbook
        .all_steps()
        .into_iter()
        .filter(|s| !s.kind.is_block())
        .map(|s| planned(basis, seen, s, &verdicts[s.path.as_str()]))
        .collect();
    let (expected_s, critical_path) = critical_path::longest(&basis.playbook.steps, &steps);
    let objectives = &basis.playbook.objectives;
    Plan {
        format: FORMAT.into(),
        incident: basis.incident.clone(),
        mode: basis.mode,
        run: basis.run.clone(),
        made: clock_text::millis(basis.now),
        playbook: basis.playbook.id.clone(),
        name: basis.playbook.name.clone(),
        version: basis.playbook.version,
        playbook_sha256: basis.playbook.sha256.clone(),
        tlp: basis.playbook.tlp.clone(),
        vars: basis.vars.values().clone(),
        policy: basis.policy.name.as_str().into(),
        executor: basis.executor.into(),
        trust_sha256: basis.policy.trust_sha256(),
        tool: concat!("firebreak/", env!("CARGO_PKG_VERSION")).into(),
        objectives: objectives.clone(),
        binding: seen.binding.clone(),
        missing: missing(basis, seen, &steps),
        objectives_said: critical_path::against(
            objectives,
            &basis.playbook.steps,
            &steps,
            expected_s,
        ),
        empty: steps.iter().all(|s| s.verdict == Verdict::Skip),
        steps,
        expected_s,
        critical_path,
    }
}

fn planned(
    basis: &Basis<'_>,
    seen: &Observation,
    step: &Step,
    judged: &(Verdict, Option<String>),
) -> PlannedStep {
    let spec = step.call().and_then(|c| basis.registry.find(&c.action));
    let nothing = StepSeen::default();
    let observed = seen.steps.get(step.path.as_str()).unwrap_or(&nothing);
    let preview = match &observed.preview {
        Some(Ok(preview)) => preview.clone(),
        _ => Previewed::default(),
    };
    let mut warnings = preview.warnings.clone();
    if let Some(Err(why)) = &observed.preview {
        warnings.push(format!("its preview failed: {why}"));
    }
    let call = verdict::known_call(basis, step);
    let (expected_s, expected_by) = critical_path::expected(basis, seen, step);
    PlannedStep {
        path: step.path.clone(),
        name: step.title().into(),
        kind: step.kind.word().into(),
        action: step.call().map(|c| c.action.clone()),
        phase: step.phase.or(spec.map(|s| s.phase)),
        effect: step.effect(),
        runbook: step.runbook.clone(),
        verdict: judged.0,
        why: judged.1.clone(),
        call_sha256: call.as_ref().map(|c| c.digest()),
        what: call.as_ref().map(|c| c.what.clone()),
        args: call.as_ref().map(|c| values::action_args(c).clone()),
        approval: need_text(policy::need(basis.policy.name, step)),
        holders: holders(basis, step),
        changes: preview.changes,
        blast_radius: preview.blast_radius,
        undo: undo_text(step, &preview.undo, spec.map(|s| s.undo)),
        expected_s,
        expected_by: expected_by.into(),
        disturbs: spec.map_or(0, |s| s.disturbs),
        binding: preview.binding,
        shown: preview.shown,
        warnings,
        cannot: preview.cannot,
        details: preview.details,
    }
}

/// What is needed, for people.
pub fn need_text(need: Need) -> String {
    match need {
        Need::Nothing => "nothing".into(),
        Need::Typed => "typed".into(),
        Need::TypedWithReason => "typed with a reason".into(),
        Need::Signed { quorum: 1, .. } => "1 signature".into(),
        Need::Signed { quorum, .. } => format!("{quorum} signatures"),
        Need::SecondPerson => "a second person".into(),
    }
}

fn holders(basis: &Basis<'_>, step: &Step) -> BTreeMap<String, Vec<String>> {
    let Some(approve) = &step.approve else {
        return BTreeMap::new();
    };
    approve
        .roles
        .iter()
        .map(|role| {
            let people = basis.policy.holders(basis.playbook, role);
            let mut names: Vec<String> = people.iter().map(|p| p.name.clone()).collect();
            if basis.policy.name == policy::PolicyName::Solo {
                names.push(basis.executor.to_owned());
            }
            (role.clone(), names)
        })
        .collect()
}

fn undo_text(step: &Step, previewed: &str, own: Option<UndoSpec>) -> String {
    if !previewed.is_empty() {
        return previewed.to_owned();
    }
    match (&step.undo, own, step.effect()) {
        (_, _, Effect::Read) => "nothing to undo".into(),
        (Some(call), _, _) => format!("by `{}`, on request", call.action),
        (None, Some(UndoSpec::Own), _) => "by its own undo, on request".into(),
        (None, Some(UndoSpec::None(why)), _) => format!("cannot be undone: {why}"),
        (None, None, _) => "cannot be undone: it declares none".into(),
    }
}

fn missing(basis: &Basis<'_>, seen: &Observation, steps: &[PlannedStep]) -> Vec<Missing> {
    let mut found = Vec::new();
    for step in steps {
        let path = step.path.to_string();
        let optional = basis.playbook.find(&step.path).is_some_and(|s| {
            s.effect() == Effect::Read
                && s.on_failure_or_default(&basis.playbook.defaults) == OnFailure::Continue
        });
        if step.verdict == Verdict::Blocked {
            found.push(Missing {
                code: "FB0402".into(),
                step: path.clone(),
                what: step.why.clone().unwrap_or_else(|| "it is blocked".into()),
                refuses: !optional,
            });
        }
        for right in seen.missing_rights.get(&path).into_iter().flatten() {
            found.push(Missing {
                code: "FB0405".into(),
                step: path.clone(),
                what: right.clone(),
                refuses: !optional && step.verdict != Verdict::Skip,
            });
        }
        found.extend(nobody(basis, step));
    }
    found
}

/// A signed gate that not enough people could open.
fn nobody(basis: &Basis<'_>, planned: &PlannedStep) -> Option<Missing> {
    let step = basis.playbook.find(&planned.path)?;
    let Need::Signed {
        quorum, executor, ..
    } = policy::need(basis.policy.name, step)
    else {
        return None;
    };
    let roles = step.approve.as_ref().map_or(&[][..], |a| &a.roles);
    let mut able: Vec<&str> = if roles.is_empty() {
        basis
            .policy
            .people
            .iter()
            .map(|p| p.principal.as_str())
            .collect()
    } else {
        roles
            .iter()
            .flat_map(|r| basis.policy.holders(basis.playbook, r))
            .map(|p| p.principal.as_str())
            .collect()
    };
    able.sort_unstable();
    able.dedup();
    if executor == policy::Executor::NeverCounts {
        let me = basis.policy.principal_of(basis.executor);
        able.retain(|p| *p != me);
    }
    let enough = u32::try_from(able.len()).unwrap_or(u32::MAX) >= quorum;
    (!enough).then(|| Missing {
        code: "FB0403".into(),
        step: planned.path.to_string(),
        what: format!(
            "it needs {quorum} people of the roles {}, and {} can sign",
            roles.join(", "),
            able.len()
        ),
        refuses: planned.verdict != Verdict::Skip,
    })
}

/// The outline that `run.created` keeps for reports.
pub fn outline(playbook: &Playbook, plan: &Plan) -> Vec<StepOutline> {
    playbook
        .all_steps()
        .into_iter()
        .map(|s| {
            let planned = plan.steps.iter().find(|p| p.path == s.path);
            StepOutline {
                path: s.path.to_string(),
                name: s.title().to_owned(),
                kind: s.kind.word().to_owned(),
                action: s.call().map(|c| c.action.clone()),
                phase: planned.and_then(|p| p.phase).or(s.phase),
                effect: s.effect(),
                runbook: s.runbook.clone(),
                expected_s: planned
                    .filter(|_| !matches!(s.kind, Kind::Note { .. }))
                    .map(|p| p.expected_s),
            }
        })
        .collect()
}
