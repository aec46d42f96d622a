//! Time and randomness of the host.

use chrono::{DateTime, Utc};
use std::time::{Duration, Instant};

/// Time. Wall-clock time is only ever the host's claim; spans are measured on the monotonic clock.
pub trait Clock: Send + Sync {
    /// Wall-clock time.
    fn now(&self) -> DateTime<Utc>;
    /// Monotonic time since some fixed moment of this process.
    fn monotonic(&self) -> Duration;
    /// True where a wait is only recorded, not slept (drills).
    fn waits_are_simulated(&self) -> bool {
        false
    }
}

/// The host's clock.
pub struct HostClock {
    start: Instant,
    simulate_waits: bool,
}

impl HostClock {
    /// The real clock.
    pub fn new() -> Self {
        HostClock {
            start: Instant::now(),
            simulate_waits: false,
        }
    }
    /// The real clock, with waits recorded instead of slept.
    pub fn for_drill() -> Self {
        HostClock {
            start: Instant::now(),
            simulate_waits: true,
        }
    }
}

impl Default for HostClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for HostClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
    fn waits_are_simulated(&self) -> bool {
        self.simulate_waits
    }
}

/// Randomness for nonces, salts and keys.
pub trait Random: Send + Sync {
    /// Fills the buffer.
    ///
    /// # Errors
    /// When the host has no randomness: then nothing that needs it may go on.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), std::io::Error>;
}

/// The operating system's randomness.
pub struct HostRandom;

impl Random for HostRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), std::io::Error> {
        getrandom::fill(buffer).map_err(|e| std::io::Error::other(e.to_string()))
    }
}
