//! A change was sent and no usable answer came back: did it happen? From an observation, by the tables of §9.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value as Json;

use crate::port::AccessKeySeen;
use crate::rotation::call::Value;
use crate::rotation::journal::Intent;
use crate::rotation::plan::What;
use crate::rotation::words::Reason;

use super::orphan;
use super::{Holds, Next, Seen, Turn};

/// What an observation says about a change in doubt.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It happened; its public results.
    Happened(BTreeMap<String, String>),
    /// It did not, and sending it again is right.
    DidNot,
    /// It is missing, and not long enough for that to be believed.
    Later,
    /// Something else comes first.
    Do(Box<Next>),
}

impl Verdict {
    fn happened() -> Self {
        Verdict::Happened(BTreeMap::new())
    }
    pub(super) fn first(next: Next) -> Self {
        Verdict::Do(Box::new(next))
    }
    fn if_so(happened: bool) -> Self {
        if happened {
            Verdict::happened()
        } else {
            Verdict::DidNot
        }
    }
}

/// Settles `intent` from what was seen. What was not looked at cannot settle anything: the answer then is to look again.
pub fn settle(turn: &Turn<'_>, intent: &Intent, seen: &Seen) -> Verdict {
    let param = |name: &str| intent.params.get(name).map(String::as_str).unwrap_or("");
    match intent.call.as_str() {
        "iam:UpdateAccessKey" => match key(seen, param("key_id")) {
            None => Verdict::Later,
            Some(None) => Verdict::Happened(gone()),
            Some(Some(k)) => Verdict::if_so(k.active == (param("status") == "Active")),
        },
        "iam:DeleteAccessKey" => match key(seen, param("key_id")) {
            None => Verdict::Later,
            Some(k) => Verdict::if_so(k.is_none()),
        },
        "iam:CreateAccessKey" => orphan::created_in_doubt(turn, intent, seen),
        "secretsmanager:CreateSecret" | "secretsmanager:PutSecretValue" => {
            put(turn, param("version_id"), seen)
        }
        "secretsmanager:UpdateSecretVersionStage" => label(turn, intent, seen),
        "iam:PutUserPolicy" | "iam:PutRolePolicy" => {
            let planned = param("t").parse::<DateTime<Utc>>().ok();
            match (seen.denies.get(param("principal")), planned) {
                (None, _) => Verdict::Later,
                (Some(Some(there)), Some(t)) if *there >= t => {
                    Verdict::Happened(BTreeMap::from([("t".into(), param("t").into())]))
                }
                _ => Verdict::DidNot,
            }
        }
        "iam:UpdateAssumeRolePolicy" => trust(turn, seen),
        "postgres:SetVerifier" => verifier(turn, intent, seen),
        "postgres:TerminateSessions" => Verdict::DidNot,
        "kubernetes:PatchSecret" => sink(turn, intent, seen),
        // Making it again with the same annotations changes nothing.
        "kubernetes:CreateServiceAccount" => Verdict::DidNot,
        other => Verdict::first(turn.needs_human(
            Reason::InDoubt,
            format!(
                "entry {} names a call that this version does not know: {other}",
                intent.seq
            ),
        )),
    }
}

/// `None` = not looked; `Some(None)` = there is no such key.
fn key<'a>(seen: &'a Seen, id: &str) -> Option<Option<&'a AccessKeySeen>> {
    seen.keys
        .as_ref()
        .map(|keys| keys.iter().find(|k| k.id == id))
}

fn gone() -> BTreeMap<String, String> {
    BTreeMap::from([("gone".into(), "yes".into())])
}

/// Keys that may be of an unclear `CreateAccessKey`: listed, not there before, made since the intent, not in escrow, not of another item.
pub(super) fn orphans<'a>(intent: &Intent, seen: &'a Seen) -> Vec<&'a AccessKeySeen> {
    let before: Vec<&str> = intent
        .before
        .get("keys")
        .map(|k| k.split(',').collect())
        .unwrap_or_default();
    // By the account's clock, if it told it: ours may be another.
    let told = intent.before.get("server_date");
    let asked = told.and_then(|t| t.parse().ok()).or(intent.at);
    let earliest = asked.map(|at: DateTime<Utc>| at - TimeDelta::seconds(60));
    seen.keys
        .iter()
        .flatten()
        .filter(|k| !before.contains(&k.id.as_str()))
        .filter(|k| !seen.ours.contains(&k.id))
        .filter(|k| match (k.created, earliest) {
            (Some(created), Some(earliest)) => created >= earliest,
            // Without a date nothing says that it is older.
            _ => true,
        })
        .filter(|k| seen.escrowed_key.as_ref() != Some(&k.id))
        .collect()
}

fn put(turn: &Turn<'_>, version: &str, seen: &Seen) -> Verdict {
    match &seen.secret {
        None => Verdict::Later,
        Some(Some(s)) if s.versions.contains_key(version) || seen.escrowed => {
            Verdict::Happened(BTreeMap::from([("version_id".into(), version.to_owned())]))
        }
        // The same value under the same token: sending it again changes nothing more.
        Some(_) if turn.have_value => Verdict::DidNot,
        Some(_) if !seen.absence_believed => Verdict::Later,
        Some(_) => Verdict::DidNot,
    }
}

fn label(turn: &Turn<'_>, intent: &Intent, seen: &Seen) -> Verdict {
    let Some(Some(secret)) = &seen.secret else {
        return match seen.secret {
            None => Verdict::Later,
            _ => Verdict::first(turn.needs_human(Reason::Stale, "the secret is gone")),
        };
    };
    let label = intent.params.get("label").map(String::as_str).unwrap_or("");
    let holder = secret.holder(label);
    let to = intent.params.get("to").map(String::as_str);
    let from = intent.params.get("from").map(String::as_str);
    if holder == to || (to.is_none() && holder != from) {
        Verdict::happened()
    } else if holder == from {
        Verdict::DidNot
    } else {
        Verdict::first(turn.pause(
            Reason::Stale,
            format!("{label} stands on a version that is neither the old nor the new one"),
            "look who writes this secret, then plan anew",
        ))
    }
}

fn trust(turn: &Turn<'_>, seen: &Seen) -> Verdict {
    let What::RoleSessions(role) = &turn.item.what else {
        return Verdict::Later;
    };
    match (&seen.trust, &role.trust_after) {
        (None, _) => Verdict::Later,
        (Some(now), Some(after)) if same_json(now, after) => Verdict::happened(),
        (Some(now), _) if same_json(now, &role.trust_before) => Verdict::DidNot,
        _ => Verdict::first(turn.pause(
            Reason::Stale,
            "the trust policy is neither the one before nor the one planned",
            "look who changed it, then plan anew",
        )),
    }
}

/// Policies come back from the cloud with other white space and order than they were sent with.
pub(super) fn same_json(a: &str, b: &str) -> bool {
    match (
        serde_json::from_str::<Json>(a),
        serde_json::from_str::<Json>(b),
    ) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

fn verifier(turn: &Turn<'_>, intent: &Intent, seen: &Seen) -> Verdict {
    let server = intent.params.get("server").map(String::as_str);
    let Some(accepts) = server.and_then(|s| seen.logins.get(s)) else {
        return Verdict::Later;
    };
    // On the way back the old password is what was set.
    let works = if intent.reversal {
        accepts.old
    } else {
        accepts.new
    };
    match works {
        Some(true) => {
            let now = accepts.now.map(crate::incident::clock_text::millis);
            Verdict::Happened(now.map(|t| ("t_set".to_owned(), t)).into_iter().collect())
        }
        // Another salt for the same password is harmless; the admin sets it whatever works now.
        Some(false) => Verdict::DidNot,
        None if turn.have_value => Verdict::Later,
        None => Verdict::first(turn.pause(
            Reason::InDoubt,
            "whether the new password was set cannot be told: it is not at hand to try",
            "`rotate resume` once the secret store answers",
        )),
    }
}

fn sink(turn: &Turn<'_>, intent: &Intent, seen: &Seen) -> Verdict {
    let index = turn
        .item
        .sinks
        .iter()
        .position(|s| s.place() == intent.target);
    let Some(holds) = index.and_then(|i| seen.sinks.get(&i)) else {
        return Verdict::Later;
    };
    let wanted = if intent.reversal {
        Value::Old
    } else {
        Value::New
    };
    match (holds, wanted) {
        (Holds::New, Value::New) | (Holds::Old, Value::Old) => Verdict::happened(),
        (Holds::New | Holds::Old, _) => Verdict::DidNot,
        (Holds::Other | Holds::Gone, _) => Verdict::first(turn.pause(
            Reason::Stale,
            format!("{} holds neither the old nor the new value", intent.target),
            "look who writes it, then plan anew",
        )),
    }
}
