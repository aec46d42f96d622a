//! A rotation while it goes on: a view of the ledger. On a terminal one line that is drawn again, without one a plain line when something
//! changed, with `--jsonl` each entry as it became durable.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cli::output::{Output, clean_line};
use crate::custody::Custody;
use crate::incident::clock_text::{millis, span};
use crate::incident::{Entry, History};
use crate::rotation::status;

use super::show;

/// How often the ledger is looked at; longer where looking takes long, so that the view never costs a tenth of the work.
const EVERY: Duration = Duration::from_millis(500);

/// Somebody who looks.
pub(super) struct Watching {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Watching {
    /// Begins to look at one run.
    pub(super) fn begin(out: Output, custody: Arc<Custody>, run: String, jsonl: bool) -> Self {
        let (stop, stopped) = oneshot::channel();
        let seen = custody.history().map_or(0, |h| h.entries.len());
        let view = View {
            out,
            custody,
            run,
            jsonl,
            seen,
            began: Instant::now(),
            last: String::new(),
        };
        Watching {
            stop,
            task: tokio::spawn(view.look_until(stopped)),
        }
    }

    /// Looks a last time, and ends.
    pub(super) async fn end(self) {
        _ = self.stop.send(());
        _ = self.task.await;
    }
}

struct View {
    out: Output,
    custody: Arc<Custody>,
    run: String,
    jsonl: bool,
    /// Entries that were seen.
    seen: usize,
    began: Instant,
    last: String,
}

impl View {
    async fn look_until(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut pause = EVERY;
        loop {
            let over = tokio::time::timeout(pause, &mut stopped).await.is_ok();
            let looked = Instant::now();
            if let Ok(history) = self.custody.history() {
                self.look(&history);
            }
            pause = EVERY.max(looked.elapsed() * 10);
            if over {
                self.out.progress_end();
                return;
            }
        }
    }

    fn look(&mut self, history: &History) {
        let fresh = history.entries.len() > self.seen;
        if self.jsonl {
            for entry in history.entries.iter().skip(self.seen) {
                if let Some(line) = self.line(entry) {
                    self.out.write(format!("{line}\n").as_bytes());
                }
            }
        }
        self.seen = history.entries.len();
        // The clock goes on on a terminal; elsewhere only what changed is told.
        if fresh || self.out.live {
            self.tell();
        }
    }

    fn line(&self, entry: &Entry) -> Option<serde_json::Value> {
        let ours = entry.run() == Some(self.run.as_str()) && entry.kind.starts_with("rotate.");
        ours.then(|| {
            json!({
                "schema": "firebreak/rotation-event/v1", "seq": entry.seq, "time": millis(entry.time), "kind": entry.kind,
                "sha256": entry.sha256, "body": entry.body,
            })
        })
    }

    fn tell(&mut self) {
        let Ok(status) = show::standing(&self.custody, Some(&self.run)) else {
            return;
        };
        let t = &status.totals;
        if t.calls == 0 && !t.by_state.keys().any(|s| s != status::WAITING) {
            return;
        }
        let states: Vec<String> = t.by_state.iter().map(|(s, n)| format!("{n} {s}")).collect();
        let dead = match t.time_to_last_old_dead_ms {
            Some(ms) => format!("all {} old dead after {}", t.old_dead, span(ms)),
            None => format!("{} of {} old dead", t.old_dead, status.rows.len()),
        };
        let throttled = match t.throttled {
            0 => String::new(),
            n => format!(", {n} throttled"),
        };
        if self.out.live {
            let took = self.began.elapsed();
            let rate = t.calls as f64 / took.as_secs_f64().max(0.001);
            let ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
            self.out.progress(clean_line(&format!(
                "… {}: {}; {dead}; {} changes, {rate:.1}/s{throttled}",
                span(ms),
                states.join(", "),
                t.calls
            )));
            return;
        }
        let line = format!("rotate {}; {dead}{throttled}", states.join(", "));
        if line != self.last && !self.jsonl {
            self.out.tell(clean_line(&line));
        }
        self.last = line;
    }
}
