//! A secret in memory, and the only thing of it that may be written down: its fingerprint.

use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use zeroize::Zeroizing;

/// A password, a secret access key, a session token. It has no `Debug`, `Display`, `Serialize` or `Clone`, and its memory is wiped
/// when it goes.
pub struct Secret(SecretString);

impl Secret {
    /// Takes the text over; the caller keeps no copy.
    pub fn new(text: String) -> Self {
        Secret(SecretString::from(text))
    }
    /// The secret itself, for the one call that needs it. Nothing may be made of it that outlives that call.
    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
    /// A second owner of the same text: for a sink that keeps it while another still reads it.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Secret::new(self.expose_secret().to_owned())
    }
    /// True when both are the same text.
    pub fn same_as(&self, other: &Secret) -> bool {
        self.expose_secret() == other.expose_secret()
    }
}

/// The incident's fingerprint key: random, kept beside the epoch key, in no ledger and no bag.
pub struct FingerprintKey(Zeroizing<[u8; 32]>);

impl FingerprintKey {
    /// The key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        FingerprintKey(Zeroizing::new(bytes))
    }
    /// What may be written of a secret: the first 16 bytes of HMAC-SHA-256(key, kind ‖ value) in hex. Equal values of one kind have
    /// equal fingerprints; without the key nothing can be told or tried.
    pub fn of(&self, kind: &str, secret: &Secret) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice())
            .expect("HMAC takes a key of any length");
        mac.update(kind.as_bytes());
        mac.update(secret.expose_secret().as_bytes());
        let tag = mac.finalize().into_bytes();
        tag.iter().take(16).map(|b| format!("{b:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_values_kinds_and_incidents_apart_and_nothing_else() {
        let key = FingerprintKey::new([7; 32]);
        let value = Secret::new("hunter2".into());
        let fp = key.of("pg-password", &value);
        assert_eq!(fp.len(), 32);
        assert_eq!(fp, key.of("pg-password", &value.duplicate()));
        assert_ne!(fp, key.of("iam-access-key", &value));
        assert_ne!(fp, key.of("pg-password", &Secret::new("hunter3".into())));
        assert_ne!(fp, FingerprintKey::new([8; 32]).of("pg-password", &value));
    }
}
