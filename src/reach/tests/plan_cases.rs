//! Named cases of the isolation plan.

use super::worlds::*;
use crate::reach::cluster::*;
use crate::reach::isolation::*;

fn shop() -> ClusterSnapshot {
    let mut world = ClusterSnapshot::default();
    world
        .namespaces
        .insert("shop".into(), labels("kubernetes.io/metadata.name=shop"));
    for n in 1..=3 {
        let mut p = pod(
            "shop",
            &format!("web-7d9-{n}"),
            "app=web,pod-template-hash=7d9",
            &format!("10.244.0.{n}"),
        );
        p.owner = Some(Owner {
            kind: "ReplicaSet".into(),
            name: "web-7d9".into(),
            uid: "rs-1".into(),
        });
        world.pods.push(p);
    }
    world.controllers.push(Controller {
        kind: "ReplicaSet".into(),
        namespace: "shop".into(),
        name: "web-7d9".into(),
        uid: "rs-1".into(),
        selector: selector("app=web,pod-template-hash=7d9"),
        replicas: 3,
        owner: None,
    });
    world.services.push(Service {
        namespace: "shop".into(),
        name: "web".into(),
        selector: Some(labels("app=web")),
        ..Service::default()
    });
    let mut allow = policy("shop", "allow-web", "app=web");
    allow.ingress = vec![rule(vec![tcp(80)], vec![])];
    world.policies.push(allow);
    world
}

fn wish() -> Wish {
    Wish {
        containment: "inc-1-0a0b0c0d".into(),
        phase_a_only: false,
        named: false,
    }
}

fn plan(world: &ClusterSnapshot) -> IsolationPlan {
    Planner::new(world).plan(&world.pods[0], &wish())
}

#[test]
fn a_replicaset_pod_moves_out_of_service_controller_and_policy() {
    let plan = plan(&shop());
    assert_eq!(plan.refused, None);
    assert!(plan.has_phase_b() && plan.in_the_end.is_denied());
    assert_eq!(plan.services_leaving, vec!["Service shop/web"]);
    assert!(!plan.after_a.is_denied(), "A alone does not contain");
    assert!(
        plan.replacement
            .expect("a replacement")
            .contains("3 wanted")
    );
}

#[test]
fn a_policy_that_selects_everybody_is_named_as_still_allowing() {
    let mut world = shop();
    let mut all = policy("shop", "allow-dns", "");
    all.egress = vec![rule(
        vec![PolicyPort {
            protocol: Protocol::Udp,
            ..tcp(53)
        }],
        vec![],
    )];
    all.policy_types = Some(vec![Direction::Egress]);
    world.policies.push(all);
    let plan = plan(&world);
    let lines = plan.in_the_end.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("egress")
            && lines[0].contains("53/UDP")
            && lines[0].contains("shop/allow-dns"),
        "{lines:?}"
    );
    assert_eq!(plan.still_selecting, vec!["shop/allow-dns"]);
}

#[test]
fn stateful_daemon_and_job_pods_keep_their_labels_and_it_is_said() {
    for kind in ["StatefulSet", "DaemonSet", "Job", "Rollout"] {
        let mut world = shop();
        world.pods[0].owner = Some(Owner {
            kind: kind.into(),
            name: "web".into(),
            uid: "o".into(),
        });
        let plan = plan(&world);
        assert!(!plan.has_phase_b(), "{kind}");
        assert!(
            plan.cannot
                .iter()
                .any(|c| c.contains("phase B is left out"))
        );
        assert!(!plan.in_the_end.is_denied() && !plan.services_staying.is_empty());
    }
}

#[test]
fn a_replicaset_that_cannot_be_escaped_keeps_phase_b_away() {
    let mut world = shop();
    world.controllers.push(Controller {
        kind: "ReplicaSet".into(),
        namespace: "shop".into(),
        name: "takes-all".into(),
        selector: selector("nothing notin (x)"),
        ..Controller::default()
    });
    let plan = plan(&world);
    assert!(!plan.has_phase_b());
    assert!(plan.cannot.iter().any(|c| c.contains("would adopt")));
}

#[test]
fn host_network_mirror_ended_and_system_pods_are_refused_with_what_to_do() {
    let change: [fn(&mut Pod); 5] = [
        |p| p.host_network = true,
        |p| p.mirror = true,
        |p| p.phase = "Failed".into(),
        |p| p.namespace = "kube-system".into(),
        |p| p.deleting = true,
    ];
    for change in change {
        let mut world = shop();
        change(&mut world.pods[0]);
        let refusal = plan(&world).refused.expect("refused");
        assert!(!refusal.instead.is_empty());
    }
}

#[test]
fn a_system_pod_may_be_named() {
    let mut world = shop();
    world.pods[0].namespace = "kube-system".into();
    let named = Wish {
        named: true,
        ..wish()
    };
    let plan = Planner::new(&world).plan(&world.pods[0].clone(), &named);
    assert_eq!(plan.refused, None);
    assert!(plan.warnings.iter().any(|w| w.contains("kube-system")));
}

#[test]
fn a_foreign_selector_on_our_label_is_refused() {
    let mut world = shop();
    let mut trap = policy("shop", "trap", "firebreak/quarantine");
    trap.egress = vec![PolicyRule::default()];
    world.policies.push(trap);
    let refusal = plan(&world).refused.expect("refused");
    assert!(refusal.why.contains("shop/trap"), "{}", refusal.why);
}

#[test]
fn our_own_policy_is_recognised_by_its_whole_shape() {
    let mut ours = crate::reach::monotone::deny_policy("shop", "firebreak-x", QUARANTINE, "x");
    ours.labels = labels("firebreak/containment=x");
    assert!(is_ours(&ours));
    let mut widened = ours.clone();
    widened.egress = vec![PolicyRule::default()];
    assert!(!is_ours(&widened), "a widened copy is not ours");
}

#[test]
fn a_foreign_kind_or_an_unread_list_never_counts_as_denied() {
    let mut world = shop();
    world.foreign_policies.push(ForeignPolicy {
        kind: "cilium.io/v2 CiliumNetworkPolicy".into(),
        namespace: "shop".into(),
        name: "l7".into(),
    });
    world.unread.push(Unread {
        what: "networkpolicies".into(),
        why: "403".into(),
    });
    let lines = plan(&world).in_the_end.lines();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|l| l.starts_with("may allow")));
}

#[test]
fn a_pod_that_is_isolated_already_is_left_as_it_is() {
    let mut world = shop();
    let mut ours =
        crate::reach::monotone::deny_policy("shop", "firebreak-other", QUARANTINE, "other");
    ours.labels = labels("firebreak/containment=other");
    world.policies.push(ours);
    world.pods[0].labels = labels("firebreak/quarantine=other");
    world.pods[0].annotations = crate::reach::isolation::GUARDS
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let plan = plan(&world);
    assert!(plan.already && plan.containment == "other" && !plan.has_phase_b());
    assert!(plan.in_the_end.is_denied());
}
