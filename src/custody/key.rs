//! The epoch key of an incident: made at open, kept in `state/epoch.key` (0600), erased at close.

use firebreak_evidence::note::SeedSigner;
use zeroize::Zeroizing;

use crate::port::{Random, Store};

use super::folder::OpeningError;

const KEY: &str = "state/epoch.key";

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

/// Overwrites and removes the key. On SSDs an overwrite is weak; see the trust table.
pub(super) fn erase(store: &mut dyn Store) -> std::io::Result<()> {
    if store.load(KEY)?.is_some() {
        store.truncate(KEY, 0)?;
        store.append(KEY, &[0u8; 32])?;
        store.sync_data(KEY)?;
    }
    // A crash inside the first write can have left the seed under a temporary name.
    let temporary = |path: &&str| path.starts_with("state/epoch.tmp-");
    for item in store.list()? {
        if let Some(path) = Some(item.path.as_str()).filter(temporary) {
            store.remove(path)?;
        }
    }
    store.remove(KEY)
}
