//! `eradicate.rotate_credentials`: carries an approved rotation plan out, item by item, from wherever the ledger says that each stands.
//!
//! *Effect*: new credentials in place of old ones; old ones Inactive, denied, terminated, and deleted where the plan says so.
//! *Undo*: none as a whole. A graceful item takes itself back before its point of no return when its consumer fails; afterwards, and in an
//! emergency, there is no way back to a value that the intruder may know.
//! *Permissions*: those of `permissions rotate`. *Cost and time*: the plan states it; a graceful item waits out its grace period and is
//! taken up again by `resume`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::action::registry::{ActionSpec, Sample, UndoSpec, Use, check_as, read_as};
use crate::action::{Action, ActionError, Applied, Class, Context, Observed, Preview};
use crate::incident::{Effect, Phase};
use crate::port::{CallerIdentity, Estate};
use crate::rotation::machine::Ending;
use crate::rotation::plan::RotationPlan;
use crate::rotation::words::{Reason, Terminal};

use super::carry::Rotation;
use super::fleet::{self, Endings, NotRun};
use super::rollouts::Rollouts;
use super::writer::Writer;

/// Arguments of `eradicate.rotate_credentials`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateArgs {
    /// Digest of the rotation plan, as `eradicate.plan_rotation` answers it.
    pub plan_sha256: String,
}

static SPEC: ActionSpec = ActionSpec {
    name: "eradicate.rotate_credentials",
    about: "Replaces the credentials of a rotation plan and proves the old ones dead.",
    effect: Effect::Irreversible,
    phase: Phase::Eradication,
    uses: &[Use::Call],
    args_schema: || schemars::schema_for!(RotateArgs),
    check_args: check_as::<RotateArgs>,
    undo: UndoSpec::None(
        "an old credential that the intruder may know is not brought back; a graceful item takes itself back before its point of no return",
    ),
    result: &[
        ("done", Sample::Integer),
        ("undone", Sample::Integer),
        ("needs_human", Sample::Integer),
        ("items", Sample::Integer),
    ],
    rights: &[],
    exhibit: None,
    volatility: None,
    disturbs: 0,
    timeout_s: 4 * 3_600,
};

/// The action.
pub struct RotateCredentials;

#[async_trait]
impl Action for RotateCredentials {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, args: &Value) -> Result<Preview, ActionError> {
        let plan = pinned(cx, args)?;
        let mut preview = Preview {
            undo: "graceful items take themselves back before their point of no return; nothing else is taken back".into(),
            warnings: plan.warnings.clone(),
            cannot: plan.residual.clone(),
            ..Preview::default()
        };
        for item in &plan.items {
            preview.changes.push(format!(
                "{} {} {} ({}): no return from {}",
                item.id, item.kind, item.name, item.mode, item.no_return
            ));
            for (name, value) in &item.binding {
                preview
                    .binding
                    .insert(format!("{}/{name}", item.id), value.clone());
            }
        }
        let workloads: Vec<String> = plan.workloads.iter().map(|w| w.place()).collect();
        preview
            .blast_radius
            .extend(workloads.iter().map(|w| format!("restarts {w}")));
        if plan.items.is_empty() {
            preview.blocked.push("the plan has no item".into());
        }
        Ok(preview)
    }

    async fn apply(&self, cx: &Context, args: &Value) -> Result<Applied, ActionError> {
        let plan = Arc::new(pinned(cx, args)?);
        if plan.items.is_empty() {
            let message = "the rotation plan has no item: there is nothing to replace";
            return Err(ActionError::new(Class::Refused, message).code("FB3001"));
        }
        expired(cx, &plan)?;
        let me = estate(cx)?.cloud.identity().await?.value;
        let rotation = rotation(cx, plan.clone(), me)?;
        let journals = fleet::journals(&cx.ledger.history()?, cx.run.as_str());
        let endings = fleet::run(Arc::new(rotation), journals)
            .await
            .map_err(not_run)?;
        finish(cx, &plan, &endings)
    }

    async fn observe(&self, cx: &Context, args: &Value) -> Result<Observed, ActionError> {
        let plan = pinned(cx, args)?;
        let journals = fleet::journals(&cx.ledger.history()?, cx.run.as_str());
        let endings: Endings = plan
            .items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| {
                let ended = journals.get(&item.id)?.ended.clone()?;
                Some((
                    index,
                    Ending {
                        state: Terminal::parse(&ended.state)?,
                        reason: ended.reason.as_deref().and_then(Reason::parse),
                        summary: ended.summary,
                        hint: ended.hint,
                        resumable: ended.resumable,
                    },
                ))
            })
            .collect();
        // What was begun and not ended is settled item by item when the step is done again.
        if endings.len() < plan.items.len() {
            return Ok(Observed::NotDone);
        }
        match finish(cx, &plan, &endings) {
            Ok(applied) => Ok(Observed::Done(applied)),
            Err(_) => Ok(Observed::NotDone),
        }
    }
}

/// The plan of this digest, from the incident's pinned files.
fn pinned(cx: &Context, args: &Value) -> Result<RotationPlan, ActionError> {
    let args: RotateArgs =
        read_as(args).map_err(|e| ActionError::new(Class::Refused, e.to_string()))?;
    let name = format!("{}.json", args.plan_sha256);
    let bytes = cx
        .files
        .pinned(&name)
        .map_err(|e| ActionError::new(Class::Failed, format!("cannot read trust/{name}: {e}")))?
        .ok_or_else(|| {
            ActionError::new(
                Class::Refused,
                format!(
                    "there is no rotation plan {} in this incident",
                    args.plan_sha256
                ),
            )
            .code("FB3001")
            .hint("make one: firebreak rotate plan")
        })?;
    let plan = RotationPlan::read(&bytes).map_err(|why| {
        ActionError::new(
            Class::Refused,
            format!("trust/{name} is not a rotation plan: {why}"),
        )
        .code("FB3001")
    })?;
    let digest = plan
        .digest()
        .map_err(|why| ActionError::new(Class::Internal, why))?;
    if digest != args.plan_sha256 || plan.incident != cx.incident.to_string() {
        return Err(ActionError::new(
            Class::Refused,
            format!("trust/{name} is not the plan that its name says, or of another incident"),
        )
        .code("FB0604"));
    }
    Ok(plan)
}

/// An old plan begins nothing; what it has begun goes on to a safe state.
fn expired(cx: &Context, plan: &RotationPlan) -> Result<(), ActionError> {
    let begun = !fleet::journals(&cx.ledger.history()?, cx.run.as_str()).is_empty();
    let expires = plan.expires.parse::<chrono::DateTime<chrono::Utc>>();
    match expires {
        Ok(expires) if begun || cx.ports.clock.now() <= expires => Ok(()),
        _ => Err(ActionError::new(
            Class::Conflict,
            format!("the rotation plan expired at {}", plan.expires),
        )
        .code("FB3002")
        .hint("plan anew: firebreak rotate plan")),
    }
}

fn rotation(
    cx: &Context,
    plan: Arc<RotationPlan>,
    me: CallerIdentity,
) -> Result<Rotation, ActionError> {
    let estate = estate(cx)?.clone();
    let history = cx.ledger.history()?;
    let mut journals = fleet::journals(&history, cx.run.as_str());
    let rollouts = Rollouts::new(&plan, &mut journals);
    let concurrency = usize::try_from(plan.concurrency.max(1)).unwrap_or(1);
    Ok(Rotation {
        cx: cx.clone(),
        writer: Writer::new(cx.ledger.clone()),
        me,
        epoch: u64::from(cx.attempt),
        rollouts,
        ours: Mutex::default(),
        permits: Arc::new(Semaphore::new(concurrency)),
        halt: std::sync::atomic::AtomicBool::new(false),
        plan,
        estate,
    })
}

/// What rotation works on, or an error that says how to give it.
pub(super) fn estate(cx: &Context) -> Result<&Estate, ActionError> {
    cx.estate()
}

fn not_run(e: NotRun) -> ActionError {
    match e {
        NotRun::Ledger(e) => e.into(),
        NotRun::Leased(terms) => ActionError::new(
            Class::Refused,
            format!(
                "{} rotates in {} until {} (run {})",
                terms.owner, terms.what, terms.expires, terms.run
            ),
        )
        .code("FB3004")
        .hint("wait for it, or resume that run"),
        NotRun::Lease(e) => ActionError::new(
            Class::Failed,
            format!("the lease on the account could not be had: {e}"),
        )
        .code("FB3005"),
    }
}

/// Done when every item is; else an error that says how many are not, and what a person must do first.
fn finish(cx: &Context, plan: &RotationPlan, endings: &Endings) -> Result<Applied, ActionError> {
    let count = |state: Terminal| endings.values().filter(|e| e.state == state).count();
    let (done, undone) = (count(Terminal::Done), count(Terminal::Undone));
    let (human, stuck) = (count(Terminal::NeedsHuman), count(Terminal::Stuck));
    let open = plan.items.len() - endings.len();
    let summary = format!(
        "{done} of {} replaced and proven dead, {undone} undone, {human} need a person, {stuck} stuck, {open} not ended",
        plan.items.len()
    );
    if done == plan.items.len() {
        return Ok(Applied {
            result: json!({ "done": done, "undone": undone, "needs_human": human, "items": plan.items.len() }),
            summary,
        });
    }
    if open > 0 && cx.cancelled() {
        return Err(
            ActionError::new(Class::Waiting, format!("stopped: {summary}"))
                .code("FB3011")
                .hint("go on: firebreak rotate resume"),
        );
    }
    let code = if stuck > 0 {
        "FB3010"
    } else if human + open > 0 {
        "FB3011"
    } else {
        "FB3012"
    };
    let first = worst(endings);
    // What a resume takes up by itself was decided already; only what is over for good asks for another plan.
    let goes_on = open > 0 || endings.values().any(|e| e.resumable);
    let class = if goes_on {
        Class::Waiting
    } else {
        Class::Failed
    };
    let mut why: BTreeMap<&str, usize> = BTreeMap::new();
    for ending in endings.values().filter(|e| e.state == Terminal::NeedsHuman) {
        *why.entry(ending.reason.map_or("?", Reason::as_str))
            .or_default() += 1;
    }
    let reasons: Vec<String> = why.iter().map(|(r, n)| format!("{r} {n}")).collect();
    let reasons = if reasons.is_empty() {
        String::new()
    } else {
        format!(" ({})", reasons.join(", "))
    };
    let hint = first
        .and_then(|e| e.hint.clone())
        .unwrap_or_else(|| "see each: firebreak rotate status".into());
    Err(ActionError::new(class, format!("{summary}{reasons}"))
        .code(code)
        .hint(hint))
}

fn worst(endings: &Endings) -> Option<&Ending> {
    [Terminal::Stuck, Terminal::NeedsHuman, Terminal::Undone]
        .iter()
        .find_map(|state| endings.values().find(|e| e.state == *state))
}
