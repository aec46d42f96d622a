//! The lab itself: a live test may lean on what is proven here. Needs a lab, see `tests/run`.

mod support;
use support::lab::{Lab, OUTSIDE, Reach, wait_for};
use support::own_folder;
use support::proxy::{Fault, FaultProxy};

const DENY_ALL: &str = r#"{
    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "deny" },
    "spec": { "podSelector": { "matchLabels": { "app": "target" } }, "policyTypes": ["Ingress", "Egress"] }
}"#;

#[test]
fn a_policy_is_enforced_in_both_directions() {
    let Some(lab) = Lab::find() else { return };
    let namespace = lab.namespace("policy");
    namespace.pod("target", &serde_json::json!({ "app": "target" }));
    namespace.pod("other", &serde_json::json!({ "app": "other" }));
    let (target, other) = (namespace.address("target"), namespace.address("other"));
    namespace.wait_until(Reach::Served, "other", &target, 8080);
    namespace.wait_until(Reach::Served, "target", OUTSIDE, 443);

    namespace.apply(DENY_ALL);
    namespace.wait_until(Reach::Refused, "other", &target, 8080);
    namespace.wait_until(Reach::Refused, "target", OUTSIDE, 443);
    assert_eq!(namespace.connect("target", &other, 8080), Reach::Refused);
    assert_eq!(namespace.connect("other", &other, 8080), Reach::Served);
}

#[test]
fn the_shop_serves_its_clients_and_its_intruder_has_a_connection_open() {
    let Some(lab) = Lab::find() else { return };
    let shop = lab.shop();
    let namespace = &shop.namespace;
    let client = namespace.pods("app=client").remove(0);
    for web in namespace.pods("app=web") {
        namespace.wait_until(Reach::Served, &client, &namespace.address(&web), 8080);
    }
    let db = namespace.address(&namespace.pods("app=db")[0]);
    assert_eq!(namespace.connect(&client, &db, 5432), Reach::Refused);
    let api = namespace.pods("app=api").remove(0);
    assert_eq!(namespace.connect(&api, &db, 5432), Reach::Served);

    let open = namespace.shell(&shop.compromised, "netstat -tn");
    assert!(open.contains(&format!("{OUTSIDE}:4444")), "{open}");
    wait_for("a line from the intruder", || {
        lab.outside()
            .contains(&format!("beacon {}", shop.compromised))
            .then_some(())
    });
    let log = ["logs", "daemonset/agent", "--previous"];
    assert!(namespace.kubectl(log).contains("first start failed"));
}

#[test]
fn a_write_is_lost_before_or_after_its_effect_on_the_real_server() {
    let Some(lab) = Lab::find() else { return };
    let namespace = lab.namespace("lost");
    let proxy = FaultProxy::start(&lab.kubeconfig(), &own_folder("lost-write"));
    let create = |name: &str| {
        let args = ["-n", &namespace.name, "create", "configmap", name];
        lab.kubectl_with(proxy.kubeconfig(), &args).status.success()
    };
    let exists = |name: &str| {
        namespace
            .try_kubectl(["get", "configmap", name])
            .status
            .success()
    };

    proxy.lose(1, Fault::LostRequest);
    proxy.lose(2, Fault::LostReply);
    assert!(!create("before"));
    assert!(!exists("before"));
    assert!(!create("after"));
    assert!(exists("after"));
    assert!(create("whole"));
    assert!(exists("whole"));
    assert_eq!(proxy.writes().len(), 3);
}

#[test]
fn exec_and_watches_pass_through_the_proxy() {
    let Some(lab) = Lab::find() else { return };
    let namespace = lab.namespace("tunnel");
    namespace.pod("target", &serde_json::json!({ "app": "target" }));
    let proxy = FaultProxy::start(&lab.kubeconfig(), &own_folder("tunnel"));
    let run = |args: &[&str]| {
        let args: Vec<&str> = ["-n", &namespace.name]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let output = lab.kubectl_with(proxy.kubeconfig(), &args);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(run(&["exec", "target", "--", "hostname"]), "target\n");
    let wait = [
        "wait",
        "--for",
        "condition=Ready",
        "pod/target",
        "--timeout",
        "20s",
    ];
    assert_eq!(run(&wait), "pod/target condition met\n");
    assert_eq!(proxy.writes().len(), 0);
}

#[test]
fn an_account_has_the_rights_that_it_was_given_and_no_others() {
    let Some(lab) = Lab::find() else { return };
    let namespace = lab.namespace("rights");
    let rules =
        serde_json::json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] }]);
    let kubeconfig = lab.account(&namespace, &rules, &own_folder("rights"));
    let may = |what: &str| {
        let args = ["-n", &namespace.name, "get", what];
        lab.kubectl_with(&kubeconfig, &args).status.success()
    };
    assert!(may("pods"));
    assert!(!may("secrets"));
}

#[test]
fn the_audit_log_says_who_changed_what() {
    let Some(lab) = Lab::find() else { return };
    let namespace = lab.namespace("audit");
    namespace.kubectl(["create", "configmap", "traced"]);
    let entry = wait_for("the entry of the change", || {
        lab.audit().into_iter().find(|entry| {
            entry["objectRef"]["name"] == "traced"
                && entry["objectRef"]["namespace"] == namespace.name.as_str()
        })
    });
    assert_eq!(entry["verb"], "create");
    assert_eq!(entry["user"]["username"], "admin");
}
