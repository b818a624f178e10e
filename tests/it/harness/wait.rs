//! Waiting on conditions, with a bound.

use std::time::{Duration, Instant};

/// The longest that anything is waited for unless a test says less.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

/// Waits until `condition` holds and says how long that took.
///
/// Panics with `what` when it does not hold within [`BOUND`].
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) -> Duration {
    within(BOUND, what, condition)
}

/// As [`eventually`], with a bound of its own.
pub(crate) fn within(bound: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    loop {
        if condition() {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < bound, "not within {bound:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
