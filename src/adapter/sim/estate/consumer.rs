//! Consumers: what they read, and whether what they read works, at every moment.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::port::Signer;

use super::key::{Hand, Signed};
use super::trail::Told;
use super::world::{EstateWorld, Kept};

/// ServiceAccounts by `namespace/name`.
pub type Accounts = BTreeMap<String, AccountKept>;

/// Annotation that names the role of a ServiceAccount.
pub(super) const ROLE_ANNOTATION: &str = "eks.amazonaws.com/role-arn";

/// A ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountKept {
    /// UID.
    pub uid: String,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A Kubernetes Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubeSecret {
    /// UID.
    pub uid: String,
    /// `resourceVersion`.
    pub version: u64,
    /// Values.
    pub data: BTreeMap<String, Kept>,
    /// Keys whose value is not UTF-8.
    pub binary: Vec<String>,
    /// Refuses changes.
    pub immutable: bool,
    /// Field managers, newest last.
    pub managers: Vec<String>,
    /// Who writes it from elsewhere.
    pub written_by: Option<String>,
    /// That writer takes changes back.
    pub reverts: Option<Reverting>,
}

/// A writer that puts its own values back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reverting {
    /// Its values.
    pub data: BTreeMap<String, Kept>,
    /// Calls of ours from a change until it looks.
    pub after: u32,
    /// Calls left, where it has something to take back.
    pub left: Option<u32>,
}

impl KubeSecret {
    /// Sets a value, as a field manager.
    pub fn set(&mut self, key: &str, value: &str, manager: &str) {
        self.data.insert(key.to_owned(), Kept(value.to_owned()));
        self.version += 1;
        self.managers.retain(|m| m != manager);
        self.managers.push(manager.to_owned());
    }
    pub(super) fn tick(&mut self) {
        let Some(reverting) = &mut self.reverts else {
            return;
        };
        if self.data == reverting.data {
            reverting.left = None;
            return;
        }
        let left = reverting.left.unwrap_or(reverting.after);
        if left == 0 {
            self.data = reverting.data.clone();
            self.version += 1;
        }
        reverting.left = Some(left.saturating_sub(1));
    }
}

/// A Secret that a workload uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Secret's name.
    pub secret: String,
    /// `env`, `envFrom`, `subPath`: read when a container starts; `volume`: follows the Secret.
    pub how: String,
}

/// What a consumer does with what it reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// It logs in to a database and keeps the session.
    Database {
        /// Secret's name.
        secret: String,
        /// Key of the role's name.
        user: String,
        /// Key of the password.
        password: String,
        /// Host.
        host: String,
        /// Port.
        port: u16,
    },
    /// It signs with an access key.
    AccessKey {
        /// Secret's name.
        secret: String,
        /// Key of the key id.
        id: String,
        /// Key of its secret.
        key: String,
    },
    /// It acts with its ServiceAccount's role: it looks at this secret of the store.
    Role {
        /// Secret's id.
        describes: String,
    },
}

/// A workload of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// `Deployment`, or what cannot be rolled out: `Pod`, `Job`.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Pods wanted.
    pub replicas: u32,
    /// Our annotation on its template.
    pub restarted_by: Option<String>,
    /// ServiceAccount of its template.
    pub service_account: String,
    /// Secrets it uses.
    pub mounts: Vec<Mount>,
    /// What for.
    pub uses: Vec<Use>,
    /// Reloader restarts it.
    pub reloader: bool,
    /// The controller has seen the newest template.
    pub observed: bool,
    /// Rollouts so far: templates that differed from the one before.
    pub rollouts: u32,
    /// Its pods.
    pub pods: Vec<RunningPod>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningPod {
    /// Name.
    pub name: String,
    /// Template it was made from.
    pub template: String,
    /// When.
    pub created: DateTime<Utc>,
    /// What its containers read when they started: Secret → values.
    pub read: BTreeMap<String, BTreeMap<String, Kept>>,
    /// It does not run yet.
    pub starting: bool,
    /// All that it uses works.
    pub ready: bool,
    /// It was ready once: it goes on running, also when what it read is refused by now. What never was ready crashes and starts again.
    pub ran: bool,
    /// Its role's session.
    pub session: Option<String>,
    /// Why it is not ready.
    pub why: Option<String>,
}

/// A consumer outside the cluster that reads the value in use whenever it starts a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reader {
    /// Name.
    pub name: String,
    /// Secret of the store: a JSON object.
    pub secret: String,
    /// What for; the secret's name in it says nothing.
    pub uses: Use,
}

/// How a consumer fared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Moments looked at.
    pub moments: u64,
    /// Moments with some pod without a working credential, as numbers of our calls.
    pub degraded: Vec<u64>,
    /// Moments without any working credential.
    pub outages: Vec<u64>,
    /// The newest reason.
    pub why: Option<String>,
}

impl Deployment {
    /// What its newest pods are made from.
    pub fn template(&self) -> String {
        let restarted = self.restarted_by.as_deref().unwrap_or("-");
        format!("{restarted}|{}", self.service_account)
    }
    /// `Deployment/shop/web`.
    pub fn full_name(&self) -> String {
        format!("{}/{}/{}", self.kind, self.namespace, self.name)
    }
    /// True for what has a pod template that can be rolled out.
    pub fn rollable(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "Deployment" | "StatefulSet" | "DaemonSet"
        )
    }
}

/// Looks at each consumer once.
pub(super) fn observe(world: &mut EstateWorld, seq: u64, now: DateTime<Utc>) {
    let mut seen = Vec::new();
    for d in world.deployments.iter().filter(|d| !d.uses.is_empty()) {
        let running = d.pods.iter().filter(|p| !p.starting);
        let works = running.clone().filter(|p| p.ready).count();
        let why = running.clone().find_map(|p| p.why.clone());
        seen.push((d.full_name(), works, running.count() - works, why));
    }
    for reader in world.readers.clone() {
        let outcome = world
            .secrets
            .get(&reader.secret)
            .and_then(|s| s.current())
            .map(object)
            .ok_or_else(|| "no value in use".to_owned())
            .and_then(|data| try_use(world, &data, None, &reader.uses, now));
        let works = usize::from(outcome.is_ok());
        seen.push((reader.name, works, 1 - works, outcome.err()));
    }
    for (name, works, fails, why) in seen {
        let health = world.health.entry(name).or_default();
        health.moments += 1;
        if fails > 0 {
            health.degraded.push(seq);
            health.why = why;
        }
        if works == 0 {
            health.outages.push(seq);
        }
    }
}

/// A JSON object's texts.
fn object(text: &str) -> BTreeMap<String, Kept> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => map
            .into_iter()
            .filter_map(|(k, v)| v.as_str().map(|v| (k, Kept(v.to_owned()))))
            .collect(),
        _ => BTreeMap::new(),
    }
}

/// What a pod sees: volumes follow their Secret, the rest is as it was at its start.
pub(super) fn view(
    world: &EstateWorld,
    d: &Deployment,
    pod: &RunningPod,
) -> BTreeMap<String, BTreeMap<String, Kept>> {
    let mut seen = pod.read.clone();
    for mount in d.mounts.iter().filter(|m| m.how == "volume") {
        if let Some(secret) = world
            .kube_secrets
            .get(&format!("{}/{}", d.namespace, mount.secret))
        {
            seen.insert(mount.secret.clone(), secret.data.clone());
        }
    }
    seen
}

/// Tries all that a pod uses, and connects it where it lost its session.
pub(super) fn check(
    world: &mut EstateWorld,
    d: &Deployment,
    pod: &RunningPod,
    now: DateTime<Utc>,
) -> Result<(), String> {
    let seen = view(world, d, pod);
    for uses in &d.uses {
        let secret = match uses {
            Use::Database { secret, .. } | Use::AccessKey { secret, .. } => secret.as_str(),
            Use::Role { .. } => "",
        };
        let data = seen.get(secret).cloned().unwrap_or_default();
        try_use(world, &data, pod.session.as_deref(), uses, now)?;
        if let Use::Database {
            user,
            password,
            host,
            port,
            ..
        } = uses
        {
            let (user, password) = (text(&data, user), text(&data, password));
            if !world.has_session(user, &pod.name) {
                let client = (pod.name.as_str(), d.name.as_str());
                // It was accepted on the line above.
                let _ = world.open_database((host, *port), user, password, client, now);
            }
        }
    }
    Ok(())
}

fn text<'d>(data: &'d BTreeMap<String, Kept>, key: &str) -> &'d str {
    data.get(key).map_or("", |v| v.0.as_str())
}

/// Tries one use with what was read.
fn try_use(
    world: &mut EstateWorld,
    data: &BTreeMap<String, Kept>,
    session: Option<&str>,
    uses: &Use,
    now: DateTime<Utc>,
) -> Result<(), String> {
    match uses {
        Use::Database {
            user,
            password,
            host,
            port,
            ..
        } => {
            let (user, password) = (text(data, user), text(data, password));
            let answer = world.log_in((host, *port), user, password);
            answer.map_err(|state| format!("login of {user} to {host}: {state}"))
        }
        Use::AccessKey { id, key, .. } => {
            let (id, secret) = (text(data, id), text(data, key));
            let signed = sign(world, id, secret, now)?;
            used(world, &signed, "sts:GetCallerIdentity", now);
            // Deny-all on the user stops the work, though the token service still answers.
            let denied = world.judge(&signed, "s3:GetObject", "*", now) == super::Verdict::Denied;
            if denied {
                Err(format!("{id}: AccessDenied"))
            } else {
                Ok(())
            }
        }
        Use::Role { describes } => {
            let id = session.ok_or("AccessDenied: no session of its role")?;
            let code = |no: super::No| format!("{id}: {}", no.code);
            let signed = world.by_id(id, now).map_err(code)?;
            let resource = world.secret_arn(describes);
            let action = "secretsmanager:DescribeSecret";
            world
                .authorize(&signed, action, &resource, now)
                .map_err(code)?;
            used(world, &signed, action, now);
            Ok(())
        }
    }
}

/// A consumer signs with a client that counts as correct: what makes the token service doubt a key does not hit it here.
fn sign(
    world: &mut EstateWorld,
    id: &str,
    secret: &str,
    now: DateTime<Utc>,
) -> Result<Signed, String> {
    let doubt = world.keys.get_mut(id).and_then(|k| k.wrong_secret.take());
    let signer = Signer {
        id: id.to_owned(),
        secret: crate::port::Secret::new(secret.to_owned()),
        token: None,
    };
    let signed = world.authenticate(&signer, now);
    if let Some(key) = world.keys.get_mut(id) {
        key.wrong_secret = doubt;
    }
    signed.map_err(|no| format!("{id}: {}", no.code))
}

fn used(world: &mut EstateWorld, signed: &Signed, action: &str, now: DateTime<Utc>) {
    let service = action.split(':').next().unwrap_or_default();
    world.mark_used(&signed.key, service, now);
    let event = Told {
        action,
        request: &[],
        made: None,
        error: None,
        hand: Hand::Shop,
    };
    world.record(Some(signed), &event, now);
}
