//! What is seen, and what may not be seen.

use super::*;

#[tokio::test]
async fn a_missing_right_refuses_by_name_and_hides_lists() {
    let lab = Lab::with(|w| {
        w.missing_rights = vec![
            Right::new("", "pods", "patch"),
            Right::new("", "services", "list"),
        ];
    });
    let pod = lab.target();
    let error = lab
        .sim
        .change_labels(&quarantine(&pod), WriteMode::Preview)
        .await
        .expect_err("right");
    assert_eq!(error.cause, Cause::Refused);
    assert!(error.detail.contains("patch pods in shop"), "{error}");
    let seen = lab.sim.look(&LookScope::Cluster).await.expect("look");
    assert!(seen.services.is_empty() && seen.unread.len() == 1 && !seen.pods.is_empty());
    let right = Right::new("", "pods", "patch").within(NAMESPACE);
    assert_eq!(
        lab.sim
            .may(std::slice::from_ref(&right))
            .await
            .expect("may")[0]
            .allowed,
        Some(false)
    );
    assert_eq!(
        lab.sim.roles_with(&right).await.expect("roles"),
        ["ClusterRole/firebreak-contain"]
    );
}

#[tokio::test]
async fn a_look_may_be_narrowed_to_namespaces() {
    let seen = Lab::new()
        .sim
        .look(&LookScope::Namespaces(vec![NAMESPACE.into()]))
        .await
        .expect("look");
    assert!(seen.pods.iter().all(|p| p.namespace == NAMESPACE) && seen.pods.len() == 5);
    assert!(seen.nodes.len() == 2 && seen.namespaces.len() == 3);
}

#[tokio::test]
async fn an_image_without_tools_is_unsupported() {
    let lab = Lab::new();
    let uid = lab.target().uid;
    lab.sim
        .meddle(|w| w.inside.get_mut(&uid).expect("inside").bare_image = true)
        .expect("saved");
    let at = source(&lab.target());
    assert_eq!(
        lab.sim
            .connect(&at, &to("10.96.0.1", 443), LIMIT)
            .await
            .expect_err("nc")
            .cause,
        Cause::Unsupported
    );
    assert_eq!(
        lab.sim.sockets(&at).await.expect_err("proc").cause,
        Cause::Unsupported
    );
    let exec = CaptureKind::Exec {
        container: "web".into(),
        argv: vec!["ps".into()],
    };
    let error = lab.sim.capture(&at.pod, &exec).await.err().expect("exec");
    assert_eq!(error.cause, Cause::Unsupported);
}

#[tokio::test]
async fn logs_show_the_intrusion_whole_in_tail_and_of_the_instance_before() {
    let lab = Lab::new();
    let pod = reference(&lab.target());
    let logs = |previous, tail_lines| CaptureKind::Logs {
        container: "web".into(),
        previous,
        tail_lines,
    };
    let (all, ..) = read_all(
        lab.sim
            .capture(&pod, &logs(false, None))
            .await
            .expect("log"),
    )
    .await;
    assert!(
        all.contains("x.sh|sh")
            && all.contains("/tmp/.cache/kworkerd")
            && all.contains("-e /bin/sh")
    );
    let (tail, ..) = read_all(
        lab.sim
            .capture(&pod, &logs(false, Some(3)))
            .await
            .expect("tail"),
    )
    .await;
    assert!(all.ends_with(&tail) && tail.lines().count() == 3);
    let (before, ..) = read_all(
        lab.sim
            .capture(&pod, &logs(true, None))
            .await
            .expect("previous"),
    )
    .await;
    assert!(before.contains("panicked"));
    let sibling = reference(&lab.sibling());
    assert_eq!(
        lab.sim
            .capture(&sibling, &logs(true, None))
            .await
            .err()
            .expect("none")
            .cause,
        Cause::Rejected
    );
}

#[tokio::test]
async fn proc_files_and_processes_tell_of_the_open_connection() {
    let lab = Lab::new();
    let pod = reference(&lab.target());
    let exec = |argv: &[&str]| CaptureKind::Exec {
        container: "web".into(),
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
    };
    let (tcp, exit, _) = read_all(
        lab.sim
            .capture(&pod, &exec(&["cat", "/proc/net/tcp"]))
            .await
            .expect("cat"),
    )
    .await;
    assert_eq!(exit, Some(0));
    assert!(
        tcp.contains("0A6433C6:115C 01"),
        "198.51.100.10:4444 established\n{tcp}"
    );
    assert!(
        tcp.contains("00000000:1F90 00000000:0000 0A"),
        "8080 listens\n{tcp}"
    );
    let (ps, ..) = read_all(
        lab.sim
            .capture(&pod, &exec(&["ps", "-ef"]))
            .await
            .expect("ps"),
    )
    .await;
    assert!(ps.contains("kworkerd"));
    let (_, exit, stderr) =
        read_all(lab.sim.capture(&pod, &exec(&["lsof"])).await.expect("lsof")).await;
    assert_eq!((exit, stderr.as_str()), (Some(127), "lsof: not found"));
}

#[tokio::test]
async fn objects_answer_in_the_shape_of_the_api() {
    let lab = Lab::new();
    let pod = lab
        .sim
        .object("Pod", NAMESPACE, COMPROMISED)
        .await
        .expect("read")
        .expect("there");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "ReplicaSet");
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 1);
    let policy = lab
        .sim
        .object("NetworkPolicy", NAMESPACE, "allow-api-from-web")
        .await
        .expect("read")
        .expect("there");
    assert_eq!(
        policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]["app"],
        "web"
    );
    let deployment = lab
        .sim
        .object("Deployment", NAMESPACE, "web")
        .await
        .expect("read")
        .expect("there");
    assert_eq!(deployment["spec"]["selector"]["matchLabels"]["app"], "web");
    assert_eq!(
        lab.sim
            .object("Pod", NAMESPACE, "nobody")
            .await
            .expect("read"),
        None
    );
    let uid = lab.target().uid;
    assert_eq!(
        lab.sim.events(NAMESPACE, &uid).await.expect("events").len(),
        2
    );
    let name = PodName {
        namespace: NAMESPACE.into(),
        name: COMPROMISED.into(),
    };
    assert_eq!(lab.sim.pod(&name).await.expect("pod"), Some(lab.target()));
}
