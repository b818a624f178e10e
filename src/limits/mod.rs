//! Rate limits a caller, bounded in memory.
//!
//! The arithmetic is `rules::bucket`'s; here is where its numbers are kept, and for whom. Limits hold
//! in this process alone: replicas do not share them. Time is the monotonic clock's, handed in.

mod callers;
mod failed;
mod keyed;

use std::net::IpAddr;
use std::time::Duration;

pub use callers::{Bucket, Caller, Callers};
pub use failed::FailedAuthentications;

use crate::rules::bucket::Rate;

/// The limits that hold for every route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Unknown credentials a client address; an IPv6 client is its /64.
    pub failed_authentications: Rate,
}

/// How much of an address tells one client from another.
///
/// A whole IPv6 /64 is one client, since that is the least a network hands out: whoever holds one
/// could otherwise come from 2⁶⁴ addresses in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4(u32),
    V6(u64),
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6(
                    u64::from(a) << 48 | u64::from(b) << 32 | u64::from(c) << 16 | u64::from(d),
                )
            }
        }
    }
}

/// A wait as `Retry-After` tells it: whole seconds, never too few, at least 1 (RFC 9110 §10.2.3).
fn retry_after(wait: Duration) -> u64 {
    let partial = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(partial).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn one_client_is_one_network() {
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_ne!(network("::"), network("0.0.0.0"));
    }

    #[test]
    fn waits_round_up_to_whole_seconds() {
        assert_eq!(retry_after(Duration::from_nanos(1)), 1);
        assert_eq!(retry_after(Duration::from_secs(2)), 2);
        assert_eq!(retry_after(Duration::from_millis(2_001)), 3);
        assert_eq!(retry_after(Duration::ZERO), 1);
        assert_eq!(retry_after(Duration::MAX), u64::MAX);
    }
}
