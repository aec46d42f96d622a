//! What a plan is bound to, as names and values: the same functions make them while planning and before each item is begun, so that a
//! difference is a change of the world and not of the reading. Last use and pod names are not in it: they move by themselves.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::port::{AccessKeySeen, CURRENT, PENDING, PrincipalSeen, RoleSeen, SecretSeen};

/// Ids and statuses of a user's keys.
pub fn keys(keys: &[AccessKeySeen]) -> BTreeMap<String, String> {
    let mut all: Vec<String> = keys
        .iter()
        .map(|k| format!("{}={}", k.id, if k.active { "Active" } else { "Inactive" }))
        .collect();
    all.sort();
    BTreeMap::from([("keys".into(), all.join(","))])
}

/// Labels of a secret, and who rotates it.
pub fn secret(secret: &SecretSeen) -> BTreeMap<String, String> {
    let label = |l: &str| secret.holder(l).unwrap_or("none").to_owned();
    BTreeMap::from([
        ("secret".into(), secret.arn.clone()),
        ("secret_current".into(), label(CURRENT)),
        ("secret_pending".into(), label(PENDING)),
        (
            "secret_rotation".into(),
            secret.rotation_function.clone().unwrap_or("none".into()),
        ),
    ])
}

/// Digests of a role's trust and inline policies.
pub fn role(role: &PrincipalSeen) -> BTreeMap<String, String> {
    let trust = role.trust.as_deref().map_or("none".into(), digest);
    let inline: Vec<String> = role
        .inline
        .iter()
        .map(|(name, text)| format!("{name}={}", digest(text)))
        .collect();
    let mut attached = role.attached.clone();
    attached.sort();
    BTreeMap::from([
        ("trust".into(), trust),
        ("inline".into(), inline.join(",")),
        ("attached".into(), attached.join(",")),
    ])
}

/// Identity of the database, and how the role's password is stored.
pub fn database(role: &RoleSeen) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("system_identifier".into(), role.system_identifier.clone()),
        ("password_type".into(), role.password_type.clone()),
        ("can_login".into(), role.can_login.to_string()),
    ])
}

/// SHA-256 of a policy, whatever its white space and order of keys.
fn digest(text: &str) -> String {
    let canonical = serde_json::from_str::<serde_json::Value>(text)
        .ok()
        .and_then(|v| serde_json_canonicalizer::to_vec(&v).ok());
    let bytes = canonical.unwrap_or_else(|| text.as_bytes().to_vec());
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
