//! The ledger of an incident: one append-only, hash-chained, signed history.
//!
//! [`LedgerWriter`] appends durably and signs heads; [`Chain`] checks a chain line by line, for the writer and for
//! the verifier alike; [`Lines`] reads the stored lines in constant memory.

mod chain;
mod recovery;
mod writer;

pub use chain::{Chain, ChainFault, Line, Lines};
pub use recovery::{Recovered, RecoveryEntry};
pub use writer::{LedgerError, LedgerIdentity, LedgerWriter, Torn};

use serde_json::{Value, json};

/// The lines.
pub const LEDGER: &str = "ledger/ledger.jsonl";
/// The newest signed head.
pub const CHECKPOINT: &str = "ledger/checkpoint";
/// The public key that signed it, so that a ledger without a bag can be checked too.
pub const LEDGER_KEY: &str = "ledger/log.pem";
/// Heads that are kept for ever.
pub const CHECKPOINTS: &str = "ledger/checkpoints";
/// Torn tails.
pub const RECOVERED: &str = "ledger/recovered";

/// Returns where the kept head of a size stands.
pub fn kept_checkpoint(size: u64) -> String {
    format!("{CHECKPOINTS}/{size:012}.note")
}

/// Returns the number that a body calls `bag`, in four digits or more.
pub(crate) fn bag_number(body: &Value) -> Option<u32> {
    let text = body.get("bag")?.as_str()?;
    let number: u32 = text.parse().ok()?;
    (format!("{number:04}") == text).then_some(number)
}

/// Returns the body of a `bag.opened` entry. It is durable before the folder exists, so a withheld bag is a gap.
pub fn bag_opened_body(number: u32) -> Value {
    json!({"bag": format!("{number:04}")})
}

/// Returns the body of a `bag.sealed` entry: it pins the seal as the seal pins the ledger.
pub fn bag_sealed_body(sealed: &crate::bag::Sealed) -> Value {
    json!({
        "bag": format!("{:04}", sealed.number),
        "seal_sha256": crate::encoding::hex(&sealed.seal_sha256),
        "root": crate::encoding::base64(&sealed.root),
        "bytes": sealed.bytes,
        "files": sealed.files,
        "records": sealed.records,
        "recoveries": sealed.recoveries,
    })
}
