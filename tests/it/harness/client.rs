//! A caller that writes exact bytes and reads what comes back.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket as Socket2, Type};

use super::tls::{self, Agreed, TlsCaller};
use super::wait::BOUND;
use super::wire::{Framing, Head, Headers, Socket, Wire, is_close, latin1, malformed};

/// One connection to the proxy or the telemetry listener.
pub(crate) struct Client {
    wire: Wire,
}

/// A connected socket, from another address of this machine.
pub(crate) fn socket_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = Socket2::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect_timeout(&address.into(), BOUND).unwrap();
    socket.into()
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Headers,
}

impl Response {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        latin1(&self.body)
    }

    /// The body as JSON; panics when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The `code` of a problem; empty where the answer is no problem.
    pub(crate) fn code(&self) -> String {
        serde_json::from_slice::<Value>(&self.body)
            .ok()
            .and_then(|json| json["code"].as_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

impl Client {
    /// Connects, within the bound.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    /// Connects from another address of this machine, such as 127.0.0.2.
    pub(crate) fn connect_from(source: [u8; 4], address: SocketAddr) -> Self {
        Self {
            wire: Wire::new(Socket::Tcp(socket_from(source, address))).unwrap(),
        }
    }

    /// The same, where nobody may be listening.
    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, BOUND)?;
        Ok(Self {
            wire: Wire::new(Socket::Tcp(socket))?,
        })
    }

    /// Connects and agrees on TLS.
    pub(crate) fn over_tls(address: SocketAddr, caller: &TlsCaller) -> Self {
        Self::try_over_tls(address, caller).unwrap()
    }

    /// The same, where the other side may not agree.
    pub(crate) fn try_over_tls(address: SocketAddr, caller: &TlsCaller) -> io::Result<Self> {
        let stream = caller.connect(address)?;
        Ok(Self {
            wire: Wire::new(Socket::Tls(Box::new(stream)))?,
        })
    }

    /// What TLS agreed upon.
    pub(crate) fn agreed(&self) -> Agreed {
        match &self.wire.socket {
            Socket::Tls(stream) => tls::agreed(&stream.conn),
            Socket::Tcp(_) | Socket::Unix(_) => panic!("there is no TLS here"),
        }
    }

    /// Waits for bytes no longer than this.
    pub(crate) fn patience(&self, timeout: Duration) {
        self.wire.socket.set_read_timeout(timeout).unwrap();
    }

    /// Writes these bytes and nothing else. A peer that has closed is no failure here: what it
    /// answered before can still be read.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        match self.try_send(bytes) {
            Ok(()) => self,
            Err(error) if is_close(&error) => self,
            Err(error) => panic!("writing: {error}"),
        }
    }

    /// Writes these bytes.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.socket.write_all(bytes.as_ref())
    }

    /// Another handle that writes to the same connection, for a thread of its own.
    pub(crate) fn writer(&self) -> impl Write + Send + 'static {
        self.wire.socket.try_clone().unwrap()
    }

    /// Reads one answer; panics when there is none.
    pub(crate) fn response(&mut self) -> Response {
        self.try_response("GET")
            .unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Reads one answer to a request of this method.
    pub(crate) fn response_to(&mut self, method: &str) -> Response {
        self.try_response(method)
            .unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Reads one final answer; a close before it is an error. Interim answers are passed over.
    pub(crate) fn try_response(&mut self, method: &str) -> io::Result<Response> {
        loop {
            let (status, headers) = self.try_head()?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let bare = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let framing = if bare {
                Framing::Length(0)
            } else {
                response_framing(&headers)?
            };
            let mut body = Vec::new();
            let trailers = self
                .wire
                .body(framing, |piece| body.extend_from_slice(piece))?;
            return Ok(Response {
                status,
                headers,
                body,
                trailers,
            });
        }
    }

    /// Reads one head, interim ones too.
    pub(crate) fn head(&mut self) -> (u16, Headers) {
        self.try_head()
            .unwrap_or_else(|error| panic!("no head: {error}"))
    }

    fn try_head(&mut self) -> io::Result<(u16, Headers)> {
        let (_, head) = self
            .wire
            .head()?
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok((status(&head)?, head.headers))
    }

    /// Reads until these bytes were seen; what came up to them is returned.
    pub(crate) fn until(&mut self, needle: &str) -> String {
        match self.wire.until(needle.as_bytes()) {
            Ok(seen) => latin1(&seen),
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads and forgets `length` body bytes.
    pub(crate) fn discard(&mut self, length: u64) -> io::Result<u64> {
        let mut seen = 0;
        self.wire
            .body(Framing::Length(length), |piece| seen += piece.len() as u64)?;
        Ok(seen)
    }

    /// Reads to the end of the connection and returns what still came. Panics when it stays open.
    pub(crate) fn rest(&mut self) -> String {
        match self.wire.rest() {
            Ok(rest) => latin1(&rest),
            Err(error) => panic!("still open: {error}"),
        }
    }

    /// Whether the peer closes within this time, saying nothing more.
    pub(crate) fn closes_within(&mut self, bound: Duration) -> bool {
        self.patience(bound);
        let closed = self.wire.rest().is_ok();
        self.patience(BOUND);
        closed
    }
}

/// A request without a body.
pub(crate) fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: api.test\r\n");
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    text
}

fn status(head: &Head) -> io::Result<u16> {
    let mut words = head.first_line.split(' ');
    let version = words.next().unwrap_or_default();
    if version != "HTTP/1.1" && version != "HTTP/1.0" {
        return Err(malformed(&format!("not an answer: {:?}", head.first_line)));
    }
    words
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| malformed("no status"))
}

fn response_framing(headers: &Headers) -> io::Result<Framing> {
    let lengths = headers.all("content-length");
    let encodings = headers.all("transfer-encoding");
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => Ok(Framing::UntilClose),
        ([length], []) => length
            .parse()
            .map(Framing::Length)
            .map_err(|_| malformed("not a length")),
        ([], ["chunked"]) => Ok(Framing::Chunked),
        _ => Err(malformed(&format!("framed in two ways: {headers:?}"))),
    }
}
