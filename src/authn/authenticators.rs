//! Everything that turns credentials into principals under one configuration.

use std::net::IpAddr;
use std::sync::Arc;

use crate::authn::access::{Access, Jwt, Sorted, Whose};
use crate::authn::access_token::AccessTokens;
use crate::authn::api_key::{ApiKeys, SHORTEST_STORED};
use crate::authn::issuers::Issuers;
use crate::authn::nonces::Nonces;
use crate::authn::session_token::{Session, SessionTokens};
use crate::cache::verdicts::Known;
use crate::platform::Monotonic;
use crate::rules::api_key::{Digest, Shape, shape};
use crate::rules::decision::{Fault, Refusal, Reject};
use crate::rules::jwt::{issuers_of, looks_like_jwt};
use crate::rules::session::PREFIX;
use crate::rules::time::Timestamp;
use crate::telemetry::metrics::{Cache, CacheResult, WorkerShard};

use super::proven::Proven;

/// The authenticators in force.
pub struct Authenticators {
    /// Of API keys.
    pub keys: Arc<ApiKeys>,
    /// Of session tokens; `None` where there is no store.
    pub sessions: Option<Arc<SessionTokens>>,
    /// Of access tokens; `None` where none are issued.
    pub access: Option<Arc<AccessTokens>>,
    /// The `iss` of gatelet's own access tokens, whether any are issued or not.
    pub own_issuer: Box<str>,
    /// Of other issuers' access tokens.
    pub issuers: Arc<Issuers>,
    /// Of sign-in nonces; `None` where there is no store.
    pub nonces: Option<Arc<Nonces>>,
}

impl Authenticators {
    /// Whether these bytes are a session token by their shape, whatever they are worth.
    pub fn is_session_token(token: &[u8]) -> bool {
        shape(PREFIX, token) != Shape::Other
    }

    /// The session that a token is of, good or not; judging is [`Self::judge_session`]'s.
    ///
    /// An unknown one is counted against the `charged` address, once. A look-up in the store is
    /// counted before it is made, and taken back if it shows that the caller did nothing wrong; whoever
    /// joins another's is counted after it.
    pub async fn seek_session(
        &self,
        token: &[u8],
        charged: Option<IpAddr>,
        now: Monotonic,
        metrics: &WorkerShard,
    ) -> Result<Option<Arc<Session>>, Refusal> {
        let charge = || charged.map_or(Ok(()), |client| self.keys.count(client, now));
        let garbled = shape(PREFIX, token) == Shape::Garbled || token.len() < SHORTEST_STORED;
        let Some(sessions) = self.sessions.as_ref().filter(|_| !garbled) else {
            charge()?;
            return Ok(None);
        };
        let digest = self.keys.digest(token);
        match sessions.known(&digest, now, metrics)? {
            Known::Value(session) => return Ok(Some(session)),
            Known::Nothing => {
                charge()?;
                return Ok(None);
            }
            Known::Unasked => {}
        }
        let joins = sessions.is_asked(&digest);
        if !joins {
            charge()?;
        }
        let asked = Box::pin(sessions.ask(digest)).await;
        match (charged, &asked) {
            (Some(client), Ok(Some(_)) | Err(_)) if !joins => self.keys.refund(client),
            (_, Ok(None)) if joins => charge()?,
            _ => {}
        }
        Ok(asked?)
    }

    /// Says no to a session that is over, or whose key is no longer in force.
    pub async fn judge_session(
        &self,
        session: Arc<Session>,
        wall: Timestamp,
        now: Monotonic,
    ) -> Result<Arc<Session>, Refusal> {
        let Some(sessions) = &self.sessions else {
            return Err(Reject::TokenInvalid.into());
        };
        let session = sessions.judge(session, wall, now).await?;
        let Some((key_id, digest)) = session.issuer() else {
            return Ok(session);
        };
        if self.keys.vouches_for(key_id, digest, now).await? {
            Ok(session)
        } else {
            Err(Reject::SessionRevoked.into())
        }
    }

    /// Whether a bearer is a JWT of gatelet or of a trusted issuer by what it says, whatever it is
    /// worth.
    pub fn sort_jwt(&self, bearer: &[u8]) -> Option<Sorted<'_>> {
        if !looks_like_jwt(bearer) {
            return None;
        }
        let digest = Digest::of(bearer);
        let own = self.access.as_deref();
        if let Some(token) = own.and_then(|own| own.remembered(&digest)) {
            return Some(Sorted::Known(Jwt::Own(token)));
        }
        if let Some(token) = self.issuers.remembered(&digest) {
            return Some(Sorted::Known(Jwt::Trusted(token)));
        }
        let named = issuers_of(bearer);
        let whose = named.iter().find_map(|issuer| self.whose(issuer))?;
        Some(Sorted::New(digest, whose))
    }

    /// Whose the tokens of an issuer are; `None` if it is nobody's here.
    fn whose(&self, issuer: &str) -> Option<Whose<'_>> {
        let is_own = *issuer == *self.own_issuer;
        match (self.access.as_deref(), self.issuers.named(issuer)) {
            (Some(own), _) if is_own => Some(Whose::Own(own)),
            (_, Some(trusted)) => Some(Whose::Trusted(trusted)),
            // One that was issued here before.
            (None, None) if is_own => Some(Whose::Nobody),
            _ => None,
        }
    }

    /// The token that a bearer is, expired or not; `None` if it is none of those that it says.
    ///
    /// One that is none is counted against the `charged` address; one with an unknown key before its
    /// issuer is asked for newer ones, and taken back if that was right.
    pub async fn seek_jwt(
        &self,
        bearer: &[u8],
        sorted: Sorted<'_>,
        charged: Option<IpAddr>,
        now: Monotonic,
        metrics: &WorkerShard,
    ) -> Result<Option<Jwt>, Refusal> {
        let (digest, whose) = match sorted {
            Sorted::Known(token) => {
                metrics.cache(Cache::AccessToken, CacheResult::Hit);
                return Ok(Some(token));
            }
            Sorted::New(digest, whose) => (digest, whose),
        };
        metrics.cache(Cache::AccessToken, CacheResult::Miss);
        let charge = || charged.map_or(Ok(()), |client| self.keys.count(client, now));
        let mut counted = false;
        let found = match whose {
            Whose::Own(own) => own.verify(bearer, digest)?.map(Jwt::Own),
            Whose::Trusted(issuer) => {
                let before_asking = || {
                    counted = true;
                    charge()
                };
                let verified = self
                    .issuers
                    .verify(issuer, bearer, digest, now, before_asking);
                verified.await?.map(Jwt::Trusted)
            }
            Whose::Nobody => None,
        };
        match (&found, charged) {
            (None, _) if !counted => charge()?,
            (Some(_), Some(client)) if counted => self.keys.refund(client),
            _ => {}
        }
        Ok(found)
    }

    /// Says no to an access token that has expired, that was revoked with its family, or that nobody
    /// vouches for any more. `presented` as in [`AccessTokens::judge`].
    pub async fn judge_jwt(
        &self,
        token: &Jwt,
        wall: Timestamp,
        now: Monotonic,
        presented: bool,
    ) -> Result<Access, Refusal> {
        let token = match token {
            Jwt::Own(token) => token,
            Jwt::Trusted(token) => {
                self.issuers.judge(token, wall, now)?;
                return Ok(Access::Trusted(Arc::clone(token)));
            }
        };
        let Some(tokens) = &self.access else {
            return Err(Reject::TokenInvalid.into());
        };
        let standing = tokens.judge(token, wall, now, presented).await?;
        let key_id = &token.claims.client_id;
        let imported = standing.key_id.is_none();
        if imported || self.keys.vouches_for(key_id, &token.issuer, now).await? {
            let token = Arc::clone(token);
            Ok(Access::Own { token, standing })
        } else {
            Err(Reject::SessionRevoked.into())
        }
    }

    /// Says no to a caller that was let in and may not stay: it is judged as if it came anew.
    ///
    /// That the store does not answer a question says nothing while its last word is believed: then
    /// this is false, and has to be asked again soon.
    pub async fn still_stands(
        &self,
        proven: &Proven,
        wall: Timestamp,
        now: Monotonic,
    ) -> Result<bool, Refusal> {
        let mut certain = true;
        if let Some(key) = &proven.key {
            certain &= self.keys.still_stands(key, wall, now).await?;
        }
        let unanswered = |refusal: &Refusal| {
            *refusal == Fault::StoreUnavailable.into() && self.keys.store_vouches(now)
        };
        if let Some(access) = &proven.access {
            match self.judge_jwt(&access.jwt(), wall, now, false).await {
                Ok(_) => {}
                Err(refusal) if unanswered(&refusal) => certain = false,
                Err(refusal) => return Err(refusal),
            }
        }
        let Some(session) = &proven.session else {
            return Ok(certain);
        };
        let Some(sessions) = &self.sessions else {
            return Err(Reject::TokenInvalid.into());
        };
        certain &= sessions.still_stands(session, wall, now).await?;
        if let Some((key_id, digest)) = session.issuer() {
            match self.keys.vouches_for(key_id, digest, now).await {
                Ok(true) => {}
                Ok(false) => return Err(Reject::SessionRevoked.into()),
                Err(fault) if unanswered(&fault.into()) => certain = false,
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(certain)
    }
}
