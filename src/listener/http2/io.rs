//! A caller's socket: what was read before the protocol was known comes first again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::platform::poll_write_gathered;

/// What happens on a connection, told by its socket and its requests, read by its deadlines.
///
/// One task writes and reads it; the atomics are never contended.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests that were taken up and not yet answered whole.
    pub(super) in_flight: AtomicU32,
    /// Pieces of answers that are the library's to write, when their caller has room.
    pub(super) unsent: AtomicU32,
    /// How often some of such a piece was written.
    pub(super) taken: AtomicU32,
    /// Requests taken up so far.
    pub(super) requests: AtomicU32,
    /// The caller has yet to take what is being written: no rest, even if all is answered.
    pub(super) blocked: AtomicBool,
    /// Part of a head has arrived, and nothing else can before the rest of it.
    pub(super) in_head: AtomicBool,
    /// The caller sent a flood of frames that carry nothing.
    pub(super) flooded: AtomicBool,
}

/// A socket of which it is noted whether its caller takes what is written.
pub(super) struct Watched<S> {
    stream: S,
    prefix: Bytes,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, prefix: Bytes, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            prefix,
            activity,
        }
    }

    fn wrote<T>(&self, polled: &Poll<T>) {
        let blocked = polled.is_pending();
        self.activity.blocked.store(blocked, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let length = self.prefix.len().min(buffer.remaining());
            buffer.put_slice(&self.prefix[..length]);
            self.prefix.advance(length);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = poll_write_gathered(Pin::new(&mut self.stream), cx, slices);
        self.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS takes in some of an answer before its caller does.
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.wrote(&polled);
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
