//! Each worker's own copies of what all of them remember.
//!
//! A worker that finds a copy writes nothing that another one reads but the count of the value's users,
//! and finds it in one place of memory. What is shared is asked again now and then, so that it knows what
//! is in use.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use thread_local::ThreadLocal;

use crate::rules::api_key::Digest;

/// How many copies a worker has at most.
const MOST: usize = 8 * 1024;

/// One in so many uses of a copy is told to what is shared.
const TOLD: u32 = 64;

/// Copies of values by digest, apart for each thread.
pub(super) struct Near<V: Send + Sync> {
    tables: ThreadLocal<RefCell<Table<V>>>,
    most: usize,
}

type Table<V> = HashMap<Digest, Copied<V>, RandomState>;

struct Copied<V> {
    value: Arc<V>,
    /// Of the shared value, when it was copied.
    generation: u64,
    uses: u32,
}

impl<V: Send + Sync> Near<V> {
    /// No copies yet of what is remembered of `capacity` digests.
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            tables: ThreadLocal::new(),
            most: usize::try_from(capacity).map_or(MOST, |capacity| capacity.min(MOST)),
        }
    }

    /// The copy of `digest`, if it is of this generation.
    #[inline]
    pub(super) fn get(&self, digest: &Digest, generation: u64) -> Option<Arc<V>> {
        let mut table = self.tables.get()?.borrow_mut();
        let copy = table.get_mut(digest)?;
        copy.uses = copy.uses.wrapping_add(1);
        let is_usable = copy.generation == generation && copy.uses % TOLD != 0;
        is_usable.then(|| Arc::clone(&copy.value))
    }

    /// Copies a value that was found in what is shared; `generation` was read before that.
    pub(super) fn put(&self, digest: Digest, generation: u64, value: &Arc<V>) {
        if self.most == 0 {
            return;
        }
        let mut table = self.tables.get_or_default().borrow_mut();
        let is_new = !table.contains_key(&digest);
        if is_new && table.len() >= self.most {
            table.clear();
        }
        let value = Arc::clone(value);
        table.insert(
            digest,
            Copied {
                value,
                generation,
                uses: 0,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u64) -> Digest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Digest(bytes)
    }

    #[test]
    fn a_copy_is_of_its_generation_alone() {
        let near = Near::new(10);
        near.put(digest(1), 7, &Arc::new("value"));
        assert_eq!(near.get(&digest(1), 7).as_deref(), Some(&"value"));
        assert_eq!(near.get(&digest(1), 8), None);
        assert_eq!(near.get(&digest(2), 7), None);
    }

    #[test]
    fn what_is_shared_hears_of_what_is_in_use() {
        let near = Near::new(10);
        near.put(digest(1), 0, &Arc::new(()));
        let uses = 10 * TOLD;
        let told = (0..uses).filter(|_| near.get(&digest(1), 0).is_none());
        assert_eq!(told.count(), 10);
    }

    #[test]
    fn there_are_no_more_copies_than_may_be_remembered() {
        for (capacity, most) in [(0, 0), (3, 3), (u64::MAX, MOST)] {
            let near = Near::new(capacity);
            for number in 0..2 * MOST as u64 {
                near.put(digest(number), 0, &Arc::new(()));
                let copies = near.tables.get().map_or(0, |table| table.borrow().len());
                assert!(copies <= most, "{capacity}");
            }
        }
    }

    #[test]
    fn each_thread_has_its_own() {
        let near = Near::new(10);
        near.put(digest(1), 0, &Arc::new(()));
        std::thread::scope(|scope| {
            let elsewhere = scope.spawn(|| near.get(&digest(1), 0).is_some());
            assert!(!elsewhere.join().unwrap());
        });
    }
}
