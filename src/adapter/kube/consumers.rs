//! Which workloads use a Secret, and how: read from pod templates. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::convert::text;
use crate::incident::body::ObjectRef;
use crate::port::Consumer;

/// Kinds that are rolled out by changing their pod template.
pub(super) const ROLLABLE: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

/// A consumer of the Secret, if it is one.
pub(super) fn consumer(
    kind: &str,
    meta: &ObjectMeta,
    spec: Option<&PodSpec>,
    secret: &str,
) -> Option<Consumer> {
    let how = uses(spec?, secret);
    let rollable = ROLLABLE.contains(&kind);
    (!how.is_empty()).then(|| Consumer {
        object: ObjectRef {
            kind: kind.to_owned(),
            namespace: text(&meta.namespace),
            name: text(&meta.name),
            uid: text(&meta.uid),
        },
        how,
        rollable,
        reloader: rollable && reloads(meta, secret) == Reloads::This,
    })
}

/// True for an object that nothing made: what a controller made is found by its controller.
pub(super) fn stands_alone(meta: &ObjectMeta) -> bool {
    let owners = meta.owner_references.iter().flatten();
    !owners.into_iter().any(|o| o.controller == Some(true))
}

/// Every way in which a pod of this specification gets the Secret, each once: `env`, `envFrom`, `volume`, `subPath` (which never refreshes),
/// `projected`, `csi`, `imagePullSecret`.
fn uses(spec: &PodSpec, secret: &str) -> Vec<String> {
    let mut how: Vec<&str> = Vec::new();
    let containers = || {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
    };
    for c in containers() {
        if c.env.iter().flatten().any(|e| {
            let from = e
                .value_from
                .as_ref()
                .and_then(|v| v.secret_key_ref.as_ref());
            from.is_some_and(|s| s.name == secret)
        }) {
            how.push("env");
        }
        if c.env_from.iter().flatten().any(|e| {
            let from = e.secret_ref.as_ref();
            from.is_some_and(|s| s.name == secret)
        }) {
            how.push("envFrom");
        }
    }
    for v in spec.volumes.iter().flatten() {
        if let Some(word) = of_volume(v, secret) {
            how.push(word);
            if containers().any(|c| has_sub_path(c, &v.name)) {
                how.push("subPath");
            }
        }
    }
    let pulls = spec.image_pull_secrets.iter().flatten();
    if pulls.into_iter().any(|s| s.name == secret) {
        how.push("imagePullSecret");
    }
    let mut once: Vec<String> = Vec::new();
    for word in how {
        if !once.iter().any(|w| w == word) {
            once.push(word.to_owned());
        }
    }
    once
}

fn of_volume(v: &Volume, secret: &str) -> Option<&'static str> {
    let own = v.secret.as_ref().and_then(|s| s.secret_name.as_deref());
    if own == Some(secret) {
        return Some("volume");
    }
    let sources = v.projected.iter().flat_map(|p| p.sources.iter().flatten());
    let projected = |s: &k8s_openapi::api::core::v1::VolumeProjection| {
        s.secret.as_ref().is_some_and(|s| s.name == secret)
    };
    if sources.into_iter().any(projected) {
        return Some("projected");
    }
    let csi = v.csi.as_ref()?.node_publish_secret_ref.as_ref()?;
    (csi.name == secret).then_some("csi")
}

fn has_sub_path(c: &Container, volume: &str) -> bool {
    let mounts = c.volume_mounts.iter().flatten();
    let some = |t: &Option<String>| t.as_ref().is_some_and(|t| !t.is_empty());
    mounts
        .into_iter()
        .any(|m| m.name == volume && (some(&m.sub_path) || some(&m.sub_path_expr)))
}

/// Whether Reloader restarts a workload when the Secret changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reloads {
    /// It does.
    This,
    /// It does if the Secret itself is marked.
    IfMarked,
    /// It does not.
    No,
}

/// What the workload's annotations say. Reloader reads those of the workload, or of its template where it has none; the template's are not
/// looked at, as nobody is known to use them.
pub(super) fn reloads(meta: &ObjectMeta, secret: &str) -> Reloads {
    let none = BTreeMap::new();
    let annotations = meta.annotations.as_ref().unwrap_or(&none);
    let is = |name: &str| annotations.get(name).map(String::as_str) == Some("true");
    let named = annotations
        .get("secret.reloader.stakater.com/reload")
        .is_some_and(|list| list.split(',').any(|n| n.trim() == secret));
    if is("reloader.stakater.com/ignore") {
        Reloads::No
    } else if named || is("reloader.stakater.com/auto") || is("secret.reloader.stakater.com/auto") {
        Reloads::This
    } else if is("reloader.stakater.com/search") {
        Reloads::IfMarked
    } else {
        Reloads::No
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(value: Value) -> PodSpec {
        serde_json::from_value(value).expect("a pod's specification")
    }

    #[test]
    fn every_way_to_the_secret_is_found_and_no_other_secrets() {
        let all = spec(json!({
            "initContainers": [{ "name": "i", "env": [{ "name": "X", "valueFrom": { "secretKeyRef": { "name": "db", "key": "k" } } }] }],
            "containers": [{ "name": "a", "envFrom": [{ "secretRef": { "name": "db" } }],
              "volumeMounts": [{ "name": "v", "mountPath": "/p", "subPath": "password" }] },
              { "name": "b", "envFrom": [{ "secretRef": { "name": "db" } }] }],
            "imagePullSecrets": [{ "name": "db" }],
            "volumes": [{ "name": "v", "secret": { "secretName": "db" } },
              { "name": "p", "projected": { "sources": [{ "secret": { "name": "db" } }] } },
              { "name": "c", "csi": { "driver": "d", "nodePublishSecretRef": { "name": "db" } } }] }));
        assert_eq!(
            uses(&all, "db"),
            [
                "env",
                "envFrom",
                "volume",
                "subPath",
                "projected",
                "csi",
                "imagePullSecret"
            ]
        );
        assert!(uses(&all, "other").is_empty());
    }

    #[test]
    fn only_what_has_a_template_to_roll_is_rollable() {
        let uses = spec(
            json!({ "containers": [{ "name": "a", "envFrom": [{ "secretRef": { "name": "db" } }] }] }),
        );
        let meta = ObjectMeta::default();
        for (kind, rollable) in [
            ("Deployment", true),
            ("DaemonSet", true),
            ("Job", false),
            ("Pod", false),
        ] {
            let got = consumer(kind, &meta, Some(&uses), "db").expect("it uses it");
            assert_eq!(got.rollable, rollable, "{kind}");
        }
        assert_eq!(consumer("Pod", &meta, None, "db"), None);
    }

    #[test]
    fn reloader_is_in_charge_where_an_annotation_says_so() {
        let reloads = |pairs: Value| {
            let meta: ObjectMeta =
                serde_json::from_value(json!({ "annotations": pairs })).expect("metadata");
            super::reloads(&meta, "db")
        };
        assert_eq!(
            reloads(json!({ "reloader.stakater.com/auto": "true" })),
            Reloads::This
        );
        assert_eq!(
            reloads(json!({ "secret.reloader.stakater.com/reload": "x, db" })),
            Reloads::This
        );
        assert_eq!(
            reloads(json!({ "secret.reloader.stakater.com/reload": "db-2" })),
            Reloads::No
        );
        assert_eq!(
            reloads(json!({ "reloader.stakater.com/search": "true" })),
            Reloads::IfMarked
        );
        assert_eq!(reloads(json!({})), Reloads::No);
    }
}
