//! The little that controllers do here: a ReplicaSet lets go, adopts and replaces; EndpointSlices follow their Service.
//!
//! It is what a drill shows to people. What real controllers do is proven on a real node, not here.

use crate::reach::cluster::{Controller, Endpoint, Pod};

use super::world::{World, owner};

/// Lets the controllers look at the world once, after every change.
pub(super) fn settle(world: &mut World) {
    let sets: Vec<Controller> = world
        .cluster
        .controllers
        .iter()
        .filter(|c| c.kind == "ReplicaSet")
        .cloned()
        .collect();
    for set in &sets {
        let_go_and_adopt(world, set);
        reach_count(world, set);
    }
    refresh_endpoints(world);
}

/// Releases pods that left the selector and adopts orphans that match it.
fn let_go_and_adopt(world: &mut World, set: &Controller) {
    for pod in world
        .cluster
        .pods
        .iter_mut()
        .filter(|p| p.namespace == set.namespace)
    {
        let matches = set.selector.matches(&pod.labels);
        let owned = owned_by(pod, set);
        if owned && !matches {
            pod.owner = None;
        } else if matches && pod.owner.is_none() && !pod.deleting {
            pod.owner = Some(owner(&set.kind, &set.name, &set.uid));
        }
    }
}

/// Makes what is missing and deletes what is too much.
fn reach_count(world: &mut World, set: &Controller) {
    loop {
        let owned = world
            .cluster
            .pods
            .iter()
            .filter(|p| owned_by(p, set))
            .count();
        let wanted = usize::try_from(set.replicas).unwrap_or(usize::MAX);
        if owned < wanted {
            if !replace(world, set) {
                return;
            }
        } else if owned > wanted {
            delete_one(world, set);
        } else {
            return;
        }
    }
}

/// Makes one pod from the template. False when the set has none.
fn replace(world: &mut World, set: &Controller) -> bool {
    let Some(template) = world.templates.get(&set.uid).cloned() else {
        return false;
    };
    let mut pod = template.pod;
    pod.name = format!("{}-{}", set.name, world.mint_suffix());
    pod.uid = world.mint_uid();
    pod.ips = vec![world.mint_address(&pod.node.clone())];
    pod.owner = Some(owner(&set.kind, &set.name, &set.uid));
    for container in &mut pod.containers {
        container.container_id = format!("containerd://{}", world.mint_uid().replace('-', ""));
    }
    world.inside.insert(pod.uid.clone(), template.inside);
    world.cluster.pods.push(pod);
    true
}

/// Deletes the pod that a ReplicaSet would: not ready first, then the lower deletion cost, then the younger.
fn delete_one(world: &mut World, set: &Controller) {
    let victim = world
        .cluster
        .pods
        .iter()
        .enumerate()
        .filter(|(_, p)| owned_by(p, set))
        .min_by_key(|(place, p)| (p.ready, deletion_cost(p), std::cmp::Reverse(*place)))
        .map(|(_, p)| (p.namespace.clone(), p.name.clone()));
    if let Some((namespace, name)) = victim {
        world.drop_pod(&namespace, &name);
    }
}

/// Annotation `controller.kubernetes.io/pod-deletion-cost`.
fn deletion_cost(pod: &Pod) -> i64 {
    pod.annotations
        .get("controller.kubernetes.io/pod-deletion-cost")
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

fn owned_by(pod: &Pod, set: &Controller) -> bool {
    pod.owner.as_ref().is_some_and(|o| o.uid == set.uid)
}

/// Rebuilds the slices of every Service that has a selector.
fn refresh_endpoints(world: &mut World) {
    let pods = &world.cluster.pods;
    for slice in &mut world.cluster.endpoint_slices {
        let service = world
            .cluster
            .services
            .iter()
            .find(|s| s.namespace == slice.namespace && s.name == slice.service);
        let Some(selector) = service.and_then(|s| s.selector.as_ref()) else {
            continue;
        };
        slice.endpoints = pods
            .iter()
            .filter(|p| p.namespace == slice.namespace && !p.deleting && p.phase == "Running")
            .filter(|p| selector.iter().all(|(k, v)| p.labels.get(k) == Some(v)))
            .map(|p| Endpoint {
                addresses: p.ips.iter().take(1).cloned().collect(),
                ready: p.ready,
                pod_uid: Some(p.uid.clone()),
            })
            .collect();
    }
}
