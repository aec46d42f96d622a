//! Leases as files of a folder: they guard against a second run on this host, not on another.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use super::DirStore;
use crate::port::{Cause, Claim, Held, LeaseTerms, Leases, PortError, Store as _};

/// Nobody holds the folder's lock for longer than a file takes to write.
const LOCK: Duration = Duration::from_secs(5);

/// One folder's leases.
pub struct FolderLeases {
    folder: PathBuf,
}

impl FolderLeases {
    /// Leases in this folder, which is made when the first is claimed.
    pub fn new(folder: PathBuf) -> Self {
        FolderLeases { folder }
    }

    /// Runs a change under the folder's lock, away from the async threads.
    async fn locked<T: Send + 'static>(
        &self,
        tried: &'static str,
        what: &str,
        change: impl FnOnce(&mut DirStore, &str) -> io::Result<T> + Send + 'static,
    ) -> Result<T, PortError> {
        let (folder, name) = (self.folder.clone(), file_name(what));
        let ran = tokio::task::spawn_blocking(move || {
            let mut store = DirStore::open(&folder)?;
            let guard = store.lock("lock", LOCK)?;
            let _guard =
                guard.ok_or_else(|| io::Error::other("another process holds the folder"))?;
            change(&mut store, &name)
        });
        let outcome = ran.await.map_err(io::Error::other).and_then(|r| r);
        outcome.map_err(|e| {
            let path = self.folder.join(file_name(what));
            PortError::new(
                Cause::Local,
                tried,
                path.display().to_string(),
                e.to_string(),
            )
        })
    }

    fn lost(&self, tried: &str, held: &Held) -> PortError {
        let detail = "the lease is not ours any more";
        PortError::new(Cause::Conflict, tried, &held.terms.what, detail)
    }
}

/// `account/123` → `account-123.lease.json`: one file a lease, whatever it is called.
fn file_name(what: &str) -> String {
    let safe: String = what
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' || c == '_' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let digest = hex(&Sha256::digest(what.as_bytes())[..4]);
    format!("{safe}-{digest}.lease.json")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn read(store: &DirStore, name: &str) -> io::Result<Option<Held>> {
    let Some(bytes) = store.load(name)? else {
        return Ok(None);
    };
    let terms = serde_json::from_slice(&bytes)
        .map_err(|e| io::Error::other(format!("it is no lease of firebreak: {e}")))?;
    let tag = hex(&Sha256::digest(&bytes));
    Ok(Some(Held { terms, tag }))
}

fn write(store: &mut DirStore, name: &str, terms: LeaseTerms) -> io::Result<Held> {
    let bytes = serde_json::to_vec(&terms)?;
    store.replace(name, &bytes)?;
    let tag = hex(&Sha256::digest(&bytes));
    Ok(Held { terms, tag })
}

/// Writes `terms` where the lease is still that of `held`'s run and epoch; `None` = it is not. As in a bucket, an old tag of ours is ours.
fn write_if(
    store: &mut DirStore,
    name: &str,
    held: &Held,
    terms: LeaseTerms,
) -> io::Result<Option<Held>> {
    match read(store, name)? {
        Some(there)
            if there.terms.run == held.terms.run && there.terms.epoch == held.terms.epoch =>
        {
            write(store, name, terms).map(Some)
        }
        _ => Ok(None),
    }
}

#[async_trait]
impl Leases for FolderLeases {
    async fn claim(&self, terms: &LeaseTerms, now: DateTime<Utc>) -> Result<Claim, PortError> {
        let asked = terms.clone();
        self.locked("claim the lease", &terms.what, move |store, name| {
            let next = match read(store, name)? {
                None => asked,
                Some(held) => match held.terms.taken_over(&asked, now) {
                    None => return Ok(Claim::Theirs(held.terms)),
                    Some(next) => next,
                },
            };
            write(store, name, next).map(Claim::Ours)
        })
        .await
    }

    async fn renew(&self, held: &Held, expires: DateTime<Utc>) -> Result<Held, PortError> {
        let tried = "renew the lease";
        let (mine, terms) = (
            held.clone(),
            LeaseTerms {
                expires,
                ..held.terms.clone()
            },
        );
        self.locked(tried, &held.terms.what, move |store, name| {
            write_if(store, name, &mine, terms)
        })
        .await?
        .ok_or_else(|| self.lost(tried, held))
    }

    async fn release(&self, held: &Held) -> Result<(), PortError> {
        let (mine, terms) = (
            held.clone(),
            LeaseTerms {
                expires: DateTime::UNIX_EPOCH,
                ..held.terms.clone()
            },
        );
        // Gone, or somebody else's by now: there is nothing of ours to give back.
        self.locked(
            "give back the lease",
            &held.terms.what,
            move |store, name| write_if(store, name, &mine, terms),
        )
        .await
        .map(|_| ())
    }

    fn place(&self) -> String {
        format!(
            "folder {} of this host; it does not guard against a run on another host",
            self.folder.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(run: &str, expires_s: i64) -> LeaseTerms {
        LeaseTerms {
            what: "account/123456789012".into(),
            owner: "ana@desk".into(),
            run: run.into(),
            epoch: 1,
            expires: at(expires_s),
        }
    }

    fn at(s: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + s, 0).expect("a time")
    }

    fn leases(test: &str) -> FolderLeases {
        let folder = std::env::temp_dir().join(format!("firebreak-{test}-{}", std::process::id()));
        _ = std::fs::remove_dir_all(&folder);
        FolderLeases::new(folder)
    }

    fn ours(claim: Claim) -> Held {
        match claim {
            Claim::Ours(held) => held,
            Claim::Theirs(terms) => panic!("held by {}", terms.run),
        }
    }

    #[tokio::test]
    async fn one_of_many_wins_and_the_next_run_takes_over_only_when_it_has_expired() {
        let leases = leases("lease-race");
        let racers: Vec<String> = (0..8).map(|n| format!("r{n}")).collect();
        let asked: Vec<LeaseTerms> = racers.iter().map(|run| terms(run, 60)).collect();
        let claims = futures::future::join_all(asked.iter().map(|t| leases.claim(t, at(0)))).await;
        let winners: Vec<Held> = claims
            .into_iter()
            .filter_map(|c| match c.expect("answered") {
                Claim::Ours(held) => Some(held),
                Claim::Theirs(_) => None,
            })
            .collect();
        assert_eq!(winners.len(), 1);
        let held = leases.renew(&winners[0], at(90)).await.expect("renewed");
        let other = terms("other", 300);
        assert_eq!(
            leases.claim(&other, at(89)).await.expect("answered"),
            Claim::Theirs(held.terms.clone())
        );
        let taken = ours(leases.claim(&other, at(91)).await.expect("answered"));
        assert_eq!(taken.terms.epoch, held.terms.epoch + 1);
        let lost = leases.renew(&held, at(200)).await.expect_err("not ours");
        assert_eq!(lost.cause, Cause::Conflict);
        // Who lost it gives nothing back; who has it does, and the count goes on.
        leases.release(&held).await.expect("fine");
        leases.release(&taken).await.expect("given back");
        let next = ours(
            leases
                .claim(&terms("next", 300), at(92))
                .await
                .expect("answered"),
        );
        assert_eq!(next.terms.epoch, taken.terms.epoch + 1);
        assert!(leases.place().contains("another host"));
        _ = std::fs::remove_dir_all(&leases.folder);
    }

    #[tokio::test]
    async fn a_run_that_resumes_gets_its_own_lease_back() {
        let leases = leases("lease-resume");
        let first = ours(
            leases
                .claim(&terms("r1", 60), at(0))
                .await
                .expect("answered"),
        );
        let again = ours(
            leases
                .claim(&terms("r1", 90), at(1))
                .await
                .expect("answered"),
        );
        assert_eq!(again.terms.epoch, first.terms.epoch);
        assert_eq!(again.terms.expires, at(90));
        leases.renew(&first, at(120)).await.expect("still ours");
        _ = std::fs::remove_dir_all(&leases.folder);
    }

    #[test]
    fn two_leases_never_share_a_file() {
        assert_ne!(file_name("account/1"), file_name("account-1"));
        assert!(!file_name("../x").contains('/'));
    }
}
