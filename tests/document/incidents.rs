//! The fixture histories themselves.

use std::collections::BTreeMap;

use firebreak::incident::body::*;
use firebreak::incident::*;
use serde_json::json;

use super::histories::{Story, at, hex};

pub fn outline(
    path: &str,
    name: &str,
    step: &str,
    action: &str,
    phase: Phase,
    effect: Effect,
) -> StepOutline {
    StepOutline {
        path: path.into(),
        name: name.into(),
        kind: step.into(),
        action: (!action.is_empty()).then(|| action.into()),
        phase: Some(phase),
        effect,
        runbook: vec!["3.2".into()],
        expected_s: Some(60),
    }
}

fn pod() -> ObjectRef {
    ObjectRef {
        kind: "Pod".into(),
        namespace: "shop".into(),
        name: "web-7d9".into(),
        uid: "5d0e0000-0000-4000-8000-000000000002".into(),
    }
}

fn proof(phase: &str, verdict: &str) -> Proof {
    let cell = |direction: &str, from: &str, to: &str, verdict: &str| ProofCell {
        direction: direction.into(),
        from: from.into(),
        to: to.into(),
        before: "open".into(),
        after: if verdict == "match" { "silent" } else { "open" }.into(),
        control: "open".into(),
        verdict: verdict.into(),
        basis: "probe pod firebreak-probe-1".into(),
    };
    Proof {
        pod: "shop/web-7d9".into(),
        pod_uid: pod().uid,
        phase: phase.into(),
        verdict: verdict.into(),
        why: if verdict == "isolated" {
            vec![]
        } else {
            vec!["policy shop/legacy-allow still allows egress".into()]
        },
        cells: vec![
            cell("ingress", "shop/probe", "10.244.0.7:8080/TCP", "match"),
            cell(
                "egress",
                "shop/web-7d9",
                "10.244.0.9:5432/TCP",
                if verdict == "isolated" {
                    "match"
                } else {
                    "bypass"
                },
            ),
        ],
        time_to_enforce_ms: Some(820),
        open_connections: vec!["10.244.0.7:41234 → 203.0.113.9:443/TCP".into()],
        cut_connections: vec!["10.244.0.7:41236 → 203.0.113.9:8443/TCP".into()],
        not_seen: vec!["traffic that leaves through the node's own network".into()],
    }
}

/// A ledger and a declaration.
pub fn tiny() -> History {
    let mut s = Story::new(Mode::Live);
    s.time(30)
        .by("ayse@laptop")
        .declare("Web pod talks to an unknown host");
    s.history()
}

/// Declared, contained only in part, nothing else yet.
pub fn open_draft() -> History {
    let mut s = Story::new(Mode::Live);
    s.time(30)
        .by("ayse@laptop")
        .declare("Web pod talks to an unknown host");
    s.time(60).created(
        "solo",
        vec![
            outline(
                "isolate",
                "Isolate the pod",
                "call",
                "contain.isolate",
                Phase::Containment,
                Effect::Reversible,
            ),
            outline(
                "approve",
                "Delete the pod?",
                "approve",
                "",
                Phase::Containment,
                Effect::Destructive,
            ),
        ],
    );
    s.start("isolate", "contain.isolate", Effect::Reversible);
    s.wait(4)
        .tell(kind::CONTAIN_PROVEN, &proof("A", "not-contained"));
    s.finish(
        "isolate",
        Outcome::Done,
        "result",
        "isolated, not contained: a policy still allows egress",
    );
    s.wait(1).gate("approve", Effect::Destructive);
    s.apart().by("ayse@laptop").tell(
        kind::REPORT_TEXT,
        &ReportText {
            section: "executive-summary".into(),
            text: None,
            sha256: hex(b"a text that is not there"),
        },
    );
    s.history()
}

/// Every outcome there is.
pub fn every_outcome() -> History {
    let c = Phase::Containment;
    let step = |path: &str, effect| outline(path, path, "call", "contain.isolate", c, effect);
    let mut s = Story::new(Mode::Live);
    s.time(30).by("ayse@laptop").declare("Every outcome");
    s.time(40).created(
        "solo",
        vec![
            step("done", Effect::Reversible),
            step("failed", Effect::Reversible),
            step("in-doubt", Effect::Reversible),
            step("undone", Effect::Reversible),
            step("stuck", Effect::Reversible),
            step("skipped", Effect::Read),
            step("alone", Effect::Irreversible),
            step("glass", Effect::Destructive),
            step("forced", Effect::Reversible),
            outline("by-hand", "Ask the provider", "manual", "", c, Effect::Read),
            step("never", Effect::Read),
        ],
    );
    s.wait(1)
        .start("done", "contain.isolate", Effect::Reversible);
    s.wait(2)
        .finish("done", Outcome::Done, "result", "isolated");
    s.wait(1)
        .start("failed", "contain.isolate", Effect::Reversible);
    s.wait(2).finish(
        "failed",
        Outcome::Failed,
        "result",
        "the right to patch pods is missing",
    );
    s.wait(1)
        .start("in-doubt", "contain.isolate", Effect::Reversible);
    s.wait(9).tell(
        kind::STEP_IN_DOUBT,
        &StepInDoubt {
            known: "no reply from the API server within 10 s".into(),
            observed: false,
            hint: "firebreak resume".into(),
        },
    );
    s.start("undone", "contain.isolate", Effect::Reversible);
    s.wait(2)
        .finish("undone", Outcome::Done, "result", "isolated");
    for (path, outcome) in [("undone", Outcome::Undone), ("stuck", Outcome::Stuck)] {
        s.step(path).tell(
            kind::UNDO_STARTED,
            &UndoStarted {
                call_sha256: hex(b"undo"),
                what: "contain.release".into(),
            },
        );
        let left = if outcome == Outcome::Stuck {
            vec!["remove the label firebreak/quarantine from shop/web-7d9".into()]
        } else {
            vec![]
        };
        s.wait(2).tell(
            kind::UNDO_FINISHED,
            &UndoFinished {
                outcome,
                summary: format!("release: {outcome}"),
                left,
            },
        );
    }
    s.finish(
        "skipped",
        Outcome::Done,
        "skipped",
        "done_if was true: it is cordoned already",
    );
    s.gate("alone", Effect::Irreversible).wait(20).decide(
        "alone",
        "ayse@laptop",
        "typed",
        Decision::Approve,
    );
    s.start("alone", "contain.isolate", Effect::Irreversible)
        .wait(1)
        .finish("alone", Outcome::Done, "result", "deleted");
    s.gate("glass", Effect::Destructive).wait(20).decide(
        "glass",
        "ayse@laptop",
        "signed",
        Decision::BreakGlass,
    );
    s.start("glass", "contain.isolate", Effect::Destructive)
        .wait(1)
        .finish("glass", Outcome::Done, "result", "deleted");
    s.start("forced", "contain.isolate", Effect::Reversible)
        .wait(5);
    s.tell(
        kind::STEP_IN_DOUBT,
        &StepInDoubt {
            known: "no reply".into(),
            observed: false,
            hint: "firebreak incident resolve".into(),
        },
    );
    s.wait(30).by("ayse@laptop").tell(
        kind::STEP_RESOLVED,
        &StepResolved {
            verdict: "ran".into(),
            by: "person".into(),
            reason: "kubectl shows the policy".into(),
        },
    );
    s.start("by-hand", "", Effect::Read)
        .wait(60)
        .by("ayse@laptop")
        .tell(
            kind::ANSWER,
            &Answer {
                text: "they blocked the address".into(),
                outcome: Outcome::Done,
                values: BTreeMap::new(),
            },
        );
    s.step("never").tool().tell(
        kind::GATE_EXPIRED,
        &GateExpired {
            then: "park".into(),
        },
    );
    s.run().tell(
        kind::RUN_PARKED,
        &RunParked {
            why: "step in-doubt needs a decision".into(),
            steps: vec!["in-doubt".into()],
            hint: "firebreak incident resolve".into(),
        },
    );
    s.apart().tool().tell(
        kind::NOTICE_FAILED,
        &Notice {
            to: vec!["legal".into()],
            channel: "webhook".into(),
            text: "incident declared".into(),
            error: Some("connection refused".into()),
        },
    );
    s.by("ayse@laptop")
        .milestone(Milestone::Restored, "statement", Some(400));
    s.history()
}

/// Scenario 3 with several hundred entries.
pub fn breach(mode: Mode) -> History {
    let mut s = Story::new(mode);
    s.time(20)
        .by("ayse@laptop")
        .milestone(Milestone::Detected, "statement", Some(-600));
    s.time(300).declare("Intruder in the web tier of the shop");
    s.milestone(Milestone::Acknowledged, "statement", Some(60));
    let mut steps = vec![
        outline(
            "capture",
            "Capture what is volatile",
            "call",
            "acquire.pod",
            Phase::Triage,
            Effect::Read,
        ),
        outline(
            "isolate",
            "Isolate the pod",
            "call",
            "contain.isolate",
            Phase::Containment,
            Effect::Reversible,
        ),
        outline(
            "ask",
            "Ask the database owner",
            "manual",
            "",
            Phase::Containment,
            Effect::Read,
        ),
        outline(
            "settle",
            "Wait for the caches",
            "wait",
            "",
            Phase::Recovery,
            Effect::Read,
        ),
        outline(
            "back",
            "Bring the shop back",
            "call",
            "recover.restart",
            Phase::Recovery,
            Effect::Irreversible,
        ),
        outline(
            "tell",
            "Tell the customers' desk",
            "notify",
            "",
            Phase::Recovery,
            Effect::Read,
        ),
    ];
    for n in 0..40 {
        steps.push(outline(
            &format!("sweep/pod-{n}"),
            &format!("Sweep pod {n}"),
            "call",
            "acquire.pod",
            Phase::Eradication,
            Effect::Read,
        ));
    }
    s.time(330).created("team", steps);
    s.wait(5).start("capture", "acquire.pod", Effect::Read);
    s.bag(1, "sockets and processes of shop/web-7d9")
        .bag(2, "logs of shop/web-7d9");
    s.finish("capture", Outcome::Done, "result", "2 bags sealed");
    s.wait(2).gate("isolate", Effect::Reversible);
    s.wait(45)
        .decide("isolate", "mehmet@example.org", "signed", Decision::Approve);
    s.wait(30)
        .decide("isolate", "zeynep@example.org", "signed", Decision::Approve);
    s.wait(1)
        .start("isolate", "contain.isolate", Effect::Reversible);
    s.tell(
        kind::CONTAINMENT_PLANNED,
        &ContainmentPlanned {
            containment: "c-7k2q".into(),
            pod: pod(),
            node: "node-1".into(),
            owner: "ReplicaSet/web".into(),
            services: vec!["web".into()],
            still_allowed: vec!["shop/allow-dns: egress to kube-dns:53".into()],
            still_selecting: vec![],
            move_out: BTreeMap::new(),
            cannot: vec!["the node itself always reaches its pods".into()],
            warnings: vec![],
            already: false,
        },
    );
    for what in ["create_policy", "label", "move_out"] {
        let labels = BTreeMap::from([("labels/firebreak".to_owned(), Some("c-7k2q".to_owned()))]);
        s.tell(
            kind::WRITE_INTENDED,
            &WriteIntended {
                object: pod(),
                what: what.into(),
                before: BTreeMap::new(),
                written: labels.clone(),
                reversal: false,
            },
        );
        s.wait(1).tell(
            kind::WRITE_SEEN,
            &WriteSeen {
                object: pod(),
                what: what.into(),
                seen: labels,
                verdict: "written".into(),
                reversal: false,
            },
        );
    }
    s.wait(3)
        .tell(kind::CONTAIN_PROVEN, &proof("A", "not-contained"));
    s.wait(3)
        .tell(kind::CONTAIN_PROVEN, &proof("B", "isolated"));
    s.tell(
        kind::CONTAIN_CANARY,
        &Canary {
            node: "node-1".into(),
            verdict: "enforced".into(),
            seen: vec!["open".into(), "denied".into(), "open again".into()],
            why: None,
        },
    );
    s.tell(
        kind::CREDENTIALS_LISTED,
        &Credentials {
            pod: pod(),
            service_account: "web".into(),
            role_arn: Some("arn:aws:iam::111122223333:role/shop-web".into()),
            secrets: BTreeMap::from([("shop-db".into(), vec!["envFrom".into()])]),
        },
    );
    s.finish(
        "isolate",
        Outcome::Done,
        "result",
        "isolated after 820 ms, every probe blocked",
    );
    s.milestone(Milestone::Contained, "step", None);
    s.wait(10).start("ask", "", Effect::Read);
    s.run().tell(
        kind::RUN_PARKED,
        &RunParked {
            why: "a person answers".into(),
            steps: vec!["ask".into()],
            hint: "firebreak incident answer ask".into(),
        },
    );
    s.wait(600).step("ask").by("ayse@laptop").tell(
        kind::ANSWER,
        &Answer {
            text: "no query beyond the usual".into(),
            outcome: Outcome::Done,
            values: BTreeMap::new(),
        },
    );
    s.run()
        .tool()
        .tell(kind::RUN_RESUMED, &RunResumed { epoch: 2 });
    s.finish("ask", Outcome::Done, "answer", "answered");
    for n in 0..40 {
        let path = format!("sweep/pod-{n}");
        s.wait(1).start(&path, "acquire.pod", Effect::Read);
        s.bag(10 + n, &format!("logs of pod {n}"));
        s.finish(&path, Outcome::Done, "result", "sealed");
    }
    s.step("sweep/pod-39")
        .milestone(Milestone::Eradicated, "step", None);
    s.wait(1)
        .start("settle", "", Effect::Read)
        .wait(300)
        .finish("settle", Outcome::Done, "result", "waited 5 min");
    s.wait(1)
        .start("back", "recover.restart", Effect::Irreversible)
        .wait(5);
    s.tell(
        kind::STEP_IN_DOUBT,
        &StepInDoubt {
            known: "no reply from the API server".into(),
            observed: false,
            hint: "firebreak resume".into(),
        },
    );
    s.wait(40).tell(
        kind::STEP_RESOLVED,
        &StepResolved {
            verdict: "ran".into(),
            by: "probe".into(),
            reason: "all replicas are ready".into(),
        },
    );
    s.finish("back", Outcome::Done, "probe", "all replicas are ready");
    s.milestone(Milestone::Restored, "step", None);
    s.wait(5).start("tell", "print", Effect::Read);
    s.tell(
        kind::NOTICE_SENT,
        &Notice {
            to: vec!["customers-desk".into()],
            channel: "print".into(),
            text: "The shop is back.".into(),
            error: None,
        },
    );
    s.finish("tell", Outcome::Done, "result", "shown");
    s.run().wait(5).tell(
        kind::RUN_ENDED,
        &RunEnded {
            how: "completed".into(),
            why: None,
        },
    );
    let text =
        "An intruder used the web pod.\n\n- It was isolated and proven so.\n- Evidence is sealed.";
    s.apart().by("ayse@laptop");
    for text in ["first try", text] {
        s.wait(60).tell(
            kind::REPORT_TEXT,
            &ReportText {
                section: "executive-summary".into(),
                text: Some(text.into()),
                sha256: hex(text.as_bytes()),
            },
        );
    }
    s.tell(
        kind::INCIDENT_NOTE,
        &Note {
            text: "The on-call phone rang twice.".into(),
            at: Some(clock_text::millis(at(-300))),
        },
    );
    s.milestone(Milestone::Occurred, "statement", Some(-7200));
    s.milestone(Milestone::Impact, "statement", Some(100));
    s.history()
}

/// Everything that text can try.
pub fn hostile() -> History {
    let evil =
        "<script>document.title='owned'</script><img src=http://evil.example/x onerror=alert(1)>";
    let mut s = Story::new(Mode::Live);
    s.time(30).by("eve<b>@\u{1b}[31mhost").declare(evil);
    s.by("ayse@laptop");
    let texts = [
        "${name} {{ 7*7 }} {% raw %} <%= 1 %>".to_owned(),
        "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m red".to_owned(),
        "invoice\u{202e}fdp.exe \u{2066}isolate\u{2069} zero\u{200b}width".to_owned(),
        "=cmd|' /C calc'!A0".to_owned(),
        "W".repeat(10_240),
        "name\nwith | pipes\r\nand `ticks` ``` and [a](javascript:alert(1)) ![x](http://evil.example/p)".to_owned(),
        "</script></style></title><!-- --><svg onload=alert(1)>\"'><base href=http://evil.example>".to_owned(),
    ];
    for text in &texts {
        s.wait(1).tell(
            kind::INCIDENT_NOTE,
            &Note {
                text: text.clone(),
                at: None,
            },
        );
    }
    let text = format!("# {evil}\n- {}\n> {}", texts[2], texts[5]);
    s.tell(
        kind::REPORT_TEXT,
        &ReportText {
            section: "root-cause".into(),
            text: Some(text.clone()),
            sha256: hex(text.as_bytes()),
        },
    );
    s.tell(
        kind::BAG_OPENED,
        &BagOpened {
            bag: "00<u>".into(),
            purpose: texts[6].clone(),
        },
    );
    s.tell_json("future.kind", json!({"summary": evil, "more": [1, 2]}));
    s.tell_json(kind::STEP_FINISHED, json!({"outcome": "sideways"}));
    s.history()
}
