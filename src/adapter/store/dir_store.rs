//! One folder on a local disk. Every name that is made is made durable in its folder; folders are 0700, files 0600.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firebreak_evidence::source::{BagSink, BagSource, DirSource, Listed};

use crate::port::{LockGuard, Store};

/// A small file is at most this long.
const LOAD_MAX: u64 = 64 * 1024 * 1024;
/// After so many bytes the disk is asked to begin writing them, so that a later sync has less to wait for.
const WRITE_BACK: u64 = 8 * 1024 * 1024;
/// How often a lock that somebody holds is tried again.
const LOCK_EVERY: Duration = Duration::from_millis(15);

/// A folder on a local disk.
pub struct DirStore {
    root: PathBuf,
    /// The file read last. It is opened anew at offset 0, so that a file that was replaced is never read through its old name.
    read: RefCell<Option<(String, File)>>,
    /// The file appended to last, kept open: bags and ledgers append to one file many times.
    open: Option<(String, File)>,
    /// Bytes appended to it since the disk was last asked to begin.
    waiting: u64,
}

impl DirStore {
    /// Opens a folder, making it (0700) with those above it where it is not there.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(root: &Path) -> io::Result<Self> {
        make_private_dir(root)?;
        Ok(DirStore {
            root: root.to_owned(),
            read: RefCell::new(None),
            open: None,
            waiting: 0,
        })
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() {
            self.root.clone()
        } else {
            self.root.join(path)
        }
    }

    fn appender(&mut self, path: &str) -> io::Result<&mut File> {
        let reuse = self.open.as_ref().is_some_and(|(name, _)| name == path);
        if !reuse {
            let file = OpenOptions::new().append(true).open(self.at(path))?;
            self.open = Some((path.to_owned(), file));
            self.waiting = 0;
        }
        self.open
            .as_mut()
            .map(|(_, file)| file)
            .ok_or_else(|| io::Error::other("no open file"))
    }

    fn forget(&mut self, path: &str) {
        if self.open.as_ref().is_some_and(|(name, _)| name == path) {
            self.open = None;
        }
    }
}

/// Asks the disk to begin writing the last `bytes` of a file. Nothing is promised by it and no error of it is lost: the sync that makes
/// them durable still writes what is left, waits, and tells.
///
/// Linux writes out what it is advised to forget; pages on their way to the disk stay in memory.
#[cfg(target_os = "linux")]
fn begin_write_back(file: &File, bytes: u64) {
    let Ok(len) = file.metadata().map(|m| m.len()) else {
        return;
    };
    let (from, bytes) = (len.saturating_sub(bytes), std::num::NonZeroU64::new(bytes));
    _ = rustix::fs::fadvise(file, from, bytes, rustix::fs::Advice::DontNeed);
}

/// No other system has a hint that begins a write and keeps its errors for the sync.
#[cfg(not(target_os = "linux"))]
fn begin_write_back(_file: &File, _bytes: u64) {}

/// Makes a folder with those above it, each 0700 where it is new, and their names durable.
fn make_private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        make_private_dir(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    sync_dir_of(path.parent().unwrap_or(path))
}

fn sync_dir_of(folder: &Path) -> io::Result<()> {
    File::open(if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    })?
    .sync_all()
}

impl BagSource for DirStore {
    fn list(&self) -> io::Result<Vec<Listed>> {
        DirSource::open(&self.root)?.list()
    }
    fn len(&self, path: &str) -> io::Result<u64> {
        Ok(self.at(path).symlink_metadata()?.len())
    }
    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut read = self.read.borrow_mut();
        let reuse = offset > 0 && read.as_ref().is_some_and(|(name, _)| name == path);
        if !reuse {
            *read = Some((path.to_owned(), File::open(self.at(path))?));
        }
        let (_, file) = read
            .as_ref()
            .ok_or_else(|| io::Error::other("no open file"))?;
        file.read_at(buf, offset)
    }
}

impl BagSink for DirStore {
    fn create(&mut self, path: &str) -> io::Result<()> {
        self.forget(path);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.at(path))
            .map(|_| ())
    }
    fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.appender(path)?.write_all(bytes)?;
        self.waiting += bytes.len() as u64;
        if self.waiting >= WRITE_BACK
            && let Some((_, file)) = &self.open
        {
            begin_write_back(file, std::mem::take(&mut self.waiting));
        }
        Ok(())
    }
    fn sync_data(&mut self, path: &str) -> io::Result<()> {
        self.appender(path)?.sync_data()
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        fs::rename(self.at(from), self.at(to))
    }
    fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        sync_dir_of(&self.at(path))
    }
    fn truncate(&mut self, path: &str, len: u64) -> io::Result<()> {
        self.forget(path);
        let file = OpenOptions::new().write(true).open(self.at(path))?;
        file.set_len(len)?;
        file.sync_all()
    }
    fn make_dir(&mut self, path: &str) -> io::Result<()> {
        make_private_dir(&self.at(path))
    }
}

impl Store for DirStore {
    fn place(&self) -> PathBuf {
        self.root.clone()
    }
    fn another(&self) -> io::Result<Box<dyn Store>> {
        Ok(Box::new(DirStore {
            root: self.root.clone(),
            read: RefCell::new(None),
            open: None,
            waiting: 0,
        }))
    }
    fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let target = self.at(path);
        let folder = target.parent().unwrap_or(&self.root).to_owned();
        make_private_dir(&folder)?;
        let temp = target.with_extension(format!("tmp-{}", std::process::id()));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temp)?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .inspect_err(|_| _ = fs::remove_file(&temp))?;
        fs::rename(&temp, &target)?;
        sync_dir_of(&folder)
    }
    fn load(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::metadata(self.at(path)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
            Ok(m) if m.len() > LOAD_MAX => Err(io::Error::other(format!(
                "`{path}` is larger than {LOAD_MAX} bytes"
            ))),
            Ok(_) => fs::read(self.at(path)).map(Some),
        }
    }
    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.forget(path);
        let target = self.at(path);
        match fs::remove_file(&target) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(()) => sync_dir_of(target.parent().unwrap_or(&self.root)),
        }
    }
    fn lock(&self, path: &str, within: Duration) -> io::Result<Option<LockGuard>> {
        let target = self.at(path);
        make_private_dir(target.parent().unwrap_or(&self.root))?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&target)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Box::new(file))),
                Err(TryLockError::WouldBlock) if start.elapsed() >= within => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_EVERY),
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn folder(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("firebreak-store-{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn folders_are_0700_and_files_0600() {
        let root = folder("modes");
        let mut store = DirStore::open(&root).expect("open");
        store.replace("state/heads.json", b"{}").expect("replace");
        BagSink::create(&mut store, "plain").expect("create");
        let mode = |p: &str| {
            fs::metadata(root.join(p))
                .expect("there")
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(
            (
                mode(""),
                mode("state"),
                mode("state/heads.json"),
                mode("plain")
            ),
            (0o700, 0o700, 0o600, 0o600)
        );
        fs::remove_dir_all(root).expect("clean");
    }

    #[test]
    fn a_lock_that_is_held_is_not_given_twice() {
        let root = folder("lock");
        let store = DirStore::open(&root).expect("open");
        let held = store.lock("state/lock", Duration::ZERO).expect("lock");
        assert!(held.is_some());
        assert!(
            store
                .lock("state/lock", Duration::ZERO)
                .expect("lock")
                .is_none()
        );
        drop(held);
        assert!(
            store
                .lock("state/lock", Duration::ZERO)
                .expect("lock")
                .is_some()
        );
        fs::remove_dir_all(root).expect("clean");
    }

    #[test]
    fn an_append_goes_on_after_a_truncate_and_a_rename() {
        let root = folder("append");
        let mut store = DirStore::open(&root).expect("open");
        BagSink::create(&mut store, "a").expect("create");
        store.append("a", b"one\ntwo").expect("append");
        store.truncate("a", 4).expect("truncate");
        store.append("a", b"three\n").expect("append");
        store.rename("a", "b").expect("rename");
        store.append("b", b"four\n").expect("append");
        assert_eq!(
            store.load("b").expect("load").expect("there"),
            b"one\nthree\nfour\n"
        );
        fs::remove_dir_all(root).expect("clean");
    }
}
