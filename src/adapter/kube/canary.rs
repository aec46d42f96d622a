//! Throw-away pods in a namespace of our own: two that show whether a node's plugin enforces, or one to probe from.
//!
//! They ask for nothing: no account token, no privileges, a user of their own. So Pod Security's strictest profile admits them.
//! Both canary pods listen on TCP port 8080 and can be exec'd.

use std::time::{Duration, Instant};

use hyper::http::Method;
use serde_json::{Value, json};

use super::change::OURS;
use super::wire::{Call, encoded, segment};
use super::{KubeCluster, clean};
use crate::incident::body::ObjectRef;
use crate::port::{CanarySpec, Cause, ClusterView, PortError, WriteMode};

/// Label of everything of one canary.
const CANARY: &str = "firebreak/canary";
/// Label of a namespace that we made.
const MADE_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "firebreak");
/// Pause between two looks at pods that start.
const PAUSE: Duration = Duration::from_millis(250);
const TRIED: &str = "start the canary";

/// Listens again and again on 8080 with whichever kind of `nc` there is; ends at once when it is told to.
const LISTEN: &str = "trap 'exit 0' TERM INT; while :; do nc -l -p 8080 </dev/null >/dev/null 2>&1 || nc -l 8080 </dev/null >/dev/null 2>&1 || sleep 1 & wait $!; done";
const SLEEP: &str = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";

fn set_ref(canary: &CanarySpec) -> ObjectRef {
    named("ReplicaSet", canary, &canary.name)
}

fn probe_ref(canary: &CanarySpec) -> ObjectRef {
    named("Pod", canary, &format!("{}-probe", canary.name))
}

fn named(kind: &str, canary: &CanarySpec, name: &str) -> ObjectRef {
    ObjectRef {
        kind: kind.into(),
        namespace: canary.namespace.clone(),
        name: name.into(),
        uid: String::new(),
    }
}

/// Where the image is already on the node it is never pulled: an imported one could not be, and a registry may be down or watched.
fn pull_policy(images: &[String], image: &str) -> &'static str {
    let there = images.iter().any(|i| {
        i == image
            || i.strip_prefix("docker.io/library/") == Some(image)
            || i.strip_prefix("docker.io/") == Some(image)
    });
    if there { "Never" } else { "IfNotPresent" }
}

fn pod_spec(canary: &CanarySpec, pull: &str, script: &str) -> Value {
    json!({
        // `nodeName`, not a selector: a cordon keeps the scheduler away from exactly the node that matters.
        "nodeName": canary.node,
        "tolerations": [{ "operator": "Exists" }],
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 1,
        "securityContext": { "runAsNonRoot": true, "runAsUser": 65534, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [{
            "name": "canary", "image": canary.image, "imagePullPolicy": pull,
            "command": ["sh", "-c", script],
            "ports": [{ "containerPort": 8080 }],
            "resources": { "requests": { "cpu": "10m", "memory": "8Mi" }, "limits": { "memory": "32Mi" } },
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
        }],
    })
}

fn labels(canary: &CanarySpec) -> Value {
    json!({ CANARY: canary.name, OURS: canary.quarantine, MADE_BY.0: MADE_BY.1 })
}

fn collection(canary: &CanarySpec, api: &str, resource: &str) -> Result<String, PortError> {
    Ok(format!(
        "{api}/namespaces/{}/{resource}",
        segment(&canary.namespace)?
    ))
}

impl KubeCluster {
    async fn create(&self, path: String, body: Value, on: &str) -> Result<Value, PortError> {
        let call = Call {
            method: Method::POST,
            path: path + "?fieldManager=firebreak",
            content: "application/json",
            body: Some(body),
            tried: TRIED,
            on,
        };
        Ok(self.wire.write(call).await?.value)
    }

    /// Makes the namespace, or waits until one that is going away is gone and makes it then.
    async fn own_namespace(&self, canary: &CanarySpec, until: Instant) -> Result<(), PortError> {
        let on = canary.namespace.as_str();
        let labels =
            json!({ MADE_BY.0: MADE_BY.1, "pod-security.kubernetes.io/enforce": "privileged" });
        let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": on, "labels": labels } });
        loop {
            if let Some(there) = self.object("Namespace", "", on).await?
                && there["metadata"]["deletionTimestamp"].is_null()
            {
                return Ok(());
            }
            match self
                .create("/api/v1/namespaces".into(), body.clone(), on)
                .await
            {
                Ok(_) => return Ok(()),
                Err(e) if e.cause == Cause::Conflict && Instant::now() < until => {}
                Err(e) => return Err(e),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn images_of(&self, node: &str) -> Result<Vec<String>, PortError> {
        match self.node(node).await? {
            Some(node) => Ok(node.images),
            None => Err(PortError::new(
                Cause::NotFound,
                TRIED,
                clean(node),
                "there is no such node",
            )),
        }
    }

    /// Creates it, or leaves it as it is if it is there already and ours.
    async fn ensure(
        &self,
        object: &ObjectRef,
        path: String,
        body: Value,
        until: Instant,
    ) -> Result<(), PortError> {
        let on = format!("{}/{}", object.namespace, object.name);
        loop {
            match self.create(path.clone(), body.clone(), &on).await {
                Err(e) if e.cause == Cause::Conflict => {
                    let there = self
                        .object(&object.kind, &object.namespace, &object.name)
                        .await?;
                    let ours = there.as_ref().is_some_and(|t| {
                        t["metadata"]["labels"][CANARY].is_string()
                            && t["metadata"]["deletionTimestamp"].is_null()
                    });
                    if ours {
                        return Ok(());
                    }
                    if Instant::now() > until {
                        return Err(e);
                    }
                }
                // A namespace has no default account in its first moments, and no pod may be made before.
                Err(e)
                    if e.cause == Cause::Rejected
                        && e.detail.contains("serviceaccount")
                        && Instant::now() < until => {}
                done => return done.map(|_| ()),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until `wanted` pods of the canary run and have an address.
    async fn running(
        &self,
        canary: &CanarySpec,
        kind: &str,
        wanted: usize,
        until: Instant,
    ) -> Result<Vec<ObjectRef>, PortError> {
        let on = format!("{}/{}", canary.namespace, canary.name);
        let path = collection(canary, "/api/v1", "pods")?;
        let query = format!("{CANARY}={},firebreak/canary-kind={kind}", canary.name);
        loop {
            let pods: Vec<Value> = self
                .wire
                .list(&path, &[("labelSelector", &query)], TRIED)
                .await?;
            let up: Vec<ObjectRef> = pods.iter().filter(|p| is_up(p)).map(pod_ref).collect();
            if up.len() >= wanted {
                return Ok(up);
            }
            if let Some(why) = pods.iter().find_map(never_starts) {
                return Err(PortError::new(
                    Cause::Unsupported,
                    TRIED,
                    clean(&on),
                    clean(&why),
                ));
            }
            if pods.is_empty()
                && let Some(why) = self.set_failure(canary).await?
            {
                return Err(PortError::new(
                    Cause::Rejected,
                    TRIED,
                    clean(&on),
                    clean(&why),
                ));
            }
            if Instant::now() >= until {
                let detail = format!("{} of {wanted} pods run in time", up.len());
                return Err(PortError::new(Cause::Timeout, TRIED, clean(&on), detail));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What the controller says why it cannot make pods: quota, Pod Security, a webhook.
    async fn set_failure(&self, canary: &CanarySpec) -> Result<Option<String>, PortError> {
        let set = self
            .object("ReplicaSet", &canary.namespace, &canary.name)
            .await?;
        let conditions = set.and_then(|s| s["status"]["conditions"].as_array().cloned());
        let failed = conditions
            .into_iter()
            .flatten()
            .find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True");
        Ok(failed.and_then(|c| c["message"].as_str().map(str::to_owned)))
    }
}

fn pod_ref(pod: &Value) -> ObjectRef {
    let word = |f: &str| pod["metadata"][f].as_str().unwrap_or_default().to_owned();
    ObjectRef {
        kind: "Pod".into(),
        namespace: word("namespace"),
        name: word("name"),
        uid: word("uid"),
    }
}

fn is_up(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running"
        && pod["metadata"]["deletionTimestamp"].is_null()
        && pod["status"]["podIP"]
            .as_str()
            .is_some_and(|ip| !ip.is_empty())
        && pod["status"]["containerStatuses"][0]["state"]["running"].is_object()
}

/// Why a pod will not start by waiting.
fn never_starts(pod: &Value) -> Option<String> {
    let status = &pod["status"];
    if status["phase"] == "Failed" {
        let words = ["reason", "message"].map(|f| status[f].as_str().unwrap_or_default());
        return Some(format!("the pod failed: {}", words.join(" ")));
    }
    let state = &status["containerStatuses"][0]["state"];
    let waiting = &state["waiting"];
    let reason = waiting["reason"].as_str()?;
    let hopeless = [
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "CrashLoopBackOff",
    ];
    hopeless.contains(&reason).then(|| {
        format!(
            "{reason}: {}",
            waiting["message"].as_str().unwrap_or_default()
        )
    })
}

/// See [`ClusterChange::put_canary`](crate::port::ClusterChange::put_canary).
pub(super) async fn put(
    cluster: &KubeCluster,
    canary: &CanarySpec,
    deadline_s: u64,
) -> Result<Vec<ObjectRef>, PortError> {
    let until = Instant::now() + Duration::from_secs(deadline_s);
    let pull = pull_policy(&cluster.images_of(&canary.node).await?, &canary.image);
    cluster.own_namespace(canary, until).await?;
    let mut template = labels(canary);
    template["firebreak/canary-kind"] = json!("set");
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": { "name": canary.name, "namespace": canary.namespace, "labels": labels(canary) },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { CANARY: canary.name, "firebreak/canary-kind": "set" } },
            "template": { "metadata": { "labels": template }, "spec": pod_spec(canary, pull, LISTEN) },
        },
    });
    let path = collection(canary, "/apis/apps/v1", "replicasets")?;
    cluster.ensure(&set_ref(canary), path, set, until).await?;
    let mut pods = cluster.running(canary, "set", 2, until).await?;
    pods.truncate(2);
    Ok(pods)
}

/// See [`ClusterChange::put_probe_pod`](crate::port::ClusterChange::put_probe_pod).
pub(super) async fn put_probe(
    cluster: &KubeCluster,
    canary: &CanarySpec,
    deadline_s: u64,
) -> Result<ObjectRef, PortError> {
    let until = Instant::now() + Duration::from_secs(deadline_s);
    let pull = pull_policy(&cluster.images_of(&canary.node).await?, &canary.image);
    cluster.own_namespace(canary, until).await?;
    let object = probe_ref(canary);
    let mut labels = labels(canary);
    labels["firebreak/canary-kind"] = json!("probe");
    let mut spec = pod_spec(canary, pull, SLEEP);
    spec["restartPolicy"] = json!("Never");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": object.name, "namespace": object.namespace, "labels": labels },
        "spec": spec,
    });
    let path = collection(canary, "/api/v1", "pods")?;
    cluster.ensure(&object, path, pod, until).await?;
    let pods = cluster.running(canary, "probe", 1, until).await?;
    let none = || {
        PortError::new(
            Cause::NotFound,
            TRIED,
            clean(&object.name),
            "it is gone already",
        )
    };
    pods.into_iter().next().ok_or_else(none)
}

/// Removes the set, its pods, the probe pod, and the namespace where we made it and nothing else is in it.
pub(super) async fn remove(cluster: &KubeCluster, canary: &CanarySpec) -> Result<(), PortError> {
    let tried = "remove the canary";
    let mut objects = Vec::new();
    if let Some(set) = cluster
        .object("ReplicaSet", &canary.namespace, &canary.name)
        .await?
        && set["metadata"]["labels"][CANARY].is_string()
    {
        objects.push(ObjectRef {
            kind: "ReplicaSet".into(),
            ..pod_ref(&set)
        });
    }
    let path = collection(canary, "/api/v1", "pods")?;
    let query = format!("{CANARY}={}", canary.name);
    let pods: Vec<Value> = cluster
        .wire
        .list(&path, &[("labelSelector", &query)], tried)
        .await?;
    objects.extend(pods.iter().map(pod_ref));
    for object in &objects {
        cluster
            .delete(object, WriteMode::Apply, Some(1), tried)
            .await?;
    }
    remove_namespace(cluster, canary).await
}

/// Another canary may be in it, or a policy of somebody: then it stays. Without the right to delete it, it stays too, empty.
async fn remove_namespace(cluster: &KubeCluster, canary: &CanarySpec) -> Result<(), PortError> {
    let Some(namespace) = cluster.object("Namespace", "", &canary.namespace).await? else {
        return Ok(());
    };
    if namespace["metadata"]["labels"][MADE_BY.0] != MADE_BY.1 {
        return Ok(());
    }
    let at = |api: &str, resource: &str| {
        format!("{api}/namespaces/{}/{resource}", encoded(&canary.namespace))
    };
    let own = |o: &Value| {
        let meta = &o["metadata"];
        meta["labels"][CANARY] == canary.name.as_str() || meta["deletionTimestamp"].is_string()
    };
    for path in [
        at("/api/v1", "pods"),
        at("/apis/apps/v1", "replicasets"),
        at("/apis/networking.k8s.io/v1", "networkpolicies"),
    ] {
        match cluster
            .wire
            .list::<Value>(&path, &[], "look for what is left in")
            .await
        {
            Ok(left) if left.iter().all(own) => {}
            _ => return Ok(()),
        }
    }
    let object = ObjectRef {
        kind: "Namespace".into(),
        ..pod_ref(&namespace)
    };
    match cluster
        .delete(
            &object,
            WriteMode::Apply,
            None,
            "remove the canary's namespace",
        )
        .await
    {
        Err(e) if e.cause == Cause::Refused || e.cause == Cause::Conflict => Ok(()),
        done => done.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_on_the_node_is_never_pulled() {
        let images = [
            "docker.io/library/busybox:1".to_owned(),
            "localhost/x:1".to_owned(),
        ];
        assert_eq!(pull_policy(&images, "busybox:1"), "Never");
        assert_eq!(pull_policy(&images, "localhost/x:1"), "Never");
        assert_eq!(pull_policy(&images, "busybox:2"), "IfNotPresent");
    }

    #[test]
    fn a_pod_without_its_image_is_not_waited_for() {
        let pod = json!({ "status": { "phase": "Pending", "containerStatuses": [
            { "state": { "waiting": { "reason": "ErrImageNeverPull", "message": "not present" } } }] } });
        assert_eq!(
            never_starts(&pod).expect("a reason"),
            "ErrImageNeverPull: not present"
        );
        let starting = json!({ "status": { "phase": "Pending", "containerStatuses": [
            { "state": { "waiting": { "reason": "ContainerCreating" } } }] } });
        assert_eq!(never_starts(&starting), None);
    }
}
