//! How bytes come in and go out: the two small ports of this crate, and a folder to read from.
//!
//! Paths are relative to the root of the source or sink, separated by `/`, without `.` or `..`.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A link, a pipe, a device, or a name that is not UTF-8: never opened, never followed.
    Other,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where, relative to the root of the source.
    pub path: String,
    /// What stands there.
    pub kind: Kind,
    /// How many bytes a file holds; 0 for anything else.
    pub len: u64,
}

/// Reads a bag, a ledger or an incident folder.
pub trait BagSource {
    /// Lists everything below the root, in byte order of the path; links are listed and never followed.
    fn list(&self) -> io::Result<Vec<Listed>>;
    /// Returns the length of a file.
    fn len(&self, path: &str) -> io::Result<u64>;
    /// Reads at most `buf.len()` bytes from `offset`; 0 means the end of the file.
    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}

/// Writes durably. Every call may fail, and a failed `sync_data` or `sync_dir` is fatal: it is never retried.
///
/// Guarantees that an implementer owes: after `sync_data` the bytes appended so far survive a power cut; after
/// `sync_dir` the names made in that folder do; `rename` replaces its target in one step. Nothing else is assumed.
pub trait BagSink {
    /// Makes an empty file; a file that stands there is emptied.
    fn create(&mut self, path: &str) -> io::Result<()>;
    /// Appends to a file that exists.
    fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes the bytes of a file durable.
    fn sync_data(&mut self, path: &str) -> io::Result<()>;
    /// Gives a file another name, replacing what has it.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Makes the names in a folder durable; the empty path is the root.
    fn sync_dir(&mut self, path: &str) -> io::Result<()>;
    /// Cuts a file to a length.
    fn truncate(&mut self, path: &str, len: u64) -> io::Result<()>;
    /// Makes a folder and those above it; one that exists is left alone.
    fn make_dir(&mut self, path: &str) -> io::Result<()>;
}

/// Passes every call on: to borrowed and to boxed sinks.
macro_rules! passes_on {
    ($sink:ty) => {
        impl<S: BagSink + ?Sized> BagSink for $sink {
            fn create(&mut self, path: &str) -> io::Result<()> {
                (**self).create(path)
            }
            fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
                (**self).append(path, bytes)
            }
            fn sync_data(&mut self, path: &str) -> io::Result<()> {
                (**self).sync_data(path)
            }
            fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
                (**self).rename(from, to)
            }
            fn sync_dir(&mut self, path: &str) -> io::Result<()> {
                (**self).sync_dir(path)
            }
            fn truncate(&mut self, path: &str, len: u64) -> io::Result<()> {
                (**self).truncate(path, len)
            }
            fn make_dir(&mut self, path: &str) -> io::Result<()> {
                (**self).make_dir(path)
            }
        }
    };
}

passes_on!(&mut S);
passes_on!(Box<S>);

/// Reads a whole file, refusing one that is longer than `limit`.
pub fn read_all(source: &dyn BagSource, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buf = vec![0; 16 * 1024];
    loop {
        let read = source.read_at(path, bytes.len() as u64, &mut buf)?;
        if read == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&buf[..read]);
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("more than {limit} bytes"),
            ));
        }
    }
}

/// Reads a whole file, or returns `None` where there is none.
pub fn read_if_there(
    source: &dyn BagSource,
    path: &str,
    limit: u64,
) -> io::Result<Option<Vec<u8>>> {
    match read_all(source, path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A folder on disk. It follows no links below its root.
#[derive(Debug)]
pub struct DirSource {
    root: PathBuf,
    /// The file read last: segments are read in many small steps.
    open: RefCell<Option<(String, File)>>,
}

impl DirSource {
    /// Opens a folder; anything else is an error.
    pub fn open(root: impl AsRef<Path>) -> io::Result<Self> {
        let root = root.as_ref().to_path_buf();
        if !std::fs::metadata(&root)?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a folder"));
        }
        Ok(Self {
            root,
            open: RefCell::new(None),
        })
    }

    fn walk(&self, folder: &Path, prefix: &str, out: &mut Vec<Listed>) -> io::Result<()> {
        for item in std::fs::read_dir(folder)? {
            let item = item?;
            let name = item.file_name();
            let path = format!("{prefix}{}", name.to_string_lossy());
            let meta = item.path().symlink_metadata()?;
            let kind = match name.to_str() {
                Some(_) if meta.is_file() => Kind::File,
                Some(_) if meta.is_dir() => Kind::Dir,
                _ => Kind::Other,
            };
            let len = if kind == Kind::File { meta.len() } else { 0 };
            out.push(Listed {
                path: path.clone(),
                kind,
                len,
            });
            if kind == Kind::Dir {
                self.walk(&item.path(), &format!("{path}/"), out)?;
            }
        }
        Ok(())
    }
}

impl BagSource for DirSource {
    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut all = Vec::new();
        self.walk(&self.root, "", &mut all)?;
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    fn len(&self, path: &str) -> io::Result<u64> {
        Ok(self.root.join(path).symlink_metadata()?.len())
    }

    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut open = self.open.borrow_mut();
        if open.as_ref().is_none_or(|(name, _)| name != path) {
            *open = Some((path.to_owned(), File::open(self.root.join(path))?));
        }
        let Some((_, file)) = open.as_mut() else {
            return Err(io::Error::other("no open file"));
        };
        file.seek(SeekFrom::Start(offset))?;
        file.read(buf)
    }
}

/// A part of another source, seen as if it were the root.
pub struct SubSource<'a> {
    inner: &'a dyn BagSource,
    prefix: String,
    listed: Vec<Listed>,
}

impl<'a> SubSource<'a> {
    /// Looks at the folder `dir` of `inner`; `all` is the listing of `inner`, taken once for every part.
    pub fn new(inner: &'a dyn BagSource, dir: &str, all: &[Listed]) -> Self {
        let prefix = if dir.is_empty() {
            String::new()
        } else {
            format!("{dir}/")
        };
        let listed = all
            .iter()
            .filter_map(|item| {
                let path = item
                    .path
                    .strip_prefix(&prefix)
                    .filter(|path| !path.is_empty())?;
                Some(Listed {
                    path: path.to_owned(),
                    ..item.clone()
                })
            })
            .collect();
        Self {
            inner,
            prefix,
            listed,
        }
    }
}

impl BagSource for SubSource<'_> {
    fn list(&self) -> io::Result<Vec<Listed>> {
        Ok(self.listed.clone())
    }
    fn len(&self, path: &str) -> io::Result<u64> {
        self.inner.len(&format!("{}{path}", self.prefix))
    }
    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner
            .read_at(&format!("{}{path}", self.prefix), offset, buf)
    }
}
