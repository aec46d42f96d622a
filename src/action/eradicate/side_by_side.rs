//! Many looks at once, bounded, answered in order.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::action::{ActionError, Class};

/// Looks at a time: what one account's read limit of 15 a second keeps busy at 300 ms an answer, with room.
pub(super) const LOOKS: usize = 8;

/// Does `work` for each item, at most [`LOOKS`] at a time.
pub(super) async fn each<T, R, W>(
    items: Vec<T>,
    work: impl Fn(T) -> W,
) -> Result<Vec<R>, ActionError>
where
    T: Send + 'static,
    R: Send + 'static,
    W: Future<Output = R> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(LOOKS));
    let count = items.len();
    let mut tasks = JoinSet::new();
    for (at, item) in items.into_iter().enumerate() {
        let (permits, work) = (Arc::clone(&permits), work(item));
        tasks.spawn(async move {
            // The semaphore is never closed; without a permit it would only be less polite.
            let _permit = permits.acquire().await;
            (at, work.await)
        });
    }
    let mut done: Vec<Option<R>> = std::iter::repeat_with(|| None).take(count).collect();
    while let Some(ended) = tasks.join_next().await {
        let (at, answer) = ended
            .map_err(|_| ActionError::new(Class::Internal, "a look at the account ended early"))?;
        done[at] = Some(answer);
    }
    Ok(done.into_iter().flatten().collect())
}
