//! A step's call after filling in: what is approved, started and compared is always this one value.

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::incident::{Effect, RunId, StepPath};

/// What a step will do, with every value filled in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FilledCall {
    /// Step kind.
    pub kind: &'static str,
    /// Effect.
    pub effect: Effect,
    /// Action name, argv words, or the text that a person or an audience gets.
    pub what: Value,
    /// Arguments.
    pub args: Value,
}

impl FilledCall {
    /// SHA-256, hex, of the JCS bytes of `[kind, effect, action or argv, filled-in arguments]`.
    pub fn digest(&self) -> String {
        sha256_hex(&jcs(&json!([
            self.kind,
            self.effect.as_str(),
            self.what,
            self.args
        ])))
    }
    /// Action name or first word, for readers.
    pub fn label(&self) -> String {
        match &self.what {
            Value::Array(words) => words
                .first()
                .and_then(Value::as_str)
                .unwrap_or(self.kind)
                .to_owned(),
            Value::String(text) if matches!(self.kind, "call" | "check" | "undo") => text.clone(),
            _ => self.kind.to_owned(),
        }
    }
}

/// The bytes of a value by RFC 8785.
///
/// # Panics
/// Never for values without non-finite numbers, and JSON values hold none.
pub fn jcs(value: &impl Serialize) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).expect("a JSON value holds nothing that JCS cannot")
}

/// SHA-256 as lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Idempotency key of one attempt: first 32 hex of SHA-256(run, path, attempt; NUL-separated).
pub fn idempotency_key(run: &RunId, path: &StepPath, attempt: u32) -> String {
    let mut key = sha256_hex(format!("{run}\0{path}\0{attempt}").as_bytes());
    key.truncate(32);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_changes_with_each_part_and_not_with_key_order() {
        let call = FilledCall {
            kind: "call",
            effect: Effect::Reversible,
            what: json!("contain.isolate_workload"),
            args: json!({"pod": "web", "namespace": "shop"}),
        };
        let same = FilledCall {
            args: json!({"namespace": "shop", "pod": "web"}),
            ..call.clone()
        };
        assert_eq!(call.digest(), same.digest());
        let others = [
            FilledCall {
                kind: "check",
                ..call.clone()
            },
            FilledCall {
                effect: Effect::Read,
                ..call.clone()
            },
            FilledCall {
                what: json!("x.y"),
                ..call.clone()
            },
            FilledCall {
                args: json!({}),
                ..call.clone()
            },
        ];
        assert!(others.iter().all(|o| o.digest() != call.digest()));
    }
}
