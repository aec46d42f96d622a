//! Where a rollout stands, read from a workload and its pods. Pure.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::clean;
use crate::incident::body::ObjectRef;
use crate::port::Rollout;

/// Annotation of ours on a pod template: which run restarted it last.
pub(super) const RESTARTED_BY: &str = "firebreak/restarted-by";

/// Reasons for waiting that are part of a normal start.
const STARTING: [&str; 3] = ["ContainerCreating", "PodInitializing", ""];

fn count(value: &Value) -> u32 {
    let n = value.as_u64().unwrap_or(0);
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The workload's rollout. `pods` are those that its selector finds.
pub(super) fn of(object: &ObjectRef, workload: &Value, pods: &[Value]) -> Rollout {
    let (spec, status) = (&workload["spec"], &workload["status"]);
    let wanted = spec["replicas"]
        .as_u64()
        .map_or(1, |_| count(&spec["replicas"]));
    let (desired, updated, available, total) = match object.kind.as_str() {
        "DaemonSet" => (
            count(&status["desiredNumberScheduled"]),
            count(&status["updatedNumberScheduled"]),
            count(&status["numberAvailable"]),
            count(&status["currentNumberScheduled"]),
        ),
        _ => (
            wanted,
            count(&status["updatedReplicas"]),
            count(&status["availableReplicas"]),
            count(&status["replicas"]),
        ),
    };
    let generation = workload["metadata"]["generation"].as_u64();
    let template = &spec["template"];
    let restarted_by = template["metadata"]["annotations"][RESTARTED_BY].as_str();
    let own: Vec<&Value> = pods
        .iter()
        .filter(|p| is_of(p, object) && still_runs(p))
        .collect();
    // The controller does not count a pod that is told to end, but until it is gone it works with what it read at its start.
    let leaving = own
        .iter()
        .filter(|p| p["metadata"]["deletionTimestamp"].is_string())
        .count();
    Rollout {
        object: ObjectRef {
            uid: word(&workload["metadata"]["uid"]),
            ..object.clone()
        },
        restarted_by: restarted_by.map(str::to_owned),
        observed: status["observedGeneration"].as_u64() >= generation && generation.is_some(),
        desired,
        updated,
        available,
        total: total.saturating_add(u32::try_from(leaving).unwrap_or(u32::MAX)),
        oldest_pod: own.iter().filter_map(|p| made(p)).min(),
        trouble: held_back(object, workload).or_else(|| {
            // Old pods may be in trouble because the old credential is dead: only those of the newest template tell of the rollout.
            let newest = |p: &&&Value| {
                restarted_by.is_none()
                    || p["metadata"]["annotations"][RESTARTED_BY].as_str() == restarted_by
            };
            own.iter().filter(newest).find_map(|p| of_pod(p))
        }),
        service_account: template["spec"]["serviceAccountName"]
            .as_str()
            .unwrap_or("default")
            .to_owned(),
    }
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn made(pod: &Value) -> Option<DateTime<Utc>> {
    let text = pod["metadata"]["creationTimestamp"].as_str()?;
    let read = DateTime::parse_from_rfc3339(text).ok()?;
    Some(read.with_timezone(&Utc))
}

/// A pod that is being deleted runs until it is gone, and has the old value until then.
fn still_runs(pod: &Value) -> bool {
    !matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    )
}

/// Its controller is the workload, or a ReplicaSet that a Deployment of this name made.
fn is_of(pod: &Value, object: &ObjectRef) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    owners.is_some_and(|owners| {
        owners.iter().any(|o| {
            let name = o["name"].as_str().unwrap_or_default();
            match object.kind.as_str() {
                "Deployment" => {
                    o["kind"] == "ReplicaSet"
                        && name
                            .rsplit_once('-')
                            .is_some_and(|(deployment, _)| deployment == object.name)
                }
                _ => o["uid"] == object.uid.as_str(),
            }
        })
    })
}

/// Why the controller itself does not go on.
fn held_back(object: &ObjectRef, workload: &Value) -> Option<String> {
    let spec = &workload["spec"];
    if object.kind == "Deployment" && spec["paused"] == true {
        return Some("it is paused".to_owned());
    }
    if spec["updateStrategy"]["type"] == "OnDelete" {
        return Some(
            "its update strategy is OnDelete: its pods must be deleted by hand".to_owned(),
        );
    }
    if count(&spec["updateStrategy"]["rollingUpdate"]["partition"]) > 0 {
        return Some("its update strategy has a partition: some pods stay as they are".to_owned());
    }
    let conditions = workload["status"]["conditions"].as_array()?;
    let bad = conditions.iter().find(|c| {
        (c["type"] == "ReplicaFailure" && c["status"] == "True")
            || (c["type"] == "Progressing" && c["status"] == "False")
    })?;
    let said = format!("{}: {}", word(&bad["reason"]), word(&bad["message"]));
    Some(clean(&said))
}

/// Why a pod does not come up, if something says so.
fn of_pod(pod: &Value) -> Option<String> {
    let name = word(&pod["metadata"]["name"]);
    let status = &pod["status"];
    let states = ["initContainerStatuses", "containerStatuses"];
    let states = states.iter().filter_map(|f| status[*f].as_array());
    for state in states.flatten() {
        let waits = word(&state["state"]["waiting"]["reason"]);
        if !STARTING.contains(&waits.as_str()) {
            return Some(clean(&format!("{waits} in {name}")));
        }
        let exit = state["state"]["terminated"]["exitCode"].as_i64();
        if let Some(exit) = exit.filter(|e| *e != 0) {
            return Some(clean(&format!("exit {exit} in {name}")));
        }
    }
    let conditions = status["conditions"].as_array()?;
    let unscheduled = conditions
        .iter()
        .find(|c| c["type"] == "PodScheduled" && c["status"] == "False")?;
    let said = word(&unscheduled["message"]);
    Some(clean(&format!("{name} finds no node: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(kind: &str) -> ObjectRef {
        ObjectRef {
            kind: kind.into(),
            namespace: "shop".into(),
            name: "web".into(),
            uid: "u-1".into(),
        }
    }

    fn deployment(observed: u64, updated: u64, total: u64) -> Value {
        json!({
            "metadata": { "uid": "u-1", "generation": 3 },
            "spec": { "replicas": 2, "template": { "metadata": { "annotations": { RESTARTED_BY: "run-2" } }, "spec": {} } },
            "status": { "observedGeneration": observed, "updatedReplicas": updated, "availableReplicas": 2, "replicas": total } })
    }

    fn pod(name: &str, run: &str, made: &str, waiting: &str) -> Value {
        json!({ "metadata": { "name": name, "creationTimestamp": made, "annotations": { RESTARTED_BY: run },
                "ownerReferences": [{ "kind": "ReplicaSet", "name": "web-7d9", "uid": "r" }] },
            "status": { "phase": "Running", "containerStatuses": [{ "state": { "waiting": { "reason": waiting } } }] } })
    }

    #[test]
    fn a_rollout_is_complete_when_the_newest_template_is_seen_and_nothing_old_is_left() {
        for (observed, updated, total, complete) in [
            (3, 2, 2, true),
            (2, 2, 2, false),
            (3, 1, 2, false),
            (3, 2, 3, false),
        ] {
            let got = of(
                &object("Deployment"),
                &deployment(observed, updated, total),
                &[],
            );
            assert_eq!(got.complete(), complete, "{got:?}");
            assert_eq!(got.restarted_by.as_deref(), Some("run-2"));
            assert_eq!(got.service_account, "default");
        }
        let set = json!({ "metadata": { "generation": 1 }, "spec": {},
            "status": { "observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3, "currentNumberScheduled": 3 } });
        let got = of(&object("DaemonSet"), &set, &[]);
        assert!(got.complete() && got.desired == 3, "{got:?}");
    }

    #[test]
    fn only_a_pod_of_the_newest_template_tells_of_trouble_and_the_oldest_counts() {
        let old = pod(
            "web-7d9-a",
            "run-1",
            "2026-01-01T00:00:00Z",
            "CrashLoopBackOff",
        );
        let starting = pod(
            "web-7d9-b",
            "run-2",
            "2026-02-01T00:00:00Z",
            "ContainerCreating",
        );
        let work = deployment(3, 1, 2);
        let got = of(&object("Deployment"), &work, &[old.clone(), starting]);
        assert_eq!(got.trouble, None);
        let oldest = got.oldest_pod.expect("there are pods");
        assert_eq!(oldest.to_rfc3339(), "2026-01-01T00:00:00+00:00");
        let fresh = pod(
            "web-7d9-c",
            "run-2",
            "2026-02-01T00:00:00Z",
            "CrashLoopBackOff",
        );
        let got = of(&object("Deployment"), &work, &[old, fresh]);
        assert_eq!(
            got.trouble.as_deref(),
            Some("CrashLoopBackOff in web-7d9-c")
        );
    }

    #[test]
    fn a_rollout_is_not_complete_while_an_old_pod_is_on_its_way_out() {
        let mut leaving = pod("web-7d9-a", "run-1", "2026-01-01T00:00:00Z", "");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-02-01T00:00:00Z");
        let work = deployment(3, 2, 2);
        assert!(!of(&object("Deployment"), &work, &[leaving.clone()]).complete());
        leaving["status"]["phase"] = json!("Succeeded");
        assert!(of(&object("Deployment"), &work, &[leaving]).complete());
    }

    #[test]
    fn pods_of_another_workload_and_ended_ones_are_not_counted() {
        let mut ended = pod(
            "web-7d9-a",
            "run-2",
            "2026-01-01T00:00:00Z",
            "CrashLoopBackOff",
        );
        ended["status"]["phase"] = json!("Succeeded");
        let mut other = pod("api-1", "run-2", "2026-01-01T00:00:00Z", "CrashLoopBackOff");
        other["metadata"]["ownerReferences"][0]["name"] = json!("web-api-7d9");
        let got = of(&object("Deployment"), &deployment(3, 2, 2), &[ended, other]);
        assert_eq!((got.trouble, got.oldest_pod), (None, None));
    }

    #[test]
    fn a_workload_that_will_never_roll_says_why() {
        let mut paused = deployment(3, 0, 2);
        paused["spec"]["paused"] = json!(true);
        let got = of(&object("Deployment"), &paused, &[]);
        assert_eq!(got.trouble.as_deref(), Some("it is paused"));
        let by_hand = json!({ "spec": { "updateStrategy": { "type": "OnDelete" } } });
        let got = of(&object("StatefulSet"), &by_hand, &[]);
        assert!(got.trouble.expect("said").contains("OnDelete"));
    }
}
