//! What the tests of a containment look at: a few pods that serve one client, and how each of them was found.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::{Value, json};

use crate::support::lab::{Lab, Namespace, wait_for};

/// A cordoned node starts no pods for anybody else, so who cordons takes it alone.
static NODE: RwLock<()> = RwLock::new(());

/// The node, together with every other test that starts pods on it.
pub fn shared() -> RwLockReadGuard<'static, ()> {
    NODE.read().unwrap_or_else(PoisonError::into_inner)
}

/// The node, alone.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    NODE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Undoes a cordon that a failed test left: pods of all others would wait for the node.
pub fn uncordon(lab: &Lab) {
    lab.try_kubectl(["uncordon", "node-1"]);
    lab.try_kubectl(["taint", "node", "node-1", "firebreak/quarantine-"]);
}

/// Bare pods that answer on port 8080 behind a Service each, and a client whom a policy lets in.
pub struct Scene {
    pub namespace: Namespace,
}

impl Scene {
    /// Starts pods of these names and waits until all are ready.
    pub fn start(lab: &Lab, name: &str, pods: &[&str]) -> Scene {
        let namespace = lab.namespace(name);
        let mut items = vec![pod("client", json!(["sleep", "86400"]), false)];
        for name in pods {
            let command = json!(["nc", "-ll", "-p", "8080", "-e", "/bin/hostname"]);
            items.push(pod(name, command, true));
            items.push(json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
                "spec": { "selector": { "app": name }, "ports": [{ "port": 8080 }] },
            }));
            items.push(json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": name },
                "spec": {
                    "podSelector": { "matchLabels": { "app": name } }, "policyTypes": ["Ingress"],
                    "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "client" } } }] }],
                },
            }));
        }
        namespace.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string());
        namespace.kubectl([
            "wait",
            "--for",
            "condition=Ready",
            "pod",
            "--all",
            "--timeout",
            "60s",
        ]);
        Scene { namespace }
    }

    /// `NAMESPACE/NAME`.
    pub fn full(&self, pod: &str) -> String {
        format!("{}/{pod}", self.namespace.name)
    }
}

fn pod(name: &str, command: Value, serves: bool) -> Value {
    let mut container = json!({
        "name": "main", "image": "localhost/busybox:1", "imagePullPolicy": "Never", "command": command,
    });
    if serves {
        container["readinessProbe"] = json!({ "tcpSocket": { "port": 8080 }, "periodSeconds": 1 });
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name, "tier": "test" }, "annotations": { "team": "ours" } },
        "spec": { "terminationGracePeriodSeconds": 1, "containers": [container] },
    })
}

/// What a release gives back: labels, annotations and owners of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    labels: Value,
    annotations: Value,
    owners: Value,
}

impl Found {
    /// How a pod is now.
    pub fn look(namespace: &Namespace, pod: &str) -> Found {
        let object = namespace.object(&format!("pod/{pod}"));
        let of = |field: &str| match &object["metadata"][field] {
            // Whether the last of them went or there never was one is the same to everybody.
            Value::Null => json!({}),
            Value::Object(map) if map.is_empty() => json!({}),
            other => other.clone(),
        };
        Found {
            labels: of("labels"),
            annotations: of("annotations"),
            owners: of("ownerReferences"),
        }
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels[name].as_str()
    }
}

/// The names of our policies in a namespace.
pub fn our_policies(namespace: &Namespace) -> Vec<String> {
    let path = "jsonpath={.items[*].metadata.name}";
    let names = namespace.kubectl(["get", "networkpolicy", "-o", path]);
    names
        .split_whitespace()
        .filter(|n| n.starts_with("firebreak-"))
        .map(str::to_owned)
        .collect()
}

/// Addresses that a Service sends to.
pub fn endpoints(namespace: &Namespace, service: &str) -> Vec<String> {
    let selector = format!("kubernetes.io/service-name={service}");
    let path = "jsonpath={.items[*].endpoints[*].addresses[*]}";
    let all = namespace.kubectl(["get", "endpointslices", "-l", &selector, "-o", path]);
    all.split_whitespace().map(str::to_owned).collect()
}

/// Panics unless the pod is isolated as a whole: deny policy there, labelled, out of its Service.
#[track_caller]
pub fn is_isolated(namespace: &Namespace, pod: &str, service: &str) {
    let found = Found::look(namespace, pod);
    let mark = found.label("firebreak/quarantine").map(str::to_owned);
    let mark = mark.unwrap_or_else(|| panic!("{pod} is not labelled: {found:?}"));
    let all: Value =
        serde_json::from_str(&namespace.kubectl(["get", "networkpolicy", "-o", "json"]))
            .expect("kubectl prints JSON");
    let all = all["items"].as_array().cloned().unwrap_or_default();
    let policies: Vec<&Value> = all
        .iter()
        .filter(|p| p["spec"]["podSelector"]["matchLabels"]["firebreak/quarantine"] == *mark)
        .collect();
    assert_eq!(policies.len(), 1, "{all:?}");
    let spec = &policies[0]["spec"];
    assert!(
        spec["ingress"].is_null() && spec["egress"].is_null(),
        "{spec}"
    );
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    let address = namespace.address(pod);
    wait_for("the Service to let go", || {
        (!endpoints(namespace, service).contains(&address)).then_some(())
    });
}

/// Panics unless the pod is as it was found and nothing of ours is left for it. Who owns it again may take a moment.
#[track_caller]
pub fn is_as_found(namespace: &Namespace, pod: &str, found: &Found) {
    let now = Found::look(namespace, pod);
    assert_eq!(
        (&now.labels, &now.annotations),
        (&found.labels, &found.annotations)
    );
    wait_for("its owner to take it back", || {
        (Found::look(namespace, pod).owners == found.owners).then_some(())
    });
}

/// A pod in the lab's own pause image, which has no shell.
pub fn without_a_shell(image: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "mute", "labels": { "app": "mute" } },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": "main", "image": image, "imagePullPolicy": "Never" }],
        },
    })
    .to_string()
}

/// A file in the test's folder.
pub fn file(folder: &std::path::Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("the test's folder can be written");
    path
}
