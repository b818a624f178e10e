//! The socket of an HTTP/2 connection, with an eye on what its frames are worth.
//!
//! What a flood is, is judged in `rules::frames`; here it is fed, and a flood ended. HTTP/1 has none
//! of this.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::Activity;
use crate::platform::Clock;
use crate::rules::frames::{Flood, Frames};

/// GOAWAY with `ENHANCE_YOUR_CALM` (RFC 9113 §6.8, §7), up to the last stream and from there on.
const GOAWAY: [u8; 9] = [0, 0, 13, 7, 0, 0, 0, 0, 0];
const CALM: [u8; 9] = *b"\0\0\0\x0bflood";

/// What the unfinished heads on all HTTP/2 connections of a worker may come to, in bytes. The library
/// holds two to three times as much for them.
const UNFINISHED: usize = 16 * 1024 * 1024;

/// Which part of what is free of it one connection may hold: an eighth. However many hold as much as
/// they may, whoever is new finds room.
const SHARE: usize = 8;

/// The unfinished heads of a worker's HTTP/2 connections, in bytes.
#[derive(Clone, Debug, Default)]
pub(in crate::listener) struct Heads(Arc<AtomicUsize>);

/// A connection's share of them.
struct Held {
    heads: Heads,
    bytes: usize,
}

impl Held {
    /// Holds so much from now on; it is a flood where that is more than before and than a share.
    fn hold(&mut self, bytes: usize) -> Result<(), Flood> {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let all = &self.heads.0;
        if bytes <= before {
            all.fetch_sub(before - bytes, Ordering::Relaxed);
            return Ok(());
        }
        let all = all.fetch_add(bytes - before, Ordering::Relaxed) + bytes - before;
        if bytes > UNFINISHED.saturating_sub(all) / SHARE {
            return Err(Flood);
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.hold(0);
    }
}

/// A socket that fails once its peer sends a flood.
pub(super) struct Metered<S> {
    stream: S,
    frames: Frames,
    held: Held,
    activity: Arc<Activity>,
    clock: Arc<dyn Clock>,
}

impl<S> Metered<S> {
    pub(super) fn new(
        stream: S,
        heads: Heads,
        activity: Arc<Activity>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            stream,
            frames: Frames::default(),
            held: Held { heads, bytes: 0 },
            activity,
            clock,
        }
    }

    /// Takes account of what arrived.
    fn arrived(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        let clock = &self.clock;
        self.frames
            .arrived(bytes, || clock.monotonic().nanoseconds())?;
        let unfinished = self.frames.unfinished();
        self.activity
            .in_head
            .store(unfinished.is_some(), Ordering::Relaxed);
        self.held.hold(unfinished.unwrap_or(0) as usize)
    }

    fn wrote(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(length)) = polled {
            self.frames.wrote(length);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Metered<S> {
    /// Tells the peer why, as far as that is possible at once: the library would say nothing.
    ///
    /// Where the peer left a frame half unread, this lands in the middle of it.
    fn tell(&mut self, cx: &mut Context<'_>) {
        let mut frame = GOAWAY.to_vec();
        frame.extend_from_slice(&self.frames.last_stream().to_be_bytes());
        frame.extend_from_slice(&CALM);
        let _ = Pin::new(&mut self.stream).poll_write(cx, &frame);
        let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if this.arrived(&buffer.filled()[before..]) == Err(Flood) {
            this.activity.flooded.store(true, Ordering::Relaxed);
            this.tell(cx);
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{Join, Sink, join, sink};

    use super::*;
    use crate::platform::SystemClock;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    const END_HEADERS: u8 = 4;

    type Caller = Metered<Join<io::Cursor<Vec<u8>>, Sink>>;

    /// A frame's first nine bytes, where it announces so many.
    fn announce(kind: u8, flags: u8, length: u32) -> Vec<u8> {
        let [_, a, b, c] = length.to_be_bytes();
        vec![a, b, c, kind, flags, 0, 0, 0, 1]
    }

    fn frame(kind: u8, flags: u8, length: u32) -> Vec<u8> {
        let mut bytes = announce(kind, flags, length);
        bytes.resize(bytes.len() + length as usize, b'x');
        bytes
    }

    fn caller(heads: &Heads) -> Caller {
        let clock = Arc::new(SystemClock::new());
        let stream = join(io::Cursor::default(), sink());
        let mut caller = Metered::new(stream, heads.clone(), Arc::default(), clock);
        assert!(caller.takes(PREFACE));
        caller
    }

    impl Caller {
        /// Whether the connection goes on after these bytes, which it reads at once.
        fn takes(&mut self, bytes: &[u8]) -> bool {
            self.stream = join(io::Cursor::new(bytes.to_vec()), sink());
            let mut room = vec![0; bytes.len()];
            let mut context = Context::from_waker(Waker::noop());
            let read = Pin::new(self).poll_read(&mut context, &mut ReadBuf::new(&mut room));
            matches!(read, Poll::Ready(Ok(())))
        }
    }

    /// So many connections that have sent this, one after the other; those alone that go on.
    fn held(heads: &Heads, number: usize, sent: &[u8]) -> Vec<Caller> {
        let mut all: Vec<_> = (0..number).map(|_| caller(heads)).collect();
        all.retain_mut(|caller| caller.takes(sent));
        all
    }

    /// Whether a head of this length may come in two pieces, when others have sent what they have.
    fn comes_in_pieces(heads: &Heads, length: u32) -> bool {
        let head = frame(HEADERS, END_HEADERS, length);
        let mut honest = caller(heads);
        honest.takes(&head[..head.len() - 1]) && honest.takes(&head[head.len() - 1..])
    }

    #[test]
    fn heads_that_were_only_announced_end_nobody() {
        let heads = Heads::default();
        let others = held(&heads, 10_000, &announce(HEADERS, END_HEADERS, 16_384));
        assert_eq!(others.len(), 10_000);
        assert!(comes_in_pieces(&heads, 16_384));
    }

    #[test]
    fn whoever_holds_little_is_never_the_one_who_is_ended() {
        let heads = Heads::default();
        let large = frame(HEADERS, END_HEADERS, 16_384);
        let others = held(&heads, 10_000, &large[..large.len() - 1]);
        let bytes = heads.0.load(Ordering::Relaxed);
        assert!(bytes <= UNFINISHED, "{bytes}");
        assert!(others.len() > 1_000, "{}", others.len());
        assert!(comes_in_pieces(&heads, 14_000), "a little less than theirs");
        let small = frame(HEADERS, END_HEADERS, 4_096);
        let more = held(&heads, 10_000, &small[..small.len() - 1]);
        assert_eq!(more.len(), 10_000);
        assert!(comes_in_pieces(&heads, 14_000), "they took nothing of it");
    }

    /// Its fields are unpacked as they come: a byte may be one.
    #[test]
    fn a_small_head_that_goes_on_counts_as_a_large_one() {
        for goes_on in [
            frame(HEADERS, 0, 600),
            [frame(HEADERS, 0, 600), announce(CONTINUATION, 4, 16_384)].concat(),
        ] {
            let heads = Heads::default();
            let others = held(&heads, 2_000, &goes_on);
            assert!((1_000..1_024).contains(&others.len()), "{}", others.len());
            assert!(comes_in_pieces(&heads, 16_384), "a head that does not");
            drop(others);
            assert_eq!(heads.0.load(Ordering::Relaxed), 0);
        }
    }
}
