//! Entries of many items side by side, made durable together: one append for all that wait.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::incident::{Draft, Entry};
use crate::port::{Ledger, LedgerError};

/// At most this many entries in one append.
const BATCH: usize = 512;

struct Request {
    draft: Draft,
    answer: oneshot::Sender<Result<Entry, LedgerError>>,
}

/// Appends entries; each call returns when its entry is durable.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Request>,
}

impl Writer {
    /// Starts the one thread that appends.
    pub(super) fn new(ledger: Arc<dyn Ledger>) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Request>(BATCH);
        tokio::task::spawn_blocking(move || {
            let mut batch = Vec::with_capacity(BATCH);
            while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
                append(ledger.as_ref(), std::mem::take(&mut batch));
            }
        });
        Writer { queue }
    }

    /// Appends one entry and waits until it is durable.
    pub(super) async fn append(&self, draft: Draft) -> Result<Entry, LedgerError> {
        let (answer, told) = oneshot::channel();
        let closed = || LedgerError::Write {
            path: "ledger".into(),
            detail: "the writer has stopped".into(),
        };
        self.queue
            .send(Request { draft, answer })
            .await
            .map_err(|_| closed())?;
        told.await.map_err(|_| closed())?
    }
}

fn append(ledger: &dyn Ledger, batch: Vec<Request>) {
    let (drafts, answers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|r| (r.draft, r.answer)).unzip();
    let wanted = drafts.len();
    match ledger.append(drafts) {
        Ok(stored) if stored.len() == wanted => {
            for (answer, entry) in answers.into_iter().zip(stored) {
                // Who asked may have been cut: its entry is durable all the same.
                let _ = answer.send(Ok(entry));
            }
        }
        other => {
            let error = other.err().unwrap_or(LedgerError::Write {
                path: "ledger".into(),
                detail: "it answered another number of entries than it was given".into(),
            });
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}
