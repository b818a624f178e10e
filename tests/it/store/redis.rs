//! What only a store on a server promises.

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use gatelet::platform::Platform;
use gatelet::store::{Address, Config, Place, RedisConfig, Store, StoreFault, Topology};
use zeroize::Zeroizing;

use super::{Home, commit, commit_with, create, end, payloads, value};
use crate::harness::{Authority, Cluster, Flavour, Sentinel, Server, pem};

/// A store on a Redis server of its own.
pub(super) struct OnRedis(Server);

/// The same on Valkey.
pub(super) struct OnValkey(Server);

/// The same on a Cluster of three.
pub(super) struct OnCluster(Cluster);

impl Home for OnRedis {
    fn fresh() -> Self {
        Self(Server::start(Flavour::Redis))
    }

    fn open(&self) -> Store {
        open(&config(&[&self.0], Topology::Single))
    }
}

impl Home for OnValkey {
    fn fresh() -> Self {
        Self(Server::start(Flavour::Valkey))
    }

    fn open(&self) -> Store {
        open(&config(&[&self.0], Topology::Single))
    }
}

impl Home for OnCluster {
    fn fresh() -> Self {
        Self(Cluster::start(Flavour::Redis))
    }

    fn open(&self) -> Store {
        let nodes: Vec<&Server> = self.0.nodes.iter().collect();
        open(&config(&nodes, Topology::Cluster))
    }
}

/// A store on these servers.
pub(crate) fn config(servers: &[&Server], topology: Topology) -> RedisConfig {
    RedisConfig {
        addresses: servers
            .iter()
            .map(|server| Address {
                host: "127.0.0.1".into(),
                port: server.port(),
            })
            .collect(),
        topology,
        tls: false,
        authorities: None,
        username: None,
        password: None,
        key_prefix: "gatelet".into(),
    }
}

pub(super) fn open(config: &RedisConfig) -> Store {
    let config = Config::Redis(config.clone());
    Store::open(&config, &Platform::system(), Arc::new(|_, _, _| {})).unwrap()
}

/// A fault with its causes.
fn chain(fault: &StoreFault) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

pub(super) fn not_yet() -> StoreFault {
    StoreFault::caused("not yet", std::io::Error::other("wait"))
}

/// Asks until the store answers, and no longer than the bound.
pub(super) async fn answers<T>(bound: Duration, ask: impl AsyncFn() -> Result<T, StoreFault>) -> T {
    let asked = async {
        loop {
            if let Ok(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(bound, asked).await.unwrap()
}

#[tokio::test]
async fn a_server_is_asked_as_whom_it_is_told() {
    let arguments = [
        "--requirepass",
        "of-the-default-user",
        "--user",
        "gate",
        "on",
    ];
    let rights = [">of-the-gate", "~{gatelet}:*", "+@all"];
    let server = Server::with(Flavour::Redis, &[&arguments[..], &rights].concat());
    let known = config(&[&server], Topology::Single);
    let as_whom = |username: Option<&str>, password: &str| RedisConfig {
        username: username.map(Into::into),
        password: Some(Arc::new(Zeroizing::new(password.to_owned()))),
        ..known.clone()
    };
    for good in [
        as_whom(None, "of-the-default-user"),
        as_whom(Some("gate"), "of-the-gate"),
    ] {
        let store = open(&good);
        assert!(store.load("a").await.unwrap().is_none());
        let text = format!("{good:?}{store:?}");
        assert!(!text.contains("of-the"), "{text}");
    }
    for bad in [
        known.clone(),
        as_whom(None, "wrong"),
        as_whom(Some("gate"), "wrong"),
    ] {
        let fault = open(&bad).load("a").await.unwrap_err();
        assert!(!chain(&fault).contains("wrong"), "{}", chain(&fault));
    }
}

#[tokio::test]
async fn a_server_is_spoken_to_over_tls_if_somebody_trusted_vouches_for_it() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.vouch_for("127.0.0.1");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = file("certificate.pem", pem("CERTIFICATE", certificate.der()));
    let key = file("key.pem", pem("PRIVATE KEY", &key.serialize_der()));
    let port = Server::free_port().to_string();
    let arguments = ["--tls-port", &port, "--tls-cert-file", &certificate];
    let rest = ["--tls-key-file", &key, "--tls-auth-clients", "no"];
    let server = Server::with(Flavour::Redis, &[&arguments[..], &rest].concat());
    let mut known = config(&[&server], Topology::Single);
    known.tls = true;
    known.addresses[0].port = port.parse().unwrap();
    let trusting = |authority: &Authority| RedisConfig {
        authorities: Some(authority.pem().into_bytes().into()),
        ..known.clone()
    };
    let store = open(&trusting(&authority));
    commit(&store, vec![create("a", b"one")]).await;
    assert_eq!(value(&store, "a").await.as_deref(), Some("one"));
    let fault = open(&trusting(&stranger)).load("a").await.unwrap_err();
    assert!(chain(&fault).contains("certificate"), "{}", chain(&fault));
}

#[tokio::test]
async fn a_store_that_was_emptied_is_a_gap() {
    let server = Server::start(Flavour::Redis);
    let store = open(&config(&[&server], Topology::Single));
    commit_with(&store, vec![create("a", b"")], &["made"]).await;
    let place = end(&store).await;
    server.ask(&["FLUSHALL"]);
    assert!(store.events_since(place, 10).await.unwrap().gap);
    // Another event at the same place is another event.
    let id = "1-1";
    server.ask(&[
        "XADD",
        "{gatelet}:events",
        id,
        "v",
        "12345678",
        "t",
        "1",
        "p",
        "x",
    ]);
    let place = end(&store).await;
    server.ask(&["DEL", "{gatelet}:events"]);
    server.ask(&[
        "XADD",
        "{gatelet}:events",
        id,
        "v",
        "87654321",
        "t",
        "1",
        "p",
        "y",
    ]);
    assert!(store.events_since(place, 10).await.unwrap().gap);
}

#[tokio::test]
async fn what_a_newer_version_laid_out_is_left_alone() {
    let server = Server::start(Flavour::Redis);
    server.ask(&["SET", "{gatelet}:layout", "99"]);
    let fault = open(&config(&[&server], Topology::Single))
        .load("a")
        .await
        .unwrap_err();
    assert!(chain(&fault).contains("newer gatelet"), "{}", chain(&fault));
    // Another prefix is another store.
    let elsewhere = RedisConfig {
        key_prefix: "elsewhere".into(),
        ..config(&[&server], Topology::Single)
    };
    let store = open(&elsewhere);
    commit(&store, vec![create("a", b"one")]).await;
    assert_eq!(
        server.ask(&["EXISTS", "{gatelet}:r:a", "{elsewhere}:r:a"]),
        ":1\r\n"
    );
}

/// The master is gone, and a Sentinel makes its replica the next one.
#[tokio::test]
async fn a_sentinel_says_who_the_master_is() {
    let mut master = Server::start(Flavour::Redis);
    let port = master.port().to_string();
    let replica = Server::with(Flavour::Redis, &["--replicaof", "127.0.0.1", &port]);
    let bound = Duration::from_secs(10);
    answers(bound, async || {
        let synchronised = replica
            .ask(&["INFO", "replication"])
            .contains("master_link_status:up");
        synchronised.then_some(()).ok_or_else(not_yet)
    })
    .await;
    let sentinel = Sentinel::over(&master);
    let store = open(&config(
        &[sentinel.server()],
        Topology::Sentinel("main".into()),
    ));
    commit_with(&store, vec![create("a", b"one")], &["made"]).await;
    let place = end(&store).await;
    answers(bound, async || {
        let held = replica.ask(&["EXISTS", "{gatelet}:r:a"]).starts_with(":1");
        held.then_some(()).ok_or_else(not_yet)
    })
    .await;
    // The Sentinel has to know of the replica first.
    answers(bound, async || {
        let known = sentinel.server().ask(&["SENTINEL", "REPLICAS", "main"]);
        known
            .contains("127.0.0.1")
            .then_some(())
            .ok_or_else(not_yet)
    })
    .await;
    master.kill();
    let seen = answers(Duration::from_secs(20), async || store.load("a").await).await;
    assert_eq!(seen.unwrap().value, b"one");
    let nothing = answers(bound, async || store.events_since(place, 10).await).await;
    assert!(!nothing.gap && nothing.events.is_empty());
    answers(bound, async || {
        let writes = vec![create("b", b"two")];
        store.swap(writes, vec![b"again".to_vec()]).await
    })
    .await;
    let events = store.events_since(place, 10).await.unwrap();
    assert_eq!(payloads(&events.events), ["again"]);
}

/// A server that was made somebody's replica is not written to, and what it says is not believed.
#[tokio::test]
async fn a_server_that_is_no_master_any_more_is_left() {
    let (first, second) = (
        Server::start(Flavour::Redis),
        Server::start(Flavour::Valkey),
    );
    let servers = [&first, &second];
    let store = open(&config(&servers, Topology::Single));
    commit(&store, vec![create("a", b"one")]).await;
    let port = second.port().to_string();
    first.ask(&["REPLICAOF", "127.0.0.1", &port]);
    let bound = Duration::from_secs(5);
    // The first answer may still be the old one's; a question about events never is.
    assert!(store.events_since(Place::BEGINNING, 10).await.is_err());
    answers(bound, async || {
        store.events_since(Place::BEGINNING, 10).await
    })
    .await;
    answers(bound, async || {
        let writes = vec![create("b", b"two")];
        store.swap(writes, vec![]).await
    })
    .await;
    assert!(second.ask(&["EXISTS", "{gatelet}:r:b"]).starts_with(":1"));
}

/// What is loaded comes from the server that is followed: what the other one still has may have been
/// revoked long ago.
#[tokio::test]
async fn nothing_is_loaded_from_a_server_that_is_not_followed() {
    let (first, second) = (
        Server::start(Flavour::Redis),
        Server::start(Flavour::Valkey),
    );
    let store = open(&config(&[&first, &second], Topology::Single));
    commit_with(&store, vec![create("a", b"old")], &["made"]).await;
    let place = end(&store).await;
    let wait = Duration::from_millis(50);
    store.follow(Some(place), 10, wait).await.unwrap();
    assert_eq!(value(&store, "a").await.as_deref(), Some("old"));
    // A replica of nobody answers reads with what it had.
    first.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(value(&store, "a").await.as_deref(), Some("old"));
    let bound = Duration::from_secs(5);
    let seen = answers(bound, async || store.follow(Some(place), 10, wait).await).await;
    assert!(seen.gap, "the other one never had that event");
    assert_eq!(value(&store, "a").await, None);
}

/// What was answered is on a replica, which may be the next master, also where nobody is told of it.
#[tokio::test]
async fn what_was_answered_is_on_a_replica() {
    let master = Server::start(Flavour::Redis);
    let replica = Server::replica_of(&master);
    let store = open(&config(&[&master], Topology::Single));
    for number in 0..200 {
        let key = number.to_string();
        commit(&store, vec![create(&key, b"spent")]).await;
        let held = replica.ask(&["EXISTS", &format!("{{gatelet}}:r:{key}")]);
        assert_eq!(held, ":1\r\n", "{number}");
    }
}

/// A server that was started again has what it had; that it is another run is said all the same.
#[tokio::test]
async fn another_start_is_another_run() {
    let mut server = Server::start(Flavour::Redis);
    let store = open(&config(&[&server], Topology::Single));
    let wait = Duration::from_millis(20);
    commit_with(&store, vec![create("a", b"")], &["made"]).await;
    let first = store.follow(None, 10, wait).await.unwrap();
    let again = store.follow(Some(first.last), 10, wait).await.unwrap();
    assert_eq!((again.run, again.gap), (first.run, false));
    server.kill();
    server.start_again();
    let follow = async || store.follow(Some(first.last), 10, wait).await;
    let later = answers(Duration::from_secs(5), follow).await;
    assert!(!later.gap && later.events.is_empty());
    assert_ne!(later.run, first.run);
    assert_eq!(later.last, first.last);
}

/// A master that was replaced and does not know is left as soon as most of the Sentinels say so, and
/// vouches for nothing since.
#[tokio::test]
async fn most_of_the_sentinels_say_who_is_followed() {
    let (old, new) = (
        Server::start(Flavour::Redis),
        Server::start(Flavour::Valkey),
    );
    let mut sentinels: Vec<Sentinel> = (0..3).map(|_| Sentinel::over(&old)).collect();
    let servers: Vec<&Server> = sentinels.iter().map(Sentinel::server).collect();
    let store = open(&config(&servers, Topology::Sentinel("main".into())));
    let wait = Duration::from_millis(20);
    let first = store.follow(None, 10, wait).await.unwrap();
    let began = first.as_of.unwrap();
    let point = |sentinel: &Sentinel| {
        let port = new.port().to_string();
        sentinel.server().ask(&["SENTINEL", "REMOVE", "main"]);
        let pointed = ["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "1"];
        assert!(sentinel.server().ask(&pointed).starts_with("+OK"));
    };
    let follow = async || store.follow(Some(first.last), 10, wait).await;
    point(&sentinels[2]);
    for _ in 0..5 {
        let seen = follow().await.unwrap();
        assert_eq!((seen.run, seen.gap), (first.run, false), "one of three");
    }
    let confirmed = follow().await.unwrap().as_of.unwrap();
    assert!(confirmed > began, "they are asked again and again");
    point(&sentinels[1]);
    let seen = answers(Duration::from_secs(5), follow).await;
    assert_ne!(seen.run, first.run, "two of three");
    // Nobody knows any more: what the server says is taken for nothing.
    sentinels.truncate(1);
    let bound = Duration::from_secs(5);
    answers(bound, async || match follow().await {
        Err(_) => Ok(()),
        Ok(_) => Err(not_yet()),
    })
    .await;
    for _ in 0..5 {
        assert!(follow().await.is_err());
    }
}
