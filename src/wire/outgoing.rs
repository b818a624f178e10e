//! A message on its way out: a head that is written down, and the body behind it (RFC 9112).

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Body;
use tokio::io::AsyncWrite;

use crate::platform::poll_write_gathered;
use crate::wire::scratch;

/// A piece of the body up to this length is copied, so that it goes out with what surrounds it.
const COPIED: usize = 1024;

/// A message that can be sent.
#[derive(Debug)]
pub struct Outgoing<B> {
    bytes: Vec<u8>,
    written: usize,
    /// What follows `bytes`.
    data: Bytes,
    body: B,
    framing: Framed,
    /// Nothing more is to be had of the body.
    whole: bool,
    touched: bool,
}

/// How a body is framed (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed {
    /// So many more bytes.
    Length(u64),
    /// In chunks; with trailers where the other side takes some.
    Chunked {
        /// It does.
        trailers: bool,
    },
    /// By the end of the connection.
    UntilClose,
    /// Not at all: there is none, whatever was made for it.
    Nothing,
}

/// Why a message could not be sent whole.
#[derive(Debug)]
pub enum Unsent<E> {
    /// Its body was cut off; `None` where it was not of the length that was said.
    Body(Option<E>),
    /// The socket failed.
    Io(io::Error),
}

impl<B: Body<Data = Bytes> + Unpin> Outgoing<B> {
    /// A message with this head.
    pub fn new(head: Vec<u8>, body: B, framing: Framed) -> Self {
        Self {
            bytes: head,
            written: 0,
            data: Bytes::new(),
            whole: match framing {
                Framed::Nothing => true,
                Framed::Length(0) | Framed::UntilClose => body.is_end_stream(),
                Framed::Length(_) | Framed::Chunked { .. } => false,
            },
            body,
            framing,
            touched: false,
        }
    }

    /// Not a byte of it was sent.
    pub fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Only the end of its connection tells that the body is whole.
    pub fn ends_with_connection(&self) -> bool {
        self.framing == Framed::UntilClose && !self.whole
    }

    /// Nothing more of the body will come: what is left are the bytes before that.
    pub fn cut_short(&mut self) {
        self.whole = true;
    }

    /// Sends what is left; a breakage is told once.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Unsent<B::Error>>> {
        loop {
            let Poll::Ready(next) = self.poll_next(cx) else {
                // What is to come may be waited for by whoever has read all of what was.
                ready!(Pin::new(socket).poll_flush(cx)).map_err(Unsent::Io)?;
                return Poll::Pending;
            };
            let next = next?;
            let next = match &next {
                [bytes, data] if data.is_empty() => std::slice::from_ref(bytes),
                both => both,
            };
            if next.iter().all(|slice| slice.is_empty()) {
                ready!(Pin::new(socket).poll_flush(cx)).map_err(Unsent::Io)?;
                self.written = 0;
                scratch::give_back(std::mem::take(&mut self.bytes));
                return Poll::Ready(Ok(()));
            }
            match ready!(poll_write_gathered(Pin::new(&mut *socket), cx, next)) {
                Ok(0) => return Poll::Ready(Err(Unsent::Io(io::ErrorKind::WriteZero.into()))),
                Ok(count) => self.advance(count),
                Err(error) => return Poll::Ready(Err(Unsent::Io(error))),
            }
        }
    }

    /// What can be written next, which is nothing once all was; an error if the body was cut off, pending if it has to come first.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<[IoSlice<'_>; 2], Unsent<B::Error>>> {
        while !self.whole && self.data.is_empty() && self.bytes.len() - self.written < COPIED {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.follow(data)?,
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        self.finish(&trailers)?;
                    }
                },
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(Unsent::Body(Some(error))));
                }
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
    fn advance(&mut self, count: usize) {
        self.touched |= count > 0;
        let of_bytes = count.min(self.bytes.len() - self.written);
        self.written += of_bytes;
        if count > of_bytes {
            self.data.advance(count - of_bytes);
            if self.data.is_empty() && matches!(self.framing, Framed::Chunked { .. }) {
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

    fn follow(&mut self, data: Bytes) -> Result<(), Unsent<B::Error>> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framed::Length(left) => {
                // More would be the next message.
                *left = left
                    .checked_sub(data.len() as u64)
                    .ok_or(Unsent::Body(None))?;
                self.whole = *left == 0;
            }
            Framed::Chunked { .. } => {
                self.append(b"");
                // Writing to memory does not fail.
                let _ = write!(self.bytes, "{:x}\r\n", data.len());
            }
            Framed::UntilClose | Framed::Nothing => {}
        }
        if data.len() > COPIED {
            self.data = data;
            return Ok(());
        }
        self.append(&data);
        if matches!(self.framing, Framed::Chunked { .. }) {
            self.append(b"\r\n");
        }
        Ok(())
    }

    fn finish(&mut self, lines: &HeaderMap) -> Result<(), Unsent<B::Error>> {
        match self.framing {
            Framed::Length(0) | Framed::UntilClose | Framed::Nothing => {}
            Framed::Length(_) => return Err(Unsent::Body(None)),
            Framed::Chunked { trailers } => {
                self.append(b"0\r\n");
                for (name, value) in lines.iter().filter(|_| trailers) {
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

    use http::HeaderValue;
    use http_body::Frame;
    use proptest::prelude::*;

    use super::*;

    const CHUNKED: Framed = Framed::Chunked { trailers: true };

    fn message<B: Body<Data = Bytes> + Unpin>(body: B, framing: Framed) -> Outgoing<B> {
        Outgoing::new(b"head\r\n\r\n".to_vec(), body, framing)
    }

    impl<B> Outgoing<B> {
        fn is_sent(&self) -> bool {
            self.whole && self.written == self.bytes.len() && self.data.is_empty()
        }
    }

    /// What goes out when the socket takes `step` bytes at a time.
    fn sent<B: Body<Data = Bytes> + Unpin>(mut message: Outgoing<B>, step: usize) -> Vec<u8> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut wire = Vec::new();
        while !message.is_sent() {
            let Poll::Ready(Ok(next)) = message.poll_next(&mut cx) else {
                panic!("the body is at hand");
            };
            let next = next.iter().flat_map(|slice| slice.to_vec());
            let taken: Vec<u8> = next.take(step).collect();
            message.advance(taken.len());
            wire.extend(taken);
        }
        wire
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
    fn trailers_follow_the_last_chunk_where_they_are_taken() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("9"));
        for taken in [true, false] {
            let body = Frames::of(&[b"hello".to_vec()], Some(trailers.clone()));
            let wire = sent(message(body, Framed::Chunked { trailers: taken }), 3);
            let lines = if taken { "x-sum: 9\r\n" } else { "" };
            let expected = format!("head\r\n\r\n5\r\nhello\r\n0\r\n{lines}\r\n");
            assert_eq!(wire, expected.as_bytes());
        }
    }

    #[test]
    fn a_body_of_another_length_than_it_said_is_never_completed() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for length in [4, 6] {
            let body = Frames::of(&[b"hello".to_vec()], None);
            let mut message = message(body, Framed::Length(length));
            let ended = loop {
                match message.poll_next(&mut cx) {
                    Poll::Ready(Ok(next)) => {
                        let length = next.iter().map(|slice| slice.len()).sum();
                        message.advance(length);
                    }
                    Poll::Ready(Err(unsent)) => break unsent,
                    Poll::Pending => panic!("the body is at hand"),
                }
            };
            assert!(matches!(ended, Unsent::Body(None)), "{length}");
            assert!(!message.is_sent());
        }
    }

    proptest! {
        #[test]
        fn a_body_is_framed_as_it_is_whatever_the_socket_takes(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..5),
            step in 1_usize..4000,
        ) {
            let content = chunks.concat();
            let plain = [b"head\r\n\r\n", &content[..]].concat();
            for framing in [Framed::Length(content.len() as u64), Framed::UntilClose] {
                let sized = message(Frames::of(&chunks, None), framing);
                prop_assert_eq!(&sent(sized, step), &plain);
            }
            let chunked = message(Frames::of(&chunks, None), CHUNKED);
            let mut expected = b"head\r\n\r\n".to_vec();
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                expected.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                expected.extend_from_slice(chunk);
                expected.extend_from_slice(b"\r\n");
            }
            expected.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(sent(chunked, step), expected);
        }
    }
}
