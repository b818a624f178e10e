//! Connections that are no longer HTTP.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Extensions;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream of which something was read already, which comes first again.
pub struct Begun<S> {
    read: Bytes,
    stream: S,
}

impl<S> Begun<S> {
    /// The stream with what was `read` of it.
    pub fn new(read: Bytes, stream: S) -> Self {
        Self { read, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let length = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Gives a connection over once its answer was written.
type Opening = oneshot::Receiver<Box<dyn Stream>>;

/// A caller's end of a tunnel, once its answer was written.
pub enum CallersEnd {
    /// A connection of its own.
    Http1(Opening),
    /// A stream of HTTP/2.
    Http2(OnUpgrade),
}

/// A connection over HTTP/1.1 that may be upgraded, among its request's extensions.
#[derive(Clone)]
struct Upgradable(Arc<Mutex<Option<Opening>>>);

impl CallersEnd {
    /// Leaves a way to the connection with a request that may upgrade it; what is sent there gets to
    /// whoever takes it.
    pub fn offer(extensions: &mut Extensions) -> oneshot::Sender<Box<dyn Stream>> {
        let (sender, receiver) = oneshot::channel();
        extensions.insert(Upgradable(Arc::new(Mutex::new(Some(receiver)))));
        sender
    }

    /// The caller's end, where the request's connection can be upgraded.
    pub fn take(extensions: &mut Extensions) -> Option<Self> {
        if let Some(Upgradable(end)) = extensions.remove() {
            let mut end = end.lock().unwrap_or_else(PoisonError::into_inner);
            return end.take().map(Self::Http1);
        }
        extensions.remove().map(Self::Http2)
    }

    /// Waits until the answer was written. An error where it never will be.
    pub async fn opened(self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Http1(end) => end.await.map_err(io::Error::other),
            Self::Http2(upgrade) => {
                let upgraded = upgrade.await.map_err(io::Error::other)?;
                Ok(Box::new(TokioIo::new(upgraded)))
            }
        }
    }
}
