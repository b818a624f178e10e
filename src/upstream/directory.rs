//! Which addresses an upstream has now, and how each of them stands: one directory for all workers.
//!
//! What happens to requests is told to it; its tasks resolve names, try ejected addresses again and
//! carry out health checks. What follows from all that is judged in `rules::health`.

mod tending;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, timeout};

use crate::platform::{Monotonic, Platform};
use crate::rules::health::{Failure, Standing};
use crate::telemetry::metrics::{AddressState, UpstreamSeries};
use crate::upstream::endpoint::{Condition, Endpoint, Target};
use crate::upstream::pool::Unavailable;
use crate::upstream::{Address, Config};

pub use tending::Tended;

/// Pools tidy up no more often than this.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);

/// The addresses of an upstream, in the order of its configuration.
pub(super) type Endpoints = Arc<[Arc<Endpoint>]>;

/// Where an upstream is reached.
pub struct Directory {
    config: Config,
    platform: Platform,
    series: Arc<UpstreamSeries>,
    listing: watch::Sender<Listing>,
    names: Box<[Name]>,
    /// Told of each ejection.
    ejected: Notify,
    /// It speaks for the upstream in the metrics: no other one is about to, or does already.
    in_force: AtomicBool,
}

/// A name among the addresses.
struct Name {
    host: Box<str>,
    /// Told that its addresses may have changed.
    doubted: Notify,
}

/// What a directory says at one moment.
pub(super) struct Listing {
    pub(super) endpoints: Endpoints,
    /// What is known of each name.
    found: Box<[Found]>,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Found {
    /// The last that were found, in order.
    addresses: Vec<IpAddr>,
    /// It was looked up at least once.
    looked_up: bool,
    /// Why the last look-up found nothing.
    failure: Option<Box<str>>,
}

impl Directory {
    fn new(config: Config, platform: Platform, series: Arc<UpstreamSeries>) -> Self {
        let mut names: Vec<Name> = Vec::new();
        for host in config.addresses.iter().filter_map(name_of) {
            if names.iter().all(|name| *name.host != *host) {
                names.push(Name {
                    host: host.into(),
                    doubted: Notify::new(),
                });
            }
        }
        let directory = Self {
            config,
            platform,
            series,
            listing: watch::Sender::new(Listing {
                endpoints: Arc::default(),
                found: names.iter().map(|_| Found::default()).collect(),
            }),
            names: names.into(),
            ejected: Notify::new(),
            in_force: AtomicBool::new(false),
        };
        directory.list(|_| {});
        directory
    }

    /// What it was made of.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The addresses there are now.
    pub(super) fn endpoints(&self) -> Endpoints {
        Arc::clone(&self.listing.borrow().endpoints)
    }

    /// Hears of each change of the addresses from now on.
    pub(super) fn follow(&self) -> watch::Receiver<Listing> {
        self.listing.subscribe()
    }

    /// Waits until there is an address, as long as a connect may take. Cancel safe.
    pub(super) async fn wait_for_addresses(&self) -> Result<(), Unavailable> {
        match timeout(self.config.connect_timeout, self.reachable()).await {
            Ok(known) => known.map_err(Unavailable::from),
            Err(_) => Err(Unavailable::ConnectTimeout),
        }
    }

    /// Waits until there is an address, or every name was looked up and none was found: why. Cancel
    /// safe.
    pub(super) async fn reachable(&self) -> io::Result<()> {
        let mut listing = self.follow();
        let known = listing.wait_for(|listing| {
            !listing.endpoints.is_empty() || listing.found.iter().all(|found| found.looked_up)
        });
        // The sender is here.
        let Ok(known) = known.await else {
            return Ok(());
        };
        if !known.endpoints.is_empty() {
            return Ok(());
        }
        let failure = known
            .found
            .iter()
            .find_map(|found| found.failure.as_deref());
        let error = io::Error::other(failure.unwrap_or("its name has no address"));
        drop(known);
        self.doubt();
        Err(error)
    }

    /// A connect failed, or its connection was closed before anything was sent on it.
    pub(super) fn refused(&self, endpoint: &Endpoint, why: &dyn fmt::Display) {
        self.doubt();
        self.failed(endpoint, Failure::Connect, why);
    }

    /// A connection broke before an answer.
    pub(super) fn broke(&self, endpoint: &Endpoint) {
        self.failed(
            endpoint,
            Failure::Broken,
            &"connections broke before an answer",
        );
    }

    /// The answer to what was `asked` then did not begin in time.
    pub(super) fn late(&self, endpoint: &Endpoint, asked: Monotonic) {
        self.failed(
            endpoint,
            Failure::Late(asked.0),
            &"it was reached and did not answer",
        );
    }

    fn failed(&self, endpoint: &Endpoint, failure: Failure, why: &dyn fmt::Display) {
        // The only address is not judged: there is nothing that would follow.
        if self.listing.borrow().endpoints.len() < 2 {
            return;
        }
        let (now, jitter) = (self.now(), self.jitter());
        let mut ejected = false;
        self.change(endpoint, why, |condition| {
            ejected = condition.health.failed(failure, now, jitter).is_some();
        });
        if ejected {
            self.ejected.notify_one();
        }
    }

    /// A request was answered.
    pub(super) fn answered(&self, endpoint: &Endpoint) {
        if !endpoint.is_spotless() {
            let now = self.now();
            self.change(endpoint, &"", |condition| condition.health.answered(now));
        }
    }

    /// A connection was made.
    pub(super) fn connected(&self, endpoint: &Endpoint) {
        if !endpoint.is_spotless() {
            let now = self.now();
            self.change(endpoint, &"", |condition| {
                condition.health.connected(now);
            });
        }
    }

    /// Puts what has changed about an address in force; `why` is told where it leaves the service.
    fn change(
        &self,
        endpoint: &Endpoint,
        why: &dyn fmt::Display,
        change: impl FnOnce(&mut Condition),
    ) {
        let (before, after) = endpoint.change(change);
        if before == after {
            return;
        }
        self.tally();
        let (upstream, address) = (&*self.config.name, endpoint.target());
        match after {
            Standing::Ejected => {
                tracing::warn!(upstream, %address, %why, "an address was ejected");
            }
            Standing::Unhealthy => {
                tracing::warn!(upstream, %address, %why, "an address does not pass its health check");
            }
            Standing::InService | Standing::OnProbation if !before.is_in_service() => {
                tracing::info!(upstream, %address, "an address is back in service");
            }
            Standing::InService | Standing::OnProbation => {}
        }
    }

    /// Says in the metrics how many addresses are in which state, if it is for this one to say.
    fn tally(&self) {
        if !self.in_force.load(Ordering::Relaxed) {
            return;
        }
        let mut tally = [0; AddressState::ALL.len()];
        for endpoint in self.endpoints().iter() {
            let state = match endpoint.standing() {
                Standing::InService | Standing::OnProbation => AddressState::InService,
                Standing::Ejected => AddressState::Ejected,
                Standing::Unhealthy => AddressState::Unhealthy,
            };
            tally[state as usize] += 1;
        }
        self.series.addresses(tally);
    }

    /// Changes what is known of names, and lists the addresses that follow.
    ///
    /// An address that was there before keeps how it stands. Only a changed list is told.
    fn list(&self, learn: impl FnOnce(&mut [Found])) {
        self.listing.send_if_modified(|listing| {
            let known = listing.found.clone();
            learn(&mut listing.found);
            let endpoints = self.endpoints_of(&listing.found, &listing.endpoints);
            let same = endpoints.len() == listing.endpoints.len()
                && endpoints
                    .iter()
                    .zip(listing.endpoints.iter())
                    .all(|(one, other)| Arc::ptr_eq(one, other));
            if !same {
                listing.endpoints = endpoints.into();
            }
            !same || known != listing.found
        });
        self.tally();
    }

    fn endpoints_of(&self, found: &[Found], before: &[Arc<Endpoint>]) -> Vec<Arc<Endpoint>> {
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        for address in &self.config.addresses {
            for target in self.targets(address, found) {
                let at_target = |endpoint: &&Arc<Endpoint>| *endpoint.target() == target;
                if endpoints.iter().any(|endpoint| at_target(&endpoint)) {
                    continue;
                }
                let same = before.iter().find(at_target).map(Arc::clone);
                endpoints
                    .push(same.unwrap_or_else(|| Arc::new(Endpoint::new(target, address.clone()))));
            }
        }
        endpoints
    }

    /// What an address stands for.
    fn targets(&self, address: &Address, found: &[Found]) -> Vec<Target> {
        let (host, port) = match address {
            Address::Unix(path) => return vec![Target::Unix(path.clone())],
            Address::Tcp { host, port } => (host, *port),
        };
        if let Ok(ip) = host.parse::<IpAddr>() {
            return vec![Target::Tcp(SocketAddr::new(ip, port))];
        }
        let mut names = self.names.iter().zip(found);
        let known = names.find(|(name, _)| name.host == *host);
        known.map_or_else(Vec::new, |(_, found)| {
            let sockets = found.addresses.iter().map(|ip| SocketAddr::new(*ip, port));
            sockets.map(Target::Tcp).collect()
        })
    }

    /// Has the names looked up soon: what they were found to be does not answer.
    fn doubt(&self) {
        for name in &self.names {
            name.doubted.notify_one();
        }
    }

    fn now(&self) -> Duration {
        self.platform.clock.monotonic().0
    }

    fn jitter(&self) -> u8 {
        let mut jitter = [0];
        // Without randomness trials are not spread, which is all that is lost.
        let _ = self.platform.entropy.fill(&mut jitter);
        jitter[0]
    }
}

/// Has a pool `fit` the addresses when they change, and `tidy` up each `period`, until it has gone.
pub(super) async fn keep<P>(
    pool: Weak<P>,
    mut listing: watch::Receiver<Listing>,
    fit: impl Fn(&P),
    period: Duration,
    tidy: impl Fn(&P),
) {
    let mut looks = tokio::time::interval(period.max(SHORTEST_LOOK));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let changed = tokio::select! {
            _ = looks.tick() => false,
            changed = listing.changed() => changed.is_ok(),
        };
        let Some(pool) = pool.upgrade() else { return };
        if changed {
            fit(&pool);
        } else {
            tidy(&pool);
        }
    }
}

/// The name that an address is to be looked up by, unless it is plain already.
fn name_of(address: &Address) -> Option<&str> {
    match address {
        Address::Tcp { host, .. } if host.parse::<IpAddr>().is_err() => Some(host),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
