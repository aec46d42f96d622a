//! A Kubernetes Secret: how it is read, who writes it, and the guarded patch of its values. Pure.
//!
//! The server's answer holds values also outside of `data` (`last-applied-configuration`), so only named fields are taken from it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::clean;
use super::patch::{escaped, same_uid, test};
use crate::incident::body::ObjectRef;
use crate::port::{PortError, Secret, SecretObject, SecretWrite};

/// What we take from a Secret.
#[derive(Deserialize)]
pub(super) struct Stored {
    #[serde(default)]
    metadata: Meta,
    data: Option<BTreeMap<String, Option<String>>>,
    #[serde(default)]
    immutable: Option<bool>,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
    labels: BTreeMap<String, String>,
    annotations: Annotations,
    owner_references: Vec<Owner>,
    managed_fields: Vec<Managed>,
}

/// Annotations that say something to us. The others are not taken, as one of them repeats the values.
#[derive(Deserialize, Default)]
struct Annotations {
    #[serde(rename = "meta.helm.sh/release-name")]
    helm: Option<IgnoredAny>,
    #[serde(rename = "argocd.argoproj.io/tracking-id")]
    argo: Option<IgnoredAny>,
    #[serde(rename = "reconcile.external-secrets.io/data-hash")]
    external_secrets: Option<IgnoredAny>,
    #[serde(rename = "sealedsecrets.bitnami.com/managed")]
    sealed: Option<IgnoredAny>,
    #[serde(rename = "cert-manager.io/certificate-name")]
    certificate: Option<IgnoredAny>,
    #[serde(rename = "reloader.stakater.com/match")]
    reloader: Option<String>,
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct Managed {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    time: Option<String>,
}

impl Stored {
    /// Reloader looks for this mark where a workload says `search`.
    pub(super) fn is_marked_for_reloader(&self) -> bool {
        self.metadata.annotations.reloader.as_deref() == Some("true")
    }

    /// The port's shape. A value that is no base64 cannot come from a server, and counts as binary.
    pub(super) fn into_object(self) -> SecretObject {
        let (written_by, managers) = (written_by(&self), managers(&self.metadata.managed_fields));
        let (mut data, mut binary) = (BTreeMap::new(), Vec::new());
        for (key, encoded) in self.data.unwrap_or_default() {
            let encoded = Zeroizing::new(encoded.unwrap_or_default());
            let text = STANDARD
                .decode(encoded.as_bytes())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            match text {
                Some(text) => {
                    data.insert(key, Secret::new(text));
                }
                None => binary.push(key),
            }
        }
        let meta = self.metadata;
        SecretObject {
            object: ObjectRef {
                kind: "Secret".into(),
                namespace: meta.namespace,
                name: meta.name,
                uid: meta.uid,
            },
            version: meta.resource_version,
            data,
            binary,
            immutable: self.immutable == Some(true),
            managers,
            written_by,
        }
    }

    pub(super) fn uid(&self) -> &str {
        &self.metadata.uid
    }

    pub(super) fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }

    /// `data` is not there at all: a member can be added only to a map that is.
    fn has_no_data(&self) -> bool {
        self.data.is_none()
    }

    /// Keys that are not as they must be; never what they hold.
    pub(super) fn differences(&self, write: &SecretWrite<'_>) -> Vec<String> {
        let differ = write.expect.iter().filter_map(|(key, wanted)| {
            let now = self.encoded(key);
            match (now, wanted) {
                (None, None) => None,
                (Some(now), Some(wanted)) if *now == *encoded(wanted) => None,
                (Some(_), Some(_)) => Some(format!("{key} has another value")),
                (Some(_), None) => Some(format!("{key} is there, expected absent")),
                (None, Some(_)) => Some(format!("{key} is absent")),
            }
        });
        differ.map(|d| clean(&d)).collect()
    }

    /// True when every key has its new value already.
    pub(super) fn is_written(&self, write: &SecretWrite<'_>) -> bool {
        let same = |(key, new): (&String, &&Secret)| {
            self.encoded(key).is_some_and(|now| *now == *encoded(new))
        };
        write.set.iter().all(same)
    }

    fn encoded(&self, key: &str) -> Option<&str> {
        let value = self.data.as_ref()?.get(key)?;
        Some(value.as_deref().unwrap_or_default())
    }
}

fn encoded(secret: &Secret) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(secret.expose_secret()))
}

/// Who wrote it, newest last, each once.
fn managers(fields: &[Managed]) -> Vec<String> {
    let mut all: Vec<&Managed> = fields.iter().filter(|m| !m.manager.is_empty()).collect();
    // RFC 3339 in UTC sorts as text.
    all.sort_by(|a, b| a.time.cmp(&b.time));
    let mut names: Vec<String> = Vec::new();
    for m in all {
        let name = clean(&m.manager);
        names.retain(|n| *n != name);
        names.push(name);
    }
    names
}

/// Who writes it from elsewhere, and would write it again: an owner first, then the marks that each tool leaves.
fn written_by(stored: &Stored) -> Option<String> {
    let meta = &stored.metadata;
    if let Some(owner) = meta.owner_references.first() {
        return Some(clean(&format!("{}/{}", owner.kind, owner.name)));
    }
    let label = |name: &str| meta.labels.get(name).map(String::as_str);
    let managed = label("app.kubernetes.io/managed-by").unwrap_or_default();
    let marks = &meta.annotations;
    let found = [
        (
            marks.external_secrets.is_some()
                || label("reconcile.external-secrets.io/managed") == Some("true")
                || label("reconcile.external-secrets.io/created-by").is_some(),
            "external-secrets",
        ),
        (marks.sealed.is_some(), "sealed-secrets"),
        (marks.certificate.is_some(), "cert-manager"),
        (managed == "hashicorp-vso", "vault-secrets-operator"),
        (
            label("secrets-store.csi.k8s.io/managed") == Some("true"),
            "secrets-store-csi",
        ),
        (
            marks.argo.is_some() || label("argocd.argoproj.io/instance").is_some(),
            "argocd",
        ),
        (
            label("kustomize.toolkit.fluxcd.io/name").is_some()
                || label("helm.toolkit.fluxcd.io/name").is_some(),
            "flux",
        ),
        (marks.helm.is_some() || managed == "Helm", "helm"),
        (
            stored.kind == "kubernetes.io/service-account-token",
            "token-controller",
        ),
    ];
    let tool = found.iter().find(|(is, _)| *is)?;
    Some(tool.1.to_owned())
}

/// The guarded patch: identity, every old value, then the new ones.
pub(super) fn patch(write: &SecretWrite<'_>, now: &Stored) -> Vec<Value> {
    let mut patch = vec![same_uid(&write.object.uid)];
    if now.has_no_data() {
        patch.push(test("/data", Value::Null));
        patch.push(json!({ "op": "add", "path": "/data", "value": {} }));
    }
    let place = |key: &str| format!("/data/{}", escaped(key));
    for (key, old) in &write.expect {
        let old = old.map_or(Value::Null, |old| json!(*encoded(old)));
        patch.push(test(&place(key), old));
    }
    for (key, new) in &write.set {
        patch.push(json!({ "op": "add", "path": place(key), "value": *encoded(new) }));
    }
    patch
}

/// An error of a write without any value that the other side may have put into its words. What an admission controller says of a Secret is
/// left out as a whole: it has seen the values, and may print them in any form.
pub(super) fn without_values(e: PortError, write: &SecretWrite<'_>) -> PortError {
    use crate::port::Cause::{Conflict, Rejected, Unreadable};
    if matches!(e.cause, Rejected | Conflict | Unreadable) {
        let detail = "the server did not accept the change; its words are left out, as they may hold the value";
        return PortError {
            detail: detail.into(),
            ..e
        };
    }
    let values = write.expect.values().flatten().chain(write.set.values());
    let mut detail = e.detail.clone();
    for value in values.filter(|v| !v.expose_secret().is_empty()) {
        detail = detail.replace(encoded(value).as_str(), "[secret]");
        detail = detail.replace(value.expose_secret(), "[secret]");
    }
    PortError { detail, ..e }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Cause;

    fn stored(value: Value) -> Stored {
        serde_json::from_value(value).expect("a Secret")
    }

    fn object() -> ObjectRef {
        ObjectRef {
            kind: "Secret".into(),
            namespace: "shop".into(),
            name: "web-db".into(),
            uid: "u-1".into(),
        }
    }

    #[test]
    fn texts_are_values_and_bytes_are_only_named() {
        let got = stored(json!({
            "metadata": { "namespace": "shop", "name": "web-db", "uid": "u-1", "resourceVersion": "7",
              "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}" },
              "managedFields": [{ "manager": "helm", "time": "2026-02-01T00:00:00Z" },
                { "manager": "kubectl", "time": "2026-01-01T00:00:00Z" },
                { "manager": "kubectl", "time": "2026-03-01T00:00:00Z" }] },
            "data": { "password": "aHVudGVyMg==", "key": "/w==", "empty": "" }, "immutable": true }));
        let got = got.into_object();
        assert_eq!(got.data["password"].expose_secret(), "hunter2");
        assert_eq!(got.data["empty"].expose_secret(), "");
        assert_eq!(got.binary, ["key"]);
        assert_eq!(got.managers, ["helm", "kubectl"]);
        assert!(got.immutable && got.written_by.is_none() && got.version == "7");
    }

    #[test]
    fn whoever_writes_it_from_elsewhere_is_named() {
        for (meta, by) in [
            (
                json!({ "ownerReferences": [{ "kind": "ExternalSecret", "name": "db" }], "labels": { "app.kubernetes.io/managed-by": "Helm" } }),
                "ExternalSecret/db",
            ),
            (
                json!({ "ownerReferences": [{ "kind": "SealedSecret", "name": "db" }] }),
                "SealedSecret/db",
            ),
            (
                json!({ "annotations": { "reconcile.external-secrets.io/data-hash": "x" } }),
                "external-secrets",
            ),
            (
                json!({ "annotations": { "argocd.argoproj.io/tracking-id": "x" }, "labels": { "app.kubernetes.io/managed-by": "Helm" } }),
                "argocd",
            ),
            (
                json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "apps" } }),
                "flux",
            ),
            (
                json!({ "annotations": { "meta.helm.sh/release-name": "shop" } }),
                "helm",
            ),
        ] {
            let got = stored(json!({ "metadata": meta.clone() })).into_object();
            assert_eq!(got.written_by.as_deref(), Some(by), "{meta}");
        }
        let hand = json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": "me" } } });
        assert_eq!(stored(hand).into_object().written_by, None);
    }

    #[test]
    fn a_write_tests_identity_and_every_old_value_also_absence() {
        let (old, new) = (Secret::new("old".into()), Secret::new("new".into()));
        let object = object();
        let write = SecretWrite {
            object: &object,
            expect: [("a/b".to_owned(), Some(&old)), ("pending".to_owned(), None)].into(),
            set: [("a/b".to_owned(), &new)].into(),
        };
        let now = stored(json!({ "data": { "a/b": "b2xk" } }));
        let got = patch(&write, &now);
        assert_eq!(
            got,
            [
                json!({ "op": "test", "path": "/metadata/uid", "value": "u-1" }),
                json!({ "op": "test", "path": "/data/a~1b", "value": "b2xk" }),
                json!({ "op": "test", "path": "/data/pending", "value": null }),
                json!({ "op": "add", "path": "/data/a~1b", "value": "bmV3" }),
            ]
        );
        assert!(now.differences(&write).is_empty() && !now.is_written(&write));
        let other = stored(json!({ "data": { "a/b": "b3RoZXI=", "pending": "eA==" } }));
        assert_eq!(
            other.differences(&write),
            ["a/b has another value", "pending is there, expected absent"]
        );
        let empty = stored(json!({}));
        assert_eq!(empty.differences(&write), ["a/b is absent"]);
        assert_eq!(patch(&write, &empty)[2]["path"], "/data");
        assert!(stored(json!({ "data": { "a/b": "bmV3" } })).is_written(&write));
    }

    #[test]
    fn no_value_is_in_an_error_whatever_the_server_says() {
        let (old, new) = (
            Secret::new("Planted1".into()),
            Secret::new("Planted2".into()),
        );
        let object = object();
        let write = SecretWrite {
            object: &object,
            expect: [("k".to_owned(), Some(&old))].into(),
            set: [("k".to_owned(), &new)].into(),
        };
        for cause in [
            Cause::Rejected,
            Cause::Conflict,
            Cause::LostReply,
            Cause::Refused,
        ] {
            let said = "bad: Planted1 Planted2 UGxhbnRlZDE= UGxhbnRlZDI= in k";
            let e = without_values(PortError::new(cause, "write", "shop/web-db", said), &write);
            assert!(
                !e.detail.contains("Planted") && !e.detail.contains("UGxhbnRlZD"),
                "{e}"
            );
        }
    }
}
