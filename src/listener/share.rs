//! Who may hold how many connections when they become few.
//!
//! A client may hold four times what is free (dynamic thresholds: Choudhury and Hahne, IEEE/ACM
//! Transactions on Networking 6(2), 1998). While connections are plentiful that is no bound at all; one
//! greedy client ends up with four fifths of them, *k* of them with 4/(4*k* + 1) each, and whoever
//! is new always finds some free. No client has a number of its own that would have to be configured.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ahash::RandomState;

use crate::listener::Terms;
use crate::rules::client::Network;

/// How many times what is free one client may hold.
const GREED: usize = 4;

/// Below this many, clients that have left are not worth looking for.
const FEW: usize = 64;

/// The connections of a listener, and those of each client that has some. Its clones are one.
///
/// Asked once or twice a connection, by whoever accepts it and by the worker that hears from a proxy
/// whose it is.
#[derive(Clone, Debug, Default)]
pub struct Shares(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    all: Count,
    clients: Mutex<HashMap<Network, Count, RandomState>>,
}

/// As many connections as there are clones but one.
#[derive(Clone, Debug, Default)]
struct Count(Arc<()>);

/// A connection's place among all.
#[derive(Debug)]
pub(super) struct Place(
    #[expect(dead_code, reason = "its existence is its use")] Count,
    #[expect(dead_code, reason = "its existence is its use")] Share,
);

/// A connection's place among those of its client.
#[derive(Debug)]
pub(super) struct Share(#[expect(dead_code, reason = "its existence is its use")] Option<Count>);

impl Shares {
    /// A place for one more connection of the client at `address`; `None` if there is none, or if
    /// the client has its share.
    pub(super) fn place(&self, address: IpAddr, terms: Terms) -> Option<Place> {
        let place = self.0.all.clone();
        if self.0.all.held() > terms.connections {
            return None;
        }
        Some(Place(place, self.share(address, terms)?))
    }

    /// The place of a connection, which has one among all, among those of the client at `address`;
    /// `None` if the client has its share.
    pub(super) fn share(&self, address: IpAddr, terms: Terms) -> Option<Share> {
        if terms.may_hold_all {
            return Some(Share(None));
        }
        // Nothing in here panics between two writes that belong together.
        let clients = self.0.clients.lock();
        let mut clients = clients.unwrap_or_else(PoisonError::into_inner);
        let open = self.0.all.held();
        // What is left after this has at least one connection each: the table is never larger than
        // twice the connections.
        if clients.len() >= FEW.max(2 * open) {
            clients.retain(|_, held| held.held() > 0);
        }
        let held = clients.entry(Network::of(address)).or_default();
        // It takes nothing from itself.
        let free = (terms.connections + 1).saturating_sub(open);
        (held.held() < GREED.saturating_mul(free)).then(|| Share(Some(held.clone())))
    }
}

impl Count {
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

    fn terms(connections: usize) -> Terms {
        Terms {
            connections,
            may_hold_all: false,
            over_tls: false,
        }
    }

    impl Shares {
        fn clients(&self) -> usize {
            self.0.clients.lock().unwrap().len()
        }

        fn held(&self, number: u32) -> usize {
            let clients = self.0.clients.lock().unwrap();
            clients[&Network::of(client(number))].held()
        }
    }

    /// What each of `greedy` clients holds of `most` once none gets more, all asking in turn.
    fn shares(greedy: u32, most: usize) -> Vec<usize> {
        let shares = Shares::default();
        let mut held: Vec<Vec<Place>> = (0..greedy).map(|_| Vec::new()).collect();
        loop {
            let before: usize = held.iter().map(Vec::len).sum();
            for (number, places) in (0..).zip(&mut held) {
                places.extend(shares.place(client(number), terms(most)));
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
        let shares = Shares::default();
        let mut held: Vec<_> = (0..8)
            .map(|_| shares.place(client(1), terms(10)).unwrap())
            .collect();
        assert!(shares.place(client(1), terms(10)).is_none());
        let other = shares.place(client(2), terms(10));
        assert!(other.is_some(), "another client");
        drop(other);
        held.pop();
        assert!(shares.place(client(1), terms(10)).is_some());
    }

    #[test]
    fn whoever_has_left_is_forgotten() {
        let shares = Shares::default();
        let stays = shares.place(client(0), terms(100)).unwrap();
        for number in 1..100_000 {
            drop(shares.place(client(number), terms(100)));
            assert!(shares.clients() <= FEW);
        }
        assert_eq!(shares.held(0), 1);
        drop(stays);
        assert_eq!(shares.held(0), 0);
    }

    #[test]
    fn whoever_is_refused_keeps_what_it_has() {
        let shares = Shares::default();
        let place = shares.place(client(1), terms(1)).unwrap();
        assert!(shares.place(client(1), terms(1)).is_none());
        assert!(shares.place(client(2), terms(1)).is_none());
        assert_eq!((shares.held(1), shares.0.all.held()), (1, 1));
        drop(place);
    }

    #[test]
    fn connections_behind_a_proxy_are_their_clients() {
        let shares = Shares::default();
        let proxy = Terms {
            may_hold_all: true,
            ..terms(10)
        };
        let mut behind = Vec::new();
        for _ in 0..8 {
            let place = shares.place(client(99), proxy).unwrap();
            let share = shares.share(client(1), terms(10)).unwrap();
            behind.push((place, share));
        }
        let ninth = shares.place(client(99), proxy).unwrap();
        assert!(shares.share(client(1), terms(10)).is_none());
        assert!(shares.share(client(2), terms(10)).is_some());
        assert!(shares.share(client(1), proxy).is_some(), "a proxy too");
        drop(ninth);
        assert!(shares.place(client(1), terms(10)).is_none(), "past it");
        assert_eq!((shares.held(1), shares.0.all.held()), (8, 8));
    }
}
