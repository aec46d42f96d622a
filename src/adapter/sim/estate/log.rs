//! What reached the estate, and what a test may ask of it: effects counted from the servers' side.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::port::{CURRENT, PENDING, Secret};

use super::key::Hand;
use super::world::EstateWorld;

/// One call that reached the estate, ours or the intruder's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logged {
    /// Number, from 1. The intruder's have the number of our call at which they were made.
    pub seq: u64,
    /// When, by the servers' clock.
    pub at: DateTime<Utc>,
    /// Port method, or the intruder's deed.
    pub call: String,
    /// The action: `iam:CreateAccessKey`, `pg:SetVerifier`, `k8s:PatchSecret`.
    pub action: String,
    /// What it was called on.
    pub on: String,
    /// By whom.
    pub by: Hand,
    /// True when something changed.
    pub effect: bool,
    /// `ok`, or the cause of the error that the caller was told.
    pub answer: String,
}

impl EstateWorld {
    /// Our calls that changed something, in their order.
    pub fn effects(&self) -> Vec<&Logged> {
        self.log
            .iter()
            .filter(|l| l.effect && l.by == Hand::Ours)
            .collect()
    }
    /// How often a call of ours changed something on `on`.
    pub fn count(&self, call: &str, on: &str) -> usize {
        let meant = |l: &&&Logged| l.call == call && l.on == on;
        self.effects().iter().filter(meant).count()
    }
    /// A user's active keys, and whose doing each is.
    pub fn active_keys(&self, user: &str) -> Vec<(String, Hand)> {
        self.keys
            .iter()
            .filter(|(_, k)| k.user == user && k.active)
            .map(|(id, k)| (id.clone(), k.by))
            .collect()
    }
    /// All active keys of one hand.
    pub fn active_of(&self, hand: Hand) -> Vec<String> {
        self.keys
            .iter()
            .filter(|(_, k)| k.by == hand && k.active)
            .map(|(id, _)| id.clone())
            .collect()
    }
    /// Active keys of ours whose secret stands in no version of the secret store: orphans.
    pub fn orphans(&self) -> Vec<String> {
        let escrowed = |secret: &str| {
            self.secrets
                .values()
                .flat_map(|s| s.versions.values())
                .any(|v| v.value.0.contains(secret))
        };
        self.keys
            .iter()
            .filter(|(_, k)| k.by == Hand::Ours && k.active && !escrowed(&k.secret.0))
            .map(|(id, _)| id.clone())
            .collect()
    }
    /// How many versions of a secret hold `AWSCURRENT`, and how many `AWSPENDING`.
    pub fn labelled(&self, secret: &str) -> (usize, usize) {
        let holders = |label: &str| {
            self.secrets.get(secret).map_or(0, |s| {
                let holds = |l: &Vec<String>| l.iter().any(|l| l == label);
                s.versions.values().filter(|v| holds(&v.labels)).count()
            })
        };
        (holders(CURRENT), holders(PENDING))
    }
    /// Moments at which a consumer had no working credential at all, as numbers of our calls.
    pub fn outages(&self, consumer: &str) -> Vec<u64> {
        self.health
            .get(consumer)
            .map(|h| h.outages.clone())
            .unwrap_or_default()
    }
    /// Each secret that exists or existed in a version, with what it is: what a search for leaks looks for.
    pub fn secret_bytes(&self) -> Vec<(String, Secret)> {
        let mut all = Vec::new();
        let mut add = |what: String, text: &str| {
            // Shorter ones would be found by chance.
            if text.len() >= 8 {
                all.push((what, Secret::new(text.to_owned())));
            }
        };
        for (id, key) in self.keys.iter().chain(&self.buried) {
            add(format!("access key {id}"), &key.secret.0);
        }
        for (id, session) in &self.sessions {
            add(format!("session {id}"), &session.secret.0);
            add(format!("token of {id}"), &session.token.0);
        }
        for (name, secret) in &self.secrets {
            for (id, version) in &secret.versions {
                for (key, text) in parts(&version.value.0) {
                    add(format!("secret {name} version {id} {key}"), &text);
                }
            }
        }
        for (name, secret) in &self.kube_secrets {
            for (key, value) in secret.data.iter().filter(|(k, _)| !is_public(k)) {
                add(format!("Secret {name} {key}"), &value.0);
            }
        }
        all
    }
}

/// The values of a JSON object that only a holder knows, or the whole text where it is none.
fn parts(text: &str) -> Vec<(String, String)> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(map)) => map
            .into_iter()
            .filter(|(k, _)| !is_public(k))
            .filter_map(|(k, v)| v.as_str().map(|v| (k, v.to_owned())))
            .collect(),
        _ => vec![(String::new(), text.to_owned())],
    }
}

/// Keys of values that are no secret.
fn is_public(key: &str) -> bool {
    const PUBLIC: [&str; 9] = [
        "username",
        "user",
        "db_user",
        "host",
        "port",
        "dbname",
        "engine",
        "access_key_id",
        "aws_access_key_id",
    ];
    PUBLIC.contains(&key.to_ascii_lowercase().as_str())
}
