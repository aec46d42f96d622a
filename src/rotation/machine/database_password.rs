//! A PostgreSQL password in the secret store, one role (§9.4, §9.5).
//!
//! graceful: `PendingPut → NewSet → NewTested → Promoted → ReplicasInSync → Distributed → Restarted → OldSessionsTerminated → SessionsGone →
//! OldProvenDead → LabelsCleaned → Done`
//!
//! emergency: the sessions end and the death is proven right after the label moved, before the consumers. With one role, setting the new
//! password kills the old one in the same statement: from then until the consumers have the new one, reconnects fail.

use crate::port::{CURRENT, PENDING};
use crate::rotation::call::{Call, Change, Look, Value};
use crate::rotation::journal::Standing;
use crate::rotation::plan::DatabasePassword;
use crate::rotation::words::{Reason, Terminal};

use super::turn::move_label;
use super::{Next, Turn};

pub use super::turn::{DISTRIBUTED, LABELS_CLEANED, PROMOTED};

/// The new value is a pending version; `version_id` among its results.
pub const PENDING_PUT: &str = "PendingPut";
/// The server has the new verifier; `t_set`, its clock afterwards, among the results.
pub const NEW_SET: &str = "NewSet";
/// The new password works on every server.
pub const NEW_TESTED: &str = "NewTested";
/// Replicas of the secret hold it.
pub const IN_SYNC: &str = "ReplicasInSync";
/// Sessions that began before the set were ended, on one server.
pub const SESSIONS_ENDED: &str = "OldSessionsTerminated";
/// None is left, twice, on every server.
pub const SESSIONS_GONE: &str = "SessionsGone";
/// The old password is refused while the new one is accepted.
pub const OLD_DEAD: &str = "OldProvenDead";

/// After so many rounds in which sessions were left a person is asked.
const ROUNDS: usize = 10;

/// The next move.
pub fn next(turn: &Turn<'_>, password: &DatabasePassword) -> Next {
    // A pending version of somebody else is told as what it is, not as a change since the plan.
    if let Some(first) = foreign_pending(turn, password)
        .or_else(|| turn.drift())
        .or_else(|| turn.doubt())
    {
        return first;
    }
    let walked = if turn.reverting().is_some() {
        back(turn, password)
    } else {
        walk(turn, password)
    };
    match walked {
        Ok(end) | Err(end) => end,
    }
}

fn walk(turn: &Turn<'_>, password: &DatabasePassword) -> Result<Next, Next> {
    let escrow = &password.escrow;
    set(turn, password)?;
    promote(turn, password)?;
    if turn.emergency() {
        end_old(turn, password)?;
        turn.distribute(escrow, PENDING_PUT)?;
    } else {
        turn.distribute(escrow, PENDING_PUT)?;
        end_old(turn, password)?;
    }
    turn.clean_labels(escrow, PENDING_PUT)?;
    Ok(turn.end(Terminal::Done, summary(turn, password)))
}

/// Another version is being brought in by somebody else: it is not overwritten.
fn foreign_pending(turn: &Turn<'_>, password: &DatabasePassword) -> Option<Next> {
    if turn.journal.standing(PENDING_PUT, "").is_some() {
        return None;
    }
    let secret = turn.seen?.secret.as_ref()?.as_ref()?;
    let holder = secret.holder(PENDING)?;
    // An attempt of ours before this one may have left its version there.
    if password.escrow.current.as_deref() == Some(holder) || turn.journal.attempt > 1 {
        return None;
    }
    Some(turn.pause(
        Reason::ForeignPending,
        format!("{PENDING} stands on version {holder}, which is not ours"),
        "wait for the other rotation or cancel it, then `rotate resume`",
    ))
}

fn set(turn: &Turn<'_>, password: &DatabasePassword) -> Result<(), Next> {
    if !turn.done(PENDING_PUT) {
        // The value died with the process that made it: a new attempt has a new value and a new token.
        if matches!(
            turn.journal.standing(PENDING_PUT, ""),
            Some(Standing::DidNotHappen)
        ) && !turn.have_value
        {
            return Err(turn.new_attempt("the value was lost before it was in escrow"));
        }
        let call = Call::PutVersion {
            secret: password.escrow.secret.clone(),
            token: turn.token.clone(),
            label: PENDING,
        };
        return Err(turn.change(Change::new(PENDING_PUT, call)));
    }
    if !turn.done(NEW_SET) {
        turn.at_hand(&password.escrow, PENDING_PUT)?;
        return Err(turn.change(Change::new(NEW_SET, verifier(password, Value::New))));
    }
    if !turn.done(NEW_TESTED) {
        if turn.failed_look(NEW_TESTED, "").is_some() {
            return Err(not_tested(turn, password));
        }
        turn.at_hand(&password.escrow, PENDING_PUT)?;
        return Err(turn.look(NEW_TESTED, Look::NewPasswordWorks));
    }
    Ok(())
}

fn not_tested(turn: &Turn<'_>, password: &DatabasePassword) -> Next {
    let why = format!("{} does not get in with the new password", password.role);
    if turn.emergency() {
        turn.pause(Reason::NewNotVerified, why, "`rotate resume` tries again")
    } else {
        turn.revert(Reason::NewNotVerified, why)
    }
}

fn promote(turn: &Turn<'_>, password: &DatabasePassword) -> Result<(), Next> {
    if !turn.done(PROMOTED) {
        let ours = turn.journal.got(PENDING_PUT, "", "version_id");
        let current = password.escrow.current.as_deref();
        let call = move_label(&password.escrow, CURRENT, current, ours);
        return Err(turn.change(Change::new(PROMOTED, call)));
    }
    if !turn.done(IN_SYNC) {
        if turn.failed_look(IN_SYNC, "").is_some() {
            return Err(turn.pause(
                Reason::ConsumerFailed,
                "a replica of the secret does not hold the new version yet",
                "`rotate resume` looks again; the old value is not killed before",
            ));
        }
        let secret = password.escrow.secret.clone();
        return Err(turn.look(IN_SYNC, Look::ReplicasInSync { secret }));
    }
    Ok(())
}

/// Sessions that were open before the set live on until they are ended, on the primary and on every replica.
fn end_old(turn: &Turn<'_>, password: &DatabasePassword) -> Result<(), Next> {
    if !turn.done(SESSIONS_GONE) {
        return Err(sessions(turn, password));
    }
    if !turn.done(OLD_DEAD) {
        if turn.failed_look(OLD_DEAD, "").is_some() {
            return Err(turn.pause(
                Reason::OldNotDead,
                "the old password is not shown to be refused on every server",
                "`rotate resume` looks again",
            ));
        }
        turn.at_hand(&password.escrow, PENDING_PUT)?;
        return Err(turn.look(OLD_DEAD, Look::OldPasswordDead));
    }
    Ok(())
}

/// Ends them on each server, again as long as a look finds some.
fn sessions(turn: &Turn<'_>, password: &DatabasePassword) -> Next {
    let since = turn.journal.last(SESSIONS_GONE, "");
    let found = turn.failed_look(SESSIONS_GONE, "");
    if found.is_some_and(|f| f.contains_key("out_of_reach")) {
        return turn.pause(
            Reason::Permission,
            format!("sessions of {} are out of the admin's reach", password.role),
            "end them as a superuser, then `rotate resume`",
        );
    }
    if let Some(why) = found.and_then(|f| f.get("why")) {
        return turn.pause(
            Reason::AccountUnreachable,
            format!("sessions of {} cannot be looked at: {why}", password.role),
            "bring the server back, then `rotate resume`",
        );
    }
    for server in password.servers() {
        let target = server.to_string();
        let ended = match found {
            Some(_) => turn.journal.done_after(SESSIONS_ENDED, &target, since),
            None => turn.done_on(SESSIONS_ENDED, &target),
        };
        if !ended {
            let call = Call::EndSessions {
                server: server.clone(),
                role: password.role.clone(),
            };
            return turn.change(Change::new(SESSIONS_ENDED, call).on(target));
        }
    }
    if found.is_some() && turn.journal.times(SESSIONS_GONE, "").is_multiple_of(ROUNDS) {
        return turn.pause(
            Reason::OldNotDead,
            format!(
                "old sessions of {} are there however often they are ended",
                password.role
            ),
            "look who keeps them, then `rotate resume`",
        );
    }
    turn.look(SESSIONS_GONE, Look::SessionsGone)
}

/// Graceful, before the sessions were ended: sinks back, labels back, the old verifier set again, and the workloads restart once more.
fn back(turn: &Turn<'_>, password: &DatabasePassword) -> Result<Next, Next> {
    let escrow = &password.escrow;
    turn.sinks_back(escrow, PENDING_PUT)?;
    if turn.done(NEW_SET) && !turn.journal.undone(NEW_SET, "") {
        let change = Change::new(NEW_SET, verifier(password, Value::Old));
        return Err(turn.change(change.back()));
    }
    turn.labels_back(escrow, PENDING_PUT)?;
    turn.rollouts_back()?;
    Ok(turn.undone("the old password"))
}

fn verifier(password: &DatabasePassword, value: Value) -> Call {
    Call::SetVerifier {
        server: password.primary.clone(),
        role: password.role.clone(),
        value,
    }
}

fn summary(turn: &Turn<'_>, password: &DatabasePassword) -> String {
    let grade = turn.journal.grades.get(OLD_DEAD);
    format!(
        "the password of {} is replaced; the old one is dead ({})",
        password.role,
        grade.map(String::as_str).unwrap_or("not proven")
    )
}
