//! What hears nothing, and does not say so: a replica of the server, a connection to it.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gatelet::store::{Swapped, Topology};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::redis::{answers, config, open};
use super::{commit, commit_with, create, payloads, value};
use crate::harness::{Flavour, Server};

/// A replica that is stuck holds up what must not be undone once, however much of it there is.
#[tokio::test]
async fn a_replica_that_is_stuck_is_waited_for_once() {
    let master = Server::with(Flavour::Redis, &["--repl-diskless-sync-delay", "0"]);
    let replica = Server::replica_of(&master);
    let store = open(&config(&[&master], Topology::Single));
    commit(&store, vec![create("first", b"")]).await;
    replica.signal("STOP");
    let store = Arc::new(store);
    let began = Instant::now();
    let mut swaps = JoinSet::new();
    for number in 0..100 {
        let store = Arc::clone(&store);
        swaps.spawn(async move {
            // Some come while the replica is waited for.
            tokio::time::sleep(Duration::from_millis(number / 10)).await;
            let writes = vec![create(&number.to_string(), b"")];
            store.swap(writes, vec![]).await
        });
    }
    for swapped in swaps.join_all().await {
        assert_eq!(swapped.unwrap(), Swapped::Committed);
    }
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1900), "{took:?}");
}

/// Forwards to a server, until what was accepted so far falls silent.
struct Line {
    port: u16,
    /// How many connections have fallen silent.
    silent: watch::Sender<usize>,
    accepted: Arc<AtomicUsize>,
}

impl Line {
    async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (address, silent) = (server.address(), watch::Sender::new(0));
        let accepted = Arc::new(AtomicUsize::new(0));
        let (counted, told) = (Arc::clone(&accepted), silent.clone());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let mut falls = told.subscribe();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(address).await.unwrap();
                    let fell = async { falls.wait_for(|silent| number < *silent).await.is_ok() };
                    let silent = tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => false,
                        silent = fell => silent,
                    };
                    if silent {
                        pending::<()>().await;
                    }
                });
            }
        });
        Self {
            port,
            silent,
            accepted,
        }
    }

    fn fall_silent(&self) {
        let accepted = self.accepted.load(Ordering::SeqCst);
        self.silent.send_replace(accepted);
    }
}

/// Where one connection turns out to be dead, whoever waits for events does not wait on another that
/// died with it.
#[tokio::test]
async fn news_comes_on_a_connection_that_is_not_dead() {
    let server = Server::start(Flavour::Redis);
    let line = Line::to(&server).await;
    let mut through = config(&[&server], Topology::Single);
    through.addresses[0].port = line.port;
    let store = open(&through);
    let first = store.follow(None, 10, Duration::ZERO).await.unwrap();
    let first = store.follow(Some(first.last), 10, Duration::ZERO).await;
    let place = first.unwrap().last;
    assert_eq!(value(&store, "a").await, None);
    let follow = async {
        loop {
            let wait = Duration::from_secs(5);
            let Ok(events) = store.follow(Some(place), 10, wait).await else {
                continue;
            };
            if !events.events.is_empty() {
                return payloads(&events.events).join(" ");
            }
        }
    };
    let change = async {
        line.fall_silent();
        assert!(store.load("a").await.is_err(), "the line is dead");
        answers(Duration::from_secs(2), async || store.load("a").await).await;
        let other = open(&config(&[&server], Topology::Single));
        commit_with(&other, vec![create("a", b"one")], &["made"]).await;
        Instant::now()
    };
    let heard = async { (follow.await, Instant::now()) };
    let ((told, heard), made) = tokio::join!(heard, change);
    assert_eq!(told, "made");
    let took = heard.saturating_duration_since(made);
    assert!(took < Duration::from_secs(1), "{took:?}");
}
