//! A folder as one source: `files.jsonl` lists it, then its files follow in that order.

use super::{BagError, BagWriter};
use crate::encoding::base64;
use crate::json;
use crate::record::Mode;
use crate::source::BagSink;
use serde::Serialize;

/// What stands at a path of the folder. Links and special files are listed and never followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderKind {
    /// A regular file: its bytes follow.
    File,
    /// A folder.
    Dir,
    /// A symbolic link and its target.
    Link(Vec<u8>),
    /// A pipe, socket or device, in a word.
    Special(String),
}

/// One entry of the folder, as the walk saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// The real path, relative to the folder.
    pub path: Vec<u8>,
    /// What stands there.
    pub kind: FolderKind,
    /// Permission bits.
    pub mode: u32,
    /// Bytes at the time of the walk.
    pub size: u64,
    /// Time of change, as RFC 3339.
    pub mtime: String,
}

#[derive(Serialize)]
struct Line<'a> {
    path: String,
    mode: u32,
    size: u64,
    mtime: &'a str,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<String>,
}

impl<S: BagSink> BagWriter<S> {
    /// Begins a folder: entries in byte order of the path. Then call [`next_file`](Self::next_file) for each regular
    /// file, in that order, and write its bytes.
    ///
    /// Returns the folder's name in the bag.
    pub fn start_folder(
        &mut self,
        raw_name: impl AsRef<[u8]>,
        entries: &[FolderEntry],
    ) -> Result<String, BagError> {
        if entries.windows(2).any(|pair| pair[0].path >= pair[1].path) {
            return Err(BagError::Order(
                "the entries of a folder come in byte order of the path",
            ));
        }
        let source = self.begin_source(raw_name.as_ref())?;
        self.begin_segment(&format!("data/{source}/files.jsonl"), Mode::Line)?;
        let mut files = 0;
        for entry in entries {
            let segment = (entry.kind == FolderKind::File).then(|| {
                files += 1;
                format!("data/{source}/{files:06}")
            });
            self.write(&line(entry, segment)?)?;
        }
        Ok(source)
    }

    /// Begins the next regular file of the folder. `beginning` is its first bytes (up to 8 KiB), which decide how it
    /// is cut; they are not written by this call.
    pub fn next_file(&mut self, beginning: &[u8]) -> Result<(), BagError> {
        let mode = Mode::detect(beginning);
        self.end_file()?;
        let number = self.next_file_number()?;
        let source = self.active_name()?;
        let path = format!("data/{source}/{number:06}/00000.{}", mode.extension());
        self.begin_segment(&path, mode)
    }
}

fn line(entry: &FolderEntry, segment: Option<String>) -> Result<Vec<u8>, BagError> {
    let (kind, target) = match &entry.kind {
        FolderKind::File => ("file", None),
        FolderKind::Dir => ("dir", None),
        FolderKind::Link(target) => ("link", Some(base64(target))),
        FolderKind::Special(word) => (word.as_str(), None),
    };
    let (path, mtime) = (base64(&entry.path), entry.mtime.as_str());
    Ok(json::canonical_line(&Line {
        path,
        mode: entry.mode,
        size: entry.size,
        mtime,
        kind,
        target,
        segment,
    })?)
}
