//! Looking at the cluster.

use async_trait::async_trait;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1 as core;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::foreign::{self, not_read};
use super::wire::{Wire, segment};
use super::{KubeCluster, clean, convert, enforcement, rights};
use crate::port::{
    Cause, ClusterIdentity, ClusterView, Enforcement, LookScope, PortError, Right, RightAnswer,
};
use crate::reach::cluster::{ClusterSnapshot, Controller, Node, Pod, PodName, Unread};

/// Access reviews in flight at once: enough to hide their latency, few enough not to be throttled.
const REVIEWS: usize = 8;

/// Kinds whose objects can be got by name: kind, API path, resource, namespaced.
const KINDS: [(&str, &str, &str, bool); 17] = [
    ("Pod", "/api/v1", "pods", true),
    ("Service", "/api/v1", "services", true),
    ("ServiceAccount", "/api/v1", "serviceaccounts", true),
    (
        "ReplicationController",
        "/api/v1",
        "replicationcontrollers",
        true,
    ),
    (
        "PersistentVolumeClaim",
        "/api/v1",
        "persistentvolumeclaims",
        true,
    ),
    ("Node", "/api/v1", "nodes", false),
    ("Namespace", "/api/v1", "namespaces", false),
    ("ReplicaSet", "/apis/apps/v1", "replicasets", true),
    ("Deployment", "/apis/apps/v1", "deployments", true),
    ("StatefulSet", "/apis/apps/v1", "statefulsets", true),
    ("DaemonSet", "/apis/apps/v1", "daemonsets", true),
    ("Job", "/apis/batch/v1", "jobs", true),
    ("CronJob", "/apis/batch/v1", "cronjobs", true),
    (
        "NetworkPolicy",
        "/apis/networking.k8s.io/v1",
        "networkpolicies",
        true,
    ),
    (
        "EndpointSlice",
        "/apis/discovery.k8s.io/v1",
        "endpointslices",
        true,
    ),
    (
        "PodDisruptionBudget",
        "/apis/policy/v1",
        "poddisruptionbudgets",
        true,
    ),
    ("Role", "/apis/rbac.authorization.k8s.io/v1", "roles", true),
];

/// Path of one object. A namespace for a kind that has none is ignored.
pub(super) fn object_path(kind: &str, namespace: &str, name: &str) -> Result<String, PortError> {
    let Some((_, api, resource, namespaced)) = KINDS.iter().find(|k| k.0 == kind) else {
        let detail = "objects of this kind are not looked at";
        return Err(PortError::new(
            Cause::Unsupported,
            format!("get {}", clean(kind)),
            clean(name),
            detail,
        ));
    };
    let name = segment(name)?;
    if !namespaced {
        return Ok(format!("{api}/{resource}/{name}"));
    }
    Ok(format!(
        "{api}/namespaces/{}/{resource}/{name}",
        segment(namespace)?
    ))
}

/// Lists of one resource in the scope, all converted; what cannot be listed goes to `unread`.
struct Lists<'a> {
    wire: &'a Wire,
    /// `""` = all namespaces.
    namespaces: Vec<String>,
}

impl Lists<'_> {
    async fn of<T: DeserializeOwned, U>(
        &self,
        api: &str,
        resource: &str,
        convert: impl Fn(&T) -> U,
    ) -> Listed<U> {
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        for namespace in &self.namespaces {
            let path = match namespace.as_str() {
                "" => Ok(format!("{api}/{resource}")),
                ns => segment(ns).map(|ns| format!("{api}/namespaces/{ns}/{resource}")),
            };
            let listed = match path {
                Ok(path) => self.wire.list::<T>(&path, &[], "list").await,
                Err(e) => Err(e),
            };
            match listed {
                Ok(items) => found.extend(items.iter().map(&convert)),
                // A server without this API has no such objects.
                Err(e) if e.cause == Cause::NotFound => {}
                Err(e) if is_hidden(e.cause) => {
                    unread.push(not_read(&what(resource, namespace), &e))
                }
                Err(e) => return Err(e),
            }
        }
        Ok((found, unread))
    }
}

/// What a list held, and what of it could not be read.
type Listed<T> = Result<(Vec<T>, Vec<Unread>), PortError>;

/// The server answered, and will not show it to us. Anything else (gone, slow) is a look that failed: an empty snapshot of a
/// cluster that did not answer would read as an empty cluster.
fn is_hidden(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::Refused | Cause::Rejected | Cause::Unreadable | Cause::Unsupported
    )
}

fn what(resource: &str, namespace: &str) -> String {
    match namespace {
        "" => resource.to_owned(),
        ns => format!("{resource} in {}", clean(ns)),
    }
}

impl KubeCluster {
    async fn controllers(&self, lists: &Lists<'_>) -> Listed<Controller> {
        let apps = "/apis/apps/v1";
        let (a, b, c, d, e) = futures::try_join!(
            lists.of(apps, "replicasets", convert::replica_set),
            lists.of(apps, "statefulsets", convert::stateful_set),
            lists.of(apps, "daemonsets", convert::daemon_set),
            lists.of("/apis/batch/v1", "jobs", convert::job),
            lists.of(
                "/api/v1",
                "replicationcontrollers",
                convert::replication_controller
            ),
        )?;
        let (mut found, mut unread) = a;
        for (some, missing) in [b, c, d, e] {
            found.extend(some);
            unread.extend(missing);
        }
        Ok((found, unread))
    }

    async fn user(&self) -> Option<String> {
        let api = "authentication.k8s.io/v1";
        let body = json!({ "apiVersion": api, "kind": "SelfSubjectReview" });
        let path = format!("/apis/{api}/selfsubjectreviews");
        let answer = self
            .wire
            .ask(&path, body, "ask who we are", "server")
            .await
            .ok()?;
        let name = answer["status"]["userInfo"]["username"].as_str()?;
        Some(clean(name))
    }

    async fn review(&self, right: &Right) -> RightAnswer {
        let (resource, sub) = right
            .resource
            .split_once('/')
            .unwrap_or((&right.resource, ""));
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": {
                "group": right.group, "resource": resource, "subresource": sub, "verb": right.verb,
                "namespace": right.namespace.as_deref().unwrap_or_default(),
            } }
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = self
            .wire
            .ask(path, body, "ask for the right", &right.to_string())
            .await;
        RightAnswer {
            right: right.clone(),
            allowed: answer.ok().and_then(|a| a["status"]["allowed"].as_bool()),
        }
    }
}

#[async_trait]
impl ClusterView for KubeCluster {
    async fn identity(&self) -> Result<ClusterIdentity, PortError> {
        let tried = "ask who answers in context";
        let on = self.context.as_str();
        let (namespace, version, user) = futures::join!(
            self.wire
                .get::<Value>("/api/v1/namespaces/kube-system", tried, on),
            self.wire.get::<Value>("/version", tried, on),
            self.user(),
        );
        let namespace = namespace.map_err(|e| PortError {
            detail: format!("{} (server {})", e.detail, clean(&self.server)),
            ..e
        })?;
        let uid = namespace["metadata"]["uid"].as_str().unwrap_or_default();
        if uid.is_empty() {
            let detail = format!(
                "{} does not answer like a Kubernetes API server",
                self.server
            );
            return Err(PortError::new(
                Cause::Unreadable,
                tried,
                clean(on),
                clean(&detail),
            ));
        }
        Ok(ClusterIdentity {
            context: self.context.clone(),
            server: self.server.clone(),
            uid: clean(uid),
            version: clean(version?["gitVersion"].as_str().unwrap_or_default()),
            user,
        })
    }

    async fn look(&self, scope: &LookScope) -> Result<ClusterSnapshot, PortError> {
        let taken = chrono::Utc::now();
        let namespaces = match scope {
            LookScope::Cluster => vec![String::new()],
            LookScope::Namespaces(names) => names.clone(),
        };
        let wire = &self.wire;
        let lists = Lists { wire, namespaces };
        let whole = Lists {
            wire,
            namespaces: vec![String::new()],
        };
        let named = |n: &core::Namespace| {
            let labels = n.metadata.labels.clone().unwrap_or_default();
            (convert::text(&n.metadata.name), labels)
        };
        let core = "/api/v1";
        let network = "/apis/networking.k8s.io/v1";
        let discovery = "/apis/discovery.k8s.io/v1";
        let (foreign, listed) = futures::join!(foreign::find(wire), async {
            futures::try_join!(
                whole.of(core, "namespaces", named),
                whole.of(core, "nodes", convert::node),
                lists.of(core, "pods", convert::pod),
                lists.of(network, "networkpolicies", convert::policy),
                lists.of(core, "services", convert::service),
                lists.of(discovery, "endpointslices", convert::endpoint_slice),
                self.controllers(&lists),
                lists.of(
                    "/apis/policy/v1",
                    "poddisruptionbudgets",
                    convert::disruption_budget
                ),
                lists.of(core, "serviceaccounts", convert::service_account),
            )
        });
        let (ns, nodes, pods, policies, services, slices, controllers, budgets, accounts) = listed?;
        let mut unread = Vec::new();
        let mut note = |missing: Vec<Unread>| unread.extend(missing);
        for missing in [ns.1, nodes.1, pods.1, policies.1, services.1, slices.1] {
            note(missing);
        }
        for missing in [controllers.1, budgets.1, accounts.1, foreign.1] {
            note(missing);
        }
        Ok(ClusterSnapshot {
            taken,
            namespaces: ns.0.into_iter().collect(),
            pods: pods.0,
            policies: policies.0,
            services: services.0,
            endpoint_slices: slices.0,
            controllers: controllers.0,
            disruption_budgets: budgets.0,
            nodes: nodes.0,
            service_accounts: accounts.0,
            foreign_policies: foreign.0,
            unread,
        })
    }

    async fn pod(&self, pod: &PodName) -> Result<Option<Pod>, PortError> {
        let path = object_path("Pod", &pod.namespace, &pod.name)?;
        let found = self
            .wire
            .get_opt::<core::Pod>(&path, "look at pod", &pod.to_string())
            .await?;
        Ok(found.as_ref().map(convert::pod))
    }

    async fn pods_by_selector(
        &self,
        namespace: &str,
        selector: &str,
    ) -> Result<Vec<Pod>, PortError> {
        let path = format!("/api/v1/namespaces/{}/pods", segment(namespace)?);
        let query = [("labelSelector", selector)];
        let found: Vec<core::Pod> = self.wire.list(&path, &query, "list the pods of").await?;
        Ok(found.iter().map(convert::pod).collect())
    }

    async fn node(&self, name: &str) -> Result<Option<Node>, PortError> {
        let path = object_path("Node", "", name)?;
        let found = self
            .wire
            .get_opt::<core::Node>(&path, "look at node", name)
            .await?;
        Ok(found.as_ref().map(convert::node))
    }

    async fn object(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, PortError> {
        let path = object_path(kind, namespace, name)?;
        let on = format!("{namespace}/{name}");
        self.wire.get_opt(&path, &format!("get {kind}"), &on).await
    }

    async fn events(&self, namespace: &str, uid: &str) -> Result<Vec<Value>, PortError> {
        let path = format!("/api/v1/namespaces/{}/events", segment(namespace)?);
        let field = format!("involvedObject.uid={uid}");
        let mut found: Vec<Value> = self
            .wire
            .list(&path, &[("fieldSelector", &field)], "list the events of")
            .await?;
        found.sort_by_key(last_seen);
        Ok(found)
    }

    async fn may(&self, rights: &[Right]) -> Result<Vec<RightAnswer>, PortError> {
        let reviews: Vec<_> = rights.iter().map(|r| self.review(r)).collect();
        let answers = futures::stream::iter(reviews).buffered(REVIEWS);
        Ok(answers.collect().await)
    }

    async fn enforcement(&self) -> Result<Enforcement, PortError> {
        enforcement::fingerprint(&self.wire).await
    }

    async fn roles_with(&self, right: &Right) -> Result<Vec<String>, PortError> {
        rights::roles_with(&self.wire, right).await
    }
}

/// RFC 3339 in UTC sorts as text. New events carry `eventTime` and no `lastTimestamp`.
fn last_seen(event: &Value) -> String {
    let times = ["lastTimestamp", "eventTime", "firstTimestamp"].map(|f| event[f].as_str());
    let created = event["metadata"]["creationTimestamp"].as_str();
    let seen = times.into_iter().chain([created]).flatten().next();
    seen.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objects_path_is_checked_and_a_kind_that_is_not_looked_at_is_refused() {
        let path = |kind, ns, name| object_path(kind, ns, name);
        assert_eq!(
            path("Node", "ignored", "n").expect("a path"),
            "/api/v1/nodes/n"
        );
        assert_eq!(
            path("ReplicaSet", "shop", "web").expect("a path"),
            "/apis/apps/v1/namespaces/shop/replicasets/web"
        );
        assert!(path("Pod", "", "web").is_err() && path("Pod", "shop", "").is_err());
        assert_eq!(
            path("Secret", "shop", "x").expect_err("refused").cause,
            Cause::Unsupported
        );
    }
}
