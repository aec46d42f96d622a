//! What came through: one entry for each call, numbered from 1.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::call::Call;

/// Whether something changed at the double.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: a read, a refusal, or it never got there.
    None,
    /// It was answered as done and is not yet.
    Pending,
    /// The double did it.
    Done,
}

/// One call.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Number.
    pub number: u64,
    /// When it arrived, by the proxy's clock.
    pub at: DateTime<Utc>,
    /// Address of the client.
    pub source: String,
    /// What was asked, without secrets.
    #[serde(flatten)]
    pub call: Call,
    /// ARN of who signed it, if known.
    pub principal: Option<String>,
    /// What we did to it.
    pub fault: Option<String>,
    /// Status that the client was meant to see; none while it runs.
    pub status: Option<u16>,
    /// Error code in it.
    pub code: Option<String>,
    /// How often the double got it.
    pub forwarded: u32,
    /// What it did.
    pub effect: Effect,
    /// The service's request id.
    pub request_id: Option<String>,
    /// True when the answer was sent, or withheld on purpose.
    pub ended: bool,
}

/// All of them.
#[derive(Default)]
pub struct Log {
    entries: Vec<Entry>,
    /// Numbers go on after the log was emptied, so that no two calls share one.
    before: u64,
}

impl Log {
    /// Notes a call; its number.
    pub fn arrived(
        &mut self,
        call: &Call,
        source: String,
        principal: Option<String>,
        at: DateTime<Utc>,
    ) -> u64 {
        let number = self.before + self.entries.len() as u64 + 1;
        self.entries.push(Entry {
            number,
            at,
            source,
            call: call.clone(),
            principal,
            fault: None,
            status: None,
            code: None,
            forwarded: 0,
            effect: Effect::None,
            request_id: None,
            ended: false,
        });
        number
    }

    /// Changes an entry; one that was forgotten meanwhile is left alone.
    pub fn change(&mut self, number: u64, change: impl FnOnce(&mut Entry)) {
        let index = number.checked_sub(self.before + 1);
        if let Some(entry) = index.and_then(|n| self.entries.get_mut(usize::try_from(n).ok()?)) {
            change(entry);
        }
    }

    /// The entries after this number.
    pub fn after(&self, number: u64) -> &[Entry] {
        let skip = number.saturating_sub(self.before);
        let skip = usize::try_from(skip)
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        &self.entries[skip..]
    }

    /// Drops all entries.
    pub fn forget(&mut self) {
        self.before += self.entries.len() as u64;
        self.entries.clear();
    }
}
