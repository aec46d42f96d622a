//! Verifying one bag.

use super::ledger::LedgerView;
use super::payload::{self, Payload, unreadable};
use super::report::{Book, Report, SealFacts, Severity};
use super::{AtLeast, Given, Policy, tags};
use crate::bag::{BAG_CHECKPOINT, BAG_KEY, BAG_VKEYS, SALT_KEY, bag_name};
use crate::checkpoint::{Checkpoint, bag_origin, ledger_origin};
use crate::encoding::{Hash, base64, hex, sha256};
use crate::manifest::{BagInfo, TAG_MANIFEST};
use crate::map::{MAP, Map, MapError};
use crate::note::{self, Fingerprint, Lines, NOTE_MAX, fingerprint};
use crate::seal::{SEAL, Seal, SealError};
use crate::source::{BagSource, Listed, read_if_there};

/// The seal of a bag under the bag's own key, which is a claim until a pin confirms it.
struct SealCheck {
    note: Option<Vec<u8>>,
    seal: Option<Seal>,
    key: Option<[u8; 32]>,
}

/// Verifies a bag on its own, with the ledger if the reader gave one.
pub(super) fn verify_alone(
    source: &dyn BagSource,
    listed: &[Listed],
    policy: &Policy,
    given: &Given<'_>,
) -> Report {
    let mut early = Book::default();
    let claimed = claimed_seal(source);
    let sizes: Vec<u64> = claimed
        .iter()
        .map(|seal| seal.ledger_size)
        .chain(given.at_least.map(|head| head.size))
        .collect();
    let ledger = given.ledger.map(|ledger| {
        LedgerView::check(
            &mut early,
            ledger,
            &sizes,
            &given.fingerprints,
            claimed.as_ref().map(|seal| seal.origin.as_str()),
        )
    });
    if let (Some(head), Some(ledger)) = (given.at_least, &ledger) {
        ledger.check_at_least(&mut early, head);
    }
    let at_least = given.at_least.filter(|_| ledger.is_none());
    let mut book = check(early, source, listed, given, at_least, ledger.as_ref());
    if let (Some(sha), Some(expected)) = (book.seal_sha256, given.expect_seal)
        && sha != expected
    {
        book.wrong("C18", SEAL, &hex(&expected), &hex(&sha));
    }
    if given.expect_seal.is_some() && book.seal_sha256.is_none() {
        book.fail(
            "C18",
            Severity::Unsealed,
            SEAL,
            None,
            "the seal that the reader noted",
            "no good seal",
        );
    }
    if given.expect_seal.is_none() && given.at_least.is_none() {
        book.skip(
            "C18",
            "the reader gave no seal and no head to compare with",
            "--expect-seal HEX or --at-least SIZE:ROOT, from paper",
        );
    }
    book.pass("C18", "the bag is what the reader expects");
    book.into_report("bag", policy)
}

/// Returns what a bag's seal claims, if it has one that can be read.
pub(super) fn claimed_seal(source: &dyn BagSource) -> Option<Seal> {
    let note = read_if_there(source, SEAL, NOTE_MAX as u64).ok()??;
    Seal::claimed(&note).ok()
}

/// Runs every check of one bag. The caller compares seals (C18, C15) and finishes the report.
pub(super) fn check(
    mut book: Book,
    source: &dyn BagSource,
    listed: &[Listed],
    given: &Given<'_>,
    at_least: Option<AtLeast>,
    ledger: Option<&LedgerView>,
) -> Book {
    if listed.iter().any(|item| item.path == "tlog/redacted.tsv") {
        book.fail(
            "C01",
            Severity::Incomplete,
            "tlog/redacted.tsv",
            None,
            "a whole bag",
            "unsupported copy: a redacted one",
        );
        return book;
    }
    tags::check_layout(&mut book, listed);
    let sealing = check_seal(&mut book, source, &given.fingerprints);
    let sealed = sealing.note.is_some();
    tags::check_tag_manifest(&mut book, source, listed, sealed);
    let map = check_map(&mut book, source, &sealing);
    let salt = salt_key(&mut book, source, sealed);
    tags::check_manifest_is_there(&mut book, listed, sealed);
    let payload = payload::check(
        &mut book,
        source,
        listed,
        salt.as_ref(),
        map.as_ref(),
        at_least,
    );
    let info = tags::check_info(&mut book, source, sealed, &payload);
    tags::check_acquisitions(&mut book, source, listed, &payload);
    check_heads(&mut book, source, &sealing, &payload);
    check_at_least(&mut book, at_least, &payload);
    if let (Some(seal), Some(note), Some(key)) = (&sealing.seal, &sealing.note, &sealing.key) {
        check_vkeys(&mut book, source, seal, key);
        check_sealed(&mut book, seal, note, key, info.as_ref(), &payload, ledger);
    }
    if book.name.is_empty() {
        book.name = info.map_or_else(|| "(unnamed)".to_owned(), |info| info.external_identifier);
    }
    if !sealed {
        ["C02", "C03"].iter().for_each(|check| {
            book.skip(
                check,
                "the bag is not sealed: it has no such file yet",
                "seal it",
            )
        });
    }
    book.anchored = given
        .expect_seal
        .is_some_and(|expected| book.seal_sha256 == Some(expected))
        || (at_least.is_some() && !book.has_failed("C18"))
        || ledger.is_some_and(|ledger| anchored_by_ledger(ledger, given.at_least, &sealing));
    book.pass("C01", "plain names, regular files, facts as declared");
    book
}

/// Key (claimed), seal (C04), trust (C09).
fn check_seal(book: &mut Book, source: &dyn BagSource, pinned: &[Fingerprint]) -> SealCheck {
    let note = match read_if_there(source, SEAL, NOTE_MAX as u64) {
        Ok(note) => note,
        Err(error) => {
            unreadable(book, "C04", SEAL, &error);
            return SealCheck {
                note: None,
                seal: None,
                key: None,
            };
        }
    };
    if note.is_none() {
        book.unsealed = true;
        book.fail(
            "C04",
            Severity::Unsealed,
            SEAL,
            None,
            "a seal",
            "none: anything may have been added or taken away",
        );
    }
    let key = read_key(book, source, note.is_some());
    let seal = match (&note, &key) {
        (Some(note), Some(key)) => match Seal::open(note, key) {
            Ok(seal) => Some(seal),
            Err(SealError::Version) => {
                book.fail(
                    "C04",
                    Severity::Incomplete,
                    SEAL,
                    None,
                    "a seal of format v1",
                    "unknown format version",
                );
                None
            }
            Err(error) => {
                book.wrong(
                    "C04",
                    SEAL,
                    "a seal by the key in the bag",
                    &error.to_string(),
                );
                None
            }
        },
        _ => None,
    };
    if seal.is_some() {
        book.pass("C04", "eleven lines and one signature, strictly checked");
    }
    if let (Some(key), Some(_)) = (&key, &note) {
        check_trust(book, BAG_KEY, key, pinned);
    }
    SealCheck { note, seal, key }
}

fn read_key(book: &mut Book, source: &dyn BagSource, sealed: bool) -> Option<[u8; 32]> {
    let pem = match read_if_there(source, BAG_KEY, NOTE_MAX as u64) {
        Ok(pem) => pem,
        Err(error) => {
            unreadable(book, "C04", BAG_KEY, &error);
            return None;
        }
    };
    let Some(pem) = pem else {
        if sealed {
            book.wrong("C04", BAG_KEY, "the public key", "no such file");
        }
        return None;
    };
    let Some(key) = note::parse_pem(&pem) else {
        book.wrong(
            "C04",
            BAG_KEY,
            "an Ed25519 public key as PEM",
            "something else",
        );
        return None;
    };
    if let Err(error) = note::check_key(&key) {
        book.wrong(
            "C04",
            BAG_KEY,
            "a key under which nobody else can sign",
            &error.to_string(),
        );
        return None;
    }
    Some(key)
}

/// Trust starts only from what the reader brings; a key in the evidence is a claim.
pub(super) fn check_trust(book: &mut Book, path: &str, key: &[u8; 32], pinned: &[Fingerprint]) {
    let print = fingerprint(key);
    if pinned.is_empty() {
        let expected = "a fingerprint from the reader (--fingerprint)";
        book.fail(
            "C09",
            Severity::Untrusted,
            path,
            None,
            expected,
            &format!("only the key's own claim: {print}"),
        );
    } else if pinned.contains(&print) {
        book.pass("C09", "the key is the one that the reader pinned");
    } else {
        book.wrong(
            "C09",
            path,
            "a key that the reader pinned",
            &print.to_string(),
        );
    }
}

fn check_map(book: &mut Book, source: &dyn BagSource, sealing: &SealCheck) -> Option<Map> {
    let map = match read_if_there(source, MAP, payload::LIST_MAX) {
        Ok(map) => map,
        Err(error) => {
            unreadable(book, "C07", MAP, &error);
            None
        }
    };
    let tag_manifest = read_if_there(source, TAG_MANIFEST, payload::LIST_MAX);
    if let Some(seal) = &sealing.seal {
        let named = [
            (
                TAG_MANIFEST,
                tag_manifest.as_ref().ok().and_then(Option::as_deref),
                seal.tag_manifest,
            ),
            (MAP, map.as_deref(), seal.map),
        ];
        for (path, bytes, expected) in named {
            let found = bytes.map(sha256);
            if found != Some(expected) {
                let found = found.map_or_else(|| "no such file".to_owned(), |hash| hex(&hash));
                book.wrong("C05", path, &format!("sha256 {}", hex(&expected)), &found);
            }
        }
        book.pass("C05", "the seal names this tag manifest and this map");
    } else {
        book.skip("C05", "there is no good seal", "");
    }
    match Map::parse(&map?) {
        Ok(map) => Some(map),
        Err(MapError::Version) => {
            book.fail(
                "C07",
                Severity::Incomplete,
                MAP,
                None,
                "a map of format v1",
                "unknown format version",
            );
            None
        }
        Err(error) => {
            book.wrong("C07", MAP, "a map in its form", &error.to_string());
            None
        }
    }
}

fn salt_key(book: &mut Book, source: &dyn BagSource, sealed: bool) -> Option<[u8; 32]> {
    match read_if_there(source, SALT_KEY, 64).map(|key| key.map(<[u8; 32]>::try_from)) {
        Ok(Some(Ok(key))) => return Some(key),
        Ok(Some(Err(_))) => book.wrong("C07", SALT_KEY, "32 bytes", "another length"),
        Ok(None) if sealed => book.wrong("C07", SALT_KEY, "the salt key", "no such file"),
        Ok(None) => {}
        Err(error) => unreadable(book, "C07", SALT_KEY, &error),
    }
    None
}

/// The bag's checkpoint (C06), and the root that the records give (C07).
fn check_heads(book: &mut Book, source: &dyn BagSource, sealing: &SealCheck, payload: &Payload) {
    let note = match read_if_there(source, BAG_CHECKPOINT, NOTE_MAX as u64) {
        Ok(note) => note,
        Err(error) => return unreadable(book, "C06", BAG_CHECKPOINT, &error),
    };
    let Some(seal) = &sealing.seal else {
        return book.skip("C06", "there is no good seal to compare it with", "");
    };
    match (note, &sealing.key) {
        (Some(note), Some(key)) => {
            match Checkpoint::open(&note, &bag_origin(&seal.origin, seal.bag), key, Lines::One) {
                Ok(head) if (head.size, head.root) == (seal.size, seal.root) => {
                    book.pass(
                        "C06",
                        "three lines and one signature; the seal has the same tree",
                    );
                }
                Ok(head) => {
                    let shown = |size: u64, root: &Hash| format!("{size}:{}", base64(root));
                    book.wrong(
                        "C06",
                        BAG_CHECKPOINT,
                        &shown(seal.size, &seal.root),
                        &shown(head.size, &head.root),
                    );
                }
                Err(error) => book.wrong(
                    "C06",
                    BAG_CHECKPOINT,
                    "a checkpoint of this bag by the key that sealed it",
                    &error.to_string(),
                ),
            }
        }
        _ => book.wrong("C06", BAG_CHECKPOINT, "the signed head", "no such file"),
    }
    payload::check_root(book, payload, BAG_CHECKPOINT, seal.size, &seal.root);
}

fn check_at_least(book: &mut Book, at_least: Option<AtLeast>, payload: &Payload) {
    let (Some(head), Some((size, _))) = (at_least, &payload.tree) else {
        return;
    };
    match payload.at_least {
        Some(root) if root == head.root => {}
        Some(root) => book.wrong(
            "C18",
            "data",
            &format!("{}:{}", head.size, base64(&head.root)),
            &base64(&root),
        ),
        None => book.wrong(
            "C18",
            "data",
            &format!("at least {} records", head.size),
            &size.to_string(),
        ),
    }
}

/// What only a bag with a good seal can be asked.
fn check_sealed(
    book: &mut Book,
    seal: &Seal,
    note: &[u8],
    key: &[u8; 32],
    info: Option<&BagInfo>,
    payload: &Payload,
    ledger: Option<&LedgerView>,
) {
    let seal_sha256 = sha256(note);
    book.seal_sha256 = Some(seal_sha256);
    book.seal = Some(SealFacts {
        origin: seal.origin.clone(),
        bag: seal.bag,
        seal_sha256: hex(&seal_sha256),
        fingerprint: fingerprint(key).to_string(),
        tree_size: seal.size,
        root: base64(&seal.root),
        bytes: payload.bytes,
        files: payload.files,
        recoveries: seal.recoveries,
        ledger_size: seal.ledger_size,
        closed: seal.closed.clone(),
    });
    if let Some(info) = info {
        let expected = bag_name(&info.group, seal.bag);
        if info.external_identifier != expected {
            book.wrong(
                "C01",
                crate::manifest::BAG_INFO,
                &expected,
                &info.external_identifier,
            );
        }
    }
    if seal.recoveries > 0 {
        let found = format!("{} recoveries", seal.recoveries);
        book.fail(
            "C19",
            Severity::Recovered,
            SEAL,
            None,
            "no recovery",
            &found,
        );
    } else if book.has_failed("C19") || book.findings.iter().any(|f| f.check == "C19") {
        book.wrong(
            "C19",
            SEAL,
            "the recoveries that the acquisition records tell of",
            "recoveries 0",
        );
    }
    book.pass("C19", "none");
    match ledger {
        Some(ledger) => ledger.check_bag(book, seal, &seal_sha256, key),
        None => book.skip("C13", "no ledger was given", "--ledger INCIDENT-FOLDER"),
    }
}

/// A head of the ledger that the reader noted pins each bag whose `bag.sealed` entry lies below it.
fn anchored_by_ledger(ledger: &LedgerView, at_least: Option<AtLeast>, sealing: &SealCheck) -> bool {
    match (at_least, &sealing.seal, &sealing.note) {
        (Some(head), Some(seal), Some(note)) => {
            ledger.root_at(head.size) == Some(head.root)
                && ledger.sealed_below(seal.bag, &sha256(note), head.size)
        }
        _ => false,
    }
}

/// Checks the verifier keys that travel with the bag: claims too, but they must be of the same key.
fn check_vkeys(book: &mut Book, source: &dyn BagSource, seal: &Seal, key: &[u8; 32]) {
    let names = [
        seal.origin.clone(),
        ledger_origin(&seal.origin),
        bag_origin(&seal.origin, seal.bag),
    ];
    let expected: String = names
        .iter()
        .map(|name| note::vkey(name, key) + "\n")
        .collect();
    match read_if_there(source, BAG_VKEYS, NOTE_MAX as u64) {
        Ok(Some(found)) if found == expected.as_bytes() => {}
        Ok(_) => book.wrong(
            "C04",
            BAG_VKEYS,
            "the three verifier keys of the key that sealed",
            "something else",
        ),
        Err(error) => unreadable(book, "C04", BAG_VKEYS, &error),
    }
}
