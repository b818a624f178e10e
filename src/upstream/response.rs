//! An upstream's answer as it comes over HTTP/1.1 (RFC 9112): its head, and how its body is framed.

use std::fmt;
use std::io;

use bytes::{Buf, Bytes};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use httparse::Status;
use hyper::ext::ReasonPhrase;

/// The most lines that an answer's head, or its trailer section, may have.
const MOST_LINES: usize = 128;

/// Room for what gatelet adds to a head.
const ADDED: usize = 3;

/// The most bytes of a trailer section.
const LONGEST_TRAILERS: usize = 16 * 1024;

/// The most bytes of a chunk's size and extensions.
const LONGEST_CHUNK_SIZE: usize = 1024;

/// Why an upstream's connection is of no more use.
#[derive(Debug)]
pub enum Broken {
    /// The socket failed.
    Io(io::Error),
    /// The upstream closed before it had said everything.
    Closed,
    /// The request's body was cut off.
    Body,
    /// What came was not HTTP.
    Protocol(&'static str),
    /// A stream of HTTP/2 failed, or the connection that it was on.
    Stream(hyper::Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io(_) => "the connection failed",
            Self::Closed => "the connection was closed too early",
            Self::Body => "the request's body was cut off",
            Self::Protocol(what) => what,
            Self::Stream(_) => "the stream failed",
        })
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Stream(error) => Some(error),
            Self::Closed | Self::Body | Self::Protocol(_) => None,
        }
    }
}

/// An answer's head, and what it says of what follows.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// The connection can carry another request once the answer is over.
    pub(super) persists: bool,
}

/// Where an answer's body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many more bytes.
    Length(u64),
    /// With its last chunk.
    Chunked(Chunk),
    /// Where the connection is closed.
    Close,
}

/// Where in a chunked body the next byte belongs (RFC 9112 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// To a chunk's size.
    Size,
    /// To a chunk, of which so many bytes are left.
    Data(u64),
    /// To the line end after a chunk.
    End,
    /// To the trailer section.
    Trailers,
    /// To the next answer.
    Over,
}

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Some of its content.
    Data(Bytes),
    /// Its trailer section.
    Trailers(HeaderMap),
}

/// The first whole head in `bytes` and its length; `None` while there is none.
///
/// Interim answers are skipped (RFC 9110 §15.2), and count as part of what follows them.
/// `to_head` says that a HEAD is answered, which has no body whatever its answer announces.
pub(super) fn parse(bytes: &Bytes, to_head: bool) -> Result<Option<(Head, usize)>, Broken> {
    let mut begins = 0;
    loop {
        let mut lines = [httparse::EMPTY_HEADER; MOST_LINES];
        let mut parsed = httparse::Response::new(&mut lines);
        let length = match parsed.parse(&bytes[begins..]) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Broken::Protocol("the answer's head has too many lines"));
            }
            Err(_) => return Err(Broken::Protocol("the answer's head is malformed")),
        };
        begins += length;
        let Some(Ok(status)) = parsed.code.map(StatusCode::from_u16) else {
            return Err(Broken::Protocol("the answer has no status"));
        };
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            let head = head(bytes, &parsed, status, to_head)?;
            return Ok(Some((head, begins)));
        }
    }
}

fn head(
    bytes: &Bytes,
    parsed: &httparse::Response<'_, '_>,
    status: StatusCode,
    to_head: bool,
) -> Result<Head, Broken> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    if let Some(reason) = parsed.reason
        && Some(reason) != status.canonical_reason()
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        response.extensions_mut().insert(reason);
    }
    let headers = response.headers_mut();
    headers.reserve(parsed.headers.len() + ADDED);
    let mut hop = Hop::default();
    for line in &*parsed.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| Broken::Protocol("the answer has a malformed field name"))?;
        if hop.takes(&name, line.value)? {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value))
            .map_err(|_| Broken::Protocol("the answer has a malformed field value"))?;
        headers.append(name, value);
    }
    let is_11 = parsed.version == Some(1);
    if hop.chunked && !is_11 {
        return Err(Broken::Protocol("the answer is chunked in HTTP/1.0"));
    }
    if hop.chunked {
        // It means nothing beside the chunks, and would frame what goes out (RFC 9112 §6.3).
        headers.remove(header::CONTENT_LENGTH);
    }
    let without_body = to_head
        || matches!(
            status,
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    let framing = match hop.length {
        _ if without_body => Framing::Length(0),
        _ if hop.chunked => Framing::Chunked(Chunk::Size),
        Some(length) => Framing::Length(length),
        None => Framing::Close,
    };
    let persists = (is_11 || hop.keep_alive)
        && !hop.close
        && framing != Framing::Close
        && status != StatusCode::SWITCHING_PROTOCOLS;
    Ok(Head {
        response,
        framing,
        persists,
    })
}

/// What a head says to gatelet itself.
#[derive(Default)]
struct Hop {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl Hop {
    /// Reads a line; true if there is nothing in it for the caller.
    fn takes(&mut self, name: &HeaderName, value: &[u8]) -> Result<bool, Broken> {
        if *name == header::CONTENT_LENGTH {
            let said = length(value)?;
            let said_before = self.length.replace(said);
            if said_before.is_some_and(|before| before != said) {
                return Err(Broken::Protocol("the answer has two lengths"));
            }
            // One line is enough of the same.
            return Ok(said_before.is_some());
        }
        if *name == header::TRANSFER_ENCODING {
            // No other coding was asked for, and its name would be lost with this line.
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Broken::Protocol("the answer's transfer coding is unknown"));
            }
            self.chunked = true;
            return Ok(true);
        }
        if *name == header::CONNECTION {
            let mut alone = true;
            for option in value.split(|byte| *byte == b',') {
                let option = option.trim_ascii();
                if option.eq_ignore_ascii_case(b"close") {
                    self.close = true;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    self.keep_alive = true;
                } else {
                    alone = false;
                }
            }
            return Ok(alone);
        }
        Ok(false)
    }
}

/// RFC 9110 §8.6: digits alone.
fn length(value: &[u8]) -> Result<u64, Broken> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or(Broken::Protocol("the answer's length is not a number"))
}

impl Framing {
    /// Nothing of the body is still to come.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Over))
    }

    /// How long the body still is, where that is known.
    pub(super) fn length(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            Self::Chunked(Chunk::Over) => Some(0),
            Self::Chunked(_) | Self::Close => None,
        }
    }

    /// Takes the next piece out of `bytes`; `None` when more has to be read, or the body is over.
    pub(super) fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Piece>, Broken> {
        match self {
            Self::Length(left) => Ok(data(left, bytes)),
            Self::Close => Ok((!bytes.is_empty()).then(|| Piece::Data(std::mem::take(bytes)))),
            Self::Chunked(chunk) => chunk.take(bytes),
        }
    }
}

impl Chunk {
    fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Piece>, Broken> {
        loop {
            match self {
                Self::Size => match httparse::parse_chunk_size(bytes) {
                    // However much of it has come at once.
                    Ok(Status::Complete((length, _))) if length > LONGEST_CHUNK_SIZE => {
                        return Err(Broken::Protocol("the answer has a malformed chunk size"));
                    }
                    Ok(Status::Complete((length, 0))) => {
                        bytes.advance(length);
                        *self = Self::Trailers;
                    }
                    Ok(Status::Complete((length, size))) => {
                        bytes.advance(length);
                        *self = Self::Data(size);
                    }
                    Ok(Status::Partial) if bytes.len() < LONGEST_CHUNK_SIZE => return Ok(None),
                    _ => return Err(Broken::Protocol("the answer has a malformed chunk size")),
                },
                Self::Data(0) => *self = Self::End,
                Self::Data(left) => return Ok(data(left, bytes)),
                Self::End => match bytes.get(..2) {
                    Some(b"\r\n") => {
                        bytes.advance(2);
                        *self = Self::Size;
                    }
                    None if bytes.first().is_none_or(|byte| *byte == b'\r') => return Ok(None),
                    _ => return Err(Broken::Protocol("the answer has a malformed chunk")),
                },
                Self::Trailers => {
                    let Some((trailers, length)) = trailers(bytes)? else {
                        return Ok(None);
                    };
                    bytes.advance(length);
                    *self = Self::Over;
                    return Ok((!trailers.is_empty()).then_some(Piece::Trailers(trailers)));
                }
                Self::Over => return Ok(None),
            }
        }
    }
}

fn data(left: &mut u64, bytes: &mut Bytes) -> Option<Piece> {
    let length = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    if length == 0 {
        return None;
    }
    *left -= length as u64;
    Some(Piece::Data(bytes.split_to(length)))
}

fn trailers(bytes: &[u8]) -> Result<Option<(HeaderMap, usize)>, Broken> {
    const MALFORMED: Broken = Broken::Protocol("the answer has malformed trailers");
    if bytes.starts_with(b"\r\n") {
        return Ok(Some((HeaderMap::new(), 2)));
    }
    let mut lines = [httparse::EMPTY_HEADER; MOST_LINES];
    match httparse::parse_headers(bytes, &mut lines) {
        Ok(Status::Complete((length, lines))) if length <= LONGEST_TRAILERS => {
            let mut trailers = HeaderMap::with_capacity(lines.len());
            for line in lines {
                let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| MALFORMED)?;
                let value = HeaderValue::from_bytes(line.value).map_err(|_| MALFORMED)?;
                trailers.append(name, value);
            }
            Ok(Some((trailers, length)))
        }
        Ok(Status::Partial) if bytes.len() < LONGEST_TRAILERS => Ok(None),
        _ => Err(MALFORMED),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Head {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let (head, length) = parse(&bytes, false).unwrap().unwrap();
        assert_eq!(length, text.len());
        head
    }

    fn refused(text: &str) -> bool {
        parse(&Bytes::copy_from_slice(text.as_bytes()), false).is_err()
    }

    #[test]
    fn the_head_says_where_the_body_ends() {
        for (lines, framing, persists) in [
            ("1.1 200 OK\r\nContent-Length: 5", Framing::Length(5), true),
            (
                "1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5",
                Framing::Length(5),
                true,
            ),
            (
                "1.1 200 OK\r\nTransfer-Encoding: Chunked",
                Framing::Chunked(Chunk::Size),
                true,
            ),
            (
                "1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
                Framing::Chunked(Chunk::Size),
                true,
            ),
            ("1.1 200 OK\r\nServer: x", Framing::Close, false),
            ("1.1 204 No Content\r\nServer: x", Framing::Length(0), true),
            (
                "1.1 304 Not Modified\r\nContent-Length: 5",
                Framing::Length(0),
                true,
            ),
            (
                "1.1 101 Switching Protocols\r\nUpgrade: websocket",
                Framing::Length(0),
                false,
            ),
            (
                "1.1 200 OK\r\nContent-Length: 5\r\nConnection: close",
                Framing::Length(5),
                false,
            ),
            (
                "1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, CLOSE\r\nConnection: keep-alive",
                Framing::Length(5),
                false,
            ),
            ("1.0 200 OK\r\nContent-Length: 5", Framing::Length(5), false),
            (
                "1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive",
                Framing::Length(5),
                true,
            ),
        ] {
            let head = parsed(&format!("HTTP/{lines}\r\n\r\n"));
            assert_eq!(
                (head.framing, head.persists),
                (framing, persists),
                "{lines}"
            );
        }
        let bytes = Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let (head, _) = parse(&bytes, true).unwrap().unwrap();
        assert_eq!(head.framing, Framing::Length(0), "to a HEAD");
        assert_eq!(head.response.headers()["content-length"], "5");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for lines in [
            "1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
            "1.1 200 OK\r\nContent-Length: 5, 5",
            "1.1 200 OK\r\nContent-Length: +5",
            "1.1 200 OK\r\nContent-Length:",
            "1.1 200 OK\r\nContent-Length: 99999999999999999999",
            "1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
            "1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "1.0 200 OK\r\nTransfer-Encoding: chunked",
            "1.1 200 OK\r\nContent-Length : 5",
            "1.1 200 OK\r\nA: b\r\n c",
            "2.0 200 OK",
            "1.1 20 OK",
        ] {
            assert!(refused(&format!("HTTP/{lines}\r\n\r\n")), "{lines}");
        }
        assert!(refused("SSH-2.0-OpenSSH_9.2\r\n"));
        let many = "a: b\r\n".repeat(MOST_LINES + 1);
        assert!(refused(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")));
    }

    #[test]
    fn what_is_said_to_the_next_hop_alone_stays_here() {
        let head = parsed(
            "HTTP/1.1 299 Fine\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nA: b\r\na: c\r\n\r\n",
        );
        let headers = head.response.headers();
        let lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(lines, [("a", "b"), ("a", "c")]);
        let reason = head.response.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(reason.as_bytes(), b"Fine");
        // What else it names is for the scrub to drop.
        let head = parsed("HTTP/1.1 200 OK\r\nConnection: x-hop\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(head.response.headers()["connection"], "x-hop");
    }

    #[test]
    fn interim_answers_are_skipped() {
        let bytes = Bytes::from_static(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
        );
        assert!(parse(&bytes, false).unwrap().is_none());
        let head = parsed(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        );
        assert_eq!(head.response.status(), 200);
        assert!(head.response.headers().is_empty());
    }

    /// What is read of a body that arrives in pieces of `step` bytes, and what is left over.
    fn read(
        mut framing: Framing,
        wire: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, HeaderMap, bool, usize), Broken> {
        let mut bytes = Bytes::new();
        let (mut content, mut trailers) = (Vec::new(), HeaderMap::new());
        let mut arriving = wire.chunks(step);
        loop {
            while let Some(piece) = framing.take(&mut bytes)? {
                match piece {
                    Piece::Data(data) => content.extend_from_slice(&data),
                    Piece::Trailers(lines) => trailers = lines,
                }
            }
            match arriving.next() {
                Some(next) if !framing.is_over() => bytes = [&bytes, next].concat().into(),
                _ => return Ok((content, trailers, framing.is_over(), bytes.len())),
            }
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for wire in [
            "x\r\n",
            "5\nhello\r\n",
            "5\r\nhello!!",
            "5\r\nhello\n",
            "ffffffffffffffffff\r\n",
            "-1\r\n",
            "0\r\na\r\n\r\n",
        ] {
            assert!(
                read(Framing::Chunked(Chunk::Size), wire.as_bytes(), 1).is_err(),
                "{wire:?}"
            );
        }
        let extended = format!("5;{}", "x".repeat(LONGEST_CHUNK_SIZE));
        assert!(read(Framing::Chunked(Chunk::Size), extended.as_bytes(), 1).is_err());
        let endless = format!("0\r\na: {}", "x".repeat(LONGEST_TRAILERS));
        assert!(read(Framing::Chunked(Chunk::Size), endless.as_bytes(), 100).is_err());
    }

    #[test]
    fn the_bounds_hold_however_much_comes_at_once() {
        let extended =
            |length: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(length - 4));
        let trailing = |length: usize| format!("0\r\na: {}\r\n\r\n", "x".repeat(length - 7));
        for step in [64, usize::MAX] {
            let is_over = |wire: String| {
                read(Framing::Chunked(Chunk::Size), wire.as_bytes(), step).map(|read| read.2)
            };
            assert!(is_over(extended(LONGEST_CHUNK_SIZE)).unwrap());
            assert!(is_over(extended(LONGEST_CHUNK_SIZE + 1)).is_err());
            assert!(is_over(trailing(LONGEST_TRAILERS)).unwrap());
            assert!(is_over(trailing(LONGEST_TRAILERS + 1)).is_err());
        }
    }

    #[test]
    fn trailers_follow_the_last_chunk() {
        for step in 1..40 {
            let wire = b"5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n";
            let (content, trailers, over, left) =
                read(Framing::Chunked(Chunk::Size), wire, step).unwrap();
            assert_eq!((&content[..], over, left), (&b"hello"[..], true, 0));
            assert_eq!(trailers.get_all("x-sum").iter().count(), 2);
        }
    }

    proptest! {
        #[test]
        fn a_body_is_read_as_it_was_sent_however_it_arrives(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            step in 1_usize..50,
        ) {
            let content = chunks.concat();
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let read_back = read(Framing::Chunked(Chunk::Size), &wire, step).unwrap();
            prop_assert_eq!(&read_back.0, &content);
            prop_assert!(read_back.2);

            let framing = Framing::Length(content.len() as u64);
            let read_back = read(framing, &content, step).unwrap();
            prop_assert_eq!(&read_back.0, &content);
            prop_assert!(read_back.2);
        }
    }
}
