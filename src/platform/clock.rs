//! Wall-clock and monotonic time.

use std::sync::atomic::{AtomicU64, Ordering};
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

    /// The same in nanoseconds; 584 years are the most.
    pub fn nanoseconds(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The wall clock: what expiry is judged by. It may step.
    fn now(&self) -> Timestamp;

    /// What the wall clock says at `now`, which was read just before. A step of the wall clock
    /// shows within a millisecond.
    fn wall(&self, now: Monotonic) -> Timestamp {
        let _ = now;
        self.now()
    }

    /// The monotonic clock: what durations are measured by.
    fn monotonic(&self) -> Monotonic;

    /// What to set a runtime's timer to, so that it fires `wait` after `now`.
    fn timer(&self, now: Monotonic, wait: Duration) -> tokio::time::Instant;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
    /// What the wall clock said at the origin, in nanoseconds since the epoch, by its last reading.
    epoch: AtomicU64,
    /// When that was read, in nanoseconds since the origin.
    read: AtomicU64,
}

/// How long a reading of the wall clock is carried on with the monotonic one, in nanoseconds.
const CARRIED: u64 = 1_000_000;

impl SystemClock {
    /// A clock whose monotonic time begins now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
            epoch: AtomicU64::new(0),
            // Nothing was read yet: the first reading is due at once.
            read: AtomicU64::new(u64::MAX),
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

    fn wall(&self, now: Monotonic) -> Timestamp {
        let now = Timestamp::EPOCH.plus(now.0).nanoseconds();
        // Two threads may read at once, and one may see the other's halves mixed: each is right
        // to within what the clock stepped in a millisecond. The epoch is never older than the time
        // of its reading: at the start it is 1970, when nothing had expired.
        if now.wrapping_sub(self.read.load(Ordering::Acquire)) < CARRIED {
            let epoch = self.epoch.load(Ordering::Relaxed);
            return Timestamp::from_nanoseconds(epoch.saturating_add(now));
        }
        let wall = self.now();
        let epoch = wall.nanoseconds().saturating_sub(now);
        self.epoch.store(epoch, Ordering::Relaxed);
        self.read.store(now, Ordering::Release);
        wall
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.origin.elapsed())
    }

    fn timer(&self, now: Monotonic, wait: Duration) -> tokio::time::Instant {
        (self.origin + now.0 + wait).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_carried_on_for_a_millisecond() {
        let clock = SystemClock::new();
        let first = clock.wall(Monotonic(Duration::from_secs(5)));
        let later = |after| clock.wall(Monotonic(Duration::from_secs(5) + after));
        let carried = Duration::from_nanos(CARRIED - 1);
        assert_eq!(later(carried), first.plus(carried));
        for now in [5_001, 4_000].map(Duration::from_millis) {
            let before = clock.now();
            let read = clock.wall(Monotonic(now));
            assert!((before..=clock.now()).contains(&read), "read anew");
        }
    }
}
