//! Who may hold how many connections when they become few.
//!
//! A client may hold four times what is free (dynamic thresholds: Choudhury and Hahne, IEEE/ACM
//! Transactions on Networking 6(2), 1998). While connections are plentiful that is no bound at all; one
//! greedy client ends up with four fifths of them, *k* of them with 4/(4*k* + 1) each, and whoever
//! is new always finds some free. No client has a number of its own that would have to be configured.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ahash::RandomState;

use crate::rules::client::Network;

/// How many times what is free one client may hold.
const GREED: usize = 4;

/// Below this many, clients that have left are not worth looking for.
const FEW: usize = 64;

/// The connections of each client that has some.
pub(super) struct Shares {
    clients: HashMap<Network, Place, RandomState>,
}

/// A client's place among the connections, held by each; as many as there are clones but one.
#[derive(Clone, Debug, Default)]
pub(super) struct Place(Arc<()>);

impl Shares {
    pub(super) fn new() -> Self {
        Self {
            clients: HashMap::with_hasher(RandomState::new()),
        }
    }

    /// A place for one more connection of the client at `address`, of `open` now and `most` at the
    /// most; `None` if it has its share.
    pub(super) fn take(&mut self, address: IpAddr, open: usize, most: usize) -> Option<Place> {
        // What is left after this has at least one connection each: the table is never larger than
        // twice the connections.
        if self.clients.len() >= FEW.max(2 * open) {
            self.clients.retain(|_, place| place.held() > 0);
        }
        let place = self.clients.entry(Network::of(address)).or_default();
        let free = most.saturating_sub(open);
        (place.held() < GREED.saturating_mul(free)).then(|| place.clone())
    }
}

impl Place {
    /// How many connections hold it, besides the table.
    fn held(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    /// What each of `greedy` clients holds of `most` once none gets more, all asking in turn.
    fn shares(greedy: u32, most: usize) -> Vec<usize> {
        let mut shares = Shares::new();
        let mut held: Vec<Vec<Place>> = vec![Vec::new(); greedy as usize];
        loop {
            let before: usize = held.iter().map(Vec::len).sum();
            for (number, places) in (0..).zip(&mut held) {
                let open = shares.clients.values().map(Place::held).sum();
                places.extend(shares.take(client(number), open, most));
            }
            if held.iter().map(Vec::len).sum::<usize>() == before {
                return held.iter().map(Vec::len).collect();
            }
        }
    }

    #[test]
    fn greedy_clients_get_the_same_and_leave_some() {
        assert_eq!(shares(1, 1_000), [800]);
        assert_eq!(shares(2, 900), [400, 400]);
        assert_eq!(shares(5, 1_050), [200; 5]);
    }

    #[test]
    fn one_connection_is_there_for_whoever_is_alone() {
        assert_eq!(shares(1, 1), [1]);
        assert_eq!(shares(1, 4), [4]);
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_has_ended() {
        let mut shares = Shares::new();
        let mut held: Vec<_> = (0..8)
            .map(|open| shares.take(client(1), open, 10).unwrap())
            .collect();
        assert!(shares.take(client(1), 8, 10).is_none());
        assert!(shares.take(client(2), 8, 10).is_some(), "another client");
        held.pop();
        assert!(shares.take(client(1), 7, 10).is_some());
    }

    #[test]
    fn whoever_has_left_is_forgotten() {
        let mut shares = Shares::new();
        let stays = shares.take(client(0), 0, 100).unwrap();
        for number in 1..100_000 {
            drop(shares.take(client(number), 1, 100));
            assert!(shares.clients.len() <= FEW);
        }
        assert_eq!(stays.held(), 1);
    }

    #[test]
    fn whoever_is_refused_keeps_what_it_has() {
        let mut shares = Shares::new();
        let place = shares.take(client(1), 99, 100).unwrap();
        assert!(shares.take(client(1), 100, 100).is_none());
        assert_eq!(place.held(), 1);
    }
}
