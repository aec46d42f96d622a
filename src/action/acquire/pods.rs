//! Which pods a step is about, and what identifies them in an exhibit.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::registry::{ActionSpec, ArgError, read_as};
use crate::incident::Category;
use crate::incident::body::{ObjectRef, WriteIntended};
use crate::incident::kind;
use crate::port::{Cause, Cluster, ExhibitDraft, PortError, Right};
use crate::reach::cluster::{Container, Pod, PodName};

use super::super::{ActionError, Class, Context, Preview};
use super::read_failed;

/// The label that isolation puts on a pod, as its write entries name it.
const QUARANTINE: &str = "labels/firebreak/quarantine";

/// The pods to acquire from: one by name, or those that a label selector finds when the step runs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodArgs {
    /// Namespace.
    pub namespace: String,
    /// Name of one pod. Give this or `selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Label selector, `app=web,tier!=db`. Once this run has isolated pods of the namespace, those are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

/// Exactly one of the two ways to name pods.
pub(super) fn one_way(pod: Option<&str>, selector: Option<&str>) -> Result<(), ArgError> {
    let named = |v: Option<&str>| v.is_some_and(|v| !v.trim().is_empty());
    if named(pod) != named(selector) {
        return Ok(());
    }
    Err(ArgError {
        path: ".".into(),
        message: "name `pod` or `selector`, one of the two".into(),
    })
}

/// Checks arguments of the pod actions.
pub(super) fn check(value: &Value) -> Result<(), ArgError> {
    let args: PodArgs = read_as(value)?;
    one_way(args.pod.as_deref(), args.selector.as_deref())
}

/// Reads arguments that were checked before.
pub(super) fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, ActionError> {
    read_as(value).map_err(|e| ActionError::new(Class::Refused, e.to_string()))
}

impl PodArgs {
    fn name(&self) -> Option<&str> {
        self.pod.as_deref().filter(|p| !p.trim().is_empty())
    }

    /// The pods, in order of their names, and what is said of those that are gone.
    ///
    /// Isolation takes labels off, so that the selector it began with finds the replacements afterwards, not the suspects. Once this
    /// run has isolated pods of the namespace, those are the ones that are meant, by name and UID.
    pub(super) async fn find(&self, cx: &Context, cluster: &Cluster) -> Result<Found, ActionError> {
        if let Some(name) = self.name() {
            let found = self.named(cluster, name).await.map_err(read_failed)?;
            return Ok(Found {
                pods: vec![found],
                gone: Vec::new(),
            });
        }
        let isolated = isolated(cx, &self.namespace)?;
        if !isolated.is_empty() {
            let mut all = Found::default();
            for object in isolated {
                match self.named(cluster, &object.name).await {
                    Ok(pod) if pod.uid == object.uid => all.pods.push(pod),
                    Ok(_) => all
                        .gone
                        .push(format!("{} was replaced under its name", object.name)),
                    Err(e) if e.cause == Cause::NotFound => {
                        all.gone
                            .push(format!("{} is not there any more", object.name));
                    }
                    Err(e) => return Err(read_failed(e)),
                }
            }
            return Ok(all);
        }
        let selector = self.selector.as_deref().unwrap_or_default();
        let found = cluster
            .view
            .pods_by_selector(&self.namespace, selector)
            .await;
        let mut pods = found.map_err(read_failed)?;
        if pods.is_empty() {
            let on = format!("{} {selector}", self.namespace);
            let tried = "acquire from the pods of";
            return Err(
                PortError::new(Cause::NotFound, tried, on, "the selector finds none").into(),
            );
        }
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Found {
            pods,
            gone: Vec::new(),
        })
    }

    async fn named(&self, cluster: &Cluster, name: &str) -> Result<Pod, PortError> {
        let id = PodName {
            namespace: self.namespace.clone(),
            name: name.to_owned(),
        };
        let gone = || {
            PortError::new(
                Cause::NotFound,
                "acquire from pod",
                id.to_string(),
                "it is not there",
            )
        };
        cluster.view.pod(&id).await?.ok_or_else(gone)
    }

    /// What every pod action previews: which pods, bound by UID where they are named.
    pub(super) async fn preview(&self, cx: &Context, what: &str) -> Result<Preview, ActionError> {
        let mut preview = Preview {
            undo: super::READS.into(),
            ..Preview::default()
        };
        match self.find(cx, cx.cluster()?).await {
            Err(e) if e.class == Class::Failed => preview.blocked.push(e.to_string()),
            Err(e) => return Err(e),
            Ok(found) => {
                for pod in &found.pods {
                    let id = shown(&pod.id().to_string());
                    preview
                        .changes
                        .push(format!("copy {what} of pod {id} into a sealed bag"));
                    let facts = match self.name() {
                        Some(_) => &mut preview.binding,
                        None => &mut preview.shown,
                    };
                    facts.insert(format!("pod {id} uid"), pod.uid.clone());
                }
            }
        }
        Ok(preview)
    }
}

/// The pods of a step.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) pods: Vec<Pod>,
    /// One line for each that is meant and is not there.
    pub(super) gone: Vec<String>,
}

/// Pods of a namespace that this run has put our label on, from the ledger.
fn isolated(cx: &Context, namespace: &str) -> Result<Vec<ObjectRef>, ActionError> {
    let history = cx.ledger.history()?;
    let mut found: Vec<ObjectRef> = history
        .bodies::<WriteIntended>(kind::WRITE_INTENDED)
        .filter(|(entry, _)| entry.run() == Some(cx.run.as_str()))
        .map(|(_, write)| write)
        .filter(|w| w.object.kind == "Pod" && w.object.namespace == namespace)
        .filter(|w| matches!(w.written.get(QUARANTINE), Some(Some(_))))
        .map(|w| w.object)
        .collect();
    found.sort_by(|a, b| (&a.name, &a.uid).cmp(&(&b.name, &b.uid)));
    found.dedup();
    Ok(found)
}

/// Rights of a pod action in a namespace: only a selector needs `list` on pods.
pub(super) fn rights_of(spec: &ActionSpec, args: &Value) -> Vec<Right> {
    let namespace = args["namespace"].as_str().unwrap_or_default();
    let by_name = args["pod"].as_str().is_some_and(|p| !p.trim().is_empty());
    let needed = spec.rights.iter().filter(|r| {
        let lists_pods = r.group.is_empty() && r.resource == "pods" && r.verb == "list";
        !(by_name && lists_pods)
    });
    let rights = needed.map(|r| {
        let right = Right::new(r.group, r.resource, r.verb);
        if r.cluster_wide {
            right
        } else {
            right.within(namespace)
        }
    });
    rights.collect()
}

/// A pod as a source of exhibits.
pub(super) struct Source {
    pub(super) pod: Pod,
    pub(super) object: ObjectRef,
    system: BTreeMap<String, String>,
    /// Tells the exhibits of several pods of one bag apart.
    number: usize,
}

impl Source {
    pub(super) fn new(cluster_uid: &str, number: usize, pod: Pod) -> Self {
        let object = ObjectRef {
            kind: "Pod".into(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        };
        let mut system = BTreeMap::new();
        for (key, value) in [
            ("cluster", cluster_uid),
            ("namespace", &pod.namespace),
            ("pod", &pod.name),
            ("pod_uid", &pod.uid),
            ("node", &pod.node),
        ] {
            if !value.is_empty() {
                system.insert(key.to_owned(), value.to_owned());
            }
        }
        Source {
            pod,
            object,
            system,
            number,
        }
    }

    /// `shop/web-7d9`, fit for a line.
    pub(super) fn id(&self) -> String {
        shown(&self.pod.id().to_string())
    }

    /// An exhibit of the pod. `name` is ours; nothing of the cluster's is in it.
    pub(super) fn draft(
        &self,
        name: &str,
        what: &str,
        category: Category,
        method: &str,
        volatility: u8,
    ) -> ExhibitDraft {
        ExhibitDraft {
            name: format!("pod{}-{name}", self.number),
            description: format!("{what} of pod {}", self.id()),
            category,
            system: self.system.clone(),
            method: method.into(),
            command: None,
            trust: None,
            volatility,
        }
    }

    /// The same of one container.
    pub(super) fn of_container(
        &self,
        container: &Container,
        mut draft: ExhibitDraft,
    ) -> ExhibitDraft {
        for (key, value) in [
            ("container", &container.name),
            ("image", &container.image),
            ("image_digest", &container.image_id),
            ("container_id", &container.container_id),
        ] {
            if !value.is_empty() {
                draft.system.insert(key.to_owned(), value.clone());
            }
        }
        draft.description = format!(
            "{}, container {}",
            draft.description,
            shown(&container.name)
        );
        draft
    }
}

/// The cluster's identity for exhibits; empty where it may not be asked.
pub(super) async fn cluster_uid(cluster: &Cluster) -> String {
    cluster
        .view
        .identity()
        .await
        .map(|i| i.uid)
        .unwrap_or_default()
}

/// A name from outside without anything that a terminal would act on.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
