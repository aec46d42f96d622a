//! `contain.cordon_node`: nothing new is scheduled on the node of a suspect pod.
//!
//! *Effect*: `spec.unschedulable` and our taint `firebreak/quarantine=<id>:NoSchedule`. Never a drain, never `NoExecute`: both delete
//! evidence.
//! *Undo*: our taint off; schedulable again where it was. A node that another containment cordoned counts as done and is left to it.
//! *What it disturbs*: nothing that runs. DaemonSets and pods with `nodeName` still come; autoscalers may want to remove the node.
//! *Permissions*: nodes get/patch.
//! *Cost and time*: one write.
//! *Source*: <https://kubernetes.io/docs/concepts/architecture/nodes/#manual-node-administration>

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::action::registry::{ActionSpec, RightSpec, Sample, UndoSpec, Use, check_as};
use crate::action::{Action, ActionError, Applied, Class, Context, Observed, Preview, Undone};
use crate::incident::body::ObjectRef;
use crate::incident::{Effect, Phase};
use crate::port::WriteMode;
use crate::reach::cluster::Node;

use super::journal::{Fields, Journal, Live};
use super::naming::{args, of_step};
use super::preview::bind_cluster;
use super::targets::{Named, find};
use super::write::{Change, Op, make, node_fields, send};

/// Kind of write.
const CORDON: &str = "cordon";

/// Arguments of `contain.cordon_node`: a node, or the pod whose node it is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CordonArgs {
    /// Name of the node.
    #[serde(default)]
    pub node: Option<String>,
    /// Namespace of the pod.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Name of the pod.
    #[serde(default)]
    pub pod: Option<String>,
}

static RIGHTS: [RightSpec; 3] = [
    // Where a pod is named, its node is found by it.
    RightSpec {
        group: "",
        resource: "pods",
        verb: "get",
        cluster_wide: false,
    },
    RightSpec {
        group: "",
        resource: "nodes",
        verb: "get",
        cluster_wide: true,
    },
    RightSpec {
        group: "",
        resource: "nodes",
        verb: "patch",
        cluster_wide: true,
    },
];

static SPEC: ActionSpec = ActionSpec {
    name: "contain.cordon_node",
    about: "Keeps new pods away from the node of a suspect pod; nothing that runs is touched.",
    effect: Effect::Reversible,
    phase: Phase::Containment,
    uses: &[Use::Call],
    args_schema: || schemars::schema_for!(CordonArgs),
    check_args: check_as::<CordonArgs>,
    undo: UndoSpec::Own,
    result: &[("node", Sample::Text), ("was_schedulable", Sample::Bool)],
    rights: &RIGHTS,
    exhibit: None,
    volatility: None,
    disturbs: 0,
    timeout_s: 30,
};

/// Cordons a node.
pub struct CordonNode;

#[async_trait]
impl Action for CordonNode {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, value: &Value) -> Result<Preview, ActionError> {
        let args: CordonArgs = args(value)?;
        let cluster = cx.cluster()?;
        let mut preview = Preview {
            undo: "our taint comes off; the node is schedulable again if it was".into(),
            ..Preview::default()
        };
        bind_cluster(cluster, &mut preview).await?;
        let node = the_node(cx, &args).await?;
        let key = format!("node {}", node.name);
        preview.binding.insert(key, node.uid.clone());
        let change = change(cx, &node, None);
        let other = held_by(cx, &node)?;
        preview.already = change.before == change.written || other.is_some();
        if let Some(other) = &other {
            preview.warnings.push(left_to(&node.name, other));
        }
        if !preview.already {
            preview.changes.push(format!("cordon node {}", node.name));
            let written = send(cluster, &change, WriteMode::Preview).await?;
            preview.warnings.extend(written.warnings);
        }
        preview.blast_radius.push(format!(
            "nothing new is scheduled on {}; DaemonSets and pods with nodeName still are",
            node.name
        ));
        preview.warnings.push(
            "autoscalers may want to remove a cordoned node: set their scale-down protection"
                .into(),
        );
        Ok(preview)
    }

    async fn apply(&self, cx: &Context, value: &Value) -> Result<Applied, ActionError> {
        let args: CordonArgs = args(value)?;
        let journal = Journal::of(&cx.ledger.history()?);
        let begun = journal
            .live
            .iter()
            .find(|l| l.what == CORDON && l.is_of(&cx.run, &cx.step));
        let node = match begun {
            Some(live) => by_name(cx, &live.object.name).await?,
            None => the_node(cx, &args).await?,
        };
        if begun.is_none()
            && let Some(other) = held_by(cx, &node)?
        {
            return Ok(others(&node.name, &other));
        }
        let change = change(cx, &node, begun);
        let was = change.before.get("unschedulable").cloned().flatten();
        if begun.is_some_and(|l| l.seen) && now(cx, &node) == change.written {
            return Ok(answer(&node.name, was.as_deref()));
        }
        let landing = make(cx, change).await?;
        if let Some(error) = landing.error {
            return Err(error);
        }
        Ok(answer(&node.name, was.as_deref()))
    }

    async fn observe(&self, cx: &Context, value: &Value) -> Result<Observed, ActionError> {
        let journal = Journal::of(&cx.ledger.history()?);
        let Some(live) = of_this_step(cx, &journal) else {
            let node = the_node(cx, &args(value)?).await?;
            return Ok(match held_by(cx, &node)? {
                Some(other) => Observed::Done(others(&node.name, &other)),
                None => Observed::NotDone,
            });
        };
        let node = by_name(cx, &live.object.name).await?;
        if now(cx, &node) == live.written {
            let was = live.before.get("unschedulable").cloned().flatten();
            return Ok(Observed::Done(answer(&node.name, was.as_deref())));
        }
        Ok(Observed::NotDone)
    }

    async fn undo(&self, cx: &Context, _: &Value) -> Result<Undone, ActionError> {
        let journal = Journal::of(&cx.ledger.history()?);
        let Some(live) = of_this_step(cx, &journal) else {
            return Ok(Undone::Undone("nothing of this step is in force".into()));
        };
        let node = by_name(cx, &live.object.name).await?;
        let now = now(cx, &node);
        let was_schedulable = live
            .before
            .get("unschedulable")
            .cloned()
            .flatten()
            .as_deref()
            != Some("true");
        let change = Change {
            op: Op::Uncordon(of_step(cx), was_schedulable),
            object: live.object.clone(),
            what: CORDON.into(),
            before: now.clone(),
            written: live.before.clone(),
            reversal: true,
            open: live.reversal,
        };
        if now != live.written && now != live.before {
            return Ok(Undone::Stuck {
                summary: format!("node {} was changed by somebody since", node.name),
                left: vec![format!(
                    "kubectl taint node {0} firebreak/quarantine-; kubectl uncordon {0}",
                    node.name
                )],
            });
        }
        let landing = make(cx, change).await?;
        match landing.error {
            None => Ok(Undone::Undone(format!("node {} as it was", node.name))),
            Some(error) => Err(error),
        }
    }
}

fn of_this_step<'j>(cx: &Context, journal: &'j Journal) -> Option<&'j Live> {
    journal
        .live
        .iter()
        .find(|l| l.what == CORDON && l.is_of(&cx.run, &cx.step))
}

/// The containment that holds this node already: a taint has one value for its key and effect, so ours cannot stand beside it.
fn held_by(cx: &Context, node: &Node) -> Result<Option<String>, ActionError> {
    let own = of_step(cx);
    let value = |t: &String| {
        let value = t.strip_prefix("firebreak/quarantine=")?;
        value.strip_suffix(":NoSchedule").map(str::to_owned)
    };
    let other = node.taints.iter().filter_map(value).find(|v| *v != own);
    match other {
        Some(other) if !node.unschedulable => Err(ActionError::new(
            Class::Refused,
            format!(
                "node {} has the taint of containment {other}, and somebody uncordoned it since",
                node.name
            ),
        )
        .hint(format!("kubectl cordon {}, then again", node.name))),
        other => Ok(other),
    }
}

fn left_to(node: &str, other: &str) -> String {
    format!(
        "node {node} was cordoned by containment {other}: it counts as done, ends with that one, and an undo of this step leaves it"
    )
}

fn others(node: &str, other: &str) -> Applied {
    Applied {
        summary: left_to(node, other),
        ..answer(node, Some("true"))
    }
}

fn now(cx: &Context, node: &Node) -> Fields {
    node_fields(node, &of_step(cx))
}

fn change(cx: &Context, node: &Node, begun: Option<&Live>) -> Change {
    let value = of_step(cx);
    let written = Fields::from([
        ("unschedulable".to_owned(), Some("true".to_owned())),
        (
            "taints/firebreak/quarantine".to_owned(),
            Some(value.clone()),
        ),
    ]);
    Change {
        op: Op::Cordon(value),
        object: ObjectRef {
            kind: "Node".into(),
            namespace: String::new(),
            name: node.name.clone(),
            uid: node.uid.clone(),
        },
        what: CORDON.into(),
        before: begun.map_or_else(|| now(cx, node), |l| l.before.clone()),
        written,
        reversal: false,
        open: begun.filter(|l| !l.seen).map(|l| l.intent),
    }
}

async fn the_node(cx: &Context, args: &CordonArgs) -> Result<Node, ActionError> {
    match (&args.node, &args.namespace, &args.pod) {
        (Some(name), None, None) => by_name(cx, name).await,
        (None, Some(namespace), Some(pod)) => {
            let named = Named {
                namespace: namespace.clone(),
                pod: Some(pod.clone()),
                ..Named::default()
            };
            let pods = find(cx.cluster()?, &named).await?;
            let node = pods.first().map(|p| p.node.clone()).unwrap_or_default();
            by_name(cx, &node).await
        }
        _ => Err(ActionError::new(
            Class::Refused,
            "name either `node`, or `namespace` and `pod`",
        )),
    }
}

async fn by_name(cx: &Context, name: &str) -> Result<Node, ActionError> {
    let found = cx.cluster()?.view.node(name).await?;
    found.ok_or_else(|| ActionError::new(Class::Refused, format!("there is no node `{name}`")))
}

fn answer(node: &str, was_unschedulable: Option<&str>) -> Applied {
    Applied {
        result: json!({"node": node, "was_schedulable": was_unschedulable != Some("true")}),
        summary: format!("node {node} takes no new pods"),
    }
}
