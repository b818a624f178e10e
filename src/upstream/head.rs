//! A request's head as it is written for an upstream, in the protocol that the upstream speaks.

use std::io;

use http::{HeaderName, HeaderValue, Method};

use crate::rules::fields::Fields;
use crate::upstream::body::Outbound;
use crate::upstream::{http2, request};

/// The head of a request.
#[derive(Debug)]
pub enum Head {
    /// As HTTP/1.1 writes it.
    Http1(request::Head),
    /// As HTTP/2 sends it.
    Http2(Box<http2::Head>),
}

/// A request that can be sent.
pub enum Outgoing {
    /// Over HTTP/1.1.
    Http1(request::Request),
    /// Over HTTP/2.
    Http2(Box<http::Request<Outbound>>),
}

impl Head {
    /// Adds a line. How the body is framed is not said here.
    #[inline]
    pub fn line(&mut self, name: &HeaderName, value: &[u8]) {
        match self {
            Self::Http1(head) => head.line(name, value),
            Self::Http2(head) => head.line(name, value),
        }
    }

    /// Adds those of a caller's lines that pass, for each of which it is asked in turn.
    #[inline]
    pub fn pass<'f>(
        &mut self,
        fields: &'f Fields,
        mut passes: impl FnMut(&'f HeaderName, &'f [u8]) -> bool,
    ) {
        match self {
            Self::Http1(head) => head.pass(fields, passes),
            Self::Http2(head) => {
                let passing = fields.iter().filter(|(name, value)| passes(name, value));
                passing.for_each(|(name, value)| head.line(name, value));
            }
        }
    }

    /// Adds a line with one value of several parts, with `separator` between them.
    ///
    /// The parts are of values that were header values: they hold no line end.
    pub fn joined(
        &mut self,
        name: &HeaderName,
        separator: &str,
        parts: impl IntoIterator<Item: AsRef<[u8]>>,
    ) {
        match self {
            Self::Http1(head) => head.joined(name, separator, parts),
            Self::Http2(head) => head.joined(name, separator, parts),
        }
    }

    /// Asks for a WebSocket, with `key` where the caller has said none.
    pub fn open_websocket(
        &mut self,
        key: impl FnOnce() -> io::Result<Option<HeaderValue>>,
    ) -> io::Result<()> {
        match self {
            Self::Http1(head) => head.open_websocket(key()?.as_ref()),
            Self::Http2(head) => head.open_websocket(key()?),
        }
        Ok(())
    }

    /// The request without a body; `announced` says that its sender wrote how long it is.
    pub fn without_body(self, announced: bool) -> Outgoing {
        match self {
            Self::Http1(head) => Outgoing::Http1(head.without_body(announced)),
            Self::Http2(head) => {
                let length = announced.then_some(0);
                Outgoing::Http2(Box::new(head.complete(Outbound::Empty, length)))
            }
        }
    }

    /// The request with a body of `length` bytes, or with one that ends when it ends.
    pub fn with_body(self, body: Outbound, length: Option<u64>) -> Outgoing {
        match self {
            Self::Http1(head) => Outgoing::Http1(head.with_body(body, length)),
            Self::Http2(head) => Outgoing::Http2(Box::new(head.complete(body, length))),
        }
    }
}

/// Whether RFC 9110 §8.6 wants the lack of a body said: the method's meaning expects one.
pub(super) fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}
