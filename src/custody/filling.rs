//! The bag that this process is filling: each exhibit begun, written and ended; then sealed, or left open.

use std::path::Path;

use firebreak_evidence::acquisition::{AcquisitionRecord, EndState, Ended as RawEnded, Tool};
use firebreak_evidence::bag::{BagError, BagWriter, SealInputs};
use firebreak_evidence::encoding::unhex;
use firebreak_evidence::record::Mode as Cut;

use crate::incident::body::{BagSealed, ExhibitAcquired};
use crate::incident::clock_text::{millis, seconds};
use crate::incident::{Draft, Refs, kind};
use crate::port::{CustodyError, Ended, ExhibitDraft, LockGuard, OpenBag, Store};

use super::bags::{count, recovery_note, sealed_body, worded};
use super::fault;
use super::folder::Custody;
use super::incident_ledger::{Inner, Keep};
use super::walk;

/// The number of the next exhibit, so that two processes never give one number twice.
const NEXT_EXHIBIT: &str = "state/next-exhibit";
/// So many first bytes decide how a source is cut (NUL = chunks).
const HEAD: usize = 8 * 1024;

/// The bag that is being filled.
pub(super) struct Filling {
    custody: Custody,
    number: String,
    refs: Refs,
    pub(super) writer: BagWriter<Box<dyn Store>>,
    current: Option<Current>,
    /// Held while this process has the bag, so that nobody recovers it meanwhile.
    _lock: LockGuard,
}

/// The exhibit that is being taken in.
struct Current {
    draft: ExhibitDraft,
    exhibit: String,
    started: String,
    /// First bytes, until there are enough to tell how the source is cut.
    head: Option<Vec<u8>>,
}

impl Custody {
    pub(super) fn filling(
        &self,
        number: u32,
        refs: &Refs,
        writer: BagWriter<Box<dyn Store>>,
        lock: LockGuard,
    ) -> Filling {
        let number = format!("{number:04}");
        Filling {
            custody: self.clone(),
            refs: Refs {
                bag: Some(number.clone()),
                ..refs.clone()
            },
            number,
            writer,
            current: None,
            _lock: lock,
        }
    }
}

impl Filling {
    /// Ends what a crash cut off; its acquisition record says `crash` whatever we say.
    pub(super) fn finish_interrupted(&mut self) -> Result<(), CustodyError> {
        let Some(source) = self.writer.active_source().map(str::to_owned) else {
            return Ok(());
        };
        let draft = ExhibitDraft {
            name: source.clone(),
            description: format!("{source}, cut off by a crash"),
            ..recovery_note()
        };
        self.start(&draft, None)?;
        let why = "the acquiring process died; resumed later".to_owned();
        self.end(RawEnded {
            state: EndState::Crash,
            why,
        })
        .map(|_| ())
    }

    pub(super) fn start(
        &mut self,
        draft: &ExhibitDraft,
        head: Option<Vec<u8>>,
    ) -> Result<(), CustodyError> {
        let exhibit = self.next_exhibit()?;
        self.current = Some(Current {
            draft: draft.clone(),
            exhibit,
            started: millis(self.custody.clock.now()),
            head,
        });
        Ok(())
    }

    /// Takes the next exhibit number. A crash right after leaves a gap, never a number given twice.
    fn next_exhibit(&mut self) -> Result<String, CustodyError> {
        let custody = &self.custody;
        let store = self.writer.sink_mut();
        custody.ledger.locked(|inner| {
            let failed = |e: std::io::Error| CustodyError::Write {
                path: NEXT_EXHIBIT.into(),
                detail: e.to_string(),
            };
            let kept = store
                .load(NEXT_EXHIBIT)
                .map_err(failed)?
                .and_then(|b| String::from_utf8(b).ok()?.trim().parse::<u32>().ok());
            let next = kept
                .unwrap_or(1)
                .max(1 + count(inner.entries(), kind::EXHIBIT_ACQUIRED));
            store
                .replace(NEXT_EXHIBIT, format!("{}\n", next + 1).as_bytes())
                .map_err(failed)?;
            Ok(format!("{}/E-{next:04}", custody.id))
        })
    }

    fn fault(&self, e: &BagError) -> CustodyError {
        worded(self.writer.number(), e)
    }

    /// Starts the source once its first bytes say how it is cut, and writes them.
    fn flush_head(&mut self) -> Result<(), CustodyError> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let Some(head) = current.head.take() else {
            return Ok(());
        };
        let name = current.draft.name.clone();
        let number = self.writer.number();
        self.writer
            .start_source(&name, Cut::detect(&head))
            .map_err(|e| worded(number, &e))?;
        self.writer.write(&head).map_err(|e| worded(number, &e))
    }

    fn commit_if_due(&mut self) -> Result<(), CustodyError> {
        if self.writer.commit_due() {
            self.commit()
        } else {
            Ok(())
        }
    }

    /// Makes what came in durable and signs a head over it.
    fn commit(&mut self) -> Result<(), CustodyError> {
        let (ledger, writer) = (&self.custody.ledger, &mut self.writer);
        ledger.locked(|inner: &mut Inner| {
            let (mut gate, signer) = (inner.gate()?, inner.signer()?);
            let number = writer.number();
            writer
                .commit(&mut gate, signer.as_ref())
                .map(|_| ())
                .map_err(|e| worded(number, &e))
        })
    }

    fn end(&mut self, ended: RawEnded) -> Result<ExhibitAcquired, CustodyError> {
        self.flush_head()?;
        let current = self
            .current
            .take()
            .ok_or_else(|| CustodyError::Host("no exhibit was begun".into()))?;
        let finished = millis(self.custody.clock.now());
        let record = AcquisitionRecord {
            exhibit: current.exhibit.clone(),
            kind: current.draft.category.to_string(),
            system: serde_json::to_value(&current.draft.system).unwrap_or_default(),
            original_name: current.draft.name.clone(),
            method: current.draft.method.clone(),
            tool: Tool {
                name: "firebreak".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                sha256: String::new(),
            },
            command: current.draft.command.iter().cloned().collect(),
            started: current.started.clone(),
            finished: finished.clone(),
            clock: firebreak_evidence::acquisition::Clock {
                reference: "none".into(),
                offset_ms: 0,
                measured: finished.clone(),
            },
            volatility: current.draft.volatility,
            acquired_by: self.custody.acquired_by.clone(),
            tlp: "TLP:AMBER".into(),
            ended: ended.clone(),
            ..AcquisitionRecord::default()
        };
        let summary = self
            .writer
            .finish_source(record)
            .map_err(|e| self.fault(&e))?;
        let acquired = ExhibitAcquired {
            exhibit: current.exhibit.clone(),
            bag: self.number.clone(),
            description: current.draft.description,
            category: current.draft.category,
            source: summary.source,
            system: current.draft.system,
            method: current.draft.method,
            trust: current.draft.trust,
            bytes: summary.bytes,
            records: summary.records,
            sha256: None,
            ended: match ended.state {
                EndState::Complete => "complete",
                EndState::Cap => "cap",
                EndState::Error => "error",
                EndState::Crash => "crash",
            }
            .into(),
            why: Some(ended.why).filter(|w| !w.is_empty()),
            volatility: current.draft.volatility,
            started: current.started,
            finished,
        };
        let refs = Refs {
            exhibit: Some(current.exhibit),
            ..self.refs.clone()
        };
        let draft = Draft::new(kind::EXHIBIT_ACQUIRED, &acquired).about(refs);
        self.custody
            .ledger
            .locked(|inner| inner.append(&[draft]).map(|_| ()))?;
        Ok(acquired)
    }
}

impl OpenBag for Filling {
    fn number(&self) -> &str {
        &self.number
    }

    fn begin(&mut self, exhibit: &ExhibitDraft) -> Result<(), CustodyError> {
        if self.current.is_some() {
            return Err(CustodyError::Host(
                "finish the exhibit before you begin another".into(),
            ));
        }
        self.start(exhibit, Some(Vec::new()))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CustodyError> {
        if let Some(head) = self.current.as_mut().and_then(|c| c.head.as_mut()) {
            head.extend_from_slice(bytes);
            return if head.len() >= HEAD {
                self.flush_head()
            } else {
                Ok(())
            };
        }
        self.writer.write(bytes).map_err(|e| self.fault(&e))?;
        self.commit_if_due()
    }

    fn finish(&mut self, ended: Ended) -> Result<ExhibitAcquired, CustodyError> {
        self.end(match ended {
            Ended::Complete => RawEnded::default(),
            Ended::Cap(why) => RawEnded {
                state: EndState::Cap,
                why,
            },
            Ended::Error(why) => RawEnded {
                state: EndState::Error,
                why,
            },
        })
    }

    fn add_path(
        &mut self,
        path: &Path,
        exhibit: &ExhibitDraft,
        progress: &mut dyn FnMut(u64),
    ) -> Result<ExhibitAcquired, CustodyError> {
        let cannot = |e: &std::io::Error| CustodyError::Read {
            path: path.display().to_string(),
            detail: e.to_string(),
        };
        let mut taken = 0;
        let folder = match walk::named(path).map_err(|e| cannot(&e))? {
            walk::Named::Folder(folder) => folder,
            walk::Named::File(mut file) => {
                self.begin(exhibit)?;
                let failed = walk::read_all(&mut file, |bytes| {
                    taken += bytes.len() as u64;
                    progress(taken);
                    self.write(bytes)
                })?;
                return self
                    .finish(failed.map_or(Ended::Complete, |why| Ended::Error(why.to_string())));
            }
        };
        let mut walked = walk::folder(folder, path).map_err(|e| cannot(&e))?;
        self.start(exhibit, None)?;
        self.writer
            .start_folder(&exhibit.name, &walked.entries)
            .map_err(|e| self.fault(&e))?;
        let mut problems = std::mem::take(&mut walked.problems);
        for file in &walked.files {
            let opened = walked.open(file);
            let mut head = Vec::new();
            let started = match opened {
                Ok(mut f) => walk::head(&mut f, HEAD).map(|h| {
                    head = h;
                    f
                }),
                Err(e) => Err(e),
            };
            self.writer.next_file(&head).map_err(|e| self.fault(&e))?;
            match started {
                Err(e) => problems.push(format!("{}: {e}", file.shown())),
                Ok(mut f) => {
                    self.writer.write(&head).map_err(|e| self.fault(&e))?;
                    taken += head.len() as u64;
                    let failed = walk::read_all(&mut f, |bytes| {
                        taken += bytes.len() as u64;
                        progress(taken);
                        self.writer.write(bytes).map_err(|e| self.fault(&e))?;
                        self.commit_if_due()
                    })?;
                    problems.extend(failed.map(|e| format!("{}: {e}", file.shown())));
                }
            }
            progress(taken);
        }
        if problems.is_empty() {
            self.finish(Ended::Complete)
        } else {
            self.finish(Ended::Error(walk::told(&problems)))
        }
    }

    fn leave_open(mut self: Box<Self>) -> Result<(), CustodyError> {
        self.commit()
    }

    fn seal(self: Box<Self>) -> Result<BagSealed, CustodyError> {
        let Filling {
            custody,
            number,
            refs,
            writer,
            ..
        } = *self;
        custody.tell_late_seals()?;
        custody.ledger.locked(|inner| {
            let n = writer.number();
            // A seal that no entry tells of yet is the one before: to pass it over would fork the line of seals.
            if let Some(bag) = custody.untold_seal(inner.entries(), n)? {
                return Err(CustodyError::Busy { bag });
            }
            let head = inner.sign(Keep::Yes)?;
            let (mut gate, signer) = (inner.gate()?, inner.signer()?);
            let prev = inner
                .entries()
                .iter()
                .rev()
                .find_map(|e| e.body_as::<BagSealed>(kind::BAG_SEALED));
            let prev_seal_sha256 = prev.and_then(|b| unhex(&b.seal_sha256)).unwrap_or([0; 32]);
            let closed = seconds(custody.clock.now());
            let inputs = SealInputs {
                ledger: &head,
                prev_seal_sha256,
                epoch: 1,
                closed: &closed,
                signer: signer.as_ref(),
                gate: &mut gate,
            };
            let sealed = writer.seal(inputs).map_err(|e| worded(n, &e))?;
            fault::at("seal-untold");
            let body = sealed_body(&sealed);
            inner.append(&[Draft::new(kind::BAG_SEALED, &body).about(Refs {
                bag: Some(number),
                exhibit: None,
                ..refs
            })])?;
            inner.sign(Keep::No)?;
            Ok(body)
        })
    }
}
