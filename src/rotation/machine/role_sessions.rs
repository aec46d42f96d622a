//! Sessions of an IAM role (§9.3): what a breached pod usually holds. Nothing new is issued; the old is denied by its issue time.
//!
//! `[AccountMade] → TrustFixed → Revoked(T1) → TrustSeenEffective → Revoked(T2) → OldDenied → Restarted → Done`. A workload that moves to
//! the new account restarts by that move.
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
/// Target of [`REVOKED`] where the deny was taken off and is put again.
pub const AGAIN: &str = "again";
/// The trust change has taken hold.
pub const TRUST_SEEN: &str = "TrustSeenEffective";
/// What worked is denied to an old session.
pub const OLD_DENIED: &str = "OldDenied";
/// After so many rounds against somebody who takes the deny off a person is asked.
const ROUNDS: usize = 20;

/// The next move.
pub fn next(turn: &Turn<'_>, role: &RoleSessions) -> Next {
    if let Some(first) = turn.drift().or_else(|| turn.doubt()) {
        return first;
    }
    match walk(turn, role) {
        Ok(end) | Err(end) => end,
    }
}

fn walk(turn: &Turn<'_>, role: &RoleSessions) -> Result<Next, Next> {
    revoke(turn, role)?;
    prove(turn, role)?;
    refresh(turn)?;
    Ok(turn.end(Terminal::Done, summary(turn, role)))
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
        if let Some(found) = turn.failed_look(TRUST_SEEN, "") {
            let why = found
                .get("why")
                .map_or("it does not read back as planned", String::as_str);
            return Err(turn.pause(
                Reason::Stale,
                format!("the trust policy of {}: {why}", role.role),
                "look who changes it; `rotate resume` looks again",
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
    let look = Look::SessionsDenied {
        role: role.role.clone(),
    };
    let Some(found) = turn.failed_look(OLD_DENIED, "") else {
        return Err(turn.look(OLD_DENIED, look));
    };
    let rounds = turn.journal.times(OLD_DENIED, "");
    if found.contains_key("deny_missing") && !rounds.is_multiple_of(ROUNDS) {
        // Somebody took it off: it is put again, with a new T.
        let since = turn.journal.last(OLD_DENIED, "");
        if !turn.journal.done_after(REVOKED, AGAIN, since) {
            return Err(deny(turn, role, AGAIN));
        }
        return Err(turn.look(OLD_DENIED, look));
    }
    if found.contains_key("deny_missing") {
        return Err(turn.pause(
            Reason::AttackerActive,
            format!("the deny on {} is taken off again and again", role.role),
            "deny the role by an organisation policy, then `rotate resume`",
        ));
    }
    Err(turn.pause(
        Reason::OldNotDead,
        format!(
            "a session of {} issued before the cut-off is not shown to be denied",
            role.role
        ),
        "`rotate resume` looks again; the cloud gives no bound for how long it takes",
    ))
}

/// Nothing is taken back: the old trust and the old account are what the intruder has.
fn refresh(turn: &Turn<'_>) -> Result<(), Next> {
    turn.rollouts().map_err(|next| match next {
        Next::AwaitRollouts => next,
        _ => turn.pause(
            Reason::ConsumerFailed,
            "a workload did not come up with fresh sessions",
            "mend the workload, then `rotate resume`",
        ),
    })
}

fn summary(turn: &Turn<'_>, role: &RoleSessions) -> String {
    let last = [AGAIN, "2", "1"];
    let t = last.iter().find_map(|n| turn.journal.got(REVOKED, n, "t"));
    let grade = turn.journal.grades.get(OLD_DENIED);
    format!(
        "sessions of {} issued before {} are denied ({})",
        role.role,
        t.unwrap_or("?"),
        grade.map_or("not proven", String::as_str)
    )
}
