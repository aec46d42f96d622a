//! `contain.delete_pod`: the last way out, by UID, and only once its evidence is sealed and verified.
//!
//! *Effect*: the pod, its processes and memory are gone for ever.
//! *Undo*: none.
//! *What it disturbs*: everything volatile of the pod: hence a sealed bag with exhibits of exactly this UID, verified with exit 0.
//! *Permissions*: pods get/delete.
//! *Cost and time*: one write.
//! *Source*: <https://kubernetes.io/docs/reference/using-api/api-concepts/#deletion>

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::action::registry::{ActionSpec, RightSpec, Sample, UndoSpec, Use, check_as};
use crate::action::{Action, ActionError, Applied, Class, Context, Observed, Preview};
use crate::incident::body::{BagSealed, ExhibitAcquired, ExhibitChecked, ObjectRef};
use crate::incident::{Effect, History, Phase, kind};
use crate::port::WriteMode;
use crate::reach::cluster::PodName;

use super::journal::{Fields, Journal};
use super::naming::{args, place};
use super::preview::bind_cluster;
use super::write::{Change, Op, make, send};

/// Kind of write.
const DELETE_POD: &str = "delete_pod";

/// Arguments of `contain.delete_pod`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteArgs {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// UID that it must have.
    pub uid: String,
    /// Number of the sealed and verified bag that holds its exhibits.
    pub bag: String,
}

impl DeleteArgs {
    fn object(&self) -> ObjectRef {
        ObjectRef {
            kind: "Pod".into(),
            namespace: self.namespace.clone(),
            name: self.pod.clone(),
            uid: self.uid.clone(),
        }
    }
    fn change(&self, journal: &Journal) -> Change {
        let object = self.object();
        let open = journal.find(&object, DELETE_POD).map(|l| l.intent);
        Change {
            op: Op::DeletePod,
            object,
            what: DELETE_POD.into(),
            before: Fields::from([("pod".to_owned(), Some("there".to_owned()))]),
            written: Fields::from([("pod".to_owned(), None)]),
            reversal: false,
            open,
        }
    }
}

static RIGHTS: [RightSpec; 2] = [
    RightSpec {
        group: "",
        resource: "pods",
        verb: "get",
        cluster_wide: false,
    },
    RightSpec {
        group: "",
        resource: "pods",
        verb: "delete",
        cluster_wide: false,
    },
];

static SPEC: ActionSpec = ActionSpec {
    name: "contain.delete_pod",
    about: "Deletes a pod by UID, only once a sealed bag with its exhibits was verified.",
    effect: Effect::Irreversible,
    phase: Phase::Containment,
    uses: &[Use::Call],
    args_schema: || schemars::schema_for!(DeleteArgs),
    check_args: check_as::<DeleteArgs>,
    undo: UndoSpec::None("a deleted pod does not come back; its controller starts another"),
    result: &[("deleted", Sample::Bool)],
    rights: &RIGHTS,
    exhibit: None,
    volatility: None,
    disturbs: 7,
    timeout_s: 60,
};

/// Deletes a pod.
pub struct DeletePod;

#[async_trait]
impl Action for DeletePod {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, value: &Value) -> Result<Preview, ActionError> {
        let args: DeleteArgs = args(value)?;
        let cluster = cx.cluster()?;
        let mut preview = Preview {
            undo: SPEC.undo.reason().into(),
            ..Preview::default()
        };
        bind_cluster(cluster, &mut preview).await?;
        let object = args.object();
        preview
            .binding
            .insert(format!("pod {}", place(&object)), args.uid.clone());
        let history = cx.ledger.history()?;
        if let Some(why) = not_preserved(&history, &args) {
            preview.blocked.push(why);
            return Ok(preview);
        }
        match current_uid(cx, &args).await? {
            None => preview.already = true,
            Some(uid) if uid != args.uid => preview.already = true,
            Some(_) => {
                preview.changes.push(format!(
                    "delete pod {} with UID {}",
                    place(&object),
                    args.uid
                ));
                let change = args.change(&Journal::of(&history));
                send(cluster, &change, WriteMode::Preview).await?;
            }
        }
        preview.blast_radius.push(
            "its processes and memory are lost; its controller starts a replacement of the same image".into(),
        );
        Ok(preview)
    }

    async fn apply(&self, cx: &Context, value: &Value) -> Result<Applied, ActionError> {
        let args: DeleteArgs = args(value)?;
        let history = cx.ledger.history()?;
        if let Some(why) = not_preserved(&history, &args) {
            return Err(ActionError::new(Class::Refused, why).hint(format!(
                "firebreak verify --last, then bag {} again",
                args.bag
            )));
        }
        let journal = Journal::of(&history);
        let landing = make(cx, args.change(&journal)).await?;
        match (landing.verdict, landing.error) {
            (Some("written" | "already" | "gone"), _) => Ok(deleted(&args)),
            (_, Some(error)) => Err(error),
            (_, None) => Err(ActionError::new(
                Class::Failed,
                format!("pod {} was not deleted", place(&args.object())),
            )),
        }
    }

    async fn observe(&self, cx: &Context, value: &Value) -> Result<Observed, ActionError> {
        let args: DeleteArgs = args(value)?;
        Ok(match current_uid(cx, &args).await? {
            Some(uid) if uid == args.uid => Observed::NotDone,
            _ => Observed::Done(deleted(&args)),
        })
    }
}

async fn current_uid(cx: &Context, args: &DeleteArgs) -> Result<Option<String>, ActionError> {
    let name = PodName {
        namespace: args.namespace.clone(),
        name: args.pod.clone(),
    };
    let pod = cx.cluster()?.view.pod(&name).await?;
    Ok(pod.filter(|p| !p.deleting).map(|p| p.uid))
}

/// Why the evidence is not safe yet; `None` when it is.
fn not_preserved(history: &History, args: &DeleteArgs) -> Option<String> {
    let bag = &args.bag;
    let holds = history
        .bodies::<ExhibitAcquired>(kind::EXHIBIT_ACQUIRED)
        .any(|(_, e)| e.bag == *bag && e.system.get("pod_uid") == Some(&args.uid));
    if !holds {
        return Some(format!(
            "bag {bag} holds no exhibit of the pod with UID {}: acquire it first",
            args.uid
        ));
    }
    let sealed = history
        .bodies::<BagSealed>(kind::BAG_SEALED)
        .filter(|(_, s)| s.bag == *bag)
        .map(|(e, _)| e.seq)
        .last();
    let Some(sealed) = sealed else {
        return Some(format!("bag {bag} is not sealed"));
    };
    let checked = history
        .bodies::<ExhibitChecked>(kind::EXHIBIT_CHECKED)
        .filter(|(e, c)| c.bag == *bag && e.seq > sealed)
        .last();
    match checked {
        Some((_, c)) if c.exit == 0 => None,
        Some((_, c)) => Some(format!("bag {bag} did not verify: {}", c.verdict)),
        None => Some(format!("bag {bag} was not verified since it was sealed")),
    }
}

fn deleted(args: &DeleteArgs) -> Applied {
    Applied {
        result: json!({"deleted": true, "uid": args.uid}),
        summary: format!(
            "pod {} with UID {} is deleted; its evidence is in bag {}",
            place(&args.object()),
            args.uid,
            args.bag
        ),
    }
}
