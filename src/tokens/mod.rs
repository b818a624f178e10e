//! The routes that gatelet answers itself, below `auth.prefix`: where tokens are issued, shown and
//! ended.
//!
//! Who may call one is judged like any other request, by the policy of its [`OwnRoute`]; what
//! comes here has been let in.

mod body;
mod introspect;
mod jwks;
mod refresh;
mod reply;
mod sessions;
mod sign_in;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response};

use crate::authn::access_token::AccessTokens;
use crate::authn::authenticators::Authenticators;
use crate::authn::families;
use crate::authn::proven::Proven;
use crate::platform::Monotonic;
use crate::rules::cookie::Cookie;
use crate::rules::credential::{Kind, Kinds};
use crate::rules::decision::{Fault, Refusal};
use crate::rules::fields::Fields;
use crate::rules::policy::Policy;
use crate::rules::principal::Scopes;
use crate::rules::route::{PathPattern, Pattern};
use crate::rules::time::Timestamp;
use crate::telemetry::metrics::WorkerShard;

/// The most bytes of a request's body.
pub const LONGEST_BODY: usize = 16 * 1024;

/// The scope that an API key needs to issue sessions.
pub const SESSIONS_ISSUE: &str = "sessions:issue";

/// The scope that an API key needs to introspect tokens.
pub const TOKENS_INTROSPECT: &str = "tokens:introspect";

/// Which routes there are and how they answer.
#[derive(Clone, Debug)]
pub struct Config {
    /// The routes, by their place.
    pub routes: Vec<OwnRoute>,
    /// The member that answers are wrapped in, if any.
    pub envelope: Option<Box<str>>,
    /// What a session's token may do, where its issuer does not say.
    pub session_scopes: Scopes,
    /// Sign-in with a wallet, where it is offered.
    pub wallet: Option<Wallet>,
    /// How refresh tokens live.
    pub refresh: families::Lifetime,
    /// The refresh cookie.
    pub cookie: Cookie,
    /// Names of cookies that are read and never written.
    pub legacy_cookies: Vec<Box<str>>,
    /// The origins, besides a request's own, from which a browser may refresh and log out.
    pub csrf_origins: Vec<HeaderValue>,
}

impl Config {
    /// The cookies that refresh tokens come in.
    pub fn cookie_names(&self) -> impl Iterator<Item = &str> {
        let legacy = self.legacy_cookies.iter().map(|name| &**name);
        std::iter::once(&*self.cookie.name).chain(legacy)
    }
}

/// What wallets sign in to.
#[derive(Clone, Debug)]
pub struct Wallet {
    /// The domains; at least one, which is offered.
    pub domains: Vec<Box<str>>,
    /// The chains; at least one, which is offered.
    pub chains: Vec<u64>,
    /// What the message says, where it is written here.
    pub statement: Option<Box<str>>,
    /// How long a nonce is good.
    pub nonce_ttl: Duration,
}

/// One of gatelet's own routes.
#[derive(Clone, Debug)]
pub struct OwnRoute {
    /// What it does.
    pub action: Action,
    /// Where it is.
    pub pattern: Pattern,
    /// The methods it takes.
    pub methods: Vec<Method>,
    /// Who may call it.
    pub policy: Policy,
}

/// What an own route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Issues a nonce to sign in with.
    Nonce,
    /// Signs a wallet in.
    SignIn,
    /// Exchanges a refresh token.
    Refresh {
        /// An API key is needed.
        needs_key: bool,
    },
    /// Ends a sign-in.
    LogOut,
    /// Publishes the keys that access tokens are signed with.
    Keys,
    /// Issues a client session.
    IssueSession,
    /// Ends a client session.
    EndSession,
    /// Tells a token's bearer who it is.
    ShowSession,
    /// Tells a server what a token is worth (RFC 7662).
    Introspect,
}

impl OwnRoute {
    /// The route of `action` at `path`, in which a segment in braces is a placeholder.
    pub fn new(action: Action, path: &str) -> Self {
        let path = if path.contains('{') {
            PathPattern::Template(path.into())
        } else {
            PathPattern::Exact(path.into())
        };
        Self {
            action,
            pattern: Pattern { host: None, path },
            methods: vec![action.method()],
            policy: action.policy(),
        }
    }
}

impl Action {
    fn method(self) -> Method {
        match self {
            Self::Nonce
            | Self::SignIn
            | Self::Refresh { .. }
            | Self::LogOut
            | Self::IssueSession
            | Self::Introspect => Method::POST,
            Self::EndSession => Method::DELETE,
            Self::ShowSession | Self::Keys => Method::GET,
        }
    }

    fn policy(self) -> Policy {
        let key = Kinds::NONE.with(Kind::ApiKey);
        let needs = |scope: &str| vec![(Kind::ApiKey, Scopes::new([scope]))];
        match self {
            Self::IssueSession => Policy {
                all: key,
                scopes: needs(SESSIONS_ISSUE),
                ..Policy::default()
            },
            Self::EndSession | Self::Nonce | Self::SignIn | Self::Refresh { needs_key: true } => {
                Policy {
                    all: key,
                    ..Policy::default()
                }
            }
            Self::ShowSession => Policy {
                any: Kinds::NONE.with(Kind::SessionToken).with(Kind::AccessToken),
                optional: key,
                ..Policy::default()
            },
            // A key that is shown is judged in any case.
            Self::Refresh { needs_key: false } => Policy {
                optional: key,
                ..Policy::default()
            },
            // What is shown may have expired: it is looked at there.
            Self::LogOut | Self::Keys => Policy::default(),
            Self::Introspect => Policy {
                all: key,
                scopes: needs(TOKENS_INTROSPECT),
                ..Policy::default()
            },
        }
    }

    /// Whether a request's body is read.
    pub fn reads_body(self) -> bool {
        match self {
            Self::Nonce
            | Self::SignIn
            | Self::Refresh { .. }
            | Self::LogOut
            | Self::IssueSession
            | Self::Introspect => true,
            Self::EndSession | Self::ShowSession | Self::Keys => false,
        }
    }
}

/// A request to one of gatelet's own routes, from a caller that was let in.
pub struct Call<'a> {
    /// The route.
    pub route: &'a OwnRoute,
    /// The path, as the caller sent it.
    pub path: &'a str,
    /// The query, as the caller sent it.
    pub query: Option<&'a str>,
    /// The scheme that the caller used.
    pub scheme: &'a str,
    /// The host that the caller used, with its port.
    pub host: &'a str,
    /// Where the caller is.
    pub client: IpAddr,
    /// The head's lines.
    pub fields: &'a Fields,
    /// The body, whole.
    pub body: Bytes,
    /// Who calls.
    pub proven: &'a Proven,
    /// What time it is.
    pub wall: Timestamp,
    /// When the request was taken up.
    pub now: Monotonic,
    /// Where the worker counts.
    pub metrics: &'a WorkerShard,
}

/// What answers own routes under one configuration.
pub struct Tokens {
    config: Config,
    authenticators: Arc<Authenticators>,
}

impl Tokens {
    /// Answers as `config` says.
    pub fn new(config: Config, authenticators: Arc<Authenticators>) -> Self {
        Self {
            config,
            authenticators,
        }
    }

    fn access(&self) -> Result<&AccessTokens, Refusal> {
        // The routes are there only where access tokens are issued.
        let access = self.authenticators.access.as_deref();
        access.ok_or_else(|| Fault::StoreUnavailable.into())
    }

    /// The own routes, by their place.
    pub fn routes(&self) -> &[OwnRoute] {
        &self.config.routes
    }

    /// Answers a request.
    ///
    /// Not cancel safe: what was issued may remain, with a token that nobody knows.
    pub async fn answer(&self, call: Call<'_>) -> Result<Response<Bytes>, Refusal> {
        match call.route.action {
            Action::Nonce => self.issue_nonce(&call).await,
            Action::SignIn => self.sign_in(&call).await,
            Action::Refresh { .. } => self.refresh(&call).await,
            Action::LogOut => self.log_out(&call).await,
            Action::Keys => self.keys(),
            Action::IssueSession => self.issue_session(&call).await,
            Action::EndSession => self.end_session(&call).await,
            Action::ShowSession => self.show_session(&call),
            Action::Introspect => self.introspect(&call).await,
        }
    }
}

/// What was not done is told to the log, and to the caller as a breakage.
fn failure(error: &(dyn std::error::Error + 'static)) -> Refusal {
    let cause = error.source().map(tracing::field::display);
    tracing::warn!(%error, cause, "a request to an own route failed");
    Fault::StoreUnavailable.into()
}
