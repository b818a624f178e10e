//! HTTP/1.1 as bytes: sockets, heads, bodies. Read strictly, so that bad framing shows.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

use super::wait::BOUND;

/// A connected socket of either kind.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Socket {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
            // Its session has one state.
            Self::Tls(_) => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(how),
            Self::Unix(socket) => socket.shutdown(how),
            Self::Tls(stream) => stream.sock.shutdown(how),
        }
    }

    pub(crate) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_read_timeout(Some(timeout)),
            Self::Unix(socket) => socket.set_read_timeout(Some(timeout)),
            Self::Tls(stream) => stream.sock.set_read_timeout(Some(timeout)),
        }
    }

    pub(crate) fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_write_timeout(Some(timeout)),
            Self::Unix(socket) => socket.set_write_timeout(Some(timeout)),
            Self::Tls(stream) => stream.sock.set_write_timeout(Some(timeout)),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Unix(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Header lines in the order they came. Bytes above ASCII are the characters of the same number.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(pub(crate) Vec<(String, String)>);

impl Headers {
    /// The one line of this name; panics when there are more.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} stands there twice: {self:?}");
        all.first().copied()
    }

    /// Every line of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(held, _)| held.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Whether a line of this name is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// The names, lower case, every character but letters and digits read as `-`.
    pub(crate) fn folded_names(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(name, _)| {
                name.chars()
                    .map(|c| match c {
                        _ if c.is_ascii_alphanumeric() => c.to_ascii_lowercase(),
                        _ => '-',
                    })
                    .collect()
            })
            .collect()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(name, value)| (name, value)))
            .finish()
    }
}

/// A message's first line and its headers.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) first_line: String,
    pub(crate) headers: Headers,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// A buffered connection.
pub(crate) struct Wire {
    pub(crate) socket: Socket,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(socket: Socket) -> io::Result<Self> {
        socket.set_read_timeout(BOUND)?;
        socket.set_write_timeout(BOUND)?;
        if let Socket::Tcp(tcp) = &socket {
            tcp.set_nodelay(true)?;
        }
        Ok(Self {
            socket,
            buffer: Vec::new(),
        })
    }

    /// Reads more into the buffer; 0 at the end of the stream.
    fn fill(&mut self) -> io::Result<usize> {
        let mut block = [0; 16 * 1024];
        let read = self.socket.read(&mut block)?;
        self.buffer.extend_from_slice(&block[..read]);
        Ok(read)
    }

    /// Reads one head. `None` when the peer closed between messages.
    pub(crate) fn head(&mut self) -> io::Result<Option<(Vec<u8>, Head)>> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if self.fill()? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(malformed("closed within a head"));
            }
        };
        let raw: Vec<u8> = self.buffer.drain(..end).collect();
        let head = parse_head(&raw[..end - 2])?;
        Ok(Some((raw, head)))
    }

    /// Reads a body and hands each piece to `sink`; the trailers come back.
    pub(crate) fn body(
        &mut self,
        framing: Framing,
        mut sink: impl FnMut(&[u8]),
    ) -> io::Result<Headers> {
        match framing {
            Framing::Length(length) => self.exactly(length, &mut sink)?,
            Framing::UntilClose => loop {
                sink(&self.buffer);
                self.buffer.clear();
                if self.fill()? == 0 {
                    break;
                }
            },
            Framing::Chunked => loop {
                let line = self.line()?;
                let size = line.split(';').next().unwrap_or_default();
                let size =
                    u64::from_str_radix(size, 16).map_err(|_| malformed("not a chunk size"))?;
                if size == 0 {
                    return self.trailers();
                }
                self.exactly(size, &mut sink)?;
                if !self.line()?.is_empty() {
                    return Err(malformed("a chunk longer than it says"));
                }
            },
        }
        Ok(Headers::default())
    }

    fn trailers(&mut self) -> io::Result<Headers> {
        let mut trailers = Headers::default();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(trailers);
            }
            trailers.0.push(parse_header(&line)?);
        }
    }

    fn exactly(&mut self, mut left: u64, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        while left > 0 {
            if self.buffer.is_empty() && self.fill()? == 0 {
                return Err(malformed("closed within a body"));
            }
            let piece = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            sink(&self.buffer[..piece]);
            self.buffer.drain(..piece);
            left -= piece as u64;
        }
        Ok(())
    }

    /// Reads up to CRLF, which is dropped.
    fn line(&mut self) -> io::Result<String> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                break end;
            }
            if self.fill()? == 0 {
                return Err(malformed("closed within a line"));
            }
        };
        let line = latin1(&self.buffer[..end]);
        self.buffer.drain(..end + 2);
        Ok(line)
    }

    /// Reads until `needle` was seen and returns everything up to its end.
    pub(crate) fn until(&mut self, needle: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(start) = find(&self.buffer, needle) {
                return Ok(self.buffer.drain(..start + needle.len()).collect());
            }
            if self.fill()? == 0 {
                return Err(malformed(&format!(
                    "closed before {:?}; there was {:?}",
                    latin1(needle),
                    latin1(&self.buffer)
                )));
            }
        }
    }

    /// Reads to the end of the stream. A reset is an end like any other.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if is_close(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(std::mem::take(&mut self.buffer))
    }
}

/// Whether the peer, not the clock, ended the reading.
pub(crate) fn is_close(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
    )
}

/// Bytes as the characters of the same number.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

pub(crate) fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn parse_head(raw: &[u8]) -> io::Result<Head> {
    let text = latin1(raw);
    let mut lines = text.split_terminator("\r\n");
    let first_line = lines.next().unwrap_or_default().to_owned();
    let mut headers = Headers::default();
    for line in lines {
        headers.0.push(parse_header(line)?);
    }
    Ok(Head {
        first_line,
        headers,
    })
}

fn parse_header(line: &str) -> io::Result<(String, String)> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| malformed(&format!("not a header line: {line:?}")))?;
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(token) {
        return Err(malformed(&format!("not a header name: {name:?}")));
    }
    if value.contains(['\r', '\n', '\0']) {
        return Err(malformed(&format!("a line within a value: {value:?}")));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}
