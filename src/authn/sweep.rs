//! Deleting what has long been over: in turns, since one replica's sweep serves all of them.

use std::sync::Arc;
use std::time::Duration;

use super::families::Families;
use super::nonces::Nonces;
use super::sessions::Sessions;
use crate::platform::Platform;
use crate::rules::time::Timestamp;
use crate::store::{Store, StoreFault, Swapped, Write};

/// Where it is kept when a sweep last began, in seconds.
const RECORD: &str = "sweep";

/// How far apart two sweeps begin.
pub const PERIOD: Duration = Duration::from_secs(1800);

/// What is swept, and where whose turn it is.
pub struct Sweep {
    store: Arc<Store>,
    sessions: Sessions,
    families: Families,
    nonces: Arc<Nonces>,
    platform: Platform,
}

impl Sweep {
    /// Sweeps what is kept in `store`.
    pub fn new(
        store: Arc<Store>,
        sessions: Sessions,
        families: Families,
        nonces: Arc<Nonces>,
        platform: Platform,
    ) -> Self {
        Self {
            store,
            sessions,
            families,
            nonces,
            platform,
        }
    }

    /// Sweeps unless another did lately, and returns how many records were deleted. Cancel safe.
    ///
    /// One that is broken off is made up for by the next, a [`PERIOD`] later.
    pub async fn turn(&self) -> Result<Option<usize>, StoreFault> {
        if !self.take().await? {
            return Ok(None);
        }
        let nonces = self.nonces.sweep().await?;
        Ok(Some(
            nonces + self.sessions.sweep().await? + self.families.sweep().await?,
        ))
    }

    /// Whether the turn is this replica's.
    async fn take(&self) -> Result<bool, StoreFault> {
        let now = self.platform.clock.now();
        let last = self.store.load(RECORD).await?;
        if last.as_ref().is_some_and(|last| !is_due(&last.value, now)) {
            return Ok(false);
        }
        let took = Write {
            key: RECORD.to_owned(),
            expected: last.map(|last| last.version),
            value: Some(now.seconds().to_string().into_bytes()),
        };
        let taken = self.store.swap_loosely(vec![took]).await;
        // A server without room takes no record, and is given some by a sweep.
        Ok(taken.map_or(true, |taken| taken == Swapped::Committed))
    }
}

/// Whether the last sweep is long ago, or cannot have been when it says it was.
fn is_due(last: &[u8], now: Timestamp) -> bool {
    let last = std::str::from_utf8(last).ok();
    let last = last.and_then(|seconds| seconds.parse().ok());
    last.is_none_or(|seconds| {
        let last = Timestamp::from_seconds(seconds);
        last.plus(PERIOD) <= now || now.plus(PERIOD) < last
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_due_a_period_after_the_last() {
        let now = Timestamp::from_seconds(1_000_000);
        let period = PERIOD.as_secs();
        let due = |last: u64| is_due(last.to_string().as_bytes(), now);
        assert!(due(1_000_000 - period) && !due(1_000_000 - period + 1));
        assert!(!due(1_000_000 + period), "clocks differ");
        assert!(due(1_000_001 + period), "a clock that was wrong");
        assert!(is_due(b"", now) && is_due(b"\xff", now) && is_due(b"soon", now));
    }
}
