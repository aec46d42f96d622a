//! The orphan rule (§6): a key that nobody knows the secret of goes, if it is ours; a key that is not ours stays, Inactive and flagged.

use std::collections::BTreeMap;

use crate::rotation::call::{Call, Change, Look};
use crate::rotation::journal::{Intent, Standing};
use crate::rotation::plan::AccessKey;
use crate::rotation::words::Reason;

use super::access_key::{
    FOREIGN_KEY, ORPHAN_ATTRIBUTED, ORPHAN_DELETED, ORPHAN_INACTIVE, delete, inactive,
};
use super::settle::orphans;
use super::{Next, Seen, Turn, Verdict};

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
    let deleted = turn.journal.done_since(ORPHAN_DELETED, intent.seq);
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
pub(super) fn dead_born(turn: &Turn<'_>, key: &AccessKey, new: &str) -> Next {
    if !turn.done_on(ORPHAN_INACTIVE, new) {
        return turn.change(Change::new(ORPHAN_INACTIVE, inactive(key, new)).on(new));
    }
    if !turn.done_on(ORPHAN_DELETED, new) {
        return turn.change(Change::new(ORPHAN_DELETED, delete(key, new)).on(new));
    }
    turn.new_attempt("the secret was lost before it was in escrow")
}

/// Writes down that a key is not ours.
pub(super) fn flag(turn: &Turn<'_>, id: &str, why: &str) -> Next {
    Next::Record {
        step: FOREIGN_KEY,
        target: id.to_owned(),
        attempt: turn.journal.attempt,
        facts: BTreeMap::from([("why".into(), why.into())]),
    }
}
