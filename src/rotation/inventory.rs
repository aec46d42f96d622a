//! What is known of each credential, as a selection sees it: known, known to be none, or not readable. What could not be read is *unknown*,
//! never *absent*.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value as Json, json};

use crate::condition::Given;

use super::words::CredentialKind;

/// Names that an expression may read.
pub const FIELDS: [&str; 16] = [
    "kind",
    "account",
    "region",
    "id",
    "name",
    "arn",
    "path",
    "tags",
    "groups",
    "labels",
    "namespace",
    "cluster",
    "secret",
    "database",
    "status",
    "age",
];

/// The one that is a time in the past: how long ago it was used; `null` = never.
pub const LAST_USED: &str = "last_used";

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fact<T> {
    /// It is this.
    Known(T),
    /// It is known that there is none.
    #[default]
    None,
    /// It could not be read, for this reason.
    Unknown(String),
}

impl<T> Fact<T> {
    /// `None` = it could not be read.
    pub fn of_readable(value: Option<T>) -> Self {
        value.map_or_else(|| Fact::Unknown("it could not be read".into()), Fact::Known)
    }
    /// The value, where there is one.
    pub fn known(&self) -> Option<&T> {
        match self {
            Fact::Known(value) => Some(value),
            _ => None,
        }
    }
}

/// One credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Kind.
    pub kind: CredentialKind,
    /// Account.
    pub account: String,
    /// Region; empty for what is global.
    pub region: String,
    /// Key id, role ARN, secret ARN.
    pub id: String,
    /// User, role, secret.
    pub name: String,
    /// ARN of the user, role or secret.
    pub arn: String,
    /// IAM path.
    pub path: Fact<String>,
    /// Tags.
    pub tags: Fact<BTreeMap<String, String>>,
    /// Groups of the user.
    pub groups: Fact<Vec<String>>,
    /// Labels of the pods that hold it.
    pub labels: Fact<BTreeMap<String, String>>,
    /// Namespace of the pods that hold it.
    pub namespace: Fact<String>,
    /// Cluster of these.
    pub cluster: Fact<String>,
    /// The secret that it lives in.
    pub secret: Fact<String>,
    /// The database that it opens.
    pub database: Fact<String>,
    /// `Active` or `Inactive`.
    pub status: Fact<String>,
    /// When it was made.
    pub created: Fact<DateTime<Utc>>,
    /// When it was used last; `None` = never.
    pub last_used: Fact<DateTime<Utc>>,
}

impl Credential {
    /// A credential of which nothing else is known to exist.
    pub fn new(kind: CredentialKind, account: &str, id: &str, name: &str, arn: &str) -> Self {
        Credential {
            kind,
            account: account.into(),
            region: String::new(),
            id: id.into(),
            name: name.into(),
            arn: arn.into(),
            path: Fact::None,
            tags: Fact::None,
            groups: Fact::None,
            labels: Fact::None,
            namespace: Fact::None,
            cluster: Fact::None,
            secret: Fact::None,
            database: Fact::None,
            status: Fact::None,
            created: Fact::None,
            last_used: Fact::None,
        }
    }

    /// Its facts as an expression reads them at `now`. What could not be read is left out: it has no value.
    pub fn facts(&self, now: DateTime<Utc>) -> BTreeMap<String, Given> {
        let mut facts = BTreeMap::new();
        let mut put = |name: &str, given: Option<Given>| {
            if let Some(given) = given {
                facts.insert(name.to_owned(), given);
            }
        };
        let text = |t: &str| Some(Given::Json(json!(t)));
        put("kind", text(self.kind.as_str()));
        put("account", text(&self.account));
        put("region", text(&self.region));
        put("id", text(&self.id));
        put("name", text(&self.name));
        put("arn", text(&self.arn));
        put("path", plain(&self.path));
        put("tags", map(&self.tags));
        put("groups", list(&self.groups));
        put("labels", map(&self.labels));
        put("namespace", plain(&self.namespace));
        put("cluster", plain(&self.cluster));
        put("secret", plain(&self.secret));
        put("database", plain(&self.database));
        put("status", plain(&self.status));
        put("age", span(&self.created, now));
        put(LAST_USED, span(&self.last_used, now));
        facts
    }

    /// Why a field has no value, where it could not be read.
    pub fn unreadable(&self, field: &str) -> Option<&str> {
        fn why<T>(fact: &Fact<T>) -> Option<&str> {
            match fact {
                Fact::Unknown(why) => Some(why),
                _ => None,
            }
        }
        match field {
            "path" => why(&self.path),
            "tags" => why(&self.tags),
            "groups" => why(&self.groups),
            "labels" => why(&self.labels),
            "namespace" => why(&self.namespace),
            "cluster" => why(&self.cluster),
            "secret" => why(&self.secret),
            "database" => why(&self.database),
            "status" => why(&self.status),
            "age" => why(&self.created),
            LAST_USED => why(&self.last_used),
            _ => None,
        }
    }
}

fn plain(fact: &Fact<String>) -> Option<Given> {
    given(fact, |t| Given::Json(json!(t)), Json::Null)
}

/// No tags are an empty map, so that a missing one is `null` and not an error.
fn map(fact: &Fact<BTreeMap<String, String>>) -> Option<Given> {
    given(fact, |m| Given::Json(json!(m)), json!({}))
}

fn list(fact: &Fact<Vec<String>>) -> Option<Given> {
    given(fact, |l| Given::Json(json!(l)), json!([]))
}

fn span(fact: &Fact<DateTime<Utc>>, now: DateTime<Utc>) -> Option<Given> {
    let since = |at: &DateTime<Utc>| Given::Span((now - *at).max(TimeDelta::zero()));
    given(fact, since, Json::Null)
}

fn given<T>(fact: &Fact<T>, value: impl Fn(&T) -> Given, none: Json) -> Option<Given> {
    match fact {
        Fact::Known(v) => Some(value(v)),
        Fact::None => Some(Given::Json(none)),
        Fact::Unknown(_) => None,
    }
}
