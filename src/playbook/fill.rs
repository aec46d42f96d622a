//! Filling `${name}` into texts and arguments.
//!
//! A value is never parsed again: what a variable holds cannot become a key, a second argument or another `${}`. A secret never
//! becomes text.

use serde_json::{Map, Value, json};

use super::variable::is_name;
use super::vars::Vars;

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
    use std::collections::BTreeMap;

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
