//! What a person names on the command line, as variables of the playbook `rotate`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::cli::error::CliError;
use crate::incident::clock_text;

/// Which credentials. All that are named are meant; filters narrow them.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Selectors {
    /// User: its access keys (may repeat)
    #[arg(long, value_name = "NAME")]
    pub user: Vec<String>,
    /// Access key id (may repeat)
    #[arg(long, value_name = "ID")]
    pub key: Vec<String>,
    /// Role: its sessions (may repeat)
    #[arg(long, value_name = "NAME")]
    pub role: Vec<String>,
    /// Secret of the secret store (may repeat)
    #[arg(long, value_name = "ID")]
    pub secret: Vec<String>,
    /// CEL over one credential, such as "kind == 'iam-access-key' && tags.team == 'pay'"; `true` means all
    #[arg(value_name = "CEL")]
    pub expression: Option<String>,
    /// Kind, such as iam-access-key (may repeat)
    #[arg(long)]
    pub kind: Vec<String>,
    /// Path of users and roles
    #[arg(long, value_name = "PATH")]
    pub path_prefix: Option<String>,
    /// Tag KEY=VALUE (may repeat)
    #[arg(long, value_name = "KEY=VALUE")]
    pub tag: Vec<String>,
    /// What the containments of this incident handed over
    #[arg(long)]
    pub handover: bool,
    /// What to do with credentials that cannot be judged: refuse, include or exclude
    #[arg(long, default_value = "refuse", value_parser = ["refuse", "include", "exclude"])]
    pub on_unknown: String,
}

/// How they are replaced.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Mode {
    /// Kill first, replace after; the outage is accepted
    #[arg(long)]
    pub emergency: bool,
    /// Suspected start of the compromise, RFC 3339: a key used since then is never freed by itself
    #[arg(long, value_name = "TIME")]
    pub t0: Option<DateTime<Utc>>,
    /// Rotation map
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,
    /// Let the rest go on where something changed since the plan
    #[arg(long)]
    pub skip_stale: bool,
    /// Delete old credentials once they are proven dead; wants a second person
    #[arg(long)]
    pub delete: bool,
    /// Key id that may be deleted where a user has no free slot (may repeat)
    #[arg(long, value_name = "ID")]
    pub free_slot: Vec<String>,
    /// Leave alone: key id, user, role or secret (may repeat)
    #[arg(long, value_name = "NAME")]
    pub exclude: Vec<String>,
    /// Secret with the login of who may alter database roles, where neither map nor secret names one
    #[arg(long, value_name = "SECRET")]
    pub admin: Option<String>,
    /// Seconds that nobody may have used an old credential before it is disabled (graceful); a day by default
    #[arg(long, value_name = "SECONDS")]
    pub grace: Option<u64>,
}

/// A day.
const GRACE_S: u64 = 86_400;

impl Selectors {
    /// The filters as CEL, joined with what was written: a person sees the expression that their flags stand for.
    ///
    /// # Errors
    /// When a tag is not `KEY=VALUE`.
    fn cel(&self) -> Result<String, CliError> {
        let mut all = Vec::new();
        if !self.kind.is_empty() {
            let kinds: Vec<String> = self.kind.iter().map(|k| quoted(k)).collect();
            all.push(format!("kind in [{}]", kinds.join(", ")));
        }
        if let Some(prefix) = &self.path_prefix {
            all.push(format!("path.startsWith({})", quoted(prefix)));
        }
        for tag in &self.tag {
            let (key, value) = tag
                .split_once('=')
                .ok_or_else(|| CliError::usage(format!("`{tag}` is not KEY=VALUE")))?;
            all.push(format!("tags[{}] == {}", quoted(key), quoted(value)));
        }
        if let Some(written) = &self.expression {
            all.push(if all.is_empty() {
                written.clone()
            } else {
                format!("({written})")
            });
        }
        Ok(all.join(" && "))
    }

    /// Refuses a command that names nothing.
    fn names_something(&self) -> bool {
        let lists = [&self.user, &self.key, &self.role, &self.secret];
        lists.iter().any(|l| !l.is_empty())
            || !self.kind.is_empty()
            || !self.tag.is_empty()
            || self.path_prefix.is_some()
            || self.expression.is_some()
            || self.handover
    }

    /// The playbook's variables.
    ///
    /// # Errors
    /// When nothing is named, or a flag has the wrong form.
    pub fn vars(&self) -> Result<BTreeMap<String, String>, CliError> {
        if !self.names_something() {
            return Err(CliError::usage("nothing is selected").hint(
                "name users, keys, roles or secrets, write a CEL expression, or take --handover; firebreak rotate select shows what it means",
            ));
        }
        let list = |names: &[String]| json!(names).to_string();
        Ok([
            ("users", list(&self.user)),
            ("keys", list(&self.key)),
            ("roles", list(&self.role)),
            ("secrets", list(&self.secret)),
            ("selection", self.cel()?),
            ("handover", self.handover.to_string()),
            ("on_unknown", self.on_unknown.clone()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect())
    }
}

impl Mode {
    /// The playbook's variables. The map's bytes are pinned by whoever opens the incident; here is its digest.
    pub fn vars(&self, map_sha256: Option<&str>) -> BTreeMap<String, String> {
        let t0 = self.t0.map(clock_text::seconds).unwrap_or_default();
        [
            ("emergency", self.emergency.to_string()),
            ("t0", t0),
            ("map", map_sha256.unwrap_or_default().to_owned()),
            ("skip_stale", self.skip_stale.to_string()),
            ("grace_s", self.grace.unwrap_or(GRACE_S).to_string()),
            ("exclude", json!(self.exclude).to_string()),
            ("admin", self.admin.clone().unwrap_or_default()),
            ("delete", self.delete.to_string()),
            ("free_slot", json!(self.free_slot).to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

/// A CEL string.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_stand_for_an_expression() {
        let chosen = Selectors {
            kind: vec!["iam-access-key".into()],
            path_prefix: Some("/ci/".into()),
            tag: vec!["team=pay's".into()],
            expression: Some("age > duration('1h') || true".into()),
            ..Selectors::default()
        };
        assert_eq!(
            chosen.cel().expect("fits"),
            "kind in ['iam-access-key'] && path.startsWith('/ci/') && tags['team'] == 'pay\\'s' && (age > duration('1h') || true)"
        );
    }

    #[test]
    fn a_command_that_names_nothing_selects_nothing() {
        let e = Selectors::default().vars().expect_err("refused");
        assert_eq!((e.code, e.exit.code()), ("FB1101", 2));
    }

    #[test]
    fn a_tag_without_a_value_is_refused() {
        let chosen = Selectors {
            tag: vec!["team".into()],
            ..Selectors::default()
        };
        assert!(chosen.vars().is_err());
    }
}
