//! Files of an incident folder that entries pin by digest (C21): trust files, playbooks and plans, long texts.
//!
//! Each was durable before the entry that pins it, so no crash explains one that is gone.

use super::payload::{hash_file, unreadable};
use super::report::{Book, Severity};
use crate::encoding::{Hash, hex, unhex};
use crate::entry::Entry;
use crate::source::{BagSource, Kind, Listed};
use serde_json::Value;
use std::collections::BTreeSet;

/// Where pinned files stand.
const TRUST: &str = "trust/";

/// One file that an entry pins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pin {
    path: String,
    seq: u64,
    sha256: Hash,
}

/// Returns what an entry pins; `Err` names the part of its body that is in no form of ours.
pub(super) fn pins_of(entry: &Entry) -> Result<Vec<Pin>, &'static str> {
    let seq = entry.seq;
    let one = |path: String, digest: &Value, what| {
        let sha256 = digest.as_str().and_then(unhex).ok_or(what)?;
        Ok(Pin { path, seq, sha256 })
    };
    let by_digest = |field: &'static str, folder: &str, ending: &str| {
        let Some(digest) = entry.body.get(field) else {
            return Ok(None);
        };
        let name = digest.as_str().unwrap_or_default();
        one(format!("{folder}{name}{ending}"), digest, field).map(Some)
    };
    match entry.kind.as_str() {
        "ledger.opened" => match entry.body.get("trust") {
            None => Ok(Vec::new()),
            Some(Value::Object(files)) => files
                .iter()
                .map(|(name, digest)| one(format!("{TRUST}{name}"), digest, "trust"))
                .collect(),
            Some(_) => Err("trust"),
        },
        "run.planned" | "run.created" => {
            let playbook = by_digest("playbook_sha256", TRUST, ".yaml")?;
            let plan = by_digest("plan_sha256", TRUST, ".json")?;
            Ok(playbook.into_iter().chain(plan).collect())
        }
        "rotate.planned" => {
            let map = by_digest("map_sha256", TRUST, ".yaml")?;
            let plan = by_digest("plan_sha256", TRUST, ".json")?;
            Ok(map.into_iter().chain(plan).collect())
        }
        // A short text stands in the entry itself.
        "report.text" if entry.body.get("text").is_none() => {
            Ok(by_digest("sha256", "notes/", ".md")?.into_iter().collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// Compares every pinned file with its digest, and names those of `trust/` that nothing pins.
pub(super) fn check(book: &mut Book, source: &dyn BagSource, listed: &[Listed], pins: &[Pin]) {
    for pin in pins {
        let expected = format!("the file that entry {} pins, {}", pin.seq, hex(&pin.sha256));
        let there = listed
            .iter()
            .any(|item| item.path == pin.path && item.kind == Kind::File);
        if !there {
            book.wrong(
                "C21",
                &pin.path,
                &expected,
                "no such file: it was taken away",
            );
            continue;
        }
        match hash_file(source, &pin.path) {
            Ok(found) if found == pin.sha256 => {}
            Ok(found) => book.wrong("C21", &pin.path, &expected, &hex(&found)),
            Err(error) => unreadable(book, "C21", &pin.path, &error),
        }
    }
    let pinned: BTreeSet<&str> = pins.iter().map(|pin| pin.path.as_str()).collect();
    let loose = listed
        .iter()
        .filter(|item| item.kind == Kind::File && item.path.starts_with(TRUST))
        .filter(|item| !pinned.contains(item.path.as_str()));
    for item in loose {
        book.fail(
            "C21",
            Severity::Unprotected,
            &item.path,
            None,
            "a file that an entry pins",
            "one that none does",
        );
    }
    book.pass(
        "C21",
        &format!("{} pinned files are as their entries say", pinned.len()),
    );
}
