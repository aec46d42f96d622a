//! Consumers of a Secret: what they read from, who they are, and rolling them out.
//!
//! Every write is a JSON Patch under tests of what was seen before. A failed test certainly changed nothing: it is looked at again, and sent
//! again only where everything that the caller expects still holds.

use std::collections::BTreeMap;

use async_trait::async_trait;
use hyper::http::Method;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::change::{is_failed_test, query, reference, said};
use super::consumers::{ROLLABLE, Reloads, consumer, reloads, stands_alone};
use super::patch::{escaped, same_uid, test};
use super::rollout::RESTARTED_BY;
use super::secret::{self, Stored, without_values};
use super::view::object_path;
use super::wire::{Call, segment};
use super::{KubeCluster, clean, rollout};
use crate::incident::body::ObjectRef;
use crate::port::{
    Cause, Consumer, PortError, Rollout, SecretObject, SecretWrite, Workloads, WriteMode,
};

/// How often a change is sent at most where somebody else changes the object at the same time.
const ATTEMPTS: u32 = 3;

fn secret_path(namespace: &str, name: &str) -> Result<String, PortError> {
    let (namespace, name) = (segment(namespace)?, segment(name)?);
    Ok(format!("/api/v1/namespaces/{namespace}/secrets/{name}"))
}

fn conflict(tried: &str, object: &ObjectRef, detail: &str) -> PortError {
    PortError::new(Cause::Conflict, tried, clean(&said(object)), clean(detail))
}

/// Refuses what has no pod template that can be rolled out.
fn must_roll(workload: &ObjectRef, tried: &str) -> Result<(), PortError> {
    if ROLLABLE.contains(&workload.kind.as_str()) {
        return Ok(());
    }
    let detail = format!("a {} has no pod template to roll out", workload.kind);
    Err(PortError::new(
        Cause::Unsupported,
        tried,
        clean(&said(workload)),
        clean(&detail),
    ))
}

/// `spec.selector` as the query of a list.
fn selector(workload: &Value) -> String {
    let mut terms = Vec::new();
    let selector = &workload["spec"]["selector"];
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        terms.push(format!("{key}={}", value.as_str().unwrap_or_default()));
    }
    for r in selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let key = r["key"].as_str().unwrap_or_default();
        let values = r["values"].as_array().into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        terms.push(match r["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.join(",")
}

/// A Job that is over reads nothing any more.
fn has_ended(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ended = |c: &k8s_openapi::api::batch::v1::JobCondition| {
        ["Complete", "Failed"].contains(&c.type_.as_str()) && c.status == "True"
    };
    conditions.into_iter().flatten().any(ended)
}

/// The patch that gives the pod template our annotation, or takes it; `None` when it is so already.
fn restart_patch(now: &Value, value: Option<&str>) -> Option<Vec<Value>> {
    let annotations = &now["spec"]["template"]["metadata"]["annotations"];
    let (map, place) = (
        "/spec/template/metadata/annotations",
        format!(
            "/spec/template/metadata/annotations/{}",
            escaped(RESTARTED_BY)
        ),
    );
    let there = annotations[RESTARTED_BY].as_str();
    if there == value {
        return None;
    }
    let mut patch = Vec::new();
    if annotations.is_null() {
        patch.push(test(map, Value::Null));
        patch.push(json!({ "op": "add", "path": map, "value": {} }));
    }
    patch.push(test(&place, json!(there)));
    patch.push(match value {
        Some(value) => json!({ "op": "add", "path": place, "value": value }),
        None => json!({ "op": "remove", "path": place }),
    });
    Some(patch)
}

impl KubeCluster {
    async fn stored(&self, namespace: &str, name: &str, tried: &str) -> Result<Stored, PortError> {
        let path = secret_path(namespace, name)?;
        let on = format!("{namespace}/{name}");
        self.wire.get_hidden(&path, tried, &on).await
    }

    /// The Secret as it is, or why it may not be written as planned.
    async fn writable(&self, write: &SecretWrite<'_>, tried: &str) -> Result<Stored, PortError> {
        let object = write.object;
        let now = self.stored(&object.namespace, &object.name, tried).await?;
        if now.uid() != object.uid {
            let detail = format!("it was replaced: UID is now {}", now.uid());
            return Err(conflict(tried, object, &detail));
        }
        if now.is_written(write) {
            return Ok(now);
        }
        let differ = now.differences(write);
        if !differ.is_empty() {
            return Err(conflict(tried, object, &differ.join("; ")));
        }
        if now.is_immutable() {
            let detail = "it is immutable: make another one and move its consumers";
            return Err(PortError::new(
                Cause::Rejected,
                tried,
                clean(&said(object)),
                detail,
            ));
        }
        Ok(now)
    }

    /// Looks, makes a patch of what it saw, sends it under a test of the UID; where others were quicker it looks again.
    async fn change_workload(
        &self,
        workload: &ObjectRef,
        tried: &str,
        make: impl Fn(&Value) -> Result<Option<Vec<Value>>, PortError>,
    ) -> Result<(), PortError> {
        must_roll(workload, tried)?;
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let now = self.same(workload, tried).await?;
            let Some(mut patch) = make(&now)? else {
                return Ok(());
            };
            patch.insert(0, same_uid(&workload.uid));
            match self.patch(workload, patch, WriteMode::Apply, tried).await {
                Err(e) if is_failed_test(&e) && left > 0 => {}
                Err(e) if is_failed_test(&e) => {
                    return Err(conflict(tried, workload, "others change it all the time"));
                }
                done => return done.map(drop),
            }
        }
    }

    /// Consumers of one kind, from its list.
    async fn consumers_of<T: serde::de::DeserializeOwned>(
        &self,
        namespace: &str,
        api: &str,
        resource: &str,
        read: impl Fn(&T) -> Option<Consumer>,
    ) -> Result<Vec<Consumer>, PortError> {
        let path = format!("{api}/namespaces/{}/{resource}", segment(namespace)?);
        let tried = format!("list the {resource} of");
        let found: Vec<T> = self.wire.list(&path, &[], &tried).await?;
        Ok(found.iter().filter_map(read).collect())
    }
}

#[async_trait]
impl Workloads for KubeCluster {
    async fn secret(&self, namespace: &str, name: &str) -> Result<SecretObject, PortError> {
        let stored = self.stored(namespace, name, "read the secret").await?;
        Ok(stored.into_object())
    }

    /// A Secret that has the new values already is written: a reply may have been lost.
    async fn write_secret(&self, write: &SecretWrite<'_>) -> Result<ObjectRef, PortError> {
        let tried = "write the secret";
        let object = write.object;
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let now = self.writable(write, tried).await?;
            if now.is_written(write) {
                return Ok(object.clone());
            }
            let call = Call {
                method: Method::PATCH,
                path: secret_path(&object.namespace, &object.name)? + &query(WriteMode::Apply),
                content: "application/json-patch+json",
                body: Some(Value::Array(secret::patch(write, &now))),
                tried,
                on: &said(object),
            };
            match self.wire.write(call).await {
                Ok(reply) => return Ok(reference("Secret", &reply.value)),
                Err(e) if is_failed_test(&e) && left > 0 => {}
                Err(e) if is_failed_test(&e) => {
                    return Err(conflict(tried, object, "others change it all the time"));
                }
                Err(e) => return Err(without_values(e, write)),
            }
        }
    }

    async fn consumers(&self, namespace: &str, secret: &str) -> Result<Vec<Consumer>, PortError> {
        let (apps, batch) = ("/apis/apps/v1", "/apis/batch/v1");
        let marked = std::sync::Mutex::new(Vec::new());
        // Whether Reloader is in charge of these depends on the Secret itself.
        let note =
            |kind: &str, meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
                if reloads(meta, secret) == Reloads::IfMarked
                    && let Ok(mut marked) = marked.lock()
                {
                    marked.push((kind.to_owned(), meta.name.clone().unwrap_or_default()));
                }
            };
        let (deployments, stateful, daemons, jobs, cron, replicas, pods) = futures::try_join!(
            self.consumers_of(namespace, apps, "deployments", |d: &Deployment| {
                note("Deployment", &d.metadata);
                let spec = d.spec.as_ref().and_then(|s| s.template.spec.as_ref());
                consumer("Deployment", &d.metadata, spec, secret)
            }),
            self.consumers_of(namespace, apps, "statefulsets", |s: &StatefulSet| {
                note("StatefulSet", &s.metadata);
                let spec = s.spec.as_ref().and_then(|s| s.template.spec.as_ref());
                consumer("StatefulSet", &s.metadata, spec, secret)
            }),
            self.consumers_of(namespace, apps, "daemonsets", |d: &DaemonSet| {
                note("DaemonSet", &d.metadata);
                let spec = d.spec.as_ref().and_then(|s| s.template.spec.as_ref());
                consumer("DaemonSet", &d.metadata, spec, secret)
            }),
            self.consumers_of(namespace, batch, "jobs", |j: &Job| {
                let spec = j.spec.as_ref().and_then(|s| s.template.spec.as_ref());
                consumer("Job", &j.metadata, spec, secret).filter(|_| !has_ended(j))
            }),
            self.consumers_of(namespace, batch, "cronjobs", |c: &CronJob| {
                let job = c.spec.as_ref().and_then(|s| s.job_template.spec.as_ref());
                let spec = job.and_then(|s| s.template.spec.as_ref());
                consumer("CronJob", &c.metadata, spec, secret)
            }),
            self.consumers_of(namespace, apps, "replicasets", |r: &ReplicaSet| {
                let template = r.spec.as_ref().and_then(|s| s.template.as_ref());
                let spec = template.and_then(|t| t.spec.as_ref());
                consumer("ReplicaSet", &r.metadata, spec, secret)
                    .filter(|_| stands_alone(&r.metadata))
            }),
            self.consumers_of(namespace, "/api/v1", "pods", |p: &Pod| {
                let phase = p.status.as_ref().and_then(|s| s.phase.as_deref());
                let ended = matches!(phase, Some("Succeeded" | "Failed"));
                consumer("Pod", &p.metadata, p.spec.as_ref(), secret)
                    .filter(|_| stands_alone(&p.metadata) && !ended)
            }),
        )?;
        let mut all = [deployments, stateful, daemons, jobs, cron, replicas, pods].concat();
        let marked = marked.into_inner().unwrap_or_default();
        let depends = |c: &Consumer| {
            c.rollable
                && marked
                    .iter()
                    .any(|(kind, name)| *kind == c.object.kind && *name == c.object.name)
        };
        if all.iter().any(depends) {
            let tried = "look for Reloader's mark at";
            let is_marked = self
                .stored(namespace, secret, tried)
                .await?
                .is_marked_for_reloader();
            for c in all.iter_mut().filter(|c| depends(c)) {
                c.reloader = is_marked;
            }
        }
        Ok(all)
    }

    async fn rollout(&self, workload: &ObjectRef) -> Result<Rollout, PortError> {
        let tried = "look at the rollout of";
        must_roll(workload, tried)?;
        let now = self.same(workload, tried).await?;
        let path = format!("/api/v1/namespaces/{}/pods", segment(&workload.namespace)?);
        let query = selector(&now);
        let pods: Vec<Value> = self
            .wire
            .list(&path, &[("labelSelector", &query)], "list the pods of")
            .await?;
        Ok(rollout::of(workload, &now, &pods))
    }

    async fn restart(&self, workload: &ObjectRef, value: Option<&str>) -> Result<(), PortError> {
        let tried = "roll out";
        self.change_workload(workload, tried, |now| Ok(restart_patch(now, value)))
            .await
    }

    async fn put_service_account(
        &self,
        namespace: &str,
        name: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<ObjectRef, PortError> {
        let tried = "make the service account";
        let object = ObjectRef {
            kind: "ServiceAccount".into(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: String::new(),
        };
        let path = object_path(&object.kind, namespace, name)?;
        let on = said(&object);
        let is_this = |now: &Value| {
            let has = now["metadata"]["annotations"].as_object();
            let has = has.map_or(json!({}), |a| json!(a));
            if has == json!(annotations) {
                return Ok(reference("ServiceAccount", now));
            }
            let detail = "one of this name is there, with other annotations";
            Err(conflict(tried, &object, detail))
        };
        if let Some(now) = self.wire.get_opt::<Value>(&path, tried, &on).await? {
            return is_this(&now);
        }
        let parent = format!("/api/v1/namespaces/{}/serviceaccounts", segment(namespace)?);
        let call = Call {
            method: Method::POST,
            path: parent + &query(WriteMode::Apply),
            content: "application/json",
            body: Some(json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": { "name": name, "namespace": namespace, "annotations": annotations },
            })),
            tried,
            on: &on,
        };
        match self.wire.write(call).await {
            Ok(reply) => Ok(reference("ServiceAccount", &reply.value)),
            // Somebody was quicker, perhaps ourselves before a crash.
            Err(e) if e.cause == Cause::Conflict => {
                is_this(&self.wire.get::<Value>(&path, tried, &on).await?)
            }
            Err(e) => Err(e),
        }
    }

    async fn move_service_account(
        &self,
        workload: &ObjectRef,
        from: &str,
        to: &str,
    ) -> Result<(), PortError> {
        let tried = "move to another service account";
        let place = "/spec/template/spec/serviceAccountName";
        self.change_workload(workload, tried, |now| {
            let has = &now["spec"]["template"]["spec"]["serviceAccountName"];
            match has.as_str().unwrap_or("default") {
                is if is == to => Ok(None),
                is if is == from => Ok(Some(vec![
                    test(place, has.clone()),
                    json!({ "op": "add", "path": place, "value": to }),
                ])),
                is => {
                    let detail = format!("its service account is `{is}`, expected `{from}`");
                    Err(conflict(tried, workload, &detail))
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_asked_as_it_selects() {
        let workload = json!({ "spec": { "selector": { "matchLabels": { "app": "web" }, "matchExpressions": [
            { "key": "tier", "operator": "In", "values": ["a", "b"] }, { "key": "old", "operator": "DoesNotExist" },
            { "key": "env", "operator": "NotIn", "values": ["test"] }, { "key": "live", "operator": "Exists" }] } } });
        assert_eq!(
            selector(&workload),
            "app=web,tier in (a,b),!old,env notin (test),live"
        );
    }

    #[test]
    fn the_same_restart_again_is_no_change_and_taking_back_what_is_not_there_neither() {
        let with =
            |a: Value| json!({ "spec": { "template": { "metadata": { "annotations": a } } } });
        let ours = with(json!({ RESTARTED_BY: "run-1" }));
        assert_eq!(restart_patch(&ours, Some("run-1")), None);
        assert_eq!(restart_patch(&with(Value::Null), None), None);
        let first = restart_patch(&with(Value::Null), Some("run-1")).expect("a change");
        assert_eq!(first.len(), 4, "the map is made under a test: {first:?}");
        let next = restart_patch(&ours, Some("run-2")).expect("a change");
        assert_eq!(next[0]["value"], "run-1", "the old value is tested");
        let back = restart_patch(&ours, None).expect("a change");
        assert_eq!(back[1]["op"], "remove");
    }

    #[test]
    fn what_has_no_template_is_not_rolled_out() {
        let pod = ObjectRef {
            kind: "Pod".into(),
            namespace: "shop".into(),
            name: "web".into(),
            uid: "u".into(),
        };
        let e = must_roll(&pod, "roll out").expect_err("refused");
        assert_eq!(e.cause, Cause::Unsupported);
    }
}
