//! Variables: what a playbook declares, what a run was given, and how `${name}` is filled in.
//!
//! A value is never parsed again: what a variable holds cannot become a key, a second argument or another `${}`. Secrets are
//! kept apart, as references; they never enter a text, an argv word, a plan or the ledger.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use super::duration;

/// The types a variable may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Text.
    String,
    /// Whole number, 64 bits.
    Integer,
    /// Finite number.
    Float,
    /// True or false.
    Bool,
    /// Text such as `1h30m`.
    Duration,
    /// RFC 3339 with zone, kept as UTC.
    Instant,
    /// Absolute URI.
    Uri,
    /// UUID.
    Uuid,
    /// IPv4 address.
    Ipv4,
    /// IPv6 address.
    Ipv6,
    /// MAC address.
    Mac,
    /// Hex digits, an even number.
    Hex,
    /// 32 hex digits.
    Md5,
    /// 64 hex digits.
    Sha256,
    /// A list of one of the above.
    List(Box<Type>),
    /// Never text: actions get a reference.
    Secret,
}

const WORDS: &[(&str, Type)] = &[
    ("string", Type::String),
    ("integer", Type::Integer),
    ("float", Type::Float),
    ("bool", Type::Bool),
    ("duration", Type::Duration),
    ("instant", Type::Instant),
    ("uri", Type::Uri),
    ("uuid", Type::Uuid),
    ("ipv4-addr", Type::Ipv4),
    ("ipv6-addr", Type::Ipv6),
    ("mac-addr", Type::Mac),
    ("hexstring", Type::Hex),
    ("md5-hash", Type::Md5),
    ("sha256-hash", Type::Sha256),
    ("secret", Type::Secret),
];

impl Type {
    /// Reads the written form: a word, or `list<word>`.
    pub fn parse(text: &str) -> Option<Type> {
        if let Some(inner) = text.strip_prefix("list<").and_then(|t| t.strip_suffix('>')) {
            let inner = WORDS.iter().find(|(w, _)| *w == inner)?.1.clone();
            return (inner != Type::Secret).then(|| Type::List(Box::new(inner)));
        }
        WORDS
            .iter()
            .find(|(w, _)| *w == text)
            .map(|(_, t)| t.clone())
    }
    /// The written form.
    pub fn word(&self) -> String {
        match self {
            Type::List(inner) => format!("list<{}>", inner.word()),
            plain => WORDS
                .iter()
                .find(|(_, t)| t == plain)
                .map_or_else(String::new, |(w, _)| (*w).to_owned()),
        }
    }
    /// True where its values are texts.
    pub fn is_text(&self) -> bool {
        !matches!(
            self,
            Type::Integer | Type::Float | Type::Bool | Type::List(_)
        )
    }
    /// A value of this type, for checks before the real one is known.
    pub fn sample(&self) -> Value {
        match self {
            Type::String | Type::Secret => json!("x"),
            Type::Integer => json!(1),
            Type::Float => json!(1.5),
            Type::Bool => json!(true),
            Type::Duration => json!("1m"),
            Type::Instant => json!("2026-01-01T00:00:00.000Z"),
            Type::Uri => json!("https://example.org/"),
            Type::Uuid => json!("00000000-0000-4000-8000-000000000000"),
            Type::Ipv4 => json!("192.0.2.1"),
            Type::Ipv6 => json!("2001:db8::1"),
            Type::Mac => json!("02:00:00:00:00:01"),
            Type::Hex => json!("00"),
            Type::Md5 => json!("0".repeat(32)),
            Type::Sha256 => json!("0".repeat(64)),
            Type::List(inner) => json!([inner.sample()]),
        }
    }
    /// Reads the text of `--var name=text`: JSON for numbers, booleans and lists, the text itself for the rest.
    pub fn from_text(&self, text: &str) -> Option<Value> {
        if self.is_text() {
            return Some(Value::String(text.to_owned()));
        }
        serde_json::from_str(text).ok()
    }
    /// Checks a value and answers its kept form.
    fn admit(&self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Type::Integer, Value::Number(n)) if n.is_i64() => Some(value.clone()),
            (Type::Float, Value::Number(_)) | (Type::Bool, Value::Bool(_)) => Some(value.clone()),
            (Type::List(inner), Value::Array(items)) => items
                .iter()
                .map(|item| inner.admit(item))
                .collect::<Option<Vec<_>>>()
                .map(Value::Array),
            (Type::Instant, Value::String(text)) => instant(text).map(Value::String),
            (kind, Value::String(text)) if kind.is_text() && kind.fits(text) => Some(value.clone()),
            _ => None,
        }
    }
    fn fits(&self, text: &str) -> bool {
        let hex = |n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_hexdigit());
        match self {
            Type::String => true,
            Type::Duration => duration::parse(text).is_some(),
            Type::Uri => is_uri(text),
            Type::Uuid => is_uuid(text),
            Type::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Type::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Type::Mac => {
                text.len() == 17
                    && text.split([':', '-']).count() == 6
                    && text
                        .split([':', '-'])
                        .all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
            }
            Type::Hex => !text.is_empty() && text.len().is_multiple_of(2) && hex(text.len()),
            Type::Md5 => hex(32),
            Type::Sha256 => hex(64),
            _ => false,
        }
    }
}

fn instant(text: &str) -> Option<String> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    Some(
        parsed
            .to_utc()
            .to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
    )
}

fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        && !rest.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c))
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// One declared variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Declaration {
    /// Its type.
    pub kind: Type,
    /// For people.
    pub description: String,
    /// Value where nobody gives one.
    pub value: Option<Value>,
    /// Given from outside by `--var`.
    pub external: bool,
    /// Nothing may assign it.
    pub constant: bool,
    /// Anchored, linear-time regular expression that its text must match.
    pub pattern: Option<String>,
    /// The only values it may have; empty = any.
    pub allowed: Vec<Value>,
    /// Where a secret comes from: `file:PATH`, `fd:N` or `kube:namespace/name/key`.
    pub from: Option<String>,
}

/// A variable that is wrong, with its code. It never quotes a secret, and no more than 80 characters of any value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("variable `{name}`: {message}")]
pub struct VarError {
    /// `FB0201`, `FB0202`, `FB0204` or `FB0205`.
    pub code: &'static str,
    /// Its name.
    pub name: String,
    /// What is wrong.
    pub message: String,
}

impl VarError {
    fn new(code: &'static str, name: &str, message: impl Into<String>) -> Self {
        VarError {
            code,
            name: name.to_owned(),
            message: message.into(),
        }
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 {
        return text;
    }
    text.chars().take(80).chain("…".chars()).collect()
}

impl Declaration {
    /// Checks a value against type, pattern and enum (FB0202) and answers its kept form.
    pub fn check(&self, name: &str, value: &Value) -> Result<Value, VarError> {
        let wrong = |what: String| Err(VarError::new("FB0202", name, what));
        if self.kind == Type::Secret {
            return wrong(
                "a secret has no value in a playbook or on a command line; it has a `from`".into(),
            );
        }
        let Some(kept) = self.kind.admit(value) else {
            return wrong(format!("{} is no {}", shown(value), self.kind.word()));
        };
        if !self.allowed.is_empty() && !self.allowed.contains(&kept) {
            let all: Vec<String> = self.allowed.iter().map(shown).collect();
            return wrong(format!("{} is none of {}", shown(&kept), all.join(", ")));
        }
        if let Some(pattern) = &self.pattern {
            let Some(matcher) = anchored(pattern) else {
                return wrong(format!("its pattern `{pattern}` is no regular expression"));
            };
            let fits = |v: &Value| v.as_str().is_some_and(|t| matcher.is_match(t));
            let all_fit = match &kept {
                Value::Array(items) => items.iter().all(fits),
                one => fits(one),
            };
            if !all_fit {
                return wrong(format!("{} does not match `{pattern}`", shown(&kept)));
            }
        }
        Ok(kept)
    }
    /// A value it could have: its own, the first of its enum, or a sample of its type.
    pub fn sample(&self) -> Value {
        match (&self.value, self.allowed.first()) {
            (Some(value), _) if *value != json!("") => value.clone(),
            (_, Some(first)) => first.clone(),
            _ => self.kind.sample(),
        }
    }
}

/// The pattern, matching whole values only, with a bounded compiled size.
pub fn anchored(pattern: &str) -> Option<regex::Regex> {
    regex::RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
        .size_limit(1 << 20)
        .build()
        .ok()
}

/// True for a name that a variable may have: `[a-z][a-z0-9_]{0,62}` and no word of CEL.
pub fn is_name(name: &str) -> bool {
    const CEL: &[&str] = &[
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !CEL.contains(&name)
}

/// The values of a run, secrets apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vars {
    values: BTreeMap<String, Value>,
    secrets: BTreeMap<String, String>,
}

/// An output may have at most this many bytes.
pub const MAX_OUTPUT: usize = 64 * 1024;

impl Vars {
    /// The values at the start of a run: what was given by `--var`, else the declared values. All are checked at once.
    ///
    /// # Errors
    /// Every variable that is wrong: unknown (FB0204), constant or not external (FB0205), of another type (FB0202), or
    /// external and missing (FB0201).
    pub fn start(
        declared: &BTreeMap<String, Declaration>,
        given: &BTreeMap<String, String>,
    ) -> Result<Vars, Vec<VarError>> {
        let mut vars = Vars::default();
        let mut errors: Vec<VarError> = given
            .keys()
            .filter(|name| !declared.contains_key(*name))
            .map(|name| VarError::new("FB0204", name, "the playbook declares no such variable"))
            .collect();
        for (name, declaration) in declared {
            if let Err(e) = vars.begin(name, declaration, given.get(name)) {
                errors.push(e);
            }
        }
        if errors.is_empty() {
            Ok(vars)
        } else {
            Err(errors)
        }
    }
    fn begin(
        &mut self,
        name: &str,
        declaration: &Declaration,
        given: Option<&String>,
    ) -> Result<(), VarError> {
        if declaration.kind == Type::Secret {
            let missing = || VarError::new("FB0201", name, "a secret needs `from`");
            if given.is_some() {
                return Err(VarError::new(
                    "FB0202",
                    name,
                    "a secret is never given on a command line; it comes from its `from`",
                ));
            }
            let from = declaration.from.clone().ok_or_else(missing)?;
            self.secrets.insert(name.to_owned(), from);
            return Ok(());
        }
        let value = match given {
            Some(_) if !declaration.external || declaration.constant => {
                return Err(VarError::new(
                    "FB0205",
                    name,
                    "it is not given from outside (`external: true`)",
                ));
            }
            Some(text) => Some(declaration.kind.from_text(text).ok_or_else(|| {
                VarError::new(
                    "FB0202",
                    name,
                    format!("what was given is no {}", declaration.kind.word()),
                )
            })?),
            None => declaration.value.clone(),
        };
        match value {
            Some(value) => {
                self.values
                    .insert(name.to_owned(), declaration.check(name, &value)?);
                Ok(())
            }
            None if declaration.external => Err(VarError::new(
                "FB0201",
                name,
                format!("no value was given; add --var {name}=…"),
            )),
            None => Ok(()),
        }
    }
    /// Sets an output (checked against its declaration, at most 64 KiB, never a constant or a secret).
    pub fn set(
        &mut self,
        declared: &BTreeMap<String, Declaration>,
        name: &str,
        value: &Value,
    ) -> Result<(), VarError> {
        let declaration = declared.get(name).ok_or_else(|| {
            VarError::new("FB0204", name, "the playbook declares no such variable")
        })?;
        if declaration.constant {
            return Err(VarError::new(
                "FB0205",
                name,
                "a constant is never assigned",
            ));
        }
        if value.to_string().len() > MAX_OUTPUT {
            return Err(VarError::new(
                "FB0202",
                name,
                "an output has at most 64 KiB",
            ));
        }
        let kept = declaration.check(name, value)?;
        self.values.insert(name.to_owned(), kept);
        Ok(())
    }
    /// The values by name, without secrets: what conditions see and plans record.
    pub fn values(&self) -> &BTreeMap<String, Value> {
        &self.values
    }
    /// No values, and these secrets by name, each with where it comes from.
    pub fn of_secrets(secrets: impl IntoIterator<Item = (String, String)>) -> Self {
        Vars {
            secrets: secrets.into_iter().collect(),
            ..Vars::default()
        }
    }
    /// Where each secret comes from.
    pub fn secrets(&self) -> &BTreeMap<String, String> {
        &self.secrets
    }
    /// Restores values that were checked before (from a plan or the ledger), over what is there.
    pub fn restore(&mut self, values: impl IntoIterator<Item = (String, Value)>) {
        self.values.extend(values);
    }
}

/// Why `${name}` could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// Declared perhaps, but without a value now (FB0605 in a run).
    #[error("variable `{0}` has no value yet")]
    Unset(String),
    /// FB0322.
    #[error("variable `{0}` is a secret and never becomes text")]
    Secret(String),
    /// `${` without a name and `}`.
    #[error("`{0}` is no `${{name}}`")]
    Malformed(String),
}

/// One piece of a text with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As it stands.
    Text(&'a str),
    /// `${name}`.
    Name(&'a str),
}

/// Takes a text apart. `$$` is no escape and `$` alone is a dollar sign; only `${` begins a variable.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, FillError> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if start > 0 {
            found.push(Piece::Text(&rest[..start]));
        }
        let inner = &rest[start + 2..];
        let malformed = || FillError::Malformed(rest[start..].chars().take(40).collect());
        let end = inner.find('}').ok_or_else(malformed)?;
        let name = &inner[..end];
        if !is_name(name) {
            return Err(malformed());
        }
        found.push(Piece::Name(name));
        rest = &inner[end + 1..];
    }
    if !rest.is_empty() {
        found.push(Piece::Text(rest));
    }
    Ok(found)
}

/// The name, if the text is exactly `${name}`.
pub fn exact(text: &str) -> Option<&str> {
    match pieces(text).ok()?.as_slice() {
        [Piece::Name(name)] => Some(name),
        _ => None,
    }
}

/// Fills `${name}` into a text.
pub fn fill_text(text: &str, vars: &Vars) -> Result<String, FillError> {
    let mut filled = String::new();
    for piece in pieces(text)? {
        match piece {
            Piece::Text(t) => filled.push_str(t),
            Piece::Name(name) => match value_of(name, vars)? {
                Value::String(t) => filled.push_str(t),
                other => filled.push_str(&other.to_string()),
            },
        }
    }
    Ok(filled)
}

fn value_of<'v>(name: &str, vars: &'v Vars) -> Result<&'v Value, FillError> {
    if vars.secrets.contains_key(name) {
        return Err(FillError::Secret(name.to_owned()));
    }
    vars.values
        .get(name)
        .ok_or_else(|| FillError::Unset(name.to_owned()))
}

/// Fills `${name}` into every text of a value. A text that is exactly `"${x}"` takes x's value and type; keys stay as they are.
pub fn fill(value: &Value, vars: &Vars) -> Result<Value, FillError> {
    Ok(match value {
        Value::String(text) => match exact(text) {
            Some(name) => value_of(name, vars)?.clone(),
            None => Value::String(fill_text(text, vars)?),
        },
        Value::Array(items) => Value::Array(
            items
                .iter()
                .map(|v| fill(v, vars))
                .collect::<Result<_, _>>()?,
        ),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(k, v)| Ok((k.clone(), fill(v, vars)?)))
                .collect::<Result<_, FillError>>()?,
        ),
        plain => plain.clone(),
    })
}

/// Fills the arguments of a call. As [`fill`], and two rules for whole arguments: one that is exactly `"${x}"` is left out
/// where x is the empty text (so that `pod` *or* `selector` may be given), and becomes `{"secret": "<from>"}` where x is a secret.
pub fn fill_arguments(with: &Value, vars: &Vars) -> Result<Value, FillError> {
    let Some(arguments) = with.as_object() else {
        return fill(with, vars);
    };
    let mut filled = Map::new();
    for (key, value) in arguments {
        let name = value.as_str().and_then(exact);
        if let Some(from) = name.and_then(|n| vars.secrets.get(n)) {
            filled.insert(key.clone(), json!({ "secret": from }));
            continue;
        }
        let value = fill(value, vars)?;
        if name.is_none() || value != json!("") {
            filled.insert(key.clone(), value);
        }
    }
    Ok(Value::Object(filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(kind: &str) -> Declaration {
        Declaration {
            kind: Type::parse(kind).expect("a type"),
            description: String::new(),
            value: None,
            external: true,
            constant: false,
            pattern: None,
            allowed: Vec::new(),
            from: None,
        }
    }

    fn vars() -> Vars {
        Vars {
            values: BTreeMap::from([
                ("ns".into(), json!("shop")),
                ("n".into(), json!(3)),
                ("pods".into(), json!(["a", "b"])),
                ("none".into(), json!("")),
                ("sneaky".into(), json!("${ns} \" } - x: y")),
            ]),
            secrets: BTreeMap::from([("token".into(), "file:/run/token".into())]),
        }
    }

    #[test]
    fn each_type_takes_its_own_and_refuses_the_rest() {
        for (kind, good, bad) in [
            ("string", json!("x"), json!(1)),
            ("integer", json!(-3), json!(1.5)),
            ("float", json!(1.5), json!("1.5")),
            ("bool", json!(true), json!("true")),
            ("duration", json!("1h30m"), json!("90")),
            (
                "instant",
                json!("2026-01-01T10:00:00+02:00"),
                json!("2026-01-01T10:00:00"),
            ),
            ("uri", json!("https://example.org/a"), json!("not a uri")),
            (
                "uuid",
                json!("00000000-0000-4000-8000-000000000000"),
                json!("0"),
            ),
            ("ipv4-addr", json!("10.0.0.1"), json!("10.0.0.256")),
            ("ipv6-addr", json!("::1"), json!("10.0.0.1")),
            ("mac-addr", json!("02:00:00:00:00:01"), json!("02:00")),
            ("hexstring", json!("abcd"), json!("abc")),
            ("md5-hash", json!("0".repeat(32)), json!("0".repeat(31))),
            ("sha256-hash", json!("0".repeat(64)), json!("g".repeat(64))),
            ("list<integer>", json!([1, 2]), json!([1, "2"])),
        ] {
            let d = declared(kind);
            assert!(d.check("v", &good).is_ok(), "{kind} {good}");
            assert_eq!(d.check("v", &bad).expect_err(kind).code, "FB0202");
            assert!(d.check("v", &d.sample()).is_ok(), "sample of {kind}");
            assert_eq!(d.kind.word(), kind);
        }
        assert_eq!(
            declared("instant").check("v", &json!("2026-01-01T10:00:00+02:00")),
            Ok(json!("2026-01-01T08:00:00.000Z"))
        );
        assert!(
            Type::parse("list<secret>").is_none() && Type::parse("list<list<string>>").is_none()
        );
    }

    #[test]
    fn patterns_match_whole_values_and_enums_are_closed() {
        let mut d = declared("string");
        d.pattern = Some("[a-z]+|[0-9]+".into());
        assert!(d.check("v", &json!("abc")).is_ok());
        for bad in ["abc1", "abc\n", "", "x\nabc"] {
            assert!(d.check("v", &json!(bad)).is_err(), "{bad:?}");
        }
        d.pattern = None;
        d.allowed = vec![json!("yes"), json!("no")];
        assert!(d.check("v", &json!("no")).is_ok() && d.check("v", &json!("maybe")).is_err());
    }

    #[test]
    fn a_run_starts_only_with_variables_that_fit() {
        let mut constant = declared("string");
        (constant.external, constant.constant, constant.value) = (false, true, Some(json!("c")));
        let mut secret = declared("secret");
        secret.from = Some("fd:3".into());
        let all = BTreeMap::from([
            ("a".to_owned(), declared("string")),
            ("b".to_owned(), declared("integer")),
            ("c".to_owned(), constant),
            ("s".to_owned(), secret),
        ]);
        let given = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let mut good = Vars::start(&all, &given(&[("a", "x"), ("b", "4")])).expect("starts");
        assert_eq!(good.values()["b"], 4);
        assert!(
            !good.values().contains_key("s"),
            "no secret among the values"
        );
        assert_eq!(
            good.set(&all, "c", &json!("d")).expect_err("constant").code,
            "FB0205"
        );
        assert_eq!(
            good.set(&all, "zzz", &json!("d"))
                .expect_err("unknown")
                .code,
            "FB0204"
        );
        assert_eq!(
            good.set(&all, "s", &json!("d")).expect_err("secret").code,
            "FB0202"
        );
        let long = json!("x".repeat(MAX_OUTPUT));
        assert_eq!(good.set(&all, "a", &long).expect_err("long").code, "FB0202");
        let codes = |pairs: &[(&str, &str)]| {
            let mut codes: Vec<_> = Vars::start(&all, &given(pairs))
                .expect_err("refused")
                .iter()
                .map(|e| e.code)
                .collect();
            codes.sort_unstable();
            codes
        };
        assert_eq!(codes(&[("a", "x")]), ["FB0201"]);
        assert_eq!(
            codes(&[("a", "x"), ("b", "four"), ("c", "d"), ("q", "1")]),
            ["FB0202", "FB0204", "FB0205"]
        );
        assert_eq!(
            codes(&[("a", "x"), ("b", "4"), ("s", "hunter2")]),
            ["FB0202"]
        );
    }

    #[test]
    fn filling_keeps_types_and_never_parses_a_value_again() {
        let with = json!({"namespace": "${ns}", "n": "${n}", "who": "${ns}/${n}", "l": ["${pods}"], "s": "${sneaky}"});
        assert_eq!(
            fill(&with, &vars()).expect("fills"),
            json!({"namespace": "shop", "n": 3, "who": "shop/3", "l": [["a", "b"]], "s": "${ns} \" } - x: y"})
        );
        assert_eq!(fill_text("costs $5", &vars()).expect("fills"), "costs $5");
    }

    #[test]
    fn an_argument_that_is_an_empty_variable_is_left_out() {
        let with = json!({"pod": "${none}", "text": "", "in": "x${none}", "list": ["${none}"]});
        assert_eq!(
            fill_arguments(&with, &vars()).expect("fills"),
            json!({"text": "", "in": "x", "list": [""]})
        );
    }

    #[test]
    fn a_secret_stays_a_reference_and_never_becomes_text() {
        let filled = fill_arguments(&json!({"token": "${token}"}), &vars()).expect("fills");
        assert_eq!(filled, json!({"token": {"secret": "file:/run/token"}}));
        for text in ["${token}", "Bearer ${token}"] {
            assert_eq!(
                fill_text(text, &vars()),
                Err(FillError::Secret("token".into()))
            );
        }
        assert!(fill_arguments(&json!({"h": "Bearer ${token}"}), &vars()).is_err());
        assert!(fill_arguments(&json!({"h": {"deep": "${token}"}}), &vars()).is_err());
    }

    #[test]
    fn a_variable_without_value_or_a_broken_one_is_an_error() {
        assert_eq!(
            fill_text("${gone}", &vars()),
            Err(FillError::Unset("gone".into()))
        );
        for bad in ["${", "${}", "${Ns}", "${ns", "x ${a b} y", "${true}"] {
            assert!(matches!(pieces(bad), Err(FillError::Malformed(_))), "{bad}");
        }
    }
}
