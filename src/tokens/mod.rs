//! The routes that gatelet answers itself, below `auth.prefix`: where tokens are issued, shown and
//! ended.
//!
//! Who may call one is judged like any other request, by the policy of its [`OwnRoute`]; what
//! comes here has been let in.

mod body;
mod introspect;
mod reply;
mod sessions;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};

use crate::authn::authenticators::Authenticators;
use crate::authn::proven::Proven;
use crate::platform::Monotonic;
use crate::rules::credential::{Kind, Kinds};
use crate::rules::decision::Refusal;
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
            Self::IssueSession | Self::Introspect => Method::POST,
            Self::EndSession => Method::DELETE,
            Self::ShowSession => Method::GET,
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
            Self::EndSession => Policy {
                all: key,
                ..Policy::default()
            },
            Self::ShowSession => Policy {
                any: Kinds::NONE.with(Kind::SessionToken),
                optional: key,
                ..Policy::default()
            },
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
            Self::IssueSession | Self::Introspect => true,
            Self::EndSession | Self::ShowSession => false,
        }
    }
}

/// A request to one of gatelet's own routes, from a caller that was let in.
pub struct Call<'a> {
    /// The route.
    pub route: &'a OwnRoute,
    /// The path, as the caller sent it.
    pub path: &'a str,
    /// The head's lines.
    pub headers: &'a HeaderMap,
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

    /// The own routes, by their place.
    pub fn routes(&self) -> &[OwnRoute] {
        &self.config.routes
    }

    /// Answers a request.
    ///
    /// Not cancel safe: what was issued may remain, with a token that nobody knows.
    pub async fn answer(&self, call: Call<'_>) -> Result<Response<Bytes>, Refusal> {
        match call.route.action {
            Action::IssueSession => self.issue_session(&call).await,
            Action::EndSession => self.end_session(&call).await,
            Action::ShowSession => self.show_session(&call),
            Action::Introspect => self.introspect(&call).await,
        }
    }
}
