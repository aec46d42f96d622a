//! Trust policies of roles that a cluster's service accounts assume (IRSA and the like).
//!
//! A stolen web-identity token mints fresh sessions until it expires, and the trust policy sees the same `sub`. So the workload moves to a
//! new service account, and only the new one is trusted.

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

const PREFIX: &str = "system:serviceaccount:";

/// Service accounts that a trust policy names exactly: (namespace, name).
pub fn accounts(trust: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&mut parsed(trust), &mut |text| {
        if let Some((namespace, name)) = account(text) {
            let one = (namespace.to_owned(), name.to_owned());
            if !found.contains(&one) {
                found.push(one);
            }
        }
    });
    found
}

/// True when the policy lets in accounts by a pattern: then taking one out of it changes nothing.
pub fn by_pattern(trust: &str) -> bool {
    let mut pattern = false;
    walk(&mut parsed(trust), &mut |text| {
        pattern |= text.starts_with(PREFIX) && text.contains(['*', '?']);
    });
    pattern
}

/// The policy in which `to` stands where `from` stood; `None` when it does not name `from`.
pub fn moved(trust: &str, namespace: &str, from: &str, to: &str) -> Option<String> {
    let mut policy = parsed(trust);
    let (old, new) = (subject(namespace, from), subject(namespace, to));
    let mut changed = false;
    walk(&mut policy, &mut |text| {
        if *text == old {
            text.clone_from(&new);
            changed = true;
        }
    });
    changed.then(|| policy.to_string())
}

/// Name of the account that a workload moves to: the same for the same incident and account.
pub fn successor(incident: &str, run: &str, namespace: &str, from: &str) -> String {
    let digest = Sha256::digest(format!("{incident}\n{run}\n{namespace}\n{from}"));
    let short: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    // A name has at most 253 characters, and one that moved before does not grow.
    let stem = from.split("-fb").next().unwrap_or(from);
    let stem: String = stem.chars().take(200).collect();
    format!("{stem}-fb{short}")
}

fn subject(namespace: &str, name: &str) -> String {
    format!("{PREFIX}{namespace}:{name}")
}

fn account(text: &str) -> Option<(&str, &str)> {
    let (namespace, name) = text.strip_prefix(PREFIX)?.split_once(':')?;
    (!text.contains(['*', '?'])).then_some((namespace, name))
}

fn parsed(trust: &str) -> Json {
    serde_json::from_str(trust).unwrap_or_default()
}

/// Visits the texts of each statement's conditions.
fn walk(policy: &mut Json, visit: &mut dyn FnMut(&mut String)) {
    let statements: Vec<&mut Json> = match &mut policy["Statement"] {
        Json::Array(all) => all.iter_mut().collect(),
        one => vec![one],
    };
    for statement in statements {
        if let Some(condition) = statement.get_mut("Condition") {
            texts(condition, visit);
        }
    }
}

fn texts(value: &mut Json, visit: &mut dyn FnMut(&mut String)) {
    match value {
        Json::String(text) => visit(text),
        Json::Array(all) => all.iter_mut().for_each(|v| texts(v, visit)),
        Json::Object(all) => all.values_mut().for_each(|v| texts(v, visit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::1:oidc-provider/x"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"x:aud":"sts.amazonaws.com","x:sub":"system:serviceaccount:shop:web"}}}]}"#;

    #[test]
    fn only_the_successor_is_trusted_and_all_else_stays() {
        assert_eq!(accounts(TRUST), [("shop".to_owned(), "web".to_owned())]);
        let to = successor("INC-1", "run-a", "shop", "web");
        let after = moved(TRUST, "shop", "web", &to).expect("moved");
        assert!(
            after.contains("sts.amazonaws.com") && after.contains("2012-10-17"),
            "{after}"
        );
        assert_eq!(accounts(&after), [("shop".to_owned(), to.clone())]);
        assert_eq!(moved(TRUST, "shop", "api", &to), None);
        assert_eq!(successor("INC-1", "run-a", "shop", "web"), to);
        assert!(successor("INC-1", "run-b", "shop", &to).len() == to.len());
    }

    #[test]
    fn a_pattern_is_told_from_a_name() {
        let pattern = TRUST
            .replace("shop:web", "shop:*")
            .replace("StringEquals", "StringLike");
        assert!(by_pattern(&pattern) && !by_pattern(TRUST));
        assert!(accounts(&pattern).is_empty());
        assert!(accounts("not json").is_empty());
    }
}
