//! The limits of routes and of keys.

use std::fmt;
use std::net::IpAddr;

use ahash::RandomState;

use super::keyed::Keyed;
use super::retry_after;
use crate::platform::Monotonic;
use crate::rules::bucket::Rate;
use crate::rules::client::Network;

/// The most callers whose buckets are kept at once; a mebibyte, once all are in use.
const CAPACITY: usize = 65_536;

/// Whose requests are counted together on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller<'a> {
    /// Whoever holds the key of this id.
    Key(&'a str),
    /// Whoever a token speaks for.
    Subject {
        /// By whose word, where it is not gatelet's own.
        issuer: Option<&'a [u8]>,
        /// Who that is.
        subject: &'a str,
    },
    /// Whoever comes from here without a credential; an IPv6 client is its /64.
    Address(IpAddr),
}

/// What a rate is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket<'a> {
    /// One caller's requests on one route.
    Route {
        /// The route's name.
        name: &'a str,
        /// Whose requests.
        caller: Caller<'a>,
    },
    /// One API key's requests on all routes.
    Key {
        /// The key's id.
        id: &'a str,
    },
}

/// The rate limits of routes and keys. Shared by all workers; survives reloads.
pub struct Callers(Keyed);

impl Callers {
    /// Limits that nobody has used yet.
    pub fn new() -> Self {
        Self(Keyed::new(CAPACITY, RandomState::new()))
    }

    /// Counts one request in every one of `buckets`, or in none of them.
    ///
    /// `Err` holds the seconds for `Retry-After`. A bucket whose rate a reload changed starts
    /// afresh, since what the old rate charged means nothing in the new one.
    pub fn admit(&self, buckets: &[(Bucket<'_>, Rate)], now: Monotonic) -> Result<(), u64> {
        for (place, (bucket, rate)) in buckets.iter().enumerate() {
            if let Err(wait) = self.0.admit(&key(bucket, *rate), *rate, now) {
                for (charged, rate) in &buckets[..place] {
                    self.0.refund(&key(charged, *rate), *rate);
                }
                return Err(retry_after(wait));
            }
        }
        Ok(())
    }
}

impl Default for Callers {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callers").finish_non_exhaustive()
    }
}

/// What is hashed; each part is tagged or ended, so that no two buckets write the same bytes.
#[derive(Hash)]
enum Hashed<'a> {
    Holder(&'a str, &'a str, u64, u32),
    Subject(&'a str, Option<&'a [u8]>, &'a str, u64, u32),
    Address(&'a str, Network, u64, u32),
    Key(&'a str, u64, u32),
}

fn key<'a>(bucket: &Bucket<'a>, rate: Rate) -> Hashed<'a> {
    let Rate { interval, burst } = rate;
    match *bucket {
        Bucket::Route {
            name,
            caller: Caller::Key(id),
        } => Hashed::Holder(name, id, interval, burst),
        Bucket::Route {
            name,
            caller: Caller::Subject { issuer, subject },
        } => Hashed::Subject(name, issuer, subject, interval, burst),
        Bucket::Route {
            name,
            caller: Caller::Address(address),
        } => Hashed::Address(name, Network::of(address), interval, burst),
        Bucket::Key { id } => Hashed::Key(id, interval, burst),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ONCE_A_MINUTE: Rate = Rate {
        interval: 60_000_000_000,
        burst: 1,
    };
    const NOW: Monotonic = Monotonic(Duration::from_secs(1));

    fn route<'a>(name: &'a str, caller: Caller<'a>) -> (Bucket<'a>, Rate) {
        (Bucket::Route { name, caller }, ONCE_A_MINUTE)
    }

    fn api_key(id: &str) -> (Bucket<'_>, Rate) {
        (Bucket::Key { id }, ONCE_A_MINUTE)
    }

    #[test]
    fn each_route_caller_and_key_has_a_bucket_of_its_own() {
        let limits = Callers::new();
        let of = |issuer, subject| Caller::Subject { issuer, subject };
        let buckets = [
            route("a", Caller::Key("x")),
            route("a", Caller::Key("y")),
            route("b", Caller::Key("x")),
            route("ax", Caller::Key("")),
            route("a", of(None, "x")),
            route("a", of(None, "y")),
            route("a", of(Some(b"one"), "x")),
            route("a", of(Some(b"two"), "x")),
            route("a", Caller::Address("192.0.2.1".parse().unwrap())),
            route("a", Caller::Address("192.0.2.2".parse().unwrap())),
            api_key("x"),
            api_key("a"),
        ];
        for bucket in buckets {
            assert_eq!(limits.admit(&[bucket], NOW), Ok(()));
        }
        for bucket in buckets {
            assert_eq!(limits.admit(&[bucket], NOW), Err(60));
        }
    }

    #[test]
    fn a_request_that_one_bucket_refuses_is_counted_in_none() {
        let limits = Callers::new();
        let (spent, free) = (api_key("x"), route("a", Caller::Key("x")));
        limits.admit(&[spent], NOW).unwrap();
        assert_eq!(limits.admit(&[free, spent], NOW), Err(60));
        assert_eq!(limits.admit(&[free], NOW), Ok(()));
    }

    #[test]
    fn a_changed_rate_starts_afresh() {
        let limits = Callers::new();
        let (bucket, _) = api_key("x");
        limits.admit(&[(bucket, ONCE_A_MINUTE)], NOW).unwrap();
        let faster = Rate {
            interval: 1_000,
            burst: 1,
        };
        assert_eq!(limits.admit(&[(bucket, faster)], NOW), Ok(()));
    }

    #[test]
    fn no_limit_admits() {
        assert_eq!(Callers::new().admit(&[], NOW), Ok(()));
    }
}
