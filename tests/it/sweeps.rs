//! What is long over is deleted, whatever else lies in the store.

use std::sync::Arc;
use std::time::Duration;

use gatelet::authn::families::{self, Families};
use gatelet::authn::nonces::Nonces;
use gatelet::authn::sessions::{NewSession, Sessions};
use gatelet::authn::sweep::Sweep;
use gatelet::rules::api_key::Label;
use gatelet::rules::principal::Scopes;
use gatelet::rules::refresh::{Grant, Mode};
use gatelet::rules::session::Lifetime;
use gatelet::store::{Config, Store, Topology, Write};
use tempfile::TempDir;

use crate::harness::{Flavour, HandClock, Server};
use crate::store::redis::config;

/// In seconds.
const DAY: u64 = 24 * 3600;

struct Place {
    store: Arc<Store>,
    sessions: Sessions,
    families: Families,
    clock: HandClock,
    _folder: Option<TempDir>,
}

impl Place {
    fn open() -> Self {
        let folder = TempDir::new().unwrap();
        let config = Config::Embedded {
            path: folder.path().join("data"),
        };
        Self {
            _folder: Some(folder),
            ..Self::on(&config)
        }
    }

    fn on(config: &Config) -> Self {
        let clock = HandClock::default();
        let platform = clock.platform();
        let store = Store::open(config, &platform, Arc::new(|_, _, _| {}));
        let store = Arc::new(store.unwrap());
        Self {
            sessions: Sessions::new(Arc::clone(&store), None, platform.clone()),
            families: Families::new(Arc::clone(&store), None, platform),
            store,
            clock,
            _folder: None,
        }
    }

    fn sweep(&self) -> Sweep {
        let platform = self.clock.platform();
        Sweep::new(
            Arc::clone(&self.store),
            self.sessions.clone(),
            self.families.clone(),
            Arc::new(Nonces::new(Arc::clone(&self.store), platform.clone())),
            platform,
        )
    }

    /// A session and a family that begin now.
    async fn begin(&self) {
        let new = NewSession {
            subject: Label::parse("user-7").unwrap(),
            key_id: None,
            key_owner: None,
            scopes: Scopes::default(),
            metadata: None,
            lifetime: Lifetime::default(),
        };
        self.sessions.issue(new).await.unwrap();
        let grant = Grant {
            subject: "user-7".into(),
            key_id: None,
            key_owner: None,
            scopes: Scopes::default(),
            chain_id: None,
            mode: Mode::Cookie,
        };
        let lifetime = families::Lifetime::default();
        self.families.begin(grant, lifetime).await.unwrap();
    }

    async fn put(&self, key: &str, value: &[u8]) {
        let write = Write {
            key: key.into(),
            expected: None,
            value: Some(value.into()),
        };
        self.store.swap(vec![write], Vec::new()).await.unwrap();
    }

    /// Everything that is kept of sessions and families, pointers too.
    async fn kept(&self) -> usize {
        let listed = [
            self.store.list("session", None, 10_000).await.unwrap(),
            self.store.list("family", None, 10_000).await.unwrap(),
        ];
        listed.iter().map(Vec::len).sum()
    }
}

#[tokio::test]
async fn what_cannot_be_read_stops_no_sweep() {
    let place = Place::open();
    for _ in 0..3 {
        place.begin().await;
    }
    let begun = place.kept().await;
    // Before, between and after them, in the order of keys.
    for kind in ["session", "family"] {
        for (name, value) in [("", &b"{"[..]), ("8", b"\xff"), ("~", b"{\"id\":7}")] {
            place.put(&format!("{kind}/{name}"), value).await;
        }
    }
    // A week for the family, and a day until it is forgotten.
    place.clock.advance(Duration::from_secs(8 * DAY - 1));
    assert_eq!(place.families.sweep().await.unwrap(), 0, "not yet");
    assert_eq!(place.sessions.sweep().await.unwrap(), 3, "idle for a week");
    place.clock.advance(Duration::from_secs(1));
    assert_eq!(place.families.sweep().await.unwrap(), 3);
    assert_eq!(place.sessions.sweep().await.unwrap(), 0, "none is left");
    assert!(begun > 6, "there were pointers: {begun}");
    assert_eq!(place.kept().await, 6, "what cannot be read is left alone");
}

#[tokio::test]
async fn what_lives_outlives_every_sweep() {
    let place = Place::open();
    place.begin().await;
    let begun = place.kept().await;
    // A day idle, and a day until it is forgotten.
    place.clock.advance(Duration::from_secs(2 * DAY - 1));
    assert_eq!(place.sessions.sweep().await.unwrap(), 0);
    assert_eq!(place.families.sweep().await.unwrap(), 0);
    assert_eq!(place.kept().await, begun);
    place.clock.advance(Duration::from_secs(1));
    assert_eq!(place.sessions.sweep().await.unwrap(), 1);
}

#[tokio::test]
async fn a_spent_nonce_stays_spent_for_as_long_as_it_is_good() {
    let place = Place::open();
    let nonces = Nonces::new(Arc::clone(&place.store), place.clock.platform());
    let sealer = nonces.sealer().await.unwrap();
    let ttl = Duration::from_secs(300);
    let (text, nonce) = sealer.issue(1, ttl, "key_1", "app.example").unwrap();
    assert!(nonces.spend(&nonce).await.unwrap());
    place
        .clock
        .advance(ttl.saturating_sub(Duration::from_nanos(1)));
    assert_eq!(nonces.sweep().await.unwrap(), 0);
    assert_eq!(
        sealer.read(&text, "key_1", "app.example"),
        Some(nonce.clone())
    );
    assert!(!nonces.spend(&nonce).await.unwrap(), "once");
    // The clock of another replica may be behind.
    place.clock.advance(Duration::from_secs(60));
    assert_eq!(nonces.sweep().await.unwrap(), 0);
    place.clock.advance(Duration::from_nanos(1));
    assert_eq!(nonces.sweep().await.unwrap(), 1);
    assert_eq!(sealer.read(&text, "key_1", "app.example"), None);
}

/// Replicas on one store sweep it in turns, and none of them is missed for long.
#[tokio::test]
async fn one_sweep_serves_every_replica() {
    let place = Place::open();
    let (one, two) = (place.sweep(), place.sweep());
    place.begin().await;
    place.clock.advance(Duration::from_secs(30 * DAY));
    assert_eq!(one.turn().await.unwrap(), Some(2));
    place.begin().await;
    for sweep in [&two, &one] {
        assert_eq!(sweep.turn().await.unwrap(), None, "it was just done");
    }
    place.clock.advance(Duration::from_secs(30 * DAY));
    let turns = tokio::join!(one.turn(), two.turn());
    let mut deleted = [turns.0.unwrap(), turns.1.unwrap()];
    deleted.sort();
    assert_eq!(deleted, [None, Some(2)], "at once, and one of them alone");
}

/// A server that has no room left for a turn either gets some by the sweep.
#[tokio::test]
async fn a_server_without_room_is_swept() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let server = Server::start(flavour);
        let place = Place::on(&Config::Redis(config(&[&server], Topology::Single)));
        let sweep = place.sweep();
        assert_eq!(sweep.turn().await.unwrap(), Some(0));
        place.begin().await;
        place.clock.advance(Duration::from_secs(30 * DAY));
        server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
        let write = Write {
            key: "more".into(),
            expected: None,
            value: Some(Vec::new()),
        };
        assert!(place.store.swap_loosely(vec![write]).await.is_err());
        assert_eq!(sweep.turn().await.unwrap(), Some(2));
        assert_eq!(place.kept().await, 0);
    }
}
