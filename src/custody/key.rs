//! The keys of an incident, which never leave its `state/` (0600) and are erased at close: the epoch key, made at open; and the
//! fingerprint key, made when the first rotation needs it.

use firebreak_evidence::note::SeedSigner;
use zeroize::Zeroizing;

use crate::port::{FingerprintKey, Random, Store};

use super::folder::OpeningError;

const KEY: &str = "state/epoch.key";
const FINGERPRINT: &str = "state/fingerprint.key";

/// Makes a key and keeps it. Answers its signer.
pub(super) fn make(store: &mut dyn Store, random: &dyn Random) -> Result<SeedSigner, OpeningError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    random
        .fill(seed.as_mut())
        .map_err(|e| OpeningError::Host(format!("no randomness for the epoch key: {e}")))?;
    store
        .replace(KEY, seed.as_ref())
        .map_err(|e| OpeningError::write(store, KEY, &e))?;
    Ok(SeedSigner::from_seed(*seed))
}

/// Loads the key. `None` once the incident is closed and the key erased.
pub(super) fn load(store: &dyn Store) -> Result<Option<SeedSigner>, OpeningError> {
    let Some(bytes) = store
        .load(KEY)
        .map_err(|e| OpeningError::read(store, KEY, &e))?
        .map(Zeroizing::new)
    else {
        return Ok(None);
    };
    let mut seed = Zeroizing::new([0u8; 32]);
    if bytes.len() != seed.len() {
        return Err(OpeningError::Damaged {
            path: store.place().join(KEY),
            detail: "it is not 32 bytes long".into(),
        });
    }
    seed.copy_from_slice(&bytes);
    Ok(Some(SeedSigner::from_seed(*seed)))
}

/// The key that fingerprints of secrets are made with: loaded, or made once. Whoever holds it can try guesses against fingerprints.
pub(super) fn fingerprint(
    store: &mut dyn Store,
    random: &dyn Random,
) -> Result<FingerprintKey, OpeningError> {
    let kept = store
        .load(FINGERPRINT)
        .map_err(|e| OpeningError::read(store, FINGERPRINT, &e))?
        .map(Zeroizing::new);
    let mut key = [0u8; 32];
    match kept {
        Some(bytes) if bytes.len() == key.len() => key.copy_from_slice(&bytes),
        Some(_) => {
            return Err(OpeningError::Damaged {
                path: store.place().join(FINGERPRINT),
                detail: "it is not 32 bytes long".into(),
            });
        }
        None => {
            random.fill(&mut key).map_err(|e| {
                OpeningError::Host(format!("no randomness for the fingerprint key: {e}"))
            })?;
            store
                .replace(FINGERPRINT, &key)
                .map_err(|e| OpeningError::write(store, FINGERPRINT, &e))?;
        }
    }
    Ok(FingerprintKey::new(key))
}

/// Overwrites and removes the keys. On SSDs an overwrite is weak; see the trust table.
pub(super) fn erase(store: &mut dyn Store) -> std::io::Result<()> {
    // The epoch key last: its absence says that the incident is closed.
    for key in [FINGERPRINT, KEY] {
        if store.load(key)?.is_some() {
            store.truncate(key, 0)?;
            store.append(key, &[0u8; 32])?;
            store.sync_data(key)?;
        }
    }
    // A crash inside the first write can have left the seed under a temporary name.
    let temporary = |path: &&str| {
        path.starts_with("state/epoch.tmp-") || path.starts_with("state/fingerprint.tmp-")
    };
    for item in store.list()? {
        if let Some(path) = Some(item.path.as_str()).filter(temporary) {
            store.remove(path)?;
        }
    }
    store.remove(FINGERPRINT)?;
    store.remove(KEY)
}
