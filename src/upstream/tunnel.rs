//! WebSocket tunnels: after a 101, bytes pass both ways until one side or the credential ends.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Extensions, HeaderValue, Method, StatusCode, Version, header};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use crate::rules::fields::Fields;
use crate::rules::headers::connection_lists;
use crate::upstream::head::Head;
use crate::upstream::http2;
use crate::upstream::pool::Place;
use crate::upstream::stream::Socket;
use crate::wire::upgraded::{Begun, CallersEnd};

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
        fields: &Fields,
        extensions: &Extensions,
    ) -> Option<Self> {
        if *method == Method::CONNECT {
            let protocol = extensions.get::<Protocol>()?;
            return (protocol.as_str() == "websocket").then_some(Self::Http2);
        }
        let mut upgrades = fields.get_all(&header::UPGRADE);
        let asked = *method == Method::GET
            && version == Version::HTTP_11
            && upgrades
                .next()
                .is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
            && upgrades.next().is_none()
            && connection_lists(fields, "upgrade");
        asked.then_some(Self::Http1)
    }

    /// Asks the upstream for a WebSocket, of which `head` says nothing yet.
    ///
    /// `key` is the `Sec-WebSocket-Key` for a caller that spoke HTTP/2, where there is none.
    pub fn write(
        self,
        head: &mut Head,
        key: impl FnOnce() -> io::Result<HeaderValue>,
    ) -> io::Result<()> {
        head.open_websocket(|| match self {
            Self::Http1 => Ok(None),
            Self::Http2 => key().map(Some),
        })
    }

    /// Turns the upstream's 101 into the answer that this caller expects.
    ///
    /// `accept` answers the caller's own key, where it is not the upstream's answer that does.
    pub fn accept(self, accept: Option<HeaderValue>, status: &mut StatusCode, fields: &mut Fields) {
        match self {
            Self::Http1 => {
                if let Some(accept) = accept {
                    fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
                }
                fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            }
            Self::Http2 => {
                *status = StatusCode::OK;
                // The upstream's accept value answers a key that this caller never sent (RFC 8441 §5).
                fields.remove(&header::SEC_WEBSOCKET_ACCEPT);
                if let Some(accept) = accept {
                    fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
                }
                fields.remove(&header::CONTENT_LENGTH);
            }
        }
    }
}

/// What answers the `Sec-WebSocket-Key` of a request (RFC 6455 §4.2.2); `None` unless it has one.
pub fn accept_value(fields: &Fields) -> Option<HeaderValue> {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let mut keys = fields.get_all(&header::SEC_WEBSOCKET_KEY);
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return None;
    };
    let told = [key, GUID].concat();
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &told);
    HeaderValue::try_from(STANDARD.encode(digest)).ok()
}

/// An upstream's end of a tunnel.
pub enum UpstreamEnd {
    /// A connection of its own.
    Connection(Box<Connection>),
    /// A stream of HTTP/2, once it is open.
    Stream(OnUpgrade, Arc<http2::Stream>),
}

/// A connection that was upgraded.
pub struct Connection {
    stream: Begun<Socket>,
    /// A tunnel is one of its pool's connections until it ends.
    _place: Option<Place>,
}

impl UpstreamEnd {
    pub(super) fn connection(read: Bytes, socket: Socket, place: Option<Place>) -> Self {
        Self::Connection(Box::new(Connection {
            stream: Begun::new(read, socket),
            _place: place,
        }))
    }

    pub(super) fn stream(upgrade: OnUpgrade, stream: Arc<http2::Stream>) -> Self {
        Self::Stream(upgrade, stream)
    }
}

/// Passes bytes both ways until both sides closed; the counts are (from caller, from upstream).
///
/// Dropping the future closes both sides at once.
pub async fn relay(caller: CallersEnd, upstream: UpstreamEnd) -> io::Result<(u64, u64)> {
    let mut caller = caller.opened().await?;
    match upstream {
        UpstreamEnd::Connection(mut connection) => {
            copy_bidirectional(&mut caller, &mut connection.stream).await
        }
        UpstreamEnd::Stream(upgrade, _place) => {
            let mut stream = TokioIo::new(upgrade.await.map_err(io::Error::other)?);
            copy_bidirectional(&mut caller, &mut stream).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_rfc_does() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let mut headers = Fields::from_iter([(header::SEC_WEBSOCKET_KEY, key.clone())]);
        let accept = accept_value(&headers).unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        headers.append(header::SEC_WEBSOCKET_KEY, key);
        assert_eq!(accept_value(&headers), None);
        assert_eq!(accept_value(&Fields::default()), None);
    }
}
