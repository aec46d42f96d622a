//! Who may decide: the people file, the pinned `allowed_signers` and the revoked keys. Strict: what `ssh-keygen` would take loosely
//! (no `namespaces=`, patterns, no validity) is refused at the door.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use ssh_key::{HashAlg, PublicKey};

use crate::playbook::model::Playbook;

use super::call::{jcs, sha256_hex};
use super::policy::PolicyName;

/// A trust file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {what}")]
pub struct TrustError {
    /// `people.yaml`, `allowed_signers` or `revoked_keys`.
    pub file: &'static str,
    /// Line, from 1; 0 = the whole file.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// One person.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Short id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Their principal in `allowed_signers`.
    pub principal: String,
    /// Roles they hold.
    pub roles: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeopleFile {
    firebreak: String,
    people: Vec<Person>,
}

/// Reads `people.yaml` (`firebreak: people/v1`, `people: [{id, name, principal, roles}]`).
///
/// # Errors
/// When it is not that, or a principal or id stands twice.
pub fn read_people(bytes: &[u8]) -> Result<Vec<Person>, TrustError> {
    let wrong = |what: String| TrustError {
        file: "people.yaml",
        line: 0,
        what,
    };
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_anchors: 0, max_aliases: 0, max_nodes: 20_000 },
        strict_booleans: true,
    };
    let file: PeopleFile =
        serde_saphyr::from_slice_with_options(bytes, options).map_err(|e| wrong(e.to_string()))?;
    if file.firebreak != "people/v1" {
        return Err(wrong(format!("`{}` is not `people/v1`", file.firebreak)));
    }
    let mut seen: Vec<&str> = Vec::new();
    for person in &file.people {
        if !is_principal(&person.principal) {
            return Err(wrong(format!("`{}` is no principal", person.principal)));
        }
        for name in [person.id.as_str(), person.principal.as_str()] {
            if seen.contains(&name) {
                return Err(wrong(format!("`{name}` stands twice")));
            }
        }
        seen.push(&person.id);
        if person.principal != person.id {
            seen.push(&person.principal);
        }
    }
    Ok(file.people)
}

/// One literal principal: `[a-z0-9@._-]+`.
pub fn is_principal(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"@._-".contains(&b))
}

/// One key that may sign for one principal.
#[derive(Debug, Clone, PartialEq)]
pub struct Signer {
    /// The principal.
    pub principal: String,
    /// What it may sign.
    pub namespaces: Vec<String>,
    /// Not before.
    pub valid_after: DateTime<Utc>,
    /// Not from then on.
    pub valid_before: DateTime<Utc>,
    /// Key type, `ssh-ed25519`.
    pub key_type: String,
    /// The key; `None` for a type that is not checked yet.
    pub key: Option<PublicKey>,
}

/// Reads `allowed_signers`.
///
/// # Errors
/// With the first line that is not strict: one literal principal, `namespaces=`, `valid-after=` and `valid-before=` in UTC, a key.
pub fn read_signers(bytes: &[u8]) -> Result<Vec<Signer>, TrustError> {
    lines("allowed_signers", bytes)?
        .into_iter()
        .map(|(number, line)| {
            read_signer(line).map_err(|what| TrustError {
                file: "allowed_signers",
                line: number,
                what,
            })
        })
        .collect()
}

fn lines<'b>(file: &'static str, bytes: &'b [u8]) -> Result<Vec<(usize, &'b str)>, TrustError> {
    let text = std::str::from_utf8(bytes).map_err(|_| TrustError {
        file,
        line: 0,
        what: "it is not UTF-8".into(),
    })?;
    Ok(text
        .lines()
        .enumerate()
        .map(|(n, l)| (n + 1, l))
        .filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#'))
        .collect())
}

fn read_signer(line: &str) -> Result<Signer, String> {
    if !line.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Err("only printable ASCII may stand here".into());
    }
    let words: Vec<&str> = line.split(' ').filter(|w| !w.is_empty()).collect();
    let [principal, options, key_type, key, ..] = words.as_slice() else {
        return Err("wanted: principal, options, key type, key".into());
    };
    if !is_principal(principal) {
        return Err(format!(
            "`{principal}` is not one literal principal (a-z, 0-9, `@`, `.`, `_`, `-`)"
        ));
    }
    let options = read_options(options)?;
    let option = |name: &str| {
        options.get(name).ok_or_else(|| {
            format!("`{name}=` is missing: without it the entry would hold for anything")
        })
    };
    let namespaces: Vec<String> = option("namespaces")?
        .split(',')
        .map(str::to_owned)
        .collect();
    if namespaces
        .iter()
        .any(|n| n.is_empty() || n.contains(['*', '?', '!']))
    {
        return Err("a namespace is a name, not a pattern".into());
    }
    let after = read_time(option("valid-after")?)?;
    let before = read_time(option("valid-before")?)?;
    if before <= after {
        return Err("`valid-before` does not lie after `valid-after`".into());
    }
    Ok(Signer {
        principal: (*principal).to_owned(),
        namespaces,
        valid_after: after,
        valid_before: before,
        key_type: (*key_type).to_owned(),
        key: read_key(key_type, key)?,
    })
}

fn read_key(key_type: &str, key: &str) -> Result<Option<PublicKey>, String> {
    if key_type != "ssh-ed25519" {
        return Ok(None);
    }
    PublicKey::from_openssh(&format!("{key_type} {key}"))
        .map(Some)
        .map_err(|e| format!("the key cannot be read: {e}"))
}

/// `name="value"` pairs joined by commas; commas may stand inside quotes.
fn read_options(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, tail) = rest
            .split_once("=\"")
            .ok_or_else(|| format!("`{rest}` is no option of the form name=\"value\""))?;
        if !["namespaces", "valid-after", "valid-before"].contains(&name) {
            return Err(format!("option `{name}` is not taken"));
        }
        let (value, tail) = tail
            .split_once('"')
            .ok_or_else(|| format!("option `{name}` has no closing quote"))?;
        if found.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("option `{name}` stands twice"));
        }
        rest = match tail.strip_prefix(',') {
            Some(more) if !more.is_empty() => more,
            None if tail.is_empty() => "",
            _ => return Err(format!("`{tail}` after option `{name}`")),
        };
    }
    Ok(found)
}

/// `YYYYMMDDZ`, `YYYYMMDDHHMMZ` or `YYYYMMDDHHMMSSZ`: always UTC, because a time of nobody's zone proves nothing.
fn read_time(text: &str) -> Result<DateTime<Utc>, String> {
    let digits = text
        .strip_suffix('Z')
        .ok_or_else(|| format!("`{text}` has no `Z`: times are UTC"))?;
    let full = match digits.len() {
        8 => format!("{digits}000000"),
        12 => format!("{digits}00"),
        _ => digits.to_owned(),
    };
    NaiveDateTime::parse_from_str(&full, "%Y%m%d%H%M%S")
        .ok()
        .filter(|_| full.len() == 14)
        .map(|t| t.and_utc())
        .ok_or_else(|| format!("`{text}` is no time of the form YYYYMMDD[HHMM[SS]]Z"))
}

/// Reads `revoked_keys`: one public key a line. Answers their fingerprints.
///
/// # Errors
/// For a line that is no public key (a binary revocation list cannot be checked).
pub fn read_revoked(bytes: &[u8]) -> Result<Vec<String>, TrustError> {
    lines("revoked_keys", bytes)?
        .into_iter()
        .map(|(line, text)| {
            PublicKey::from_openssh(text)
                .map(|k| k.fingerprint(HashAlg::Sha256).to_string())
                .map_err(|e| TrustError {
                    file: "revoked_keys",
                    line,
                    what: format!("it is no public key: {e}"),
                })
        })
        .collect()
}

/// The policy with its people and keys: what is pinned when the incident is opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Which.
    pub name: PolicyName,
    /// People; empty under `solo`.
    pub people: Vec<Person>,
    /// Keys; empty under `solo`.
    pub signers: Vec<Signer>,
    /// Fingerprints (`SHA256:…`) of revoked keys.
    pub revoked: Vec<String>,
    /// Digests of the trust files by name.
    pub files: BTreeMap<String, String>,
}

impl Policy {
    /// One operator who holds every role.
    pub fn solo() -> Self {
        Policy {
            name: PolicyName::Solo,
            people: Vec::new(),
            signers: Vec::new(),
            revoked: Vec::new(),
            files: BTreeMap::new(),
        }
    }
    /// People with keys, from the exact bytes of the pinned files.
    ///
    /// # Errors
    /// When one of the files cannot be used, or a person has no key.
    pub fn team(people: &[u8], signers: &[u8], revoked: Option<&[u8]>) -> Result<Self, TrustError> {
        let mut files = BTreeMap::from([
            ("people.yaml".to_owned(), sha256_hex(people)),
            ("allowed_signers".to_owned(), sha256_hex(signers)),
        ]);
        if let Some(bytes) = revoked {
            files.insert("revoked_keys".to_owned(), sha256_hex(bytes));
        }
        Ok(Policy {
            name: PolicyName::Team,
            people: read_people(people)?,
            signers: read_signers(signers)?,
            revoked: revoked.map(read_revoked).transpose()?.unwrap_or_default(),
            files,
        })
    }
    /// Digest over policy and trust files.
    pub fn trust_sha256(&self) -> String {
        sha256_hex(&jcs(
            &json!({ "files": self.files, "policy": self.name.as_str() }),
        ))
    }
    /// The person with this principal or id.
    pub fn person(&self, name: &str) -> Option<&Person> {
        self.people
            .iter()
            .find(|p| p.principal == name || p.id == name)
    }
    /// The principal of whoever runs a plan; under `solo` their own id.
    pub fn principal_of(&self, executor: &str) -> String {
        self.person(executor)
            .map_or_else(|| executor.to_owned(), |p| p.principal.clone())
    }
    /// The role of the people file that fills a role of the playbook.
    pub fn contact(playbook: &Playbook, role: &str) -> String {
        playbook
            .roles
            .get(role)
            .map_or_else(|| role.to_owned(), |r| r.contact.clone())
    }
    /// Who holds a role of the playbook now.
    pub fn holders(&self, playbook: &Playbook, role: &str) -> Vec<&Person> {
        let contact = Self::contact(playbook, role);
        self.people
            .iter()
            .filter(|p| p.roles.contains(&contact))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
    const GOOD: &str = "ic@example.org namespaces=\"approval@firebreak,custody@firebreak\",valid-after=\"20260101Z\",valid-before=\"20270101Z\"";

    #[test]
    fn an_entry_needs_one_literal_principal_a_namespace_and_both_dates_in_utc() {
        let good =
            read_signers(format!("# people\n{GOOD} {KEY} comment\n").as_bytes()).expect("good");
        assert_eq!(good[0].principal, "ic@example.org");
        assert_eq!(good[0].namespaces.len(), 2);
        for bad in [
            GOOD.replace("ic@example.org", "*@example.org"),
            GOOD.replace("ic@example.org", "a@x,b@x"),
            GOOD.replace("namespaces=\"approval@firebreak,custody@firebreak\",", ""),
            GOOD.replace("approval@firebreak", "*"),
            GOOD.replace(",valid-before=\"20270101Z\"", ""),
            GOOD.replace("valid-after=\"20260101Z\",", ""),
            GOOD.replace("20270101Z", "20270101"),
            GOOD.replace("20270101Z", "20250101Z"),
            format!("{GOOD},cert-authority"),
        ] {
            assert!(
                read_signers(format!("{bad} {KEY}\n").as_bytes()).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn another_key_type_is_kept_by_name_and_has_no_key() {
        let line = format!("{GOOD} ecdsa-sha2-nistp256 AAAA\n");
        let signers = read_signers(line.as_bytes()).expect("read");
        assert!(signers[0].key.is_none() && signers[0].key_type == "ecdsa-sha2-nistp256");
    }

    #[test]
    fn people_stand_once_and_name_their_roles() {
        let text = "firebreak: people/v1\npeople:\n  - { id: amira, name: Amira, principal: ic@example.org, roles: [incident-commander] }\n";
        assert_eq!(
            read_people(text.as_bytes()).expect("people")[0].roles,
            ["incident-commander"]
        );
        let twice = format!("{text}{}", &text[text.find("  -").expect("a person")..]);
        assert!(read_people(twice.as_bytes()).is_err());
        assert!(read_people(text.replace("roles:", "rolls:").as_bytes()).is_err());
    }
}
