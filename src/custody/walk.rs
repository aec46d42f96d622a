//! Walking a folder of this host: everything is listed, nothing outside is followed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use chrono::DateTime;
use firebreak_evidence::bag::{FolderEntry, FolderKind};

use crate::incident::clock_text::millis;

/// How much is read at once.
const BLOCK: usize = 1024 * 1024;

/// A folder as it was seen.
pub(super) struct Walked {
    /// Everything in it, in byte order of the path.
    pub(super) entries: Vec<FolderEntry>,
    /// Its regular files, in that order.
    pub(super) files: Vec<PathBuf>,
    /// What could not be listed.
    pub(super) problems: Vec<String>,
}

/// Walks `root`. A subfolder that cannot be read is a problem, not an error.
pub(super) fn folder(root: &Path) -> io::Result<Walked> {
    let mut seen = Vec::new();
    let mut problems = Vec::new();
    // The root itself must be readable; below it everything that can be had is taken.
    let first = fs::read_dir(root)?;
    let mut todo = vec![(first, Vec::new())];
    while let Some((items, prefix)) = todo.pop() {
        for item in items {
            let item = match item {
                Ok(item) => item,
                Err(e) => {
                    problems.push(format!("{}: {e}", String::from_utf8_lossy(&prefix)));
                    continue;
                }
            };
            let mut path = prefix.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(item.file_name().as_bytes());
            match entry(&item.path(), path.clone()) {
                Err(e) => problems.push(format!("{}: {e}", item.path().display())),
                Ok(entry) => {
                    if entry.kind == FolderKind::Dir && is_own(&item.path()) {
                        problems.push(format!(
                            "{}: left out: firebreak's own keys or the bag itself",
                            item.path().display()
                        ));
                    } else if entry.kind == FolderKind::Dir {
                        match fs::read_dir(item.path()) {
                            Ok(items) => todo.push((items, path)),
                            Err(e) => problems.push(format!("{}: {e}", item.path().display())),
                        }
                    }
                    seen.push((entry, item.path()));
                }
            }
        }
    }
    seen.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    let files = seen
        .iter()
        .filter(|(e, _)| e.kind == FolderKind::File)
        .map(|(_, p)| p.clone())
        .collect();
    Ok(Walked {
        entries: seen.into_iter().map(|(e, _)| e).collect(),
        files,
        problems,
    })
}

/// True for what is never taken in: `state/` of an incident folder (its key signs; a bag is handed to strangers) and its `bags/` (a bag
/// that takes itself in never ends).
pub(super) fn is_own(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default();
    (name == "state" || name == "bags")
        && folder
            .parent()
            .is_some_and(|p| p.join("ledger/ledger.jsonl").is_file())
}

/// Whether `path`, links followed, is or lies in such a folder. The host that a drill makes up lies in `state/` and holds no key.
pub fn lies_in_own(path: &Path) -> bool {
    let drill_host = |at: &Path| {
        at.file_name().is_some_and(|n| n == "drill-host") && at.parent().is_some_and(is_own)
    };
    fs::canonicalize(path)
        .is_ok_and(|full| full.ancestors().any(is_own) && !full.ancestors().any(drill_host))
}

fn entry(at: &Path, path: Vec<u8>) -> io::Result<FolderEntry> {
    let meta = fs::symlink_metadata(at)?;
    let kind = match meta.file_type() {
        t if t.is_file() => FolderKind::File,
        t if t.is_dir() => FolderKind::Dir,
        t if t.is_symlink() => FolderKind::Link(fs::read_link(at)?.as_os_str().as_bytes().to_vec()),
        t if t.is_fifo() => FolderKind::Special("fifo".into()),
        t if t.is_socket() => FolderKind::Special("socket".into()),
        _ => FolderKind::Special("device".into()),
    };
    let mtime =
        DateTime::from_timestamp(meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap_or(0))
            .unwrap_or_default();
    Ok(FolderEntry {
        path,
        kind,
        mode: meta.mode() & 0o7777,
        size: meta.len(),
        mtime: millis(mtime),
    })
}

/// Reads at most `limit` first bytes.
pub(super) fn head(file: &mut File, limit: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(limit);
    file.take(limit as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Reads to the end, block by block. A read error ends the source and is answered, so that what came before is kept; an error of `each`
/// is passed on.
pub(super) fn read_all<E>(
    source: &mut dyn Read,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Option<io::Error>, E> {
    let mut block = vec![0; BLOCK];
    loop {
        match source.read(&mut block) {
            Ok(0) => return Ok(None),
            Ok(n) => each(&block[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Ok(Some(e)),
        }
    }
}

/// The first problems in one line, and how many more.
pub(super) fn told(problems: &[String]) -> String {
    let shown = problems
        .iter()
        .take(5)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    match problems.len().saturating_sub(5) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}
