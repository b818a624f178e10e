//! What a user of a server has to be allowed, by the word of the page that says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gatelet::store::{Place, RedisConfig, Store, StoreFault, Swapped, Topology, Write};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::create;
use super::redis::{config, open};
use crate::harness::{AT_ONCE, Cluster, Flavour, Server, eventually};

const PAGE: &str = include_str!("../../../docs/replicas.md");

/// The words of the page's line that begins so.
fn rights(begins: &str) -> Vec<&'static str> {
    let line = PAGE.lines().find(|line| line.starts_with(begins));
    line.expect("the page has the line").split(' ').collect()
}

/// The commands that the words allow.
fn allowed(words: &[&'static str]) -> Vec<&'static str> {
    let commands = words.iter().filter_map(|word| word.strip_prefix('+'));
    commands.collect()
}

fn as_gatelet(servers: &[&Server], topology: Topology) -> RedisConfig {
    RedisConfig {
        username: Some("gatelet".into()),
        password: Some(Arc::new(Zeroizing::new("PASSWORD".to_owned()))),
        ..config(servers, topology)
    }
}

/// All that is ever asked of a store.
async fn everything(store: &Store) -> Result<(), StoreFault> {
    static ROUND: AtomicU32 = AtomicU32::new(0);
    let key = format!("a/{}", ROUND.fetch_add(1, Ordering::Relaxed));
    let end = store.follow(None, 10, Duration::ZERO).await?.last;
    let made = store
        .swap(vec![create(&key, b"one")], vec![b"made".to_vec()])
        .await?;
    assert_eq!(made, Swapped::Committed);
    let wait = Duration::from_millis(20);
    let told = store.follow(Some(end), 10, wait).await?;
    assert!(!told.events.is_empty());
    store.events_since(Place::BEGINNING, 10).await?;
    let listed = store.list("a/", None, 10).await?;
    assert!(listed.iter().any(|listed| listed.key == key));
    let loaded = store.load(&key).await?;
    let gone = Write {
        key,
        expected: loaded.map(|loaded| loaded.version),
        value: None,
    };
    assert_eq!(store.swap_loosely(vec![gone]).await?, Swapped::Committed);
    Ok(())
}

#[tokio::test]
async fn a_user_needs_what_the_page_says_and_no_more() {
    let server = Server::with(Flavour::Redis, &AT_ONCE);
    let port = server.port().to_string();
    let _replica = Server::with(Flavour::Redis, &["--replicaof", "127.0.0.1", &port]);
    eventually("there is a replica to wait for", || {
        server
            .ask(&["INFO", "replication"])
            .contains("state=online")
    });
    let rights = rights("ACL SETUSER gatelet ");
    assert_eq!(server.ask(&rights), "+OK\r\n");
    let known = as_gatelet(&[&server], Topology::Single);
    everything(&open(&known)).await.unwrap();
    assert_eq!(server.ask(&["ACL", "LOG"]), "*0\r\n");
    let mut lacking = JoinSet::new();
    for command in allowed(&rights) {
        let user = format!("no-{command}");
        let minus = format!("-{command}");
        let fewer = [&["ACL", "SETUSER", &user], &rights[3..], &[&minus]].concat();
        assert_eq!(server.ask(&fewer), "+OK\r\n");
        let store = open(&RedisConfig {
            username: Some(user.into()),
            ..known.clone()
        });
        lacking.spawn(async move { (command, everything(&store).await) });
    }
    let done = lacking.join_all().await;
    let refusals = server.ask(&["ACL", "LOG", "1000"]);
    for (command, done) in done {
        assert!(refusals.contains(&format!("no-{command}\r\n")), "{command}");
        // What is asked for the sake of a warning, or of a server that may take over, is no must.
        let does_without = ["config|get", "wait"].contains(&command);
        assert_eq!(done.is_ok(), does_without, "{command}: {done:?}");
    }
}

#[tokio::test]
async fn on_valkey_the_same_is_enough() {
    let server = Server::start(Flavour::Valkey);
    assert_eq!(server.ask(&rights("ACL SETUSER gatelet ")), "+OK\r\n");
    let store = open(&as_gatelet(&[&server], Topology::Single));
    everything(&store).await.unwrap();
}

#[tokio::test]
async fn a_cluster_is_asked_where_the_slot_is_besides() {
    let cluster = Cluster::start(Flavour::Redis);
    let nodes: Vec<&Server> = cluster.nodes.iter().collect();
    let known = as_gatelet(&nodes, Topology::Cluster);
    let tell = |words: &[&str]| {
        for node in &nodes {
            assert_eq!(node.ask(words), "+OK\r\n");
        }
    };
    tell(&rights("ACL SETUSER gatelet "));
    assert!(everything(&open(&known)).await.is_err());
    let more = rights("ACL SETUSER gatelet +cluster");
    tell(&more);
    everything(&open(&known)).await.unwrap();
    for command in allowed(&more) {
        tell(&["ACL", "SETUSER", "gatelet", &format!("-{command}")]);
        assert!(everything(&open(&known)).await.is_err(), "{command}");
        tell(&["ACL", "SETUSER", "gatelet", &format!("+{command}")]);
    }
}
