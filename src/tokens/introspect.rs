//! What a token is worth, for a server that was given one (RFC 7662).

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;

use crate::rules::api_key::Digest;
use crate::rules::decision::{Refusal, Reject};

use super::{Call, Tokens, body, reply};

impl Tokens {
    /// Says nothing of a token that is not good, not even why (RFC 7662 §2.2). Never inside an
    /// envelope: the answer's form is the RFC's. Prolongs nothing.
    pub(super) async fn introspect(&self, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
        let token = body::form_field(call.headers, &call.body, "token")?
            .ok_or(Reject::RequestMalformed("the form names no token"))?;
        let told = match self.active_session(call, token.as_bytes()).await? {
            Some(told) => Some(told),
            None => self.active_access(call, token.as_bytes()).await?,
        };
        let told = told.unwrap_or_else(|| json!({ "active": false }));
        Ok(reply::json(StatusCode::OK, None, &told))
    }

    async fn active_session(
        &self,
        call: &Call<'_>,
        token: &[u8],
    ) -> Result<Option<serde_json::Value>, Refusal> {
        let found = self
            .authenticators
            .seek_session(token, None, call.now, call.metrics)
            .await?;
        let Some(session) = found else {
            return Ok(None);
        };
        let judged = self
            .authenticators
            .judge_session(session, call.wall, call.now)
            .await;
        let session = match judged {
            Ok(session) => session,
            Err(Refusal::Reject(_)) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        Ok(Some(json!({
            "active": true,
            "token_type": "session_token",
            "sub": session.record.subject,
            "client_id": session.record.key_id,
            "scope": session.record.scopes.joined(),
            "iat": session.record.created_at.seconds(),
            "exp": session.expires_at().seconds(),
            "sid": session.record.id,
        })))
    }

    async fn active_access(
        &self,
        call: &Call<'_>,
        token: &[u8],
    ) -> Result<Option<serde_json::Value>, Refusal> {
        let digest = Digest::of(token);
        let access = self.authenticators.access.as_deref();
        let Some(access) = access.filter(|access| access.claims(token, &digest)) else {
            return Ok(None);
        };
        let Some(found) = access.seek(token, digest, call.metrics)? else {
            return Ok(None);
        };
        let judged = self
            .authenticators
            .judge_access(found, call.wall, call.now, false)
            .await;
        let claims = match &judged {
            Ok(access) => &access.token.claims,
            Err(Refusal::Reject(_)) => return Ok(None),
            Err(Refusal::Fault(fault)) => return Err((*fault).into()),
        };
        Ok(Some(json!({
            "active": true,
            "token_type": "access_token",
            "sub": claims.subject,
            "client_id": claims.client_id,
            "scope": claims.scopes.joined(),
            "iss": claims.issuer,
            "aud": claims.audience,
            "iat": claims.issued_at.seconds(),
            "nbf": claims.not_before.seconds(),
            "exp": claims.expires_at.seconds(),
            "jti": claims.id.to_string(),
            "sid": claims.id.session(),
        })))
    }
}
