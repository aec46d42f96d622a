//! Resuming an open bag after a crash. It runs the code of the first attempt over what is stored.
//!
//! Data under the last signed head must reproduce its root, else the bag is TAMPERED and nothing is written. Complete
//! records past it are kept and counted. A torn last line moves to `data/recovered/`; a torn last piece stays.

use super::journal::{self, Event, Journal};
use super::sealing::Sealed;
use super::writer::{ActiveSource, OpenSegment, check_spec};
use super::{BAG_CHECKPOINT, BagError, BagSpec, BagWriter, RECOVERED_TAILS, SALT_KEY, Segment};
use crate::acquisition::{ACQUISITION_MAX, RecoveredRange, path_of};
use crate::checkpoint::{Checkpoint, bag_origin};
use crate::encoding::{sha256, unhex};
use crate::gate::SigningGate;
use crate::manifest::{BAG_INFO, BagInfo};
use crate::note::{NOTE_MAX, split_note};
use crate::record::{Mode, More, RECORD_MAX, split};
use crate::salt::SaltedTree;
use crate::seal::{SEAL, Seal};
use crate::source::{BagSink, BagSource, read_all, read_if_there};
use sha2::Digest as _;

const STEP: usize = 1_048_576;

/// What a recovery found and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BagRecovery {
    /// Records below this index are under the last signed head.
    pub from: u64,
    /// Complete records below this index are kept.
    pub to: u64,
    /// Where a torn last line was moved.
    pub tail: Option<String>,
    /// The source that was being taken in: finish it, its record will say `crash`.
    pub interrupted: Option<String>,
    /// How often this bag was recovered, this time included.
    pub recoveries: u64,
}

/// What resuming gives back.
pub enum Resumed<S: BagSink> {
    /// The bag is open. `None`: nothing was cut, the process only went away between two sources.
    Open(Box<BagWriter<S>>, Option<BagRecovery>),
    /// The bag is sealed. If the ledger has no `bag.sealed` entry for it, append one, marked late.
    Sealed(Sealed),
}

/// What a walk over the journal rebuilt.
struct Replay {
    heads: Vec<Checkpoint>,
    /// A line without end, in the last segment of a source that was not finished.
    torn: Option<Vec<u8>>,
}

impl<S: BagSink> BagWriter<S> {
    /// Resumes the bag `spec.number` from its journal. `source` and `sink` are rooted at the incident's folder.
    ///
    /// Key and nonce of `spec` are used only where the crash came before the bag's own were durable.
    pub fn recover(sink: S, source: &dyn BagSource, spec: BagSpec) -> Result<Resumed<S>, BagError> {
        check_spec(&spec)?;
        let number = spec.number;
        let mut bag = Self::bare(sink, spec);
        let journal = Journal::read(source, number)?;
        let seal_path = bag.at(SEAL);
        if let Some(note) =
            read_if_there(source, &seal_path, NOTE_MAX as u64).map_err(BagError::io(&seal_path))?
        {
            return bag
                .resume_sealed(source, &note, journal.is_some())
                .map(Resumed::Sealed);
        }
        let journal = journal.ok_or(BagError::NotOpen(number))?;
        bag.adopt_spec(source, &journal)?;
        let journal_file = super::journal_path(number);
        bag.sink
            .truncate(&journal_file, journal.bytes)
            .map_err(BagError::io(&journal_file))?;
        let replay = bag.replay(source, &journal.events)?;
        let recovery = bag.settle(source, replay)?;
        Ok(Resumed::Open(Box::new(bag), recovery))
    }

    /// The seal is durable: make sure of its name, put the journal aside, tell what was sealed.
    fn resume_sealed(
        mut self,
        source: &dyn BagSource,
        note: &[u8],
        open: bool,
    ) -> Result<Sealed, BagError> {
        let path = self.at(SEAL);
        let tampered = |path: &str, what: String| BagError::Tampered {
            path: path.to_owned(),
            what,
        };
        let seal = Seal::claimed(note).map_err(|error| tampered(&path, error.to_string()))?;
        let info_path = self.at(BAG_INFO);
        let info =
            read_all(source, &info_path, NOTE_MAX as u64).map_err(BagError::io(&info_path))?;
        let info = BagInfo::parse(&info)
            .ok_or_else(|| tampered(&info_path, "not in its form".to_owned()))?;
        let folder = self.at("seal");
        self.sink.sync_dir(&folder).map_err(BagError::io(&folder))?;
        if open {
            journal::retire(&mut self.sink, self.spec.number)?;
        }
        Ok(Sealed {
            number: seal.bag,
            dir: self.dir,
            seal_sha256: sha256(note),
            size: seal.size,
            root: seal.root,
            bytes: info.bytes,
            files: info.files,
            records: seal.size,
            recoveries: seal.recoveries,
        })
    }

    /// Takes nonce and key from what is stored, or makes the folder now if the crash came before it.
    fn adopt_spec(&mut self, source: &dyn BagSource, journal: &Journal) -> Result<(), BagError> {
        let journal_file = super::journal_path(self.spec.number);
        let other = |what: &str| BagError::Tampered {
            path: journal_file.clone(),
            what: what.to_owned(),
        };
        let Some(Event::Open {
            v: 1,
            incident,
            bag,
            origin,
            nonce,
        }) = journal.events.first()
        else {
            return Err(other("it does not begin with an opening of version 1"));
        };
        if (incident, *bag, origin)
            != (
                &self.spec.incident,
                self.spec.number,
                &self.spec.base_origin,
            )
        {
            return Err(other("it belongs to another bag"));
        }
        self.spec.map_nonce = unhex(nonce).ok_or_else(|| other("its nonce is not in its form"))?;
        let key_path = self.at(SALT_KEY);
        match read_if_there(source, &key_path, 64).map_err(BagError::io(&key_path))? {
            Some(key) if key.len() == 32 => {
                self.spec.salt_key.copy_from_slice(&key);
                self.tree = SaltedTree::new(&self.spec.salt_key);
                // The crash may have come between two folders; making them again is harmless.
                self.make_bag_folder()
            }
            None if journal.events.len() == 1 => self.make_bag_folder(),
            _ => Err(BagError::Tampered {
                path: key_path,
                what: "the salt key is gone".to_owned(),
            }),
        }
    }

    /// Walks the journal: every segment is read, cut and hashed again, and compared with every signed head.
    fn replay(&mut self, source: &dyn BagSource, events: &[Event]) -> Result<Replay, BagError> {
        let mut replay = Replay {
            heads: self.signed_heads(source)?,
            torn: None,
        };
        let last = events
            .iter()
            .rposition(|event| matches!(event, Event::Segment { .. } | Event::Recovered { .. }));
        for (i, event) in events.iter().enumerate() {
            match event {
                Event::Open { .. } => {}
                Event::Source { name } => {
                    self.names.insert(name.clone());
                    let (name, first_segment) = (name.clone(), self.segments.len());
                    self.source = Some(ActiveSource {
                        name,
                        first_segment,
                        recovered: Vec::new(),
                        files: 0,
                    });
                }
                Event::Segment { path, mode } => {
                    let unfinished = !events[i..]
                        .iter()
                        .any(|event| matches!(event, Event::Finished { .. }));
                    let more = if last == Some(i) && unfinished {
                        More::Follows
                    } else {
                        More::Ended
                    };
                    replay.torn =
                        self.replay_segment(source, path, *mode, more, &mut replay.heads)?;
                }
                Event::Recovered { from, to, tail } => {
                    self.recoveries += 1;
                    if let Some(tail) = tail {
                        self.replay_segment(
                            source,
                            tail,
                            Mode::Chunk,
                            More::Ended,
                            &mut replay.heads,
                        )?;
                    }
                    if let Some(active) = &mut self.source {
                        active.recovered.push(RecoveredRange {
                            from: *from,
                            to: *to,
                            tail: tail.clone(),
                        });
                    }
                }
                Event::Finished { name } => {
                    self.source = None;
                    self.replay_acquisition(source, name)?;
                }
            }
        }
        let size = self.tree.size();
        match replay.heads.iter().find(|head| head.size > size) {
            Some(head) => Err(self.head_missed(head, &format!("only {size} records are stored"))),
            None => Ok(replay),
        }
    }

    /// Reads one segment and returns the line without end that it stops with, if `more` could have followed.
    fn replay_segment(
        &mut self,
        source: &dyn BagSource,
        path: &str,
        mode: Mode,
        more: More,
        heads: &mut [Checkpoint],
    ) -> Result<Option<Vec<u8>>, BagError> {
        let file = self.at(path);
        let absent = source
            .len(&file)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        if absent {
            // Announced and never made: it is made now, empty. If records of it were signed, the heads tell.
            self.create_payload(path)?;
        }
        let mut segment = OpenSegment::new(path, mode, self.tree.size());
        // A piece without end is a record; only a line can be torn.
        let at_end = if mode == Mode::Line {
            more
        } else {
            More::Ended
        };
        let (mut block, mut offset, mut step) = (Vec::new(), 0, vec![0; STEP]);
        loop {
            let read = if absent {
                0
            } else {
                source
                    .read_at(&file, offset, &mut step)
                    .map_err(BagError::io(&file))?
            };
            offset += read as u64;
            block.extend_from_slice(&step[..read]);
            let rest = self.replay_block(
                &block,
                mode,
                if read == 0 { at_end } else { More::Follows },
                heads,
            )?;
            segment.hasher.update(&block[..rest]);
            segment.bytes += rest as u64;
            block.drain(..rest);
            debug_assert!(block.len() < RECORD_MAX, "longer records are cut");
            if read == 0 {
                break;
            }
        }
        self.segments.push(segment.close(self.tree.size()));
        Ok((!block.is_empty()).then_some(block))
    }

    fn replay_block(
        &mut self,
        block: &[u8],
        mode: Mode,
        more: More,
        heads: &[Checkpoint],
    ) -> Result<usize, BagError> {
        let mut wrong: Option<usize> = None;
        let tree = &mut self.tree;
        let rest = split(mode, block, more, |start, end| {
            let size = tree.push(&block[start..end]);
            for (i, head) in heads.iter().enumerate() {
                if head.size == size && head.root != tree.root() {
                    wrong = wrong.or(Some(i));
                }
            }
        });
        match wrong {
            Some(i) => Err(self.head_missed(&heads[i], "the records give another root")),
            None => Ok(rest),
        }
    }

    fn head_missed(&self, head: &Checkpoint, what: &str) -> BagError {
        let what = format!(
            "it does not reproduce the signed head of size {}: {what}",
            head.size
        );
        BagError::Tampered {
            path: self.at("data"),
            what,
        }
    }

    fn replay_acquisition(&mut self, source: &dyn BagSource, name: &str) -> Result<(), BagError> {
        let path = path_of(name);
        let file = self.at(&path);
        let record =
            read_all(source, &file, ACQUISITION_MAX as u64).map_err(BagError::io(&file))?;
        self.tags.insert(path, sha256(&record));
        Ok(())
    }

    /// The newest checkpoint of the bag, and the gate's head, which may be newer.
    fn signed_heads(&self, source: &dyn BagSource) -> Result<Vec<Checkpoint>, BagError> {
        let path = self.at(BAG_CHECKPOINT);
        let stored = read_if_there(source, &path, NOTE_MAX as u64).map_err(BagError::io(&path))?;
        let gate = SigningGate::open(source)?;
        let mut heads: Vec<_> = gate
            .head(&bag_origin(&self.spec.base_origin, self.spec.number))
            .cloned()
            .into_iter()
            .collect();
        if let Some(note) = stored {
            let head = split_note(&note)
                .ok()
                .and_then(|(body, _)| Checkpoint::parse(body));
            let head = head.ok_or_else(|| BagError::Tampered {
                path,
                what: "not a checkpoint".to_owned(),
            })?;
            self.tagged_head(&head)?;
            heads.push(head);
        }
        Ok(heads)
    }

    fn tagged_head(&self, head: &Checkpoint) -> Result<(), BagError> {
        if head.origin == bag_origin(&self.spec.base_origin, self.spec.number) {
            Ok(())
        } else {
            Err(BagError::Tampered {
                path: self.at(BAG_CHECKPOINT),
                what: format!("it is of `{}`", head.origin),
            })
        }
    }

    /// Writes what the crash left open: the torn tail to its own file, the rest durable, the recovery told.
    fn settle(
        &mut self,
        source: &dyn BagSource,
        replay: Replay,
    ) -> Result<Option<BagRecovery>, BagError> {
        let from = replay.heads.iter().map(|head| head.size).max().unwrap_or(0);
        let to = self.tree.size();
        let tail = self.settle_tail(source, replay.torn)?;
        if let Some(last) = self
            .segments
            .iter()
            .rev()
            .find(|segment| !is_tail(&segment.path))
        {
            // Bytes of a process that died may be in the page cache only; a signed head must never outlive them.
            let path = self.at(&last.path);
            self.sink.sync_data(&path).map_err(BagError::io(&path))?;
        }
        let interrupted = self.source.as_ref().map(|source| source.name.clone());
        if interrupted.is_none() && from == to && tail.is_none() {
            return Ok(None);
        }
        let event = Event::Recovered {
            from,
            to,
            tail: tail.clone(),
        };
        journal::append(&mut self.sink, self.spec.number, &event)?;
        self.recoveries += 1;
        if let Some(active) = &mut self.source {
            active.recovered.push(RecoveredRange {
                from,
                to,
                tail: tail.clone(),
            });
        }
        Ok(Some(BagRecovery {
            from,
            to,
            tail,
            interrupted,
            recoveries: self.recoveries,
        }))
    }

    /// Moves a torn line to `data/recovered/`: copy durable first, then the line is cut.
    ///
    /// A crash between the cut and the journal leaves a copy that no event names: it is taken as it is.
    fn settle_tail(
        &mut self,
        source: &dyn BagSource,
        torn: Option<Vec<u8>>,
    ) -> Result<Option<String>, BagError> {
        let number = self
            .segments
            .iter()
            .filter(|segment| is_tail(&segment.path))
            .count();
        let path = format!("data/{RECOVERED_TAILS}/{number:05}.bin");
        let file = self.at(&path);
        let bytes = match torn {
            Some(bytes) => {
                self.move_tail(&path, &bytes)?;
                bytes
            }
            None => match read_if_there(source, &file, RECORD_MAX as u64)
                .map_err(BagError::io(&file))?
            {
                Some(bytes) if self.source.is_some() => bytes,
                _ => return Ok(None),
            },
        };
        let first_leaf = self.tree.size();
        let mut segment = OpenSegment::new(&path, Mode::Chunk, first_leaf);
        if !bytes.is_empty() {
            self.tree.push(&bytes);
        }
        segment.hasher.update(&bytes);
        segment.bytes = bytes.len() as u64;
        self.segments.push(segment.close(self.tree.size()));
        Ok(Some(path))
    }

    fn move_tail(&mut self, path: &str, bytes: &[u8]) -> Result<(), BagError> {
        let file = self.at(path);
        self.create_payload(path)?;
        let sink = &mut self.sink;
        let copied = sink
            .append(&file, bytes)
            .and_then(|()| sink.sync_data(&file));
        copied.map_err(BagError::io(&file))?;
        let Some(Segment {
            path: cut,
            bytes: keep,
            ..
        }) = self.segments.last().cloned()
        else {
            return Ok(());
        };
        let cut = self.at(&cut);
        let sink = &mut self.sink;
        sink.truncate(&cut, keep)
            .and_then(|()| sink.sync_data(&cut))
            .map_err(BagError::io(&cut))
    }
}

fn is_tail(path: &str) -> bool {
    path.strip_prefix("data/")
        .and_then(|path| path.split('/').next())
        == Some(RECOVERED_TAILS)
}
