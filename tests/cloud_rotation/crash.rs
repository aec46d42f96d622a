//! A run that dies at each of its ledger's entries, and is taken up again: from the double's side the end is the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firebreak::incident::{Draft, Entry, History};
use firebreak::port::{Ledger, LedgerError};
use firebreak::rotation::words::RotationMode;

use crate::stage::Stage;

/// A ledger that takes so many entries and then none: what a process that dies there leaves behind.
struct Dying {
    ledger: Arc<dyn Ledger>,
    left: AtomicUsize,
}

impl Ledger for Dying {
    fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Entry>, LedgerError> {
        let gone = || LedgerError::Write {
            path: "ledger".into(),
            detail: "the process died here".into(),
        };
        let taken = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(drafts.len())
            });
        taken.map_err(|_| gone())?;
        self.ledger.append(drafts)
    }
    fn checkpoint(&self) -> Result<(), LedgerError> {
        self.ledger.checkpoint()
    }
    fn history(&self) -> Result<History, LedgerError> {
        self.ledger.history()
    }
}

/// After every entry of a whole run: it dies with the effect done and the outcome lost, is taken up, dies once more, is taken up again.
async fn dies_everywhere(name: &str, mode: RotationMode) {
    for at in 0.. {
        let test = format!("{name}-{at}");
        let Some(stage) = Stage::begin(&test, mode, 1).await else {
            return;
        };
        let dying = |left| {
            Arc::new(Dying {
                ledger: stage.custody.ledger(),
                left: AtomicUsize::new(left),
            })
        };
        if stage.rotate_on(dying(at)).await.is_ok() {
            println!("{name}: died at {at} entries, each taken up twice");
            assert!(at > 15, "a run has more entries than {at}");
            return;
        }
        let _ = stage.rotate_on(dying(2)).await;
        let end = stage.rotate().await;
        assert!(end.is_ok(), "at entry {at}: {end:?}");
        stage.assert_all_replaced().await;
        stage.assert_no_secret_is_told();
        let keys = stage.seen(&stage.users[0]).await;
        assert!(
            keys.iter().filter(|k| k.active).count() == 1,
            "at entry {at}: no key of ours without escrow"
        );
        let before = stage.proxy.log().last().map_or(0, |c| c.number);
        stage.rotate().await.expect("it is so already");
        let again = stage.proxy.log_after(before);
        assert!(
            again.iter().all(|c| !c.call.writes()),
            "at entry {at}: {again:?}"
        );
    }
}

#[tokio::test]
async fn a_graceful_rotation_dies_at_every_entry_and_ends_the_same() {
    dies_everywhere("dies-graceful", RotationMode::Graceful).await;
}

#[tokio::test]
async fn an_emergency_dies_at_every_entry_and_ends_the_same() {
    dies_everywhere("dies-emergency", RotationMode::Emergency).await;
}
