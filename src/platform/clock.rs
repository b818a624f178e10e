//! Wall-clock and monotonic time.

use std::time::{Duration, Instant, SystemTime};

use crate::rules::time::Timestamp;

/// Time since the process began; it never steps back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The wall clock: what expiry is judged by. It may step.
    fn now(&self) -> Timestamp;

    /// The monotonic clock: what durations are measured by.
    fn monotonic(&self) -> Monotonic;

    /// What to set a runtime's timer to, so that it fires `wait` after `now`.
    fn timer(&self, now: Monotonic, wait: Duration) -> tokio::time::Instant;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::EPOCH.plus(since_epoch)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.origin.elapsed())
    }

    fn timer(&self, now: Monotonic, wait: Duration) -> tokio::time::Instant {
        (self.origin + now.0 + wait).into()
    }
}
