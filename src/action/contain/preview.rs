//! What a person reads before they isolate: facts from one snapshot, and a server-side dry-run of every write.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::{ActionError, Class, Context, Preview};
use crate::port::{Cause, Cluster, PortError, WriteMode};
use crate::reach::cluster::{ClusterSnapshot, ServiceAccount};
use crate::reach::isolation::IsolationPlan;

use super::isolate_workload::{IsolateArgs, LABEL, LABEL_FIELD, MOVE_OUT, policy_ref, policy_spec};
use super::journal::Fields;
use super::naming::{place, pod_ref};
use super::targets::{self, Target};
use super::write::{Change, DENY_ALL, Op, POLICY_FIELD, pod_fields, send};

/// Annotations of a service account that name a cloud role.
pub(super) const ROLE_ANNOTATIONS: [&str; 3] = [
    "eks.amazonaws.com/role-arn",
    "iam.gke.io/gcp-service-account",
    "azure.workload.identity/client-id",
];

/// Pods whose writes are tried by dry-run; more would make the preview of a bulk longer than the act.
const MOST_DRY_RUNS: usize = 20;

/// The preview of an isolation.
pub(super) async fn isolate(cx: &Context, args: &IsolateArgs) -> Result<Preview, ActionError> {
    let cluster = cx.cluster()?;
    let mut preview = Preview {
        undo: "release gives everything back exactly as found, from the ledger; what others changed meanwhile is left and named".into(),
        ..Preview::default()
    };
    bind_cluster(cluster, &mut preview).await?;
    let (world, plans) = match targets::plan(cx, &args.named(), args.phase_a_only).await {
        Ok(planned) => planned,
        // No such pod, or another one under its name: the step could only be refused, so the plan says it.
        Err(e) if matches!(e.class, Class::Refused | Class::Conflict) => {
            let hint = e.hint.as_ref().map(|h| format!("; instead: {h}"));
            preview
                .blocked
                .push(e.to_string() + &hint.unwrap_or_default());
            return Ok(preview);
        }
        Err(e) => return Err(e),
    };
    for plan in &plans {
        let key = format!("pod {}", plan.pod.id());
        preview.binding.insert(key, plan.pod.uid.clone());
    }
    let to_do: Vec<&IsolationPlan> = plans.iter().filter(|p| p.refused.is_none()).collect();
    for plan in plans.iter().filter(|p| p.refused.is_some()) {
        say_refused(plan, to_do.is_empty(), &mut preview);
    }
    preview.already = !to_do.is_empty() && to_do.iter().all(|p| p.already);
    let open: Vec<&IsolationPlan> = to_do.iter().copied().filter(|p| !p.already).collect();
    dry_run(cluster, &open, &mut preview).await?;
    for plan in &open {
        describe(&world, plan, plans.len() == 1, &mut preview);
    }
    enforcement(cluster, &mut preview).await;
    Ok(preview)
}

/// Context, server and UID of the cluster: a step planned for one must never act on another.
pub(super) async fn bind_cluster(
    cluster: &Cluster,
    preview: &mut Preview,
) -> Result<(), ActionError> {
    let identity = cluster.view.identity().await?;
    preview.binding.insert("context".into(), identity.context);
    preview.binding.insert("server".into(), identity.server);
    preview.binding.insert("cluster".into(), identity.uid);
    Ok(())
}

fn say_refused(plan: &IsolationPlan, all: bool, preview: &mut Preview) {
    let Some(refusal) = &plan.refused else {
        return;
    };
    let line = format!(
        "{}: {}; instead: {}",
        plan.pod.id(),
        refusal.why,
        refusal.instead
    );
    if all {
        preview.blocked.push(line);
    } else {
        preview.warnings.push(format!("left alone: {line}"));
    }
}

async fn dry_run(
    cluster: &Cluster,
    plans: &[&IsolationPlan],
    preview: &mut Preview,
) -> Result<(), ActionError> {
    let places: BTreeSet<(String, String)> = plans
        .iter()
        .filter(|p| !p.denied)
        .map(|p| (p.pod.namespace.clone(), p.containment.clone()))
        .collect();
    for (namespace, containment) in places {
        let change = Change {
            op: Op::PutPolicy(policy_spec(&namespace, &containment)),
            object: policy_ref(&namespace, &containment),
            what: "create_policy".into(),
            before: Fields::from([(POLICY_FIELD.to_owned(), None)]),
            written: Fields::from([(POLICY_FIELD.to_owned(), Some(DENY_ALL.to_owned()))]),
            reversal: false,
            open: None,
        };
        preview
            .changes
            .push(format!("create deny-all policy {}", place(&change.object)));
        try_one(cluster, &change, preview).await?;
    }
    for plan in plans {
        preview.changes.push(if plan.denied {
            format!(
                "A: {} is denied already under {}; what is missing is finished",
                plan.pod.id(),
                plan.containment
            )
        } else {
            format!(
                "A: label {} with firebreak/quarantine={}",
                plan.pod.id(),
                plan.containment
            )
        });
        if plan.has_phase_b() {
            preview
                .changes
                .push(format!("B: {}: {}", plan.pod.id(), label_words(plan)));
        }
    }
    for plan in plans.iter().take(MOST_DRY_RUNS) {
        let target = Target::of(plan);
        let label = Fields::from([(LABEL_FIELD.to_owned(), Some(target.containment.clone()))]);
        for (what, written) in [(LABEL, label), (MOVE_OUT, target.move_out.clone())] {
            let change = Change {
                op: Op::Labels,
                object: pod_ref(&plan.pod),
                what: what.into(),
                before: pod_fields(&plan.pod, written.keys()),
                written,
                reversal: false,
                open: None,
            };
            try_one(cluster, &change, preview).await?;
        }
    }
    if plans.len() > MOST_DRY_RUNS {
        preview.cannot.push(format!(
            "the server was asked by dry-run about the first {MOST_DRY_RUNS} pods only"
        ));
    }
    Ok(())
}

/// A missing right ends the preview; a rejection is told and blocks.
async fn try_one(
    cluster: &Cluster,
    change: &Change,
    preview: &mut Preview,
) -> Result<(), ActionError> {
    match send(cluster, change, WriteMode::Preview).await {
        Ok(written) => {
            preview.warnings.extend(written.warnings);
            for changed in written.mutated {
                preview.blocked.push(format!(
                    "admission would change what we write to {}: {changed}",
                    place(&change.object)
                ));
            }
            Ok(())
        }
        Err(e) if e.cause == Cause::Refused => Err(missing_right(e)),
        Err(e) if matches!(e.cause, Cause::Rejected | Cause::Conflict | Cause::NotFound) => {
            preview.blocked.push(e.to_string());
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}

/// A right that is missing, with the role that holds it.
pub(super) fn missing_right(e: PortError) -> ActionError {
    ActionError::from(e).hint("firebreak permissions contain")
}

fn label_words(plan: &IsolationPlan) -> String {
    let one = |(k, v): (&String, &Option<String>)| match v {
        Some(v) => format!("{k}={v}"),
        None => format!("remove {k}"),
    };
    plan.move_out.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn describe(world: &ClusterSnapshot, plan: &IsolationPlan, alone: bool, preview: &mut Preview) {
    let pod = &plan.pod;
    let id = pod.id().to_string();
    let prefix = |line: &String| {
        if alone {
            line.clone()
        } else {
            format!("{id}: {line}")
        }
    };
    let mut section = |heading: &str, lines: &[String]| {
        if !lines.is_empty() {
            let lines = lines.iter().map(prefix).collect();
            preview.details.push((heading.to_owned(), lines));
        }
    };
    section(
        "Pod",
        &[
            format!("{id}, UID {}", pod.uid),
            format!("node {}, owner {}", pod.node, plan.owner),
        ],
    );
    section("Services that let go", &plan.services_leaving);
    section("Services that keep it", &plan.services_staying);
    section("Still allowed afterwards", &plan.in_the_end.lines());
    section("Policies that still select it", &plan.still_selecting);
    let replacement: Vec<String> = plan.replacement.iter().cloned().collect();
    section("Replacement", &replacement);
    section("Selectors that let go", &plan.escaped);
    section(
        "Credentials in reach (names only)",
        &credentials(world, plan),
    );
    preview
        .shown
        .insert(format!("node of {id}"), pod.node.clone());
    let services = plan
        .services_leaving
        .iter()
        .map(|s| format!("{s} loses an endpoint"));
    preview.blast_radius.extend(services);
    preview.blast_radius.extend(replacement);
    preview.warnings.extend(plan.warnings.iter().map(prefix));
    preview.cannot.extend(plan.cannot.iter().map(prefix));
}

fn credentials(world: &ClusterSnapshot, plan: &IsolationPlan) -> Vec<String> {
    let pod = &plan.pod;
    let mut lines = vec![format!("service account {}", pod.service_account)];
    if let Some(role) = account(world, &pod.namespace, &pod.service_account).and_then(cloud_role) {
        lines.push(format!("cloud role {role}"));
    }
    let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for secret in &pod.secrets {
        by_name.entry(&secret.name).or_default().push(&secret.how);
    }
    lines.extend(
        by_name
            .iter()
            .map(|(name, how)| format!("secret {name} ({})", how.join(", "))),
    );
    lines
}

/// The service account of a pod.
pub(super) fn account<'w>(
    world: &'w ClusterSnapshot,
    namespace: &str,
    name: &str,
) -> Option<&'w ServiceAccount> {
    world
        .service_accounts
        .iter()
        .find(|a| a.namespace == namespace && a.name == name)
}

/// The cloud role that its annotations name.
pub(super) fn cloud_role(account: &ServiceAccount) -> Option<String> {
    ROLE_ANNOTATIONS
        .iter()
        .find_map(|key| account.annotations.get(*key))
        .cloned()
}

async fn enforcement(cluster: &Cluster, preview: &mut Preview) {
    match cluster.view.enforcement().await {
        Ok(e) => {
            let plugin = e.plugin.clone().unwrap_or_else(|| "not recognised".into());
            preview.shown.insert("network plugin".into(), plugin);
            if e.enforces == Some(false) {
                preview.warnings.push(format!(
                    "this cluster does not seem to enforce NetworkPolicy ({}): capture, seal, then delete the pod by UID, or use the cloud's security groups",
                    e.basis
                ));
            }
        }
        Err(e) => preview
            .cannot
            .push(format!("which network plugin enforces policies: {e}")),
    }
}
