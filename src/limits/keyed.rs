//! Buckets by key, in a table whose size never changes.
//!
//! The table is set-associative, as a processor's cache is: a key's hash names a set of sixteen
//! slots, and the bucket lives in one of them. Where all are taken, the bucket nearest to being empty
//! gives way: first one that is empty anyway, else the one whose loss forgives the least. So a
//! flood of strangers costs a constant time each, moves no memory, and grows nothing.

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;

use crate::platform::Monotonic;
use crate::rules::bucket::Rate;

/// Slots in a set.
const WAYS: usize = 16;

/// Independently locked parts of the table, so that workers seldom meet at a lock.
const SHARDS: usize = 64;

/// A set: the keys' hashes (0 where a slot is free), then the buckets. Plain numbers, so that the
/// allocator hands the table out as zero pages and only what is used becomes resident.
type Set = [[u64; WAYS]; 2];

/// Buckets by key.
pub(super) struct Keyed {
    shards: Box<[Mutex<Box<[Set]>>]>,
    // Keyed by chance: a stranger who could predict sets could push a chosen caller's bucket out.
    hasher: RandomState,
}

impl Keyed {
    /// A table of at least `capacity` buckets.
    pub(super) fn new(capacity: usize, hasher: RandomState) -> Self {
        let sets = capacity.div_ceil(SHARDS * WAYS).max(1).next_power_of_two();
        Self {
            shards: (0..SHARDS)
                .map(|_| Mutex::new(vec![[[0; WAYS]; 2]; sets].into_boxed_slice()))
                .collect(),
            hasher,
        }
    }

    /// Admits one request into the key's bucket, or says how long to wait.
    ///
    /// A key that lost its bucket to others starts with a fresh one.
    pub(super) fn admit(
        &self,
        key: &impl Hash,
        rate: Rate,
        now: Monotonic,
    ) -> Result<(), Duration> {
        let now = now.nanoseconds();
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let [keys, buckets] = set(&mut shard, hash);
        if let Some(slot) = keys.iter().position(|held| *held == hash) {
            buckets[slot] = rate.admit(buckets[slot], now)?;
            return Ok(());
        }
        let fresh = rate.admit(0, now)?;
        // A free slot's bucket is 0, so it is also the emptiest.
        let mut emptiest = 0;
        for slot in 1..WAYS {
            if buckets[slot] < buckets[emptiest] {
                emptiest = slot;
            }
        }
        keys[emptiest] = hash;
        buckets[emptiest] = fresh;
        Ok(())
    }

    /// Takes one admission back, where the key's bucket is still there.
    pub(super) fn refund(&self, key: &impl Hash, rate: Rate) {
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let [keys, buckets] = set(&mut shard, hash);
        if let Some(slot) = keys.iter().position(|held| *held == hash) {
            buckets[slot] = rate.refund(buckets[slot]);
        }
    }

    fn hash(&self, key: &impl Hash) -> u64 {
        // 0 marks a free slot. Two callers whose hashes are equal share a bucket: with 2^16 of them
        // at once, that is one chance in 2^33.
        self.hasher.hash_one(key).max(1)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Box<[Set]>> {
        let place = (hash >> 58) as usize % SHARDS;
        // Nothing in here panics between two writes that belong together.
        self.shards[place]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn set(shard: &mut [Set], hash: u64) -> &mut Set {
    // The length is a power of two; the low bits are independent of the shard's high ones.
    let place = usize::try_from(hash & (shard.len() as u64 - 1)).unwrap_or(0);
    &mut shard[place]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn keyed(capacity: usize) -> Keyed {
        Keyed::new(capacity, RandomState::with_seeds(1, 2, 3, 4))
    }

    fn at(nanoseconds: u64) -> Monotonic {
        Monotonic(Duration::from_nanos(nanoseconds))
    }

    /// The same small generator on every run (splitmix64).
    fn draw(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn slots(keyed: &Keyed) -> usize {
        let sets: usize = keyed.shards.iter().map(|s| s.lock().unwrap().len()).sum();
        sets * WAYS
    }

    #[test]
    fn agrees_with_a_plain_map_while_there_is_room() {
        let keyed = keyed(4_096);
        let mut model: HashMap<u64, u64> = HashMap::new();
        let mut state = 7;
        let mut now = 1;
        let rate = Rate {
            interval: 1_000,
            burst: 4,
        };
        let (mut admitted, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let key = draw(&mut state) % 100;
            now += draw(&mut state) % 20;
            let bucket = model.entry(key).or_default();
            if draw(&mut state).is_multiple_of(10) {
                keyed.refund(&key, rate);
                *bucket = rate.refund(*bucket);
                continue;
            }
            let expected = rate.admit(*bucket, now).map(|next| *bucket = next);
            assert_eq!(keyed.admit(&key, rate, at(now)), expected);
            match expected {
                Ok(()) => admitted += 1,
                Err(_) => refused += 1,
            }
        }
        assert!(admitted > 1_000 && refused > 1_000);
    }

    #[test]
    fn a_flood_of_keys_grows_nothing_and_spares_the_fullest_bucket() {
        let keyed = keyed(1);
        let before = slots(&keyed);
        let rate = Rate {
            interval: 1_000,
            burst: 10,
        };
        while keyed.admit(&"greedy", rate, at(1)).is_ok() {}
        for stranger in 0..100_000_u64 {
            assert_eq!(keyed.admit(&stranger, rate, at(1)), Ok(()));
        }
        assert_eq!(slots(&keyed), before);
        // One request short of its burst, it would have been let in had it lost its bucket.
        assert!(keyed.admit(&"greedy", rate, at(1)).is_err());
    }

    #[test]
    fn an_empty_bucket_gives_way_before_one_in_use() {
        let keyed = keyed(1);
        let rate = Rate {
            interval: 1_000,
            burst: 1,
        };
        // Sixteen keys of one set; the first has long been empty when the seventeenth comes.
        let mut keys = (0_u64..).filter(|key| keyed.hash(key) >> 58 == 0);
        let first = keys.next().unwrap();
        keyed.admit(&first, rate, at(1)).unwrap();
        let others: Vec<u64> = keys.by_ref().take(WAYS - 1).collect();
        for key in &others {
            keyed.admit(key, rate, at(5_000)).unwrap();
        }
        keyed.admit(&keys.next().unwrap(), rate, at(5_000)).unwrap();
        for key in &others {
            assert!(keyed.admit(key, rate, at(5_001)).is_err());
        }
    }

    #[test]
    fn capacity_is_the_least_and_nearly_the_most() {
        for capacity in [0, 1, 1_024, 1_025, 65_536] {
            let slots = slots(&keyed(capacity));
            assert!(slots >= capacity);
            assert!(slots <= (2 * capacity).max(SHARDS * WAYS));
        }
    }
}
