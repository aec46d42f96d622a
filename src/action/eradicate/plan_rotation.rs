//! `eradicate.plan_rotation`: which credentials are replaced, how, and what each change rests on.
//!
//! *Effect*: reads the account, the secret store, databases and consumers; pins the plan in the incident's `trust/`, and preserves what was
//! there before as an exhibit. *Undo*: none is needed. *What it disturbs*: nothing; values of secrets are looked at in memory to find where a
//! credential lives, unless `skip_values` says not to. *Permissions*: the reading ones of `permissions rotate`. *Cost and time*: about two
//! calls for each user and one for each secret.

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::action::registry::{ActionSpec, Sample, UndoSpec, Use, check_as, read_as};
use crate::action::{Action, ActionError, Applied, Class, Context, Observed, Preview};
use crate::incident::rotate::RotationPlanned;
use crate::incident::{Category, Draft, Effect, Phase, Refs, kind};
use crate::port::{Ended, ExhibitDraft};
use crate::rotation::plan::{Item, RotationPlan, What};

use super::plan_args::PlanArgs;
use super::plan_items::expected;
use super::planner::{self, Built, by_kind};
use super::rotate_credentials::estate;

static SPEC: ActionSpec = ActionSpec {
    name: "eradicate.plan_rotation",
    about: "Plans which credentials are replaced and how, from what is there; changes nothing.",
    effect: Effect::Read,
    phase: Phase::Eradication,
    uses: &[Use::Call],
    args_schema: || schemars::schema_for!(PlanArgs),
    check_args: check_as::<PlanArgs>,
    undo: UndoSpec::None("it only reads"),
    result: &[
        ("plan_sha256", Sample::Text),
        ("items", Sample::Integer),
        ("needs_human", Sample::Integer),
        ("summary", Sample::Texts),
    ],
    rights: &[],
    exhibit: None,
    volatility: None,
    disturbs: 0,
    timeout_s: 1_800,
};

/// The action.
pub struct PlanRotation;

#[async_trait]
impl Action for PlanRotation {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    /// Only the account is bound: what the plan rests on is in the plan, and is looked at again before each item is begun.
    async fn preview(&self, cx: &Context, args: &Value) -> Result<Preview, ActionError> {
        let args = read(args)?;
        let identity = estate(cx)?.cloud.identity().await?.value;
        let mut preview = Preview {
            undo: "it only reads".into(),
            ..Preview::default()
        };
        preview.binding.insert("account".into(), identity.account);
        preview.shown.insert("caller".into(), identity.arn);
        match planner::build(cx, &args).await {
            Ok(built) => show(&built.plan, &mut preview),
            // What an earlier step hands over is not there yet while the whole is planned.
            Err(e) if e.code == "FB3032" && args.handover => preview.warnings.push(
                "nothing was handed over by a containment yet: it is planned when the step runs"
                    .into(),
            ),
            Err(e) if e.class == Class::Refused => {
                preview.blocked.push(format!("{} {}", e.code, e.message))
            }
            Err(e) => return Err(e),
        }
        Ok(preview)
    }

    async fn apply(&self, cx: &Context, args: &Value) -> Result<Applied, ActionError> {
        let args = read(args)?;
        if let Some(done) = of_step(cx)? {
            return Ok(done);
        }
        let built = planner::build(cx, &args).await?;
        preserve(cx, &built)?;
        let internal = |why: String| ActionError::new(Class::Internal, why);
        let bytes = built.plan.canonical().map_err(internal)?;
        let sha = built.plan.digest().map_err(internal)?;
        let name = format!("{sha}.json");
        cx.files.pin(&name, &bytes).map_err(|e| {
            ActionError::new(Class::Failed, format!("cannot pin trust/{name}: {e}"))
        })?;
        let body = RotationPlanned {
            plan_sha256: sha.clone(),
            mode: built.plan.mode().into(),
            account: built.plan.account.clone(),
            items: by_kind(&built.plan.items),
            selector: built.plan.selector.clone(),
            expires: built.plan.expires.clone(),
            map_sha256: built.plan.map_sha256.clone(),
        };
        let refs = Refs {
            plan_sha256: Some(sha.clone()),
            ..cx.refs()
        };
        cx.ledger
            .append(vec![Draft::new(kind::ROTATION_PLANNED, &body).about(refs)])?;
        Ok(answer(&sha, &built.plan))
    }

    async fn observe(&self, cx: &Context, _: &Value) -> Result<Observed, ActionError> {
        Ok(of_step(cx)?.map_or(Observed::NotDone, Observed::Done))
    }
}

fn read(args: &Value) -> Result<PlanArgs, ActionError> {
    let args: Result<PlanArgs, _> = read_as(args);
    args.map(PlanArgs::tidy)
        .map_err(|e| ActionError::new(Class::Refused, e.to_string()))
}

/// What this attempt of the step planned already: the same plan is answered, not another one.
fn of_step(cx: &Context) -> Result<Option<Applied>, ActionError> {
    let history = cx.ledger.history()?;
    let mine = cx.refs();
    let planned = history
        .bodies::<RotationPlanned>(kind::ROTATION_PLANNED)
        .filter(|(e, _)| {
            e.refs.run == mine.run && e.refs.step == mine.step && e.refs.attempt == mine.attempt
        })
        .last();
    let Some((_, planned)) = planned else {
        return Ok(None);
    };
    let name = format!("{}.json", planned.plan_sha256);
    let bytes = cx
        .files
        .pinned(&name)
        .map_err(|e| ActionError::new(Class::Failed, format!("cannot read trust/{name}: {e}")))?;
    let plan = bytes.and_then(|b| RotationPlan::read(&b).ok());
    Ok(plan.map(|plan| answer(&planned.plan_sha256, &plan)))
}

/// Evidence first: what was there before anything is changed.
fn preserve(cx: &Context, built: &Built) -> Result<(), ActionError> {
    let (Some(custody), false) = (&cx.custody, built.before.is_empty()) else {
        return Ok(());
    };
    let mut bag = custody.open_bag("credentials before their rotation", &cx.refs())?;
    let system = [("account".to_owned(), built.plan.account.clone())].into();
    bag.begin(&ExhibitDraft {
        name: "credentials-before".into(),
        description: "state of the credentials that a rotation was planned for".into(),
        category: Category::Config,
        system,
        method: "IAM, Secrets Manager and database reads".into(),
        command: None,
        trust: None,
        volatility: 5,
    })?;
    for line in &built.before {
        bag.write(format!("{line}\n").as_bytes())?;
    }
    bag.finish(Ended::Complete)?;
    bag.seal()?;
    Ok(())
}

fn answer(sha: &str, plan: &RotationPlan) -> Applied {
    let held = plan
        .items
        .iter()
        .filter(|i| i.needs_human.is_some())
        .count();
    Applied {
        summary: format!(
            "{} credentials planned ({}), {held} of them need a person first",
            plan.items.len(),
            plan.mode()
        ),
        result: json!({
            "plan_sha256": sha,
            "items": plan.items.len(),
            "needs_human": held,
            "summary": summary(plan),
        }),
    }
}

/// The plan in lines, as people read it before they approve.
pub fn summary(plan: &RotationPlan) -> Vec<String> {
    let mut lines = vec![
        format!(
            "account {} in {}, as {}",
            plan.account, plan.region, plan.caller
        ),
        format!("selected by {}", plan.selector),
        expected(&plan.items, plan.waits.grace_ms),
    ];
    for item in &plan.items {
        lines.push(item_line(item, plan));
        lines.extend(item.why.iter().map(|w| format!("  because {w}")));
    }
    lines.extend(
        plan.excluded
            .iter()
            .map(|e| format!("left alone: {} ({})", e.id, e.why)),
    );
    lines.extend(plan.residual.iter().map(|r| format!("not rotated: {r}")));
    lines.extend(
        plan.guards
            .iter()
            .map(|g| format!("guard {}: {}, {}", g.guard, g.verdict, g.detail)),
    );
    lines
}

fn item_line(item: &Item, plan: &RotationPlan) -> String {
    let what = match &item.what {
        What::AccessKey(key) => {
            let victim = key
                .victim
                .as_ref()
                .map(|v| format!(", {v} frees the slot"))
                .unwrap_or_default();
            format!(
                "{} of {}{victim}; new one in {}",
                key.old, key.user, key.escrow.secret
            )
        }
        What::RoleSessions(role) => {
            let moves: Vec<String> = role
                .moves
                .iter()
                .map(|m| format!("{}/{} to {}", m.namespace, m.from, m.to))
                .collect();
            format!(
                "sessions of {}; service accounts move: {}",
                role.role,
                joined(&moves)
            )
        }
        What::DatabasePassword(p) => {
            let servers: Vec<String> = p.servers().map(ToString::to_string).collect();
            format!("password of {} on {}", p.role, servers.join(", "))
        }
    };
    let sinks: Vec<String> = item.sinks.iter().map(|s| s.place()).collect();
    let restarts: Vec<String> = item
        .workloads
        .iter()
        .map(|w| plan.workloads[*w].place())
        .collect();
    let held = item
        .needs_human
        .map(|r| format!("; NOT BEGUN: {r}"))
        .unwrap_or_default();
    format!(
        "{} {} {}: {what}; written to {}; restarts {}; no return: {}{held}",
        item.id,
        item.kind,
        item.mode,
        joined(&sinks),
        joined(&restarts),
        item.no_return
    )
}

fn joined(parts: &[String]) -> String {
    match parts.is_empty() {
        true => "nothing".into(),
        false => parts.join(", "),
    }
}

fn show(plan: &RotationPlan, preview: &mut Preview) {
    for item in &plan.items {
        preview.changes.push(item_line(item, plan));
        for (name, value) in &item.binding {
            preview
                .shown
                .insert(format!("{}/{name}", item.id), value.clone());
        }
    }
    preview.blast_radius = plan
        .workloads
        .iter()
        .map(|w| format!("restarts {}", w.place()))
        .collect();
    preview.warnings = plan.warnings.clone();
    preview.cannot = plan.residual.clone();
    preview.details.push(("Rotation".into(), summary(plan)));
}
