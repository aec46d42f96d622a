//! A draft of a map from what was seen. What no API says stands as [`TO_FILL`] with a comment: the reader refuses a map that still has one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::map::{FORMAT, TO_FILL};
use super::words::CredentialKind;

/// One credential as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drafted {
    /// Kind.
    pub kind: CredentialKind,
    /// User, or role on the server.
    pub principal: String,
    /// Secret that keeps it, and the JSON fields of id and secret.
    pub secret: Option<(String, (String, String))>,
    /// Host, port and database, of a database password.
    pub server: Option<(String, u16, String)>,
    /// Secret with the login of who may alter the role, where it is named.
    pub admin: Option<String>,
    /// Namespace and name of Kubernetes Secrets, with field → key.
    pub sinks: Vec<(String, String, BTreeMap<String, String>)>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Writes the draft.
pub fn draft(rows: &[Drafted]) -> String {
    let mut out = String::new();
    line(&mut out, &format!("firebreak: {FORMAT}"));
    line(
        &mut out,
        "# Drafted from what could be seen. Fill in what stands in < >, check the rest, delete what does not belong here.",
    );
    if rows.is_empty() {
        line(&mut out, "entries: []");
        return out;
    }
    line(&mut out, "entries:");
    for (at, row) in rows.iter().enumerate() {
        entry(&mut out, at, row);
    }
    out
}

fn entry(out: &mut String, at: usize, row: &Drafted) {
    for note in &row.notes {
        line(out, &format!("  # {}", note.replace(['\n', '\r'], " ")));
    }
    line(
        out,
        &format!("  - id: {}", text(&format!("{}-{:03}", row.kind, at + 1))),
    );
    line(out, &format!("    kind: {}", row.kind));
    line(out, &format!("    principal: {}", text(&row.principal)));
    match &row.secret {
        Some((id, (name, secret))) => line(
            out,
            &format!(
                "    secret: {{ id: {}, json_keys: {{ id: {}, secret: {} }} }}",
                text(id),
                text(name),
                text(secret)
            ),
        ),
        None => line(
            out,
            "    # No secret of the store holds it: the new one gets a secret of the run's own unless one is named here.",
        ),
    }
    if let Some((host, port, database)) = &row.server {
        line(out, "    servers:");
        line(
            out,
            &format!(
                "      primary: {{ host: {}, port: {port}, database: {} }}",
                text(host),
                text(database)
            ),
        );
        line(
            out,
            "      # Each replica has sessions of its own: name them all, or say [] when there are none.",
        );
        line(
            out,
            &format!(
                "      replicas: [{{ host: {}, port: {port}, database: {} }}]",
                text(TO_FILL),
                text(database)
            ),
        );
        let admin = row.admin.as_deref().unwrap_or(TO_FILL);
        line(
            out,
            "    # The secret with the login of who may alter this role.",
        );
        line(out, &format!("    admin: {}", text(admin)));
    }
    if !row.sinks.is_empty() {
        line(out, "    sinks:");
    }
    for (namespace, name, keys) in &row.sinks {
        let keys: Vec<String> = keys
            .iter()
            .map(|(k, v)| format!("{k}: {}", text(v)))
            .collect();
        line(
            out,
            &format!(
                "      - {{ namespace: {}, secret: {}, keys: {{ {} }} }}",
                text(namespace),
                text(name),
                keys.join(", ")
            ),
        );
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a text never fails.
    let _ = writeln!(out, "{text}");
}

/// A double-quoted scalar: what is in it cannot become anything else.
fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::map::RotationMap;
    use super::*;

    #[test]
    fn a_draft_is_a_map_once_a_person_filled_it_in_and_not_before() {
        let rows = [
            Drafted {
                kind: CredentialKind::IamAccessKey,
                principal: "shop: \"x\"".into(),
                secret: Some(("shop/key".into(), ("id".into(), "secret".into()))),
                server: None,
                admin: None,
                sinks: vec![(
                    "shop".into(),
                    "token".into(),
                    [("access_key_id".to_owned(), "ID".to_owned())].into(),
                )],
                notes: vec!["two\nlines".into()],
            },
            Drafted {
                kind: CredentialKind::PgPassword,
                principal: "web".into(),
                secret: Some(("shop/db".into(), ("username".into(), "password".into()))),
                server: Some(("db.example".into(), 5432, "shop".into())),
                admin: None,
                sinks: vec![],
                notes: vec![],
            },
        ];
        let drafted = draft(&rows);
        let e = RotationMap::read(drafted.as_bytes()).expect_err("not filled in");
        assert!(e.to_string().contains("still stands"), "{e}\n{drafted}");
        let filled = drafted.replace(TO_FILL, "replica.example");
        let map = RotationMap::read(filled.as_bytes()).expect("a map");
        assert_eq!(map.entries.len(), 2);
        assert_eq!(map.entries[0].principal.as_deref(), Some("shop: \"x\""));
        assert!(RotationMap::read(draft(&[]).as_bytes()).is_ok());
    }
}
