//! Which roles hold a right, for the hint when it is missing.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};

use super::convert::text;
use super::wire::{Wire, segment};
use crate::port::{Cause, PortError, Right};

const API: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Names of roles that hold it, `ClusterRole/x` or `Role/ns/x`; empty when they may not be read.
pub(super) async fn roles_with(wire: &Wire, right: &Right) -> Result<Vec<String>, PortError> {
    let mut names = Vec::new();
    let path = format!("{API}/clusterroles");
    for role in readable::<ClusterRole>(wire.list(&path, &[], "list").await)? {
        if holds(role.rules.as_deref().unwrap_or_default(), right) {
            names.push(format!("ClusterRole/{}", text(&role.metadata.name)));
        }
    }
    if let Some(namespace) = &right.namespace {
        let path = format!("{API}/namespaces/{}/roles", segment(namespace)?);
        for role in readable::<Role>(wire.list(&path, &[], "list").await)? {
            if holds(role.rules.as_deref().unwrap_or_default(), right) {
                names.push(format!("Role/{namespace}/{}", text(&role.metadata.name)));
            }
        }
    }
    Ok(names)
}

fn readable<T>(listed: Result<Vec<T>, PortError>) -> Result<Vec<T>, PortError> {
    match listed {
        Err(e) if matches!(e.cause, Cause::Refused | Cause::NotFound) => Ok(Vec::new()),
        other => other,
    }
}

/// RBAC's own matching: `*` for all, `*/sub` for a subresource of all; rules with `resourceNames` do not hold it in general.
fn holds(rules: &[PolicyRule], right: &Right) -> bool {
    let sub = right
        .resource
        .split_once('/')
        .map(|(_, sub)| format!("*/{sub}"));
    rules.iter().any(|rule| {
        let verbs = rule.verbs.iter().any(|v| v == "*" || *v == right.verb);
        let groups = rule.api_groups.iter().flatten();
        let group = groups.into_iter().any(|g| g == "*" || *g == right.group);
        let mut resources = rule.resources.iter().flatten();
        let resource =
            resources.any(|r| r == "*" || *r == right.resource || sub.as_ref() == Some(r));
        let everywhere = rule.resource_names.as_ref().is_none_or(Vec::is_empty);
        verbs && group && resource && everywhere
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_holds_a_right_by_rbacs_own_matching() {
        let rule = |value: serde_json::Value| -> PolicyRule {
            serde_json::from_value(value).expect("a rule")
        };
        let logs = Right::new("", "pods/log", "get");
        let all =
            rule(serde_json::json!({ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }));
        let sub = rule(
            serde_json::json!({ "apiGroups": [""], "resources": ["*/log"], "verbs": ["get"] }),
        );
        let pods =
            rule(serde_json::json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }));
        let one = rule(
            serde_json::json!({ "apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"], "resourceNames": ["a"] }),
        );
        assert!(holds(&[all], &logs) && holds(&[sub], &logs));
        assert!(!holds(&[pods], &logs) && !holds(&[one], &logs));
    }
}
