//! An IAM access key (§9.1).
//!
//! graceful: `[SlotFreeing → VictimProvenDead → SlotFree] → Created → Escrowed → Verified → Promoted → Distributed → Restarted → OldQuiet
//! → OldInactive → OldProvenDead → [OldDeleted] → LabelsCleaned → Done`
//!
//! emergency: `OldInactive → UserSessionsDenied → ChainRevoked → ScansClean → OldProvenDead → [SlotFree] → Created … Restarted → Done`

use std::collections::BTreeMap;

use crate::port::{CURRENT, PENDING, PREVIOUS, Principal};
use crate::rotation::call::{Call, Change, Look, Value};
use crate::rotation::journal::{Intent, NEW_ATTEMPT, Standing};
use crate::rotation::plan::AccessKey;
use crate::rotation::words::{Reason, Terminal};

use super::settle::orphans;
use super::{Next, Seen, Turn, Verdict};

/// The old key of the slot that is freed is Inactive.
pub const SLOT_FREEING: &str = "SlotFreeing";
/// It is refused.
pub const VICTIM_DEAD: &str = "VictimProvenDead";
/// It is deleted: the victim's point of no return.
pub const SLOT_FREE: &str = "SlotFree";
/// The new key exists. Its id is `key_id`.
pub const CREATED: &str = "Created";
/// The new value is in escrow. Its version is `version_id`.
pub const ESCROWED: &str = "Escrowed";
/// The new key works.
pub const VERIFIED: &str = "Verified";
/// The new version is current.
pub const PROMOTED: &str = "Promoted";
/// A sink holds the new value.
pub const DISTRIBUTED: &str = "Distributed";
/// Nobody uses the old key.
pub const OLD_QUIET: &str = "OldQuiet";
/// The old key is Inactive.
pub const OLD_INACTIVE: &str = "OldInactive";
/// Sessions minted from the user before T are denied.
pub const SESSIONS_DENIED: &str = "UserSessionsDenied";
/// Sessions of a role in the chain before T are denied.
pub const CHAIN_REVOKED: &str = "ChainRevoked";
/// Two clean scans.
pub const SCANS_CLEAN: &str = "ScansClean";
/// A key that the intruder made is Inactive.
pub const INTRUDER_INACTIVE: &str = "IntruderKeyInactive";
/// The old key is refused.
pub const OLD_DEAD: &str = "OldProvenDead";
/// The old key is deleted: the point of no return.
pub const OLD_DELETED: &str = "OldDeleted";
/// Labels are cleaned.
pub const LABELS_CLEANED: &str = "LabelsCleaned";
/// A key of an unclear creation is Inactive.
pub const ORPHAN_INACTIVE: &str = "OrphanInactive";
/// Who made it.
pub const ORPHAN_ATTRIBUTED: &str = "OrphanAttributed";
/// It was ours and unused, and is deleted.
pub const ORPHAN_DELETED: &str = "OrphanDeleted";
/// A key that is not ours: it stays Inactive, flagged.
pub const FOREIGN_KEY: &str = "ForeignKey";
/// The new key is Inactive, on the way back.
pub const NEW_INACTIVE: &str = "NewInactive";

/// The next move.
pub fn next(turn: &Turn<'_>, key: &AccessKey) -> Next {
    if let Some(first) = turn.drift().or_else(|| turn.doubt()) {
        return first;
    }
    if turn.reverting().is_some() {
        return back(turn, key);
    }
    if let Some(first) = resumed(turn, key) {
        return first;
    }
    let killed = if turn.emergency() {
        kill(turn, key)
    } else {
        free_slot(turn, key)
    };
    if let Err(next) = killed.and_then(|()| issue(turn, key)) {
        return next;
    }
    let retired = if turn.emergency() {
        Ok(())
    } else {
        retire(turn, key)
    };
    if let Err(next) = retired.and_then(|()| clean(turn, key)) {
        return next;
    }
    turn.end(Terminal::Done, summary(turn, key))
}

/// On a resume the world may have moved past what the ledger says.
fn resumed(turn: &Turn<'_>, key: &AccessKey) -> Option<Next> {
    let seen = turn.seen?;
    let keys = seen.keys.as_ref()?;
    let new = turn.journal.got(CREATED, "", "key_id")?;
    let listed = keys.iter().any(|k| k.id == new);
    if !listed && seen.absence_believed {
        // Somebody deleted it: what was escrowed opens nothing.
        return Some(
            drop_escrow(turn, key)
                .unwrap_or_else(|| turn.new_attempt("the new key is gone: somebody deleted it")),
        );
    }
    if !listed && !turn.done(OLD_DEAD) {
        return Some(Next::ObserveLater);
    }
    None
}

/// Takes our pending label off a version that opens nothing.
fn drop_escrow(turn: &Turn<'_>, key: &AccessKey) -> Option<Next> {
    let version = turn.journal.got(ESCROWED, "", "version_id")?;
    let holds = turn
        .seen
        .and_then(|s| s.secret.as_ref())
        .and_then(|s| s.as_ref())
        .is_some_and(|s| s.holder(PENDING) == Some(version));
    if !holds || turn.journal.undone(ESCROWED, "") {
        return None;
    }
    let call = move_label(key, PENDING, Some(version), None);
    Some(turn.change(Change::new(ESCROWED, call).back()))
}

fn free_slot(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    let Some(victim) = &key.victim else {
        return Ok(());
    };
    if !turn.done_on(SLOT_FREEING, victim) {
        return Err(turn.change(Change::new(SLOT_FREEING, inactive(key, victim)).on(victim)));
    }
    if !turn.done_on(VICTIM_DEAD, victim) {
        if turn.failed_look(VICTIM_DEAD, victim).is_some() {
            return Err(turn.pause(
                Reason::OldNotDead,
                format!("{victim} is Inactive and still answers: it was not deleted"),
                "`rotate resume` looks again",
            ));
        }
        return Err(Next::Look {
            step: VICTIM_DEAD,
            target: victim.clone(),
            look: Look::OldKeyDead {
                user: key.user.clone(),
                key: victim.clone(),
            },
        });
    }
    delete_victim(turn, key, victim)
}

fn delete_victim(turn: &Turn<'_>, key: &AccessKey, victim: &str) -> Result<(), Next> {
    if turn.done_on(SLOT_FREE, victim) {
        return Ok(());
    }
    if !turn.plan.deletions {
        return Err(turn.pause(
            Reason::DeletionHeld,
            format!(
                "both slots of {} are taken, and this plan deletes nothing",
                key.user
            ),
            "a second person approves a plan with deletions: `rotate plan --delete`",
        ));
    }
    Err(turn.change(Change::new(SLOT_FREE, delete(key, victim)).on(victim)))
}

fn kill(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    if !turn.done(OLD_INACTIVE) {
        return Err(turn.change(Change::new(OLD_INACTIVE, inactive(key, &key.old))));
    }
    if !turn.done(SESSIONS_DENIED) {
        let principal = Principal::User(key.user.clone());
        let call = Call::DenySessions { principal };
        return Err(turn.change(Change::new(SESSIONS_DENIED, call)));
    }
    for role in &key.chain {
        if !turn.done_on(CHAIN_REVOKED, role) {
            let principal = Principal::Role(role.clone());
            let call = Call::DenySessions { principal };
            return Err(turn.change(Change::new(CHAIN_REVOKED, call).on(role)));
        }
    }
    scan(turn, key)?;
    if !turn.done(OLD_DEAD) {
        return Err(old_dead(turn, key));
    }
    match &key.victim {
        Some(victim) => delete_victim(turn, key, victim),
        None => Ok(()),
    }
}

/// Until two scans are clean: what appeared is made Inactive and flagged, a deny that was taken off is put again.
fn scan(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    if turn.done(SCANS_CLEAN) {
        return Ok(());
    }
    let look = || {
        turn.look(
            SCANS_CLEAN,
            Look::ScanClean {
                user: key.user.clone(),
            },
        )
    };
    let Some(found) = turn.failed_look(SCANS_CLEAN, "") else {
        return Err(look());
    };
    for id in list(found, "keys") {
        if !turn.done_on(INTRUDER_INACTIVE, id) {
            return Err(turn.change(Change::new(INTRUDER_INACTIVE, inactive(key, id)).on(id)));
        }
        if !turn.done_on(FOREIGN_KEY, id) {
            return Err(flag(turn, id, "it appeared during the kill"));
        }
    }
    if let Some(missing) = found.get("deny_missing") {
        // Each time under a target of its own, so that every put is an entry of its own.
        let again = format!("again-{missing}");
        if !turn.done_on(SESSIONS_DENIED, &again) {
            let principal = Principal::User(key.user.clone());
            let call = Call::DenySessions { principal };
            return Err(turn.change(Change::new(SESSIONS_DENIED, call).on(again)));
        }
    }
    if found.contains_key("gave_up") {
        return Err(turn.pause(
            Reason::AttackerActive,
            "something of the intruder appeared in every scan",
            "deny the user by an organisation policy, then `rotate resume`",
        ));
    }
    Err(look())
}

fn list<'a>(facts: &'a BTreeMap<String, String>, name: &str) -> Vec<&'a str> {
    let text = facts.get(name).map(String::as_str).unwrap_or("");
    text.split(',').filter(|s| !s.is_empty()).collect()
}

fn flag(turn: &Turn<'_>, id: &str, why: &str) -> Next {
    Next::Record {
        step: FOREIGN_KEY,
        target: id.to_owned(),
        attempt: turn.journal.attempt,
        facts: BTreeMap::from([("why".into(), why.into())]),
    }
}

fn old_dead(turn: &Turn<'_>, key: &AccessKey) -> Next {
    if turn.failed_look(OLD_DEAD, "").is_some() {
        return turn.pause(
            Reason::OldNotDead,
            format!("{} is Inactive and still answers", key.old),
            "`rotate resume` probes again; the cloud gives no bound for how long it takes",
        );
    }
    turn.look(
        OLD_DEAD,
        Look::OldKeyDead {
            user: key.user.clone(),
            key: key.old.clone(),
        },
    )
}

/// Create, escrow, verify, promote, distribute, restart.
fn issue(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    let Some(new) = turn.journal.got(CREATED, "", "key_id") else {
        let user = key.user.clone();
        return Err(turn.change(Change::new(CREATED, Call::CreateKey { user })));
    };
    if !turn.done(ESCROWED) {
        // The secret died with the process that got it: nobody knows it, so the key is useless and goes.
        if !turn.have_value {
            return Err(dead_born(turn, key, new));
        }
        return Err(turn.change(Change::new(ESCROWED, escrow(turn, key))));
    }
    if !turn.done(VERIFIED) {
        if turn.failed_look(VERIFIED, "").is_some() {
            return Err(not_verified(turn, new));
        }
        let look = Look::NewKeyWorks { key: new.into() };
        return Err(with_value(turn, key).unwrap_or_else(|| turn.look(VERIFIED, look)));
    }
    if key.escrow.exists && !turn.done(PROMOTED) {
        let version = turn.journal.got(ESCROWED, "", "version_id");
        let call = move_label(key, CURRENT, key.escrow.current.as_deref(), version);
        return Err(turn.change(Change::new(PROMOTED, call)));
    }
    for (i, sink) in turn.item.sinks.iter().enumerate() {
        let place = sink.place();
        if !turn.done_on(DISTRIBUTED, &place) {
            if let Some(Standing::Refused(code)) = turn.journal.standing(DISTRIBUTED, &place)
                && !turn.emergency()
            {
                let why = format!("{place} could not be written: {code}");
                return Err(turn.revert(Reason::ConsumerFailed, why));
            }
            let value = Value::New;
            let change = Change::new(DISTRIBUTED, Call::WriteSink { sink: i, value }).on(place);
            return Err(with_value(turn, key).unwrap_or_else(|| turn.change(change)));
        }
    }
    turn.rollouts()
}

fn not_verified(turn: &Turn<'_>, new: &str) -> Next {
    let why = format!("{new} did not answer reliably");
    if turn.emergency() {
        turn.pause(Reason::NewNotVerified, why, "`rotate resume` tries again")
    } else {
        turn.revert(Reason::NewNotVerified, why)
    }
}

/// The value is in escrow and not in memory.
fn with_value(turn: &Turn<'_>, key: &AccessKey) -> Option<Next> {
    if turn.have_value {
        return None;
    }
    let version = turn.journal.got(ESCROWED, "", "version_id")?;
    Some(Next::ReadBack {
        secret: key.escrow.secret.clone(),
        version: version.to_owned(),
    })
}

/// Graceful only: quiet, inactive, dead, deleted.
fn retire(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    if !turn.done(OLD_QUIET) && !turn.done(OLD_INACTIVE) {
        if let Some(facts) = turn.failed_look(OLD_QUIET, "") {
            let who = facts.get("who").cloned();
            let who = who.unwrap_or_else(|| "the grace period is not over".into());
            return Err(turn.pause(
                Reason::OldNotQuiet,
                format!("{} is not quiet yet: {who}", key.old),
                "move the stragglers, then `rotate resume`",
            ));
        }
        let look = Look::OldKeyQuiet {
            key: key.old.clone(),
        };
        return Err(turn.look(OLD_QUIET, look));
    }
    if key.victim.as_deref() != Some(key.old.as_str()) || !turn.done_on(SLOT_FREE, &key.old) {
        if !turn.done(OLD_INACTIVE) {
            return Err(turn.change(Change::new(OLD_INACTIVE, inactive(key, &key.old))));
        }
        if !turn.done(OLD_DEAD) {
            return Err(old_dead(turn, key));
        }
        if turn.plan.deletions && !turn.done(OLD_DELETED) {
            return Err(turn.change(Change::new(OLD_DELETED, delete(key, &key.old))));
        }
    }
    Ok(())
}

/// Our pending label goes, then the label of the version that leaked.
fn clean(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    if !key.escrow.exists {
        return Ok(());
    }
    let ours = turn.journal.got(ESCROWED, "", "version_id");
    let old = key.escrow.current.as_deref();
    for (label, version) in [(PENDING, ours), (PREVIOUS, old)] {
        let Some(version) = version else { continue };
        if !turn.done_on(LABELS_CLEANED, label) {
            let call = move_label(key, label, Some(version), None);
            return Err(turn.change(Change::new(LABELS_CLEANED, call).on(label)));
        }
    }
    Ok(())
}

/// Graceful, before the point of no return: sinks back, label back, the new key Inactive. The old one lives.
fn back(turn: &Turn<'_>, key: &AccessKey) -> Next {
    let (reason, why) = turn
        .reverting()
        .unwrap_or((Reason::ConsumerFailed, String::new()));
    for (i, sink) in turn.item.sinks.iter().enumerate().rev() {
        let place = sink.place();
        if turn.done_on(DISTRIBUTED, &place) && !turn.journal.undone(DISTRIBUTED, &place) {
            let value = Value::Old;
            let change = Change::new(DISTRIBUTED, Call::WriteSink { sink: i, value });
            return turn.change(change.on(place).back());
        }
    }
    let ours = turn.journal.got(ESCROWED, "", "version_id");
    if turn.done(PROMOTED) && !turn.journal.undone(PROMOTED, "") {
        let call = move_label(key, CURRENT, ours, key.escrow.current.as_deref());
        return turn.change(Change::new(PROMOTED, call).back());
    }
    if key.escrow.exists && turn.done(ESCROWED) && !turn.journal.undone(ESCROWED, "") {
        let call = move_label(key, PENDING, ours, None);
        return turn.change(Change::new(ESCROWED, call).back());
    }
    if let Some(new) = turn.journal.got(CREATED, "", "key_id")
        && !turn.done(NEW_INACTIVE)
    {
        return turn.change(Change::new(NEW_INACTIVE, inactive(key, new)));
    }
    if reason == Reason::ConsumerFailed {
        return turn.end(
            Terminal::Undone,
            format!("taken back, the old key lives: {why}"),
        );
    }
    turn.needs_human(reason, format!("taken back, the old key lives: {why}"))
}

/// `CreateAccessKey` was sent and no usable answer came: the orphan rule.
pub(super) fn created_in_doubt(turn: &Turn<'_>, intent: &Intent, seen: &Seen) -> Verdict {
    if seen.keys.is_none() {
        return Verdict::Later;
    }
    let found = orphans(intent, seen);
    let open = found
        .iter()
        .find(|k| !turn.done_on(FOREIGN_KEY, &k.id) && !turn.done_on(ORPHAN_DELETED, &k.id));
    let Some(user) = intent.params.get("user") else {
        return Verdict::DidNot;
    };
    if let Some(k) = open {
        return Verdict::first(orphan(turn, user, &k.id, k.active));
    }
    if found.iter().any(|k| turn.done_on(FOREIGN_KEY, &k.id)) {
        return Verdict::first(turn.needs_human(
            Reason::ForeignKey,
            "a key that is not ours appeared while ours was made: it is Inactive and flagged, treat it as the intruder's",
        ));
    }
    let deleted = turn
        .journal
        .steps()
        .any(|(step, _, s)| step == ORPHAN_DELETED && matches!(s, Standing::Done(_)));
    if deleted || seen.absence_believed {
        Verdict::DidNot
    } else {
        Verdict::Later
    }
}

/// Inactive at once, then who made it: ours and unused goes, anything else stays, flagged.
fn orphan(turn: &Turn<'_>, user: &str, id: &str, active: bool) -> Next {
    let set = |active| Call::SetKey {
        user: user.to_owned(),
        key: id.to_owned(),
        active,
    };
    if active && !turn.done_on(ORPHAN_INACTIVE, id) {
        return turn.change(Change::new(ORPHAN_INACTIVE, set(false)).on(id));
    }
    match turn.journal.standing(ORPHAN_ATTRIBUTED, id) {
        Some(Standing::Done(facts)) => {
            let ours = facts.get("who").is_some_and(|w| w == "ours");
            let unused = facts.get("used").is_some_and(|u| u == "no");
            if ours && unused {
                let call = Call::DeleteKey {
                    user: user.to_owned(),
                    key: id.to_owned(),
                };
                return turn.change(Change::new(ORPHAN_DELETED, call).on(id));
            }
            let who = facts.get("who").cloned().unwrap_or_default();
            flag(turn, id, &format!("made by: {who}"))
        }
        _ => Next::Look {
            step: ORPHAN_ATTRIBUTED,
            target: id.to_owned(),
            look: Look::WhoCreated {
                user: user.to_owned(),
                key: id.to_owned(),
            },
        },
    }
}

/// Ours by its outcome, and its secret is lost: Inactive, deleted, next attempt.
fn dead_born(turn: &Turn<'_>, key: &AccessKey, new: &str) -> Next {
    if !turn.done_on(ORPHAN_INACTIVE, new) {
        return turn.change(Change::new(ORPHAN_INACTIVE, inactive(key, new)).on(new));
    }
    if !turn.done_on(ORPHAN_DELETED, new) {
        return turn.change(Change::new(ORPHAN_DELETED, delete(key, new)).on(new));
    }
    Next::Record {
        step: NEW_ATTEMPT,
        target: String::new(),
        attempt: turn.journal.attempt + 1,
        facts: BTreeMap::from([(
            "why".into(),
            "the secret was lost before it was in escrow".into(),
        )]),
    }
}

fn inactive(key: &AccessKey, id: &str) -> Call {
    Call::SetKey {
        user: key.user.clone(),
        key: id.to_owned(),
        active: false,
    }
}

fn delete(key: &AccessKey, id: &str) -> Call {
    Call::DeleteKey {
        user: key.user.clone(),
        key: id.to_owned(),
    }
}

fn escrow(turn: &Turn<'_>, key: &AccessKey) -> Call {
    let token = turn.token.clone();
    if key.escrow.exists {
        Call::PutPending {
            secret: key.escrow.secret.clone(),
            token,
        }
    } else {
        Call::CreateSecret {
            name: key.escrow.secret.clone(),
            token,
        }
    }
}

fn move_label(key: &AccessKey, label: &'static str, from: Option<&str>, to: Option<&str>) -> Call {
    Call::MoveLabel {
        secret: key.escrow.secret.clone(),
        label,
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
    }
}

fn summary(turn: &Turn<'_>, key: &AccessKey) -> String {
    let new = turn.journal.got(CREATED, "", "key_id").unwrap_or("?");
    let grade = turn.journal.grades.get(OLD_DEAD);
    let grade = grade.map(String::as_str).unwrap_or("not proven");
    let deleted = turn.done(OLD_DELETED) || turn.journal.ever(SLOT_FREE, &key.old);
    let fate = if deleted { "deleted" } else { "Inactive" };
    format!(
        "{} replaced by {new}; the old one is dead ({grade}) and {fate}",
        key.old
    )
}
