//! Access tokens, whoever issued them.

use std::sync::Arc;

use crate::authn::access_token::{AccessToken, AccessTokens};
use crate::authn::families::Standing;
use crate::authn::identity::Identity;
use crate::authn::issuers::{Issuer, TrustedToken};
use crate::rules::api_key::Digest;
use crate::rules::time::Timestamp;

/// A token whose signature and claims are good.
#[derive(Clone, Debug)]
pub enum Jwt {
    /// Gatelet's own.
    Own(Arc<AccessToken>),
    /// A trusted issuer's.
    Trusted(Arc<TrustedToken>),
}

/// A bearer that says it is a token of somebody who is trusted.
pub enum Sorted<'a> {
    /// It was found to be one before.
    Known(Jwt),
    /// That has still to be verified.
    New(Digest, Whose<'a>),
}

impl Sorted<'_> {
    /// Whether it is gatelet's own, or says so.
    pub fn is_own(&self) -> bool {
        matches!(
            self,
            Self::Known(Jwt::Own(_)) | Self::New(_, Whose::Own(_) | Whose::Nobody)
        )
    }
}

/// Whose a token says it is.
#[derive(Clone, Copy)]
pub enum Whose<'a> {
    /// Gatelet's own.
    Own(&'a AccessTokens),
    /// A trusted issuer's.
    Trusted(&'a Arc<Issuer>),
    /// Gatelet's own, which issues none now.
    Nobody,
}

/// A token that is good now.
#[derive(Clone, Debug)]
pub enum Access {
    /// Gatelet's own.
    Own {
        /// The token.
        token: Arc<AccessToken>,
        /// Its family.
        standing: Arc<Standing>,
    },
    /// A trusted issuer's.
    Trusted(Arc<TrustedToken>),
}

impl Access {
    /// Who bears it, and what it may do.
    pub fn identity(&self) -> &Identity {
        match self {
            Self::Own { token, .. } => &token.identity,
            Self::Trusted(token) => &token.identity,
        }
    }

    /// From when it is refused.
    pub fn expires_at(&self) -> Timestamp {
        match self {
            Self::Own { token, .. } => token.claims.expires_at,
            Self::Trusted(token) => token.expires_at(),
        }
    }

    /// The token alone.
    pub fn jwt(&self) -> Jwt {
        match self {
            Self::Own { token, .. } => Jwt::Own(Arc::clone(token)),
            Self::Trusted(token) => Jwt::Trusted(Arc::clone(token)),
        }
    }
}
