//! The intruder: at each of our calls he tries, with all that he holds, to stay in. His calls go through the same rules as everybody's
//! and leave the same events.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::key::{Hand, No, Signed};
use super::log::Logged;
use super::policy::Verdict;
use super::trail::Told;
use super::world::{Effect, EstateWorld, Kept};

/// What he holds and how far he goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attacker {
    /// Rounds that he is awake for; one round at each of our calls. 0 = asleep.
    pub rounds: u32,
    /// Ids of keys and sessions whose secrets he has.
    pub holds: Vec<String>,
    /// Tokens of service accounts that he copied.
    pub tokens: Vec<StolenToken>,
    /// Database logins that he copied.
    pub logins: Vec<StolenLogin>,
    /// Keys that he may make in all.
    pub keys_left: u32,
    /// Keys that he may set Active again in all. He reacts at each of our calls: without an end of this, two keys that wake each other
    /// could only be ended by a policy.
    pub wakes_left: u32,
    /// What he tried and how it went.
    pub deeds: Vec<Deed>,
}

/// A service account's token, which mints sessions until it expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StolenToken {
    /// `system:serviceaccount:shop:web`.
    pub subject: String,
    /// Role's ARN.
    pub role: String,
    /// Until when the token is good.
    pub expires: DateTime<Utc>,
}

/// A database login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StolenLogin {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub role: String,
    /// Password.
    pub password: Kept,
}

/// Something he tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deed {
    /// Number of our call.
    pub seq: u64,
    /// `iam:CreateAccessKey`, `pg:Login`, …
    pub action: String,
    /// On what.
    pub on: String,
    /// `ok` or a code.
    pub answer: String,
}

/// The client address of his database sessions.
pub(super) const FROM: &str = "198.51.100.10";

/// One round: everything that what he holds may do for him.
pub(super) fn round(world: &mut EstateWorld, seq: u64, now: DateTime<Utc>) {
    if world.attacker.rounds == 0 {
        return;
    }
    world.attacker.rounds -= 1;
    for id in world.attacker.holds.clone() {
        if let Ok(signed) = world.by_id(&id, now) {
            let mut at = At { world, seq, now };
            at.make_key(&signed);
            at.wake_keys(&signed);
            at.drop_denies(&signed);
            at.assume_next(&signed);
        }
    }
    let mut at = At { world, seq, now };
    at.mint_from_tokens();
    at.log_in();
}

struct At<'w> {
    world: &'w mut EstateWorld,
    seq: u64,
    now: DateTime<Utc>,
}

impl At<'_> {
    fn make_key(&mut self, signed: &Signed) {
        let Some(user) = signed.member.strip_prefix("user/") else {
            return;
        };
        if self.world.attacker.keys_left == 0 {
            return;
        }
        let action = "iam:CreateAccessKey";
        let arn = self.world.arn(&signed.member);
        let made = self
            .world
            .authorize(signed, action, &arn, self.now)
            .and_then(|()| self.world.make_key(signed, user, Hand::Attacker, self.now));
        self.note(action, user, made.as_ref().err());
        if let Ok(id) = made {
            self.world.attacker.keys_left -= 1;
            self.world.attacker.holds.push(id);
        }
    }
    /// Sets keys of his user Active again.
    fn wake_keys(&mut self, signed: &Signed) {
        let Some(user) = signed.member.strip_prefix("user/") else {
            return;
        };
        let asleep = |(id, k): (&String, &super::Key)| {
            (k.user == user && !k.active && self.world.attacker.holds.contains(id))
                .then(|| id.clone())
        };
        let asleep: Vec<String> = self.world.keys.iter().filter_map(asleep).collect();
        for key in asleep {
            if self.world.attacker.wakes_left == 0 {
                return;
            }
            self.world.attacker.wakes_left -= 1;
            let effect = Effect::SetKey {
                key: key.clone(),
                active: true,
            };
            self.act(
                signed,
                "iam:UpdateAccessKey",
                &key,
                ("accessKeyId", &key),
                effect,
            );
        }
    }
    /// Removes policies that deny him something.
    fn drop_denies(&mut self, signed: &Signed) {
        let action = if signed.member.starts_with("user/") {
            "iam:DeleteUserPolicy"
        } else {
            "iam:DeleteRolePolicy"
        };
        let member = self.world.members.get(&signed.member);
        let denies: Vec<String> = member
            .into_iter()
            .flat_map(|m| &m.inline)
            .filter(|(_, document)| document.contains("\"Deny\""))
            .map(|(name, _)| name.clone())
            .collect();
        for name in denies {
            let effect = Effect::DeleteInline {
                member: signed.member.clone(),
                name: name.clone(),
            };
            let on = format!("{} {name}", signed.member);
            self.act(signed, action, &on, ("policyName", &name), effect);
        }
    }
    /// Assumes every role that lets him in and that he has no working session of.
    fn assume_next(&mut self, signed: &Signed) {
        let roles = self.world.members.keys().filter(|k| k.starts_with("role/"));
        for role in roles.cloned().collect::<Vec<_>>() {
            if self.is_in(&role) || role == signed.member {
                continue;
            }
            let arn = self.world.arn(&role);
            let made = self.world.assume(signed, &arn, "x", self.now);
            let told = Told {
                action: "sts:AssumeRole",
                request: &[("roleArn", &arn), ("roleSessionName", "x")],
                made: made.as_ref().ok().map(String::as_str),
                error: made.as_ref().err().map(|no| no.code),
                hand: Hand::Attacker,
            };
            if made.is_ok() {
                self.world.record(Some(signed), &told, self.now);
                self.note("sts:AssumeRole", &arn, None);
            }
            self.world.attacker.holds.extend(made);
        }
    }
    /// Mints sessions from the tokens that he copied.
    fn mint_from_tokens(&mut self) {
        for token in self.world.attacker.tokens.clone() {
            let Some(role) = self.world.member_of_arn(&token.role) else {
                continue;
            };
            if token.expires <= self.now || self.is_in(&role) {
                continue;
            }
            let action = "sts:AssumeRoleWithWebIdentity";
            let made = self
                .world
                .assume_with_token(&token.subject, &token.role, "x", self.now);
            let told = Told {
                action,
                request: &[
                    ("roleArn", &token.role),
                    ("roleSessionName", "x"),
                    ("subject", &token.subject),
                ],
                made: made.as_ref().ok().map(String::as_str),
                error: made.as_ref().err().map(|no| no.code),
                hand: Hand::Attacker,
            };
            self.world.record(None, &told, self.now);
            self.note(action, &token.role, made.as_ref().err());
            self.world.attacker.holds.extend(made);
        }
    }
    /// Opens a database session with each login that works.
    fn log_in(&mut self) {
        for login in self.world.attacker.logins.clone() {
            if self.world.has_session(&login.role, FROM) {
                continue;
            }
            let at = (login.host.as_str(), login.port);
            let answer = self.world.open_database(
                at,
                &login.role,
                &login.password.0,
                (FROM, "psql"),
                self.now,
            );
            let no = answer.err().map(|code| No::new(code, ""));
            self.note("pg:Login", &login.role, no.as_ref());
        }
    }
    /// True when he has a session of the role that is denied nothing.
    fn is_in(&self, role: &str) -> bool {
        self.world.attacker.holds.iter().any(|id| {
            self.world.by_id(id, self.now).is_ok_and(|s| {
                s.member == role
                    && self.world.judge(&s, "sts:AssumeRole", "*", self.now) != Verdict::Denied
            })
        })
    }
    /// One change, if his rights reach that far.
    fn act(
        &mut self,
        signed: &Signed,
        action: &str,
        on: &str,
        request: (&str, &str),
        effect: Effect,
    ) {
        let resource = self.world.arn(&signed.member);
        let allowed = self.world.authorize(signed, action, &resource, self.now);
        let told = Told {
            action,
            request: &[request],
            made: None,
            error: allowed.as_ref().err().map(|no| no.code),
            hand: Hand::Attacker,
        };
        self.world.record(Some(signed), &told, self.now);
        self.note(action, on, allowed.as_ref().err());
        if allowed.is_ok() {
            self.world.take_hold(effect);
        }
    }
    fn note(&mut self, action: &str, on: &str, no: Option<&No>) {
        let answer = no.map_or("ok", |no| no.code);
        self.world.attacker.deeds.push(Deed {
            seq: self.seq,
            action: action.to_owned(),
            on: on.to_owned(),
            answer: answer.to_owned(),
        });
        self.world.log.push(Logged {
            seq: self.seq,
            at: self.now,
            call: action.to_owned(),
            action: action.to_owned(),
            on: on.to_owned(),
            by: Hand::Attacker,
            effect: no.is_none(),
            answer: answer.to_owned(),
        });
    }
}
