//! Throw-away pods of the simulated cluster, labelled and named as the real ones are.

use crate::incident::body::ObjectRef;
use crate::port::{CanarySpec, Cause, PortError};
use crate::reach::cluster::{
    Container, ContainerPort, Controller, Labels, Pod, Protocol, Selector,
};

use super::change::{OURS, pod_ref};
use super::world::{Inside, Template, World};
use super::{Call, control};

/// Label of everything of one canary.
const CANARY: &str = "firebreak/canary";
/// Label that tells the pair and the probe pod of one canary apart.
const KIND: &str = "firebreak/canary-kind";
/// Label of a namespace that we made.
const MADE_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "firebreak");
/// Port on which the pair listens.
const PORT: u16 = 8080;

/// Makes the pair, or finds it.
pub(super) fn put(
    world: &mut World,
    canary: &CanarySpec,
    call: Call<'_>,
) -> Result<Vec<ObjectRef>, PortError> {
    let template = throwaway(world, canary, "set", call)?;
    let exists = world
        .cluster
        .controllers
        .iter()
        .any(|c| c.namespace == canary.namespace && c.name == canary.name);
    if !exists {
        let uid = world.mint_uid();
        let selector = [CANARY, KIND]
            .into_iter()
            .filter_map(|k| Some((k.to_owned(), template.pod.labels.get(k)?.clone())))
            .collect();
        world.cluster.controllers.push(Controller {
            kind: "ReplicaSet".into(),
            namespace: canary.namespace.clone(),
            name: canary.name.clone(),
            uid: uid.clone(),
            selector: Selector::labels(selector),
            replicas: 2,
            owner: None,
        });
        world.templates.insert(uid, template);
    }
    control::settle(world);
    Ok(pods(world, canary, "set").map(pod_ref).take(2).collect())
}

/// Makes the probe pod, or finds it.
pub(super) fn put_probe(
    world: &mut World,
    canary: &CanarySpec,
    call: Call<'_>,
) -> Result<ObjectRef, PortError> {
    let template = throwaway(world, canary, "probe", call)?;
    let name = format!("{}-probe", canary.name);
    if world.pod(&canary.namespace, &name).is_none() {
        let pod = Pod {
            name: name.clone(),
            uid: world.mint_uid(),
            ips: vec![world.mint_address(&canary.node)],
            ..template.pod
        };
        world.inside.insert(pod.uid.clone(), template.inside);
        world.cluster.pods.push(pod);
    }
    world
        .pod(&canary.namespace, &name)
        .map(pod_ref)
        .ok_or_else(|| call.error(Cause::NotFound, "the probe pod is gone already"))
}

/// Removes set, pods and, where we made it and nothing else is in it, the namespace.
pub(super) fn remove(world: &mut World, canary: &CanarySpec) {
    let namespace = &canary.namespace;
    let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut world.cluster.controllers)
        .into_iter()
        .partition(|c| c.namespace == *namespace && c.name == canary.name);
    world.cluster.controllers = kept;
    for set in gone {
        world.templates.remove(&set.uid);
    }
    let names: Vec<String> = ["set", "probe"]
        .into_iter()
        .flat_map(|kind| {
            pods(world, canary, kind)
                .map(|p| p.name.clone())
                .collect::<Vec<_>>()
        })
        .collect();
    for name in names {
        world.drop_pod(namespace, &name);
    }
    let made_by_us = world
        .cluster
        .namespaces
        .get(namespace)
        .is_some_and(|l| l.get(MADE_BY.0).is_some_and(|v| v == MADE_BY.1));
    if made_by_us && !world.cluster.pods.iter().any(|p| p.namespace == *namespace) {
        world.cluster.namespaces.remove(namespace);
        world.cluster.policies.retain(|p| p.namespace != *namespace);
    }
}

fn pods<'w>(
    world: &'w World,
    canary: &'w CanarySpec,
    kind: &'w str,
) -> impl Iterator<Item = &'w Pod> {
    world.cluster.pods.iter().filter(move |p| {
        p.namespace == canary.namespace
            && p.labels.get(CANARY) == Some(&canary.name)
            && p.labels.get(KIND).is_some_and(|k| k == kind)
    })
}

/// Makes the canary's namespace and says what its pods are like.
fn throwaway(
    world: &mut World,
    canary: &CanarySpec,
    kind: &str,
    call: Call<'_>,
) -> Result<Template, PortError> {
    let node = world
        .node(&canary.node)
        .ok_or_else(|| call.error(Cause::NotFound, "there is no such node"))?
        .clone();
    if !node.images.contains(&canary.image) {
        let detail = format!(
            "ImagePullBackOff: `{}` cannot be had on `{}`",
            canary.image, node.name
        );
        return Err(call.error(Cause::Rejected, detail));
    }
    world
        .cluster
        .namespaces
        .entry(canary.namespace.clone())
        .or_insert_with(|| Labels::from([(MADE_BY.0.to_owned(), MADE_BY.1.to_owned())]));
    let labels = [
        (CANARY, canary.name.as_str()),
        (KIND, kind),
        (OURS, canary.quarantine.as_str()),
        MADE_BY,
    ];
    let pod = Pod {
        namespace: canary.namespace.clone(),
        labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        node: node.name.clone(),
        host_ip: node.ips.first().cloned().unwrap_or_default(),
        phase: "Running".into(),
        ready: true,
        service_account: "default".into(),
        containers: vec![Container {
            name: "canary".into(),
            image: canary.image.clone(),
            ports: vec![ContainerPort {
                name: String::new(),
                port: PORT,
                protocol: Protocol::Tcp,
            }],
            running: true,
            ..Container::default()
        }],
        ..Pod::default()
    };
    let listening = if kind == "set" {
        vec![PORT]
    } else {
        Vec::new()
    };
    let inside = Inside {
        listening,
        ..Inside::default()
    };
    Ok(Template { pod, inside })
}
