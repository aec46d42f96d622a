//! The Kubernetes adapter against a real cluster: what the API server, the kubelet and the plugin really answer. Needs a lab, see
//! `tests/run`.
#![cfg(feature = "adapters")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use firebreak::adapter::kube::{ConnectOptions, connect};
use firebreak::incident::body::ObjectRef;
use firebreak::port::{
    CanarySpec, CaptureKind, Cause, Cluster, LabelChange, LookScope, Piece, PolicySpec, PortError,
    ProbeSource, ProbeTarget, Right, Tried, WriteMode,
};
use firebreak::reach::cluster::{ContainerKind, PodName, Protocol, Selector};
use support::lab::{Lab, Namespace, OUTSIDE, wait_for};
use support::own_folder;
use support::proxy::{Fault, FaultProxy};

const QUARANTINE: &str = "firebreak/quarantine";
const SECOND: Duration = Duration::from_secs(2);

async fn cluster(kubeconfig: std::path::PathBuf) -> Cluster {
    let options = ConnectOptions {
        kubeconfig: Some(kubeconfig),
        ..ConnectOptions::default()
    };
    connect(&options)
        .await
        .expect("the lab's kubeconfig is read")
        .cluster
}

fn pod(namespace: &Namespace, name: &str) -> ObjectRef {
    let object = namespace.object(&format!("pod/{name}"));
    ObjectRef {
        kind: "Pod".into(),
        namespace: namespace.name.clone(),
        name: name.into(),
        uid: object["metadata"]["uid"].as_str().expect("a UID").into(),
    }
}

fn source(pod: &ObjectRef, container: &str) -> ProbeSource {
    ProbeSource {
        pod: pod.clone(),
        container: container.into(),
    }
}

fn tcp(address: &str, port: u16) -> ProbeTarget {
    ProbeTarget {
        address: address.into(),
        port,
        protocol: Protocol::Tcp,
    }
}

fn deny(namespace: &Namespace, value: &str) -> PolicySpec {
    PolicySpec {
        namespace: namespace.name.clone(),
        name: format!("firebreak-{value}"),
        labels: [("firebreak/containment".to_owned(), value.to_owned())].into(),
        annotations: [("firebreak/plan".to_owned(), "sha256:00".to_owned())].into(),
        pod_selector: Selector::labels([(QUARANTINE.to_owned(), value.to_owned())].into()),
    }
}

fn fields(pairs: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
    let pairs = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned)));
    pairs.collect()
}

async fn all(
    stream: Result<Box<dyn firebreak::port::ByteStream>, PortError>,
) -> (String, Option<i32>) {
    let (mut stream, mut bytes) = (stream.expect("it opens"), Vec::new());
    let mut exit = None;
    while let Some(piece) = stream.next().await {
        match piece.expect("it does not fail") {
            Piece::Bytes(more) => bytes.extend(more),
            Piece::End { exit: code, .. } => exit = code,
        }
    }
    (String::from_utf8_lossy(&bytes).into_owned(), exit)
}

#[tokio::test]
async fn a_look_sees_the_shop_as_it_is() {
    let Some(lab) = Lab::find() else { return };
    let shop = lab.shop();
    let ns = shop.namespace.name.clone();
    let cluster = cluster(lab.kubeconfig()).await;
    let identity = cluster.view.identity().await.expect("an identity");
    let uid = lab.kubectl([
        "get",
        "namespace",
        "kube-system",
        "-o",
        "jsonpath={.metadata.uid}",
    ]);
    assert_eq!(
        (identity.uid, identity.user.as_deref()),
        (uid, Some("admin"))
    );
    assert!(identity.version.starts_with("v1."), "{}", identity.version);

    let seen = cluster
        .view
        .look(&LookScope::Cluster)
        .await
        .expect("a snapshot");
    assert_eq!(seen.unread, []);
    let web = seen
        .pods
        .iter()
        .find(|p| p.name == shop.compromised)
        .expect("the compromised pod is seen");
    assert_eq!(
        web.owner.as_ref().map(|o| o.kind.as_str()),
        Some("ReplicaSet")
    );
    assert_eq!(web.containers[0].kind, ContainerKind::Init);
    assert!(
        web.containers
            .iter()
            .any(|c| c.name == "web" && c.running && c.image_id.contains("sha256:"))
    );
    let secrets: Vec<&str> = web.secrets.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(secrets, ["web-db", "web-tls"]);
    assert!(
        seen.pods
            .iter()
            .any(|p| p.namespace == ns && p.name == "edge" && p.host_network)
    );
    let own = |name: &str| {
        seen.policies
            .iter()
            .find(|p| p.namespace == ns && p.name == name)
    };
    assert_eq!(own("web-egress").expect("a policy").egress.len(), 1);
    assert!(own("db-deny").expect("a policy").ingress.is_empty());
    let kinds = |kind: &str| {
        seen.controllers
            .iter()
            .any(|c| c.namespace == ns && c.kind == kind)
    };
    for kind in ["ReplicaSet", "StatefulSet", "DaemonSet", "Job"] {
        assert!(kinds(kind), "{kind}");
    }
    let slice = seen
        .endpoint_slices
        .iter()
        .filter(|s| s.namespace == ns && s.service == "web");
    let uids: Vec<_> = slice
        .flat_map(|s| &s.endpoints)
        .filter_map(|e| e.pod_uid.clone())
        .collect();
    assert!(uids.contains(&web.uid), "{uids:?}");
    let account = seen
        .service_accounts
        .iter()
        .find(|a| a.namespace == ns && a.name == "web");
    assert!(
        account
            .expect("its account")
            .annotations
            .contains_key("eks.amazonaws.com/role-arn")
    );
    assert_eq!(seen.nodes.len(), 1);

    let listed = cluster
        .view
        .pods_by_selector(&ns, "app=web,tier!=back")
        .await
        .expect("pods");
    assert_eq!(listed.len(), 2);
    assert!(
        !cluster
            .view
            .events(&ns, &web.uid)
            .await
            .expect("events")
            .is_empty()
    );
    let set = web.owner.as_ref().expect("an owner");
    assert!(
        cluster
            .view
            .object(&set.kind, &ns, &set.name)
            .await
            .expect("the set")
            .is_some()
    );
    let gone = PodName {
        namespace: ns,
        name: "nobody".into(),
    };
    assert_eq!(cluster.view.pod(&gone).await.expect("an answer"), None);
}

#[tokio::test]
async fn what_may_not_be_read_is_said_and_rights_are_answered() {
    let Some(lab) = Lab::find() else { return };
    let namespace = lab.namespace("poor");
    let rules = serde_json::json!([{ "apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["get", "list"] }]);
    let poor = cluster(lab.account(&namespace, &rules, &own_folder("adapter-poor"))).await;
    let seen = poor
        .view
        .look(&LookScope::Cluster)
        .await
        .expect("a snapshot");
    let unread: Vec<&str> = seen.unread.iter().map(|u| u.what.as_str()).collect();
    assert!(
        unread.contains(&"networkpolicies") && unread.contains(&"nodes"),
        "{unread:?}"
    );
    assert!(!unread.contains(&"pods"), "{unread:?}");
    let rights = [
        Right::new("", "pods", "list").within(&namespace.name),
        Right::new("", "pods/exec", "create").within(&namespace.name),
    ];
    let answers = poor.view.may(&rights).await.expect("answers");
    assert_eq!(
        [answers[0].allowed, answers[1].allowed],
        [Some(true), Some(false)]
    );
    assert_eq!(
        poor.view.roles_with(&rights[1]).await.expect("an answer"),
        Vec::<String>::new()
    );
    let admin = cluster(lab.kubeconfig()).await;
    let roles = admin.view.roles_with(&rights[1]).await.expect("roles");
    assert!(
        roles.contains(&"ClusterRole/cluster-admin".to_owned()),
        "{roles:?}"
    );

    let refused = poor
        .change
        .put_policy(&deny(&namespace, "inc-1"), WriteMode::Preview)
        .await;
    assert_eq!(refused.expect_err("no right").cause, Cause::Refused);
}

#[tokio::test]
async fn a_pod_is_denied_probed_and_given_back() {
    let Some(lab) = Lab::find() else { return };
    let namespace = lab.namespace("deny");
    namespace.pod("target", &serde_json::json!({ "app": "target" }));
    namespace.pod("other", &serde_json::json!({ "app": "other" }));
    let cluster = cluster(lab.kubeconfig()).await;
    let (target, other) = (pod(&namespace, "target"), pod(&namespace, "other"));
    let address = namespace.address("target");
    let try_it = |from: &ObjectRef, to: ProbeTarget| {
        let (probe, from) = (cluster.probe.clone(), source(from, "main"));
        async move { probe.connect(&from, &to, SECOND).await.map(|r| r.tried) }
    };
    assert_eq!(try_it(&other, tcp(&address, 8080)).await, Ok(Tried::Open));
    assert_eq!(
        try_it(&other, tcp(&address, 8081)).await,
        Ok(Tried::Refused)
    );
    assert_eq!(try_it(&target, tcp(OUTSIDE, 443)).await, Ok(Tried::Open));

    let spec = deny(&namespace, "inc-1");
    let preview = cluster
        .change
        .put_policy(&spec, WriteMode::Preview)
        .await
        .expect("a preview");
    assert_eq!((preview.object.uid.as_str(), preview.mutated), ("", vec![]));
    let stored = cluster
        .view
        .object("NetworkPolicy", &namespace.name, &spec.name)
        .await;
    assert_eq!(stored.expect("an answer"), None, "a preview stores nothing");
    let written = cluster
        .change
        .put_policy(&spec, WriteMode::Apply)
        .await
        .expect("a policy");
    assert!(!written.already && written.mutated.is_empty() && !written.object.uid.is_empty());
    assert!(
        cluster
            .change
            .put_policy(&spec, WriteMode::Apply)
            .await
            .expect("again")
            .already
    );

    let change = LabelChange {
        object: target.clone(),
        expect: fields(&[
            ("labels/firebreak/quarantine", None),
            ("labels/app", Some("target")),
        ]),
        set: fields(&[
            ("labels/firebreak/quarantine", Some("inc-1")),
            ("annotations/firebreak/by", Some("test")),
        ]),
    };
    let preview = cluster
        .change
        .change_labels(&change, WriteMode::Preview)
        .await
        .expect("a preview");
    assert_eq!(preview.mutated, Vec::<String>::new());
    let written = cluster
        .change
        .change_labels(&change, WriteMode::Apply)
        .await
        .expect("a label");
    assert!(!written.already && written.mutated.is_empty());
    assert!(
        cluster
            .change
            .change_labels(&change, WriteMode::Apply)
            .await
            .expect("again")
            .already
    );
    namespace.wait_until(support::lab::Reach::Refused, "other", &address, 8080);
    assert_eq!(
        try_it(&other, tcp(&address, 8080)).await,
        Ok(Tried::Refused)
    );
    assert_eq!(try_it(&target, tcp(OUTSIDE, 443)).await, Ok(Tried::Refused));

    let back = LabelChange {
        object: target.clone(),
        expect: fields(&[("labels/firebreak/quarantine", Some("inc-1"))]),
        set: fields(&[
            ("labels/firebreak/quarantine", None),
            ("annotations/firebreak/by", None),
        ]),
    };
    cluster
        .change
        .change_labels(&back, WriteMode::Apply)
        .await
        .expect("given back");
    let labels = namespace.object("pod/target")["metadata"]["labels"].clone();
    assert_eq!(labels, serde_json::json!({ "app": "target" }));
    let policy = written_policy(&cluster, &namespace, &spec).await;
    let wrong = ObjectRef {
        uid: "00000000-0000-0000-0000-000000000000".into(),
        ..policy.clone()
    };
    assert_eq!(
        cluster
            .change
            .delete_policy(&wrong, WriteMode::Apply)
            .await
            .expect_err("another")
            .cause,
        Cause::Conflict
    );
    assert_eq!(
        cluster
            .change
            .delete_policy(&policy, WriteMode::Apply)
            .await,
        Ok(true)
    );
    assert_eq!(
        cluster
            .change
            .delete_policy(&policy, WriteMode::Apply)
            .await,
        Ok(false)
    );
}

async fn written_policy(cluster: &Cluster, namespace: &Namespace, spec: &PolicySpec) -> ObjectRef {
    let found = cluster
        .view
        .object("NetworkPolicy", &namespace.name, &spec.name)
        .await;
    let found = found.expect("an answer").expect("the policy");
    ObjectRef {
        kind: "NetworkPolicy".into(),
        namespace: namespace.name.clone(),
        name: spec.name.clone(),
        uid: found["metadata"]["uid"].as_str().expect("a UID").into(),
    }
}

#[tokio::test]
async fn nothing_is_changed_that_is_not_as_it_was_planned() {
    let Some(lab) = Lab::find() else { return };
    let namespace = lab.namespace("guard");
    namespace.pod("bare", &serde_json::json!({}));
    namespace.pod("web", &serde_json::json!({ "app": "web", "a.b/c_d": "x" }));
    let cluster = cluster(lab.kubeconfig()).await;
    let web = pod(&namespace, "web");
    let change = |object: &ObjectRef, expect: &[(&str, Option<&str>)]| LabelChange {
        object: object.clone(),
        expect: fields(expect),
        set: fields(&[("labels/firebreak/quarantine", Some("v"))]),
    };
    let refused = [
        change(&web, &[("labels/app", Some("api"))]),
        change(&web, &[("labels/app", None)]),
        change(&web, &[("labels/none", Some("x"))]),
        change(
            &ObjectRef {
                uid: "other".into(),
                ..web.clone()
            },
            &[],
        ),
    ];
    for change in &refused {
        for mode in [WriteMode::Preview, WriteMode::Apply] {
            let e = cluster
                .change
                .change_labels(change, mode)
                .await
                .expect_err("not as planned");
            assert_eq!(e.cause, Cause::Conflict, "{e}");
        }
    }
    assert!(
        namespace.object("pod/web")["metadata"]["labels"]
            .get(QUARANTINE)
            .is_none()
    );
    // A pod without any label, and keys that a path must escape.
    let bare = change(
        &pod(&namespace, "bare"),
        &[("labels/firebreak/quarantine", None)],
    );
    cluster
        .change
        .change_labels(&bare, WriteMode::Apply)
        .await
        .expect("the first label");
    let mut odd = change(&web, &[("labels/a.b/c_d", Some("x"))]);
    odd.set = fields(&[("labels/a.b/c_d", None), ("annotations/a~b/c", Some("y"))]);
    let e = cluster
        .change
        .change_labels(&odd, WriteMode::Apply)
        .await
        .expect_err("`~` is no key");
    assert_eq!(e.cause, Cause::Rejected, "{e}");
    odd.set = fields(&[("labels/a.b/c_d", None), ("annotations/a.b/c", Some("y"))]);
    cluster
        .change
        .change_labels(&odd, WriteMode::Apply)
        .await
        .expect("an escaped key");
    assert_eq!(
        namespace.object("pod/web")["metadata"]["labels"],
        serde_json::json!({ "app": "web" })
    );

    // A policy of our name that is somebody else's.
    let spec = deny(&namespace, "inc-2");
    namespace.apply(r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"firebreak-inc-2"},"spec":{"podSelector":{},"ingress":[{}]}}"#);
    let e = cluster
        .change
        .put_policy(&spec, WriteMode::Apply)
        .await
        .expect_err("not ours");
    assert_eq!(e.cause, Cause::Conflict, "{e}");
    let theirs = written_policy(&cluster, &namespace, &spec).await;
    assert_eq!(
        cluster
            .change
            .delete_policy(&theirs, WriteMode::Apply)
            .await
            .expect_err("not ours")
            .cause,
        Cause::Conflict
    );
    let recreated = ObjectRef {
        uid: "other".into(),
        ..web.clone()
    };
    assert_eq!(
        cluster
            .change
            .delete_pod(&recreated, WriteMode::Apply)
            .await
            .expect_err("another")
            .cause,
        Cause::Conflict
    );
    let probe = cluster.probe.sockets(&source(&recreated, "main")).await;
    assert_eq!(probe.expect_err("another pod").cause, Cause::Conflict);
    assert_eq!(
        cluster.change.delete_pod(&web, WriteMode::Preview).await,
        Ok(true)
    );
    assert_eq!(
        namespace.pods("app=web").len(),
        1,
        "a preview deletes nothing"
    );
    assert_eq!(
        cluster.change.delete_pod(&web, WriteMode::Apply).await,
        Ok(true)
    );
}

#[test]
fn a_lost_reply_and_a_server_that_is_gone_are_told_apart() {
    let Some(lab) = Lab::find() else { return };
    let namespace = lab.namespace("lost");
    let proxy = FaultProxy::start(&lab.kubeconfig(), &own_folder("adapter-lost"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let through = runtime.block_on(cluster(proxy.kubeconfig().into()));
    let put = |value: &str| {
        let spec = deny(&namespace, value);
        runtime.block_on(through.change.put_policy(&spec, WriteMode::Apply))
    };
    for (fault, name, there) in [
        (Fault::LostRequest, "before", false),
        (Fault::LostReply, "after", true),
        (Fault::Silence, "silence", false),
    ] {
        proxy.forget();
        proxy.lose(1, fault);
        let e = put(name).expect_err("lost");
        assert!(e.cause.may_have_happened(), "{e}");
        assert_eq!(proxy.writes().len(), 1, "a write is sent once");
        let policy = format!("networkpolicy/firebreak-{name}");
        assert_eq!(
            namespace.try_kubectl(["get", &policy]).status.success(),
            there
        );
    }
    let spent = put("after").expect("the same again");
    assert!(
        spent.already,
        "what happened is seen before it is sent again"
    );
    drop(proxy);
    assert_eq!(put("gone").expect_err("gone").cause, Cause::Unreachable);
}

#[tokio::test]
async fn logs_and_commands_are_copied_to_their_last_byte() {
    let Some(lab) = Lab::find() else { return };
    let shop = lab.shop();
    let cluster = cluster(lab.kubeconfig()).await;
    let web = pod(&shop.namespace, &shop.compromised);
    let log = |container: &str, previous| CaptureKind::Logs {
        container: container.into(),
        previous,
        tail_lines: None,
    };
    let (pages, _) = all(cluster.acquire.capture(&web, &log("pages", false)).await).await;
    assert!(
        pages.contains("pages written") && pages.starts_with("20"),
        "{pages}"
    );
    let agent = pod(&shop.namespace, &shop.namespace.pods("app=agent")[0]);
    let (before, _) = all(cluster.acquire.capture(&agent, &log("agent", true)).await).await;
    assert!(before.contains("first start failed"), "{before}");
    let none = cluster.acquire.capture(&web, &log("web", true)).await;
    assert!(matches!(
        none.err().expect("no previous log").cause,
        Cause::Rejected | Cause::NotFound
    ));

    let exec = |argv: &[&str]| CaptureKind::Exec {
        container: "web".into(),
        argv: argv.iter().map(|w| (*w).to_owned()).collect(),
    };
    let big = exec(&[
        "sh",
        "-c",
        "head -c 3000000 /dev/zero; echo noise >&2; head -c 1000000 /dev/zero >&2; exit 3",
    ]);
    let (out, exit) = all(cluster.acquire.capture(&web, &big).await).await;
    assert_eq!((out.len(), exit), (3_000_000, Some(3)));
    let mut missing = cluster
        .acquire
        .capture(&web, &exec(&["no-such-tool"]))
        .await
        .expect("it opens");
    let e = loop {
        match missing.next().await.expect("an end") {
            Err(e) => break e,
            Ok(piece) => assert!(!matches!(piece, Piece::End { .. }), "{piece:?}"),
        }
    };
    assert_eq!(e.cause, Cause::Unsupported, "{e}");

    let sockets = cluster
        .probe
        .sockets(&source(&web, "web"))
        .await
        .expect("sockets");
    assert!(sockets.listening.contains(&8080), "{sockets:?}");
    assert!(
        sockets
            .established
            .iter()
            .any(|c| c.ends_with(&format!("→ {OUTSIDE}:4444"))),
        "{sockets:?}"
    );
    cluster
        .probe
        .listen(&source(&web, "web"), 9099, Duration::from_secs(20))
        .await
        .expect("it listens");
    let client = pod(&shop.namespace, &shop.namespace.pods("app=client")[0]);
    let own = shop.namespace.address(&shop.compromised);
    let local = cluster
        .probe
        .connect(&source(&web, "web"), &tcp(&own, 9099), SECOND)
        .await
        .expect("a try");
    assert_eq!(local.tried, Tried::Open);
    let silent = cluster
        .probe
        .connect(
            &source(&client, "client"),
            &tcp("198.51.100.77", 443),
            SECOND,
        )
        .await;
    assert!(matches!(
        silent.expect("a try").tried,
        Tried::Silent | Tried::Refused
    ));
}

#[tokio::test]
async fn a_canary_runs_on_the_node_that_is_held_and_leaves_nothing() {
    let Some(lab) = Lab::find() else { return };
    let cluster = cluster(lab.kubeconfig()).await;
    let node = cluster
        .view
        .look(&LookScope::Namespaces(vec![]))
        .await
        .expect("a snapshot")
        .nodes
        .remove(0);
    let held = ObjectRef {
        kind: "Node".into(),
        namespace: String::new(),
        name: node.name.clone(),
        uid: node.uid.clone(),
    };
    let preview = cluster
        .change
        .cordon(&held, "inc-9", WriteMode::Preview)
        .await
        .expect("a preview");
    assert_eq!(preview.mutated, Vec::<String>::new());
    assert!(
        !cluster
            .view
            .node(&node.name)
            .await
            .expect("an answer")
            .expect("the node")
            .unschedulable
    );
    let written = cluster
        .change
        .cordon(&held, "inc-9", WriteMode::Apply)
        .await
        .expect("held");
    assert!(!written.already && written.mutated.is_empty());
    assert!(
        cluster
            .change
            .cordon(&held, "inc-9", WriteMode::Apply)
            .await
            .expect("again")
            .already
    );
    let canary = CanarySpec {
        namespace: "firebreak-hands".into(),
        name: "canary-inc-9".into(),
        node: node.name.clone(),
        image: "localhost/busybox:1".into(),
        quarantine: "inc-9".into(),
    };
    let pods = cluster.change.put_canary(&canary, 60).await;
    let probe = cluster.change.put_probe_pod(&canary, 60).await;
    let released = cluster
        .change
        .uncordon(&held, "inc-9", true, WriteMode::Apply)
        .await
        .expect("released");
    assert!(released.mutated.is_empty());
    let after = cluster
        .view
        .node(&node.name)
        .await
        .expect("an answer")
        .expect("the node");
    assert!(
        !after.unschedulable && !after.taints.iter().any(|t| t.starts_with("firebreak")),
        "{after:?}"
    );

    let (pods, probe) = (pods.expect("a canary"), probe.expect("a probe pod"));
    assert_eq!(pods.len(), 2);
    let to = cluster
        .view
        .pod(&PodName {
            namespace: canary.namespace.clone(),
            name: pods[1].name.clone(),
        })
        .await;
    let to = to.expect("an answer").expect("the second pod");
    wait_for("the canary to listen", || {
        let name = pods[1].name.as_str();
        let said = lab.kubectl([
            "-n",
            "firebreak-hands",
            "exec",
            name,
            "--",
            "cat",
            "/proc/net/tcp",
            "/proc/net/tcp6",
        ]);
        said.contains(":1F90").then_some(())
    });
    for from in [&pods[0], &probe] {
        let tried = cluster
            .probe
            .connect(&source(from, "canary"), &tcp(&to.ips[0], 8080), SECOND)
            .await;
        assert_eq!(tried.expect("a try").tried, Tried::Open);
    }
    let none = CanarySpec {
        image: "localhost/none:1".into(),
        name: "canary-none".into(),
        ..canary.clone()
    };
    let e = cluster
        .change
        .put_canary(&none, 60)
        .await
        .expect_err("no such image");
    assert_eq!(e.cause, Cause::Unsupported, "{e}");
    cluster.change.delete_canary(&none).await.expect("removed");
    cluster
        .change
        .delete_canary(&canary)
        .await
        .expect("removed");
    cluster
        .change
        .delete_canary(&canary)
        .await
        .expect("removed again");
    wait_for("the namespace to go", || {
        (!lab
            .try_kubectl(["get", "namespace", "firebreak-hands"])
            .status
            .success())
        .then_some(())
    });
}

#[tokio::test]
async fn an_admission_policy_that_refuses_is_found_by_the_preview() {
    let Some(lab) = Lab::find() else { return };
    let namespace = lab.namespace("admission");
    let name = namespace.name.clone();
    let policy = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": name },
          "spec": { "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{ "apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"],
              "operations": ["CREATE"], "resources": ["networkpolicies"] }] },
            "validations": [{ "expression": "false", "message": "no policies here" }] } },
        { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name },
          "spec": { "policyName": name, "validationActions": ["Deny"], "matchResources": {
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } } } } ] });
    lab.apply(&policy.to_string());
    let cluster = cluster(lab.kubeconfig()).await;
    let spec = deny(&namespace, "inc-1");
    let began = std::time::Instant::now();
    let e = loop {
        match cluster.change.put_policy(&spec, WriteMode::Preview).await {
            Err(e) => break e,
            Ok(_) => assert!(
                began.elapsed() < support::lab::PATIENCE,
                "the policy never refused"
            ),
        }
    };
    lab.try_kubectl([
        "delete",
        "validatingadmissionpolicy,validatingadmissionpolicybinding",
        &name,
    ]);
    assert_eq!(e.cause, Cause::Rejected, "{e}");
    assert!(e.detail.contains("no policies here"), "{e}");
}

#[tokio::test]
async fn a_bad_token_and_a_foreign_certificate_are_named_as_such() {
    let Some(lab) = Lab::find() else { return };
    let folder = own_folder("adapter-credentials");
    let text = lab.kubectl(["config", "view", "--raw", "-o", "json"]);
    let with = |name: &str, edit: &dyn Fn(&mut serde_json::Value)| {
        let mut config: serde_json::Value =
            serde_json::from_str(&text).expect("kubectl prints JSON");
        edit(&mut config);
        let path = folder.join(name);
        std::fs::write(&path, config.to_string()).expect("the test's folder can be written");
        path
    };
    let token = with("token", &|c| {
        c["users"][0]["user"] = serde_json::json!({ "token": "planted-s3cr3t" })
    });
    let e = cluster(token)
        .await
        .view
        .identity()
        .await
        .expect_err("a bad token");
    assert!(
        e.cause == Cause::Refused && e.detail.contains("does not accept these credentials"),
        "{e}"
    );
    assert!(!e.to_string().contains("s3cr3t"));

    let other = with("certificate", &|c| {
        let cluster = c["clusters"][0]["cluster"]
            .as_object_mut()
            .expect("a cluster");
        cluster.remove("certificate-authority");
        cluster.remove("certificate-authority-data");
    });
    let e = cluster(other)
        .await
        .view
        .identity()
        .await
        .expect_err("an unknown authority");
    assert!(
        e.cause == Cause::Unreachable && e.detail.contains("certificate"),
        "{e}"
    );

    let gone = with("gone", &|c| {
        c["clusters"][0]["cluster"]["server"] = serde_json::json!("https://127.0.0.1:1")
    });
    let through = cluster(gone).await;
    let e = through.view.identity().await.expect_err("nobody there");
    assert!(
        e.cause == Cause::Unreachable && e.detail.contains("cannot be reached"),
        "{e}"
    );
    let e = through
        .view
        .look(&LookScope::Cluster)
        .await
        .expect_err("nobody there");
    assert_eq!(
        e.cause,
        Cause::Unreachable,
        "an empty snapshot would read as an empty cluster"
    );
}
