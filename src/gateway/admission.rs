//! Steps 5 to 7 of a request's life: capture its credentials, authenticate, admit.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;
use http::header;

use crate::authn::access::Access;
use crate::authn::api_key::{ApiKeys, Key, Sought};
use crate::authn::authenticators::Authenticators;
use crate::authn::proven::Proven;
use crate::authn::session_token::Session;
use crate::limits::{Bucket, Caller as Counted, Callers};
use crate::platform::Monotonic;
use crate::rules::bucket::Rate;
use crate::rules::credential::{self, Kind, Kinds};
use crate::rules::decision::{Refusal, Reject};
use crate::rules::fields::Fields;
use crate::rules::form::{Line, Lines};
use crate::rules::forwarded::Caller;
use crate::rules::policy::{Admitted, Policy};
use crate::rules::refresh;
use crate::rules::time::Timestamp;
use crate::telemetry::metrics::{OWN_ROUTES, WorkerShard};
use crate::tokens::OwnRoute;

use super::RouteConfig;

/// A request that was let in.
#[derive(Debug)]
pub(super) struct Entrant {
    pub(super) admitted: Admitted,
    /// What was proven.
    pub(super) proven: Proven,
    /// The bearer is gatelet's own, or may be: the upstream must not see it.
    pub(super) take_authorization: bool,
}

/// What a route asks of those who are let in.
#[derive(Clone, Copy)]
pub(super) struct Needs<'a> {
    pub(super) name: &'a str,
    pub(super) policy: &'a Policy,
    pub(super) rate_limit: Option<Rate>,
    /// The credentials that the upstream may see.
    pub(super) forward: Kinds,
}

impl<'a> Needs<'a> {
    /// What a configured route asks.
    pub(super) fn of(route: &'a RouteConfig) -> Self {
        Self {
            name: &route.name,
            policy: &route.policy,
            rate_limit: route.rate_limit,
            forward: route.forward,
        }
    }

    /// What one of gatelet's own asks.
    pub(super) fn of_own(route: &'a OwnRoute) -> Self {
        Self {
            name: OWN_ROUTES,
            policy: &route.policy,
            rate_limit: None,
            forward: Kinds::NONE,
        }
    }
}

/// What admission looks at besides the request.
pub(super) struct Gate<'a> {
    pub(super) authenticators: &'a Authenticators,
    pub(super) callers: &'a Callers,
    pub(super) metrics: &'a WorkerShard,
    pub(super) caller: Caller,
    pub(super) wall: Timestamp,
    pub(super) now: Monotonic,
    pub(super) lines: Lines,
}

/// What the key headers say.
enum Shown {
    /// There is no key in them.
    Nothing,
    /// There is one, and the route does not ask for it.
    Unasked,
    /// There is one, and it is a genuine key, good or not any more, or refused.
    Judged(Result<Arc<Key>, Refusal>),
}

/// A bearer, once it is known whose it is.
enum Bearer {
    /// There is none.
    Absent,
    /// An API key of gatelet's.
    Key(Arc<Key>),
    /// A session token, good or refused.
    Session(Result<Arc<Session>, Refusal>),
    /// An access token, good or refused.
    Access(Result<Access, Refusal>),
    /// Not gatelet's; `counted` as in [`Sought::Unknown`].
    Foreign { counted: bool },
    /// Gatelet's by its shape, or the store could not say; where a key is needed, this is why it
    /// is refused.
    Unsure(Refusal),
}

impl Gate<'_> {
    /// Lets a request in that brings what is needed, or says why not.
    pub(super) async fn admit(
        &self,
        needs: Needs<'_>,
        fields: &Fields,
    ) -> Result<Entrant, Refusal> {
        let policy = needs.policy;
        let listed = policy.listed().contains(Kind::ApiKey);
        let lists_tokens = policy.listed().contains(Kind::SessionToken);
        let shown = match self.key_header(fields)? {
            Some(secret) if listed => Shown::Judged(self.genuine(secret).await),
            Some(_) => Shown::Unasked,
            None => Shown::Nothing,
        };
        let bearer = if self.lines.has(Line::Authorization) {
            match bearer_of(fields)? {
                Some(bearer) => self.recognise(bearer, &shown, policy).await?,
                None => Bearer::Absent,
            }
        } else {
            Bearer::Absent
        };
        let take_authorization = match &bearer {
            Bearer::Absent | Bearer::Foreign { .. } => false,
            Bearer::Key(_) => !needs.forward.contains(Kind::ApiKey),
            Bearer::Session(_) => !needs.forward.contains(Kind::SessionToken),
            Bearer::Access(_) => !needs.forward.contains(Kind::AccessToken),
            Bearer::Unsure(_) => true,
        };
        let (key, bearer) = match (shown, bearer) {
            (Shown::Judged(_) | Shown::Unasked, Bearer::Key(_)) => {
                return Err(Reject::CredentialAmbiguous(Kind::ApiKey).into());
            }
            (Shown::Judged(judged), bearer) => (Some(judged?), bearer),
            (Shown::Nothing, Bearer::Key(key)) if listed => (Some(key), Bearer::Absent),
            (_, bearer) => (None, bearer),
        };
        if let Some(key) = &key {
            key.judge(self.wall)?;
        }
        let (session, access) = match bearer {
            Bearer::Session(judged) => (Some(judged?), None),
            Bearer::Access(judged) => (None, Some(judged?)),
            // A token of a kind that nobody asked for is nobody's business where nothing is required.
            Bearer::Unsure(Refusal::Reject(Reject::TokenInvalid)) if policy.is_open() => {
                (None, None)
            }
            Bearer::Unsure(refusal) if key.is_none() && listed => return Err(refusal),
            // Nobody can say now that it is not a token that the route asks about.
            Bearer::Unsure(fault @ Refusal::Fault(_)) if lists_tokens => return Err(fault),
            Bearer::Foreign { counted } if key.is_none() && !policy.is_open() => {
                if !counted {
                    self.keys().count(self.caller.address, self.now)?;
                }
                return Err(Reject::TokenInvalid.into());
            }
            _ => (None, None),
        };
        let proven = Proven {
            key,
            session,
            access,
        };
        if !proven.belongs_together() {
            return Err(Reject::CredentialMismatch.into());
        }
        let admitted = policy.admit(proven.kinds(), |kind| proven.scopes(kind))?;
        self.throttle(needs, &proven)?;
        if let (Some(session), Some(sessions)) = (&proven.session, &self.authenticators.sessions) {
            sessions.slide(session, self.wall, self.metrics);
        }
        Ok(Entrant {
            admitted,
            proven,
            take_authorization,
        })
    }

    fn keys(&self) -> &ApiKeys {
        &self.authenticators.keys
    }

    /// The one key that the key headers carry.
    fn key_header<'f>(&self, fields: &'f Fields) -> Result<Option<&'f [u8]>, Reject> {
        let mut shown = None;
        for name in self.keys().headers() {
            for value in fields.get_all(name) {
                if shown.replace(value).is_some() {
                    return Err(Reject::CredentialAmbiguous(Kind::ApiKey));
                }
            }
        }
        Ok(shown)
    }

    /// Finds out whose a bearer is.
    ///
    /// Beside a key that was `shown` in a header, it may only be foreign. One of the minted shape
    /// is gatelet's whatever it is worth, and is looked up only where a key is listed. On a
    /// route that asks for no key, or beside a good one, another bearer is the API's own until it is
    /// found out to be a key: nobody is charged for it.
    async fn recognise(
        &self,
        bearer: &[u8],
        shown: &Shown,
        policy: &Policy,
    ) -> Result<Bearer, Refusal> {
        let listed = policy.listed();
        if Authenticators::is_session_token(bearer) {
            if !listed.contains(Kind::SessionToken) {
                return Ok(Bearer::Unsure(Reject::TokenInvalid.into()));
            }
            return Ok(Bearer::Session(self.live_session(bearer).await));
        }
        if refresh::is_minted(bearer) {
            // It is for the own routes alone, and no upstream may see it.
            return Ok(Bearer::Unsure(Reject::TokenInvalid.into()));
        }
        if let Some(judged) = self.access_token(bearer, listed).await {
            return Ok(judged);
        }
        if !self.keys().read_bearer() {
            return Box::pin(self.imported_session(bearer, policy, false)).await;
        }
        let listed = listed.contains(Kind::ApiKey);
        if self.keys().is_minted(bearer) {
            if !matches!(shown, Shown::Nothing) {
                return Err(Reject::CredentialAmbiguous(Kind::ApiKey).into());
            }
            if !listed {
                return Ok(Bearer::Unsure(Reject::ApiKeyInvalid.into()));
            }
            return self.genuine(bearer).await.map(Bearer::Key);
        }
        let proven = matches!(shown, Shown::Judged(Ok(key)) if key.judge(self.wall).is_ok());
        let needless = proven || (policy.is_open() && !listed);
        let charged = (!needless).then_some(self.caller.address);
        match self.seek(bearer, charged).await {
            Ok(Sought::Genuine(key)) => Ok(Bearer::Key(key)),
            Ok(Sought::Unknown { counted }) => {
                let imported = self.imported_session(bearer, policy, counted);
                Box::pin(imported).await
            }
            Err(Refusal::Fault(fault)) => Ok(Bearer::Unsure(fault.into())),
            Err(refusal) => Err(refusal),
        }
    }

    /// The key of a secret that is shown as one, good or not any more.
    async fn genuine(&self, secret: &[u8]) -> Result<Arc<Key>, Refusal> {
        match self.seek(secret, Some(self.caller.address)).await? {
            Sought::Genuine(key) => Ok(key),
            Sought::Unknown { counted } => {
                if !counted {
                    self.keys().count(self.caller.address, self.now)?;
                }
                Err(Reject::ApiKeyInvalid.into())
            }
        }
    }

    /// Judges a bearer that says it is an access token of somebody who is trusted; `None` for any
    /// other.
    async fn access_token(&self, bearer: &[u8], listed: Kinds) -> Option<Bearer> {
        let authenticators = self.authenticators;
        let sorted = authenticators.sort_jwt(bearer)?;
        if !listed.contains(Kind::AccessToken) {
            return Some(Bearer::Unsure(Reject::TokenInvalid.into()));
        }
        let charged = Some(self.caller.address);
        let found = authenticators
            .seek_jwt(bearer, sorted, charged, self.now, self.metrics)
            .await;
        Some(Bearer::Access(match found {
            Ok(Some(token)) => {
                authenticators
                    .judge_jwt(&token, self.wall, self.now, true)
                    .await
            }
            Ok(None) => Err(Reject::TokenInvalid.into()),
            Err(refusal) => Err(refusal),
        }))
    }

    /// Finds out whether a bearer that is no key is the token of a session taken over from elsewhere.
    async fn imported_session(
        &self,
        bearer: &[u8],
        policy: &Policy,
        counted: bool,
    ) -> Result<Bearer, Refusal> {
        let found = self
            .authenticators
            .seek_session(bearer, None, self.now, self.metrics)
            .await;
        match found {
            Ok(Some(_)) if !policy.listed().contains(Kind::SessionToken) => {
                Ok(Bearer::Unsure(Reject::TokenInvalid.into()))
            }
            Ok(Some(session)) => {
                if counted {
                    self.keys().refund(self.caller.address);
                }
                let judged = self
                    .authenticators
                    .judge_session(session, self.wall, self.now);
                Ok(Bearer::Session(judged.await))
            }
            Ok(None) => Ok(Bearer::Foreign { counted }),
            Err(Refusal::Fault(fault)) => Ok(Bearer::Unsure(fault.into())),
            Err(refusal) => Err(refusal),
        }
    }

    /// The session of a token that is shown as one.
    async fn live_session(&self, token: &[u8]) -> Result<Arc<Session>, Refusal> {
        let found = self
            .authenticators
            .seek_session(token, Some(self.caller.address), self.now, self.metrics)
            .await?;
        let session = found.ok_or(Reject::TokenInvalid)?;
        self.authenticators
            .judge_session(session, self.wall, self.now)
            .await
    }

    async fn seek(&self, secret: &[u8], charged: Option<IpAddr>) -> Result<Sought, Refusal> {
        self.keys()
            .seek(secret, charged, self.now, self.metrics)
            .await
    }

    /// Counts the request against the rates of its route and its key.
    pub(super) fn throttle(&self, needs: Needs<'_>, proven: &Proven) -> Result<(), Reject> {
        let key = proven.key.as_deref();
        let of_key = key.and_then(|key| Some((key, key.rate_limit?)));
        if needs.rate_limit.is_none() && of_key.is_none() {
            return Ok(());
        }
        let bearer = proven.session.is_some() || proven.access.is_some();
        let counted = match (proven.identity().filter(|_| bearer), key) {
            (Some(identity), _) => Counted::Subject {
                issuer: identity.issuer_value.as_ref().map(HeaderValue::as_bytes),
                subject: &identity.subject,
            },
            (None, Some(key)) => Counted::Key(&key.id),
            (None, None) => Counted::Address(self.caller.address),
        };
        let of_route = needs.rate_limit.map(|rate| {
            let bucket = Bucket::Route {
                name: needs.name,
                caller: counted,
            };
            (bucket, rate)
        });
        let of_key = of_key.map(|(key, rate)| (Bucket::Key { id: &key.id }, rate));
        let admitted = match (of_route, of_key) {
            (Some(route), Some(key)) => self.callers.admit(&[route, key], self.now),
            (Some(only), None) | (None, Some(only)) => self.callers.admit(&[only], self.now),
            (None, None) => Ok(()),
        };
        admitted.map_err(|retry_after| Reject::RateLimited { retry_after })
    }
}

/// The one bearer that the request carries; two lines of credentials are never picked from.
fn bearer_of(fields: &Fields) -> Result<Option<&[u8]>, Reject> {
    let mut lines = fields.get_all(&header::AUTHORIZATION);
    let first = lines.next();
    if lines.next().is_some() {
        return Err(Reject::CredentialAmbiguous(Kind::AccessToken));
    }
    Ok(first.and_then(credential::bearer))
}
