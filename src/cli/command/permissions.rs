//! `firebreak permissions VERB`: the least role for a verb, generated from the actions' declarations.

use crate::action::registry::RightSpec;
use crate::action::rights::role_yaml;
use crate::adapter::aws::{PolicyFor, permissions, policy_document};
use crate::cli::cloud::lease_bucket;
use crate::cli::compose::actions;
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::port::WORKLOAD_RIGHTS;

/// Arguments of `firebreak permissions`.
#[derive(Debug, clap::Args)]
pub struct PermissionsArgs {
    /// contain, acquire, release, canary, cordon, delete-pod, rotate, or an action such as contain.isolate_workload
    verb: String,
    /// rbac, or for rotate also iam
    #[arg(long, default_value = "rbac")]
    format: String,
    /// With iam: the account, twelve digits; any if not named
    #[arg(long, default_value = "*")]
    account: String,
    /// With iam: the partition of its ARNs
    #[arg(long, default_value = "aws")]
    partition: String,
    /// With iam: BUCKET or BUCKET/PREFIX that keeps leases
    #[arg(long, value_name = "BUCKET")]
    lease_bucket: Option<String>,
}

/// Verbs and the actions they use.
pub const VERBS: [(&str, &[&str]); 7] = [
    (
        "rotate",
        &["eradicate.plan_rotation", "eradicate.rotate_credentials"],
    ),
    (
        "contain",
        &[
            "acquire.volatile",
            "acquire.manifests",
            "acquire.logs",
            "contain.isolate_workload",
            "contain.probe_isolation",
            "contain.list_credentials",
            "contain.release_workload",
        ],
    ),
    (
        "acquire",
        &["acquire.volatile", "acquire.manifests", "acquire.logs"],
    ),
    ("release", &["contain.release_workload"]),
    ("canary", &["contain.run_canary"]),
    ("cordon", &["contain.cordon_node"]),
    ("delete-pod", &["contain.delete_pod"]),
];

/// Prints the role.
pub fn run(out: &Output, args: &PermissionsArgs) -> CliResult {
    match (args.format.as_str(), args.verb.as_str()) {
        ("iam", "rotate") => return iam(out, args),
        ("iam", verb) => {
            return Err(CliError::usage(format!("`{verb}` needs no cloud account"))
                .hint("--format rbac, or firebreak permissions rotate --format iam"));
        }
        ("rbac", _) => {}
        (other, _) => {
            return Err(CliError::usage(format!("there is no format `{other}`"))
                .hint("--format rbac, or for rotate --format iam"));
        }
    }
    let names: Vec<&str> = match VERBS.iter().find(|(verb, _)| *verb == args.verb) {
        Some((_, names)) => names.to_vec(),
        None => vec![args.verb.as_str()],
    };
    let all = actions();
    // Every verb first asks which cluster answers.
    let mut rights = vec![RightSpec {
        group: "",
        resource: "namespaces",
        verb: "get",
        cluster_wide: true,
    }];
    if args.verb == "rotate" {
        rights.extend(
            WORKLOAD_RIGHTS
                .iter()
                .map(|(group, resource, verb)| RightSpec {
                    group,
                    resource,
                    verb,
                    cluster_wide: false,
                }),
        );
    }
    for name in names {
        let action = all.find(name).ok_or_else(|| {
            let verbs: Vec<_> = VERBS.iter().map(|(v, _)| *v).collect();
            CliError::usage(format!("there is no verb `{}`", args.verb))
                .hint(format!("one of {}, or an action's name", verbs.join(", ")))
        })?;
        rights.extend_from_slice(action.spec().rights);
    }
    rights.sort();
    rights.dedup();
    let name = format!("firebreak-{}", args.verb.replace(['.', '_'], "-"));
    let text = role_yaml(&name, &rights);
    if out.json {
        let list: Vec<_> = rights.iter().map(|r| serde_json::json!({"group": r.group, "resource": r.resource, "verb": r.verb, "cluster_wide": r.cluster_wide})).collect();
        out.document(&serde_json::json!({"schema": "firebreak/permissions/v1", "verb": args.verb, "rights": list}))?;
    }
    out.answer(text.trim_end());
    Ok(Exit::Ok)
}

/// The least IAM policy of a rotation, generated from what each call declares.
fn iam(out: &Output, args: &PermissionsArgs) -> CliResult {
    let place = PolicyFor {
        partition: args.partition.clone(),
        account: args.account.clone(),
        lease_bucket: args.lease_bucket.as_deref().and_then(lease_bucket),
    };
    let policy = policy_document(permissions(), &place);
    if out.json {
        out.document(&serde_json::json!({"schema": "firebreak/permissions/v1", "verb": args.verb, "policy": policy}))?;
        return Ok(Exit::Ok);
    }
    let text = serde_json::to_string_pretty(&policy)
        .map_err(|e| CliError::new(Exit::Internal, "FB1100", e.to_string()))?;
    out.answer(text);
    Ok(Exit::Ok)
}
