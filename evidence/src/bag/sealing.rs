//! Sealing a bag: the order of the writes is the promise.

use super::journal;
use super::{BAG_CHECKPOINT, BAG_KEY, BAG_VKEYS, BagError, BagWriter, VERIFY_SCRIPT, VERIFY_STEPS};
use crate::checkpoint::{SignedCheckpoint, bag_origin, ledger_origin};
use crate::durable;
use crate::encoding::{Hash, sha256};
use crate::gate::SigningGate;
use crate::manifest::{
    self, BAG_INFO, BAGIT, BAGIT_TEXT, BagInfo, MANIFEST, ManifestLine, PROFILE, TAG_MANIFEST,
};
use crate::map::{MAP, Map, MapLine};
use crate::note::{self, Signer, sign_note};
use crate::seal::{SEAL, Seal};
use crate::source::BagSink;
use crate::time::parse_seconds;

/// What the seal needs from outside.
pub struct SealInputs<'a> {
    /// A signed, kept checkpoint of the ledger (`checkpoint_kept`).
    pub ledger: &'a SignedCheckpoint,
    /// SHA-256 of the seal of the bag before; zeros for the first.
    pub prev_seal_sha256: Hash,
    /// Number of the key epoch.
    pub epoch: u64,
    /// When it is closed, by the host's claim: UTC with seconds and `Z`.
    pub closed: &'a str,
    /// The key.
    pub signer: &'a dyn Signer,
    /// The one gate of this incident.
    pub gate: &'a mut SigningGate,
}

/// What was sealed. Append the `bag.sealed` entry now: [`crate::ledger::bag_sealed_body`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "append the `bag.sealed` entry: seal and ledger pin each other"]
pub struct Sealed {
    /// Number of the bag.
    pub number: u32,
    /// Its folder below the sink's root.
    pub dir: String,
    /// SHA-256 of `seal/seal.note`: the one value for a notebook.
    pub seal_sha256: Hash,
    /// Size of the tree.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
    /// Payload bytes.
    pub bytes: u64,
    /// Payload files.
    pub files: u64,
    /// Records in them.
    pub records: u64,
    /// How often the bag was recovered after a crash.
    pub recoveries: u64,
}

impl<S: BagSink> BagWriter<S> {
    /// Seals the bag. A crash anywhere before the seal leaves an open bag; after it, a sealed one.
    pub fn seal(mut self, inputs: SealInputs<'_>) -> Result<Sealed, BagError> {
        self.check_open()?;
        if self.source.is_some() {
            return Err(BagError::Order("finish the source before you seal"));
        }
        if self.segments.is_empty() {
            return Err(BagError::NoPayload);
        }
        if parse_seconds(inputs.closed).is_none() {
            return Err(BagError::Form {
                what: "the time of closing",
                value: inputs.closed.to_owned(),
            });
        }
        // 1, 3: last commit, final checkpoint. The final checkpoint is part of sealing: no record is left unsigned.
        let head = self.commit(inputs.gate, inputs.signer)?;
        // 2: the map.
        let map = self.map_text();
        self.tag(MAP, map.as_bytes())?;
        // 4: keys, tag files, manifests, everything synced.
        let (bytes, files) = (
            self.segments.iter().map(|s| s.bytes).sum(),
            self.segments.len() as u64,
        );
        self.store_tags(&inputs, bytes, files)?;
        let tag_manifest = self.store_manifests()?;
        // 6: the seal.
        let seal = Seal {
            origin: self.spec.base_origin.clone(),
            bag: self.spec.number,
            tag_manifest,
            map: sha256(map.as_bytes()),
            size: head.checkpoint.size,
            root: head.checkpoint.root,
            ledger_size: inputs.ledger.checkpoint.size,
            ledger_root: inputs.ledger.checkpoint.root,
            prev_seal: inputs.prev_seal_sha256,
            recoveries: self.recoveries,
            epoch: inputs.epoch,
            closed: inputs.closed.to_owned(),
        };
        let sealed_note = sign_note(&seal.body(), &seal.origin, inputs.signer)?;
        let path = self.at(SEAL);
        durable::replace(&mut self.sink, &path, sealed_note.as_bytes())
            .map_err(BagError::io(&path))?;
        // The bag is sealed from here on; a crash leaves the journal, and recovery says so.
        journal::retire(&mut self.sink, self.spec.number)?;
        Ok(Sealed {
            number: self.spec.number,
            dir: self.dir,
            seal_sha256: sha256(sealed_note.as_bytes()),
            size: seal.size,
            root: seal.root,
            bytes,
            files,
            records: seal.size,
            recoveries: self.recoveries,
        })
    }

    fn map_text(&self) -> String {
        let segments = self.segments.iter().map(|segment| MapLine {
            first_leaf: segment.first_leaf,
            count: segment.count,
            mode: segment.mode,
            path: segment.path.clone(),
        });
        Map {
            nonce: self.spec.map_nonce,
            segments: segments.collect(),
        }
        .to_text()
    }

    fn store_tags(
        &mut self,
        inputs: &SealInputs<'_>,
        bytes: u64,
        files: u64,
    ) -> Result<(), BagError> {
        let key = inputs.signer.public_key();
        let base = self.spec.base_origin.clone();
        let names = [
            base.clone(),
            ledger_origin(&base),
            bag_origin(&base, self.spec.number),
        ];
        let vkeys: String = names
            .iter()
            .map(|name| note::vkey(name, &key) + "\n")
            .collect();
        let info = BagInfo {
            bagging_date: inputs.closed[..10].to_owned(),
            external_identifier: self.spec.name(),
            group: self.spec.incident.clone(),
            bytes,
            files,
            profile: PROFILE.to_owned(),
        };
        self.tag(BAG_KEY, note::pem(&key).as_bytes())?;
        self.tag(BAG_VKEYS, vkeys.as_bytes())?;
        self.tag(BAGIT, BAGIT_TEXT.as_bytes())?;
        self.tag(BAG_INFO, info.to_text().as_bytes())?;
        self.tag("VERIFY.sh", VERIFY_SCRIPT.as_bytes())?;
        self.tag("VERIFY.txt", VERIFY_STEPS.as_bytes())
    }

    /// Stores both manifests, makes every name durable, and returns the hash that the seal commits to.
    fn store_manifests(&mut self) -> Result<Hash, BagError> {
        let payload = self.segments.iter().map(|s| ManifestLine {
            hash: s.sha256,
            path: s.path.clone(),
        });
        let payload = manifest::to_text(payload.collect());
        self.tag(MANIFEST, payload.as_bytes())?;
        let tags = self.tags.iter().map(|(path, hash)| ManifestLine {
            hash: *hash,
            path: path.clone(),
        });
        let tags = manifest::to_text(tags.collect());
        self.tag(TAG_MANIFEST, tags.as_bytes())?;
        for folder in ["tlog", "keys", "acquisition"] {
            let path = self.at(folder);
            self.sink.sync_dir(&path).map_err(BagError::io(&path))?;
        }
        let dir = self.dir.clone();
        self.sink.sync_dir(&dir).map_err(BagError::io(&dir))?;
        debug_assert!(
            self.tags.contains_key(BAG_CHECKPOINT),
            "the last commit stored it"
        );
        Ok(sha256(tags.as_bytes()))
    }

    /// Stores one tag file, durable up to its name.
    fn tag(&mut self, path: &str, bytes: &[u8]) -> Result<(), BagError> {
        let file = self.at(path);
        let sink = &mut self.sink;
        let stored = sink
            .create(&file)
            .and_then(|()| sink.append(&file, bytes))
            .and_then(|()| sink.sync_data(&file));
        stored.map_err(BagError::io(&file))?;
        self.tags.insert(path.to_owned(), sha256(bytes));
        Ok(())
    }
}
