//! What the store said of a digest: hits, misses, and one load at a time for each.
//!
//! A load that began before a revocation must not bring the revoked value back after it. Every
//! digest belongs to a shard with a generation; a change raises it, and a load keeps its value
//! only if the generation is still the one it began with. Storing and raising happen under the
//! shard's lock, which a hit never takes.
//!
//! Each worker has copies of what it found, which are of a generation of their own: it is read before
//! what is shared, and raised after that was forgotten or loaded anew, so that what is copied late is
//! not believed, and no copy contradicts what is shared.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::RandomState;
use moka::sync::Cache;
use tokio::sync::watch;

use super::freshness::Freshness;
use super::near::Near;
use crate::platform::Monotonic;
use crate::rules::api_key::Digest;

const SHARDS: usize = 64;

/// A load failed; nothing was remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadFailed;

/// What is known without asking the store.
#[derive(Debug)]
pub enum Known<V> {
    /// The store holds this.
    Value(Arc<V>),
    /// The store holds nothing.
    Nothing,
    /// The store has to be asked.
    Unasked,
}

/// Values that a store holds by digest, and digests that it does not hold.
pub struct Verdicts<V: Send + Sync> {
    near: Near<V>,
    values: Cache<Digest, Arc<V>, RandomState>,
    /// Kept apart, so that a flood of unknown digests evicts no value.
    nothings: Cache<Digest, (), RandomState>,
    shards: [Shard<V>; SHARDS],
}

struct Shard<V> {
    loads: Mutex<Loads<V>>,
    /// The generation of the workers' copies.
    copies: AtomicU64,
}

struct Loads<V> {
    generation: u64,
    flights: HashMap<Digest, watch::Receiver<Landing<V>>, RandomState>,
}

/// `None` while the load is under way.
type Landing<V> = Option<Result<Option<Arc<V>>, LoadFailed>>;

impl<V: Send + Sync + 'static> Verdicts<V> {
    /// Remembers at most `capacity` values and as many digests without one.
    pub fn new(capacity: u64) -> Self {
        Self {
            near: Near::new(capacity),
            values: Cache::builder()
                .max_capacity(capacity)
                .build_with_hasher(RandomState::new()),
            nothings: Cache::builder()
                .max_capacity(capacity)
                .build_with_hasher(RandomState::new()),
            shards: std::array::from_fn(|_| Shard {
                loads: Mutex::new(Loads {
                    generation: 0,
                    flights: HashMap::default(),
                }),
                copies: AtomicU64::new(0),
            }),
        }
    }

    /// What is remembered of `digest`.
    pub fn known(&self, digest: &Digest) -> Known<V> {
        // Whoever sees the one that came with forgetting sees what was forgotten.
        let generation = self.shard(digest).copies.load(Ordering::Acquire);
        if let Some(value) = self.near.get(digest, generation) {
            return Known::Value(value);
        }
        if let Some(value) = self.values.get(digest) {
            self.near.put(*digest, generation, &value);
            return Known::Value(value);
        }
        if self.nothings.contains_key(digest) {
            return Known::Nothing;
        }
        Known::Unasked
    }

    /// What is remembered of `digest`, and whether the store vouches for it.
    ///
    /// In this order: what is forgotten before the store is heard is not read after it. In the other
    /// one a verdict could be read, be forgotten, and be believed on the word of the very answer that
    /// made it forgotten.
    pub fn vouched(
        &self,
        digest: &Digest,
        freshness: &Freshness,
        now: Monotonic,
    ) -> (Known<V>, bool) {
        let vouched = freshness.vouches(now);
        (self.known(digest), vouched)
    }

    /// Whether the store is being asked for `digest`, so that [`Verdicts::load`] would only join.
    pub fn is_asked(&self, digest: &Digest) -> bool {
        self.shard(digest).loads().flights.contains_key(digest)
    }

    /// Asks the store with `load`, or joins a load of the same digest that is under way.
    ///
    /// A load begun before the digest last changed is not joined. Cancel safe: the load runs on,
    /// and others may be waiting for it.
    pub async fn load<F>(
        self: &Arc<Self>,
        digest: Digest,
        load: impl FnOnce() -> F,
    ) -> Result<Option<Arc<V>>, LoadFailed>
    where
        F: Future<Output = Result<Option<V>, LoadFailed>> + Send + 'static,
    {
        let mut landing = self.join_or_start(digest, load);
        let landed = landing.wait_for(Option::is_some).await;
        match landed {
            Ok(landed) => landed.clone().unwrap_or(Err(LoadFailed)),
            Err(_) => Err(LoadFailed),
        }
    }

    fn join_or_start<F>(
        self: &Arc<Self>,
        digest: Digest,
        load: impl FnOnce() -> F,
    ) -> watch::Receiver<Landing<V>>
    where
        F: Future<Output = Result<Option<V>, LoadFailed>> + Send + 'static,
    {
        let mut loads = self.shard(&digest).loads();
        if let Some(flight) = loads.flights.get(&digest) {
            return flight.clone();
        }
        let (sender, receiver) = watch::channel(None);
        loads.flights.insert(digest, receiver.clone());
        let generation = loads.generation;
        drop(loads);
        let loading = load();
        let verdicts = Arc::clone(self);
        tokio::spawn(async move {
            let landing = Landed {
                verdicts,
                digest,
                generation,
            };
            let result = loading.await.map(|value| value.map(Arc::new));
            landing.keep(&result);
            sender.send_replace(Some(result));
        });
        receiver
    }

    /// Forgets what is known of these digests; a load under way keeps nothing.
    pub fn forget(&self, digests: &[Digest]) {
        for digest in digests {
            let shard = self.shard(digest);
            let mut loads = shard.loads();
            loads.outdate();
            self.values.invalidate(digest);
            self.nothings.invalidate(digest);
            shard.outdate_copies();
        }
    }

    /// Forgets everything; loads under way keep nothing.
    pub fn forget_all(&self) {
        for shard in &self.shards {
            shard.loads().outdate();
        }
        self.values.invalidate_all();
        self.nothings.invalidate_all();
        for shard in &self.shards {
            shard.outdate_copies();
        }
    }

    fn shard(&self, digest: &Digest) -> &Shard<V> {
        &self.shards[usize::from(digest.0[0]) % SHARDS]
    }
}

impl<V> Shard<V> {
    fn loads(&self) -> MutexGuard<'_, Loads<V>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was copied of the shard until now is believed no more.
    fn outdate_copies(&self) {
        self.copies.fetch_add(1, Ordering::Release);
    }
}

impl<V> Loads<V> {
    /// Those under way keep nothing, and whoever asks from here on starts one of its own.
    fn outdate(&mut self) {
        self.generation += 1;
        self.flights.clear();
    }
}

/// A load under way; when it ends, however it ends, it is no longer joined.
struct Landed<V: Send + Sync + 'static> {
    verdicts: Arc<Verdicts<V>>,
    digest: Digest,
    generation: u64,
}

impl<V: Send + Sync + 'static> Landed<V> {
    fn keep(&self, result: &Result<Option<Arc<V>>, LoadFailed>) {
        let shard = self.verdicts.shard(&self.digest);
        let loads = shard.loads();
        if loads.generation != self.generation {
            return;
        }
        match result {
            Ok(Some(value)) => self.verdicts.values.insert(self.digest, Arc::clone(value)),
            Ok(None) => self.verdicts.nothings.insert(self.digest, ()),
            Err(LoadFailed) => return,
        }
        // Of what was evicted and is loaded anew there may be copies.
        shard.outdate_copies();
    }
}

impl<V: Send + Sync + 'static> Drop for Landed<V> {
    fn drop(&mut self) {
        let mut loads = self.verdicts.shard(&self.digest).loads();
        if loads.generation == self.generation {
            loads.flights.remove(&self.digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    fn value(verdicts: &Verdicts<u32>, byte: u8) -> Option<u32> {
        match verdicts.known(&digest(byte)) {
            Known::Value(value) => Some(*value),
            Known::Nothing | Known::Unasked => None,
        }
    }

    #[tokio::test]
    async fn one_load_serves_all_who_ask_at_once() {
        let verdicts = Arc::new(Verdicts::<u32>::new(100));
        let loads = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let loads = Arc::clone(&loads);
            verdicts.load(digest(1), move || async move {
                loads.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(Some(7))
            })
        };
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        assert_eq!([a, b, c].map(|got| got.unwrap().map(|v| *v)), [Some(7); 3]);
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        assert_eq!(value(&verdicts, 1), Some(7));
    }

    #[tokio::test]
    async fn a_load_begun_before_a_change_keeps_nothing_and_is_not_joined() {
        let verdicts = Arc::new(Verdicts::<u32>::new(100));
        let (release, released) = oneshot::channel::<()>();
        let early = tokio::spawn({
            let verdicts = Arc::clone(&verdicts);
            async move {
                verdicts
                    .load(digest(1), move || async move {
                        let _ = released.await;
                        Ok(Some(1))
                    })
                    .await
            }
        });
        tokio::task::yield_now().await;
        verdicts.forget(&[digest(1)]);
        let late = verdicts.load(digest(1), || async { Ok(Some(2)) }).await;
        assert_eq!(late.unwrap().map(|v| *v), Some(2));
        release.send(()).unwrap();
        assert_eq!(early.await.unwrap().unwrap().map(|v| *v), Some(1));
        assert_eq!(
            value(&verdicts, 1),
            Some(2),
            "the early load must not overwrite"
        );
    }

    #[tokio::test]
    async fn what_is_loaded_anew_takes_the_place_of_every_copy() {
        let verdicts = Arc::new(Verdicts::<u32>::new(100));
        let load = |found: Option<u32>| verdicts.load(digest(1), move || async move { Ok(found) });
        load(Some(1)).await.unwrap();
        assert_eq!(value(&verdicts, 1), Some(1), "and it is copied");
        for found in [Some(2), None] {
            // As if others had taken its place.
            verdicts.values.invalidate(&digest(1));
            load(found).await.unwrap();
            assert_eq!(value(&verdicts, 1), found);
        }
    }

    #[tokio::test]
    async fn a_failed_load_is_not_remembered_and_nothing_is() {
        let verdicts = Arc::new(Verdicts::<u32>::new(100));
        let failed = verdicts.load(digest(1), || async { Err(LoadFailed) }).await;
        assert_eq!(failed, Err(LoadFailed));
        assert!(matches!(verdicts.known(&digest(1)), Known::Unasked));
        let nothing = verdicts.load(digest(1), || async { Ok(None) }).await;
        assert_eq!(nothing, Ok(None));
        assert!(matches!(verdicts.known(&digest(1)), Known::Nothing));
        verdicts.forget(&[digest(1)]);
        assert!(matches!(verdicts.known(&digest(1)), Known::Unasked));
    }

    #[tokio::test]
    async fn forgetting_all_reaches_loads_under_way() {
        let verdicts = Arc::new(Verdicts::<u32>::new(100));
        verdicts
            .load(digest(1), || async { Ok(Some(1)) })
            .await
            .unwrap();
        let (release, released) = oneshot::channel::<()>();
        let flying = tokio::spawn({
            let verdicts = Arc::clone(&verdicts);
            async move {
                verdicts
                    .load(digest(2), move || async move {
                        let _ = released.await;
                        Ok(Some(2))
                    })
                    .await
            }
        });
        tokio::task::yield_now().await;
        verdicts.forget_all();
        release.send(()).unwrap();
        flying.await.unwrap().unwrap();
        assert_eq!(value(&verdicts, 1), None);
        assert_eq!(value(&verdicts, 2), None);
    }

    #[test]
    fn nothing_is_believed_on_the_word_of_what_made_it_forgotten() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let verdicts = Arc::new(Verdicts::<u32>::new(100));
        let freshness = Freshness::new(Duration::from_secs(1));
        for round in 1..=3_000 {
            let now = Monotonic(Duration::from_secs(10 * round));
            runtime
                .block_on(verdicts.load(digest(1), || async { Ok(Some(1)) }))
                .unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    if round % 32 == 0 {
                        verdicts.forget_all();
                    } else {
                        verdicts.forget(&[digest(1)]);
                    }
                    freshness.hear(now);
                });
                loop {
                    match verdicts.vouched(&digest(1), &freshness, now) {
                        (known, false) => drop(known),
                        (Known::Unasked, true) => break,
                        (known, true) => panic!("round {round}: {known:?} is believed"),
                    }
                }
            });
        }
    }
}
