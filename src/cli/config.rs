//! The configuration: file, environment and flags; every key has a default and says where its value came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::adapter::store::Places;

use super::error::CliError;
use super::exit::Exit;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Env(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Env(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set<T> {
    /// The value.
    pub value: T,
    /// Where from.
    pub origin: Origin,
}

/// The configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Organisation in the origin of notes.
    pub org: Set<String>,
    /// Image with `sh` and `nc` for probe pods and canaries; empty = one that is already on the node.
    pub probe_image: Set<String>,
    /// HTTPS address that gets notices as JSON; empty = notices are only shown. It may hold a secret and is never printed.
    pub webhook_url: Set<String>,
    /// Extra certificate authority for the webhook.
    pub webhook_ca: Set<String>,
    /// Who runs plans under `team` policy: an id of people.yaml.
    pub me: Set<String>,
    /// Kubeconfig; empty = `KUBECONFIG`, then the user's own.
    pub kubeconfig: Set<String>,
    /// Context; empty = the current one.
    pub context: Set<String>,
    /// Profile of the cloud account; empty = as every AWS tool finds it.
    pub aws_profile: Set<String>,
    /// Region; empty = `AWS_REGION`, then the profile's.
    pub aws_region: Set<String>,
    /// Endpoint for all of AWS; empty = AWS itself.
    pub aws_endpoint: Set<String>,
    /// `BUCKET` or `BUCKET/PREFIX` that keeps leases, so that responders on other hosts see them; empty = a folder of this host.
    pub lease_bucket: Set<String>,
    /// `careful`, or `unbounded` for servers on this host.
    pub rate_start: Set<String>,
    /// Emergency access: profile → the ARN that it must turn out to be.
    pub break_glass: Set<BTreeMap<String, String>>,
}

/// The file's form. Unknown keys are refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    org: Option<String>,
    probe_image: Option<String>,
    webhook_url: Option<String>,
    webhook_ca: Option<String>,
    me: Option<String>,
    kubeconfig: Option<String>,
    context: Option<String>,
    aws_profile: Option<String>,
    aws_region: Option<String>,
    aws_endpoint: Option<String>,
    lease_bucket: Option<String>,
    rate_start: Option<String>,
    break_glass: Option<BTreeMap<String, String>>,
}

impl Config {
    /// Reads file and environment.
    ///
    /// # Errors
    /// When the file is there and cannot be read or understood.
    pub fn load(places: &Places) -> Result<Self, CliError> {
        let path = &places.config;
        let file = match std::fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => File::default(),
            Err(e) => return Err(bad(path, &e.to_string())),
            Ok(text) => read(&text).map_err(|e| bad(path, &e))?,
        };
        let pick = |from_file: Option<String>, env: &'static str, default: &str| match (
            std::env::var(env),
            from_file,
        ) {
            (Ok(value), _) if !value.is_empty() => Set {
                value,
                origin: Origin::Env(env),
            },
            (_, Some(value)) => Set {
                value,
                origin: Origin::File(path.clone()),
            },
            _ => Set {
                value: default.to_owned(),
                origin: Origin::Default,
            },
        };
        let config = Config {
            org: pick(file.org, "FIREBREAK_ORG", "unregistered.invalid"),
            probe_image: pick(file.probe_image, "FIREBREAK_PROBE_IMAGE", ""),
            webhook_url: pick(file.webhook_url, "FIREBREAK_WEBHOOK_URL", ""),
            webhook_ca: pick(file.webhook_ca, "FIREBREAK_WEBHOOK_CA", ""),
            me: pick(file.me, "FIREBREAK_ME", ""),
            kubeconfig: pick(file.kubeconfig, "FIREBREAK_KUBECONFIG", ""),
            context: pick(file.context, "FIREBREAK_CONTEXT", ""),
            aws_profile: pick(file.aws_profile, "FIREBREAK_AWS_PROFILE", ""),
            aws_region: pick(file.aws_region, "FIREBREAK_AWS_REGION", ""),
            aws_endpoint: pick(file.aws_endpoint, "FIREBREAK_AWS_ENDPOINT", ""),
            lease_bucket: pick(file.lease_bucket, "FIREBREAK_LEASE_BUCKET", ""),
            rate_start: pick(file.rate_start, "FIREBREAK_RATE_START", "careful"),
            break_glass: match file.break_glass {
                Some(value) => Set {
                    value,
                    origin: Origin::File(path.clone()),
                },
                None => Set {
                    value: BTreeMap::new(),
                    origin: Origin::Default,
                },
            },
        };
        if !["careful", "unbounded"].contains(&config.rate_start.value.as_str()) {
            return Err(bad(path, "`rate_start` is `careful` or `unbounded`"));
        }
        let org = &config.org.value;
        if org.is_empty()
            || org.starts_with("firebreak/")
            || !org
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b))
        {
            return Err(bad(
                path,
                "`org` must be lower case letters, digits and `._-/`",
            ));
        }
        Ok(config)
    }

    /// Every key with its value and origin, for `firebreak config`. The webhook's address may hold a token: only whether it is set is said.
    pub fn rows(&self) -> Vec<(&'static str, String, String)> {
        let row = |name, set: &Set<String>| (name, set.value.clone(), set.origin.to_string());
        let webhook = if self.webhook_url.value.is_empty() {
            String::new()
        } else {
            "(set; not shown)".to_owned()
        };
        let paths: Vec<String> = self
            .break_glass
            .value
            .iter()
            .map(|(profile, arn)| format!("{profile} = {arn}"))
            .collect();
        let paths = paths.join(", ");
        vec![
            row("org", &self.org),
            row("probe_image", &self.probe_image),
            ("webhook_url", webhook, self.webhook_url.origin.to_string()),
            row("webhook_ca", &self.webhook_ca),
            row("me", &self.me),
            row("kubeconfig", &self.kubeconfig),
            row("context", &self.context),
            row("aws_profile", &self.aws_profile),
            row("aws_region", &self.aws_region),
            row("aws_endpoint", &self.aws_endpoint),
            row("lease_bucket", &self.lease_bucket),
            row("rate_start", &self.rate_start),
            ("break_glass", paths, self.break_glass.origin.to_string()),
        ]
    }
}

fn read(text: &str) -> Result<File, String> {
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_saphyr::from_str(text).map_err(|e| e.to_string())
}

fn bad(path: &Path, detail: &str) -> CliError {
    CliError::new(
        Exit::Usage,
        "FB1108",
        format!(
            "cannot use the configuration `{}`: {detail}",
            path.display()
        ),
    )
    .hint("firebreak config prints the keys; correct the file or move it away")
}
