//! The first minute: three commands, then what kubectl, a client, and the tools of a stranger see. Release gives everything back.

use std::path::Path;
use std::process::Command;

use crate::scene::{Found, endpoints, is_as_found, is_isolated, our_policies, shared};
use crate::support::lab::{Lab, Reach, Shop, wait_for};
use crate::support::responder::Responder;

#[test]
fn three_commands_contain_a_pod_and_release_gives_it_back_as_it_was_found() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let shop = lab.shop();
    let (ns, pod) = (&shop.namespace, shop.compromised.as_str());
    // One too many after the release, its ReplicaSet then ends another pod than this one.
    let cost = "controller.kubernetes.io/pod-deletion-cost=1000";
    ns.kubectl(["annotate", "pod", pod, cost]);
    let found = Found::look(ns, pod);
    let address = ns.address(pod);
    let before = ns.pods("app=web");
    assert!(before.len() == 2 && before.iter().any(|p| p == pod));
    wait_for("the Service to serve by it", || {
        endpoints(ns, "web").contains(&address).then_some(())
    });
    let client = ns.pods("app=client")[0].clone();
    ns.wait_until(Reach::Served, &client, &address, 8080);

    let responder = Responder::new("first-minute", &lab.kubeconfig());
    responder.types(["doctor"]).ends(0).says("0 missing");
    let full = format!("{}/{pod}", ns.name);
    // The intruder's connection stays open, which is said, and is what keeps the verdict from more.
    let contained = responder.contains(&full).ends(5);
    let answer = contained.json();
    assert_eq!(answer["verdict"], "isolated, not proven", "{contained}");
    let open = &answer["proofs"][0]["open_connections"];
    assert!(open.to_string().contains(":4444"), "{open}");
    assert!(
        answer["credentials"][0]
            .to_string()
            .contains("role/shop-web")
    );
    assert_eq!(answer["failed"], serde_json::json!([]));

    is_isolated(ns, pod, "web");
    others_see_it_isolated(&shop, &client, &address);
    bags_satisfy_strangers(&responder, answer["fingerprint"].as_str().expect("hex"));
    responder.types(["verify", "--last"]).ends(0);
    let page = responder.place().join("report/incident.html");
    let page = std::fs::read_to_string(page).expect("the report");
    assert!(page.contains(pod) && !page.contains("not-a-real-password"));

    responder.releases(&full).ends(0);
    is_as_found(ns, pod, &found);
    assert_eq!(our_policies(ns), Vec::<String>::new());
    ns.wait_until(Reach::Served, &client, &address, 8080);
    wait_for("the Service to serve by it again", || {
        endpoints(ns, "web").contains(&address).then_some(())
    });
    responder.types(["verify", "--last"]).ends(0);
}

fn others_see_it_isolated(shop: &Shop, client: &str, address: &str) {
    let (ns, pod) = (&shop.namespace, shop.compromised.as_str());
    let found = Found::look(ns, pod);
    assert!(found.label("app").is_none(), "it left app=web: {found:?}");
    ns.wait_until(Reach::Refused, client, address, 8080);
    // Two pods serve again, none of them this one, and each still has what the intruder has no more.
    let web = wait_for("a replacement", || {
        let pods = ns.pods("app=web");
        let ready = |p: &String| {
            let path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
            ns.kubectl(["get", "pod", p, "-o", path]) == "True"
        };
        (pods.len() == 2 && pods.iter().all(ready)).then_some(pods)
    });
    assert!(!web.iter().any(|p| p == pod), "{web:?}");
    for sibling in &web {
        assert_eq!(Found::look(ns, sibling).label("firebreak/quarantine"), None);
        ns.wait_until(Reach::Served, client, &ns.address(sibling), 8080);
    }
    let api = ns.address(&ns.pods("app=api")[0]);
    ns.wait_until(Reach::Served, &web[0], &api, 8080);
    let line = format!("nc -w 2 {api} 8080 </dev/null && echo reached || true");
    let tried = ns.kubectl(["exec", pod, "-c", "web", "--", "sh", "-c", &line]);
    assert!(!tried.contains("reached"), "{tried}");
}

/// Each bag by `sha256sum`, `VERIFY.sh` under dash and busybox, openssl, and bagit where this Python has it.
pub fn bags_satisfy_strangers(responder: &Responder, fingerprint: &str) {
    let bags = responder.bags();
    assert!(bags.len() >= 3, "{bags:?}");
    for bag in &bags {
        for manifest in ["manifest-sha256.txt", "tagmanifest-sha256.txt"] {
            runs(bag, "sha256sum", &["-c", "--quiet", manifest]);
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/evidence/scripts/VERIFY.sh");
        runs(bag, "dash", &[script, ".", fingerprint]);
        openssl_agrees(bag);
        match std::env::var("FIREBREAK_PYTHON") {
            Ok(python) => {
                let code = "import bagit,sys; bagit.Bag(sys.argv[1]).validate()";
                runs(bag, &python, &["-c", code, "."]);
            }
            Err(_) => eprintln!("SKIPPED bagit: needs FIREBREAK_PYTHON, see tests/run"),
        }
    }
}

/// The signature of the seal by stock openssl: the text above the blank line, the key that travels with the bag.
fn openssl_agrees(bag: &Path) {
    let script = r#"
        set -e
        work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
        sed '/^$/,$d' seal/seal.note > "$work/text"
        sed -n 's/^— [^ ]* //p' seal/seal.note | base64 -d | tail -c 64 > "$work/signature"
        openssl pkeyutl -verify -rawin -pubin -inkey keys/*.pem -in "$work/text" -sigfile "$work/signature"
    "#;
    runs(bag, "sh", &["-c", script]);
}

fn runs(folder: &Path, program: &str, args: &[&str]) {
    let done = Command::new(program)
        .args(args)
        .current_dir(folder)
        .output();
    let done = done.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(
        done.status.success(),
        "{program} {args:?} in {}: {}{}",
        folder.display(),
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}
