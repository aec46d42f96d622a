//! Variables as a playbook declares them: types, patterns, lists of values. What a run holds is [`Vars`], how `${name}` is filled in
//! stands in [`super::fill`]; both are named here too, for who works with variables.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::duration;
pub use super::fill::{FillError, Piece, exact, fill, fill_arguments, fill_text, pieces};
pub use super::vars::{MAX_OUTPUT, Vars};

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
    pub(super) fn new(code: &'static str, name: &str, message: impl Into<String>) -> Self {
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
    /// What it may be, in words: `yes or no`, `a bool (true or false)`, `a string that matches …`.
    pub fn allows(&self) -> String {
        let words = |v: &Value| v.as_str().map_or_else(|| shown(v), str::to_owned);
        if let [rest @ .., last] = self.allowed.as_slice() {
            let rest: Vec<String> = rest.iter().map(words).collect();
            return match rest.as_slice() {
                [] => words(last),
                _ => format!("{} or {}", rest.join(", "), words(last)),
            };
        }
        match (&self.kind, &self.pattern) {
            (Type::Bool, _) => "true or false".to_owned(),
            (kind, Some(pattern)) => format!("{} that matches `{pattern}`", kind.word()),
            (kind, None) => format!("any {}", kind.word()),
        }
    }
    /// A value it could have: its own, the first of its enum, or a sample of its type.
    pub fn sample(&self) -> Value {
        match (&self.value, self.allowed.first()) {
            (Some(value), _) if *value != json!("") && *value != json!([]) => value.clone(),
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::playbook) fn declared(kind: &str) -> Declaration {
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
}
