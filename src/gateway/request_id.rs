//! Request ids.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::platform::Platform;
use crate::rules::forwarded::RequestId;

/// Request ids: unguessable enough not to collide, cheap enough to make for every request.
#[derive(Debug)]
pub struct RequestIds {
    /// What each of them begins with.
    begin: [u8; 16],
    seed: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Ids that begin from a random seed.
    pub fn new(platform: &Platform) -> io::Result<Self> {
        let random = || {
            let mut bytes = [0; 8];
            platform.entropy.fill(&mut bytes)?;
            Ok::<_, io::Error>(u64::from_ne_bytes(bytes))
        };
        Ok(Self {
            begin: digits(random()?),
            seed: random()?,
            next: AtomicU64::new(0),
        })
    }

    /// One that was never made before.
    pub(super) fn next(&self) -> RequestId {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; 32];
        let (begin, end) = id.split_at_mut(16);
        begin.copy_from_slice(&self.begin);
        end.copy_from_slice(&digits(mixed(self.seed.wrapping_add(count))));
        RequestId::Made(id)
    }
}

fn digits(half: u64) -> [u8; 16] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 16];
    for (digits, byte) in text.as_chunks_mut().0.iter_mut().zip(half.to_be_bytes()) {
        *digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
    }
    text
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
        for id in [a, b] {
            assert!(id.as_bytes().iter().all(u8::is_ascii_hexdigit));
        }
    }
}
