//! What a containment survives: a reply lost before or after each write, and the power cut after an entry of the ledger.

use crate::scene::{Found, Scene, is_as_found, is_isolated, our_policies, shared};
use crate::support::lab::Lab;
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::responder::{Answer, Responder};

/// Resumes until it needs nobody any more.
fn finished(responder: &Responder, first: Answer) -> Answer {
    let mut last = first;
    for _ in 0..4 {
        if matches!(last.code, Some(0) | Some(5)) {
            return last;
        }
        if last.code == Some(3) {
            // The power was cut before the confirmation was written: it is asked for again.
            let id = responder.incident();
            let approve = [
                "playbook",
                "approve",
                "--confirm",
                &id,
                "--reason",
                "as before",
            ];
            responder.types(approve).ends(0);
        }
        last = responder.types(["resume", "--json"]);
    }
    last.ends_with_one_of(&[0, 5])
}

#[test]
fn a_write_whose_request_or_reply_is_lost_is_made_once_and_release_gives_everything_back() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let cases: Vec<(usize, Fault)> = (1..=3)
        .flat_map(|n| [(n, Fault::LostRequest), (n, Fault::LostReply)])
        .collect();
    let names: Vec<String> = cases
        .iter()
        .map(|(n, f)| {
            format!(
                "web-{n}-{}",
                if *f == Fault::LostReply {
                    "reply"
                } else {
                    "request"
                }
            )
        })
        .collect();
    let pods: Vec<&str> = names.iter().map(String::as_str).collect();
    let scene = Scene::start(&lab, "lost", &pods);
    // Four at once: a containment mostly waits.
    std::thread::scope(|scope| {
        let lanes = (0..4).map(|lane| {
            let (scene, lab, names, cases) = (&scene, &lab, &names, &cases);
            scope.spawn(move || {
                for at in (lane..cases.len()).step_by(4) {
                    loses(lab, scene, &names[at], cases[at]);
                }
            })
        });
        let lanes: Vec<_> = lanes.collect();
        for lane in lanes {
            lane.join().expect("each case holds");
        }
    });
    assert_eq!(our_policies(&scene.namespace), Vec::<String>::new());
}

fn loses(lab: &Lab, scene: &Scene, pod: &str, (nth, fault): (usize, Fault)) {
    let ns = &scene.namespace;
    let found = Found::look(ns, pod);
    let mut responder = Responder::new(&format!("lost-{pod}"), &lab.kubeconfig());
    let proxy = FaultProxy::start(&lab.kubeconfig(), responder.folder());
    responder.use_kubeconfig(proxy.kubeconfig());
    proxy.lose(nth, fault);
    let contained = responder.contains(&scene.full(pod));
    let lost = proxy.writes().iter().filter(|w| w.fault.is_some()).count();
    println!(
        "{pod}: {} writes, {lost} lost, exit {:?}",
        proxy.writes().len(),
        contained.code
    );
    let contained = finished(&responder, contained);
    is_isolated(ns, pod, pod);
    // The policy, the label, the move out of the Service: each took effect once, however often it was sent.
    let effects = proxy.writes();
    let effects = effects
        .iter()
        .filter(|w| w.status.is_some_and(|s| s.is_success()));
    assert_eq!(effects.count(), 3, "{contained}\n{:?}", proxy.writes());
    responder.types(["verify", "--last"]).ends(0);
    responder.releases(&scene.full(pod)).ends(0);
    is_as_found(ns, pod, &found);
}

#[cfg(feature = "fault")]
#[test]
fn a_kill_after_any_entry_leaves_what_resume_brings_to_the_same_end() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    // Before and after the confirmation, inside of the capture, at and after each write, while proving, while building the document.
    let entries = [8, 14, 20, 23, 26, 29, 34, 48];
    let names: Vec<String> = entries.iter().map(|n| format!("web-{n}")).collect();
    let pods: Vec<&str> = names.iter().map(String::as_str).collect();
    let scene = Scene::start(&lab, "killed", &pods);
    std::thread::scope(|scope| {
        let lanes = (0..4).map(|lane| {
            let (scene, lab, names) = (&scene, &lab, &names);
            scope.spawn(move || {
                for at in (lane..entries.len()).step_by(4) {
                    is_killed(lab, scene, &names[at], entries[at]);
                }
            })
        });
        let lanes: Vec<_> = lanes.collect();
        for lane in lanes {
            lane.join().expect("each case holds");
        }
    });
    assert_eq!(our_policies(&scene.namespace), Vec::<String>::new());
}

#[cfg(feature = "fault")]
fn is_killed(lab: &Lab, scene: &Scene, pod: &str, entry: usize) {
    let ns = &scene.namespace;
    let found = Found::look(ns, pod);
    let responder = Responder::new(&format!("killed-{entry}"), &lab.kubeconfig());
    let full = scene.full(pod);
    let fault = format!("kill-after-entry={entry}");
    let contain = ["contain", "pod", &full, "--confirm", &full, "--json"];
    let killed = responder.types_with(&[("FIREBREAK_FAULT", &fault)], &contain);
    assert!(!matches!(killed.code, Some(0) | Some(5)), "{killed}");
    let first = responder.types(["resume", "--json"]);
    // Before the run was written there is nothing to resume: the same command again does it all.
    let first = if first.said("FB0610") {
        responder.contains(&full)
    } else {
        first
    };
    println!(
        "killed after entry {entry}: {:?}, then {:?}",
        killed.code, first.code
    );
    finished(&responder, first);
    is_isolated(ns, pod, pod);
    responder
        .types(["verify", "--last"])
        .ends_with_one_of(&[0, 22]);
    responder.releases(&full).ends(0);
    is_as_found(ns, pod, &found);
}
