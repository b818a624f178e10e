//! One request and its answer, from the first step to the last byte: counted and logged once.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::authn::proven::Proven;
use crate::platform::Monotonic;
use crate::rules::decision::Refusal;
use crate::rules::forwarded::{Caller, RequestId};
use crate::telemetry::access_log::{Line, LoggedPath};
use crate::telemetry::metrics::{Outcome, RouteShard, StatusClass, UNMATCHED};
use crate::upstream::body::{CutShort, Ending, Meter};
use crate::wire::message::Request;

use super::Core;
use super::snapshot::Series;

/// The status that is counted and logged when the caller went away before its answer was whole.
const CALLER_WENT_AWAY: u16 = 499;

/// What is known of a request while it is served.
///
/// Counted and logged when it finishes, or when it is dropped: then its caller went away.
pub(super) struct Exchange {
    core: Arc<Core>,
    /// Of the route that the request matched.
    series: Option<Arc<Series>>,
    route: Option<Arc<str>>,
    request_id: RequestId,
    caller: Caller,
    method: Method,
    /// Kept for the access log alone.
    path: Option<LoggedPath>,
    began: Monotonic,
    status: Option<StatusCode>,
    code: Option<&'static str>,
    proven: Proven,
    meter: Option<Arc<Meter>>,
    bytes_out: u64,
    upstream: Option<Duration>,
    finished: bool,
}

impl Exchange {
    /// An exchange that has matched no route yet.
    pub(super) fn begin(
        core: &Arc<Core>,
        request_id: RequestId,
        caller: Caller,
        request: &Request,
        began: Monotonic,
    ) -> Box<Self> {
        Box::new(Self {
            core: Arc::clone(core),
            series: None,
            route: None,
            request_id,
            caller,
            method: request.method.clone(),
            path: core
                .access_log
                .is_some()
                .then(|| LoggedPath::from(&request.uri)),
            began,
            status: None,
            code: None,
            proven: Proven::default(),
            meter: None,
            bytes_out: 0,
            upstream: None,
            finished: false,
        })
    }

    /// When the request was taken up.
    pub(super) fn began(&self) -> Monotonic {
        self.began
    }

    /// The request's id.
    pub(super) fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// The request matched a route.
    pub(super) fn matched(&mut self, name: &Arc<str>, series: &Arc<Series>) {
        self.series = Some(Arc::clone(series));
        if self.path.is_some() {
            self.route = Some(Arc::clone(name));
        }
    }

    /// The request was let in.
    pub(super) fn allowed(&mut self, proven: Proven) {
        self.prove(proven);
        self.decided(Outcome::Allow);
    }

    /// What ends the exchange before its time: the credential that it depends on is refused.
    pub(super) fn ending(&self) -> Option<Ending> {
        (!self.proven.is_nobody()).then(|| self.core.ending(self.proven.clone()))
    }

    /// What let the request in has expired by now.
    pub(super) fn has_expired(&self) -> bool {
        let end = self.proven.good_until();
        end.is_some_and(|end| end <= self.core.platform.clock.now())
    }

    /// What the caller proved; whether that is enough is still to be counted.
    pub(super) fn prove(&mut self, proven: Proven) {
        self.proven = proven;
    }

    /// What the caller proved, once it was let in.
    pub(super) fn proven(&self) -> &Proven {
        &self.proven
    }

    /// gatelet made up its mind about the request.
    pub(super) fn decided(&self, outcome: Outcome) {
        self.count(|shard| shard.decision(outcome));
    }

    fn count(&self, counted: impl FnOnce(&RouteShard)) {
        let worker = self.core.worker;
        match &self.series {
            Some(series) => counted(series.shard(worker)),
            None => counted(self.core.snapshot.load().unmatched.shard(worker)),
        }
    }

    /// Why the request's body was cut off, if it was.
    pub(super) fn body_cut(&self) -> Option<CutShort> {
        self.meter.as_ref()?.cut()
    }

    /// The request's body is counted by `meter`.
    pub(super) fn metered(&mut self, meter: Option<Arc<Meter>>) {
        self.meter = meter;
    }

    /// The upstream was asked at `sent`, and its answer began, or failed to come, so long after.
    pub(super) fn waited(&mut self, sent: Monotonic, upstream: Duration) {
        self.upstream = Some(upstream);
        self.overhead(sent.since(self.began));
    }

    fn overhead(&self, own: Duration) {
        self.core.metrics.worker(self.core.worker).overhead(own);
    }

    /// gatelet answers by itself with a refusal.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        let shard = self.core.metrics.worker(self.core.worker);
        match refusal {
            Refusal::Reject(reject) => shard.reject(reject),
            Refusal::Fault(fault) => shard.fault(*fault),
        }
        self.code = Some(refusal.code());
    }

    /// An answer that had begun is ended before its end, for this reason.
    pub(super) fn cut(&mut self, refusal: &Refusal) {
        self.code = Some(refusal.code());
        self.finish();
    }

    /// The answer's head is ready.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
        if self.upstream.is_none() {
            self.overhead(self.core.platform.clock.monotonic().since(self.began));
        }
    }

    /// Bytes of the answer's body went out.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    /// How much of the answer's body went out.
    pub(super) fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// The answer went out whole, or broke off for another reason than its caller. Returns the
    /// time.
    pub(super) fn finish(&mut self) -> Monotonic {
        let now = self.core.platform.clock.monotonic();
        if !self.finished {
            self.finished = true;
            self.record(now);
        }
        now
    }

    fn record(&mut self, now: Monotonic) {
        let went_away = StatusCode::from_u16(CALLER_WENT_AWAY);
        let status = self.status.or(went_away.ok()).unwrap_or_default();
        let lasted = now.since(self.began);
        self.count(|shard| {
            shard.request(StatusClass::of(status));
            shard.duration(lasted);
        });
        let (Some(log), Some(path)) = (&self.core.access_log, self.path.take()) else {
            return;
        };
        log.log(Line {
            time: self.core.platform.clock.now(),
            request_id: self.request_id.clone(),
            client: self.caller.address,
            method: self.method.clone(),
            route: self.route.take().unwrap_or_else(|| Arc::from(UNMATCHED)),
            path,
            status: status.as_u16(),
            code: self.code,
            subject: self
                .proven
                .identity()
                .map(|identity| Arc::clone(&identity.subject)),
            key_id: self.proven.key.as_ref().map(|key| Arc::clone(&key.id)),
            bytes_in: self.meter.as_ref().map_or(0, |meter| meter.bytes()),
            bytes_out: self.bytes_out,
            duration: lasted,
            upstream: self.upstream,
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.finished {
            self.status = None;
            self.finish();
        }
    }
}
