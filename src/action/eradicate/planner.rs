//! Making a rotation plan: who we are and what must be spared, what there is, which of it is meant, and what becomes of each.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value as Json;

use crate::action::{ActionError, Class, Context};
use crate::incident::body::LedgerOpened;
use crate::incident::{clock_text, kind};
use crate::port::{CallerIdentity, Estate};
use crate::rotation::guards::{self, Spared};
use crate::rotation::inventory::{Credential, Fact};
use crate::rotation::map::RotationMap;
use crate::rotation::plan::{Excluded, FORMAT, GuardResult, Item, RotationPlan, Waits};

use super::gather::{Stored, UserKeys};
use super::holders::Holders;
use super::plan_args::PlanArgs;
use super::rotate_credentials::estate;
use super::walk::{self, Window};

/// How long a plan may be begun.
const VALID: TimeDelta = TimeDelta::hours(24);
/// How far back the trail goes.
const TRAIL: TimeDelta = TimeDelta::days(90);

/// A plan, and what was there before it for the evidence.
pub(super) struct Built {
    /// The plan.
    pub(super) plan: RotationPlan,
    /// State of each credential, one JSON object a line.
    pub(super) before: Vec<Json>,
}

/// What is known while a plan is made.
pub(super) struct Planner<'a> {
    pub(super) cx: &'a Context,
    pub(super) args: &'a PlanArgs,
    pub(super) estate: Estate,
    pub(super) now: DateTime<Utc>,
    pub(super) me: CallerIdentity,
    pub(super) region: String,
    pub(super) map: Option<RotationMap>,
    pub(super) spared: Spared,
    pub(super) t0: Option<DateTime<Utc>>,
    pub(super) users: Vec<UserKeys>,
    pub(super) roles: BTreeMap<String, String>,
    /// Tags of roles, where they were asked for.
    pub(super) role_tags: BTreeMap<String, Fact<BTreeMap<String, String>>>,
    pub(super) secrets: Vec<Stored>,
    pub(super) holders: Holders,
    pub(super) guards: Vec<GuardResult>,
    pub(super) excluded: Vec<Excluded>,
    pub(super) residual: Vec<String>,
    pub(super) warnings: Vec<String>,
    pub(super) before: Vec<Json>,
    asked: Option<(Window, Option<String>)>,
}

/// A credential that is meant, and why.
pub(super) struct Member {
    pub(super) credential: Credential,
    pub(super) why: Vec<String>,
}

/// Makes the plan.
pub(super) async fn build(cx: &Context, args: &PlanArgs) -> Result<Built, ActionError> {
    let estate = estate(cx)?.clone();
    let now = cx.ports.clock.now();
    let answer = estate.cloud.identity().await?;
    let region = region(&estate).await;
    let (map, map_sha256) = map(cx, args)?;
    let mut planner = Planner {
        cx,
        args,
        now,
        region,
        map,
        spared: Spared::caller(&answer.value),
        me: answer.value,
        t0: args.t0()?,
        estate,
        users: Vec::new(),
        roles: BTreeMap::new(),
        role_tags: BTreeMap::new(),
        secrets: Vec::new(),
        holders: Holders::default(),
        guards: vec![guards::time(answer.server_date, now)],
        excluded: Vec::new(),
        residual: Vec::new(),
        warnings: Vec::new(),
        before: Vec::new(),
        asked: None,
    };
    planner.policy()?;
    planner.own_chain().await;
    let glass = planner.break_glass().await?;
    let (members, selector) = planner.select().await?;
    let items = planner.items(members).await?;
    let plan = RotationPlan {
        format: FORMAT.into(),
        incident: cx.incident.to_string(),
        created: clock_text::seconds(now),
        expires: clock_text::seconds(now + VALID),
        t0: planner.t0.map(clock_text::seconds),
        account: planner.me.account.clone(),
        region: planner.region.clone(),
        caller: planner.me.arn.clone(),
        selector,
        on_unknown: args.on_unknown().as_str().into(),
        on_stale: args.on_stale().into(),
        map_sha256,
        deletions: args.delete,
        items,
        workloads: std::mem::take(&mut planner.holders.workloads),
        excluded: planner.excluded,
        break_glass: glass,
        guards: planner.guards,
        residual: planner.residual,
        warnings: planner.warnings,
        waits: waits(args, planner.estate.loopback)?,
        concurrency: args.concurrency.unwrap_or(8).clamp(1, 256),
    };
    if let Some(refused) = plan.guards.iter().find(|g| g.verdict == "refused") {
        let code = if refused.guard == "time" {
            guards::TIME
        } else {
            guards::SELF
        };
        return Err(
            refuse(code, format!("{}: {}", refused.guard, refused.detail))
                .hint("set this host's clock by NTP, then plan again"),
        );
    }
    Ok(Built {
        plan,
        before: planner.before,
    })
}

pub(super) fn refuse(code: &'static str, why: impl Into<String>) -> ActionError {
    ActionError::new(Class::Refused, why).code(code)
}

/// The configured region stands first.
async fn region(estate: &Estate) -> String {
    let regions = estate.cloud.regions().await.unwrap_or_default();
    let first = regions.into_iter().next();
    first.unwrap_or_else(|| walk::GLOBAL_REGION.to_owned())
}

fn map(
    cx: &Context,
    args: &PlanArgs,
) -> Result<(Option<RotationMap>, Option<String>), ActionError> {
    let Some(sha) = &args.map_sha256 else {
        return Ok((None, None));
    };
    let name = crate::rotation::map::pinned_name(sha);
    let bytes = cx
        .files
        .pinned(&name)
        .map_err(|e| ActionError::new(Class::Failed, format!("cannot read trust/{name}: {e}")))?
        .ok_or_else(|| refuse("FB3034", format!("there is no rotation map trust/{name}")))?;
    if crate::rotation::map::digest(&bytes) != *sha {
        return Err(refuse(
            "FB0604",
            format!("trust/{name} is not the map that its name says"),
        ));
    }
    let map = RotationMap::read(&bytes).map_err(|e| refuse("FB3034", e.to_string()))?;
    Ok((Some(map), Some(sha.clone())))
}

/// Waits as asked for; shorter ones than the defaults only where every endpoint is on this host.
fn waits(args: &PlanArgs, loopback: bool) -> Result<Waits, ActionError> {
    let bad = |why: String| refuse("FB3035", why);
    let mut value = serde_json::to_value(Waits::default()).map_err(|e| bad(e.to_string()))?;
    for (name, wait) in &args.waits {
        value[name] = Json::from(*wait);
    }
    if let Some(grace) = args.grace_s {
        value["grace_ms"] = Json::from(grace.saturating_mul(1_000));
    }
    let waits: Waits = serde_json::from_value(value).map_err(|e| bad(e.to_string()))?;
    guards::waits(&waits, loopback).map_err(bad)?;
    Ok(waits)
}

impl Planner<'_> {
    /// Deleting waits for a second person.
    fn policy(&self) -> Result<(), ActionError> {
        let solo = self.policy_name()? != "team";
        if solo && (self.args.delete || !self.args.free_slot.is_empty()) {
            return Err(refuse(
                "FB3033",
                "this incident's policy is `solo`: deleting a credential waits for a second person",
            )
            .hint("plan without deletions: the old key ends Inactive and proven dead; or open an incident under a team's policy"));
        }
        if !self.args.free_slot.is_empty() && !self.args.delete {
            return Err(refuse(
                "FB3033",
                "`free_slot` deletes a key: say `delete` as well",
            ));
        }
        Ok(())
    }

    pub(super) fn policy_name(&self) -> Result<String, ActionError> {
        let history = self.cx.ledger.history()?;
        let opened = history.bodies::<LedgerOpened>(kind::LEDGER_OPENED).next();
        Ok(opened.map_or_else(|| "solo".into(), |(_, o)| o.policy))
    }

    /// Where and when the trail is asked, found out once.
    pub(super) async fn window(&mut self) -> (Window, Option<String>) {
        if let Some(known) = &self.asked {
            return known.clone();
        }
        let from = self
            .t0
            .map_or(self.now - TRAIL, |t0| t0 - TimeDelta::days(1));
        let from = from.max(self.now - TRAIL);
        let to = self.now + TimeDelta::minutes(5);
        let window = Window::of(&self.estate, &self.region, from, to).await;
        self.asked = Some(window.clone());
        window
    }
}

/// Counts items by kind.
pub(super) fn by_kind(items: &[Item]) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for item in items {
        *kinds.entry(item.kind.as_str().to_owned()).or_default() += 1;
    }
    kinds
}
