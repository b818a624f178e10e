//! A proven caller: the credentials that were shown and found good.

use std::sync::Arc;

use crate::authn::access::Access;
use crate::authn::api_key::Key;
use crate::authn::identity::Identity;
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
    /// The access token that it bears; never beside a session, since there is one bearer.
    pub access: Option<Access>,
}

/// The credential that says who the caller is.
enum Speaker<'a> {
    Access(&'a Access),
    Session(&'a Session),
    Key(&'a Key),
}

impl Proven {
    /// Nothing was proven.
    pub fn is_nobody(&self) -> bool {
        self.kinds().is_empty()
    }

    /// The kinds of credential that were proven.
    pub fn kinds(&self) -> Kinds {
        let shown = [
            (Kind::ApiKey, self.key.is_some()),
            (Kind::SessionToken, self.session.is_some()),
            (Kind::AccessToken, self.access.is_some()),
        ];
        shown
            .into_iter()
            .filter(|(_, shown)| *shown)
            .fold(Kinds::NONE, |kinds, (kind, _)| kinds.with(kind))
    }

    /// What the credential of this kind may do.
    pub fn scopes(&self, kind: Kind) -> Option<&Scopes> {
        let identity = match kind {
            Kind::ApiKey => self.key.as_deref().map(|key| &key.identity),
            Kind::SessionToken => self.session.as_deref().map(|session| &session.identity),
            Kind::AccessToken => self.access.as_ref().map(Access::identity),
        };
        identity.map(|identity| &identity.scopes)
    }

    fn speaker(&self) -> Option<Speaker<'_>> {
        match self {
            Self {
                access: Some(access),
                ..
            } => Some(Speaker::Access(access)),
            Self {
                session: Some(session),
                ..
            } => Some(Speaker::Session(session)),
            Self { key: Some(key), .. } => Some(Speaker::Key(key)),
            _ => None,
        }
    }

    /// Who the caller is: whoever the token speaks for, else the key's holder.
    pub fn identity(&self) -> Option<&Identity> {
        Some(match self.speaker()? {
            Speaker::Access(access) => access.identity(),
            Speaker::Session(session) => &session.identity,
            Speaker::Key(key) => &key.identity,
        })
    }

    /// The names of what was proven, with spaces between them.
    pub fn methods(&self) -> Option<&'static str> {
        Some(match (self.speaker()?, self.key.is_some()) {
            (Speaker::Access(_), true) => "api_key access_token",
            (Speaker::Access(_), false) => "access_token",
            (Speaker::Session(_), true) => "api_key session_token",
            (Speaker::Session(_), false) => "session_token",
            (Speaker::Key(_), _) => "api_key",
        })
    }

    /// Whether what was proven belongs together: a token of gatelet's own was issued through a key
    /// of the same owner as the key shown with it, or through that key where it has no owner.
    pub fn belongs_together(&self) -> bool {
        let Some(key) = &self.key else {
            return true;
        };
        match self.speaker() {
            Some(Speaker::Access(Access::Own { standing, .. })) => {
                key.is_of(standing.key_id.as_deref(), standing.key_owner.as_deref())
            }
            Some(Speaker::Session(session)) => {
                let record = &session.record;
                key.is_of(record.key_id.as_deref(), record.key_owner.as_deref())
            }
            Some(Speaker::Access(Access::Trusted(_)) | Speaker::Key(_)) | None => true,
        }
    }

    /// From when some of it is refused, if nothing else happens to it.
    pub fn good_until(&self) -> Option<Timestamp> {
        let of_key = self.key.as_deref().and_then(Key::good_until);
        let of_session = self.session.as_deref().map(Session::expires_at);
        let of_access = self.access.as_ref().map(Access::expires_at);
        [of_key, of_session, of_access].into_iter().flatten().min()
    }
}
