//! Whether the words make sense together, and what the rooms are built from if they do.
//!
//! Every part is judged even where another failed, so that all problems come at once; a value that
//! is missing here was reported by the shape check.

mod edge;
mod keys;
mod routes;
mod store;
mod tls;
mod tokens;
mod trusted;
mod upstreams;

pub(super) use routes::path_key;
pub(super) use store::store;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::available_parallelism;
use std::time::Duration;

use ipnet::IpNet;
use zeroize::Zeroizing;

use super::problems::Findings;
use super::raw::{Cache, Limits, Listen, Log, LogFormat, LogLevel, Raw};
use super::reload::Watch;
use super::values::Period;
use super::{Config, warnings};
use crate::telemetry::log;
use crate::{cache, gateway, limits, listener};

/// More threads than this share the machine with the API rather than serve it.
const MOST_DEFAULT_WORKERS: usize = 4;

/// Judges `raw`. What is built of a configuration with problems is not to be used.
pub(super) fn validate(
    raw: &Raw,
    secrets: &BTreeMap<String, Zeroizing<String>>,
    watch: &mut Watch,
    findings: &mut Findings,
) -> Config {
    let trusted = raw.forwarded.trusted_proxies.iter();
    let trusted: Vec<IpNet> = trusted.map(|net| net.0).collect();
    let mut listen = listen(&raw.listen, &raw.limits, watch, findings);
    listen.trusted_proxies.clone_from(&trusted);
    let upstreams = upstreams::upstreams(&raw.upstreams, &listen, watch, findings);
    let matching = edge::matching(&raw.routing);
    let routes = routes::routes(raw, matching, findings);
    let identity_prefix = edge::identity_prefix(&raw.identity, findings);
    let mut authn = keys::api_keys(
        &raw.api_keys,
        identity_prefix.as_deref(),
        secrets,
        watch,
        findings,
    );
    let realm = edge::realm(&raw.auth, findings);
    let cors = raw.cors.as_ref().map(|cors| edge::cors(cors, findings));
    let store = raw
        .store
        .as_ref()
        .map(|section| store::store(section, secrets, watch, findings));
    authn.session_lifetime = tokens::session_lifetime(raw, findings);
    (authn.access_token, authn.signing_keys) = tokens::access_token(raw, watch, findings);
    authn.own_issuer = tokens::own_issuer(raw);
    authn.trusted = trusted::issuers(raw, watch, findings);
    let tokens = tokens::tokens(raw, findings);
    keys::usable(&authn, store.is_some(), &routes, findings);
    tokens::usable(
        &tokens.routes,
        store.is_some(),
        authn.access_token.is_some() || !authn.trusted.is_empty(),
        &routes,
        matching,
        findings,
    );
    warnings::trusted_proxies(&raw.forwarded.trusted_proxies, findings);
    warnings::proxy_protocol(&raw.listen, &raw.forwarded, findings);
    Config {
        listen,
        workers: raw.runtime.workers.unwrap_or_else(default_workers),
        upstreams,
        gateway: gateway::Config {
            matching,
            routes: routes.into_iter().map(|(_, route)| route).collect(),
            realm,
            identity_prefix: identity_prefix.unwrap_or_default(),
            trusted_proxies: trusted,
            private_cookies: tokens.cookie_names().map(Into::into).collect(),
            cors,
            tokens,
        },
        authn,
        store,
        cache: cache(&raw.cache, findings),
        limits: limits::Config {
            failed_authentications: raw.limits.failed_authentications.built(),
        },
        log: log(&raw.log),
    }
}

/// The CPUs that this process may use, its cgroup's quota counted, at most four.
fn default_workers() -> usize {
    available_parallelism().map_or(1, |cpus| cpus.get().min(MOST_DEFAULT_WORKERS))
}

fn listen(
    listen: &Listen,
    limits: &Limits,
    watch: &mut Watch,
    findings: &mut Findings,
) -> listener::Config {
    let (proxy, telemetry) = (listen.proxy.0, listen.telemetry.0);
    if collide(proxy, telemetry) {
        let suggestion = "give it another port";
        findings.problem_with(
            "listen.telemetry",
            "listens where listen.proxy does",
            suggestion,
        );
    }
    // Heads beyond a MiB serve nobody but whoever wants to fill the memory; below 8 KiB browsers'
    // cookies no longer fit.
    if !(8 << 10..=1 << 20).contains(&limits.request_head.0) {
        let message = format!("{} is not from 8KiB to 1MiB", limits.request_head);
        findings.problem_with("limits.request_head", message, "write it like \"32KiB\"");
    }
    listener::Config {
        proxy,
        telemetry,
        tls: listen
            .tls
            .as_ref()
            .and_then(|section| tls::listener(section, watch, findings)),
        proxy_protocol: listen.proxy_protocol,
        request_head: usize::try_from(limits.request_head.0).unwrap_or(usize::MAX),
        head_timeout: positive("limits.head_timeout", limits.head_timeout, findings),
        idle_timeout: positive("limits.idle_timeout", limits.idle_timeout, findings),
        connection_age: positive("limits.connection_age", limits.connection_age, findings),
        connections: limits.connections,
        trusted_proxies: Vec::new(),
        drain_delay: bounded("limits.drain_delay", limits.drain_delay, findings),
        shutdown_grace: bounded("limits.shutdown_grace", limits.shutdown_grace, findings),
    }
}

/// Whether both cannot be bound at once. Port 0 is a free one each time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

fn cache(cache: &Cache, findings: &mut Findings) -> cache::Config {
    cache::Config {
        capacity: cache.capacity,
        max_staleness: positive("cache.max_staleness", cache.max_staleness, findings),
    }
}

fn log(log: &Log) -> log::Config {
    log::Config {
        format: match log.format {
            LogFormat::Auto => log::Format::Auto,
            LogFormat::Text => log::Format::Text,
            LogFormat::Json => log::Format::Json,
        },
        level: match log.level {
            LogLevel::Error => tracing::Level::ERROR,
            LogLevel::Warn => tracing::Level::WARN,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Debug => tracing::Level::DEBUG,
            LogLevel::Trace => tracing::Level::TRACE,
        },
        access: log.access,
    }
}

/// A period that something is waited for. Zero would refuse everything.
fn positive(key: &str, period: Period, findings: &mut Findings) -> Duration {
    if period.0.is_zero() {
        findings.problem_with(key, "no time at all", "write it like \"10s\"");
    }
    bounded(key, period, findings)
}

/// A period that is added to a point of time; a year is beyond every sense and every overflow.
fn bounded(key: &str, period: Period, findings: &mut Findings) -> Duration {
    const LONGEST: Duration = Duration::from_secs(366 * 86_400);
    if period.0 > LONGEST {
        findings.problem(key, format!("{period} is too long; the most is 366d"));
    }
    period.0
}
