//! Points in time, as values that the caller hands in.

use std::time::Duration;

/// A point of wall-clock time, in nanoseconds since the Unix epoch.
///
/// Expiry is judged with these. The clock behind them may step; nothing here assumes that a later
/// reading is a larger one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// The time `nanoseconds` after the epoch.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// The time `seconds` after the epoch; what does not fit saturates (in the year 2554).
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down: the unit of every time gatelet answers with.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// This time, or the next whole second if it lies between two.
    #[must_use]
    pub const fn ceiled(self) -> Self {
        Self::from_seconds(self.0.div_ceil(1_000_000_000))
    }

    /// This time plus `duration`; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(saturating_nanoseconds(duration)))
    }

    /// This time minus `duration`; stops at the epoch.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_nanoseconds(duration)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn saturating_nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
