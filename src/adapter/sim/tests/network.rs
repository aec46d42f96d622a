//! What the network and the controllers do after a change.

use super::*;

#[tokio::test]
async fn the_shop_works_before_anybody_touches_it() {
    let lab = Lab::new();
    let (web, api) = (lab.target(), lab.pod("api-6c5b79d8f4-k8s2v"));
    let db = lab.pod("db-5f7bd69c48-r6m8j");
    assert_eq!(lab.try_from(&web, &api.ips[0], 9090).await, Tried::Open);
    assert_eq!(lab.try_from(&web, &db.ips[0], 5432).await, Tried::Silent);
    assert_eq!(lab.try_from(&api, &db.ips[0], 5432).await, Tried::Open);
    assert_eq!(lab.try_from(&web, "198.51.100.10", 4444).await, Tried::Open);
    assert_eq!(lab.try_from(&web, "192.0.2.1", 4444).await, Tried::Silent);
    assert_eq!(lab.try_from(&web, "10.96.0.1", 443).await, Tried::Open);
    assert_eq!(lab.try_from(&api, &web.ips[0], 8080).await, Tried::Open);
    assert_eq!(lab.try_from(&api, &web.ips[0], 8081).await, Tried::Silent);
    let service = lab.sim.world().cluster.services[0].cluster_ip.clone();
    assert_eq!(lab.try_from(&api, &service, 8080).await, Tried::Open);
}

#[tokio::test]
async fn the_label_alone_does_not_contain_and_moving_out_does() {
    let lab = Lab::new();
    let (web, sibling) = (lab.target(), lab.sibling());
    isolate(&lab).await;
    assert_eq!(
        lab.try_from(&web, "198.51.100.10", 4444).await,
        Tried::Silent
    );
    assert_eq!(
        lab.try_from(&sibling, &web.ips[0], 8080).await,
        Tried::Open,
        "allow-web still allows"
    );
    lab.sim
        .change_labels(&move_out(&web), WriteMode::Apply)
        .await
        .expect("moved");
    assert_eq!(
        lab.try_from(&sibling, &web.ips[0], 8080).await,
        Tried::Silent
    );
    assert_eq!(
        lab.try_from(&sibling, "198.51.100.10", 4444).await,
        Tried::Open,
        "the sibling keeps its flows"
    );
    let node = lab.try_from(&web, &web.host_ip, 6443).await;
    assert_eq!(node, Tried::Open, "a pod always reaches its own node");
}

#[tokio::test]
async fn a_pod_that_left_its_selector_is_released_replaced_and_out_of_its_service() {
    let lab = Lab::new();
    let web = lab.target();
    isolate(&lab).await;
    lab.sim
        .change_labels(&move_out(&web), WriteMode::Apply)
        .await
        .expect("moved");
    let world = lab.sim.world();
    assert_eq!(lab.target().owner, None);
    let owned: Vec<&Pod> = world
        .cluster
        .pods
        .iter()
        .filter(|p| p.owner.as_ref().is_some_and(|o| o.name == "web-7d9f8c6b5d"))
        .collect();
    assert_eq!(owned.len(), 2);
    let slice = world
        .cluster
        .endpoint_slices
        .iter()
        .find(|s| s.service == "web")
        .expect("slice");
    let uids: Vec<_> = slice
        .endpoints
        .iter()
        .filter_map(|e| e.pod_uid.as_deref())
        .collect();
    assert_eq!(uids.len(), 2);
    assert!(!uids.contains(&web.uid.as_str()));
}

#[tokio::test]
async fn a_released_pod_is_adopted_again_and_the_younger_one_goes() {
    let lab = Lab::new();
    let web = lab.target();
    isolate(&lab).await;
    lab.sim
        .change_labels(&move_out(&web), WriteMode::Apply)
        .await
        .expect("moved");
    let back = LabelChange {
        object: reference(&web),
        expect: BTreeMap::new(),
        set: BTreeMap::from([
            ("labels/app".into(), Some("web".into())),
            ("labels/pod-template-hash".into(), Some("7d9f8c6b5d".into())),
        ]),
    };
    lab.sim
        .change_labels(&back, WriteMode::Apply)
        .await
        .expect("back");
    assert_eq!(lab.target().owner, web.owner);
    let names: Vec<String> = lab
        .sim
        .world()
        .cluster
        .pods
        .iter()
        .filter(|p| p.labels.get("app").is_some_and(|a| a == "web"))
        .map(|p| p.name.clone())
        .collect();
    assert_eq!(names, [COMPROMISED, "web-7d9f8c6b5d-m4k9z"]);
}

#[tokio::test]
async fn a_late_plugin_enforces_after_so_many_probes_and_a_stopped_one_never() {
    let lab = Lab::with(|w| w.enforcing = Enforcing::Late(2));
    let web = lab.target();
    isolate(&lab).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(lab.reborn().try_from(&web, "198.51.100.10", 4444).await);
    }
    assert_eq!(seen, [Tried::Open, Tried::Open, Tried::Silent]);

    let lab = Lab::with(|w| w.enforcing = Enforcing::Never);
    isolate(&lab).await;
    assert_eq!(
        lab.try_from(&lab.target(), "198.51.100.10", 4444).await,
        Tried::Open
    );
}

#[tokio::test]
async fn a_deny_cuts_open_connections_as_the_shops_plugin_looks_at_every_packet() {
    let lab = Lab::new();
    let web = lab.target();
    let open = || async {
        let sockets = lab.sim.sockets(&source(&web)).await.expect("sockets");
        sockets.established.len()
    };
    assert_eq!(open().await, 1);
    isolate(&lab).await;
    assert_eq!(open().await, 0);
}

#[tokio::test]
async fn a_listener_answers_and_open_connections_survive_a_plugin_that_lets_them_be() {
    let lab = Lab::with(|w| w.keeps_connections = true);
    let (web, sibling) = (lab.target(), lab.sibling());
    lab.sim
        .meddle(|w| w.cluster.policies.clear())
        .expect("saved");
    assert_eq!(
        lab.try_from(&sibling, &web.ips[0], 7777).await,
        Tried::Refused
    );
    lab.sim
        .listen(&source(&web), 7777, LIMIT)
        .await
        .expect("listen");
    assert_eq!(lab.try_from(&sibling, &web.ips[0], 7777).await, Tried::Open);
    isolate(&lab).await;
    let sockets = lab.sim.sockets(&source(&web)).await.expect("sockets");
    assert!(
        sockets
            .established
            .iter()
            .any(|l| l.ends_with("→ 198.51.100.10:4444"))
    );
    assert!(sockets.listening.contains(&8080));
}

#[tokio::test]
async fn a_canary_runs_on_its_node_proves_enforcement_and_leaves_nothing() {
    let lab = Lab::new();
    let before = lab.sim.world().cluster;
    let spec = canary("ip-10-0-3-7");
    let pods = lab.sim.put_canary(&spec, 5).await.expect("canary");
    assert_eq!(
        pods,
        lab.sim.put_canary(&spec, 5).await.expect("again"),
        "idempotent"
    );
    let [a, b] = [0, 1].map(|n| {
        lab.sim
            .world()
            .pod("firebreak-hands", &pods[n].name)
            .expect("pod")
            .clone()
    });
    assert!(a.node == spec.node && b.node == spec.node);
    lab.sim
        .listen(&source(&b), 7777, LIMIT)
        .await
        .expect("listen");
    assert_eq!(lab.try_from(&a, &b.ips[0], 7777).await, Tried::Open);
    let mut policy = deny();
    policy.namespace.clone_from(&spec.namespace);
    let written = lab
        .sim
        .put_policy(&policy, WriteMode::Apply)
        .await
        .expect("deny");
    lab.sim
        .change_labels(&quarantine(&b), WriteMode::Apply)
        .await
        .expect("label");
    assert_eq!(lab.try_from(&a, &b.ips[0], 7777).await, Tried::Silent);
    lab.sim
        .delete_policy(&written.object, WriteMode::Apply)
        .await
        .expect("gone");
    assert_eq!(lab.try_from(&a, &b.ips[0], 7777).await, Tried::Open);
    lab.sim.delete_canary(&spec).await.expect("removed");
    lab.sim.delete_canary(&spec).await.expect("idempotent");
    assert_eq!(lab.sim.world().cluster, before);
    let none = CanarySpec {
        image: "nowhere".into(),
        ..spec
    };
    assert_eq!(
        lab.sim.put_canary(&none, 5).await.expect_err("image").cause,
        Cause::Rejected
    );
}
