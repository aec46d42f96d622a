//! The plan for isolating one pod, from one snapshot: what phase A denies, what phase B moves out, what still allows, who lets go,
//! and what cannot be given. Pure; the verbs of `action/contain` only carry it out.
//!
//! *Phase A*: a deny-all policy, then our label on the pod. *Phase B*: one change of labels that moves the pod out of Services, its
//! ReplicaSet and allow policies. A alone does not contain while another policy allows (policies only add up); B alone would also
//! leave the policies that isolated the pod. Hence A before B, and every state is checked by [`super::monotone`].

use std::collections::{BTreeMap, HashMap};

use super::cluster::{ClusterSnapshot, Labels, NetworkPolicy, Pod};
use super::monotone::{Classes, State, Widened, check, deny_policy, who_names};
use super::policy::Engine;
use super::residual::{Residual, residual};
use super::solver::{Role, Seen, Solution, selectors_that_see, solve};

/// The label that isolates. Its value is the containment id.
pub const QUARANTINE: &str = "firebreak/quarantine";
/// The label on policy objects of ours.
pub const CONTAINMENT: &str = "firebreak/containment";
/// Namespace of our own throw-away pods.
pub const HANDS: &str = "firebreak-hands";
/// Annotations that keep autoscalers from evicting the evidence.
pub const GUARDS: [(&str, &str); 2] = [
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
    ("karpenter.sh/do-not-disrupt", "true"),
];

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Value of the quarantine label.
    pub containment: String,
    /// Stop after phase A.
    pub phase_a_only: bool,
    /// The pod was named itself, not found by a selector.
    pub named: bool,
}

/// A pod that is not isolated, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub why: String,
    /// What to do instead.
    pub instead: String,
}

/// The plan for one pod.
#[derive(Debug, Clone, PartialEq)]
pub struct IsolationPlan {
    /// The pod as found.
    pub pod: Pod,
    /// Value of the quarantine label.
    pub containment: String,
    /// Why it is not done.
    pub refused: Option<Refusal>,
    /// True when phase A is in force: it carries a quarantine label of ours with its policy in place.
    pub denied: bool,
    /// True when nothing is left to do: phase A is in force, nothing is left to move and the guards are there.
    pub already: bool,
    /// Label changes of phase B; empty where phase A is all.
    pub move_out: BTreeMap<String, Option<String>>,
    /// `ReplicaSet/web-7d9` or `none`.
    pub owner: String,
    /// Services that let go in phase B.
    pub services_leaving: Vec<String>,
    /// Services that keep sending traffic.
    pub services_staying: Vec<String>,
    /// Policies that select the pod in the last state, ours not counted.
    pub still_selecting: Vec<String>,
    /// What still allows after phase A.
    pub after_a: Residual,
    /// What still allows in the last state.
    pub in_the_end: Residual,
    /// What the controller will do.
    pub replacement: Option<String>,
    /// Whose selector lets go, and by which requirement.
    pub escaped: Vec<String>,
    /// What cannot be given or proven here.
    pub cannot: Vec<String>,
    /// Warnings.
    pub warnings: Vec<String>,
}

impl IsolationPlan {
    /// True when phase B changes something.
    pub fn has_phase_b(&self) -> bool {
        !self.move_out.is_empty()
    }
}

fn is_guarded(pod: &Pod) -> bool {
    GUARDS
        .iter()
        .all(|(key, value)| pod.annotations.get(*key).map(String::as_str) == Some(value))
}

/// Name of the policy of a containment.
pub fn policy_name(containment: &str) -> String {
    format!("firebreak-{containment}")
}

/// True for a policy object that is exactly what we write: our label, our name, no rule.
pub fn is_ours(policy: &NetworkPolicy) -> bool {
    policy
        .labels
        .get(CONTAINMENT)
        .is_some_and(|id| policy.name == policy_name(id) && selects_only(policy, id))
}

fn selects_only(policy: &NetworkPolicy, id: &str) -> bool {
    let shape = deny_policy(&policy.namespace, &policy.name, QUARANTINE, id);
    policy.pod_selector == shape.pod_selector
        && policy.ingress.is_empty()
        && policy.egress.is_empty()
        && super::policy::has_direction(policy, super::cluster::Direction::Ingress)
        && super::policy::has_direction(policy, super::cluster::Direction::Egress)
}

/// Plans many pods on one snapshot; what depends on labels only is worked out once for pods that share them.
pub struct Planner<'a> {
    world: &'a ClusterSnapshot,
    classes: Classes<'a>,
    foreign_namers: Vec<String>,
    known: HashMap<(String, Labels), Shared>,
}

/// What pods with the same labels in one namespace share.
#[derive(Clone)]
struct Shared {
    solution: Solution,
    widened_a: Vec<Widened>,
    widened_b: Vec<Widened>,
    seen: Vec<Seen>,
}

impl<'a> Planner<'a> {
    /// A planner over one snapshot.
    pub fn new(world: &'a ClusterSnapshot) -> Self {
        let ours: Vec<String> = world
            .policies
            .iter()
            .filter(|p| is_ours(p))
            .map(|p| format!("policy {}/{}", p.namespace, p.name))
            .collect();
        let mut foreign_namers = who_names(world, QUARANTINE);
        foreign_namers.retain(|n| !ours.contains(n));
        Planner {
            world,
            classes: Classes::of(world),
            foreign_namers,
            known: HashMap::new(),
        }
    }

    /// The plan for one pod.
    pub fn plan(&mut self, pod: &Pod, wish: &Wish) -> IsolationPlan {
        let carried = pod.labels.get(QUARANTINE);
        let denied = carried.is_some_and(|id| self.has_policy(pod, id));
        let containment = if denied {
            carried.cloned().unwrap_or_default()
        } else {
            wish.containment.clone()
        };
        let mut plan = IsolationPlan {
            pod: pod.clone(),
            containment: containment.clone(),
            refused: self.refusal(pod, wish, denied),
            denied,
            already: false,
            move_out: BTreeMap::new(),
            owner: owner_text(pod),
            services_leaving: Vec::new(),
            services_staying: Vec::new(),
            still_selecting: Vec::new(),
            after_a: Residual::default(),
            in_the_end: Residual::default(),
            replacement: None,
            escaped: Vec::new(),
            cannot: Vec::new(),
            warnings: Vec::new(),
        };
        if plan.refused.is_some() {
            return plan;
        }
        let shared = self.shared(pod, &containment);
        if !shared.widened_a.is_empty() {
            plan.refused = Some(Refusal {
                why: format!(
                    "the deny policy would open a flow: {}",
                    shared.widened_a[0].flow
                ),
                instead: "ask the owner of the policies; nothing was changed".into(),
            });
            return plan;
        }
        // An earlier run may have been cut off between the phases: what it left out is worked out like for any other pod.
        let (mut set, reasons) = phase_b(pod, wish, &shared);
        set.retain(|key, value| pod.labels.get(key) != value.as_ref());
        plan.already = denied && set.is_empty() && is_guarded(pod);
        plan.move_out = set;
        plan.cannot.extend(reasons);
        self.fill(&mut plan, &shared);
        plan
    }

    fn has_policy(&self, pod: &Pod, id: &str) -> bool {
        self.world
            .policies
            .iter()
            .any(|p| p.namespace == pod.namespace && p.name == policy_name(id) && is_ours(p))
    }

    fn refusal(&self, pod: &Pod, wish: &Wish, denied: bool) -> Option<Refusal> {
        let no = |why: String, instead: &str| {
            Some(Refusal {
                why,
                instead: instead.to_owned(),
            })
        };
        if pod.mirror {
            return no(
                "a static pod: the kubelet owns it, its labels are not the API's to change".into(),
                "move its manifest out of the node's static pod folder, or contain the node: `contain.cordon_node` and the cloud's security group",
            );
        }
        if pod.host_network {
            return no(
                "it uses the node's network (hostNetwork): no NetworkPolicy applies to it".into(),
                "work at the node: acquire, `contain.cordon_node`, rules on the host or the cloud's security group, and last delete the pod by UID once its bag is sealed",
            );
        }
        if pod.deleting {
            return no(
                "it is being deleted".into(),
                "acquire what is left of it now; its replacement is another pod",
            );
        }
        if matches!(pod.phase.as_str(), "Succeeded" | "Failed") {
            return no(
                format!("it has ended ({}): it has no network any more", pod.phase),
                "acquire its logs and object",
            );
        }
        if let Some(what) = protected(pod)
            && !wish.named
        {
            return no(
                format!("{what}: refused unless named one by one"),
                "name the pod itself with `pod`",
            );
        }
        if !denied
            && let Some(id) = pod.labels.get(QUARANTINE)
            && *id != wish.containment
        {
            return no(
                format!("it carries `{QUARANTINE}={id}` without a policy of ours"),
                "look who set it; remove the label by hand if it is a leftover",
            );
        }
        if !self.foreign_namers.is_empty() {
            return no(
                format!(
                    "the label {QUARANTINE} is named by {}",
                    self.foreign_namers.join(", ")
                ),
                "it must be ours alone: ask the owner to take it out of that selector",
            );
        }
        None
    }

    fn shared(&mut self, pod: &Pod, containment: &str) -> Shared {
        let key = (pod.namespace.clone(), pod.labels.clone());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let seen: Vec<Seen> = selectors_that_see(self.world, pod)
            .into_iter()
            .filter(|s| !s.name.contains(&policy_name(containment)))
            .collect();
        let labels = &pod.labels;
        let solution = solve(labels, &seen, &fresh_value(containment));
        let extra = vec![deny_policy(
            &pod.namespace,
            &policy_name(containment),
            QUARANTINE,
            containment,
        )];
        let states = [
            State {
                name: "before",
                extra: Vec::new(),
                pod: pod.clone(),
            },
            State {
                name: "A",
                extra: extra.clone(),
                pod: with_labels(pod, labelled(labels, containment)),
            },
            State {
                name: "B",
                extra,
                pod: with_labels(pod, labelled(&solution.apply(labels), containment)),
            },
        ];
        let (widened_a, widened_b) = check(self.world, &self.classes, &states)
            .into_iter()
            .partition(|w| w.state == "A");
        let shared = Shared {
            solution,
            widened_a,
            widened_b,
            seen,
        };
        self.known.insert(key, shared.clone());
        shared
    }

    fn fill(&self, plan: &mut IsolationPlan, shared: &Shared) {
        let pod = plan.pod.clone();
        let a = labelled(&pod.labels, &plan.containment);
        let mut b = a.clone();
        for (k, v) in &plan.move_out {
            match v {
                Some(v) => b.insert(k.clone(), v.clone()),
                None => b.remove(k),
            };
        }
        let extra = [deny_policy(
            &pod.namespace,
            &policy_name(&plan.containment),
            QUARANTINE,
            &plan.containment,
        )];
        let pod_b = with_labels(&pod, b.clone());
        plan.after_a = residual(self.world, &extra, &with_labels(&pod, a));
        plan.in_the_end = residual(self.world, &extra, &pod_b);
        for s in shared.seen.iter().filter(|s| s.role == Role::Service) {
            match (s.selector.matches(&pod.labels), s.selector.matches(&b)) {
                (true, false) => plan.services_leaving.push(s.name.clone()),
                (_, true) => plan.services_staying.push(s.name.clone()),
                _ => {}
            }
        }
        let engine = Engine::new(self.world, &[]);
        plan.still_selecting = engine
            .selecting(&pod_b)
            .filter(|p| !is_ours(p))
            .map(|p| format!("{}/{}", p.namespace, p.name))
            .collect();
        if plan.has_phase_b() {
            plan.escaped = shared
                .solution
                .escaped
                .iter()
                .map(|e| format!("{} lets go: `{}` fails", e.name, e.fails))
                .collect();
            plan.replacement = replacement(self.world, &pod);
        }
        plan.warnings.extend(warnings(self.world, plan, shared, &b));
        plan.cannot.extend(never_sure(self.world, plan));
    }
}

/// The label changes of phase B, or why there are none.
fn phase_b(
    pod: &Pod,
    wish: &Wish,
    shared: &Shared,
) -> (BTreeMap<String, Option<String>>, Vec<String>) {
    let mut reasons = Vec::new();
    let kind = pod.owner.as_ref().map(|o| o.kind.as_str());
    let stays = match kind {
        None | Some("ReplicaSet" | "ReplicationController") => None,
        Some("StatefulSet") => Some(
            "a StatefulSet would need its name and volume for the replacement and get stuck"
                .to_owned(),
        ),
        Some("DaemonSet") => {
            Some("its DaemonSet would start a second pod on the same node".to_owned())
        }
        Some("Job") => Some("its Job would run the work again".to_owned()),
        Some(other) => Some(format!(
            "what its controller ({other}) would do is not known"
        )),
    };
    if let Some(why) = stays {
        reasons.push(format!(
            "phase B is left out, the pod keeps its labels: {why}. Services keep it as an endpoint and policies that allow keep allowing"
        ));
    } else if wish.phase_a_only {
        reasons.push("phase B was not wanted: Services and allow policies keep the pod".into());
    } else if let Some(adopter) = shared.solution.adopters().next() {
        reasons.push(format!(
            "phase B is left out: {} would adopt the pod and could delete it as one too many ({})",
            adopter.name, adopter.why
        ));
    } else if let Some(widened) = shared.widened_b.first() {
        reasons.push(format!(
            "phase B is left out: it would open a flow ({})",
            widened.flow
        ));
    } else {
        let remains = shared.solution.remaining.iter();
        reasons.extend(
            remains
                .filter(|r| r.role != Role::Peer)
                .map(|r| format!("{} keeps selecting the pod: {}", r.name, r.why)),
        );
        let conflicts = shared.solution.conflicts.iter();
        reasons.extend(conflicts.map(|c| format!("cannot be escaped together: {}", c.join(", "))));
        return (shared.solution.set.clone(), reasons);
    }
    (BTreeMap::new(), reasons)
}

fn warnings(
    world: &ClusterSnapshot,
    plan: &IsolationPlan,
    shared: &Shared,
    after: &Labels,
) -> Vec<String> {
    let pod = &plan.pod;
    let mut all = Vec::new();
    if let Some(what) = protected(pod) {
        all.push(format!("{what}: isolating it may break the cluster"));
    }
    if pod.containers.iter().any(|c| c.network_liveness) {
        all.push("a liveness probe goes over the network; the kubelet's own node is always let through, but a probe that needs other services will fail and restart the container: its memory is lost".into());
    }
    for s in shared.seen.iter().filter(|s| s.role == Role::Budget) {
        if s.selector.matches(&pod.labels) && !s.selector.matches(after) {
            all.push(format!("{} no longer protects the pod", s.name));
        }
    }
    for slice in &world.endpoint_slices {
        let by_hand = world.services.iter().any(|s| {
            s.namespace == slice.namespace && s.name == slice.service && s.selector.is_none()
        }) || slice.service.is_empty();
        let lists = slice
            .endpoints
            .iter()
            .flat_map(|e| &e.addresses)
            .any(|a| pod.ips.contains(a));
        if by_hand && lists {
            all.push(format!(
                "EndpointSlice {}/{} lists the pod's address by hand: labels do not take it out",
                slice.namespace, slice.name
            ));
        }
    }
    if plan.replacement.is_some() {
        all.push(format!(
            "containment is not eradication: the replacement runs the same image{}",
            if pod.secrets.is_empty() {
                ""
            } else {
                " and mounts the same secrets"
            }
        ));
    }
    all
}

fn never_sure(world: &ClusterSnapshot, plan: &IsolationPlan) -> Vec<String> {
    let mut all = vec![
        format!(
            "the pod and its own node ({}) always reach each other",
            plan.pod.node
        ),
        "connections that are already open may stay open: policies are for new ones".to_owned(),
        "that the network plugin enforces policies: only probes or a canary show it".to_owned(),
    ];
    all.extend(
        world
            .unread
            .iter()
            .map(|u| format!("{} could not be read ({})", u.what, u.why)),
    );
    all
}

fn replacement(world: &ClusterSnapshot, pod: &Pod) -> Option<String> {
    let owner = pod.owner.as_ref()?;
    let controller = world.controllers.iter().find(|c| c.uid == owner.uid)?;
    Some(format!(
        "{} {}/{} ({} wanted) lets the pod go and starts a replacement",
        controller.kind, controller.namespace, controller.name, controller.replicas
    ))
}

/// What makes a pod one that a selector must never catch by accident.
pub fn protected(pod: &Pod) -> Option<&'static str> {
    const PLUGINS: [&str; 14] = [
        "calico",
        "cilium",
        "kube-router",
        "antrea",
        "ovn",
        "weave",
        "flannel",
        "aws-node",
        "kube-proxy",
        "coredns",
        "kube-dns",
        "tigera",
        "multus",
        "kindnet",
    ];
    if pod.namespace == "kube-system" {
        Some("a pod of kube-system")
    } else if pod.namespace == HANDS {
        Some("a pod of firebreak itself")
    } else if PLUGINS.iter().any(|p| pod.name.starts_with(p))
        || pod
            .labels
            .get("k8s-app")
            .is_some_and(|v| PLUGINS.iter().any(|p| v.starts_with(p)))
    {
        Some("a pod of the cluster's network or name service")
    } else {
        None
    }
}

fn owner_text(pod: &Pod) -> String {
    pod.owner
        .as_ref()
        .map_or_else(|| "none".to_owned(), |o| format!("{}/{}", o.kind, o.name))
}

/// A label value of ours that stands for "nowhere".
fn fresh_value(containment: &str) -> String {
    let tail = containment.rsplit('-').next().unwrap_or(containment);
    format!("moved-out-{tail}")
}

fn labelled(labels: &Labels, containment: &str) -> Labels {
    let mut labels = labels.clone();
    labels.insert(QUARANTINE.to_owned(), containment.to_owned());
    labels
}

/// The same pod with other labels.
pub fn with_labels(pod: &Pod, labels: Labels) -> Pod {
    Pod {
        labels,
        ..pod.clone()
    }
}
