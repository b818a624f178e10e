//! The composition root: a configuration and a platform become a running sidecar, and drain.
//!
//! The caller's runtime carries what is not on the request path: accepting, telemetry, the feed
//! and reloads. Requests live on the workers' runtimes.

mod maker;
mod services;
mod upstreams;
mod worker;

use std::fmt;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::JoinHandle;

use crate::authn::signers::RingError;
use crate::cache::feed::Pulse;
use crate::config::Config;
use crate::gateway::Unservable;
use crate::limits::Callers;
use crate::listener::{self, Exit, Listener, Shares, Stage, Terms};
use crate::platform::{Ended, Platform, alive};
use crate::store::{OpenError, StoreFault};
use crate::telemetry::access_log::{AccessLog, Writer};
use crate::telemetry::metrics::{ConnectionError, Metrics, NO_WORKER, Reload};
use crate::telemetry::probes::Readiness;

use maker::Maker;
use services::{Connections, Observe};
use upstreams::Upstreams;
use worker::{Blueprint, Crew, Served};

/// How long the last lines of the access log may take to be written.
const LOG_FLUSH: Duration = Duration::from_secs(2);

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
    upstreams: Upstreams,
    pulse: Pulse,
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

        let authn = Maker::start(config, platform, &metrics, &pulse, &mut background).await?;

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
        let upstreams = Upstreams::new(platform, &metrics);
        let fitted = upstreams.fit(&config.upstreams);
        let served = Arc::new(Served {
            gateway: config.gateway.clone(),
            upstreams: fitted.directories(),
            authenticators: authn.make(&config.authn, &authn.failures(&config.limits)),
        });
        let shares = Shares::default();
        let blueprint = Blueprint {
            workers: config.workers,
            listen: Arc::clone(&listen),
            shares: shares.clone(),
            platform: platform.clone(),
            metrics: metrics.clone(),
            callers: Arc::new(Callers::new()),
            access_log,
            pulse: pulse.clone(),
            alive,
            stages,
        };
        let crew = Crew::hire(&blueprint, &served).await?;
        upstreams.settle(fitted);
        drop(blueprint);

        let overloaded = metrics.clone();
        let terms = Arc::clone(&listen);
        let accepting = tokio::spawn(listener::accept(
            proxy,
            crew.workers(),
            shares,
            move |address| terms.load().terms(address),
            move || {
                overloaded
                    .worker(NO_WORKER)
                    .connection_error(ConnectionError::Overloaded);
            },
        ));
        let loaded = authn.loaded();
        background.push(tokio::spawn({
            let readiness = readiness.clone();
            async move {
                loaded.await;
                readiness.ready();
            }
        }));
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
            upstreams,
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
        let wanted = self.authn.want_keys(&config.authn).await;
        wanted.map_err(|error| Unservable::SigningKeys(error.to_string()))?;
        let fitted = self.upstreams.fit(&config.upstreams);
        let served = Arc::new(Served {
            gateway: config.gateway.clone(),
            upstreams: fitted.directories(),
            authenticators: self.authn.make(&config.authn, &failures),
        });
        self.crew.reload(&served).await?;
        self.upstreams.settle(fitted);
        self.listen.rcu(|began| config.listen.clone().after(began));
        self.authn.settle(config, failures);
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
        self.authn.finish().await;
        if let Some(log) = self.access_log.take() {
            let flushed = tokio::task::spawn_blocking(move || log.finish(LOG_FLUSH)).await;
            if !flushed.unwrap_or(false) {
                tracing::warn!("the last lines of the access log were not written");
            }
        }
        finished
    }
}

fn bind(address: SocketAddr) -> Result<Listener, StartError> {
    Listener::bind(address).map_err(|error| StartError::Bind(address, error))
}

/// Serves metrics and probes from here until the process ends, through the drain too.
fn observe(
    listener: Listener,
    listen: &Arc<ArcSwap<listener::Config>>,
    platform: &Platform,
    metrics: &Metrics,
    readiness: &Readiness,
) -> JoinHandle<()> {
    /// More connections than every scraper and probe of a pod together make.
    const TERMS: Terms = Terms {
        connections: 256,
        may_hold_all: true,
        over_tls: false,
    };

    let (exit, stages) = Exit::new();
    let (alive, _) = alive();
    let service = Observe {
        metrics: metrics.clone(),
        readiness: readiness.clone(),
    };
    let shares = Shares::default();
    let (worker, serving) = listener::Worker::new(listener::Desk {
        service: Arc::new(service),
        config: Arc::clone(listen),
        shares: shares.clone(),
        is_edge: false,
        clock: Arc::clone(&platform.clock),
        census: Arc::new(Connections::telemetry(metrics.clone())),
        stages,
        alive,
    });
    tokio::spawn(async move {
        let accepting = listener::accept(listener, vec![worker], shares, |_| TERMS, || {});
        let (accepted, ()) = tokio::join!(accepting, serving);
        if let Err(error) = accepted {
            tracing::error!(%error, "the telemetry listener failed");
        }
        drop(exit);
    })
}
