//! Tokens that were verified, remembered by their digests.
//!
//! Whether one is still good is judged on every request, so that nothing here ever has to be forgotten:
//! what does not fit is verified again.

use std::sync::Arc;

use ahash::RandomState;
use moka::sync::Cache;

use super::near::Near;
use crate::rules::api_key::Digest;

/// What weighs more has no copies.
const LIGHT: u32 = 2;

/// The only generation.
const ONLY: u64 = 0;

/// Verified tokens by digest.
pub struct Tokens<T: Send + Sync> {
    near: Near<T>,
    verified: Cache<Digest, Arc<T>, RandomState>,
    weigh: fn(&T) -> u32,
}

impl<T: Send + Sync + 'static> Tokens<T> {
    /// Remembers tokens up to this weight in all; an ordinary one weighs 1.
    pub fn new(capacity: u64, weigh: fn(&T) -> u32) -> Self {
        Self {
            near: Near::new(capacity),
            verified: Cache::builder()
                .max_capacity(capacity)
                .weigher(move |_, token: &Arc<T>| weigh(token))
                .build_with_hasher(RandomState::new()),
            weigh,
        }
    }

    /// The token that was verified before.
    pub fn get(&self, digest: &Digest) -> Option<Arc<T>> {
        if let Some(token) = self.near.get(digest, ONLY) {
            return Some(token);
        }
        let token = self.verified.get(digest)?;
        // Copies are counted, not weighed.
        if (self.weigh)(&token) <= LIGHT {
            self.near.put(*digest, ONLY, &token);
        }
        Some(token)
    }

    /// Remembers a token.
    pub fn keep(&self, digest: Digest, token: &Arc<T>) {
        self.verified.insert(digest, Arc::clone(token));
    }
}
