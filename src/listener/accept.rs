//! Accepting sockets and spreading them over the workers.

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::listener::share::{Place, Shares};
use crate::listener::{Terms, Worker};
use crate::platform::{ask_after, spare_congestion_control};

/// How many connections the kernel may hold for us.
const BACKLOG: i32 = 4096;

/// How long a caller may take nothing of what was sent to it. Of what it does not acknowledge, Linux
/// alone can be told.
pub(super) const UNREAD: Duration = Duration::from_secs(60);

/// How long to wait when the process is out of file descriptors or memory.
const BREATH: Duration = Duration::from_millis(50);

const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\n\
content-length: 247\r\n\r\n\
{\"type\":\"urn:gatelet:problem:overloaded\",\"title\":\"Service Unavailable\",\"status\":503,\
\"code\":\"overloaded\",\"detail\":\"Too many connections are open. Try again.\",\"requestId\":\"\",\
\"error\":\"overloaded\",\"message\":\"Too many connections are open. Try again.\"}";

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; `[::]` takes both families.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit these.
        bound_unread(&socket)?;
        ask_after(&socket)?;
        spare_congestion_control(&socket, address.ip());
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from(socket);
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Where it is bound; the port is a real one even if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Accepts until dropped, each connection going to the worker that has the fewest.
///
/// Past as many as its `terms` say, a caller is answered 503 and closed; `refused` is told. So is a
/// client that has its share of them.
/// Cancel safe: dropping it closes the listening socket.
pub async fn accept(
    listener: Listener,
    workers: Vec<Worker>,
    shares: Shares,
    terms: impl Fn(IpAddr) -> Terms,
    refused: impl Fn(),
) -> io::Result<()> {
    let socket = tokio::net::TcpListener::from_std(listener.socket)?;
    loop {
        let accepted = socket.accept().await;
        let accepted = accepted.and_then(|(stream, remote)| Ok((stream.into_std()?, remote)));
        match accepted {
            Ok((stream, remote)) => {
                let terms = terms(remote.ip());
                let Some(place) = shares.place(remote.ip(), terms) else {
                    refused();
                    refuse(stream, terms);
                    continue;
                };
                if let Some(worker) = workers.iter().min_by_key(|worker| worker.open()) {
                    hand(worker, stream, remote, place);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                if is_exhausted(&error) {
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }
}

fn hand(worker: &Worker, stream: TcpStream, remote: SocketAddr, place: Place) {
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| worker.hand(stream, remote, place));
    if let Err(error) = prepared {
        // The caller left while it was being accepted, or we are on our way out.
        tracing::debug!(%error, "handing over a connection failed");
    }
}

#[cfg(target_os = "linux")]
fn bound_unread(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(UNREAD))
}

#[cfg(not(target_os = "linux"))]
fn bound_unread(_: &Socket) -> io::Result<()> {
    Ok(())
}

/// Answers without reading: a few bytes always fit a new socket's buffer.
pub(super) fn refuse(mut stream: TcpStream, terms: Terms) {
    if terms.over_tls {
        // It would be taken for a broken record, and agreeing on TLS is what there is no room for.
        return;
    }
    if let Err(error) = stream.write_all(TOO_MANY) {
        tracing::debug!(%error, "refusing a connection failed");
    }
}

/// Whether the process, not the caller, is why an accept failed: EMFILE, ENFILE, ENOBUFS, ENOMEM.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24 | 105 | 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_caller_that_vanishes_is_given_up() {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let _caller = TcpStream::connect(listener.address()).unwrap();
        listener.socket.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.socket.accept().unwrap();
        let accepted = socket2::SockRef::from(&accepted);
        assert!(accepted.keepalive().unwrap());
        let quiet = accepted.tcp_keepalive_time().unwrap();
        assert!(
            quiet < UNREAD,
            "{quiet:?}: nobody would be asked before that"
        );
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(UNREAD));
    }

    #[test]
    fn the_refused_caller_gets_a_well_framed_answer() {
        let text = std::str::from_utf8(TOO_MANY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["type"], "urn:gatelet:problem:overloaded");
    }
}
