//! The signing gate: the one door that every signature of a tree head passes.
//!
//! Rule G: never sign a head smaller than the highest signed for that origin, nor another root at the same size, nor
//! before the head is durable in `state/`. A host that was set back to an older state of its disk cannot then show
//! two histories to two readers, short of losing `state/` too.

use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::durable;
use crate::encoding::{base64, unbase64_hash};
use crate::json;
use crate::note::{Signer, SignerError, sign_note};
use crate::source::{BagSink, BagSource, read_if_there};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;

/// Where the highest signed heads are kept.
pub const HEADS: &str = "state/heads.json";
const HEADS_MAX: u64 = 16 * 1024 * 1024;

/// Why a head was not signed.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The tree is smaller than one that was signed.
    #[error("refusing to sign size {size} of `{origin}`: size {highest} was signed before")]
    Smaller {
        /// Which tree.
        origin: String,
        /// The size that was asked for.
        size: u64,
        /// The highest signed size.
        highest: u64,
    },
    /// The same size was signed with another root.
    #[error("refusing to sign another root at size {size} of `{origin}`")]
    Fork {
        /// Which tree.
        origin: String,
        /// The size.
        size: u64,
    },
    /// The head could not be made durable; nothing more is signed until the gate is opened again.
    #[error("cannot write the signed heads")]
    Io(#[from] io::Error),
    /// An earlier write failed.
    #[error("an earlier head could not be made durable; open the gate again")]
    Closed,
    /// The stored heads cannot be read.
    #[error("the stored heads in `{HEADS}` are damaged: {0}")]
    Damaged(String),
    /// The key did not sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

/// Keeps the highest signed head of every origin, durable before each signature.
#[derive(Debug, Default)]
pub struct SigningGate {
    heads: BTreeMap<String, Checkpoint>,
    closed: bool,
}

impl SigningGate {
    /// Reads the heads that were signed; a folder without them has signed nothing.
    pub fn open(source: &dyn BagSource) -> Result<Self, GateError> {
        let Some(bytes) = read_if_there(source, HEADS, HEADS_MAX)? else {
            return Ok(Self::default());
        };
        let value = json::parse(&bytes).map_err(|error| GateError::Damaged(error.to_string()))?;
        let heads = value
            .as_object()
            .and_then(|heads| heads.iter().map(read_head).collect::<Option<_>>());
        let heads = heads.ok_or_else(|| GateError::Damaged("not a table of heads".to_owned()))?;
        Ok(Self {
            heads,
            closed: false,
        })
    }

    /// Returns the highest head that was signed for an origin, or was about to be.
    pub fn head(&self, origin: &str) -> Option<&Checkpoint> {
        self.heads.get(origin)
    }

    /// Makes the head durable, then signs it.
    ///
    /// A crash in between leaves a head that is recorded and not signed, which the next call may sign.
    pub fn sign(
        &mut self,
        sink: &mut dyn BagSink,
        head: Checkpoint,
        signer: &dyn Signer,
    ) -> Result<SignedCheckpoint, GateError> {
        self.admit(&head)?;
        if self.heads.get(&head.origin) != Some(&head) {
            self.persist(sink, &head)?;
        }
        let note = sign_note(&head.body(), &head.origin, signer)?;
        Ok(SignedCheckpoint {
            checkpoint: head,
            note,
        })
    }

    fn admit(&self, head: &Checkpoint) -> Result<(), GateError> {
        if self.closed {
            return Err(GateError::Closed);
        }
        match self.heads.get(&head.origin) {
            Some(highest) if head.size < highest.size => Err(GateError::Smaller {
                origin: head.origin.clone(),
                size: head.size,
                highest: highest.size,
            }),
            Some(highest) if head.size == highest.size && head.root != highest.root => {
                Err(GateError::Fork {
                    origin: head.origin.clone(),
                    size: head.size,
                })
            }
            _ => Ok(()),
        }
    }

    fn persist(&mut self, sink: &mut dyn BagSink, head: &Checkpoint) -> Result<(), GateError> {
        // Closed until the write is known to have reached the disk: a failed sync is never retried.
        self.closed = true;
        self.heads.insert(head.origin.clone(), head.clone());
        durable::make_dir(sink, "state")?;
        durable::replace(sink, HEADS, &self.to_bytes()?)?;
        self.closed = false;
        Ok(())
    }

    fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let heads: BTreeMap<_, _> = self
            .heads
            .values()
            .map(|head| {
                (
                    &head.origin,
                    serde_json::json!({"size": head.size, "root": base64(&head.root)}),
                )
            })
            .collect();
        json::canonical_line(&heads).map_err(io::Error::other)
    }
}

fn read_head((origin, value): (&String, &Value)) -> Option<(String, Checkpoint)> {
    let size = value.get("size")?.as_u64()?;
    let root = unbase64_hash(value.get("root")?.as_str()?)?;
    Some((
        origin.clone(),
        Checkpoint {
            origin: origin.clone(),
            size,
            root,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Fault, MemorySink};
    use crate::note::SeedSigner;

    fn head(size: u64, root: u8) -> Checkpoint {
        Checkpoint {
            origin: "x/ledger".to_owned(),
            size,
            root: [root; 32],
        }
    }

    #[test]
    fn a_smaller_tree_and_a_second_root_are_refused_also_after_a_restart() {
        let (mut sink, signer) = (MemorySink::default(), SeedSigner::from_seed([7; 32]));
        let mut gate = SigningGate::default();
        gate.sign(&mut sink, head(5, 1), &signer).unwrap();
        let mut gate = SigningGate::open(&sink.snapshot()).unwrap();
        assert!(matches!(
            gate.sign(&mut sink, head(4, 1), &signer),
            Err(GateError::Smaller { .. })
        ));
        assert!(matches!(
            gate.sign(&mut sink, head(5, 2), &signer),
            Err(GateError::Fork { .. })
        ));
        gate.sign(&mut sink, head(5, 1), &signer).unwrap();
        gate.sign(&mut sink, head(6, 3), &signer).unwrap();
        let other = Checkpoint {
            origin: "x/bag/0001".to_owned(),
            size: 0,
            root: [0; 32],
        };
        gate.sign(&mut sink, other, &signer).unwrap();
    }

    #[test]
    fn nothing_is_signed_before_its_head_is_durable() {
        struct Watched(SeedSigner, MemorySink);
        impl Signer for Watched {
            fn public_key(&self) -> [u8; 32] {
                self.0.public_key()
            }
            fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
                let durable =
                    SigningGate::open(&self.1.after(crate::memory::Crash::PowerCut)).unwrap();
                assert_eq!(
                    durable
                        .head("x/ledger")
                        .map(Checkpoint::body)
                        .as_deref()
                        .map(str::as_bytes),
                    Some(message)
                );
                self.0.sign(message)
            }
        }
        let mut sink = MemorySink::default();
        let signer = Watched(SeedSigner::from_seed([7; 32]), sink.clone());
        SigningGate::default()
            .sign(&mut sink, head(1, 1), &signer)
            .unwrap();
    }

    #[test]
    fn after_a_failed_write_the_gate_stays_closed() {
        let (mut sink, signer) = (MemorySink::default(), SeedSigner::from_seed([7; 32]));
        let mut gate = SigningGate::default();
        sink.arm(Some(Fault::Full(2)));
        assert!(matches!(
            gate.sign(&mut sink, head(1, 1), &signer),
            Err(GateError::Io(_))
        ));
        sink.arm(None);
        assert!(matches!(
            gate.sign(&mut sink, head(1, 1), &signer),
            Err(GateError::Closed)
        ));
    }
}
