//! Names of what we write: deterministic, so that a second try finds what the first one made.

use sha2::{Digest, Sha256};

use crate::action::ActionError;
use crate::action::registry::read_as;
use crate::action::{Class, Context};
use crate::incident::body::ObjectRef;
use crate::incident::{IncidentId, RunId, StepPath};
use crate::reach::cluster::Pod;

/// Most characters of the incident's id in a containment id: a label value holds 63.
const INCIDENT_CHARS: usize = 40;

/// Value of the quarantine label: the incident's id in lower case (at most 40 characters), `-`, and 8 hex of SHA-256 over run id and
/// step path, NUL-separated. The attempt is not in it: a second attempt goes on with what the first one made.
pub fn containment_id(incident: &IncidentId, run: &RunId, step: &StepPath) -> String {
    let mut head: String = incident
        .to_string()
        .to_ascii_lowercase()
        .chars()
        .take(INCIDENT_CHARS)
        .collect();
    while head.ends_with('-') {
        head.pop();
    }
    let digest = Sha256::digest(format!("{run}\0{step}").as_bytes());
    let tail: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("{head}-{tail}")
}

/// The containment id of this step.
pub(super) fn of_step(cx: &Context) -> String {
    containment_id(&cx.incident, &cx.run, &cx.step)
}

/// A pod as entries name it.
pub(super) fn pod_ref(pod: &Pod) -> ObjectRef {
    ObjectRef {
        kind: "Pod".into(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    }
}

/// `namespace/name`.
pub(super) fn place(object: &ObjectRef) -> String {
    if object.namespace.is_empty() {
        object.name.clone()
    } else {
        format!("{}/{}", object.namespace, object.name)
    }
}

/// Reads arguments; they were checked before, so what does not fit is refused by name.
pub(super) fn args<T: serde::de::DeserializeOwned>(
    value: &serde_json::Value,
) -> Result<T, ActionError> {
    read_as(value).map_err(|e| ActionError::new(Class::Refused, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_same_for_the_same_step_fits_a_label_and_differs_between_steps() {
        let incident = IncidentId::parse(&format!("INC-{}", "A".repeat(50))).expect("id");
        let run = RunId::parse("run-aaaaaaaaaaaaaaaa").expect("run");
        let step = |t| StepPath::parse(t).expect("path");
        let one = containment_id(&incident, &run, &step("isolate"));
        assert_eq!(one, containment_id(&incident, &run, &step("isolate")));
        assert_ne!(one, containment_id(&incident, &run, &step("isolate-2")));
        assert!(one.len() <= 63 && one.starts_with("inc-aaaa"));
    }
}
