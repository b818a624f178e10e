//! One replica without its sockets: what `app::maker` makes over a store.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatelet::authn::access_token;
use gatelet::authn::api_key::{self, ApiKeys, StoredKeys};
use gatelet::authn::authenticators::Authenticators;
use gatelet::authn::families::{Families, Standing};
use gatelet::authn::issuers::Issuers;
use gatelet::authn::keyring::Keyring;
use gatelet::authn::nonces::Nonces;
use gatelet::authn::session_token::{self, Session, SessionTokens};
use gatelet::authn::sessions::{NewSession, Sessions};
use gatelet::authn::sweep::{self, Sweep};
use gatelet::authn::{Config, signers};
use gatelet::cache::feed::{Follower, Pulse, Remembered};
use gatelet::cache::freshness::Freshness;
use gatelet::cache::verdicts::{Known, Verdicts};
use gatelet::limits::FailedAuthentications;
use gatelet::platform::Platform;
use gatelet::rules::api_key::{Digest, Label};
use gatelet::rules::bucket::Rate;
use gatelet::rules::decision::Refusal;
use gatelet::rules::jwt::SigningAlgorithm;
use gatelet::rules::principal::Scopes;
use gatelet::rules::session::Lifetime;
use gatelet::store::{self, Store};
use gatelet::telemetry::metrics::Metrics;
use tokio::task::JoinHandle;

/// What `cache.max_staleness` is where nobody says.
const MAX_STALENESS: Duration = Duration::from_secs(30);

/// How many of each kind are remembered; fewer than by default, for they are many in one process.
const CAPACITY: u64 = 10_000;

/// What `limits.failed_authentications` is where nobody says: 200 a second.
pub(crate) const GUESSES: u32 = 200;

/// One replica.
pub(crate) struct Replica {
    pub(crate) store: Arc<Store>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) sessions: Arc<SessionTokens>,
    keys: Arc<ApiKeys>,
    authenticators: Authenticators,
    remembered: Arc<Verdicts<Session>>,
    pulse: Pulse,
    pub(crate) platform: Platform,
    metrics: Metrics,
    background: Vec<JoinHandle<()>>,
}

impl Replica {
    /// Begins to follow the store, as a starting program does.
    pub(crate) async fn start(store: &store::Config) -> Self {
        let platform = Platform::system();
        let store = Store::open(store, &platform, Arc::new(|_, _, _| {}));
        let store = Arc::new(store.unwrap());
        let (metrics, pulse) = (Metrics::new(1), Pulse::new());
        let freshness = Arc::new(Freshness::new(MAX_STALENESS));
        let keys = Arc::new(Verdicts::new(CAPACITY));
        let issuers = Arc::new(Verdicts::new(CAPACITY));
        let remembered = Arc::new(Verdicts::new(CAPACITY));
        let standings = Arc::new(Verdicts::<Standing>::new(CAPACITY));
        let nonces = Arc::new(Nonces::new(Arc::clone(&store), platform.clone()));
        let seal = Arc::clone(&nonces);
        let mut follower = Follower::new(
            Arc::clone(&store),
            vec![
                Remembered::unchanging(move || seal.forget()),
                Remembered::new(&standings, access_token::concerned),
                Remembered::new(&keys, api_key::concerned_keys),
                Remembered::new(&issuers, api_key::concerned_issuers),
                Remembered::new(&remembered, session_token::concerned),
            ],
            Arc::clone(&freshness),
            pulse.clone(),
            Arc::clone(&platform.clock),
            metrics.clone(),
        );
        follower.once().await.unwrap();
        let keyring = Keyring::new(Arc::clone(&store), "gk".into(), None, platform.clone());
        let keyring = Arc::new(keyring);
        let stored = StoredKeys::new(Arc::clone(&keyring), keys, issuers, Arc::clone(&freshness));
        let signing = signers::StoredKeys::new(Arc::clone(&store), platform.clone());
        let signing = Arc::new(signing);
        signing.want(Some(SigningAlgorithm::Es256)).await.unwrap();
        let sessions = Arc::new(SessionTokens::new(
            Sessions::new(Arc::clone(&store), None, platform.clone()),
            Arc::clone(&remembered),
            freshness,
            Lifetime::default(),
            platform.clone(),
            metrics.clone(),
        ));
        let sweep = Sweep::new(
            Arc::clone(&store),
            sessions.sessions().clone(),
            Families::new(Arc::clone(&store), None, platform.clone()),
            nonces,
            platform.clone(),
        );
        let background = vec![
            tokio::spawn(follower.follow()),
            tokio::spawn(signing.keep()),
            tokio::spawn(Arc::clone(&sessions).keep_writing()),
            tokio::spawn(keep_sweeping(sweep)),
        ];
        let guesses = Rate::per(GUESSES, Duration::from_secs(1), GUESSES).unwrap();
        let keys = Arc::new(ApiKeys::new(
            &config(),
            Some(Arc::new(stored)),
            Arc::new(FailedAuthentications::new(guesses)),
        ));
        let authenticators = Authenticators {
            keys: Arc::clone(&keys),
            sessions: Some(Arc::clone(&sessions)),
            access: None,
            own_issuer: "".into(),
            issuers: Arc::new(Issuers::none()),
            nonces: None,
        };
        Self {
            store,
            keyring,
            sessions,
            keys,
            authenticators,
            remembered,
            pulse,
            platform,
            metrics,
            background,
        }
    }

    /// Whether a key is known, as a request finds out that shows it.
    pub(crate) async fn show_key(
        &self,
        secret: &str,
        from: Ipv4Addr,
    ) -> Result<api_key::Sought, Refusal> {
        let now = self.platform.clock.monotonic();
        let metrics = self.metrics.worker(0);
        let secret = secret.as_bytes();
        self.keys
            .seek(secret, Some(from.into()), now, metrics)
            .await
    }

    /// Remembers a session, as if a request had come with it.
    pub(crate) async fn recall(&self, token: &str) -> Arc<Session> {
        let now = self.platform.clock.monotonic();
        let metrics = self.metrics.worker(0);
        let token = token.as_bytes();
        let found = self.authenticators.seek_session(token, None, now, metrics);
        found.await.unwrap().unwrap()
    }

    /// Uses a session, as a request does that is let in.
    pub(crate) async fn use_session(&self, token: &str) {
        let session = self.recall(token).await;
        let (wall, now) = (self.platform.clock.now(), self.platform.clock.monotonic());
        let judged = self.authenticators.judge_session(session, wall, now);
        let metrics = self.metrics.worker(0);
        self.sessions.slide(&judged.await.unwrap(), wall, metrics);
    }

    /// Issues a session that lives so long; its token.
    pub(crate) async fn issue(&self, lifetime: Lifetime) -> String {
        let new = NewSession {
            subject: Label::parse("user-7").unwrap(),
            key_id: None,
            key_owner: None,
            scopes: Scopes::default(),
            metadata: None,
            lifetime,
        };
        let issued = self.sessions.sessions().issue(new).await;
        issued.unwrap().token.to_string()
    }

    /// Waits until it has forgotten a session; when it had.
    pub(crate) async fn forgets(&self, session: Digest) -> Instant {
        let mut pulse = self.pulse.listen();
        while !matches!(self.remembered.known(&session), Known::Unasked) {
            pulse.changed().await.unwrap();
        }
        Instant::now()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        for task in &self.background {
            task.abort();
        }
    }
}

async fn keep_sweeping(sweep: Sweep) {
    loop {
        tokio::time::sleep(sweep::PERIOD / 3).await;
        sweep.turn().await.unwrap();
    }
}

fn config() -> Config {
    Config {
        headers: Vec::new(),
        bearer: true,
        prefix: "gk".into(),
        pepper: None,
        statics: Vec::new(),
        session_lifetime: Lifetime::default(),
        own_issuer: "".into(),
        access_token: None,
        signing_keys: None,
        trusted: Vec::new(),
    }
}
