//! A clock that the test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gatelet::platform::{Clock, Monotonic, Platform};
use gatelet::rules::time::Timestamp;

/// What the clock says at first: some time of the year 2027.
pub(super) const BEGIN: u64 = 1_800_000_000;

/// Stands still until it is moved; its clones are one clock.
#[derive(Clone, Default)]
pub(crate) struct HandClock(Arc<AtomicU64>);

impl HandClock {
    /// Moves the clock on.
    pub(crate) fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap();
        self.0.fetch_add(by, Ordering::SeqCst);
    }

    /// This clock, and what else the operating system gives.
    pub(crate) fn platform(&self) -> Platform {
        Platform {
            clock: Arc::new(self.clone()),
            ..Platform::system()
        }
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(BEGIN).plus(self.monotonic().0)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(Duration::from_nanos(self.0.load(Ordering::SeqCst)))
    }

    fn timer(&self, _: Monotonic, wait: Duration) -> tokio::time::Instant {
        tokio::time::Instant::now() + wait
    }
}
