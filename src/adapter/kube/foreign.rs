//! Finding policies of kinds that we name but do not model: they *may allow*, so each must be known by name.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::wire::Wire;
use crate::port::{Cause, PortError};
use crate::reach::cluster::{ForeignPolicy, Unread};

/// API groups of the policy kinds, and how a kind of theirs that decides about traffic is recognised.
const GROUPS: [&str; 6] = [
    "policy.networking.k8s.io",
    "cilium.io",
    "projectcalico.org",
    "crd.projectcalico.org",
    "crd.antrea.io",
    "k8s.ovn.org",
];

/// Kinds of those groups that decide about traffic.
const KINDS: [&str; 11] = [
    "ClusterNetworkPolicy",
    "AdminNetworkPolicy",
    "BaselineAdminNetworkPolicy",
    "CiliumNetworkPolicy",
    "CiliumClusterwideNetworkPolicy",
    "NetworkPolicy",
    "GlobalNetworkPolicy",
    "StagedNetworkPolicy",
    "StagedGlobalNetworkPolicy",
    "EgressFirewall",
    "EgressNetworkPolicy",
];

#[derive(Deserialize, Default)]
struct Groups {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    preferred_version: Option<Version>,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
struct Version {
    group_version: String,
}

#[derive(Deserialize, Default)]
struct Resources {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    kind: String,
}

/// All foreign policies, and what could not be read. Never an error: what is unknown is said to be unknown.
pub(super) async fn find(wire: &Wire) -> (Vec<ForeignPolicy>, Vec<Unread>) {
    let (mut found, mut unread): (Vec<ForeignPolicy>, _) = (Vec::new(), Vec::new());
    let groups: Groups = match wire
        .get("/apis", "discover the API groups of", "server")
        .await
    {
        Ok(groups) => groups,
        Err(e) => return (found, vec![not_read("policies of other kinds", &e)]),
    };
    for group in groups
        .groups
        .iter()
        .filter(|g| GROUPS.contains(&g.name.as_str()))
    {
        for version in versions(group) {
            match of_version(wire, &version).await {
                Ok((some, missing)) => {
                    found.extend(some);
                    unread.extend(missing);
                }
                Err(e) => unread.push(not_read(&version, &e)),
            }
        }
    }
    // Two versions of one API show the same objects.
    let mut seen = BTreeSet::new();
    found.retain(|p| seen.insert((kind_of(p), p.namespace.clone(), p.name.clone())));
    (found, unread)
}

fn kind_of(p: &ForeignPolicy) -> String {
    let group = p.kind.split('/').next().unwrap_or_default();
    let kind = p.kind.rsplit(' ').next().unwrap_or_default();
    format!("{group} {kind}")
}

/// The preferred version first. Kinds of the standard's group differ between versions, so that group is asked in each.
fn versions(group: &Group) -> Vec<String> {
    let all = group.versions.iter().map(|v| v.group_version.clone());
    if group.name == "policy.networking.k8s.io" {
        return all.collect();
    }
    let preferred = group.preferred_version.clone().map(|v| v.group_version);
    preferred.into_iter().chain(all).take(1).collect()
}

async fn of_version(
    wire: &Wire,
    version: &str,
) -> Result<(Vec<ForeignPolicy>, Vec<Unread>), PortError> {
    let there: Resources = wire
        .get(
            &format!("/apis/{version}"),
            "discover the kinds of",
            version,
        )
        .await?;
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    let decides = |r: &&Resource| !r.name.contains('/') && KINDS.contains(&r.kind.as_str());
    for resource in there.resources.iter().filter(decides) {
        let kind = format!("{version} {}", resource.kind);
        let path = format!("/apis/{version}/{}", resource.name);
        match wire.list::<Value>(&path, &[], "list").await {
            Ok(items) => found.extend(items.iter().map(|item| ForeignPolicy {
                kind: kind.clone(),
                namespace: word(item, "namespace"),
                name: word(item, "name"),
            })),
            Err(e) => unread.push(not_read(&kind, &e)),
        }
    }
    Ok((found, unread))
}

fn word(item: &Value, field: &str) -> String {
    item["metadata"][field]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// A list that could not be read, with its reason.
pub(super) fn not_read(what: &str, e: &PortError) -> Unread {
    let why = match e.cause {
        Cause::Refused => format!("no right to list it: {}", e.detail),
        _ => e.detail.clone(),
    };
    Unread {
        what: what.to_owned(),
        why,
    }
}
