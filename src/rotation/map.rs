//! `rotation-map/v1`: what no API says about credentials: which secret keeps one, which servers it opens, who reads it where.
//!
//! YAML that people write and review; the reader refuses unknown and duplicate keys, anchors and aliases, and names the path of what is
//! wrong. A plan carries the digest of the map's exact bytes. It holds no secret: an admin's login is named by the secret that keeps it.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::port::Server;

use super::words::CredentialKind;

/// The format's name.
pub const FORMAT: &str = "rotation-map/v1";
/// A value that a draft leaves to a person. A map that still has one is refused.
pub const TO_FILL: &str = "<fill in>";

/// A map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotationMap {
    /// `rotation-map/v1`.
    pub firebreak: String,
    /// Credentials.
    #[serde(default)]
    pub entries: Vec<Entry>,
    /// Credentials that are never touched, by key id, user, role or secret, each with the reason.
    #[serde(default)]
    pub exclude: BTreeMap<String, String>,
    /// Ids of canary keys and secrets: nothing is ever called with them, nor are they read, since that alerts their owner.
    #[serde(default)]
    pub canaries: BTreeSet<String>,
}

/// One credential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name of this entry, for people and errors.
    pub id: String,
    /// Kind: `iam-access-key` or `pg-password`.
    pub kind: CredentialKind,
    /// The user, or the role on the database server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Several users of which each keeps its key in a secret of its own; then `secret.id` may say `{user}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// The secret that keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretPlace>,
    /// Database servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<Servers>,
    /// Id of the secret with the login of who may alter the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// Where consumers read it from, in the order in which they are written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<MapSink>,
    /// Consumers outside the cluster, for people: they restart them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<String>,
}

/// A secret, and the names of its JSON's fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretPlace {
    /// Name or ARN.
    pub id: String,
    /// Field names; the usual ones where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_keys: Option<JsonKeys>,
}

/// Names of JSON fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonKeys {
    /// Of the access key id or user name.
    pub id: String,
    /// Of the secret.
    pub secret: String,
}

/// Servers of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Servers {
    /// The one that takes writes.
    pub primary: Server,
    /// Replicas, each of which has sessions of its own.
    #[serde(default)]
    pub replicas: Vec<Server>,
}

/// Keys of a Kubernetes Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MapSink {
    /// Context or UID of the cluster; empty = the incident's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Namespace.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// Field of the credential (`access_key_id`, `secret_access_key`, `username`, `password`) → key of the Secret.
    pub keys: BTreeMap<String, String>,
}

/// Why a text is no map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rotation map is not in order: {0}")]
pub struct MapError(pub String);

impl RotationMap {
    /// Reads a map.
    ///
    /// # Errors
    /// With line and column, or the path, of what is wrong.
    pub fn read(bytes: &[u8]) -> Result<Self, MapError> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_anchors: 0, max_aliases: 0, max_nodes: 200_000 },
            strict_booleans: true,
            no_schema: true,
            with_snippet: false,
        };
        let map: RotationMap = serde_saphyr::from_slice_with_options(bytes, options)
            .map_err(|e| MapError(e.to_string()))?;
        map.check()?;
        Ok(map)
    }

    fn check(&self) -> Result<(), MapError> {
        if self.firebreak != FORMAT {
            let why = format!("firebreak: `{}` is not `{FORMAT}`", self.firebreak);
            return Err(MapError(why));
        }
        let mut ids = BTreeSet::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let place = format!("entries[{at}] (`{}`)", entry.id);
            if !ids.insert(&entry.id) {
                return Err(MapError(format!("{place}: the id is taken")));
            }
            entry
                .check()
                .map_err(|why| MapError(format!("{place}{why}")))?;
        }
        Ok(())
    }

    /// The entry of a user's key, and the secret that keeps it.
    pub fn key_of(&self, user: &str) -> Option<(&Entry, Option<SecretPlace>)> {
        let entry = self.entries.iter().find(|e| {
            e.kind == CredentialKind::IamAccessKey
                && (e.principal.as_deref() == Some(user) || e.users.iter().any(|u| u == user))
        })?;
        let place = entry.secret.as_ref().map(|s| SecretPlace {
            id: s.id.replace("{user}", user),
            json_keys: s.json_keys.clone(),
        });
        Some((entry, place))
    }

    /// The entry of a database password in this secret.
    pub fn password_in(&self, name: &str, arn: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| {
            let id = e.secret.as_ref().map(|s| s.id.as_str());
            e.kind == CredentialKind::PgPassword && (id == Some(name) || id == Some(arn))
        })
    }
}

impl Entry {
    fn check(&self) -> Result<(), String> {
        let text = serde_json::to_string(self).unwrap_or_default();
        if text.contains(TO_FILL) {
            return Err(format!(": `{TO_FILL}` still stands in it"));
        }
        match self.kind {
            CredentialKind::IamAccessKey => self.check_key()?,
            CredentialKind::PgPassword => self.check_password()?,
            other => return Err(format!(".kind: `{other}` has no entry in a map")),
        }
        let fields: &[&str] = match self.kind {
            CredentialKind::IamAccessKey => &["access_key_id", "secret_access_key"],
            _ => &["username", "password"],
        };
        for (at, sink) in self.sinks.iter().enumerate() {
            if sink.keys.is_empty() {
                return Err(format!(".sinks[{at}].keys: names no key"));
            }
            if let Some(field) = sink.keys.keys().find(|f| !fields.contains(&f.as_str())) {
                return Err(format!(
                    ".sinks[{at}].keys.{field}: the credential has {}",
                    fields.join(" and ")
                ));
            }
        }
        Ok(())
    }

    fn check_key(&self) -> Result<(), String> {
        if self.principal.is_some() != self.users.is_empty() {
            return Err(": give `principal` or `users`, one of them".into());
        }
        let many = self.users.len() > 1;
        let own = |s: &SecretPlace| s.id.contains("{user}");
        if many && !self.secret.as_ref().is_none_or(own) {
            return Err(".secret.id: with several users it needs `{user}`".into());
        }
        if many && !self.sinks.is_empty() {
            return Err(".sinks: with several users each needs an entry of its own".into());
        }
        if self.servers.is_some() || self.admin.is_some() {
            return Err(": an access key has no `servers` and no `admin`".into());
        }
        Ok(())
    }

    fn check_password(&self) -> Result<(), String> {
        for (name, there) in [
            ("secret", self.secret.is_some()),
            ("servers", self.servers.is_some()),
            ("admin", self.admin.is_some()),
        ] {
            if !there {
                return Err(format!(".{name}: is missing"));
            }
        }
        if self.users.is_empty() {
            Ok(())
        } else {
            Err(".users: a database password has one `principal`".into())
        }
    }
}

/// The format for editors: JSON Schema, as it stands in `playbooks/rotation-map.v1.schema.json`.
///
/// # Panics
/// Never: a schema is plain JSON.
pub fn schema() -> String {
    let schema = schemars::schema_for!(RotationMap);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}

/// Name under which a map of this digest is pinned in the incident's `trust/`.
pub fn pinned_name(sha256: &str) -> String {
    format!("{sha256}.yaml")
}

/// Digest of a map's exact bytes.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "firebreak: rotation-map/v1\nentries:\n- id: sessions\n  kind: pg-password\n  principal: web_sessions\n  secret: {id: shop/db/web-sessions}\n  servers:\n    primary: {host: db.shop.example, port: 5432, database: shop}\n    replicas: [{host: db-replica.shop.example, port: 5432, database: shop}]\n  admin: shop/db/admin\n  sinks: [{namespace: shop, secret: web-session-key, keys: {password: DB_PASSWORD}}]\n- id: payments\n  kind: iam-access-key\n  principal: shop-payments\n  secret: {id: shop/payments/key, json_keys: {id: access_key_id, secret: secret_access_key}}\ncanaries: [AKIACANARY]\n";

    #[test]
    fn a_map_is_read_and_found_by_user_and_by_secret() {
        let map = RotationMap::read(MAP.as_bytes()).expect("reads");
        assert_eq!(
            map.password_in("shop/db/web-sessions", "")
                .map(|e| e.id.as_str()),
            Some("sessions")
        );
        let (entry, place) = map.key_of("shop-payments").expect("entry");
        assert_eq!(entry.id, "payments");
        assert_eq!(place.expect("place").id, "shop/payments/key");
        assert!(map.key_of("other").is_none());
    }

    #[test]
    fn the_schema_for_editors_is_the_committed_one() {
        if std::env::var_os("FIREBREAK_BLESS").is_some() {
            let path = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/playbooks/rotation-map.v1.schema.json"
            );
            std::fs::write(path, schema()).expect("written");
        }
        let committed = include_str!("../../playbooks/rotation-map.v1.schema.json");
        assert_eq!(committed, schema(), "FIREBREAK_BLESS=1 writes it anew");
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_place() {
        for (from, to, wanted) in [
            ("rotation-map/v1", "rotation-map/v2", "rotation-map/v2"),
            (
                "principal: web_sessions",
                "principle: web_sessions",
                "principle",
            ),
            (
                "  admin: shop/db/admin\n",
                "",
                "entries[0] (`sessions`).admin",
            ),
            (
                "{password: DB_PASSWORD}",
                "{pass: DB_PASSWORD}",
                "sinks[0].keys.pass",
            ),
            ("id: payments", "id: sessions", "the id is taken"),
            (
                "host: db.shop.example",
                "host: <fill in>",
                "still stands in it",
            ),
            (
                "principal: shop-payments",
                "users: [a, b]",
                "needs `{user}`",
            ),
            (
                "kind: iam-access-key",
                "kind: k8s-secret",
                "has no entry in a map",
            ),
        ] {
            let text = MAP.replace(from, to);
            assert_ne!(text, MAP, "{from}");
            let e = RotationMap::read(text.as_bytes())
                .expect_err(to)
                .to_string();
            assert!(e.contains(wanted), "{to}: {e}");
        }
    }
}
