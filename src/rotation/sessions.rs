//! The deny of sessions older than an instant, as AWS's own console writes it.
//!
//! Source: AWS IAM User Guide, "Revoke IAM role temporary security credentials": an inline policy `AWSRevokeOlderSessions` that denies
//! everything where `aws:TokenIssueTime` is earlier than T. Long-term keys carry no issue time and are not denied by it.

use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

use crate::incident::clock_text;
use crate::port::{Principal, PrincipalSeen};

/// Name of the policy; the console uses it too, so that one T is in place and not two.
pub const POLICY_NAME: &str = "AWSRevokeOlderSessions";

/// The policy that denies everything to sessions issued before `t`.
pub fn deny_older_than(t: DateTime<Utc>) -> String {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Deny",
            "Action": ["*"],
            "Resource": ["*"],
            "Condition": { "DateLessThan": { "aws:TokenIssueTime": clock_text::seconds(t) } }
        }]
    })
    .to_string()
}

/// Name of the policy that denies a user everything.
pub const QUARANTINE_NAME: &str = "FirebreakQuarantine";

/// The policy that denies everything to whoever it is on.
pub fn deny_everything() -> String {
    json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Deny", "Action": ["*"], "Resource": ["*"] }]
    })
    .to_string()
}

/// The T of such a policy, whoever wrote it; `None` when it is another policy.
pub fn cutoff(document: &str) -> Option<DateTime<Utc>> {
    let policy: Json = serde_json::from_str(document).ok()?;
    let statements = match &policy["Statement"] {
        Json::Array(all) => all.clone(),
        one => vec![one.clone()],
    };
    statements
        .iter()
        .filter(|s| s["Effect"] == "Deny" && everything(&s["Action"]) && everything(&s["Resource"]))
        .filter_map(|s| s["Condition"]["DateLessThan"]["aws:TokenIssueTime"].as_str())
        .filter_map(|t| t.parse().ok())
        .max()
}

fn everything(value: &Json) -> bool {
    match value {
        Json::String(one) => one == "*",
        Json::Array(all) => all.iter().any(|v| v == "*"),
        _ => false,
    }
}

/// Whether the policy fits beside the others: inline policies are counted together, without white space.
///
/// # Errors
/// With the sum and the limit.
pub fn fits(principal: &Principal, seen: &PrincipalSeen, document: &str) -> Result<(), String> {
    let limit = match principal {
        Principal::User(_) => 2_048,
        Principal::Role(_) => 10_240,
    };
    let size = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
    let others: usize = seen
        .inline
        .iter()
        .filter(|(name, _)| name.as_str() != POLICY_NAME)
        .map(|(_, text)| size(text))
        .sum();
    let sum = others + size(document);
    if sum <= limit {
        return Ok(());
    }
    Err(format!(
        "inline policies of {} would be {sum} characters, {limit} fit: remove one, or deny by an organisation policy",
        principal.name()
    ))
}

/// True when two policies say the same, whatever their white space and order of keys.
pub fn same_policy(a: &str, b: &str) -> bool {
    match (
        serde_json::from_str::<Json>(a),
        serde_json::from_str::<Json>(b),
    ) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_off_is_read_back_from_the_policy_and_from_the_console_s_own() {
        let t: DateTime<Utc> = "2026-11-25T03:04:05Z".parse().expect("time");
        assert_eq!(cutoff(&deny_older_than(t)), Some(t));
        let console = r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2026-11-25T03:04:05.123Z"}}}}"#;
        assert!(cutoff(console) > Some(t));
        let other = r#"{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2026-11-25T03:04:05Z"}}}]}"#;
        assert_eq!(cutoff(other), None);
    }

    #[test]
    fn a_policy_that_does_not_fit_beside_the_others_is_refused_with_the_sum() {
        let mut seen = PrincipalSeen {
            arn: String::new(),
            path: "/".into(),
            inline: std::collections::BTreeMap::from([("big".into(), "x".repeat(2_000))]),
            attached: vec![],
            trust: None,
            max_session_s: None,
            mfa: vec![],
            console_password_created: None,
            console_password_used: None,
            tags: None,
        };
        let document = deny_older_than(Utc::now());
        let user = Principal::User("u".into());
        let why = fits(&user, &seen, &document).expect_err("too big");
        assert!(why.contains("2048 fit"), "{why}");
        assert!(fits(&Principal::Role("r".into()), &seen, &document).is_ok());
        // Our own policy is replaced, not added.
        seen.inline = std::collections::BTreeMap::from([(POLICY_NAME.into(), "x".repeat(2_000))]);
        assert!(fits(&user, &seen, &document).is_ok());
    }
}
