//! A PostgreSQL password in the secret store, one role (§9.4, §9.5).
//!
//! graceful: `PendingPut → NewSet → NewTested → Promoted → ReplicasInSync → Distributed → Restarted → OldSessionsTerminated → SessionsGone →
//! OldProvenDead → LabelsCleaned → Done`
//!
//! emergency: the sessions end and the death is proven right after the label moved, before the consumers. With one role, setting the new
//! password kills the old one in the same statement: from then until the consumers have the new one, reconnects fail.

use crate::port::{CURRENT, PENDING, PREVIOUS};
use crate::rotation::call::{Call, Change, Look, Value};
use crate::rotation::journal::Standing;
use crate::rotation::plan::DatabasePassword;
use crate::rotation::words::{Reason, Terminal};

use super::{Next, Turn};

/// The new value is a pending version; `version_id` among its results.
pub const PENDING_PUT: &str = "PendingPut";
/// The server has the new verifier; `t_set`, its clock afterwards, among the results.
pub const NEW_SET: &str = "NewSet";
/// The new password works on every server.
pub const NEW_TESTED: &str = "NewTested";
/// The new version is current.
pub const PROMOTED: &str = "Promoted";
/// Replicas of the secret hold it.
pub const IN_SYNC: &str = "ReplicasInSync";
/// A sink holds the new value.
pub const DISTRIBUTED: &str = "Distributed";
/// Sessions that began before the set were ended, on one server.
pub const SESSIONS_ENDED: &str = "OldSessionsTerminated";
/// None is left, twice, on every server.
pub const SESSIONS_GONE: &str = "SessionsGone";
/// The old password is refused while the new one is accepted.
pub const OLD_DEAD: &str = "OldProvenDead";
/// Labels are cleaned.
pub const LABELS_CLEANED: &str = "LabelsCleaned";

/// The next move.
pub fn next(turn: &Turn<'_>, password: &DatabasePassword) -> Next {
    if let Some(first) = turn
        .drift()
        .or_else(|| foreign_pending(turn, password))
        .or_else(|| turn.doubt())
    {
        return first;
    }
    if turn.reverting().is_some() {
        return back(turn, password);
    }
    if let Err(next) = walk(turn, password) {
        return next;
    }
    turn.end(Terminal::Done, summary(turn, password))
}

fn walk(turn: &Turn<'_>, password: &DatabasePassword) -> Result<(), Next> {
    set(turn, password)?;
    promote(turn, password)?;
    if turn.emergency() {
        end_old(turn, password)?;
        distribute(turn, password)?;
    } else {
        distribute(turn, password)?;
        end_old(turn, password)?;
    }
    clean(turn, password)
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
        let call = Call::PutPending {
            secret: password.escrow.secret.clone(),
            token: turn.token.clone(),
        };
        return Err(turn.change(Change::new(PENDING_PUT, call)));
    }
    if !turn.done(NEW_SET) {
        let value = Value::New;
        return Err(with_value(turn, password)
            .unwrap_or_else(|| turn.change(Change::new(NEW_SET, verifier(password, value)))));
    }
    if !turn.done(NEW_TESTED) {
        if turn.failed_look(NEW_TESTED, "").is_some() {
            return Err(not_tested(turn, password));
        }
        return Err(with_value(turn, password)
            .unwrap_or_else(|| turn.look(NEW_TESTED, Look::NewPasswordWorks)));
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
        let call = move_label(password, CURRENT, current, ours);
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

fn distribute(turn: &Turn<'_>, password: &DatabasePassword) -> Result<(), Next> {
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
            return Err(with_value(turn, password).unwrap_or_else(|| turn.change(change)));
        }
    }
    turn.rollouts()
}

/// Sessions that were open before the set live on until they are ended, on the primary and on every replica.
fn end_old(turn: &Turn<'_>, password: &DatabasePassword) -> Result<(), Next> {
    if !turn.done(SESSIONS_GONE) {
        let found = turn.failed_look(SESSIONS_GONE, "");
        let again = found.and_then(|f| f.get("again"));
        if found.is_some_and(|f| f.contains_key("out_of_reach")) {
            return Err(turn.pause(
                Reason::Permission,
                format!("sessions of {} are out of the admin's reach", password.role),
                "end them as a superuser, then `rotate resume`",
            ));
        }
        for server in password.servers() {
            let target = match again {
                Some(n) => format!("{server} again-{n}"),
                None => server.to_string(),
            };
            if !turn.done_on(SESSIONS_ENDED, &target) {
                let call = Call::EndSessions {
                    server: server.clone(),
                    role: password.role.clone(),
                };
                return Err(turn.change(Change::new(SESSIONS_ENDED, call).on(target)));
            }
        }
        return Err(turn.look(SESSIONS_GONE, Look::SessionsGone));
    }
    if !turn.done(OLD_DEAD) {
        if turn.failed_look(OLD_DEAD, "").is_some() {
            return Err(turn.pause(
                Reason::OldNotDead,
                "the old password is not shown to be refused on every server",
                "`rotate resume` looks again",
            ));
        }
        return Err(with_value(turn, password)
            .unwrap_or_else(|| turn.look(OLD_DEAD, Look::OldPasswordDead)));
    }
    Ok(())
}

fn clean(turn: &Turn<'_>, password: &DatabasePassword) -> Result<(), Next> {
    let ours = turn.journal.got(PENDING_PUT, "", "version_id");
    let old = password.escrow.current.as_deref();
    for (label, version) in [(PENDING, ours), (PREVIOUS, old)] {
        let Some(version) = version else { continue };
        if !turn.done_on(LABELS_CLEANED, label) {
            let call = move_label(password, label, Some(version), None);
            return Err(turn.change(Change::new(LABELS_CLEANED, call).on(label)));
        }
    }
    Ok(())
}

/// Graceful, before the sessions were ended: sinks back, label back, the old verifier set again.
fn back(turn: &Turn<'_>, password: &DatabasePassword) -> Next {
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
    let ours = turn.journal.got(PENDING_PUT, "", "version_id");
    if turn.done(PROMOTED) && !turn.journal.undone(PROMOTED, "") {
        let call = move_label(password, CURRENT, ours, password.escrow.current.as_deref());
        return turn.change(Change::new(PROMOTED, call).back());
    }
    if turn.done(NEW_SET) && !turn.journal.undone(NEW_SET, "") {
        let change = Change::new(NEW_SET, verifier(password, Value::Old));
        return turn.change(change.back());
    }
    if turn.done(PENDING_PUT) && !turn.journal.undone(PENDING_PUT, "") {
        let call = move_label(password, PENDING, ours, None);
        return turn.change(Change::new(PENDING_PUT, call).back());
    }
    let summary = format!("taken back, the old password lives: {why}");
    if reason == Reason::ConsumerFailed {
        return turn.end(Terminal::Undone, summary);
    }
    turn.needs_human(reason, summary)
}

fn with_value(turn: &Turn<'_>, password: &DatabasePassword) -> Option<Next> {
    if turn.have_value {
        return None;
    }
    let version = turn.journal.got(PENDING_PUT, "", "version_id")?;
    Some(Next::ReadBack {
        secret: password.escrow.secret.clone(),
        version: version.to_owned(),
    })
}

fn verifier(password: &DatabasePassword, value: Value) -> Call {
    Call::SetVerifier {
        server: password.primary.clone(),
        role: password.role.clone(),
        value,
    }
}

fn move_label(
    password: &DatabasePassword,
    label: &'static str,
    from: Option<&str>,
    to: Option<&str>,
) -> Call {
    Call::MoveLabel {
        secret: password.escrow.secret.clone(),
        label,
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
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
