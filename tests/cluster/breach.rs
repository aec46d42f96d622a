//! The runbook's breach, by the `team` policy: two people with keys, one who runs it, every manual step answered by a person.

use std::path::Path;
use std::process::Command;

use crate::first_minute::bags_satisfy_strangers;
use crate::scene::{Found, alone, is_as_found, is_isolated, our_policies, uncordon};
use crate::support::lab::Lab;
use crate::support::responder::{Answer, Responder};

/// People, their roles, and keys made by the stock `ssh-keygen`.
fn team(folder: &Path) {
    let mut people = "firebreak: people/v1\npeople:\n".to_owned();
    let mut signers = String::new();
    for (id, roles) in [
        ("amira", "incident-commander, devops, dpo, management"),
        ("jo", "security-officer"),
    ] {
        let key = folder.join(id);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
            .arg(&key)
            .status();
        assert!(made.expect("ssh-keygen runs").success());
        let public = std::fs::read_to_string(key.with_extension("pub")).expect("a public key");
        people.push_str(&format!(
            "  - {{ id: {id}, name: {id}, principal: {id}@example.org, roles: [{roles}] }}\n"
        ));
        signers.push_str(&format!(
            "{id}@example.org namespaces=\"approval@firebreak\",valid-after=\"20200101Z\",valid-before=\"20991231Z\" {}\n",
            public.trim()
        ));
    }
    std::fs::write(folder.join("people.yaml"), people).expect("written");
    std::fs::write(folder.join("allowed_signers"), signers).expect("written");
}

/// Undoes a cordon that a failed test left.
struct Uncordon<'a>(&'a Lab);

impl Drop for Uncordon<'_> {
    fn drop(&mut self) {
        uncordon(self.0);
    }
}

fn answers(responder: &Responder, step: &str) {
    let text = "done, and seen by two of us";
    responder.types(["incident", "answer", step, text]).ends(0);
}

fn resumes(responder: &Responder) -> Answer {
    responder.types(["resume"])
}

#[test]
fn the_breach_playbook_runs_to_its_end_by_signatures_and_answers() {
    let Some(lab) = Lab::find() else { return };
    let _node = alone();
    let _cordon = Uncordon(&lab);
    let shop = lab.shop();
    // The one without a connection that stays open: all that can be proven is.
    let ns = &shop.namespace;
    let mut clean = ns.pods("app=web").into_iter();
    let clean = clean.find(|p| *p != shop.compromised);
    let pod = clean.as_deref().expect("a second pod");
    ns.kubectl([
        "annotate",
        "pod",
        pod,
        "controller.kubernetes.io/pod-deletion-cost=1000",
    ]);
    let found = Found::look(ns, pod);
    let responder = Responder::new("breach", &lab.kubeconfig());
    team(responder.folder());
    responder
        .types([
            "policy",
            "init",
            "--people",
            "people.yaml",
            "--signers",
            "allowed_signers",
        ])
        .ends(0);
    let title = "Breach in the shop";
    let opened = responder.types(["incident", "open", title, "--severity", "SEV1", "--json"]);
    let opened = opened.ends(0).json();
    assert_eq!(opened["policy"], "team");
    let (space, name) = (format!("ns={}", ns.name), format!("pod={pod}"));
    let planned = responder
        .types([
            "playbook",
            "plan",
            "security-breach",
            "--var",
            &space,
            "--var",
            &name,
            "--var",
            "watch=1s",
            "--as",
            "amira",
            "-o",
            "plan.json",
            "--json",
        ])
        .ends(0)
        .json();
    let digest = planned["digest"].as_str().expect("a digest")[..12].to_owned();
    let apply = [
        "playbook",
        "apply",
        "plan.json",
        "--as",
        "amira",
        "--confirm",
    ];
    let apply: Vec<&str> = apply.into_iter().chain([digest.as_str()]).collect();
    responder.types_with(&[], &apply).ends(3);

    answers(&responder, "declare");
    resumes(&responder)
        .ends(3)
        .says("act/main/isolate: 1 signature");
    assert_eq!(
        Found::look(ns, pod),
        found,
        "nothing was done before it was signed"
    );
    // Who does not hold the role cannot give it: neither with another's principal nor with the wrong key.
    let approve = |principal: &str, key: &str| {
        let step = "act/main/isolate";
        responder.types([
            "playbook",
            "approve",
            "--step",
            step,
            "--principal",
            principal,
            "--key",
            key,
        ])
    };
    approve("jo@example.org", "amira").ends(4);
    approve("jo@example.org", "jo").ends(0);
    let ran = resumes(&responder).ends(3);
    is_isolated(ns, pod, "web");
    let node = lab.kubectl(["get", "node", "node-1", "-o", "json"]);
    assert!(node.contains("\"unschedulable\": true"), "{ran}");

    for step in [
        "act/alert/answered",
        "act/privacy/personal-data",
        "act/main/secure/cut/sessions/by-hand",
        "act/main/secure/preserve/cloud-trail/by-hand",
    ] {
        answers(&responder, step);
    }
    resumes(&responder).ends(3).says("act/main/scope");
    for step in ["scope", "rotate/by-hand", "patch"] {
        answers(&responder, &format!("act/main/{step}"));
        resumes(&responder).ends(3);
    }
    responder
        .types([
            "incident",
            "answer",
            "act/main/decide",
            "no data was changed",
            "--value",
            "restore=no",
        ])
        .ends(0);
    resumes(&responder).ends(3).says("act/main/readmit");
    answers(&responder, "act/main/readmit");
    // The last check of the run asks the probes again.
    resumes(&responder).ends(3).says("reach  verified");
    the_document_is_built(&responder);
    bags_satisfy_strangers(&responder, opened["fingerprint"].as_str().expect("hex"));

    // Isolation holds until somebody asks for its end; under `team` that takes two people.
    is_isolated(ns, pod, "web");
    responder.types(["verify", "--last"]).ends(0);
    is_released(&responder, &format!("{}/{pod}", ns.name));
    is_as_found(ns, pod, &found);
    assert_eq!(our_policies(ns), Vec::<String>::new());
}

fn the_document_is_built(responder: &Responder) {
    answers(responder, "lessons");
    resumes(responder).ends(3);
    answers(responder, "review");
    resumes(responder).ends(0).says("completed");
    responder.types(["report", "build"]).ends(0);
    // What only a person can write is open, and named.
    responder.types(["report", "check"]).ends(3).says("FB1001");
    let text = std::fs::read_to_string(responder.place().join("report/incident.md"));
    let text = text.expect("the document");
    assert!(
        text.contains("jo\\@example.org as security, signed"),
        "who approved, and as what"
    );
    assert!(
        text.contains("does not count: FB0503"),
        "and whose key did not hold"
    );
}

/// Taking it back is irreversible: it waits for two people, and the one who runs it is one of them.
fn is_released(responder: &Responder, pod: &str) {
    responder.releases(pod).ends(3).says("2 signatures");
    for person in ["amira", "jo"] {
        let principal = format!("{person}@example.org");
        let approve = [
            "playbook",
            "approve",
            "--step",
            "release",
            "--principal",
            &principal,
            "--key",
            person,
        ];
        responder.types(approve).ends(0);
    }
    resumes(responder).ends(0);
}
