//! The role that `permissions VERB` prints is enough for the verb, and one right less is refused by name before anything starts.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::scene::{
    Found, Scene, alone, file, is_as_found, is_isolated, our_policies, shared, uncordon,
};
use crate::support::books::CANARY_THEN_MANY;
use crate::support::lab::{Lab, Namespace, wait_for};
use crate::support::responder::Responder;

/// A kubeconfig of an account that holds exactly what `permissions VERB` prints: the namespaced part in one namespace only.
fn account(lab: &Lab, namespace: &Namespace, folder: &Path, verb: &str) -> PathBuf {
    let nothing = lab.account(namespace, &json!([]), folder);
    let name = nothing
        .file_stem()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let printer = Responder::new(&format!("printer-{name}"), &lab.kubeconfig());
    let printed = printer.types(["permissions", verb]).ends(0).out;
    let printed = printed.replace(
        &format!("name: firebreak-{verb}"),
        &format!("name: {name}-{verb}"),
    );
    lab.apply(&printed);
    let subject = json!([{ "kind": "ServiceAccount", "name": name, "namespace": namespace.name }]);
    let role = |name: String| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name });
    if printed.contains(&format!("name: {name}-{verb}\n")) {
        lab.apply(&json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": name, "namespace": namespace.name }, "roleRef": role(format!("{name}-{verb}")), "subjects": subject }).to_string());
    }
    if printed.contains(&format!("name: {name}-{verb}-cluster\n")) {
        lab.apply(&json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": format!("{name}-wide") }, "roleRef": role(format!("{name}-{verb}-cluster")), "subjects": subject }).to_string());
    }
    nothing
}

#[test]
fn the_printed_roles_contain_and_release_a_pod() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let scene = Scene::start(&lab, "rights", &["web"]);
    let ns = &scene.namespace;
    let found = Found::look(ns, "web");
    let mut responder = Responder::new("rights", &lab.kubeconfig());
    let full = scene.full("web");
    let folder = responder.folder().to_owned();

    responder.use_kubeconfig(&lab.account(ns, &json!([]), &folder));
    responder.contains(&full).ends(4);
    let contain = account(&lab, ns, &folder, "contain");
    responder.use_kubeconfig(&contain);
    responder.types(["doctor", "-n", &ns.name]).ends(0);
    let contained = responder.contains(&full).ends(0).json();
    assert_eq!(contained["verdict"], "contained: isolation is proven");
    is_isolated(ns, "web", "web");
    responder.use_kubeconfig(&lab.account(ns, &json!([]), &folder));
    responder.releases(&full).ends(4);
    is_isolated(ns, "web", "web");
    responder.use_kubeconfig(&account(&lab, ns, &folder, "release"));
    responder.releases(&full).ends(0);
    is_as_found(ns, "web", &found);
}

#[test]
fn a_right_that_is_missing_is_named_before_anything_starts() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let scene = Scene::start(&lab, "missing", &["web"]);
    let ns = &scene.namespace;
    let found = Found::look(ns, "web");
    let mut responder = Responder::new("missing", &lab.kubeconfig());
    let printed = responder
        .types(["permissions", "contain", "--json"])
        .ends(0)
        .json();
    let rules: Vec<Value> = printed["rights"]
        .as_array()
        .expect("rights")
        .iter()
        .filter(|r| !(r["resource"] == "networkpolicies" && r["verb"] == "create"))
        .map(|r| json!({ "apiGroups": [r["group"]], "resources": [r["resource"]], "verbs": [r["verb"]] }))
        .collect();
    let folder = responder.folder().to_owned();
    responder.use_kubeconfig(&lab.account(ns, &json!(rules), &folder));
    let refused = responder.contains(&scene.full("web")).ends(4);
    refused.says("create networkpolicies").says("hint:");
    responder
        .types(["doctor", "-n", &ns.name])
        .ends(4)
        .says("create networkpolicies");
    assert_eq!(Found::look(ns, "web"), found);
    assert_eq!(our_policies(ns), Vec::<String>::new());
}

const ACQUIRE: &str = "firebreak: playbook/v1
id: take
name: Take what there is
version: 1
types: [investigation]
vars:
  ns: { type: string, external: true, description: Namespace }
steps:
  - { id: volatile, call: acquire.volatile, with: { namespace: \"${ns}\", pod: web }, effect: read }
  - { id: manifests, call: acquire.manifests, with: { namespace: \"${ns}\", pod: web }, effect: read }
  - { id: logs, call: acquire.logs, with: { namespace: \"${ns}\", pod: web }, effect: read }
";

const CORDON: &str = "firebreak: playbook/v1
id: cordon
name: Cordon the node of a pod
version: 1
types: [mitigation]
vars:
  ns: { type: string, external: true, description: Namespace }
steps:
  - { id: cordon, call: contain.cordon_node, with: { namespace: \"${ns}\", pod: web }, effect: reversible }
";

#[test]
fn the_printed_role_acquires() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let scene = Scene::start(&lab, "take", &["web"]);
    let ns = &scene.namespace;
    let mut responder = Responder::new("take", &lab.kubeconfig());
    let folder = responder.folder().to_owned();
    file(&folder, "take.yaml", ACQUIRE);
    responder
        .types(["incident", "open", "Look at a pod"])
        .ends(0);
    responder.use_kubeconfig(&lab.account(ns, &json!([]), &folder));
    responder.applies("take.yaml", &ns.name).ends(4);
    responder.use_kubeconfig(&account(&lab, ns, &folder, "acquire"));
    responder.applies("take.yaml", &ns.name).ends(0);
    responder.types(["verify", "--last"]).ends(0);
    assert_eq!(responder.bags().len(), 3);
}

#[test]
fn the_printed_role_cordons_a_node_and_undo_gives_it_back() {
    let Some(lab) = Lab::find() else { return };
    let _node = alone();
    let scene = Scene::start(&lab, "cordon", &["web"]);
    let ns = &scene.namespace;
    let mut responder = Responder::new("cordon", &lab.kubeconfig());
    let folder = responder.folder().to_owned();
    file(&folder, "cordon.yaml", CORDON);
    responder
        .types(["incident", "open", "Look at a node"])
        .ends(0);
    responder.use_kubeconfig(&lab.account(ns, &json!([]), &folder));
    responder.applies("cordon.yaml", &ns.name).ends(4);
    responder.use_kubeconfig(&account(&lab, ns, &folder, "cordon"));
    let spec = || -> Value {
        let node = lab.kubectl(["get", "node", "node-1", "-o", "json"]);
        serde_json::from_str::<Value>(&node).expect("JSON")["spec"].clone()
    };
    let found = spec();
    let cordoned = responder.applies("cordon.yaml", &ns.name);
    let during = spec();
    let id = responder.incident();
    let undone = responder.types(["playbook", "undo", "cordon", "--confirm", &id]);
    let after = spec();
    uncordon(&lab);
    cordoned.ends(0);
    undone.ends(0);
    assert_eq!(during["unschedulable"], true);
    assert_eq!(after, found);
}

#[test]
fn the_printed_roles_run_a_canary_before_many_pods_and_leave_nothing_of_it() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let scene = Scene::start(&lab, "canary", &["web", "api"]);
    let ns = &scene.namespace;
    let found = ["web", "api"].map(|pod| Found::look(ns, pod));
    let mut responder = Responder::new("canary", &lab.kubeconfig());
    let folder = responder.folder().to_owned();
    file(&folder, "many.yaml", CANARY_THEN_MANY);
    responder
        .types(["incident", "open", "Many pods act oddly"])
        .ends(0);
    responder.use_kubeconfig(&account(&lab, ns, &folder, "contain"));
    responder.applies("many.yaml", &ns.name).ends(4);
    assert_eq!(our_policies(ns), Vec::<String>::new());
    let canary = account(&lab, ns, &folder, "canary");
    responder.use_kubeconfig(&merged(&lab, ns, &folder, &canary));
    responder.applies("many.yaml", &ns.name).ends(0);
    let seen = responder
        .types(["log", "--kind", "contain.canary", "--json"])
        .ends(0)
        .json();
    assert_eq!(seen["entries"][0]["body"]["verdict"], "enforced", "{seen}");
    for pod in ["web", "api"] {
        is_isolated(ns, pod, pod);
    }
    let left = lab.kubectl([
        "get",
        "replicaset,networkpolicy",
        "-n",
        "firebreak-hands",
        "-o",
        "name",
    ]);
    let name = responder.incident().to_ascii_lowercase();
    assert!(!left.contains(&name), "{left}");
    responder.use_kubeconfig(&lab.kubeconfig());
    for (pod, found) in ["web", "api"].iter().zip(found) {
        responder.releases(&scene.full(pod)).ends(0);
        is_as_found(ns, pod, &found);
    }
    assert_eq!(our_policies(ns), Vec::<String>::new());
}

/// The account of one role, with another verb's role bound to it too.
fn merged(lab: &Lab, namespace: &Namespace, folder: &Path, of: &Path) -> PathBuf {
    let other = account(lab, namespace, folder, "contain");
    let name = |path: &Path| {
        let stem = path.file_stem().expect("a name");
        stem.to_string_lossy().into_owned()
    };
    let (subject, roles) = (name(of), name(&other));
    let subjects =
        json!([{ "kind": "ServiceAccount", "name": subject, "namespace": namespace.name }]);
    for (kind, role, at) in [
        (
            "RoleBinding",
            format!("{roles}-contain"),
            Some(&namespace.name),
        ),
        (
            "ClusterRoleBinding",
            format!("{roles}-contain-cluster"),
            None,
        ),
    ] {
        let mut binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": { "name": format!("{subject}-too") }, "subjects": subjects,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role } });
        if let Some(namespace) = at {
            binding["metadata"]["namespace"] = json!(namespace);
        }
        lab.apply(&binding.to_string());
    }
    of.to_owned()
}

const DELETE: &str = "firebreak: playbook/v1
id: delete
name: Delete a pod whose evidence is safe
version: 1
types: [mitigation]
vars:
  ns: { type: string, external: true, description: Namespace }
  uid: { type: string, external: true, description: UID }
  bag: { type: string, external: true, description: Bag }
steps:
  - id: delete
    call: contain.delete_pod
    with: { namespace: \"${ns}\", pod: web, uid: \"${uid}\", bag: \"${bag}\" }
    effect: irreversible
";

#[test]
fn the_printed_role_deletes_a_pod_once_its_bag_is_verified_and_not_before() {
    let Some(lab) = Lab::find() else { return };
    let _node = shared();
    let scene = Scene::start(&lab, "delete", &["web"]);
    let ns = &scene.namespace;
    let uid = ns.object("pod/web")["metadata"]["uid"].clone();
    let uid = uid.as_str().expect("a UID").to_owned();
    let mut responder = Responder::new("delete", &lab.kubeconfig());
    let folder = responder.folder().to_owned();
    file(&folder, "take.yaml", ACQUIRE);
    file(&folder, "delete.yaml", DELETE);
    responder
        .types(["incident", "open", "A pod must go"])
        .ends(0);
    responder.applies("take.yaml", &ns.name).ends(0);
    let vars = |space: &str| {
        [
            format!("ns={space}"),
            format!("uid={uid}"),
            "bag=0001".to_owned(),
        ]
    };
    let [space, uid_is, bag] = vars(&ns.name);
    let plan = [
        "playbook",
        "plan",
        "delete.yaml",
        "--var",
        &space,
        "--var",
        &uid_is,
        "--var",
        &bag,
        "-o",
        "delete.json",
        "--json",
    ];
    // Sealed is not enough: nobody has looked at the bag since.
    responder.types(plan).ends(1).says("was not verified since");
    responder.types(["verify", "--last"]).ends(0);
    responder.use_kubeconfig(&lab.account(ns, &json!([]), &folder));
    responder.types(plan).ends(4);
    responder.use_kubeconfig(&account(&lab, ns, &folder, "delete-pod"));
    let digest = responder.types(plan).ends(0).json()["digest"].clone();
    let digest = digest.as_str().expect("a digest")[..12].to_owned();
    responder
        .types(["playbook", "apply", "delete.json", "--confirm", &digest])
        .ends(3);
    let id = responder.incident();
    let approve = [
        "playbook",
        "approve",
        "--confirm",
        &id,
        "--reason",
        "its evidence is sealed",
    ];
    responder.types(approve).ends(0);
    responder.types(["resume"]).ends(0);
    wait_for("the pod to go", || {
        (!ns.try_kubectl(["get", "pod", "web"]).status.success()).then_some(())
    });
    responder.types(["verify", "--last"]).ends(0);
}
