//! New passwords, and what a PostgreSQL server is told of them: the SCRAM verifier, never the password.

use postgres_protocol::password::scram_sha_256;

use crate::port::{Random, Secret};

/// Letters and digits only, none of which needs quoting in a connection string, a shell, YAML, SQL or a URL, and without those that
/// are read for each other (`0 O 1 I l`): one day somebody reads it out over the telephone.
const ALPHABET: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// 40 of 57 letters are 233 bits.
const LENGTH: usize = 40;
/// Bytes from here on would make some letters likelier than others: 228 is the greatest multiple of 57 below 256.
const FAIR: u8 = 228;

/// Makes a password of 40 letters and digits, each as likely as any other.
///
/// # Errors
/// When the host has no randomness: then there is no password.
pub fn generate(random: &dyn Random) -> Result<Secret, std::io::Error> {
    let mut text = String::with_capacity(LENGTH);
    let mut drawn = zeroize::Zeroizing::new([0_u8; 64]);
    while text.len() < LENGTH {
        random.fill(drawn.as_mut_slice())?;
        let fair = drawn.iter().filter(|b| **b < FAIR);
        let letters = fair.map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()]));
        text.extend(letters.take(LENGTH - text.len()));
    }
    Ok(Secret::new(text))
}

/// The SCRAM-SHA-256 verifier of a password: 4,096 iterations and a salt of its own, so that each call answers another one. It opens
/// nothing, but passwords can be tried against it: it is a secret as well.
pub fn scram_verifier(password: &Secret) -> Secret {
    Secret::new(scram_sha_256(password.expose_secret().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::HostRandom;
    use std::sync::atomic::{AtomicU8, Ordering};

    /// Counts 0, 1, 2, … 255, 0, …
    struct Counting(AtomicU8);

    impl Random for Counting {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), std::io::Error> {
            for b in buffer {
                *b = self.0.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    }

    struct Empty;

    impl Random for Empty {
        fn fill(&self, _: &mut [u8]) -> Result<(), std::io::Error> {
            Err(std::io::Error::other("no entropy"))
        }
    }

    #[test]
    fn a_password_needs_no_quoting_anywhere_and_is_long_enough() {
        let password = generate(&HostRandom).expect("the host has randomness");
        let text = password.expose_secret();
        assert!(text.len() >= 32, "{}", text.len());
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric()));
        let other = generate(&HostRandom).expect("the host has randomness");
        assert!(!password.same_as(&other));
    }

    #[test]
    fn every_letter_is_as_likely_as_any_other() {
        assert_eq!(usize::from(FAIR) % ALPHABET.len(), 0);
        // Where each byte comes up equally often, so does each letter: 57 passwords of 40 letters, each letter 40 times.
        let random = Counting(AtomicU8::new(0));
        let mut all = Vec::new();
        let mut drawn = [0_u8; 256];
        random.fill(&mut drawn).expect("it counts");
        let fair = drawn.iter().filter(|b| **b < FAIR);
        all.extend(fair.map(|b| ALPHABET[usize::from(*b) % ALPHABET.len()]));
        for letter in ALPHABET {
            let times = all.iter().filter(|l| *l == letter).count();
            assert_eq!(times, 4, "{}", char::from(*letter));
        }
        let password = generate(&random).expect("it counts");
        assert_eq!(password.expose_secret(), {
            let first = ALPHABET[..LENGTH].to_vec();
            String::from_utf8(first).expect("ASCII")
        });
    }

    #[test]
    fn without_randomness_there_is_no_password() {
        assert!(generate(&Empty).is_err());
    }

    #[test]
    fn a_verifier_names_its_method_and_holds_no_password() {
        let password = Secret::new("correct-horse".into());
        let verifier = scram_verifier(&password);
        let text = verifier.expose_secret();
        assert!(text.starts_with("SCRAM-SHA-256$4096:"), "{text}");
        assert!(!text.contains("correct-horse"));
        assert!(!verifier.same_as(&scram_verifier(&password)), "no salt");
    }
}
