//! One connection: which protocol it speaks, and what it is served with.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http::HeaderValue;
use httpdate::fmt_http_date;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::listener::http2::Heads;
use crate::listener::{Limits, Service, Socket, Stage, Stages, http1, http2};
use crate::platform::{Clock, Hold};

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much is read at once of what a connection begins with.
const FIRST: usize = 2 * 1024;

/// How often a resting connection is looked at within its idle timeout: so exact is the timeout.
pub(super) const LOOKS: u32 = 8;

/// A caller slow with its head is told so before the close; nothing else is being written then.
pub(super) const TOO_SLOW: &[u8] =
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
    S: Socket,
    V: Service,
{
    let mut prefix = BytesMut::with_capacity(FIRST);
    let sniffing = timeout(
        seat.limits.head_timeout,
        speaks_http2(&mut stream, &mut prefix, speaks),
    );
    let sniffed = tokio::select! {
        sniffed = sniffing => sniffed,
        () = seat.stages.reach(Stage::Closing) => return Ok(()),
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
    if http2 {
        // Large, and no other connection should have room for it.
        Box::pin(http2::serve(stream, prefix.freeze(), peer, seat)).await
    } else {
        http1::serve(stream, prefix, peer, seat).await
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
    let _ = timeout(Duration::from_secs(1), told).await;
}

/// What an answer that says no date is dated with (RFC 9110 §6.6.1).
pub(super) fn date(clock: &dyn Clock) -> HeaderValue {
    thread_local! {
        /// The second that was written last, and how.
        static LAST: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
    }
    let second = clock.now().seconds();
    LAST.with_borrow_mut(|last| match last {
        Some((of, written)) if *of == second => written.clone(),
        _ => {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            let written = HeaderValue::try_from(fmt_http_date(now));
            let written = written.unwrap_or_else(|_| HeaderValue::from_static(""));
            last.insert((second, written)).1.clone()
        }
    })
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
