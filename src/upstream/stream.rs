//! A socket to an upstream.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::platform::{ask_after, spare_congestion_control};
use crate::upstream::Tls;
use crate::upstream::endpoint::{Endpoint, Target};

/// A connected socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Connects, and agrees on TLS where it is asked for. Cancel safe.
    pub(super) async fn connect(endpoint: &Endpoint, tls: Option<&Tls>) -> io::Result<Self> {
        match endpoint.target() {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                ask_after(&stream)?;
                spare_congestion_control(&stream, address.ip());
                match tls {
                    None => Ok(Self::Tcp(stream)),
                    Some(tls) => {
                        let stream = tls.connect(stream, endpoint.host()).await?;
                        Ok(Self::Tls(Box::new(stream)))
                    }
                }
            }
            Target::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        }
    }

    /// Whether nothing is to be read, not even an end. Asks the kernel.
    pub(super) fn rests(&mut self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let seen = match self {
            Self::Tcp(stream) => SockRef::from(&*stream).peek(&mut byte),
            Self::Unix(stream) => SockRef::from(&*stream).peek(&mut byte),
            Self::Tls(_) => {
                let mut cx = Context::from_waker(Waker::noop());
                return self.poll_disturbed(&mut cx).is_pending();
            }
        };
        matches!(seen, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Ready if something is known to be there to be read, if only an end; what it is may be lost. Who asks is not
    /// woken when something comes to a plain socket: that is for who reads.
    pub(super) fn poll_disturbed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut byte = [0];
        let read = match self {
            // A ticket for the next session, say, is read without disturbing anybody.
            Self::Tls(stream) => {
                let mut byte = ReadBuf::new(&mut byte);
                return Pin::new(stream).poll_read(cx, &mut byte).map(|_| ());
            }
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
        };
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    /// Reads into `buffer`; 0 at the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(AsyncRead::poll_read(Pin::new(self), cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Reads behind `bytes`, as far as they have room; 0 at the end.
    pub(super) fn poll_read_buf(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        pin!(self.read_buf(bytes)).poll(cx)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // A socket has no buffer of its own to flush.
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use crate::upstream::Address;

    use super::*;

    #[tokio::test]
    async fn an_upstream_that_vanishes_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        let address = Address::Unix("unused".into());
        let socket = Socket::connect(&Endpoint::new(target, address), None).await;
        let Ok(Socket::Tcp(stream)) = socket else {
            panic!("it is another socket: {socket:?}");
        };
        assert!(SockRef::from(&stream).keepalive().unwrap());
    }
}
