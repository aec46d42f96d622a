//! Changing the simulated cluster, with the preconditions of the port.

use async_trait::async_trait;

use crate::incident::body::ObjectRef;
use crate::port::{
    CanarySpec, Cause, ClusterChange, LabelChange, PolicySpec, PortError, Right, WriteMode, Written,
};
use crate::reach::cluster::{Direction, Labels, NetworkPolicy, Pod};

use super::world::{Behind, Enforcing, World};
use super::{Call, SimCluster, canary, control, same_pod};

/// Key of our label on policies: whose object it is.
pub(super) const OURS: &str = "firebreak/containment";
/// Key of our label on pods and of our taint on nodes.
const QUARANTINE: &str = "firebreak/quarantine";

#[async_trait]
impl ClusterChange for SimCluster {
    async fn put_policy(&self, policy: &PolicySpec, mode: WriteMode) -> Result<Written, PortError> {
        let on = format!("{}/{}", policy.namespace, policy.name);
        let call = Call {
            method: "put_policy",
            tried: "create network policy",
            on: &on,
        };
        let right = |verb| {
            Right::new("networking.k8s.io", "networkpolicies", verb).within(&policy.namespace)
        };
        self.write(mode, call, &[right("create"), right("patch")], |w| {
            let mut written = put_policy(w, policy, call)?;
            if mode == WriteMode::Preview && !written.already {
                // What is not stored has no identity yet.
                written.object.uid.clear();
            }
            Ok(written)
        })
    }

    async fn delete_policy(&self, policy: &ObjectRef, mode: WriteMode) -> Result<bool, PortError> {
        let on = format!("{}/{}", policy.namespace, policy.name);
        let call = Call {
            method: "delete_policy",
            tried: "delete network policy",
            on: &on,
        };
        let right =
            Right::new("networking.k8s.io", "networkpolicies", "delete").within(&policy.namespace);
        self.write(mode, call, &[right], |w| {
            let Some(found) = w.policy(&policy.namespace, &policy.name) else {
                return Ok(false);
            };
            if !found.labels.contains_key(OURS) {
                let detail = "it does not carry our label: it is not ours to delete";
                return Err(call.error(Cause::Conflict, detail));
            }
            guard_uid(&found.uid, &policy.uid, call)?;
            let uid = found.uid.clone();
            w.cluster.policies.retain(|p| p.uid != uid);
            w.policy_annotations.remove(&uid);
            Ok(true)
        })
    }

    async fn change_labels(
        &self,
        change: &LabelChange,
        mode: WriteMode,
    ) -> Result<Written, PortError> {
        let on = format!("{}/{}", change.object.namespace, change.object.name);
        let call = Call {
            method: "change_labels",
            tried: "patch the labels of pod",
            on: &on,
        };
        let right = Right::new("", "pods", "patch").within(&change.object.namespace);
        self.write(mode, call, &[right], |w| change_labels(w, change, call))
    }

    async fn cordon(
        &self,
        node: &ObjectRef,
        value: &str,
        mode: WriteMode,
    ) -> Result<Written, PortError> {
        let call = Call {
            method: "cordon",
            tried: "cordon node",
            on: &node.name,
        };
        self.write(mode, call, &[Right::new("", "nodes", "patch")], |w| {
            hold_node(w, node, call, |unschedulable, taints| {
                *unschedulable = true;
                let taint = taint(value);
                if !taints.contains(&taint) {
                    taints.push(taint);
                }
            })
        })
    }

    async fn uncordon(
        &self,
        node: &ObjectRef,
        value: &str,
        was_schedulable: bool,
        mode: WriteMode,
    ) -> Result<Written, PortError> {
        let call = Call {
            method: "uncordon",
            tried: "uncordon node",
            on: &node.name,
        };
        self.write(mode, call, &[Right::new("", "nodes", "patch")], |w| {
            hold_node(w, node, call, |unschedulable, taints| {
                *unschedulable &= !was_schedulable;
                taints.retain(|t| *t != taint(value));
            })
        })
    }

    async fn delete_pod(&self, pod: &ObjectRef, mode: WriteMode) -> Result<bool, PortError> {
        let on = format!("{}/{}", pod.namespace, pod.name);
        let call = Call {
            method: "delete_pod",
            tried: "delete pod",
            on: &on,
        };
        let right = Right::new("", "pods", "delete").within(&pod.namespace);
        self.write(mode, call, &[right], |w| {
            let Some(found) = w.pod(&pod.namespace, &pod.name) else {
                return Ok(false);
            };
            guard_uid(&found.uid, &pod.uid, call)?;
            Ok(w.drop_pod(&pod.namespace, &pod.name))
        })
    }

    async fn put_canary(
        &self,
        canary: &CanarySpec,
        _deadline_s: u64,
    ) -> Result<Vec<ObjectRef>, PortError> {
        let on = format!("{}/{}", canary.namespace, canary.name);
        let call = Call {
            method: "put_canary",
            tried: "start canary",
            on: &on,
        };
        let rights = [
            Right::new("", "namespaces", "create"),
            Right::new("apps", "replicasets", "create").within(&canary.namespace),
        ];
        self.write(WriteMode::Apply, call, &rights, |w| {
            canary::put(w, canary, call)
        })
    }

    async fn put_probe_pod(
        &self,
        canary: &CanarySpec,
        _deadline_s: u64,
    ) -> Result<ObjectRef, PortError> {
        let on = format!("{}/{}", canary.namespace, canary.name);
        let call = Call {
            method: "put_probe_pod",
            tried: "start probe pod",
            on: &on,
        };
        let rights = [
            Right::new("", "namespaces", "create"),
            Right::new("", "pods", "create").within(&canary.namespace),
        ];
        self.write(WriteMode::Apply, call, &rights, |w| {
            canary::put_probe(w, canary, call)
        })
    }

    async fn delete_canary(&self, canary: &CanarySpec) -> Result<(), PortError> {
        let on = format!("{}/{}", canary.namespace, canary.name);
        let call = Call {
            method: "delete_canary",
            tried: "remove canary",
            on: &on,
        };
        let rights = [
            Right::new("apps", "replicasets", "delete").within(&canary.namespace),
            Right::new("", "pods", "delete").within(&canary.namespace),
        ];
        self.write(WriteMode::Apply, call, &rights, |w| {
            canary::remove(w, canary);
            Ok(())
        })
    }
}

impl SimCluster {
    /// A write; as a preview it runs on a copy that is thrown away.
    fn write<T>(
        &self,
        mode: WriteMode,
        call: Call<'_>,
        rights: &[Right],
        act: impl FnOnce(&mut World) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        match mode {
            WriteMode::Preview => {
                // Counted apart: a fault of a write must not strike its preview instead.
                let method = format!("preview:{}", call.method);
                let call = Call {
                    method: &method,
                    ..call
                };
                self.look_at(call, rights, |w| act(&mut w.clone()))
            }
            WriteMode::Apply => self.effect(call, rights, |w| {
                let before = w.clone();
                let answer = act(w)?;
                control::settle(w);
                fall_behind(w, &before);
                Ok(answer)
            }),
        }
    }
}

/// A late plugin goes on with what it knew before the first change that it has not seen.
fn fall_behind(world: &mut World, before: &World) {
    let Enforcing::Late(probes) = world.enforcing else {
        return;
    };
    let labels = |w: &World| {
        w.cluster
            .pods
            .iter()
            .map(|p| (p.uid.clone(), p.labels.clone()))
            .collect()
    };
    let known: std::collections::BTreeMap<String, Labels> = labels(before);
    if before.cluster.policies == world.cluster.policies && known == labels(world) {
        return;
    }
    let behind = world.behind.get_or_insert_with(|| Behind {
        probes_left: probes,
        policies: before.cluster.policies.clone(),
        labels: known,
    });
    behind.probes_left = probes;
    if probes == 0 {
        world.behind = None;
    }
}

fn guard_uid(found: &str, wanted: &str, call: Call<'_>) -> Result<(), PortError> {
    if wanted.is_empty() {
        let detail = "its UID is not known, so another one could be meant";
        return Err(call.error(Cause::Conflict, detail));
    }
    if found == wanted {
        Ok(())
    } else {
        Err(call.error(
            Cause::Conflict,
            format!("it is another object now: UID {found} instead of {wanted}"),
        ))
    }
}

fn put_policy(world: &mut World, spec: &PolicySpec, call: Call<'_>) -> Result<Written, PortError> {
    if !world.cluster.namespaces.contains_key(&spec.namespace) {
        return Err(call.error(Cause::NotFound, "no such namespace"));
    }
    let found = world.policy(&spec.namespace, &spec.name).cloned();
    let ours = |p: &NetworkPolicy| {
        p.labels.contains_key(OURS) && spec.labels.iter().all(|(k, v)| p.labels.get(k) == Some(v))
    };
    if found.as_ref().is_some_and(|p| !ours(p)) {
        let detail = "a policy of this name is there and is not ours";
        return Err(call.error(Cause::Conflict, detail));
    }
    let uid = match &found {
        Some(found) => found.uid.clone(),
        None => world.mint_uid(),
    };
    let wanted = NetworkPolicy {
        namespace: spec.namespace.clone(),
        name: spec.name.clone(),
        uid: uid.clone(),
        labels: spec.labels.clone(),
        pod_selector: spec.pod_selector.clone(),
        policy_types: Some(vec![Direction::Ingress, Direction::Egress]),
        ingress: Vec::new(),
        egress: Vec::new(),
    };
    let already = found.as_ref() == Some(&wanted);
    world.cluster.policies.retain(|p| p.uid != uid);
    world.cluster.policies.push(wanted);
    world
        .policy_annotations
        .insert(uid.clone(), spec.annotations.clone());
    Ok(Written {
        object: ObjectRef {
            kind: "NetworkPolicy".into(),
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            uid,
        },
        already,
        mutated: world.mutations.clone(),
        warnings: Vec::new(),
    })
}

fn change_labels(
    world: &mut World,
    change: &LabelChange,
    call: Call<'_>,
) -> Result<Written, PortError> {
    if change.object.kind != "Pod" {
        return Err(call.error(Cause::Unsupported, "only labels of pods are changed"));
    }
    let uid = same_pod(world, &change.object, call)?.uid.clone();
    let Some(pod) = world.cluster.pods.iter_mut().find(|p| p.uid == uid) else {
        return Err(call.error(Cause::NotFound, "no such pod"));
    };
    let mut already = true;
    for (field, value) in &change.set {
        already &= field_of(pod, field, call)? == *value;
    }
    // As with a JSON Patch whose test fails: what is so already is no conflict.
    for (field, wanted) in &change.expect {
        let now = field_of(pod, field, call)?;
        if now != *wanted && !already {
            let now = shown(now.as_deref());
            return Err(call.error(
                Cause::Conflict,
                format!("the test failed: `{field}` is {now} now"),
            ));
        }
    }
    for (field, value) in &change.set {
        set_field(pod, field, value.as_deref(), call)?;
    }
    Ok(Written {
        object: pod_ref(pod),
        already,
        mutated: Vec::new(),
        warnings: Vec::new(),
    })
}

fn map_of<'p, 'f>(
    pod: &'p mut Pod,
    field: &'f str,
    call: Call<'_>,
) -> Result<(&'p mut Labels, &'f str), PortError> {
    match field.split_once('/') {
        Some(("labels", key)) => Ok((&mut pod.labels, key)),
        Some(("annotations", key)) => Ok((&mut pod.annotations, key)),
        _ => Err(call.error(
            Cause::Local,
            format!("`{field}` is neither a label nor an annotation"),
        )),
    }
}

fn field_of(pod: &mut Pod, field: &str, call: Call<'_>) -> Result<Option<String>, PortError> {
    let (map, key) = map_of(pod, field, call)?;
    Ok(map.get(key).cloned())
}

fn set_field(
    pod: &mut Pod,
    field: &str,
    value: Option<&str>,
    call: Call<'_>,
) -> Result<(), PortError> {
    let (map, key) = map_of(pod, field, call)?;
    match value {
        Some(value) => map.insert(key.to_owned(), value.to_owned()),
        None => map.remove(key),
    };
    Ok(())
}

fn shown(value: Option<&str>) -> String {
    value.map_or_else(|| "absent".to_owned(), |v| format!("`{v}`"))
}

fn taint(value: &str) -> String {
    format!("{QUARANTINE}={value}:NoSchedule")
}

fn hold_node(
    world: &mut World,
    node: &ObjectRef,
    call: Call<'_>,
    act: impl FnOnce(&mut bool, &mut Vec<String>),
) -> Result<Written, PortError> {
    let found = world
        .cluster
        .nodes
        .iter_mut()
        .find(|n| n.name == node.name)
        .ok_or_else(|| call.error(Cause::NotFound, "no such node"))?;
    guard_uid(&found.uid, &node.uid, call)?;
    let before = found.clone();
    act(&mut found.unschedulable, &mut found.taints);
    Ok(Written {
        object: node.clone(),
        already: before == *found,
        mutated: Vec::new(),
        warnings: Vec::new(),
    })
}

pub(super) fn pod_ref(pod: &Pod) -> ObjectRef {
    ObjectRef {
        kind: "Pod".into(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    }
}
