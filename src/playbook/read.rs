//! Bytes to a [`Playbook`]: the strict reader. It answers every finding it can see at once, each with line and column.
//!
//! The tree is read first ([`super::tree`]); then the top level and each step by itself are checked against the format's types
//! ([`super::raw`]), so that one wrong step does not hide the next.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::incident::body::Objectives;

use super::finding::{Finding, sort};
use super::model::{Defaults, Places, Playbook, Position, Retry, RetryOn, Role};
use super::raw::{RawObjectives, RawPlaybook, RawRetry, RawRole, RawVariable, Time};
use super::read_step::Steps;
use super::tree::{self, escape};
use super::variable::{self, Declaration, Type};

/// CACAO's playbook types.
pub(super) const TYPES: [&str; 8] = [
    "notification",
    "detection",
    "investigation",
    "prevention",
    "mitigation",
    "remediation",
    "engagement",
    "attack",
];

/// Reads a playbook. `file` is its name or path: its stem must be the playbook's id. None for text that has no file.
///
/// # Errors
/// Everything that keeps it from being a playbook, sorted by place. Warnings are [`super::lint()`]'s.
pub fn read(bytes: &[u8], file: Option<&str>) -> Result<Playbook, Vec<Finding>> {
    let tree = tree::read(bytes)?;
    let mut reader = Reader {
        places: &tree.places,
        findings: Vec::new(),
    };
    let made = reader.playbook(&tree.value, file);
    let mut findings = reader.findings;
    sort(&mut findings);
    match made {
        Some(mut playbook) if findings.is_empty() => {
            playbook.sha256 = hex(&Sha256::digest(bytes));
            playbook.places = tree.places;
            Ok(playbook)
        }
        _ => Err(findings),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What reading gathers.
pub(super) struct Reader<'a> {
    pub(super) places: &'a Places,
    pub(super) findings: Vec<Finding>,
}

impl Reader<'_> {
    fn playbook(&mut self, value: &Value, file: Option<&str>) -> Option<Playbook> {
        let Some(map) = value.as_object() else {
            self.say(
                "FB0101",
                "",
                "a playbook is a mapping of keys",
                "begin with `firebreak: playbook/v1`",
            );
            return None;
        };
        let steps = map.get("steps").cloned();
        let mut head = map.clone();
        head.remove("steps");
        // A file of another version or of none is not scolded key by key.
        if map.get("firebreak").and_then(Value::as_str) != Some("playbook/v1") {
            self.say(
                "FB0102",
                "/firebreak",
                "the format version is missing or unknown",
                "begin with `firebreak: playbook/v1`",
            );
            return None;
        }
        self.unknown_keys(&mut head, "", &known::<RawPlaybook>());
        let raw: RawPlaybook = self.typed(&Value::Object(head), "")?;
        let steps = self.steps(steps);
        let severity = self.percent("/severity", raw.severity);
        let impact = self.percent("/impact", raw.impact);
        let vars = self.variables(raw.vars.unwrap_or_default());
        let playbook = Playbook {
            id: self.id(raw.id, file),
            name: self.name(raw.name),
            description: raw.description.unwrap_or_default(),
            version: self.version(raw.version),
            types: self.types(raw.types),
            activities: raw.activities.unwrap_or_default(),
            severity,
            impact,
            tlp: raw.tlp.map_or("TLP:AMBER", |t| t.as_str()).to_owned(),
            runbook: raw.runbook,
            objectives: self.objectives(raw.objectives),
            roles: self.roles(raw.roles.unwrap_or_default()),
            vars,
            env: raw.env.unwrap_or_default(),
            defaults: Defaults::default(),
            allow: raw.allow.unwrap_or_default(),
            steps,
            sha256: String::new(),
            places: Places::default(),
        };
        let defaults = raw.defaults.map(|d| Defaults {
            timeout: self.time("/defaults/timeout", d.timeout),
            retry: d.retry.map(|r| self.retry("/defaults/retry", r)),
            on_failure: d.on_failure,
        });
        Some(Playbook {
            defaults: defaults.unwrap_or_default(),
            ..playbook
        })
    }

    fn steps(&mut self, steps: Option<Value>) -> Vec<super::model::Step> {
        let mut reading = Steps::new(self);
        let found = reading.block(steps.as_ref(), "/steps", None, 1);
        if reading.count() > super::read_step::MAX_STEPS {
            self.say(
                "FB0110",
                "/steps",
                format!(
                    "a playbook has at most {} steps",
                    super::read_step::MAX_STEPS
                ),
                "split it",
            );
        }
        found
    }

    /// Adds a finding at a value.
    pub(super) fn say(
        &mut self,
        code: &'static str,
        pointer: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.at(code, self.places.value(pointer), message, fix);
    }
    /// Adds a finding at a place.
    pub(super) fn at(
        &mut self,
        code: &'static str,
        place: Position,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.findings.push(Finding::new(code, place, message, fix));
    }

    /// Reports and removes keys that the format does not have.
    pub(super) fn unknown_keys(
        &mut self,
        map: &mut Map<String, Value>,
        pointer: &str,
        known: &[String],
    ) {
        let strangers: Vec<String> = map.keys().filter(|k| !known.contains(k)).cloned().collect();
        for key in strangers {
            map.remove(&key);
            let place = self.places.key(&format!("{pointer}/{}", escape(&key)));
            let fix = if LATER.contains(&key.as_str()) {
                "this version does not have it; leave it out".to_owned()
            } else {
                match nearest(&key, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "leave it out".to_owned(),
                }
            };
            self.at("FB0101", place, format!("unknown key `{key}`"), fix);
        }
    }

    /// Reads a value as one of the format's types; a wrong type or key is a finding at its place.
    pub(super) fn typed<T: DeserializeOwned>(&mut self, value: &Value, pointer: &str) -> Option<T> {
        match serde_path_to_error::deserialize(value) {
            Ok(read) => Some(read),
            Err(error) => {
                let inner = format!("{pointer}{}", pointer_of(error.path()));
                let message = error.inner().to_string();
                let place = if message.starts_with("unknown field") {
                    self.places.key(&inner)
                } else {
                    self.places.value(&inner)
                };
                self.at(
                    "FB0101",
                    place,
                    message,
                    "see `firebreak playbook schema` for what may stand here",
                );
                None
            }
        }
    }

    /// A duration over zero.
    pub(super) fn time(&mut self, pointer: &str, time: Option<Time>) -> Option<Duration> {
        let time = time?.0;
        if time.is_zero() {
            self.say(
                "FB0101",
                pointer,
                "a duration is over 0",
                "such as 90s, 5m, 1h30m or 2d",
            );
        }
        Some(time)
    }

    pub(super) fn retry(&mut self, pointer: &str, raw: RawRetry) -> Retry {
        if raw.max > 10 {
            self.say(
                "FB0101",
                &format!("{pointer}/max"),
                "at most 10 retries",
                "a person decides after that",
            );
        }
        Retry {
            max: raw.max,
            backoff: self
                .time(&format!("{pointer}/backoff"), raw.backoff)
                .unwrap_or(Duration::from_secs(2)),
            on: raw
                .on
                .unwrap_or(vec![RetryOn::Transient, RetryOn::Throttled]),
        }
    }

    fn id(&mut self, id: Option<String>, file: Option<&str>) -> String {
        let id = id.unwrap_or_default();
        let stem = file.and_then(|f| Path::new(f).file_stem()?.to_str());
        if !is_slug(&id) {
            self.say(
                "FB0103",
                "/id",
                "the id is missing or no slug",
                "lower-case letters, digits and `-`, at most 63",
            );
        } else if let Some(stem) = stem.filter(|s| *s != id) {
            self.say(
                "FB0103",
                "/id",
                format!("the id `{id}` differs from the file's name `{stem}`"),
                format!("name the file `{id}.yaml`"),
            );
        }
        id
    }
    fn name(&mut self, name: Option<String>) -> String {
        let name = name.unwrap_or_default();
        if name.trim().is_empty() || name.chars().count() > 120 || name.contains('\n') {
            self.say(
                "FB0104",
                "/name",
                "the name is missing, or longer than one line of 120 characters",
                "name it for people",
            );
        }
        name
    }
    fn version(&mut self, version: Option<i64>) -> u64 {
        let version = version.and_then(|v| u64::try_from(v).ok()).unwrap_or(0);
        if version == 0 {
            self.say(
                "FB0105",
                "/version",
                "the version is missing or below 1",
                "`version: 1`, and one more with every change",
            );
        }
        version
    }
    fn types(&mut self, types: Option<Vec<String>>) -> Vec<String> {
        let types = types.unwrap_or_default();
        if types.is_empty() || types.iter().any(|t| !TYPES.contains(&t.as_str())) {
            self.say(
                "FB0106",
                "/types",
                "the types are missing or unknown",
                format!("one or more of {}", TYPES.join(", ")),
            );
        }
        types
    }
    fn percent(&mut self, pointer: &str, value: Option<i64>) -> u8 {
        let value = value.unwrap_or(0);
        u8::try_from(value)
            .ok()
            .filter(|v| *v <= 100)
            .unwrap_or_else(|| {
                self.say(
                    "FB0107",
                    pointer,
                    format!("{value} lies outside 0 to 100"),
                    "100 is the highest, 0 means undefined",
                );
                0
            })
    }
    fn roles(&mut self, roles: BTreeMap<String, RawRole>) -> BTreeMap<String, Role> {
        roles
            .into_iter()
            .map(|(key, raw)| {
                if !is_slug(&key) {
                    let place = self.places.key(&format!("/roles/{}", escape(&key)));
                    self.at(
                        "FB0101",
                        place,
                        format!("`{key}` is no slug"),
                        "lower-case letters, digits and `-`",
                    );
                }
                let role = Role {
                    kind: raw.kind,
                    name: raw.name,
                    contact: raw.contact.unwrap_or_else(|| key.clone()),
                };
                (key, role)
            })
            .collect()
    }
    fn objectives(&mut self, raw: Option<RawObjectives>) -> Objectives {
        let Some(raw) = raw else {
            return Objectives::default();
        };
        if raw.tier.is_some_and(|t| !(1..=3).contains(&t)) {
            self.say(
                "FB0101",
                "/objectives/tier",
                "tiers are 1, 2 and 3",
                "see the service list of the runbook",
            );
        }
        let by_tier = match raw.tier {
            Some(1) => Some(3_600),
            Some(2) => Some(14_400),
            Some(3) => Some(86_400),
            _ => None,
        };
        if let Some(recovery) = &raw.recovery
            && recovery.limit.0 < recovery.expected.0
        {
            self.say(
                "FB0101",
                "/objectives/recovery",
                "the limit lies below what is expected",
                "`limit` is the larger of the two",
            );
        }
        let seconds = |t: Option<Time>| t.map(|t| t.0.as_secs());
        let rpo = raw.rpo;
        let point = |time: Option<Time>, default: u64| seconds(time).unwrap_or(default);
        let (database, files, config) =
            rpo.map_or((None, None, None), |r| (r.database, r.files, r.config));
        Objectives {
            tier: raw.tier,
            rto_s: seconds(raw.rto).or(by_tier),
            recovery_expected_s: seconds(raw.recovery.as_ref().map(|r| r.expected)),
            recovery_limit_s: seconds(raw.recovery.as_ref().map(|r| r.limit)),
            contain_s: seconds(raw.contain),
            rpo_s: BTreeMap::from([
                ("database".to_owned(), point(database, 900)),
                ("files".to_owned(), point(files, 3_600)),
                ("config".to_owned(), point(config, 0)),
            ]),
        }
    }

    fn variables(&mut self, raw: BTreeMap<String, RawVariable>) -> BTreeMap<String, Declaration> {
        raw.into_iter()
            .filter_map(|(name, raw)| Some((name.clone(), self.variable(&name, raw)?)))
            .collect()
    }
    fn variable(&mut self, name: &str, raw: RawVariable) -> Option<Declaration> {
        let pointer = format!("/vars/{}", escape(name));
        if !variable::is_name(name) {
            let place = self.places.key(&pointer);
            self.at(
                "FB0101",
                place,
                format!("`{name}` is no name of a variable"),
                "lower-case letters, digits and `_`, at most 63, and no word of CEL",
            );
        }
        let Some(kind) = Type::parse(&raw.r#type) else {
            self.say(
                "FB0202",
                &format!("{pointer}/type"),
                format!("unknown type `{}`", raw.r#type),
                "such as string, integer, bool, duration or list<string>",
            );
            return None;
        };
        let declaration = Declaration {
            description: raw.description.unwrap_or_default(),
            value: raw.value,
            external: raw.external.unwrap_or(false),
            constant: raw.constant.unwrap_or(false),
            pattern: raw.pattern,
            allowed: raw.r#enum.unwrap_or_default(),
            from: raw.from,
            kind,
        };
        self.declared(name, &pointer, &declaration);
        Some(declaration)
    }
    /// What a declaration must hold by itself.
    fn declared(&mut self, name: &str, pointer: &str, d: &Declaration) {
        let secret = d.kind == Type::Secret;
        let reference = d.from.as_deref().map(is_reference);
        match (secret, reference) {
            (true, None) => self.say(
                "FB0201",
                pointer,
                format!("the secret `{name}` does not say where it comes from"),
                "`from: file:PATH`, `fd:N` or `kube:namespace/name/key`",
            ),
            (_, Some(false)) => self.say(
                "FB0202",
                &format!("{pointer}/from"),
                "not understood",
                "`file:PATH`, `fd:N` or `kube:namespace/name/key`",
            ),
            (false, Some(true)) => self.say(
                "FB0202",
                &format!("{pointer}/from"),
                "only a secret comes `from` somewhere",
                "give a `value`, or `external: true`",
            ),
            _ => {}
        }
        if secret && d.value.is_some() {
            self.say(
                "FB0322",
                &format!("{pointer}/value"),
                format!("the secret `{name}` stands in the file"),
                "remove it, and replace it where it was valid: it is no secret any more",
            );
            return;
        }
        if d.constant && d.value.is_none() {
            self.say(
                "FB0201",
                pointer,
                format!("the constant `{name}` has no value"),
                "give it a `value`",
            );
        }
        if d.pattern
            .as_deref()
            .is_some_and(|p| variable::anchored(p).is_none())
        {
            self.say(
                "FB0202",
                &format!("{pointer}/pattern"),
                "no regular expression",
                "linear-time syntax: no look-around, no back-references",
            );
            return;
        }
        for (i, allowed) in d.allowed.iter().enumerate() {
            if let Err(e) = d.check(name, allowed) {
                self.say(
                    e.code,
                    &format!("{pointer}/enum/{i}"),
                    e.to_string(),
                    "make its values fit its type and pattern",
                );
            }
        }
        if let Some(value) = &d.value
            && let Err(e) = d.check(name, value)
        {
            self.say(
                e.code,
                &format!("{pointer}/value"),
                e.to_string(),
                "make the value fit its type, pattern and enum",
            );
        }
    }
}

/// Keys of the whole format that later versions read and this one refuses.
const LATER: [&str; 8] = [
    "each", "do", "until", "http", "playbook", "clocks", "probe", "hold",
];

/// The keys of one of the format's types, by its schema.
pub(super) fn known<T: schemars::JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T);
    schema
        .get("properties")
        .and_then(Value::as_object)
        .map(|p| p.keys().cloned().collect())
        .unwrap_or_default()
}

fn is_reference(from: &str) -> bool {
    match from.split_once(':') {
        Some(("file", path)) => !path.is_empty(),
        Some(("fd", n)) => n.parse::<u16>().is_ok(),
        Some(("kube", rest)) => {
            rest.split('/').count() == 3 && rest.split('/').all(|part| !part.is_empty())
        }
        _ => false,
    }
}

/// `[a-z][a-z0-9-]{0,62}`.
pub(super) fn is_slug(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(format!("/{}", escape(key))),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// The known word that is one or two keystrokes away.
pub(super) fn nearest<'k>(word: &str, known: &'k [String]) -> Option<&'k str> {
    known
        .iter()
        .map(|k| (distance(word, k), k.as_str()))
        .filter(|(d, k)| *d <= 2 && *d < k.len())
        .min()
        .map(|(_, k)| k)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
