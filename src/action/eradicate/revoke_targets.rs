//! Whose sessions `contain.revoke_sessions` ends.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;

use crate::action::{ActionError, Context};
use crate::incident::body::Credentials;
use crate::incident::kind;
use crate::port::{Estate, Principal};
use crate::rotation::chain::Ask;
use crate::rotation::guards::{self, Spared};

use super::gather::{self, UserKeys};
use super::holders::Holders;
use super::planner::refuse;
use super::revoke_sessions::RevokeArgs;
use super::walk::{self, Window};

/// How far back sessions can have been minted that still live.
const LOOK_BACK: TimeDelta = TimeDelta::hours(36);

/// Who is denied, and what could not be followed.
pub(super) struct Targets {
    pub(super) principals: Vec<Principal>,
    pub(super) open_ends: Vec<String>,
    pub(super) account: String,
}

/// Whom to deny: names, the hand-over, and what was reached from there. Ourselves and the emergency access never.
pub(super) async fn targets(
    cx: &Context,
    estate: &Estate,
    args: &RevokeArgs,
) -> Result<Targets, ActionError> {
    let me = estate.cloud.identity().await?.value;
    let mut spared = Spared::caller(&me);
    for path in &estate.break_glass {
        spared.add_arn(&path.arn);
    }
    let mut open_ends = Vec::new();
    let roles = gather::roles(estate).await?;
    let mut named = BTreeMap::new();
    for role in &args.roles {
        let found = roles
            .iter()
            .find(|(name, arn)| *name == role || *arn == role);
        let (name, arn) = found.ok_or_else(|| {
            refuse(
                "FB3036",
                format!("there is no role `{role}` in account {}", me.account),
            )
        })?;
        named.insert(name.clone(), arn.clone());
    }
    let mut users: BTreeSet<String> = args.users.iter().cloned().collect();
    let mut keys = BTreeSet::new();
    if args.handover {
        let (arns, ids) = handed_over(cx, estate).await?;
        for arn in arns {
            match roles.iter().find(|(_, known)| **known == arn) {
                Some((name, _)) => _ = named.insert(name.clone(), arn),
                None => open_ends.push(format!(
                    "{arn} is of another account: revoke its sessions there"
                )),
            }
        }
        keys = ids;
        users.extend(owners(cx, estate, &keys).await?);
    }
    let mut principals: BTreeSet<Principal> = users.into_iter().map(Principal::User).collect();
    principals.extend(named.keys().cloned().map(Principal::Role));
    if args.chain && !(named.is_empty() && keys.is_empty()) {
        let starts = named.values().cloned().map(Ask::Role);
        let starts: Vec<Ask> = starts.chain(keys.into_iter().map(Ask::Key)).collect();
        let now = cx.ports.clock.now();
        let region = estate
            .cloud
            .regions()
            .await
            .ok()
            .and_then(|r| r.into_iter().next());
        let region = region.unwrap_or_else(|| walk::GLOBAL_REGION.into());
        let (window, end) = Window::of(
            estate,
            &region,
            now - LOOK_BACK,
            now + TimeDelta::minutes(5),
        )
        .await;
        let walked = walk::walk(estate, &me.account, starts, &window).await;
        open_ends.extend(walked.open_ends);
        open_ends.extend(end);
        for reached in &walked.roles {
            match guards::principal(&reached.arn) {
                Some((false, name)) if spared.has_role(name) => open_ends.push(format!("{name} was reached and is our own or the emergency access: look at its sessions by hand")),
                Some((false, name)) => _ = principals.insert(Principal::Role(name.to_owned())),
                _ => {}
            }
        }
    }
    for principal in &principals {
        let ours = match principal {
            Principal::User(name) => spared.users.contains(name),
            Principal::Role(name) => spared.has_role(name),
        };
        if ours {
            return Err(refuse(
                guards::SELF,
                format!(
                    "{} is our own, or the emergency access: denying it would lock us out",
                    place(principal)
                ),
            ));
        }
    }
    Ok(Targets {
        principals: principals.into_iter().collect(),
        open_ends,
        account: me.account,
    })
}

/// Role ARNs and access key ids that contained pods could use.
async fn handed_over(
    cx: &Context,
    estate: &Estate,
) -> Result<(BTreeSet<String>, BTreeSet<String>), ActionError> {
    let history = cx.ledger.history()?;
    let listed = history.bodies::<Credentials>(kind::CREDENTIALS_LISTED);
    let (mut arns, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for (_, pod) in listed {
        arns.extend(pod.role_arn.clone());
        let Some(workloads) = &estate.workloads else {
            continue;
        };
        for secret in pod.secrets.keys() {
            // One that cannot be read keeps no role's sessions alive; planning a rotation says so again.
            match workloads.secret(&pod.pod.namespace, secret).await {
                Ok(object) => ids.extend(Holders::key_ids(&object)),
                Err(e) => (cx.progress)(&format!(
                    "Secret {}/{secret} was not read: {e}",
                    pod.pod.namespace
                )),
            }
        }
    }
    Ok((arns, ids))
}

/// Users that own these keys.
async fn owners(
    cx: &Context,
    estate: &Estate,
    keys: &BTreeSet<String>,
) -> Result<BTreeSet<String>, ActionError> {
    if keys.is_empty() {
        return Ok(BTreeSet::new());
    }
    let scope = gather::Scope {
        users: None,
        details: false,
        uses: false,
    };
    let users = gather::users(cx, estate, &scope).await?;
    let owns = |u: &UserKeys| u.keys.iter().flatten().any(|k| keys.contains(&k.key.id));
    Ok(users
        .into_iter()
        .filter(owns)
        .map(|u| u.user.name)
        .collect())
}

pub(super) fn kind_of(principal: &Principal) -> &'static str {
    match principal {
        Principal::User(_) => "user",
        Principal::Role(_) => "role",
    }
}

pub(super) fn place(principal: &Principal) -> String {
    format!("{}/{}", kind_of(principal), principal.name())
}
