//! Sign-in nonces: issued without a trace, spent once.
//!
//! A nonce says itself what it is for, sealed with a key that all replicas share; only those that
//! were spent are kept, until they would have expired.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use zeroize::Zeroizing;

use crate::platform::Platform;
use crate::rules::nonce::{self, Nonce, Seal};
use crate::rules::time::Timestamp;
use crate::store::{Store, StoreFault, Swapped, Write};

/// Where the key is that nonces are sealed with.
const SEAL: &str = "nonce_seal";

/// Below which the spent ones are kept.
const SPENT: &str = "nonce/";

/// What seals, reads and spends nonces.
pub struct Nonces {
    store: Arc<Store>,
    /// What they are sealed with, as it was loaded when it was first needed.
    seal: ArcSwapOption<Seal>,
    /// How often it was forgotten.
    generation: AtomicU64,
    platform: Platform,
}

impl Nonces {
    /// Nonces that are sealed with the key in `store`, or with one that is put there.
    pub fn new(store: Arc<Store>, platform: Platform) -> Self {
        Self {
            store,
            seal: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            platform,
        }
    }

    /// What issues and reads nonces, once the key is here; it is loaded when it is first needed.
    pub async fn sealer(&self) -> Result<Sealer<'_>, StoreFault> {
        let platform = &self.platform;
        if let Some(seal) = self.seal.load_full() {
            return Ok(Sealer { seal, platform });
        }
        let generation = self.generation.load(Ordering::Acquire);
        let seal = Arc::new(self.load_seal().await?);
        self.seal.store(Some(Arc::clone(&seal)));
        // Looked at last: whoever forgets counts first.
        if self.generation.load(Ordering::Acquire) != generation {
            self.seal.store(None);
        }
        Ok(Sealer { seal, platform })
    }

    /// Forgets the key: the store may have lost it, and hold another one.
    pub fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.seal.store(None);
    }

    async fn load_seal(&self) -> Result<Seal, StoreFault> {
        loop {
            if let Some(loaded) = self.store.load(SEAL).await? {
                let bytes = <[u8; 32]>::try_from(loaded.value.as_slice());
                let bytes = bytes.map_err(|error| StoreFault::unreadable(SEAL, error))?;
                return Ok(Seal(Zeroizing::new(bytes)));
            }
            let mut made = Zeroizing::new([0; 32]);
            fill(&self.platform, made.as_mut_slice())?;
            let put = write(SEAL.to_owned(), Some(made.to_vec()), None);
            // Where another was faster, its key is taken.
            self.store.swap(vec![put], Vec::new()).await?;
        }
    }

    /// Spends a nonce; false if it was spent before.
    ///
    /// Once this returns, it is spent on disk. If the future is dropped it may have been or not.
    pub async fn spend(&self, nonce: &Nonce) -> Result<bool, StoreFault> {
        let key = format!("{SPENT}{}", nonce.id);
        let until = nonce.expires_at.seconds().to_string().into_bytes();
        let spent = self
            .store
            .swap(vec![write(key, Some(until), None)], Vec::new());
        Ok(spent.await? != Swapped::Conflict)
    }

    /// Deletes the spent ones that have expired; returns how many. Cancel safe.
    pub async fn sweep(&self) -> Result<usize, StoreFault> {
        let now = self.platform.clock.now();
        let mut deleted = 0;
        let mut pages = self.store.pages(SPENT);
        while let Some(page) = pages.next().await? {
            let over = page.iter().filter(|listed| {
                let until = std::str::from_utf8(&listed.record.value).ok();
                let until = until.and_then(|seconds| seconds.parse().ok());
                // A minute more than needed: clocks of replicas differ.
                let until = Timestamp::from_seconds(until.unwrap_or(0));
                until.plus(Duration::from_secs(60)) <= now
            });
            let writes: Vec<Write> = over
                .map(|listed| write(listed.key.clone(), None, Some(listed.record.version)))
                .collect();
            let count = writes.len();
            if count > 0 && self.store.swap_loosely(writes).await? != Swapped::Conflict {
                deleted += count;
            }
        }
        Ok(deleted)
    }
}

fn write(key: String, value: Option<Vec<u8>>, expected: Option<u64>) -> Write {
    Write {
        key,
        expected,
        value,
    }
}

fn fill(platform: &Platform, random: &mut [u8]) -> Result<(), StoreFault> {
    let filled = platform.entropy.fill(random);
    filled.map_err(|error| StoreFault::caused("the machine gives no randomness", error))
}

/// Issues nonces and reads them.
pub struct Sealer<'a> {
    seal: Arc<Seal>,
    platform: &'a Platform,
}

impl Sealer<'_> {
    /// Issues a nonce for this key and domain; nothing is stored.
    pub fn issue(
        &self,
        chain_id: u64,
        ttl: Duration,
        key_id: &str,
        domain: &str,
    ) -> Result<(String, Nonce), StoreFault> {
        let mut random = [0; 12];
        fill(self.platform, &mut random)?;
        let now = self.platform.clock.now();
        Ok(nonce::write(
            &self.seal, &random, chain_id, now, ttl, key_id, domain,
        ))
    }

    /// What a nonce says, if it was issued for this key and domain and has not expired.
    pub fn read(&self, text: &str, key_id: &str, domain: &str) -> Option<Nonce> {
        let nonce = nonce::read(&self.seal, text, key_id, domain)?;
        nonce.is_good(self.platform.clock.now()).then_some(nonce)
    }
}
