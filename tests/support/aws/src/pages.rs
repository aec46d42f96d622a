//! Lists in pages, for a double that gives them whole and ignores what a client says about pages.
//!
//! The double gets the client's request as it was signed, marker and all, and answers the whole list again; we cut it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::call::{Call, Protocol};
use crate::reply::Reply;
use crate::xml;

/// What IAM and Secrets Manager give at once when the client does not say.
const DEFAULT: usize = 100;

/// Cuts a list down to the page that the client asked for. `cap` = most items in a page, 0 = what the client says.
pub fn page(call: &Call, reply: &mut Reply, cap: usize) {
    if !reply.ok() || !call.action.starts_with("List") {
        return;
    }
    match call.protocol {
        Protocol::Query => page_xml(call, reply, cap),
        Protocol::Json => page_json(call, reply, cap),
        Protocol::Rest => {}
    }
}

fn size(asked: Option<&str>, cap: usize) -> usize {
    let asked = asked.and_then(|n| n.parse().ok()).unwrap_or(DEFAULT).max(1);
    if cap == 0 { asked } else { asked.min(cap) }
}

fn page_xml(call: &Call, reply: &mut Reply, cap: usize) {
    let text = reply.text().to_owned();
    let Some(members) = xml::members(&text) else {
        return;
    };
    let from = call
        .parameter("Marker")
        .map_or(0, |marker| start(marker, &members.items));
    let to = (from + size(call.parameter("MaxItems"), cap)).min(members.items.len());
    if from == 0 && to == members.items.len() {
        return;
    }
    let mut after = members.after.to_owned();
    if to < members.items.len() {
        let marker = marker(to, members.items[to - 1]);
        let truncated = format!("<IsTruncated>true</IsTruncated><Marker>{marker}</Marker>");
        after = after.replacen("<IsTruncated>false</IsTruncated>", &truncated, 1);
    }
    reply.replace(format!(
        "{}{}{after}",
        members.before,
        members.items[from..to].concat()
    ));
}

/// The next item by number and the last one given by what it says: what is deleted in between moves the numbers.
fn marker(next: usize, last: &str) -> String {
    STANDARD.encode(format!("{next} {}", name(last)))
}

fn start(marker: &str, items: &[&str]) -> usize {
    let decoded = STANDARD.decode(marker).unwrap_or_default();
    let decoded = String::from_utf8_lossy(&decoded);
    let (number, last) = decoded.split_once(' ').unwrap_or(("0", ""));
    match items.iter().position(|item| name(item) == last) {
        Some(found) => found + 1,
        None => number.parse().unwrap_or(0).min(items.len()),
    }
}

/// What tells one item from another: an id that does not change with its state, else all of it.
fn name(item: &str) -> String {
    [
        "AccessKeyId",
        "Arn",
        "PolicyArn",
        "PolicyName",
        "SerialNumber",
        "Key",
    ]
    .iter()
    .find_map(|tag| xml::text(item, tag))
    .unwrap_or_else(|| item.to_owned())
}

fn page_json(call: &Call, reply: &mut Reply, cap: usize) {
    let Ok(mut value) = serde_json::from_slice::<Value>(&reply.body) else {
        return;
    };
    // It pages by itself, within what the client asked for.
    if value.get("NextToken").is_some_and(|token| !token.is_null()) {
        return;
    }
    let list = |value: &Value| match value.as_object() {
        Some(fields) => fields
            .iter()
            .find(|(_, v)| v.is_array())
            .map(|(name, _)| name.clone()),
        None => None,
    };
    let Some(field) = list(&value) else { return };
    let Some(items) = value[&field].as_array().cloned() else {
        return;
    };
    let from = call
        .parameter("NextToken")
        .and_then(|token| token.strip_prefix("proxy-page-")?.parse().ok())
        .unwrap_or(0)
        .min(items.len());
    let to = (from + size(call.parameter("MaxResults"), cap)).min(items.len());
    if from == 0 && to == items.len() {
        return;
    }
    value[&field] = json!(items[from..to]);
    if to < items.len() {
        value["NextToken"] = json!(format!("proxy-page-{to}"));
    }
    reply.replace(value.to_string());
}

/// Takes the items that name one of these ids out of a list.
pub fn hide(reply: &mut Reply, ids: &[String]) {
    let text = reply.text().to_owned();
    let Some(members) = xml::members(&text) else {
        return;
    };
    let shown: Vec<&str> = members
        .items
        .iter()
        .filter(|item| !xml::text(item, "AccessKeyId").is_some_and(|id| ids.contains(&id)))
        .copied()
        .collect();
    reply.replace(format!(
        "{}{}{}",
        members.before,
        shown.concat(),
        members.after
    ));
}
