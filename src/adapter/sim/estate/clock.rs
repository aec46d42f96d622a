//! A clock that goes only when it is told to.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::port::Clock;

/// Stands still until time is let pass. Let time pass here, so that host and servers share it, or on the estate, where only the servers
/// see it.
pub struct SimClock {
    start: DateTime<Utc>,
    passed: Mutex<Duration>,
}

impl SimClock {
    /// A clock that shows `start`.
    pub fn new(start: DateTime<Utc>) -> Self {
        SimClock {
            start,
            passed: Mutex::new(Duration::ZERO),
        }
    }
    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }
}

impl Clock for SimClock {
    fn now(&self) -> DateTime<Utc> {
        self.start + self.monotonic()
    }
    fn monotonic(&self) -> Duration {
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn waits_are_simulated(&self) -> bool {
        true
    }
}
