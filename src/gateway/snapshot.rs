//! What one worker serves from until the next reload: the configuration, with its handles.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use crate::answer::Realm;
use crate::authn::authenticators::Authenticators;
use crate::rules::headers::HeaderRules;
use crate::rules::route::{RouteTable, Tie};
use crate::telemetry::metrics::{Metrics, OWN_ROUTES, RouteSeries, RouteShard, UpstreamSeries};
use crate::tokens::Tokens;
use crate::upstream::Pool;

use super::{Config, Cors, RouteConfig};

/// The number of the next view; there is no first one.
static SERIALS: AtomicU64 = AtomicU64::new(1);

/// One worker's view of one configuration.
///
/// Each worker has one of its own, so that counting who still uses it is nothing they share.
pub struct Snapshot {
    /// Which of all views this is.
    pub(super) serial: u64,
    pub(super) realm: Realm,
    pub(super) table: RouteTable,
    pub(super) routes: Vec<Route>,
    pub(super) unmatched: Arc<RouteSeries>,
    pub(super) headers: Arc<HeaderRules>,
    pub(super) identity: Identity,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) cors: Option<Cors>,
    pub(super) authenticators: Arc<Authenticators>,
    pub(super) own: Own,
}

/// The routes that gatelet answers itself.
pub(super) struct Own {
    pub(super) table: RouteTable,
    pub(super) tokens: Tokens,
    pub(super) name: Arc<str>,
    pub(super) series: Arc<Series>,
}

/// A route's series, which all workers have, as one worker holds it: its requests are counted as users
/// of this, where no other worker counts.
pub(super) struct Series(Arc<RouteSeries>);

impl Series {
    pub(super) fn shard(&self, worker: usize) -> &RouteShard {
        self.0.shard(worker)
    }
}

/// A route with what it needs at hand.
pub(super) struct Route {
    pub(super) config: RouteConfig,
    pub(super) name: Arc<str>,
    pub(super) series: Arc<Series>,
    pub(super) pool: Pool,
    pub(super) upstream: Arc<UpstreamSeries>,
    pub(super) response_timeout: Duration,
}

/// The names under which the upstream learns who is calling.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) subject: HeaderName,
    pub(super) methods: HeaderName,
    pub(super) key_id: HeaderName,
    pub(super) key_owner: HeaderName,
    pub(super) scopes: HeaderName,
    pub(super) session_id: HeaderName,
    pub(super) issuer: HeaderName,
    pub(super) certificate: HeaderName,
}

/// Why a configuration cannot be served; `config` reports these before one gets here.
#[derive(Debug)]
pub enum Unservable {
    /// Two routes tie.
    Ties(Vec<Tie>),
    /// The identity prefix makes no header names.
    IdentityPrefix,
    /// A route names an upstream that does not exist.
    Upstream(usize),
    /// There are no keys to sign access tokens with, and this is why.
    SigningKeys(String),
}

impl std::fmt::Display for Unservable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ties(ties) => {
                let pairs: Vec<String> = ties
                    .iter()
                    .map(|tie| format!("routes[{}] and routes[{}]", tie.first, tie.second))
                    .collect();
                write!(f, "these routes tie: {}", pairs.join(", "))
            }
            Self::IdentityPrefix => f.write_str("the identity prefix makes no header names"),
            Self::SigningKeys(why) => write!(f, "no access token could be signed: {why}"),
            Self::Upstream(place) => write!(f, "there is no upstream {place}"),
        }
    }
}

impl std::error::Error for Unservable {}

impl Snapshot {
    /// Builds a worker's view. `pools` are that worker's, in the order of the upstreams.
    pub fn build(
        config: &Config,
        authenticators: &Arc<Authenticators>,
        pools: &[Pool],
        metrics: &Metrics,
    ) -> Result<Self, Unservable> {
        let routes = config.routes.iter();
        let routes = routes.map(|route| (&route.pattern, &*route.methods));
        let table = RouteTable::build(routes, config.matching).map_err(Unservable::Ties)?;
        // A table of their own, which is asked first: no host, and no path however exact, takes
        // from gatelet what is gatelet's.
        let own = config.tokens.routes.iter();
        let own = own.map(|route| (&route.pattern, &*route.methods));
        let own = RouteTable::build(own, config.matching).map_err(Unservable::Ties)?;
        let routes = config.routes.iter().map(|route| {
            let pool = pools
                .get(route.upstream)
                .ok_or(Unservable::Upstream(route.upstream))?;
            Ok(Route {
                config: route.clone(),
                name: Arc::from(&*route.name),
                series: Arc::new(Series(metrics.route(&route.name))),
                upstream: metrics.upstream(&pool.config().name),
                response_timeout: route
                    .response_timeout
                    .unwrap_or(pool.config().response_timeout),
                pool: pool.clone(),
            })
        });
        Ok(Self {
            serial: SERIALS.fetch_add(1, Ordering::Relaxed),
            realm: Realm::new(&config.realm),
            table,
            routes: routes.collect::<Result<_, Unservable>>()?,
            unmatched: metrics.unmatched(),
            headers: Arc::new(HeaderRules::new(
                &config.identity_prefix,
                authenticators.keys.headers(),
                &config.private_cookies,
            )),
            identity: Identity::below(&config.identity_prefix).ok_or(Unservable::IdentityPrefix)?,
            trusted_proxies: config.trusted_proxies.clone(),
            cors: config.cors.clone(),
            own: Own {
                table: own,
                tokens: Tokens::new(config.tokens.clone(), Arc::clone(authenticators)),
                name: Arc::from(OWN_ROUTES),
                series: Arc::new(Series(metrics.route(OWN_ROUTES))),
            },
            authenticators: Arc::clone(authenticators),
        })
    }

    /// What turns credentials into principals.
    pub fn authenticators(&self) -> &Arc<Authenticators> {
        &self.authenticators
    }
}

impl Identity {
    fn below(prefix: &str) -> Option<Self> {
        let name = |rest: &str| HeaderName::try_from(format!("{prefix}{rest}")).ok();
        Some(Self {
            subject: name("subject")?,
            methods: name("methods")?,
            key_id: name("key-id")?,
            key_owner: name("key-owner")?,
            scopes: name("scopes")?,
            session_id: name("session-id")?,
            issuer: name("issuer")?,
            certificate: name("certificate")?,
        })
    }
}
