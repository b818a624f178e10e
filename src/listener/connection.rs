//! One connection from its first byte to its last: protocol, deadlines, drain.

use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http::{HeaderValue, Request, Response, Version, header};
use httpdate::fmt_http_date;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::unconstrained;
use tokio::time::Sleep;

use crate::listener::accept::UNREAD;
use crate::listener::answering::{Answering, InFlight, Tracked};
use crate::listener::io::{Activity, Watched};
use crate::listener::metered::{Heads, Metered};
use crate::listener::{Limits, Service, Stage, Stages};
use crate::platform::{Clock, Hold, Monotonic};
use crate::rules::time::Timestamp;

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What one HTTP/2 stream may have in flight unread. A connection may have as much for each of its
/// streams: whatever lies unread on some, there is room for the others.
const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;

/// What may wait unsent on one HTTP/2 stream.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;

/// What may wait unparsed or unsent on one HTTP/1 connection, where the head is no larger.
const HTTP1_BUFFER: usize = 64 * 1024;

/// How often a resting connection is looked at within its idle timeout: so exact is the timeout.
const LOOKS: u32 = 8;

/// How long a caller over HTTP/2 may take to acknowledge that its resting connection ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// A caller slow with its head is told so before the close; nothing else is being written then.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/problem+json\r\n\
connection: close\r\ncontent-length: 246\r\n\r\n\
{\"type\":\"urn:gatelet:problem:request_timeout\",\"title\":\"Request Timeout\",\"status\":408,\
\"code\":\"request_timeout\",\"detail\":\"The request did not arrive in time.\",\"requestId\":\"\",\
\"error\":\"request_timeout\",\"message\":\"The request did not arrive in time.\"}";

/// Why a connection ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The head of a request did not arrive in time.
    HeadTimeout,
    /// The caller broke the protocol.
    Protocol,
    /// TLS was not agreed upon, or not in time.
    Tls,
    /// The caller flooded it with frames that carry nothing.
    Flood,
    /// A trusted proxy did not say who is calling.
    ProxyProtocol,
    /// Whoever is calling by way of a proxy has its share of connections.
    Overloaded,
    /// The socket failed.
    Io,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// What its first bytes say: HTTP/2 to whoever knows beforehand (RFC 9113 §3.3), else HTTP/1.
    AsItBegins,
    /// What was agreed upon with TLS.
    Http1,
    /// What was agreed upon with TLS.
    Http2,
}

/// What one connection is served with.
pub(super) struct Seat<V> {
    pub(super) service: Arc<V>,
    pub(super) limits: Limits,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stages: Stages,
    /// The unfinished heads of the worker's connections.
    pub(super) heads: Heads,
    /// What counts the connection.
    pub(super) hold: Hold,
}

/// Serves one connection until it ends.
///
/// Dropping the future closes the connection at once.
pub(super) async fn serve<S, V>(
    mut stream: S,
    speaks: Speaks,
    peer: Arc<V::Peer>,
    seat: Seat<V>,
) -> Result<(), Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: Service,
{
    let Seat {
        service,
        limits,
        clock,
        stages,
        heads,
        hold,
    } = seat;
    let mut prefix = BytesMut::with_capacity(PREFACE.len());
    let sniffed = tokio::select! {
        sniffed = tokio::time::timeout(limits.head_timeout, speaks_http2(&mut stream, &mut prefix, speaks)) => sniffed,
        () = stages.reach(Stage::Closing) => return Ok(()),
    };
    let http2 = match sniffed {
        Ok(Ok(Some(http2))) => http2,
        Ok(Ok(None)) => return Ok(()),
        Ok(Err(_)) => return Err(Trouble::Io),
        // A connection on which nothing was sent rests; one with half a preface is slow.
        Err(_) if prefix.is_empty() => return Ok(()),
        Err(_) => {
            tell_too_slow(&mut stream).await;
            return Err(Trouble::HeadTimeout);
        }
    };
    let activity = Arc::new(Activity::default());
    let io = Watched::new(stream, prefix.freeze(), Arc::clone(&activity));
    let caller = Arc::new(Caller {
        service,
        peer,
        activity: Arc::clone(&activity),
        clock: Arc::clone(&clock),
        stages: stages.clone(),
        old: Monotonic(clock.monotonic().0 + limits.age),
        hold,
    });
    let mut deadlines = Deadlines::new(Arc::clone(&activity), &limits, Arc::clone(&clock));
    if http2 {
        deadlines.age = Age::Grows(caller.old);
        let io = TokioIo::new(Metered::new(io, heads, Arc::clone(&activity), clock));
        // Boxed, so that an answer which its caller takes slowly does not keep the room that making
        // it took: 5 KiB a stream.
        let service = service_fn(move |request| {
            let answering = Arc::clone(&caller).call(request);
            Box::pin(async { answering.await.map(|response| response.map(Tracked)) })
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .max_concurrent_streams(limits.http2_streams)
            .max_header_list_size(u32::try_from(limits.request_head).unwrap_or(u32::MAX))
            .initial_connection_window_size(limits.http2_streams * HTTP2_STREAM_WINDOW)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .max_send_buf_size(HTTP2_SEND_BUFFER)
            // All at once: a browser that leaves a page. How often, its frames' worth bounds.
            .max_pending_accept_reset_streams(limits.http2_streams as usize)
            .max_local_error_reset_streams(100)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .enable_connect_protocol()
            .serve_connection(io, service);
        let mut connection = pin!(connection);
        deadlines.is_http2 = true;
        let ended = drive(connection.as_mut(), &mut deadlines, stages, |connection| {
            connection.as_mut().graceful_shutdown();
        });

        return match ended.await {
            Some(Err(_)) if activity.flooded.load(Ordering::Relaxed) => Err(Trouble::Flood),
            None if deadlines.is_in_head() => Err(Trouble::HeadTimeout),
            ended => ended.unwrap_or(Ok(())),
        };
    }
    let service = service_fn(move |request| Arc::clone(&caller).call(request));
    let mut connection = http1::Builder::new()
        // The deadlines here know more than the library's: it has one for head and rest together.
        .header_read_timeout(None)
        // It reads the clock for every answer, dated or not.
        .auto_date_header(false)
        .max_header_size(limits.request_head)
        .max_buf_size(HTTP1_BUFFER.max(limits.request_head))
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let ended = drive(
        Pin::new(&mut connection),
        &mut deadlines,
        stages,
        |connection| connection.as_mut().graceful_shutdown(),
    );
    match ended.await {
        Some(ended) => ended,
        None if deadlines.is_in_head() => {
            // Later, what arrived may be the rest of a body that was answered early: a second
            // answer to it would be taken for the next one.
            if deadlines.requests == 0
                && let Some(parts) = connection.into_parts()
            {
                tell_too_slow(&mut parts.io.into_inner()).await;
            }
            Err(Trouble::HeadTimeout)
        }
        None => Ok(()),
    }
}

/// Reads until the first bytes tell HTTP/2 from HTTP/1, and at least one; `None` if the caller left
/// before.
///
/// What was agreed upon with TLS holds, whatever they are.
async fn speaks_http2(
    stream: &mut (impl AsyncRead + Unpin),
    prefix: &mut BytesMut,
    speaks: Speaks,
) -> io::Result<Option<bool>> {
    loop {
        if stream.read_buf(prefix).await? == 0 {
            return Ok(None);
        }
        if speaks == Speaks::Http1 {
            return Ok(Some(false));
        }
        let compared = prefix.len().min(PREFACE.len());
        if prefix[..compared] != PREFACE[..compared] {
            return Ok(Some(speaks == Speaks::Http2));
        }
        if compared == PREFACE.len() {
            return Ok(Some(true));
        }
    }
}

async fn tell_too_slow(stream: &mut (impl AsyncWrite + Unpin)) {
    // The caller may be gone already; there is nobody else to tell.
    let told = async {
        stream.write_all(TOO_SLOW).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
}

/// Polls a connection, its deadlines and the drain; `None` once a deadline passed.
async fn drive<C>(
    mut connection: Pin<&mut C>,
    deadlines: &mut Deadlines,
    stages: Stages,
    close: impl Fn(&mut Pin<&mut C>),
) -> Option<Result<(), Trouble>>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut follower = stages.clone();
    let mut seen = Stage::Serving;
    loop {
        // Its streams finish; others are refused.
        if deadlines.age == Age::Reached {
            deadlines.age = Age::Settled;
            close(&mut connection);
        }
        let stage = stages.current();
        if stage != seen {
            seen = stage;
            // On HTTP/2 a GOAWAY tells the caller early and lets its streams finish; on HTTP/1
            // each answer says `Connection: close` until the listener stops accepting.
            if stage == Stage::Closing || deadlines.is_http2 {
                close(&mut connection);
            }
        }
        // Polled once, it must have the waker: a task out of its budget would be told to come back.
        let mut moved = pin!(unconstrained(follower.changed()));
        let mut waits = false;
        let over = poll_fn(|cx| {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                let ended = ended.map_err(|error| trouble(&error));
                return Poll::Ready(Some(Some(ended)));
            }
            if deadlines.poll_passed(cx).is_ready() {
                return Poll::Ready(Some(None));
            }
            if deadlines.age == Age::Reached {
                return Poll::Ready(None);
            }
            // From its first poll on it has this task's waker, until it is woken: and nobody is before
            // the stage moves. Once it has moved, a wake-up may be the last move's, come late, and
            // the next one's finds nobody unless this is polled again.
            if waits && seen == Stage::Serving && stages.current() == seen {
                return Poll::Pending;
            }
            waits = true;
            moved.as_mut().poll(cx).map(|()| None)
        });
        if let Some(over) = over.await {
            return over;
        }
    }
}

fn trouble(error: &hyper::Error) -> Trouble {
    if error.is_parse() || error.is_parse_too_large() {
        return Trouble::Protocol;
    }
    let source = error.source().and_then(|source| source.downcast_ref());
    match source.filter(|source: &&h2::Error| source.is_go_away() && !source.is_remote()) {
        // The library's own word for what it bounds: resets, header blocks, empty DATA.
        Some(error) if error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) => Trouble::Flood,
        Some(_) => Trouble::Protocol,
        None => Trouble::Io,
    }
}

/// When a connection has been still for too long.
///
/// No timer is touched for a request: the one timer of a connection fires early, looks, and
/// is set again.
struct Deadlines {
    activity: Arc<Activity>,
    clock: Arc<dyn Clock>,
    head_timeout: Duration,
    idle_timeout: Duration,
    still: Option<Still>,
    requests: u32,
    taken: u32,
    timer: Pin<Box<Sleep>>,
    /// The timer has this task's waker.
    waits: bool,
    fires: Monotonic,
    is_http2: bool,
    /// It has rested for too long, and its caller is told so.
    leaving: bool,
    age: Age,
}

/// When a connection grows old, where a timer has to see to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    /// At this time.
    Grows(Monotonic),
    /// It is, and the caller was not told yet.
    Reached,
    /// The caller was told, or will be with an answer.
    Settled,
}

/// What a connection without a request in flight waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Still {
    in_head: bool,
    /// Since when, once that was looked at; a request's end is not worth reading the clock for.
    since: Option<Monotonic>,
}

impl Deadlines {
    fn new(activity: Arc<Activity>, limits: &Limits, clock: Arc<dyn Clock>) -> Self {
        let look = limits.idle_timeout / LOOKS;
        let fires = Monotonic(clock.monotonic().0 + look);
        Self {
            activity,
            clock,
            head_timeout: limits.head_timeout,
            idle_timeout: limits.idle_timeout,
            still: None,
            requests: 0,
            taken: 0,
            timer: Box::pin(tokio::time::sleep(look)),
            waits: false,
            fires,
            is_http2: false,
            leaving: false,
            age: Age::Settled,
        }
    }

    fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(passes) = self.passes(None)
                && passes < self.fires
            {
                self.arm(passes, self.clock.monotonic());
            }
            if self.waits && !self.timer.is_elapsed() {
                return Poll::Pending;
            }
            // As with the drain: out of its budget, the timer would wait for nothing.
            let timer = Pin::new(&mut unconstrained(self.timer.as_mut())).poll(cx);
            self.waits = timer.is_pending();
            if self.waits {
                return Poll::Pending;
            }
            let now = self.clock.monotonic();
            if matches!(self.age, Age::Grows(old) if old <= now) {
                self.age = Age::Reached;
            }
            let look = Monotonic(now.0 + self.idle_timeout / LOOKS);
            match self.passes(Some(now)) {
                Some(passes) if passes <= now => {
                    if self.is_in_head() || self.leaving || !self.is_http2 {
                        return Poll::Ready(());
                    }
                    // Its caller may be asking for something just now: told first, it knows whether
                    // that was heard (RFC 9113 §6.8).
                    self.leaving = true;
                    self.age = Age::Reached;
                    self.still = Some(Still {
                        in_head: false,
                        since: Some(now),
                    });
                }
                Some(passes) => self.arm(passes.min(look), now),
                None => self.arm(look, now),
            }
        }
    }

    /// When the present stillness has lasted too long, if that is known; `None` while a request
    /// is in flight. The beginning of a rest is only noted with a `now` at hand.
    fn passes(&mut self, now: Option<Monotonic>) -> Option<Monotonic> {
        let in_flight = self.activity.in_flight.load(Ordering::Relaxed) != 0
            || self.activity.blocked.load(Ordering::Relaxed);
        let in_head = if self.is_http2 {
            self.activity.in_head.load(Ordering::Relaxed)
        } else {
            !in_flight && self.activity.arrived.load(Ordering::Relaxed)
        };
        // Over HTTP/2 other requests may be in flight; and nothing of them can arrive within a head.
        if in_flight && !in_head {
            self.still = None;
            return None;
        }
        let requests = self.activity.requests.load(Ordering::Relaxed);
        let taken = self.activity.taken.load(Ordering::Relaxed);
        let as_before = requests == self.requests && (in_head || taken == self.taken);
        let since = match self.still {
            Some(still) if still.in_head == in_head && as_before => still.since,
            _ => None,
        };
        // Part of a head arrived: rare, and its deadline is short.
        let begins = || in_head.then(|| self.clock.monotonic());
        let since = since.or(now).or_else(begins);
        (self.requests, self.taken) = (requests, taken);
        self.still = Some(Still { in_head, since });
        let allowed = if in_head {
            self.head_timeout
        } else if self.leaving {
            FAREWELL
        } else if self.activity.unsent.load(Ordering::Relaxed) != 0 {
            // No rest yet; but a caller that never makes room would keep the connection for ever.
            self.idle_timeout.max(UNREAD)
        } else {
            self.idle_timeout
        };
        Some(Monotonic(since?.0 + allowed))
    }

    /// Whether it is the rest of a head that it waits for.
    fn is_in_head(&self) -> bool {
        self.still.is_some_and(|still| still.in_head)
    }

    fn arm(&mut self, fires: Monotonic, now: Monotonic) {
        self.timer.set(tokio::time::sleep(fires.since(now)));
        self.waits = false;
        self.fires = fires;
    }
}

/// The service as one connection sees it.
struct Caller<V: Service> {
    service: Arc<V>,
    peer: Arc<V::Peer>,
    activity: Arc<Activity>,
    clock: Arc<dyn Clock>,
    stages: Stages,
    /// From when on its answers ask for another connection.
    old: Monotonic,
    /// What counts the connection; a request that may become a tunnel is given it.
    hold: Hold,
}

impl<V: Service> Caller<V> {
    async fn call(
        self: Arc<Self>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Answering<V::Body>>, std::convert::Infallible> {
        let began = self.clock.monotonic();
        let in_flight = InFlight::begin(Arc::clone(&self.activity));
        let is_http1 = request.version() <= Version::HTTP_11;
        // Only what can be upgraded has any, and few requests do.
        if !request.extensions().is_empty() {
            // A tunnel over HTTP/2 is in flight when its answer has long been written.
            let tunnel = (self.hold.clone(), in_flight.again());
            request.extensions_mut().insert(Hold::new(tunnel));
        }
        let mut response = self.service.call(&self.peer, began, request).await;
        if !response.headers().contains_key(header::DATE) {
            response.headers_mut().insert(header::DATE, self.date());
        }
        if is_http1
            && (self.stages.current() != Stage::Serving || began >= self.old)
            && !response.headers().contains_key(header::UPGRADE)
        {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response.map(|body| Answering { body, in_flight }))
    }
}

impl<V: Service> Caller<V> {
    /// What an answer that says no date is dated with (RFC 9110 §6.6.1).
    fn date(&self) -> HeaderValue {
        let now = SystemTime::UNIX_EPOCH + self.clock.now().since(Timestamp::EPOCH);
        HeaderValue::try_from(fmt_http_date(now)).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_late_caller_gets_a_well_framed_answer() {
        let text = std::str::from_utf8(TOO_SLOW).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["type"], "urn:gatelet:problem:request_timeout");
    }
}
