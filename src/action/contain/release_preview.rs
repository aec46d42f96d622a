//! What a person reads before they release: what is taken back, what the owner of the pod will do, and whether the cluster lets us.
//!
//! A right that is missing half-way would leave a pod between isolated and given back. So every write that the release is going to make
//! is asked for before the first one, as the server would answer it now.

use crate::action::{ActionError, Class, Context, Preview};
use crate::incident::History;
use crate::incident::body::ObjectRef;
use crate::port::{Cause, Cluster, Right, WriteMode};
use crate::reach::cluster::PodName;

use super::canary::{CREATE_CANARY, REMOVAL};
use super::isolate_workload::{CREATE_POLICY, LABEL, LABEL_FIELD, MOVE_OUT};
use super::journal::{Fields, Journal, Live};
use super::naming::place;
use super::preview::missing_right;
use super::release::{planned_owner, reversal, taken_back_by, writes_of};
use super::write::{Change, DENY_ALL, Op, POLICY_FIELD, pod_fields, send};

/// Fills the preview of a release.
pub(super) async fn of_release(
    cx: &Context,
    pod: &PodName,
    preview: &mut Preview,
) -> Result<(), ActionError> {
    let cluster = cx.cluster()?;
    let history = cx.ledger.history()?;
    let writes = to_take_back(&history, pod);
    preview.changes = writes.iter().map(words).collect();
    // Before its isolation ran there is nothing to take back: an undo may be planned all the same.
    preview.already = writes.is_empty();
    let now = cluster.view.pod(pod).await?;
    if let Some(now) = &now {
        preview
            .binding
            .insert(format!("pod {}", now.id()), now.uid.clone());
    }
    if preview.already {
        return Ok(());
    }
    let ready = now.as_ref().is_none_or(|p| p.ready);
    what_follows(&history, &writes, ready, preview);
    for write in &writes {
        may_take_back(cluster, write, preview).await?;
    }
    may_remove_canaries(cluster, &writes).await
}

/// The writes that a release takes back now; a policy that other pods still need is not among them.
pub(super) fn to_take_back(history: &History, pod: &PodName) -> Vec<Live> {
    let journal = Journal::of(history);
    let mut writes = writes_of(history, pod);
    writes.retain(|l| l.what != CREATE_POLICY || !is_needed(&journal, &l.object, pod));
    writes
}

fn is_needed(journal: &Journal, policy: &ObjectRef, pod: &PodName) -> bool {
    let id = policy.name.strip_prefix("firebreak-");
    journal.live.iter().any(|l| {
        let value = l.written.get(LABEL_FIELD).and_then(Option::as_deref);
        l.what == LABEL
            && l.object.namespace == policy.namespace
            && l.object.name != pod.name
            && value == id
    })
}

fn words(live: &Live) -> String {
    match live.what.as_str() {
        CREATE_POLICY => format!("remove policy {}", place(&live.object)),
        CREATE_CANARY => format!("remove our throw-away pods {}", place(&live.object)),
        what => {
            let fields: Vec<String> = live
                .before
                .iter()
                .map(|(k, v)| format!("{k} → {}", v.as_deref().unwrap_or("absent")))
                .collect();
            format!("take back `{what}`: {}", fields.join(", "))
        }
    }
}

/// What the release sets off, by who owned the pod and by what was done to it.
fn what_follows(history: &History, writes: &[Live], ready: bool, preview: &mut Preview) {
    let Some(on_pod) = writes.iter().find(|l| l.object.kind == "Pod") else {
        return;
    };
    let uid = on_pod.object.uid.as_str();
    if !writes.iter().any(|l| l.what == MOVE_OUT) {
        let owner = planned_owner(history, uid).unwrap_or_else(|| "none".into());
        preview.blast_radius.push(match owner.as_str() {
            "none" => "the pod kept its labels and nobody owns it: nothing is started or deleted for it".into(),
            owner => format!("the pod kept its labels and belongs to {owner} all along: nothing is started or deleted for it"),
        });
        return;
    }
    preview.warnings.push("between restoring the labels and removing ours a Service may send traffic to a pod that is still denied".into());
    match taken_back_by(history, uid) {
        Some(owner) => {
            preview.blast_radius.push(format!(
                "{owner} takes the pod back, is one over and deletes one of its pods"
            ));
            if !ready {
                preview.warnings.push(format!(
                    "the pod is not ready: {owner} deletes such pods first when it comes back"
                ));
            }
        }
        None => preview
            .blast_radius
            .push("nobody owns the pod: it gets its labels back, and nothing is started or deleted for it".into()),
    }
}

/// Asks the server by dry-run whether it would take one write back.
async fn may_take_back(
    cluster: &Cluster,
    live: &Live,
    preview: &mut Preview,
) -> Result<(), ActionError> {
    let Some(change) = asked(cluster, live).await? else {
        return Ok(());
    };
    match send(cluster, &change, WriteMode::Preview).await {
        Err(e) if e.cause == Cause::Refused => {
            Err(missing_right(e).hint("firebreak permissions release"))
        }
        Err(e) if e.cause == Cause::Rejected => {
            preview.blocked.push(e.to_string());
            Ok(())
        }
        Err(e) => {
            preview
                .warnings
                .push(format!("it could not be tried beforehand: {e}"));
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// The request that takes a write back as things are now; none where nothing of it is there.
async fn asked(cluster: &Cluster, live: &Live) -> Result<Option<Change>, ActionError> {
    let object = &live.object;
    if live.what == CREATE_POLICY {
        return Ok(Some(Change {
            op: Op::DeletePolicy,
            object: object.clone(),
            what: live.what.clone(),
            before: Fields::from([(POLICY_FIELD.to_owned(), Some(DENY_ALL.to_owned()))]),
            written: Fields::from([(POLICY_FIELD.to_owned(), None)]),
            reversal: true,
            open: None,
        }));
    }
    if object.kind != "Pod" || live.what == CREATE_CANARY {
        return Ok(None);
    }
    let name = PodName {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
    };
    let pod = cluster.view.pod(&name).await?;
    let Some(pod) = pod.filter(|p| p.uid == object.uid) else {
        return Ok(None);
    };
    let (change, _) = reversal(live, &pod_fields(&pod, live.written.keys()));
    Ok(Some(change).filter(|c| !c.written.is_empty()))
}

/// Our throw-away pods are in a namespace of their own, for which the role of a release need not hold.
async fn may_remove_canaries(cluster: &Cluster, writes: &[Live]) -> Result<(), ActionError> {
    let rights: Vec<Right> = writes
        .iter()
        .filter(|l| l.what == CREATE_CANARY)
        .flat_map(|l| {
            REMOVAL.map(|r| Right::new(r.group, r.resource, r.verb).within(&l.object.namespace))
        })
        .collect();
    if rights.is_empty() {
        return Ok(());
    }
    // A review that cannot be made leaves the rights unknown; the removal itself will say so.
    let answers = cluster.view.may(&rights).await.unwrap_or_default();
    match answers.into_iter().find(|a| a.allowed == Some(false)) {
        None => Ok(()),
        Some(missing) => Err(ActionError::new(
            Class::Denied,
            format!(
                "the right to {} is missing: our throw-away pods could not be removed",
                missing.right
            ),
        )
        .hint("firebreak permissions canary")),
    }
}
