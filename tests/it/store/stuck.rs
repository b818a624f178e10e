//! What hears nothing, and does not say so: a replica of the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gatelet::store::{Swapped, Topology};
use tokio::task::JoinSet;

use super::redis::{answers, config, not_yet, open};
use super::{commit, create};
use crate::harness::{Flavour, Server};

/// A replica that is stuck holds up what must not be undone once, however much of it there is.
#[tokio::test]
async fn a_replica_that_is_stuck_is_waited_for_once() {
    let master = Server::start(Flavour::Redis);
    let port = master.port().to_string();
    let replica = Server::with(Flavour::Redis, &["--replicaof", "127.0.0.1", &port]);
    answers(Duration::from_secs(10), async || {
        let synchronised = master
            .ask(&["INFO", "replication"])
            .contains("state=online");
        synchronised.then_some(()).ok_or_else(not_yet)
    })
    .await;
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
