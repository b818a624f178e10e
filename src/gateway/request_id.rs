//! Request ids.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::platform::Platform;
use crate::rules::forwarded::RequestId;

/// One worker's request ids: unguessable enough not to collide, cheap enough to make for every request.
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

    /// One that was never made before, where one thread alone makes them.
    pub(super) fn next(&self) -> RequestId {
        let count = self.next.load(Ordering::Relaxed);
        self.next.store(count.wrapping_add(1), Ordering::Relaxed);
        let mut id = [0; 32];
        let (begin, end) = id.split_at_mut(16);
        begin.copy_from_slice(&self.begin);
        end.copy_from_slice(&digits(mixed(self.seed.wrapping_add(count))));
        RequestId::Made(id)
    }
}

/// The hexadecimal digits of a number, all at once.
fn digits(half: u64) -> [u8; 16] {
    const ONES: u128 = u128::from_ne_bytes([1; 16]);
    // Each half of what there is moves away from the other, until each byte has four bits.
    let mut digits = u128::from(half);
    for bits in [32, 16, 8, 4] {
        let kept = u128::MAX / ((1 << bits) + 1);
        digits = (digits | digits << bits) & kept;
    }
    // From ten on, with six added, the fifth bit says so.
    let letters = ((digits + ONES * 6) >> 4) & ONES;
    let text = digits + ONES * u128::from(b'0') + letters * u128::from(b'a' - b'0' - 10);
    text.to_be_bytes()
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
    fn digits_are_those_of_the_number() {
        let mut value = 0;
        for round in 0..10_000 {
            assert_eq!(digits(value), format!("{value:016x}").as_bytes());
            value = mixed(value.wrapping_add(round));
        }
        for value in [u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(digits(value), format!("{value:016x}").as_bytes());
        }
    }

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
