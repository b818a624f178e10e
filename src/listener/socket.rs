//! A caller's socket, in the clear or not.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What a connection is served on.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether the other side is told, when this is dropped, that it broke rather than that it ended.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    fn breaks_off(&self, breaks_off: bool) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn breaks_off(&self, breaks_off: bool) -> io::Result<()> {
        SockRef::from(self).set_linger(breaks_off.then_some(Duration::ZERO))
    }
}

impl Socket for Box<TlsStream<TcpStream>> {
    fn breaks_off(&self, breaks_off: bool) -> io::Result<()> {
        self.get_ref().0.breaks_off(breaks_off)
    }
}
