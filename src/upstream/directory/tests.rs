use std::sync::Mutex;

use super::*;
use crate::platform::{Resolver, Resolving};
use crate::telemetry::metrics::Metrics;
use crate::upstream::Protocol;

/// Says what it is told to say, after a second.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<(Option<Vec<IpAddr>>, usize)>>);

impl Book {
    fn say(&self, addresses: Option<&[&str]>) {
        let addresses = addresses.map(|all| all.iter().map(|one| one.parse().unwrap()).collect());
        self.0.lock().unwrap().0 = addresses;
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

impl Resolver for Book {
    fn resolve(&self, _: &str) -> Resolving {
        let book = self.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut known = book.0.lock().unwrap();
            known.1 += 1;
            known
                .0
                .clone()
                .ok_or_else(|| io::Error::other("nobody knows"))
        })
    }
}

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp {
        host: host.into(),
        port,
    }
}

fn tended(addresses: Vec<Address>, book: &Book) -> Tended {
    let config = Config {
        name: "api".into(),
        addresses,
        protocol: Protocol::Http1,
        tls: None,
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
        max_connections: 1,
        health_check: None,
    };
    let platform = Platform {
        resolver: Arc::new(book.clone()),
        ..Platform::system()
    };
    Tended::start(&config, &platform, &Metrics::new(1))
}

fn listed(tended: &Tended) -> Vec<String> {
    let endpoints = tended.directory().endpoints();
    endpoints
        .iter()
        .map(|endpoint| endpoint.target().to_string())
        .collect()
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn plain_addresses_are_there_at_once_and_each_once() {
    let book = Book::default();
    book.say(Some(&["10.0.0.1", "10.0.0.2"]));
    let addresses = vec![
        tcp("10.0.0.2", 80),
        tcp("::1", 80),
        tcp("b", 80),
        tcp("b", 81),
    ];
    let tended = tended(addresses, &book);
    assert_eq!(listed(&tended), ["10.0.0.2:80", "[::1]:80"]);
    let known = tended.directory().endpoints();
    pass(2).await;
    assert_eq!(
        listed(&tended),
        [
            "10.0.0.2:80",
            "[::1]:80",
            "10.0.0.1:80",
            "10.0.0.1:81",
            "10.0.0.2:81"
        ]
    );
    assert!(Arc::ptr_eq(&known[0], &tended.directory().endpoints()[0]));
    assert_eq!(book.asked(), 1, "one look-up a name");
}

#[tokio::test(start_paused = true)]
async fn the_last_good_addresses_are_kept() {
    let book = Book::default();
    book.say(Some(&["10.0.0.2", "10.0.0.1", "10.0.0.2"]));
    let tended = tended(vec![tcp("b", 80)], &book);
    let mut told = tended.directory().follow();
    pass(2).await;
    let both = ["10.0.0.1:80", "10.0.0.2:80"];
    assert_eq!(listed(&tended), both);
    told.mark_unchanged();
    book.say(Some(&["10.0.0.1", "10.0.0.2"]));
    pass(12).await;
    assert!(
        !told.has_changed().unwrap(),
        "another order is no other answer"
    );
    book.say(None);
    pass(12).await;
    assert_eq!(listed(&tended), both);
    book.say(Some(&[]));
    pass(12).await;
    assert_eq!(listed(&tended), both);
    book.say(Some(&["10.0.0.3"]));
    pass(12).await;
    assert_eq!(listed(&tended), ["10.0.0.3:80"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_look_up_is_waited_for() {
    let book = Book::default();
    book.say(Some(&["10.0.0.1"]));
    let there = tended(vec![tcp("b", 80)], &book);
    assert!(there.directory().reachable().await.is_ok());
    assert_eq!(listed(&there), ["10.0.0.1:80"]);
    book.say(None);
    let gone = tended(vec![tcp("b", 80)], &book);
    let error = gone.directory().reachable().await.unwrap_err();
    assert_eq!(error.to_string(), "nobody knows");
    assert!(gone.directory().reachable().await.is_err(), "at once");
}

#[tokio::test(start_paused = true)]
async fn failures_have_names_looked_up_sooner_but_not_often() {
    let book = Book::default();
    book.say(Some(&["10.0.0.1"]));
    let tended = tended(vec![tcp("b", 80)], &book);
    pass(61).await;
    let quiet = book.asked();
    assert!((9..=11).contains(&quiet), "{quiet} a minute");
    for _ in 0..600 {
        let endpoint = Arc::clone(&tended.directory().endpoints()[0]);
        tended.directory().refused(&endpoint, &"test");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let doubted = book.asked() - quiet;
    assert!((28..=31).contains(&doubted), "{doubted} a minute");
}

#[tokio::test(start_paused = true)]
async fn the_only_address_is_not_judged() {
    let book = Book::default();
    let standing = |tended: &Tended| tended.directory().endpoints()[0].standing();
    let only = tended(vec![tcp("10.0.0.1", 80)], &book);
    let endpoint = Arc::clone(&only.directory().endpoints()[0]);
    only.directory().refused(&endpoint, &"test");
    assert_eq!(standing(&only), Standing::InService);
    let two = tended(vec![tcp("10.0.0.1", 80), tcp("10.0.0.2", 80)], &book);
    let endpoint = Arc::clone(&two.directory().endpoints()[0]);
    two.directory().refused(&endpoint, &"test");
    assert_eq!(standing(&two), Standing::Ejected);
    two.directory().connected(&endpoint);
    assert_eq!(standing(&two), Standing::OnProbation);
    two.directory().answered(&endpoint);
    assert_eq!(standing(&two), Standing::InService);
    assert!(endpoint.is_spotless());
}
