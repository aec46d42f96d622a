//! How a containment ended: verdict first, then what is open, then where everything is and what to type next.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::compose::exit_of;
use crate::cli::error::CliResult;
use crate::cli::exit::Exit;
use crate::cli::output::{Output, clean_line, grouped};
use crate::cli::session::Session;
use crate::custody::Custody;
use crate::incident::body::{BagSealed, ContainmentPlanned, Credentials, Proof};
use crate::incident::{Entry, History, Outcome, kind};
use crate::run::{Ending, RunEnd};

use crate::cli::command::board::proofs;

/// How a containment ended: verdict first, then where everything is and what to type next.
///
/// # Errors
/// When the ledger cannot be read.
pub fn finish(session: &Session, custody: &Custody, end: &RunEnd) -> CliResult {
    let facts = Facts::of(&custody.history()?, custody, end);
    if session.out.json {
        facts.document(session, custody, end)?;
    } else {
        facts.tell(&session.out, custody, end);
    }
    Ok(facts.exit)
}

/// What the ledger says of one run of a containment.
struct Facts {
    verdict: &'static str,
    exit: Exit,
    proofs: Vec<Proof>,
    bags: Vec<BagSealed>,
    credentials: Vec<Credentials>,
    undo: Vec<String>,
    next: String,
}

impl Facts {
    fn of(history: &History, custody: &Custody, end: &RunEnd) -> Facts {
        let of_run = |e: &Entry| e.run() == Some(end.run.as_str());
        let pods: Vec<ContainmentPlanned> = bodies(history, kind::CONTAINMENT_PLANNED, end);
        // Proofs of this run alone: what an earlier run proved says nothing of now.
        let proofs = proofs(history, of_run);
        let is_proven = |p: &ContainmentPlanned| proofs.iter().any(|q| q.pod_uid == p.pod.uid);
        let isolate = end.steps.get("isolate");
        let isolated = isolate.is_some_and(|s| s.outcome == Outcome::Done);
        let left_alone = end.values.get("left_alone").and_then(|v| v.as_u64());
        let (verdict, worst) = verdict(
            &proofs,
            isolated,
            !pods.iter().all(is_proven),
            left_alone.unwrap_or(0) > 0,
        );
        Facts {
            exit: exit(end, worst),
            verdict,
            bags: bodies(history, kind::BAG_SEALED, end),
            credentials: bodies(history, kind::CREDENTIALS_LISTED, end),
            undo: pods
                .iter()
                .map(|p| undo(p, custody.id().as_str()))
                .collect(),
            next: next(end, &pods, &proofs, custody.id().as_str()),
            proofs,
        }
    }

    fn document(&self, session: &Session, custody: &Custody, end: &RunEnd) -> CliResult {
        let bags: Vec<_> = self
            .bags
            .iter()
            .map(|b| json!({"path": path(custody, b), "seal_sha256": b.seal_sha256, "records": b.records, "bytes": b.bytes}))
            .collect();
        session.out.document(&json!({
            "schema": "firebreak/contain/v1", "incident": custody.id(), "incident_dir": custody.place(), "run": end.run, "verdict": self.verdict, "proofs": self.proofs,
            "bags": bags, "fingerprint": custody.opened().fingerprint, "credentials": self.credentials, "failed": end.failed, "in_doubt": end.in_doubt,
            "undo": self.undo, "next": self.next, "exit": self.exit.code(),
        }))?;
        Ok(self.exit)
    }

    fn tell(&self, out: &Output, custody: &Custody, end: &RunEnd) {
        out.answer(format!(
            "\n{}",
            out.strong(&clean_line(&self.verdict.to_uppercase()))
        ));
        for line in self.proofs.iter().flat_map(proof_lines) {
            out.answer(clean_line(&line));
        }
        for step in end.failed.iter().chain(&end.in_doubt) {
            let why = end.steps.get(step).map_or("", |s| &s.summary);
            out.answer(clean_line(&format!("  not done: {step}: {why}")));
        }
        for listed in &self.credentials {
            out.answer(clean_line(&to_rotate(listed)));
        }
        for bag in &self.bags {
            out.answer(format!(
                "bag         {}\nseal        {}",
                path(custody, bag).display(),
                grouped(&bag.seal_sha256)
            ));
        }
        let fingerprint = grouped(&custody.opened().fingerprint);
        out.answer(format!("fingerprint {fingerprint}"));
        let report = custody.place().join("report/incident.html");
        out.answer(format!("report      {}", report.display()));
        for line in &self.undo {
            out.answer(format!("undo        {line}"));
        }
        out.answer(format!("next        {}", self.next));
    }
}

fn bodies<T: serde::de::DeserializeOwned>(history: &History, kind: &str, end: &RunEnd) -> Vec<T> {
    history
        .bodies::<T>(kind)
        .filter(|(e, _)| e.run() == Some(end.run.as_str()))
        .map(|(_, body)| body)
        .collect()
}

fn path(custody: &Custody, bag: &BagSealed) -> PathBuf {
    let name = format!("{}_{}", custody.id(), bag.bag);
    custody.place().join("bags").join(name)
}

/// Capture and report may fail without the containment being worse for it; an isolation that holds is then exit 5, not 1.
fn exit(end: &RunEnd, of_verdict: Exit) -> Exit {
    let exit = exit_of(end).worst(of_verdict);
    let only_beside = !end.failed.is_empty() && end.failed.iter().all(|p| !p.contains("isolate"));
    let completed = matches!(end.ending, Ending::Completed);
    if exit == Exit::Failed && only_beside && of_verdict != Exit::Failed && completed {
        return Exit::Missed;
    }
    exit
}

/// What gives the pod back. The ledger that holds its writes is the one whose incident isolated it, perhaps before this one.
fn undo(pod: &ContainmentPlanned, here: &str) -> String {
    let (head, _) = pod
        .containment
        .rsplit_once('-')
        .unwrap_or((&pod.containment, ""));
    let there = head.to_ascii_uppercase();
    // A long id is cut off in a label: then it is this one as far as it can be told.
    let incident = if here.starts_with(&there) {
        here
    } else {
        there.as_str()
    };
    format!(
        "firebreak contain release {}/{} --incident {incident}",
        pod.pod.namespace, pod.pod.name
    )
}

/// What helps most now: what a run waits for, then the same again for a pod that is not proven isolated, then the check of it all.
fn next(end: &RunEnd, pods: &[ContainmentPlanned], proofs: &[Proof], id: &str) -> String {
    if let Ending::Parked(h) | Ending::InDoubt(h) = &end.ending {
        return h.hint.clone();
    }
    let unproven = |p: &&ContainmentPlanned| {
        let of = |q: &Proof| q.pod_uid == p.pod.uid && q.verdict == "isolated";
        !proofs.iter().any(of)
    };
    match pods.iter().find(unproven) {
        // The same command again isolates what is not, and proves what is.
        Some(p) => format!(
            "firebreak contain pod {}/{} --incident {id}",
            p.pod.namespace, p.pod.name
        ),
        None => "firebreak verify --last".to_owned(),
    }
}

fn proof_lines(proof: &Proof) -> Vec<String> {
    let why = if proof.why.is_empty() {
        String::new()
    } else {
        format!(": {}", proof.why.join("; "))
    };
    let open = proof.open_connections.iter();
    let cut = proof.cut_connections.iter();
    std::iter::once(format!("  {} {}{why}", proof.pod, proof.verdict))
        .chain(open.map(|c| format!("    still open: {c}")))
        .chain(cut.map(|c| format!("    stands, nothing gets through: {c}")))
        .collect()
}

fn to_rotate(listed: &Credentials) -> String {
    let role = listed.role_arn.as_deref();
    let role = role.map(|a| format!(", role {a}")).unwrap_or_default();
    let secrets: Vec<&str> = listed.secrets.keys().map(String::as_str).collect();
    let secrets = if secrets.is_empty() {
        "none".to_owned()
    } else {
        secrets.join(", ")
    };
    format!(
        "  rotate: service account {}{role}; secrets {secrets}",
        listed.service_account
    )
}

/// The verdict over all pods: a bypass anywhere is first. `unproven`: a pod of this run has no proof at all. `left_alone`: a pod that was
/// named could not be isolated.
fn verdict(
    proofs: &[Proof],
    isolated: bool,
    unproven: bool,
    left_alone: bool,
) -> (&'static str, Exit) {
    let any = |v: &str| proofs.iter().any(|p| p.verdict == v);
    if any("not-contained") {
        ("not contained", Exit::Failed)
    } else if !isolated {
        ("not isolated", Exit::Failed)
    } else if left_alone {
        ("not contained: a pod was left alone", Exit::Failed)
    } else if unproven || proofs.is_empty() || any("not-proven") {
        ("isolated, not proven", Exit::Missed)
    } else {
        ("contained: isolation is proven", Exit::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(containment: &str) -> ContainmentPlanned {
        let pod = json!({"kind": "Pod", "namespace": "shop", "name": "web", "uid": "u"});
        serde_json::from_value(json!({
            "containment": containment, "pod": pod, "node": "n", "owner": "none", "services": [], "still_allowed": [],
            "still_selecting": [], "move_out": {}, "cannot": [], "warnings": [], "already": true,
        }))
        .expect("a plan")
    }

    #[test]
    fn a_pod_that_was_isolated_already_is_given_back_by_the_incident_that_did_it() {
        let here = "INC-20261124-7K2Q";
        assert_eq!(
            undo(&planned("inc-20261124-7k2q-0a1b2c3d"), here),
            "firebreak contain release shop/web --incident INC-20261124-7K2Q"
        );
        assert_eq!(
            undo(&planned("inc-20261101-aaaa-0a1b2c3d"), here),
            "firebreak contain release shop/web --incident INC-20261101-AAAA"
        );
        let long = format!("INC-{}", "A".repeat(50));
        let cut = format!("inc-{}-0a1b2c3d", "a".repeat(36));
        assert!(undo(&planned(&cut), &long).ends_with(&long));
    }

    #[test]
    fn what_is_not_proven_is_tried_again_before_it_is_verified() {
        let end = RunEnd {
            run: crate::incident::RunId::parse("run-aaaaaaaaaaaaaaaa").expect("a run"),
            ending: Ending::Completed,
            steps: Default::default(),
            failed: Vec::new(),
            in_doubt: Vec::new(),
            stuck: Vec::new(),
            waiting: Vec::new(),
            interrupted: false,
            values: Default::default(),
        };
        let pods = [planned("inc-20261124-7k2q-0a1b2c3d")];
        let proof = |verdict: &str| -> Proof {
            serde_json::from_value(json!({
                "pod": "shop/web", "pod_uid": "u", "phase": "B", "verdict": verdict, "why": [], "cells": [],
                "open_connections": [], "cut_connections": [], "not_seen": [],
            }))
            .expect("a proof")
        };
        assert_eq!(
            next(&end, &pods, &[proof("not-proven")], "INC-20261124-7K2Q"),
            "firebreak contain pod shop/web --incident INC-20261124-7K2Q"
        );
        assert_eq!(
            next(&end, &pods, &[proof("isolated")], "INC-20261124-7K2Q"),
            "firebreak verify --last"
        );
    }

    #[test]
    fn connections_that_stay_open_and_those_that_are_cut_are_both_told() {
        let proof: Proof = serde_json::from_value(json!({
            "pod": "shop/web", "pod_uid": "u", "phase": "B", "verdict": "not-proven", "why": ["one stays open"], "cells": [],
            "open_connections": ["10.0.0.1:1 → 10.0.0.2:2"], "cut_connections": ["10.0.0.1:3 → 10.0.0.2:4"], "not_seen": [],
        }))
        .expect("a proof");
        assert_eq!(
            proof_lines(&proof),
            [
                "  shop/web not-proven: one stays open",
                "    still open: 10.0.0.1:1 → 10.0.0.2:2",
                "    stands, nothing gets through: 10.0.0.1:3 → 10.0.0.2:4",
            ]
        );
    }
}
