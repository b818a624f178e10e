//! Requests that gatelet answers itself: where they are found, and how their callers are let in.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::rules::decision::{Refusal, Reject};
use crate::rules::route::Found;
use crate::telemetry::metrics::Outcome;
use crate::tokens::{self, Call, OwnRoute};
use crate::upstream::body::Meter;
use crate::wire::incoming::Incoming;
use crate::wire::message::Request;

use super::admission::Needs;
use super::peer;
use super::serve::{Answer, Located, Walk};

/// The longest that the body of a request to an own route may take to arrive.
const OWN_BODY: Duration = Duration::from_secs(10);

impl<'a> Walk<'a> {
    /// Step 3: which of gatelet's own routes answers.
    pub(super) fn locate_own(
        &mut self,
        found: &Found<'_>,
        request: &Request,
        is_odd: bool,
    ) -> Result<Located<'a>, Reject> {
        let own = &self.snapshot.own;
        self.exchange.matched(&own.name, &own.series);
        let place = found.group.pick(&request.method);
        let place = place.map_err(|allow| Reject::MethodNotAllowed(allow.into()))?;
        let route = own.tokens.routes().get(place);
        let route = route.ok_or(Reject::RouteNotFound)?;
        self.wanted = route.policy.wanted();
        if found.encoded_slash || is_odd {
            return Err(Reject::RouteNotFound);
        }
        Ok(Located::Own(route))
    }

    /// Admits a request to one of gatelet's own routes, and answers it.
    pub(super) async fn answer_own(
        &mut self,
        route: &'a OwnRoute,
        request: &Request,
        body: Incoming,
    ) -> Result<Answer, Refusal> {
        let admitted = self
            .gate()
            .admit(Needs::of_own(route), &request.fields)
            .await;
        let entrant = admitted.map_err(|refusal| self.decided(refusal))?;
        self.exchange.prove(entrant.proven);
        let meter = Arc::new(Meter::default());
        self.exchange.metered(Some(Arc::clone(&meter)));
        let answered = self.answer_admitted(route, request, body, &meter).await;
        match &answered {
            Ok(_) => self.exchange.decided(Outcome::Allow),
            Err(Refusal::Reject(_)) => self.exchange.decided(Outcome::Deny),
            Err(Refusal::Fault(_)) => self.exchange.decided(Outcome::Fault),
        }
        answered
    }

    async fn answer_admitted(
        &self,
        route: &'a OwnRoute,
        request: &Request,
        body: Incoming,
        meter: &Meter,
    ) -> Result<Answer, Refusal> {
        let mut gate = self.gate();
        let body = if route.action.reads_body() && !body.is_end_stream() {
            let body = own_body(body, meter).await?;
            // What was good when the body began may be revoked by now.
            let clock = &self.core.platform.clock;
            (gate.wall, gate.now) = (clock.now(), clock.monotonic());
            let proven = self.exchange.proven();
            gate.authenticators
                .still_stands(proven, gate.wall, gate.now)
                .await?;
            body
        } else {
            Bytes::new()
        };
        let (scheme, host) = peer::address_used(request, self.peer, self.caller);
        let call = Call {
            route,
            path: request.uri.path(),
            query: request.uri.query(),
            scheme,
            host,
            client: self.caller.address,
            fields: &request.fields,
            body,
            proven: self.exchange.proven(),
            wall: gate.wall,
            now: gate.now,
            metrics: gate.metrics,
        };
        let response = self.snapshot.own.tokens.answer(call).await?;
        Ok(Answer::Own(response.into()))
    }
}

/// The body of a request to one of gatelet's own routes.
async fn own_body(body: Incoming, meter: &Meter) -> Result<Bytes, Reject> {
    let counted = body.map_frame(|frame| {
        meter.arrived(frame.data_ref().map_or(0, Bytes::len));
        frame
    });
    let whole = Limited::new(counted, tokens::LONGEST_BODY).collect();
    match tokio::time::timeout(OWN_BODY, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Reject::BodyTooLarge),
        Ok(Err(_)) => Err(Reject::RequestMalformed("the body broke off")),
        Err(_) => Err(Reject::RequestTimeout),
    }
}
