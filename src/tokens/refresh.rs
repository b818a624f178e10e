//! Refresh and logout, by cookie or by body.

use bytes::Bytes;
use http::header::{AUTHORIZATION, SET_COOKIE};
use http::{HeaderValue, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::authn::access::{Jwt, Sorted};
use crate::authn::access_token::AccessTokens;
use crate::authn::families::Exchanged;
use crate::rules::api_key::Digest;
use crate::rules::cookie::Cookie;
use crate::rules::credential;
use crate::rules::decision::{Refusal, Reject, Wanted};
use crate::rules::refresh::{Family, Mode, Reason, Token};
use crate::rules::{cookie, origin};
use crate::telemetry::metrics::Refresh;

use super::{Call, Tokens, body, failure, reply};

/// What a request with a refresh token says.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    refresh_token: Option<String>,
}

/// A refresh token, and how it came.
struct Presented {
    token: Token,
    mode: Mode,
}

impl Tokens {
    pub(super) async fn refresh(&self, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
        let outcome = self.refreshed(call).await;
        let counted = match &outcome {
            Ok((_, true)) => Refresh::Rotated,
            Ok((_, false)) => Refresh::Repeated,
            Err(Refusal::Reject(Reject::RefreshReused)) => Refresh::Reused,
            Err(Refusal::Reject(_)) => Refresh::Refused,
            Err(Refusal::Fault(_)) => Refresh::Failed,
        };
        call.metrics.refresh(counted);
        outcome.map(|(response, _)| response)
    }

    /// The answer, and whether the token was rotated.
    async fn refreshed(&self, call: &Call<'_>) -> Result<(Response<Bytes>, bool), Refusal> {
        let access = self.access()?;
        let shown = self.shown(call)?;
        let presented = self.presented(call, shown)?;
        let presented = presented.ok_or(Reject::CredentialMissing(Wanted {
            api_key: false,
            token: true,
        }))?;
        let family = self.family_of(call, &presented.token).await?;
        let family = family.ok_or(Reject::RefreshInvalid)?;
        // How a family speaks was chosen at sign-in: what came in a cookie never leaves in a body.
        if family.grant.mode != presented.mode {
            return Err(Reject::RefreshInvalid.into());
        }
        self.judge_key(call, &family).await?;
        let exchanged = access
            .families()
            .exchange(&presented.token, self.config.refresh)
            .await
            .map_err(|error| failure(&error))?;
        match exchanged {
            Exchanged::Token {
                family,
                token,
                rotated,
            } => {
                let response = self.tokens(call, StatusCode::OK, &family, &token)?;
                Ok((response, rotated))
            }
            Exchanged::Reused => {
                access.forget(&family.id);
                Err(Reject::RefreshReused.into())
            }
            Exchanged::Refused(_) => Err(Reject::RefreshInvalid.into()),
        }
    }

    /// A family ends with the key that it was begun with, and goes with that owner's keys alone.
    async fn judge_key(&self, call: &Call<'_>, family: &Family) -> Result<(), Refusal> {
        let grant = &family.grant;
        if let Some(key) = &call.proven.key
            && !key.is_of(grant.key_id.as_deref(), grant.key_owner.as_deref())
        {
            return Err(Reject::CredentialMismatch.into());
        }
        let Some(key_id) = &grant.key_id else {
            return Ok(());
        };
        let digest = Digest::of(key_id.as_bytes());
        let keys = &self.authenticators.keys;
        if keys.vouches_for(key_id, &digest, call.now).await? {
            Ok(())
        } else {
            Err(Reject::RefreshInvalid.into())
        }
    }

    /// The family that a token is of. An unknown one is charged before the store is asked.
    async fn family_of(&self, call: &Call<'_>, token: &Token) -> Result<Option<Family>, Refusal> {
        let keys = &self.authenticators.keys;
        keys.count(call.client, call.now)?;
        let found = self.access()?.families().of_token(token).await;
        if !matches!(found, Ok(None)) {
            keys.refund(call.client);
        }
        found.map_err(|error| failure(&error))
    }

    /// Ends what is shown, and says so in any case. What is no token is none.
    pub(super) async fn log_out(&self, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
        let access = self.access()?;
        let shown = self.shown(call)?;
        let by_body = matches!(shown, Some((_, Mode::Body)));
        let presented = match self.presented(call, shown) {
            Err(Refusal::Reject(Reject::RefreshInvalid)) => None,
            presented => presented?,
        };
        let mut ended = Vec::new();
        if let Some(presented) = &presented {
            ended.extend(self.family_of(call, &presented.token).await?);
        }
        if let Some(id) = self.family_of_bearer(call).await? {
            let found = access.families().lookup(&id).await;
            ended.extend(found.map_err(|error| failure(&error))?);
        }
        let everything = call.query.is_some_and(|query| {
            form_urlencoded::parse(query.as_bytes())
                .any(|(name, value)| name == "all" && value == "true")
        });
        for family in &ended {
            if everything {
                self.end_all(access, &family.grant.subject).await?;
            }
            let revoked = access.revoke(&family.id, Reason::LoggedOut).await;
            revoked.map_err(|error| failure(&error))?;
        }
        let mut response = reply::nothing();
        // A page elsewhere must not log anybody out, not even by taking the cookie away.
        if !by_body && self.is_own_page(call) {
            let current = &self.config.cookie;
            set_cookie(&mut response, &current.clear());
            for name in &self.config.legacy_cookies {
                let legacy = Cookie {
                    name: name.clone(),
                    ..current.clone()
                };
                set_cookie(&mut response, &legacy.clear());
            }
        }
        Ok(response)
    }

    /// Ends every session of a subject, whatever kind it is.
    async fn end_all(&self, access: &AccessTokens, subject: &str) -> Result<(), Refusal> {
        let families = access.families().of_subject(subject).await;
        for family in families.map_err(|error| failure(&error))? {
            let revoked = access.revoke(&family.id, Reason::LoggedOut).await;
            revoked.map_err(|error| failure(&error))?;
        }
        let sessions = self.sessions()?;
        let found = sessions.sessions().of_subject(subject).await;
        for (digest, _) in found.map_err(|error| failure(&error))? {
            let revoked = sessions.sessions().revoke(&digest).await;
            revoked.map_err(|error| failure(&error))?;
            sessions.forget(&digest);
        }
        Ok(())
    }

    /// What a request shows as its one refresh token, and how it came.
    ///
    /// A cookie of an old name counts where there is none of the present one.
    fn shown(&self, call: &Call<'_>) -> Result<Option<(Vec<u8>, Mode)>, Refusal> {
        let shown: Shown = body::json(call.fields, &call.body)?;
        let mut in_cookies: Vec<&[u8]> = Vec::new();
        for name in self.config.cookie_names() {
            for value in cookie::values(call.fields, name) {
                if !value.is_empty() && !in_cookies.contains(&value) {
                    in_cookies.push(value);
                }
            }
            if !in_cookies.is_empty() {
                break;
            }
        }
        match (shown.refresh_token, &in_cookies[..]) {
            (None, []) => Ok(None),
            (Some(token), []) => Ok(Some((token.into_bytes(), Mode::Body))),
            (None, [only]) => Ok(Some((only.to_vec(), Mode::Cookie))),
            _ => Err(Reject::RefreshAmbiguous.into()),
        }
    }

    /// Takes what was shown, unless it is a cookie that a page elsewhere made a browser send.
    fn presented(
        &self,
        call: &Call<'_>,
        shown: Option<(Vec<u8>, Mode)>,
    ) -> Result<Option<Presented>, Refusal> {
        let Some((bytes, mode)) = shown else {
            return Ok(None);
        };
        if mode == Mode::Cookie && !self.is_own_page(call) {
            return Err(Reject::OriginForbidden.into());
        }
        let token = Token::parse(&bytes).map_err(|_| Reject::RefreshInvalid)?;
        Ok(Some(Presented { token, mode }))
    }

    fn is_own_page(&self, call: &Call<'_>) -> bool {
        let own = format!("{}://{}", call.scheme, call.host);
        origin::is_allowed(call.fields, &self.config.csrf_origins, &own)
    }

    /// The family of a genuine access token, expired or not. Another issuer's has none.
    async fn family_of_bearer(&self, call: &Call<'_>) -> Result<Option<Box<str>>, Refusal> {
        let line = call.fields.get(&AUTHORIZATION);
        let Some(bearer) = line.and_then(credential::bearer) else {
            return Ok(None);
        };
        let sorted = self.authenticators.sort_jwt(bearer);
        let Some(sorted) = sorted.filter(Sorted::is_own) else {
            return Ok(None);
        };
        let charged = Some(call.client);
        let found = self
            .authenticators
            .seek_jwt(bearer, sorted, charged, call.now, call.metrics)
            .await?;
        Ok(match found {
            Some(Jwt::Own(token)) => Some(token.claims.id.session().into()),
            Some(Jwt::Trusted(_)) | None => None,
        })
    }

    /// The answer with a family's tokens, new or again (RFC 6749 §5.1).
    pub(super) fn tokens(
        &self,
        call: &Call<'_>,
        status: StatusCode,
        family: &Family,
        token: &Token,
    ) -> Result<Response<Bytes>, Refusal> {
        let signed = self.access()?.sign(family, call.wall)?;
        let mut answer = json!({
            "accessToken": &*signed.token,
            "tokenType": "Bearer",
            "expiresIn": signed.expires_at.seconds().saturating_sub(call.wall.seconds()),
            "expiresAt": signed.expires_at.seconds(),
            "subject": family.grant.subject,
        });
        if let Some(chain_id) = family.grant.chain_id {
            answer["chainId"] = chain_id.into();
        }
        if family.grant.mode == Mode::Body {
            answer["refreshToken"] = token.as_str().into();
            return Ok(self.json(status, &answer));
        }
        let mut response = self.json(status, &answer);
        let left = family.expires_at.since(call.wall);
        set_cookie(&mut response, &self.config.cookie.set(token.as_str(), left));
        Ok(response)
    }
}

fn set_cookie(response: &mut Response<Bytes>, cookie: &str) {
    // The configuration was checked: nothing in it breaks a header.
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(SET_COOKIE, value);
    }
}
