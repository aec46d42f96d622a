//! The acquire actions on a real cluster, into real bags that are verified afterwards. Needs a lab, see `tests/run`.
#![cfg(feature = "adapters")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firebreak::action::{Action, Actions, Context, Observed, acquire};
use firebreak::adapter::kube::{ConnectOptions, connect};
use firebreak::adapter::store::DirStore;
use firebreak::adapter::webhook::Messages;
use firebreak::custody::{Custody, OpenRequest};
use firebreak::incident::body::ExhibitAcquired;
use firebreak::incident::{Actor, IncidentId, Mode, RunId, StepPath, kind};
use firebreak::port::{HostClock, HostRandom, Ledger as _, Ports};
use firebreak_evidence::verify::{Given, Policy, verify};
use serde_json::{Value, json};
use support::lab::{Lab, OUTSIDE};
use support::own_folder;

/// An incident of one test.
struct Incident {
    custody: Arc<Custody>,
    folder: std::path::PathBuf,
}

impl Incident {
    fn open(test: &str) -> Incident {
        let folder = own_folder(test).join("incident");
        let _ = std::fs::remove_dir_all(&folder);
        let request = OpenRequest {
            id: IncidentId::parse("INC-20261124-TEST").expect("an id"),
            mode: Mode::Live,
            org: "unregistered.invalid".into(),
            targets: Vec::new(),
            policy: "solo".into(),
            trust: BTreeMap::new(),
            actor: Actor::person("test@lab"),
        };
        let store = DirStore::open(&folder).expect("a folder");
        let (clock, random) = (Arc::new(HostClock::new()), Arc::new(HostRandom));
        let custody =
            Custody::create(Box::new(store), request, clock, random).expect("an incident");
        Incident {
            custody: Arc::new(custody),
            folder,
        }
    }

    async fn context(&self, lab: &Lab, step: &str) -> Context {
        let options = ConnectOptions {
            kubeconfig: Some(lab.kubeconfig()),
            ..ConnectOptions::default()
        };
        let connected = connect(&options)
            .await
            .expect("the lab's kubeconfig is read");
        let (sender, cancel) = tokio::sync::watch::channel(false);
        drop(sender);
        Context {
            incident: IncidentId::parse("INC-20261124-TEST").expect("an id"),
            mode: Mode::Live,
            run: RunId::parse("run-aaaaaaaaaaaaaaaa").expect("a run"),
            step: StepPath::parse(step).expect("a path"),
            attempt: 1,
            key: String::new(),
            ledger: self.custody.ledger(),
            documents: None,
            files: self.custody.clone(),
            custody: Some(self.custody.clone()),
            ports: Ports {
                cluster: Some(connected.cluster),
                estate: None,
                notifier: Arc::new(Messages::shown()),
                clock: Arc::new(HostClock::new()),
                random: Arc::new(HostRandom),
            },
            deadline: Duration::from_secs(60),
            cancel,
            progress: Arc::new(|_| {}),
        }
    }

    fn exhibits(&self, bag: &Value) -> Vec<ExhibitAcquired> {
        let history = self.custody.ledger().history().expect("a ledger");
        let all = history.bodies::<ExhibitAcquired>(kind::EXHIBIT_ACQUIRED);
        all.map(|(_, e)| e).filter(|e| bag == &e.bag).collect()
    }

    /// The bytes of an exhibit, from its folder in the bag.
    fn content(&self, exhibit: &ExhibitAcquired) -> String {
        let bags = std::fs::read_dir(self.folder.join("bags")).expect("bags");
        let bag = bags
            .map(|b| b.expect("a bag").path())
            .find(|b| b.to_string_lossy().contains(&exhibit.bag))
            .expect("its bag");
        let files = std::fs::read_dir(bag.join("data").join(&exhibit.source)).expect("its folder");
        let mut paths: Vec<_> = files.map(|f| f.expect("a file").path()).collect();
        paths.sort();
        let bytes: Vec<u8> = paths
            .iter()
            .flat_map(|p| std::fs::read(p).expect("its bytes"))
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn action(name: &str) -> Arc<dyn Action> {
    acquire::actions(Actions::default())
        .find(name)
        .expect("an action")
        .clone()
}

#[tokio::test]
async fn an_intruders_traces_are_sealed_within_seconds_and_the_bag_verifies() {
    let Some(lab) = Lab::find() else { return };
    let shop = lab.shop();
    let incident = Incident::open("acquire-volatile");
    let cx = incident.context(&lab, "volatile").await;
    let args = json!({ "namespace": shop.namespace.name, "pod": shop.compromised });
    let volatile = action("acquire.volatile");
    let preview = volatile.preview(&cx, &args).await.expect("a preview");
    assert!(
        preview.blocked.is_empty() && preview.binding.len() == 1,
        "{preview:?}"
    );

    let began = Instant::now();
    let done = volatile.apply(&cx, &args).await.expect("applied");
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    let taken = incident.exhibits(&done.result["bag"]);
    let text = |begin: &str| -> String {
        let found = taken.iter().filter(|e| e.description.starts_with(begin));
        found.map(|e| incident.content(e)).collect()
    };
    let hex: String = OUTSIDE
        .split('.')
        .rev()
        .map(|b| format!("{:02X}", b.parse::<u8>().expect("a byte")))
        .collect();
    assert!(
        text("network state").contains(&format!("{hex}:115C 01")),
        "{:?}",
        done.result
    );
    let processes = text("processes");
    assert!(
        processes.contains("/tmp/.cache/kworkerd") && processes.contains("==> /proc/1/exe <=="),
        "{processes}"
    );
    assert!(text("object and status").contains(&shop.compromised));
    assert!(text("events").contains("Started"));
    assert!(text("log tail").contains("pages written"));
    // The pod's own table of tracked connections is empty: the node keeps it, and the result says how to read it there.
    let incomplete = done.result["incomplete"].as_array().expect("a list");
    assert!(
        incomplete
            .iter()
            .all(|line| line.as_str().is_some_and(|l| l.contains("conntrack -L"))),
        "{incomplete:?}"
    );
    assert!(taken.is_sorted_by_key(|e| e.volatility));
    assert!(
        matches!(volatile.observe(&cx, &args).await, Ok(Observed::Done(a)) if a.result["bag"] == done.result["bag"])
    );
    verified(&incident);
}

#[tokio::test]
async fn logs_manifests_and_files_are_sealed_whole() {
    let Some(lab) = Lab::find() else { return };
    let shop = lab.shop();
    let ns = &shop.namespace.name;
    let incident = Incident::open("acquire-long");
    let web = json!({ "namespace": ns, "pod": shop.compromised });
    let cx = incident.context(&lab, "manifests").await;
    let done = action("acquire.manifests")
        .apply(&cx, &web)
        .await
        .expect("applied");
    let kinds: Vec<String> = incident
        .exhibits(&done.result["bag"])
        .iter()
        .filter_map(|e| e.system.get("kind").cloned())
        .collect();
    let wanted = [
        "ReplicaSet",
        "Deployment",
        "Node",
        "ServiceAccount",
        "Service",
        "NetworkPolicy",
        "NetworkPolicy",
    ];
    assert_eq!(kinds, wanted);
    assert_eq!(done.result["incomplete"], json!([]));

    let cx = incident.context(&lab, "logs").await;
    let agents = json!({ "namespace": ns, "selector": "app=agent" });
    let done = action("acquire.logs")
        .apply(&cx, &agents)
        .await
        .expect("applied");
    let logs: Vec<String> = incident
        .exhibits(&done.result["bag"])
        .iter()
        .filter(|e| e.description.starts_with("log"))
        .map(|e| incident.content(e))
        .collect();
    assert!(
        logs[0].contains("agent: collecting") && logs[1].contains("first start failed"),
        "{logs:?}"
    );

    let cx = incident.context(&lab, "files").await;
    let here =
        json!({ "paths": [concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab"), "/nonexistent"] });
    let done = action("acquire.files")
        .apply(&cx, &here)
        .await
        .expect("applied");
    assert!(
        done.result["incomplete"][0]
            .as_str()
            .expect("a text")
            .contains("/nonexistent")
    );
    verified(&incident);
}

/// The incident folder as somebody else's verifier sees it.
fn verified(incident: &Incident) {
    let store = DirStore::open(&incident.folder).expect("a folder");
    let text = incident.custody.ledger().fingerprint().to_owned();
    let pinned = firebreak_evidence::encoding::unhex(&text).expect("hexadecimal");
    let pinned = firebreak_evidence::note::Fingerprint(pinned);
    let given = Given {
        fingerprints: vec![pinned],
        ..Given::default()
    };
    incident
        .custody
        .ledger()
        .checkpoint()
        .expect("a checkpoint");
    let report = verify(&store, &Policy::default(), &given);
    assert_eq!(report.exit, 0, "{}: {:?}", report.verdict, report.findings);
}
