//! Each guarantee of the ports, held by the sim.

mod looking;
mod network;
mod writing;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::port::{
    Acquire, ByteStream, CanarySpec, CaptureKind, ClusterChange, ClusterView, HostClock,
    LabelChange, LookScope, Piece, PolicySpec, Probe, ProbeSource, ProbeTarget, Tried, WriteMode,
};
use crate::reach::cluster::{Labels, PodName, Protocol, Selector};

const LIMIT: Duration = Duration::from_secs(2);
const ID: &str = "inc-1-0badcafe";

/// A sim whose file is a buffer.
struct Lab {
    sim: Arc<SimCluster>,
    file: Arc<Mutex<Vec<u8>>>,
}

impl Lab {
    fn new() -> Self {
        let now = chrono::DateTime::from_timestamp(1_790_000_000, 0).expect("time");
        Lab::of(world_shop(now, [7; 16]))
    }
    fn with(change: impl FnOnce(&mut World)) -> Self {
        let lab = Lab::new();
        lab.sim.meddle(change).expect("saved");
        lab
    }
    fn of(world: World) -> Self {
        let file = Arc::new(Mutex::new(Vec::new()));
        let sim = SimCluster::create(world, saver(&file), Arc::new(HostClock::for_drill()));
        Lab {
            sim: Arc::new(sim.expect("created")),
            file,
        }
    }
    /// The same world after the process died: only the file is left.
    fn reborn(&self) -> Self {
        let bytes = self.file.lock().expect("file").clone();
        let sim = SimCluster::resume(&bytes, saver(&self.file), Arc::new(HostClock::for_drill()));
        Lab {
            sim: Arc::new(sim.expect("resumed")),
            file: self.file.clone(),
        }
    }
    fn pod(&self, name: &str) -> Pod {
        self.sim.world().pod(NAMESPACE, name).expect("pod").clone()
    }
    fn target(&self) -> Pod {
        self.pod(COMPROMISED)
    }
    fn sibling(&self) -> Pod {
        self.pod("web-7d9f8c6b5d-m4k9z")
    }
    async fn try_from(&self, from: &Pod, address: &str, port: u16) -> Tried {
        self.sim
            .connect(&source(from), &to(address, port), LIMIT)
            .await
            .expect("probe")
            .tried
    }
}

fn saver(file: &Arc<Mutex<Vec<u8>>>) -> Saver {
    let file = file.clone();
    Arc::new(move |bytes| {
        *file.lock().expect("file") = bytes.to_vec();
        Ok(())
    })
}

fn reference(pod: &Pod) -> ObjectRef {
    ObjectRef {
        kind: "Pod".into(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    }
}

fn source(pod: &Pod) -> ProbeSource {
    ProbeSource {
        pod: reference(pod),
        container: pod.containers[0].name.clone(),
    }
}

fn to(address: &str, port: u16) -> ProbeTarget {
    ProbeTarget {
        address: address.into(),
        port,
        protocol: Protocol::Tcp,
    }
}

fn deny() -> PolicySpec {
    let quarantine = Labels::from([("firebreak/quarantine".into(), ID.into())]);
    PolicySpec {
        namespace: NAMESPACE.into(),
        name: format!("firebreak-{ID}"),
        labels: Labels::from([("firebreak/containment".into(), ID.into())]),
        annotations: Labels::new(),
        pod_selector: Selector::labels(quarantine),
    }
}

fn quarantine(pod: &Pod) -> LabelChange {
    LabelChange {
        object: reference(pod),
        expect: BTreeMap::from([("labels/firebreak/quarantine".into(), None)]),
        set: BTreeMap::from([("labels/firebreak/quarantine".into(), Some(ID.into()))]),
    }
}

fn move_out(pod: &Pod) -> LabelChange {
    let now = |key: &str| pod.labels.get(key).cloned();
    let keys = ["app", "pod-template-hash"];
    LabelChange {
        object: reference(pod),
        expect: keys.map(|k| (format!("labels/{k}"), now(k))).into(),
        set: keys.map(|k| (format!("labels/{k}"), None)).into(),
    }
}

async fn isolate(lab: &Lab) {
    let pod = lab.target();
    lab.sim
        .put_policy(&deny(), WriteMode::Apply)
        .await
        .expect("policy");
    lab.sim
        .change_labels(&quarantine(&pod), WriteMode::Apply)
        .await
        .expect("label");
}

async fn read_all(mut stream: Box<dyn ByteStream>) -> (String, Option<i32>, String) {
    let mut text = Vec::new();
    let mut end = (None, String::new());
    while let Some(piece) = stream.next().await {
        match piece.expect("piece") {
            Piece::Bytes(b) => text.extend(b),
            Piece::End { exit, stderr } => end = (exit, stderr),
        }
    }
    (String::from_utf8(text).expect("text"), end.0, end.1)
}

fn canary(node: &str) -> CanarySpec {
    CanarySpec {
        namespace: "firebreak-hands".into(),
        name: "firebreak-canary-1".into(),
        node: node.into(),
        image: "docker.io/library/busybox:1.37".into(),
        quarantine: "canary-1".into(),
    }
}
