//! One guarded write, and many of them: intent → send → look where the reply was lost → what was seen.
//!
//! What a crash leaves behind, line by line: before the intent, nothing. After the intent and before the reply, an open intent: the
//! next apply looks at the object first. After the reply and before `seen`, the same, and the look finds it written.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::action::{ActionError, Class, Context};
use crate::incident::body::{ObjectRef, WriteIntended, WriteSeen};
use crate::port::{
    Cause, Cluster, LabelChange, LookScope, PolicySpec, PortError, WriteMode, Written,
};
use crate::reach::cluster::{Node, Pod, PodName};
use crate::reach::isolation::is_ours;

use super::journal::Fields;
use super::naming::place;

/// Writes in flight at once: enough to hide the latency of an API server, few enough not to be throttled.
const AT_ONCE: usize = 8;
/// Intents in one batch of the ledger.
const BATCH: usize = 64;
/// Times one write is sent at most.
const TRIES: u32 = 3;
/// Wait before a write that certainly did not happen is sent again.
const PAUSE: Duration = Duration::from_millis(150);
/// Field that stands for a policy's existence.
pub(super) const POLICY_FIELD: &str = "policy";
/// Its value when it is there as we write it.
pub(super) const DENY_ALL: &str = "deny-all";

/// The request itself.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// Labels and annotations of a pod.
    Labels,
    /// Our deny-all policy.
    PutPolicy(PolicySpec),
    /// Its removal.
    DeletePolicy,
    /// Cordon with this taint value.
    Cordon(String),
    /// Uncordon: taint value, and whether it was schedulable.
    Uncordon(String, bool),
    /// Deletion of a pod by UID.
    DeletePod,
}

/// One write that is to be made.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// The request.
    pub op: Op,
    /// The object.
    pub object: ObjectRef,
    /// Kind of write, as entries name it.
    pub what: String,
    /// What must be there now.
    pub before: Fields,
    /// What shall be there.
    pub written: Fields,
    /// It takes an earlier write back.
    pub reversal: bool,
    /// An intent that is open already: then the object is looked at first.
    pub open: Option<u64>,
}

/// How a write ended.
#[derive(Debug, Clone)]
pub(super) struct Landing {
    /// The object, with its UID.
    pub object: ObjectRef,
    /// What was there afterwards.
    pub seen: Fields,
    /// `written`, `already`, `refused`, `gone`, `changed-by-others`; `None` = not known.
    pub verdict: Option<&'static str>,
    /// Why it did not come to be.
    pub error: Option<ActionError>,
}

impl Landing {
    /// True when it is there now.
    pub fn is_there(&self) -> bool {
        matches!(self.verdict, Some("written" | "already"))
    }
}

/// Makes many writes: their intents in batches, eight in flight, one failure stops no other.
///
/// # Errors
/// When the ledger refuses: then nothing was sent whose intent is not durable.
pub(super) async fn make_all(
    cx: &Context,
    changes: Vec<Change>,
) -> Result<Vec<(Change, Landing)>, ActionError> {
    let cluster = cx.cluster()?.clone();
    let mut landed = Vec::with_capacity(changes.len());
    let mut rest = changes.into_iter().peekable();
    while rest.peek().is_some() {
        let batch: Vec<Change> = rest.by_ref().take(BATCH).collect();
        let fresh: Vec<WriteIntended> = batch
            .iter()
            .filter(|c| c.open.is_none())
            .map(intended)
            .collect();
        let mut numbers = cx.intend_all(&fresh)?.into_iter();
        let mut intents = Vec::with_capacity(batch.len());
        for change in &batch {
            let number = change.open.or_else(|| numbers.next());
            intents.push(number.ok_or_else(|| {
                ActionError::new(Class::Internal, "an intent got no number in the ledger")
            })?);
        }
        let done = send_batch(&cluster, batch).await?;
        let seen: Vec<(u64, WriteSeen)> = done
            .iter()
            .zip(&intents)
            .filter_map(|((change, landing), intent)| {
                seen_entry(change, landing).map(|s| (*intent, s))
            })
            .collect();
        cx.saw_all(&seen)?;
        landed.extend(done);
    }
    Ok(landed)
}

/// Makes one write.
///
/// # Errors
/// When the ledger refuses.
pub(super) async fn make(cx: &Context, change: Change) -> Result<Landing, ActionError> {
    let mut landed = make_all(cx, vec![change]).await?;
    landed
        .pop()
        .map(|(_, l)| l)
        .ok_or_else(|| ActionError::new(Class::Internal, "one write ended in no outcome"))
}

async fn send_batch(
    cluster: &Cluster,
    batch: Vec<Change>,
) -> Result<Vec<(Change, Landing)>, ActionError> {
    if let [only] = batch.as_slice() {
        let landing = land(cluster, only).await;
        return Ok(batch.into_iter().map(|c| (c, landing.clone())).collect());
    }
    let mut running = JoinSet::new();
    let mut queue = batch.into_iter().enumerate();
    let mut done: Vec<(usize, Change, Landing)> = Vec::new();
    loop {
        while running.len() < AT_ONCE {
            let Some((n, change)) = queue.next() else {
                break;
            };
            let cluster = cluster.clone();
            running.spawn(async move {
                let landing = land(&cluster, &change).await;
                (n, change, landing)
            });
        }
        match running.join_next().await {
            Some(Ok(one)) => done.push(one),
            Some(Err(e)) => {
                return Err(ActionError::new(
                    Class::Internal,
                    format!("a write ended without an outcome: {e}"),
                ));
            }
            None => break,
        }
    }
    done.sort_by_key(|(n, ..)| *n);
    Ok(done.into_iter().map(|(_, c, l)| (c, l)).collect())
}

fn intended(change: &Change) -> WriteIntended {
    WriteIntended {
        object: change.object.clone(),
        what: change.what.clone(),
        before: change.before.clone(),
        written: change.written.clone(),
        reversal: change.reversal,
    }
}

/// An outcome that is not known leaves its intent open: the next look decides.
fn seen_entry(change: &Change, landing: &Landing) -> Option<WriteSeen> {
    Some(WriteSeen {
        object: landing.object.clone(),
        what: change.what.clone(),
        seen: landing.seen.clone(),
        verdict: landing.verdict?.to_owned(),
        reversal: change.reversal,
    })
}

/// What a look found.
enum Look {
    Gone,
    Fields(ObjectRef, Fields),
}

/// Sends a write, and looks before it sends anything a second time.
async fn land(cluster: &Cluster, change: &Change) -> Landing {
    // Somebody may have sent it before us: look first.
    if change.open.is_some() {
        match looked(cluster, change).await {
            Ok(Some(landing)) => return landing,
            Ok(None) => {}
            Err(e) => return unknown(change, &e),
        }
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let error = match send(cluster, change, WriteMode::Apply).await {
            Ok(written) => return accepted(change, written),
            Err(e) => e,
        };
        let again = tries < TRIES;
        match error.cause {
            c if c.may_have_happened() || c == Cause::Conflict => {
                match looked(cluster, change).await {
                    Ok(Some(landing)) => return landing,
                    // As it was before: it did not happen. Its guards make a late arrival of the first one harmless.
                    Ok(None) if again => {}
                    Ok(None) if c == Cause::Conflict => return refused(change, &error),
                    Ok(None) | Err(_) => return unknown(change, &error),
                }
            }
            c if c.is_transient() && again => tokio::time::sleep(PAUSE).await,
            Cause::NotFound => return gone(change, Some(&error)),
            _ => return refused(change, &error),
        }
    }
}

/// Sends the request of a change; a preview is the same request as a server-side dry-run.
pub(super) async fn send(
    cluster: &Cluster,
    change: &Change,
    mode: WriteMode,
) -> Result<Written, PortError> {
    let port = &cluster.change;
    let there = |was_there: bool| Written {
        object: change.object.clone(),
        already: !was_there,
        mutated: Vec::new(),
        warnings: Vec::new(),
    };
    match &change.op {
        Op::Labels => {
            let request = LabelChange {
                object: change.object.clone(),
                expect: change.before.clone(),
                set: change.written.clone(),
            };
            port.change_labels(&request, mode).await
        }
        Op::PutPolicy(spec) => port.put_policy(spec, mode).await,
        Op::DeletePolicy => port.delete_policy(&change.object, mode).await.map(there),
        Op::Cordon(value) => port.cordon(&change.object, value, mode).await,
        Op::Uncordon(value, was) => port.uncordon(&change.object, value, *was, mode).await,
        Op::DeletePod => port.delete_pod(&change.object, mode).await.map(there),
    }
}

fn accepted(change: &Change, written: Written) -> Landing {
    let mutated = written.mutated.join("; ");
    let mut landing = Landing {
        object: written.object,
        seen: change.written.clone(),
        verdict: Some(if written.already {
            "already"
        } else {
            "written"
        }),
        error: None,
    };
    if !mutated.is_empty() {
        landing.error = Some(
            ActionError::new(
                Class::Failed,
                format!(
                    "admission changed what we wrote to {}: {mutated}",
                    place(&change.object)
                ),
            )
            .hint("find the webhook that does it; our deny object must stay as it is written"),
        );
    }
    landing
}

/// Looks at the object: as written, gone or changed by others ends the write; as before does not.
async fn looked(cluster: &Cluster, change: &Change) -> Result<Option<Landing>, PortError> {
    let (object, now) = match look(cluster, change).await? {
        Look::Gone if is_deletion(change) => {
            let mut landing = gone(change, None);
            landing.verdict = Some("written");
            landing.error = None;
            landing.seen = change.written.clone();
            return Ok(Some(landing));
        }
        Look::Gone => return Ok(Some(gone(change, None))),
        Look::Fields(object, now) => (object, now),
    };
    if now == change.written {
        return Ok(Some(Landing {
            object,
            seen: now,
            verdict: Some("written"),
            error: None,
        }));
    }
    if now == change.before {
        return Ok(None);
    }
    Ok(Some(changed(change, now)))
}

fn is_deletion(change: &Change) -> bool {
    matches!(change.op, Op::DeletePod | Op::DeletePolicy)
}

/// Reads the fields of a change as they are now.
async fn look(cluster: &Cluster, change: &Change) -> Result<Look, PortError> {
    let o = &change.object;
    match &change.op {
        Op::Labels | Op::DeletePod => {
            let name = PodName {
                namespace: o.namespace.clone(),
                name: o.name.clone(),
            };
            Ok(match cluster.view.pod(&name).await? {
                Some(pod) if pod.uid == o.uid => {
                    let now = if matches!(change.op, Op::DeletePod) {
                        deletion_fields(&pod)
                    } else {
                        pod_fields(&pod, change.written.keys())
                    };
                    Look::Fields(o.clone(), now)
                }
                _ => Look::Gone,
            })
        }
        Op::PutPolicy(_) | Op::DeletePolicy => {
            let found = find_policy(cluster, o).await?;
            Ok(match found {
                Some((uid, value)) => {
                    let now = Fields::from([(POLICY_FIELD.to_owned(), Some(value.to_owned()))]);
                    Look::Fields(ObjectRef { uid, ..o.clone() }, now)
                }
                None if is_deletion(change) => Look::Gone,
                None => Look::Fields(o.clone(), Fields::from([(POLICY_FIELD.to_owned(), None)])),
            })
        }
        Op::Cordon(value) | Op::Uncordon(value, _) => {
            Ok(match cluster.view.node(&o.name).await? {
                Some(node) if node.uid == o.uid => {
                    Look::Fields(o.clone(), node_fields(&node, value))
                }
                _ => Look::Gone,
            })
        }
    }
}

/// The UID of a policy and whether it is what we write.
pub(super) async fn find_policy(
    cluster: &Cluster,
    policy: &ObjectRef,
) -> Result<Option<(String, &'static str)>, PortError> {
    let scope = LookScope::Namespaces(vec![policy.namespace.clone()]);
    let world = cluster.view.look(&scope).await?;
    if let Some(unread) = world
        .unread
        .iter()
        .find(|u| u.what.contains("networkpolic"))
    {
        return Err(PortError::new(
            Cause::Refused,
            "list policies of namespace",
            &policy.namespace,
            &unread.why,
        ));
    }
    Ok(world
        .policies
        .iter()
        .find(|p| p.namespace == policy.namespace && p.name == policy.name)
        .map(|p| {
            let value = if is_ours(p) { DENY_ALL } else { "changed" };
            (p.uid.clone(), value)
        }))
}

/// `labels/<key>` and `annotations/<key>` of a pod.
pub(super) fn pod_fields<'k>(pod: &Pod, keys: impl Iterator<Item = &'k String>) -> Fields {
    keys.map(|field| {
        let value = match field.split_once('/') {
            Some(("labels", key)) => pod.labels.get(key),
            Some(("annotations", key)) => pod.annotations.get(key),
            _ => None,
        };
        (field.clone(), value.cloned())
    })
    .collect()
}

fn deletion_fields(pod: &Pod) -> Fields {
    let there = if pod.deleting {
        None
    } else {
        Some("there".to_owned())
    };
    Fields::from([("pod".to_owned(), there)])
}

/// What cordoning changes at a node.
pub(super) fn node_fields(node: &Node, value: &str) -> Fields {
    let taint = format!("firebreak/quarantine={value}:NoSchedule");
    let ours = node.taints.contains(&taint).then(|| value.to_owned());
    Fields::from([
        (
            "unschedulable".to_owned(),
            Some(node.unschedulable.to_string()),
        ),
        ("taints/firebreak/quarantine".to_owned(), ours),
    ])
}

fn gone(change: &Change, error: Option<&PortError>) -> Landing {
    let words = error.map_or_else(
        || {
            format!(
                "{} {} with UID {} is not there any more",
                change.object.kind,
                place(&change.object),
                change.object.uid
            )
        },
        ToString::to_string,
    );
    Landing {
        object: change.object.clone(),
        seen: Fields::new(),
        verdict: Some("gone"),
        error: Some(
            ActionError::new(Class::Conflict, words)
                .hint("plan again: a pod of that name now is another one"),
        ),
    }
}

fn changed(change: &Change, now: Fields) -> Landing {
    let fields: Vec<String> = now
        .iter()
        .filter(|(k, v)| change.before.get(*k) != Some(v) && change.written.get(*k) != Some(v))
        .map(|(k, v)| format!("{k} is now {}", v.as_deref().unwrap_or("absent")))
        .collect();
    Landing {
        object: change.object.clone(),
        seen: now,
        verdict: Some("changed-by-others"),
        error: Some(ActionError::new(
            Class::Conflict,
            format!(
                "somebody changed {} meanwhile: {}",
                place(&change.object),
                fields.join(", ")
            ),
        )),
    }
}

fn refused(change: &Change, error: &PortError) -> Landing {
    Landing {
        object: change.object.clone(),
        seen: Fields::new(),
        verdict: Some("refused"),
        error: Some(error.clone().into()),
    }
}

fn unknown(change: &Change, error: &PortError) -> Landing {
    let mut e: ActionError = error.clone().into();
    e = ActionError::new(Class::InDoubt, e.message)
        .hint("run `firebreak resume`: it looks at the object before it sends anything again");
    Landing {
        object: change.object.clone(),
        seen: Fields::new(),
        verdict: None,
        error: Some(e),
    }
}
