//! Just enough of JSON Schema (draft 2020-12) to hold our schema against files. A keyword that it does not know is a panic, so that
//! nothing in the schema goes unchecked.

use regex::Regex;
use serde_json::Value;

/// Keywords that say nothing about validity.
const SILENT: [&str; 6] = [
    "$schema",
    "$id",
    "title",
    "description",
    "default",
    "format",
];

/// True where `value` is valid.
pub fn valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let Some(schema) = schema.as_object() else {
        return schema != &Value::Bool(false);
    };
    schema
        .iter()
        .all(|(key, rule)| keyword(root, schema, key, rule, value))
}

fn keyword(
    root: &Value,
    schema: &serde_json::Map<String, Value>,
    key: &str,
    rule: &Value,
    value: &Value,
) -> bool {
    let each = |rule: &Value| rule.as_array().expect("a list").clone();
    let object = value.as_object();
    match key {
        "$ref" => {
            let pointer = rule.as_str().expect("a reference").trim_start_matches('#');
            valid(root, root.pointer(pointer).expect(pointer), value)
        }
        "type" => match rule {
            Value::String(kind) => is(kind, value),
            kinds => each(kinds)
                .iter()
                .any(|k| is(k.as_str().expect("a type"), value)),
        },
        "const" => rule == value,
        "enum" => each(rule).contains(value),
        "required" => object.is_none_or(|o| {
            each(rule)
                .iter()
                .all(|k| o.contains_key(k.as_str().expect("a key")))
        }),
        "properties" => object.is_none_or(|o| {
            let known = rule.as_object().expect("properties");
            o.iter()
                .all(|(k, v)| known.get(k).is_none_or(|s| valid(root, s, v)))
        }),
        "additionalProperties" => object.is_none_or(|o| {
            let known = schema.get("properties").and_then(Value::as_object);
            o.iter()
                .filter(|(k, _)| !known.is_some_and(|p| p.contains_key(*k)))
                .all(|(_, v)| valid(root, rule, v))
        }),
        "items" => value
            .as_array()
            .is_none_or(|items| items.iter().all(|v| valid(root, rule, v))),
        "minItems" => value
            .as_array()
            .is_none_or(|items| items.len() as u64 >= rule.as_u64().expect("a number")),
        "minLength" => value
            .as_str()
            .is_none_or(|t| t.chars().count() as u64 >= rule.as_u64().expect("a number")),
        "maxLength" => value
            .as_str()
            .is_none_or(|t| t.chars().count() as u64 <= rule.as_u64().expect("a number")),
        "minimum" => value
            .as_f64()
            .is_none_or(|n| n >= rule.as_f64().expect("a number")),
        "maximum" => value
            .as_f64()
            .is_none_or(|n| n <= rule.as_f64().expect("a number")),
        "pattern" => value.as_str().is_none_or(|t| {
            Regex::new(rule.as_str().expect("text"))
                .expect("a pattern")
                .is_match(t)
        }),
        "anyOf" => each(rule).iter().any(|s| valid(root, s, value)),
        "allOf" => each(rule).iter().all(|s| valid(root, s, value)),
        "oneOf" => each(rule).iter().filter(|s| valid(root, s, value)).count() == 1,
        "not" => !valid(root, rule, value),
        "if" => {
            !valid(root, rule, value) || schema.get("then").is_none_or(|s| valid(root, s, value))
        }
        "then" | "$defs" => true,
        other if SILENT.contains(&other) => true,
        other => panic!("the schema uses `{other}`, which this test does not know"),
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("unknown type `{other}`"),
    }
}
