//! Client sessions: issued by a server for a user, ended by it, shown to whoever bears the token.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::authn::access::Access;
use crate::authn::api_key::Key;
use crate::authn::session_token::SessionTokens;
use crate::authn::sessions::NewSession;
use crate::rules::api_key::Label;
use crate::rules::decision::{Fault, Refusal, Reject};
use crate::rules::principal::{Scopes, is_grantable, is_scope_token};
use crate::rules::session::Record;

use super::{Call, Tokens, body, failure, reply};

/// The most bytes of a session's metadata.
const LONGEST_METADATA: usize = 2 * 1024;

/// The most scopes of a session.
const MOST_SCOPES: usize = 64;

/// What a request for a session says.
#[derive(Default, Deserialize)]
struct Wanted {
    subject: Option<String>,
    metadata: Option<Map<String, Value>>,
    scopes: Option<Vec<String>>,
}

impl Tokens {
    pub(super) async fn issue_session(&self, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
        let (sessions, key) = (self.sessions()?, issuing_key(call)?);
        let wanted: Wanted = body::json(call.fields, &call.body)?;
        let named = call.route.pattern.path.filled("subject", call.path);
        let subject = match (named, wanted.subject) {
            (Some(named), Some(said)) if named != said => {
                return Err(malformed(
                    "the subject in the body is another one than in the path",
                ));
            }
            (Some(subject), _) | (None, Some(subject)) => subject,
            (None, None) => return Err(malformed("the body names no subject")),
        };
        let subject = Label::parse(&subject).map_err(|_| {
            Reject::RequestMalformed(
                "the subject is empty, longer than 256 bytes, or holds control characters",
            )
        })?;
        if let Some(metadata) = &wanted.metadata
            && serde_json::to_vec(metadata).is_ok_and(|text| text.len() > LONGEST_METADATA)
        {
            return Err(malformed("the metadata is longer than 2 KiB"));
        }
        let scopes = self.granted(key, wanted.scopes)?;
        let new = NewSession {
            subject,
            key_id: Some((*key.id).into()),
            key_owner: key.owner.clone(),
            scopes,
            metadata: wanted.metadata,
            lifetime: sessions.lifetime(),
        };
        let issued = sessions
            .sessions()
            .issue(new)
            .await
            .map_err(|error| failure(&error))?;
        let record = &issued.record;
        Ok(self.json(
            StatusCode::CREATED,
            &json!({
                "clientSessionToken": &*issued.token,
                "sessionId": record.id,
                "id": record.subject,
                "expiresAt": record.expires_at.seconds(),
                "maxExpiresAt": record.max_expires_at.seconds(),
            }),
        ))
    }

    /// What a session may do: what was asked for, or else what the configuration says, as far as
    /// the issuing key may do it.
    fn granted(&self, key: &Key, wanted: Option<Vec<String>>) -> Result<Scopes, Reject> {
        let may = |scope: &str| {
            is_grantable(scope)
                && (key.identity.scopes.is_empty() || key.identity.scopes.contains(scope))
        };
        let Some(wanted) = wanted else {
            let granted = self.config.session_scopes.iter().filter(|scope| may(scope));
            return Ok(Scopes::new(granted));
        };
        if wanted.len() > MOST_SCOPES || !wanted.iter().all(|scope| is_scope_token(scope)) {
            return Err(Reject::RequestMalformed("the scopes are not scopes"));
        }
        let missing: Vec<&str> = wanted
            .iter()
            .map(|scope| &**scope)
            .filter(|scope| !may(scope))
            .collect();
        if missing.is_empty() {
            Ok(Scopes::new(wanted))
        } else {
            Err(Reject::ScopeMissing(missing.join(" ").into()))
        }
    }

    pub(super) async fn end_session(&self, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
        let (sessions, key) = (self.sessions()?, issuing_key(call)?);
        let path = &call.route.pattern.path;
        let id = path.filled("sessionId", call.path);
        let found = match &id {
            Some(id) => sessions.sessions().find(id).await,
            None => Ok(None),
        };
        let found = found.map_err(|error| failure(&error))?;
        // Below the path of one subject there are no sessions of another: whoever lets a user
        // through to its own path lets it end its own sessions alone.
        let named = path.filled("subject", call.path);
        let is_below = |record: &Record| named.as_deref().is_none_or(|it| *it == *record.subject);
        // Whether there is one of another owner is nobody else's affair.
        let found = found.filter(|(_, record)| is_of(key, record) && is_below(record));
        let Some((digest, _)) = found else {
            return Err(Reject::NotFound.into());
        };
        sessions
            .sessions()
            .revoke(&digest)
            .await
            .map_err(|error| failure(&error))?;
        // Forgotten before the answer: a hit after this 204 would outlive the revocation.
        sessions.forget(&digest);
        Ok(reply::nothing())
    }

    pub(super) fn show_session(&self, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
        if let Some(access) = &call.proven.access {
            let identity = access.identity();
            let mut shown = json!({
                "subject": &*identity.subject,
                "scopes": identity.scopes.iter().collect::<Vec<_>>(),
                "expiresAt": access.expires_at().seconds(),
            });
            match access {
                Access::Own { token, standing } => {
                    shown["sessionId"] = token.claims.id.session().into();
                    shown["createdAt"] = token.claims.issued_at.seconds().into();
                    shown["maxExpiresAt"] = standing.expires_at().seconds().into();
                }
                Access::Trusted(token) => shown["issuer"] = token.issuer.name().into(),
            }
            return Ok(self.json(StatusCode::OK, &shown));
        }
        let Some(session) = &call.proven.session else {
            return Err(Reject::TokenInvalid.into());
        };
        let mut shown = json!({
            "subject": session.record.subject,
            "sessionId": session.record.id,
            "scopes": session.record.scopes.iter().collect::<Vec<_>>(),
            "createdAt": session.record.created_at.seconds(),
            "expiresAt": session.expires_at().seconds(),
            "maxExpiresAt": session.max_expires_at().seconds(),
        });
        if let Some(metadata) = &session.record.metadata {
            shown["metadata"] = Value::Object(metadata.clone());
        }
        Ok(self.json(StatusCode::OK, &shown))
    }

    pub(super) fn sessions(&self) -> Result<&std::sync::Arc<SessionTokens>, Refusal> {
        // The routes are there only with a store.
        let sessions = self.authenticators.sessions.as_ref();
        sessions.ok_or_else(|| Fault::StoreUnavailable.into())
    }

    pub(super) fn json(&self, status: StatusCode, body: &Value) -> Response<Bytes> {
        reply::json(status, self.config.envelope.as_deref(), body)
    }
}

pub(super) fn issuing_key<'a>(call: &Call<'a>) -> Result<&'a Key, Refusal> {
    call.proven
        .key
        .as_deref()
        .ok_or_else(|| Reject::ApiKeyInvalid.into())
}

fn is_of(key: &Key, record: &Record) -> bool {
    key.is_of(record.key_id.as_deref(), record.key_owner.as_deref())
}

fn malformed(why: &'static str) -> Refusal {
    Reject::RequestMalformed(why).into()
}
