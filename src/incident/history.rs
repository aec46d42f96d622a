//! The entries of one ledger as every other room reads them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{IncidentId, Mode};

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Person, tool or service.
    #[serde(rename = "type")]
    pub kind: ActorKind,
    /// `user@host` for a person (self-asserted under `solo`), `firebreak/0.1.0` for the tool.
    pub id: String,
    /// Fingerprint of a key that vouches for it, or the name it used at the cluster or cloud.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
}

/// What kind of actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// A human being.
    Person,
    /// firebreak itself.
    Tool,
    /// Another system.
    Service,
}

impl Actor {
    /// The tool itself, with its version.
    pub fn tool() -> Self {
        Actor {
            kind: ActorKind::Tool,
            id: concat!("firebreak/", env!("CARGO_PKG_VERSION")).to_owned(),
            key: None,
        }
    }
    /// A person by id.
    pub fn person(id: impl Into<String>) -> Self {
        Actor {
            kind: ActorKind::Person,
            id: id.into(),
            key: None,
        }
    }
}

/// What an entry belongs to. All optional; names are fixed by the ledger format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refs {
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<String>,
    /// The step's path in its playbook.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step: Option<String>,
    /// Attempt, from 1; a person asks for a new one, automatic tries do not count up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attempt: Option<u32>,
    /// Digest of the plan file's exact bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan_sha256: Option<String>,
    /// Digest of the playbook's exact bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub playbook_sha256: Option<String>,
    /// `seq` of the intent that this entry answers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub intent: Option<u64>,
    /// `seq` of the `gate.decided` that allowed it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub approval: Option<u64>,
    /// Bag number, four digits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bag: Option<String>,
    /// Exhibit number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exhibit: Option<String>,
}

/// An entry that is to be appended. `time`, `seq`, chaining and nonce are the ledger's to fill.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Dotted kind name, see [`super::kind`].
    pub kind: String,
    /// Who.
    pub actor: Actor,
    /// What was acted on, as a reference.
    pub target: Option<Value>,
    /// What it belongs to.
    pub refs: Refs,
    /// Payload by kind, see [`super::body`].
    pub body: Value,
}

impl Draft {
    /// A draft of `kind` by the tool with `body`.
    ///
    /// # Panics
    /// Never for the types of [`super::body`]: they hold nothing that JSON cannot.
    pub fn new(kind: &str, body: &impl Serialize) -> Self {
        let body = serde_json::to_value(body).expect("entry bodies are plain data");
        Draft {
            kind: kind.to_owned(),
            actor: Actor::tool(),
            target: None,
            refs: Refs::default(),
            body,
        }
    }
    /// Names who did it.
    #[must_use]
    pub fn by(mut self, actor: &Actor) -> Self {
        self.actor = actor.clone();
        self
    }
    /// Names what it belongs to.
    #[must_use]
    pub fn about(mut self, refs: Refs) -> Self {
        self.refs = refs;
        self
    }
    /// Names what was acted on.
    #[must_use]
    pub fn on(mut self, target: Value) -> Self {
        self.target = Some(target);
        self
    }
}

/// One stored entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number = leaf index.
    pub seq: u64,
    /// The host's claim of when it was written.
    pub time: DateTime<Utc>,
    /// Dotted kind name.
    pub kind: String,
    /// Who.
    pub actor: Actor,
    /// What was acted on.
    pub target: Option<Value>,
    /// What it belongs to.
    pub refs: Refs,
    /// Payload by kind.
    pub body: Value,
    /// SHA-256 (hex) of the stored line with its line feed.
    pub sha256: String,
    /// Fencing number of the process that wrote it.
    pub writer: u64,
    /// Milliseconds that the host's clock had gone back, 0 if it had not.
    pub clock_back_ms: u64,
}

impl Entry {
    /// Reads the payload as the type of its kind; `None` if the kind differs or the payload does not fit.
    pub fn body_as<T: DeserializeOwned>(&self, kind: &str) -> Option<T> {
        if self.kind == kind {
            serde_json::from_value(self.body.clone()).ok()
        } else {
            None
        }
    }
    /// The run it belongs to.
    pub fn run(&self) -> Option<&str> {
        self.refs.run.as_deref()
    }
    /// The step it belongs to.
    pub fn step(&self) -> Option<&str> {
        self.refs.step.as_deref()
    }
}

/// All entries of one ledger, in order, with what fixes them.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The incident.
    pub incident: IncidentId,
    /// Live or drill.
    pub mode: Mode,
    /// Entries; `entries[n].seq == n`.
    pub entries: Vec<Entry>,
    /// Base64 Merkle root over all entries.
    pub root: String,
    /// Fingerprint (64 hex) of the epoch key.
    pub fingerprint: String,
}

impl History {
    /// Entries of one kind, in order.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Entry> + 'a {
        self.entries.iter().filter(move |e| e.kind == kind)
    }
    /// Entries of one kind with their payloads; an entry whose payload does not fit is left out.
    pub fn bodies<'a, T: DeserializeOwned + 'a>(
        &'a self,
        kind: &'a str,
    ) -> impl Iterator<Item = (&'a Entry, T)> + 'a {
        self.of(kind)
            .filter_map(move |e| e.body_as(kind).map(|b| (e, b)))
    }
}
