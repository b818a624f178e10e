//! A request as it goes to an upstream over HTTP/1.1 (RFC 9112).

use std::io::Write;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use http_body::Body;
use tokio::io::AsyncWrite;

use crate::rules::fields::Fields;
use crate::upstream::body::Outbound;
use crate::upstream::head::expects_body;
use crate::wire::outgoing::{Framed, Outgoing, Unsent};
use crate::wire::scratch;

/// The head of a request, as it is written down.
#[derive(Debug)]
pub struct Head {
    bytes: Vec<u8>,
    /// The method is HEAD, which is answered without a body.
    without_answer: bool,
    /// RFC 9110 §8.6: the method's meaning expects a body, so that its lack is said.
    expects_body: bool,
}

/// A request that can be sent.
pub struct Request<B = Outbound> {
    message: Outgoing<B>,
    /// A HEAD, which is answered without a body.
    pub(super) to_head: bool,
}

impl Head {
    /// A head that asks for `target`, path and query as they are.
    pub fn new(method: &Method, target: &str) -> Self {
        let mut bytes = scratch::take();
        bytes.extend_from_slice(method.as_str().as_bytes());
        bytes.push(b' ');
        if !target.starts_with('/') {
            // Nothing but a query: the path is the root, and was judged as that.
            bytes.push(b'/');
        }
        bytes.extend_from_slice(target.as_bytes());
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        Self {
            bytes,
            without_answer: *method == Method::HEAD,
            expects_body: expects_body(method),
        }
    }

    /// Adds a line. How the body is framed is not said here.
    pub fn line(&mut self, name: &HeaderName, value: &[u8]) {
        self.begin(name);
        self.bytes.extend_from_slice(value);
        self.end();
    }

    /// Adds lines that were written before, each with its end.
    pub fn written(&mut self, lines: &[u8]) {
        self.bytes.extend_from_slice(lines);
    }

    /// Adds those of a caller's lines that pass.
    pub fn pass<'f>(
        &mut self,
        fields: &'f Fields,
        passes: impl FnMut(&'f HeaderName, &'f [u8]) -> bool,
    ) {
        fields.write(&mut self.bytes, passes);
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
        self.begin(name);
        for (at, part) in parts.into_iter().enumerate() {
            if at > 0 {
                self.bytes.extend_from_slice(separator.as_bytes());
            }
            self.bytes.extend_from_slice(part.as_ref());
        }
        self.end();
    }

    /// Asks for a WebSocket (RFC 6455 §4.1), with `key` where the caller has said none.
    pub(super) fn open_websocket(&mut self, key: Option<&HeaderValue>) {
        self.line(&header::CONNECTION, b"upgrade");
        self.line(&header::UPGRADE, b"websocket");
        if let Some(key) = key {
            self.line(&header::SEC_WEBSOCKET_KEY, key.as_bytes());
        }
    }

    /// The request without a body; `announced` says that its sender wrote how long it is.
    pub fn without_body(mut self, announced: bool) -> Request {
        if announced || self.expects_body {
            self.bytes.extend_from_slice(b"content-length: 0\r\n");
        }
        self.complete(Outbound::Empty, Framed::Length(0))
    }

    /// The request with a body of `length` bytes, or with one that ends when it ends.
    pub fn with_body<B>(mut self, body: B, length: Option<u64>) -> Request<B>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let Some(length) = length else {
            self.bytes
                .extend_from_slice(b"transfer-encoding: chunked\r\n");
            return self.complete(body, Framed::Chunked { trailers: true });
        };
        self.bytes.extend_from_slice(b"content-length: ");
        // Writing to memory does not fail.
        let _ = write!(self.bytes, "{length}");
        self.end();
        self.complete(body, Framed::Length(length))
    }

    fn begin(&mut self, name: &HeaderName) {
        self.bytes.extend_from_slice(name.as_str().as_bytes());
        self.bytes.extend_from_slice(b": ");
    }

    fn end(&mut self) {
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn complete<B>(mut self, body: B, framing: Framed) -> Request<B>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        self.end();
        Request {
            message: Outgoing::new(self.bytes, body, framing),
            to_head: self.without_answer,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Request<B> {
    /// Not a byte of it was sent.
    pub(super) fn is_untouched(&self) -> bool {
        self.message.is_untouched()
    }

    /// Sends what is left; a breakage is told once.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Unsent<B::Error>>> {
        self.message.poll_send(cx, socket)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http_body_util::Full;

    use super::*;

    fn head(method: &Method) -> Head {
        let mut head = Head::new(method, "/a?b");
        head.line(&header::HOST, b"h");
        head
    }

    /// What goes out.
    fn sent<B: Body<Data = Bytes, Error: std::fmt::Debug> + Unpin>(
        mut request: Request<B>,
    ) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let sent = request.poll_send(&mut cx, &mut wire);
        assert!(matches!(sent, Poll::Ready(Ok(()))), "the body is at hand");
        wire
    }

    #[test]
    fn a_request_without_a_body_says_so_where_one_is_expected() {
        let get = head(&Method::GET).without_body(false);
        assert_eq!(sent(get), b"GET /a?b HTTP/1.1\r\nhost: h\r\n\r\n");
        for (method, announced) in [(Method::POST, false), (Method::GET, true)] {
            let request = head(&method).without_body(announced);
            let wire = format!("{method} /a?b HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n");
            assert_eq!(sent(request), wire.as_bytes());
        }
    }

    #[test]
    fn a_body_follows_as_it_was_announced() {
        for (length, line, body) in [
            (Some(5), "content-length: 5", "hello"),
            (
                None,
                "transfer-encoding: chunked",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
        ] {
            let request = head(&Method::PUT).with_body(Full::new(Bytes::from("hello")), length);
            let wire = format!("PUT /a?b HTTP/1.1\r\nhost: h\r\n{line}\r\n\r\n{body}");
            assert_eq!(sent(request), wire.as_bytes());
        }
    }

    #[test]
    fn parts_are_joined_to_one_line() {
        let mut head = Head::new(&Method::GET, "/");
        head.joined(&header::COOKIE, "; ", [&b"a=1"[..], b"b=2"]);
        let wire = sent(head.without_body(false));
        assert_eq!(wire, b"GET / HTTP/1.1\r\ncookie: a=1; b=2\r\n\r\n");
    }
}
