//! Keys of the format that this version does not carry out, so that nothing an author asked for is passed over in silence.

use serde_json::{Map, Value};

/// Those of one step, each with its place and a fix (FB0117). A playbook that rests on one is refused.
pub(super) fn keys(map: &Map<String, Value>) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let evidence = |key: &str| map.get("evidence").and_then(|e| e.get(key));
    if evidence("redact").is_some() {
        wrong.push(("evidence/redact", "`redact` is not carried out by this version: the exhibit stays whole; hand it over only to who may read all of it".to_owned()));
    }
    if evidence("seal").is_some_and(|seal| *seal == Value::Bool(false)) {
        wrong.push(("evidence/seal", "`seal: false` is not carried out by this version: each step seals its bag; leave it out".to_owned()));
    }
    let patterns = evidence("files")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for text in patterns.filter_map(Value::as_str) {
        let bare = text.replace("${", "");
        if text.contains("**") || bare.contains(['[', '{']) {
            wrong.push(("evidence/files", format!("`{text}` is no pattern of this version: `*` and `?` stand for characters of one name, `**`, `[` and `{{` for nothing")));
        }
    }
    let ack = map.get("notify").and_then(|n| n.get("wait_ack"));
    if ack.is_some_and(|a| a != "none") {
        wrong.push(("notify/wait_ack", "`wait_ack` is not carried out by this version: let a `manual` step after the message ask who has answered".to_owned()));
    }
    wrong
}
