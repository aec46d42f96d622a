//! Rollouts: one pod more, then one old pod less, one step at each look. Enough of a Deployment's controller for a rotation to be
//! waited for, to fail and to be taken back.

use chrono::{DateTime, Utc};

use super::consumer::{Deployment, ROLE_ANNOTATION, RunningPod, check};
use super::world::EstateWorld;

/// Lets each workload come to rest where nothing needs a step: pods that are missing altogether start, readiness follows what works.
pub(super) fn settle(world: &mut EstateWorld, now: DateTime<Utc>) {
    each(world, |world, d| {
        if d.pods.is_empty() && d.observed {
            for _ in 0..d.replicas {
                let mut pod = start(world, d, now);
                pod.starting = false;
                d.pods.push(pod);
            }
        }
        let shape = shape(d);
        for pod in d.pods.iter_mut().filter(|p| !p.starting) {
            judge(world, &shape, pod, now);
        }
    });
}

/// Takes every rollout one step on.
pub(super) fn advance(world: &mut EstateWorld, now: DateTime<Utc>) {
    each(world, |world, d| step(world, d, now));
}

/// Takes one workload's rollout one step on.
pub(super) fn advance_one(world: &mut EstateWorld, uid: &str, now: DateTime<Utc>) {
    each(world, |world, d| {
        if d.uid == uid {
            step(world, d, now);
        }
    });
}

/// Works on each workload while the rest of the world may be changed.
fn each(world: &mut EstateWorld, mut work: impl FnMut(&mut EstateWorld, &mut Deployment)) {
    let mut all = std::mem::take(&mut world.deployments);
    for d in &mut all {
        work(world, d);
    }
    world.deployments = all;
}

fn step(world: &mut EstateWorld, d: &mut Deployment, now: DateTime<Utc>) {
    if !d.observed {
        d.observed = true;
        return;
    }
    run_started(world, d, now);
    let template = d.template();
    let newest = |p: &RunningPod| p.template == template;
    let wanted = d.replicas as usize;
    // As the controller does: old pods that serve nobody go first, and cost nothing.
    if let Some(at) = d.pods.iter().position(|p| !newest(p) && !p.ready) {
        stop(world, d, at);
    }
    let ready = d.pods.iter().filter(|p| p.ready).count();
    if ready > wanted
        && let Some(at) = d.pods.iter().position(|p| !newest(p))
    {
        stop(world, d, at);
        return;
    }
    let made = d.pods.iter().filter(|p| newest(p)).count();
    if made < wanted && d.pods.len() <= wanted {
        let pod = start(world, d, now);
        d.pods.push(pod);
    } else if made > wanted
        && let Some(at) = d.pods.iter().rposition(newest)
    {
        stop(world, d, at);
    }
}

/// Pods that started run now; one that crashed starts again and reads its Secrets anew.
fn run_started(world: &mut EstateWorld, d: &mut Deployment, now: DateTime<Utc>) {
    let (shape, template) = (shape(d), d.template());
    for pod in &mut d.pods {
        if pod.template != template || pod.ran {
            continue;
        }
        if !pod.starting {
            let again = start(world, &shape, now);
            pod.read = again.read;
            pod.session = again.session;
        }
        pod.starting = false;
        judge(world, &shape, pod, now);
    }
}

/// The workload without its pods: what a check reads while they are being changed.
fn shape(d: &Deployment) -> Deployment {
    Deployment {
        pods: Vec::new(),
        ..d.clone()
    }
}

fn judge(world: &mut EstateWorld, shape: &Deployment, pod: &mut RunningPod, now: DateTime<Utc>) {
    pod.why = check(world, shape, pod, now).err();
    pod.ready = pod.why.is_none();
    pod.ran |= pod.ready;
}

/// Makes a pod: it reads its Secrets and asks for its role's session.
fn start(world: &mut EstateWorld, d: &Deployment, now: DateTime<Utc>) -> RunningPod {
    let suffix = world.mint("", 5).to_lowercase();
    let read = d
        .mounts
        .iter()
        .filter_map(|m| {
            let secret = world
                .kube_secrets
                .get(&format!("{}/{}", d.namespace, m.secret))?;
            Some((m.secret.clone(), secret.data.clone()))
        })
        .collect();
    let name = format!("{}-{suffix}", d.name);
    let account = format!("{}/{}", d.namespace, d.service_account);
    let role = world
        .accounts
        .get(&account)
        .and_then(|a| a.annotations.get(ROLE_ANNOTATION).cloned());
    let session = role.and_then(|arn| {
        let subject = format!(
            "system:serviceaccount:{}:{}",
            d.namespace, d.service_account
        );
        world.assume_with_token(&subject, &arn, &name, now).ok()
    });
    RunningPod {
        name,
        template: d.template(),
        created: now,
        read,
        starting: true,
        ready: false,
        ran: false,
        session,
        why: None,
    }
}

fn stop(world: &mut EstateWorld, d: &mut Deployment, at: usize) {
    let pod = d.pods.remove(at);
    world.close_client(&pod.name);
}
