//! The lab without its network plugin. A program of its own, because the plugin enforces for all tests at once.

mod support;
use support::lab::{Lab, Reach};

const DENY_ALL: &str = r#"{
    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "deny" },
    "spec": { "podSelector": { "matchLabels": { "app": "target" } }, "policyTypes": ["Ingress"] }
}"#;

#[test]
fn nothing_enforces_while_the_plugin_is_stopped() {
    let Some(lab) = Lab::find() else { return };
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
