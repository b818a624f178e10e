//! HTTP/2 callers: hyper's for what is well formed, bare frames for what is not.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::tls::TlsCaller;
use super::wait::BOUND;

/// The body of requests sent here.
pub(crate) type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct H2Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// One well-behaved cleartext HTTP/2 connection.
pub(crate) struct H2 {
    runtime: Runtime,
    sender: SendRequest<Body>,
}

impl H2 {
    /// Connects with prior knowledge.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let sender = runtime.block_on(async {
            let socket = tokio::net::TcpStream::connect(address).await.unwrap();
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
                .await
                .unwrap();
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender }
    }

    /// Connects over TLS, on which HTTP/2 is agreed upon.
    pub(crate) fn over_tls(address: SocketAddr, caller: &TlsCaller) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let sender = runtime.block_on(async {
            let socket = tokio::net::TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("api.test").unwrap();
            let connector = TlsConnector::from(caller.config());
            let stream = connector.connect(name, socket).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender }
    }

    /// Sends a request without a body.
    pub(crate) fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> H2Response {
        let mut request = Request::get(format!("http://api.test{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(empty()).unwrap())
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn send(&mut self, request: Request<Body>) -> H2Response {
        self.try_send(request).unwrap()
    }

    /// Sends a request; a stream or connection error comes back.
    pub(crate) fn try_send(&mut self, request: Request<Body>) -> Result<H2Response, hyper::Error> {
        let sender = &mut self.sender;
        self.runtime.block_on(async {
            let work = async {
                sender.ready().await?;
                let response = sender.send_request(request).await?;
                let (parts, body) = response.into_parts();
                let body = body.collect().await?;
                Ok(H2Response {
                    status: parts.status.as_u16(),
                    headers: parts.headers,
                    trailers: body.trailers().cloned(),
                    body: body.to_bytes(),
                })
            };
            tokio::time::timeout(BOUND, work)
                .await
                .expect("an answer within the bound")
        })
    }

    /// Runs `work` with the sender, on this connection's own runtime.
    pub(crate) fn with<T>(&mut self, work: impl AsyncFnOnce(&mut SendRequest<Body>) -> T) -> T {
        let sender = &mut self.sender;
        self.runtime.block_on(async {
            tokio::time::timeout(BOUND, work(sender))
                .await
                .expect("done within the bound")
        })
    }
}

/// No body.
pub(crate) fn empty() -> Body {
    Full::new(Bytes::new()).boxed()
}

/// A body with trailers.
pub(crate) fn with_trailers(body: &'static str, trailers: HeaderMap) -> Body {
    Full::new(Bytes::from_static(body.as_bytes()))
        .with_trailers(std::future::ready(Some(Ok(trailers))))
        .boxed()
}

/// What bare frames were answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawAnswer {
    /// A response head with this status.
    Status(u16),
    /// The stream was reset.
    Reset,
    /// The connection was ended.
    Closed,
}

impl RawAnswer {
    /// Whether the request was turned away, in whatever manner.
    pub(crate) fn is_refusal(self) -> bool {
        !matches!(self, Self::Status(status) if status < 400)
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection that writes whatever frames it is told to.
pub(crate) struct Frames {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Frames {
    /// Connects and sends the preface with empty settings.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::greet(TcpStream::connect_timeout(&address, BOUND).unwrap(), b"")
    }

    /// The same from a socket of the caller's, after these bytes.
    pub(crate) fn greet(socket: TcpStream, before: &[u8]) -> Self {
        socket.set_read_timeout(Some(BOUND)).unwrap();
        socket.set_write_timeout(Some(BOUND)).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut frames = Self {
            socket,
            buffer: Vec::new(),
        };
        let _ = frames.socket.write_all(before);
        let _ = frames.socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let _ = frames.frame(SETTINGS, 0, 0, &[]);
        frames
    }

    /// The same connection, to read from while another thread writes.
    pub(crate) fn reader(&self) -> Self {
        Self {
            socket: self.socket.try_clone().unwrap(),
            buffer: Vec::new(),
        }
    }

    /// Writes these bytes, whatever they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Writes one frame.
    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.socket.write_all(&frame(kind, flags, stream, payload))
    }

    /// Opens a stream with these header fields, written out without compression.
    pub(crate) fn headers(
        &mut self,
        stream: u32,
        fields: &[(&str, &str)],
        last: bool,
    ) -> io::Result<()> {
        let flags = END_HEADERS | if last { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, stream, &block(fields))
    }

    /// Opens a stream and leaves its header block unfinished.
    pub(crate) fn unfinished_headers(
        &mut self,
        stream: u32,
        fields: &[(&str, &str)],
    ) -> io::Result<()> {
        self.frame(HEADERS, END_STREAM, stream, &block(fields))
    }

    /// Goes on with a header block, never finishing it.
    pub(crate) fn continuation(&mut self, stream: u32, fields: &[(&str, &str)]) -> io::Result<()> {
        self.frame(CONTINUATION, 0, stream, &block(fields))
    }

    /// Sends body bytes.
    pub(crate) fn data(&mut self, stream: u32, bytes: &[u8], last: bool) -> io::Result<()> {
        self.frame(DATA, if last { END_STREAM } else { 0 }, stream, bytes)
    }

    /// Cancels a stream.
    pub(crate) fn reset(&mut self, stream: u32) -> io::Result<()> {
        self.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
    }

    /// Reads until this stream is answered or the connection ends.
    pub(crate) fn answer(&mut self, stream: u32) -> RawAnswer {
        loop {
            let Some((kind, flags, of, payload)) = self.read_frame() else {
                return RawAnswer::Closed;
            };
            match kind {
                SETTINGS if flags & ACK == 0 => {
                    let _ = self.frame(SETTINGS, ACK, 0, &[]);
                }
                PING if flags & ACK == 0 => {
                    let _ = self.frame(PING, ACK, 0, &payload);
                }
                GOAWAY if u32::from_be_bytes(payload[..4].try_into().unwrap()) < stream => {
                    return RawAnswer::Closed;
                }
                RST_STREAM if of == stream => return RawAnswer::Reset,
                HEADERS if of == stream => return RawAnswer::Status(first_status(&payload)),
                _ => {}
            }
        }
    }

    /// Reads one frame: kind, flags, stream, payload; `None` at the end of the connection.
    pub(crate) fn read_frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        self.buffer_at_least(9)?;
        let length = usize::from(self.buffer[0]) << 16
            | usize::from(self.buffer[1]) << 8
            | usize::from(self.buffer[2]);
        self.buffer_at_least(9 + length)?;
        let frame: Vec<u8> = self.buffer.drain(..9 + length).collect();
        let stream = u32::from_be_bytes(frame[5..9].try_into().unwrap()) & 0x7fff_ffff;
        Some((frame[3], frame[4], stream, frame[9..].to_vec()))
    }

    /// `None` at the end of the connection; panics when it only falls silent.
    fn buffer_at_least(&mut self, length: usize) -> Option<()> {
        let mut block = [0; 4096];
        while self.buffer.len() < length {
            match self.socket.read(&mut block) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&block[..read]),
                Err(error) if super::wire::is_close(&error) => return None,
                Err(error) => panic!("no frame: {error}"),
            }
        }
        Some(())
    }
}

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block of literals without indexing and without Huffman codes (RFC 7541 §6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length(text.len(), &mut bytes);
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

/// An integer with a 7-bit prefix (RFC 7541 §5.1).
fn length(mut value: usize, bytes: &mut Vec<u8>) {
    if value < 127 {
        bytes.push(u8::try_from(value).unwrap());
        return;
    }
    bytes.push(127);
    value -= 127;
    while value >= 128 {
        bytes.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap());
}

/// The status at the start of the first header block of a connection: an entry of the static table,
/// or a literal of three digits, Huffman coded or not.
fn first_status(payload: &[u8]) -> u16 {
    match payload[0] {
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        0x48 | 0x08 => {
            let coded = payload[1] & 0x80 != 0;
            let value = &payload[2..2 + usize::from(payload[1] & 0x7f)];
            if coded {
                huffman_digits(value)
            } else {
                std::str::from_utf8(value).unwrap().parse().unwrap()
            }
        }
        other => panic!("a header block that begins {other:#x}"),
    }
}

/// Three digits in HPACK's Huffman code (RFC 7541, appendix B): five bits for 0 to 2, six for the rest.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1))
        .collect();
    let take = |from: usize, count: usize| {
        bits[from..from + count]
            .iter()
            .fold(0_u16, |value, bit| value << 1 | u16::from(*bit))
    };
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let short = take(at, 5);
        let digit = if short < 3 {
            at += 5;
            short
        } else {
            at += 6;
            take(at - 6, 6) - 0b01_1001 + 3
        };
        status = status * 10 + digit;
    }
    status
}
