//! The walk of one request: each step's result is what the next one needs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use http_body::Body;

use crate::answer;
use crate::authn::proven::Proven;
use crate::authn::standing;
use crate::cache::feed::Pulse;
use crate::limits::Callers;
use crate::platform::{Hold, Monotonic, Platform};
use crate::rules::credential::Kinds;
use crate::rules::decision::{Fault, Refusal, Reject, Wanted};
use crate::rules::fields::Fields;
use crate::rules::form::{self, Line, Lines};
use crate::rules::forwarded::{self, Caller};
use crate::rules::policy::Policy;
use crate::rules::route::Found;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{Metrics, Outcome};
use crate::tokens::OwnRoute;
use crate::upstream::body::{CutShort, Ending, Inbound, Outbound, Ungathered};
use crate::upstream::forward::{Failure, forward};
use crate::upstream::head::Head;
use crate::upstream::tunnel::{self, Upgrade};
use crate::wire::incoming::Incoming;
use crate::wire::message::{Request, Response};
use crate::wire::scratch;
use crate::wire::upgraded::CallersEnd;

use super::admission::{Entrant, Gate, Needs};
use super::body::AnswerBody;
use super::cors;
use super::exchange::Exchange;
use super::memo;
use super::peer::Peer;
use super::request_id::RequestIds;
use super::rewrite::{Rewrite, declared_length};
use super::snapshot::{Route, Snapshot};
use super::tunnel::Tunnel;

/// Until when a session lives, if it is not used again.
const EXPIRES: HeaderName = HeaderName::from_static("x-session-expires-at");

/// Until when it lives, however it is used.
const MAX_EXPIRES: HeaderName = HeaderName::from_static("x-session-max-expires-at");

/// A body of at most so many bytes is waited for before the upstream is asked.
const GATHERED: u64 = 16 * 1024;

/// What one worker's request path needs, apart from the configuration.
pub struct Core {
    /// Which worker this is, for its shard of the metrics.
    pub worker: usize,
    /// Clock and entropy.
    pub platform: Platform,
    /// What is counted.
    pub metrics: Metrics,
    /// The rate limits of routes and keys, shared by all workers.
    pub callers: Arc<Callers>,
    /// Where requests are logged, if they are.
    pub access_log: Option<AccessLog>,
    /// Tells of revocations.
    pub pulse: Pulse,
    /// What is in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// Makes request ids.
    pub request_ids: RequestIds,
}

/// What the walk has found out about a request, for an answer that may be a refusal.
pub(super) struct Walk<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) snapshot: &'a Snapshot,
    pub(super) peer: &'a Peer,
    pub(super) caller: Caller,
    pub(super) exchange: Box<Exchange>,
    pub(super) wanted: Wanted,
    lines: Lines,
    upgrade: Option<Upgrade>,
    /// The caller speaks gRPC.
    grpc: bool,
    /// The caller can be told in trailers how an answer ended.
    http2: bool,
}

/// Where a request goes.
pub(super) struct Destination<'a> {
    route: &'a Route,
    /// The host, where the target names it rather than a `Host` line.
    host: Option<HeaderValue>,
    /// A preflight that goes upstream on behalf of nobody.
    bare: bool,
}

impl Core {
    /// Answers one request; a refusal is an answer like any other.
    ///
    /// Dropped before it is done, the request's caller went away, and the upstream sees that.
    #[expect(
        clippy::manual_async_fn,
        reason = "its future has room once for what it is given, and an async function's twice"
    )]
    pub fn answer(
        self: &Arc<Self>,
        peer: &Peer,
        began: Monotonic,
        mut request: Box<Request>,
        body: Incoming,
    ) -> impl Future<Output = Response<AnswerBody>> + Send {
        async move {
            let snapshot = self.snapshot.load_full();
            let caller = peer.caller(&request.fields, &snapshot.trusted_proxies);
            let request_id = caller
                .through_trusted
                .then(|| forwarded::believed_request_id(&request.fields))
                .flatten()
                .unwrap_or_else(|| self.request_ids.next());
            let lines = Lines::of(&request.fields);
            let grpc = lines.has(Line::ContentType) && answer::is_grpc(&request.fields);
            let head = request.method == Method::HEAD;
            let http2 = request.version == Version::HTTP_2;
            let answering = snapshot.cors.as_ref().filter(|cors| cors.answers());
            let is_preflight =
                answering.is_some() && cors::is_preflight(&request.method, &request.fields);
            let grant = answering.map(|cors| cors.grant(&request.fields));
            let exchange = Exchange::begin(self, request_id.clone(), caller, &request, began);
            let upgrade = if lines.has(Line::Upgrade) || request.method == Method::CONNECT {
                Upgrade::asked(
                    &request.method,
                    request.version,
                    &request.fields,
                    &request.extensions,
                )
            } else {
                None
            };
            let mut walk = Walk {
                core: self,
                snapshot: &snapshot,
                peer,
                caller,
                exchange,
                wanted: Wanted::default(),
                lines,
                upgrade,
                grpc,
                http2,
            };
            let answer = walk.proceed(&mut request, body).await;
            scratch::give_fields_back(std::mem::take(&mut request.fields));
            let mut response = match answer {
                Ok(response) => walk.relay(response),
                Err(refusal) => {
                    let context = answer::Context {
                        realm: &snapshot.realm,
                        request_id: &request_id,
                        wanted: walk.wanted,
                        grpc,
                        head,
                    };
                    let answer = answer::refusal(&refusal, &context);
                    walk.exchange.refused(&refusal);
                    walk.own(Response {
                        status: answer.status,
                        reason: None,
                        fields: answer.fields,
                        body: answer.body,
                    })
                }
            };
            request_id.write(&mut response.fields);
            if let Some(grant) = grant {
                grant.write(&mut response.fields, is_preflight);
            }
            response
        }
    }

    /// Waits until something of what was `proven` is refused.
    pub(super) fn ending(self: &Arc<Self>, proven: Proven) -> Ending {
        let core = Arc::clone(self);
        let in_force = move || Arc::clone(core.snapshot.load().authenticators());
        Box::pin(standing::ended(
            proven,
            in_force,
            self.pulse.clone(),
            self.platform.clone(),
        ))
    }
}

/// What the walk ends with, where it ends well.
pub(super) enum Answer {
    /// The upstream's answer.
    Upstream(Response<Inbound>),
    /// gatelet's own.
    Own(Response<Bytes>),
}

impl<'a> Walk<'a> {
    /// Steps 1 to 9: judge, match, authenticate, admit, rewrite, forward.
    async fn proceed(&mut self, request: &mut Request, body: Incoming) -> Result<Answer, Refusal> {
        let destination = match self.locate(request) {
            Ok(Located::At(destination)) => destination,
            Ok(Located::Own(route)) => {
                return Box::pin(self.answer_own(route, request, body)).await;
            }
            Ok(Located::Here(response)) => return Ok(Answer::Own(response)),
            Err(reject) => return Err(self.decided(reject.into())),
        };
        let entrant = match self.admit(&destination, request, &body).await {
            Ok(entrant) => entrant,
            Err(refusal) => return Err(self.decided(refusal)),
        };
        let route = destination.route;
        let limit = route.config.request_body;
        let callers_end = CallersEnd::take(&mut request.extensions);
        let hold = request.extensions.remove::<Hold>();
        let body = match self.upgrade {
            // What follows the head is the tunnel's.
            Some(_) => None,
            None => Some(body),
        };
        let (mut outbound, meter) = match body {
            None => (Outbound::Empty, None),
            Some(body) => Outbound::new(body, limit, &self.snapshot.headers, || {
                let proven = &entrant.proven;
                (!proven.is_nobody()).then(|| self.core.ending(proven.clone()))
            }),
        };
        if self.is_small(request) {
            outbound
                .gather(route.response_timeout)
                .await
                .map_err(|why| self.decided(ungathered(why)))?;
        }
        let rewrite = Rewrite {
            snapshot: self.snapshot,
            route,
            peer: self.peer,
            caller: self.caller,
            request_id: self.exchange.request_id(),
            host: destination.host,
            bare: destination.bare,
            upgrade: self.upgrade,
            lines: self.lines,
        };
        let mut head = rewrite.head(request, &entrant);
        let accept = match (self.upgrade, &head) {
            (Some(Upgrade::Http1), Head::Http2(_)) => Some(
                tunnel::accept_value(&request.fields)
                    .ok_or(Reject::RequestMalformed("the WebSocket's key is not one"))
                    .map_err(|reject| self.decided(reject.into()))?,
            ),
            // A proxy says the key of its own caller over HTTP/1.1, whom it cannot answer by itself.
            (Some(Upgrade::Http2), _) => tunnel::accept_value(&request.fields),
            _ => None,
        };
        let outgoing = match (&meter, self.upgrade) {
            (_, Some(upgrade)) => {
                upgrade
                    .write(&mut head, || self.websocket_key())
                    .map_err(|_| self.decided(Fault::Overloaded.into()))?;
                head.without_body(false)
            }
            (None, None) => head.without_body(self.lines.has(Line::ContentLength)),
            (Some(_), None) => {
                // Trailers announced over HTTP/2 need chunks in HTTP/1.1, whatever length is declared.
                let length = (!self.lines.has(Line::Trailer))
                    .then(|| declared_length(&request.fields))
                    .flatten();
                head.with_body(outbound, length)
            }
        };
        // The upstream may take long.
        let _ = std::mem::take(&mut request.uri);
        scratch::give_fields_back(std::mem::take(&mut request.fields));
        self.exchange.metered(meter.clone());
        self.exchange.allowed(entrant.proven);
        let clock = &self.core.platform.clock;
        let sent = clock.monotonic();
        let answer = forward(
            &entrant.admitted,
            &route.pool,
            outgoing,
            sent,
            route.response_timeout,
            meter.as_deref(),
        )
        .await;
        let waited = clock.monotonic().since(sent);
        self.exchange.waited(sent, waited);
        route.upstream.shard(self.core.worker).duration(waited);
        let response = answer.map_err(|failure| refusal_of(&failure, route))?;
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.upgraded(response, callers_end, hold, accept, route);
        }
        if self.upgrade == Some(Upgrade::Http2) && response.status.is_success() {
            // To a CONNECT any 2xx says that the tunnel is open, and there is none.
            return Err(Fault::UpstreamProtocol.into());
        }
        Ok(Answer::Upstream(response))
    }

    /// Opens the tunnel that the upstream agreed to.
    fn upgraded(
        &self,
        response: Response<Inbound>,
        callers_end: Option<CallersEnd>,
        hold: Option<Hold>,
        accept: Option<HeaderValue>,
        route: &Route,
    ) -> Result<Answer, Refusal> {
        let Response { fields, body, .. } = response;
        let (Some(upgrade), Some(callers_end), Some(upstreams_end)) =
            (self.upgrade, callers_end, body.into_tunnel())
        else {
            tracing::warn!(upstream = %route.pool.config().name, "answered with an upgrade that was not asked for");
            return Err(Fault::UpstreamProtocol.into());
        };
        let tunnel = Tunnel {
            upgrade,
            callers_end,
            upstreams_end,
            hold,
            ending: self.exchange.ending(),
            accept,
        };
        Ok(Answer::Own(self.open_tunnel(tunnel, fields)))
    }

    /// Counts a no that was decided before a byte went upstream.
    pub(super) fn decided(&self, refusal: Refusal) -> Refusal {
        self.exchange.decided(match refusal {
            Refusal::Reject(_) => Outcome::Deny,
            Refusal::Fault(_) => Outcome::Fault,
        });
        refusal
    }

    /// Steps 1 to 4: where the request goes.
    fn locate(&mut self, request: &Request) -> Result<Located<'a>, Reject> {
        let snapshot = self.snapshot;
        let is_tunnel = self.upgrade == Some(Upgrade::Http2);
        let form = form::judge(
            &request.method,
            &request.uri,
            request.version,
            &request.fields,
            self.lines,
            is_tunnel,
        )?;
        let [own, found] = memo::find(
            snapshot.serial,
            &snapshot.own.table,
            &snapshot.table,
            form.host,
            form.path,
        )?;
        let preflight = cors::is_preflight(&request.method, &request.fields);
        let bare = match &snapshot.cors {
            Some(cors) if preflight && cors.answers() => {
                let response = cors.preflight(&request.fields);
                return Ok(Located::Here(response.map(|()| Bytes::new()).into()));
            }
            Some(_) => preflight,
            None => false,
        };
        if let Some(own) = own {
            return self.locate_own(&own, request, is_tunnel || bare);
        }
        let Found {
            group,
            encoded_slash,
            ..
        } = found.ok_or(Reject::RouteNotFound)?;
        let method = if is_tunnel {
            // A WebSocket is a GET in HTTP/1.1, and is matched as one (RFC 8441 §5).
            Method::GET
        } else if bare {
            requested_method(request)?
        } else {
            request.method.clone()
        };
        let place = group
            .pick(&method)
            .map_err(|allow| Reject::MethodNotAllowed(allow.into()))?;
        if method
            .as_str()
            .bytes()
            .any(|byte| byte.is_ascii_lowercase())
            && group.is_ambiguous(&method, place)
        {
            return Err(Reject::RequestMalformed(
                "the method is another one to whoever reads it without regard to case",
            ));
        }
        let route = snapshot.routes.get(place).ok_or(Reject::RouteNotFound)?;
        self.exchange.matched(&route.name, &route.series);
        self.wanted = route.config.policy.wanted();
        if encoded_slash && !route.config.encoded_slash {
            return Err(Reject::RequestMalformed("the path holds an encoded slash"));
        }
        let host = if request.uri.authority().is_some() {
            // A host that was judged is visible ASCII.
            let host = HeaderValue::from_bytes(form.host);
            Some(host.map_err(|_| Reject::RequestMalformed("the Host is not a host"))?)
        } else {
            None
        };
        Ok(Located::At(Destination { route, host, bare }))
    }

    /// Steps 5 to 7: whether the request may go there.
    async fn admit(
        &self,
        destination: &Destination<'a>,
        request: &Request,
        body: &Incoming,
    ) -> Result<Entrant, Refusal> {
        let gate = self.gate();
        let needs = Needs::of(&destination.route.config);
        let entrant = if destination.bare {
            let nobody = Proven::default();
            gate.throttle(needs, &nobody)?;
            Entrant {
                admitted: Policy::default().admit(Kinds::NONE, |_| None)?,
                proven: nobody,
                take_authorization: true,
            }
        } else {
            gate.admit(needs, &request.fields).await?
        };
        self.judge_body(destination, request, body)?;
        Ok(entrant)
    }

    pub(super) fn gate(&self) -> Gate<'_> {
        Gate {
            authenticators: self.snapshot.authenticators(),
            callers: &self.core.callers,
            metrics: self.core.metrics.worker(self.core.worker),
            caller: self.caller,
            wall: self.core.platform.clock.wall(self.exchange.began()),
            now: self.exchange.began(),
            lines: self.lines,
        }
    }

    /// Refuses a body that is too large by its own word, or that nothing would read.
    fn judge_body(
        &self,
        destination: &Destination<'_>,
        request: &Request,
        body: &Incoming,
    ) -> Result<(), Reject> {
        if body.is_end_stream() {
            return Ok(());
        }
        let declared = declared_length(&request.fields);
        let upgrades = match self.upgrade {
            Some(Upgrade::Http1) => true,
            // The stream stays open for the tunnel.
            Some(Upgrade::Http2) => declared.is_some_and(|length| length > 0),
            None => false,
        };
        if upgrades {
            // Declared upstream and never sent, it would swallow the next request there.
            return Err(Reject::RequestMalformed("a request to upgrade has a body"));
        }
        if destination.bare {
            return Err(Reject::RequestMalformed("a preflight has a body"));
        }
        match (declared, destination.route.config.request_body) {
            (Some(length), Some(limit)) if length > limit => Err(Reject::BodyTooLarge),
            _ => Ok(()),
        }
    }

    /// Whether the body is so small, by its own word, that it is waited for before the upstream is
    /// asked. A gRPC call is a conversation, however short.
    fn is_small(&self, request: &Request) -> bool {
        self.lines.has(Line::ContentLength)
            && declared_length(&request.fields).is_some_and(|length| length <= GATHERED)
            && !self.grpc
    }

    /// Step 10: the answer as the caller gets it.
    fn relay(mut self, answer: Answer) -> Response<AnswerBody> {
        match answer {
            Answer::Own(mut response) => {
                write_expiry(self.exchange.proven(), &mut response.fields);
                self.own(response)
            }
            Answer::Upstream(mut response) => {
                self.snapshot.headers.scrub_response(&mut response.fields);
                write_expiry(self.exchange.proven(), &mut response.fields);
                self.exchange.answered(response.status);
                let grpc = self.grpc && self.http2 && answer::ends_in_trailers(&response.fields);
                response.map(|inbound| AnswerBody::relayed(inbound, self.exchange, grpc))
            }
        }
    }

    fn own(mut self, response: Response<Bytes>) -> Response<AnswerBody> {
        self.exchange.answered(response.status);
        if response.body.is_empty() {
            self.exchange.finish();
        }
        let exchange = self.exchange;
        response.map(|bytes| AnswerBody::own(bytes, exchange))
    }
}

/// Tells a session's bearer until when it lives, in Unix seconds.
fn write_expiry(proven: &Proven, fields: &mut Fields) {
    let Some(session) = &proven.session else {
        return;
    };
    fields.insert(EXPIRES, session.expires_at().seconds().into());
    fields.insert(MAX_EXPIRES, session.max_expires_at().seconds().into());
}

/// Where a request is answered.
pub(super) enum Located<'a> {
    /// By an upstream.
    At(Destination<'a>),
    /// By gatelet, once its caller is let in.
    Own(&'a OwnRoute),
    /// By gatelet, with this.
    Here(Response<Bytes>),
}

/// The method that a preflight asks about: the route of the request it announces serves it.
fn requested_method(request: &Request) -> Result<Method, Reject> {
    let mut named = request
        .fields
        .get_all(&header::ACCESS_CONTROL_REQUEST_METHOD);
    match (named.next(), named.next()) {
        (Some(method), None) => Method::from_bytes(method).ok(),
        _ => None,
    }
    .ok_or(Reject::RequestMalformed(
        "the preflight names no one method",
    ))
}

fn ungathered(why: Ungathered) -> Refusal {
    match why {
        Ungathered::Cut(cut) => cut_short(&cut),
        Ungathered::Stalled => Reject::RequestTimeout.into(),
    }
}

/// What a caller is told whose body was cut off.
pub(super) fn cut_short(cut: &CutShort) -> Refusal {
    match cut {
        CutShort::TooLarge => Reject::BodyTooLarge.into(),
        CutShort::Broken => Reject::RequestMalformed("the body broke off").into(),
        CutShort::Ended(refusal) => refusal.clone(),
    }
}

fn refusal_of(failure: &Failure, route: &Route) -> Refusal {
    let upstream = &*route.pool.config().name;
    match failure {
        Failure::BodyCut(cut) => return cut_short(cut),
        Failure::BodyStalled => return Reject::RequestTimeout.into(),
        Failure::Unreachable(error) => {
            tracing::warn!(upstream, %error, "the upstream cannot be reached");
        }
        Failure::Closed(error) => {
            tracing::warn!(upstream, %error, "the upstream closed before it answered");
        }
        Failure::Protocol(error) => {
            tracing::warn!(upstream, %error, "the upstream did not answer in HTTP");
        }
        Failure::ConnectTimeout | Failure::Busy | Failure::ResponseTimeout => {
            tracing::warn!(upstream, "{failure}");
        }
    }
    match failure {
        Failure::Protocol(_) => Fault::UpstreamProtocol,
        Failure::Busy => Fault::Overloaded,
        Failure::ResponseTimeout => Fault::UpstreamTimeout,
        _ => Fault::UpstreamUnreachable,
    }
    .into()
}
