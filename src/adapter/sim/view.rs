//! Looking at the simulated cluster.

use async_trait::async_trait;
use serde_json::Value;

use crate::port::{
    Cause, ClusterIdentity, ClusterView, Enforcement, LookScope, PortError, Right, RightAnswer,
};
use crate::reach::cluster::{ClusterSnapshot, Node, Operator, Pod, PodName, Requirement, Selector};

use super::world::World;
use super::{Call, SimCluster, object};

#[async_trait]
impl ClusterView for SimCluster {
    async fn identity(&self) -> Result<ClusterIdentity, PortError> {
        let call = Call {
            method: "identity",
            tried: "look at cluster",
            on: "sim",
        };
        self.look_at(call, &[], |w| Ok(w.identity.clone()))
    }

    async fn look(&self, scope: &LookScope) -> Result<ClusterSnapshot, PortError> {
        let call = Call {
            method: "look",
            tried: "look at cluster",
            on: "sim",
        };
        let taken = self.clock.now();
        self.look_at(call, &[], |w| {
            let mut seen = narrowed(w, scope);
            seen.taken = taken;
            Ok(seen)
        })
    }

    async fn pod(&self, pod: &PodName) -> Result<Option<Pod>, PortError> {
        let on = pod.to_string();
        let call = Call {
            method: "pod",
            tried: "read pod",
            on: &on,
        };
        let right = Right::new("", "pods", "get").within(&pod.namespace);
        self.look_at(call, &[right], |w| {
            Ok(w.pod(&pod.namespace, &pod.name).cloned())
        })
    }

    async fn pods_by_selector(
        &self,
        namespace: &str,
        selector: &str,
    ) -> Result<Vec<Pod>, PortError> {
        let call = Call {
            method: "pods_by_selector",
            tried: "list pods of",
            on: namespace,
        };
        let parsed = parse_selector(selector).ok_or_else(|| {
            call.error(
                Cause::Rejected,
                format!("cannot read selector `{selector}`"),
            )
        })?;
        let right = Right::new("", "pods", "list").within(namespace);
        self.look_at(call, &[right], |w| {
            Ok(w.cluster
                .pods
                .iter()
                .filter(|p| p.namespace == namespace && parsed.matches(&p.labels))
                .cloned()
                .collect())
        })
    }

    async fn node(&self, name: &str) -> Result<Option<Node>, PortError> {
        let call = Call {
            method: "node",
            tried: "read node",
            on: name,
        };
        self.look_at(call, &[Right::new("", "nodes", "get")], |w| {
            Ok(w.node(name).cloned())
        })
    }

    async fn object(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, PortError> {
        let tried = format!("read {kind}");
        let on = format!("{namespace}/{name}");
        let call = Call {
            method: "object",
            tried: &tried,
            on: &on,
        };
        self.look_at(call, &[object::right_to_get(kind, namespace)], |w| {
            Ok(object::find(w, kind, namespace, name))
        })
    }

    async fn events(&self, namespace: &str, uid: &str) -> Result<Vec<Value>, PortError> {
        let call = Call {
            method: "events",
            tried: "list events of",
            on: namespace,
        };
        let right = Right::new("", "events", "list").within(namespace);
        self.look_at(call, &[right], |w| {
            Ok(w.events
                .iter()
                .filter(|e| e.pointer("/involvedObject/uid").and_then(Value::as_str) == Some(uid))
                .cloned()
                .collect())
        })
    }

    async fn may(&self, rights: &[Right]) -> Result<Vec<RightAnswer>, PortError> {
        let call = Call {
            method: "may",
            tried: "ask for rights at",
            on: "sim",
        };
        self.look_at(call, &[], |w| {
            Ok(rights
                .iter()
                .map(|r| RightAnswer {
                    right: r.clone(),
                    allowed: Some(!w.lacks(r)),
                })
                .collect())
        })
    }

    async fn enforcement(&self) -> Result<Enforcement, PortError> {
        let call = Call {
            method: "enforcement",
            tried: "look for the network plugin of",
            on: "sim",
        };
        self.look_at(call, &[], |w| {
            Ok(Enforcement {
                plugin: w.plugin.clone(),
                enforces: w.plugin.as_ref().map(|_| true),
                basis: match &w.plugin {
                    Some(name) => format!("DaemonSet kube-system/{name} (simulated)"),
                    None => "no plugin recognised by its pods (simulated)".to_owned(),
                },
            })
        })
    }

    async fn roles_with(&self, right: &Right) -> Result<Vec<String>, PortError> {
        let call = Call {
            method: "roles_with",
            tried: "look for roles of",
            on: "sim",
        };
        self.look_at(call, &[], |w| {
            Ok(w.roles
                .iter()
                .filter(|(_, held)| {
                    held.iter().any(|h| {
                        (&h.group, &h.resource, &h.verb)
                            == (&right.group, &right.resource, &right.verb)
                    })
                })
                .map(|(name, _)| name.clone())
                .collect())
        })
    }
}

/// The snapshot as this caller may see it.
fn narrowed(world: &World, scope: &LookScope) -> ClusterSnapshot {
    let mut seen = world.cluster.clone();
    if let LookScope::Namespaces(names) = scope {
        let inside = |ns: &str| names.iter().any(|n| n == ns);
        seen.pods.retain(|o| inside(&o.namespace));
        seen.policies.retain(|o| inside(&o.namespace));
        seen.services.retain(|o| inside(&o.namespace));
        seen.endpoint_slices.retain(|o| inside(&o.namespace));
        seen.controllers.retain(|o| inside(&o.namespace));
        seen.disruption_budgets.retain(|o| inside(&o.namespace));
        seen.service_accounts.retain(|o| inside(&o.namespace));
        seen.foreign_policies
            .retain(|o| o.namespace.is_empty() || inside(&o.namespace));
    }
    let mut hide = |what: &str, group: &str, resource: &str, empty: fn(&mut ClusterSnapshot)| {
        let right = Right::new(group, resource, "list");
        if world.lacks(&right) {
            empty(&mut seen);
            seen.unread.push(World::unread(what, &right));
        }
    };
    hide("pods", "", "pods", |s| s.pods.clear());
    hide(
        "networkpolicies",
        "networking.k8s.io",
        "networkpolicies",
        |s| s.policies.clear(),
    );
    hide("services", "", "services", |s| s.services.clear());
    hide(
        "endpointslices",
        "discovery.k8s.io",
        "endpointslices",
        |s| s.endpoint_slices.clear(),
    );
    hide("replicasets", "apps", "replicasets", |s| {
        s.controllers.clear()
    });
    hide(
        "poddisruptionbudgets",
        "policy",
        "poddisruptionbudgets",
        |s| {
            s.disruption_budgets.clear();
        },
    );
    hide("nodes", "", "nodes", |s| s.nodes.clear());
    hide("serviceaccounts", "", "serviceaccounts", |s| {
        s.service_accounts.clear()
    });
    seen
}

/// Reads `app=web,tier!=db,canary,!old,zone in (a,b)`; `None` when it is none.
fn parse_selector(text: &str) -> Option<Selector> {
    let mut selector = Selector::default();
    for part in split_outside_brackets(text) {
        selector.expressions.push(parse_requirement(part.trim())?);
    }
    Some(selector)
}

fn split_outside_brackets(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .filter(|p| !p.trim().is_empty())
    .collect()
}

fn parse_requirement(part: &str) -> Option<Requirement> {
    let of = |key: &str, operator, values: Vec<String>| {
        let key = key.trim();
        (!key.is_empty() && !key.contains(char::is_whitespace)).then(|| Requirement {
            key: key.to_owned(),
            operator,
            values,
        })
    };
    if let Some((head, list)) = part.split_once('(') {
        let values = list
            .strip_suffix(')')?
            .split(',')
            .map(|v| v.trim().to_owned())
            .collect();
        let head = head.trim();
        return match head.strip_suffix(" notin") {
            Some(key) => of(key, Operator::NotIn, values),
            None => of(head.strip_suffix(" in")?, Operator::In, values),
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return of(key, Operator::NotIn, vec![value.trim().to_owned()]);
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return of(key, Operator::In, vec![value.trim().to_owned()]);
    }
    match part.strip_prefix('!') {
        Some(key) => of(key, Operator::DoesNotExist, Vec::new()),
        None => of(part, Operator::Exists, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::cluster::Labels;

    #[test]
    fn selectors_read_as_the_api_reads_them() {
        let labels: Labels = [("app", "web"), ("tier", "front")]
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let matches = |text: &str| parse_selector(text).map(|s| s.matches(&labels));
        for yes in [
            "",
            "app=web",
            "app==web,tier!=db",
            "tier",
            "!old",
            "app in (api, web),tier",
            "zone notin (a)",
        ] {
            assert_eq!(matches(yes), Some(true), "{yes}");
        }
        for no in [
            "app=api",
            "!app",
            "zone",
            "app in (api)",
            "tier notin (front)",
        ] {
            assert_eq!(matches(no), Some(false), "{no}");
        }
        assert_eq!(matches("a b=c"), None);
        assert_eq!(matches("a in (b"), None);
    }
}
