//! A whole rehearsal: the embedded breach playbook through the real engine, ledger and bags, against the sim.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::*;
use crate::action::{self, Actions};
use crate::adapter::sim::estate::SimEstate;
use crate::adapter::sim::{COMPROMISED, Enforcing, Fault, NAMESPACE, Then, World};
use crate::adapter::store::DirStore;
use crate::adapter::webhook::Messages;
use crate::custody::Custody;
use crate::incident::{Actor, IncidentId};
use crate::playbook::model::Playbook;
use crate::playbook::{embedded, read};
use crate::port::{HostClock, HostRandom, Ports, RunEvent, Store};
use crate::run::{Confirmation, Confirmed, Ending, Engine, RunEnd};

const NAME: &str = "security-breach";

/// A drill's folder that goes away, and everything that was told.
struct Rehearsal {
    place: std::path::PathBuf,
    told: Arc<Mutex<Vec<RunEvent>>>,
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

impl Rehearsal {
    fn new(name: &str) -> Self {
        let place =
            std::env::temp_dir().join(format!("firebreak-rehearsal-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        Rehearsal {
            place,
            told: Arc::default(),
        }
    }
    fn store(&self) -> Box<dyn Store> {
        Box::new(DirStore::open(&self.place).expect("folder"))
    }
    fn set(&self) -> Stage {
        let request = Request {
            id: IncidentId::parse("DRILL-1").expect("id"),
            org: "unregistered.invalid".into(),
            actor: Actor::person("me@here"),
            playbook: &playbook(),
            script: embedded::find(NAME)
                .and_then(|e| e.answers)
                .expect("answers")
                .as_bytes(),
        };
        let clock = Arc::new(HostClock::for_drill());
        Stage::set(self.store(), request, clock, Arc::new(HostRandom)).expect("set")
    }
    fn reset(&self) -> Stage {
        let clock = Arc::new(HostClock::for_drill());
        let actor = Actor::person("me@here");
        let custody = Custody::open(self.store(), clock.clone(), Arc::new(HostRandom), &actor);
        Stage::reset(
            Arc::new(custody.expect("open")),
            clock,
            Arc::new(HostRandom),
        )
        .expect("reset")
    }
    fn engine(&self, stage: &Stage) -> Engine {
        let told = self.told.clone();
        let operator = stage.operator(Arc::new(move |e| {
            told.lock().expect("told").push(e.clone())
        }));
        let actions = action::contain::actions(action::acquire::actions(Actions::default()));
        let actions = action::eradicate::actions(actions);
        Engine {
            incident: stage.custody.id().clone(),
            mode: crate::incident::Mode::Drill,
            policy: stage.policy().expect("policy"),
            ledger: stage.custody.ledger(),
            exhibits: stage.custody.clone(),
            files: stage.custody.clone(),
            documents: Some(stage.custody.clone()),
            ports: Ports {
                cluster: Some(stage.sim.cluster()),
                estate: Some(stage.estate().expect("estate")),
                notifier: Arc::new(Messages::shown()),
                clock: Arc::new(HostClock::for_drill()),
                random: Arc::new(HostRandom),
            },
            actions: actions.with(action::report_build::ReportBuild),
            operator: Arc::new(operator),
            executor: stage.cast.executor(),
            cancel: watch::channel(false).1,
            patience: Duration::ZERO,
        }
    }
    async fn play(&self, stage: &Stage) -> RunEnd {
        let engine = self.engine(stage);
        let text = embedded::find(NAME).expect("embedded").text.as_bytes();
        let plan = engine.plan(NAME, text, &stage.vars()).await.expect("plan");
        let given = Confirmed {
            shown_sha256: plan.digest.clone(),
            reason: Some("EXERCISE".into()),
        };
        engine
            .start(&plan.bytes, text, Confirmation::Given(given))
            .await
            .expect("run")
    }
}

fn playbook() -> Playbook {
    let text = embedded::find(NAME).expect("embedded").text;
    read::read(text.as_bytes(), Some("security-breach.yaml")).expect("playbook")
}

/// What a drill must leave of the world, by what matters of it.
fn contained(world: &World) -> bool {
    let pod = world
        .pod(NAMESPACE, COMPROMISED)
        .expect("the evidence is still there");
    let quarantine = pod.labels.get("firebreak/quarantine");
    quarantine.is_some() && !pod.labels.contains_key("app") && pod.owner.is_none()
}

#[tokio::test]
async fn the_breach_playbook_is_rehearsed_to_its_end_and_every_check_passes() {
    let rehearsal = Rehearsal::new("whole");
    let stage = rehearsal.set();
    let end = rehearsal.play(&stage).await;
    let report = Report::of(
        &stage.custody.history().expect("history"),
        stage.custody.place(),
    )
    .expect("report");
    assert_eq!(
        end.ending,
        Ending::Completed,
        "{:#?}\n{:#?}",
        end,
        rehearsal.told.lock().expect("told")
    );
    assert!(report.score.checks.iter().all(|c| c.passed), "{report:#?}");
    assert!(report.objectives_met == Some(true) && report.exit == 0 && report.bag_exit == 0);
    assert!(report.bags.len() >= 4 && report.actual_rto_s.is_some());
    assert!(contained(&stage.sim.world()));
    assert_rotated(&stage.cloud);
}

/// From the account's side: what the intruder took opens nothing any more, and everybody who works there does.
fn assert_rotated(estate: &SimEstate) {
    let world = estate.world();
    for id in &world.attacker.holds {
        let key = world.keys.get(id);
        assert!(key.is_none_or(|k| !k.active), "the stolen key {id} is dead");
    }
    for deployment in &world.deployments {
        let ready = deployment.pods.iter().filter(|p| p.ready).count();
        let wanted = deployment.replicas as usize;
        assert_eq!(ready, wanted, "{} is healthy", deployment.full_name());
    }
}

/// Plays a drill in a world in which something goes wrong, and goes on as a person would by `resume`.
async fn play_with(name: &str, faults: Vec<Fault>) -> (Rehearsal, Stage, RunEnd) {
    let rehearsal = Rehearsal::new(name);
    let stage = rehearsal.set();
    stage.sim.meddle(|w| w.faults = faults).expect("saved");
    let end = rehearsal.play(&stage).await;
    if end.ending == Ending::Completed {
        return (rehearsal, stage, end);
    }
    let run = end.run.clone();
    drop(stage);
    let stage = rehearsal.reset();
    let end = rehearsal.engine(&stage).resume(&run).await.expect("resume");
    (rehearsal, stage, end)
}

#[tokio::test]
async fn a_lost_reply_of_any_write_is_observed_and_the_drill_ends_contained() {
    for (call, nth) in [
        ("put_policy", 1),
        ("change_labels", 1),
        ("change_labels", 2),
        ("cordon", 1),
    ] {
        let (_kept, stage, end) = play_with(call, vec![Fault::after(call, nth)]).await;
        assert!(contained(&stage.sim.world()), "{call} {nth}: {end:#?}");
        assert!(
            end.in_doubt.is_empty() && end.stuck.is_empty(),
            "{call} {nth}: {end:#?}"
        );
        let ours = |w: &World| {
            w.cluster
                .policies
                .iter()
                .filter(|p| p.name.starts_with("firebreak-"))
                .count()
        };
        assert_eq!(ours(&stage.sim.world()), 1, "{call} {nth}");
        let replacements = stage
            .sim
            .world()
            .cluster
            .pods
            .iter()
            .filter(|p| p.labels.get("app").is_some_and(|a| a == "web"))
            .count();
        assert_eq!(
            replacements, 2,
            "{call} {nth}: the sibling and one replacement"
        );
    }
}

#[tokio::test]
async fn a_plugin_that_enforces_nothing_is_never_called_contained() {
    let rehearsal = Rehearsal::new("unenforced");
    let stage = rehearsal.set();
    stage
        .sim
        .meddle(|w| w.enforcing = Enforcing::Never)
        .expect("saved");
    rehearsal.play(&stage).await;
    let history = stage.custody.history().expect("history");
    let report = Report::of(&history, stage.custody.place()).expect("report");
    assert_eq!(report.exit, 5);
    let failed: Vec<&str> = report
        .score
        .checks
        .iter()
        .filter(|c| !c.passed)
        .map(|c| c.name.as_str())
        .collect();
    assert!(
        failed.contains(&"isolation is proven") && failed.contains(&"contained in time"),
        "{failed:?}"
    );
    assert!(
        report.bag_exit == 0 && report.objectives_met == Some(false),
        "the evidence is as good as ever"
    );
}

#[tokio::test]
async fn a_pod_that_was_recreated_under_its_name_is_not_isolated_in_its_place() {
    let recreated = Fault {
        call: "change_labels".into(),
        nth: 1,
        then: Then::Recreate {
            namespace: NAMESPACE.into(),
            name: COMPROMISED.into(),
        },
    };
    let rehearsal = Rehearsal::new("recreated");
    let stage = rehearsal.set();
    stage
        .sim
        .meddle(|w| w.faults = vec![recreated])
        .expect("saved");
    let end = rehearsal.play(&stage).await;
    let world = stage.sim.world();
    let pod = world.pod(NAMESPACE, COMPROMISED).expect("the new one");
    assert!(!pod.labels.contains_key("firebreak/quarantine"), "{end:#?}");
    assert!(
        end.failed.iter().any(|s| s == "act/main/isolate"),
        "{end:#?}"
    );
}
