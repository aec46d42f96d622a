//! SCRAM-SHA-256 verifiers as PostgreSQL keeps them: a login is checked against one for real (RFC 5802, RFC 7677).
//!
//! Off-spec: no SASLprep, since a password that is generated or seeded here is ASCII.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// Verifiers with passwords that were tried on them: the result of four thousand rounds is worth keeping.
#[derive(Debug, Clone, Default)]
pub(super) struct Checked(Arc<Mutex<BTreeMap<[u8; 32], bool>>>);

impl PartialEq for Checked {
    /// A cache is no part of the world.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Checked {
    /// True when the password fits the verifier.
    pub(super) fn fits(&self, verifier: &str, password: &str) -> bool {
        let name: [u8; 32] = Sha256::digest(format!("{verifier}\0{password}")).into();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known
            .entry(name)
            .or_insert_with(|| fits(verifier, password))
    }
}

/// The verifier of a password.
pub fn verifier(password: &str, salt: &[u8], iterations: u32) -> String {
    let (stored, server) = keys(password, salt, iterations);
    format!(
        "SCRAM-SHA-256${iterations}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored),
        STANDARD.encode(server)
    )
}

/// True when the text is a verifier at all: anything else would be taken as a password in clear text.
pub(super) fn is_verifier(text: &str) -> bool {
    parts(text).is_some()
}

fn fits(verifier: &str, password: &str) -> bool {
    parts(verifier).is_some_and(|(iterations, salt, stored)| {
        keys(password, &salt, iterations).0.as_slice() == stored
    })
}

fn parts(verifier: &str) -> Option<(u32, Vec<u8>, Vec<u8>)> {
    let (how, keys) = verifier.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
    let (iterations, salt) = how.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    let stored = STANDARD.decode(stored).ok().filter(|s| s.len() == 32)?;
    STANDARD.decode(server).ok().filter(|s| s.len() == 32)?;
    Some((
        iterations.parse().ok().filter(|i| *i > 0)?,
        STANDARD.decode(salt).ok()?,
        stored,
    ))
}

/// StoredKey and ServerKey.
fn keys(password: &str, salt: &[u8], iterations: u32) -> ([u8; 32], [u8; 32]) {
    let key = keyed(password.as_bytes());
    let mut block = mac(&key, &[salt, &[0, 0, 0, 1]].concat());
    let mut salted = block;
    for _ in 1..iterations {
        block = mac(&key, &block);
        for (sum, byte) in salted.iter_mut().zip(block) {
            *sum ^= byte;
        }
    }
    let salted = keyed(&salted);
    let stored = Sha256::digest(mac(&salted, b"Client Key")).into();
    (stored, mac(&salted, b"Server Key"))
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn mac(key: &Hmac<Sha256>, data: &[u8]) -> [u8; 32] {
    let mut mac = key.clone();
    mac.update(data);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_of_the_wire_library_is_understood_and_tells_passwords_apart() {
        let theirs = postgres_protocol::password::scram_sha_256(b"s3cr3t-for-the-shop");
        assert!(is_verifier(&theirs));
        assert!(fits(&theirs, "s3cr3t-for-the-shop"));
        assert!(!fits(&theirs, "s3cr3t-for-the-shoq"));
    }

    #[test]
    fn another_count_of_rounds_is_kept() {
        let ours = verifier("pencil", b"0123456789abcdef", 64);
        assert!(ours.starts_with("SCRAM-SHA-256$64:"));
        assert!(fits(&ours, "pencil") && !fits(&ours, "pencils"));
        assert!(!is_verifier("md5c0ffee") && !is_verifier("pencil"));
    }
}
