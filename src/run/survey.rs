//! Looking before a plan: probes and previews of every step whose call is known, and the rights they need. Nothing changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::action::registry::Registry;
use crate::action::{Action, ActionError, Class, Context, Observed, Preview};
use crate::incident::body::{RunCreated, StepFinished};
use crate::incident::{Effect, History, Outcome, kind};
use crate::plan::plan::Basis;
use crate::plan::seen::{Observation, Previewed, Probed, StepSeen};
use crate::plan::values;
use crate::plan::verdict::known_call;
use crate::playbook::model::{Call, Kind, Playbook, Step};
use crate::playbook::variable::{Vars, fill_arguments};
use crate::port::Right;

use super::engine::Engine;
use super::error::EngineError;
use super::machine::SIDE_BY_SIDE;

/// Time for one probe or preview.
const LOOK: Duration = Duration::from_secs(30);

/// Reads a playbook; every action that it names must be there.
pub(super) fn read_playbook(
    name: &str,
    bytes: &[u8],
    registry: &Registry,
) -> Result<Playbook, EngineError> {
    let playbook = crate::playbook::read::read(bytes, Some(name)).map_err(|findings| {
        EngineError::Playbook {
            code: findings.first().map_or("FB0101", |f| f.code).into(),
            findings: findings
                .iter()
                .map(|f| format!("{} {}:{} {}", f.code, f.line, f.column, f.message))
                .collect(),
        }
    })?;
    let calls = playbook.all_steps().into_iter().flat_map(|s| {
        [
            s.call(),
            s.require.as_ref(),
            s.done_if.as_ref(),
            s.undo.as_ref(),
        ]
        .into_iter()
        .flatten()
    });
    let unknown: BTreeSet<&str> = calls
        .map(|c| c.action.as_str())
        .filter(|name| registry.find(name).is_none())
        .collect();
    if unknown.is_empty() {
        return Ok(playbook);
    }
    Err(EngineError::Playbook {
        code: "FB0115".into(),
        findings: unknown
            .into_iter()
            .map(|name| format!("there is no action `{name}`"))
            .collect(),
    })
}

/// What probes and previews say now.
pub(super) async fn observe(
    engine: &Engine,
    basis: &Basis<'_>,
) -> Result<Observation, EngineError> {
    let mut observation = Observation {
        binding: identity(engine).await?,
        ..Observation::default()
    };
    let slots = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut looks = JoinSet::new();
    let steps: Vec<&Step> = basis.playbook.all_steps();
    for step in &steps {
        let look = Look::of(engine, basis, step);
        let slots = Arc::clone(&slots);
        let path = step.path.to_string();
        looks.spawn(async move {
            let _slot = slots.acquire_owned().await;
            (path, look.now().await)
        });
    }
    let mut denied = Vec::new();
    while let Some(joined) = looks.join_next().await {
        if let Ok((path, (seen, refused))) = joined {
            denied.extend(refused.map(|why| (path.clone(), why)));
            observation.steps.insert(path, seen);
        }
    }
    observation.missing_rights = missing_rights(engine, basis, &steps).await;
    // What the server refused by dry-run is missing, whatever its review of rights says.
    for (path, why) in denied {
        let known = observation.missing_rights.entry(path);
        known.or_insert_with(|| vec![why]);
    }
    observation.history_s = history(&engine.ledger.history()?, &basis.playbook.id);
    Ok(observation)
}

/// Context, server and identity of the cluster always bind.
async fn identity(engine: &Engine) -> Result<BTreeMap<String, String>, EngineError> {
    let Some(cluster) = &engine.ports.cluster else {
        return Ok(BTreeMap::new());
    };
    let id = cluster
        .view
        .identity()
        .await
        .map_err(|e| EngineError::NotNow(e.to_string()))?;
    Ok(BTreeMap::from([
        ("context".to_owned(), id.context),
        ("server".to_owned(), id.server),
        ("cluster".to_owned(), id.uid),
    ]))
}

struct Look {
    cx: Context,
    require: Option<ProbeCall>,
    done_if: Option<ProbeCall>,
    preview: Option<(Arc<dyn Action>, serde_json::Value)>,
}

impl Look {
    fn of(engine: &Engine, basis: &Basis<'_>, step: &Step) -> Look {
        let mut cx = engine.context(basis.run, &step.path, 1, LOOK);
        cx.custody = None;
        let known = known_call(basis, step);
        let preview = known
            .filter(|_| matches!(step.kind, Kind::Call(_)))
            .and_then(|call| {
                let action = engine.actions.find(call.what.as_str()?)?;
                Some((Arc::clone(action), values::action_args(&call).clone()))
            });
        let vars = basis.vars;
        Look {
            require: step
                .require
                .as_ref()
                .and_then(|c| ProbeCall::of(engine, c, vars).ok()),
            done_if: step
                .done_if
                .as_ref()
                .and_then(|c| ProbeCall::of(engine, c, vars).ok()),
            cx,
            preview,
        }
    }
    /// What was seen, and the words of a preview that ended at a missing right.
    async fn now(self) -> (StepSeen, Option<String>) {
        let mut seen = StepSeen::default();
        if let Some(probe) = self.require {
            seen.require = Some(probe.ask(&self.cx).await);
        }
        if let Some(probe) = self.done_if {
            seen.done_if = Some(probe.ask(&self.cx).await);
        }
        let mut denied = None;
        if let Some((action, args)) = self.preview {
            let previewed = preview_of(action.as_ref(), &self.cx, &args).await;
            denied = previewed.as_ref().err().and_then(Unseen::denied);
            seen.preview = Some(previewed.map_err(|e| e.to_string()));
        }
        (seen, denied)
    }
}

/// Arguments that do not fit the action's own type block the step: no verb of it ever sees them.
async fn preview_of(
    action: &dyn Action,
    cx: &Context,
    args: &serde_json::Value,
) -> Result<Previewed, Unseen> {
    if let Err(e) = (action.spec().check_args)(args) {
        return Ok(Previewed {
            blocked: vec![e.to_string()],
            ..Previewed::default()
        });
    }
    match tokio::time::timeout(LOOK, action.preview(cx, args)).await {
        Ok(Ok(preview)) => Ok(previewed(preview)),
        Ok(Err(e)) => Err(Unseen::Failed(e)),
        Err(_) => Err(Unseen::Late),
    }
}

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
enum Unseen {
    #[error(transparent)]
    Failed(ActionError),
    #[error("no answer within {} s", LOOK.as_secs())]
    Late,
}

impl Unseen {
    /// The words, where a right is missing.
    fn denied(&self) -> Option<String> {
        match self {
            Unseen::Failed(e) if e.class == Class::Denied => Some(e.to_string()),
            _ => None,
        }
    }
}

fn previewed(p: Preview) -> Previewed {
    Previewed {
        changes: p.changes,
        already: p.already,
        idle: p.idle,
        blocked: p.blocked,
        binding: p.binding,
        shown: p.shown,
        blast_radius: p.blast_radius,
        warnings: p.warnings,
        cannot: p.cannot,
        undo: p.undo,
        details: p.details,
    }
}

/// A `require` or `done_if` with its values.
#[derive(Clone)]
pub(super) struct ProbeCall {
    action: Arc<dyn Action>,
    args: serde_json::Value,
}

impl ProbeCall {
    pub(super) fn of(engine: &Engine, call: &Call, vars: &Vars) -> Result<ProbeCall, String> {
        let args = fill_arguments(&call.with, vars).map_err(|e| e.to_string())?;
        let action = engine
            .actions
            .find(&call.action)
            .ok_or_else(|| format!("there is no action `{}`", call.action))?;
        (action.spec().check_args)(&args).map_err(|e| e.to_string())?;
        Ok(ProbeCall {
            action: Arc::clone(action),
            args,
        })
    }
    /// True, false or failed. A reading action answers by its field `ok`; of any other only its observation is asked.
    pub(super) async fn ask(&self, cx: &Context) -> Probed {
        let limit = cx.deadline.min(LOOK);
        let answer = tokio::time::timeout(limit, self.answer(cx)).await;
        match answer {
            Ok(Ok(probed)) => probed,
            Ok(Err(e)) => Probed::Failed(e.to_string()),
            Err(_) => Probed::Failed(format!("no answer within {} s", limit.as_secs())),
        }
    }
    async fn answer(&self, cx: &Context) -> Result<Probed, ActionError> {
        if self.action.spec().effect > Effect::Read {
            return Ok(match self.action.observe(cx, &self.args).await? {
                Observed::Done(_) => Probed::True,
                Observed::NotDone => Probed::False,
                Observed::Unknown(why) => Probed::Failed(why),
            });
        }
        let applied = self.action.apply(cx, &self.args).await?;
        Ok(
            match applied
                .result
                .get("ok")
                .and_then(serde_json::Value::as_bool)
            {
                Some(true) => Probed::True,
                Some(false) => Probed::False,
                None => Probed::Failed("its answer has no `ok`".into()),
            },
        )
    }
}

/// Rights that the server says are missing, by step, each with the roles that hold it.
async fn missing_rights(
    engine: &Engine,
    basis: &Basis<'_>,
    steps: &[&Step],
) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    let Some(cluster) = &engine.ports.cluster else {
        return found;
    };
    let mut needed: Vec<(String, Right)> = Vec::new();
    for step in steps {
        let Some(action) = step.call().and_then(|c| engine.actions.find(&c.action)) else {
            continue;
        };
        let args = known_call(basis, step)
            .map_or(serde_json::json!({}), |c| values::action_args(&c).clone());
        needed.extend(
            action
                .rights(&args)
                .into_iter()
                .map(|r| (step.path.to_string(), r)),
        );
    }
    let unique: Vec<Right> = needed
        .iter()
        .map(|(_, r)| r.clone())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    if unique.is_empty() {
        return found;
    }
    // A review that cannot be made leaves rights unknown; the step itself will say so.
    let answers = cluster.view.may(&unique).await.unwrap_or_default();
    for answer in answers.into_iter().filter(|a| a.allowed == Some(false)) {
        let roles = cluster
            .view
            .roles_with(&answer.right)
            .await
            .unwrap_or_default();
        let held = if roles.is_empty() {
            "no role that can be read holds it".to_owned()
        } else {
            format!("held by {}", roles.join(", "))
        };
        for (path, _) in needed.iter().filter(|(_, r)| *r == answer.right) {
            let line = format!("the right to {} is missing; {held}", answer.right);
            found
                .entry(path.clone())
                .or_insert_with(Vec::new)
                .push(line);
        }
    }
    found
}

/// Seconds that steps of the same playbook took before, by path.
fn history(history: &History, playbook: &str) -> BTreeMap<String, Vec<u64>> {
    let runs: Vec<String> = history
        .bodies::<RunCreated>(kind::RUN_CREATED)
        .filter(|(_, c)| c.playbook == playbook)
        .map(|(_, c)| c.run)
        .collect();
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (entry, body) in history.bodies::<StepFinished>(kind::STEP_FINISHED) {
        let ours = entry
            .run()
            .is_some_and(|r| runs.iter().any(|known| known == r));
        if let (true, Some(step)) = (
            ours && body.outcome == Outcome::Done && body.by == "result",
            entry.step(),
        ) {
            found
                .entry(step.to_owned())
                .or_default()
                .push(body.elapsed_ms / 1000);
        }
    }
    found
}
