//! The world of these tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::shops::web;
pub(super) use super::shops::{labels, shop};
use crate::action::Context;
use crate::incident::body::ObjectRef;
use crate::incident::{Draft, Entry, History, IncidentId, Mode, RunId, StepPath};
use crate::port::*;
use crate::reach::cluster::*;
use crate::reach::isolation::HANDS;
use crate::reach::policy::{End, Engine, FlowPort, Verdict};

/// What goes wrong at a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not done, and no reply.
    LostBefore,
    /// Done, and no reply.
    LostAfter,
    /// Not done: too many requests.
    Throttled,
    /// Rejected by a webhook.
    Rejected,
    /// A right is missing.
    Refused,
}

/// All state.
#[derive(Default)]
pub(super) struct State {
    /// The cluster.
    pub cluster: ClusterSnapshot,
    /// Entries of the ledger.
    pub entries: Vec<Entry>,
    /// The process dies once the ledger has this many entries.
    pub kill_at: Option<usize>,
    /// The process dies once this many writes were sent: the last one had its effect, and nobody recorded it.
    pub kill_at_write: Option<usize>,
    /// The process is dead: nothing has any effect.
    pub dead: bool,
    /// Writes sent (previews not counted).
    pub writes: usize,
    /// Names of the writes that had an effect.
    pub effects: Vec<String>,
    /// Fault at the n-th write.
    pub fault: Option<(usize, Fault)>,
    /// Fault at every write to an object of this name, previews too.
    pub always: Option<(String, Fault)>,
    /// Policies are enforced.
    pub enforces: bool,
    /// Pods whose image has no tools.
    pub no_tools: Vec<String>,
    /// Ports opened by `listen`: (pod UID, port).
    pub opened: Vec<(String, u16)>,
    /// Connections of every pod, and those of them that are stuck.
    pub connections: Vec<String>,
    pub stalled: Vec<String>,
    /// Probes that the plugin lets through before it enforces.
    pub late: usize,
    /// A resource for which every right is missing.
    pub lacks: Option<String>,
    /// Objects made so far.
    pub made: usize,
}

/// A handle on the world; every port is one.
#[derive(Clone)]
pub(super) struct World(pub Arc<Mutex<State>>);

impl World {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds it")
    }
    /// A context of a step.
    pub(super) fn step(&self, step: &str) -> Context {
        let (_keep, cancel) = watch::channel(false);
        Context {
            incident: IncidentId::parse("INC-20261124-7K2Q").expect("id"),
            mode: Mode::Drill,
            run: RunId::parse("run-aaaaaaaaaaaaaaaa").expect("run"),
            step: StepPath::parse(step).expect("step"),
            attempt: 1,
            key: "0".repeat(32),
            ledger: Arc::new(self.clone()),
            custody: None,
            documents: None,
            files: Arc::new(crate::action::NoFiles),
            ports: Ports {
                cluster: Some(Cluster {
                    view: Arc::new(self.clone()),
                    change: Arc::new(self.clone()),
                    probe: Arc::new(self.clone()),
                    acquire: Arc::new(self.clone()),
                }),
                estate: None,
                notifier: Arc::new(self.clone()),
                clock: Arc::new(HostClock::for_drill()),
                random: Arc::new(HostRandom),
            },
            deadline: Duration::from_secs(60),
            cancel,
            progress: Arc::new(|_| {}),
        }
    }
    /// A context of the same step in another run: somebody typed the command again instead of `resume`.
    pub(super) fn step_of_another_run(&self, step: &str) -> Context {
        Context {
            run: RunId::parse("run-bbbbbbbbbbbbbbbb").expect("run"),
            ..self.step(step)
        }
    }
    /// The dead process is started again.
    pub(super) fn revive(&self) {
        let mut s = self.lock();
        s.dead = false;
        s.kill_at = None;
        s.kill_at_write = None;
    }
    pub(super) fn pod(&self, name: &str) -> Pod {
        let s = self.lock();
        let found = s.cluster.pods.iter().find(|p| p.name == name);
        found.expect("the pod is there").clone()
    }
    pub(super) fn bodies<T: serde::de::DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        let s = self.lock();
        s.entries.iter().filter_map(|e| e.body_as(kind)).collect()
    }
}

impl Ledger for World {
    fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Entry>, LedgerError> {
        let mut s = self.lock();
        let died = || LedgerError::Write {
            path: "ledger".into(),
            detail: "killed".into(),
        };
        let mut stored = Vec::new();
        for draft in drafts {
            if s.dead {
                return Err(died());
            }
            let entry = Entry {
                seq: u64::try_from(s.entries.len()).expect("few"),
                time: chrono::DateTime::UNIX_EPOCH,
                kind: draft.kind,
                actor: draft.actor,
                target: draft.target,
                refs: draft.refs,
                body: draft.body,
                sha256: String::new(),
                writer: 1,
                clock_back_ms: 0,
            };
            s.entries.push(entry.clone());
            stored.push(entry);
            // The process dies right after this entry became durable, in the middle of its batch if need be.
            if s.kill_at == Some(s.entries.len()) {
                s.dead = true;
                return Err(died());
            }
        }
        Ok(stored)
    }
    fn checkpoint(&self) -> Result<(), LedgerError> {
        Ok(())
    }
    fn history(&self) -> Result<History, LedgerError> {
        Ok(History {
            incident: IncidentId::parse("INC-20261124-7K2Q").expect("id"),
            mode: Mode::Drill,
            entries: self.lock().entries.clone(),
            root: String::new(),
            fingerprint: String::new(),
        })
    }
}

pub(super) fn fail(cause: Cause, on: &str) -> PortError {
    PortError::new(cause, "write", on, "as the test wants")
}

impl State {
    /// One write: faults first, then the effect, then faults of the reply.
    fn write<T>(
        &mut self,
        mode: WriteMode,
        on: &ObjectRef,
        what: &str,
        check: impl FnOnce(&mut State) -> Result<T, PortError>,
        effect: impl FnOnce(&mut State, &T) -> bool,
    ) -> Result<T, PortError> {
        if self.dead {
            return Err(fail(Cause::Unreachable, &on.name));
        }
        if mode == WriteMode::Apply {
            self.writes += 1;
        }
        let mut fault = match self.fault {
            Some((n, f)) if n == self.writes && mode == WriteMode::Apply => Some(f),
            _ => None,
        };
        if let Some((name, f)) = &self.always
            && *name == on.name
        {
            fault = Some(*f);
        }
        match fault {
            Some(Fault::LostBefore) => return Err(fail(Cause::LostReply, &on.name)),
            Some(Fault::Throttled) => return Err(fail(Cause::Throttled, &on.name)),
            Some(Fault::Rejected) => return Err(fail(Cause::Rejected, &on.name)),
            Some(Fault::Refused) => return Err(fail(Cause::Refused, &on.name)),
            Some(Fault::LostAfter) | None => {}
        }
        let value = check(self)?;
        if mode == WriteMode::Apply && effect(self, &value) {
            self.effects.push(format!("{what} {}", on.name));
            self.controllers_act();
        }
        if self.kill_at_write == Some(self.writes) && mode == WriteMode::Apply {
            self.dead = true;
            return Err(fail(Cause::LostReply, &on.name));
        }
        if fault == Some(Fault::LostAfter) {
            return Err(fail(Cause::LostReply, &on.name));
        }
        Ok(value)
    }

    /// ReplicaSets let go, adopt, start and delete, as the real controller does.
    fn controllers_act(&mut self) {
        for c in self.cluster.controllers.clone() {
            if c.kind != "ReplicaSet" {
                continue;
            }
            for pod in self
                .cluster
                .pods
                .iter_mut()
                .filter(|p| p.namespace == c.namespace)
            {
                let matches = c.selector.matches(&pod.labels);
                let owned = pod.owner.as_ref().is_some_and(|o| o.uid == c.uid);
                if owned && !matches {
                    pod.owner = None;
                } else if matches && pod.owner.is_none() {
                    pod.owner = Some(Owner {
                        kind: c.kind.clone(),
                        name: c.name.clone(),
                        uid: c.uid.clone(),
                    });
                }
            }
            let owned = |p: &Pod| p.owner.as_ref().is_some_and(|o| o.uid == c.uid);
            let wanted = usize::try_from(c.replicas).expect("few");
            while self.cluster.pods.iter().filter(|p| owned(p)).count() < wanted {
                self.made += 1;
                self.cluster.pods.push(web(100 + self.made));
            }
            while self.cluster.pods.iter().filter(|p| owned(p)).count() > wanted {
                let cost = |p: &Pod| {
                    p.annotations
                        .get("controller.kubernetes.io/pod-deletion-cost")
                        .and_then(|v| v.parse::<i64>().ok())
                        .unwrap_or(0)
                };
                let pods = self.cluster.pods.iter().enumerate();
                let first = pods
                    .filter(|(_, p)| owned(p))
                    .min_by_key(|(n, p)| (p.ready, cost(p), *n))
                    .map(|(n, _)| n);
                self.cluster.pods.remove(first.expect("one is over"));
            }
        }
    }

    pub(super) fn answer(&self, from: &Pod, to: &ProbeTarget) -> Tried {
        let backend = |address: &str, port: u16| {
            let service = self
                .cluster
                .services
                .iter()
                .find(|s| s.cluster_ip == address);
            match service.and_then(|s| s.selector.as_ref()) {
                Some(wanted) => {
                    let selector = Selector::labels(wanted.clone());
                    let pod = self
                        .cluster
                        .pods
                        .iter()
                        .find(|p| p.uid != from.uid && selector.matches(&p.labels));
                    pod.map(|p| (p, 8080))
                }
                None => self
                    .cluster
                    .pods
                    .iter()
                    .find(|p| p.ips.iter().any(|a| a == address))
                    .map(|p| (p, port)),
            }
        };
        let engine = Engine::new(&self.cluster, &[]);
        let port = |n| FlowPort {
            port: n,
            protocol: Protocol::Tcp,
        };
        let target = backend(&to.address, to.port);
        let verdict = match target {
            Some((pod, n)) => engine.flow(End::Pod(from), End::Pod(pod), port(n)),
            None => engine.flow(End::Pod(from), End::Address(&to.address), port(to.port)),
        };
        if self.enforces && verdict == Verdict::Denied {
            return Tried::Silent;
        }
        let listens = target.is_none_or(|(pod, n)| {
            let declared = pod
                .containers
                .iter()
                .flat_map(|c| &c.ports)
                .any(|p| p.port == n);
            declared || self.opened.contains(&(pod.uid.clone(), n))
        });
        if listens { Tried::Open } else { Tried::Refused }
    }
}

fn written(object: &ObjectRef, already: bool) -> Written {
    Written {
        object: object.clone(),
        already,
        mutated: Vec::new(),
        warnings: Vec::new(),
    }
}

#[async_trait]
impl ClusterChange for World {
    async fn put_policy(&self, p: &PolicySpec, mode: WriteMode) -> Result<Written, PortError> {
        let object = ObjectRef {
            kind: "NetworkPolicy".into(),
            namespace: p.namespace.clone(),
            name: p.name.clone(),
            uid: format!("uid-{}", p.name),
        };
        self.lock().write(
            mode,
            &object,
            "policy",
            |s| {
                let there = s.cluster.policies.iter().any(|q| q.name == p.name);
                Ok(written(&object, there))
            },
            |s, w| {
                if !w.already {
                    s.cluster.policies.push(NetworkPolicy {
                        namespace: p.namespace.clone(),
                        name: p.name.clone(),
                        uid: object.uid.clone(),
                        labels: p.labels.clone(),
                        pod_selector: p.pod_selector.clone(),
                        policy_types: Some(vec![Direction::Ingress, Direction::Egress]),
                        ..NetworkPolicy::default()
                    });
                }
                !w.already
            },
        )
    }
    async fn delete_policy(&self, o: &ObjectRef, mode: WriteMode) -> Result<bool, PortError> {
        let at = |s: &State| {
            s.cluster
                .policies
                .iter()
                .position(|p| p.name == o.name && p.uid == o.uid)
        };
        self.lock().write(
            mode,
            o,
            "delete policy",
            |s| Ok(at(s).is_some()),
            |s, there| {
                if let Some(n) = at(s) {
                    s.cluster.policies.remove(n);
                }
                *there
            },
        )
    }
    async fn change_labels(&self, c: &LabelChange, mode: WriteMode) -> Result<Written, PortError> {
        let field = |p: &Pod, f: &str| {
            let (kind, key) = f.split_once('/').expect("kind/key");
            let map = if kind == "labels" {
                &p.labels
            } else {
                &p.annotations
            };
            map.get(key).cloned()
        };
        self.lock().write(
            mode,
            &c.object,
            "labels",
            |s| {
                let named = s.cluster.pods.iter().find(|p| p.name == c.object.name);
                let pod = named.ok_or_else(|| fail(Cause::NotFound, &c.object.name))?;
                let guarded =
                    pod.uid == c.object.uid && c.expect.iter().all(|(f, v)| field(pod, f) == *v);
                if guarded {
                    Ok(written(&c.object, false))
                } else {
                    Err(fail(Cause::Conflict, &c.object.name))
                }
            },
            |s, _| {
                let named = s.cluster.pods.iter_mut().find(|p| p.name == c.object.name);
                let pod = named.expect("it was checked");
                for (f, v) in &c.set {
                    let (kind, key) = f.split_once('/').expect("kind/key");
                    let map = if kind == "labels" {
                        &mut pod.labels
                    } else {
                        &mut pod.annotations
                    };
                    match v {
                        Some(v) => map.insert(key.to_owned(), v.clone()),
                        None => map.remove(key),
                    };
                }
                true
            },
        )
    }
    async fn cordon(&self, o: &ObjectRef, v: &str, mode: WriteMode) -> Result<Written, PortError> {
        self.lock().write(
            mode,
            o,
            "cordon",
            |_| Ok(written(o, false)),
            |s, _| {
                let node = &mut s.cluster.nodes[0];
                node.unschedulable = true;
                node.taints
                    .push(format!("firebreak/quarantine={v}:NoSchedule"));
                true
            },
        )
    }
    async fn uncordon(
        &self,
        o: &ObjectRef,
        _: &str,
        was: bool,
        mode: WriteMode,
    ) -> Result<Written, PortError> {
        self.lock().write(
            mode,
            o,
            "uncordon",
            |_| Ok(written(o, false)),
            |s, _| {
                let node = &mut s.cluster.nodes[0];
                node.unschedulable = !was;
                node.taints.clear();
                true
            },
        )
    }
    async fn delete_pod(&self, o: &ObjectRef, mode: WriteMode) -> Result<bool, PortError> {
        let at = |s: &State| s.cluster.pods.iter().position(|p| p.uid == o.uid);
        self.lock().write(
            mode,
            o,
            "delete pod",
            |s| Ok(at(s).is_some()),
            |s, there| {
                if let Some(n) = at(s) {
                    s.cluster.pods.remove(n);
                }
                *there
            },
        )
    }
    async fn put_canary(&self, c: &CanarySpec, _: u64) -> Result<Vec<ObjectRef>, PortError> {
        let mut made = Vec::new();
        for n in 0..2 {
            made.push(self.throw_away(c, &format!("{}-{n}", c.name))?);
        }
        Ok(made)
    }
    async fn put_probe_pod(&self, c: &CanarySpec, _: u64) -> Result<ObjectRef, PortError> {
        self.throw_away(c, &c.name)
    }
    async fn delete_canary(&self, c: &CanarySpec) -> Result<(), PortError> {
        let mut s = self.lock();
        if s.dead {
            return Err(fail(Cause::Unreachable, &c.name));
        }
        s.cluster
            .pods
            .retain(|p| p.namespace != HANDS || !p.name.starts_with(&c.name));
        Ok(())
    }
}

impl World {
    fn throw_away(&self, c: &CanarySpec, name: &str) -> Result<ObjectRef, PortError> {
        let mut s = self.lock();
        if s.dead {
            return Err(fail(Cause::Unreachable, name));
        }
        s.cluster.namespaces.insert(HANDS.into(), Labels::new());
        s.made += 1;
        let n = s.made;
        let mut pod = web(0);
        pod.namespace = HANDS.into();
        pod.name = name.into();
        pod.uid = format!("uid-{name}");
        pod.labels = Labels::new();
        pod.owner = None;
        pod.node = c.node.clone();
        pod.ips = vec![format!("10.244.1.{n}")];
        pod.containers[0].ports.clear();
        s.cluster.pods.push(pod.clone());
        Ok(super::super::naming::pod_ref(&pod))
    }
}

/// Labels and annotations of every pod by UID, and the names of all policies: what a release must give back.
pub(super) fn picture(world: &World) -> (BTreeMap<String, (Labels, Labels)>, Vec<String>) {
    let s = world.lock();
    let pods = s
        .cluster
        .pods
        .iter()
        .map(|p| (p.uid.clone(), (p.labels.clone(), p.annotations.clone())))
        .collect();
    let policies = s.cluster.policies.iter().map(|p| p.name.clone()).collect();
    (pods, policies)
}
