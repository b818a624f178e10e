//! The composition root: a configuration and a platform become a running sidecar, and drain.
//!
//! The caller's runtime carries what is not on the request path: accepting, telemetry, the feed
//! and reloads. Requests live on the workers' runtimes.

mod services;
mod worker;

use std::fmt;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::JoinHandle;

use crate::authn;
use crate::authn::access_token::{self, AccessTokens};
use crate::authn::api_key::{self, ApiKeys, StoredKeys};
use crate::authn::authenticators::Authenticators;
use crate::authn::families::Families;
use crate::authn::keyring::Keyring;
use crate::authn::nonces::Nonces;
use crate::authn::session_token::{self, SessionTokens};
use crate::authn::sessions::Sessions;
use crate::authn::signers::{self, RingError};
use crate::cache::feed::{Follower, Freshness, Pulse, Remembered};
use crate::cache::verdicts::Verdicts;
use crate::config::Config;
use crate::gateway::Unservable;
use crate::limits::{self, Callers, FailedAuthentications};
use crate::listener::{self, Exit, Listener, Stage};
use crate::platform::{Ended, Platform, alive};
use crate::rules::api_key::Pepper;
use crate::rules::jwt::SigningAlgorithm;
use crate::store::{self, OpenError, Store, StoreFault};
use crate::telemetry::access_log::{AccessLog, Writer};
use crate::telemetry::metrics::{ConnectionError, Metrics, NO_WORKER, Reload};
use crate::telemetry::probes::Readiness;

use services::{Connections, Observe, observer};
use worker::{Blueprint, Crew, Served};

/// How long the last lines of the access log may take to be written.
const LOG_FLUSH: Duration = Duration::from_secs(2);

/// How often the store is swept.
const SWEEP: Duration = Duration::from_secs(600);

/// Why a sidecar did not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener could not be bound.
    Bind(SocketAddr, io::Error),
    /// The store could not be opened.
    Store(OpenError),
    /// The store did not answer.
    Feed(StoreFault),
    /// There is no key to sign access tokens with.
    Signing(RingError),
    /// The configuration cannot be served.
    Config(Unservable),
    /// The machine did not give a thread, a runtime or randomness.
    Machine(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}: another program does; stop it, or change [listen]"
            ),
            Self::Bind(address, _) => write!(f, "cannot listen on {address}"),
            Self::Store(_) => f.write_str("cannot open the store"),
            Self::Feed(_) => f.write_str("the store does not answer"),
            Self::Signing(_) => f.write_str("there is no key to sign access tokens with"),
            Self::Config(_) => f.write_str("the configuration cannot be served"),
            Self::Machine(_) => f.write_str("cannot start a worker"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(_, error) | Self::Machine(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::Feed(error) => Some(error),
            Self::Signing(error) => Some(error),
            Self::Config(error) => Some(error),
        }
    }
}

/// A running sidecar. Dropping it ends everything at once; [`App::stop`] drains first.
pub struct App {
    proxy: SocketAddr,
    telemetry: SocketAddr,
    /// Shared with the listeners, which ask it for each connection.
    listen: Arc<ArcSwap<listener::Config>>,
    crew: Crew,
    exit: Exit,
    connections: Ended,
    accepting: JoinHandle<io::Result<()>>,
    background: Vec<JoinHandle<()>>,
    readiness: Readiness,
    metrics: Metrics,
    access_log: Option<Writer>,
    authn: Maker,
    pulse: Pulse,
}

/// Makes what turns credentials into principals, anew for each configuration.
struct Maker {
    stored: Option<Stored>,
    /// What digests are keyed with until a restart: what is in the store knows no other.
    pepper: Option<Pepper>,
    failures: ArcSwap<FailedAuthentications>,
}

/// What is in the store, and for how long what it said is believed.
struct Stored {
    keys: Arc<StoredKeys>,
    sessions: Arc<SessionTokens>,
    access: Arc<access_token::Stored>,
    signing: Arc<signers::StoredKeys>,
    nonces: Arc<Nonces>,
    freshness: Arc<Freshness>,
}

impl Maker {
    fn make(
        &self,
        config: &authn::Config,
        failures: &Arc<FailedAuthentications>,
    ) -> Arc<Authenticators> {
        let config = &authn::Config {
            pepper: self.pepper.clone(),
            ..config.clone()
        };
        let stored = self.stored.as_ref();
        let keys = stored.map(|stored| Arc::clone(&stored.keys));
        Arc::new(Authenticators {
            keys: Arc::new(ApiKeys::new(config, keys, Arc::clone(failures))),
            sessions: stored.map(|stored| Arc::clone(&stored.sessions)),
            access: stored
                .zip(config.access_token.as_ref())
                .map(|(stored, tokens)| {
                    let access = Arc::clone(&stored.access);
                    let from_files = config.signing_keys.clone();
                    Arc::new(AccessTokens::new(tokens.clone(), access, from_files))
                }),
            nonces: stored.map(|stored| Arc::clone(&stored.nonces)),
        })
    }

    /// The failures counted so far, unless the rate at which they may come has changed.
    fn failures(&self, config: &limits::Config) -> Arc<FailedAuthentications> {
        let rate = config.failed_authentications;
        let known = self.failures.load_full();
        if known.rate() == rate {
            known
        } else {
            Arc::new(FailedAuthentications::new(rate))
        }
    }
}

impl App {
    /// Starts a sidecar, which serves once this returns.
    pub async fn start(config: &Config, platform: &Platform) -> Result<Self, StartError> {
        let metrics = Metrics::new(config.workers);
        let readiness = Readiness::starting();
        let pulse = Pulse::new();
        let mut background = Vec::new();

        let proxy = bind(config.listen.proxy)?;
        let telemetry = bind(config.listen.telemetry)?;
        let addresses = (proxy.address(), telemetry.address());
        let listen = Arc::new(ArcSwap::from_pointee(config.listen.clone()));
        background.push(observe(telemetry, &listen, platform, &metrics, &readiness));

        let stored = match &config.store {
            Some(store) => {
                let (stored, follower) =
                    open_store(store, config, platform, &metrics, &pulse).await?;
                background.push(tokio::spawn(follower.follow()));
                let sessions = &stored.sessions;
                background.push(tokio::spawn(Arc::clone(sessions).keep_writing()));
                background.push(tokio::spawn(sweep(
                    sessions.sessions().clone(),
                    stored.access.families().clone(),
                    Arc::clone(&stored.nonces),
                )));
                let signing = &stored.signing;
                let wanted = signing.want(wanted_keys(&config.authn)).await;
                wanted.map_err(StartError::Signing)?;
                background.push(tokio::spawn(Arc::clone(signing).keep()));
                Some(stored)
            }
            None => None,
        };
        let failures = FailedAuthentications::new(config.limits.failed_authentications);
        let authn = Maker {
            stored,
            pepper: config.authn.pepper.clone(),
            failures: ArcSwap::from_pointee(failures),
        };

        let (access_log, log_writer) = if config.log.access {
            let text = config.log.format.is_text(io::stdout().is_terminal());
            let (log, writer) = AccessLog::start(text, io::stdout(), metrics.clone())
                .map_err(StartError::Machine)?;
            (Some(log), Some(writer))
        } else {
            (None, None)
        };
        let (exit, stages) = Exit::new();
        let (alive, connections) = alive();
        let served = Arc::new(Served {
            gateway: config.gateway.clone(),
            upstreams: config.upstreams.clone(),
            authenticators: authn.make(&config.authn, &authn.failures.load()),
        });
        let blueprint = Blueprint {
            workers: config.workers,
            listen: Arc::clone(&listen),
            platform: platform.clone(),
            metrics: metrics.clone(),
            callers: Arc::new(Callers::new()),
            access_log,
            pulse: pulse.clone(),
            alive,
            stages,
        };
        let crew = Crew::hire(&blueprint, &served).await?;
        drop(blueprint);

        let overloaded = metrics.clone();
        let bounds = Arc::clone(&listen);
        let accepting = tokio::spawn(listener::accept(
            proxy,
            crew.workers(),
            move || bounds.load().connections,
            move || {
                overloaded
                    .worker(NO_WORKER)
                    .connection_error(ConnectionError::Overloaded);
            },
        ));
        readiness.ready();
        Ok(Self {
            proxy: addresses.0,
            telemetry: addresses.1,
            listen,
            crew,
            exit,
            connections,
            accepting,
            background,
            readiness,
            metrics,
            access_log: log_writer,
            authn,
            pulse,
        })
    }

    /// Where guarded traffic arrives.
    pub fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// Where `/metrics` and the probes are.
    pub fn telemetry(&self) -> SocketAddr {
        self.telemetry
    }

    /// Puts another configuration in force, whole or not at all.
    ///
    /// What [`fixed_changes`](crate::config::fixed_changes) names stays as it was.
    /// Connections keep the deadlines that they began with.
    pub async fn reload(&self, config: &Config) -> Result<(), Unservable> {
        let failures = self.authn.failures(&config.limits);
        if let Some(stored) = &self.authn.stored {
            let wanted = stored.signing.want(wanted_keys(&config.authn)).await;
            wanted.map_err(|error| Unservable::SigningKeys(error.to_string()))?;
        }
        let served = Arc::new(Served {
            gateway: config.gateway.clone(),
            upstreams: config.upstreams.clone(),
            authenticators: self.authn.make(&config.authn, &failures),
        });
        self.crew.reload(&served).await?;
        self.listen.store(Arc::new(config.listen.clone()));
        self.authn.failures.store(failures);
        if let Some(stored) = &self.authn.stored {
            stored.freshness.believe_for(config.cache.max_staleness);
            stored.sessions.live_for(config.authn.session_lifetime);
        }
        // What is held open on a key that is no longer there ends now.
        self.pulse.beat();
        self.metrics.reload(Reload::Applied);
        Ok(())
    }

    /// Counts a configuration that was not put in force.
    pub fn reload_rejected(&self) {
        self.metrics.reload(Reload::Rejected);
    }

    /// Drains and ends: unready at once, serving on through the drain delay, then finishing what
    /// runs within the grace. True if everything had finished.
    pub async fn stop(mut self) -> bool {
        let listen = self.listen.load_full();
        self.readiness.draining();
        self.exit.enter(Stage::Draining);
        tokio::time::sleep(listen.drain_delay).await;
        self.accepting.abort();
        // The crew's inboxes close once the acceptor has dropped its handles to them.
        let _ = (&mut self.accepting).await;
        self.exit.enter(Stage::Closing);
        self.crew.close();
        let finished = tokio::time::timeout(listen.shutdown_grace, self.connections.wait())
            .await
            .is_ok();
        self.crew.dismiss().await;
        for task in &self.background {
            task.abort();
        }
        if let Some(stored) = &self.authn.stored {
            stored.sessions.write_slides().await;
        }
        if let Some(log) = self.access_log.take() {
            let flushed = tokio::task::spawn_blocking(move || log.finish(LOG_FLUSH)).await;
            if !flushed.unwrap_or(false) {
                tracing::warn!("the last lines of the access log were not written");
            }
        }
        finished
    }
}

/// What the keys in the store shall sign with, where they are needed.
fn wanted_keys(config: &authn::Config) -> Option<SigningAlgorithm> {
    let tokens = config.access_token.as_ref();
    let tokens = tokens.filter(|_| config.signing_keys.is_none());
    tokens.map(|tokens| tokens.algorithm)
}

fn bind(address: SocketAddr) -> Result<Listener, StartError> {
    Listener::bind(address).map_err(|error| StartError::Bind(address, error))
}

/// Opens the store and begins to follow it, before anything of it is remembered.
async fn open_store(
    store: &store::Config,
    config: &Config,
    platform: &Platform,
    metrics: &Metrics,
    pulse: &Pulse,
) -> Result<(Stored, Follower), StartError> {
    let clock = &platform.clock;
    let store = Store::open(store, Arc::clone(clock), observer(metrics));
    let store = Arc::new(store.map_err(StartError::Store)?);
    let capacity = config.cache.capacity;
    let keys = Arc::new(Verdicts::new(capacity));
    let issuers = Arc::new(Verdicts::new(capacity));
    let sessions = Arc::new(Verdicts::new(capacity));
    let standings = Arc::new(Verdicts::new(capacity));
    let remembered = vec![
        Remembered::new(&standings, access_token::concerned),
        Remembered::new(&keys, api_key::concerned_keys),
        Remembered::new(&issuers, api_key::concerned_issuers),
        Remembered::new(&sessions, session_token::concerned),
    ];
    let freshness = Freshness::new(config.cache.max_staleness, clock.monotonic());
    let freshness = Arc::new(freshness);
    let follower = Follower::begin(
        Arc::clone(&store),
        remembered,
        Arc::clone(&freshness),
        pulse.clone(),
        Arc::clone(clock),
        metrics.clone(),
    )
    .await
    .map_err(StartError::Feed)?;
    let pepper = &config.authn.pepper;
    let keyring = Keyring::new(
        Arc::clone(&store),
        config.authn.prefix.clone(),
        pepper.clone(),
        platform.clone(),
    );
    let keys = StoredKeys::new(Arc::new(keyring), keys, issuers, Arc::clone(&freshness));
    let nonces = Nonces::open(Arc::clone(&store), platform.clone())
        .await
        .map_err(StartError::Feed)?;
    let signing = Arc::new(signers::StoredKeys::new(
        Arc::clone(&store),
        platform.clone(),
    ));
    let access = access_token::Stored::new(
        Families::new(Arc::clone(&store), pepper.clone(), platform.clone()),
        standings,
        Arc::clone(&freshness),
        Arc::clone(&signing),
        capacity,
        platform.clone(),
    );
    let sessions = SessionTokens::new(
        Sessions::new(store, pepper.clone(), platform.clone()),
        sessions,
        Arc::clone(&freshness),
        config.authn.session_lifetime,
        platform.clone(),
        metrics.clone(),
    );
    let stored = Stored {
        keys: Arc::new(keys),
        sessions: Arc::new(sessions),
        access: Arc::new(access),
        signing,
        nonces: Arc::new(nonces),
        freshness,
    };
    Ok((stored, follower))
}

/// Deletes what has long been over, now and then, for ever.
async fn sweep(sessions: Sessions, families: Families, nonces: Arc<Nonces>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let swept = async {
            let nonces = nonces.sweep().await?;
            Ok::<_, StoreFault>(nonces + sessions.sweep().await? + families.sweep().await?)
        };
        match swept.await {
            Ok(deleted) => tracing::debug!(deleted, "swept what was over"),
            Err(error) => tracing::warn!(%error, "what is over could not be swept"),
        }
    }
}

/// Serves metrics and probes from here until the process ends, through the drain too.
fn observe(
    listener: Listener,
    listen: &Arc<ArcSwap<listener::Config>>,
    platform: &Platform,
    metrics: &Metrics,
    readiness: &Readiness,
) -> JoinHandle<()> {
    /// More than every scraper and probe of a pod together.
    const CONNECTIONS: usize = 256;

    let (exit, stages) = Exit::new();
    let (alive, _) = alive();
    let service = Observe {
        metrics: metrics.clone(),
        readiness: readiness.clone(),
    };
    let (worker, serving) = listener::Worker::new(listener::Desk {
        service: Arc::new(service),
        config: Arc::clone(listen),
        clock: Arc::clone(&platform.clock),
        census: Arc::new(Connections::telemetry(metrics.clone())),
        stages,
        alive,
    });
    tokio::spawn(async move {
        let accepting = listener::accept(listener, vec![worker], || CONNECTIONS, || {});
        let (accepted, ()) = tokio::join!(accepting, serving);
        if let Err(error) = accepted {
            tracing::error!(%error, "the telemetry listener failed");
        }
        drop(exit);
    })
}
