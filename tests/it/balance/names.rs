//! Names: all their addresses are used, and traffic follows them.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use gatelet::platform::{Resolver, Resolving};

use super::{ROUTES, pair};
use crate::harness::{Serve, Timed, Upstream, eventually, request};

/// What is said of every name; `None` is a failure.
#[derive(Clone)]
struct Phonebook(Arc<Mutex<Option<Vec<IpAddr>>>>);

impl Phonebook {
    fn saying(addresses: &[[u8; 4]]) -> Self {
        let book = Self(Arc::default());
        book.say(Some(addresses));
        book
    }

    fn say(&self, addresses: Option<&[[u8; 4]]>) {
        let addresses = addresses.map(|all| all.iter().map(|one| IpAddr::from(*one)).collect());
        *self.0.lock().unwrap() = addresses;
    }
}

impl Resolver for Phonebook {
    fn resolve(&self, host: &str) -> Resolving {
        assert_eq!(host, "api.test");
        let known = self.0.lock().unwrap().clone();
        Box::pin(async move { known.ok_or_else(|| io::Error::other("no such name")) })
    }
}

const ONE: [u8; 4] = [127, 0, 0, 1];
const OTHER: [u8; 4] = [127, 0, 0, 2];

fn upstreams() -> (Upstream, Upstream, String) {
    let (one, other) = pair();
    let url = format!("http://api.test:{}", one.local_addr().unwrap().port());
    let at = |listener| {
        Upstream::listening(listener, |exchange| {
            exchange.read_body()?;
            exchange.answer("200 OK", "", "ok")
        })
    };
    (at(one), at(other), url)
}

fn get(gatelet: &Timed) -> u16 {
    gatelet.send(request("GET", "/", &[])).status
}

#[test]
fn traffic_follows_the_addresses_of_a_name() {
    let (one, other, url) = upstreams();
    let book = Phonebook::saying(&[OTHER, ONE]);
    let gatelet = Timed::before_name(&url, ROUTES, Arc::new(book.clone()));
    for _ in 0..20 {
        assert_eq!(get(&gatelet), 200);
    }
    assert!(one.received().len() >= 8 && other.received().len() >= 8);

    book.say(Some(&[OTHER]));
    eventually("what rested at the address that went is closed", || {
        one.open() == 0
    });
    one.take();
    for _ in 0..10 {
        assert_eq!(get(&gatelet), 200);
    }
    one.assert_untouched("the name has it no more");

    book.say(None);
    for _ in 0..10 {
        assert_eq!(get(&gatelet), 200, "the last addresses hold");
    }
}

#[test]
fn a_failure_has_the_name_looked_up_at_once() {
    let (mut one, other, url) = upstreams();
    let book = Phonebook::saying(&[ONE]);
    let gatelet = Timed::before_name(&url, ROUTES, Arc::new(book.clone()));
    assert_eq!(get(&gatelet), 200);
    one.stop();
    book.say(Some(&[OTHER]));
    eventually("traffic follows", || get(&gatelet) == 200);
    assert!(!other.received().is_empty());
}

#[test]
fn a_name_without_addresses_is_unreachable_until_it_has_some() {
    let (_one, other, url) = upstreams();
    let book = Phonebook::saying(&[]);
    let gatelet = Timed::before_name(&url, ROUTES, Arc::new(book.clone()));
    let response = gatelet.send(request("GET", "/", &[]));
    assert_eq!(response.code(), "upstream_unreachable");
    book.say(None);
    let response = gatelet.send(request("GET", "/", &[]));
    assert_eq!(response.code(), "upstream_unreachable");
    book.say(Some(&[OTHER]));
    eventually("it is reached", || get(&gatelet) == 200);
    assert!(!other.received().is_empty());
}
