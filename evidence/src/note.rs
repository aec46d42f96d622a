//! Signed notes (C2SP), Ed25519 keys and their fingerprints.
//!
//! A note here is accepted in one exact form only. Past verifiers were fooled by small-order keys, by bytes after
//! the signature and by second spellings of the same base64, so each of those is refused before a signature counts.

use crate::encoding::{Hash, base64, hex, sha256, unbase64, unhex};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt;

/// No note is longer.
pub const NOTE_MAX: usize = 64 * 1024;
/// No note has more signature lines.
pub const SIGNATURES_MAX: usize = 16;

/// SubjectPublicKeyInfo of an Ed25519 key up to the key itself (RFC 8410, 4).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A key that lives somewhere could not sign.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign: {0}")]
pub struct SignerError(pub String);

/// Signs with an Ed25519 key, wherever that lives.
pub trait Signer {
    /// Returns the public key.
    fn public_key(&self) -> [u8; 32];
    /// Returns the signature over exactly these bytes.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError>;
}

/// A key held in memory. It is erased when dropped and has no `Debug`.
pub struct SeedSigner {
    key: SigningKey,
}

impl SeedSigner {
    /// Takes the 32 secret bytes of RFC 8032.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = zeroize::Zeroizing::new(seed);
        Self {
            key: SigningKey::from_bytes(&seed),
        }
    }
}

impl Signer for SeedSigner {
    fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
        Ok(self.key.sign(message).to_bytes())
    }
}

/// SHA-256 of the 44-byte SubjectPublicKeyInfo: what is printed on paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub Hash);

/// The text is not a fingerprint: a slip of the reader, never a verdict on the evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a fingerprint: {digits} hex digits where 64 are needed")]
pub struct FingerprintError {
    digits: usize,
}

impl Fingerprint {
    /// Reads what people type: separators are stripped, the case is lowered.
    pub fn parse(text: &str) -> Result<Self, FingerprintError> {
        let plain: String = text
            .chars()
            .filter(|c| !(c.is_whitespace() || matches!(c, ':' | '-' | '.' | '_')))
            .flat_map(char::to_lowercase)
            .collect();
        let digits = plain.chars().filter(char::is_ascii_hexdigit).count();
        unhex(&plain).map(Self).ok_or(FingerprintError { digits })
    }

    /// Returns the 64 hex digits without separators.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

/// Groups of four digits, for reading aloud and comparing with paper.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, pair) in self.0.chunks(2).enumerate() {
            let gap = if i == 0 { "" } else { " " };
            write!(f, "{gap}{}", hex(pair))?;
        }
        Ok(())
    }
}

/// Returns the fingerprint of a public key.
pub fn fingerprint(public_key: &[u8; 32]) -> Fingerprint {
    Fingerprint(sha256(&spki(public_key)))
}

fn spki(public_key: &[u8; 32]) -> Vec<u8> {
    [&SPKI_PREFIX[..], public_key].concat()
}

/// Returns the key as PEM, which `openssl` reads.
pub fn pem(public_key: &[u8; 32]) -> String {
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64(&spki(public_key))
    )
}

/// Reads a key from PEM in the exact form of [`pem`].
pub fn parse_pem(bytes: &[u8]) -> Option<[u8; 32]> {
    let body = std::str::from_utf8(bytes)
        .ok()?
        .strip_prefix("-----BEGIN PUBLIC KEY-----\n")?;
    let der = unbase64(body.strip_suffix("\n-----END PUBLIC KEY-----\n")?)?;
    der.strip_prefix(&SPKI_PREFIX)?.try_into().ok()
}

/// Why a key or a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The 32 bytes are no point of the curve.
    #[error("the key is not an Ed25519 public key")]
    NotAKey,
    /// A second spelling of a key (y ≥ 2^255−19).
    #[error("the key is not in canonical form")]
    NonCanonicalKey,
    /// Anyone can forge under such a key.
    #[error("the key is one of the small-order points, under which anyone can forge")]
    WeakKey,
    /// The signature does not verify strictly.
    #[error("the signature does not belong to these bytes and this key")]
    Wrong,
}

/// Checks a signature strictly: canonical key of full order, canonical S, no small-order R.
pub fn verify_signature(
    public_key: &[u8; 32],
    message: &[u8],
    signature: &[u8; 64],
) -> Result<(), SignatureError> {
    let key = strict_key(public_key)?;
    key.verify_strict(message, &Signature::from_bytes(signature))
        .map_err(|_| SignatureError::Wrong)
}

/// Returns why a public key must not be used, if so.
pub fn check_key(public_key: &[u8; 32]) -> Result<(), SignatureError> {
    strict_key(public_key).map(|_| ())
}

fn strict_key(public_key: &[u8; 32]) -> Result<VerifyingKey, SignatureError> {
    let key = VerifyingKey::from_bytes(public_key).map_err(|_| SignatureError::NotAKey)?;
    if key.is_weak() {
        return Err(SignatureError::WeakKey);
    }
    if !is_canonical(public_key) {
        return Err(SignatureError::NonCanonicalKey);
    }
    Ok(key)
}

/// Whether y < 2^255−19. dalek accepts larger values and reduces them, which gives one key two fingerprints.
fn is_canonical(public_key: &[u8; 32]) -> bool {
    let top = public_key[31] & 0x7f == 0x7f && public_key[1..31].iter().all(|b| *b == 0xff);
    !(top && public_key[0] >= 0xed)
}

/// Returns the first 4 bytes of `H(name ‖ LF ‖ 0x01 ‖ key)` (C2SP signed-note).
pub fn key_id(name: &str, public_key: &[u8; 32]) -> [u8; 4] {
    let hash: Hash = Sha256::new()
        .chain_update(name)
        .chain_update(b"\n\x01")
        .chain_update(public_key)
        .finalize()
        .into();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// Returns the verifier key line `name+id+base64(0x01 ‖ key)`.
pub fn vkey(name: &str, public_key: &[u8; 32]) -> String {
    let typed = [&[1][..], public_key].concat();
    format!(
        "{name}+{}+{}",
        hex(&key_id(name, public_key)),
        base64(&typed)
    )
}

/// Returns the note: body, blank line, one signature line. The body ends with LF and holds no blank line.
pub fn sign_note(body: &str, key_name: &str, signer: &dyn Signer) -> Result<String, SignerError> {
    let signature = signer.sign(body.as_bytes())?;
    Ok(attach_signature(
        body,
        key_name,
        &signer.public_key(),
        &signature,
    ))
}

/// Returns the note for a signature over the body that was made elsewhere.
pub fn attach_signature(
    body: &str,
    key_name: &str,
    public_key: &[u8; 32],
    signature: &[u8; 64],
) -> String {
    let blob = [&key_id(key_name, public_key)[..], signature].concat();
    format!("{body}\n— {key_name} {}\n", base64(&blob))
}

/// Why a note does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not body, blank line, signature lines in the exact spelling.
    #[error("the note is not in the exact form: {0}")]
    Form(&'static str),
    /// The first signature line names another key.
    #[error("the note is signed under the name `{found}` and not `{expected}`")]
    KeyName {
        /// The name that the place of the note asks for.
        expected: String,
        /// The name on the line.
        found: String,
    },
    /// The four bytes before the signature belong to another key.
    #[error("the key id in the note belongs to another key")]
    KeyId,
    /// The signature does not count.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// How many signature lines a note may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Exactly one: seals, and checkpoints of bags.
    One,
    /// One of ours first, then cosignatures under other names, which are not judged here: ledger checkpoints.
    Cosigned,
}

/// Checks a note under a key and a key name, and returns its body.
pub fn open_note<'a>(
    bytes: &'a [u8],
    key_name: &str,
    public_key: &[u8; 32],
    lines: Lines,
) -> Result<&'a str, NoteError> {
    let (body, signatures) = split_note(bytes)?;
    if lines == Lines::One && signatures.len() != 1 {
        return Err(NoteError::Form("more than one signature line"));
    }
    let (name, blob) = signatures[0];
    if name != key_name {
        return Err(NoteError::KeyName {
            expected: key_name.to_owned(),
            found: name.to_owned(),
        });
    }
    if signatures[1..].iter().any(|(other, _)| *other == key_name) {
        return Err(NoteError::Form("two signature lines under one name"));
    }
    let blob: [u8; 68] =
        unbase64(blob)
            .and_then(|blob| blob.try_into().ok())
            .ok_or(NoteError::Form(
                "the signature is not 68 bytes in canonical base64",
            ))?;
    let (id, signature) = blob.split_at(4);
    if id != key_id(key_name, public_key) {
        return Err(NoteError::KeyId);
    }
    let signature: &[u8; 64] = signature.try_into().map_err(|_| NoteError::KeyId)?;
    verify_signature(public_key, body.as_bytes(), signature)?;
    Ok(body)
}

/// A note's body, and the key name and base64 of each signature line.
pub type SplitNote<'a> = (&'a str, Vec<(&'a str, &'a str)>);

/// Splits a note into its body and its signature lines (name, base64) without judging any signature.
pub fn split_note(bytes: &[u8]) -> Result<SplitNote<'_>, NoteError> {
    if bytes.len() > NOTE_MAX {
        return Err(NoteError::Form("longer than 64 KiB"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NoteError::Form("not UTF-8"))?;
    if text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(NoteError::Form("a control character"));
    }
    let at = text.find("\n\n").ok_or(NoteError::Form("no blank line"))?;
    let (body, rest) = (&text[..=at], &text[at + 2..]);
    let rest = rest
        .strip_suffix('\n')
        .ok_or(NoteError::Form("no LF at the end"))?;
    let signatures = rest
        .split('\n')
        .map(signature_line)
        .collect::<Option<Vec<_>>>();
    match signatures {
        Some(lines) if lines.len() <= SIGNATURES_MAX => Ok((body, lines)),
        Some(_) => Err(NoteError::Form("more than 16 signature lines")),
        None => Err(NoteError::Form(
            "a line after the blank one is not a signature line",
        )),
    }
}

fn signature_line(line: &str) -> Option<(&str, &str)> {
    let (name, blob) = line.strip_prefix("— ")?.split_once(' ')?;
    (!name.is_empty() && !blob.is_empty() && !blob.contains(' ')).then_some((name, blob))
}
