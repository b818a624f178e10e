//! Access tokens of other issuers: from a JWT to a proven [`TrustedToken`].
//!
//! A token is verified once and remembered by its digest. Whether it has expired, and whether its
//! issuer still has the key that it was signed with, is judged on every request.

mod published;

pub use published::{Fetch, Published};

use std::fmt;
use std::sync::Arc;

use crate::authn::identity::Identity;
use crate::authn::jwt::verifying::{Fingerprint, KeySet, Unverified, Verified, verify};
use crate::cache::tokens::Tokens;
use crate::fetch::Location;
use crate::platform::Monotonic;
use crate::rules::api_key::Digest;
use crate::rules::decision::{Fault, Refusal, Reject};
use crate::rules::jwt::{self, Algorithm, Expected, Lifetime, Refused};
use crate::rules::time::Timestamp;

/// How long a token usually is, in bytes: a longer one takes the place of several in memory.
const USUAL: u32 = 1024;

/// An issuer whose tokens are taken.
#[derive(Clone, Debug)]
pub struct Config {
    /// `iss`.
    pub issuer: Box<str>,
    /// `aud`: one of these has to be named.
    pub audience: Vec<Box<str>>,
    /// What its tokens are verified with.
    pub keys: Source,
}

/// Where an issuer's keys are from.
#[derive(Clone, Debug)]
pub enum Source {
    /// They came with the configuration.
    Given(Arc<KeySet>),
    /// The issuer publishes them.
    Published(Publication),
}

/// Where an issuer publishes its keys, and which of them are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where the set is.
    pub location: Location,
    /// What the keys that are used are for.
    pub algorithms: Vec<Algorithm>,
}

/// A token of a trusted issuer, whose signature and claims are good.
#[derive(Debug)]
pub struct TrustedToken {
    /// Who bears it, and what it may do.
    pub identity: Identity,
    /// Whose word that is.
    pub issuer: Arc<Issuer>,
    lifetime: Lifetime,
    key: Fingerprint,
    /// How long it is, in bytes.
    length: u32,
    /// The set that the key was in.
    keys: Arc<KeySet>,
}

impl TrustedToken {
    /// From when it is refused.
    pub fn expires_at(&self) -> Timestamp {
        self.lifetime.expires_at
    }
}

/// A trusted issuer.
pub struct Issuer {
    name: Box<str>,
    audience: Vec<Box<str>>,
    keys: Keys,
}

enum Keys {
    Given(Arc<KeySet>),
    Published(Arc<Published>),
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({})", self.name)
    }
}

/// What a token is worth by the keys that are at hand.
enum Worth {
    Good(Arc<TrustedToken>),
    Nothing,
    /// It names a key that is not at hand.
    Unknown,
}

impl Issuer {
    /// `iss`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `aud`.
    pub fn audience(&self) -> &[Box<str>] {
        &self.audience
    }

    /// Whether its keys are at hand.
    fn has_keys(&self, now: Monotonic) -> bool {
        match &self.keys {
            Keys::Given(_) => true,
            Keys::Published(published) => published.with(now, |_| ()).is_some(),
        }
    }

    fn weigh(self: &Arc<Self>, bearer: &[u8], now: Monotonic) -> Worth {
        let keys = match &self.keys {
            Keys::Given(keys) => Arc::clone(keys),
            Keys::Published(published) => published.keys(now).unwrap_or_default(),
        };
        match verify(bearer, &keys) {
            Ok(verified) => match self.read(&verified, keys, bearer.len()) {
                Some(token) => Worth::Good(Arc::new(token)),
                None => Worth::Nothing,
            },
            Err(Unverified::UnknownKey) => Worth::Unknown,
            Err(_) => Worth::Nothing,
        }
    }

    fn read(
        self: &Arc<Self>,
        verified: &Verified,
        keys: Arc<KeySet>,
        length: usize,
    ) -> Option<TrustedToken> {
        let expected = Expected {
            issuer: &self.name,
            audience: &self.audience,
        };
        let claims = verified.foreign_claims(&expected).ok()?;
        Some(TrustedToken {
            identity: Identity::new(&claims.subject, &claims.scopes).by_word_of(&self.name),
            issuer: Arc::clone(self),
            lifetime: claims.lifetime,
            key: verified.key,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            keys,
        })
    }

    /// Whether the issuer still has the key that a token was signed with.
    fn vouches_for(&self, token: &TrustedToken, now: Monotonic) -> Result<bool, Fault> {
        let has = |keys: &Arc<KeySet>| Arc::ptr_eq(keys, &token.keys) || keys.holds(token.key);
        match &self.keys {
            Keys::Given(keys) => Ok(has(keys)),
            Keys::Published(published) => published.with(now, has).ok_or(Fault::IssuerUnavailable),
        }
    }
}

/// The trusted issuers under one configuration.
pub struct Issuers {
    issuers: Vec<Arc<Issuer>>,
    /// Verified under this configuration: what another one trusted is verified again.
    verified: Tokens<TrustedToken>,
}

impl Issuers {
    /// The issuers of `configs`, which remember up to `capacity` tokens. `publish` has the keys of a
    /// publication kept at hand.
    pub fn new(
        configs: &[Config],
        capacity: u64,
        mut publish: impl FnMut(&Publication) -> Arc<Published>,
    ) -> Self {
        let issuers = configs.iter().map(|config| {
            Arc::new(Issuer {
                name: config.issuer.clone(),
                audience: config.audience.clone(),
                keys: match &config.keys {
                    Source::Given(keys) => Keys::Given(Arc::clone(keys)),
                    Source::Published(publication) => Keys::Published(publish(publication)),
                },
            })
        });
        Self {
            issuers: issuers.collect(),
            // What others put into their tokens may be long.
            verified: Tokens::new(capacity, |token| 1 + token.length / USUAL),
        }
    }

    /// No issuers.
    pub fn none() -> Self {
        Self {
            issuers: Vec::new(),
            verified: Tokens::new(0, |_| 1),
        }
    }

    /// The issuer of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|issuer| *issuer.name == *name)
    }

    /// The publications that are kept at hand.
    pub fn published(&self) -> impl Iterator<Item = &Arc<Published>> {
        self.issuers.iter().filter_map(|issuer| match &issuer.keys {
            Keys::Given(_) => None,
            Keys::Published(published) => Some(published),
        })
    }

    /// The token that was verified before.
    pub fn remembered(&self, digest: &Digest) -> Option<Arc<TrustedToken>> {
        self.verified.get(digest)
    }

    /// The token that a bearer is, expired or not; `None` if it is none of its issuer's.
    ///
    /// `before_asking` is called before an issuer whose keys are at hand is asked for newer ones, and
    /// may refuse that.
    pub async fn verify(
        &self,
        issuer: &Arc<Issuer>,
        bearer: &[u8],
        digest: Digest,
        now: Monotonic,
        before_asking: impl FnOnce() -> Result<(), Reject>,
    ) -> Result<Option<Arc<TrustedToken>>, Refusal> {
        let mut worth = issuer.weigh(bearer, now);
        if let (Worth::Unknown, Keys::Published(published)) = (&worth, &issuer.keys) {
            if issuer.has_keys(now) {
                before_asking()?;
            }
            Box::pin(published.newer(now)).await;
            worth = issuer.weigh(bearer, now);
            // Perhaps it is signed with a key that nobody could fetch.
            if matches!(worth, Worth::Unknown) && !published.is_current(now) {
                return Err(Fault::IssuerUnavailable.into());
            }
        }
        let Worth::Good(token) = worth else {
            return Ok(None);
        };
        self.verified.keep(digest, &token);
        Ok(Some(token))
    }

    /// Says no to a token that has expired, or whose issuer or key is not trusted any more.
    pub fn judge(
        &self,
        token: &TrustedToken,
        wall: Timestamp,
        now: Monotonic,
    ) -> Result<(), Refusal> {
        match jwt::judge(&token.lifetime, wall) {
            Ok(()) => {}
            Err(Refused::Expired) => return Err(Reject::TokenExpired.into()),
            Err(Refused::NotYetValid) => return Err(Reject::TokenInvalid.into()),
        }
        let issuer = self.named(&token.issuer.name);
        // Whoever it was for then is still meant.
        let still_meant = |issuer: &Issuer| {
            let mut then = token.issuer.audience.iter();
            then.all(|name| issuer.audience.contains(name))
        };
        let issuer =
            issuer.filter(|issuer| Arc::ptr_eq(issuer, &token.issuer) || still_meant(issuer));
        match issuer {
            Some(issuer) if issuer.vouches_for(token, now)? => Ok(()),
            _ => Err(Reject::TokenInvalid.into()),
        }
    }
}

#[cfg(test)]
mod tests;
