//! A store in memory that fails on purpose: the twin of the durable folder, for tests and rehearsals.
//!
//! It knows what a power cut would keep: bytes up to the last `sync_data`, names up to the last `sync_dir`.

use crate::durable::parent;
use crate::source::{BagSink, BagSource, Kind, Listed};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files in memory, for reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemorySource {
    /// Path to bytes.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Paths of links, pipes and devices.
    pub others: Vec<String>,
}

impl BagSource for MemorySource {
    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut all: BTreeMap<&str, Listed> = BTreeMap::new();
        let put = |path: &str, kind, len| Listed {
            path: path.to_owned(),
            kind,
            len,
        };
        for (path, bytes) in &self.files {
            let mut folder = parent(path);
            while !folder.is_empty() {
                all.insert(folder, put(folder, Kind::Dir, 0));
                folder = parent(folder);
            }
            all.insert(path, put(path, Kind::File, bytes.len() as u64));
        }
        for path in &self.others {
            all.insert(path, put(path, Kind::Other, 0));
        }
        Ok(all.into_values().collect())
    }

    fn len(&self, path: &str) -> io::Result<u64> {
        Ok(self.files.get(path).ok_or(io::ErrorKind::NotFound)?.len() as u64)
    }

    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let count = buf.len().min(bytes.len() - from);
        buf[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }
}

/// What goes wrong, and at which call (counted from 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before the call has an effect; every later call fails too.
    CutBefore(u64),
    /// The process dies after the effect and before the answer; every later call fails too.
    CutAfter(u64),
    /// The disk is full at this call and after it: an append keeps half of its bytes, nothing else has an effect.
    Full(u64),
}

/// What a crash leaves of bytes and names that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process died, the machine lives on: everything is kept.
    Killed,
    /// Power went: only synced bytes under synced names are kept.
    PowerCut,
    /// Power went while the disk was writing: names are kept, half of the bytes that were not synced too.
    Torn,
}

#[derive(Debug, Default)]
struct Inode {
    data: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug, Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    calls: u64,
    fault: Option<Fault>,
    dead: bool,
}

/// A durable store in memory. Clones share one disk.
#[derive(Clone, Debug, Default)]
pub struct MemorySink {
    disk: Arc<Mutex<Disk>>,
}

impl MemorySink {
    /// Returns a disk that holds these files, all of them durable.
    pub fn holding(files: MemorySource) -> Self {
        let sink = Self::default();
        for (path, data) in files.files {
            let mut disk = sink.disk();
            let inode = disk.inodes.len();
            disk.inodes.push(Inode {
                synced: data.clone(),
                data,
            });
            disk.names.insert(path.clone(), inode);
            disk.durable_names.insert(path, inode);
        }
        sink
    }

    /// Arms a fault; call numbers count from the last arming.
    pub fn arm(&self, fault: Option<Fault>) {
        let mut disk = self.disk();
        disk.calls = 0;
        disk.fault = fault;
        disk.dead = false;
    }

    /// Returns how many calls were made since the last arming.
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// Returns what a reader sees now.
    pub fn snapshot(&self) -> MemorySource {
        let disk = self.disk();
        let files = disk
            .names
            .iter()
            .map(|(path, inode)| (path.clone(), disk.inodes[*inode].data.clone()))
            .collect();
        MemorySource {
            files,
            others: Vec::new(),
        }
    }

    /// Returns what a reader finds after a crash.
    pub fn after(&self, crash: Crash) -> MemorySource {
        let disk = self.disk();
        let names = if crash == Crash::PowerCut {
            &disk.durable_names
        } else {
            &disk.names
        };
        let files = names
            .iter()
            .map(|(path, inode)| (path.clone(), disk.inodes[*inode].after(crash)))
            .collect();
        MemorySource {
            files,
            others: Vec::new(),
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one call through the armed fault.
    fn call(&self, effect: impl FnOnce(&mut Disk) -> io::Result<()>) -> io::Result<()> {
        let mut disk = self.disk();
        let number = disk.calls;
        disk.calls += 1;
        if disk.dead {
            return Err(io::Error::other("the process was cut"));
        }
        match disk.fault {
            Some(Fault::CutBefore(at)) if number == at => {
                disk.dead = true;
                Err(io::Error::other("cut before the effect"))
            }
            Some(Fault::CutAfter(at)) if number == at => {
                effect(&mut disk)?;
                disk.dead = true;
                Err(io::Error::other("cut after the effect"))
            }
            Some(Fault::Full(at)) if number >= at => Err(io::ErrorKind::StorageFull.into()),
            _ => effect(&mut disk),
        }
    }

    fn is_full(&self) -> bool {
        let disk = self.disk();
        matches!(disk.fault, Some(Fault::Full(at)) if disk.calls >= at) && !disk.dead
    }
}

impl Inode {
    fn after(&self, crash: Crash) -> Vec<u8> {
        match crash {
            Crash::Killed => self.data.clone(),
            Crash::PowerCut => self.synced.clone(),
            Crash::Torn if self.data.starts_with(&self.synced) => {
                let half = self.synced.len() + (self.data.len() - self.synced.len()) / 2;
                self.data[..half].to_vec()
            }
            Crash::Torn => self.synced.clone(),
        }
    }
}

impl Disk {
    fn file(&mut self, path: &str) -> io::Result<&mut Inode> {
        let inode = *self.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.inodes[inode])
    }
}

impl BagSink for MemorySink {
    fn create(&mut self, path: &str) -> io::Result<()> {
        self.call(|disk| {
            if let Ok(file) = disk.file(path) {
                file.data.clear();
                return Ok(());
            }
            disk.inodes.push(Inode::default());
            disk.names.insert(path.to_owned(), disk.inodes.len() - 1);
            Ok(())
        })
    }

    fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        if self.is_full()
            && let Ok(file) = self.disk().file(path)
        {
            file.data.extend_from_slice(&bytes[..bytes.len() / 2]);
        }
        self.call(|disk| {
            disk.file(path)?.data.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn sync_data(&mut self, path: &str) -> io::Result<()> {
        self.call(|disk| {
            let file = disk.file(path)?;
            file.synced.clone_from(&file.data);
            Ok(())
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.call(|disk| {
            let inode = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            disk.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }

    fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        self.call(|disk| {
            disk.durable_names.retain(|name, _| parent(name) != path);
            let here = disk.names.iter().filter(|(name, _)| parent(name) == path);
            disk.durable_names
                .extend(here.map(|(name, inode)| (name.clone(), *inode)));
            Ok(())
        })
    }

    fn truncate(&mut self, path: &str, len: u64) -> io::Result<()> {
        self.call(|disk| {
            let file = disk.file(path)?;
            file.data
                .truncate(usize::try_from(len).unwrap_or(usize::MAX));
            Ok(())
        })
    }

    fn make_dir(&mut self, _path: &str) -> io::Result<()> {
        self.call(|_| Ok(()))
    }
}
