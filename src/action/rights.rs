//! The least role for a set of actions, rendered from their declarations. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::registry::RightSpec;

/// Renders the least RBAC for `rights`: rights within namespaces as ClusterRole `<name>`, to be bound in each namespace (or everywhere);
/// those that must be held cluster-wide as `<name>-cluster`. A namespaced right that is held cluster-wide too is not repeated.
pub fn role_yaml(name: &str, rights: &[RightSpec]) -> String {
    let wide: BTreeSet<RightSpec> = rights.iter().filter(|r| r.cluster_wide).copied().collect();
    let covered = |r: &RightSpec| {
        wide.contains(&RightSpec {
            cluster_wide: true,
            ..*r
        })
    };
    let near = rights.iter().filter(|r| !r.cluster_wide && !covered(r));
    let near: BTreeSet<RightSpec> = near.copied().collect();
    let mut out = String::new();
    if !near.is_empty() {
        out.push_str(&role(
            name,
            "bind it with a RoleBinding in each namespace concerned",
            &near,
        ));
    }
    if !wide.is_empty() {
        if !out.is_empty() {
            out.push_str("---\n");
        }
        let wide_name = format!("{name}-cluster");
        out.push_str(&role(
            &wide_name,
            "bind it with a ClusterRoleBinding",
            &wide,
        ));
    }
    out
}

fn role(name: &str, bind: &str, rights: &BTreeSet<RightSpec>) -> String {
    let mut out = format!(
        "# {bind}\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: {name}\nrules:\n"
    );
    for (group, resources, verbs) in rules(rights) {
        let quoted: Vec<String> = verbs.iter().map(|v| format!("\"{v}\"")).collect();
        let named: Vec<String> = resources.iter().map(|r| format!("\"{r}\"")).collect();
        out.push_str(&format!(
            "- apiGroups: [\"{group}\"]\n  resources: [{}]\n  verbs: [{}]\n",
            named.join(", "),
            quoted.join(", ")
        ));
    }
    out
}

type Rule = (&'static str, Vec<&'static str>, BTreeSet<&'static str>);

/// Resources of one group that need the same verbs share a rule; nobody gets a verb that was not declared for that resource.
fn rules(rights: &BTreeSet<RightSpec>) -> Vec<Rule> {
    let mut verbs: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for r in rights {
        verbs
            .entry((r.group, r.resource))
            .or_default()
            .insert(r.verb);
    }
    let mut rules: Vec<Rule> = Vec::new();
    for ((group, resource), verbs) in verbs {
        match rules
            .iter_mut()
            .find(|(g, _, v)| *g == group && *v == verbs)
        {
            Some((_, resources, _)) => resources.push(resource),
            None => rules.push((group, vec![resource], verbs)),
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn right(
        group: &'static str,
        resource: &'static str,
        verb: &'static str,
        cluster_wide: bool,
    ) -> RightSpec {
        RightSpec {
            group,
            resource,
            verb,
            cluster_wide,
        }
    }

    #[test]
    fn a_role_holds_exactly_what_was_declared() {
        let yaml = role_yaml(
            "firebreak-capture",
            &[
                right("", "pods", "get", false),
                right("", "pods/log", "get", false),
                right("", "pods/exec", "create", false),
                right("", "pods/exec", "get", false),
                right("", "pods", "get", false),
                right("", "nodes", "get", true),
                right("", "nodes", "get", false),
            ],
        );
        assert_eq!(
            yaml,
            "# bind it with a RoleBinding in each namespace concerned
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: firebreak-capture
rules:
- apiGroups: [\"\"]
  resources: [\"pods\", \"pods/log\"]
  verbs: [\"get\"]
- apiGroups: [\"\"]
  resources: [\"pods/exec\"]
  verbs: [\"create\", \"get\"]
---
# bind it with a ClusterRoleBinding
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: firebreak-capture-cluster
rules:
- apiGroups: [\"\"]
  resources: [\"nodes\"]
  verbs: [\"get\"]
"
        );
    }
}
