//! Everything that turns credentials into principals under one configuration.

use std::net::IpAddr;
use std::sync::Arc;

use crate::authn::access_token::{Access, AccessToken, AccessTokens};
use crate::authn::api_key::{ApiKeys, SHORTEST_STORED};
use crate::authn::nonces::Nonces;
use crate::authn::session_token::{Session, SessionTokens};
use crate::cache::verdicts::Known;
use crate::platform::Monotonic;
use crate::rules::api_key::{Shape, shape};
use crate::rules::decision::{Refusal, Reject};
use crate::rules::session::PREFIX;
use crate::rules::time::Timestamp;
use crate::telemetry::metrics::WorkerShard;

use super::proven::Proven;

/// The authenticators in force.
pub struct Authenticators {
    /// Of API keys.
    pub keys: Arc<ApiKeys>,
    /// Of session tokens; `None` where there is no store.
    pub sessions: Option<Arc<SessionTokens>>,
    /// Of access tokens; `None` where none are issued.
    pub access: Option<Arc<AccessTokens>>,
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
    /// A look-up in the store is counted against the `charged` address before it is made, and
    /// taken back if it shows that the caller did nothing wrong.
    pub async fn seek_session(
        &self,
        token: &[u8],
        charged: Option<IpAddr>,
        now: Monotonic,
        metrics: &WorkerShard,
    ) -> Result<Option<Arc<Session>>, Refusal> {
        let Some(sessions) = &self.sessions else {
            return Ok(None);
        };
        if shape(PREFIX, token) == Shape::Garbled || token.len() < SHORTEST_STORED {
            return Ok(None);
        }
        let digest = self.keys.digest(token);
        match sessions.known(&digest, now, metrics)? {
            Known::Value(session) => return Ok(Some(session)),
            Known::Nothing => return Ok(None),
            Known::Unasked => {}
        }
        if let Some(client) = charged {
            self.keys.count(client, now)?;
        }
        let asked = Box::pin(sessions.ask(digest)).await;
        if let (Some(client), Ok(Some(_)) | Err(_)) = (charged, &asked) {
            self.keys.refund(client);
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

    /// Says no to an access token that has expired, whose family is over, or whose key is no longer
    /// in force. `presented` as in [`AccessTokens::judge`].
    pub async fn judge_access(
        &self,
        token: Arc<AccessToken>,
        wall: Timestamp,
        now: Monotonic,
        presented: bool,
    ) -> Result<Access, Refusal> {
        let Some(tokens) = &self.access else {
            return Err(Reject::TokenInvalid.into());
        };
        let access = tokens.judge(token, wall, now, presented).await?;
        let key_id = &access.token.claims.client_id;
        let imported = access.standing.key_id.is_none();
        let digest = &access.token.issuer;
        if imported || self.keys.vouches_for(key_id, digest, now).await? {
            Ok(access)
        } else {
            Err(Reject::SessionRevoked.into())
        }
    }

    /// Whether a caller that was let in may stay: it is judged as if it came anew.
    pub async fn still_stands(&self, proven: &Proven, wall: Timestamp, now: Monotonic) -> bool {
        if let Some(key) = &proven.key
            && !self.keys.still_stands(key, wall, now).await
        {
            return false;
        }
        if let Some(access) = &proven.access {
            let token = Arc::clone(&access.token);
            if self.judge_access(token, wall, now, false).await.is_err() {
                return false;
            }
        }
        let Some(session) = &proven.session else {
            return true;
        };
        let Some(sessions) = &self.sessions else {
            return false;
        };
        let vouched = match session.issuer() {
            Some((key_id, digest)) => self.keys.vouches_for(key_id, digest, now).await,
            None => Ok(true),
        };
        vouched.unwrap_or(false) && sessions.still_stands(session, wall, now).await
    }
}
