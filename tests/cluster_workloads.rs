//! Consumers in a real cluster: the Secret they read from is written only as it was seen, and they are rolled out once. Needs a lab, see
//! `tests/run`.
#![cfg(feature = "adapters")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use firebreak::adapter::kube::{ConnectOptions, connect};
use firebreak::adapter::postgres::PostgresServers;
use firebreak::incident::body::ObjectRef;
use firebreak::port::{
    Cause, Database, HostRandom, Login, LoginAnswer, Rollout, Secret, SecretWrite, WORKLOAD_RIGHTS,
    Workloads,
};
use firebreak::rotation::password::{generate, scram_verifier};
use serde_json::json;
use support::lab::{Lab, Namespace, PATIENCE, wait_for};
use support::own_folder;

/// A consumer that does not start with the password `wrong`, and others that use the Secret in other ways.
const CONSUMERS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: db}
stringData: {password: Planted-old-1, user: shop}
data: {key.der: /w==}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {reloader.stakater.com/search: "true"}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: localhost/busybox:1
        imagePullPolicy: Never
        command: [sh, -c, '[ "$PASSWORD" != wrong ] || exit 1; exec sleep 86400']
        env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}]
        volumeMounts: [{name: db, mountPath: /etc/password, subPath: password}]
      volumes: [{name: db, secret: {secretName: db}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: other}
spec:
  replicas: 0
  selector: {matchLabels: {app: other}}
  template:
    metadata: {labels: {app: other}}
    spec: {containers: [{name: other, image: localhost/busybox:1}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: queue, annotations: {secret.reloader.stakater.com/reload: db}}
spec:
  serviceName: queue
  replicas: 0
  selector: {matchLabels: {app: queue}}
  template:
    metadata: {labels: {app: queue}}
    spec:
      containers: [{name: queue, image: localhost/busybox:1, envFrom: [{secretRef: {name: db}}]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 0 1 1 *"
  suspend: true
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: nightly, image: localhost/busybox:1}]
          volumes: [{name: p, projected: {sources: [{secret: {name: db}}]}}]
---
apiVersion: v1
kind: Pod
metadata: {name: legacy}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: legacy, image: localhost/busybox:1, imagePullPolicy: Never, command: [sleep, "86400"], envFrom: [{secretRef: {name: db}}]}]
"#;

/// The port with an account that holds [`WORKLOAD_RIGHTS`] and nothing else.
async fn with_least_rights(lab: &Lab, namespace: &Namespace) -> Arc<dyn Workloads> {
    let rules = WORKLOAD_RIGHTS.map(|(group, resource, verb)| {
        json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] })
    });
    let folder = own_folder("workloads");
    let options = ConnectOptions {
        kubeconfig: Some(lab.account(namespace, &json!(rules), &folder)),
        ..ConnectOptions::default()
    };
    let connected = connect(&options).await;
    connected.expect("the kubeconfig is read").workloads
}

fn object(namespace: &Namespace, kind: &str, name: &str) -> ObjectRef {
    let found = namespace.object(&format!("{kind}/{name}"));
    ObjectRef {
        kind: kind.into(),
        namespace: namespace.name.clone(),
        name: name.into(),
        uid: found["metadata"]["uid"].as_str().expect("a UID").into(),
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.into())
}

/// Writes one key.
async fn write(
    workloads: &Arc<dyn Workloads>,
    object: &ObjectRef,
    key: &str,
    from: Option<&str>,
    to: &str,
) -> Result<ObjectRef, firebreak::port::PortError> {
    let (from, to) = (from.map(secret), secret(to));
    let change = SecretWrite {
        object,
        expect: [(key.to_owned(), from.as_ref())].into(),
        set: [(key.to_owned(), &to)].into(),
    };
    workloads.write_secret(&change).await
}

async fn wait_for_rollout(
    workloads: &Arc<dyn Workloads>,
    workload: &ObjectRef,
    wanted: impl Fn(&Rollout) -> bool,
) -> Rollout {
    let waits = async {
        loop {
            let now = workloads.rollout(workload).await.expect("it is looked at");
            if wanted(&now) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waits).await;
    waited.expect("the rollout gets there")
}

#[tokio::test]
async fn a_secret_is_written_only_as_it_was_seen_and_no_error_holds_its_value() {
    let Some(lab) = Lab::find() else { return };
    let ns = lab.namespace("secrets");
    ns.apply(CONSUMERS);
    let workloads = with_least_rights(&lab, &ns).await;
    let seen = workloads.secret(&ns.name, "db").await.expect("it is read");
    assert_eq!(seen.data["password"].expose_secret(), "Planted-old-1");
    assert_eq!(
        (seen.binary.as_slice(), seen.immutable),
        (&["key.der".to_owned()][..], false)
    );
    assert!(seen.written_by.is_none() && !seen.managers.is_empty());

    let db = seen.object.clone();
    for _ in 0..2 {
        let done = write(
            &workloads,
            &db,
            "password",
            Some("Planted-old-1"),
            "Planted-new-2",
        )
        .await;
        assert_eq!(done.expect("written, and again after a lost reply"), db);
    }
    let done = write(&workloads, &db, "next", None, "Planted-new-3").await;
    done.expect("what must be absent is");
    let now = workloads.secret(&ns.name, "db").await.expect("it is read");
    assert_eq!(now.data["password"].expose_secret(), "Planted-new-2");
    assert_eq!(now.data["next"].expose_secret(), "Planted-new-3");
    assert_eq!(now.data["user"].expose_secret(), "shop");
    assert_eq!(now.managers.last().map(String::as_str), Some("firebreak"));

    let mut other = db.clone();
    other.uid = "00000000-0000-0000-0000-000000000000".into();
    ns.kubectl(["create", "secret", "generic", "empty"]);
    ns.kubectl([
        "create",
        "secret",
        "generic",
        "fixed",
        "--from-literal=k=Planted-4",
    ]);
    ns.kubectl(["patch", "secret", "fixed", "-p", r#"{"immutable": true}"#]);
    let (empty, fixed) = (
        object(&ns, "Secret", "empty"),
        object(&ns, "Secret", "fixed"),
    );
    let gone = ObjectRef {
        name: "gone".into(),
        ..db.clone()
    };
    for (object, key, from, cause) in [
        (&db, "password", Some("Planted-old-1"), Cause::Conflict),
        (&db, "next", None, Cause::Conflict),
        (&db, "missing", Some("Planted-6"), Cause::Conflict),
        (&other, "password", Some("Planted-new-2"), Cause::Conflict),
        (&fixed, "k", Some("Planted-4"), Cause::Rejected),
        (&gone, "k", Some("Planted-4"), Cause::NotFound),
        (&db, "not/a/key", None, Cause::Rejected),
    ] {
        let e = write(&workloads, object, key, from, "Planted-5")
            .await
            .expect_err(key);
        assert_eq!(e.cause, cause, "{e}");
        assert!(
            !e.to_string().contains("Planted") && !e.to_string().contains("UGxhbnRl"),
            "{e}"
        );
    }
    write(&workloads, &empty, "k", None, "v")
        .await
        .expect("a Secret without data takes some");
    // The server itself holds to the tests of the patch: absence, and another value.
    for old in ["null", r#""eA==""#] {
        let patch = format!(
            r#"[{{"op":"test","path":"/data/password","value":{old}}},{{"op":"remove","path":"/data/password"}}]"#
        );
        let refused = ns.try_kubectl(["patch", "secret", "db", "--type=json", "-p", &patch]);
        assert!(!refused.status.success(), "a test of {old} passed");
    }
}

#[tokio::test]
async fn a_workload_is_rolled_out_once_and_its_trouble_is_told() {
    let Some(lab) = Lab::find() else { return };
    let ns = lab.namespace("rollout");
    ns.apply(CONSUMERS);
    let workloads = with_least_rights(&lab, &ns).await;
    let web = object(&ns, "Deployment", "web");
    let first = wait_for_rollout(&workloads, &web, Rollout::complete).await;
    assert_eq!((first.desired, first.restarted_by.as_deref()), (2, None));

    let mut consumers = workloads
        .consumers(&ns.name, "db")
        .await
        .expect("they are found");
    consumers.sort_by(|a, b| a.object.name.cmp(&b.object.name));
    let said: Vec<String> = consumers
        .iter()
        .map(|c| {
            let (rolls, reloads) = (c.rollable, c.reloader);
            format!(
                "{} {} {} {rolls} {reloads}",
                c.object.kind,
                c.object.name,
                c.how.join("+")
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            "Pod legacy envFrom false false",
            "CronJob nightly projected false false",
            "StatefulSet queue envFrom true true",
            "Deployment web env+volume+subPath true false",
        ]
    );
    ns.kubectl([
        "annotate",
        "secret",
        "db",
        "reloader.stakater.com/match=true",
    ]);
    let again = workloads
        .consumers(&ns.name, "db")
        .await
        .expect("they are found");
    assert!(again.iter().any(|c| c.object.name == "web" && c.reloader));

    // The same annotation again starts nothing.
    let generation = || ns.object("deployment/web")["metadata"]["generation"].clone();
    workloads
        .restart(&web, Some("run-1"))
        .await
        .expect("it is rolled out");
    let started = generation();
    workloads
        .restart(&web, Some("run-1"))
        .await
        .expect("it is so already");
    assert_eq!(generation(), started);
    let second = wait_for_rollout(&workloads, &web, |r| {
        r.complete() && r.oldest_pod > first.oldest_pod
    });
    assert_eq!(second.await.restarted_by.as_deref(), Some("run-1"));

    // A password that the consumer cannot live with.
    let db = object(&ns, "Secret", "db");
    let bad = write(&workloads, &db, "password", Some("Planted-old-1"), "wrong").await;
    bad.expect("it is written");
    workloads
        .restart(&web, Some("run-2"))
        .await
        .expect("it is rolled out");
    let stuck = wait_for_rollout(&workloads, &web, |r| {
        let trouble = r.trouble.as_deref().unwrap_or_default();
        trouble.starts_with("CrashLoopBackOff in web-")
    });
    let stuck = stuck.await;
    assert!(!stuck.complete() && stuck.available > 0, "{stuck:?}");
    // And back.
    let back = write(&workloads, &db, "password", Some("wrong"), "Planted-old-1").await;
    back.expect("it is written back");
    workloads
        .restart(&web, None)
        .await
        .expect("it is taken back");
    workloads
        .restart(&web, None)
        .await
        .expect("it is so already");
    let healthy = wait_for_rollout(&workloads, &web, Rollout::complete).await;
    assert_eq!((healthy.restarted_by, healthy.trouble), (None, None));

    let role =
        |arn: &str| BTreeMap::from([("eks.amazonaws.com/role-arn".to_owned(), arn.to_owned())]);
    let put = async |arn: &str| {
        workloads
            .put_service_account(&ns.name, "web-2", &role(arn))
            .await
    };
    let made = put("arn:1").await.expect("it is made");
    assert_eq!(put("arn:1").await.expect("it is there"), made);
    assert_eq!(
        put("arn:2").await.expect_err("another").cause,
        Cause::Conflict
    );
    let moved = async |from: &str| workloads.move_service_account(&web, from, "web-2").await;
    assert_eq!(
        moved("other").await.expect_err("not from there").cause,
        Cause::Conflict
    );
    moved("default").await.expect("it is moved");
    moved("default").await.expect("it is there already");
    let there = workloads.rollout(&web).await.expect("it is looked at");
    assert_eq!(there.service_account, "web-2");

    let mut replaced = web.clone();
    replaced.uid = "00000000-0000-0000-0000-000000000000".into();
    let e = workloads
        .restart(&replaced, Some("run-3"))
        .await
        .expect_err("another one");
    assert_eq!(e.cause, Cause::Conflict, "{e}");
}

#[tokio::test]
async fn a_password_is_replaced_under_a_consumer_that_logs_in_all_the_time() {
    let Some(lab) = Lab::find() else { return };
    let ns = lab.namespace("orders");
    let Some(orders) = lab.orders(&ns) else {
        return;
    };
    let (servers, role) = (PostgresServers::new(), ns.name.clone());
    let workloads = with_least_rights(&lab, &ns).await;
    let secret = workloads
        .secret(&ns.name, "orders-db")
        .await
        .expect("it is read");
    let old = &secret.data["password"];
    let new = generate(&HostRandom).expect("the host has randomness");
    let login = |password: &Secret| Login {
        role: role.clone(),
        password: password.duplicate(),
    };

    let verifier = scram_verifier(&new);
    let set = servers.set_verifier(&orders.primary, &orders.admin, &role, &verifier);
    set.await.expect("it is set");
    let change = SecretWrite {
        object: &secret.object,
        expect: [("password".to_owned(), Some(old))].into(),
        set: [("password".to_owned(), &new)].into(),
    };
    workloads
        .write_secret(&change)
        .await
        .expect("it is written");
    let found = workloads
        .consumers(&ns.name, "orders-db")
        .await
        .expect("they are found");
    assert_eq!(found.len(), 1, "{found:?}");
    let consumer = &found[0].object;
    workloads
        .restart(consumer, Some("run-1"))
        .await
        .expect("it is rolled out");
    wait_for_rollout(&workloads, consumer, Rollout::complete).await;

    let seen = servers.role(&orders.primary, &orders.admin, &role).await;
    let t_set = seen.expect("it is seen").server_now;
    for server in [&orders.primary, &orders.replica] {
        let ended = servers
            .end_sessions(server, &orders.admin, &role, t_set)
            .await;
        assert_eq!(ended.expect("they are ended").out_of_reach, 0);
        let refused = servers.try_login(server, &login(old)).await;
        let LoginAnswer::Refused { sqlstate, .. } = refused.expect("the server answers") else {
            panic!("the old password opens {server}");
        };
        assert_eq!(sqlstate, "28P01");
        let accepted = servers.try_login(server, &login(&new)).await;
        let accepted = accepted.expect("the server answers");
        assert!(
            matches!(accepted, LoginAnswer::Accepted { .. }),
            "{accepted:?}"
        );
    }
    // The consumer's open session was ended, and it is back by itself.
    wait_for("orders to open its session again", || {
        let pods = ns.pods("app=orders");
        // An old pod may still be on its way out.
        let log = |pod: &String| ns.try_kubectl(["logs", pod]).stdout;
        let log = |pod: &String| String::from_utf8_lossy(&log(pod)).into_owned();
        let back = |log: String| log.contains("session ended") && log.trim().ends_with("accepted");
        pods.iter().map(log).all(back).then_some(())
    });
}
