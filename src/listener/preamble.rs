//! What a trusted proxy says before its caller's first byte: who that is.
//!
//! Read in `rules::proxy_protocol`; here it is taken off the socket, so exactly that whoever comes
//! next finds the caller's own bytes. Whether a peer is asked is not decided here.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::listener::connection::Trouble;
use crate::listener::{Limits, Stage, Stages};
use crate::rules::proxy_protocol::{LONGEST, Parsed, parse};

/// Waits for the header that `proxy` has to begin with, and says who is calling; `None` if it left,
/// or was asked to, without a word.
///
/// Not cancel safe: what was taken off the socket is gone.
pub(super) async fn caller(
    stream: &mut TcpStream,
    proxy: SocketAddr,
    limits: &Limits,
    stages: &Stages,
) -> Result<Option<SocketAddr>, Trouble> {
    let mut taken = 0;
    let read = tokio::select! {
        read = tokio::time::timeout(limits.head_timeout, take(stream, &mut taken)) => read,
        () = stages.reach(Stage::Closing) => return Ok(None),
    };
    match read {
        Ok(Ok(Parsed::Done { source, .. })) => Ok(Some(source.unwrap_or(proxy))),
        // As the health checks of load balancers do.
        Ok(Ok(Parsed::Incomplete)) | Err(_) if taken == 0 => Ok(None),
        Ok(Ok(Parsed::Incomplete | Parsed::Malformed)) => Err(Trouble::ProxyProtocol),
        Ok(Err(_)) => Err(Trouble::Io),
        Err(_) => Err(Trouble::HeadTimeout),
    }
}

/// Takes a header off the socket and nothing else; it stays [`Parsed::Incomplete`] if the peer
/// leaves before its end. How much was taken is known even of a wait that was given up.
async fn take(stream: &mut TcpStream, taken: &mut usize) -> io::Result<Parsed> {
    let mut header = vec![0; LONGEST];
    loop {
        let seen = *taken + stream.peek(&mut header[*taken..]).await?;
        if seen == *taken {
            return Ok(Parsed::Incomplete);
        }
        let parsed = parse(&header[..seen]);
        let end = match parsed {
            // As long as it is not whole, all that has arrived belongs to it.
            Parsed::Incomplete => seen,
            Parsed::Done { length, .. } => length,
            Parsed::Malformed => return Ok(parsed),
        };
        stream.read_exact(&mut header[*taken..end]).await?;
        *taken = end;
        if parsed != Parsed::Incomplete {
            return Ok(parsed);
        }
    }
}
