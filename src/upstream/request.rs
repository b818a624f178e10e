//! A request as it goes to an upstream over HTTP/1.1 (RFC 9112).

use std::io::{IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body::Body;

use crate::upstream::body::Outbound;
use crate::upstream::head::expects_body;

/// Room for an ordinary head.
const HEAD: usize = 1024;

/// A piece of the body up to this length is copied, so that it goes out with what surrounds it.
const COPIED: usize = 1024;

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
    bytes: Vec<u8>,
    written: usize,
    /// What follows `bytes`.
    data: Bytes,
    body: B,
    framing: Framing,
    /// Nothing more is to be had of the body.
    whole: bool,
    touched: bool,
    /// A HEAD, which is answered without a body.
    pub(super) to_head: bool,
}

/// How the body is framed (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// So many more bytes.
    Length(u64),
    Chunked,
}

/// Why a request could not be sent whole.
#[derive(Debug)]
pub(super) enum Unsent {
    /// Its body was cut off.
    Body,
    /// The socket failed.
    Io(std::io::Error),
}

impl Head {
    /// A head that asks for `target`, path and query as they are.
    pub fn new(method: &Method, target: &str) -> Self {
        let mut bytes = Vec::with_capacity(HEAD);
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
    pub fn line(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.begin(name);
        self.bytes.extend_from_slice(value.as_bytes());
        self.end();
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
        self.line(&header::CONNECTION, &HeaderValue::from_static("upgrade"));
        self.line(&header::UPGRADE, &HeaderValue::from_static("websocket"));
        if let Some(key) = key {
            self.line(&header::SEC_WEBSOCKET_KEY, key);
        }
    }

    /// The request without a body; `announced` says that its sender wrote how long it is.
    pub fn without_body(mut self, announced: bool) -> Request {
        if announced || self.expects_body {
            self.bytes.extend_from_slice(b"content-length: 0\r\n");
        }
        self.complete(Outbound::Empty, Framing::Length(0))
    }

    /// The request with a body of `length` bytes, or with one that ends when it ends.
    pub fn with_body<B: Body>(mut self, body: B, length: Option<u64>) -> Request<B> {
        let Some(length) = length else {
            self.bytes
                .extend_from_slice(b"transfer-encoding: chunked\r\n");
            return self.complete(body, Framing::Chunked);
        };
        self.bytes.extend_from_slice(b"content-length: ");
        number(&mut self.bytes, format_args!("{length}"));
        self.end();
        self.complete(body, Framing::Length(length))
    }

    fn begin(&mut self, name: &HeaderName) {
        self.bytes.extend_from_slice(name.as_str().as_bytes());
        self.bytes.extend_from_slice(b": ");
    }

    fn end(&mut self) {
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn complete<B: Body>(mut self, body: B, framing: Framing) -> Request<B> {
        self.end();
        Request {
            bytes: self.bytes,
            written: 0,
            data: Bytes::new(),
            whole: body.is_end_stream(),
            body,
            framing,
            touched: false,
            to_head: self.without_answer,
        }
    }
}

fn number(bytes: &mut Vec<u8>, number: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = bytes.write_fmt(number);
}

impl<B: Body<Data = Bytes> + Unpin> Request<B> {
    /// Not a byte of it was sent.
    pub(super) fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// What can be written next, which is nothing once all was; an error if the body was cut off, pending if it has to come first.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<[IoSlice<'_>; 2], Unsent>> {
        while !self.whole && self.data.is_empty() && self.bytes.len() - self.written < COPIED {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.follow(data)?,
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        self.finish(&trailers)?;
                    }
                },
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Unsent::Body)),
                Poll::Ready(None) => self.finish(&HeaderMap::new())?,
                Poll::Pending if self.written == self.bytes.len() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok([
            IoSlice::new(&self.bytes[self.written..]),
            IoSlice::new(&self.data),
        ]))
    }

    /// So many bytes of what was next were written.
    pub(super) fn advance(&mut self, count: usize) {
        self.touched |= count > 0;
        let of_bytes = count.min(self.bytes.len() - self.written);
        self.written += of_bytes;
        if count > of_bytes {
            self.data.advance(count - of_bytes);
            if self.data.is_empty() && self.framing == Framing::Chunked {
                self.append(b"\r\n");
            }
        }
    }

    /// Puts bytes behind those that are still to be written.
    fn append(&mut self, bytes: &[u8]) {
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn follow(&mut self, data: Bytes) -> Result<(), Unsent> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::Length(left) => {
                // More would be the next request.
                *left = left.checked_sub(data.len() as u64).ok_or(Unsent::Body)?;
                self.whole = *left == 0;
            }
            Framing::Chunked => {
                self.append(b"");
                number(&mut self.bytes, format_args!("{:x}\r\n", data.len()));
            }
        }
        if data.len() > COPIED {
            self.data = data;
            return Ok(());
        }
        self.append(&data);
        if self.framing == Framing::Chunked {
            self.append(b"\r\n");
        }
        Ok(())
    }

    fn finish(&mut self, trailers: &HeaderMap) -> Result<(), Unsent> {
        match self.framing {
            Framing::Length(0) => {}
            Framing::Length(_) => return Err(Unsent::Body),
            Framing::Chunked => {
                self.append(b"0\r\n");
                for (name, value) in trailers {
                    self.append(name.as_str().as_bytes());
                    self.append(b": ");
                    self.append(value.as_bytes());
                    self.append(b"\r\n");
                }
                self.append(b"\r\n");
            }
        }
        self.whole = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http_body::Frame;
    use proptest::prelude::*;

    use super::*;

    fn head(method: &Method) -> Head {
        let mut head = Head::new(method, "/a?b");
        head.line(&header::HOST, &HeaderValue::from_static("h"));
        head
    }

    impl<B> Request<B> {
        fn is_sent(&self) -> bool {
            self.whole && self.written == self.bytes.len() && self.data.is_empty()
        }
    }

    /// What goes out when the socket takes `step` bytes at a time.
    fn sent<B: Body<Data = Bytes> + Unpin>(mut request: Request<B>, step: usize) -> Vec<u8> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut wire = Vec::new();
        while !request.is_sent() {
            let Poll::Ready(Ok(next)) = request.poll_next(&mut cx) else {
                panic!("the body is at hand");
            };
            let next = next.iter().flat_map(|slice| slice.to_vec());
            let taken: Vec<u8> = next.take(step).collect();
            request.advance(taken.len());
            wire.extend(taken);
        }
        wire
    }

    #[test]
    fn a_request_without_a_body_says_so_where_one_is_expected() {
        let get = head(&Method::GET).without_body(false);
        assert_eq!(sent(get, 7), b"GET /a?b HTTP/1.1\r\nhost: h\r\n\r\n");
        for (method, announced) in [(Method::POST, false), (Method::GET, true)] {
            let request = head(&method).without_body(announced);
            let wire = format!("{method} /a?b HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n");
            assert_eq!(sent(request, 7), wire.as_bytes());
        }
    }

    /// A body of these frames, at hand at once.
    struct Frames(VecDeque<Frame<Bytes>>);

    impl Frames {
        fn of(chunks: &[Vec<u8>], trailers: Option<HeaderMap>) -> Self {
            let chunks = chunks.iter().map(|chunk| Frame::data(chunk.clone().into()));
            Self(chunks.chain(trailers.map(Frame::trailers)).collect())
        }
    }

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    #[test]
    fn trailers_follow_the_last_chunk() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("9"));
        let body = Frames::of(&[b"hello".to_vec()], Some(trailers));
        let wire = sent(head(&Method::POST).with_body(body, None), 3);
        assert_eq!(
            wire,
            b"POST /a?b HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 9\r\n\r\n"
        );
    }

    #[test]
    fn a_body_of_another_length_than_it_said_is_never_completed() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for length in [4, 6] {
            let body = Frames::of(&[b"hello".to_vec()], None);
            let mut request = head(&Method::POST).with_body(body, Some(length));
            let ended = loop {
                match request.poll_next(&mut cx) {
                    Poll::Ready(Ok(next)) => {
                        let length = next.iter().map(|slice| slice.len()).sum();
                        request.advance(length);
                    }
                    Poll::Ready(Err(unsent)) => break unsent,
                    Poll::Pending => panic!("the body is at hand"),
                }
            };
            assert!(matches!(ended, Unsent::Body), "{length}");
            assert!(!request.is_sent());
        }
    }

    proptest! {
        #[test]
        fn a_body_is_framed_as_it_is_whatever_the_socket_takes(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..5),
            step in 1_usize..4000,
        ) {
            let content = chunks.concat();
            let sized = head(&Method::PUT)
                .with_body(Frames::of(&chunks, None), Some(content.len() as u64));
            let mut expected = format!("PUT /a?b HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", content.len()).into_bytes();
            expected.extend_from_slice(&content);
            prop_assert_eq!(sent(sized, step), expected);

            let chunked = head(&Method::PUT).with_body(Frames::of(&chunks, None), None);
            let mut expected = b"PUT /a?b HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                expected.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                expected.extend_from_slice(chunk);
                expected.extend_from_slice(b"\r\n");
            }
            expected.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(sent(chunked, step), expected);
        }
    }

    #[test]
    fn parts_are_joined_to_one_line() {
        let mut head = Head::new(&Method::GET, "/");
        head.joined(&header::COOKIE, "; ", [&b"a=1"[..], b"b=2"]);
        let wire = sent(head.without_body(false), 100);
        assert_eq!(wire, b"GET / HTTP/1.1\r\ncookie: a=1; b=2\r\n\r\n");
    }
}
