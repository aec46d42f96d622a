//! The seal: the signed note that closes a bag (specification, part 6).

use crate::encoding::{Hash, base64, decimal, hex, unbase64_hash, unhex};
use crate::note::{Lines, NoteError, open_note};
use crate::time::parse_seconds;

/// Where it stands in a bag.
pub const SEAL: &str = "seal/seal.note";
const FORMAT: &str = "firebreak/bag-seal/v1";

/// What a seal says, line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Base origin of the incident; the key name too.
    pub origin: String,
    /// Number of the bag.
    pub bag: u32,
    /// SHA-256 of `tagmanifest-sha256.txt`.
    pub tag_manifest: Hash,
    /// SHA-256 of `tlog/map.tsv`.
    pub map: Hash,
    /// Size of the tree, as in `tlog/checkpoint`.
    pub size: u64,
    /// Root of the tree, as in `tlog/checkpoint`.
    pub root: Hash,
    /// Size of a signed, kept ledger checkpoint.
    pub ledger_size: u64,
    /// Its root.
    pub ledger_root: Hash,
    /// SHA-256 of the seal before; zeros for the first.
    pub prev_seal: Hash,
    /// How often the bag was recovered after a crash.
    pub recoveries: u64,
    /// Number of the key epoch.
    pub epoch: u64,
    /// When it was closed, by the host's claim: UTC with seconds.
    pub closed: String,
}

/// Why a seal does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A later version of the format.
    #[error("the seal is of an unknown format version")]
    Version,
    /// Not the eleven lines in their order.
    #[error("the seal is not in its form")]
    Form,
    /// The note does not count.
    #[error(transparent)]
    Note(#[from] NoteError),
}

impl Seal {
    /// Returns the text that is signed.
    pub fn body(&self) -> String {
        format!(
            "{FORMAT}\norigin {}\nbag {:04}\ntagmanifest-sha256 {}\nmap-sha256 {}\ntree {} {}\nledger {} {}\n\
             prev-seal-sha256 {}\nrecoveries {}\nepoch {}\nclosed {}\n",
            self.origin,
            self.bag,
            hex(&self.tag_manifest),
            hex(&self.map),
            self.size,
            base64(&self.root),
            self.ledger_size,
            base64(&self.ledger_root),
            hex(&self.prev_seal),
            self.recoveries,
            self.epoch,
            self.closed,
        )
    }

    /// Reads the text that is signed, by line position and never by search.
    pub fn parse(body: &str) -> Result<Self, SealError> {
        let mut lines = body.split('\n');
        match lines.next() {
            Some(FORMAT) => {}
            Some(other) if other.starts_with("firebreak/bag-seal/") => {
                return Err(SealError::Version);
            }
            _ => return Err(SealError::Form),
        }
        let seal = Self::fields(&mut lines).ok_or(SealError::Form)?;
        // One spelling: what does not write back to the same bytes was not written by us.
        if seal.body() == body {
            Ok(seal)
        } else {
            Err(SealError::Form)
        }
    }

    fn fields<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let origin = field("origin")?.to_owned();
        let bag = u32::try_from(decimal(field("bag")?.trim_start_matches('0'))?).ok()?;
        let (tag_manifest, map) = (
            unhex(field("tagmanifest-sha256")?)?,
            unhex(field("map-sha256")?)?,
        );
        let (size, root) = head(field("tree")?)?;
        let (ledger_size, ledger_root) = head(field("ledger")?)?;
        let prev_seal = unhex(field("prev-seal-sha256")?)?;
        let (recoveries, epoch) = (decimal(field("recoveries")?)?, decimal(field("epoch")?)?);
        let closed = field("closed")?.to_owned();
        parse_seconds(&closed)?;
        Some(Self {
            origin,
            bag,
            tag_manifest,
            map,
            size,
            root,
            ledger_size,
            ledger_root,
            prev_seal,
            recoveries,
            epoch,
            closed,
        })
    }

    /// Checks a seal note under a key.
    pub fn open(bytes: &[u8], key: &[u8; 32]) -> Result<Self, SealError> {
        let claimed = Self::claimed(bytes);
        if let Err(SealError::Version) = claimed {
            // A later version only if the key says so; a flipped bit in the first line is no later version.
            let (_, signatures) = crate::note::split_note(bytes)?;
            open_note(bytes, signatures[0].0, key, Lines::One)?;
            return Err(SealError::Version);
        }
        let claimed = claimed?;
        open_note(bytes, &claimed.origin, key, Lines::One)?;
        Ok(claimed)
    }

    /// Reads what a seal claims, without judging its signature.
    pub fn claimed(bytes: &[u8]) -> Result<Self, SealError> {
        let (body, _) = crate::note::split_note(bytes)?;
        Self::parse(body)
    }
}

fn head(text: &str) -> Option<(u64, Hash)> {
    let (size, root) = text.split_once(' ')?;
    Some((decimal(size)?, unbase64_hash(root)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        Seal {
            origin: "ir.example.org/inc-2031".to_owned(),
            bag: 7,
            tag_manifest: [1; 32],
            map: [2; 32],
            size: 6_430_564,
            root: [3; 32],
            ledger_size: 412,
            ledger_root: [4; 32],
            prev_seal: [0; 32],
            recoveries: 0,
            epoch: 3,
            closed: "2026-08-22T12:34:56Z".to_owned(),
        }
    }

    #[test]
    fn a_seal_reads_back_and_other_spellings_do_not() {
        let body = seal().body();
        assert_eq!(Seal::parse(&body), Ok(seal()));
        for bad in [
            body.replace("bag 0007", "bag 7"),
            body.replace("bag 0007", "bag 00007"),
            body.replace("recoveries 0", "recoveries 00"),
            body.replace("T12:34:56Z", "T12:34:56+00:00"),
            format!("{body}more\n"),
            body.replace("epoch 3\n", ""),
            body.replace("tree 6430564 ", "tree 6430564  "),
        ] {
            assert_eq!(Seal::parse(&bad), Err(SealError::Form), "{bad}");
        }
        assert_eq!(
            Seal::parse(&body.replace("/v1", "/v2")),
            Err(SealError::Version)
        );
    }
}
