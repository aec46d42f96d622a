//! The killing half of an emergency for an access key: the key, the sessions minted from it, the roles reached from it, and whatever the
//! intruder puts in the way meanwhile.

use std::collections::BTreeMap;

use crate::port::Principal;
use crate::rotation::call::{Call, Change, Look};
use crate::rotation::plan::AccessKey;
use crate::rotation::sessions::QUARANTINE_NAME;
use crate::rotation::words::Reason;

use super::access_key::{
    CHAIN_CLEAN, CHAIN_REVOKED, FOREIGN_KEY, INTRUDER_INACTIVE, OLD_DEAD, OLD_INACTIVE,
    QUARANTINE_LIFTED, QUARANTINED, SCANS_CLEAN, SESSIONS_DENIED, inactive, old_dead,
};
use super::orphan::flag;
use super::{Next, Turn};

/// After so many scans in which keys were awake again the user is denied everything.
const PATIENCE: usize = 3;
/// After so many rounds against somebody who keeps coming back a person is asked.
const ROUNDS: usize = 20;

/// The old key Inactive, the denies in place, two clean scans, the old key proven dead, the denies anew.
pub(super) fn kill(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    if !turn.done(OLD_INACTIVE) {
        return Err(turn.change(Change::new(OLD_INACTIVE, inactive(key, &key.old))));
    }
    deny_all(turn, key, None)?;
    scan(turn, key)?;
    old_dead(turn, key)?;
    // What was minted while the key was not dead everywhere is younger than the first deny.
    let dead = turn.journal.last(OLD_DEAD, "");
    deny_all(turn, key, dead)?;
    lifted(turn, key)
}

/// A deny of everything would block the new key too. Lifting it is a person's decision: it is all that keeps the intruder out.
fn lifted(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    if !turn.done(QUARANTINED) || turn.done(QUARANTINE_LIFTED) {
        return Ok(());
    }
    if turn.failed_look(QUARANTINE_LIFTED, "").is_some() {
        return Err(turn.pause(
            Reason::AttackerActive,
            format!("{} is denied everything, since keys were woken again", key.user),
            format!(
                "delete the intruder's keys and the policy `{QUARANTINE_NAME}` of the user, then `rotate resume`"
            ),
        ));
    }
    let user = key.user.clone();
    Err(turn.look(QUARANTINE_LIFTED, Look::DenyLifted { user }))
}

/// Denies sessions of the user and of every role of the chain; with `since`, once more after that entry.
fn deny_all(turn: &Turn<'_>, key: &AccessKey, since: Option<u64>) -> Result<(), Next> {
    deny_user(turn, key, since)?;
    for role in &key.chain {
        deny_role(turn, role, since)?;
    }
    Ok(())
}

fn deny_user(turn: &Turn<'_>, key: &AccessKey, since: Option<u64>) -> Result<(), Next> {
    if turn.journal.done_after(SESSIONS_DENIED, "", since) {
        return Ok(());
    }
    let principal = Principal::User(key.user.clone());
    let call = Call::DenySessions { principal };
    Err(turn.change(Change::new(SESSIONS_DENIED, call)))
}

fn deny_role(turn: &Turn<'_>, role: &str, since: Option<u64>) -> Result<(), Next> {
    if turn.journal.done_after(CHAIN_REVOKED, role, since) {
        return Ok(());
    }
    let principal = Principal::Role(role.to_owned());
    let call = Call::DenySessions { principal };
    Err(turn.change(Change::new(CHAIN_REVOKED, call).on(role)))
}

/// Until two scans are clean: what appeared is made Inactive and flagged, a deny that was taken off is put again.
fn scan(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    if turn.done(SCANS_CLEAN) {
        return Ok(());
    }
    let look = Look::ScanClean {
        user: key.user.clone(),
    };
    let Some(found) = turn.failed_look(SCANS_CLEAN, "") else {
        return Err(turn.look(SCANS_CLEAN, look));
    };
    let since = turn.journal.last(SCANS_CLEAN, "");
    let rounds = turn.journal.times(SCANS_CLEAN, "");
    // Who has two keys wakes one with the other faster than we disable both: then both are denied everything first.
    if found.contains_key("keys") && rounds >= PATIENCE && !turn.done(QUARANTINED) {
        let user = key.user.clone();
        return Err(turn.change(Change::new(QUARANTINED, Call::DenyAll { user })));
    }
    for id in list(found, "keys") {
        let (step, target) = if id == key.old {
            (OLD_INACTIVE, "")
        } else {
            (INTRUDER_INACTIVE, id)
        };
        if !turn.journal.done_after(step, target, since) {
            return Err(turn.change(Change::new(step, inactive(key, id)).on(target)));
        }
        if id != key.old && !turn.done_on(FOREIGN_KEY, id) {
            return Err(flag(turn, id, "it appeared during the kill"));
        }
    }
    for name in list(found, "denies") {
        if key.chain.iter().any(|r| r == name) {
            deny_role(turn, name, since)?;
        } else {
            deny_user(turn, key, since)?;
        }
    }
    if let Some(why) = found.get("why") {
        return Err(turn.pause(
            Reason::AccountUnreachable,
            format!("{} cannot be scanned: {why}", key.user),
            "bring the account back, then `rotate resume`",
        ));
    }
    if let Some(made) = found.get("console") {
        return Err(turn.pause(
            Reason::AttackerActive,
            format!("{} was given a console password at {made}", key.user),
            "delete the login profile, then `rotate resume`",
        ));
    }
    if rounds.is_multiple_of(ROUNDS) {
        return Err(turn.pause(
            Reason::AttackerActive,
            "something of the intruder appeared in every scan",
            "deny the user by an organisation policy, then `rotate resume`",
        ));
    }
    Err(turn.look(SCANS_CLEAN, look))
}

/// Once the trail has caught up: roles that were assumed from the compromised keys and are not revoked since are revoked now.
pub(super) fn chain_clean(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    if turn.done(CHAIN_CLEAN) {
        return Ok(());
    }
    let Some(found) = turn.failed_look(CHAIN_CLEAN, "") else {
        return Err(turn.look(CHAIN_CLEAN, Look::ChainClean));
    };
    let since = turn.journal.last(CHAIN_CLEAN, "");
    for role in list(found, "roles") {
        deny_role(turn, role, since)?;
    }
    if let Some(protected) = found.get("protected") {
        return Err(turn.pause(
            Reason::SelfTarget,
            format!("the intruder assumed what this run acts as or must leave alone: {protected}"),
            "revoke its sessions from another identity, then `rotate resume`",
        ));
    }
    if let Some(why) = found.get("why") {
        return Err(turn.pause(
            Reason::AccountUnreachable,
            format!("whom the key let in cannot be looked at: {why}"),
            "bring the account back, then `rotate resume`",
        ));
    }
    if turn.journal.times(CHAIN_CLEAN, "").is_multiple_of(ROUNDS) {
        return Err(turn.pause(
            Reason::AttackerActive,
            format!("roles are still assumed from what {} opened", key.old),
            "look who assumes them, then `rotate resume`",
        ));
    }
    Err(turn.look(CHAIN_CLEAN, Look::ChainClean))
}

fn list<'a>(facts: &'a BTreeMap<String, String>, name: &str) -> Vec<&'a str> {
    let text = facts.get(name).map_or("", String::as_str);
    text.split(',').filter(|s| !s.is_empty()).collect()
}
