//! JSON Patches that change only what was planned: each one first tests the UID and every old value.
//!
//! Off-spec: RFC 6902 says that `test` of a member that is absent fails; the API server's library lets `test` with `null` succeed there
//! and fail where there is a value. That is how absence is tested here; the live tests hold the server to it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::port::LabelChange;

/// A path's segment, escaped as RFC 6901 §3 asks: `~` first, then `/`.
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The test of one value.
pub(super) fn test(path: &str, value: Value) -> Value {
    json!({ "op": "test", "path": path, "value": value })
}

/// The test of an object's identity.
pub(super) fn same_uid(uid: &str) -> Value {
    test("/metadata/uid", json!(uid))
}

/// `labels/app` → (`labels`, `app`). Anything else is not ours to change.
fn field(name: &str) -> Option<(&'static str, &str)> {
    let (map, key) = name.split_once('/')?;
    let map = ["labels", "annotations"].into_iter().find(|m| *m == map)?;
    (!key.is_empty()).then_some((map, key))
}

/// Fields that are neither a label nor an annotation.
pub(super) fn not_ours(change: &LabelChange) -> Vec<String> {
    let names = change.expect.keys().chain(change.set.keys());
    names.filter(|n| field(n).is_none()).cloned().collect()
}

/// Which of the two maps the object lacks altogether: adding a member to a map that is not there would fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Absent {
    pub(super) labels: bool,
    pub(super) annotations: bool,
}

impl Absent {
    pub(super) fn in_object(object: &Value) -> Absent {
        Absent {
            labels: object["metadata"]["labels"].is_null(),
            annotations: object["metadata"]["annotations"].is_null(),
        }
    }
    fn map(self, map: &str) -> bool {
        if map == "labels" {
            self.labels
        } else {
            self.annotations
        }
    }
}

/// The guarded patch of labels and annotations.
pub(super) fn of_labels(change: &LabelChange, absent: Absent) -> Vec<Value> {
    let mut patch = vec![same_uid(&change.object.uid)];
    for map in ["labels", "annotations"] {
        let adds = change
            .set
            .iter()
            .any(|(name, to)| to.is_some() && field(name).is_some_and(|f| f.0 == map));
        if absent.map(map) && adds {
            let path = format!("/metadata/{map}");
            patch.push(test(&path, Value::Null));
            patch.push(json!({ "op": "add", "path": path, "value": {} }));
        }
    }
    for (name, value) in &change.expect {
        let Some((map, key)) = field(name) else {
            continue;
        };
        // In a map that is not there every member is absent; testing it would fail on the missing map.
        if !(absent.map(map) && value.is_none()) {
            patch.push(test(
                &format!("/metadata/{map}/{}", escaped(key)),
                json!(value),
            ));
        }
    }
    for (name, to) in &change.set {
        let Some((map, key)) = field(name) else {
            continue;
        };
        let path = format!("/metadata/{map}/{}", escaped(key));
        match to {
            Some(value) => patch.push(json!({ "op": "add", "path": path, "value": value })),
            // `remove` of what is absent fails; where it may be absent it must not be there at all.
            None if change.expect.get(name) != Some(&None) => {
                patch.push(json!({ "op": "remove", "path": path }));
            }
            None => {}
        }
    }
    patch
}

/// What an object has in a field now.
pub(super) fn now(object: &Value, name: &str) -> Option<String> {
    let (map, key) = field(name)?;
    object["metadata"][map]
        .get(key)?
        .as_str()
        .map(str::to_owned)
}

/// Fields that are not what they must be, each said: `labels/app is "x", expected "web"`.
pub(super) fn differences(
    object: &Value,
    wanted: &BTreeMap<String, Option<String>>,
) -> Vec<String> {
    let said = |v: &Option<String>| v.as_ref().map_or("absent".to_owned(), |v| format!("`{v}`"));
    let differ = wanted.iter().filter_map(|(name, wanted)| {
        let now = now(object, name);
        (now != *wanted).then(|| format!("{name} is {}, expected {}", said(&now), said(wanted)))
    });
    differ.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::body::ObjectRef;

    fn change(expect: &[(&str, Option<&str>)], set: &[(&str, Option<&str>)]) -> LabelChange {
        let map = |pairs: &[(&str, Option<&str>)]| {
            let pairs = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned)));
            pairs.collect()
        };
        LabelChange {
            object: ObjectRef {
                kind: "Pod".into(),
                namespace: "shop".into(),
                name: "web".into(),
                uid: "u-1".into(),
            },
            expect: map(expect),
            set: map(set),
        }
    }

    #[test]
    fn identity_comes_first_then_the_old_values_then_the_change() {
        let change = change(
            &[
                ("labels/app", Some("web")),
                ("labels/firebreak/quarantine", None),
            ],
            &[
                ("labels/app", None),
                ("labels/firebreak/quarantine", Some("inc-1")),
            ],
        );
        let patch = of_labels(&change, Absent::default());
        let said: Vec<String> = patch
            .iter()
            .map(|p| {
                format!(
                    "{} {}",
                    p["op"].as_str().unwrap_or(""),
                    p["path"].as_str().unwrap_or("")
                )
            })
            .collect();
        assert_eq!(
            said,
            [
                "test /metadata/uid",
                "test /metadata/labels/app",
                "test /metadata/labels/firebreak~1quarantine",
                "remove /metadata/labels/app",
                "add /metadata/labels/firebreak~1quarantine"
            ]
        );
        assert_eq!(patch[2]["value"], Value::Null);
    }

    #[test]
    fn a_map_that_is_not_there_is_made_under_a_test() {
        let change = change(&[("labels/a~b/c", None)], &[("labels/a~b/c", Some("v"))]);
        let absent = Absent {
            labels: true,
            annotations: true,
        };
        let patch = of_labels(&change, absent);
        assert_eq!(
            patch[1],
            json!({ "op": "test", "path": "/metadata/labels", "value": null })
        );
        assert_eq!(
            patch[2],
            json!({ "op": "add", "path": "/metadata/labels", "value": {} })
        );
        assert_eq!(patch[3]["path"], "/metadata/labels/a~0b~1c");
        assert_eq!(patch.len(), 4);
    }

    #[test]
    fn what_is_neither_label_nor_annotation_is_refused() {
        let change = change(
            &[],
            &[
                ("spec/nodeName", Some("x")),
                ("labels/", None),
                ("labels/ok", None),
            ],
        );
        assert_eq!(not_ours(&change), ["labels/", "spec/nodeName"]);
    }
}
