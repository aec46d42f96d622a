//! The world of these tests: the simulated estate, a ledger in memory that dies on command, and a plan.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use tokio::sync::watch;

use crate::action::eradicate::RotateCredentials;
use crate::action::{Action, ActionError, Applied, Context};
use crate::adapter::sim::estate::{EstateWorld, Moment, SimClock, SimEstate, When};
use crate::incident::rotate::{RotateIntent, RotateItem};
use crate::incident::{Draft, Entry, History, IncidentId, Mode, RunId, StepPath, kind};
use crate::port::*;
use crate::rotation::plan::RotationPlan;

pub(super) const INCIDENT: &str = "INC-20261124-7K2Q";

/// When the process dies, by entries of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kill {
    /// Before the n-th entry is durable: what it tells of has happened.
    Before(usize),
    /// Once the n-th entry is durable: what it announces has not happened.
    After(usize),
}

#[derive(Default)]
struct Kept {
    entries: Vec<Entry>,
    kill: Option<Kill>,
    dead: bool,
    told: Vec<String>,
    /// The person says stop when so many lines were told.
    stop_at: Option<usize>,
}

/// A ledger in memory.
pub(super) struct Memory {
    kept: Mutex<Kept>,
    clock: Arc<dyn Clock>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger for Memory {
    fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Entry>, LedgerError> {
        let mut kept = self.lock();
        let killed = || LedgerError::Write {
            path: "ledger".into(),
            detail: "killed".into(),
        };
        let mut stored = Vec::new();
        for draft in drafts {
            let n = kept.entries.len() + 1;
            if kept.dead || kept.kill == Some(Kill::Before(n)) {
                kept.dead = true;
                return Err(killed());
            }
            let entry = Entry {
                seq: u64::try_from(n).expect("few"),
                time: self.clock.now(),
                kind: draft.kind,
                actor: draft.actor,
                target: draft.target,
                refs: draft.refs,
                body: draft.body,
                sha256: String::new(),
                writer: 1,
                clock_back_ms: 0,
            };
            kept.entries.push(entry.clone());
            stored.push(entry);
            if kept.kill == Some(Kill::After(n)) {
                kept.dead = true;
                return Err(killed());
            }
        }
        Ok(stored)
    }
    fn checkpoint(&self) -> Result<(), LedgerError> {
        Ok(())
    }
    fn history(&self) -> Result<History, LedgerError> {
        Ok(History {
            incident: IncidentId::parse(INCIDENT).expect("id"),
            mode: Mode::Drill,
            entries: self.lock().entries.clone(),
            root: String::new(),
            fingerprint: String::new(),
        })
    }
}

/// A clock that goes when it is told to; waits are slept or recorded.
pub(super) struct StepClock {
    clock: SimClock,
    simulated: bool,
}

impl StepClock {
    pub(super) fn pass(&self, time: Duration) {
        self.clock.pass(time);
    }
}

impl Clock for StepClock {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
    fn waits_are_simulated(&self) -> bool {
        self.simulated
    }
}

/// A process that was killed gives nothing back.
struct DyingLeases {
    sim: Arc<SimEstate>,
    ledger: Arc<Memory>,
}

#[async_trait]
impl Leases for DyingLeases {
    async fn claim(&self, terms: &LeaseTerms, now: DateTime<Utc>) -> Result<Claim, PortError> {
        self.sim.claim(terms, now).await
    }
    async fn renew(&self, held: &Held, expires: DateTime<Utc>) -> Result<Held, PortError> {
        self.sim.renew(held, expires).await
    }
    async fn release(&self, held: &Held) -> Result<(), PortError> {
        if self.ledger.lock().dead {
            return Ok(());
        }
        self.sim.release(held).await
    }
    fn place(&self) -> String {
        self.sim.place()
    }
}

struct Files(Vec<u8>);

impl RunFiles for Files {
    fn pin(&self, _: &str, _: &[u8]) -> std::io::Result<()> {
        Err(std::io::Error::other("nothing is pinned in these tests"))
    }
    fn pinned(&self, _: &str) -> std::io::Result<Option<Vec<u8>>> {
        Ok(Some(self.0.clone()))
    }
    fn lock_run(&self, _: &RunId) -> std::io::Result<Option<LockGuard>> {
        Ok(None)
    }
}

struct Silent;

#[async_trait]
impl Notifier for Silent {
    async fn send(&self, _: &Message) -> Result<Vec<String>, PortError> {
        Ok(Vec::new())
    }
}

/// Everything of one test.
pub(super) struct World {
    pub(super) sim: Arc<SimEstate>,
    pub(super) clock: Arc<StepClock>,
    pub(super) ledger: Arc<Memory>,
    pub(super) plan: RotationPlan,
    pub(super) before: EstateWorld,
    pub(super) run: &'static str,
    stop: Arc<watch::Sender<bool>>,
}

impl World {
    pub(super) fn new(estate: EstateWorld, plan: RotationPlan, now: DateTime<Utc>) -> Self {
        World::with(estate, plan, now, true)
    }
    /// With waits that are slept.
    pub(super) fn with(
        estate: EstateWorld,
        plan: RotationPlan,
        now: DateTime<Utc>,
        simulated: bool,
    ) -> Self {
        let clock = Arc::new(StepClock {
            clock: SimClock::new(now),
            simulated,
        });
        let ledger = Arc::new(Memory {
            kept: Mutex::default(),
            clock: clock.clone(),
        });
        let sim = SimEstate::in_memory(estate, clock.clone());
        sim.hook(Some(intents_first(ledger.clone())));
        World {
            before: sim.world(),
            sim,
            clock,
            ledger,
            plan,
            run: "run-aaaaaaaaaaaaaaaa",
            stop: Arc::new(watch::channel(false).0),
        }
    }
    pub(super) fn context(&self) -> Context {
        let (ledger, stop) = (self.ledger.clone(), self.stop.clone());
        let estate = Estate {
            leases: Arc::new(DyingLeases {
                sim: self.sim.clone(),
                ledger: ledger.clone(),
            }),
            ..self.sim.estate(Arc::new(FingerprintKey::new([7; 32])))
        };
        Context {
            incident: IncidentId::parse(INCIDENT).expect("id"),
            mode: Mode::Drill,
            run: RunId::parse(self.run).expect("run"),
            step: StepPath::parse("rotate").expect("step"),
            attempt: 1,
            key: "0".repeat(32),
            ledger: self.ledger.clone(),
            custody: None,
            documents: None,
            files: Arc::new(Files(self.plan.canonical().expect("canonical"))),
            ports: Ports {
                cluster: None,
                estate: Some(estate),
                notifier: Arc::new(Silent),
                clock: self.clock.clone(),
                random: Arc::new(HostRandom),
            },
            deadline: Duration::from_secs(60),
            cancel: self.stop.subscribe(),
            progress: Arc::new(move |line| {
                let mut kept = ledger.lock();
                kept.told.push(line.to_owned());
                if kept.stop_at.is_some_and(|n| n <= kept.told.len()) {
                    stop.send_replace(true);
                }
            }),
        }
    }
    /// Begins or resumes.
    pub(super) async fn apply(&self) -> Result<Applied, ActionError> {
        let args = json!({ "plan_sha256": self.plan.digest().expect("digest") });
        RotateCredentials.apply(&self.context(), &args).await
    }
    /// The same by another run of somebody else.
    pub(super) fn another_run(&self) -> World {
        World {
            sim: self.sim.clone(),
            clock: self.clock.clone(),
            ledger: Arc::new(Memory {
                kept: Mutex::default(),
                clock: self.clock.clone(),
            }),
            plan: self.plan.clone(),
            before: self.before.clone(),
            run: "run-bbbbbbbbbbbbbbbb",
            stop: Arc::new(watch::channel(false).0),
        }
    }
    pub(super) fn kill(&self, kill: Kill) {
        self.ledger.lock().kill = Some(kill);
    }
    /// A new process: what was in memory is gone.
    pub(super) fn revive(&self) {
        let mut kept = self.ledger.lock();
        kept.kill = None;
        kept.dead = false;
    }
    /// The last line was torn: recovery moves it aside.
    pub(super) fn tear(&self) {
        self.ledger.lock().entries.pop();
    }
    /// The person says stop once so many lines were told; `None` = the person is patient.
    pub(super) fn stop_at(&self, lines: Option<usize>) {
        self.ledger.lock().stop_at = lines;
        self.stop.send_replace(false);
    }
    pub(super) fn is_dead(&self) -> bool {
        self.ledger.lock().dead
    }
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.ledger.lock().entries.clone()
    }
    pub(super) fn told(&self) -> Vec<String> {
        self.ledger.lock().told.clone()
    }
    pub(super) fn see<T>(&self, look: impl FnOnce(&EstateWorld) -> T) -> T {
        self.sim.see(look)
    }
    pub(super) fn meddle(&self, change: impl FnOnce(&mut EstateWorld)) {
        self.sim.meddle(change).expect("kept");
    }
    /// How an item ended last.
    pub(super) fn ended(&self, item: &str) -> RotateItem {
        let ends = self.entries();
        let ends = ends
            .iter()
            .filter_map(|e| e.body_as::<RotateItem>(kind::ROTATE_ITEM));
        let last = ends.rev().find(|b| b.item == item);
        last.unwrap_or_else(|| panic!("{item} has not ended: {:#?}", self.told()))
    }
    /// State and reason of an item.
    pub(super) fn state(&self, item: &str) -> (String, String) {
        let ended = self.ended(item);
        (ended.state, ended.reason.unwrap_or_default())
    }
    /// Our calls that changed something, without leases and sessions of our own.
    pub(super) fn mutations(&self) -> Vec<(String, String)> {
        self.see(|w| {
            let changes = w.effects();
            let changes = changes.iter().filter(|l| is_mutation(&l.call));
            changes.map(|l| (l.call.clone(), l.on.clone())).collect()
        })
    }
}

fn is_mutation(call: &str) -> bool {
    !matches!(call, "claim" | "renew" | "release" | "assume_role")
}

/// Name in the ledger of what a port's method does.
fn entry_name(call: &str) -> &'static str {
    match call {
        "create_access_key" => "iam:CreateAccessKey",
        "set_access_key" => "iam:UpdateAccessKey",
        "delete_access_key" => "iam:DeleteAccessKey",
        "put_inline_policy" => "iam:Put",
        "set_trust" => "iam:UpdateAssumeRolePolicy",
        "vault_create" => "secretsmanager:CreateSecret",
        "vault_put" => "secretsmanager:PutSecretValue",
        "move_label" => "secretsmanager:UpdateSecretVersionStage",
        "set_verifier" => "postgres:SetVerifier",
        "end_sessions" => "postgres:TerminateSessions",
        "write_secret" => "kubernetes:PatchSecret",
        "put_service_account" => "kubernetes:CreateServiceAccount",
        "move_service_account" => "kubernetes:PatchWorkload",
        "restart" => "kubernetes:RestartWorkload",
        other => panic!("a change that no machine asks for: {other}"),
    }
}

/// Each change that reaches the world must have a durable intent that no outcome has answered: assertion 5 of the kill matrix.
fn intents_first(ledger: Arc<Memory>) -> Arc<dyn Fn(&Moment) + Send + Sync> {
    Arc::new(move |moment: &Moment| {
        if moment.when != When::Before || !is_mutation(&moment.call) {
            return;
        }
        let kept = ledger.lock();
        assert!(!kept.dead, "a dead process calls {}", moment.call);
        let answered = |seq: u64| {
            let mut outcomes = kept
                .entries
                .iter()
                .filter(|e| e.kind == kind::ROTATE_OUTCOME);
            outcomes.any(|e| e.refs.intent == Some(seq))
        };
        let open = kept.entries.iter().any(|e| {
            e.body_as::<RotateIntent>(kind::ROTATE_INTENT)
                .is_some_and(|i| i.call.starts_with(entry_name(&moment.call)))
                && !answered(e.seq)
        });
        assert!(open, "{} without a durable intent", moment.call);
    })
}
