//! Cordon, credentials, deletion, and what every spec promises.

use serde_json::json;

use super::world::*;
use crate::action::contain::{CordonNode, DeletePod, ListCredentials, actions};
use crate::action::registry::UndoSpec;
use crate::action::{Action, Actions, Class, Observed, Undone};
use crate::incident::body::{BagSealed, Credentials, ExhibitAcquired, ExhibitChecked};
use crate::incident::{Category, Draft, Effect, kind};
use crate::port::Ledger;

#[tokio::test]
async fn a_node_is_cordoned_and_given_back() {
    for fault in [None, Some(Fault::LostBefore), Some(Fault::LostAfter)] {
        let world = shop(1);
        world.lock().fault = fault.map(|f| (1, f));
        let args = json!({"namespace": "shop", "pod": "web-0"});
        let cx = world.step("cordon");
        let applied = CordonNode.apply(&cx, &args).await.expect("cordoned");
        assert_eq!(applied.result["node"], "node-1");
        assert!(world.lock().cluster.nodes[0].unschedulable);
        assert!(matches!(
            CordonNode.observe(&cx, &args).await,
            Ok(Observed::Done(_))
        ));
        CordonNode.apply(&cx, &args).await.expect("again");
        let undone = CordonNode.undo(&cx, &args).await.expect("undone");
        assert!(matches!(undone, Undone::Undone(_)), "{undone:?}");
        let node = world.lock().cluster.nodes[0].clone();
        assert!(!node.unschedulable && node.taints.is_empty());
    }
}

#[tokio::test]
async fn a_node_that_was_cordoned_before_stays_so() {
    let world = shop(1);
    world.lock().cluster.nodes[0].unschedulable = true;
    let args = json!({"node": "node-1"});
    let cx = world.step("cordon");
    CordonNode.apply(&cx, &args).await.expect("cordoned");
    CordonNode.undo(&cx, &args).await.expect("undone");
    let node = world.lock().cluster.nodes[0].clone();
    assert!(node.unschedulable && node.taints.is_empty());
}

#[tokio::test]
async fn a_node_that_another_containment_cordoned_counts_as_done_and_is_left_to_it() {
    let world = shop(1);
    let taint = "firebreak/quarantine=inc-2030-1a2b3c4d:NoSchedule".to_owned();
    {
        let node = &mut world.lock().cluster.nodes[0];
        node.unschedulable = true;
        node.taints.push(taint.clone());
    }
    let args = json!({"node": "node-1"});
    let cx = world.step("cordon");
    let preview = CordonNode.preview(&cx, &args).await.expect("previewed");
    assert!(preview.already, "{preview:?}");
    let applied = CordonNode.apply(&cx, &args).await.expect("it is so");
    assert!(
        applied.summary.contains("inc-2030-1a2b3c4d"),
        "{}",
        applied.summary
    );
    assert!(matches!(
        CordonNode.observe(&cx, &args).await,
        Ok(Observed::Done(_))
    ));
    CordonNode.undo(&cx, &args).await.expect("undone");
    let node = world.lock().cluster.nodes[0].clone();
    assert!(node.unschedulable && node.taints == [taint], "{node:?}");
    world.lock().cluster.nodes[0].unschedulable = false;
    let refused = CordonNode.apply(&world.step("again"), &args).await;
    let refused = refused.expect_err("uncordoned since");
    assert!(refused.to_string().contains("uncordoned"), "{refused}");
}

#[tokio::test]
async fn credentials_are_names_only_and_are_listed_once() {
    let world = shop(2);
    let args = json!({"namespace": "shop", "pod": "web-0"});
    let cx = world.step("credentials");
    for _ in 0..2 {
        let applied = ListCredentials.apply(&cx, &args).await.expect("listed");
        assert_eq!(applied.result["role_arns"][0], "arn:aws:iam::1:role/web");
        assert_eq!(
            applied.result["secrets"],
            json!(["db-password", "registry"])
        );
    }
    let entries: Vec<Credentials> = world.bodies(kind::CREDENTIALS_LISTED);
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].secrets["db-password"], ["env"]);
}

fn append(world: &World, kind: &str, body: &impl serde::Serialize) {
    world
        .append(vec![Draft::new(kind, body)])
        .expect("appended");
}

fn exhibit(world: &World) {
    let body = ExhibitAcquired {
        exhibit: "INC-20261124-7K2Q/E-0001".into(),
        bag: "0001".into(),
        description: "log".into(),
        category: Category::Logs,
        source: "log".into(),
        system: [("pod_uid".to_owned(), "uid-web-0".to_owned())].into(),
        method: "GET pods/log".into(),
        trust: None,
        bytes: 1,
        records: 1,
        sha256: None,
        ended: "complete".into(),
        why: None,
        volatility: 3,
        started: String::new(),
        finished: String::new(),
    };
    append(world, kind::EXHIBIT_ACQUIRED, &body);
}

fn sealed(world: &World) {
    let body = BagSealed {
        bag: "0001".into(),
        seal_sha256: String::new(),
        records: 1,
        root: String::new(),
        bytes: 1,
        files: 1,
        recoveries: 0,
        late: false,
    };
    append(world, kind::BAG_SEALED, &body);
}

fn checked(world: &World, exit: u8) {
    let body = ExhibitChecked {
        bag: "0001".into(),
        verdict: "as checked".into(),
        exit,
    };
    append(world, kind::EXHIBIT_CHECKED, &body);
}

#[tokio::test]
async fn a_pod_is_deleted_only_after_its_bag_was_sealed_and_verified() {
    let args = json!({"namespace": "shop", "pod": "web-0", "uid": "uid-web-0", "bag": "0001"});
    let world = shop(2);
    let cx = world.step("delete");
    let steps: [&dyn Fn(&World); 4] = [&|_| {}, &exhibit, &sealed, &|w| checked(w, 20)];
    for prepare in steps {
        prepare(&world);
        let preview = DeletePod.preview(&cx, &args).await.expect("a preview");
        assert_eq!(preview.blocked.len(), 1);
        let error = DeletePod.apply(&cx, &args).await.expect_err("refused");
        assert_eq!(error.class, Class::Refused);
        assert!(world.lock().effects.is_empty());
    }
    checked(&world, 0);
    DeletePod.apply(&cx, &args).await.expect("deleted");
    assert!(
        world
            .lock()
            .cluster
            .pods
            .iter()
            .all(|p| p.uid != "uid-web-0")
    );
    DeletePod.apply(&cx, &args).await.expect("it stays deleted");
}

#[tokio::test]
async fn a_deletion_whose_reply_is_lost_is_looked_at() {
    let args = json!({"namespace": "shop", "pod": "web-0", "uid": "uid-web-0", "bag": "0001"});
    for fault in [Fault::LostBefore, Fault::LostAfter] {
        let world = shop(2);
        exhibit(&world);
        sealed(&world);
        checked(&world, 0);
        world.lock().fault = Some((1, fault));
        let cx = world.step("delete");
        DeletePod.apply(&cx, &args).await.expect("deleted");
        assert_eq!(world.lock().effects, ["delete pod web-0"]);
    }
}

#[test]
fn every_action_declares_a_schema_refuses_unknown_arguments_and_undoes_what_is_reversible() {
    let all = actions(Actions::default());
    let mut names = Vec::new();
    for action in all.all() {
        let spec = action.spec();
        names.push(spec.name);
        assert!(
            (spec.args_schema)().get("properties").is_some(),
            "{}",
            spec.name
        );
        assert!(
            (spec.check_args)(&json!({"surprise": 1})).is_err(),
            "{}",
            spec.name
        );
        let own = spec.undo == UndoSpec::Own;
        let release = spec.name == "contain.release_workload";
        assert_eq!(
            own,
            spec.effect == Effect::Reversible && !release,
            "{}",
            spec.name
        );
    }
    assert_eq!(names.len(), 7);
}
