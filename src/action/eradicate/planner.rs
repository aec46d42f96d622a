//! Making a rotation plan: who we are and what must be spared, what there is, which of it is meant, and what becomes of each.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value as Json;

use crate::action::{ActionError, Class, Context};
use crate::condition::{Condition, Sets};
use crate::incident::body::{Credentials, LedgerOpened};
use crate::incident::{clock_text, kind};
use crate::port::{CallerIdentity, Estate};
use crate::rotation::chain::Ask;
use crate::rotation::guards::{self, Spared};
use crate::rotation::inventory::{Credential, Fact};
use crate::rotation::map::RotationMap;
use crate::rotation::plan::{BreakGlass, Excluded, FORMAT, GuardResult, Item, RotationPlan, Waits};
use crate::rotation::select::{self, CHAIN, Judged, OnUnknown, TOUCHED_BY, Wanted};
use crate::rotation::words::CredentialKind;

use super::contents::Contents;
use super::gather::{self, Scope, Stored, UserKeys};
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
    pub(super) secrets: Vec<Stored>,
    pub(super) holders: Holders,
    pub(super) guards: Vec<GuardResult>,
    pub(super) excluded: Vec<Excluded>,
    pub(super) residual: Vec<String>,
    pub(super) warnings: Vec<String>,
    pub(super) before: Vec<Json>,
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
        secrets: Vec::new(),
        holders: Holders::default(),
        guards: vec![guards::time(answer.server_date, now)],
        excluded: Vec::new(),
        residual: Vec::new(),
        warnings: Vec::new(),
        before: Vec::new(),
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
    let name = format!("{sha}.yaml");
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
            .hint("plan without deletions: the old key ends Inactive and proven dead; or `firebreak policy init` and a team"));
        }
        if !self.args.free_slot.is_empty() && !self.args.delete {
            return Err(refuse(
                "FB3033",
                "`free_slot` deletes a key: say `delete` as well",
            ));
        }
        Ok(())
    }

    fn policy_name(&self) -> Result<String, ActionError> {
        let history = self.cx.ledger.history()?;
        let opened = history.bodies::<LedgerOpened>(kind::LEDGER_OPENED).next();
        Ok(opened.map_or_else(|| "solo".into(), |(_, o)| o.policy))
    }

    /// How we came by our own session: who assumed our role is spared as well.
    async fn own_chain(&mut self) {
        let mut id = self.me.access_key_id.clone();
        let (window, _) = self.window().await;
        let mut hops = 0;
        let told = loop {
            if !id.starts_with("ASIA") {
                break "our credentials are long-term, or the trail shows where they came from";
            }
            let Some(event) = self.minting_of(&id, &window).await else {
                break "the trail does not show who assumed our role: that one is not guarded";
            };
            let raw = crate::rotation::chain::raw(&event);
            if let Some(arn) = raw["userIdentity"]["arn"].as_str() {
                self.spared.add_arn(arn);
            }
            hops += 1;
            match event.access_key.filter(|_| hops < 5) {
                Some(before) => {
                    self.spared.keys.insert(before.clone());
                    id = before;
                }
                None => break "the trail shows where our credentials came from",
            }
        };
        let detail = format!("{} is spared; {told}", self.me.arn);
        self.guards
            .push(guards::result("self-lockout", "passed", detail));
    }

    async fn minting_of(&self, id: &str, window: &Window) -> Option<crate::port::TrailEvent> {
        for region in &window.regions {
            let by = crate::port::TrailBy::Resource(id.to_owned());
            let Ok((events, _)) = walk::events(&self.estate, by, region, window).await else {
                continue;
            };
            let made = |e: &crate::port::TrailEvent| {
                let raw = crate::rotation::chain::raw(e);
                raw["responseElements"]["credentials"]["accessKeyId"].as_str() == Some(id)
            };
            if let Some(event) = events.into_iter().find(made) {
                return Some(event);
            }
        }
        None
    }

    pub(super) async fn window(&self) -> (Window, Option<String>) {
        let from = self
            .t0
            .map_or(self.now - TRAIL, |t0| t0 - TimeDelta::days(1));
        let from = from.max(self.now - TRAIL);
        Window::of(
            &self.estate,
            &self.region,
            from,
            self.now + TimeDelta::minutes(5),
        )
        .await
    }

    /// Each configured way in is tried, and must answer as the configuration says.
    async fn break_glass(&mut self) -> Result<Vec<BreakGlass>, ActionError> {
        let paths = self.estate.break_glass.clone();
        if paths.is_empty() {
            if self.policy_name()? == "team" {
                return Err(refuse(
                    guards::BREAK_GLASS,
                    "no emergency access is configured: a team's rotation needs one that is tested",
                )
                .hint("name a profile and its ARN under `break_glass` in the configuration"));
            }
            let why = "no emergency access is configured: if this rotation locks us out, nothing here lets us back in";
            self.guards
                .push(guards::result("break-glass", "not-checked", why));
            self.warnings.push(why.into());
            return Ok(Vec::new());
        }
        let (mut tested, mut failed) = (Vec::new(), Vec::new());
        for path in &paths {
            self.spared.add_arn(&path.arn);
            match path.cloud.identity().await {
                Ok(answer) if guards::answers_to(&answer.value.arn, &path.arn) => {
                    self.spared.keys.insert(answer.value.access_key_id.clone());
                    tested.push(BreakGlass {
                        profile: path.profile.clone(),
                        arn: path.arn.clone(),
                        tested: clock_text::seconds(self.cx.ports.clock.now()),
                    });
                }
                Ok(answer) => failed.push(format!(
                    "profile {} answered as {}, not as {}",
                    path.profile, answer.value.arn, path.arn
                )),
                Err(e) => failed.push(format!("profile {}: {e}", path.profile)),
            }
        }
        if tested.is_empty() {
            return Err(refuse(
                guards::BREAK_GLASS,
                format!("no emergency access works: {}", failed.join("; ")),
            )
            .hint("mend one (`aws sts get-caller-identity --profile …`), then plan again"));
        }
        self.warnings.extend(failed);
        let detail = format!(
            "{} of {} ways in answered as configured",
            tested.len(),
            paths.len()
        );
        self.guards
            .push(guards::result("break-glass", "passed", detail));
        Ok(tested)
    }

    /// What is meant: the expression that the arguments stand for, judged over what there is.
    async fn select(&mut self) -> Result<(Vec<Member>, String), ActionError> {
        let handed = self.handed_over()?;
        let mut wanted = self.args.wanted();
        self.read(&wanted).await?;
        self.resolve_names(&mut wanted)?;
        if self.args.handover {
            wanted.handover = Some(self.handover_ids(&handed));
        }
        let Some((text, mut sets)) = wanted.stands_for() else {
            return Err(refuse(
                "FB3030",
                "nothing is selected: give an expression, names, or the hand-over of a containment",
            ));
        };
        let condition = select::read(&text).map_err(|why| refuse("FB3030", why))?;
        self.trail_sets(&condition, &mut sets).await;
        let all = self.inventory();
        let judged = select::judge(&condition, &all, &sets, self.now);
        let members = self.decide(all, judged)?;
        let members = self.spare(members)?;
        if members.is_empty() && !self.args.allow_empty {
            return Err(refuse("FB3032", format!("nothing is selected by {text}"))
                .hint("see what there is: firebreak rotate select \"true\""));
        }
        Ok((members, text))
    }

    /// Reads what the selection may be about.
    async fn read(&mut self, wanted: &Wanted) -> Result<(), ActionError> {
        let asked = match &wanted.expression {
            Some(text) => Some(select::read(text).map_err(|why| refuse("FB3030", why))?),
            None => None,
        };
        let kinds = asked
            .as_ref()
            .map_or_else(BTreeSet::new, |c| select::kinds_of(c, &Sets::new()));
        let filtered = !wanted.only_named() && asked.is_none();
        let inner = !wanted.secrets.is_empty() || self.args.handover;
        let open = |k: CredentialKind| filtered || kinds.contains(&k);
        let names = |name: &str| asked.as_ref().is_some_and(|c| c.names().contains_key(name));
        let all_users = open(CredentialKind::IamAccessKey) || inner || !wanted.keys.is_empty();
        if all_users || !wanted.users.is_empty() {
            let scope = Scope {
                users: (!all_users).then_some(&wanted.users),
                details: names("tags") || names("groups") || !wanted.tags.is_empty(),
                uses: names("last_used"),
            };
            self.users = gather::users(self.cx, &self.estate, &scope).await?;
        }
        if open(CredentialKind::IamRoleSessions) || !wanted.roles.is_empty() || self.args.handover {
            self.roles = gather::roles(&self.estate).await?;
        }
        let look_inside = !self.args.skip_values;
        if look_inside
            || inner
            || open(CredentialKind::PgPassword)
            || open(CredentialKind::SmSecret)
        {
            let canaries = self.canaries();
            self.secrets = gather::secrets(self.cx, &self.estate, &canaries, look_inside).await?;
        }
        let only = self.args.namespaces.iter().cloned().collect();
        self.holders = Holders::read(self.cx, &self.estate, &only).await?;
        self.warnings.extend(self.holders.unread.iter().cloned());
        Ok(())
    }

    pub(super) fn canaries(&self) -> BTreeSet<String> {
        let of_map = self.map.iter().flat_map(|m| &m.canaries);
        of_map.chain(&self.args.canaries).cloned().collect()
    }

    /// What is named one by one must be there. Roles and secrets may be named by ARN.
    fn resolve_names(&self, wanted: &mut Wanted) -> Result<(), ActionError> {
        let missing = |what: &str, name: &str| {
            refuse(
                "FB3036",
                format!("there is no {what} `{name}` in account {}", self.me.account),
            )
            .hint("check the name, and the account: firebreak doctor")
        };
        for user in &wanted.users {
            if !self.users.iter().any(|u| u.user.name == *user) {
                return Err(missing("user", user));
            }
        }
        for key in &wanted.keys {
            let mut all = self
                .users
                .iter()
                .filter_map(|u| u.keys.as_ref().ok())
                .flatten();
            if !all.any(|k| k.key.id == *key) {
                return Err(missing("access key", key));
            }
        }
        let mut roles = BTreeSet::new();
        for role in &wanted.roles {
            let found = self
                .roles
                .iter()
                .find(|(name, arn)| *name == role || *arn == role);
            roles.insert(found.ok_or_else(|| missing("role", role))?.0.clone());
        }
        wanted.roles = roles;
        let mut secrets = BTreeSet::new();
        for secret in &wanted.secrets {
            let found = self
                .secrets
                .iter()
                .find(|s| s.seen.name == *secret || s.seen.arn == *secret);
            secrets.insert(
                found
                    .ok_or_else(|| missing("secret", secret))?
                    .seen
                    .name
                    .clone(),
            );
        }
        wanted.secrets = secrets;
        Ok(())
    }

    /// What containments listed of their pods.
    fn handed_over(&self) -> Result<Vec<Credentials>, ActionError> {
        if !self.args.handover {
            return Ok(Vec::new());
        }
        let history = self.cx.ledger.history()?;
        let all = history.bodies::<Credentials>(kind::CREDENTIALS_LISTED);
        Ok(all.map(|(_, c)| c).collect())
    }

    /// Ids of what the contained pods could use: the credential inside each Secret, and the role. What is not recognised is said.
    fn handover_ids(&mut self, handed: &[Credentials]) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        let mut places = BTreeSet::new();
        for pod in handed {
            places.extend(
                pod.secrets
                    .keys()
                    .map(|s| format!("{}/{s}", pod.pod.namespace)),
            );
            let Some(arn) = &pod.role_arn else { continue };
            match self.roles.values().find(|known| *known == arn) {
                Some(known) => _ = ids.insert(known.clone()),
                None => self.residual.push(format!(
                    "{arn}: no role of this account; revoke its sessions where it is"
                )),
            }
        }
        for place in places {
            let inside = self.inside(&place);
            if inside.is_empty() {
                self.residual.push(format!("Secret {place}: nothing in it is a credential that this version rotates; look at it"));
            }
            ids.extend(inside);
        }
        ids
    }

    /// Ids of the credentials in a Kubernetes Secret.
    fn inside(&self, place: &str) -> Vec<String> {
        let Some(secret) = self
            .holders
            .secrets
            .iter()
            .find(|s| Holders::place(s) == place)
        else {
            return Vec::new();
        };
        let mut ids = Holders::key_ids(secret);
        for stored in &self.secrets {
            if let Ok(Contents::Database(login)) = &stored.contents
                && secret
                    .data
                    .values()
                    .any(|v| v.expose_secret().contains(login.password.expose_secret()))
            {
                ids.push(stored.seen.arn.clone());
            }
        }
        ids
    }

    /// Sets that only the trail knows.
    async fn trail_sets(&mut self, condition: &Condition, sets: &mut Sets) {
        let asked = condition
            .calls()
            .iter()
            .filter(|(f, _)| f == CHAIN || f == TOUCHED_BY);
        for (function, of) in asked.cloned().collect::<BTreeSet<_>>() {
            let (window, end) = self.window().await;
            let start = match of.starts_with("arn:") {
                true => Ask::Role(of.clone()),
                false => Ask::Key(of.clone()),
            };
            let walked = walk::walk(&self.estate, &self.me.account, vec![start], &window).await;
            let unread = walked
                .open_ends
                .iter()
                .any(|e| e.contains("could not be read"));
            let members: Vec<String> = if function == CHAIN {
                let of_role = |r: &crate::rotation::chain::Reached| {
                    let name = guards::principal(&r.arn).map(|(_, n)| n.to_owned());
                    [Some(r.arn.clone()), name].into_iter().flatten()
                };
                walked.roles.iter().flat_map(of_role).collect()
            } else {
                walked.touched.iter().cloned().collect()
            };
            let ends = walked
                .open_ends
                .iter()
                .chain(&end)
                .map(|e| format!("{function}('{of}'): {e}"));
            self.warnings.extend(ends);
            sets.insert((function, of), (!unread).then_some(members));
        }
    }

    /// Everything that was read, as a selection sees it.
    fn inventory(&self) -> Vec<Credential> {
        let mut all = Vec::new();
        for user in &self.users {
            for key in user.keys.iter().flatten() {
                all.push(self.key(user, key));
            }
        }
        for (name, arn) in &self.roles {
            let mut role = Credential::new(
                CredentialKind::IamRoleSessions,
                &self.me.account,
                arn,
                name,
                arn,
            );
            role.path = Fact::of_readable(path_of(arn));
            role.tags = Fact::Unknown("tags of roles are not listed".into());
            all.push(role);
        }
        all.extend(self.secrets.iter().filter_map(|s| self.secret(s)));
        all
    }

    fn key(&self, user: &UserKeys, key: &guards::KeyUse) -> Credential {
        let (u, k) = (&user.user, &key.key);
        let mut c = Credential::new(
            CredentialKind::IamAccessKey,
            &self.me.account,
            &k.id,
            &u.name,
            &u.arn,
        );
        c.path = Fact::Known(u.path.clone());
        c.tags = Fact::of_readable(u.tags.clone());
        c.groups = Fact::of_readable(u.groups.clone());
        c.status = Fact::Known(if k.active { "Active" } else { "Inactive" }.into());
        c.created = Fact::of_readable(k.created);
        c.last_used = match &key.used {
            Ok(Some(at)) => Fact::Known(*at),
            Ok(None) => Fact::None,
            Err(why) => Fact::Unknown(why.clone()),
        };
        let unread = self.secrets.iter().find_map(|s| s.contents.as_ref().err());
        c.secret = match (self.secret_of_key(&k.id), unread) {
            (Some(stored), _) => Fact::Known(stored.seen.name.clone()),
            (None, Some(why)) => Fact::Unknown(format!("not every secret was looked at: {why}")),
            (None, None) => Fact::None,
        };
        c.namespace = match (&self.holders.snapshot, self.holder_of(&k.id)) {
            (None, _) => Fact::Unknown("this command has no cluster".into()),
            (_, Some(namespace)) => Fact::Known(namespace),
            _ => Fact::None,
        };
        c
    }

    fn holder_of(&self, id: &str) -> Option<String> {
        let mut all = self.holders.secrets.iter();
        let holds = all.find(|s| s.data.values().any(|v| v.expose_secret() == id))?;
        Some(holds.object.namespace.clone())
    }

    /// The secret of the store that keeps a key.
    pub(super) fn secret_of_key(&self, key: &str) -> Option<&Stored> {
        self.secrets
            .iter()
            .find(|s| matches!(&s.contents, Ok(Contents::Key { id, .. }) if id == key))
    }

    /// A secret is a credential of its own unless it only keeps a user's key of this account.
    fn secret(&self, stored: &Stored) -> Option<Credential> {
        let seen = &stored.seen;
        let mapped = self
            .map
            .as_ref()
            .and_then(|m| m.password_in(&seen.name, &seen.arn));
        let (kind, database) = match (&stored.contents, mapped) {
            (Ok(Contents::Database(login)), _) => (
                CredentialKind::PgPassword,
                Some(format!("{}/{}", login.host, login.database)),
            ),
            (_, Some(entry)) => (
                CredentialKind::PgPassword,
                entry.servers.as_ref().map(|s| s.primary.to_string()),
            ),
            (Ok(Contents::Key { id, .. }), None) if self.knows_key(id) => return None,
            _ => (CredentialKind::SmSecret, None),
        };
        let mut c = Credential::new(kind, &self.me.account, &seen.arn, &seen.name, &seen.arn);
        c.region.clone_from(&self.region);
        c.tags = Fact::of_readable(seen.tags.clone());
        c.secret = Fact::Known(seen.name.clone());
        c.database = database.map_or(Fact::None, Fact::Known);
        c.created = Fact::of_readable(seen.changed);
        c.last_used = Fact::of_readable(seen.accessed);
        Some(c)
    }

    fn knows_key(&self, id: &str) -> bool {
        let mut all = self
            .users
            .iter()
            .filter_map(|u| u.keys.as_ref().ok())
            .flatten();
        all.any(|k| k.key.id == id)
    }

    /// Members; unknown ones as the plan says.
    fn decide(
        &mut self,
        all: Vec<Credential>,
        judged: Vec<Judged>,
    ) -> Result<Vec<Member>, ActionError> {
        let (mut members, mut unknown) = (Vec::new(), Vec::new());
        for (credential, judged) in all.into_iter().zip(judged) {
            match judged {
                Judged::Out => {}
                Judged::In(why) => members.push(Member { credential, why }),
                Judged::Unknown(why) => match self.args.on_unknown() {
                    OnUnknown::Include => members.push(Member {
                        credential,
                        why: vec![format!("not known, and included: {why}")],
                    }),
                    OnUnknown::Exclude => self.excluded.push(Excluded {
                        id: credential.id.clone(),
                        why: format!("not known, and excluded: {why}"),
                    }),
                    OnUnknown::Refuse => {
                        unknown.push(format!("{} {} ({})", credential.kind, credential.name, why))
                    }
                },
            }
        }
        if unknown.is_empty() {
            return Ok(members);
        }
        let shown: Vec<&str> = unknown.iter().take(5).map(String::as_str).collect();
        Err(refuse(
            "FB3031",
            format!(
                "of {} it cannot be told whether they are meant: {}",
                unknown.len(),
                shown.join("; ")
            ),
        )
        .hint("grant the right to read them, or decide: --on-unknown include|exclude"))
    }

    /// What must be spared is never a member. Ourselves in the set refuses the plan: that is a mistake which a person must see.
    fn spare(&mut self, members: Vec<Member>) -> Result<Vec<Member>, ActionError> {
        let (canaries, glass) = (self.canaries(), self.glass());
        let mut kept = Vec::new();
        for member in members {
            let c = &member.credential;
            let left_alone = self.left_alone(c, &canaries, &glass);
            let ours = match c.kind {
                CredentialKind::IamAccessKey => self.spared.has_key(&c.name, &c.id),
                CredentialKind::IamRoleSessions => self.spared.has_role(&c.name),
                _ => false,
            };
            match left_alone {
                Some(why) => self.excluded.push(Excluded {
                    id: c.id.clone(),
                    why,
                }),
                None if ours => {
                    return Err(refuse(
                        guards::SELF,
                        format!(
                            "{} {} is our own, or how we came in: the rotation would lock us out",
                            c.kind, c.name
                        ),
                    )
                    .hint(format!(
                        "use another identity, or leave it out: --exclude {}",
                        c.name
                    )));
                }
                None => kept.push(member),
            }
        }
        Ok(kept)
    }

    fn glass(&self) -> Spared {
        let mut glass = Spared::default();
        for path in &self.estate.break_glass {
            glass.add_arn(&path.arn);
        }
        glass
    }

    fn left_alone(
        &self,
        c: &Credential,
        canaries: &BTreeSet<String>,
        glass: &Spared,
    ) -> Option<String> {
        let is = |id: &String| *id == c.id || *id == c.name || *id == c.arn;
        if canaries.iter().any(is) {
            return Some("a canary: calling with it alerts its owner".into());
        }
        let marked = c
            .tags
            .known()
            .and_then(|t| t.get("break-glass"))
            .is_some_and(|v| v == "true");
        let is_glass = match c.kind {
            CredentialKind::IamAccessKey => glass.has_key(&c.name, &c.id),
            CredentialKind::IamRoleSessions => glass.has_role(&c.name),
            _ => false,
        };
        if is_glass || marked {
            return Some("emergency access: it must keep working".into());
        }
        let of_map = self
            .map
            .iter()
            .flat_map(|m| &m.exclude)
            .find(|(id, _)| is(id));
        if let Some((_, why)) = of_map {
            return Some(format!("left out by the map: {why}"));
        }
        let named = self.args.exclude.iter().any(is);
        named.then(|| "left out by name".to_owned())
    }
}

/// The path of a role's ARN.
fn path_of(arn: &str) -> Option<String> {
    let tail = arn.splitn(6, ':').nth(5)?.split_once('/')?.1;
    Some(match tail.rsplit_once('/') {
        Some((path, _)) => format!("/{path}/"),
        None => "/".into(),
    })
}

/// Counts items by kind.
pub(super) fn by_kind(items: &[Item]) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for item in items {
        *kinds.entry(item.kind.as_str().to_owned()).or_default() += 1;
    }
    kinds
}
