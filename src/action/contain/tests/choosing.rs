//! Who probes what is chosen with the policies as they were before isolation.

use std::collections::BTreeSet;

use super::shops::web;
use super::world::labels;
use crate::action::contain::choice::{Choice, Helper, as_it_was, candidates, ports_to_try};
use crate::action::contain::journal::Journal;
use crate::action::contain::matrix::Cell;
use crate::reach::cluster::*;

fn pod(name: &str, address: &str, port: Option<u16>) -> Pod {
    let mut pod = web(0);
    pod.name = format!("{name}-0");
    pod.uid = format!("uid-{name}");
    pod.labels = labels(&format!("app={name}"));
    pod.ips = vec![address.into()];
    pod.owner = None;
    pod.containers[0].image = format!("{name}:1");
    pod.containers[0].ports.clear();
    pod.containers[0]
        .ports
        .extend(port.map(|port| ContainerPort {
            name: "p".into(),
            port,
            protocol: Protocol::Tcp,
        }));
    pod
}

fn only_from(name: &str, to: &str, from: &str, port: u16) -> NetworkPolicy {
    NetworkPolicy {
        namespace: "shop".into(),
        name: name.into(),
        pod_selector: Selector::labels(labels(&format!("app={to}"))),
        policy_types: Some(vec![Direction::Ingress]),
        ingress: vec![PolicyRule {
            peers: vec![PolicyPeer::Pods {
                namespaces: None,
                pods: Some(Selector::labels(labels(&format!("app={from}")))),
            }],
            ports: vec![PolicyPort {
                protocol: Protocol::Tcp,
                port: Some(PortRef::Number(port)),
                end_port: None,
            }],
        }],
        ..NetworkPolicy::default()
    }
}

fn service(ns: &str, name: &str, ip: &str, selector: Option<&str>) -> Service {
    Service {
        namespace: ns.into(),
        name: name.into(),
        selector: selector.map(labels),
        cluster_ip: ip.into(),
        ports: vec![ServicePort {
            port: 8080,
            target: None,
            protocol: Protocol::Tcp,
        }],
    }
}

/// agent and client listen on nothing; client → web → api, nobody else.
fn strict() -> ClusterSnapshot {
    let mut world = ClusterSnapshot::default();
    world.namespaces.insert("shop".into(), labels("ns=shop"));
    world.pods = vec![
        pod("agent", "10.244.0.50", None),
        pod("api", "10.244.0.51", Some(8080)),
        pod("client", "10.244.0.52", None),
        web(0),
        web(1),
    ];
    world.services = vec![
        service("shop", "web", "10.96.0.10", Some("app=web")),
        service("shop", "api", "10.96.0.11", Some("app=api")),
        service("shop", "outside", "10.96.0.12", None),
        service("default", "kubernetes", "10.96.0.1", None),
    ];
    world.policies = vec![
        only_from("web-from-clients", "web", "client", 8080),
        only_from("api-from-web", "api", "web", 8080),
    ];
    world
}

fn helpers(pods: Vec<Pod>) -> Vec<Helper> {
    pods.into_iter()
        .map(|pod| Helper {
            listening: ports_to_try(&pod, &[]),
            pod,
        })
        .collect()
}

fn chosen(world: &ClusterSnapshot) -> (Vec<Cell>, Vec<String>) {
    let none = BTreeSet::new();
    let choice = Choice::new(world, &web(0), &none, None);
    let asked = choice.to_ask(&[8080]);
    choice.cells(&[8080], &helpers(asked))
}

#[test]
fn the_way_in_is_tried_from_a_pod_that_was_allowed_with_a_sibling_as_control() {
    let (cells, notes) = chosen(&strict());
    let cell = cells.iter().find(|c| c.direction == "ingress");
    let cell = cell.expect("one");
    assert_eq!(cell.from.name, "client-0");
    let (from, to) = cell.control.as_ref().expect("a control");
    assert_eq!(from.name, "client-0", "the same source");
    assert_eq!(to.to_string(), "10.244.0.11:8080", "web-1, the same port");
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn the_way_out_goes_where_both_the_pod_and_its_control_were_allowed_and_never_outside() {
    let (cells, _) = chosen(&strict());
    let out: Vec<String> = cells
        .iter()
        .filter(|c| c.direction == "egress")
        .map(|c| c.to_name.clone())
        .collect();
    assert!(out.contains(&"the API server".to_owned()), "{out:?}");
    assert!(out.contains(&"Service shop/api".to_owned()), "{out:?}");
    assert!(
        !out.iter()
            .any(|n| n.contains("outside") || n.contains("shop/web"))
    );
    let api = cells.iter().find(|c| c.to_name == "Service shop/api");
    let (control, _) = api.and_then(|c| c.control.as_ref()).expect("a control");
    assert_eq!(control.name, "web-1", "only web pods may reach the API");
}

#[test]
fn where_nobody_was_allowed_in_it_is_said() {
    let mut world = strict();
    world.policies[0].ingress.clear();
    let (_, notes) = chosen(&world);
    assert!(notes[0].contains("allowed to reach the pod before isolation"));
}

#[test]
fn pods_of_the_same_containment_are_no_control() {
    let affected = BTreeSet::from(["uid-web-1".to_owned()]);
    let world = strict();
    let all = candidates(&world, &web(0), &affected);
    assert!(!all.iter().any(|p| p.name == "web-1"));
}

#[test]
fn the_choice_after_isolation_rests_on_the_policies_before_it() {
    let mut world = strict();
    world.policies.push(crate::reach::monotone::deny_policy(
        "shop",
        "firebreak-x",
        crate::reach::isolation::QUARANTINE,
        "x",
    ));
    world.policies[2]
        .labels
        .insert(crate::reach::isolation::CONTAINMENT.into(), "x".into());
    let was = as_it_was(&world, &Journal::default());
    assert_eq!(was.policies.len(), 2);
}

#[test]
fn an_intruders_own_port_is_left_alone_where_the_pod_has_an_ordinary_one() {
    assert_eq!(ports_to_try(&web(0), &[4444, 8080]), [8080]);
    assert_eq!(ports_to_try(&web(0), &[4444]), [4444]);
    assert_eq!(ports_to_try(&web(0), &[]), [8080]);
}
