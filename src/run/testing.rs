//! Doubles for the engine's own tests: a ledger that can fail on purpose, a world that counts effects, an operator with fixed answers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::action::registry::{ActionSpec, UndoSpec, Use};
use crate::action::{
    Action, ActionError, Actions, Applied, Class, Context, Observed, Preview, Undone,
};
use crate::incident::body::{Answer, BagSealed, Decision, ExhibitAcquired};
use crate::incident::{
    Actor, Draft, Effect, Entry, History, IncidentId, Mode, Outcome, Phase, Refs, RunId, StepPath,
};
use crate::plan::Policy;
use crate::plan::approval::PersonaKey;
use crate::plan::approval_text::ApprovalText;
use crate::port::*;

use super::engine::Engine;

/// How an append fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing is stored.
    Before,
    /// Everything is stored, and the process dies before it knows.
    After,
    /// The first line is stored, the rest is not.
    Torn,
}

#[derive(Default)]
pub(crate) struct MemoryLedger {
    pub(crate) entries: Mutex<Vec<Entry>>,
    /// Appends to come before the cut.
    pub(crate) cut: Mutex<Option<(usize, Cut)>>,
    dead: Mutex<bool>,
    pub(crate) minutes: Arc<AtomicI64>,
    pub(crate) appends: Mutex<usize>,
}

impl MemoryLedger {
    pub(crate) fn revive(&self) {
        *self.cut.lock().unwrap() = None;
        *self.dead.lock().unwrap() = false;
    }
    fn failed() -> LedgerError {
        LedgerError::Write {
            path: "memory".into(),
            detail: "cut on purpose".into(),
        }
    }
}

impl Ledger for MemoryLedger {
    fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Entry>, LedgerError> {
        if *self.dead.lock().unwrap() {
            return Err(Self::failed());
        }
        *self.appends.lock().unwrap() += 1;
        let mut cut = self.cut.lock().unwrap();
        let now = match cut.as_mut() {
            Some((0, how)) => Some(*how),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        let keep = match now {
            None | Some(Cut::After) => drafts.len(),
            Some(Cut::Before) => 0,
            Some(Cut::Torn) => 1,
        };
        let mut entries = self.entries.lock().unwrap();
        let first = entries.len();
        for draft in drafts.into_iter().take(keep) {
            let seq = entries.len() as u64;
            entries.push(Entry {
                seq,
                time: FixedClock(Arc::clone(&self.minutes)).now(),
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
        if now.is_some() {
            *self.dead.lock().unwrap() = true;
            return Err(Self::failed());
        }
        Ok(entries[first..].to_vec())
    }
    fn checkpoint(&self) -> Result<(), LedgerError> {
        if *self.dead.lock().unwrap() {
            Err(Self::failed())
        } else {
            Ok(())
        }
    }
    fn history(&self) -> Result<History, LedgerError> {
        Ok(history(self.entries.lock().unwrap().clone()))
    }
}

pub(crate) fn history(entries: Vec<Entry>) -> History {
    History {
        incident: incident(),
        mode: Mode::Live,
        entries,
        root: String::new(),
        fingerprint: String::new(),
    }
}

pub(crate) fn incident() -> IncidentId {
    IncidentId::parse("INC-2031").expect("an id")
}

/// Stands still, unless a test moves it on by minutes.
#[derive(Default)]
pub(crate) struct FixedClock(pub(crate) Arc<AtomicI64>);

impl Clock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339("2026-11-24T12:00:00Z")
            .expect("a time")
            .with_timezone(&Utc)
            + chrono::Duration::minutes(self.0.load(Ordering::SeqCst))
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn waits_are_simulated(&self) -> bool {
        true
    }
}

/// Deterministic, and never the same twice.
#[derive(Default)]
pub(crate) struct Counting(Mutex<u8>);

impl Random for Counting {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        for byte in buffer {
            let mut n = self.0.lock().unwrap();
            *n = n.wrapping_add(1);
            *byte = *n;
        }
        Ok(())
    }
}

pub(crate) struct Silent;

#[async_trait]
impl Notifier for Silent {
    async fn send(&self, _: &Message) -> Result<Vec<String>, PortError> {
        Ok(vec!["print".into()])
    }
}

/// Pinned files and locks in memory.
#[derive(Default)]
pub(crate) struct MemoryFiles {
    pinned: Mutex<BTreeMap<String, Vec<u8>>>,
    locked: Arc<Mutex<BTreeSet<String>>>,
}

struct Unlock(Arc<Mutex<BTreeSet<String>>>, String);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.lock().unwrap().remove(&self.1);
    }
}

impl RunFiles for MemoryFiles {
    fn pin(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.pinned
            .lock()
            .unwrap()
            .insert(name.into(), bytes.into());
        Ok(())
    }
    fn pinned(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.pinned.lock().unwrap().get(name).cloned())
    }
    fn lock_run(&self, run: &RunId) -> io::Result<Option<LockGuard>> {
        let fresh = self.locked.lock().unwrap().insert(run.to_string());
        Ok(fresh.then(|| Box::new(Unlock(Arc::clone(&self.locked), run.to_string())) as LockGuard))
    }
}

/// Bags that keep their bytes.
#[derive(Default)]
pub(crate) struct MemoryBags(pub(crate) Kept);

/// Exhibits by name, with their bytes.
type Kept = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

struct MemoryBag(Kept);

impl Exhibits for MemoryBags {
    fn open_bag(&self, _: &str, _: &Refs) -> Result<Box<dyn OpenBag>, CustodyError> {
        Ok(Box::new(MemoryBag(Arc::clone(&self.0))))
    }
}

impl OpenBag for MemoryBag {
    fn number(&self) -> &str {
        "0001"
    }
    fn begin(&mut self, exhibit: &ExhibitDraft) -> Result<(), CustodyError> {
        self.0
            .lock()
            .unwrap()
            .push((exhibit.name.clone(), Vec::new()));
        Ok(())
    }
    fn write(&mut self, bytes: &[u8]) -> Result<(), CustodyError> {
        self.0
            .lock()
            .unwrap()
            .last_mut()
            .expect("begun")
            .1
            .extend_from_slice(bytes);
        Ok(())
    }
    fn finish(&mut self, ended: Ended) -> Result<ExhibitAcquired, CustodyError> {
        let (ended, why) = match ended {
            Ended::Complete => ("complete", None),
            Ended::Cap(why) => ("cap", Some(why)),
            Ended::Error(why) => ("error", Some(why)),
        };
        Ok(ExhibitAcquired {
            exhibit: "E-0001".into(),
            bag: "0001".into(),
            description: String::new(),
            category: crate::incident::Category::Other,
            source: String::new(),
            system: BTreeMap::new(),
            method: String::new(),
            trust: None,
            bytes: 0,
            records: 0,
            sha256: None,
            ended: ended.into(),
            why,
            volatility: 7,
            started: String::new(),
            finished: String::new(),
        })
    }
    fn add_path(
        &mut self,
        _: &Path,
        exhibit: &ExhibitDraft,
        _: &mut dyn FnMut(u64),
    ) -> Result<ExhibitAcquired, CustodyError> {
        self.begin(exhibit)?;
        self.finish(Ended::Complete)
    }
    fn leave_open(self: Box<Self>) -> Result<(), CustodyError> {
        Ok(())
    }
    fn seal(self: Box<Self>) -> Result<BagSealed, CustodyError> {
        Ok(BagSealed {
            bag: "0001".into(),
            seal_sha256: String::new(),
            records: 1,
            root: String::new(),
            bytes: 0,
            files: 1,
            recoveries: 0,
            late: false,
        })
    }
}

/// Answers everything, or nothing.
pub(crate) struct Fixed {
    pub(crate) reply: Reply,
    pub(crate) answers: bool,
    pub(crate) told: Mutex<Vec<RunEvent>>,
    /// Personas who sign at once when they are asked.
    pub(crate) signers: Mutex<Vec<(String, PersonaKey)>>,
}

#[async_trait]
impl Operator for Fixed {
    async fn confirm(&self, _: &Question) -> Reply {
        self.reply.clone()
    }
    async fn answer(&self, question: &ManualQuestion) -> Option<Answer> {
        self.answers.then(|| Answer {
            text: "done by hand".into(),
            outcome: Outcome::Done,
            values: question
                .values
                .keys()
                .map(|k| (k.clone(), json!("given")))
                .collect(),
        })
    }
    async fn signatures(&self, question: &Question) -> Vec<SignedText> {
        let signers = self.signers.lock().unwrap();
        let sign = |(n, (principal, key)): (usize, &(String, PersonaKey))| {
            let text = approval_of(question, principal, n);
            SignedText {
                signature: key.sign(&text),
                text,
            }
        };
        signers.iter().enumerate().map(sign).collect()
    }
    fn event(&self, event: &RunEvent) {
        self.told.lock().unwrap().push(event.clone());
    }
}

/// The text that a persona signs for a question.
fn approval_of(question: &Question, principal: &str, nonce: usize) -> String {
    ApprovalText {
        incident: incident(),
        run: RunId::parse(&question.run).expect("a run"),
        plan_sha256: question.plan_sha256.clone(),
        steps: vec![(
            StepPath::parse(&question.step).expect("a path"),
            question.call_sha256.clone(),
        )],
        attempt: question.attempt,
        decision: Decision::Approve,
        effect: question.effect,
        principal: principal.to_owned(),
        issued: FixedClock::default().now(),
        expires: FixedClock::default().now() + chrono::Duration::minutes(15),
        nonce: format!("{nonce:032x}"),
        reason: None,
    }
    .write()
}

/// What the test actions changed, and how often they were called.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) there: Mutex<BTreeSet<String>>,
    pub(crate) applied: Mutex<BTreeMap<String, u32>>,
    /// Names whose next applies fail with this class (the effect of an `InDoubt` happens all the same).
    pub(crate) faults: Mutex<BTreeMap<String, Vec<Class>>>,
    /// Names of which nothing can be told afterwards.
    pub(crate) dark: Mutex<BTreeSet<String>>,
    /// Names at which every look fails.
    pub(crate) blind: Mutex<BTreeSet<String>>,
    /// Binding facts of previews.
    pub(crate) facts: Mutex<BTreeMap<String, String>>,
    /// Names whose previews end at a missing right.
    pub(crate) denied: Mutex<BTreeSet<String>>,
}

pub(crate) struct Test(pub(crate) Arc<World>, pub(crate) &'static ActionSpec);

fn args() -> schemars::Schema {
    schemars::json_schema!({})
}

const fn spec(name: &'static str, effect: Effect, undo: UndoSpec) -> ActionSpec {
    ActionSpec {
        name,
        about: "a double",
        effect,
        phase: Phase::Containment,
        uses: &[Use::Call, Use::Check, Use::Probe, Use::Undo],
        args_schema: args,
        check_args: |_| Ok(()),
        undo,
        result: &[],
        rights: &[],
        exhibit: None,
        volatility: None,
        disturbs: 0,
        timeout_s: 60,
    }
}

pub(crate) static LOOK: ActionSpec = spec("test.look", Effect::Read, UndoSpec::None("it looks"));
pub(crate) static CHANGE: ActionSpec = spec("test.change", Effect::Reversible, UndoSpec::Own);
pub(crate) static ONCE: ActionSpec = spec(
    "test.once",
    Effect::Irreversible,
    UndoSpec::None("it is gone"),
);

#[async_trait]
impl Action for Test {
    fn spec(&self) -> &'static ActionSpec {
        self.1
    }
    async fn preview(&self, _: &Context, args: &Value) -> Result<Preview, ActionError> {
        if self.0.denied.lock().unwrap().contains(name(args)) {
            return Err(ActionError::new(
                Class::Denied,
                "the server refused a dry-run",
            ));
        }
        let already =
            self.0.there.lock().unwrap().contains(name(args)) && self.1.effect > Effect::Read;
        Ok(Preview {
            already,
            binding: self.0.facts.lock().unwrap().clone(),
            ..Preview::default()
        })
    }
    async fn apply(&self, _: &Context, args: &Value) -> Result<Applied, ActionError> {
        tokio::task::yield_now().await;
        let name = name(args).to_owned();
        *self
            .0
            .applied
            .lock()
            .unwrap()
            .entry(name.clone())
            .or_default() += 1;
        let fault = self
            .0
            .faults
            .lock()
            .unwrap()
            .get_mut(&name)
            .and_then(Vec::pop);
        if self.1.effect > Effect::Read && matches!(fault, None | Some(Class::InDoubt)) {
            self.0.there.lock().unwrap().insert(name.clone());
        }
        match fault {
            Some(class) => Err(ActionError::new(class, "a fault on purpose")),
            None => {
                let ok = self.1.effect > Effect::Read
                    || !name.starts_with("is-")
                    || self.0.there.lock().unwrap().contains(&name[3..]);
                Ok(Applied {
                    result: json!({ "ok": ok, "value": format!("{name}-seen") }),
                    summary: name,
                })
            }
        }
    }
    async fn observe(&self, _: &Context, args: &Value) -> Result<Observed, ActionError> {
        if self.0.blind.lock().unwrap().contains(name(args)) {
            return Err(ActionError::new(Class::Transient, "the server is away"));
        }
        if self.0.dark.lock().unwrap().contains(name(args)) {
            return Ok(Observed::Unknown("it is dark".into()));
        }
        Ok(if self.0.there.lock().unwrap().contains(name(args)) {
            Observed::Done(Applied {
                result: json!({ "ok": true, "value": format!("{}-seen", name(args)) }),
                summary: "there".into(),
            })
        } else {
            Observed::NotDone
        })
    }
    async fn undo(&self, _: &Context, args: &Value) -> Result<Undone, ActionError> {
        let name = name(args);
        if name == "glued" {
            return Ok(Undone::Stuck {
                summary: "it does not come off".into(),
                left: vec!["pull".into()],
            });
        }
        self.0.there.lock().unwrap().remove(name);
        Ok(Undone::Undone(format!("{name} is gone")))
    }
}

fn name(args: &Value) -> &str {
    args.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Everything that outlives a process.
pub(crate) struct Lab {
    pub(crate) ledger: Arc<MemoryLedger>,
    pub(crate) files: Arc<MemoryFiles>,
    pub(crate) bags: Arc<MemoryBags>,
    pub(crate) world: Arc<World>,
    pub(crate) operator: Arc<Fixed>,
    pub(crate) cancel: watch::Sender<bool>,
    pub(crate) mode: Mode,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(
            Reply::Typed {
                reason: Some("spreading".into()),
                shown_sha256: None,
            },
            true,
        )
    }
    pub(crate) fn with(reply: Reply, answers: bool) -> Self {
        Lab {
            ledger: Arc::default(),
            files: Arc::default(),
            bags: Arc::default(),
            world: Arc::default(),
            operator: Arc::new(Fixed {
                reply,
                answers,
                told: Mutex::default(),
                signers: Mutex::default(),
            }),
            cancel: watch::channel(false).0,
            mode: Mode::Live,
        }
    }
    /// A fresh process over what outlives it.
    pub(crate) fn engine(&self) -> Engine {
        self.engine_with(Policy::solo())
    }
    pub(crate) fn engine_with(&self, policy: Policy) -> Engine {
        let test = |spec| Test(Arc::clone(&self.world), spec);
        Engine {
            incident: incident(),
            mode: self.mode,
            policy,
            ledger: self.ledger.clone(),
            exhibits: self.bags.clone(),
            documents: None,
            files: self.files.clone(),
            ports: Ports {
                cluster: None,
                estate: None,
                notifier: Arc::new(Silent),
                clock: Arc::new(FixedClock(Arc::clone(&self.ledger.minutes))),
                random: Arc::new(Counting::default()),
            },
            actions: Actions::default()
                .with(test(&LOOK))
                .with(test(&CHANGE))
                .with(test(&ONCE)),
            operator: self.operator.clone(),
            executor: Actor::person("me@laptop"),
            cancel: self.cancel.subscribe(),
            patience: Duration::ZERO,
        }
    }
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.ledger.entries.lock().unwrap().clone()
    }
    pub(crate) fn applied(&self, name: &str) -> u32 {
        self.world
            .applied
            .lock()
            .unwrap()
            .get(name)
            .copied()
            .unwrap_or_default()
    }
}
