//! What the store said, remembered: hits, misses, and what makes them forgotten.

pub mod feed;
pub mod freshness;
#[cfg(test)]
mod model;
mod near;
pub mod tokens;
pub mod verdicts;

use std::time::Duration;

/// How much is remembered, and for how long it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The most credentials of a kind that are remembered at once, beside the workers' copies.
    pub capacity: u64,
    /// The longest that a verdict from the store is believed without having heard from the store.
    pub max_staleness: Duration,
}
