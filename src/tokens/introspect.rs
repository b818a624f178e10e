//! What a token is worth, for a server that was given one (RFC 7662).

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;

use crate::authn::access::Access;
use crate::rules::decision::{Refusal, Reject};

use super::{Call, Tokens, body, reply};

impl Tokens {
    /// Says nothing of a token that is not good, not even why (RFC 7662 §2.2). Never inside an
    /// envelope: the answer's form is the RFC's. Prolongs nothing.
    pub(super) async fn introspect(&self, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
        let token = body::form_field(call.fields, &call.body, "token")?
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
        let Some(sorted) = self.authenticators.sort_jwt(token) else {
            return Ok(None);
        };
        let found = self
            .authenticators
            .seek_jwt(token, sorted, None, call.now, call.metrics)
            .await?;
        let Some(found) = found else {
            return Ok(None);
        };
        let judged = self
            .authenticators
            // Whoever asks was shown it.
            .judge_jwt(&found, call.wall, call.now, true)
            .await;
        let access = match judged {
            Ok(access) => access,
            Err(Refusal::Reject(_)) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let identity = access.identity();
        let mut told = json!({
            "active": true,
            "token_type": "access_token",
            "sub": &*identity.subject,
            "scope": identity.scopes.joined(),
            "exp": access.expires_at().seconds(),
        });
        match &access {
            Access::Own { token, .. } => {
                let claims = &token.claims;
                told["iss"] = claims.issuer.as_ref().into();
                told["aud"] = json!(claims.audience);
                told["client_id"] = claims.client_id.as_ref().into();
                told["iat"] = claims.issued_at.seconds().into();
                told["nbf"] = claims.not_before.seconds().into();
                told["jti"] = claims.id.to_string().into();
                told["sid"] = claims.id.session().into();
            }
            Access::Trusted(token) => told["iss"] = token.issuer.name().into(),
        }
        Ok(Some(told))
    }
}
