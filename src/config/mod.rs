//! The user's words, checked and turned into what each room is built from.

use crate::{authn, cache, gateway, limits, listener, store, telemetry, upstream};

/// A valid configuration: one part a room.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listeners.
    pub listen: listener::Config,
    /// How many workers carry requests.
    pub workers: usize,
    /// The upstreams, by their place.
    pub upstreams: Vec<upstream::Config>,
    /// The request path.
    pub gateway: gateway::Config,
    /// API keys.
    pub api_keys: authn::Config,
    /// The store; `None` keeps nothing.
    pub store: Option<store::Config>,
    /// What is remembered of it.
    pub cache: cache::Config,
    /// Limits.
    pub limits: limits::Config,
    /// Logs.
    pub log: telemetry::log::Config,
}
