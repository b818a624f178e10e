//! Request ids.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

use crate::platform::Platform;
use crate::wire::scratch;

/// Request ids: unguessable enough not to collide, cheap enough to make for every request.
#[derive(Debug)]
pub struct RequestIds {
    seed: [u64; 2],
    next: AtomicU64,
}

impl RequestIds {
    /// Ids that begin from a random seed.
    pub fn new(platform: &Platform) -> io::Result<Self> {
        let mut seed = [[0; 8]; 2];
        for half in &mut seed {
            platform.entropy.fill(half)?;
        }
        Ok(Self {
            seed: seed.map(u64::from_ne_bytes),
            next: AtomicU64::new(0),
        })
    }

    /// One that was never made before.
    pub(super) fn next(&self) -> HeaderValue {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let low = mixed(self.seed[1].wrapping_add(count));
        let id = u128::from(self.seed[0]) << 64 | u128::from(low);
        let mut text = [0; 32];
        for (digits, byte) in text.as_chunks_mut().0.iter_mut().zip(id.to_be_bytes()) {
            *digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        }
        HeaderValue::from_maybe_shared(scratch::kept(&text))
            .unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

/// A bijection that scatters neighbours (the finaliser of splitmix64).
fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_differ_and_are_32_hex_digits() {
        let ids = RequestIds::new(&Platform::system()).unwrap();
        let (a, b) = (ids.next(), ids.next());
        assert_ne!(a, b);
        assert_eq!(a.len(), 32);
    }
}
