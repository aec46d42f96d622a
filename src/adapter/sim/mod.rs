//! The sim twin: a cluster that exists in one file, keeps state, and fails on purpose. The drill's world, and the tests'.
//!
//! *Guarantees*: the world is replaced durably after each effect and **before** the reply, so that a process that is killed at any
//! moment finds on resume exactly what it had done. Guarded changes obey the preconditions of [`crate::port::ClusterChange`]. A
//! preview stores nothing. A fault says whether it struck before the effect or after it.
//!
//! *Assumptions*: one process at a time holds a world; the incident's runner lock sees to it.
//!
//! *Caveats*: controllers do only what a drill shows (see `control`), addresses are made up, and every time the sim tells is
//! marked simulated by who prints it. It proves nothing about a real network plugin: a real node does.

mod acquire;
mod canary;
mod change;
mod control;
pub mod estate;
mod fault;
mod flow;
mod object;
mod probe;
mod shop;
mod view;
mod world;

pub use fault::{Fault, Then};
pub use shop::{COMPROMISED, NAMESPACE, OUTSIDE, PROBE_IMAGE, world_shop};
pub use world::{Behind, Enforcing, FORMAT, Inside, Listener, Process, Template, World};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::incident::body::{ObjectRef, Target};
use crate::port::{Cause, Clock, Cluster, PortError, Right};
use crate::reach::cluster::Pod;

/// File of the world inside an incident's folder.
pub const WORLD_FILE: &str = "state/sim-world.json";

/// Replaces the world's file durably; returns only when the new bytes would survive a power cut.
pub type Saver = Arc<dyn Fn(&[u8]) -> std::io::Result<()> + Send + Sync>;

/// A simulated cluster: all four ports over one world.
pub struct SimCluster {
    world: Mutex<World>,
    save: Saver,
    clock: Arc<dyn Clock>,
}

/// What a call is: the port's method, and how its failure reads.
#[derive(Clone, Copy)]
struct Call<'a> {
    method: &'a str,
    tried: &'a str,
    on: &'a str,
}

impl Call<'_> {
    fn error(&self, cause: Cause, detail: impl Into<String>) -> PortError {
        PortError::new(cause, self.tried, self.on, detail)
    }
}

impl SimCluster {
    /// A new world: it is saved before it can be used.
    ///
    /// # Errors
    /// When it cannot be saved.
    pub fn create(world: World, save: Saver, clock: Arc<dyn Clock>) -> Result<Self, PortError> {
        let sim = SimCluster {
            world: Mutex::new(world),
            save,
            clock,
        };
        sim.keep(&sim.lock())?;
        Ok(sim)
    }
    /// The world of a drill that goes on, from its file's bytes.
    ///
    /// # Errors
    /// When they are no world.
    pub fn resume(bytes: &[u8], save: Saver, clock: Arc<dyn Clock>) -> Result<Self, PortError> {
        Ok(SimCluster {
            world: Mutex::new(World::read(bytes)?),
            save,
            clock,
        })
    }
    /// The four ports.
    pub fn cluster(self: &Arc<Self>) -> Cluster {
        Cluster {
            view: self.clone(),
            change: self.clone(),
            probe: self.clone(),
            acquire: self.clone(),
        }
    }
    /// How the ledger names it.
    pub fn target(&self) -> Target {
        let identity = self.lock().identity.clone();
        Target::Cluster {
            context: identity.context,
            server: identity.server,
            uid: identity.uid,
        }
    }
    /// The world as it is now, to look at.
    pub fn world(&self) -> World {
        self.lock().clone()
    }
    /// Changes the world from outside, as the weather does: for tests and drills, never for an action.
    ///
    /// # Errors
    /// When it cannot be saved.
    pub fn meddle(&self, change: impl FnOnce(&mut World)) -> Result<(), PortError> {
        let mut world = self.lock();
        change(&mut world);
        control::settle(&mut world);
        self.keep(&world)
    }

    /// A panic while the lock was held can only have been a bug of ours; the world was not replaced half-way, so it may be used.
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn keep(&self, world: &World) -> Result<(), PortError> {
        (self.save)(&world.bytes()).map_err(|e| {
            PortError::new(
                Cause::Local,
                "save the simulated world",
                WORLD_FILE,
                e.to_string(),
            )
        })
    }
    /// A call that only looks.
    fn look_at<T>(
        &self,
        call: Call<'_>,
        rights: &[Right],
        read: impl FnOnce(&World) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        let mut world = self.lock();
        let fate = fault::fate(&mut world, call.method, call.tried, call.on);
        if fate.dirty {
            self.keep(&world)?;
        }
        if let Some(error) = fate.before {
            return Err(error);
        }
        permit(&world, call, rights)?;
        let answer = read(&world)?;
        fate.after.map_or(Ok(answer), Err)
    }
    /// A call that changes the world: effect, durable, reply. Nothing of a refused or unsaved effect stays.
    fn effect<T>(
        &self,
        call: Call<'_>,
        rights: &[Right],
        act: impl FnOnce(&mut World) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        let mut world = self.lock();
        let fate = fault::fate(&mut world, call.method, call.tried, call.on);
        if fate.dirty {
            self.keep(&world)?;
        }
        if let Some(error) = fate.before {
            return Err(error);
        }
        permit(&world, call, rights)?;
        let mut next = world.clone();
        let answer = act(&mut next)?;
        flow::cut_denied(&mut next);
        if next != *world {
            // A crash here: nothing happened. After `keep`: it happened and nobody was told; resume observes it.
            self.keep(&next)?;
            *world = next;
            kill_point();
        }
        fate.after.map_or(Ok(answer), Err)
    }
}

/// Refuses a call whose rights the caller lacks.
fn permit(world: &World, call: Call<'_>, rights: &[Right]) -> Result<(), PortError> {
    match rights.iter().find(|r| world.lacks(r)) {
        None => Ok(()),
        Some(right) => Err(call.error(Cause::Refused, format!("forbidden: no right to {right}"))),
    }
}

/// The pod that a caller names, with exactly its UID.
fn same_pod<'w>(world: &'w World, pod: &ObjectRef, call: Call<'_>) -> Result<&'w Pod, PortError> {
    let found = world
        .pod(&pod.namespace, &pod.name)
        .ok_or_else(|| call.error(Cause::NotFound, "no such pod"))?;
    if found.uid == pod.uid {
        Ok(found)
    } else {
        Err(call.error(
            Cause::Conflict,
            format!(
                "it is another pod now: UID {} instead of {}",
                found.uid, pod.uid
            ),
        ))
    }
}

/// Dies like `kill -9` after the n-th effect of this process when the environment asks for it
/// (`FIREBREAK_FAULT=kill-after-effect=N`): the effect is durable, the reply is lost.
#[cfg(feature = "fault")]
fn kill_point() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static EFFECTS: AtomicU64 = AtomicU64::new(0);
    let now = EFFECTS.fetch_add(1, Ordering::SeqCst) + 1;
    let wanted = std::env::var("FIREBREAK_FAULT")
        .ok()
        .and_then(|f| f.strip_prefix("kill-after-effect=")?.parse::<u64>().ok());
    if wanted == Some(now) {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(feature = "fault"))]
fn kill_point() {}

#[cfg(test)]
mod tests;
