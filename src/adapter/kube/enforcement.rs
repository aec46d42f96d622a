//! Recognising the network plugin by what runs on the nodes. Only a canary or a probe proves that it enforces.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;

use super::convert::text;
use super::wire::Wire;
use crate::port::{Enforcement, PortError};

/// A plugin by the beginning of its DaemonSet's (or pod's) name, and whether it is known to enforce NetworkPolicy.
///
/// Order matters: a policy engine is named before the plain network that it often runs beside (canal = flannel + Calico).
const PLUGINS: [(&str, &str, Option<bool>); 16] = [
    ("calico-node", "Calico", Some(true)),
    ("canal", "Canal (Calico policy over flannel)", Some(true)),
    ("cilium", "Cilium", Some(true)),
    ("antrea-agent", "Antrea", Some(true)),
    ("kube-router", "kube-router", Some(true)),
    ("weave-net", "Weave Net", Some(true)),
    ("ovnkube-node", "OVN-Kubernetes", Some(true)),
    ("kube-ovn-cni", "Kube-OVN", Some(true)),
    ("kube-network-policies", "kube-network-policies", Some(true)),
    ("azure-npm", "Azure NPM", Some(true)),
    ("anetd", "GKE Dataplane V2 (Cilium)", Some(true)),
    ("sdn", "OpenShift SDN", Some(true)),
    // NetworkPolicy is off there unless it was switched on.
    ("aws-node", "Amazon VPC CNI", None),
    // Enforces since its releases of 2024, not before.
    ("kindnet", "kindnet", None),
    ("azure-cni", "Azure CNI", None),
    ("kube-flannel", "flannel", Some(false)),
];

/// Looks at the DaemonSets of all namespaces, else at those of `kube-system`, else at its pods.
pub(super) async fn fingerprint(wire: &Wire) -> Result<Enforcement, PortError> {
    let everywhere = wire
        .list::<DaemonSet>("/apis/apps/v1/daemonsets", &[], "list")
        .await;
    let (names, seen) = match everywhere {
        Ok(sets) => (
            sets.iter().map(|s| text(&s.metadata.name)).collect(),
            "DaemonSets of all namespaces",
        ),
        Err(_) => in_kube_system(wire).await?,
    };
    Ok(recognise(&names, seen))
}

async fn in_kube_system(wire: &Wire) -> Result<(Vec<String>, &'static str), PortError> {
    let path = "/apis/apps/v1/namespaces/kube-system/daemonsets";
    if let Ok(sets) = wire.list::<DaemonSet>(path, &[], "list").await {
        let names = sets.iter().map(|s| text(&s.metadata.name)).collect();
        return Ok((names, "DaemonSets of kube-system"));
    }
    let pods: Vec<Pod> = wire
        .list("/api/v1/namespaces/kube-system/pods", &[], "list")
        .await?;
    let names = pods.iter().map(|p| text(&p.metadata.name)).collect();
    Ok((names, "pods of kube-system"))
}

fn recognise(names: &[String], seen: &str) -> Enforcement {
    let is = |name: &&String, begin: &str| {
        let name = name
            .strip_prefix("rke2-")
            .or(name.strip_prefix("kube-"))
            .unwrap_or(name);
        let begin = begin.strip_prefix("kube-").unwrap_or(begin);
        name == begin || name.strip_prefix(begin).is_some_and(|r| r.starts_with('-'))
    };
    for (begin, plugin, enforces) in PLUGINS {
        if let Some(name) = names.iter().find(|n| is(n, begin)) {
            return Enforcement {
                plugin: Some(plugin.to_owned()),
                enforces,
                basis: format!("`{}` among the {seen}", super::clean(name)),
            };
        }
    }
    Enforcement {
        plugin: None,
        enforces: None,
        basis: format!("none of the {seen} is a plugin that we know"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_recognised_and_a_policy_engine_wins_over_its_plain_network() {
        let plugin = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            let e = recognise(&names, "DaemonSets");
            (e.plugin, e.enforces)
        };
        assert_eq!(
            plugin(&["kube-flannel-ds"]),
            (Some("flannel".into()), Some(false))
        );
        assert_eq!(
            plugin(&["kube-flannel-ds", "calico-node"]),
            (Some("Calico".into()), Some(true))
        );
        assert_eq!(
            plugin(&["kube-router"]),
            (Some("kube-router".into()), Some(true))
        );
        assert_eq!(plugin(&["aws-node"]), (Some("Amazon VPC CNI".into()), None));
        assert_eq!(plugin(&["kube-proxy", "ciliumesque"]), (None, None));
    }
}
