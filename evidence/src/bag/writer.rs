//! Taking sources in: one pass that cuts, hashes and stores, in constant memory.

use super::journal::{self, Event};
use super::{BAG_CHECKPOINT, BagError, BagSpec, RECOVERED_TAILS, SALT_KEY, Segment, SourceSummary};
use crate::acquisition::{
    self, ACQUISITION_MAX, AcquisitionRecord, EndState, Ended, RecoveredRange, StoredAcquisition,
};
use crate::checkpoint::{Checkpoint, SignedCheckpoint, bag_origin, is_base_origin};
use crate::durable::{self, parent};
use crate::encoding::{Hash, hex, sha256};
use crate::gate::SigningGate;
use crate::json;
use crate::note::Signer;
use crate::path;
use crate::record::{Mode, More, RECORD_MAX, SEGMENT_MAX, split};
use crate::salt::SaltedTree;
use crate::source::BagSink;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// How many bytes are gathered before they are cut; with the rest of a record the block is at most 1 MiB larger.
const GATHER: usize = if cfg!(feature = "parallel") {
    4_194_304
} else {
    1_048_576
};
/// After so many bytes a commit is due.
const COMMIT_BYTES: u64 = 64 * 1024 * 1024;

/// A payload file that is being written.
pub(super) struct OpenSegment {
    pub(super) path: String,
    pub(super) mode: Mode,
    pub(super) first_leaf: u64,
    /// Bytes of complete records, hashed and stored.
    pub(super) bytes: u64,
    pub(super) hasher: Sha256,
    /// Bytes at the head of the block that are stored already, though their record is not complete.
    pub(super) early: usize,
}

impl OpenSegment {
    pub(super) fn new(path: &str, mode: Mode, first_leaf: u64) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            first_leaf,
            bytes: 0,
            hasher: Sha256::new(),
            early: 0,
        }
    }

    pub(super) fn close(self, next_leaf: u64) -> Segment {
        Segment {
            path: self.path,
            mode: self.mode,
            first_leaf: self.first_leaf,
            count: next_leaf - self.first_leaf,
            bytes: self.bytes,
            sha256: self.hasher.finalize().into(),
        }
    }
}

/// The source that is being taken in.
pub(super) struct ActiveSource {
    pub(super) name: String,
    /// Where its segments begin in the list.
    pub(super) first_segment: usize,
    /// Set after a crash: what is there is kept, nothing is added.
    pub(super) recovered: Vec<RecoveredRange>,
    pub(super) files: u32,
}

/// The writing end of an open bag; the sink is rooted at the incident's folder.
pub struct BagWriter<S: BagSink> {
    pub(super) sink: S,
    pub(super) spec: BagSpec,
    pub(super) dir: String,
    pub(super) tree: SaltedTree,
    pub(super) segments: Vec<Segment>,
    pub(super) open: Option<OpenSegment>,
    pub(super) source: Option<ActiveSource>,
    pub(super) names: BTreeSet<String>,
    /// Tag files that are stored, with their hashes.
    pub(super) tags: BTreeMap<String, Hash>,
    pub(super) folders: BTreeSet<String>,
    pub(super) recoveries: u64,
    pub(super) committed_bytes: u64,
    pub(super) taken_bytes: u64,
    pub(super) block: Vec<u8>,
    /// Ends of the records of a block; kept to be filled again.
    ends: Vec<u32>,
    pub(super) closed: bool,
}

impl<S: BagSink> BagWriter<S> {
    /// Opens a new bag. The `bag.opened` entry must be durable before.
    ///
    /// Journal, then folder and salt key, each durable: a crash in between is found by [`recover`](Self::recover).
    pub fn open(sink: S, spec: BagSpec) -> Result<Self, BagError> {
        check_spec(&spec)?;
        let mut bag = Self::bare(sink, spec);
        let open = Event::Open {
            v: 1,
            incident: bag.spec.incident.clone(),
            bag: bag.spec.number,
            origin: bag.spec.base_origin.clone(),
            nonce: hex(&bag.spec.map_nonce),
        };
        journal::begin(&mut bag.sink, bag.spec.number, &open)?;
        bag.make_bag_folder()?;
        Ok(bag)
    }

    /// A writer that has stored nothing yet.
    pub(super) fn bare(sink: S, spec: BagSpec) -> Self {
        Self {
            dir: spec.dir(),
            tree: SaltedTree::new(&spec.salt_key),
            sink,
            spec,
            segments: Vec::new(),
            open: None,
            source: None,
            names: BTreeSet::from([RECOVERED_TAILS.to_owned()]),
            tags: BTreeMap::new(),
            folders: BTreeSet::new(),
            recoveries: 0,
            committed_bytes: 0,
            taken_bytes: 0,
            block: Vec::with_capacity(GATHER + RECORD_MAX),
            ends: Vec::new(),
            closed: false,
        }
    }

    pub(super) fn make_bag_folder(&mut self) -> Result<(), BagError> {
        for folder in ["bags", "", "data", "tlog", "keys", "acquisition", "seal"] {
            let path = if folder == "bags" {
                folder.to_owned()
            } else {
                self.at(folder)
            };
            durable::make_dir(&mut self.sink, path.trim_end_matches('/'))
                .map_err(BagError::io(&path))?;
        }
        let (key, path) = (self.spec.salt_key, self.at(SALT_KEY));
        durable::replace(&mut self.sink, &path, &key).map_err(BagError::io(&path))?;
        self.tags.insert(SALT_KEY.to_owned(), sha256(&key));
        Ok(())
    }

    /// Returns where a path of the bag stands below the sink's root.
    pub(super) fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.dir)
    }

    /// Returns the sink, for the ledger's entries between the bag's.
    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Returns the bag's number.
    pub fn number(&self) -> u32 {
        self.spec.number
    }

    /// Returns the bag's folder below the sink's root.
    pub fn dir(&self) -> &str {
        &self.dir
    }

    /// Returns how often the bag was recovered.
    pub fn recoveries(&self) -> u64 {
        self.recoveries
    }

    /// Returns the name of the source that is being taken in.
    pub fn active_source(&self) -> Option<&str> {
        self.source.as_ref().map(|source| source.name.as_str())
    }

    /// Begins a source and returns its name in the bag.
    pub fn start_source(
        &mut self,
        raw_name: impl AsRef<[u8]>,
        mode: Mode,
    ) -> Result<String, BagError> {
        let name = self.begin_source(raw_name.as_ref())?;
        self.begin_segment(&format!("data/{name}/00000.{}", mode.extension()), mode)?;
        Ok(name)
    }

    pub(super) fn begin_source(&mut self, raw_name: &[u8]) -> Result<String, BagError> {
        self.check_open()?;
        if self.source.is_some() {
            return Err(BagError::Order(
                "finish the source before you start another",
            ));
        }
        let name = path::free_name(&path::source_name(raw_name), |name| {
            self.names.contains(name)
        });
        self.guarded(|bag| {
            journal::append(
                &mut bag.sink,
                bag.spec.number,
                &Event::Source { name: name.clone() },
            )
        })?;
        self.names.insert(name.clone());
        self.source = Some(ActiveSource {
            name: name.clone(),
            first_segment: self.segments.len(),
            recovered: Vec::new(),
            files: 0,
        });
        Ok(name)
    }

    /// Takes the next bytes of the source, in pieces of any size.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), BagError> {
        self.check_open()?;
        match &self.source {
            None => return Err(BagError::Order("start a source before you write")),
            Some(source) if !source.recovered.is_empty() => {
                return Err(BagError::Order(
                    "the source was cut by a crash: finish it, then start another",
                ));
            }
            Some(_) => {}
        }
        while !bytes.is_empty() {
            let (now, later) =
                bytes.split_at(bytes.len().min(GATHER + RECORD_MAX - self.block.len()));
            self.block.extend_from_slice(now);
            self.taken_bytes += now.len() as u64;
            bytes = later;
            if self.block.len() >= GATHER {
                self.drain(More::Follows)?;
            }
        }
        Ok(())
    }

    /// Cuts the block into records: leaves to the tree, bytes to the segment.
    fn drain(&mut self, more: More) -> Result<(), BagError> {
        let mut block = std::mem::take(&mut self.block);
        let drained = self.guarded(|bag| bag.drain_block(&block, more));
        block.drain(..drained.as_ref().copied().unwrap_or(0));
        self.block = block;
        drained.map(|_| ())
    }

    fn drain_block(&mut self, block: &[u8], more: More) -> Result<usize, BagError> {
        let Some(segment) = &self.open else {
            return Ok(0);
        };
        let (mut filled, mode) = (segment.bytes, segment.mode);
        let mut ends = std::mem::take(&mut self.ends);
        ends.clear();
        let rest = split(mode, block, more, |_, end| ends.push(end as u32));
        // Where the run for this segment begins in the block, and in the list of records.
        let (mut from, mut first, mut start) = (0, 0, 0);
        for (i, end) in ends.iter().enumerate() {
            if filled + (*end as usize - from) as u64 > SEGMENT_MAX {
                self.store(&block[..start], from, &ends[first..i])?;
                self.next_segment()?;
                (filled, from, first) = (0, start, i);
            }
            start = *end as usize;
        }
        self.store(&block[..rest], from, &ends[first..])?;
        self.ends = ends;
        Ok(rest)
    }

    /// Hashes and appends complete records, which begin at `from`, to the tree and the open segment.
    fn store(&mut self, block: &[u8], from: usize, ends: &[u32]) -> Result<(), BagError> {
        let Some(segment) = &mut self.open else {
            return Ok(());
        };
        let bytes = &block[from..];
        if bytes.is_empty() {
            return Ok(());
        }
        let new = &bytes[std::mem::take(&mut segment.early)..];
        let path = format!("{}/{}", self.dir, segment.path);
        let (flat, sink) = (&mut segment.hasher, &mut self.sink);
        let mut appended = Ok(());
        // Storing goes alongside too: it waits for memory and disk while other threads hash. What is stored and not yet counted is what
        // a crash may leave at any time.
        self.tree.push_records(block, from, ends, || {
            flat.update(bytes);
            if !new.is_empty() {
                appended = sink.append(&path, new);
            }
        });
        segment.bytes += bytes.len() as u64;
        appended.map_err(BagError::io(&path))
    }

    fn next_segment(&mut self) -> Result<(), BagError> {
        let Some(full) = &self.open else {
            return Ok(());
        };
        let next_leaf = self.tree.size();
        let (mode, successor) = (full.mode, successor(&full.path));
        self.close_segment(next_leaf)?;
        self.create_segment(&successor, mode, next_leaf)
    }

    pub(super) fn begin_segment(&mut self, path: &str, mode: Mode) -> Result<(), BagError> {
        self.check_open()?;
        let first_leaf = self.tree.size();
        self.guarded(|bag| bag.create_segment(path, mode, first_leaf))
    }

    /// Announces a segment, then makes it: journal, folder, file, name of the file, each durable.
    fn create_segment(&mut self, path: &str, mode: Mode, first_leaf: u64) -> Result<(), BagError> {
        let event = Event::Segment {
            path: path.to_owned(),
            mode,
        };
        journal::append(&mut self.sink, self.spec.number, &event)?;
        self.create_payload(path)?;
        self.open = Some(OpenSegment::new(path, mode, first_leaf));
        Ok(())
    }

    /// Makes an empty payload file whose name is durable.
    pub(super) fn create_payload(&mut self, path: &str) -> Result<(), BagError> {
        let file = self.at(path);
        let folder = parent(&file).to_owned();
        self.make_payload_folder(&folder)?;
        let sink = &mut self.sink;
        sink.create(&file)
            .and_then(|()| sink.sync_dir(&folder))
            .map_err(BagError::io(&file))
    }

    /// Makes the folders of a payload file durable, each once.
    fn make_payload_folder(&mut self, folder: &str) -> Result<(), BagError> {
        if folder == self.at("data") || self.folders.contains(folder) {
            return Ok(());
        }
        self.make_payload_folder(parent(folder))?;
        durable::make_dir(&mut self.sink, folder).map_err(BagError::io(folder))?;
        self.folders.insert(folder.to_owned());
        Ok(())
    }

    /// Closes the open segment; its bytes are durable then.
    fn close_segment(&mut self, next_leaf: u64) -> Result<(), BagError> {
        let Some(segment) = self.open.take() else {
            return Ok(());
        };
        let path = self.at(&segment.path);
        self.sink.sync_data(&path).map_err(BagError::io(&path))?;
        self.segments.push(segment.close(next_leaf));
        Ok(())
    }

    /// Ends the file that is being written: what is left in the block is its last record.
    pub(super) fn end_file(&mut self) -> Result<(), BagError> {
        self.check_open()?;
        self.drain(More::Ended)?;
        let next_leaf = self.tree.size();
        self.guarded(|bag| bag.close_segment(next_leaf))
    }

    /// Ends the source: everything it gave is durable, and so is its acquisition record.
    ///
    /// A source that a crash has cut is recorded as such, whatever the record says.
    pub fn finish_source(
        &mut self,
        acquisition: AcquisitionRecord,
    ) -> Result<SourceSummary, BagError> {
        self.check_open()?;
        if self.source.is_none() {
            return Err(BagError::Order("no source is being taken in"));
        }
        self.end_file()?;
        self.guarded(|bag| bag.store_acquisition(acquisition))
    }

    fn store_acquisition(
        &mut self,
        mut record: AcquisitionRecord,
    ) -> Result<SourceSummary, BagError> {
        let Some(source) = &self.source else {
            return Err(BagError::Order("no source is being taken in"));
        };
        if !source.recovered.is_empty() && record.ended.state != EndState::Crash {
            record.ended = Ended {
                state: EndState::Crash,
                why: "the acquiring process died; resumed later".to_owned(),
            };
        }
        let segments = &self.segments[source.first_segment..];
        let path = acquisition::path_of(&source.name);
        let summary = SourceSummary {
            source: source.name.clone(),
            segments: segments.len() as u64,
            bytes: segments.iter().map(|segment| segment.bytes).sum(),
            records: segments.iter().map(|segment| segment.count).sum(),
            acquisition: path.clone(),
        };
        let line = json::canonical_line(&StoredAcquisition {
            v: 1,
            source: source.name.clone(),
            segments: segments
                .iter()
                .map(|segment| segment.path.clone())
                .collect(),
            bytes: summary.bytes,
            records: summary.records,
            recovered: source.recovered.clone(),
            record,
        })?;
        if line.len() > ACQUISITION_MAX {
            return Err(BagError::Form {
                what: "the acquisition record of",
                value: source.name.clone(),
            });
        }
        let file = self.at(&path);
        durable::replace(&mut self.sink, &file, &line).map_err(BagError::io(&file))?;
        journal::append(
            &mut self.sink,
            self.spec.number,
            &Event::Finished {
                name: summary.source.clone(),
            },
        )?;
        self.tags.insert(path, sha256(&line));
        self.source = None;
        Ok(summary)
    }

    /// Whether 64 MiB came in since the last commit. The caller's clock decides about the 5 s.
    pub fn commit_due(&self) -> bool {
        self.taken_bytes - self.committed_bytes >= COMMIT_BYTES
    }

    /// Makes what came in durable and signs the head over the complete records.
    ///
    /// Segment → sync → head durable in `state/` → signature → `tlog/checkpoint`. A crash in between leaves records past
    /// the signed head, which recovery keeps and counts.
    pub fn commit(
        &mut self,
        gate: &mut SigningGate,
        signer: &dyn Signer,
    ) -> Result<SignedCheckpoint, BagError> {
        self.check_open()?;
        self.drain(More::Follows)?;
        self.guarded(|bag| bag.sign_head(gate, signer))
    }

    fn sign_head(
        &mut self,
        gate: &mut SigningGate,
        signer: &dyn Signer,
    ) -> Result<SignedCheckpoint, BagError> {
        if let Some(segment) = &mut self.open {
            let path = format!("{}/{}", self.dir, segment.path);
            // The beginning of the next record may be stored early, if the segment will hold all of it.
            if segment.bytes + RECORD_MAX as u64 <= SEGMENT_MAX && segment.early < self.block.len()
            {
                let new = &self.block[segment.early..];
                self.sink.append(&path, new).map_err(BagError::io(&path))?;
                segment.early = self.block.len();
            }
            self.sink.sync_data(&path).map_err(BagError::io(&path))?;
        }
        let origin = bag_origin(&self.spec.base_origin, self.spec.number);
        let head = Checkpoint {
            origin,
            size: self.tree.size(),
            root: self.tree.root(),
        };
        let signed = gate.sign(&mut self.sink, head, signer)?;
        let path = self.at(BAG_CHECKPOINT);
        durable::replace(&mut self.sink, &path, signed.note.as_bytes())
            .map_err(BagError::io(&path))?;
        self.tags
            .insert(BAG_CHECKPOINT.to_owned(), sha256(signed.note.as_bytes()));
        self.committed_bytes = self.taken_bytes;
        Ok(signed)
    }

    /// Runs a step that writes. If it fails the writer is closed: what it left is found by recovery.
    pub(super) fn guarded<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, BagError>,
    ) -> Result<T, BagError> {
        let done = step(self);
        self.closed |= done.is_err();
        done
    }

    pub(super) fn check_open(&self) -> Result<(), BagError> {
        if self.closed {
            Err(BagError::Closed)
        } else {
            Ok(())
        }
    }

    pub(super) fn active_name(&self) -> Result<String, BagError> {
        self.active_source()
            .map(str::to_owned)
            .ok_or(BagError::Order("no source is being taken in"))
    }

    pub(super) fn next_file_number(&mut self) -> Result<u32, BagError> {
        let source = self
            .source
            .as_mut()
            .ok_or(BagError::Order("no source is being taken in"))?;
        source.files += 1;
        Ok(source.files)
    }
}

/// The name after `…/00000.log`.
fn successor(path: &str) -> String {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let (number, ending) = file.split_once('.').unwrap_or((file, ""));
    match number.parse::<u64>() {
        Ok(number) => format!("{folder}/{:05}.{ending}", number + 1),
        // `files.jsonl` is the only name without a number; its further parts are numbered.
        Err(_) => format!("{folder}/00000.{ending}"),
    }
}

pub(super) fn check_spec(spec: &BagSpec) -> Result<(), BagError> {
    let incident = |id: &str| {
        let plain = id
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
        plain && (1..=63).contains(&id.len()) && !id.starts_with('-')
    };
    if !incident(&spec.incident) {
        return Err(BagError::Form {
            what: "the incident id",
            value: spec.incident.clone(),
        });
    }
    if !is_base_origin(&spec.base_origin) {
        return Err(BagError::Form {
            what: "the base origin",
            value: spec.base_origin.clone(),
        });
    }
    if spec.number == 0 {
        return Err(BagError::Form {
            what: "the bag number",
            value: "0000".to_owned(),
        });
    }
    Ok(())
}
