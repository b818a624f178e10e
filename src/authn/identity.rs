//! What a credential says of who bears it, made ready for upstreams once.

use std::sync::Arc;

use http::HeaderValue;

use crate::rules::headers::encoded_value;
use crate::rules::principal::Scopes;

/// Who somebody is, and what the upstream is told of it.
#[derive(Debug)]
pub struct Identity {
    /// The subject, shared with the log.
    pub subject: Arc<str>,
    /// The subject as a header value.
    pub subject_value: HeaderValue,
    /// What the credential may do.
    pub scopes: Scopes,
    /// The scopes as a header value; `None` where there are none.
    pub scopes_value: Option<HeaderValue>,
    /// The id of the session that the credential is of, as a header value.
    pub session_value: Option<HeaderValue>,
    /// Whose word it is, as a header value, where it is not gatelet's own.
    pub issuer_value: Option<HeaderValue>,
}

impl Identity {
    /// Of whoever gatelet itself vouches for, outside any session.
    pub fn new(subject: &str, scopes: &Scopes) -> Self {
        Self {
            subject: subject.into(),
            subject_value: encoded_value(subject),
            scopes: scopes.clone(),
            scopes_value: (!scopes.is_empty()).then(|| encoded_value(&scopes.joined())),
            session_value: None,
            issuer_value: None,
        }
    }

    /// The same in the session of this id.
    pub fn in_session(self, id: &str) -> Self {
        Self {
            session_value: Some(encoded_value(id)),
            ..self
        }
    }

    /// The same by the word of this issuer.
    pub fn by_word_of(self, issuer: &str) -> Self {
        Self {
            issuer_value: Some(encoded_value(issuer)),
            ..self
        }
    }
}
