//! `acquire.manifests`: what the API server holds about pods: objects, owners, node, Services, policies, events.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde_json::Value;

use crate::action::registry::{ActionSpec, UndoSpec, Use};
use crate::action::{Action, ActionError, Applied, Context, Observed, Preview};
use crate::incident::{Category, Effect, Phase};
use crate::port::{Cause, Cluster, ExhibitDraft, LookScope, PortError, Right};
use crate::reach::cluster::ClusterSnapshot;

use super::bag::StepBag;
use super::pods::{self, PodArgs, Source, shown};
use super::{READS, RESULT, look_for_bag, right, wide};

/// Owners of owners that are followed: a chain is two or three long; a longer one is somebody's loop.
const CHAIN: usize = 8;

static SPEC: ActionSpec = ActionSpec {
    name: "acquire.manifests",
    about: "Copies the API objects around pods: pod, owners, node, Services, policies, events.",
    effect: Effect::Read,
    phase: Phase::Containment,
    uses: &[Use::Call],
    args_schema: || schemars::schema_for!(PodArgs),
    check_args: pods::check,
    undo: UndoSpec::None(READS),
    result: RESULT,
    rights: &[
        right("", "pods", "get"),
        right("", "pods", "list"),
        right("", "services", "get"),
        right("", "services", "list"),
        right("", "serviceaccounts", "get"),
        right("", "replicationcontrollers", "get"),
        right("", "events", "list"),
        right("apps", "replicasets", "get"),
        right("apps", "deployments", "get"),
        right("apps", "statefulsets", "get"),
        right("apps", "daemonsets", "get"),
        right("batch", "jobs", "get"),
        right("batch", "cronjobs", "get"),
        right("networking.k8s.io", "networkpolicies", "get"),
        right("networking.k8s.io", "networkpolicies", "list"),
        wide("nodes", "get"),
        wide("namespaces", "get"),
    ],
    exhibit: Some(Category::Config),
    volatility: Some(6),
    disturbs: 0,
    timeout_s: 120,
};

/// Copies what the API server holds about pods.
///
/// *Effect*: read. *Undo*: none needed. *What it disturbs*: nothing. *Permissions*: get on each kind, list on pods, Services, policies
/// and events of the namespace. *Cost and time*: about ten requests for each pod. An object that may not be read is said, the others are
/// taken. *Source*: <https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/>.
pub struct Manifests;

#[async_trait]
impl Action for Manifests {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, args: &Value) -> Result<Preview, ActionError> {
        pods::read::<PodArgs>(args)?
            .preview(cx, "the API objects")
            .await
    }

    async fn apply(&self, cx: &Context, args: &Value) -> Result<Applied, ActionError> {
        let args: PodArgs = pods::read(args)?;
        let cluster = cx.cluster()?;
        let found = args.find(cx, cluster).await?;
        let uid = pods::cluster_uid(cluster).await;
        let scope = LookScope::Namespaces(vec![args.namespace.clone()]);
        let around = cluster.view.look(&scope).await;
        let mut bag = StepBag::open(cx, "API objects of pods")?;
        let around = around.unwrap_or_else(|e| {
            bag.missing("Services and policies that select the pods", &e.detail);
            ClusterSnapshot::default()
        });
        let mut seen = BTreeSet::new();
        bag.gone(&found.gone);
        for (at, pod) in found.pods.into_iter().enumerate() {
            let source = Source::new(&uid, at + 1, pod);
            (cx.progress)(&format!("API objects of {}", source.id()));
            let mut step = Step {
                cluster,
                bag: &mut bag,
                source: &source,
                seen: &mut seen,
            };
            step.pod(&around).await?;
        }
        bag.seal()
    }

    async fn observe(&self, cx: &Context, _args: &Value) -> Result<Observed, ActionError> {
        look_for_bag(cx)
    }

    fn rights(&self, args: &Value) -> Vec<Right> {
        pods::rights_of(&SPEC, args)
    }
}

struct Step<'a> {
    cluster: &'a Cluster,
    bag: &'a mut StepBag,
    source: &'a Source,
    /// Objects that are in the bag already: pods share owners and nodes.
    seen: &'a mut BTreeSet<(String, String)>,
}

impl Step<'_> {
    /// Most volatile first: the pod's status and events move, the rest is configuration.
    async fn pod(&mut self, around: &ClusterSnapshot) -> Result<(), ActionError> {
        let pod = &self.source.pod;
        let object = self.object("Pod", &pod.namespace, &pod.name, 5).await?;
        self.events().await?;
        let mut next = object.as_ref().and_then(controller);
        for _ in 0..CHAIN {
            let Some((kind, name)) = next else { break };
            let owner = self.object(&kind, &pod.namespace, &name, 6).await?;
            next = owner.as_ref().and_then(controller);
        }
        if !pod.node.is_empty() {
            self.object("Node", "", &pod.node, 6).await?;
        }
        if !pod.service_account.is_empty() {
            self.object("ServiceAccount", &pod.namespace, &pod.service_account, 6)
                .await?;
        }
        self.selecting(around).await
    }

    async fn selecting(&mut self, around: &ClusterSnapshot) -> Result<(), ActionError> {
        let pod = &self.source.pod;
        for missing in &around.unread {
            let what = missing.what.as_str();
            if what.starts_with("services") || what.starts_with("networkpolicies") {
                self.bag.missing(
                    &format!("{} around pod {}", shown(what), self.source.id()),
                    &shown(&missing.why),
                );
            }
        }
        let services = around.services.iter().filter(|s| {
            let selects = |l: &crate::reach::cluster::Labels| {
                l.iter().all(|(k, v)| pod.labels.get(k) == Some(v))
            };
            s.namespace == pod.namespace && s.selector.as_ref().is_some_and(selects)
        });
        for service in services {
            self.object("Service", &service.namespace, &service.name, 6)
                .await?;
        }
        let policies = around
            .policies
            .iter()
            .filter(|p| p.namespace == pod.namespace && p.pod_selector.matches(&pod.labels));
        for policy in policies {
            self.object("NetworkPolicy", &policy.namespace, &policy.name, 6)
                .await?;
        }
        Ok(())
    }

    fn draft(&self, kind: &str, name: &str, volatility: u8) -> ExhibitDraft {
        let method = format!("GET {}", shown(kind));
        let mut draft =
            self.source
                .draft("object", "object", Category::Config, &method, volatility);
        if kind != "Pod" {
            draft.description = format!(
                "{} {} around pod {}",
                shown(kind),
                shown(name),
                self.source.id()
            );
            draft.system.insert("kind".into(), kind.to_owned());
            draft.system.insert("name".into(), name.to_owned());
        }
        draft
    }

    /// Takes one object in, once.
    async fn object(
        &mut self,
        kind: &str,
        namespace: &str,
        name: &str,
        volatility: u8,
    ) -> Result<Option<Value>, ActionError> {
        let draft = self.draft(kind, name, volatility);
        let found: Result<Option<Value>, PortError> =
            self.cluster.view.object(kind, namespace, name).await;
        match found {
            Ok(Some(object)) => {
                if self.seen.insert((kind.to_owned(), name.to_owned())) {
                    self.bag.bytes(&draft, format!("{object}\n").as_bytes())?;
                }
                Ok(Some(object))
            }
            Ok(None) => {
                self.bag.missing(&draft.description, "it is not there");
                Ok(None)
            }
            Err(e) => {
                let why = match e.cause {
                    Cause::Unsupported => "objects of this kind are not read".to_owned(),
                    _ => e.detail,
                };
                self.bag.missing(&draft.description, &why);
                Ok(None)
            }
        }
    }

    async fn events(&mut self) -> Result<(), ActionError> {
        let pod = &self.source.pod;
        let draft = self
            .source
            .draft("events", "events", Category::Logs, "LIST events", 5);
        match self.cluster.view.events(&pod.namespace, &pod.uid).await {
            Ok(events) if events.is_empty() => Ok(()),
            Ok(events) => self.bag.bytes(&draft, super::lines(&events).as_bytes()),
            Err(e) => {
                self.bag.missing(&draft.description, &e.detail);
                Ok(())
            }
        }
    }
}

/// Kind and name of an object's controller.
fn controller(object: &Value) -> Option<(String, String)> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|o| o["controller"] == true)?;
    Some((
        owner["kind"].as_str()?.to_owned(),
        owner["name"].as_str()?.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::fakes::Fakes;
    use super::*;
    use crate::reach::cluster::{NetworkPolicy, Selector, Service, Unread};
    use serde_json::json;

    #[tokio::test]
    async fn the_chain_of_owners_and_all_that_select_the_pod_are_taken_once() {
        let fakes = Fakes::new();
        let pod = fakes.pod("web");
        let owned = |kind: &str, name: &str| json!({ "metadata": { "ownerReferences": [{ "controller": true, "kind": kind, "name": name }] } });
        fakes.object("Pod", "web", owned("ReplicaSet", "web-1"));
        fakes.object("ReplicaSet", "web-1", owned("Deployment", "web"));
        fakes.object("Deployment", "web", owned("Rollout", "strange"));
        fakes.object("Node", "node-1", json!({ "kind": "Node" }));
        fakes.object("Service", "web", json!({ "kind": "Service" }));
        fakes.object("NetworkPolicy", "allow", json!({ "kind": "NetworkPolicy" }));
        let named = |name: &str, selector| Service {
            namespace: "shop".into(),
            name: name.into(),
            selector,
            ..Service::default()
        };
        fakes.around(ClusterSnapshot {
            services: vec![
                named("web", Some(pod.labels.clone())),
                named("hand-made", None),
            ],
            policies: vec![NetworkPolicy {
                namespace: "shop".into(),
                name: "allow".into(),
                pod_selector: Selector::default(),
                ..NetworkPolicy::default()
            }],
            unread: vec![Unread {
                what: "networkpolicies in shop".into(),
                why: "no right".into(),
            }],
            ..ClusterSnapshot::default()
        });
        let args = json!({ "namespace": "shop", "pod": "web" });
        let applied = Manifests
            .apply(&fakes.context(), &args)
            .await
            .expect("applied");
        let kinds: Vec<String> = fakes
            .taken()
            .iter()
            .map(|t| {
                t.draft
                    .system
                    .get("kind")
                    .cloned()
                    .unwrap_or(t.draft.name.clone())
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "pod1-object",
                "pod1-events",
                "ReplicaSet",
                "Deployment",
                "Node",
                "Service",
                "NetworkPolicy",
                "notes"
            ]
        );
        let said = applied.result["incomplete"].to_string();
        assert!(
            said.contains("Rollout strange") && said.contains("no right"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn a_named_pod_binds_the_plan_by_its_uid_and_a_missing_one_blocks_it() {
        let fakes = Fakes::new();
        fakes.pod("web");
        let args = |name: &str| json!({ "namespace": "shop", "pod": name });
        let preview = Manifests
            .preview(&fakes.context(), &args("web"))
            .await
            .expect("a preview");
        assert_eq!(
            preview.binding.get("pod shop/web uid").map(String::as_str),
            Some("uid-web")
        );
        let gone = Manifests
            .preview(&fakes.context(), &args("gone"))
            .await
            .expect("a preview");
        assert_eq!(gone.blocked.len(), 1);
    }
}
