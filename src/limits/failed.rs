//! The limit on unknown credentials: what guessing costs.

use std::fmt;
use std::net::IpAddr;

use ahash::RandomState;

use super::keyed::Keyed;
use super::retry_after;
use crate::platform::Monotonic;
use crate::rules::bucket::Rate;
use crate::rules::client::Network;

/// The most client networks whose guesses are counted at once; a mebibyte, once all are in use.
const CAPACITY: usize = 65_536;

/// How many unknown credentials each client address may show.
///
/// Charged before the store is asked, so that guesses past the rate cost no look-up, and refunded
/// when the credential turns out to be one that was once given out: expired and revoked ones
/// are not guesses.
pub struct FailedAuthentications {
    keyed: Keyed,
    rate: Rate,
}

impl FailedAuthentications {
    /// A limit that nobody has used yet.
    pub fn new(rate: Rate) -> Self {
        Self {
            keyed: Keyed::new(CAPACITY, RandomState::new()),
            rate,
        }
    }

    /// How many each address may show.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Counts one credential that is not known yet; `Err` holds the seconds for `Retry-After`.
    pub fn charge(&self, address: IpAddr, now: Monotonic) -> Result<(), u64> {
        self.keyed
            .admit(&Network::of(address), self.rate, now)
            .map_err(retry_after)
    }

    /// Takes one charge back: the credential was genuine, or nobody could say.
    pub fn refund(&self, address: IpAddr) {
        self.keyed.refund(&Network::of(address), self.rate);
    }
}

impl fmt::Debug for FailedAuthentications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailedAuthentications")
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic(Duration::from_millis(milliseconds))
    }

    fn limit() -> FailedAuthentications {
        FailedAuthentications::new(Rate::per(2, Duration::from_secs(1), 2).unwrap())
    }

    #[test]
    fn guesses_past_the_rate_are_refused_until_it_allows_one_more() {
        let limit = limit();
        let guesser = "192.0.2.1".parse().unwrap();
        assert_eq!(limit.charge(guesser, at(0)), Ok(()));
        assert_eq!(limit.charge(guesser, at(0)), Ok(()));
        assert_eq!(limit.charge(guesser, at(0)), Err(1));
        assert_eq!(limit.charge("192.0.2.2".parse().unwrap(), at(0)), Ok(()));
        assert_eq!(limit.charge(guesser, at(500)), Ok(()));
        assert_eq!(limit.charge(guesser, at(999)), Err(1));
    }

    #[test]
    fn genuine_credentials_cost_nothing() {
        let limit = limit();
        let caller = "2001:db8::1".parse().unwrap();
        for _ in 0..100 {
            assert_eq!(limit.charge(caller, at(0)), Ok(()));
            limit.refund(caller);
        }
    }

    #[test]
    fn an_ipv6_client_cannot_hop_within_its_network() {
        let limit = limit();
        for host in 0..2 {
            let address = format!("2001:db8::{host}").parse().unwrap();
            assert_eq!(limit.charge(address, at(0)), Ok(()));
        }
        assert_eq!(limit.charge("2001:db8::2".parse().unwrap(), at(0)), Err(1));
        assert_eq!(
            limit.charge("2001:db8:0:1::".parse().unwrap(), at(0)),
            Ok(())
        );
    }
}
