//! The numbers themselves: counters and histograms that one shard of a series holds.
//!
//! A shard is written by one thread alone, so that a write is a load and a store, with no locked
//! instruction and on a cache line that nobody else writes. Shards are exact on their own, so sums
//! over them are.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A counter for each value of a label.
#[derive(Debug)]
pub(super) struct Tally<const N: usize>([AtomicU64; N]);

impl<const N: usize> Tally<N> {
    pub(super) fn add(&self, value: usize) {
        add(&self.0[value], 1);
    }

    /// The counters, summed over shards.
    pub(super) fn sum<'a>(shards: impl Iterator<Item = &'a Self>) -> [u64; N] {
        let mut sum = [0; N];
        for shard in shards {
            for (sum, cell) in sum.iter_mut().zip(&shard.0) {
                *sum += cell.load(Ordering::Relaxed);
            }
        }
        sum
    }
}

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// Durations, counted by upper bounds, which are nanoseconds in rising order.
#[derive(Debug)]
pub(super) struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    within: [AtomicU64; N],
    beyond: AtomicU64,
    sum: AtomicU64,
}

/// A histogram at one moment, summed over shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Each bound with how many durations lay at or below it.
    pub(super) cumulative: Vec<(u64, u64)>,
    /// How many durations there were. Counted from the same cells, so never less than a bucket.
    pub(super) count: u64,
    /// Their sum, in nanoseconds.
    pub(super) sum: u64,
}

impl<const N: usize> Histogram<N> {
    pub(super) fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            within: array::from_fn(|_| AtomicU64::new(0)),
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a duration, where one thread alone does.
    pub(super) fn observe(&self, duration: Duration) {
        let nanoseconds = nanoseconds(duration);
        add(self.cell(nanoseconds), 1);
        add(&self.sum, nanoseconds);
    }

    /// Counts a duration, where several threads do.
    pub(super) fn observe_shared(&self, duration: Duration) {
        let nanoseconds = nanoseconds(duration);
        self.cell(nanoseconds).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    fn cell(&self, nanoseconds: u64) -> &AtomicU64 {
        // Most durations are short, and lie at or below one of the first bounds.
        let mut cells = self.bounds.iter().zip(&self.within);
        cells
            .find_map(|(bound, cell)| (nanoseconds <= *bound).then_some(cell))
            .unwrap_or(&self.beyond)
    }

    /// The histogram, summed over shards of the same bounds.
    pub(super) fn read<'a>(shards: impl Iterator<Item = &'a Self>) -> Reading {
        let mut bounds: &[u64] = &[];
        let (mut within, mut beyond, mut sum) = ([0; N], 0, 0_u64);
        for shard in shards {
            bounds = shard.bounds;
            for (within, cell) in within.iter_mut().zip(&shard.within) {
                *within += cell.load(Ordering::Relaxed);
            }
            beyond += shard.beyond.load(Ordering::Relaxed);
            sum = sum.wrapping_add(shard.sum.load(Ordering::Relaxed));
        }
        let mut count = 0;
        let cumulative = bounds
            .iter()
            .zip(within)
            .map(|(bound, within)| {
                count += within;
                (*bound, count)
            })
            .collect();
        Reading {
            cumulative,
            count: count + beyond,
            sum,
        }
    }
}

/// Adds to a cell that no other thread writes.
fn add(cell: &AtomicU64, amount: u64) {
    let sum = cell.load(Ordering::Relaxed).wrapping_add(amount);
    cell.store(sum, Ordering::Relaxed);
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [u64; 3] = [10, 100, 1_000];

    fn reading(observed: &[&[u64]]) -> Reading {
        let shards: Vec<Histogram<3>> = observed
            .iter()
            .map(|durations| {
                let shard = Histogram::new(&BOUNDS);
                for nanoseconds in *durations {
                    shard.observe(Duration::from_nanos(*nanoseconds));
                }
                shard
            })
            .collect();
        Histogram::read(shards.iter())
    }

    #[test]
    fn a_bound_includes_itself() {
        let reading = reading(&[&[0, 10, 11, 100, 101, 1_000, 1_001, 9_999]]);
        assert_eq!(reading.cumulative, [(10, 2), (100, 4), (1_000, 6)]);
        assert_eq!(reading.count, 8);
        assert_eq!(reading.sum, 12_222);
    }

    #[test]
    fn shards_add_up() {
        let apart = reading(&[&[5, 5_000], &[], &[50, 500]]);
        assert_eq!(apart, reading(&[&[5, 50, 500, 5_000]]));
    }

    #[test]
    fn an_absurd_duration_is_counted() {
        let shard = Histogram::new(&BOUNDS);
        shard.observe(Duration::MAX);
        assert_eq!(Histogram::read([&shard].into_iter()).count, 1);
    }

    #[test]
    fn tallies_add_up_by_value() {
        let (one, other) = (Tally::<3>::default(), Tally::<3>::default());
        one.add(0);
        one.add(2);
        other.add(2);
        assert_eq!(Tally::sum([&one, &other].into_iter()), [1, 0, 2]);
    }
}
