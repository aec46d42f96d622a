//! Reading a ledger: its stored lines, and the rules that chain them.

use crate::encoding::{Hash, hex, sha256};
use crate::entry::{Entry, EntryError, LINE_MAX, LedgerMode, clock_back};
use crate::merkle::{CompactRange, leaf_hash};
use crate::source::BagSource;
use std::collections::BTreeMap;
use std::io;

/// A line as stored, or what stands where one was expected.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A whole line with its LF.
    Whole(Vec<u8>),
    /// The bytes after the last LF: a write that was cut.
    Torn(Vec<u8>),
    /// More bytes than a line may have; reading stops here.
    TooLong,
}

/// Reads stored lines in constant memory.
pub struct Lines<'a> {
    source: &'a dyn BagSource,
    path: String,
    offset: u64,
    buf: Vec<u8>,
    /// Where the next line begins in `buf`.
    at: usize,
    ended: bool,
}

impl<'a> Lines<'a> {
    /// Reads a file of a source from an offset, which must be the beginning of a line.
    pub fn new(source: &'a dyn BagSource, path: &str, offset: u64) -> Self {
        Self {
            source,
            path: path.to_owned(),
            offset,
            buf: Vec::new(),
            at: 0,
            ended: false,
        }
    }

    /// Returns the next line; `None` at the end.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        let mut searched = self.at;
        loop {
            if let Some(lf) = memchr::memchr(b'\n', &self.buf[searched..]) {
                let line = self.buf[self.at..=searched + lf].to_vec();
                self.at = searched + lf + 1;
                return Ok(Some(Line::Whole(line)));
            }
            if self.buf.len() - self.at > LINE_MAX {
                (self.ended, self.at) = (true, self.buf.len());
                return Ok(Some(Line::TooLong));
            }
            searched = self.buf.len() - self.at;
            if self.ended || !self.fill()? {
                let rest = self.buf.split_off(self.at);
                self.ended = true;
                return Ok((!rest.is_empty()).then_some(Line::Torn(rest)));
            }
        }
    }

    /// Drops what was handed out and reads more; false at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        const STEP: usize = 64 * 1024;
        self.buf.drain(..self.at);
        self.at = 0;
        let have = self.buf.len();
        self.buf.resize(have + STEP, 0);
        let read = self
            .source
            .read_at(&self.path, self.offset, &mut self.buf[have..])?;
        self.buf.truncate(have + read);
        self.offset += read as u64;
        Ok(read > 0)
    }
}

/// One broken rule of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFault {
    /// At which line, counted from 0.
    pub seq: u64,
    /// What is wrong.
    pub what: String,
    /// What the rule asks for.
    pub expected: String,
    /// What is stored.
    pub found: String,
    /// Whether it is only that this version cannot read the line.
    pub unknown_version: bool,
}

/// The state of a chain after some lines.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    identity: Option<(String, LedgerMode)>,
    size: u64,
    prev: Hash,
    tree: CompactRange,
    last_millis: Option<i64>,
    last_writer: u64,
    /// Sizes whose roots somebody needs; filled while the chain is read.
    wanted: BTreeMap<u64, Option<Hash>>,
}

impl Chain {
    /// Begins a chain; the first line says of which incident.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a chain that must be of this incident.
    pub fn of(incident: &str, mode: LedgerMode) -> Self {
        Self {
            identity: Some((incident.to_owned(), mode)),
            ..Self::default()
        }
    }

    /// Asks for the root at a size. Ask before the chain reaches it.
    pub fn want(&mut self, size: u64) {
        let now = (size == self.size).then(|| self.tree.root());
        self.wanted.entry(size).or_insert(now);
    }

    /// Returns the root at a size that was asked for, once the chain has reached it.
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        if size == self.size {
            Some(self.root())
        } else {
            self.wanted.get(&size).copied().flatten()
        }
    }

    /// Returns how many lines it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the root over its lines.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// Returns the hash of the last line; zeros before the first.
    pub fn prev(&self) -> &Hash {
        &self.prev
    }

    /// Returns the fencing number of the last line; 0 before the first.
    pub fn last_writer(&self) -> u64 {
        self.last_writer
    }

    /// Returns the time of the last line in milliseconds.
    pub fn last_millis(&self) -> Option<i64> {
        self.last_millis
    }

    /// Returns incident and mode, once known.
    pub fn identity(&self) -> Option<(&str, LedgerMode)> {
        self.identity
            .as_ref()
            .map(|(incident, mode)| (incident.as_str(), *mode))
    }

    /// Takes the next stored line, reports every broken rule, and goes on from what is stored.
    pub fn take(&mut self, line: &[u8], fault: &mut dyn FnMut(ChainFault)) -> Option<Entry> {
        let seq = self.size;
        let entry = match Entry::parse(line) {
            Ok(entry) => {
                self.check(&entry, &mut |what, expected, found| {
                    fault(ChainFault {
                        seq,
                        what: what.to_owned(),
                        expected,
                        found,
                        unknown_version: false,
                    });
                });
                self.identity
                    .get_or_insert_with(|| (entry.incident.clone(), entry.mode));
                self.last_millis = Some(entry.millis);
                self.last_writer = self.last_writer.max(entry.writer);
                Some(entry)
            }
            Err(error) => {
                let unknown_version = matches!(error, EntryError::Version(_));
                let (what, expected) = (error.to_string(), "an entry of format v1".to_owned());
                fault(ChainFault {
                    seq,
                    what,
                    expected,
                    found: hex(&sha256(line)),
                    unknown_version,
                });
                None
            }
        };
        self.grow(line);
        entry
    }

    /// Appends a line whose rules the caller has kept.
    pub(crate) fn grow(&mut self, line: &[u8]) -> Hash {
        let leaf = leaf_hash(line);
        self.prev = sha256(line);
        self.tree.push(leaf);
        self.size += 1;
        if let Some(root) = self.wanted.get_mut(&self.size) {
            *root = Some(self.tree.root());
        }
        leaf
    }

    /// Notes what the writer put in the last line.
    pub(crate) fn wrote(&mut self, millis: i64, writer: u64) {
        self.last_millis = Some(millis);
        self.last_writer = writer;
    }

    fn check(&self, entry: &Entry, fault: &mut dyn FnMut(&str, String, String)) {
        if entry.seq != self.size {
            fault(
                "sequence number",
                self.size.to_string(),
                entry.seq.to_string(),
            );
        }
        if entry.prev != self.prev {
            fault("hash of the line before", hex(&self.prev), hex(&entry.prev));
        }
        if entry.writer < self.last_writer {
            fault(
                "fencing number falls",
                format!("at least {}", self.last_writer),
                entry.writer.to_string(),
            );
        }
        if let Some((incident, mode)) = &self.identity
            && (*incident != entry.incident || *mode != entry.mode)
        {
            let name = |incident: &str, mode: LedgerMode| format!("{incident} ({mode:?})");
            fault(
                "incident or mode",
                name(incident, *mode),
                name(&entry.incident, entry.mode),
            );
        }
        let back = clock_back(self.last_millis, entry.millis);
        if back != entry.clock_back_ms {
            fault(
                "step back of the clock",
                format!("{back:?}"),
                format!("{:?}", entry.clock_back_ms),
            );
        }
        for name in &entry.unknown {
            fault("unknown field", "none".to_owned(), name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemorySource;

    fn lines_of(bytes: &[u8]) -> Vec<Line> {
        let mut source = MemorySource::default();
        source.files.insert("l".to_owned(), bytes.to_vec());
        let mut lines = Lines::new(&source, "l", 0);
        std::iter::from_fn(|| lines.next_line().unwrap()).collect()
    }

    #[test]
    fn lines_are_read_whole_and_the_tail_is_named_torn() {
        assert_eq!(lines_of(b""), []);
        let whole = |text: &[u8]| Line::Whole(text.to_vec());
        assert_eq!(
            lines_of(b"a\n\nbc\n"),
            [whole(b"a\n"), whole(b"\n"), whole(b"bc\n")]
        );
        assert_eq!(
            lines_of(b"a\nbc"),
            [whole(b"a\n"), Line::Torn(b"bc".to_vec())]
        );
    }

    #[test]
    fn lines_across_read_steps_are_whole() {
        let line = [vec![b'x'; 30_000], b"\n".to_vec()].concat();
        let all = lines_of(&line.repeat(20));
        assert_eq!(all.len(), 20);
        assert!(all.iter().all(|item| *item == Line::Whole(line.clone())));
    }

    #[test]
    fn a_line_without_end_stops_the_reader() {
        let all = lines_of(&vec![b'x'; 3 * LINE_MAX]);
        assert_eq!(all, [Line::TooLong]);
    }
}
