//! The world's state, as it stands in `state/sim-world.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::port::{Cause, ClusterIdentity, PortError, Right};
use crate::reach::cluster::{ClusterSnapshot, Labels, NetworkPolicy, Node, Owner, Pod, Unread};

use super::fault::Fault;

/// Version of the file.
pub const FORMAT: &str = "sim-world/v1";

/// Everything the simulated cluster knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// [`FORMAT`].
    pub format: String,
    /// Who it says it is.
    pub identity: ClusterIdentity,
    /// The API's objects.
    pub cluster: ClusterSnapshot,
    /// Annotations of policies, by UID (the snapshot does not carry them).
    pub policy_annotations: BTreeMap<String, Labels>,
    /// What is inside the pods, by UID.
    pub inside: BTreeMap<String, Inside>,
    /// From what ReplicaSets make pods, by their UID.
    pub templates: BTreeMap<String, Template>,
    /// Events, oldest first, in the API's shape.
    pub events: Vec<Value>,
    /// Addresses outside the cluster that answer.
    pub outside: Vec<Listener>,
    /// Network plugin as it would be recognised.
    pub plugin: Option<String>,
    /// Whether it does its work.
    pub enforcing: Enforcing,
    /// True for a plugin that looks at the first packet of a connection only: what is open then stays open. The shop's plugin looks at
    /// every packet, so a deny also cuts what is open.
    #[serde(default)]
    pub keeps_connections: bool,
    /// What a late plugin still enforces.
    pub behind: Option<Behind>,
    /// Rights that the caller lacks; without a namespace: in all of them.
    pub missing_rights: Vec<Right>,
    /// Roles by name, for hints.
    pub roles: BTreeMap<String, Vec<Right>>,
    /// Field paths that an admission webhook rewrites in our policies.
    pub mutations: Vec<String>,
    /// What goes wrong on purpose.
    pub faults: Vec<Fault>,
    /// Calls so far, by method.
    pub calls: BTreeMap<String, u64>,
    /// Objects minted so far: makes names and UIDs.
    pub minted: u64,
}

/// What a pod holds inside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inside {
    /// Log by container, each line with its timestamp.
    pub logs: BTreeMap<String, String>,
    /// Log of the instance before, by container.
    pub previous_logs: BTreeMap<String, String>,
    /// Processes.
    pub processes: Vec<Process>,
    /// TCP ports that listen.
    pub listening: Vec<u16>,
    /// Established connections, `10.244.0.7:41234 → 198.51.100.10:4444`.
    pub established: Vec<String>,
    /// True when its image has no shell and no tools at all.
    pub bare_image: bool,
}

/// A process of a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Pid.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// User.
    pub user: String,
    /// Executable.
    pub exe: String,
    /// Command line.
    pub command: String,
}

/// What a ReplicaSet makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The pod; name, UID and addresses are given anew.
    pub pod: Pod,
    /// What is inside it when it starts.
    pub inside: Inside,
}

/// Something outside that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address.
    pub address: String,
    /// TCP port.
    pub port: u16,
}

/// Whether the network plugin does what policies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcing {
    /// At once.
    Works,
    /// A change counts only after this many probes more.
    Late(u32),
    /// Not at all: every policy is ignored.
    Never,
}

/// What was enforced before the newest changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behind {
    /// Probes until the plugin catches up.
    pub probes_left: u32,
    /// Policies that it still knows.
    pub policies: Vec<NetworkPolicy>,
    /// Pod labels that it still knows, by UID.
    pub labels: BTreeMap<String, Labels>,
}

impl World {
    /// Reads a world from its file's bytes.
    ///
    /// # Errors
    /// When they are no world of a format that we know.
    pub fn read(bytes: &[u8]) -> Result<Self, PortError> {
        let unreadable = |detail: String| {
            PortError::new(
                Cause::Local,
                "read the simulated world",
                "sim-world.json",
                detail,
            )
        };
        let world: World = serde_json::from_slice(bytes).map_err(|e| unreadable(e.to_string()))?;
        if world.format == FORMAT {
            Ok(world)
        } else {
            Err(unreadable(format!(
                "it is `{}`, not `{FORMAT}`",
                world.format
            )))
        }
    }
    /// The file's bytes.
    ///
    /// # Panics
    /// Never: the world is plain data.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a world is plain data")
    }
    /// The pod of this name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.cluster
            .pods
            .iter()
            .find(|p| p.namespace == namespace && p.name == name)
    }
    /// The pod of this name, to change.
    pub fn pod_mut(&mut self, namespace: &str, name: &str) -> Option<&mut Pod> {
        self.cluster
            .pods
            .iter_mut()
            .find(|p| p.namespace == namespace && p.name == name)
    }
    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.cluster.nodes.iter().find(|n| n.name == name)
    }
    /// The policy of this name.
    pub fn policy(&self, namespace: &str, name: &str) -> Option<&NetworkPolicy> {
        self.cluster
            .policies
            .iter()
            .find(|p| p.namespace == namespace && p.name == name)
    }
    /// True when the caller lacks this right.
    pub fn lacks(&self, right: &Right) -> bool {
        self.missing_rights.iter().any(|m| {
            m.group == right.group
                && m.resource == right.resource
                && m.verb == right.verb
                && (m.namespace.is_none() || m.namespace == right.namespace)
        })
    }
    /// A new UID, never given twice: derived from the world's own and a counter, so that a resumed world goes on in the same row.
    pub fn mint_uid(&mut self) -> String {
        self.minted += 1;
        uid_of(&format!("{}/{}", self.identity.uid, self.minted))
    }
    /// A new five-letter suffix for a pod's name, as the API's name generator makes them.
    pub fn mint_suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let uid = self.mint_uid();
        Sha256::digest(uid.as_bytes())
            .iter()
            .take(5)
            .map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()]))
            .collect()
    }
    /// Deletes the pod and everything inside it. False when it was not there.
    pub fn drop_pod(&mut self, namespace: &str, name: &str) -> bool {
        let Some(uid) = self.pod(namespace, name).map(|p| p.uid.clone()) else {
            return false;
        };
        self.cluster.pods.retain(|p| p.uid != uid);
        self.inside.remove(&uid);
        true
    }
    /// Deletes the pod and makes another under the same name, as somebody else might: new UID, new address, clean inside.
    pub fn recreate_pod(&mut self, namespace: &str, name: &str) {
        let Some(mut pod) = self.pod(namespace, name).cloned() else {
            return;
        };
        let inside = self
            .inside
            .get(&pod.uid)
            .map(Inside::fresh)
            .unwrap_or_default();
        self.drop_pod(namespace, name);
        pod.uid = self.mint_uid();
        pod.ips = vec![self.mint_address(&pod.node.clone())];
        self.inside.insert(pod.uid.clone(), inside);
        self.cluster.pods.push(pod);
    }
    /// A pod address on a node that was not given before.
    pub fn mint_address(&mut self, node: &str) -> String {
        let place = self
            .cluster
            .nodes
            .iter()
            .position(|n| n.name == node)
            .unwrap_or(0);
        loop {
            self.minted += 1;
            let address = format!("10.244.{place}.{}", 20 + self.minted % 230);
            if !self.cluster.pods.iter().any(|p| p.ips.contains(&address)) {
                return address;
            }
        }
    }
    /// Names a list that may not be read, as a look does.
    pub fn unread(what: &str, right: &Right) -> Unread {
        Unread {
            what: what.to_owned(),
            why: format!("no right to {right}"),
        }
    }
}

impl Inside {
    /// The same image, started anew: no logs, no connections, only the first process.
    pub fn fresh(&self) -> Self {
        Inside {
            logs: self
                .logs
                .keys()
                .map(|c| (c.clone(), String::new()))
                .collect(),
            previous_logs: BTreeMap::new(),
            processes: self
                .processes
                .iter()
                .filter(|p| p.pid == 1)
                .cloned()
                .collect(),
            listening: self.listening.clone(),
            established: Vec::new(),
            bare_image: self.bare_image,
        }
    }
}

/// The owner reference of a controller.
pub(super) fn owner(kind: &str, name: &str, uid: &str) -> Owner {
    Owner {
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

/// A UID in the API's form, from any text.
pub(super) fn uid_of(text: &str) -> String {
    let hex: String = Sha256::digest(text.as_bytes())
        .iter()
        .take(16)
        .map(|b| format!("{b:02x}"))
        .collect();
    format!(
        "{}-{}-4{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    )
}
