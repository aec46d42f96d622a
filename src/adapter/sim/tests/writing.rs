//! Preconditions, faults and persistence of writes.

use super::*;

#[tokio::test]
async fn a_preview_stores_nothing_and_says_what_the_write_would() {
    let lab = Lab::new();
    let before = (lab.sim.world(), lab.file.lock().expect("file").clone());
    let pod = lab.target();
    let written = lab
        .sim
        .put_policy(&deny(), WriteMode::Preview)
        .await
        .expect("policy");
    assert!(!written.already);
    lab.sim
        .change_labels(&move_out(&pod), WriteMode::Preview)
        .await
        .expect("labels");
    assert!(
        lab.sim
            .delete_pod(&reference(&pod), WriteMode::Preview)
            .await
            .expect("pod")
    );
    assert_eq!(
        before,
        (lab.sim.world(), lab.file.lock().expect("file").clone())
    );
}

#[tokio::test]
async fn a_changed_label_or_another_uid_is_a_conflict_and_nothing_happens() {
    let lab = Lab::new();
    let change = move_out(&lab.target());
    lab.sim
        .meddle(|w| {
            w.pod_mut(NAMESPACE, COMPROMISED)
                .expect("pod")
                .labels
                .insert("app".into(), "other".into());
        })
        .expect("saved");
    let before = lab.sim.world();
    let error = lab
        .sim
        .change_labels(&change, WriteMode::Apply)
        .await
        .expect_err("conflict");
    assert_eq!(error.cause, Cause::Conflict);
    assert_eq!(before, lab.sim.world());

    let lab = Lab::new();
    let old = lab.target();
    lab.sim
        .meddle(|w| w.recreate_pod(NAMESPACE, COMPROMISED))
        .expect("saved");
    assert_ne!(lab.target().uid, old.uid);
    for error in [
        lab.sim
            .change_labels(&quarantine(&old), WriteMode::Apply)
            .await
            .expect_err("label"),
        lab.sim
            .delete_pod(&reference(&old), WriteMode::Apply)
            .await
            .expect_err("delete"),
        lab.sim
            .connect(&source(&old), &to("10.96.0.1", 443), LIMIT)
            .await
            .expect_err("probe"),
    ] {
        assert_eq!(error.cause, Cause::Conflict, "{error}");
    }
}

#[tokio::test]
async fn a_foreign_policy_of_our_name_is_never_overwritten() {
    let lab = Lab::with(|w| {
        let mut foreign = w.cluster.policies[0].clone();
        foreign.name = format!("firebreak-{ID}");
        foreign.uid = w.mint_uid();
        w.cluster.policies.push(foreign);
    });
    for mode in [WriteMode::Preview, WriteMode::Apply] {
        let error = lab
            .sim
            .put_policy(&deny(), mode)
            .await
            .expect_err("foreign");
        assert_eq!(error.cause, Cause::Conflict);
    }
}

#[tokio::test]
async fn writing_the_same_twice_is_already_so_and_deleting_twice_is_gone() {
    let lab = Lab::new();
    let first = lab
        .sim
        .put_policy(&deny(), WriteMode::Apply)
        .await
        .expect("first");
    let second = lab
        .sim
        .put_policy(&deny(), WriteMode::Apply)
        .await
        .expect("second");
    assert_eq!((first.already, second.already), (false, true));
    assert_eq!(first.object, second.object);
    assert_eq!(
        lab.sim.delete_policy(&first.object, WriteMode::Apply).await,
        Ok(true)
    );
    assert_eq!(
        lab.sim.delete_policy(&first.object, WriteMode::Apply).await,
        Ok(false)
    );
    let third = lab
        .sim
        .put_policy(&deny(), WriteMode::Apply)
        .await
        .expect("third");
    let error = lab
        .sim
        .delete_policy(&first.object, WriteMode::Apply)
        .await
        .expect_err("another UID");
    assert_ne!(third.object.uid, first.object.uid);
    assert_eq!(error.cause, Cause::Conflict);
}

#[tokio::test]
async fn a_node_is_held_and_given_back_as_it_was() {
    let lab = Lab::new();
    let before = lab.sim.world();
    let node = before.cluster.nodes[0].clone();
    let object = ObjectRef {
        kind: "Node".into(),
        namespace: String::new(),
        name: node.name.clone(),
        uid: node.uid.clone(),
    };
    assert!(
        !lab.sim
            .cordon(&object, ID, WriteMode::Apply)
            .await
            .expect("cordon")
            .already
    );
    assert!(
        lab.sim
            .cordon(&object, ID, WriteMode::Apply)
            .await
            .expect("again")
            .already
    );
    let held = lab
        .sim
        .node(&node.name)
        .await
        .expect("node")
        .expect("there");
    assert!(held.unschedulable && held.taints == [format!("firebreak/quarantine={ID}:NoSchedule")]);
    lab.sim
        .uncordon(&object, ID, true, WriteMode::Apply)
        .await
        .expect("uncordon");
    assert_eq!(lab.sim.world(), before);
    let other = ObjectRef {
        uid: "another".into(),
        ..object
    };
    assert_eq!(
        lab.sim
            .cordon(&other, ID, WriteMode::Apply)
            .await
            .expect_err("uid")
            .cause,
        Cause::Conflict
    );
}

#[tokio::test]
async fn a_fault_before_leaves_nothing_and_a_lost_reply_leaves_the_effect() {
    let lab = Lab::with(|w| {
        w.faults = vec![
            Fault::before("put_policy", 1, Cause::Unreachable),
            Fault::after("put_policy", 2),
        ]
    });
    let error = lab
        .sim
        .put_policy(&deny(), WriteMode::Apply)
        .await
        .expect_err("before");
    assert!(error.cause.is_transient() && lab.sim.world().cluster.policies.len() == 4);
    let error = lab
        .sim
        .put_policy(&deny(), WriteMode::Apply)
        .await
        .expect_err("after");
    assert!(error.cause.may_have_happened());
    let reborn = lab.reborn();
    assert_eq!(
        reborn.sim.world().cluster.policies.len(),
        5,
        "the lost reply's effect is durable"
    );
    assert!(
        reborn
            .sim
            .put_policy(&deny(), WriteMode::Apply)
            .await
            .expect("third")
            .already
    );
}

#[tokio::test]
async fn every_write_can_fail_before_and_lose_its_reply() {
    let pod = Lab::new().target();
    let node = Lab::new().sim.world().cluster.nodes[0].clone();
    let object = ObjectRef {
        kind: "Node".into(),
        namespace: String::new(),
        name: node.name.clone(),
        uid: node.uid,
    };
    for call in [
        "put_policy",
        "change_labels",
        "cordon",
        "delete_pod",
        "put_canary",
        "put_probe_pod",
    ] {
        for (fault, happened) in [
            (Fault::before(call, 1, Cause::Throttled), false),
            (Fault::after(call, 1), true),
        ] {
            let lab = Lab::with(|w| w.faults = vec![fault]);
            let before = lab.sim.world().cluster;
            let (sim, apply) = (&lab.sim, WriteMode::Apply);
            let error = match call {
                "put_policy" => sim.put_policy(&deny(), apply).await.err(),
                "change_labels" => sim.change_labels(&quarantine(&pod), apply).await.err(),
                "cordon" => sim.cordon(&object, ID, apply).await.err(),
                "delete_pod" => sim.delete_pod(&reference(&pod), apply).await.err(),
                "put_canary" => sim.put_canary(&canary(&node.name), 5).await.err(),
                _ => sim.put_probe_pod(&canary(&node.name), 5).await.err(),
            };
            assert_eq!(
                error.expect("fault").cause.may_have_happened(),
                happened,
                "{call}"
            );
            assert_eq!(before != lab.sim.world().cluster, happened, "{call}");
            assert_eq!(lab.reborn().sim.world(), lab.sim.world(), "{call}");
        }
    }
}

#[tokio::test]
async fn a_reloaded_world_is_the_same_and_goes_on() {
    let lab = Lab::new();
    isolate(&lab).await;
    let reborn = lab.reborn();
    assert_eq!(reborn.sim.world(), lab.sim.world());
    let pod = reborn.target();
    reborn
        .sim
        .change_labels(&move_out(&pod), WriteMode::Apply)
        .await
        .expect("goes on");
    let world = reborn.sim.world();
    let mut uids: Vec<&str> = world.cluster.pods.iter().map(|p| p.uid.as_str()).collect();
    uids.sort_unstable();
    uids.dedup();
    assert_eq!(
        uids.len(),
        world.cluster.pods.len(),
        "no UID is given twice"
    );
}

#[tokio::test]
async fn an_effect_that_cannot_be_saved_did_not_happen() {
    let now = chrono::DateTime::from_timestamp(1_790_000_000, 0).expect("time");
    let full = Arc::new(Mutex::new(false));
    let flag = full.clone();
    let save: Saver = Arc::new(move |_| {
        if *flag.lock().expect("flag") {
            Err(std::io::Error::other("disk full"))
        } else {
            Ok(())
        }
    });
    let sim = SimCluster::create(
        world_shop(now, [7; 16]),
        save,
        Arc::new(HostClock::for_drill()),
    )
    .expect("sim");
    *full.lock().expect("flag") = true;
    let before = sim.world();
    let error = sim
        .put_policy(&deny(), WriteMode::Apply)
        .await
        .expect_err("disk");
    assert_eq!(error.cause, Cause::Local);
    assert_eq!(sim.world(), before);
}

#[tokio::test]
async fn somebody_else_may_interfere_at_a_call() {
    let lab = Lab::with(|w| {
        w.faults = vec![
            Fault {
                call: "change_labels".into(),
                nth: 1,
                then: Then::Recreate {
                    namespace: NAMESPACE.into(),
                    name: COMPROMISED.into(),
                },
            },
            Fault {
                call: "put_policy".into(),
                nth: 1,
                then: Then::StopPlugin,
            },
        ];
    });
    isolate_expecting_conflict(&lab).await;
    assert_eq!(lab.sim.world().enforcing, Enforcing::Never);
}

async fn isolate_expecting_conflict(lab: &Lab) {
    let pod = lab.target();
    lab.sim
        .put_policy(&deny(), WriteMode::Apply)
        .await
        .expect("policy");
    let error = lab
        .sim
        .change_labels(&quarantine(&pod), WriteMode::Apply)
        .await
        .expect_err("recreated");
    assert_eq!(error.cause, Cause::Conflict);
}

#[test]
fn a_file_that_is_no_world_is_refused() {
    assert!(World::read(b"{}").is_err());
    let mut world = Lab::new().sim.world();
    world.format = "sim-world/v9".into();
    assert!(World::read(&world.bytes()).is_err());
}

#[test]
fn two_worlds_never_share_an_identity() {
    let now = chrono::DateTime::from_timestamp(1_790_000_000, 0).expect("time");
    assert_ne!(
        world_shop(now, [1; 16]).identity.uid,
        world_shop(now, [2; 16]).identity.uid
    );
}

#[tokio::test]
async fn a_fault_of_a_write_does_not_strike_its_preview() {
    let lab = Lab::with(|w| {
        w.faults = vec![
            Fault::before("put_policy", 1, Cause::Unreachable),
            Fault::before("preview:put_policy", 2, Cause::Rejected),
        ];
    });
    let spec = deny();
    let put = |mode| lab.sim.put_policy(&spec, mode);
    assert!(put(WriteMode::Preview).await.is_ok());
    assert_eq!(
        put(WriteMode::Preview).await.expect_err("webhook").cause,
        Cause::Rejected
    );
    assert!(put(WriteMode::Apply).await.is_err());
    assert!(put(WriteMode::Apply).await.is_ok());
}

#[tokio::test]
async fn a_patch_whose_reply_was_lost_is_already_so_when_sent_again() {
    let lab = Lab::with(|w| w.faults = vec![Fault::after("change_labels", 1)]);
    let change = quarantine(&lab.target());
    lab.sim
        .change_labels(&change, WriteMode::Apply)
        .await
        .expect_err("lost");
    let again = lab
        .sim
        .change_labels(&change, WriteMode::Apply)
        .await
        .expect("again");
    assert!(
        again.already,
        "its test on the old value no longer holds, and what it wanted does"
    );
}
