//! Token buckets as a single point of time: the generic cell rate algorithm.

/// A rate with its burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds between two requests at the sustained rate; at least 1.
    pub interval: u64,
    /// How many requests may come at once; at least 1.
    pub burst: u32,
}
