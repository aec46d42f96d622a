//! `incident.json`: the document in RFC 8785 form. Its SHA-256 is the document's digest, which every other format carries.

use sha2::{Digest, Sha256};

use super::document::IncidentDocument;

/// A document with its canonical bytes and their digest.
#[derive(Debug, Clone, PartialEq)]
pub struct Canonical {
    /// RFC 8785 bytes, without a line feed at the end.
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes, 64 hex.
    pub sha256: String,
}

/// Lower-case hex of SHA-256.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// The canonical form.
///
/// # Panics
/// Never: the document holds texts, integers, lists and maps with text keys only.
pub fn canonical(doc: &IncidentDocument) -> Canonical {
    let bytes = serde_json_canonicalizer::to_vec(doc).expect("the document is plain data");
    let sha256 = sha256_hex(&bytes);
    Canonical { bytes, sha256 }
}

/// The JSON Schema of `incident.json`, as it is committed beside this file.
pub fn schema() -> String {
    let schema = schemars::schema_for!(IncidentDocument);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain data");
    text.push('\n');
    text
}
