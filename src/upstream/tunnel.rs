//! WebSocket tunnels: after a 101, bytes pass both ways until one side or the credential ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::rules::headers::connection_lists;
use crate::upstream::pool::Place;
use crate::upstream::request::Head;
use crate::upstream::stream::Socket;

/// How a caller asked for a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// HTTP/1.1's `Upgrade: websocket` (RFC 6455 §4.1).
    Http1,
    /// HTTP/2's extended CONNECT (RFC 8441 §4).
    Http2,
}

impl Upgrade {
    /// What the request asks for; any other upgrade than a WebSocket is none.
    pub fn asked(
        method: &Method,
        version: Version,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Option<Self> {
        if *method == Method::CONNECT {
            let protocol = extensions.get::<Protocol>()?;
            return (protocol.as_str() == "websocket").then_some(Self::Http2);
        }
        let mut upgrades = headers.get_all(header::UPGRADE).iter();
        let asked = *method == Method::GET
            && version == Version::HTTP_11
            && upgrades
                .next()
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
            && upgrades.next().is_none()
            && connection_lists(headers, "upgrade");
        asked.then_some(Self::Http1)
    }

    /// Writes the HTTP/1.1 upgrade lines for the upstream, of which `head` has none yet.
    ///
    /// `key` is the `Sec-WebSocket-Key` for a caller that spoke HTTP/2, where there is none.
    pub fn write(
        self,
        head: &mut Head,
        key: impl FnOnce() -> io::Result<HeaderValue>,
    ) -> io::Result<()> {
        head.line(&header::CONNECTION, &HeaderValue::from_static("upgrade"));
        head.line(&header::UPGRADE, &HeaderValue::from_static("websocket"));
        if self == Self::Http2 {
            head.line(&header::SEC_WEBSOCKET_KEY, &key()?);
        }
        Ok(())
    }

    /// Turns the upstream's 101 into the answer that this caller expects.
    pub fn accept(self, status: &mut StatusCode, headers: &mut HeaderMap) {
        match self {
            Self::Http1 => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            }
            Self::Http2 => {
                *status = StatusCode::OK;
                // The accept value answers a key that this caller never sent (RFC 8441 §5).
                headers.remove(header::SEC_WEBSOCKET_ACCEPT);
                headers.remove(HeaderName::from_static("content-length"));
            }
        }
    }
}

/// An upstream's end of a tunnel.
pub struct UpstreamEnd {
    /// What came right behind the upgrade.
    read: Bytes,
    socket: Socket,
    /// A tunnel is one of its pool's connections until it ends.
    _place: Option<Place>,
}

impl UpstreamEnd {
    pub(super) fn new(read: Bytes, socket: Socket, place: Option<Place>) -> Self {
        Self {
            read,
            socket,
            _place: place,
        }
    }
}

impl AsyncRead for UpstreamEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return AsyncRead::poll_read(Pin::new(&mut self.socket), cx, buffer);
        }
        let length = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpstreamEnd {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Passes bytes both ways until both sides closed; the counts are (from caller, from upstream).
///
/// Dropping the future closes both sides at once.
pub async fn relay(caller: OnUpgrade, mut upstream: UpstreamEnd) -> io::Result<(u64, u64)> {
    let mut caller = TokioIo::new(caller.await.map_err(io::Error::other)?);
    tokio::io::copy_bidirectional(&mut caller, &mut upstream).await
}
