//! Policies as the cloud judges them, as far as rotation meets them: an explicit deny wins, without an allow nothing goes.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// `iam:CreateAccessKey`.
    pub action: &'a str,
    /// ARN it is about, `*` where a call has none.
    pub resource: &'a str,
    /// Context keys that the request carries. One that is not here is absent: a condition on it is not met. A long-term key carries no
    /// `aws:TokenIssueTime`, which is why a deny by issue time does not touch it.
    pub context: BTreeMap<String, String>,
}

/// How it was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Some statement allows it, none denies it.
    Allowed,
    /// No statement allows it.
    NotAllowed,
    /// A statement denies it.
    Denied,
}

/// Judges by identity policies.
pub fn judge<'d>(documents: impl IntoIterator<Item = &'d str>, asked: &Asked<'_>) -> Verdict {
    let mut verdict = Verdict::NotAllowed;
    for statement in documents.into_iter().flat_map(statements) {
        if !about(&statement, asked) || !conditions_hold(&statement, &asked.context) {
            continue;
        }
        if statement["Effect"] == "Deny" {
            return Verdict::Denied;
        }
        verdict = Verdict::Allowed;
    }
    verdict
}

/// True when a trust policy lets this caller in: `callers` are the ARNs that stand for it (its own, its role's, its account's root),
/// or the identity provider that vouches for it.
pub fn trusts(trust: &str, callers: &[String], asked: &Asked<'_>) -> bool {
    let mut allowed = false;
    for statement in statements(trust) {
        let actions = texts(&statement["Action"]);
        let fits = actions.iter().any(|a| matches(a, asked.action));
        if !fits
            || !names_caller(&statement["Principal"], callers)
            || !conditions_hold(&statement, &asked.context)
        {
            continue;
        }
        if statement["Effect"] == "Deny" {
            return false;
        }
        allowed = true;
    }
    allowed
}

/// True when it is a policy document at all.
pub fn is_document(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|v| v.get("Statement").is_some())
}

/// What inline policies are measured by.
pub fn size(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

fn statements(document: &str) -> Vec<Value> {
    match serde_json::from_str::<Value>(document).map(|v| v["Statement"].clone()) {
        Ok(Value::Array(list)) => list,
        Ok(one @ Value::Object(_)) => vec![one],
        _ => Vec::new(),
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(list) => list
            .iter()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    }
}

fn about(statement: &Value, asked: &Asked<'_>) -> bool {
    let action = match (statement.get("Action"), statement.get("NotAction")) {
        (Some(action), _) => texts(action).iter().any(|a| matches(a, asked.action)),
        (None, Some(not)) => !texts(not).iter().any(|a| matches(a, asked.action)),
        (None, None) => false,
    };
    let resource = statement
        .get("Resource")
        .is_none_or(|r| texts(r).iter().any(|r| matches(r, asked.resource)));
    action && resource
}

fn names_caller(principal: &Value, callers: &[String]) -> bool {
    if principal == "*" {
        return true;
    }
    ["AWS", "Federated"]
        .iter()
        .flat_map(|kind| texts(&principal[*kind]))
        .any(|named| named == "*" || callers.contains(&named))
}

fn conditions_hold(statement: &Value, context: &BTreeMap<String, String>) -> bool {
    let Some(Value::Object(operators)) = statement.get("Condition") else {
        return true;
    };
    operators.iter().all(|(operator, keys)| {
        keys.as_object().is_some_and(|keys| {
            keys.iter()
                .all(|(key, wanted)| holds(operator, context.get(key), &texts(wanted)))
        })
    })
}

/// One condition. An operator that we do not know is not met: the estate has none.
fn holds(operator: &str, found: Option<&String>, wanted: &[String]) -> bool {
    let (operator, if_exists) = match operator.strip_suffix("IfExists") {
        Some(plain) => (plain, true),
        None => (operator, false),
    };
    let Some(found) = found else {
        return if_exists || operator.contains("Not");
    };
    let any = |test: &dyn Fn(&str) -> bool| wanted.iter().any(|w| test(w));
    match operator {
        "StringEquals" | "ArnEquals" => any(&|w| w == found),
        "StringNotEquals" | "ArnNotEquals" => !any(&|w| w == found),
        "StringLike" | "ArnLike" => any(&|w| matches(w, found)),
        "StringNotLike" | "ArnNotLike" => !any(&|w| matches(w, found)),
        "DateLessThan" => any(&|w| dates(found, w).is_some_and(|(f, w)| f < w)),
        "DateGreaterThan" => any(&|w| dates(found, w).is_some_and(|(f, w)| f > w)),
        _ => false,
    }
}

fn dates(found: &str, wanted: &str) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let read = |t: &str| DateTime::parse_from_rfc3339(t).ok().map(|t| t.to_utc());
    Some((read(found)?, read(wanted)?))
}

/// `*` and `?`, letter case aside, as actions are compared.
fn matches(pattern: &str, text: &str) -> bool {
    fn go(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => {
                go(&pattern[1..], text) || (!text.is_empty() && go(pattern, &text[1..]))
            }
            (Some(b'?'), Some(_)) => go(&pattern[1..], &text[1..]),
            (Some(p), Some(t)) => p.eq_ignore_ascii_case(t) && go(&pattern[1..], &text[1..]),
            _ => false,
        }
    }
    go(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY_OLDER: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*",
        "Condition":{"DateLessThan":{"aws:TokenIssueTime":"2026-09-21T14:13:21Z"}}}]}"#;
    const ALLOW: &str = super::super::world::ALLOW_ALL;

    fn asked(issued: Option<&str>) -> Asked<'static> {
        let context = issued
            .map(|t| ("aws:TokenIssueTime".to_owned(), t.to_owned()))
            .into_iter()
            .collect();
        Asked {
            action: "iam:ListUsers",
            resource: "*",
            context,
        }
    }

    #[test]
    fn a_deny_by_issue_time_ends_older_sessions_and_no_long_term_key() {
        let by = |issued| judge([ALLOW, DENY_OLDER], &asked(issued));
        assert_eq!(by(Some("2026-09-21T14:13:20Z")), Verdict::Denied);
        assert_eq!(by(Some("2026-09-21T14:13:21Z")), Verdict::Allowed);
        assert_eq!(by(None), Verdict::Allowed);
    }

    #[test]
    fn without_an_allow_nothing_goes_and_a_deny_wins() {
        assert_eq!(judge([], &asked(None)), Verdict::NotAllowed);
        let narrow =
            r#"{"Statement":{"Effect":"Allow","Action":["s3:*","iam:List*"],"Resource":"*"}}"#;
        assert_eq!(judge([narrow], &asked(None)), Verdict::Allowed);
        let deny = r#"{"Statement":{"Effect":"Deny","NotAction":"sts:*","Resource":"*"}}"#;
        assert_eq!(judge([narrow, deny], &asked(None)), Verdict::Denied);
    }

    #[test]
    fn trust_is_by_caller_action_and_subject() {
        let trust = r#"{"Statement":[{"Effect":"Allow","Principal":{"Federated":"arn:p"},"Action":"sts:AssumeRoleWithWebIdentity",
            "Condition":{"StringEquals":{"oidc.example:sub":"system:serviceaccount:shop:web"}}}]}"#;
        let by = |subject: &str, action: &'static str| {
            let asked = Asked {
                action,
                resource: "*",
                context: BTreeMap::from([("oidc.example:sub".into(), subject.into())]),
            };
            trusts(trust, &["arn:p".into()], &asked)
        };
        let web = "system:serviceaccount:shop:web";
        assert!(by(web, "sts:AssumeRoleWithWebIdentity"));
        assert!(!by(
            "system:serviceaccount:shop:web-2",
            "sts:AssumeRoleWithWebIdentity"
        ));
        assert!(!by(web, "sts:AssumeRole"));
    }
}
