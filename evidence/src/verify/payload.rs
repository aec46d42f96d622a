//! One pass over the payload: flat hash of every file, leaf of every record, root of the tree (C02, C07).

use super::AtLeast;
use super::report::{Book, Severity};
use crate::encoding::{Hash, base64, hex};
use crate::manifest::{self, MANIFEST, ManifestLine};
use crate::map::{MAP, Map, MapLine};
use crate::record::{Mode, More, RECORD_MAX, SEGMENT_MAX, split};
use crate::salt::SaltedTree;
use crate::source::{BagSource, Kind, Listed};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

const STEP: usize = if cfg!(feature = "parallel") {
    4_194_304
} else {
    1_048_576
};
/// Manifests and maps of bags with millions of files stay below this.
pub(super) const LIST_MAX: u64 = 1024 * 1024 * 1024;

/// What the payload turned out to be.
#[derive(Default)]
pub(super) struct Payload {
    pub(super) bytes: u64,
    pub(super) files: u64,
    /// Size and root of the tree, if map and salts allowed to build it.
    pub(super) tree: Option<(u64, Hash)>,
    /// Root at the size that the reader asked for, if the tree is that large.
    pub(super) at_least: Option<Hash>,
    /// Segments as the map has them, with their true bytes.
    pub(super) segments: BTreeMap<String, (MapLine, u64)>,
}

/// Hashes the whole payload; `key` and `map` are absent where they could not be read.
pub(super) fn check(
    book: &mut Book,
    source: &dyn BagSource,
    listed: &[Listed],
    key: Option<&[u8; 32]>,
    map: Option<&Map>,
    at_least: Option<AtLeast>,
) -> Payload {
    let files: Vec<&Listed> = listed
        .iter()
        .filter(|item| item.kind == Kind::File && item.path.starts_with("data/"))
        .collect();
    let mut payload = Payload {
        bytes: files.iter().map(|file| file.len).sum(),
        files: files.len() as u64,
        ..Payload::default()
    };
    let mut hashes: BTreeMap<String, Hash> = BTreeMap::new();
    if let (Some(key), Some(map)) = (key, map) {
        check_tree(
            book,
            source,
            &files,
            key,
            map,
            at_least,
            &mut payload,
            &mut hashes,
        );
    } else {
        book.skip(
            "C07",
            "the map or the salt key is absent or not in its form",
            "",
        );
    }
    for file in &files {
        if hashes.contains_key(&file.path) {
            continue;
        }
        if map.is_some() {
            book.wrong(
                "C07",
                &file.path,
                "a line in the map",
                "none: no record of this file is in the tree",
            );
        }
        match hash_file(source, &file.path) {
            Ok(hash) => _ = hashes.insert(file.path.clone(), hash),
            Err(error) => unreadable(book, "C02", &file.path, &error),
        }
    }
    check_manifest(book, source, listed, &hashes);
    payload
}

#[expect(clippy::too_many_arguments, reason = "one pass fills all of them")]
fn check_tree(
    book: &mut Book,
    source: &dyn BagSource,
    files: &[&Listed],
    key: &[u8; 32],
    map: &Map,
    at_least: Option<AtLeast>,
    payload: &mut Payload,
    hashes: &mut BTreeMap<String, Hash>,
) {
    let present: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut tree = Growing {
        tree: SaltedTree::new(key),
        wanted: at_least.map(|head| head.size),
        root: None,
    };
    let mut whole = true;
    for line in &map.segments {
        let first_leaf = tree.tree.size();
        if line.first_leaf != first_leaf {
            book.wrong(
                "C07",
                MAP,
                &format!("first leaf {first_leaf} for {}", line.path),
                &line.first_leaf.to_string(),
            );
        }
        if !present.contains(line.path.as_str()) || payload.segments.contains_key(&line.path) {
            let found = if present.contains(line.path.as_str()) {
                "a second line for it"
            } else {
                "no such file"
            };
            book.wrong("C07", &line.path, "one file for one line of the map", found);
            whole = false;
            continue;
        }
        match tree.segment(source, &line.path, line.mode) {
            Ok((hash, bytes)) => {
                let count = tree.tree.size() - first_leaf;
                if count != line.count {
                    book.fail(
                        "C07",
                        Severity::Tampered,
                        &line.path,
                        Some(first_leaf + count.min(line.count)),
                        &format!("{} records", line.count),
                        &count.to_string(),
                    );
                }
                if bytes > SEGMENT_MAX {
                    book.wrong(
                        "C01",
                        &line.path,
                        &format!("at most {SEGMENT_MAX} bytes"),
                        &bytes.to_string(),
                    );
                }
                hashes.insert(line.path.clone(), hash);
                payload
                    .segments
                    .insert(line.path.clone(), (line.clone(), bytes));
            }
            Err(error) => {
                unreadable(book, "C07", &line.path, &error);
                whole = false;
            }
        }
    }
    if whole {
        payload.tree = Some((tree.tree.size(), tree.tree.root()));
        payload.at_least = match at_least {
            Some(head) if head.size == 0 => Some(crate::merkle::empty_root()),
            _ => tree.root,
        };
    }
}

/// A tree that remembers its root at one size.
struct Growing {
    tree: SaltedTree,
    wanted: Option<u64>,
    root: Option<Hash>,
}

impl Growing {
    /// Reads one segment: its flat hash and length, and its records into the tree.
    fn segment(
        &mut self,
        source: &dyn BagSource,
        path: &str,
        mode: Mode,
    ) -> io::Result<(Hash, u64)> {
        let mut flat = Sha256::new();
        let (mut block, mut filled) = (vec![0; STEP + RECORD_MAX], 0);
        let (mut offset, mut ends) = (0, Vec::new());
        loop {
            let read = source.read_at(path, offset, &mut block[filled..filled + STEP])?;
            let (old, now) = (filled, filled + read);
            offset += read as u64;
            let more = if read == 0 {
                More::Ended
            } else {
                More::Follows
            };
            ends.clear();
            let rest = split(mode, &block[..now], more, |_, end| ends.push(end as u32));
            self.push(&block, &ends, || flat.update(&block[old..now]));
            block.copy_within(rest..now, 0);
            filled = now - rest;
            if read == 0 {
                return Ok((flat.finalize().into(), offset));
            }
        }
    }

    /// Appends the records of a block, stopping in between where the reader asked for a root.
    fn push(&mut self, block: &[u8], ends: &[u32], alongside: impl FnOnce()) {
        let size = self.tree.size();
        let wanted = self
            .wanted
            .and_then(|wanted| usize::try_from(wanted.checked_sub(size)?).ok());
        match wanted.filter(|count| (1..=ends.len()).contains(count)) {
            Some(count) => {
                let (before, after) = ends.split_at(count);
                self.tree.push_records(block, 0, before, alongside);
                self.root = Some(self.tree.root());
                self.tree
                    .push_records(block, before[count - 1] as usize, after, || ());
            }
            None => self.tree.push_records(block, 0, ends, alongside),
        }
    }
}

/// Returns the SHA-256 of a file, read in steps.
pub(super) fn hash_file(source: &dyn BagSource, path: &str) -> io::Result<Hash> {
    let mut flat = Sha256::new();
    let (mut offset, mut step) = (0, vec![0; 64 * 1024]);
    loop {
        let read = source.read_at(path, offset, &mut step)?;
        if read == 0 {
            return Ok(flat.finalize().into());
        }
        flat.update(&step[..read]);
        offset += read as u64;
    }
}

pub(super) fn unreadable(book: &mut Book, check: &'static str, path: &str, error: &io::Error) {
    book.fail(
        check,
        Severity::Incomplete,
        path,
        None,
        "a readable file",
        &error.to_string(),
    );
}

fn check_manifest(
    book: &mut Book,
    source: &dyn BagSource,
    listed: &[Listed],
    hashes: &BTreeMap<String, Hash>,
) {
    let present = listed
        .iter()
        .filter(|item| item.path.starts_with("data/") && item.kind != Kind::Dir);
    let present: BTreeSet<&str> = present.map(|item| item.path.as_str()).collect();
    let Some(lines) = read_manifest(book, "C02", source, MANIFEST, &present) else {
        return;
    };
    if lines.is_empty() {
        book.wrong("C02", MANIFEST, "a payload", "no line");
    }
    compare(book, "C02", &lines, hashes);
    book.pass(
        "C02",
        &format!(
            "{} files, each with its hash, none missing and none extra",
            lines.len()
        ),
    );
}

/// Reads a manifest and compares its names with those that are there. `None` if it cannot be read.
pub(super) fn read_manifest(
    book: &mut Book,
    check: &'static str,
    source: &dyn BagSource,
    path: &str,
    present: &BTreeSet<&str>,
) -> Option<Vec<ManifestLine>> {
    let bytes = match crate::source::read_all(source, path, LIST_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            unreadable(book, check, path, &error);
            return None;
        }
    };
    let (lines, bad) = manifest::parse(&bytes);
    for number in bad {
        book.fail(
            check,
            Severity::Tampered,
            path,
            Some(number as u64),
            "64 hex digits, two spaces, a name",
            "a line in another form",
        );
    }
    for pair in lines.windows(2) {
        match pair[0].path.cmp(&pair[1].path) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => {
                book.wrong(check, &pair[0].path, "one line in the manifest", "two")
            }
            std::cmp::Ordering::Greater => {
                book.wrong(check, path, "lines in byte order", &pair[1].path)
            }
        }
    }
    let named: BTreeSet<&str> = lines.iter().map(|line| line.path.as_str()).collect();
    for missing in named.difference(present) {
        book.wrong(
            check,
            missing,
            "the file that the manifest names",
            "no such file",
        );
    }
    for extra in present.difference(&named) {
        book.wrong(
            check,
            extra,
            "a line in the manifest",
            "none: the file was added",
        );
    }
    Some(lines)
}

pub(super) fn compare(
    book: &mut Book,
    check: &'static str,
    lines: &[ManifestLine],
    hashes: &BTreeMap<String, Hash>,
) {
    for line in lines {
        if let Some(hash) = hashes.get(&line.path).filter(|hash| **hash != line.hash) {
            book.wrong(
                check,
                &line.path,
                &format!("sha256 {}", hex(&line.hash)),
                &hex(hash),
            );
        }
    }
}

/// Compares the tree that was built with a signed head.
pub(super) fn check_root(book: &mut Book, payload: &Payload, what: &str, size: u64, root: &Hash) {
    let Some((found_size, found_root)) = &payload.tree else {
        return;
    };
    if (*found_size, found_root) != (size, root) {
        let shown = |size: u64, root: &Hash| format!("{size}:{}", base64(root));
        book.wrong(
            "C07",
            what,
            &shown(size, root),
            &shown(*found_size, found_root),
        );
    } else {
        book.pass("C07", &format!("{size} records give the signed root"));
    }
}
