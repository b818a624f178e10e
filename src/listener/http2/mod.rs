//! One connection over HTTP/2: its budget, its deadlines and its drain. The protocol is the library's.

mod answering;
mod deadlines;
mod io;
mod metered;

use std::convert::Infallible;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::unconstrained;

use crate::listener::connection::{Seat, Trouble, date};
use crate::listener::{Service, Stage, Stages};
use crate::platform::{Clock, Hold, Monotonic};
use crate::wire::incoming::Incoming;
use crate::wire::message::{Request, Response};

use answering::{Answering, InFlight, Tracked};
use deadlines::{Age, Deadlines};
use io::{Activity, Watched};
use metered::Metered;

pub(super) use metered::Heads;

/// What one HTTP/2 stream may have in flight unread. A connection may have as much for each of its
/// streams: whatever lies unread on some, there is room for the others.
const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;

/// What may wait unsent on one HTTP/2 stream.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;

/// Serves a connection of which something was `read` already, until it ends.
///
/// Dropping the future closes the connection at once.
pub(super) async fn serve<S, V>(
    stream: S,
    read: Bytes,
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
    let activity = Arc::new(Activity::default());
    let io = Watched::new(stream, read, Arc::clone(&activity));
    let caller = Arc::new(Caller {
        service,
        peer,
        activity: Arc::clone(&activity),
        clock: Arc::clone(&clock),
        old: Monotonic(clock.monotonic().0 + limits.age),
        hold,
    });
    let mut deadlines = Deadlines::new(Arc::clone(&activity), &limits, Arc::clone(&clock));
    deadlines.age = Age::Grows(caller.old);
    let io = TokioIo::new(Metered::new(io, heads, Arc::clone(&activity), clock));
    // Boxed, so that an answer which its caller takes slowly does not keep the room that making
    // it took: 5 KiB a stream.
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (head, body) = request.into_parts();
        let answering = Arc::clone(&caller).call(Box::new(head.into()), Incoming::Http2(body));
        Box::pin(async {
            let response = answering.await.map(Tracked);
            Ok::<_, Infallible>(http::Response::from(response))
        })
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
    let ended = drive(connection.as_mut(), &mut deadlines, stages, |connection| {
        connection.as_mut().graceful_shutdown();
    });

    match ended.await {
        Some(Err(_)) if activity.flooded.load(Ordering::Relaxed) => Err(Trouble::Flood),
        None if deadlines.is_in_head() => Err(Trouble::HeadTimeout),
        ended => ended.unwrap_or(Ok(())),
    }
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
            // A GOAWAY tells the caller early and lets its streams finish.
            close(&mut connection);
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

/// The service as one connection sees it.
struct Caller<V: Service> {
    service: Arc<V>,
    peer: Arc<V::Peer>,
    activity: Arc<Activity>,
    clock: Arc<dyn Clock>,
    old: Monotonic,
    /// What counts the connection; a request that may become a tunnel is given it.
    hold: Hold,
}

impl<V: Service> Caller<V> {
    async fn call(
        self: Arc<Self>,
        mut request: Box<Request>,
        body: Incoming,
    ) -> Response<Answering<V::Body>> {
        let began = self.clock.monotonic();
        let in_flight = InFlight::begin(Arc::clone(&self.activity));
        // Only what can be upgraded has any, and few requests do.
        if !request.extensions.is_empty() {
            // A tunnel over HTTP/2 is in flight when its answer has long been written.
            let tunnel = (self.hold.clone(), in_flight.again());
            request.extensions.insert(Hold::new(tunnel));
        }
        let answering = self.service.call(&self.peer, began, request, body);
        let mut response = answering.await;
        if !response.fields.contains(&header::DATE) {
            response.fields.append(header::DATE, date(&*self.clock));
        }
        response.map(|body| Answering { body, in_flight })
    }
}
