//! Rate limits a caller, bounded in memory.
//!
//! The arithmetic is `rules::bucket`'s; here is where its numbers are kept, and for whom. Limits hold
//! in this process alone: replicas do not share them. Time is the monotonic clock's, handed in.

mod callers;
mod failed;
mod keyed;

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

/// A wait as `Retry-After` tells it: whole seconds, never too few, at least 1 (RFC 9110 §10.2.3).
fn retry_after(wait: Duration) -> u64 {
    let partial = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(partial).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_round_up_to_whole_seconds() {
        assert_eq!(retry_after(Duration::from_nanos(1)), 1);
        assert_eq!(retry_after(Duration::from_secs(2)), 2);
        assert_eq!(retry_after(Duration::from_millis(2_001)), 3);
        assert_eq!(retry_after(Duration::ZERO), 1);
        assert_eq!(retry_after(Duration::MAX), u64::MAX);
    }
}
