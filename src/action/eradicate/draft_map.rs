//! A draft of a rotation map from what is there: keys that a secret of the store or a Kubernetes Secret holds, and database logins.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::{ActionError, Context};
use crate::rotation::draft::{Drafted, draft};
use crate::rotation::plan::Sink;
use crate::rotation::words::CredentialKind;

use super::contents::Contents;
use super::gather::{self, Scope};
use super::holders::{Held, Holders};

/// A drafted map, and what could not be looked at.
pub struct DraftedMap {
    /// The map's text.
    pub yaml: String,
    /// Credentials in it.
    pub entries: usize,
    /// What could not be looked at.
    pub unread: Vec<String>,
}

/// Drafts a map. Nothing is changed; values are compared in memory, and none is in the text. `namespaces` = where consumers are looked for,
/// all by default.
///
/// # Errors
/// When the account cannot be read.
pub async fn draft_map(
    cx: &Context,
    namespaces: &BTreeSet<String>,
    canaries: &BTreeSet<String>,
) -> Result<DraftedMap, ActionError> {
    let estate = cx.estate()?.clone();
    let scope = Scope {
        users: None,
        details: false,
        uses: false,
    };
    let users = gather::users(cx, &estate, &scope).await?;
    let stored = gather::secrets(cx, &estate, canaries, true).await?;
    let mut holders = Holders::read(cx, &estate, namespaces).await?;
    let mut unread = holders.unread.clone();
    let mut owners = BTreeMap::new();
    for user in &users {
        match &user.keys {
            Ok(keys) => owners.extend(
                keys.iter()
                    .map(|k| (k.key.id.clone(), user.user.name.clone())),
            ),
            Err(why) => unread.push(format!("keys of {}: {why}", user.user.name)),
        }
    }
    let mut rows = Vec::new();
    let mut in_store = BTreeSet::new();
    for secret in &stored {
        let name = secret.seen.name.clone();
        match &secret.contents {
            Err(why) => unread.push(format!("secret {name}: {why}")),
            Ok(Contents::Other) => {}
            Ok(Contents::Key {
                id,
                fields,
                secret: value,
            }) => {
                let Some(user) = owners.get(id) else {
                    unread.push(format!(
                        "secret {name}: its key {id} belongs to no user of this account"
                    ));
                    continue;
                };
                in_store.insert(id.clone());
                let held = holders.sinks_of_key(id, Some(value));
                rows.push(key(user, Some((name, fields.clone())), held));
            }
            Ok(Contents::Database(login)) => {
                let held = holders.sinks_of_password(&login.password);
                let (sinks, notes) = places(held);
                rows.push(Drafted {
                    kind: CredentialKind::PgPassword,
                    principal: login.role.clone(),
                    secret: Some((name, login.fields.clone())),
                    server: Some((login.host.clone(), login.port, login.database.clone())),
                    admin: login.admin.clone(),
                    sinks,
                    notes,
                });
            }
        }
    }
    for (id, user) in owners.iter().filter(|(id, _)| !in_store.contains(*id)) {
        let held = holders.sinks_of_key(id, None);
        if !held.sinks.is_empty() {
            rows.push(key(user, None, held));
        }
    }
    unread.append(&mut holders.warnings);
    Ok(DraftedMap {
        yaml: draft(&rows),
        entries: rows.len(),
        unread,
    })
}

fn key(user: &str, secret: Option<(String, (String, String))>, held: Held) -> Drafted {
    let (sinks, notes) = places(held);
    Drafted {
        kind: CredentialKind::IamAccessKey,
        principal: user.to_owned(),
        secret,
        server: None,
        admin: None,
        sinks,
        notes,
    }
}

/// Namespace, name and keys of a sink.
type Place = (String, String, BTreeMap<String, String>);

fn places(held: Held) -> (Vec<Place>, Vec<String>) {
    let place = |s: Sink| (s.object.namespace, s.object.name, s.keys);
    let sinks = held.sinks.into_iter().map(place).collect();
    (sinks, held.foreign.into_iter().collect())
}
