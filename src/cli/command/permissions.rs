//! `firebreak permissions VERB`: the least role for a verb, generated from the actions' declarations.

use crate::action::registry::RightSpec;
use crate::action::rights::role_yaml;
use crate::cli::compose::actions;
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::output::Output;

/// Arguments of `firebreak permissions`.
#[derive(Debug, clap::Args)]
pub struct PermissionsArgs {
    /// contain, acquire, release, canary, cordon, delete-pod, or an action such as contain.isolate_workload
    verb: String,
    /// rbac
    #[arg(long, default_value = "rbac")]
    format: String,
}

/// Verbs and the actions they use.
pub const VERBS: [(&str, &[&str]); 6] = [
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
    if args.format != "rbac" {
        return Err(
            CliError::usage(format!("there is no format `{}`", args.format)).hint("--format rbac"),
        );
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
