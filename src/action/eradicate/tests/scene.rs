//! The shop's cluster and account under one clock, with a ledger, files and bags in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::action::{Action, ActionError, Applied, Context};
use crate::adapter::sim::SimCluster;
use crate::adapter::sim::estate::{EstateWorld, SimClock, SimEstate, estate_shop};
use crate::adapter::sim::world_shop;
use crate::incident::body::{BagSealed, ExhibitAcquired, LedgerOpened};
use crate::incident::{
    Category, Draft, Entry, History, IncidentId, Mode, Refs, RunId, StepPath, kind,
};
use crate::port::*;
use crate::rotation::plan::RotationPlan;

use super::super::PlanRotation;

/// Where everything of one test stands.
pub(super) struct Scene {
    pub(super) sim: Arc<SimEstate>,
    pub(super) cluster: Arc<SimCluster>,
    pub(super) memory: Memory,
    pub(super) break_glass: Vec<BreakGlassPath>,
    pub(super) loopback: bool,
    pub(super) attempt: u32,
    clock: Arc<SimClock>,
}

/// Ledger, pinned files and exhibits.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Inner>);

#[derive(Default)]
struct Inner {
    entries: Mutex<Vec<Entry>>,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    exhibits: Mutex<Vec<Vec<u8>>>,
}

impl Scene {
    pub(super) fn new() -> Self {
        let now = DateTime::from_timestamp(1_790_000_000, 0).expect("time");
        let clock = Arc::new(SimClock::new(now));
        let shop = world_shop(now, [7; 16]);
        let estate = estate_shop(now, &shop);
        let save: crate::adapter::sim::Saver = Arc::new(|_| Ok(()));
        let cluster = SimCluster::create(shop, save, clock.clone()).expect("a cluster");
        Scene {
            sim: SimEstate::in_memory(estate, clock.clone()),
            cluster: Arc::new(cluster),
            memory: Memory::default(),
            break_glass: Vec::new(),
            loopback: true,
            attempt: 1,
            clock,
        }
    }
    pub(super) fn team(self) -> Self {
        let opened = LedgerOpened {
            incident: "INC-1".into(),
            mode: Mode::Live,
            origin: String::new(),
            public_key: String::new(),
            fingerprint: String::new(),
            targets: Vec::new(),
            policy: "team".into(),
            trust: BTreeMap::new(),
            tool: String::new(),
        };
        self.note(kind::LEDGER_OPENED, &opened);
        self
    }
    pub(super) fn note(&self, kind: &str, body: &impl serde::Serialize) {
        self.memory
            .append(vec![Draft::new(kind, body)])
            .expect("appended");
    }
    pub(super) fn meddle(&self, change: impl FnOnce(&mut EstateWorld)) {
        self.sim.meddle(change).expect("saved");
    }
    /// Ids of a user's keys, oldest first.
    pub(super) fn keys_of(&self, user: &str) -> Vec<String> {
        self.sim.see(|w| {
            let mut keys: Vec<_> = w.keys.iter().filter(|(_, k)| k.user == user).collect();
            keys.sort_by_key(|(_, k)| k.created);
            keys.into_iter().map(|(id, _)| id.clone()).collect()
        })
    }
    /// Changes that reached the estate by our hand.
    pub(super) fn changes(&self) -> usize {
        self.sim.see(|w| w.log.iter().filter(|l| l.effect).count())
    }
    pub(super) fn pin(&self, name: &str, bytes: &[u8]) {
        self.memory.pin(name, bytes).expect("pinned");
    }
    pub(super) fn cx(&self) -> Context {
        let (sender, cancel) = watch::channel(false);
        drop(sender);
        let mut estate = self.sim.estate(Arc::new(FingerprintKey::new([7; 32])));
        estate.break_glass = self.break_glass.clone();
        estate.loopback = self.loopback;
        Context {
            incident: IncidentId::parse("INC-1").expect("an id"),
            mode: Mode::Live,
            run: RunId::parse("run-aaaaaaaaaaaaaaaa").expect("a run"),
            step: StepPath::parse("plan").expect("a path"),
            attempt: self.attempt,
            key: String::new(),
            ledger: Arc::new(self.memory.clone()),
            custody: Some(Arc::new(self.memory.clone())),
            documents: None,
            files: Arc::new(self.memory.clone()),
            ports: Ports {
                cluster: Some(self.cluster.cluster()),
                estate: Some(estate),
                notifier: Arc::new(self.memory.clone()),
                clock: self.clock.clone(),
                random: Arc::new(HostRandom),
            },
            deadline: Duration::from_secs(600),
            cancel,
            progress: Arc::new(|_| {}),
        }
    }
    pub(super) async fn apply(&self, args: Value) -> Result<Applied, ActionError> {
        PlanRotation.apply(&self.cx(), &args).await
    }
    /// Plans, and reads the plan that was pinned.
    pub(super) async fn plan(&self, args: Value) -> RotationPlan {
        let applied = self.apply(args).await.expect("planned");
        self.pinned(&applied)
    }
    pub(super) fn pinned(&self, applied: &Applied) -> RotationPlan {
        let sha = applied.result["plan_sha256"].as_str().expect("a digest");
        let bytes = self.memory.pinned(&format!("{sha}.json")).expect("read");
        RotationPlan::read(&bytes.expect("pinned")).expect("a plan")
    }
    /// The code that planning is refused with; nothing may have been changed or pinned.
    pub(super) async fn refused(&self, args: Value) -> &'static str {
        let e = self.apply(args).await.expect_err("refused");
        assert_eq!(self.changes(), 0, "{e}");
        e.code
    }
    /// Whether a text stands anywhere that is written down.
    pub(super) fn written(&self, text: &str) -> bool {
        let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(text);
        let inner = &self.memory.0;
        let entries = inner.entries.lock().expect("lock");
        entries
            .iter()
            .any(|e| has(json!(e.body).to_string().as_bytes()))
            || inner.files.lock().expect("lock").values().any(|f| has(f))
            || inner.exhibits.lock().expect("lock").iter().any(|f| has(f))
    }
    pub(super) fn exhibits(&self) -> Vec<String> {
        let all = self.memory.0.exhibits.lock().expect("lock");
        all.iter()
            .map(|b| String::from_utf8_lossy(b).into_owned())
            .collect()
    }
    pub(super) fn count(&self, kind: &str) -> usize {
        let entries = self.memory.0.entries.lock().expect("lock");
        entries.iter().filter(|e| e.kind == kind).count()
    }
}

impl Ledger for Memory {
    fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Entry>, LedgerError> {
        let mut entries = self.0.entries.lock().expect("lock");
        let first = entries.len();
        for draft in drafts {
            let seq = entries.len() as u64;
            entries.push(Entry {
                seq,
                time: DateTime::from_timestamp(1_790_000_000, 0).expect("time"),
                kind: draft.kind,
                actor: draft.actor,
                target: draft.target,
                refs: draft.refs,
                body: draft.body,
                sha256: String::new(),
                writer: 1,
                clock_back_ms: 0,
            });
        }
        Ok(entries[first..].to_vec())
    }
    fn checkpoint(&self) -> Result<(), LedgerError> {
        Ok(())
    }
    fn history(&self) -> Result<History, LedgerError> {
        let entries = self.0.entries.lock().expect("lock").clone();
        Ok(History {
            incident: IncidentId::parse("INC-1").expect("an id"),
            mode: Mode::Live,
            entries,
            root: String::new(),
            fingerprint: String::new(),
        })
    }
}

impl RunFiles for Memory {
    fn pin(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0
            .files
            .lock()
            .expect("lock")
            .insert(name.into(), bytes.into());
        Ok(())
    }
    fn pinned(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.files.lock().expect("lock").get(name).cloned())
    }
    fn lock_run(&self, _: &RunId) -> io::Result<Option<LockGuard>> {
        Ok(None)
    }
}

#[async_trait]
impl Notifier for Memory {
    async fn send(&self, _: &Message) -> Result<Vec<String>, PortError> {
        Ok(Vec::new())
    }
}

impl Exhibits for Memory {
    fn open_bag(&self, _: &str, _: &Refs) -> Result<Box<dyn OpenBag>, CustodyError> {
        Ok(Box::new(self.clone()))
    }
}

impl OpenBag for Memory {
    fn number(&self) -> &str {
        "0001"
    }
    fn begin(&mut self, _: &ExhibitDraft) -> Result<(), CustodyError> {
        self.0.exhibits.lock().expect("lock").push(Vec::new());
        Ok(())
    }
    fn write(&mut self, bytes: &[u8]) -> Result<(), CustodyError> {
        let mut all = self.0.exhibits.lock().expect("lock");
        all.last_mut().expect("begun").extend_from_slice(bytes);
        Ok(())
    }
    fn finish(&mut self, _: Ended) -> Result<ExhibitAcquired, CustodyError> {
        Ok(acquired())
    }
    fn add_path(
        &mut self,
        _: &std::path::Path,
        _: &ExhibitDraft,
        _: &mut dyn FnMut(u64),
    ) -> Result<ExhibitAcquired, CustodyError> {
        Ok(acquired())
    }
    fn leave_open(self: Box<Self>) -> Result<(), CustodyError> {
        Ok(())
    }
    fn seal(self: Box<Self>) -> Result<BagSealed, CustodyError> {
        Ok(BagSealed {
            bag: "0001".into(),
            seal_sha256: String::new(),
            records: 0,
            root: String::new(),
            bytes: 0,
            files: 0,
            recoveries: 0,
            late: false,
        })
    }
}

fn acquired() -> ExhibitAcquired {
    serde_json::from_value(json!({
        "exhibit": "E-0001", "bag": "0001", "description": "", "category": Category::Other, "source": "",
        "system": {}, "method": "", "bytes": 0, "records": 0, "ended": "complete", "volatility": 5, "started": "", "finished": "",
    }))
    .expect("an exhibit")
}
