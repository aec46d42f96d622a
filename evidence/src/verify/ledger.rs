//! Verifying a ledger: the chain, its signed heads, and the place of each seal in it (C13).

use super::AtLeast;
use super::bag::check_trust;
use super::payload::unreadable;
use super::pinned::{self, Pin};
use super::report::{Book, LedgerFacts, Severity};
use crate::checkpoint::{Checkpoint, ledger_origin};
use crate::encoding::{Hash, base64, hex, unhex};
use crate::entry::Entry;
use crate::ledger::{Chain, ChainFault, Line, Lines, bag_number};
use crate::note::{self, Fingerprint, NOTE_MAX, fingerprint, split_note};
use crate::seal::Seal;
use crate::source::{BagSource, Kind, Listed, read_all, read_if_there};
use std::collections::{BTreeMap, BTreeSet};

/// What a ledger turned out to hold.
#[derive(Default)]
pub(super) struct LedgerView {
    chain: Chain,
    /// Heads that are kept, by size: root, and whether the signature is good.
    kept: BTreeMap<u64, (Hash, bool)>,
    pub(super) opened: BTreeSet<u32>,
    /// Seals that entries tell of: number, entry, SHA-256.
    pub(super) sealed: Vec<(u32, u64, Hash)>,
    /// Files of the incident folder that entries pin.
    pub(super) pins: Vec<Pin>,
    rotated: bool,
    key: Option<[u8; 32]>,
    pub(super) there: bool,
}

/// Paths of a ledger in a source that is rooted at the incident's folder or at the ledger's own.
struct Paths {
    prefix: &'static str,
}

impl Paths {
    fn find(listed: &[Listed]) -> Self {
        let own = listed.iter().any(|item| item.path == "ledger.jsonl");
        Self {
            prefix: if own { "" } else { "ledger/" },
        }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }
}

impl LedgerView {
    /// Reads the whole ledger. `sizes` are those whose roots will be asked for; `base` is the origin that a seal names.
    pub(super) fn check(
        book: &mut Book,
        source: &dyn BagSource,
        sizes: &[u64],
        pinned: &[Fingerprint],
        base: Option<&str>,
    ) -> Self {
        let listed = match source.list() {
            Ok(listed) => listed,
            Err(error) => {
                unreadable(book, "C13", ".", &error);
                return Self::default();
            }
        };
        let paths = Paths::find(&listed);
        let lines = paths.at("ledger.jsonl");
        let mut view = Self {
            there: listed
                .iter()
                .any(|item| item.path == lines && item.kind == Kind::File),
            ..Self::default()
        };
        if !view.there {
            book.fail(
                "C13",
                Severity::Incomplete,
                &lines,
                None,
                "the lines of the ledger",
                "no such file",
            );
            return view;
        }
        let notes = read_heads(book, source, &listed, &paths);
        sizes
            .iter()
            .chain(notes.iter().map(|(_, head, _)| &head.size))
            .for_each(|size| view.chain.want(*size));
        view.read_lines(book, source, &lines);
        view.key = read_key(book, source, &paths, pinned);
        let newest = view.check_heads(book, &notes, &paths, base);
        view.finish(book, &lines, newest);
        view
    }

    fn read_lines(&mut self, book: &mut Book, source: &dyn BagSource, path: &str) {
        let mut lines = Lines::new(source, path, 0);
        loop {
            match lines.next_line() {
                Ok(Some(Line::Whole(line))) => {
                    let entry = self
                        .chain
                        .take(&line, &mut |fault| note_fault(book, path, &fault));
                    if let Some(entry) = entry {
                        self.note_entry(book, path, &entry);
                    }
                }
                Ok(Some(Line::Torn(bytes))) => {
                    let found = format!("{} bytes of a write that was cut", bytes.len());
                    book.fail(
                        "C13",
                        Severity::Incomplete,
                        path,
                        Some(self.chain.size()),
                        "whole lines",
                        &found,
                    );
                }
                Ok(Some(Line::TooLong)) => {
                    book.fail(
                        "C13",
                        Severity::Tampered,
                        path,
                        Some(self.chain.size()),
                        "a line of at most 65535 bytes",
                        "a longer one",
                    );
                }
                Ok(None) => return,
                Err(error) => return unreadable(book, "C13", path, &error),
            }
        }
    }

    /// Takes what this crate interprets; other bodies are opaque.
    fn note_entry(&mut self, book: &mut Book, path: &str, entry: &Entry) {
        match pinned::pins_of(entry) {
            Ok(pins) => self.pins.extend(pins),
            Err(field) => {
                let expected = format!("digests in `{field}`");
                book.fail(
                    "C21",
                    Severity::Tampered,
                    path,
                    Some(entry.seq),
                    &expected,
                    "another body",
                );
            }
        }
        let bag = bag_number(&entry.body);
        let seal = entry
            .body
            .get("seal_sha256")
            .and_then(|seal| seal.as_str())
            .and_then(unhex);
        match (entry.kind.as_str(), bag, seal) {
            ("bag.opened", Some(bag), _) => _ = self.opened.insert(bag),
            ("bag.sealed", Some(bag), Some(seal)) => self.sealed.push((bag, entry.seq, seal)),
            ("bag.opened" | "bag.sealed", ..) => {
                book.fail(
                    "C13",
                    Severity::Tampered,
                    path,
                    Some(entry.seq),
                    "the number of the bag, and of a seal its hash",
                    "another body",
                );
            }
            ("key.rotate" | "key.revoke" | "key.delegate", ..) => self.rotated = true,
            _ => {}
        }
    }

    /// Checks every stored head against the chain and the key; returns the largest good size.
    fn check_heads(
        &mut self,
        book: &mut Book,
        notes: &[(String, Checkpoint, Vec<u8>)],
        paths: &Paths,
        base: Option<&str>,
    ) -> Option<u64> {
        let newest = notes
            .iter()
            .find(|(path, ..)| *path == paths.at("checkpoint"))
            .map(|(_, head, _)| head.origin.clone());
        let origin = base.map(ledger_origin).or(newest);
        let mut signed = None;
        for (path, head, bytes) in notes {
            let origin = origin.as_deref().unwrap_or(&head.origin);
            let good = match &self.key {
                Some(key) => match Checkpoint::open(bytes, origin, key, note::Lines::Cosigned) {
                    Ok(_) if !origin.ends_with("/ledger") => {
                        Err("its origin is not one of a ledger".to_owned())
                    }
                    Ok(_) => Ok(true),
                    Err(error) => Err(error.to_string()),
                },
                None => Ok(false),
            };
            if let Err(error) = &good {
                book.wrong("C13", path, "a head of this ledger by its key", error);
            }
            match self.chain.root_at(head.size) {
                Some(root) if root == head.root => {}
                Some(root) => book.wrong(
                    "C13",
                    path,
                    &format!("{}:{}", head.size, base64(&head.root)),
                    &base64(&root),
                ),
                None => book.wrong(
                    "C13",
                    path,
                    &format!("at least {} entries", head.size),
                    &self.chain.size().to_string(),
                ),
            }
            let good = good.unwrap_or(false);
            if path.starts_with(&paths.at("checkpoints/")) {
                if *path != paths.at(&format!("checkpoints/{:012}.note", head.size)) {
                    book.wrong(
                        "C13",
                        path,
                        "a name that is the size",
                        &head.size.to_string(),
                    );
                }
                self.kept.insert(head.size, (head.root, good));
            }
            signed = signed.max(good.then_some(head.size));
        }
        signed
    }

    fn finish(&self, book: &mut Book, path: &str, signed: Option<u64>) {
        let size = self.chain.size();
        match signed {
            None if self.key.is_some() => {
                book.fail(
                    "C13",
                    Severity::Unsealed,
                    path,
                    None,
                    "a signed head",
                    "none: entries may have been changed or cut",
                );
            }
            Some(signed) if signed < size => {
                let found = format!(
                    "{} entries past it, which are chained and not signed",
                    size - signed
                );
                book.fail(
                    "C13",
                    Severity::Unsealed,
                    path,
                    Some(signed),
                    &format!("a signed head of size {size}"),
                    &found,
                );
            }
            _ => {}
        }
        let (incident, mode) = self
            .chain
            .identity()
            .map_or_else(Default::default, |(incident, mode)| {
                (incident.to_owned(), format!("{mode:?}").to_lowercase())
            });
        book.ledger = Some(LedgerFacts {
            incident,
            mode,
            size,
            root: base64(&self.chain.root()),
            signed_size: signed.unwrap_or(0),
            fingerprint: self.key.as_ref().map(|key| fingerprint(key).to_string()),
        });
        if self.rotated {
            book.skip(
                "C10",
                "the ledger tells of key rotations or delegates, which this version does not judge",
                "a later release",
            );
        } else if self.key.is_some() && !book.has_failed("C13") {
            book.pass(
                "C10",
                "one epoch: every head is by the same key and no entry rotates it",
            );
        }
        book.pass(
            "C13",
            &format!("{size} entries chained; signed heads reproduced"),
        );
    }

    /// Returns the root at one of the sizes that were asked for.
    pub(super) fn root_at(&self, size: u64) -> Option<Hash> {
        self.chain.root_at(size)
    }

    /// The head that the reader noted must be a beginning of this ledger.
    pub(super) fn check_at_least(&self, book: &mut Book, head: AtLeast) {
        match self.root_at(head.size) {
            Some(root) if root == head.root => {
                book.pass("C18", "the ledger begins as the reader noted")
            }
            Some(root) => book.wrong(
                "C18",
                "ledger",
                &format!("{}:{}", head.size, base64(&head.root)),
                &base64(&root),
            ),
            None => book.wrong(
                "C18",
                "ledger",
                &format!("at least {} entries", head.size),
                &self.chain.size().to_string(),
            ),
        }
    }

    /// Whether an entry below `size` tells of this seal.
    pub(super) fn sealed_below(&self, bag: u32, seal_sha256: &Hash, size: u64) -> bool {
        self.sealed
            .iter()
            .any(|(number, seq, hash)| (*number, hash) == (bag, seal_sha256) && *seq < size)
    }

    /// The ledger head that a seal names was signed and kept, and an entry pins the seal in turn.
    pub(super) fn check_bag(
        &self,
        book: &mut Book,
        seal: &Seal,
        seal_sha256: &Hash,
        key: &[u8; 32],
    ) {
        if !self.there {
            return;
        }
        let named = format!("{}:{}", seal.ledger_size, base64(&seal.ledger_root));
        let path = crate::seal::SEAL;
        match self.root_at(seal.ledger_size) {
            Some(root) if root == seal.ledger_root => {}
            Some(root) => book.wrong(
                "C13",
                path,
                &named,
                &format!("the ledger has {} at that size", base64(&root)),
            ),
            None => book.wrong(
                "C13",
                path,
                &named,
                &format!("a ledger of {} entries", self.chain.size()),
            ),
        }
        match self.kept.get(&seal.ledger_size) {
            Some((_, true)) | Some((_, false)) if self.key.is_some_and(|own| own != *key) => {
                book.wrong("C13", path, "ledger and bag signed by one key", "two keys");
            }
            Some(_) => {}
            None => {
                let expected = crate::ledger::kept_checkpoint(seal.ledger_size);
                book.wrong(
                    "C13",
                    &expected,
                    "the kept head that the seal names",
                    "no such file",
                );
            }
        }
        let entries: Vec<_> = self
            .sealed
            .iter()
            .filter(|(bag, ..)| *bag == seal.bag)
            .collect();
        if entries.is_empty() {
            book.fail(
                "C13",
                Severity::Incomplete,
                path,
                None,
                "a bag.sealed entry",
                "none yet: resume the incident, which appends it",
            );
        }
        for (_, seq, hash) in entries.iter().filter(|(_, _, hash)| hash != seal_sha256) {
            book.fail(
                "C13",
                Severity::Tampered,
                path,
                Some(*seq),
                &format!("the seal of entry {seq}, {}", hex(hash)),
                &hex(seal_sha256),
            );
        }
        if !self.opened.contains(&seal.bag) {
            book.wrong("C13", path, "a bag.opened entry", "none");
        }
        if let Some((_, seq, _)) = entries.first()
            && *seq < seal.ledger_size
        {
            book.fail(
                "C13",
                Severity::Tampered,
                path,
                Some(*seq),
                "a bag.sealed entry after the head that the seal names",
                "one before it",
            );
        }
        book.pass(
            "C13",
            "the seal names a kept, signed head, and an entry pins the seal",
        );
    }
}

fn note_fault(book: &mut Book, path: &str, fault: &ChainFault) {
    let severity = if fault.unknown_version {
        Severity::Incomplete
    } else {
        Severity::Tampered
    };
    let expected = format!("{}: {}", fault.what, fault.expected);
    book.fail(
        "C13",
        severity,
        path,
        Some(fault.seq),
        &expected,
        &fault.found,
    );
}

/// Reads every stored head, the newest and those that are kept.
fn read_heads(
    book: &mut Book,
    source: &dyn BagSource,
    listed: &[Listed],
    paths: &Paths,
) -> Vec<(String, Checkpoint, Vec<u8>)> {
    let kept = paths.at("checkpoints/");
    let mut heads = Vec::new();
    for item in listed.iter().filter(|item| item.kind == Kind::File) {
        // A leftover of a write that was cut; the next write takes the same name.
        let wanted = item.path == paths.at("checkpoint")
            || (item.path.starts_with(&kept) && !item.path.ends_with(".tmp"));
        if !wanted {
            continue;
        }
        match read_all(source, &item.path, NOTE_MAX as u64) {
            Ok(bytes) => match split_note(&bytes)
                .ok()
                .and_then(|(body, _)| Checkpoint::parse(body))
            {
                Some(head) => heads.push((item.path.clone(), head, bytes)),
                None => book.wrong("C13", &item.path, "a signed head", "something else"),
            },
            Err(error) => unreadable(book, "C13", &item.path, &error),
        }
    }
    heads
}

/// Reads the key that travels with the ledger: a claim until a pin confirms it.
fn read_key(
    book: &mut Book,
    source: &dyn BagSource,
    paths: &Paths,
    pinned: &[Fingerprint],
) -> Option<[u8; 32]> {
    let path = paths.at("log.pem");
    let pem = match read_if_there(source, &path, NOTE_MAX as u64) {
        Ok(Some(pem)) => pem,
        Ok(None) => {
            book.fail(
                "C13",
                Severity::Unsealed,
                &path,
                None,
                "the key of the signed heads",
                "no such file",
            );
            return None;
        }
        Err(error) => {
            unreadable(book, "C13", &path, &error);
            return None;
        }
    };
    let key = note::parse_pem(&pem).filter(|key| note::check_key(key).is_ok());
    match key {
        Some(key) => check_trust(book, &path, &key, pinned),
        None => book.wrong(
            "C13",
            &path,
            "an Ed25519 public key as PEM, of full order",
            "something else",
        ),
    }
    key
}
