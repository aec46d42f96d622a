//! What a secret's value is, by its shape. It is looked at in memory; what is kept of it is the secret type, and nothing is written down.

use serde_json::{Map, Value as Json};

use crate::port::Secret;

/// What opens what.
pub(super) enum Contents {
    /// An IAM user's access key.
    Key {
        /// Its id, no secret.
        id: String,
        /// JSON fields of id and secret.
        fields: (String, String),
        /// The secret access key.
        secret: Secret,
    },
    /// A PostgreSQL login.
    Database(DatabaseLogin),
    /// Something else, or no JSON object.
    Other,
}

/// A PostgreSQL login as the secret store's own rotation functions write it.
pub(super) struct DatabaseLogin {
    /// JSON fields of user name and password.
    pub(super) fields: (String, String),
    /// Role.
    pub(super) role: String,
    /// Password.
    pub(super) password: Secret,
    /// Host.
    pub(super) host: String,
    /// Port.
    pub(super) port: u16,
    /// Database.
    pub(super) database: String,
    /// Secret of who may alter the role, where it is named.
    pub(super) admin: Option<String>,
}

/// Recognises a value.
pub(super) fn read(value: &Secret) -> Contents {
    let Ok(Json::Object(mut object)) = serde_json::from_str(value.expose_secret()) else {
        return Contents::Other;
    };
    if let Some(login) = database(&mut object) {
        return Contents::Database(login);
    }
    key(&mut object).unwrap_or(Contents::Other)
}

fn database(object: &mut Map<String, Json>) -> Option<DatabaseLogin> {
    let engine = object.get("engine")?.as_str()?;
    if !["postgres", "postgresql", "aurora-postgresql"].contains(&engine) {
        return None;
    }
    let port = match object.get("port") {
        None => 5432,
        Some(Json::String(text)) => text.parse().ok()?,
        Some(number) => u16::try_from(number.as_u64()?).ok()?,
    };
    let text = |name: &str| object.get(name).and_then(Json::as_str).map(str::to_owned);
    let (role, host) = (text("username")?, text("host")?);
    let database = text("dbname").unwrap_or_else(|| "postgres".into());
    let admin = text("masterarn").or_else(|| text("admin"));
    let password = take(object, "password")?;
    Some(DatabaseLogin {
        fields: ("username".into(), "password".into()),
        role,
        password,
        host,
        port,
        database,
        admin,
    })
}

fn key(object: &mut Map<String, Json>) -> Option<Contents> {
    let is_id = |v: &Json| v.as_str().is_some_and(looks_like_key_id);
    let (id_field, id) = object
        .iter()
        .find(|(_, v)| is_id(v))
        .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))?;
    let mut secrets = object.iter().filter(|(k, v)| {
        **k != id_field
            && k.to_ascii_lowercase().contains("secret")
            && v.as_str().is_some_and(looks_like_key_secret)
    });
    let field = secrets.next()?.0.clone();
    if secrets.next().is_some() {
        return None;
    }
    let secret = take(object, &field)?;
    Some(Contents::Key {
        id,
        fields: (id_field, field),
        secret,
    })
}

fn take(object: &mut Map<String, Json>, name: &str) -> Option<Secret> {
    match object.remove(name) {
        Some(Json::String(text)) => Some(Secret::new(text)),
        _ => None,
    }
}

/// Long-term key ids begin with `AKIA`.
pub(super) fn looks_like_key_id(text: &str) -> bool {
    (16..=128).contains(&text.len())
        && text.starts_with("AKIA")
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// Forty characters of base64.
pub(super) fn looks_like_key_secret(text: &str) -> bool {
    text.len() == 40
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Contents {
        read(&Secret::new(text.into()))
    }

    #[test]
    fn keys_and_logins_are_recognised_by_their_shape_and_nothing_else_is() {
        let secret = "x".repeat(40);
        let key = format!(
            r#"{{"access_key_id":"AKIAABCDEFGHIJKLMNOP","secret_access_key":"{secret}","note":"n"}}"#
        );
        let Contents::Key { id, fields, .. } = of(&key) else {
            panic!("no key")
        };
        assert_eq!(
            (id.as_str(), fields.0.as_str(), fields.1.as_str()),
            ("AKIAABCDEFGHIJKLMNOP", "access_key_id", "secret_access_key")
        );
        let login = r#"{"engine":"postgres","host":"h","port":"6432","username":"u","password":"p","dbname":"d","masterarn":"m"}"#;
        let Contents::Database(login) = of(login) else {
            panic!("no login")
        };
        assert_eq!(
            (login.role.as_str(), login.port, login.admin.as_deref()),
            ("u", 6432, Some("m"))
        );
        for other in [
            "AKIAABCDEFGHIJKLMNOP",
            r#"{"engine":"mysql","host":"h","username":"u","password":"p"}"#,
            r#"{"engine":"postgres","host":"h","password":"p"}"#,
            r#"{"access_key_id":"AKIAABCDEFGHIJKLMNOP"}"#,
            "[]",
        ] {
            assert!(matches!(of(other), Contents::Other), "{other}");
        }
    }
}
