//! Guards: what must hold before anything is killed. Each is a pure function with a code of its own; who plans and who applies ask the same.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use crate::incident::clock_text;
use crate::port::{AccessKeySeen, CallerIdentity, SecretObject, SecretSeen};

use super::plan::{GuardResult, Waits};

/// Self-lockout.
pub const SELF: &str = "FB3021";
/// Break-glass.
pub const BREAK_GLASS: &str = "FB3022";
/// Slots.
pub const SLOTS: &str = "FB3023";
/// Not ours.
pub const NOT_OURS: &str = "FB3024";
/// Size.
pub const SIZE: &str = "FB3025";
/// Owner.
pub const OWNER: &str = "FB3026";
/// Time.
pub const TIME: &str = "FB3027";

/// A key that nobody used for so long may go where no T0 is known.
const FORGOTTEN: TimeDelta = TimeDelta::days(90);
/// Further apart than this the cloud refuses signatures, and cut-off times would be somebody's guess.
const OFFSET: TimeDelta = TimeDelta::minutes(4);

/// A guard's answer.
pub fn result(guard: &str, verdict: &str, detail: impl Into<String>) -> GuardResult {
    GuardResult {
        guard: guard.into(),
        verdict: verdict.into(),
        detail: detail.into(),
    }
}

/// What a rotation may never hit: ourselves, or the way in that must keep working.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spared {
    /// Access key ids.
    pub keys: BTreeSet<String>,
    /// User names.
    pub users: BTreeSet<String>,
    /// Role names.
    pub roles: BTreeSet<String>,
}

impl Spared {
    /// What stands behind a call.
    pub fn caller(identity: &CallerIdentity) -> Self {
        let mut spared = Spared::default();
        spared.keys.insert(identity.access_key_id.clone());
        spared.add_arn(&identity.arn);
        spared
    }
    /// Adds the principal of an ARN: user, role, or the role of a session.
    pub fn add_arn(&mut self, arn: &str) {
        match principal(arn) {
            Some((true, name)) => self.users.insert(name.to_owned()),
            Some((false, name)) => self.roles.insert(name.to_owned()),
            None => false,
        };
    }
    /// Whether a user's key is among it. All keys of a user are: denying its sessions would hit the others as well.
    pub fn has_key(&self, user: &str, key: &str) -> bool {
        self.users.contains(user) || self.keys.contains(key)
    }
    /// Whether a role is among it.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.contains(role)
    }
}

/// Of an ARN: (it is a user, its name).
pub fn principal(arn: &str) -> Option<(bool, &str)> {
    let (kind, tail) = arn.splitn(6, ':').nth(5)?.split_once('/')?;
    match kind {
        "user" => Some((true, tail.rsplit('/').next()?)),
        "role" => Some((false, tail.rsplit('/').next()?)),
        "assumed-role" => Some((false, tail.split('/').next()?)),
        _ => None,
    }
}

/// Whether an identity answers to an ARN of the configuration: the same, or a session of that role.
pub fn answers_to(answered: &str, configured: &str) -> bool {
    let account = |arn: &str| arn.split(':').nth(4).map(str::to_owned);
    answered == configured
        || (configured.contains(":role/")
            && answered.contains(":assumed-role/")
            && account(answered) == account(configured)
            && principal(answered) == principal(configured))
}

/// A key as the slot rule sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// The key.
    pub key: AccessKeySeen,
    /// When it was used; `Ok(None)` = never, `Err` = it could not be read.
    pub used: Result<Option<DateTime<Utc>>, String>,
}

/// Where the new key goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// There is a free one.
    Free,
    /// This key goes first.
    Victim(String),
    /// A person says which.
    TwoKeysUsed(String),
}

/// The slot rule: a user has two keys, inactive ones count. A key that was used since T0 is never picked; the compromised one is the victim
/// of an emergency; what the signed plan frees by id goes.
pub fn slot(
    keys: &[KeyUse],
    old: &str,
    emergency: bool,
    t0: Option<DateTime<Utc>>,
    free: &BTreeSet<String>,
    now: DateTime<Utc>,
) -> Slot {
    let others: Vec<&KeyUse> = keys.iter().filter(|k| k.key.id != old).collect();
    if others.is_empty() {
        return Slot::Free;
    }
    if emergency {
        return Slot::Victim(old.to_owned());
    }
    if let Some(named) = others.iter().find(|k| free.contains(&k.key.id)) {
        return Slot::Victim(named.key.id.clone());
    }
    let since = t0.unwrap_or(now - FORGOTTEN);
    match others.iter().find(|k| used_since(k, since) == Some(false)) {
        Some(unused) if others.len() == 1 => Slot::Victim(unused.key.id.clone()),
        Some(_) => Slot::TwoKeysUsed(format!("it has {} keys", keys.len())),
        None => {
            let said: Vec<String> = others.iter().map(|k| last(k)).collect();
            Slot::TwoKeysUsed(said.join(", "))
        }
    }
}

/// Whether a key was used, or made, since; `None` = it could not be read.
fn used_since(key: &KeyUse, since: DateTime<Utc>) -> Option<bool> {
    let young = key.key.created.is_none_or(|c| c >= since);
    match &key.used {
        Ok(Some(at)) => Some(*at >= since || young),
        Ok(None) => Some(young),
        Err(_) => None,
    }
}

fn last(key: &KeyUse) -> String {
    let id = &key.key.id;
    match &key.used {
        Ok(Some(at)) => format!("{id} was used at {}", clock_text::seconds(*at)),
        Ok(None) => format!("{id} is too young to be forgotten"),
        Err(why) => format!("when {id} was used could not be read: {why}"),
    }
}

/// Who else writes a secret of the store, where somebody does. The first version recognises and refuses.
pub fn owner(secret: &SecretSeen) -> Option<String> {
    if let Some(service) = &secret.owning_service {
        return Some(format!("service {service} owns it: rotate it there"));
    }
    if let Some(function) = &secret.rotation_function {
        return Some(format!(
            "{function} rotates it: run that, or detach it for the incident"
        ));
    }
    if secret.rotation_enabled {
        return Some("scheduled rotation is on: switch it off for the incident".into());
    }
    let deleted = secret.deleted.as_ref();
    deleted.map(|_| "it is scheduled for deletion".to_owned())
}

/// Who else writes a Kubernetes Secret, or why it cannot be written.
pub fn sink_owner(secret: &SecretObject) -> Option<String> {
    if let Some(writer) = &secret.written_by {
        return Some(format!("{writer} writes it: change it there"));
    }
    secret
        .immutable
        .then(|| "it is immutable: make another one and switch the references".to_owned())
}

/// The account's clock against ours.
pub fn time(server: Option<DateTime<Utc>>, ours: DateTime<Utc>) -> GuardResult {
    let Some(server) = server else {
        return result("time", "not-checked", "the server sent no Date");
    };
    let offset = server - ours;
    let text = format!(
        "our clock is {} s off the account's",
        offset.num_seconds().abs()
    );
    let refused = offset.abs() > OFFSET;
    result("time", if refused { "refused" } else { "passed" }, text)
}

/// Waits shorter than the defaults are for endpoints of this host only; the grace period is a person's to choose.
///
/// # Errors
/// With the first that is too short.
pub fn waits(asked: &Waits, loopback: bool) -> Result<(), String> {
    if loopback {
        return Ok(());
    }
    let least = Waits::default();
    let pairs = [
        ("absence_ms", asked.absence_ms, least.absence_ms),
        (
            "absence_apart_ms",
            asked.absence_apart_ms,
            least.absence_apart_ms,
        ),
        (
            "verify_times",
            asked.verify_times.into(),
            least.verify_times.into(),
        ),
        (
            "verify_apart_ms",
            asked.verify_apart_ms,
            least.verify_apart_ms,
        ),
        ("verify_cap_ms", asked.verify_cap_ms, least.verify_cap_ms),
        (
            "prove_times",
            asked.prove_times.into(),
            least.prove_times.into(),
        ),
        ("prove_apart_ms", asked.prove_apart_ms, least.prove_apart_ms),
        ("prove_cap_ms", asked.prove_cap_ms, least.prove_cap_ms),
        ("scan_apart_ms", asked.scan_apart_ms, least.scan_apart_ms),
        ("scan_cap_ms", asked.scan_cap_ms, least.scan_cap_ms),
        ("trail_lag_ms", asked.trail_lag_ms, least.trail_lag_ms),
        ("poll_ms", asked.poll_ms, least.poll_ms),
    ];
    match pairs.iter().find(|(_, asked, least)| asked < least) {
        Some((name, asked, least)) => Err(format!(
            "{name} is {asked}: shorter than {least} only where every endpoint is on this host"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).expect("time")
    }

    fn key(id: &str, used_days_ago: Option<i64>) -> KeyUse {
        KeyUse {
            key: AccessKeySeen {
                id: id.into(),
                active: true,
                created: Some(now() - TimeDelta::days(500)),
            },
            used: Ok(used_days_ago.map(|d| now() - TimeDelta::days(d))),
        }
    }

    fn pick(keys: &[KeyUse], emergency: bool, t0_days: Option<i64>, free: &[&str]) -> Slot {
        let free = free.iter().map(|f| (*f).to_owned()).collect();
        let t0 = t0_days.map(|d| now() - TimeDelta::days(d));
        slot(keys, "OLD", emergency, t0, &free, now())
    }

    #[test]
    fn a_key_used_since_t0_is_never_the_victim() {
        let both = [key("OLD", Some(0)), key("B", Some(2))];
        assert!(matches!(
            pick(&both, false, Some(3), &[]),
            Slot::TwoKeysUsed(_)
        ));
        assert_eq!(pick(&both, false, Some(1), &[]), Slot::Victim("B".into()));
        assert!(matches!(
            pick(&both, false, None, &[]),
            Slot::TwoKeysUsed(_)
        ));
        assert_eq!(
            pick(&both, false, Some(3), &["B"]),
            Slot::Victim("B".into())
        );
        assert_eq!(pick(&both, true, Some(3), &[]), Slot::Victim("OLD".into()));
        assert_eq!(pick(&both[..1], false, None, &[]), Slot::Free);
    }

    #[test]
    fn a_key_whose_use_is_not_known_or_that_is_fresh_is_never_the_victim() {
        let mut unread = key("B", None);
        unread.used = Err("AccessDenied".into());
        assert!(matches!(
            pick(&[key("OLD", None), unread], false, Some(1), &[]),
            Slot::TwoKeysUsed(_)
        ));
        // The intruder's own key was made after T0 and not used yet: it is not ours to delete.
        let mut fresh = key("B", None);
        fresh.key.created = Some(now());
        assert!(matches!(
            pick(&[key("OLD", None), fresh], false, Some(1), &[]),
            Slot::TwoKeysUsed(_)
        ));
        let three = [key("OLD", None), key("B", None), key("C", None)];
        assert!(matches!(
            pick(&three, false, Some(1), &[]),
            Slot::TwoKeysUsed(_)
        ));
    }

    #[test]
    fn the_caller_is_spared_with_its_user_its_key_and_its_role() {
        let caller = |arn: &str| {
            Spared::caller(&CallerIdentity {
                arn: arn.into(),
                account: "1".into(),
                user_id: "u".into(),
                access_key_id: "AKIAME".into(),
            })
        };
        let session = caller("arn:aws:sts::1:assumed-role/responder/me");
        assert!(session.has_role("responder") && !session.has_role("web"));
        assert!(session.has_key("anybody", "AKIAME"));
        let user = caller("arn:aws:iam::1:user/ops/me");
        assert!(user.has_key("me", "AKIAOTHER") && !user.has_key("you", "AKIAOTHER"));
    }

    #[test]
    fn a_break_glass_path_answers_as_configured_or_as_a_session_of_it() {
        let role = "arn:aws:iam::1:role/emergency/glass";
        assert!(answers_to("arn:aws:sts::1:assumed-role/glass/me", role));
        assert!(!answers_to("arn:aws:sts::2:assumed-role/glass/me", role));
        assert!(!answers_to("arn:aws:sts::1:assumed-role/other/me", role));
        assert!(!answers_to("arn:aws:iam::1:user/glass", role));
    }

    #[test]
    fn a_clock_that_is_minutes_off_is_refused() {
        assert_eq!(time(Some(now()), now()).verdict, "passed");
        assert_eq!(
            time(Some(now() + TimeDelta::minutes(9)), now()).verdict,
            "refused"
        );
        assert_eq!(time(None, now()).verdict, "not-checked");
    }

    #[test]
    fn short_waits_are_for_this_host_only_and_the_grace_is_free() {
        assert!(waits(&Waits::none(), true).is_ok());
        assert!(waits(&Waits::none(), false).is_err());
        let grace = Waits {
            grace_ms: 0,
            ..Waits::default()
        };
        assert!(waits(&grace, false).is_ok());
        let fewer = Waits {
            prove_times: 1,
            ..Waits::default()
        };
        assert!(
            waits(&fewer, false)
                .expect_err("fewer")
                .contains("prove_times")
        );
    }
}
