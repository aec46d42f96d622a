//! An IAM access key (§9.1).
//!
//! graceful: `[SlotFreeing → VictimProvenDead → SlotFree] → Created → Escrowed → Verified → Promoted → Distributed → Restarted → OldQuiet
//! → OldInactive → OldProvenDead → [OldDeleted] → LabelsCleaned → Done`
//!
//! emergency: `OldInactive → UserSessionsDenied → ChainRevoked → ScansClean → OldProvenDead → UserSessionsDenied and ChainRevoked once more
//! → [SlotFree] → Created … Restarted → ChainClean → Done`. The second deny is for sessions that were minted between the first one and the
//! moment at which the key was dead everywhere.

use crate::port::{CURRENT, PENDING};
use crate::rotation::call::{Call, Change, Look};
use crate::rotation::journal::Standing;
use crate::rotation::plan::AccessKey;
use crate::rotation::words::{Reason, Terminal};

use super::turn::move_label;
use super::{Next, Turn, kill, orphan};

pub use super::turn::{DISTRIBUTED, LABELS_CLEANED, PROMOTED};

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
/// The user is denied everything, because keys were woken again and again.
pub const QUARANTINED: &str = "UserQuarantined";
/// A person has taken that off.
pub const QUARANTINE_LIFTED: &str = "UserQuarantineLifted";
/// A key that the intruder made is Inactive.
pub const INTRUDER_INACTIVE: &str = "IntruderKeyInactive";
/// The old key is refused.
pub const OLD_DEAD: &str = "OldProvenDead";
/// The old key is deleted: the point of no return.
pub const OLD_DELETED: &str = "OldDeleted";
/// The trail shows no role that was assumed from the compromised keys and not revoked since.
pub const CHAIN_CLEAN: &str = "ChainClean";
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
    let walked = if turn.reverting().is_some() {
        back(turn, key)
    } else if turn.emergency() {
        emergency(turn, key)
    } else {
        graceful(turn, key)
    };
    match walked {
        Ok(end) | Err(end) => end,
    }
}

fn graceful(turn: &Turn<'_>, key: &AccessKey) -> Result<Next, Next> {
    still_there(turn, key)?;
    free_slot(turn, key)?;
    issue(turn, key)?;
    retire(turn, key)?;
    clean(turn, key)
}

fn emergency(turn: &Turn<'_>, key: &AccessKey) -> Result<Next, Next> {
    still_there(turn, key)?;
    kill::kill(turn, key)?;
    if let Some(victim) = &key.victim {
        delete_victim(turn, key, victim)?;
    }
    issue(turn, key)?;
    kill::chain_clean(turn, key)?;
    clean(turn, key)
}

/// On a resume the world may have moved past what the ledger says: is the new key still there?
fn still_there(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    if turn.done(ESCROWED) && turn.journal.undone(ESCROWED, "") {
        return Err(turn.new_attempt("the new key is gone: somebody deleted it"));
    }
    let (Some(seen), Some(new)) = (turn.seen, turn.journal.got(CREATED, "", "key_id")) else {
        return Ok(());
    };
    let Some(keys) = &seen.keys else {
        return Ok(());
    };
    if keys.iter().any(|k| k.id == new) || turn.journal.ever(ORPHAN_DELETED, new) {
        return Ok(());
    }
    if !seen.absence_believed {
        return Err(Next::ObserveLater);
    }
    let why = format!("{new}, the new key, is gone: somebody deleted it");
    let relied_on = turn.done(PROMOTED)
        || turn
            .item
            .sinks
            .iter()
            .any(|s| turn.done_on(DISTRIBUTED, &s.place()));
    if turn.done(OLD_INACTIVE) && relied_on {
        let hint = "look who did it; then give the consumers a key by a new plan";
        return Err(turn.pause(Reason::AttackerActive, why, hint));
    }
    if relied_on && !turn.emergency() {
        return Err(turn.revert(Reason::NewNotVerified, why));
    }
    // What was escrowed opens nothing: our label goes off it.
    if key.escrow.exists && turn.done(ESCROWED) {
        let version = turn.journal.got(ESCROWED, "", "version_id");
        let call = move_label(&key.escrow, PENDING, version, None);
        return Err(turn.change(Change::new(ESCROWED, call).back()));
    }
    Err(turn.new_attempt(&why))
}

fn free_slot(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    let Some(victim) = &key.victim else {
        return Ok(());
    };
    may_delete(turn, key)?;
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

fn may_delete(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    if turn.plan.deletions {
        return Ok(());
    }
    Err(turn.pause(
        Reason::DeletionHeld,
        format!(
            "both slots of {} are taken, and this plan deletes nothing",
            key.user
        ),
        "a second person approves a plan with deletions: `rotate plan --delete`",
    ))
}

fn delete_victim(turn: &Turn<'_>, key: &AccessKey, victim: &str) -> Result<(), Next> {
    if turn.done_on(SLOT_FREE, victim) {
        return Ok(());
    }
    may_delete(turn, key)?;
    Err(turn.change(Change::new(SLOT_FREE, delete(key, victim)).on(victim)))
}

/// Create, escrow, verify, promote, distribute, restart.
fn issue(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    let new = match turn.journal.standing(CREATED, "") {
        Some(Standing::Done(got)) => got.get("key_id").map_or("", String::as_str),
        // One creation for each attempt, so that each key that appears has one intent.
        Some(Standing::DidNotHappen) => {
            return Err(turn.new_attempt("no key of ours came of the last attempt"));
        }
        _ => {
            let user = key.user.clone();
            return Err(turn.change(Change::new(CREATED, Call::CreateKey { user })));
        }
    };
    if !turn.done(ESCROWED) {
        // The secret died with the process that got it: nobody knows it, so the key is useless and goes.
        if !turn.have_value {
            return Err(orphan::dead_born(turn, key, new));
        }
        return Err(turn.change(Change::new(ESCROWED, escrow(turn, key))));
    }
    if !turn.done(VERIFIED) {
        if turn.failed_look(VERIFIED, "").is_some() {
            return Err(not_verified(turn, new));
        }
        turn.at_hand(&key.escrow, ESCROWED)?;
        return Err(turn.look(VERIFIED, Look::NewKeyWorks { key: new.into() }));
    }
    if key.escrow.exists && !turn.done(PROMOTED) {
        let version = turn.journal.got(ESCROWED, "", "version_id");
        let call = move_label(&key.escrow, CURRENT, key.escrow.current.as_deref(), version);
        return Err(turn.change(Change::new(PROMOTED, call)));
    }
    turn.distribute(&key.escrow, ESCROWED)
}

fn not_verified(turn: &Turn<'_>, new: &str) -> Next {
    let why = format!("{new} did not answer reliably");
    if turn.emergency() {
        turn.pause(Reason::NewNotVerified, why, "`rotate resume` tries again")
    } else {
        turn.revert(Reason::NewNotVerified, why)
    }
}

/// Graceful only: quiet, inactive, dead, deleted.
fn retire(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    if !turn.done(OLD_INACTIVE) {
        quiet(turn, key)?;
        return Err(turn.change(Change::new(OLD_INACTIVE, inactive(key, &key.old))));
    }
    old_dead(turn, key)?;
    if turn.plan.deletions && !turn.done(OLD_DELETED) {
        return Err(turn.change(Change::new(OLD_DELETED, delete(key, &key.old))));
    }
    Ok(())
}

fn quiet(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    if turn.done(OLD_QUIET) {
        return Ok(());
    }
    if let Some(facts) = turn.failed_look(OLD_QUIET, "") {
        let who = facts
            .get("who")
            .map_or("the grace period is not over", String::as_str);
        return Err(turn.pause(
            Reason::OldNotQuiet,
            format!("{} is not quiet yet: {who}", key.old),
            "move the stragglers, then `rotate resume`",
        ));
    }
    let key = key.old.clone();
    Err(turn.look(OLD_QUIET, Look::OldKeyQuiet { key }))
}

/// Until the old key is proven dead.
pub(super) fn old_dead(turn: &Turn<'_>, key: &AccessKey) -> Result<(), Next> {
    if turn.done(OLD_DEAD) {
        return Ok(());
    }
    if turn.failed_look(OLD_DEAD, "").is_some() {
        return Err(turn.pause(
            Reason::OldNotDead,
            format!("{} is Inactive and still answers", key.old),
            "`rotate resume` probes again; the cloud gives no bound for how long it takes",
        ));
    }
    let look = Look::OldKeyDead {
        user: key.user.clone(),
        key: key.old.clone(),
    };
    Err(turn.look(OLD_DEAD, look))
}

fn clean(turn: &Turn<'_>, key: &AccessKey) -> Result<Next, Next> {
    if key.escrow.exists {
        turn.clean_labels(&key.escrow, ESCROWED)?;
    }
    Ok(turn.end(Terminal::Done, summary(turn, key)))
}

/// Graceful, before the point of no return: sinks and workloads back, labels back, the new key Inactive. The old one lives.
fn back(turn: &Turn<'_>, key: &AccessKey) -> Result<Next, Next> {
    turn.sinks_back(&key.escrow, ESCROWED)?;
    turn.rollouts_back()?;
    if key.escrow.exists {
        turn.labels_back(&key.escrow, ESCROWED)?;
    }
    if let Some(new) = turn.journal.got(CREATED, "", "key_id")
        && !turn.done(NEW_INACTIVE)
    {
        return Err(turn.change(Change::new(NEW_INACTIVE, inactive(key, new))));
    }
    Ok(turn.undone("the old key"))
}

/// Makes a key Inactive.
pub(super) fn inactive(key: &AccessKey, id: &str) -> Call {
    Call::SetKey {
        user: key.user.clone(),
        key: id.to_owned(),
        active: false,
    }
}

/// Deletes a key.
pub(super) fn delete(key: &AccessKey, id: &str) -> Call {
    Call::DeleteKey {
        user: key.user.clone(),
        key: id.to_owned(),
    }
}

/// Into the consumer's secret as pending; into one of the run's own as what is in use.
fn escrow(turn: &Turn<'_>, key: &AccessKey) -> Call {
    let (secret, token) = (key.escrow.secret.clone(), turn.token.clone());
    let before = turn.journal.all_steps().any(|(attempt, step, _, _, s)| {
        step == ESCROWED && attempt < turn.journal.attempt && matches!(s, Standing::Done(_))
    });
    match (key.escrow.exists, before) {
        (true, _) => Call::PutVersion {
            secret,
            token,
            label: PENDING,
        },
        (false, true) => Call::PutVersion {
            secret,
            token,
            label: CURRENT,
        },
        (false, false) => Call::CreateSecret {
            name: secret,
            token,
        },
    }
}

fn summary(turn: &Turn<'_>, key: &AccessKey) -> String {
    let new = turn.journal.got(CREATED, "", "key_id").unwrap_or("?");
    let grade = turn.journal.grades.get(OLD_DEAD);
    let grade = grade.map_or("not proven", String::as_str);
    let deleted = turn.done(OLD_DELETED) || turn.journal.ever(SLOT_FREE, &key.old);
    let fate = if deleted { "deleted" } else { "Inactive" };
    format!(
        "{} replaced by {new}; the old one is dead ({grade}) and {fate}",
        key.old
    )
}
