//! Reading the account while planning: users, keys, roles, secrets. Nothing is changed, and nothing is called with anybody's credential but
//! ours.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::action::{ActionError, Context};
use crate::port::{CURRENT, Cause, Estate, PortError, Principal, SecretSeen, UserSeen, VersionRef};
use crate::rotation::guards::KeyUse;
use crate::rotation::inventory::Fact;

use super::contents::{self, Contents};
use super::side_by_side::each;

/// Secrets whose values are looked at to find where a key lives; more would be a search of the whole company's store.
const MOST_VALUES: usize = 500;

/// A user with its keys.
pub(super) struct UserKeys {
    /// The user.
    pub(super) user: UserSeen,
    /// Its keys; `Err` = they could not be listed.
    pub(super) keys: Result<Vec<KeyUse>, String>,
}

/// A secret of the store.
pub(super) struct Stored {
    /// Without its value.
    pub(super) seen: SecretSeen,
    /// What its value is; `Err` = it was not looked at, for this reason.
    pub(super) contents: Result<Contents, String>,
}

/// How much to read.
pub(super) struct Scope<'a> {
    /// Users; `None` = all.
    pub(super) users: Option<&'a BTreeSet<String>>,
    /// Tags and groups of each user.
    pub(super) details: bool,
    /// When each key was used last.
    pub(super) uses: bool,
}

/// Users of the scope, in the order of their names.
pub(super) async fn users(
    cx: &Context,
    estate: &Estate,
    scope: &Scope<'_>,
) -> Result<Vec<UserKeys>, ActionError> {
    let users = match scope.users {
        Some(names) => named(estate, names).await?,
        None => all_users(estate, scope.details).await?,
    };
    (cx.progress)(&format!("{} users", users.len()));
    let cloud = estate.cloud.clone();
    let uses = scope.uses;
    each(users, move |user| {
        let cloud = cloud.clone();
        async move {
            let keys = match cloud.access_keys(&user.name).await {
                Err(e) => Err(said(&e)),
                Ok(answer) => {
                    let mut keys = Vec::new();
                    for key in answer.value {
                        let used = match uses {
                            false => Err("it was not asked for".into()),
                            true => match cloud.key_last_used(&key.id).await {
                                Ok(used) => Ok(used.at),
                                Err(e) => Err(said(&e)),
                            },
                        };
                        keys.push(KeyUse { key, used });
                    }
                    Ok(keys)
                }
            };
            UserKeys { user, keys }
        }
    })
    .await
}

/// Users by name, each with tags and groups. Absent ones are left out; the caller names them.
async fn named(estate: &Estate, names: &BTreeSet<String>) -> Result<Vec<UserSeen>, ActionError> {
    let cloud = estate.cloud.clone();
    let asked = each(names.iter().cloned().collect(), move |name: String| {
        let cloud = cloud.clone();
        async move { cloud.user(&name).await }
    })
    .await?;
    let mut users = Vec::new();
    for answer in asked {
        match answer {
            Ok(user) => users.push(user),
            Err(e) if e.cause == Cause::NotFound => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(users)
}

async fn all_users(estate: &Estate, details: bool) -> Result<Vec<UserSeen>, ActionError> {
    let mut users = Vec::new();
    let mut page = None;
    loop {
        let found = estate.cloud.list_users(page).await?;
        users.extend(found.items);
        match found.next {
            Some(next) => page = Some(next),
            None => break,
        }
    }
    if !details {
        return Ok(users);
    }
    let cloud = estate.cloud.clone();
    each(users, move |user: UserSeen| {
        let cloud = cloud.clone();
        // What cannot be read stays unknown: the list has neither tags nor groups.
        async move { cloud.user(&user.name).await.unwrap_or(user) }
    })
    .await
}

/// When these keys were used last, for users of which it was not asked.
pub(super) async fn uses(estate: &Estate, of: Vec<KeyUse>) -> Result<Vec<KeyUse>, ActionError> {
    let cloud = estate.cloud.clone();
    each(of, move |mut key: KeyUse| {
        let cloud = cloud.clone();
        async move {
            key.used = match cloud.key_last_used(&key.key.id).await {
                Ok(used) => Ok(used.at),
                Err(e) => Err(said(&e)),
            };
            key
        }
    })
    .await
}

/// Tags of users, by name.
pub(super) async fn user_tags(
    estate: &Estate,
    names: BTreeSet<String>,
) -> Result<BTreeMap<String, Result<Tags, String>>, ActionError> {
    let cloud = estate.cloud.clone();
    let read = each(names.into_iter().collect(), move |name: String| {
        let cloud = cloud.clone();
        async move {
            let tags = match cloud.user(&name).await {
                Ok(user) => user
                    .tags
                    .ok_or_else(|| "its tags could not be read".to_owned()),
                Err(e) => Err(said(&e)),
            };
            (name, tags)
        }
    })
    .await?;
    Ok(read.into_iter().collect())
}

/// Tags by name.
type Tags = BTreeMap<String, String>;

/// Tags of roles, by name.
pub(super) async fn role_tags(
    estate: &Estate,
    roles: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Fact<Tags>>, ActionError> {
    let cloud = estate.cloud.clone();
    let read = each(roles.keys().cloned().collect(), move |name: String| {
        let cloud = cloud.clone();
        async move {
            let tags = match cloud.principal(&Principal::Role(name.clone())).await {
                Ok(role) => Fact::of_readable(role.value.tags),
                Err(e) => Fact::Unknown(said(&e)),
            };
            (name, tags)
        }
    })
    .await?;
    Ok(read.into_iter().collect())
}

/// Roles: name → ARN.
pub(super) async fn roles(estate: &Estate) -> Result<BTreeMap<String, String>, ActionError> {
    let mut roles = BTreeMap::new();
    let mut page = None;
    loop {
        let found = estate.cloud.list_roles(page).await?;
        roles.extend(found.items);
        match found.next {
            Some(next) => page = Some(next),
            None => return Ok(roles),
        }
    }
}

/// Secrets of the store, with what their values are. Canaries are not read: that would alert their owner.
pub(super) async fn secrets(
    cx: &Context,
    estate: &Estate,
    canaries: &BTreeSet<String>,
    look_inside: bool,
) -> Result<Vec<Stored>, ActionError> {
    let mut seen = Vec::new();
    let mut page = None;
    loop {
        let found = estate.vault.list(page).await?;
        seen.extend(found.items);
        match found.next {
            Some(next) => page = Some(next),
            None => break,
        }
    }
    (cx.progress)(&format!("{} secrets in the store", seen.len()));
    let mut rows = Vec::new();
    for (at, seen) in seen.into_iter().enumerate() {
        let canary = canaries.contains(&seen.arn) || canaries.contains(&seen.name);
        let why = match () {
            () if canary => Some("it is a canary"),
            () if !look_inside => Some("values were not looked at"),
            () if at >= MOST_VALUES => Some("there are too many to look into each"),
            () if seen.deleted.is_some() => Some("it is scheduled for deletion"),
            () => None,
        };
        rows.push((seen, why));
    }
    let vault = estate.vault.clone();
    each(
        rows,
        move |(seen, why): (SecretSeen, Option<&'static str>)| {
            let vault = vault.clone();
            async move {
                let contents = match why {
                    Some(why) => Err(why.to_owned()),
                    None => match vault
                        .read(&seen.arn, &VersionRef::Label(CURRENT.into()))
                        .await
                    {
                        Ok(version) => Ok(contents::read(&version.value)),
                        Err(e) => Err(said(&e)),
                    },
                };
                Stored { seen, contents }
            }
        },
    )
    .await
}

/// A failure in few words.
pub(super) fn said(e: &PortError) -> String {
    match e.cause {
        Cause::Refused => format!("we may not: {}", e.detail),
        _ => e.to_string(),
    }
}

/// What is known of one key.
pub(super) fn used_at(key: &KeyUse) -> Option<DateTime<Utc>> {
    key.used.as_ref().ok().copied().flatten()
}
