//! Each refusal in the right words, with the right exit code, and nothing half-done.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::scene::{
    Found, Scene, file, is_as_found, is_isolated, our_policies, shared, without_a_shell,
};
use crate::support::lab::{Lab, wait_for};
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::responder::Responder;

#[test]
fn a_policy_that_still_allows_is_named_and_the_pod_is_not_contained() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let scene = Scene::start(&lab, "allowed", &["web"]);
    scene.namespace.apply(
        &json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "everybody" },
            "spec": { "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}] },
        })
        .to_string(),
    );
    let responder = Responder::new("allowed", &lab.kubeconfig());
    let full = scene.full("web");
    let short = ["contain", "pod", &full, "--confirm", "web"];
    responder.types(short).ends(4).says("FB1110").says(&full);
    assert_eq!(responder.incidents(), Vec::<String>::new());
    let contained = responder.contains(&full).ends(1);
    let answer = contained.json();
    assert_eq!(answer["verdict"], "not contained", "{contained}");
    assert!(
        answer["proofs"].to_string().contains("everybody"),
        "{contained}"
    );
    // Evidence is taken and the document is built all the same.
    assert!(answer["bags"].as_array().is_some_and(|b| b.len() >= 2));
    responder.types(["verify", "--last"]).ends(0);
    responder.releases(&scene.full("web")).ends(0);
    assert_eq!(our_policies(&scene.namespace), Vec::<String>::new());
}

#[test]
fn a_pod_that_nothing_can_be_asked_in_is_isolated_and_not_proven() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let namespace = lab.namespace("mute");
    namespace.apply(&without_a_shell("localhost/pause:3.10"));
    namespace.kubectl([
        "wait",
        "--for",
        "condition=Ready",
        "pod/mute",
        "--timeout",
        "60s",
    ]);
    let responder = Responder::new("mute", &lab.kubeconfig());
    let contained = responder
        .contains(&format!("{}/mute", namespace.name))
        .ends(5);
    let answer = contained.json();
    assert_eq!(answer["verdict"], "isolated, not proven", "{contained}");
    let why = answer["proofs"][0]["why"].as_array().expect("reasons");
    assert!(!why.is_empty(), "{contained}");
    assert_eq!(our_policies(&namespace).len(), 1);
}

#[test]
fn a_pod_that_was_made_anew_under_its_name_makes_the_plan_stale() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let scene = Scene::start(&lab, "anew", &["web"]);
    let ns = &scene.namespace;
    let responder = Responder::new("anew", &lab.kubeconfig());
    responder
        .types(["incident", "open", "A pod acts oddly"])
        .ends(0);
    let (space, pod) = (format!("ns={}", ns.name), "pod=web");
    let plan = [
        "playbook",
        "plan",
        "contain-pod",
        "--var",
        &space,
        "--var",
        pod,
        "-o",
        "plan.json",
        "--json",
    ];
    let planned = responder.types(plan).ends(0).json();
    let digest = planned["digest"].as_str().expect("a digest")[..12].to_owned();

    let mut again = ns.object("pod/web");
    ns.kubectl(["delete", "pod", "web", "--wait"]);
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        again["metadata"]
            .as_object_mut()
            .expect("metadata")
            .remove(field);
    }
    again["spec"]
        .as_object_mut()
        .expect("a spec")
        .remove("nodeName");
    again.as_object_mut().expect("a pod").remove("status");
    ns.apply(&again.to_string());
    ns.kubectl([
        "wait",
        "--for",
        "condition=Ready",
        "pod/web",
        "--timeout",
        "60s",
    ]);
    let found = Found::look(ns, "web");
    responder
        .types(["playbook", "apply", "plan.json", "--confirm", &digest])
        .ends(8)
        .says("UID");
    assert_eq!(Found::look(ns, "web"), found);
    assert_eq!(our_policies(ns), Vec::<String>::new());
}

#[test]
fn an_admission_policy_that_refuses_ours_is_named_and_nothing_is_half_done() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let scene = Scene::start(&lab, "admission", &["web"]);
    let ns = &scene.namespace;
    let rule = Admission::refuse_policies(&lab, &ns.name);
    let found = Found::look(ns, "web");
    let responder = Responder::new("admission", &lab.kubeconfig());
    let contained = responder
        .contains(&scene.full("web"))
        .ends_with_one_of(&[1, 4]);
    assert!(contained.said("no new policies here"), "{contained}");
    assert!(!contained.said("isolation is proven"), "{contained}");
    assert_eq!(
        Found::look(ns, "web"),
        found,
        "a label alone isolates nothing: {contained}"
    );
    assert_eq!(our_policies(ns), Vec::<String>::new());
    // The server was asked beforehand: nothing began, so there is no incident either.
    assert_eq!(responder.incidents(), Vec::<String>::new());
    drop(rule);
}

/// A rule of the cluster's own that refuses every new NetworkPolicy in one namespace.
struct Admission<'a> {
    lab: &'a Lab,
    name: String,
}

impl<'a> Admission<'a> {
    fn refuse_policies(lab: &'a Lab, namespace: &str) -> Self {
        let name = format!("refuse-{namespace}");
        let policy = json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": name },
              "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [{ "apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"],
                    "operations": ["CREATE"], "resources": ["networkpolicies"] }] },
                "validations": [{ "expression": "false", "message": "no new policies here" }] } },
            { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name },
              "spec": { "policyName": name, "validationActions": ["Deny"],
                "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } } } } },
        ]});
        lab.apply(&policy.to_string());
        let probe = file(
            &crate::support::own_folder("admission"),
            "probe.json",
            &json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": { "name": "probe", "namespace": namespace }, "spec": { "podSelector": {} } })
            .to_string(),
        );
        let probe = probe.to_string_lossy().into_owned();
        wait_for("the admission policy to be in force", || {
            let tried = lab.try_kubectl(["create", "--dry-run=server", "-f", &probe]);
            (!tried.status.success()).then_some(())
        });
        Admission { lab, name }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        let kinds = "validatingadmissionpolicy,validatingadmissionpolicybinding";
        self.lab.try_kubectl(["delete", kinds, &self.name]);
    }
}

#[test]
fn a_pod_on_the_nodes_network_is_refused_with_what_to_do_instead() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let namespace = lab.namespace("edge");
    namespace.apply(
        r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "edge", "labels": {"app": "edge"}},
            "spec": {"hostNetwork": true, "terminationGracePeriodSeconds": 1, "containers": [{"name": "edge",
            "image": "localhost/busybox:1", "imagePullPolicy": "Never", "command": ["sleep", "86400"]}]}}"#,
    );
    namespace.kubectl([
        "wait",
        "--for",
        "condition=Ready",
        "pod/edge",
        "--timeout",
        "60s",
    ]);
    let found = Found::look(&namespace, "edge");
    let responder = Responder::new("edge", &lab.kubeconfig());
    let refused = responder
        .contains(&format!("{}/edge", namespace.name))
        .ends(1);
    refused.says("hostNetwork").says("contain.cordon_node");
    assert_eq!(
        responder.incidents(),
        Vec::<String>::new(),
        "a refusal opens no incident"
    );
    // Neither does a pod that is not there.
    let missing = format!("{}/nobody", namespace.name);
    responder.contains(&missing).ends(1).says("there is no pod");
    assert_eq!(responder.incidents(), Vec::<String>::new());
    assert_eq!(Found::look(&namespace, "edge"), found);
    assert_eq!(our_policies(&namespace), Vec::<String>::new());
}

#[test]
fn a_statefulset_pod_keeps_its_labels_and_that_is_said() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let namespace = lab.namespace("stateful");
    namespace.apply(
        r#"{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "queue"}, "spec": {"serviceName": "queue",
            "selector": {"matchLabels": {"app": "queue"}}, "template": {"metadata": {"labels": {"app": "queue"}}, "spec": {
            "terminationGracePeriodSeconds": 1, "containers": [{"name": "queue", "image": "localhost/busybox:1",
            "imagePullPolicy": "Never", "command": ["nc", "-ll", "-p", "8080", "-e", "/bin/cat"]}]}}}}"#,
    );
    namespace.kubectl(["rollout", "status", "statefulset/queue", "--timeout", "60s"]);
    let found = Found::look(&namespace, "queue-0");
    let responder = Responder::new("stateful", &lab.kubeconfig());
    let full = format!("{}/queue-0", namespace.name);
    let contained = responder.contains(&full).ends_with_one_of(&[0, 5]);
    let contained = contained.says("a StatefulSet would need its name");
    let now = Found::look(&namespace, "queue-0");
    assert!(now.label("firebreak/quarantine").is_some(), "{contained}");
    assert_eq!(now.label("app"), Some("queue"), "{contained}");
    responder.releases(&full).ends(0);
    is_as_found(&namespace, "queue-0", &found);
}

#[test]
fn another_cluster_behind_the_same_context_is_refused_and_hears_of_no_change() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let scene = Scene::start(&lab, "other", &["web"]);
    let full = scene.full("web");
    let mut responder = Responder::new("other", &lab.kubeconfig());
    responder.contains(&full).ends_with_one_of(&[0, 5]);

    let other = Impostor::start();
    let mut config: Value =
        serde_json::from_str(&lab.kubectl(["config", "view", "--raw", "-o", "json"]))
            .expect("JSON");
    config["clusters"][0]["cluster"] = json!({ "server": other.address });
    config["users"][0]["user"] = json!({});
    let path = file(responder.folder(), "other.kubeconfig", &config.to_string());
    responder.use_kubeconfig(&path);
    for answer in [responder.contains(&full), responder.releases(&full)] {
        answer.ends(8).says("FB1209").says("nothing was changed");
    }
    assert!(
        other
            .asked()
            .iter()
            .all(|a| a.starts_with("GET ") || a.contains("reviews")),
        "{:?}",
        other.asked()
    );
    is_isolated(&scene.namespace, "web", "web");
    responder.use_kubeconfig(&lab.kubeconfig());
    responder.releases(&full).ends(0);
}

/// Answers like an API server whose `kube-system` is another one's, and notes what it is asked.
struct Impostor {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Impostor {
    fn start() -> Impostor {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut lines = BufReader::new(stream.try_clone().expect("a socket"));
                let mut first = String::new();
                let mut length = 0;
                _ = lines.read_line(&mut first);
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|n| n > 2) {
                    let lower = line.to_ascii_lowercase();
                    if let Some(n) = lower.strip_prefix("content-length:") {
                        length = n.trim().parse().unwrap_or(0);
                    }
                    line.clear();
                }
                _ = lines.read_exact(&mut vec![0; length]);
                noted
                    .lock()
                    .expect("no holder panics")
                    .push(first.trim().to_owned());
                let (status, body) = Self::answer(&first);
                _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Impostor { address, asked }
    }

    fn answer(request: &str) -> (&'static str, String) {
        let path = request.split(' ').nth(1).unwrap_or_default();
        if path.starts_with("/version") {
            return ("200 OK", json!({ "gitVersion": "v1.34.1" }).to_string());
        }
        if path.starts_with("/api/v1/namespaces/kube-system") {
            let uid = "00000000-0000-4000-8000-000000000000";
            let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "kube-system", "uid": uid } });
            return ("200 OK", namespace.to_string());
        }
        let status = json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not here" });
        ("404 Not Found", status.to_string())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no holder panics").clone()
    }
}

#[test]
fn a_server_that_goes_away_in_the_middle_is_said_and_resume_finishes() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let scene = Scene::start(&lab, "gone", &["web"]);
    let ns = &scene.namespace;
    let found = Found::look(ns, "web");
    let responder = Responder::new("gone", &lab.kubeconfig());
    let proxy = FaultProxy::start(&lab.kubeconfig(), responder.folder());
    let mut responder = responder;
    responder.use_kubeconfig(proxy.kubeconfig());
    let full = scene.full("web");

    proxy.gone(true);
    responder
        .contains(&full)
        .ends(1)
        .says("FB1207")
        .says("hint:");
    assert_eq!(responder.incidents(), Vec::<String>::new());
    proxy.gone(false);
    // From the first write on, nobody answers any more: that write took effect, and nothing else did.
    proxy.lose(1, Fault::LostReply);
    let contained = std::thread::scope(|scope| {
        let run = scope.spawn(|| responder.contains(&full));
        wait_for("the first write", || {
            proxy.writes().first().and_then(|w| w.status).map(|_| ())
        });
        proxy.gone(true);
        run.join().expect("it ends")
    });
    assert!(!matches!(contained.code, Some(0) | Some(5)), "{contained}");
    proxy.gone(false);
    let resumed = responder.types(["resume", "--json"]);
    println!("before: {contained}\nafter: {resumed}");
    is_isolated(ns, "web", "web");
    responder.releases(&full).ends(0);
    is_as_found(ns, "web", &found);
    assert_eq!(our_policies(ns), Vec::<String>::new());
    responder
        .types(["verify", "--last"])
        .ends_with_one_of(&[0, 22]);
}
