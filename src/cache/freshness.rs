//! How long ago the store was heard from, as every worker can see it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::platform::Monotonic;
use crate::rules::feed::following;

/// The longest that a store without news is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What stands for a time that has never been.
const NEVER: u64 = u64::MAX;

/// When the store was last heard from. Verdicts that came from it are believed for so long after.
#[derive(Debug)]
pub struct Freshness {
    /// In nanoseconds, as the other.
    heard: AtomicU64,
    max_staleness: AtomicU64,
}

impl Freshness {
    /// Not heard from yet, and believed for `max_staleness` after each time.
    pub fn new(max_staleness: Duration) -> Self {
        Self {
            heard: AtomicU64::new(NEVER),
            max_staleness: AtomicU64::new(nanoseconds(max_staleness)),
        }
    }

    /// Whether the store was ever heard from.
    pub fn began(&self) -> bool {
        self.heard.load(Ordering::Relaxed) != NEVER
    }

    /// From now on, verdicts are believed for `max_staleness` after the store was heard from.
    pub fn believe_for(&self, max_staleness: Duration) {
        let max_staleness = nanoseconds(max_staleness);
        self.max_staleness.store(max_staleness, Ordering::Relaxed);
    }

    /// Whether what the store said may be believed now.
    pub fn vouches(&self, now: Monotonic) -> bool {
        // Whoever sees that it was heard sees what was forgotten before.
        let heard = self.heard.load(Ordering::Acquire);
        let heard = (heard != NEVER).then(|| Duration::from_nanos(heard));
        following::vouches(heard, now.0, self.max_staleness())
    }

    /// How long the store may be silent without being doubted: what it said when it was asked has to
    /// be believed until it is asked again.
    pub(super) fn patience(&self) -> Duration {
        (self.max_staleness() / 4).min(LONGEST_WAIT)
    }

    /// It was heard from, and what has become wrong was forgotten.
    pub fn hear(&self, now: Monotonic) {
        self.heard.store(now.nanoseconds(), Ordering::Release);
    }

    fn max_staleness(&self) -> Duration {
        Duration::from_nanos(self.max_staleness.load(Ordering::Relaxed))
    }
}

/// A duration as an atomic holds it; 584 years are the most.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_the_store_is_believed_can_change() {
        let at = |second| Monotonic(Duration::from_secs(second));
        let freshness = Freshness::new(Duration::from_secs(10));
        assert!(!freshness.began() && !freshness.vouches(at(0)));
        freshness.hear(at(5));
        assert!(freshness.began());
        assert!(freshness.vouches(at(15)) && !freshness.vouches(at(16)));
        freshness.believe_for(Duration::from_secs(3));
        assert!(freshness.vouches(at(8)) && !freshness.vouches(at(9)));
        freshness.hear(at(9));
        assert!(freshness.vouches(at(12)) && !freshness.vouches(at(13)));
    }
}
