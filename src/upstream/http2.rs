//! HTTP/2 towards an upstream (RFC 9113): requests are streams on few connections.
//!
//! The protocol is the library's; how many connections there are, what is said on them, and what ends
//! them is decided here.

mod again;
mod body;
mod pool;
mod request;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use crate::upstream::body::{Inbound, Meter, Outbound};
use crate::upstream::forward::{Deadline, Failure};
use crate::upstream::response::Broken;
use crate::upstream::tunnel::UpstreamEnd;
use crate::wire::message::Response;

use again::{Again, is_unprocessed};

pub use body::Answer;
pub use pool::{Pool, Stream};
pub use request::Head;

/// How often a request is sent that was certainly not sent before, or not looked at.
const TRIES: usize = 5;

/// Sends a request, and waits for the head of its answer.
///
/// Dropping the future cancels the stream, so that the upstream sees the caller leave.
pub(super) async fn forward(
    pool: &Arc<Pool>,
    request: Request<Outbound>,
    timeout: Duration,
    meter: Option<&Meter>,
) -> Result<Response<Inbound>, Failure> {
    let opens_websocket = *request.method() == Method::CONNECT;
    let (mut request, again) = Again::keep(request);
    let mut tries = 1;
    loop {
        let mut lease = pool.lease().await?;
        if opens_websocket && !lease.stream.state.opens_websockets {
            let why = "the upstream opens no WebSockets over HTTP/2";
            return Err(Failure::Protocol(Broken::Protocol(why)));
        }
        request.body_mut().takes(&lease.stream);
        let mut answering = pin!(lease.sender.try_send_request(request));
        let clock = pool.clock();
        let now = clock.monotonic();
        let mut deadline = Deadline {
            clock,
            timer: pin!(tokio::time::sleep_until(clock.timer(now, timeout))),
            timeout,
            meter,
        };
        let answered = deadline.bound(now, |cx| answering.as_mut().poll(cx)).await;
        match &answered {
            Ok(Ok(_)) => lease.stream.answered(),
            Err(Failure::ResponseTimeout) => lease.stream.late(now),
            _ => {}
        }
        let mut error = match answered? {
            Ok(response) if opens_websocket && response.status().is_success() => {
                return Ok(opened(response, lease.stream));
            }
            Ok(response) => {
                let stream = lease.stream;
                let upload = again.upload();
                let inbound =
                    response.map(|incoming| Inbound::Http2(Answer::new(incoming, stream, upload)));
                return Ok(inbound.into());
            }
            Err(error) => error,
        };
        match error.take_message() {
            Some(unsent) if tries < TRIES => {
                request = unsent;
                request.body_mut().leaves();
                tries += 1;
            }
            _ => {
                let error = error.into_error();
                let unprocessed = is_unprocessed(&error);
                if unprocessed
                    && tries < TRIES
                    && let Some(repeated) = again.repeat()
                {
                    request = repeated;
                    tries += 1;
                    continue;
                }
                let failure = failure(error, meter);
                if !unprocessed && matches!(failure, Failure::Closed(_)) {
                    lease.stream.broke();
                }
                return Err(failure);
            }
        }
    }
}

/// An answer that opened a tunnel, as HTTP/1.1 says it.
fn opened(mut response: http::Response<Incoming>, stream: Arc<Stream>) -> Response<Inbound> {
    let upgrade = hyper::upgrade::on(&mut response);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let tunnel = Inbound::Tunnel(UpstreamEnd::stream(upgrade, stream));
    response.map(|_| tunnel).into()
}

fn failure(error: hyper::Error, meter: Option<&Meter>) -> Failure {
    match meter.and_then(Meter::cut) {
        Some(cut) => Failure::BodyCut(cut),
        None if error.is_closed()
            || error.is_canceled()
            || is_io(&error)
            || is_unprocessed(&error) =>
        {
            Failure::Closed(Broken::Stream(error))
        }
        None => Failure::Protocol(Broken::Stream(error)),
    }
}

/// The connection broke, and not the protocol.
fn is_io(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<std::io::Error>() {
            return true;
        }
        source = cause.source();
    }
    false
}

#[cfg(test)]
mod tests;
