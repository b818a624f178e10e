//! What gatelet says no with: a [`Reject`] is a deliberate answer, a [`Fault`] is a breakage.
//!
//! Both are closed sets. How they look as HTTP, problem+json or gRPC is decided in `answer`.

use crate::rules::credential::{Kind, Kinds};

/// A deliberate no. The request was understood and judged; its sender has to change something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The request's form is ambiguous, or means different things to different readers (400).
    RequestMalformed(&'static str),
    /// Two credentials of one kind were shown; one is never picked (400).
    CredentialAmbiguous(Kind),
    /// The route asks for a credential and none of that kind was shown (401).
    CredentialMissing(Wanted),
    /// An API key is unknown, expired or revoked; outside these look alike (401).
    ApiKeyInvalid,
    /// A bearer token is not one of gatelet's, on a route that needs one (401).
    TokenInvalid,
    /// A session was not used for too long, or reached its cap (401).
    SessionExpired,
    /// A session was revoked, or the key that it was issued through was (401).
    SessionRevoked,
    /// An access token has expired (401).
    TokenExpired,
    /// A sign-in message is malformed, or is not for this (400).
    MessageInvalid(&'static str),
    /// A nonce is not one of these, has expired, or was spent (401).
    NonceInvalid,
    /// A signature is not the wallet's (401).
    SignatureInvalid,
    /// The wallet is a contract, whose signatures are not verified here (401).
    WalletUnsupported,
    /// A refresh token is unknown, or its family is over (401).
    RefreshInvalid,
    /// A refresh token came back out of turn; its family was ended (401).
    RefreshReused,
    /// A browser sent the refresh cookie from an origin that may not (403).
    OriginForbidden,
    /// More than one refresh token was shown (400).
    RefreshAmbiguous,
    /// The token was issued through a key of somebody else than the key shown with it (403).
    CredentialMismatch,
    /// There is nothing of this name, or nothing that the caller may see (404).
    NotFound,
    /// The body is of another media type than the route takes (415).
    MediaTypeUnsupported(&'static str),
    /// The credential is good and lacks these scopes (403).
    ScopeMissing(Box<str>),
    /// No route matches the path (404).
    RouteNotFound,
    /// The path is known and does not take the method; these it takes (405).
    MethodNotAllowed(Box<str>),
    /// The caller was too slow with its request (408).
    RequestTimeout,
    /// The body is larger than the route allows (413).
    BodyTooLarge,
    /// The request target is longer than gatelet judges (414).
    UriTooLong,
    /// The head is larger than allowed (431).
    HeadTooLarge,
    /// Over a rate limit; may come again after this many seconds (429).
    RateLimited {
        /// Whole seconds until one more request is allowed, at least 1.
        retry_after: u64,
    },
}

/// Which credentials would satisfy the route, for the challenge of a 401.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// An API key would do.
    pub api_key: bool,
    /// A session or access token would do.
    pub token: bool,
}

impl Wanted {
    /// Credentials of these kinds.
    pub fn of(kinds: Kinds) -> Self {
        Self {
            api_key: kinds.contains(Kind::ApiKey),
            token: kinds.contains(Kind::SessionToken) || kinds.contains(Kind::AccessToken),
        }
    }
}

/// A breakage. It is 5xx, never 401, and never lets anyone in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The upstream could not be connected to, or closed before it answered (502).
    UpstreamUnreachable,
    /// The upstream answered with something that is not HTTP (502).
    UpstreamProtocol,
    /// The store did not say whether a credential is good (503).
    StoreUnavailable,
    /// A bound of gatelet's own was reached (503).
    Overloaded,
    /// The upstream's answer did not begin in time (504).
    UpstreamTimeout,
    /// The keys of a trusted issuer are not at hand (503).
    IssuerUnavailable,
}

/// Either kind of no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A deliberate no.
    Reject(Reject),
    /// A breakage.
    Fault(Fault),
}

impl Refusal {
    /// The `code` of the answer, a stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Reject(reject) => reject.code(),
            Self::Fault(fault) => fault.code(),
        }
    }
}

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Reject {
    /// The `code` of the answer, a stable name for programs.
    pub fn code(&self) -> &'static str {
        Self::CODES[self.index()]
    }

    /// Every code a reject can carry, in the order of [`Reject::index`].
    pub const CODES: [&'static str; 26] = [
        "request_malformed",
        "credential_ambiguous",
        "credential_missing",
        "api_key_invalid",
        "token_invalid",
        "scope_missing",
        "route_not_found",
        "method_not_allowed",
        "request_timeout",
        "body_too_large",
        "uri_too_long",
        "head_too_large",
        "rate_limited",
        "session_expired",
        "session_revoked",
        "credential_mismatch",
        "not_found",
        "media_type_unsupported",
        "token_expired",
        "message_invalid",
        "nonce_invalid",
        "signature_invalid",
        "wallet_unsupported",
        "refresh_invalid",
        "refresh_reused",
        "origin_forbidden",
    ];

    /// This code's place in [`Reject::CODES`], for counters.
    pub fn index(&self) -> usize {
        match self {
            Self::RequestMalformed(_) => 0,
            Self::CredentialAmbiguous(_) | Self::RefreshAmbiguous => 1,
            Self::CredentialMissing(_) => 2,
            Self::ApiKeyInvalid => 3,
            Self::TokenInvalid => 4,
            Self::ScopeMissing(_) => 5,
            Self::RouteNotFound => 6,
            Self::MethodNotAllowed(_) => 7,
            Self::RequestTimeout => 8,
            Self::BodyTooLarge => 9,
            Self::UriTooLong => 10,
            Self::HeadTooLarge => 11,
            Self::RateLimited { .. } => 12,
            Self::SessionExpired => 13,
            Self::SessionRevoked => 14,
            Self::CredentialMismatch => 15,
            Self::NotFound => 16,
            Self::MediaTypeUnsupported(_) => 17,
            Self::TokenExpired => 18,
            Self::MessageInvalid(_) => 19,
            Self::NonceInvalid => 20,
            Self::SignatureInvalid => 21,
            Self::WalletUnsupported => 22,
            Self::RefreshInvalid => 23,
            Self::RefreshReused => 24,
            Self::OriginForbidden => 25,
        }
    }
}

impl Fault {
    /// The `code` of the answer, a stable name for programs.
    pub fn code(self) -> &'static str {
        Self::CODES[self.index()]
    }

    /// Every code a fault can carry, in the order of [`Fault::index`].
    pub const CODES: [&'static str; 6] = [
        "upstream_unreachable",
        "upstream_protocol",
        "store_unavailable",
        "overloaded",
        "upstream_timeout",
        "issuer_unavailable",
    ];

    /// This code's place in [`Fault::CODES`], for counters.
    pub fn index(self) -> usize {
        match self {
            Self::UpstreamUnreachable => 0,
            Self::UpstreamProtocol => 1,
            Self::StoreUnavailable => 2,
            Self::Overloaded => 3,
            Self::UpstreamTimeout => 4,
            Self::IssuerUnavailable => 5,
        }
    }
}
