//! The format's JSON Schema (draft 2020-12), so that an editor completes and checks a playbook, `with:` included.
//!
//! Derived from the types that the reader uses, plus what types cannot say: exactly one kind a step, and the arguments of each
//! action behind `call`, `check`, `undo`, `require` and `done_if`.

use serde_json::{Map, Value, json};

use crate::action::registry::{ActionSpec, Registry, Use};

use super::raw::{RawPlaybook, VARIABLE};

/// Kinds besides `approve`.
const KINDS: [&str; 10] = [
    "call", "run", "manual", "check", "notify", "if", "parallel", "steps", "wait", "note",
];

/// The schema for these actions.
pub fn schema(registry: &Registry) -> Value {
    let mut root = schemars::generate::SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<RawPlaybook>()
        .to_value();
    root["$id"] = json!("urn:firebreak:playbook:v1");
    plain(&mut root);
    let arguments: Map<String, Value> = registry
        .all()
        .map(|spec| (definition(spec), arguments(spec)))
        .collect();
    let defs = &mut root["$defs"];
    step(&mut defs["Step"], registry);
    called(&mut defs["Call"], registry);
    if let Some(defs) = defs.as_object_mut() {
        defs.extend(arguments);
    }
    root
}

/// The committed form: two spaces, a line end at the end.
pub fn text(registry: &Registry) -> String {
    let mut text = serde_json::to_string_pretty(&schema(registry)).unwrap_or_default();
    text.push('\n');
    text
}

/// Why a committed schema is not what these actions give; none where it is. For a test that fails on drift.
pub fn drift(committed: &str, registry: &Registry) -> Option<String> {
    let now = text(registry);
    if committed == now {
        return None;
    }
    let line = committed
        .lines()
        .zip(now.lines())
        .position(|(a, b)| a != b)
        .unwrap_or_else(|| committed.lines().count().min(now.lines().count()));
    Some(format!(
        "the committed schema differs from line {}: write it anew with `firebreak playbook schema > playbooks/playbook.v1.schema.json`",
        line + 1
    ))
}

fn definition(spec: &ActionSpec) -> String {
    format!("with.{}", spec.name)
}

/// Nulls are refused by the reader, so an optional key is one that may be absent.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Array(kinds)) = map.get_mut("type") {
                kinds.retain(|k| k != "null");
                if let [one] = kinds.as_slice() {
                    let one = one.clone();
                    map.insert("type".into(), one);
                }
            }
            if let Some(Value::Array(any)) = map.get_mut("anyOf") {
                any.retain(|s| s.get("type") != Some(&json!("null")));
                if let [Value::Object(one)] = any.as_slice() {
                    let one = one.clone();
                    map.remove("anyOf");
                    for (key, value) in one {
                        map.entry(key).or_insert(value);
                    }
                }
            }
            if map.get("default") == Some(&Value::Null) {
                map.remove("default");
            }
            map.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

fn named(registry: &Registry, place: Use) -> Vec<&'static ActionSpec> {
    registry.all().filter(|s| s.uses.contains(&place)).collect()
}

fn step(step: &mut Value, registry: &Registry) {
    let mut kinds: Vec<Value> = KINDS.iter().map(|k| json!({ "required": [k] })).collect();
    let others: Vec<Value> = kinds.clone();
    kinds.push(json!({ "required": ["approve"], "not": { "anyOf": others } }));
    step["oneOf"] = Value::Array(kinds);
    let mut rules = vec![
        json!({ "if": { "required": ["manual"] }, "then": { "required": ["owner"] } }),
        json!({ "if": { "anyOf": [{ "required": ["call"] }, { "required": ["run"] }] }, "then": { "required": ["effect"] } }),
        json!({ "if": { "required": ["if"] }, "then": { "required": ["then"] } }),
    ];
    for (key, place) in [("call", Use::Call), ("check", Use::Check)] {
        step["properties"][key] = names(&step["properties"][key], &named(registry, place));
        for spec in named(registry, place) {
            rules.push(behind(key, spec));
        }
    }
    step["allOf"] = Value::Array(rules);
    // These two are only ever a person's statement.
    step["properties"]["milestone"]["not"] = json!({ "enum": ["occurred", "aware"] });
}

fn called(call: &mut Value, registry: &Registry) {
    let specs: Vec<&ActionSpec> = registry
        .all()
        .filter(|s| s.uses.contains(&Use::Undo) || s.uses.contains(&Use::Probe))
        .collect();
    call["properties"]["call"] = names(&call["properties"]["call"], &specs);
    call["allOf"] = Value::Array(specs.into_iter().map(|spec| behind("call", spec)).collect());
    if call["allOf"] == json!([])
        && let Some(call) = call.as_object_mut()
    {
        call.remove("allOf");
    }
}

fn names(property: &Value, specs: &[&ActionSpec]) -> Value {
    let words: Vec<Value> = specs
        .iter()
        .map(|s| json!({ "const": s.name, "description": s.about }))
        .collect();
    let mut named = json!({ "type": "string" });
    if let Some(description) = property.get("description") {
        named["description"] = description.clone();
    }
    if !words.is_empty() {
        named["oneOf"] = Value::Array(words);
    }
    named
}

/// `if call = X then with = X's arguments`, and `with` itself where X needs any.
fn behind(key: &str, spec: &ActionSpec) -> Value {
    let mut then =
        json!({ "properties": { "with": { "$ref": format!("#/$defs/{}", definition(spec)) } } });
    let needs = (spec.args_schema)()
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|r| !r.is_empty());
    if needs {
        then["required"] = json!(["with"]);
    }
    json!({ "if": { "properties": { key: { "const": spec.name } }, "required": [key] }, "then": then })
}

/// An action's arguments; whatever is no text may also be exactly one variable.
fn arguments(spec: &ActionSpec) -> Value {
    let mut schema = (spec.args_schema)().to_value();
    plain(&mut schema);
    if let Some(map) = schema.as_object_mut() {
        map.remove("$schema");
        map.remove("title");
        let defs = map.remove("$defs");
        if let Some(Value::Object(properties)) = map.get_mut("properties") {
            properties.values_mut().for_each(or_variable);
        }
        if let Some(Value::Object(mut defs)) = defs {
            defs.values_mut().for_each(plain);
            inline(&mut schema, &defs, 0);
        }
    }
    schema
}

fn or_variable(property: &mut Value) {
    if property.get("type") == Some(&json!("string")) && property.get("enum").is_none() {
        return;
    }
    let mut own = property.clone();
    let description = own.as_object_mut().and_then(|o| o.remove("description"));
    *property = json!({ "anyOf": [own, { "type": "string", "pattern": VARIABLE }] });
    if let Some(description) = description {
        property["description"] = description;
    }
}

/// Puts an action's own definitions in place, so that two actions cannot collide.
fn inline(schema: &mut Value, defs: &Map<String, Value>, depth: u32) {
    // Argument types do not recurse; the bound only keeps a mistake from hanging.
    if depth > 8 {
        return;
    }
    match schema {
        Value::Object(map) => {
            let target = map
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| defs.get(r.strip_prefix("#/$defs/")?))
                .cloned();
            if let Some(Value::Object(target)) = target {
                map.remove("$ref");
                for (key, value) in target {
                    map.entry(key).or_insert(value);
                }
            }
            map.values_mut().for_each(|v| inline(v, defs, depth + 1));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| inline(v, defs, depth + 1)),
        _ => {}
    }
}
