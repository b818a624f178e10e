//! Sockets whose other side may vanish without a word.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// How long nothing may come before the other side is asked whether it is there.
const QUIET: Duration = Duration::from_secs(30);

/// How long it has to answer before it is asked again.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often it is asked.
const RETRIES: u32 = 3;

/// Has the system ask after the other side where nothing comes, and give it up after a minute: it may have lost its
/// power or its path amid a stream that says nothing, and nobody else would find out.
pub fn ask_after<'s>(socket: impl Into<SockRef<'s>>) -> io::Result<()> {
    let asks = TcpKeepalive::new()
        .with_time(QUIET)
        .with_interval(INTERVAL)
        .with_retries(RETRIES);
    socket.into().set_tcp_keepalive(&asks)
}
