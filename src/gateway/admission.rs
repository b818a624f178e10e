//! Steps 5 to 7 of a request's life: capture its credentials, authenticate, admit.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap};

use crate::authn::api_key::{ApiKeys, Key, Sought};
use crate::limits::{Bucket, Caller as Counted, Callers};
use crate::platform::Monotonic;
use crate::rules::credential::{self, Kind, Kinds};
use crate::rules::decision::{Refusal, Reject};
use crate::rules::form::{Line, Lines};
use crate::rules::policy::{Admitted, Policy};
use crate::rules::time::Timestamp;
use crate::telemetry::metrics::WorkerShard;

use super::RouteConfig;
use super::peer::Caller;

/// A request that was let in.
#[derive(Debug)]
pub(super) struct Entrant {
    pub(super) admitted: Admitted,
    /// The key that was proven.
    pub(super) key: Option<Arc<Key>>,
    /// The bearer is gatelet's own, or may be: the upstream must not see it.
    pub(super) take_authorization: bool,
}

/// What admission looks at besides the request.
pub(super) struct Gate<'a> {
    pub(super) keys: &'a ApiKeys,
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
    /// Not gatelet's; `counted` as in [`Sought::Unknown`].
    Foreign { counted: bool },
    /// Gatelet's by its shape, or the store could not say; where a key is needed, this is why it
    /// is refused.
    Unsure(Refusal),
}

impl Gate<'_> {
    /// Lets a request in on `route`, or says why not.
    pub(super) async fn admit(
        &self,
        route: &RouteConfig,
        headers: &HeaderMap,
    ) -> Result<Entrant, Refusal> {
        let policy = &route.policy;
        let listed = policy.listed().contains(Kind::ApiKey);
        let shown = match self.key_header(headers)? {
            Some(secret) if listed => Shown::Judged(self.genuine(secret).await),
            Some(_) => Shown::Unasked,
            None => Shown::Nothing,
        };
        let bearer = if self.lines.has(Line::Authorization) {
            match bearer_of(headers)? {
                Some(bearer) => self.recognise(bearer, &shown, policy).await?,
                None => Bearer::Absent,
            }
        } else {
            Bearer::Absent
        };
        let take_authorization = match &bearer {
            Bearer::Absent | Bearer::Foreign { .. } => false,
            Bearer::Key(_) => !route.forward.contains(Kind::ApiKey),
            Bearer::Unsure(_) => true,
        };
        let key = match (shown, bearer) {
            (Shown::Judged(_) | Shown::Unasked, Bearer::Key(_)) => {
                return Err(Reject::CredentialAmbiguous(Kind::ApiKey).into());
            }
            (Shown::Judged(judged), _) => Some(judged?),
            (Shown::Nothing, Bearer::Key(key)) if listed => Some(key),
            (Shown::Nothing, Bearer::Unsure(refusal)) if listed => return Err(refusal),
            (Shown::Nothing, Bearer::Foreign { counted }) if !policy.is_open() => {
                if !counted {
                    self.keys.count(self.caller.address, self.now)?;
                }
                return Err(Reject::TokenInvalid.into());
            }
            _ => None,
        };
        if let Some(key) = &key {
            key.judge(self.wall)?;
        }
        let proven = match key {
            Some(_) => Kinds::NONE.with(Kind::ApiKey),
            None => Kinds::NONE,
        };
        let admitted = policy.admit(proven, |kind| match kind {
            Kind::ApiKey => key.as_deref().map(|key| &key.scopes),
            Kind::SessionToken | Kind::AccessToken => None,
        })?;
        self.throttle(route, key.as_deref())?;
        Ok(Entrant {
            admitted,
            key,
            take_authorization,
        })
    }

    /// The one key that the key headers carry.
    fn key_header<'h>(&self, headers: &'h HeaderMap) -> Result<Option<&'h [u8]>, Reject> {
        let mut shown = None;
        for name in self.keys.headers() {
            for value in headers.get_all(name) {
                if shown.replace(value.as_bytes()).is_some() {
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
        if !self.keys.read_bearer() {
            return Ok(Bearer::Foreign { counted: false });
        }
        let listed = policy.listed().contains(Kind::ApiKey);
        if self.keys.is_minted(bearer) {
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
            Ok(Sought::Unknown { counted }) => Ok(Bearer::Foreign { counted }),
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
                    self.keys.count(self.caller.address, self.now)?;
                }
                Err(Reject::ApiKeyInvalid.into())
            }
        }
    }

    async fn seek(&self, secret: &[u8], charged: Option<IpAddr>) -> Result<Sought, Refusal> {
        self.keys
            .seek(secret, charged, self.now, self.metrics)
            .await
    }

    /// Counts the request against the rates of its route and its key.
    pub(super) fn throttle(&self, route: &RouteConfig, key: Option<&Key>) -> Result<(), Reject> {
        let of_key = key.and_then(|key| Some((key, key.rate_limit?)));
        if route.rate_limit.is_none() && of_key.is_none() {
            return Ok(());
        }
        let counted = match key {
            Some(key) => Counted::Proven(&key.id),
            None => Counted::Address(self.caller.address),
        };
        let of_route = route.rate_limit.map(|rate| {
            let bucket = Bucket::Route {
                name: &route.name,
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
fn bearer_of(headers: &HeaderMap) -> Result<Option<&[u8]>, Reject> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let first = lines.next();
    if lines.next().is_some() {
        return Err(Reject::CredentialAmbiguous(Kind::AccessToken));
    }
    Ok(first.and_then(|value| credential::bearer(value.as_bytes())))
}
