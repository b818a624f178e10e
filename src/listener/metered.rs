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

use crate::listener::io::Activity;
use crate::platform::Clock;
use crate::rules::frames::{Flood, Frames};

/// GOAWAY with `ENHANCE_YOUR_CALM` (RFC 9113 §6.8, §7), up to the last stream and from there on.
const GOAWAY: [u8; 9] = [0, 0, 13, 7, 0, 0, 0, 0, 0];
const CALM: [u8; 9] = *b"\0\0\0\x0bflood";

/// What the unfinished heads on all HTTP/2 connections of a worker may come to, in bytes. The library
/// holds two to three times as much for them; and an honest head arrives whole.
const UNFINISHED: usize = 16 * 1024 * 1024;

/// The unfinished heads of a worker's HTTP/2 connections, in bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Heads(Arc<AtomicUsize>);

/// A connection's share of them.
struct Held {
    heads: Heads,
    bytes: usize,
}

impl Held {
    /// Holds so much from now on; all that is held by all, where this is more than before.
    fn hold(&mut self, bytes: usize) -> Option<usize> {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let all = &self.heads.0;
        if bytes <= before {
            all.fetch_sub(before - bytes, Ordering::Relaxed);
            return None;
        }
        Some(all.fetch_add(bytes - before, Ordering::Relaxed) + bytes - before)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hold(0);
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
        let unfinished =
            unfinished.map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        match self.held.hold(unfinished) {
            Some(all) if all > UNFINISHED => Err(Flood),
            _ => Ok(()),
        }
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
