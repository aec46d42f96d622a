//! Walking a folder of this host: everything is listed, nothing outside is followed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use chrono::DateTime;
use firebreak_evidence::bag::{FolderEntry, FolderKind};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::incident::clock_text::millis;

/// How much is read at once.
const BLOCK: usize = 1024 * 1024;
/// How many blocks are read before they are asked for: one is hashed, one waits, one is filled.
const AHEAD: usize = 2;

/// A folder as it was seen.
pub(super) struct Walked {
    root: OwnedFd,
    /// Everything in it, in byte order of the path.
    pub(super) entries: Vec<FolderEntry>,
    /// Its regular files, in that order.
    pub(super) files: Vec<SeenFile>,
    /// What could not be listed.
    pub(super) problems: Vec<String>,
}

/// A regular file as it was seen.
pub(super) struct SeenFile {
    path: Vec<u8>,
    stat: Stat,
}

impl SeenFile {
    /// Its path below the folder, for messages.
    pub(super) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// What a person named: a folder, or a file that ends.
pub(super) enum Named {
    Folder(OwnedFd),
    File(File),
}

/// Opens what a person named, a link followed. What may never end or answer is refused before it is opened: opening a named pipe alone
/// would take its writer's first bytes. What was put in its place meanwhile is refused too.
pub(super) fn named(path: &Path) -> io::Result<Named> {
    if lies_in_own(path) {
        return Err(io::Error::other(
            "it is firebreak's own: keys stay where they are, bags are handed over whole",
        ));
    }
    let looked = rustix::fs::stat(path)?;
    let endless = match FileType::from_raw_mode(looked.st_mode) {
        FileType::Fifo => Some("it is a named pipe, which may never end"),
        FileType::Socket => Some("it is a socket"),
        FileType::CharacterDevice => Some("it is a device that may never end"),
        _ => None,
    };
    if let Some(why) = endless {
        return Err(io::Error::other(why));
    }
    let opened = openat(CWD, path, READ, Mode::empty())?;
    same_as(&looked, &opened)?;
    Ok(match FileType::from_raw_mode(looked.st_mode) {
        FileType::Directory => Named::Folder(opened),
        _ => Named::File(opened.into()),
    })
}

/// Whether a path can be taken in, before a bag is opened for it.
///
/// # Errors
/// When it cannot be read, may never end, or is firebreak's own.
pub fn takable(path: &Path) -> io::Result<()> {
    match named(path)? {
        Named::Folder(folder) => Dir::read_from(&folder).map(drop).map_err(Into::into),
        Named::File(_) => Ok(()),
    }
}

/// Reading without waiting for a writer.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

fn same_as(looked: &Stat, opened: &OwnedFd) -> io::Result<()> {
    let now = rustix::fs::fstat(opened)?;
    let same = (now.st_dev, now.st_ino) == (looked.st_dev, looked.st_ino)
        && FileType::from_raw_mode(now.st_mode) == FileType::from_raw_mode(looked.st_mode);
    if same { Ok(()) } else { Err(replaced()) }
}

fn replaced() -> io::Error {
    io::Error::other("it was replaced between look and open")
}

/// Opens what stands at `path` below `root`, and follows no link on the way.
fn open_below(root: &OwnedFd, path: &[u8], last: OFlags) -> io::Result<OwnedFd> {
    let mut at: Option<OwnedFd> = None;
    let mut parts = path.split(|b| *b == b'/').peekable();
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_some() {
            READ | OFlags::DIRECTORY
        } else {
            last
        };
        let folder = at.as_ref().unwrap_or(root);
        at = Some(openat(
            folder,
            part,
            flags | OFlags::NOFOLLOW,
            Mode::empty(),
        )?);
    }
    at.ok_or_else(replaced)
}

impl Walked {
    /// Opens a file that was seen. What was put in its place meanwhile, a link or a pipe above all, is refused.
    pub(super) fn open(&self, file: &SeenFile) -> io::Result<File> {
        let opened = open_below(&self.root, &file.path, READ).map_err(|e| {
            match Errno::from_io_error(&e) {
                Some(Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => replaced(),
                _ => e,
            }
        })?;
        same_as(&file.stat, &opened)?;
        Ok(opened.into())
    }
}

/// Walks `root`, which was opened as `folder`. A subfolder that cannot be read is a problem, not an error.
pub(super) fn folder(folder: OwnedFd, root: &Path) -> io::Result<Walked> {
    let mut walked = Walked {
        root: folder,
        entries: Vec::new(),
        files: Vec::new(),
        problems: Vec::new(),
    };
    // The root itself must be readable; below it everything that can be had is taken.
    let mut todo = Vec::new();
    let first = Dir::read_from(&walked.root)?;
    walked.list(first, &[], root, &mut todo);
    while let Some((path, stat)) = todo.pop() {
        let opened = open_below(&walked.root, &path, READ | OFlags::DIRECTORY)
            .and_then(|fd| same_as(&stat, &fd).map(|()| fd))
            .and_then(|fd| Ok(Dir::read_from(&fd)?));
        match opened {
            Ok(items) => walked.list(items, &path, root, &mut todo),
            Err(e) => walked.problem(&path, &e),
        }
    }
    walked.entries.sort_by(|a, b| a.path.cmp(&b.path));
    walked.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walked)
}

impl Walked {
    fn problem(&mut self, path: &[u8], why: &dyn std::fmt::Display) {
        self.problems
            .push(format!("{}: {why}", String::from_utf8_lossy(path)));
    }

    /// Lists one folder of the walk, and puts its subfolders on `todo`.
    fn list(&mut self, items: Dir, prefix: &[u8], root: &Path, todo: &mut Vec<(Vec<u8>, Stat)>) {
        let Ok(fd) = items.fd().and_then(rustix::io::dup) else {
            return self.problem(prefix, &"it cannot be listed");
        };
        for item in items {
            let name = match &item {
                Ok(item) => item.file_name().to_bytes(),
                Err(e) => {
                    self.problem(prefix, e);
                    continue;
                }
            };
            if name == b"." || name == b".." {
                continue;
            }
            let mut path = prefix.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let (entry, stat) = match entry(&fd, name, path.clone()) {
                Ok(seen) => seen,
                Err(e) => {
                    self.problem(&path, &e);
                    continue;
                }
            };
            match entry.kind {
                FolderKind::Dir if is_own(&root.join(OsStr::from_bytes(&path))) => {
                    self.problem(&path, &"left out: firebreak's own keys or the bag itself");
                }
                FolderKind::Dir => todo.push((path, stat)),
                FolderKind::File => self.files.push(SeenFile { path, stat }),
                FolderKind::Link(_) | FolderKind::Special(_) => {}
            }
            self.entries.push(entry);
        }
    }
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

fn entry(folder: &OwnedFd, name: &[u8], path: Vec<u8>) -> io::Result<(FolderEntry, Stat)> {
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FolderKind::File,
        FileType::Directory => FolderKind::Dir,
        FileType::Symlink => FolderKind::Link(readlinkat(folder, name, Vec::new())?.into_bytes()),
        FileType::Fifo => FolderKind::Special("fifo".into()),
        FileType::Socket => FolderKind::Special("socket".into()),
        _ => FolderKind::Special("device".into()),
    };
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let mtime = DateTime::from_timestamp(stat.st_mtime, nanos).unwrap_or_default();
    let entry = FolderEntry {
        path,
        kind,
        mode: stat.st_mode & 0o7777,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: millis(mtime),
    };
    Ok((entry, stat))
}

/// Reads at most `limit` first bytes.
pub(super) fn head(file: &mut File, limit: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(limit);
    file.take(limit as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Reads to the end, block by block. A read error ends the source and is answered, so that what came before is kept; an error of `each`
/// is passed on. The next block is read while `each` has this one.
pub(super) fn read_all<E>(
    source: &mut (dyn Read + Send),
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Option<io::Error>, E> {
    let mut first = vec![0; BLOCK];
    let (got, error) = read_block(source, &mut first);
    each(&first[..got])?;
    // Most files are short: they are worth no thread.
    if got < BLOCK {
        return Ok(error);
    }
    thread::scope(|scope| {
        let (full, filled) = sync_channel(AHEAD);
        let (empty, to_fill) = channel();
        for block in std::iter::once(first).chain((0..AHEAD).map(|_| vec![0; BLOCK])) {
            _ = empty.send(block);
        }
        scope.spawn(move || {
            // Ends with the source, or when nobody takes the blocks any more.
            while let Ok(mut block) = to_fill.recv() {
                let (got, error) = read_block(source, &mut block);
                if full.send((block, got, error)).is_err() || got < BLOCK {
                    return;
                }
            }
        });
        while let Ok((block, got, error)) = filled.recv() {
            each(&block[..got])?;
            if got < BLOCK {
                return Ok(error);
            }
            _ = empty.send(block);
        }
        Ok(None)
    })
}

/// Fills the block. It is short only at the source's end, or before the error that ends it.
fn read_block(source: &mut dyn Read, block: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut got = 0;
    while got < block.len() {
        match source.read(&mut block[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (got, Some(e)),
        }
    }
    (got, None)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    fn folder_of(name: &str) -> PathBuf {
        let at = std::env::temp_dir().join(format!("firebreak-walk-{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&at);
        fs::create_dir_all(at.join("sub")).expect("a folder");
        at
    }

    fn fifo(at: &Path) {
        rustix::fs::mknodat(CWD, at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    }

    fn walk(at: &Path) -> Walked {
        let Named::Folder(fd) = named(at).expect("opened") else {
            panic!("a folder");
        };
        folder(fd, at).expect("walked")
    }

    #[test]
    fn what_may_never_end_is_refused_and_never_waited_for() {
        let at = folder_of("endless");
        fifo(&at.join("pipe"));
        let socket = std::os::unix::net::UnixListener::bind(at.join("socket")).expect("a socket");
        for (path, word) in [
            (at.join("pipe"), "pipe"),
            (at.join("socket"), "socket"),
            (PathBuf::from("/dev/zero"), "device"),
        ] {
            let why = takable(&path).expect_err("refused").to_string();
            assert!(why.contains(word), "{why}");
        }
        // Inside a folder they are listed by what they are, and never opened.
        let walked = walk(&at);
        let kinds: Vec<_> = walked.entries.iter().map(|e| e.kind.clone()).collect();
        let special = |word: &str| FolderKind::Special(word.into());
        assert_eq!(kinds, [special("fifo"), special("socket"), FolderKind::Dir]);
        assert!(walked.files.is_empty() && walked.problems.is_empty());
        drop(socket);
        fs::remove_dir_all(at).expect("clean");
    }

    /// Answers its bytes in pieces, then an error.
    struct Breaks {
        left: usize,
    }

    impl Read for Breaks {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.left.min(buf.len()).min(300_000);
            self.left -= n;
            buf[..n].fill(b'x');
            match n {
                0 => Err(io::Error::other("the disk broke")),
                n => Ok(n),
            }
        }
    }

    #[test]
    fn what_came_before_a_read_error_is_kept_and_the_error_is_told_at_any_length() {
        for left in [0, 5, BLOCK - 1, BLOCK, BLOCK + 1, 7 * BLOCK, 9 * BLOCK + 3] {
            let mut taken = 0;
            let ended = read_all::<()>(&mut Breaks { left }, |bytes| {
                taken += bytes.len();
                Ok(())
            });
            assert_eq!(taken, left);
            assert!(ended.expect("each is well").is_some(), "{left}");
            let mut calls = 0;
            let stopped = read_all(&mut Breaks { left }, |_| {
                calls += 1;
                Err("full")
            });
            assert_eq!((stopped.map(|_| ()), calls), (Err("full"), 1), "{left}");
        }
    }

    #[test]
    fn every_block_comes_in_order_and_the_end_is_no_error() {
        for len in [0, 1, BLOCK, 2 * BLOCK, 5 * BLOCK + 7] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut taken = Vec::new();
            let ended = read_all::<()>(&mut bytes.as_slice(), |block| {
                taken.extend_from_slice(block);
                Ok(())
            });
            assert!(ended.expect("each is well").is_none());
            assert!(taken == bytes, "{len}");
        }
    }

    /// Somebody who may write in the folder swaps what was seen before it is opened.
    #[test]
    fn a_file_swapped_between_look_and_open_is_not_followed() {
        let at = folder_of("swapped");
        let outside = folder_of("outside");
        fs::write(outside.join("f"), "secret").expect("written");
        for name in ["a", "b", "c", "sub/f"] {
            fs::write(at.join(name), "x").expect("written");
        }
        let walked = walk(&at);
        fs::remove_file(at.join("a")).expect("removed");
        symlink(outside.join("f"), at.join("a")).expect("linked");
        fs::remove_file(at.join("b")).expect("removed");
        fifo(&at.join("b"));
        fs::rename(at.join("sub"), at.join("was")).expect("moved");
        symlink(&outside, at.join("sub")).expect("linked");
        let opened: Vec<_> = walked
            .files
            .iter()
            .map(|f| {
                (
                    f.shown(),
                    walked.open(f).map(drop).map_err(|e| e.to_string()),
                )
            })
            .collect();
        for (name, result) in opened {
            if name == "c" {
                assert_eq!(result, Ok(()));
            } else {
                assert!(
                    result.clone().is_err_and(|e| e.contains("replaced")),
                    "{name}: {result:?}"
                );
            }
        }
        fs::remove_dir_all(at).expect("clean");
        fs::remove_dir_all(outside).expect("clean");
    }
}
