//! Which credentials: a CEL expression over the facts of each, three-valued. Plain flags stand for an expression, which is shown.
//!
//! A member is in, out, or *unknown*, with the field that could not be read. Unknown members refuse the plan unless it says what becomes of
//! them, which approvers see. An empty selection is an error unless it was allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::condition::{Answer, Condition, Given, Sets};
use crate::incident::word;

use super::inventory::{Credential, FIELDS, LAST_USED};
use super::words::CredentialKind;

word!(
    /// What becomes of members that cannot be judged.
    OnUnknown { /// The plan is refused.
        Refuse = "refuse", /// They are in.
        Include = "include", /// They are out.
        Exclude = "exclude" }
);

/// The function that answers what an access key id touched, by the trail.
pub const TOUCHED_BY: &str = "touched_by";
/// The function that answers which roles were reached from an access key id or a role.
pub const CHAIN: &str = "chain";
/// The function that answers names which were given one by one.
pub const SET: &str = "set";

/// So many names stand in the expression itself.
const INLINE: usize = 5;

/// What a person asks for: an expression, names, and filters on them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// CEL.
    pub expression: Option<String>,
    /// Users: their access keys.
    pub users: BTreeSet<String>,
    /// Access key ids.
    pub keys: BTreeSet<String>,
    /// Roles, by name or ARN: their sessions.
    pub roles: BTreeSet<String>,
    /// Ids of what is in these secrets: the key id that one keeps, else its ARN.
    pub secrets: BTreeSet<String>,
    /// Ids that the containment handed over; `None` = it was not asked for.
    pub handover: Option<BTreeSet<String>>,
    /// Only these kinds.
    pub kinds: BTreeSet<CredentialKind>,
    /// Only below this path.
    pub path_prefix: Option<String>,
    /// Only with these tags.
    pub tags: BTreeMap<String, String>,
}

impl Wanted {
    /// The expression that it stands for, with the sets that it reads. `None` = nothing was asked for.
    pub fn stands_for(&self) -> Option<(String, Sets)> {
        let mut sets = Sets::new();
        let mut any: Vec<String> = self.expression.iter().cloned().collect();
        let key = CredentialKind::IamAccessKey.as_str();
        let role = CredentialKind::IamRoleSessions.as_str();
        for (names, text) in [
            (&self.users, format!("kind == '{key}' && name")),
            (&self.keys, "id".to_owned()),
            (&self.roles, format!("kind == '{role}' && name")),
            (&self.secrets, "id".to_owned()),
        ] {
            if !names.is_empty() {
                any.push(format!("{text} in {}", listed(names, &mut sets)));
            }
        }
        if let Some(ids) = &self.handover {
            let set = (SET.to_owned(), "handover".to_owned());
            sets.insert(set, Some(ids.iter().cloned().collect()));
            any.push("id in set('handover')".into());
        }
        let mut all = self.filters();
        match any.len() {
            0 => {}
            1 if all.is_empty() => return any.pop().map(|e| (e, sets)),
            _ => {
                let parts: Vec<String> = any.iter().map(|e| format!("({e})")).collect();
                let joined = parts.join(" || ");
                all.insert(
                    0,
                    if all.is_empty() {
                        joined
                    } else {
                        format!("({joined})")
                    },
                );
            }
        }
        (!all.is_empty()).then(|| (all.join(" && "), sets))
    }

    fn filters(&self) -> Vec<String> {
        let mut all = Vec::new();
        if !self.kinds.is_empty() {
            let kinds: Vec<String> = self.kinds.iter().map(|k| quoted(k.as_str())).collect();
            all.push(format!("kind in [{}]", kinds.join(", ")));
        }
        if let Some(prefix) = &self.path_prefix {
            all.push(format!(
                "path != null && path.startsWith({})",
                quoted(prefix)
            ));
        }
        for (name, value) in &self.tags {
            all.push(format!("tags[{}] == {}", quoted(name), quoted(value)));
        }
        all
    }

    /// True when each credential was named: nothing else need be looked at.
    pub fn only_named(&self) -> bool {
        self.expression.is_none()
            && !(self.users.is_empty()
                && self.keys.is_empty()
                && self.roles.is_empty()
                && self.secrets.is_empty()
                && self.handover.is_none())
    }
}

/// Few names as a list; many as a set that is named by its digest, since an expression is short.
fn listed(names: &BTreeSet<String>, sets: &mut Sets) -> String {
    let list: Vec<String> = names.iter().map(|n| quoted(n)).collect();
    if names.len() <= INLINE {
        return format!("[{}]", list.join(", "));
    }
    let digest = Sha256::digest(list.join("\n"));
    let short: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    let name = format!("{} names {short}", names.len());
    let set = (SET.to_owned(), name.clone());
    sets.insert(set, Some(names.iter().cloned().collect()));
    format!("set('{name}')")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Reads a selection.
///
/// # Errors
/// With what is wrong, and the column where it is.
pub fn read(text: &str) -> Result<Condition, String> {
    let condition = Condition::parse(text).map_err(|e| {
        format!(
            "the selection is not understood at column {}: {e}",
            e.column + 1
        )
    })?;
    let strange: Vec<&str> = condition
        .names()
        .keys()
        .map(String::as_str)
        .filter(|n| !FIELDS.contains(n) && *n != LAST_USED)
        .collect();
    if !strange.is_empty() {
        return Err(format!(
            "a credential has no `{}`; it has {} and {LAST_USED}",
            strange.join("`, `"),
            FIELDS.join(", ")
        ));
    }
    if condition.never_boolean() {
        return Err("the selection never answers true or false".into());
    }
    Ok(condition)
}

/// Kinds that a selection may have members of: of the others nothing need be looked at.
pub fn kinds_of(condition: &Condition, sets: &Sets) -> BTreeSet<CredentialKind> {
    let kinds = CredentialKind::ALL;
    let rows = kinds
        .iter()
        .map(|k| BTreeMap::from([("kind".to_owned(), Given::Json(Json::from(k.as_str())))]));
    let answers = condition.eval_rows(rows.collect(), sets.clone());
    let open = kinds.iter().zip(answers);
    open.filter(|(_, a)| *a != Answer::False)
        .map(|(k, _)| *k)
        .collect()
}

/// How a credential was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Judged {
    /// It is in: the facts that the expression read.
    In(Vec<String>),
    /// It is out.
    Out,
    /// It cannot be told: why.
    Unknown(String),
}

/// Judges each credential, in order.
pub fn judge(
    condition: &Condition,
    credentials: &[Credential],
    sets: &Sets,
    now: DateTime<Utc>,
) -> Vec<Judged> {
    let rows: Vec<_> = credentials.iter().map(|c| c.facts(now)).collect();
    let answers = condition.eval_rows(rows.clone(), sets.clone());
    credentials
        .iter()
        .zip(answers)
        .zip(&rows)
        .map(|((credential, answer), facts)| match answer {
            Answer::True => Judged::In(read_facts(condition, facts)),
            Answer::False => Judged::Out,
            Answer::Unknown(name) => Judged::Unknown(match credential.unreadable(&name) {
                Some(why) => format!("`{name}`: {why}"),
                None => format!("`{name}` is not known"),
            }),
            Answer::Error(why) => failed(facts, condition, why),
        })
        .collect()
}

/// An absent value that was compared is the usual reason why an expression fails for one credential. What has no path or namespace by its
/// kind is not meant; a key that was never used is for a person to say.
fn failed(facts: &BTreeMap<String, Given>, condition: &Condition, why: String) -> Judged {
    let absent = condition
        .names()
        .keys()
        .filter(|n| facts.get(*n) == Some(&Given::Json(Json::Null)));
    let absent: Vec<&str> = absent.map(String::as_str).collect();
    match absent[..] {
        [] => Judged::Unknown(why),
        [LAST_USED] => Judged::Unknown(format!(
            "`{LAST_USED}`: it was never used; ask `{LAST_USED} == null` first"
        )),
        _ => Judged::Out,
    }
}

fn read_facts(condition: &Condition, facts: &BTreeMap<String, Given>) -> Vec<String> {
    let shown = condition.names().keys().filter_map(|name| {
        let value = match facts.get(name)? {
            Given::Json(Json::String(text)) => text.clone(),
            Given::Json(other) => other.to_string(),
            Given::Span(span) => format!("{} h", span.num_hours()),
        };
        Some(format!("{name} = {value}"))
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::inventory::Fact;

    fn key(id: &str, user: &str) -> Credential {
        let arn = format!("arn:aws:iam::1:user/{user}");
        Credential::new(CredentialKind::IamAccessKey, "1", id, user, &arn)
    }

    fn judged(text: &str, credential: &Credential) -> Judged {
        let condition = read(text).expect(text);
        let all = judge(
            &condition,
            std::slice::from_ref(credential),
            &Sets::new(),
            Utc::now(),
        );
        all.into_iter().next().expect("one")
    }

    #[test]
    fn what_could_not_be_read_is_unknown_with_the_field_and_never_out() {
        let mut c = key("AKIA1", "ci");
        c.tags = Fact::Unknown("AccessDenied".into());
        let Judged::Unknown(why) = judged("tags.team == 'pay'", &c) else {
            panic!("not unknown");
        };
        assert_eq!(why, "`tags`: AccessDenied");
        // The other side decides.
        assert_eq!(judged("tags.team == 'pay' && name == 'x'", &c), Judged::Out);
        c.tags = Fact::Known(BTreeMap::new());
        assert_eq!(judged("tags.team == 'pay'", &c), Judged::Out);
    }

    #[test]
    fn a_key_that_was_never_used_is_asked_for_by_null_and_is_not_older_than_anything() {
        let c = key("AKIA1", "ci");
        assert!(matches!(judged("last_used == null", &c), Judged::In(_)));
        let Judged::Unknown(why) = judged("last_used > duration('2160h')", &c) else {
            panic!("not unknown");
        };
        assert!(why.contains("never used"), "{why}");
    }

    #[test]
    fn flags_stand_for_an_expression_that_reads_and_selects_the_same() {
        let wanted = Wanted {
            users: ["ci", "it's"].map(str::to_owned).into(),
            path_prefix: Some("/ci/".into()),
            tags: [("team".to_owned(), "pay".to_owned())].into(),
            ..Wanted::default()
        };
        let (text, _) = wanted.stands_for().expect("something");
        let mut c = key("AKIA1", "it's");
        c.path = Fact::Known("/ci/x/".into());
        c.tags = Fact::Known([("team".to_owned(), "pay".to_owned())].into());
        assert!(matches!(judged(&text, &c), Judged::In(_)), "{text}");
        c.path = Fact::None;
        assert_eq!(judged(&text, &c), Judged::Out);
        assert_eq!(judged("path.startsWith('/ci/')", &c), Judged::Out);
        assert_eq!(Wanted::default().stands_for(), None);
    }

    #[test]
    fn thousands_of_names_fit_into_one_short_expression() {
        let wanted = Wanted {
            users: (0..3_000).map(|n| format!("user-{n}")).collect(),
            ..Wanted::default()
        };
        let (text, sets) = wanted.stands_for().expect("something");
        let condition = read(&text).expect("within the limits");
        let all = [key("A", "user-7"), key("B", "other")];
        let answers = judge(&condition, &all, &sets, Utc::now());
        assert!(
            matches!(answers[..], [Judged::In(_), Judged::Out]),
            "{answers:?}"
        );
    }

    #[test]
    fn a_selection_says_which_kinds_need_not_be_looked_at() {
        let condition = read("kind == 'iam-access-key' && path.startsWith('/ci/')").expect("reads");
        assert_eq!(
            kinds_of(&condition, &Sets::new()),
            [CredentialKind::IamAccessKey].into()
        );
        assert!(read("usr == 'x'").is_err());
        assert!(read("age + age").is_err());
    }
}
