//! What was proven about containment, what is left possible, and which credentials must be rotated.
//!
//! The lists are conservative: whatever a plan, a proof or a canary says is possible or unseen stands here until a later proof of the
//! same pod replaces the earlier one. All proof tables stay in the document.

use std::collections::BTreeMap;

use crate::incident::body::{Canary, ContainmentPlanned, Credentials, Proof};
use crate::incident::clock_text::millis;
use crate::incident::{Entry, History, kind};

use super::document::{CanaryRow, Containment, CredentialRow, ProofRow, Residual};
use super::times::cite;

/// Gathers the containment facts.
pub(super) fn containment(history: &History) -> Containment {
    Containment {
        proofs: history
            .bodies::<Proof>(kind::CONTAIN_PROVEN)
            .map(|(e, proof)| ProofRow {
                proof,
                time: millis(e.time),
                cite: cite(e),
            })
            .collect(),
        canaries: history
            .bodies::<Canary>(kind::CONTAIN_CANARY)
            .map(|(e, c)| CanaryRow {
                node: c.node,
                verdict: c.verdict,
                seen: c.seen,
                why: c.why,
                cite: cite(e),
            })
            .collect(),
        residual_reach: residual_reach(history),
        not_proven: not_proven(history),
        credentials: credentials(history),
    }
}

fn residual(subject: &str, what: impl Into<String>, entry: &Entry) -> Residual {
    Residual {
        subject: subject.to_owned(),
        what: what.into(),
        cite: cite(entry),
    }
}

/// The latest proof of each pod.
fn latest(history: &History) -> Vec<(&Entry, Proof)> {
    let mut by_pod: BTreeMap<String, (&Entry, Proof)> = BTreeMap::new();
    for (e, proof) in history.bodies::<Proof>(kind::CONTAIN_PROVEN) {
        by_pod.insert(format!("{}#{}", proof.pod, proof.pod_uid), (e, proof));
    }
    let mut all: Vec<(&Entry, Proof)> = by_pod.into_values().collect();
    all.sort_by_key(|(e, _)| e.seq);
    all
}

fn residual_reach(history: &History) -> Vec<Residual> {
    let mut all = Vec::new();
    for (e, plan) in history.bodies::<ContainmentPlanned>(kind::CONTAINMENT_PLANNED) {
        let pod = format!("{}/{}", plan.pod.namespace, plan.pod.name);
        for policy in &plan.still_selecting {
            all.push(residual(
                &pod,
                format!("still selected in the final state by {policy}"),
                e,
            ));
        }
        for cannot in &plan.cannot {
            all.push(residual(&pod, cannot, e));
        }
    }
    for (e, proof) in latest(history) {
        for cell in &proof.cells {
            if matches!(cell.verdict.as_str(), "bypass" | "spec-exception") {
                let what = format!(
                    "{} {} → {}: {} ({})",
                    cell.direction, cell.from, cell.to, cell.after, cell.verdict
                );
                all.push(residual(&proof.pod, what, e));
            }
        }
        for open in &proof.open_connections {
            let what = format!("connection open before isolation stays open: {open}");
            all.push(residual(&proof.pod, what, e));
        }
    }
    all
}

fn not_proven(history: &History) -> Vec<Residual> {
    let mut all = Vec::new();
    for (e, proof) in latest(history) {
        if proof.verdict != "isolated" {
            let why = if proof.why.is_empty() {
                "no reason recorded".to_owned()
            } else {
                proof.why.join("; ")
            };
            all.push(residual(&proof.pod, format!("{}: {why}", proof.verdict), e));
        }
        for cell in &proof.cells {
            if matches!(
                cell.verdict.as_str(),
                "no-control" | "unreachable" | "undefined"
            ) {
                let what = format!(
                    "{} {} → {}: {}",
                    cell.direction, cell.from, cell.to, cell.verdict
                );
                all.push(residual(&proof.pod, what, e));
            }
        }
        for unseen in &proof.not_seen {
            all.push(residual(&proof.pod, format!("not seen: {unseen}"), e));
        }
    }
    for (e, canary) in history.bodies::<Canary>(kind::CONTAIN_CANARY) {
        if canary.verdict != "enforced" {
            let why = canary.why.map(|w| format!(": {w}")).unwrap_or_default();
            let what = format!("policy enforcement {}{why}", canary.verdict);
            all.push(residual(&format!("node {}", canary.node), what, e));
        }
    }
    all
}

fn credentials(history: &History) -> Vec<CredentialRow> {
    let mut all: Vec<CredentialRow> = Vec::new();
    for (e, listed) in history.bodies::<Credentials>(kind::CREDENTIALS_LISTED) {
        let pod = format!("{}/{}", listed.pod.namespace, listed.pod.name);
        let mut add = |kind: &str, name: &str, through: Vec<String>| {
            let known = |c: &CredentialRow| c.pod == pod && c.kind == kind && c.name == name;
            if !all.iter().any(known) {
                all.push(CredentialRow {
                    pod: pod.clone(),
                    kind: kind.into(),
                    name: name.into(),
                    through,
                    cite: cite(e),
                });
            }
        };
        add(
            "service account",
            &listed.service_account,
            vec!["token".into()],
        );
        if let Some(role) = &listed.role_arn {
            add("cloud role", role, vec!["service account".into()]);
        }
        for (name, through) in listed.secrets {
            add("secret", &name, through);
        }
    }
    all
}
