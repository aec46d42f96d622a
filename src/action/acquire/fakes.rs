//! A small world for the tests of this room: pods, what they answer, and bags in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::action::Context;
use crate::incident::body::{BagSealed, ExhibitAcquired, ObjectRef};
use crate::incident::{Draft, Entry, History, IncidentId, Mode, Refs, RunId, StepPath, kind};
use crate::port::*;
use crate::reach::cluster::{ClusterSnapshot, Container, Node, Pod, PodName};

/// One exhibit as it was taken in.
#[derive(Clone)]
pub(super) struct Taken {
    pub(super) draft: ExhibitDraft,
    pub(super) bytes: Vec<u8>,
    pub(super) ended: Option<Ended>,
}

impl Taken {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// What a capture answers: `None` = never an answer.
type Script = dyn Fn(&str, &CaptureKind) -> Option<Vec<Result<Piece, PortError>>> + Send + Sync;

#[derive(Default)]
struct Inner {
    taken: Mutex<Vec<Taken>>,
    entries: Mutex<Vec<Entry>>,
    pods: Mutex<Vec<Pod>>,
    objects: Mutex<BTreeMap<String, Value>>,
    around: Mutex<ClusterSnapshot>,
    script: Mutex<Option<Arc<Script>>>,
}

/// The world; clones share it.
#[derive(Clone, Default)]
pub(super) struct Fakes(Arc<Inner>);

fn no() -> PortError {
    PortError::new(Cause::Unsupported, "do", "it", "not in this test")
}

impl Fakes {
    pub(super) fn new() -> Self {
        Fakes::default()
    }
    /// A pod `shop/<name>` with one running container `main` of image `i`.
    pub(super) fn pod(&self, name: &str) -> Pod {
        let pod = Pod {
            namespace: "shop".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
            node: "node-1".into(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            containers: vec![Container {
                name: "main".into(),
                image: "i".into(),
                image_id: "i@sha256:00".into(),
                container_id: "containerd://1".into(),
                running: true,
                ..Container::default()
            }],
            ..Pod::default()
        };
        self.add(pod.clone());
        pod
    }
    pub(super) fn add(&self, pod: Pod) {
        let object = json!({ "kind": "Pod", "metadata": { "name": pod.name } });
        self.object("Pod", &pod.name, object);
        self.0.pods.lock().expect("lock").push(pod);
    }
    pub(super) fn object(&self, kind: &str, name: &str, object: Value) {
        self.0
            .objects
            .lock()
            .expect("lock")
            .insert(format!("{kind}/{name}"), object);
    }
    pub(super) fn around(&self, snapshot: ClusterSnapshot) {
        *self.0.around.lock().expect("lock") = snapshot;
    }
    pub(super) fn answers(
        &self,
        script: impl Fn(&str, &CaptureKind) -> Option<Vec<Result<Piece, PortError>>>
        + Send
        + Sync
        + 'static,
    ) {
        *self.0.script.lock().expect("lock") = Some(Arc::new(script));
    }
    pub(super) fn taken(&self) -> Vec<Taken> {
        self.0.taken.lock().expect("lock").clone()
    }
    pub(super) fn cluster(&self) -> Cluster {
        let me = Arc::new(self.clone());
        Cluster {
            view: me.clone(),
            change: me.clone(),
            probe: me.clone(),
            acquire: me,
        }
    }
    pub(super) fn context(&self) -> Context {
        let (sender, cancel) = watch::channel(false);
        drop(sender);
        Context {
            incident: IncidentId::parse("INC-1").expect("an id"),
            mode: Mode::Live,
            run: RunId::parse("run-aaaaaaaaaaaaaaaa").expect("a run"),
            step: StepPath::parse("volatile").expect("a path"),
            attempt: 1,
            key: String::new(),
            ledger: Arc::new(self.clone()),
            custody: Some(Arc::new(self.clone())),
            documents: None,
            files: Arc::new(crate::action::NoFiles),
            ports: Ports {
                cluster: Some(self.cluster()),
                estate: None,
                notifier: Arc::new(self.clone()),
                clock: Arc::new(HostClock::new()),
                random: Arc::new(HostRandom),
            },
            deadline: Duration::from_secs(60),
            cancel,
            progress: Arc::new(|_| {}),
        }
    }
}

#[async_trait]
impl Notifier for Fakes {
    async fn send(&self, _: &Message) -> Result<Vec<String>, PortError> {
        Err(no())
    }
}

impl Ledger for Fakes {
    fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Entry>, LedgerError> {
        let mut entries = self.0.entries.lock().expect("lock");
        let stored = drafts.into_iter().map(|d| Entry {
            seq: 0,
            time: chrono::DateTime::UNIX_EPOCH,
            kind: d.kind,
            actor: d.actor,
            target: d.target,
            refs: d.refs,
            body: d.body,
            sha256: String::new(),
            writer: 1,
            clock_back_ms: 0,
        });
        let stored: Vec<Entry> = stored.collect();
        entries.extend(stored.clone());
        Ok(stored)
    }
    fn checkpoint(&self) -> Result<(), LedgerError> {
        Ok(())
    }
    fn history(&self) -> Result<History, LedgerError> {
        Ok(History {
            incident: IncidentId::parse("INC-1").expect("an id"),
            mode: Mode::Live,
            entries: self.0.entries.lock().expect("lock").clone(),
            root: String::new(),
            fingerprint: String::new(),
        })
    }
}

impl Exhibits for Fakes {
    fn open_bag(&self, _: &str, refs: &Refs) -> Result<Box<dyn OpenBag>, CustodyError> {
        Ok(Box::new(FakeBag(self.clone(), refs.clone())))
    }
}

struct FakeBag(Fakes, Refs);

impl OpenBag for FakeBag {
    fn number(&self) -> &str {
        "0001"
    }
    fn begin(&mut self, draft: &ExhibitDraft) -> Result<(), CustodyError> {
        self.0.0.taken.lock().expect("lock").push(Taken {
            draft: draft.clone(),
            bytes: Vec::new(),
            ended: None,
        });
        Ok(())
    }
    fn write(&mut self, bytes: &[u8]) -> Result<(), CustodyError> {
        let mut taken = self.0.0.taken.lock().expect("lock");
        taken
            .last_mut()
            .expect("begun")
            .bytes
            .extend_from_slice(bytes);
        Ok(())
    }
    fn finish(&mut self, ended: Ended) -> Result<ExhibitAcquired, CustodyError> {
        let mut taken = self.0.0.taken.lock().expect("lock");
        let last = taken.last_mut().expect("begun");
        last.ended = Some(ended.clone());
        let (state, why) = match ended {
            Ended::Complete => ("complete", None),
            Ended::Cap(why) => ("cap", Some(why)),
            Ended::Error(why) => ("error", Some(why)),
        };
        Ok(ExhibitAcquired {
            exhibit: "INC-1/E-0001".into(),
            bag: "0001".into(),
            description: last.draft.description.clone(),
            category: last.draft.category,
            source: last.draft.name.clone(),
            system: last.draft.system.clone(),
            method: last.draft.method.clone(),
            trust: last.draft.trust.clone(),
            bytes: last.bytes.len() as u64,
            records: 1,
            sha256: None,
            ended: state.into(),
            why,
            volatility: last.draft.volatility,
            started: String::new(),
            finished: String::new(),
        })
    }
    fn add_path(
        &mut self,
        path: &Path,
        draft: &ExhibitDraft,
        progress: &mut dyn FnMut(u64),
    ) -> Result<ExhibitAcquired, CustodyError> {
        let bytes = std::fs::read(path).map_err(|e| CustodyError::Read {
            path: path.display().to_string(),
            detail: e.to_string(),
        })?;
        self.begin(draft)?;
        self.write(&bytes)?;
        progress(bytes.len() as u64);
        self.finish(Ended::Complete)
    }
    fn leave_open(self: Box<Self>) -> Result<(), CustodyError> {
        Ok(())
    }
    fn seal(self: Box<Self>) -> Result<BagSealed, CustodyError> {
        let sealed = BagSealed {
            bag: "0001".into(),
            seal_sha256: "00".into(),
            records: 0,
            root: String::new(),
            bytes: 0,
            files: 0,
            recoveries: 0,
            late: false,
        };
        self.0.append(vec![
            Draft::new(kind::BAG_SEALED, &sealed).about(self.1.clone()),
        ])?;
        Ok(sealed)
    }
}

struct Pieces(Option<std::collections::VecDeque<Result<Piece, PortError>>>);

#[async_trait]
impl ByteStream for Pieces {
    async fn next(&mut self) -> Option<Result<Piece, PortError>> {
        match &mut self.0 {
            Some(pieces) => pieces.pop_front(),
            None => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Acquire for Fakes {
    async fn capture(
        &self,
        pod: &ObjectRef,
        kind: &CaptureKind,
    ) -> Result<Box<dyn ByteStream>, PortError> {
        let script = self.0.script.lock().expect("lock").clone();
        let pieces = match script {
            Some(script) => script(&pod.name, kind),
            None => Some(vec![
                Ok(Piece::Bytes(b"x\n".to_vec())),
                Ok(Piece::End {
                    exit: None,
                    stderr: String::new(),
                }),
            ]),
        };
        Ok(Box::new(Pieces(pieces.map(Into::into))))
    }
}

#[async_trait]
impl ClusterView for Fakes {
    async fn identity(&self) -> Result<ClusterIdentity, PortError> {
        Ok(ClusterIdentity {
            context: "c".into(),
            server: "s".into(),
            uid: "cluster-1".into(),
            version: "v1".into(),
            user: None,
        })
    }
    async fn look(&self, _: &LookScope) -> Result<ClusterSnapshot, PortError> {
        Ok(self.0.around.lock().expect("lock").clone())
    }
    async fn pod(&self, pod: &PodName) -> Result<Option<Pod>, PortError> {
        let pods = self.0.pods.lock().expect("lock");
        Ok(pods.iter().find(|p| p.id() == *pod).cloned())
    }
    async fn pods_by_selector(&self, _: &str, _: &str) -> Result<Vec<Pod>, PortError> {
        Ok(self.0.pods.lock().expect("lock").clone())
    }
    async fn node(&self, _: &str) -> Result<Option<Node>, PortError> {
        Err(no())
    }
    async fn object(&self, kind: &str, _: &str, name: &str) -> Result<Option<Value>, PortError> {
        let objects = self.0.objects.lock().expect("lock");
        Ok(objects.get(&format!("{kind}/{name}")).cloned())
    }
    async fn events(&self, _: &str, _: &str) -> Result<Vec<Value>, PortError> {
        Ok(vec![
            json!({ "reason": "Started" }),
            json!({ "reason": "Pulled" }),
        ])
    }
    async fn may(&self, _: &[Right]) -> Result<Vec<RightAnswer>, PortError> {
        Err(no())
    }
    async fn enforcement(&self) -> Result<Enforcement, PortError> {
        Err(no())
    }
    async fn roles_with(&self, _: &Right) -> Result<Vec<String>, PortError> {
        Err(no())
    }
}

#[async_trait]
impl ClusterChange for Fakes {
    async fn put_policy(&self, _: &PolicySpec, _: WriteMode) -> Result<Written, PortError> {
        Err(no())
    }
    async fn delete_policy(&self, _: &ObjectRef, _: WriteMode) -> Result<bool, PortError> {
        Err(no())
    }
    async fn change_labels(&self, _: &LabelChange, _: WriteMode) -> Result<Written, PortError> {
        Err(no())
    }
    async fn cordon(&self, _: &ObjectRef, _: &str, _: WriteMode) -> Result<Written, PortError> {
        Err(no())
    }
    async fn uncordon(
        &self,
        _: &ObjectRef,
        _: &str,
        _: bool,
        _: WriteMode,
    ) -> Result<Written, PortError> {
        Err(no())
    }
    async fn delete_pod(&self, _: &ObjectRef, _: WriteMode) -> Result<bool, PortError> {
        Err(no())
    }
    async fn put_canary(&self, _: &CanarySpec, _: u64) -> Result<Vec<ObjectRef>, PortError> {
        Err(no())
    }
    async fn put_probe_pod(&self, _: &CanarySpec, _: u64) -> Result<ObjectRef, PortError> {
        Err(no())
    }
    async fn delete_canary(&self, _: &CanarySpec) -> Result<(), PortError> {
        Err(no())
    }
}

#[async_trait]
impl Probe for Fakes {
    async fn connect(
        &self,
        _: &ProbeSource,
        _: &ProbeTarget,
        _: Duration,
    ) -> Result<ProbeResult, PortError> {
        Err(no())
    }
    async fn listen(&self, _: &ProbeSource, _: u16, _: Duration) -> Result<(), PortError> {
        Err(no())
    }
    async fn sockets(&self, _: &ProbeSource) -> Result<Sockets, PortError> {
        Err(no())
    }
}
