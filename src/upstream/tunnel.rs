//! WebSocket tunnels: after a 101, bytes pass both ways until one side or the credential ends.

use std::io;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::rules::headers::connection_lists;

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

    /// Writes the HTTP/1.1 upgrade lines for the upstream, after a scrub dropped the caller's.
    ///
    /// `key` is the `Sec-WebSocket-Key` for a caller that spoke HTTP/2, where there is none.
    pub fn write(
        self,
        headers: &mut HeaderMap,
        key: impl FnOnce() -> io::Result<HeaderValue>,
    ) -> io::Result<()> {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        // No body goes with it, so that nothing may announce one.
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRAILER);
        if self == Self::Http2 {
            headers.insert(header::SEC_WEBSOCKET_KEY, key()?);
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

/// Passes bytes both ways until both sides closed; the counts are (from caller, from upstream).
///
/// Dropping the future closes both sides at once.
pub async fn relay(caller: OnUpgrade, upstream: OnUpgrade) -> io::Result<(u64, u64)> {
    let (caller, upstream) = tokio::try_join!(caller, upstream).map_err(io::Error::other)?;
    let mut caller = TokioIo::new(caller);
    let mut upstream = TokioIo::new(upstream);
    tokio::io::copy_bidirectional(&mut caller, &mut upstream).await
}
