//! JSON as the ledger allows it: no duplicate keys, integers below 2^53 only; written in RFC 8785 form.

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// The bound on integers: every JSON reader keeps these exactly.
const INTEGER_BOUND: u64 = 1 << 53;

/// Why a text is not the JSON that we allow.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

/// Reads one JSON value and nothing after it.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict
        .deserialize(&mut reader)
        .map_err(|error| JsonError(error.to_string()))?;
    reader.end().map_err(|error| JsonError(error.to_string()))?;
    Ok(value)
}

/// Returns the RFC 8785 form; it fails on a key that is not text.
pub fn canonical<T: Serialize>(value: &T) -> Result<Vec<u8>, JsonError> {
    serde_json_canonicalizer::to_vec(value).map_err(|error| JsonError(error.to_string()))
}

/// Returns the RFC 8785 form as one line with its LF.
pub fn canonical_line<T: Serialize>(value: &T) -> Result<Vec<u8>, JsonError> {
    let mut line = canonical(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Refuses what [`parse`] would refuse to read back: fractions and integers of 2^53 or more.
pub fn check_integers(value: &Value) -> Result<(), JsonError> {
    match value {
        Value::Number(number) => {
            let fits = number
                .as_u64()
                .or_else(|| number.as_i64().map(i64::unsigned_abs));
            match fits.filter(|n| *n < INTEGER_BOUND) {
                Some(_) => Ok(()),
                None => Err(JsonError(format!(
                    "number {number} is not an integer below 2^53"
                ))),
            }
        }
        Value::Array(items) => items.iter().try_for_each(check_integers),
        Value::Object(fields) => fields.values().try_for_each(check_integers),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with unique keys and integers below 2^53")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        if value < INTEGER_BOUND {
            Ok(value.into())
        } else {
            Err(E::custom("integer of 2^53 or more"))
        }
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() < INTEGER_BOUND {
            Ok(value.into())
        } else {
            Err(E::custom("integer of 2^53 or more"))
        }
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
        Err(E::custom("a number that is not an integer"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if all.contains_key(&name) {
                return Err(de::Error::custom("a key appears twice"));
            }
            let value = fields.next_value_seed(Strict)?;
            all.insert(name, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_keys_fractions_large_numbers_and_trailing_bytes_are_refused() {
        let bad = [
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1,"\u0062":1}}"#,
            "1.5",
            "1e3",
            "9007199254740992",
            "-9007199254740992",
            "{} {}",
            "",
        ];
        for text in bad {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        let good = r#" {"a":[1,-2,null,true,"x"],"b":9007199254740991} "#;
        assert!(parse(good.as_bytes()).is_ok());
    }

    #[test]
    fn canonical_form_sorts_and_closes_up() {
        let value: Value = serde_json::from_str(r#"{"b": 1, "a": "é\n"}"#).unwrap();
        assert_eq!(
            canonical(&value).unwrap(),
            "{\"a\":\"é\\n\",\"b\":1}".as_bytes()
        );
    }

    #[test]
    fn what_is_written_is_checked_like_what_is_read() {
        assert!(check_integers(&serde_json::json!({"a": [1.5]})).is_err());
        assert!(check_integers(&serde_json::json!({"a": [u64::MAX]})).is_err());
        assert!(check_integers(&serde_json::json!({"a": [-1, 2, "x"]})).is_ok());
    }
}
