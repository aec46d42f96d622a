//! Sessions of an IAM role (§9.3): what a breached pod usually holds. Nothing new is issued; the old is denied by its issue time.
//!
//! `[AccountMade] → TrustFixed → Revoked(T1) → TrustSeenEffective → Revoked(T2) → OldDenied → [AccountMoved] → Restarted → Done`
//!
//! The second revoke is needed because sessions minted between T1 and the moment the trust change took hold carry a later issue time.

use crate::port::Principal;
use crate::rotation::call::{Call, Change, Look};
use crate::rotation::plan::RoleSessions;
use crate::rotation::words::{Reason, Terminal};

use super::{Next, Turn};

/// The new service account exists.
pub const ACCOUNT_MADE: &str = "AccountMade";
/// The trust policy lets only the new one in.
pub const TRUST_FIXED: &str = "TrustFixed";
/// Sessions issued before T are denied; `t` among its results. Targets: `1`, `2`.
pub const REVOKED: &str = "Revoked";
/// The trust change has taken hold.
pub const TRUST_SEEN: &str = "TrustSeenEffective";
/// What worked is denied to an old session.
pub const OLD_DENIED: &str = "OldDenied";
/// A workload runs as the new service account.
pub const ACCOUNT_MOVED: &str = "AccountMoved";

/// The next move.
pub fn next(turn: &Turn<'_>, role: &RoleSessions) -> Next {
    if let Some(first) = turn.drift().or_else(|| turn.doubt()) {
        return first;
    }
    if let Err(next) = revoke(turn, role)
        .and_then(|()| prove(turn, role))
        .and_then(|()| refresh(turn, role))
    {
        return next;
    }
    turn.end(Terminal::Done, summary(turn, role))
}

fn revoke(turn: &Turn<'_>, role: &RoleSessions) -> Result<(), Next> {
    for (i, m) in role.moves.iter().enumerate() {
        let place = format!("{}/{}", m.namespace, m.to);
        if !turn.done_on(ACCOUNT_MADE, &place) {
            let call = Call::PutAccount { r#move: i };
            return Err(turn.change(Change::new(ACCOUNT_MADE, call).on(place)));
        }
    }
    if let Some(document) = &role.trust_after
        && !turn.done(TRUST_FIXED)
    {
        let call = Call::SetTrust {
            role: role.role.clone(),
            document: document.clone(),
            expect: role.trust_before.clone(),
        };
        return Err(turn.change(Change::new(TRUST_FIXED, call)));
    }
    if !turn.done_on(REVOKED, "1") {
        return Err(deny(turn, role, "1"));
    }
    if role.trust_after.is_none() {
        return Ok(());
    }
    if !turn.done(TRUST_SEEN) {
        if turn.failed_look(TRUST_SEEN, "").is_some() {
            return Err(turn.pause(
                Reason::AttackerActive,
                format!("{} was assumed after its trust was changed", role.role),
                "`rotate resume` revokes again",
            ));
        }
        let look = Look::TrustEffective {
            role: role.role.clone(),
        };
        return Err(turn.look(TRUST_SEEN, look));
    }
    if !turn.done_on(REVOKED, "2") {
        return Err(deny(turn, role, "2"));
    }
    Ok(())
}

fn deny(turn: &Turn<'_>, role: &RoleSessions, which: &str) -> Next {
    let principal = Principal::Role(role.role.clone());
    turn.change(Change::new(REVOKED, Call::DenySessions { principal }).on(which))
}

fn prove(turn: &Turn<'_>, role: &RoleSessions) -> Result<(), Next> {
    if turn.done(OLD_DENIED) {
        return Ok(());
    }
    if turn.failed_look(OLD_DENIED, "").is_some() {
        return Err(turn.pause(
            Reason::OldNotDead,
            format!(
                "a session of {} issued before the cut-off still works",
                role.role
            ),
            "`rotate resume` looks again; the cloud gives no bound for how long it takes",
        ));
    }
    let look = Look::SessionsDenied {
        role: role.role.clone(),
    };
    Err(turn.look(OLD_DENIED, look))
}

fn refresh(turn: &Turn<'_>, role: &RoleSessions) -> Result<(), Next> {
    for (i, m) in role.moves.iter().enumerate() {
        let place = turn.plan.workloads[m.workload].place();
        if !turn.done_on(ACCOUNT_MOVED, &place) {
            let call = Call::MoveAccount {
                r#move: i,
                back: false,
            };
            return Err(turn.change(Change::new(ACCOUNT_MOVED, call).on(place)));
        }
    }
    turn.rollouts()
}

fn summary(turn: &Turn<'_>, role: &RoleSessions) -> String {
    let last = turn.journal.got(REVOKED, "2", "t");
    let t = last.or_else(|| turn.journal.got(REVOKED, "1", "t"));
    let grade = turn.journal.grades.get(OLD_DENIED);
    format!(
        "sessions of {} issued before {} are denied ({})",
        role.role,
        t.unwrap_or("?"),
        grade.map(String::as_str).unwrap_or("not proven")
    )
}
