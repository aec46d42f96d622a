//! Variables: what a playbook declares, what a run was given, and how `${name}` is filled in.

use serde_json::Value;

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
