//! The lab from a test's side: `kubectl`, namespaces of the test's own, the shop, and who can connect to whom.
//!
//! A live test begins with
//! ```ignore
//! let Some(lab) = Lab::find() else { return };
//! ```
//! and runs under `tests/run`, which starts the lab and puts the test inside the network of its node. All commands
//! here panic with what the command said: in a test that is the message that helps.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use firebreak::port::{Login, Secret, Server};

/// How long a lab may take for what it does in a second or two when nothing is wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Address outside of the cluster that accepts connections on ports 443 and 4444; see `tests/lab/outside.py`.
pub const OUTSIDE: &str = "198.51.100.10";

/// A running lab.
#[derive(Clone)]
pub struct Lab {
    folder: PathBuf,
}

impl Lab {
    /// The lab that `tests/run` started; without one, says that the test is skipped and returns nothing.
    pub fn find() -> Option<Lab> {
        match std::env::var_os("FIREBREAK_TEST_SANDBOX") {
            Some(folder) => Some(Lab {
                folder: folder.into(),
            }),
            None => {
                eprintln!("SKIPPED: needs a lab; tests/run starts one");
                None
            }
        }
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("pki/admin.conf")
    }

    /// Runs kubectl as the administrator and returns what it printed; panics if it fails.
    pub fn kubectl<const N: usize>(&self, args: [&str; N]) -> String {
        said(&args, self.try_kubectl(args))
    }

    /// Runs kubectl as the administrator.
    pub fn try_kubectl<const N: usize>(&self, args: [&str; N]) -> Output {
        self.kubectl_with(&self.kubeconfig(), &args)
    }

    /// Runs kubectl with another kubeconfig: another account, or through a proxy.
    pub fn kubectl_with(&self, kubeconfig: &Path, args: &[&str]) -> Output {
        self.command(kubeconfig)
            .args(args)
            .output()
            .expect("kubectl runs")
    }

    fn command(&self, kubeconfig: &Path) -> Command {
        let mut command = Command::new(self.folder.join("bin/kubectl"));
        command.arg("--kubeconfig").arg(kubeconfig);
        // kubectl caches what the server offers below the home folder; a test leaves nothing there.
        command
            .arg("--cache-dir")
            .arg(self.folder.join("kubectl-cache"));
        command
    }

    /// Applies a manifest of one or more documents.
    pub fn apply(&self, manifest: &str) {
        self.apply_with(&["apply", "-f", "-"], manifest);
    }

    fn apply_with(&self, args: &[&str], manifest: &str) {
        let mut child = self
            .command(&self.kubeconfig())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        let mut input = child.stdin.take().expect("it is piped");
        input.write_all(manifest.as_bytes()).expect("kubectl reads");
        drop(input);
        said(args, child.wait_with_output().expect("kubectl runs"));
    }

    /// Makes an empty namespace, which goes away with the value. Its name begins with `name`.
    pub fn namespace(&self, name: &str) -> Namespace {
        let name = format!("{name}-{:08x}", random());
        self.kubectl(["create", "namespace", &name]);
        let lab = self.clone();
        let namespace = Namespace { lab, name };
        // A pod cannot start before its namespace has this account.
        wait_for("the namespace's account", || {
            let account = namespace.try_kubectl(["get", "serviceaccount", "default"]);
            account.status.success().then_some(())
        });
        namespace
    }

    /// Makes a namespace with the shop of `tests/lab/shop.yaml` in it, one of its pods compromised.
    pub fn shop(&self) -> Shop {
        let name = format!("shop-{:08x}", random());
        self.sandbox(["seed", &name]);
        let pod = std::fs::read_to_string(self.folder.join(format!("compromised-{name}")))
            .expect("seeding says which pod is compromised");
        let lab = self.clone();
        Shop {
            namespace: Namespace { lab, name },
            compromised: pod.trim().to_owned(),
        }
    }

    /// Makes a role and a database named like the namespace, and in it the Deployment `orders`, which logs in with its mounted Secret `orders-db`
    /// each second. In a lab without PostgreSQL it says that the test is skipped and returns nothing.
    pub fn orders(&self, namespace: &Namespace) -> Option<Orders> {
        let Ok(admin) = std::fs::read_to_string(self.folder.join("pki/database-admin")) else {
            eprintln!("SKIPPED: needs PostgreSQL in the lab; tests/run installs it");
            return None;
        };
        self.sandbox(["database", &namespace.name]);
        let server = |host: &str| Server {
            host: host.into(),
            port: 5432,
            database: namespace.name.clone(),
            ca_file: self.folder.join("pki/ca.crt").to_str().map(str::to_owned),
        };
        Some(Orders {
            primary: server("198.51.100.20"),
            replica: server("198.51.100.21"),
            admin: Login {
                role: "admin".into(),
                password: Secret::new(admin.trim().to_owned()),
            },
        })
    }

    /// Stops the network plugin, so that nothing enforces a policy; it starts again when the value goes away.
    ///
    /// This concerns every test at once, so it belongs into a test program of its own.
    pub fn stop_plugin(&self) -> PluginStopped {
        self.sandbox(["plugin", "stop"]);
        PluginStopped { lab: self.clone() }
    }

    /// Makes an account with the rights of `rules` (the `rules:` of a ClusterRole, as JSON) and returns its kubeconfig, written into `folder`.
    pub fn account(
        &self,
        namespace: &Namespace,
        rules: &serde_json::Value,
        folder: &Path,
    ) -> PathBuf {
        let name = format!("{}-{:08x}", namespace.name, random());
        let role = serde_json::json!({
            "apiVersion": "v1", "kind": "List", "items": [
                { "apiVersion": "v1", "kind": "ServiceAccount",
                  "metadata": { "name": name, "namespace": namespace.name } },
                { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                  "metadata": { "name": name }, "rules": rules },
                { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                  "metadata": { "name": name },
                  "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
                  "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": namespace.name }] },
            ]
        });
        self.apply(&role.to_string());
        let token = namespace.kubectl(["create", "token", &name, "--duration", "2h"]);
        let mut config: serde_json::Value =
            serde_json::from_str(&self.kubectl(["config", "view", "--raw", "-o", "json"]))
                .expect("kubectl prints JSON");
        config["users"][0]["user"] = serde_json::json!({ "token": token.trim() });
        let path = folder.join(format!("{name}.kubeconfig"));
        std::fs::write(&path, config.to_string()).expect("the test's folder can be written");
        path
    }

    /// What reached the outside so far, one line for each connection opened, line received, connection ended.
    pub fn outside(&self) -> String {
        std::fs::read_to_string(self.folder.join("log/outside.txt"))
            .expect("the outside keeps a log")
    }

    /// Each change that the API server carried out or refused so far, from its audit log.
    ///
    /// The log is written a moment after the reply: wait for the entry that is looked for.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.folder.join("log/audit.json"))
            .expect("the API server keeps an audit log");
        // The last line may still be on its way.
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn sandbox<const N: usize>(&self, args: [&str; N]) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sandbox");
        let output = Command::new(script).args(args).output();
        said(&args, output.expect("tests/sandbox runs"));
    }
}

/// See [`Lab::stop_plugin`].
#[must_use = "the plugin starts again when this goes away"]
pub struct PluginStopped {
    lab: Lab,
}

impl Drop for PluginStopped {
    fn drop(&mut self) {
        self.lab.sandbox(["plugin", "start"]);
    }
}

/// A database with a consumer in the cluster; see [`Lab::orders`].
pub struct Orders {
    pub primary: Server,
    pub replica: Server,
    /// The administrator of both.
    pub admin: Login,
}

/// A shop and its intruder.
pub struct Shop {
    pub namespace: Namespace,
    /// The `web` pod from which a connection to [`OUTSIDE`]:4444 is open.
    pub compromised: String,
}

/// A namespace of one test.
pub struct Namespace {
    lab: Lab,
    pub name: String,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Not awaited: the names are unique, and the lab goes away after the run.
        self.lab
            .try_kubectl(["delete", "namespace", &self.name, "--wait=false"]);
    }
}

impl Namespace {
    /// Runs kubectl in this namespace and returns what it printed; panics if it fails.
    pub fn kubectl<const N: usize>(&self, args: [&str; N]) -> String {
        said(&args, self.try_kubectl(args))
    }

    /// Runs kubectl in this namespace.
    pub fn try_kubectl<const N: usize>(&self, args: [&str; N]) -> Output {
        let args: Vec<&str> = ["-n", &self.name].into_iter().chain(args).collect();
        self.lab.kubectl_with(&self.lab.kubeconfig(), &args)
    }

    /// Applies a manifest whose objects name no namespace, or this one.
    pub fn apply(&self, manifest: &str) {
        self.lab
            .apply_with(&["-n", &self.name, "apply", "-f", "-"], manifest);
    }

    /// One object as JSON, by `kind/name`.
    pub fn object(&self, what: &str) -> serde_json::Value {
        serde_json::from_str(&self.kubectl(["get", what, "-o", "json"]))
            .expect("kubectl prints JSON")
    }

    /// The names of the pods that a label selector finds, in order.
    pub fn pods(&self, selector: &str) -> Vec<String> {
        let path = "jsonpath={.items[*].metadata.name}";
        let names = self.kubectl([
            "get",
            "pods",
            "-l",
            selector,
            "--sort-by",
            ".metadata.name",
            "-o",
            path,
        ]);
        names.split_whitespace().map(str::to_owned).collect()
    }

    /// The address of a pod.
    pub fn address(&self, pod: &str) -> String {
        self.kubectl(["get", "pod", pod, "-o", "jsonpath={.status.podIP}"])
    }

    /// Starts a pod that answers on TCP port 8080 and waits until it is ready.
    pub fn pod(&self, name: &str, labels: &serde_json::Value) {
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "labels": labels },
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main", "image": "localhost/busybox:1", "imagePullPolicy": "Never",
                    "command": ["nc", "-ll", "-p", "8080", "-e", "/bin/hostname"],
                    "readinessProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1 },
                }],
            },
        });
        self.apply(&pod.to_string());
        self.kubectl([
            "wait",
            "--for",
            "condition=Ready",
            &format!("pod/{name}"),
            "--timeout",
            "60s",
        ]);
    }

    /// Runs a shell line in the first container of a pod and returns what it printed; panics if it fails.
    pub fn shell(&self, pod: &str, line: &str) -> String {
        self.kubectl(["exec", pod, "--", "sh", "-c", line])
    }

    /// Tries a new TCP connection from a pod, for at most two seconds.
    pub fn connect(&self, pod: &str, address: &str, port: u16) -> Reach {
        // -w is for opening; a target that keeps the connection (143: ended by timeout) has let us in all the same.
        // The line always succeeds, so that a failure of exec itself is not taken for a refusal.
        let line = format!(
            "said=$(timeout 5 nc -w 2 {address} {port} </dev/null 2>&1 >/dev/null); \
             case $? in 0 | 143) echo served ;; *) echo \"$said\" ;; esac"
        );
        let answer = self.shell(pod, &line);
        match answer.trim() {
            "served" => Reach::Served,
            refused if refused.contains("refused") => Reach::Refused,
            silent if silent.contains("timed out") => Reach::Silent,
            other => panic!("{pod} to {address}:{port}: {other:?}"),
        }
    }

    /// Waits until a connection from a pod ends as it is expected to.
    pub fn wait_until(&self, expected: Reach, pod: &str, address: &str, port: u16) {
        let what = format!("{pod} to {address}:{port} {expected}");
        wait_for(&what, || {
            (self.connect(pod, address, port) == expected).then_some(())
        });
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It opened.
    Served,
    /// It was refused at once, by the target or by a policy of a plugin that rejects.
    Refused,
    /// Nothing answered in time: a policy of a plugin that drops, or nobody there.
    Silent,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reach::Served => "served",
            Reach::Refused => "refused",
            Reach::Silent => "silent",
        })
    }
}

/// Asks again and again until there is an answer; panics when [`PATIENCE`] is over.
///
/// The pause is between two questions to a server that tells nobody when it is ready, not a guess at how long it takes.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn said(args: &[&str], output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{args:?} ended with {}:\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Enough to keep two tests' names apart.
fn random() -> u32 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    u32::from_le_bytes(bytes)
}
