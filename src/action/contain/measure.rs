//! Making the probes: who can be asked, every cell with its control at once, and again while a plugin is still busy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinSet;

use crate::action::Context;
use crate::incident::body::{ObjectRef, Proof};
use crate::port::{Cluster, LookScope, ProbeTarget, Sockets, Tried};
use crate::reach::cluster::{ClusterSnapshot, Pod, Protocol};
use crate::reach::isolation::QUARANTINE;

use super::canary::{LISTEN, source};
use super::choice::{Choice, Helper, as_it_was, ports_to_try};
use super::journal::Journal;
use super::matrix::Cell;

/// One try while others run.
const WITHIN: Duration = Duration::from_millis(700);
/// How long the target listens for our probes where it listens on nothing itself.
const LISTENING: Duration = Duration::from_secs(60);
/// How often a cell that is still open is tried again, and the pause between: a plugin may take some seconds to enforce.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);
/// The pause between the two looks at connections.
const LOOK_AGAIN: Duration = Duration::from_millis(1200);

/// What was tried of one table.
#[derive(Default)]
pub(super) struct Table {
    /// Cell, its answer, its control's answer.
    pub tried: Vec<(Cell, Option<Tried>, Option<Tried>)>,
    /// The target's sockets; connections only with peers that count.
    pub sockets: Sockets,
    /// What is missing.
    pub notes: Vec<String>,
    /// A cell was open at first and was blocked later.
    pub closed_later: bool,
    /// The node of the target.
    pub node: String,
    /// Addresses of the target.
    pub addresses: Vec<String>,
}

impl Table {
    /// Cells that got through and should not.
    pub fn is_open(&self) -> bool {
        self.tried.iter().any(still_open)
    }
}

fn still_open((cell, tried, _): &(Cell, Option<Tried>, Option<Tried>)) -> bool {
    *tried == Some(Tried::Open) && !cell.own_node
}

/// Whom this step asked already whether it can probe: many targets share their helpers.
#[derive(Clone, Default)]
pub(super) struct Asked(Arc<Mutex<BTreeMap<String, Arc<OnceCell<Answer>>>>>);

type Answer = Result<Helper, String>;

impl Asked {
    async fn ask(&self, cluster: &Cluster, pod: &Pod) -> Answer {
        let cell = Arc::clone(self.0.lock().await.entry(pod.uid.clone()).or_default());
        cell.get_or_init(|| ask(cluster, pod)).await.clone()
    }
}

/// What a measurement needs beside the pod.
pub(super) struct Around<'a> {
    /// Writes of the incident.
    pub journal: &'a Journal,
    /// Pods of the same containment.
    pub affected: &'a BTreeSet<String>,
    /// The newest baseline of the pod.
    pub earlier: Option<&'a Proof>,
    /// Who was asked before.
    pub asked: &'a Asked,
}

/// Looks, asks who can probe, and tries every cell with its control at once. `None` where the cluster cannot be looked at.
pub(super) async fn measure(cx: &Context, pod: &ObjectRef, around: &Around<'_>) -> Option<Table> {
    let cluster = cx.cluster().ok()?.clone();
    let world = cluster.view.look(&LookScope::Cluster).await.ok()?;
    let target = world.pods.iter().find(|p| p.uid == pod.uid)?.clone();
    let mut table = Table {
        node: target.node.clone(),
        addresses: target.ips.clone(),
        ..Table::default()
    };
    let sockets = cluster.probe.sockets(&source(&target)).await;
    let sockets = sockets.unwrap_or_else(|e| {
        table
            .notes
            .push(format!("the pod's own sockets are not known: {e}"));
        Sockets::default()
    });
    let was = as_it_was(&world, around.journal);
    let mut ports = ports_to_try(&target, &sockets.listening);
    if ports.is_empty() || ports == [LISTEN] {
        ports = open_a_port(&cluster, &target, &mut table.notes).await;
    }
    // In the cluster as it was, isolated pods carry no label of ours: who is isolated is seen in the cluster as it is.
    let isolated = world
        .pods
        .iter()
        .filter(|p| p.labels.contains_key(QUARANTINE));
    let mut affected = around.affected.clone();
    affected.extend(isolated.map(|p| p.uid.clone()));
    let choice = Choice::new(&was, &target, &affected, around.earlier);
    let helpers = who_can(
        &cluster,
        choice.to_ask(&ports),
        around.asked,
        &mut table.notes,
    )
    .await;
    let (cells, gaps) = choice.cells(&ports, &helpers);
    table.tried = try_all(&cluster, cells, &mut table.notes).await;
    table.notes.extend(gaps);
    table.sockets = that_count(sockets, &world, &target);
    Some(table)
}

/// Tries again what is still open, until it is blocked or the time is over.
pub(super) async fn wait_for_plugin(cx: &Context, table: &mut Table) {
    let Ok(cluster) = cx.cluster().cloned() else {
        return;
    };
    for _ in 0..TRIES {
        if !table.is_open() || cx.cancelled() {
            return;
        }
        (cx.progress)("still open: the network plugin may not be done yet");
        pause(cx, PAUSE).await;
        let (again, done): (Vec<_>, Vec<_>) = table.tried.drain(..).partition(still_open);
        table.tried = done;
        let cells = again.into_iter().map(|(cell, ..)| cell).collect();
        let tried = try_all(&cluster, cells, &mut table.notes).await;
        table.closed_later |= tried.iter().any(|t| t.1.is_some() && !still_open(t));
        table.tried.extend(tried);
    }
}

/// Looks at open connections a second time: those that ended meanwhile are not open, and one is only cut when both looks say so.
pub(super) async fn look_again(cx: &Context, pod: &ObjectRef, table: &mut Table) {
    if table.sockets.established.is_empty() {
        return;
    }
    let Ok(cluster) = cx.cluster().cloned() else {
        return;
    };
    pause(cx, LOOK_AGAIN).await;
    let Ok(world) = cluster.view.look(&LookScope::Cluster).await else {
        return;
    };
    let Some(target) = world.pods.iter().find(|p| p.uid == pod.uid) else {
        return;
    };
    let Ok(now) = cluster.probe.sockets(&source(target)).await else {
        return;
    };
    let now = that_count(now, &world, target);
    let before = std::mem::take(&mut table.sockets);
    table.sockets = Sockets {
        established: now
            .established
            .iter()
            .filter(|c| before.established.contains(c))
            .cloned()
            .collect(),
        stalled: now
            .stalled
            .into_iter()
            .filter(|c| before.stalled.contains(c))
            .collect(),
        listening: now.listening,
    };
}

async fn pause(cx: &Context, long: Duration) {
    if !cx.ports.clock.waits_are_simulated() {
        tokio::time::sleep(long).await;
    }
}

/// Connections with the pod itself, its own node or our probes are none that isolation could end.
fn that_count(sockets: Sockets, world: &ClusterSnapshot, target: &Pod) -> Sockets {
    let node = world.nodes.iter().find(|n| n.name == target.node);
    let mut own: Vec<&str> = vec![target.host_ip.as_str()];
    own.extend(target.ips.iter().map(String::as_str));
    own.extend(node.iter().flat_map(|n| &n.ips).map(String::as_str));
    let counts = |line: &String| {
        let Some((local, peer)) = line.split_once(" → ") else {
            return true;
        };
        let (Some((_, port)), Some((peer, _))) = (local.rsplit_once(':'), peer.rsplit_once(':'))
        else {
            return true;
        };
        let peer = peer.trim_matches(['[', ']']);
        let loopback = peer.starts_with("127.") || peer == "::1";
        !loopback && !own.contains(&peer) && port != LISTEN.to_string()
    };
    Sockets {
        established: sockets.established.into_iter().filter(counts).collect(),
        stalled: sockets.stalled.into_iter().filter(counts).collect(),
        ..sockets
    }
}

/// A target that listens on nothing is made to, so that a probe from outside can tell *denied* from *nobody there*.
async fn open_a_port(cluster: &Cluster, target: &Pod, notes: &mut Vec<String>) -> Vec<u16> {
    match cluster
        .probe
        .listen(&source(target), LISTEN, LISTENING)
        .await
    {
        Ok(()) => vec![LISTEN],
        Err(e) => {
            notes.push(format!(
                "the pod listens on nothing, and was not made to: {e}"
            ));
            Vec::new()
        }
    }
}

/// The unaffected pods whose image can probe.
async fn who_can(
    cluster: &Cluster,
    pods: Vec<Pod>,
    asked: &Asked,
    notes: &mut Vec<String>,
) -> Vec<Helper> {
    let mut running = JoinSet::new();
    for (n, pod) in pods.into_iter().enumerate() {
        let (cluster, asked) = (cluster.clone(), asked.clone());
        running.spawn(async move { (n, asked.ask(&cluster, &pod).await) });
    }
    let mut helpers = Vec::new();
    while let Some(Ok((n, answer))) = running.join_next().await {
        match answer {
            Ok(helper) => helpers.push((n, helper)),
            Err(why) => notes.push(why),
        }
    }
    helpers.sort_by_key(|(n, _)| *n);
    if helpers.is_empty() {
        notes.push("no unaffected pod can be asked: there is no positive control".into());
    }
    helpers.into_iter().map(|(_, h)| h).collect()
}

/// A try to a closed port of the pod itself shows whether its image can probe, and disturbs nobody.
async fn ask(cluster: &Cluster, pod: &Pod) -> Answer {
    let at = source(pod);
    let itself = ProbeTarget {
        address: "127.0.0.1".into(),
        port: 1,
        protocol: Protocol::Tcp,
    };
    let (sockets, able) = tokio::join!(
        cluster.probe.sockets(&at),
        cluster.probe.connect(&at, &itself, WITHIN)
    );
    able.map_err(|e| format!("{} cannot probe: {e}", pod.id()))?;
    let listening = sockets.unwrap_or_default().listening;
    Ok(Helper {
        listening: ports_to_try(pod, &listening),
        pod: pod.clone(),
    })
}

async fn try_all(
    cluster: &Cluster,
    cells: Vec<Cell>,
    notes: &mut Vec<String>,
) -> Vec<(Cell, Option<Tried>, Option<Tried>)> {
    let mut running = JoinSet::new();
    for (n, cell) in cells.into_iter().enumerate() {
        let cluster = cluster.clone();
        running.spawn(async move {
            let probe = async {
                cluster
                    .probe
                    .connect(&source(&cell.from), &cell.to, WITHIN)
                    .await
            };
            let control = async {
                match &cell.control {
                    Some((from, to)) => {
                        let tried = cluster.probe.connect(&source(from), to, WITHIN).await;
                        tried.ok().map(|r| r.tried)
                    }
                    None => None,
                }
            };
            let (probe, control) = tokio::join!(probe, control);
            (n, cell, probe, control)
        });
    }
    let mut tried = Vec::new();
    while let Some(Ok((n, cell, probe, control))) = running.join_next().await {
        let after = match probe {
            Ok(result) => Some(result.tried),
            Err(e) => {
                let line = format!("{} could not be tried: {e}", cell.direction);
                if !notes.contains(&line) {
                    notes.push(line);
                }
                None
            }
        };
        tried.push((n, cell, after, control));
    }
    tried.sort_by_key(|(n, ..)| *n);
    tried.into_iter().map(|(_, c, a, k)| (c, a, k)).collect()
}
