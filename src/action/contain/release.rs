//! Giving back: each write of the ledger compared three ways (*before*, *written*, *now*) and taken back where nobody else changed it.
//!
//! Order: our throw-away pods removed → the old labels restored and, for a moment, the deletion cost raised (so that the ReplicaSet, now
//! one over, does not choose this pod) → our label removed → the policy removed when its last target is gone → the deletion cost as it
//! was. Between restoring and removing our label a Service may send traffic to a pod that is still denied.

use std::time::Duration;

use crate::action::{ActionError, Class, Context, Undone};
use crate::incident::body::{ContainmentPlanned, ObjectRef, WriteIntended, WriteSeen};
use crate::incident::{History, kind};
use crate::port::Cluster;
use crate::reach::cluster::{Pod, PodName};
use crate::reach::isolation::{QUARANTINE, policy_name};

use super::canary::{CREATE_CANARY, remove_canary};
use super::isolate_workload::{ANNOTATE, CREATE_POLICY, LABEL, MOVE_OUT};
use super::journal::{Fields, Journal, Live};
use super::naming::place;
use super::write::{Change, DENY_ALL, Landing, Op, find_policy, make, pod_fields};

/// The annotation by which a ReplicaSet chooses whom to delete: the lowest goes first.
const COST: &str = "annotations/controller.kubernetes.io/pod-deletion-cost";
const HIGHEST_COST: &str = "2147483647";
/// Kind of write: the deletion cost of a pod that comes back.
pub(super) const RAISE_COST: &str = "raise_deletion_cost";
/// Looks at the ReplicaSet until it has its number again, and the pause between them.
const SETTLE: (u32, Duration) = (20, Duration::from_millis(500));

/// What a release gave back and what it left.
#[derive(Debug, Default)]
pub(super) struct Released {
    /// What was given back, one line each.
    pub done: Vec<String>,
    /// What is left, each with what to type, and whose move it is.
    pub left: Vec<(Class, String)>,
    /// What people should know.
    pub said: Vec<String>,
}

impl Released {
    fn stuck(&mut self, class: Class, what: impl Into<String>) {
        self.left.push((class, what.into()));
    }
    /// What is left, one line each.
    pub fn lines(&self) -> Vec<String> {
        self.left.iter().map(|(_, line)| line.clone()).collect()
    }
    /// Whose move it is: what others changed comes first, then what nobody knows, then a right that is missing.
    pub fn class(&self) -> Class {
        [Class::Conflict, Class::InDoubt, Class::Denied]
            .into_iter()
            .find(|class| self.left.iter().any(|(c, _)| c == class))
            .unwrap_or(Class::Failed)
    }
}

/// Takes back what one isolate step wrote, on all its pods.
pub(super) async fn undo_step(cx: &Context) -> Result<Undone, ActionError> {
    let journal = Journal::of(&cx.ledger.history()?);
    let of_step: Vec<Live> = journal
        .live
        .into_iter()
        .filter(|l| l.is_of(&cx.run, &cx.step))
        .collect();
    if of_step.is_empty() {
        return Ok(Undone::Undone("nothing of this step is in force".into()));
    }
    let released = give_back(cx, of_step).await?;
    Ok(if released.left.is_empty() {
        Undone::Undone(summary(&released))
    } else {
        Undone::Stuck {
            summary: format!("{} thing(s) could not be given back", released.left.len()),
            left: released.lines(),
        }
    })
}

/// Takes back every write of the incident that isolates this pod.
pub(super) async fn release_pod(cx: &Context, pod: &PodName) -> Result<Released, ActionError> {
    give_back(cx, writes_of(&cx.ledger.history()?, pod)).await
}

/// Every write of the incident that isolates this pod, and our throw-away pods.
pub(super) fn writes_of(history: &History, pod: &PodName) -> Vec<Live> {
    let journal = Journal::of(history);
    let on_pod = |l: &Live| {
        l.object.kind == "Pod" && l.object.namespace == pod.namespace && l.object.name == pod.name
    };
    // From the plans, not from the labels in force: after a crash the label may be gone and the policy not.
    let ids: Vec<String> = history
        .bodies::<ContainmentPlanned>(kind::CONTAINMENT_PLANNED)
        .filter(|(_, p)| p.pod.namespace == pod.namespace && p.pod.name == pod.name)
        .map(|(_, p)| policy_name(&p.containment))
        .collect();
    journal
        .live
        .into_iter()
        .filter(|l| {
            on_pod(l)
                || l.what == CREATE_CANARY
                || l.object.namespace == pod.namespace
                    && l.what == CREATE_POLICY
                    && ids.contains(&l.object.name)
        })
        .collect()
}

/// The controller that takes a pod back and deletes one for it, as the plan found it: `ReplicaSet/web-7d9`.
pub(super) fn taken_back_by(history: &History, uid: &str) -> Option<String> {
    planned_owner(history, uid).filter(|owner| {
        matches!(
            owner.split('/').next(),
            Some("ReplicaSet" | "ReplicationController")
        )
    })
}

/// Who owned the pod when its isolation was first planned: a pod that was moved out has no owner any more.
pub(super) fn planned_owner(history: &History, uid: &str) -> Option<String> {
    history
        .bodies::<ContainmentPlanned>(kind::CONTAINMENT_PLANNED)
        .find(|(_, p)| p.pod.uid == uid)
        .map(|(_, p)| p.owner)
}

/// One line for people.
pub(super) fn summary(released: &Released) -> String {
    let mut parts = released.done.clone();
    parts.extend(released.said.iter().cloned());
    if parts.is_empty() {
        "nothing of ours is in force".to_owned()
    } else {
        parts.join("; ")
    }
}

/// The order of the module's first page.
async fn give_back(cx: &Context, writes: Vec<Live>) -> Result<Released, ActionError> {
    let mut released = Released::default();
    let of = |what: &str| -> Vec<&Live> { writes.iter().filter(|l| l.what == what).collect() };
    for canary in of(CREATE_CANARY) {
        canaries(cx, canary, &mut released).await?;
    }
    let mut pods: Vec<&ObjectRef> = Vec::new();
    for live in writes.iter().filter(|l| l.object.kind == "Pod") {
        if !pods.iter().any(|p| p.uid == live.object.uid) {
            pods.push(&live.object);
        }
    }
    for object in &pods {
        let on: Vec<&Live> = writes
            .iter()
            .filter(|l| l.object.uid == object.uid && l.object.kind == "Pod")
            .collect();
        pod_back(cx, object, &on, &mut released).await?;
    }
    for policy in of(CREATE_POLICY) {
        policy_back(cx, policy, &mut released).await?;
    }
    for object in &pods {
        cost_back(cx, object, &mut released).await?;
    }
    Ok(released)
}

async fn canaries(cx: &Context, live: &Live, released: &mut Released) -> Result<(), ActionError> {
    match remove_canary(cx, &live.object).await {
        Ok(()) => released
            .done
            .push(format!("{} removed", place(&live.object))),
        Err(e) if e.class == Class::Ledger => return Err(e),
        Err(e) => released.stuck(
            e.class,
            format!(
                "{e}: kubectl delete replicaset,pod -n {} {}",
                live.object.namespace, live.object.name
            ),
        ),
    }
    Ok(())
}

/// Labels first, our own label after.
async fn pod_back(
    cx: &Context,
    object: &ObjectRef,
    on: &[&Live],
    released: &mut Released,
) -> Result<(), ActionError> {
    let Some(pod) = current(cx.cluster()?, object).await? else {
        for live in on {
            close_gone(cx, live)?;
        }
        released.said.push(format!(
            "pod {} with UID {} is gone: nothing to give back on it",
            place(object),
            object.uid
        ));
        return Ok(());
    };
    let moved = on.iter().find(|l| l.what == MOVE_OUT);
    if let Some(live) = moved {
        if let Some(owner) = taken_back_by(&cx.ledger.history()?, &object.uid) {
            if !pod.ready {
                released.said.push(format!(
                    "{} is not ready: {owner} may delete it first when it comes back",
                    place(object)
                ));
            }
            raise_cost(cx, &pod, on, released).await?;
        }
        (cx.progress)(&format!("labels of {} as they were", place(object)));
        if !fields_back(cx, live, &pod, released).await? {
            // Without its old labels no policy but ours selects the pod: it stays denied.
            released.said.push(format!(
                "{} stays isolated: its labels could not be given back",
                place(object)
            ));
            return Ok(());
        }
    }
    for live in on.iter().filter(|l| l.what == ANNOTATE || l.what == LABEL) {
        let Some(pod) = current(cx.cluster()?, object).await? else {
            break;
        };
        fields_back(cx, live, &pod, released).await?;
    }
    Ok(())
}

async fn current(cluster: &Cluster, object: &ObjectRef) -> Result<Option<Pod>, ActionError> {
    let name = PodName {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
    };
    let pod = cluster.view.pod(&name).await?;
    Ok(pod.filter(|p| p.uid == object.uid))
}

/// The object is gone: the write is no longer in force, and the ledger says so.
fn close_gone(cx: &Context, live: &Live) -> Result<(), ActionError> {
    let seen = WriteSeen {
        object: live.object.clone(),
        what: live.what.clone(),
        seen: Fields::new(),
        verdict: "gone".into(),
        reversal: true,
    };
    let intent = match live.reversal {
        Some(open) => open,
        None => cx.intend(&WriteIntended {
            object: live.object.clone(),
            what: live.what.clone(),
            before: live.written.clone(),
            written: live.before.clone(),
            reversal: true,
        })?,
    };
    cx.saw(intent, &seen)
}

/// The three-way comparison, field by field. False when what is ours could not be taken back.
async fn fields_back(
    cx: &Context,
    live: &Live,
    pod: &Pod,
    released: &mut Released,
) -> Result<bool, ActionError> {
    let now = pod_fields(pod, live.written.keys());
    let (back, foreign) = reversal(live, &now);
    for (field, value, was) in &foreign {
        let line = by_hand(live, field, value.as_deref(), was.as_deref());
        released.stuck(Class::Conflict, line);
    }
    if back.written.is_empty() {
        if foreign.is_empty() {
            close_already(cx, live)?;
        }
        return Ok(true);
    }
    let landing = make(cx, back).await?;
    told(&landing, live, released);
    if !foreign.is_empty() && landing.is_there() {
        released.said.push(format!(
            "{} field(s) of {} were changed by others and left",
            foreign.len(),
            place(&live.object)
        ));
    }
    Ok(landing.is_there())
}

/// A field that others changed since: its name, what it is now, what it was before us.
pub(super) type Foreign = (String, Option<String>, Option<String>);

/// The write that takes back what is still as we wrote it, and the fields that others changed.
pub(super) fn reversal(live: &Live, now: &Fields) -> (Change, Vec<Foreign>) {
    let mut back = Change {
        op: Op::Labels,
        object: live.object.clone(),
        what: live.what.clone(),
        before: Fields::new(),
        written: Fields::new(),
        reversal: true,
        open: None,
    };
    let mut foreign = Vec::new();
    for (field, value) in now {
        let (was, wrote) = (live.before.get(field), live.written.get(field));
        if was == Some(value) {
            continue;
        }
        let was = was.cloned().unwrap_or_default();
        if wrote == Some(value) {
            back.before.insert(field.clone(), value.clone());
            back.written.insert(field.clone(), was);
        } else {
            foreign.push((field.clone(), value.clone(), was));
        }
    }
    (back, foreign)
}

fn told(landing: &Landing, live: &Live, released: &mut Released) {
    match (&landing.error, landing.is_there()) {
        (None, true) => released.done.push(match live.what.as_str() {
            LABEL => format!("our label removed from {}", place(&live.object)),
            RAISE_COST => return,
            _ => format!("labels of {} as they were", place(&live.object)),
        }),
        (error, _) => {
            let why = error.as_ref().map(ToString::to_string).unwrap_or_default();
            let class = error.as_ref().map_or(Class::Failed, |e| e.class);
            for (field, was) in &live.before {
                let wrote = live.written.get(field).cloned().flatten();
                let line = by_hand(live, field, wrote.as_deref(), was.as_deref());
                released.stuck(class, format!("{why}: {line}"));
            }
        }
    }
}

/// Everything is as before already: a reversal whose reply was lost, or somebody's own hand.
fn close_already(cx: &Context, live: &Live) -> Result<(), ActionError> {
    let intent = match live.reversal {
        Some(open) => open,
        None => cx.intend(&WriteIntended {
            object: live.object.clone(),
            what: live.what.clone(),
            before: live.written.clone(),
            written: live.before.clone(),
            reversal: true,
        })?,
    };
    cx.saw(
        intent,
        &WriteSeen {
            object: live.object.clone(),
            what: live.what.clone(),
            seen: live.before.clone(),
            verdict: "already".into(),
            reversal: true,
        },
    )
}

/// The exact command that gives one field back.
fn by_hand(live: &Live, field: &str, now: Option<&str>, was: Option<&str>) -> String {
    let (verb, key) = match field.split_once('/') {
        Some(("annotations", key)) => ("annotate", key),
        Some((_, key)) => ("label", key),
        None => ("label", field),
    };
    let to = was.map_or_else(|| format!("{key}-"), |v| format!("{key}={v} --overwrite"));
    format!(
        "{} `{key}` is {} now, was {} before: kubectl {verb} pod -n {} {} {to}",
        place(&live.object),
        now.map_or_else(|| "absent".to_owned(), |v| format!("`{v}`")),
        was.map_or_else(|| "absent".to_owned(), |v| format!("`{v}`")),
        live.object.namespace,
        live.object.name,
    )
}

/// A ReplicaSet that takes the pod back is one over and deletes one: not this one, if we can help it.
async fn raise_cost(
    cx: &Context,
    pod: &Pod,
    on: &[&Live],
    released: &mut Released,
) -> Result<(), ActionError> {
    let field = COST.to_owned();
    let now = pod_fields(pod, std::iter::once(&field));
    let raised = Fields::from([(field.clone(), Some(HIGHEST_COST.to_owned()))]);
    let begun = on.iter().find(|l| l.what == RAISE_COST);
    if now == raised {
        return Ok(());
    }
    let change = Change {
        op: Op::Labels,
        object: super::naming::pod_ref(pod),
        what: RAISE_COST.into(),
        before: begun.map_or(now, |l| l.before.clone()),
        written: raised,
        reversal: false,
        open: begun.filter(|l| !l.seen).map(|l| l.intent),
    };
    let landing = make(cx, change).await?;
    if let Some(error) = landing.error {
        released.said.push(format!(
            "the deletion cost could not be raised ({error}): the ReplicaSet may choose this pod"
        ));
    }
    Ok(())
}

/// When the ReplicaSet has its number again, the deletion cost goes back to what it was.
async fn cost_back(
    cx: &Context,
    object: &ObjectRef,
    released: &mut Released,
) -> Result<(), ActionError> {
    let journal = Journal::of(&cx.ledger.history()?);
    let Some(live) = journal.find(object, RAISE_COST) else {
        return Ok(());
    };
    if !settled(cx, object).await? {
        released.said.push(format!(
            "the ReplicaSet of {} still has more pods than it wants",
            place(object)
        ));
    }
    let Some(pod) = current(cx.cluster()?, object).await? else {
        released.said.push(format!(
            "the ReplicaSet chose {} as the one too many",
            place(object)
        ));
        return close_gone(cx, live);
    };
    fields_back(cx, live, &pod, released).await.map(|_| ())
}

async fn settled(cx: &Context, object: &ObjectRef) -> Result<bool, ActionError> {
    let cluster = cx.cluster()?;
    for n in 0..SETTLE.0 {
        let scope = crate::port::LookScope::Namespaces(vec![object.namespace.clone()]);
        let world = cluster.view.look(&scope).await?;
        let Some(pod) = world.pods.iter().find(|p| p.uid == object.uid) else {
            return Ok(true);
        };
        if let Some(owner) = &pod.owner {
            let wanted = world.controllers.iter().find(|c| c.uid == owner.uid);
            let has = world
                .pods
                .iter()
                .filter(|p| !p.deleting && p.owner.as_ref().is_some_and(|o| o.uid == owner.uid))
                .count();
            if wanted.is_none_or(|c| has <= usize::try_from(c.replicas).unwrap_or(usize::MAX)) {
                return Ok(true);
            }
        }
        if cx.ports.clock.waits_are_simulated() && n > 2 {
            return Ok(false);
        }
        if !cx.ports.clock.waits_are_simulated() {
            tokio::time::sleep(SETTLE.1).await;
        }
    }
    Ok(false)
}

/// The policy goes with its last target, and only as we wrote it.
async fn policy_back(
    cx: &Context,
    live: &Live,
    released: &mut Released,
) -> Result<(), ActionError> {
    let cluster = cx.cluster()?;
    let id = live
        .object
        .name
        .strip_prefix("firebreak-")
        .unwrap_or(&live.object.name);
    let others = cluster
        .view
        .pods_by_selector(&live.object.namespace, &format!("{QUARANTINE}={id}"))
        .await?;
    if let Some(other) = others.first() {
        released.said.push(format!(
            "policy {} stays: {} still carries its label",
            place(&live.object),
            other.id()
        ));
        return Ok(());
    }
    let there = Fields::from([("policy".to_owned(), Some(DENY_ALL.to_owned()))]);
    match find_policy(cluster, &live.object).await? {
        None => close_already(cx, live),
        Some((uid, DENY_ALL)) => {
            let change = Change {
                op: Op::DeletePolicy,
                object: ObjectRef {
                    uid,
                    ..live.object.clone()
                },
                what: CREATE_POLICY.into(),
                before: there,
                written: Fields::from([("policy".to_owned(), None)]),
                reversal: true,
                open: None,
            };
            let landing = make(cx, change).await?;
            match landing.error {
                None => released
                    .done
                    .push(format!("policy {} removed", place(&live.object))),
                Some(e) => {
                    released.stuck(e.class, format!("{e}: {}", delete_by_hand(&live.object)));
                }
            }
            Ok(())
        }
        Some(_) => {
            let line = format!(
                "policy {} was changed by somebody and left: look at it, then {}",
                place(&live.object),
                delete_by_hand(&live.object)
            );
            released.stuck(Class::Conflict, line);
            Ok(())
        }
    }
}

fn delete_by_hand(policy: &ObjectRef) -> String {
    format!(
        "kubectl delete networkpolicy -n {} {}",
        policy.namespace, policy.name
    )
}
