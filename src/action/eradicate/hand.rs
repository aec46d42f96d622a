//! What the carrier of one item holds in memory: the new value, the old one, a session of ours. Nothing of it survives the process.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::port::{Secret, Session};
use crate::rotation::plan::{Escrow, Item, Sink, What};

/// Fields of a credential as sinks name them.
pub(super) const KEY_ID: &str = "access_key_id";
/// The secret of an access key.
pub(super) const KEY_SECRET: &str = "secret_access_key";
/// Role on a database server.
pub(super) const USERNAME: &str = "username";
/// Its password.
pub(super) const PASSWORD: &str = "password";
/// Where a secret that the run makes keeps what the sinks held before.
const BEFORE: &str = "before_rotation";

/// A credential's value: an id that is no secret, and the secret.
pub(super) struct Credential {
    /// Key id, or role name.
    pub(super) id: String,
    /// Secret access key, or password.
    pub(super) secret: Secret,
}

impl Credential {
    /// The field as a sink names it.
    pub(super) fn field(&self, name: &str) -> Option<Secret> {
        match name {
            KEY_ID | USERNAME => Some(Secret::new(self.id.clone())),
            KEY_SECRET | PASSWORD => Some(self.secret.duplicate()),
            _ => None,
        }
    }
}

/// What sinks held before: place → key → value.
pub(super) type Before = BTreeMap<String, BTreeMap<String, Secret>>;

/// In memory for one item.
#[derive(Default)]
pub(super) struct Hand {
    /// The new value.
    pub(super) new: Option<Credential>,
    /// The old value, where escrow has it.
    pub(super) old: Option<Credential>,
    /// What sinks held before, where the run's own secret keeps it.
    pub(super) before: Before,
    /// A session that we minted before the cut-off, and a call that it was allowed.
    pub(super) session: Option<Session>,
}

/// The escrow of an item, if its kind has one.
pub(super) fn escrow(item: &Item) -> Option<&Escrow> {
    match &item.what {
        What::AccessKey(key) => Some(&key.escrow),
        What::DatabasePassword(password) => Some(&password.escrow),
        What::RoleSessions(_) => None,
    }
}

/// The JSON that escrow keeps: the new credential in the fields of `escrow`, other fields as they were.
pub(super) fn to_json(
    escrow: &Escrow,
    new: &Credential,
    current: Option<&Secret>,
    before: &Before,
) -> Result<Secret, String> {
    let mut object = match current {
        Some(text) => object(text)?,
        None => Map::new(),
    };
    let (id, secret) = &escrow.fields;
    object.insert(id.clone(), Json::String(new.id.clone()));
    object.insert(
        secret.clone(),
        Json::String(new.secret.expose_secret().to_owned()),
    );
    if !before.is_empty() {
        let places = before.iter().map(|(place, keys)| {
            let keys = keys
                .iter()
                .map(|(k, v)| (k.clone(), Json::String(v.expose_secret().to_owned())));
            (place.clone(), Json::Object(keys.collect()))
        });
        object.insert(BEFORE.into(), Json::Object(places.collect()));
    }
    let text = serde_json::to_string(&object).map_err(|_| "it cannot be written as JSON")?;
    Ok(Secret::new(text))
}

/// The credential in a version of `escrow`.
pub(super) fn from_json(escrow: &Escrow, text: &Secret) -> Result<Credential, String> {
    let mut object = object(text)?;
    let mut take = |name: &str| match object.remove(name) {
        Some(Json::String(text)) => Ok(text),
        _ => Err(format!("it has no text field `{name}`")),
    };
    let (id, secret) = &escrow.fields;
    Ok(Credential {
        id: take(id)?,
        secret: Secret::new(take(secret)?),
    })
}

/// What the sinks held before, from a version of a secret that the run made.
pub(super) fn before_of(text: &Secret) -> Before {
    let Ok(mut object) = object(text) else {
        return BTreeMap::new();
    };
    let Some(Json::Object(places)) = object.remove(BEFORE) else {
        return BTreeMap::new();
    };
    let values = |keys: Json| match keys {
        Json::Object(keys) => keys
            .into_iter()
            .filter_map(|(k, v)| match v {
                Json::String(text) => Some((k, Secret::new(text))),
                _ => None,
            })
            .collect(),
        _ => BTreeMap::new(),
    };
    places
        .into_iter()
        .map(|(p, keys)| (p, values(keys)))
        .collect()
}

/// The error never has a piece of the text in it.
fn object(text: &Secret) -> Result<Map<String, Json>, String> {
    match serde_json::from_str(text.expose_secret()) {
        Ok(Json::Object(object)) => Ok(object),
        _ => Err("its value is not a JSON object".into()),
    }
}

/// Keys of a sink with the values that `credential` gives them.
pub(super) fn sink_values(sink: &Sink, credential: &Credential) -> BTreeMap<String, Secret> {
    sink.keys
        .iter()
        .filter_map(|(field, key)| credential.field(field).map(|v| (key.clone(), v)))
        .collect()
}
