//! The same pods again in another run: what an earlier run left unfinished is finished, what is whole is left alone.

use serde_json::{Value, json};

use super::world::*;
use crate::action::contain::{IsolateWorkload, ReleaseWorkload};
use crate::action::{Action, Observed};
use crate::incident::body::{ContainmentPlanned, WriteIntended};
use crate::incident::kind;
use crate::reach::cluster::{Owner, Selector, Service};
use crate::reach::isolation::GUARDS;

fn web0() -> Value {
    json!({"namespace": "shop", "pod": "web-0", "isolate_first": true})
}

async fn isolate(world: &World) -> Value {
    let cx = world.step("isolate");
    let applied = IsolateWorkload.apply(&cx, &web0()).await;
    applied.expect("isolated").result
}

async fn isolate_again(world: &World) -> Value {
    let cx = world.step_of_another_run("isolate");
    let applied = IsolateWorkload.apply(&cx, &web0()).await;
    applied.expect("isolated").result
}

async fn release(world: &World) -> Value {
    let args = json!({"namespace": "shop", "pod": "web-0"});
    let cx = world.step("release");
    let applied = ReleaseWorkload.apply(&cx, &args).await;
    applied.expect("released").result
}

fn as_found(world: &World, words: &str) {
    let found = shop(3);
    let (pod, was) = (world.pod("web-0"), found.pod("web-0"));
    assert_eq!(pod.labels, was.labels, "{words}");
    assert_eq!(pod.annotations, was.annotations, "{words}");
    assert_eq!(picture(world).1, picture(&found).1, "{words}: policies");
}

#[tokio::test]
async fn another_run_finishes_what_a_kill_at_any_entry_left_and_release_gives_all_back() {
    let whole = shop(3);
    isolate(&whole).await;
    let entries = whole.lock().entries.len();
    for kill_at in 1..=entries {
        let world = shop(3);
        world.lock().kill_at = Some(kill_at);
        let _ = IsolateWorkload.apply(&world.step("isolate"), &web0()).await;
        world.revive();
        let result = isolate_again(&world).await;
        assert_eq!(
            result["verdict"], "contained-by-policy",
            "killed at {kill_at}: {result}"
        );
        let pod = world.pod("web-0");
        assert!(
            !pod.labels.contains_key("app") && pod.owner.is_none(),
            "killed at {kill_at}: phase B was never done: {:?}",
            pod.labels
        );
        release(&world).await;
        as_found(&world, &format!("killed at {kill_at}"));
    }
}

#[tokio::test]
async fn another_run_finishes_what_a_kill_between_a_write_and_its_record_left() {
    for n in 1..=3 {
        let world = shop(3);
        world.lock().kill_at_write = Some(n);
        let _ = IsolateWorkload.apply(&world.step("isolate"), &web0()).await;
        world.revive();
        let result = isolate_again(&world).await;
        assert_eq!(result["verdict"], "contained-by-policy", "write {n}");
        assert!(!world.pod("web-0").labels.contains_key("app"), "write {n}");
        release(&world).await;
        as_found(&world, &format!("killed at write {n}"));
    }
}

#[tokio::test]
async fn a_preview_of_half_an_isolation_shows_the_half_that_is_missing() {
    let world = shop(3);
    world.lock().kill_at_write = Some(2);
    let _ = IsolateWorkload.apply(&world.step("isolate"), &web0()).await;
    world.revive();
    let cx = world.step_of_another_run("isolate");
    let preview = IsolateWorkload.preview(&cx, &web0()).await;
    let preview = preview.expect("a preview");
    assert!(!preview.already);
    let changes = preview.changes.join("\n");
    assert!(changes.contains("B: shop/web-0"), "{changes}");
    assert!(!changes.contains("create deny-all policy"), "{changes}");
    assert_eq!(
        IsolateWorkload.observe(&cx, &web0()).await.expect("looked"),
        Observed::NotDone
    );
}

#[tokio::test]
async fn a_whole_isolation_is_left_alone_and_still_stands_in_the_run() {
    let world = shop(3);
    let first = isolate(&world).await;
    let writes = world.lock().writes;
    let result = isolate_again(&world).await;
    assert_eq!(world.lock().writes, writes, "nothing was left to write");
    assert_eq!(result["pods"][0]["outcome"], "already");
    assert_eq!(result["containment"], first["containment"]);
    let planned: Vec<ContainmentPlanned> = world.bodies(kind::CONTAINMENT_PLANNED);
    assert_eq!(planned.len(), 2, "the second run names its pod too");
    assert!(planned[1].already && planned[1].containment == planned[0].containment);
    let cx = world.step_of_another_run("isolate");
    assert!(matches!(
        IsolateWorkload.observe(&cx, &web0()).await,
        Ok(Observed::Done(_))
    ));
}

#[tokio::test]
async fn a_service_that_came_later_is_left_too_and_every_label_comes_back() {
    let world = shop(3);
    world.lock().cluster.pods[0]
        .labels
        .insert("tier".into(), "front".into());
    let found = world.pod("web-0").labels;
    isolate(&world).await;
    world.lock().cluster.services.push(Service {
        namespace: "shop".into(),
        name: "front".into(),
        selector: Some(labels("tier=front")),
        cluster_ip: "10.96.0.99".into(),
        ports: Vec::new(),
    });
    assert!(world.pod("web-0").labels.contains_key("tier"));
    isolate_again(&world).await;
    let front = Selector::labels(labels("tier=front"));
    assert!(!front.matches(&world.pod("web-0").labels));
    release(&world).await;
    assert_eq!(world.pod("web-0").labels, found);
    assert_eq!(picture(&world).1, picture(&shop(3)).1, "policies");
}

#[tokio::test]
async fn labels_that_somebody_put_back_are_moved_out_again() {
    let world = shop(3);
    isolate(&world).await;
    let put_back = ("app".to_owned(), "web".to_owned());
    world.lock().cluster.pods[0].labels.extend([put_back]);
    let result = isolate_again(&world).await;
    assert_eq!(result["verdict"], "contained-by-policy", "{result}");
    assert!(!world.pod("web-0").labels.contains_key("app"));
    release(&world).await;
    as_found(&world, "put back and moved out again");
}

#[tokio::test]
async fn a_second_move_that_is_refused_does_not_forget_the_first() {
    let world = shop(3);
    isolate(&world).await;
    world.lock().cluster.pods[0]
        .labels
        .insert("app".into(), "web".into());
    world.lock().always = Some(("web-0".into(), Fault::Rejected));
    let cx = world.step_of_another_run("isolate");
    let _ = IsolateWorkload.apply(&cx, &web0()).await;
    world.lock().always = None;
    release(&world).await;
    as_found(&world, "after a refused second move");
}

#[tokio::test]
async fn guards_that_a_kill_left_out_of_a_pod_that_keeps_its_labels_are_written() {
    let world = shop(3);
    world.lock().cluster.pods[0].owner = Some(Owner {
        kind: "StatefulSet".into(),
        name: "web".into(),
        uid: "uid-sts".into(),
    });
    world.lock().kill_at_write = Some(2);
    let _ = IsolateWorkload.apply(&world.step("isolate"), &web0()).await;
    world.revive();
    isolate_again(&world).await;
    for (key, value) in GUARDS {
        assert_eq!(world.pod("web-0").annotations[key], value);
    }
    let writes: Vec<WriteIntended> = world.bodies(kind::WRITE_INTENDED);
    assert_eq!(writes.last().expect("one").what, "annotate");
}
