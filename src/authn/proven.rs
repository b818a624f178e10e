//! A proven caller: the credentials that were shown and found good.

use std::sync::Arc;

use http::HeaderValue;

use crate::authn::api_key::Key;
use crate::authn::session_token::Session;
use crate::rules::credential::{Kind, Kinds};
use crate::rules::principal::Scopes;
use crate::rules::time::Timestamp;

/// What a caller proved.
#[derive(Clone, Debug, Default)]
pub struct Proven {
    /// The API key that it holds.
    pub key: Option<Arc<Key>>,
    /// The session that it is in.
    pub session: Option<Arc<Session>>,
}

impl Proven {
    /// Nothing was proven.
    pub fn is_nobody(&self) -> bool {
        self.key.is_none() && self.session.is_none()
    }

    /// The kinds of credential that were proven.
    pub fn kinds(&self) -> Kinds {
        let mut kinds = Kinds::NONE;
        if self.key.is_some() {
            kinds = kinds.with(Kind::ApiKey);
        }
        if self.session.is_some() {
            kinds = kinds.with(Kind::SessionToken);
        }
        kinds
    }

    /// What the credential of this kind may do.
    pub fn scopes(&self, kind: Kind) -> Option<&Scopes> {
        match kind {
            Kind::ApiKey => self.key.as_deref().map(|key| &key.scopes),
            Kind::SessionToken => self.session.as_deref().map(Session::scopes),
            Kind::AccessToken => None,
        }
    }

    /// Who the caller is: the session's subject, else the key's.
    pub fn subject(&self) -> Option<&Arc<str>> {
        let of_session = self.session.as_deref().map(|session| &session.subject);
        of_session.or(self.key.as_deref().map(|key| &key.subject))
    }

    /// [`Self::subject`] as a header value.
    pub fn subject_value(&self) -> Option<&HeaderValue> {
        match (&self.session, &self.key) {
            (Some(session), _) => Some(&session.subject_value),
            (None, Some(key)) => Some(&key.subject_value),
            (None, None) => None,
        }
    }

    /// The scopes of the credential that names the subject, as a header value.
    pub fn scopes_value(&self) -> Option<&HeaderValue> {
        match (&self.session, &self.key) {
            (Some(session), _) => session.scopes_value.as_ref(),
            (None, Some(key)) => key.scopes_value.as_ref(),
            (None, None) => None,
        }
    }

    /// The names of what was proven, as a header value.
    pub fn methods_value(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static(match (&self.key, &self.session) {
            (Some(_), Some(_)) => "api_key session_token",
            (Some(_), None) => "api_key",
            (None, Some(_)) => "session_token",
            (None, None) => return None,
        }))
    }

    /// Whether what was proven belongs together: a token was issued through a key of the same
    /// owner as the key shown with it, or through that key where it has no owner.
    pub fn belongs_together(&self) -> bool {
        match (&self.key, &self.session) {
            (Some(key), Some(session)) => {
                let record = &session.record;
                key.is_of(record.key_id.as_deref(), record.key_owner.as_deref())
            }
            _ => true,
        }
    }

    /// From when some of it is refused, if nothing else happens to it.
    pub(super) fn good_until(&self) -> Option<Timestamp> {
        let of_key = self.key.as_deref().and_then(Key::good_until);
        let of_session = self.session.as_deref().map(Session::expires_at);
        [of_key, of_session].into_iter().flatten().min()
    }
}
