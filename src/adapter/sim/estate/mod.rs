//! The sim twins of what rotation works on: one account, its secret store, database servers, consumers and leases, with an intruder in
//! it, all in one world that keeps state and fails on purpose.
//!
//! *Flow of a call*: late things come one call nearer → faults and hidden limits → our rights → hook *before* → effect → consumers try
//! their credentials, the intruder makes his moves → durable (where a file was given) → hook *after* → reply, or its loss.
//!
//! *Guarantees*: the world is replaced durably after each effect and **before** the reply. Nothing waits: time is the given clock's,
//! plus what a test lets pass. An effect that is answered with an error has not happened, unless the cause says that it may have.
//!
//! *Assumptions*: one process at a time holds a world.
//!
//! *Caveats*: it imitates AWS where rotation rests on a fact (each has a test named after it), and nothing beyond. Resource policies,
//! permission boundaries, session policies and groups' policies are not judged. Reads of ours leave no event in the trail.

mod attacker;
mod clock;
mod cloud;
mod consumer;
mod database;
mod fault;
mod key;
mod lease;
mod log;
mod policy;
mod rollout;
mod scram;
mod shop;
mod trail;
mod vault;
mod workloads;
mod world;

pub use attacker::{Attacker, Deed, StolenLogin, StolenToken};
pub use clock::SimClock;
pub use consumer::{
    AccountKept, Accounts, Deployment, Health, KubeSecret, Mount, Reader, Reverting, RunningPod,
    Use,
};
pub use database::{DatabaseCluster, DatabaseNode, DatabaseRole, OpenSession};
pub use fault::{Bucket, EstateFault, Mishap};
pub use key::{Hand, Key, No, OIDC, Session, Signed, trust_service_account};
pub use log::Logged;
pub use policy::{Asked, Verdict, judge, trusts};
pub use scram::verifier;
pub use shop::{ACCOUNT, DB_ADMIN, DB_ADMIN_PASSWORD, DB_PRIMARY, DB_REPLICA, REGION, estate_shop};
pub use trail::{Event, Trail};
pub use vault::{StoredSecret, StoredVersion};
pub use world::{
    ALLOW_ALL, Deferred, ESTATE_FORMAT, Effect, EstateWorld, Kept, Member, OperatorKey, Time,
    member_key, trust_account,
};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::port::{Answer, BreakGlassPath, Cause, Clock, Estate, FingerprintKey, PortError};

use super::Saver;

/// File of the estate inside an incident's folder.
pub const ESTATE_FILE: &str = "state/sim-estate.json";

/// When a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The call has reached the server and has no effect yet.
    Before,
    /// Its effect is durable, its reply is not sent.
    After,
}

/// A moment at which a test may end everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Before or after the effect.
    pub when: When,
    /// Port method.
    pub call: String,
    /// What it is called on.
    pub on: String,
    /// Number of the call.
    pub seq: u64,
}

/// Called before and after each effect, with no lock held: it may panic or abort.
pub type Hook = Arc<dyn Fn(&Moment) + Send + Sync>;

/// A simulated estate: the five ports over one world.
pub struct SimEstate {
    world: Mutex<EstateWorld>,
    save: Option<Saver>,
    clock: Arc<dyn Clock>,
    hook: Mutex<Option<Hook>>,
}

/// What a call is.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// Name for faults, limits and the log.
    method: &'static str,
    /// The right it needs.
    action: &'static str,
    tried: &'static str,
    on: &'a str,
    /// Resource that the right is asked for.
    resource: &'a str,
    changes: bool,
}

impl<'a> Call<'a> {
    fn look(method: &'static str, action: &'static str, tried: &'static str, on: &'a str) -> Self {
        Call {
            method,
            action,
            tried,
            on,
            resource: "*",
            changes: false,
        }
    }
    fn change(
        method: &'static str,
        action: &'static str,
        tried: &'static str,
        on: &'a str,
    ) -> Self {
        Call {
            changes: true,
            ..Call::look(method, action, tried, on)
        }
    }
    fn error(&self, cause: Cause, detail: impl Into<String>) -> PortError {
        PortError::new(cause, self.tried, self.on, detail)
    }
    fn no(&self, no: &No) -> PortError {
        self.error(cause_of_code(no.code), format!("{}: {}", no.code, no.text))
    }
}

/// What a call's work knows and tells.
struct Scene {
    seq: u64,
    now: DateTime<Utc>,
    /// Told by the work: something changed.
    effect: bool,
    late: Option<u32>,
    hide: Option<(u32, u32)>,
    lose: bool,
}

impl Scene {
    fn answer<T>(&self, value: T) -> Answer<T> {
        Answer {
            value,
            request_id: Some(format!("sim-{:08}", self.seq)),
            server_date: Some(world::whole_seconds(self.now)),
        }
    }
    /// Lets an effect take hold, now or late.
    fn commit(&mut self, world: &mut EstateWorld, effect: Effect) {
        self.effect = true;
        match self.late {
            None | Some(0) => world.take_hold(effect),
            Some(calls_left) => world.deferred.push(Deferred { calls_left, effect }),
        }
    }
}

impl SimEstate {
    /// A new estate that is saved before it can be used, and after each call.
    ///
    /// # Errors
    /// When it cannot be saved.
    pub fn create(
        world: EstateWorld,
        save: Saver,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, PortError> {
        let estate = SimEstate::over(world, Some(save), clock);
        estate.keep(&estate.lock())?;
        Ok(estate)
    }
    /// The estate of a drill that goes on, from its file's bytes.
    ///
    /// # Errors
    /// When they are no estate.
    pub fn resume(
        bytes: &[u8],
        save: Saver,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, PortError> {
        Ok(SimEstate::over(
            EstateWorld::read(bytes)?,
            Some(save),
            clock,
        ))
    }
    /// An estate that is gone with its last handle.
    pub fn in_memory(world: EstateWorld, clock: Arc<dyn Clock>) -> Arc<Self> {
        SimEstate::over(world, None, clock)
    }
    fn over(mut world: EstateWorld, save: Option<Saver>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let now = world.server_time(clock.now());
        rollout::settle(&mut world, now);
        Arc::new(SimEstate {
            world: Mutex::new(world),
            save,
            clock,
            hook: Mutex::new(None),
        })
    }
    /// The five ports.
    pub fn estate(self: &Arc<Self>, fingerprint: Arc<FingerprintKey>) -> Estate {
        Estate {
            cloud: self.clone(),
            vault: self.clone(),
            database: self.clone(),
            workloads: Some(self.clone()),
            leases: self.clone(),
            fingerprint,
            break_glass: Vec::new(),
            loopback: true,
        }
    }
    /// A user's way in, as their own profile would be: for emergency access. It sees the account as it is now. `None` = they have no key
    /// that works.
    pub fn way_in(&self, user: &str) -> Option<BreakGlassPath> {
        let mut world = self.world();
        let of_user = |(_, k): &(&String, &Key)| k.user == user && k.active;
        world.operator.key = world.keys.iter().find(of_user)?.0.clone();
        let arn = world.arn(&format!("user/{user}"));
        Some(BreakGlassPath {
            profile: user.to_owned(),
            arn,
            cloud: SimEstate::in_memory(world, self.clock.clone()),
        })
    }
    /// The world as it is now, to look at.
    pub fn world(&self) -> EstateWorld {
        self.lock().clone()
    }
    /// Looks at the world without a copy of it.
    pub fn see<T>(&self, look: impl FnOnce(&EstateWorld) -> T) -> T {
        look(&self.lock())
    }
    /// Changes the world from outside, as the weather does: for tests and drills, never for an action.
    ///
    /// # Errors
    /// When it cannot be saved.
    pub fn meddle(&self, change: impl FnOnce(&mut EstateWorld)) -> Result<(), PortError> {
        let mut world = self.lock();
        change(&mut world);
        let now = world.server_time(self.clock.now());
        rollout::settle(&mut world, now);
        self.keep(&world)
    }
    /// Adds a fault.
    pub fn fault(&self, fault: EstateFault) {
        self.lock().faults.push(fault);
    }
    /// Lets time pass on the servers: a wait that was skipped. Rollouts go one step on.
    ///
    /// # Errors
    /// When it cannot be saved.
    pub fn pass(&self, time: Duration) -> Result<(), PortError> {
        let mut world = self.lock();
        let span = i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4);
        world.time.passed_ms = world.time.passed_ms.saturating_add(span);
        let now = world.server_time(self.clock.now());
        rollout::advance(&mut world, now);
        rollout::settle(&mut world, now);
        self.keep(&world)
    }
    /// Calls this before and after each effect from now on; `None` = nothing any more.
    pub fn hook(&self, hook: Option<Hook>) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// A hook that panics is called without the lock, so the world under it is whole.
    fn lock(&self) -> MutexGuard<'_, EstateWorld> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn keep(&self, world: &EstateWorld) -> Result<(), PortError> {
        let Some(save) = &self.save else {
            return Ok(());
        };
        save(&world.bytes()).map_err(|e| {
            PortError::new(
                Cause::Local,
                "save the simulated estate",
                ESTATE_FILE,
                e.to_string(),
            )
        })
    }
    fn fire(&self, when: When, call: &Call<'_>, seq: u64) {
        let hook = self
            .hook
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(hook) = hook {
            hook(&Moment {
                when,
                call: call.method.to_owned(),
                on: call.on.to_owned(),
                seq,
            });
        }
    }
    /// One call of ours, from its arrival to its reply.
    fn call<T>(
        &self,
        call: Call<'_>,
        act: impl FnOnce(&mut EstateWorld, &mut Scene) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        let mut scene = self.arrive(&call)?;
        if call.changes {
            // A crash here: the request was sent and did nothing.
            self.fire(When::Before, &call, scene.seq);
        }
        let mut world = self.lock();
        let kept = self.save.is_some().then(|| world.clone());
        let answer = act(&mut world, &mut scene);
        let answer = match answer {
            Ok(_) if scene.lose => Err(call.error(
                Cause::LostReply,
                "simulated fault: the connection broke before the answer came",
            )),
            other => other,
        };
        note(&mut world, &call, &scene, answer.as_ref().err());
        self.aftermath(&mut world, scene.seq);
        if let Err(error) = self.keep(&world) {
            if let Some(kept) = kept {
                *world = kept;
            }
            return Err(error);
        }
        drop(world);
        if scene.effect {
            // A crash here: it happened and nobody was told.
            self.fire(When::After, &call, scene.seq);
            super::kill_point();
        }
        answer
    }
    /// Counts the call, and turns it away if a fault, a limit or a missing right says so.
    fn arrive(&self, call: &Call<'_>) -> Result<Scene, PortError> {
        let mut world = self.lock();
        world.time.passed_ms += world.time.per_call_ms;
        world.calls += 1;
        world.tick();
        let now = world.server_time(self.clock.now());
        let mut scene = Scene {
            seq: world.calls,
            now,
            effect: false,
            late: None,
            hide: None,
            lose: false,
        };
        let fate = fault::fate(&mut world, call, now);
        scene.late = fate.late;
        scene.hide = fate.hide;
        scene.lose = fate.lose;
        let refused = fate.before.or_else(|| permit(&world, call, now).err());
        let Some(error) = refused else {
            return Ok(scene);
        };
        note(&mut world, call, &scene, Some(&error));
        self.aftermath(&mut world, scene.seq);
        self.keep(&world)?;
        Err(error)
    }
    /// What everybody else does at this moment.
    fn aftermath(&self, world: &mut EstateWorld, seq: u64) {
        let now = world.server_time(self.clock.now());
        attacker::round(world, seq, now);
        rollout::settle(world, now);
        consumer::observe(world, seq, now);
    }
}

/// Our rights: those that are missing by script, and in the account those that policies give.
fn permit(world: &EstateWorld, call: &Call<'_>, now: DateTime<Utc>) -> Result<(), PortError> {
    if world.missing.contains(call.action) {
        let detail = format!("AccessDenied: no right to {}", call.action);
        return Err(call.error(Cause::Refused, detail));
    }
    let in_account = ["iam:", "sts:", "secretsmanager:", "cloudtrail:", "ec2:"]
        .iter()
        .any(|s| call.action.starts_with(s));
    if !in_account {
        return Ok(());
    }
    world
        .by_id(&world.operator.key, now)
        .and_then(|signed| world.authorize(&signed, call.action, call.resource, now))
        .map_err(|no| call.no(&no))
}

fn note(world: &mut EstateWorld, call: &Call<'_>, scene: &Scene, error: Option<&PortError>) {
    world.log.push(Logged {
        seq: scene.seq,
        at: scene.now,
        call: call.method.to_owned(),
        action: call.action.to_owned(),
        on: call.on.to_owned(),
        by: Hand::Ours,
        effect: scene.effect,
        answer: error.map_or("ok", |e| e.cause.as_str()).to_owned(),
    });
}

/// The cause that an adapter makes of a code.
fn cause_of_code(code: &str) -> Cause {
    match code {
        "NoSuchEntity" | "ResourceNotFoundException" => Cause::NotFound,
        "LimitExceeded"
        | "MalformedPolicyDocument"
        | "InvalidRequestException"
        | "InvalidParameterException" => Cause::Rejected,
        "ResourceExistsException" => Cause::Conflict,
        "Throttling" => Cause::Throttled,
        _ => Cause::Refused,
    }
}

#[cfg(test)]
mod tests;
