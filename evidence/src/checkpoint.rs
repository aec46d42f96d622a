//! A checkpoint: the signed head (origin, size, root) of a tree (C2SP tlog-checkpoint, three lines exactly).

use crate::encoding::{Hash, base64, decimal, unbase64_hash};
use crate::note::{Lines, NoteError, open_note};

/// The head of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which tree: `<base>/ledger` or `<base>/bag/<NNNN>`.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// A head with its note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// The head.
    pub checkpoint: Checkpoint,
    /// The note, as stored.
    pub note: String,
}

impl Checkpoint {
    /// Returns the text that is signed.
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, base64(&self.root))
    }

    /// Reads the text that is signed: three lines, no more, in the one spelling.
    pub fn parse(body: &str) -> Option<Self> {
        let mut lines = body.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let checkpoint = Self {
            origin: origin.to_owned(),
            size: decimal(size)?,
            root: unbase64_hash(root)?,
        };
        (lines.next().is_none() && !origin.is_empty()).then_some(checkpoint)
    }

    /// Checks a checkpoint note under its origin and a key.
    pub fn open(
        bytes: &[u8],
        origin: &str,
        key: &[u8; 32],
        lines: Lines,
    ) -> Result<Self, NoteError> {
        let body = open_note(bytes, origin, key, lines)?;
        let checkpoint =
            Self::parse(body).ok_or(NoteError::Form("not the three lines of a checkpoint"))?;
        if checkpoint.origin == origin {
            Ok(checkpoint)
        } else {
            Err(NoteError::KeyName {
                expected: origin.to_owned(),
                found: checkpoint.origin,
            })
        }
    }
}

/// Returns the origin of an incident's ledger.
pub fn ledger_origin(base: &str) -> String {
    format!("{base}/ledger")
}

/// Returns the origin of a bag's tree.
pub fn bag_origin(base: &str, number: u32) -> String {
    format!("{base}/bag/{number:04}")
}

/// Returns whether a base origin may be signed under: lower case, no space, no `+`, not one of our format names.
pub fn is_base_origin(base: &str) -> bool {
    let allowed = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_' | '/')
    };
    !base.is_empty()
        && base.len() <= 200
        && base.chars().all(allowed)
        && base.split('/').all(|part| !part.is_empty())
        && !base.starts_with("firebreak/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::hex;
    use crate::note::{SeedSigner, SignatureError, Signer as _, fingerprint, sign_note};

    const NOTE: &str = "ir.example.org/inc-2031/bag/0001\n3\nMavrW9OQIN0NkrcrPT5zFiSoRC6Kgs3KfwMz1bE/gds=\n\n— \
        ir.example.org/inc-2031/bag/0001 9pF0A9I6Qk44vYeb8EHuma9Si6pSnlNqE3C5nQ6Jdq225847mOJkCMf4Pj2vrQyoPFF0jySjB/Nja9DUwQcIRkMTUwE=\n";

    fn signer() -> SeedSigner {
        SeedSigner::from_seed(std::array::from_fn(|i| 0x20 + i as u8))
    }

    /// The vector of the specification, part 5.
    #[test]
    fn the_vector_of_the_specification_holds() {
        let key = signer().public_key();
        assert_eq!(
            hex(&key),
            "29acbae141bccaf0b22e1a94d34d0bc7361e526d0bfe12c89794bc9322966dd7"
        );
        let print = fingerprint(&key);
        assert_eq!(
            print.hex(),
            "824c89aa8efb95ef93629b4519599129cace4adac9a6180daba31ceed41ecee6"
        );
        let origin = bag_origin("ir.example.org/inc-2031", 1);
        let head = Checkpoint::open(NOTE.as_bytes(), &origin, &key, Lines::One).unwrap();
        assert_eq!(head.size, 3);
        assert_eq!(sign_note(&head.body(), &origin, &signer()).unwrap(), NOTE);
    }

    #[test]
    fn every_flipped_bit_of_a_note_is_refused() {
        let (key, origin) = (
            signer().public_key(),
            bag_origin("ir.example.org/inc-2031", 1),
        );
        for at in 0..NOTE.len() {
            for bit in 0..8 {
                let mut note = NOTE.as_bytes().to_vec();
                note[at] ^= 1 << bit;
                assert!(
                    Checkpoint::open(&note, &origin, &key, Lines::One).is_err(),
                    "byte {at} bit {bit}"
                );
            }
        }
    }

    #[test]
    fn other_forms_of_a_good_note_are_refused() {
        let (key, origin) = (
            signer().public_key(),
            bag_origin("ir.example.org/inc-2031", 1),
        );
        let line = NOTE.lines().last().unwrap();
        let forms = [
            format!("{NOTE}{line}\n"),
            format!("{NOTE}\n"),
            format!("{NOTE}x"),
            NOTE.replace('\n', "\r\n"),
            NOTE.trim_end().to_owned(),
            NOTE.replace("UwE=", "UwF="),
            NOTE.replace("\n3\n", "\n03\n"),
            NOTE.replacen("\n\n", "\nextension\n\n", 1),
        ];
        for form in forms {
            assert!(
                Checkpoint::open(form.as_bytes(), &origin, &key, Lines::One).is_err(),
                "{form}"
            );
        }
    }

    #[test]
    fn a_note_under_the_identity_point_is_refused() {
        let mut weak = [0; 32];
        weak[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let error = crate::note::verify_signature(&weak, b"anything", &signature);
        assert_eq!(error, Err(SignatureError::WeakKey));
    }

    #[test]
    fn all_small_order_and_non_canonical_encodings_are_refused() {
        let from_hex = |text: &str| crate::encoding::unhex::<32>(text).unwrap();
        let mut encodings = Vec::new();
        for low in 0u8..=1 {
            for top in [0x00, 0x80] {
                let mut key = [0; 32];
                (key[0], key[31]) = (low, top);
                encodings.push(key);
            }
        }
        for low in 0xec..=0xff {
            for top in [0x7f, 0xff] {
                let mut key = [0xff; 32];
                (key[0], key[31]) = (low, top);
                encodings.push(key);
            }
        }
        for (text, tops) in [
            (
                "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
                [0x05, 0x85],
            ),
            (
                "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
                [0x7a, 0xfa],
            ),
        ] {
            for top in tops {
                let mut key = from_hex(text);
                key[31] = top;
                encodings.push(key);
            }
        }
        for key in encodings {
            assert!(crate::note::check_key(&key).is_err(), "{}", hex(&key));
        }
    }

    #[test]
    fn origins_keep_to_lower_case_without_spaces() {
        assert!(is_base_origin("ir.example.org/inc-2031"));
        for base in [
            "",
            "Ir.example",
            "a b",
            "a+b",
            "firebreak/bag-seal",
            "a//b",
            "/a",
            "a/",
        ] {
            assert!(!is_base_origin(base), "{base}");
        }
    }
}
