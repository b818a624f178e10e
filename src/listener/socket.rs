//! A caller's socket, in the clear or not.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// The other side will send no more. Elsewhere only a breakage is told.
#[cfg(target_os = "linux")]
const HAS_CLOSED: PollFlags = PollFlags::RDHUP;
#[cfg(not(target_os = "linux"))]
const HAS_CLOSED: PollFlags = PollFlags::empty();

/// What a connection is served on.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// What is written may be held back until it is flushed.
    const HOLDS_BACK: bool;

    /// Whether the other side is told, when this is dropped, that it broke rather than that it ended.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    fn breaks_off(&self, breaks_off: bool) -> io::Result<()>;

    /// Whether the other side has closed, or the connection broke, as far as the system knows: even where
    /// something lies before that which nobody has read.
    fn has_left(&self) -> bool;
}

impl Socket for TcpStream {
    const HOLDS_BACK: bool = false;

    fn breaks_off(&self, breaks_off: bool) -> io::Result<()> {
        SockRef::from(self).set_linger(breaks_off.then_some(Duration::ZERO))
    }

    fn has_left(&self) -> bool {
        let mut asked = [PollFd::new(self, HAS_CLOSED)];
        // A breakage is told unasked. What cannot be asked is found out when it is read or written.
        let told = poll(&mut asked, Some(&Timespec::default()));
        told.is_ok_and(|sockets| sockets > 0)
    }
}

impl Socket for Box<TlsStream<TcpStream>> {
    const HOLDS_BACK: bool = true;

    fn breaks_off(&self, breaks_off: bool) -> io::Result<()> {
        self.get_ref().0.breaks_off(breaks_off)
    }

    fn has_left(&self) -> bool {
        self.get_ref().0.has_left()
    }
}
