//! Access tokens on the request path: from a JWT to a proven [`AccessToken`].
//!
//! A token is verified once and remembered by its digest. Whether its family was revoked, its key
//! as well, and whether it has expired, is judged on every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::authn::families::{Families, Standing, standing_digest};
use crate::authn::identity::Identity;
use crate::authn::jwt::verifying::verify;
use crate::authn::sessions::SessionsError;
use crate::authn::signers::{Ring, StoredKeys};
use crate::cache::freshness::Freshness;
use crate::cache::tokens::Tokens;
use crate::cache::verdicts::{Known, LoadFailed, Verdicts};
use crate::platform::{Monotonic, Platform};
use crate::rules::api_key::Digest;
use crate::rules::decision::{Fault, Refusal, Reject};
use crate::rules::feed::Change;
use crate::rules::jwt::{self, Expected, OwnClaims, Refused, SigningAlgorithm, TokenId};
use crate::rules::principal::Scopes;
use crate::rules::refresh::{Family, Reason};
use crate::rules::time::Timestamp;

/// The `client_id` of a family that was taken over without a key; the claim is required.
const TAKEN_OVER: &str = "imported";

/// How access tokens are issued and verified.
#[derive(Clone, Debug)]
pub struct Config {
    /// `iss`.
    pub issuer: Box<str>,
    /// `aud`.
    pub audience: Vec<Box<str>>,
    /// How long one lives.
    pub ttl: Duration,
    /// What the keys that are made sign with.
    pub algorithm: SigningAlgorithm,
    /// What a sign-in grants.
    pub scopes: Scopes,
}

/// A token whose signature and claims are good, with all that a request needs of it made once.
#[derive(Debug)]
pub struct AccessToken {
    /// What it says.
    pub claims: OwnClaims,
    /// Who bears it, and what it may do.
    pub identity: Identity,
    /// The digest of the id of the key that was used to sign in.
    pub issuer: Digest,
    family: Digest,
    /// That it was presented is noted with its family.
    noted: AtomicBool,
}

impl AccessToken {
    fn new(claims: OwnClaims) -> Self {
        Self {
            identity: Identity::new(&claims.subject, &claims.scopes)
                .in_session(claims.id.session()),
            issuer: Digest::of(claims.client_id.as_bytes()),
            family: standing_digest(claims.id.session()),
            noted: AtomicBool::new(false),
            claims,
        }
    }
}

/// What a change makes wrong of the families that are remembered.
pub fn concerned(change: &Change) -> Vec<Digest> {
    match change {
        Change::Family { id } => vec![standing_digest(id)],
        Change::ApiKey { .. } | Change::Session { .. } | Change::Unknown => Vec::new(),
    }
}

/// What outlives a reload.
pub struct Stored {
    families: Families,
    standings: Arc<Verdicts<Standing>>,
    freshness: Arc<Freshness>,
    keys: Arc<StoredKeys>,
    capacity: u64,
    platform: Platform,
}

impl Stored {
    /// What is kept in `families`, remembered in `standings` while `freshness` vouches for it.
    pub fn new(
        families: Families,
        standings: Arc<Verdicts<Standing>>,
        freshness: Arc<Freshness>,
        keys: Arc<StoredKeys>,
        capacity: u64,
        platform: Platform,
    ) -> Self {
        Self {
            families,
            standings,
            freshness,
            keys,
            capacity,
            platform,
        }
    }

    /// Where families are begun and ended.
    pub fn families(&self) -> &Families {
        &self.families
    }
}

/// Issues and verifies access tokens under one configuration.
pub struct AccessTokens {
    config: Config,
    stored: Arc<Stored>,
    /// Keys from files; without them those in the store.
    from_files: Option<Arc<Ring>>,
    /// Verified under this configuration: what another one trusted is verified again.
    verified: Tokens<AccessToken>,
}

/// A token that was just signed.
pub struct Signed {
    /// What the caller presents.
    pub token: zeroize::Zeroizing<String>,
    /// When it expires.
    pub expires_at: Timestamp,
}

impl AccessTokens {
    /// Tokens as `config` says; `from_files` are the keys that it names.
    pub fn new(config: Config, stored: Arc<Stored>, from_files: Option<Arc<Ring>>) -> Self {
        let verified = Tokens::new(stored.capacity, |_| 1);
        Self {
            config,
            stored,
            from_files,
            verified,
        }
    }

    /// How tokens are issued.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where families are begun and ended.
    pub fn families(&self) -> &Families {
        &self.stored.families
    }

    /// The keys in force.
    pub fn ring(&self) -> Result<Arc<Ring>, Fault> {
        let ring = self.from_files.clone().or_else(|| self.stored.keys.ring());
        ring.ok_or(Fault::StoreUnavailable)
    }

    /// The token that was verified before.
    pub fn remembered(&self, digest: &Digest) -> Option<Arc<AccessToken>> {
        self.verified.get(digest)
    }

    /// The token that a bearer is, expired or not; `None` if it is none of these.
    pub fn verify(&self, bearer: &[u8], digest: Digest) -> Result<Option<Arc<AccessToken>>, Fault> {
        let Ok(verified) = verify(bearer, &self.ring()?.verifying) else {
            return Ok(None);
        };
        let expected = Expected {
            issuer: &self.config.issuer,
            audience: &self.config.audience,
        };
        let Ok(claims) = verified.own_claims(&expected) else {
            return Ok(None);
        };
        let token = Arc::new(AccessToken::new(claims));
        self.verified.keep(digest, &token);
        Ok(Some(token))
    }

    /// Says no to a token that has expired, or whose family was revoked. `presented` by its bearer,
    /// it is noted.
    pub async fn judge(
        &self,
        token: &AccessToken,
        wall: Timestamp,
        now: Monotonic,
        presented: bool,
    ) -> Result<Arc<Standing>, Refusal> {
        match jwt::judge(&token.claims.lifetime(), wall) {
            Ok(()) => {}
            Err(Refused::Expired) => return Err(Reject::TokenExpired.into()),
            Err(Refused::NotYetValid) => return Err(Reject::TokenInvalid.into()),
        }
        let stored = &self.stored;
        let (known, vouched) = stored
            .standings
            .vouched(&token.family, &stored.freshness, now);
        // What it says now is no better: it may be said by a server that was replaced.
        if !vouched {
            return Err(Fault::StoreUnavailable.into());
        }
        let standing = match known {
            Known::Value(standing) => Some(standing),
            Known::Nothing => None,
            Known::Unasked => Box::pin(self.ask(token.claims.id.session())).await?,
        };
        let Some(standing) = standing.filter(|standing| standing.is_good(wall)) else {
            return Err(Reject::SessionRevoked.into());
        };
        if presented && !token.noted.load(Ordering::Relaxed) {
            Box::pin(self.note(token)).await?;
        }
        Ok(standing)
    }

    async fn ask(&self, family: &str) -> Result<Option<Arc<Standing>>, Fault> {
        let families = self.stored.families.clone();
        let id: Box<str> = family.into();
        let load = move || async move {
            match families.lookup(&id).await {
                Ok(family) => Ok(family.as_ref().map(Standing::of)),
                Err(error) => {
                    tracing::debug!(%error, "looking up a family failed");
                    Err(LoadFailed)
                }
            }
        };
        let digest = standing_digest(family);
        let loaded = self.stored.standings.load(digest, load).await;
        loaded.map_err(|LoadFailed| Fault::StoreUnavailable)
    }

    /// Notes that a token was presented, before it lets anyone in: whoever has lost the answer that
    /// it came with is told from a thief by this.
    async fn note(&self, token: &AccessToken) -> Result<(), Fault> {
        let id = &token.claims.id;
        let noted = self
            .stored
            .families
            .note_presented(id.session(), id.generation())
            .await;
        noted.map_err(|error| {
            tracing::warn!(%error, "the use of an access token could not be noted");
            Fault::StoreUnavailable
        })?;
        token.noted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Signs a token for a family.
    pub fn sign(&self, family: &Family, wall: Timestamp) -> Result<Signed, Fault> {
        let mut random = [0; 16];
        let filled = self.stored.platform.entropy.fill(&mut random);
        filled.map_err(|_| Fault::StoreUnavailable)?;
        let expires_at = wall.plus(self.config.ttl).min(family.expires_at);
        let key_id = family.grant.key_id.as_ref();
        let claims = OwnClaims {
            issuer: self.config.issuer.clone(),
            subject: family.grant.subject.clone(),
            audience: self.config.audience.clone(),
            issued_at: wall,
            not_before: wall,
            expires_at,
            id: TokenId::new(&family.id, family.generation, &random),
            scopes: family.grant.scopes.clone(),
            methods: vec!["swk".into()],
            client_id: key_id.map_or_else(|| TAKEN_OVER.into(), Clone::clone),
        };
        let signed = self.ring()?.signer().sign(&claims);
        let token = signed.map_err(|error| {
            tracing::error!(%error, "an access token could not be signed");
            Fault::StoreUnavailable
        })?;
        Ok(Signed { token, expires_at })
    }

    /// Ends a family, here at once and everywhere within a second.
    pub async fn revoke(&self, family: &str, reason: Reason) -> Result<(), SessionsError> {
        self.stored.families.revoke(family, reason).await?;
        self.forget(family);
        Ok(())
    }

    /// Forgets what is remembered of a family that was ended here.
    pub fn forget(&self, family: &str) {
        self.stored.standings.forget(&[standing_digest(family)]);
    }
}
