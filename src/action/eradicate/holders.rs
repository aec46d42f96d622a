//! The cluster's side of a credential: Kubernetes Secrets that hold it, found by comparing values in memory, and the workloads that read
//! them.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::{ActionError, Context};
use crate::incident::body::{Credentials, ObjectRef};
use crate::port::{Estate, LookScope, Secret, SecretObject};
use crate::reach::cluster::{ClusterSnapshot, Pod};
use crate::rotation::guards;
use crate::rotation::plan::{Sink, Workload};

use super::contents::{looks_like_key_id, looks_like_key_secret};
use super::gather::said;
use super::hand::{KEY_ID, KEY_SECRET, PASSWORD};
use super::side_by_side::each;

/// The annotation by which a service account gets an AWS role.
const ROLE_ANNOTATION: &str = "eks.amazonaws.com/role-arn";

/// Kubernetes Secrets that pods use, with their values, and the cluster around them.
#[derive(Default)]
pub(super) struct Holders {
    /// The cluster, where there is one.
    pub(super) snapshot: Option<ClusterSnapshot>,
    /// Secrets.
    pub(super) secrets: Vec<SecretObject>,
    /// What could not be read.
    pub(super) unread: Vec<String>,
    /// Workloads of the plan.
    pub(super) workloads: Vec<Workload>,
    /// Warnings about consumers.
    pub(super) warnings: Vec<String>,
}

/// A credential's place in the cluster.
#[derive(Default)]
pub(super) struct Held {
    /// Sinks, by place.
    pub(super) sinks: Vec<Sink>,
    /// Indices of workloads.
    pub(super) workloads: Vec<usize>,
    /// Why a sink cannot be written, if one cannot.
    pub(super) foreign: Option<String>,
}

impl Holders {
    /// Reads the Secrets that pods of the cluster use; `only` = of these namespaces.
    pub(super) async fn read(
        cx: &Context,
        estate: &Estate,
        only: &BTreeSet<String>,
    ) -> Result<Self, ActionError> {
        let mut holders = Holders::default();
        let (Some(cluster), Some(workloads)) = (&cx.ports.cluster, &estate.workloads) else {
            return Ok(holders);
        };
        let scope = match only.is_empty() {
            true => LookScope::Cluster,
            false => LookScope::Namespaces(only.iter().cloned().collect()),
        };
        let snapshot = cluster.view.look(&scope).await?;
        let mut names = BTreeSet::new();
        for pod in &snapshot.pods {
            for used in pod.secrets.iter().filter(|s| s.how != "imagePullSecret") {
                names.insert((pod.namespace.clone(), used.name.clone()));
            }
        }
        let reader = workloads.clone();
        let read = each(
            names.into_iter().collect(),
            move |(namespace, name): (String, String)| {
                let reader = reader.clone();
                async move {
                    let answer = reader.secret(&namespace, &name).await;
                    answer.map_err(|e| format!("Secret {namespace}/{name}: {}", said(&e)))
                }
            },
        )
        .await?;
        for answer in read {
            match answer {
                Ok(secret) => holders.secrets.push(secret),
                Err(why) => holders.unread.push(why),
            }
        }
        holders.snapshot = Some(snapshot);
        Ok(holders)
    }

    /// Reads Secrets of pods that were handed over and may be gone by now.
    pub(super) async fn also(
        &mut self,
        estate: &Estate,
        handed: &[Credentials],
    ) -> Result<(), ActionError> {
        let Some(workloads) = &estate.workloads else {
            return Ok(());
        };
        let names: BTreeSet<(&String, &String)> = handed
            .iter()
            .flat_map(|p| p.secrets.keys().map(|s| (&p.pod.namespace, s)))
            .collect();
        for (namespace, name) in names {
            let place = format!("{namespace}/{name}");
            if self.secrets.iter().any(|s| Self::place(s) == place) {
                continue;
            }
            match workloads.secret(namespace, name).await {
                Ok(secret) => self.secrets.push(secret),
                Err(e) => self.unread.push(format!("Secret {place}: {}", said(&e))),
            }
        }
        self.unread.dedup();
        Ok(())
    }

    /// `namespace/name`.
    pub(super) fn place(secret: &SecretObject) -> String {
        format!("{}/{}", secret.object.namespace, secret.object.name)
    }

    /// Key ids in a Secret: its values that have the shape of one.
    pub(super) fn key_ids(secret: &SecretObject) -> Vec<String> {
        let ids = secret.data.values().map(Secret::expose_secret);
        ids.filter(|v| looks_like_key_id(v))
            .map(str::to_owned)
            .collect()
    }

    /// Where an access key is held. Its secret is found by its value where the store has it, else by its shape.
    pub(super) fn sinks_of_key(&mut self, id: &str, secret: Option<&Secret>) -> Held {
        let mut held = Held::default();
        for object in &self.secrets {
            let Some((id_key, _)) = object.data.iter().find(|(_, v)| v.expose_secret() == id)
            else {
                continue;
            };
            let place = Self::place(object);
            let mut keys = BTreeMap::from([(KEY_ID.to_owned(), id_key.clone())]);
            let matching: Vec<&String> = object
                .data
                .iter()
                .filter(|(name, v)| match secret {
                    Some(secret) => v.same_as(secret),
                    None => {
                        name.to_ascii_lowercase().contains("secret")
                            && looks_like_key_secret(v.expose_secret())
                    }
                })
                .map(|(name, _)| name)
                .collect();
            match matching[..] {
                [one] => {
                    keys.insert(KEY_SECRET.to_owned(), one.clone());
                    if secret.is_none() {
                        self.warnings.push(format!(
                            "{place}: key `{one}` is taken for the secret of {id} by its shape"
                        ));
                    }
                }
                _ => {
                    held.foreign = Some(format!(
                        "{place} has {id} and not its secret beside it: say in a map where it is"
                    ));
                    continue;
                }
            }
            push(&mut held, object, keys);
        }
        held
    }

    /// Where a password is held. A value that has it inside a longer text cannot be written by parts: a person must say how.
    pub(super) fn sinks_of_password(&mut self, password: &Secret) -> Held {
        let mut held = Held::default();
        for object in &self.secrets {
            let place = Self::place(object);
            let mut exact = object.data.iter().filter(|(_, v)| v.same_as(password));
            if let Some((key, _)) = exact.next() {
                push(
                    &mut held,
                    object,
                    BTreeMap::from([(PASSWORD.to_owned(), key.clone())]),
                );
            }
            let inside = object.data.iter().find(|(_, v)| {
                !v.same_as(password) && v.expose_secret().contains(password.expose_secret())
            });
            if let Some((key, _)) = inside {
                held.foreign = Some(format!(
                    "{place} key `{key}` holds the password inside a longer text (a connection string): change the consumer to read it by itself, or rotate by hand"
                ));
            } else if let Some((key, _)) = exact.next() {
                held.foreign = Some(format!(
                    "{place} holds it twice, also as `{key}`: say in a map which is read"
                ));
            }
        }
        held
    }

    /// The workloads that read a credential's sinks, each added to the plan once.
    pub(super) async fn consumers(
        &mut self,
        estate: &Estate,
        held: &mut Held,
    ) -> Result<(), ActionError> {
        let Some(workloads) = &estate.workloads else {
            return Ok(());
        };
        for sink in held.sinks.clone() {
            let (namespace, name) = (&sink.object.namespace, &sink.object.name);
            for consumer in workloads.consumers(namespace, name).await? {
                let how: Vec<String> = consumer
                    .how
                    .iter()
                    .map(|h| format!("{h} of Secret {name}"))
                    .collect();
                if consumer.reloader {
                    self.warnings.push(format!(
                        "{}/{} has Reloader restart it as well: pause it (reloader.stakater.com/pause-period) or it restarts twice",
                        consumer.object.kind, consumer.object.name
                    ));
                }
                let index = self.workload(consumer.object, how, consumer.rollable);
                if !held.workloads.contains(&index) {
                    held.workloads.push(index);
                }
            }
        }
        Ok(())
    }

    /// A workload of the plan.
    pub(super) fn workload(
        &mut self,
        object: ObjectRef,
        how: Vec<String>,
        rollable: bool,
    ) -> usize {
        let known = self.workloads.iter().position(|w| w.object == object);
        let index = known.unwrap_or_else(|| {
            self.workloads.push(Workload {
                object,
                how: Vec::new(),
                rollable,
            });
            self.workloads.len() - 1
        });
        for way in how {
            if !self.workloads[index].how.contains(&way) {
                self.workloads[index].how.push(way);
            }
        }
        index
    }

    /// Service accounts with this role: (namespace, name, annotations).
    pub(super) fn accounts_of(
        &self,
        role_arn: &str,
    ) -> Vec<(String, String, BTreeMap<String, String>)> {
        let all = self.snapshot.iter().flat_map(|s| &s.service_accounts);
        all.filter(|a| a.annotations.get(ROLE_ANNOTATION).map(String::as_str) == Some(role_arn))
            .map(|a| {
                // Only what makes it an account of this role is carried over: others' bookkeeping is theirs.
                let kept = a
                    .annotations
                    .iter()
                    .filter(|(k, _)| k.starts_with("eks.amazonaws.com/"));
                let kept = kept.map(|(k, v)| (k.clone(), v.clone())).collect();
                (a.namespace.clone(), a.name.clone(), kept)
            })
            .collect()
    }

    /// Workloads that run as a service account, and whether each can be rolled out.
    pub(super) fn running_as(&self, namespace: &str, account: &str) -> Vec<(ObjectRef, bool)> {
        let Some(world) = &self.snapshot else {
            return Vec::new();
        };
        let mut found: Vec<(ObjectRef, bool)> = Vec::new();
        let pods = world
            .pods
            .iter()
            .filter(|p| p.namespace == namespace && p.service_account == account && !p.deleting);
        for pod in pods {
            let top = top_of(world, pod);
            if !found.iter().any(|(o, _)| *o == top.0) {
                found.push(top);
            }
        }
        found
    }
}

fn push(held: &mut Held, object: &SecretObject, keys: BTreeMap<String, String>) {
    if let Some(why) = guards::sink_owner(object) {
        held.foreign = Some(format!("{}: {why}", Holders::place(object)));
    }
    held.sinks.push(Sink {
        object: object.object.clone(),
        keys,
    });
}

/// What a pod's template belongs to.
fn top_of(world: &ClusterSnapshot, pod: &Pod) -> (ObjectRef, bool) {
    let object = |kind: &str, name: &str, uid: &str| ObjectRef {
        kind: kind.into(),
        namespace: pod.namespace.clone(),
        name: name.into(),
        uid: uid.into(),
    };
    let Some(owner) = &pod.owner else {
        return (object("Pod", &pod.name, &pod.uid), false);
    };
    let controller = world.controllers.iter().find(|c| c.uid == owner.uid);
    let owner = controller.and_then(|c| c.owner.as_ref()).unwrap_or(owner);
    let rollable = ["Deployment", "StatefulSet", "DaemonSet"].contains(&owner.kind.as_str());
    (object(&owner.kind, &owner.name, &owner.uid), rollable)
}
