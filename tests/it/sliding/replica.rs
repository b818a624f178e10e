//! What one process has of the sessions in a store, without its sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gatelet::authn::Config;
use gatelet::authn::api_key::ApiKeys;
use gatelet::authn::authenticators::Authenticators;
use gatelet::authn::issuers::Issuers;
use gatelet::authn::session_token::{Session, SessionTokens};
use gatelet::authn::sessions::{NewSession, Sessions};
use gatelet::cache::freshness::Freshness;
use gatelet::cache::verdicts::Verdicts;
use gatelet::limits::FailedAuthentications;
use gatelet::platform::Clock;
use gatelet::rules::api_key::Label;
use gatelet::rules::bucket::Rate;
use gatelet::rules::decision::Refusal;
use gatelet::rules::principal::Scopes;
use gatelet::rules::session::{Lifetime, Record};
use gatelet::store::{Operation, Store, Write};
use gatelet::telemetry::metrics::Metrics;
use tempfile::TempDir;

use crate::harness::{BOUND, HandClock};

/// One process.
pub(super) struct Replica {
    pub(super) authenticators: Arc<Authenticators>,
    pub(super) sessions: Arc<SessionTokens>,
    pub(super) store: Arc<Store>,
    pub(super) clock: HandClock,
    lifetime: Lifetime,
    metrics: Metrics,
    /// Swaps that the store made, those of [`Self::settle`] too.
    swaps: Arc<AtomicUsize>,
    settled: AtomicUsize,
}

impl Replica {
    /// A process on the store in this folder; its slides are written once `keep_writing` runs.
    pub(super) fn open(folder: &TempDir, clock: &HandClock, lifetime: Lifetime) -> Self {
        let platform = clock.platform();
        let swaps = Arc::new(AtomicUsize::new(0));
        let observer = {
            let swaps = Arc::clone(&swaps);
            Arc::new(move |operation, _, _| {
                if operation == Operation::Swap {
                    swaps.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let config = gatelet::store::Config::Embedded {
            path: folder.path().join("data"),
        };
        let store = Store::open(&config, &platform, observer).unwrap();
        let store = Arc::new(store);
        let metrics = Metrics::new(1);
        let believed = Freshness::new(Duration::from_secs(1 << 20));
        believed.hear(clock.monotonic());
        let sessions = Arc::new(SessionTokens::new(
            Sessions::new(Arc::clone(&store), None, platform.clone()),
            Arc::new(Verdicts::new(100)),
            Arc::new(believed),
            lifetime,
            platform,
            metrics.clone(),
        ));
        let rate = Rate::per(10, Duration::from_secs(1), 10).unwrap();
        let failures = Arc::new(FailedAuthentications::new(rate));
        let config = Config {
            headers: Vec::new(),
            bearer: true,
            prefix: "gk".into(),
            pepper: None,
            statics: Vec::new(),
            session_lifetime: lifetime,
            own_issuer: "".into(),
            access_token: None,
            signing_keys: None,
            trusted: Vec::new(),
        };
        Self {
            authenticators: Arc::new(Authenticators {
                keys: Arc::new(ApiKeys::new(&config, None, failures)),
                sessions: Some(Arc::clone(&sessions)),
                access: None,
                own_issuer: "".into(),
                issuers: Arc::new(Issuers::none()),
                nonces: None,
            }),
            sessions,
            store,
            clock: clock.clone(),
            lifetime,
            metrics,
            swaps,
            settled: AtomicUsize::new(0),
        }
    }

    /// Issues a session; its token.
    pub(super) async fn issue(&self) -> String {
        let new = NewSession {
            subject: Label::parse("user-7").unwrap(),
            key_id: None,
            key_owner: None,
            scopes: Scopes::default(),
            metadata: None,
            lifetime: self.lifetime,
        };
        let issued = self.sessions.sessions().issue(new).await.unwrap();
        issued.token.to_string()
    }

    /// Judges the session of a token, as a request does.
    pub(super) async fn judge(&self, token: &str) -> Result<Arc<Session>, Refusal> {
        let (wall, now) = (self.clock.now(), self.clock.monotonic());
        let metrics = self.metrics.worker(0);
        let token = token.as_bytes();
        let found = self.authenticators.seek_session(token, None, now, metrics);
        let session = found.await?.expect("it is in the store");
        self.authenticators.judge_session(session, wall, now).await
    }

    /// Uses a session, as a request does that is let in.
    pub(super) async fn r#use(&self, token: &str) -> Arc<Session> {
        let session = self.judge(token).await.unwrap();
        let metrics = self.metrics.worker(0);
        self.sessions.slide(&session, self.clock.now(), metrics);
        session
    }

    /// Waits until whatever had begun is done with the store.
    pub(super) async fn settle(&self) {
        for _ in 0..3 {
            // The store's threads take one thing after the other: this comes last.
            self.store.load("nothing").await.unwrap();
            tokio::task::yield_now().await;
            let nothing = Write {
                key: "nothing".into(),
                expected: None,
                value: None,
            };
            self.settled.fetch_add(1, Ordering::SeqCst);
            self.store.swap(vec![nothing], Vec::new()).await.unwrap();
            tokio::task::yield_now().await;
        }
    }

    /// How often the store was written, but to settle.
    pub(super) fn writes(&self) -> usize {
        self.swaps.load(Ordering::SeqCst) - self.settled.load(Ordering::SeqCst)
    }

    /// What the store has of the session of a token.
    pub(super) async fn stored(&self, token: &str) -> Record {
        let digest = gatelet::rules::api_key::Digest::of(token.as_bytes());
        let found = self.sessions.sessions().lookup(&digest).await;
        found.unwrap().unwrap()
    }
}

/// Keeps the runtime's time from running ahead by itself while the store's threads work.
pub(super) struct Held(#[expect(dead_code, reason = "its end is its use")] mpsc::Sender<()>);

/// Holds time until this is dropped.
pub(super) fn hold() -> Held {
    let (sender, held) = mpsc::channel();
    // A runtime that waits for such a task leaves its paused clock alone.
    tokio::task::spawn_blocking(move || held.recv());
    Held(sender)
}

/// Moves the clock and the runtime's timers.
pub(super) async fn pass(clock: &HandClock, by: Duration) {
    clock.advance(by);
    tokio::time::advance(by).await;
}

/// Lets the runtime work until `condition` holds, in real time.
pub(super) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < BOUND, "{what}");
        tokio::task::yield_now().await;
    }
}
