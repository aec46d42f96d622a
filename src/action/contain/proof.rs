//! Making the probes: a baseline before the first write, a quick look after phase A, the whole table afterwards.
//!
//! *Guarantee*: nothing here stops an isolation. A probe that cannot be made is a gap in the table, said; only a ledger that cannot be
//! written is an error.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::action::{ActionError, Context};
use crate::incident::body::{ObjectRef, Proof};
use crate::incident::{History, kind};
use crate::port::{Cluster, LookScope, ProbeTarget, Sockets, Tried};
use crate::reach::cluster::{ClusterSnapshot, ContainerKind, Pod, Protocol};

use super::canary::{LISTEN, source};
use super::isolate_workload::MOVE_OUT;
use super::journal::Journal;
use super::matrix::{self, Cell, Helper, NOT_TRIED, candidates, cells, row};
use super::naming::place;
use super::targets::Target;

/// What probes cannot see; printed with every verdict.
pub const NOT_SEEN: [&str; 9] = [
    "secondary network interfaces (Multus)",
    "ICMP, and protocols other than TCP",
    "name service on the node itself",
    "host paths, shared volumes and sockets",
    "stolen credentials used from elsewhere",
    "paths of a service mesh",
    "the address family that was not probed",
    "the pod's own node, which always gets through",
    "destinations outside the cluster: they are never tried, not to warn anybody",
];

/// One try while others run.
const WITHIN: Duration = Duration::from_millis(700);
/// How long the target listens for our probes where it listens on nothing itself.
const LISTENING: Duration = Duration::from_secs(60);

/// Phase word of a baseline.
pub(super) const BEFORE: &str = "before";

/// What was tried of one table.
pub(super) struct Table {
    tried: Vec<(Cell, Option<Tried>, Option<Tried>)>,
    sockets: Sockets,
    notes: Vec<String>,
}

/// Before the first write, within the budget: what is open now. Recorded, so that *blocked afterwards* means something.
///
/// # Errors
/// When the ledger refuses.
pub(super) async fn baseline(
    cx: &Context,
    target: &Target,
    budget: Duration,
) -> Result<(), ActionError> {
    let Ok(Some(table)) = tokio::time::timeout(budget, measure(cx, &target.pod)).await else {
        (cx.progress)("no baseline: the probes did not end in time");
        return Ok(());
    };
    let cells = table
        .tried
        .iter()
        .map(|(cell, tried, control)| {
            let word = tried.map_or(NOT_TRIED, Tried::as_str);
            let mut row = row(cell, word, None, *control);
            row.verdict = "baseline".into();
            row
        })
        .collect();
    let proof = Proof {
        cells,
        why: table.notes,
        open_connections: table.sockets.established,
        ..empty(&target.pod, BEFORE, "not-proven")
    };
    cx.record(kind::CONTAIN_PROVEN, &proof)?;
    Ok(())
}

/// After phase A, within the budget: is anything blocked already? Phase B follows whatever it says.
///
/// # Errors
/// When the ledger refuses.
pub(super) async fn quick(
    cx: &Context,
    target: &Target,
    budget: Duration,
    started: Duration,
) -> Result<(), ActionError> {
    let Ok(Some(table)) = tokio::time::timeout(budget, measure(cx, &target.pod)).await else {
        return Ok(());
    };
    let elapsed = cx.ports.clock.monotonic().saturating_sub(started);
    let mut proof = table_to_proof(cx, &target.pod, &table, "A", &[])?;
    let blocked = proof.cells.iter().any(|c| c.verdict == "match");
    proof.time_to_enforce_ms = blocked
        .then(|| u64::try_from(elapsed.as_millis()).ok())
        .flatten();
    if proof.verdict == "isolated" {
        // The policies of the workload's labels still hold until phase B.
        proof.verdict = "not-proven".into();
        proof.why.push("phase B was still to come".into());
    }
    cx.record(kind::CONTAIN_PROVEN, &proof)?;
    Ok(())
}

/// The whole table for one pod.
///
/// # Errors
/// When the ledger refuses.
pub(super) async fn whole(
    cx: &Context,
    pod: &ObjectRef,
    still_allowed: &[String],
    may_allow: &[String],
) -> Result<Proof, ActionError> {
    let history = cx.ledger.history()?;
    let journal = Journal::of(&history);
    let phase = if journal.find(pod, MOVE_OUT).is_some() {
        "B"
    } else {
        "A"
    };
    let table = measure(cx, pod).await.unwrap_or_else(|| Table {
        tried: Vec::new(),
        sockets: Sockets::default(),
        notes: vec!["the cluster could not be looked at".into()],
    });
    let mut proof = table_to_proof(cx, pod, &table, phase, still_allowed)?;
    proof
        .not_seen
        .extend(may_allow.iter().map(|m| format!("what it may allow: {m}")));
    Ok(proof)
}

fn table_to_proof(
    cx: &Context,
    pod: &ObjectRef,
    table: &Table,
    phase: &str,
    still_allowed: &[String],
) -> Result<Proof, ActionError> {
    let history = cx.ledger.history()?;
    let earlier = earlier(&history, pod);
    let cells: Vec<_> = table
        .tried
        .iter()
        .map(|(cell, after, control)| row(cell, &before(earlier.as_ref(), cell), *after, *control))
        .collect();
    let (verdict, mut why) = matrix::verdict(&cells, still_allowed);
    why.extend(table.notes.iter().cloned());
    let open_connections = match &earlier {
        Some(e) if !e.open_connections.is_empty() => {
            let stays = |c: &&String| e.open_connections.contains(c);
            table
                .sockets
                .established
                .iter()
                .filter(stays)
                .cloned()
                .collect()
        }
        _ => table.sockets.established.clone(),
    };
    if !open_connections.is_empty() {
        why.push(format!(
            "denied for new flows only: {} connection(s) that were open stay open",
            open_connections.len()
        ));
    }
    Ok(Proof {
        why,
        cells,
        open_connections,
        ..empty(pod, phase, verdict)
    })
}

fn empty(pod: &ObjectRef, phase: &str, verdict: &str) -> Proof {
    Proof {
        pod: place(pod),
        pod_uid: pod.uid.clone(),
        phase: phase.into(),
        verdict: verdict.into(),
        why: Vec::new(),
        cells: Vec::new(),
        time_to_enforce_ms: None,
        open_connections: Vec::new(),
        not_seen: NOT_SEEN.iter().map(|s| (*s).to_owned()).collect(),
    }
}

/// The newest baseline of this pod.
fn earlier(history: &History, pod: &ObjectRef) -> Option<Proof> {
    history
        .bodies::<Proof>(kind::CONTAIN_PROVEN)
        .filter(|(_, p)| p.pod_uid == pod.uid && p.phase == BEFORE)
        .map(|(_, p)| p)
        .last()
}

/// What the same destination answered before, whoever asked on the way in.
fn before(earlier: Option<&Proof>, cell: &Cell) -> String {
    let to = format!("{} ({}/TCP)", cell.to_name, cell.to);
    earlier
        .and_then(|p| {
            p.cells
                .iter()
                .find(|c| c.direction == cell.direction && c.to == to)
        })
        .map_or_else(|| NOT_TRIED.to_owned(), |c| c.before.clone())
}

/// Looks, asks who can probe, and tries every cell with its control at once. `None` where the cluster cannot be looked at.
async fn measure(cx: &Context, pod: &ObjectRef) -> Option<Table> {
    let cluster = cx.cluster().ok()?.clone();
    let world = cluster.view.look(&LookScope::Cluster).await.ok()?;
    let target = world.pods.iter().find(|p| p.uid == pod.uid)?.clone();
    let mut notes = Vec::new();
    let (sockets, helpers) = who_can(&cluster, &world, &target, &mut notes).await;
    let mut listens = sockets.listening.clone();
    if listens.is_empty() {
        listens = declared(&target);
    }
    if listens.is_empty() || listens == [LISTEN] {
        listens = open_a_port(&cluster, &target, &mut notes).await;
    }
    let cells = cells(&world, &target, &listens, &helpers);
    let tried = try_all(&cluster, cells, &mut notes).await;
    Some(Table {
        tried,
        sockets: Sockets {
            established: sockets
                .established
                .into_iter()
                .filter(|c| !c.starts_with("127.") && !c.starts_with("[::1]"))
                .collect(),
            ..sockets
        },
        notes,
    })
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

/// Sockets of the target, and the unaffected pods whose image can probe.
async fn who_can(
    cluster: &Cluster,
    world: &ClusterSnapshot,
    target: &Pod,
    notes: &mut Vec<String>,
) -> (Sockets, Vec<Helper>) {
    let mut asked = JoinSet::new();
    let api = world
        .services
        .iter()
        .find(|s| s.namespace == "default" && s.name == "kubernetes")
        .and_then(|s| {
            let port = s.ports.first()?.port;
            Some(ProbeTarget {
                address: s.cluster_ip.clone(),
                port,
                protocol: Protocol::Tcp,
            })
        });
    for (n, pod) in candidates(world, target).into_iter().enumerate() {
        let (cluster, api) = (cluster.clone(), api.clone());
        asked.spawn(async move {
            let at = source(&pod);
            let sockets = cluster.probe.sockets(&at).await.unwrap_or_default();
            let able = match api {
                Some(api) => cluster.probe.connect(&at, &api, WITHIN).await.map(|_| ()),
                None => Ok(()),
            };
            let listening = if sockets.listening.is_empty() {
                declared(&pod)
            } else {
                sockets.listening
            };
            (n, Helper { pod, listening }, able)
        });
    }
    let of_target = cluster.probe.sockets(&source(target)).await;
    let mut helpers = Vec::new();
    while let Some(Ok((n, helper, able))) = asked.join_next().await {
        match able {
            Ok(()) => helpers.push((n, helper)),
            Err(e) => notes.push(format!("{} cannot probe: {e}", helper.pod.id())),
        }
    }
    helpers.sort_by_key(|(n, _)| *n);
    if helpers.is_empty() {
        notes.push("no unaffected pod can be asked: there is no positive control".into());
    }
    let sockets = of_target.unwrap_or_else(|e| {
        notes.push(format!("the pod's own sockets are not known: {e}"));
        Sockets::default()
    });
    (sockets, helpers.into_iter().map(|(_, h)| h).collect())
}

fn declared(pod: &Pod) -> Vec<u16> {
    let main = pod
        .containers
        .iter()
        .filter(|c| c.kind == ContainerKind::Main);
    main.flat_map(|c| &c.ports)
        .filter(|p| p.protocol == Protocol::Tcp)
        .map(|p| p.port)
        .collect()
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
