//! Changing the cluster. Each write is sent once, and says by its cause whether it may have happened.

use async_trait::async_trait;
use hyper::http::Method;
use serde_json::{Value, json};

use super::patch::{self, Absent};
use super::view::object_path;
use super::wire::{Call, Reply};
use super::{KubeCluster, canary, clean};
use crate::incident::body::ObjectRef;
use crate::port::{
    CanarySpec, Cause, ClusterChange, LabelChange, PolicySpec, PortError, WriteMode, Written,
};
use crate::reach::cluster::{Operator, Selector};

/// Who we are in `managedFields`.
const MANAGER: &str = "firebreak";
/// Label that every object of ours carries; an object of our name without it is somebody else's.
pub(super) const OURS: &str = "firebreak/containment";
/// Key of the taint on a held node.
const TAINT: &str = "firebreak/quarantine";

pub(super) fn query(mode: WriteMode) -> String {
    let dry = match mode {
        WriteMode::Preview => "&dryRun=All",
        WriteMode::Apply => "",
    };
    format!("?fieldManager={MANAGER}{dry}")
}

pub(super) fn said(object: &ObjectRef) -> String {
    match object.namespace.as_str() {
        "" => object.name.clone(),
        ns => format!("{ns}/{}", object.name),
    }
}

/// The object that the server answered. A dry-run's UID is made up and never stored, so it is not passed on for a new object.
pub(super) fn reference(kind: &str, value: &Value) -> ObjectRef {
    let word = |f: &str| value["metadata"][f].as_str().unwrap_or_default().to_owned();
    ObjectRef {
        kind: kind.to_owned(),
        namespace: word("namespace"),
        name: word("name"),
        uid: word("uid"),
    }
}

/// True when the server refused a JSON Patch because a `test` failed (or a path that it needs is gone): nothing was changed.
pub(super) fn is_failed_test(e: &PortError) -> bool {
    e.cause == Cause::Rejected
        && (e.detail.contains("due to an error in our request")
            || e.detail.contains("test")
            || e.detail.contains("remove operation"))
}

impl KubeCluster {
    async fn current(&self, object: &ObjectRef, tried: &str) -> Result<Option<Value>, PortError> {
        let path = object_path(&object.kind, &object.namespace, &object.name)?;
        self.wire.get_opt(&path, tried, &said(object)).await
    }

    /// The object as it is now, or why it is not the one that was meant.
    pub(super) async fn same(&self, object: &ObjectRef, tried: &str) -> Result<Value, PortError> {
        let on = said(object);
        let Some(now) = self.current(object, tried).await? else {
            return Err(PortError::new(
                Cause::NotFound,
                tried,
                clean(&on),
                "it is not there any more",
            ));
        };
        let uid = now["metadata"]["uid"].as_str().unwrap_or_default();
        if uid == object.uid {
            return Ok(now);
        }
        let detail = format!("it was replaced: UID is now {uid}, expected {}", object.uid);
        Err(PortError::new(
            Cause::Conflict,
            tried,
            clean(&on),
            clean(&detail),
        ))
    }

    pub(super) async fn patch(
        &self,
        object: &ObjectRef,
        patch: Vec<Value>,
        mode: WriteMode,
        tried: &str,
    ) -> Result<Reply, PortError> {
        let path = object_path(&object.kind, &object.namespace, &object.name)?;
        let call = Call {
            method: Method::PATCH,
            path: path + &query(mode),
            content: "application/json-patch+json",
            body: Some(Value::Array(patch)),
            tried,
            on: &said(object),
        };
        self.wire.write(call).await
    }

    /// Deletes by name and UID; `Ok(false)` when it was gone.
    pub(super) async fn delete(
        &self,
        object: &ObjectRef,
        mode: WriteMode,
        grace_s: Option<u32>,
        tried: &str,
    ) -> Result<bool, PortError> {
        let on = said(object);
        if object.uid.is_empty() {
            let detail = "its UID is not known, so another one could be meant";
            return Err(PortError::new(Cause::Conflict, tried, clean(&on), detail));
        }
        let mut options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            "preconditions": { "uid": object.uid },
        });
        if mode == WriteMode::Preview {
            options["dryRun"] = json!(["All"]);
        }
        if let Some(grace) = grace_s {
            options["gracePeriodSeconds"] = json!(grace);
        }
        let call = Call {
            method: Method::DELETE,
            path: object_path(&object.kind, &object.namespace, &object.name)?,
            content: "application/json",
            body: Some(options),
            tried,
            on: &on,
        };
        match self.wire.write(call).await {
            Ok(_) => Ok(true),
            Err(e) if e.cause == Cause::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// After a refused patch: it was so already, or what stands in the way. Nothing was changed by the refused one.
    async fn explain(&self, change: &LabelChange, tried: &str) -> Result<(Value, bool), PortError> {
        let now = self.same(&change.object, tried).await?;
        if patch::differences(&now, &change.set).is_empty() {
            return Ok((now, true));
        }
        let differ = patch::differences(&now, &change.expect);
        if differ.is_empty() {
            return Ok((now, false));
        }
        let detail = clean(&differ.join("; "));
        Err(PortError::new(
            Cause::Conflict,
            tried,
            clean(&said(&change.object)),
            detail,
        ))
    }

    async fn patch_labels(
        &self,
        change: &LabelChange,
        before: Option<&Value>,
        mode: WriteMode,
        tried: &str,
    ) -> Result<Written, PortError> {
        let absent = before.map(Absent::in_object).unwrap_or_default();
        let patch = patch::of_labels(change, absent);
        let reply = self.patch(&change.object, patch, mode, tried).await?;
        let mut mutated = patch::differences(&reply.value, &change.set);
        mutated.extend(other_labels(before, &reply.value, change));
        Ok(Written {
            object: reference(&change.object.kind, &reply.value),
            already: false,
            mutated: mutated.iter().map(|m| clean(m)).collect(),
            warnings: reply.warnings,
        })
    }

    /// Sends a guarded patch of a node; where a test failed but the node is the same, it looks and tries again: others write taints too,
    /// and a failed test certainly changed nothing.
    async fn patch_node(
        &self,
        node: &ObjectRef,
        mode: WriteMode,
        tried: &str,
        make: impl Fn(&Value) -> Vec<Value>,
    ) -> Result<Written, PortError> {
        let mut left = 3;
        loop {
            left -= 1;
            let now = self.same(node, tried).await?;
            let mut patch = make(&now);
            if patch.is_empty() {
                return Ok(already("Node", &now));
            }
            patch.insert(0, patch::same_uid(&node.uid));
            match self.patch(node, patch, mode, tried).await {
                Err(e) if is_failed_test(&e) && left > 0 => {}
                Err(e) => return Err(e),
                Ok(reply) => {
                    let still = make(&reply.value);
                    let mutated = still
                        .iter()
                        .map(|p| format!("not stored: {}", clean(&p.to_string())));
                    return Ok(Written {
                        object: reference("Node", &reply.value),
                        already: false,
                        mutated: mutated.collect(),
                        warnings: reply.warnings,
                    });
                }
            }
        }
    }
}

fn already(kind: &str, now: &Value) -> Written {
    Written {
        object: reference(kind, now),
        already: true,
        mutated: Vec::new(),
        warnings: Vec::new(),
    }
}

/// Labels that changed although nobody asked for it, as far as it is known what was there before.
fn other_labels(before: Option<&Value>, after: &Value, change: &LabelChange) -> Vec<String> {
    let Some(before) = before else {
        return Vec::new();
    };
    let labels = |v: &Value| {
        v["metadata"]["labels"]
            .as_object()
            .cloned()
            .unwrap_or_default()
    };
    let (before, after) = (labels(before), labels(after));
    let keys = before
        .keys()
        .chain(after.keys().filter(|k| !before.contains_key(*k)));
    let asked = |key: &&String| change.set.contains_key(&format!("labels/{key}"));
    let changed = keys.filter(|k| !asked(k) && before.get(*k) != after.get(*k));
    let word = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or("absent").to_owned();
    changed
        .map(|k| {
            format!(
                "labels/{k}: {} → {}",
                word(before.get(k)),
                word(after.get(k))
            )
        })
        .collect()
}

fn selector_json(selector: &Selector) -> Value {
    let mut out = json!({});
    if !selector.match_labels.is_empty() {
        out["matchLabels"] = json!(selector.match_labels);
    }
    let word = |o: Operator| match o {
        Operator::In => "In",
        Operator::NotIn => "NotIn",
        Operator::Exists => "Exists",
        Operator::DoesNotExist => "DoesNotExist",
    };
    let expressions = selector.expressions.iter().map(|r| {
        let mut e = json!({ "key": r.key, "operator": word(r.operator) });
        if !r.values.is_empty() {
            e["values"] = json!(r.values);
        }
        e
    });
    let expressions: Vec<Value> = expressions.collect();
    if !expressions.is_empty() {
        out["matchExpressions"] = json!(expressions);
    }
    out
}

fn policy_json(policy: &PolicySpec) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {
            "name": policy.name, "namespace": policy.namespace,
            "labels": policy.labels, "annotations": policy.annotations,
        },
        "spec": { "podSelector": selector_json(&policy.pod_selector), "policyTypes": ["Ingress", "Egress"] },
    })
}

/// What is stored otherwise than sent. A rule of any kind, a narrower selector or a missing direction would let traffic through.
fn policy_mutations(sent: &Value, stored: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let mut compare = |path: &str, sent: &Value, stored: &Value| {
        if sent != stored {
            out.push(clean(&format!("{path}: {sent} → {stored}")));
        }
    };
    let (s, t) = (&sent["spec"], &stored["spec"]);
    compare("spec/podSelector", &s["podSelector"], &t["podSelector"]);
    for direction in ["Ingress", "Egress"] {
        let has = |v: &Value| {
            let types = v["policyTypes"].as_array();
            json!(types.is_some_and(|t| t.iter().any(|d| d == direction)))
        };
        compare(&format!("spec/policyTypes/{direction}"), &has(s), &has(t));
    }
    for rules in ["ingress", "egress"] {
        let some = t[rules].as_array().is_some_and(|r| !r.is_empty());
        let stored = if some { &t[rules] } else { &Value::Null };
        compare(&format!("spec/{rules}"), &Value::Null, stored);
    }
    let labels = |v: &Value| v["metadata"]["labels"].clone();
    compare("metadata/labels", &labels(sent), &labels(stored));
    out
}

fn has_labels(object: &Value, wanted: &crate::reach::cluster::Labels) -> bool {
    wanted
        .iter()
        .all(|(k, v)| object["metadata"]["labels"][k] == json!(v))
}

#[async_trait]
impl ClusterChange for KubeCluster {
    async fn put_policy(&self, policy: &PolicySpec, mode: WriteMode) -> Result<Written, PortError> {
        let tried = "put the deny policy";
        let object = ObjectRef {
            kind: "NetworkPolicy".into(),
            namespace: policy.namespace.clone(),
            name: policy.name.clone(),
            uid: String::new(),
        };
        let on = said(&object);
        let sent = policy_json(policy);
        let before = self.current(&object, tried).await?;
        if let Some(now) = &before {
            if !now["metadata"]["labels"][OURS].is_string() || !has_labels(now, &policy.labels) {
                let detail = "a policy of this name is there and is not ours";
                return Err(PortError::new(Cause::Conflict, tried, clean(&on), detail));
            }
            if policy_mutations(&sent, now).is_empty() {
                return Ok(already("NetworkPolicy", now));
            }
        }
        let call = Call {
            method: Method::PATCH,
            path: object_path(&object.kind, &object.namespace, &object.name)?
                + &query(mode)
                + "&force=false",
            content: "application/apply-patch+yaml",
            body: Some(sent.clone()),
            tried,
            on: &on,
        };
        let reply = self.wire.write(call).await?;
        let mut stored = reference("NetworkPolicy", &reply.value);
        if mode == WriteMode::Preview && before.is_none() {
            stored.uid.clear();
        }
        Ok(Written {
            object: stored,
            already: false,
            mutated: policy_mutations(&sent, &reply.value),
            warnings: reply.warnings,
        })
    }

    async fn delete_policy(&self, policy: &ObjectRef, mode: WriteMode) -> Result<bool, PortError> {
        let tried = "delete the deny policy";
        let Some(now) = self.current(policy, tried).await? else {
            return Ok(false);
        };
        if !now["metadata"]["labels"][OURS].is_string() {
            let detail = "it does not carry our label: it is not ours to delete";
            return Err(PortError::new(
                Cause::Conflict,
                tried,
                clean(&said(policy)),
                detail,
            ));
        }
        self.delete(policy, mode, None, tried).await
    }

    /// One request where all is as planned. Only a refused patch, and a preview, look first.
    async fn change_labels(
        &self,
        change: &LabelChange,
        mode: WriteMode,
    ) -> Result<Written, PortError> {
        let tried = "change the labels of";
        let foreign = patch::not_ours(change);
        if !foreign.is_empty() {
            let detail = format!(
                "{} is neither a label nor an annotation",
                foreign.join(", ")
            );
            return Err(PortError::new(
                Cause::Local,
                tried,
                clean(&said(&change.object)),
                clean(&detail),
            ));
        }
        if mode == WriteMode::Apply {
            match self.patch_labels(change, None, mode, tried).await {
                Err(e) if is_failed_test(&e) => {}
                done => return done,
            }
        }
        let (now, is_so) = self.explain(change, tried).await?;
        if is_so {
            return Ok(already(&change.object.kind, &now));
        }
        self.patch_labels(change, Some(&now), mode, tried)
            .await
            .map_err(|e| match is_failed_test(&e) {
                true => PortError {
                    cause: Cause::Conflict,
                    ..e
                },
                false => e,
            })
    }

    async fn cordon(
        &self,
        node: &ObjectRef,
        value: &str,
        mode: WriteMode,
    ) -> Result<Written, PortError> {
        let taint = json!({ "key": TAINT, "value": value, "effect": "NoSchedule" });
        self.patch_node(node, mode, "cordon node", |now| cordon_patch(now, &taint))
            .await
    }

    async fn uncordon(
        &self,
        node: &ObjectRef,
        value: &str,
        was_schedulable: bool,
        mode: WriteMode,
    ) -> Result<Written, PortError> {
        self.patch_node(node, mode, "uncordon node", |now| {
            uncordon_patch(now, value, was_schedulable)
        })
        .await
    }

    async fn delete_pod(&self, pod: &ObjectRef, mode: WriteMode) -> Result<bool, PortError> {
        self.delete(pod, mode, None, "delete pod").await
    }

    async fn put_canary(
        &self,
        canary: &CanarySpec,
        deadline_s: u64,
    ) -> Result<Vec<ObjectRef>, PortError> {
        canary::put(self, canary, deadline_s).await
    }

    async fn put_probe_pod(
        &self,
        canary: &CanarySpec,
        deadline_s: u64,
    ) -> Result<ObjectRef, PortError> {
        canary::put_probe(self, canary, deadline_s).await
    }

    async fn delete_canary(&self, canary: &CanarySpec) -> Result<(), PortError> {
        canary::remove(self, canary).await
    }
}

fn is_our_taint(taint: &Value, value: &Value) -> bool {
    taint["key"] == TAINT && taint["value"] == *value && taint["effect"] == "NoSchedule"
}

fn cordon_patch(now: &Value, taint: &Value) -> Vec<Value> {
    let mut patch = Vec::new();
    if now["spec"]["unschedulable"] != json!(true) {
        patch.push(json!({ "op": "test", "path": "/spec/unschedulable", "value": null }));
        patch.push(json!({ "op": "add", "path": "/spec/unschedulable", "value": true }));
    }
    match now["spec"]["taints"].as_array() {
        Some(taints) if taints.iter().any(|t| is_our_taint(t, &taint["value"])) => {}
        Some(_) => patch.push(json!({ "op": "add", "path": "/spec/taints/-", "value": taint })),
        None => {
            patch.push(json!({ "op": "test", "path": "/spec/taints", "value": null }));
            patch.push(json!({ "op": "add", "path": "/spec/taints", "value": [taint] }));
        }
    }
    patch
}

fn uncordon_patch(now: &Value, value: &str, was_schedulable: bool) -> Vec<Value> {
    let mut patch = Vec::new();
    let taints = now["spec"]["taints"].as_array();
    let ours = taints.and_then(|t| t.iter().position(|t| is_our_taint(t, &json!(value))));
    if let (Some(at), Some(taints)) = (ours, taints) {
        let path = format!("/spec/taints/{at}");
        patch.push(json!({ "op": "test", "path": path, "value": taints[at] }));
        patch.push(json!({ "op": "remove", "path": path }));
    }
    if was_schedulable && now["spec"]["unschedulable"] == json!(true) {
        patch.push(json!({ "op": "test", "path": "/spec/unschedulable", "value": true }));
        patch.push(json!({ "op": "remove", "path": "/spec/unschedulable" }));
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_admission_widened_is_seen() {
        let policy = PolicySpec {
            namespace: "shop".into(),
            name: "firebreak-x".into(),
            labels: [(OURS.to_owned(), "x".to_owned())].into(),
            annotations: Default::default(),
            pod_selector: Selector::labels(
                [("firebreak/quarantine".to_owned(), "x".to_owned())].into(),
            ),
        };
        let sent = policy_json(&policy);
        assert_eq!(policy_mutations(&sent, &sent), Vec::<String>::new());
        let mut stored = sent.clone();
        stored["spec"]["egress"] = json!([{}]);
        stored["spec"]["policyTypes"] = json!(["Egress"]);
        stored["metadata"]["labels"]["team"] = json!("a");
        let seen = policy_mutations(&sent, &stored).join("\n");
        for part in ["spec/egress", "policyTypes/Ingress", "metadata/labels"] {
            assert!(seen.contains(part), "{part} in {seen}");
        }
    }

    #[test]
    fn uncordon_takes_only_our_taint_and_leaves_a_node_that_was_cordoned_before() {
        let other = json!({ "key": "a", "effect": "NoSchedule" });
        let ours = json!({ "key": TAINT, "value": "x", "effect": "NoSchedule" });
        let now = json!({ "spec": { "unschedulable": true, "taints": [other, ours] } });
        let patch = uncordon_patch(&now, "x", false);
        assert_eq!(patch.len(), 2);
        assert_eq!(
            patch[1],
            json!({ "op": "remove", "path": "/spec/taints/1" })
        );
        assert_eq!(uncordon_patch(&now, "x", true).len(), 4);
        assert!(uncordon_patch(&now, "y", false).is_empty());
        assert!(cordon_patch(&now, &ours).is_empty());
    }
}
