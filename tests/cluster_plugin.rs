//! The lab without its network plugin. A program of its own, because the plugin enforces for all tests at once.

mod support;
use std::sync::{Mutex, MutexGuard, PoisonError};

use support::lab::{Lab, Reach};

/// The plugin is one for all, the tests of this program too.
fn alone() -> MutexGuard<'static, ()> {
    static PLUGIN: Mutex<()> = Mutex::new(());
    PLUGIN.lock().unwrap_or_else(PoisonError::into_inner)
}

const DENY_ALL: &str = r#"{
    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "deny" },
    "spec": { "podSelector": { "matchLabels": { "app": "target" } }, "policyTypes": ["Ingress"] }
}"#;

#[test]
fn nothing_enforces_while_the_plugin_is_stopped() {
    let Some(lab) = Lab::find() else { return };
    let _one = alone();
    let namespace = lab.namespace("plugin");
    namespace.pod("target", &serde_json::json!({ "app": "target" }));
    namespace.pod("other", &serde_json::json!({ "app": "other" }));
    let target = namespace.address("target");
    namespace.apply(DENY_ALL);
    namespace.wait_until(Reach::Refused, "other", &target, 8080);

    let stopped = lab.stop_plugin();
    assert_eq!(namespace.connect("other", &target, 8080), Reach::Served);
    drop(stopped);
    namespace.wait_until(Reach::Refused, "other", &target, 8080);
}

#[cfg(feature = "adapters")]
#[test]
fn a_pod_is_never_called_contained_where_nothing_enforces() {
    let Some(lab) = Lab::find() else { return };
    let _one = alone();
    let namespace = lab.namespace("unenforced");
    namespace.pod("target", &serde_json::json!({ "app": "target" }));
    namespace.pod("other", &serde_json::json!({ "app": "other" }));
    let responder = support::responder::Responder::new("unenforced", &lab.kubeconfig());
    let stopped = lab.stop_plugin();
    let contained = responder.contains(&format!("{}/target", namespace.name));
    drop(stopped);
    let contained = contained.ends(1);
    assert_eq!(contained.json()["verdict"], "not contained", "{contained}");
    contained.says("the network plugin does not enforce them here");
}

#[cfg(feature = "adapters")]
#[test]
fn a_canary_that_sees_nothing_enforced_stops_what_would_isolate_many_pods() {
    let Some(lab) = Lab::find() else { return };
    let _one = alone();
    let namespace = lab.namespace("stopped");
    namespace.pod("web", &serde_json::json!({ "app": "web" }));
    let responder = support::responder::Responder::new("stopped", &lab.kubeconfig());
    let book = responder.folder().join("many.yaml");
    std::fs::write(book, support::books::CANARY_THEN_MANY).expect("the test's folder");
    responder
        .types(["incident", "open", "Many pods act oddly"])
        .ends(0);
    let stopped = lab.stop_plugin();
    let applied = responder.applies("many.yaml", &namespace.name);
    drop(stopped);
    applied.ends(0);
    let seen = ["log", "--kind", "contain.canary", "--json"];
    let seen = responder.types(seen).ends(0).json();
    assert_eq!(
        seen["entries"][0]["body"]["verdict"], "unenforced",
        "{seen}"
    );
    let labels = namespace.object("pod/web")["metadata"]["labels"].clone();
    assert_eq!(
        labels,
        serde_json::json!({ "app": "web" }),
        "nobody's pod was touched"
    );
    let policies = namespace.kubectl(["get", "networkpolicy", "-o", "name"]);
    assert_eq!(policies, "");
}
