//! Everything of a bag that is not payload: layout and names (C01), tag manifest (C03), acquisition records.

use super::payload::{Payload, compare, hash_file, read_manifest, unreadable};
use super::report::{Book, Severity};
use crate::acquisition::{ACQUISITION_MAX, StoredAcquisition};
use crate::json;
use crate::manifest::{BAG_INFO, BAGIT, BAGIT_TEXT, BagInfo, MANIFEST, PROFILE, TAG_MANIFEST};
use crate::path;
use crate::seal::SEAL;
use crate::source::{BagSource, Kind, Listed, read_all, read_if_there};
use std::collections::{BTreeMap, BTreeSet};

/// Folders outside the tag manifest.
const UNTAGGED: [&str; 4] = ["data/", "seal/", "custody/", "forms/"];
const SMALL: u64 = 64 * 1024;

/// Only regular files under plain names, no two alike; everything unsigned is named.
pub(super) fn check_layout(book: &mut Book, listed: &[Listed]) {
    let mut folded: BTreeMap<String, &str> = BTreeMap::new();
    for item in listed {
        if item.kind == Kind::Other {
            book.wrong(
                "C01",
                &item.path,
                "a regular file or folder",
                "a link, a special file, or a name that is not UTF-8",
            );
            continue;
        }
        if let Err(error) = path::check(&item.path) {
            book.wrong("C01", &item.path, "a plain name", &error.to_string());
        }
        if let Some(twin) = folded.insert(item.path.to_ascii_lowercase(), &item.path) {
            book.wrong(
                "C01",
                &item.path,
                "names that differ by more than case",
                twin,
            );
        }
        let outside = ["seal/", "custody/", "forms/"]
            .iter()
            .any(|folder| item.path.starts_with(folder));
        if item.kind == Kind::File && outside && item.path != SEAL {
            book.fail(
                "C01",
                Severity::Unprotected,
                &item.path,
                None,
                "a file that the seal covers",
                "one that grew after sealing",
            );
        }
    }
}

/// The declaration and the facts of the bag; returns what it calls itself.
pub(super) fn check_info(
    book: &mut Book,
    source: &dyn BagSource,
    sealed: bool,
    payload: &Payload,
) -> Option<BagInfo> {
    let missing = if sealed {
        Severity::Tampered
    } else {
        Severity::Note
    };
    match read_if_there(source, BAGIT, SMALL) {
        Ok(Some(text)) if text == BAGIT_TEXT.as_bytes() => {}
        Ok(Some(_)) => book.wrong("C01", BAGIT, "BagIt 1.0 in UTF-8", "something else"),
        Ok(None) => book.fail(
            "C01",
            missing,
            BAGIT,
            None,
            "the declaration of a bag",
            "no such file",
        ),
        Err(error) => unreadable(book, "C01", BAGIT, &error),
    }
    let info = match read_if_there(source, BAG_INFO, SMALL) {
        Ok(Some(text)) => BagInfo::parse(&text),
        Ok(None) => {
            book.fail(
                "C01",
                missing,
                BAG_INFO,
                None,
                "the facts of the bag",
                "no such file",
            );
            return None;
        }
        Err(error) => {
            unreadable(book, "C01", BAG_INFO, &error);
            return None;
        }
    };
    let Some(info) = info else {
        book.wrong(
            "C01",
            BAG_INFO,
            "the five lines of a firebreak bag",
            "another form",
        );
        return None;
    };
    if info.profile != PROFILE {
        book.fail(
            "C01",
            Severity::Incomplete,
            BAG_INFO,
            None,
            "format v1",
            &format!("unknown format version {}", info.profile),
        );
    }
    if (info.bytes, info.files) != (payload.bytes, payload.files) {
        let expected = format!("{}.{}", info.bytes, info.files);
        book.wrong(
            "C01",
            BAG_INFO,
            &expected,
            &format!("{}.{} bytes and files", payload.bytes, payload.files),
        );
    }
    Some(info)
}

/// Every tag file is named with its hash, and nothing else is.
pub(super) fn check_tag_manifest(
    book: &mut Book,
    source: &dyn BagSource,
    listed: &[Listed],
    sealed: bool,
) {
    let tagged = |path: &str| {
        path != TAG_MANIFEST && !UNTAGGED.iter().any(|folder| path.starts_with(folder))
    };
    let present = listed
        .iter()
        .filter(|item| item.kind != Kind::Dir && tagged(&item.path));
    let present: BTreeSet<&str> = present.map(|item| item.path.as_str()).collect();
    let there = listed.iter().any(|item| item.path == TAG_MANIFEST);
    if !there {
        let severity = if sealed {
            Severity::Tampered
        } else {
            Severity::Note
        };
        book.fail(
            "C03",
            severity,
            TAG_MANIFEST,
            None,
            "the tag manifest",
            "no such file",
        );
        return;
    }
    let Some(lines) = read_manifest(book, "C03", source, TAG_MANIFEST, &present) else {
        return;
    };
    let mut hashes = BTreeMap::new();
    for item in listed
        .iter()
        .filter(|item| item.kind == Kind::File && tagged(&item.path))
    {
        match hash_file(source, &item.path) {
            Ok(hash) => _ = hashes.insert(item.path.clone(), hash),
            Err(error) => unreadable(book, "C03", &item.path, &error),
        }
    }
    compare(book, "C03", &lines, &hashes);
    book.pass(
        "C03",
        &format!(
            "{} tag files, each with its hash, none missing and none extra",
            lines.len()
        ),
    );
}

/// The payload manifest must be there in a sealed bag; an open one has none yet.
pub(super) fn check_manifest_is_there(book: &mut Book, listed: &[Listed], sealed: bool) {
    if !listed.iter().any(|item| item.path == MANIFEST) {
        let severity = if sealed {
            Severity::Tampered
        } else {
            Severity::Note
        };
        book.fail(
            "C02",
            severity,
            MANIFEST,
            None,
            "the payload manifest",
            "no such file",
        );
    }
}

/// Each acquisition record tells of segments that are there, with their bytes and records. Lists what was recovered.
pub(super) fn check_acquisitions(
    book: &mut Book,
    source: &dyn BagSource,
    listed: &[Listed],
    payload: &Payload,
) {
    let mut claimed = BTreeSet::new();
    for item in listed
        .iter()
        .filter(|item| item.kind == Kind::File && item.path.starts_with("acquisition/"))
    {
        let record = match read_all(source, &item.path, ACQUISITION_MAX as u64) {
            Ok(bytes) => read_record(&bytes),
            Err(error) => {
                unreadable(book, "C01", &item.path, &error);
                continue;
            }
        };
        let Some(record) = record else {
            book.fail(
                "C01",
                Severity::Incomplete,
                &item.path,
                None,
                "an acquisition record of format v1",
                "something else",
            );
            continue;
        };
        check_record(book, &item.path, &record, payload);
        claimed.extend(record.segments);
    }
    for path in payload
        .segments
        .keys()
        .filter(|path| !claimed.contains(*path))
    {
        book.wrong(
            "C01",
            path,
            "an acquisition record that names this file",
            "none",
        );
    }
}

fn read_record(bytes: &[u8]) -> Option<StoredAcquisition> {
    let value = json::parse(bytes.strip_suffix(b"\n")?).ok()?;
    serde_json::from_value(value)
        .ok()
        .filter(|record: &StoredAcquisition| record.v == 1)
}

fn check_record(book: &mut Book, path: &str, record: &StoredAcquisition, payload: &Payload) {
    let (mut bytes, mut records) = (0, 0);
    for segment in &record.segments {
        match payload.segments.get(segment) {
            Some((line, len)) => (bytes, records) = (bytes + len, records + line.count),
            None if payload.tree.is_some() => book.wrong("C01", path, segment, "no such segment"),
            None => {}
        }
    }
    if payload.tree.is_some() && (bytes, records) != (record.bytes, record.records) {
        let expected = format!("{} bytes and {} records", record.bytes, record.records);
        book.wrong("C01", path, &expected, &format!("{bytes} and {records}"));
    }
    for range in &record.recovered {
        let tail = range
            .tail
            .as_ref()
            .map_or_else(String::new, |tail| format!(", torn tail in {tail}"));
        let found = format!(
            "records {} to {} past the signed head{tail}",
            range.from, range.to
        );
        book.fail(
            "C19",
            Severity::Recovered,
            path,
            Some(range.from),
            "an acquisition without a crash",
            &found,
        );
    }
}
