//! The request path: judge the form, match, authenticate, admit, forward, relay.

mod admission;
mod body;
mod cors;
mod exchange;
mod memo;
mod own;
mod peer;
mod request_id;
mod rewrite;
mod serve;
mod snapshot;
mod tunnel;

use std::time::Duration;

use http::{HeaderValue, Method};
use ipnet::IpNet;

pub use body::{AnswerBody, Cut};
pub use peer::Peer;
pub use request_id::RequestIds;
pub use serve::Core;
pub use snapshot::{Snapshot, Unservable};

use crate::rules::bucket::Rate;
use crate::rules::credential::Kinds;
use crate::rules::policy::Policy;
use crate::rules::route::{MatchOptions, Pattern};
use crate::tokens;

/// Everything that the request path is told; replaced whole by a reload.
#[derive(Clone, Debug)]
pub struct Config {
    /// How paths are matched.
    pub matching: MatchOptions,
    /// The routes, in the order of the file.
    pub routes: Vec<RouteConfig>,
    /// The `realm` of challenges.
    pub realm: Box<str>,
    /// The prefix of identity headers, lower case, such as `x-auth-`.
    pub identity_prefix: Box<str>,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Cookies that the upstream never sees: the refresh cookie and its legacy names.
    pub private_cookies: Vec<Box<str>>,
    /// Cross-origin answers, where gatelet gives them.
    pub cors: Option<Cors>,
    /// The routes that gatelet answers itself.
    pub tokens: tokens::Config,
}

/// One route.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Its name, for metrics and logs.
    pub name: Box<str>,
    /// Which hosts and paths it covers.
    pub pattern: Pattern,
    /// The methods it takes; empty: every one. `GET` implies `HEAD` (already added).
    pub methods: Vec<Method>,
    /// What it requires.
    pub policy: Policy,
    /// The place of its upstream in the list of upstreams.
    pub upstream: usize,
    /// The rate each caller may reach.
    pub rate_limit: Option<Rate>,
    /// The largest request body, in bytes; `None` is unlimited.
    pub request_body: Option<u64>,
    /// Overrides the upstream's.
    pub response_timeout: Option<Duration>,
    /// The credentials that the upstream may see.
    pub forward: Kinds,
    /// Whether `%2f` may stand in a path.
    pub encoded_slash: bool,
}

/// What `[cors]` says.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Who answers.
    pub mode: CorsMode,
    /// The origins that may read answers, exactly as browsers send them.
    pub origins: Vec<HeaderValue>,
    /// How long a browser may remember a preflight.
    pub max_age: Duration,
}

/// Who answers preflights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorsMode {
    /// gatelet owns `Access-Control-*` on every answer.
    Answer,
    /// Real preflights go upstream, bare of credentials and identity.
    Forward,
}
