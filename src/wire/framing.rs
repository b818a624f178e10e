//! Where a body ends and what it is made of (RFC 9112 §6.3, §7.1).

use std::fmt;

use bytes::{Buf, Bytes};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use httparse::Status;

/// The most lines that a trailer section may have.
const MOST_LINES: usize = 128;

/// The most bytes of a trailer section.
const LONGEST_TRAILERS: usize = 16 * 1024;

/// The most bytes of a chunk's size and extensions.
const LONGEST_CHUNK_SIZE: usize = 1024;

/// What a body is not: why it cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// Where a body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many more bytes.
    Length(u64),
    /// With its last chunk.
    Chunked(Chunk),
    /// Where the connection is closed.
    Close,
}

/// Where in a chunked body the next byte belongs (RFC 9112 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
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
pub enum Piece {
    /// Some of its content.
    Data(Bytes),
    /// Its trailer section.
    Trailers(HeaderMap),
}

impl Framing {
    /// Nothing of the body is still to come.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Over))
    }

    /// How long the body still is, where that is known.
    pub fn length(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            Self::Chunked(Chunk::Over) => Some(0),
            Self::Chunked(_) | Self::Close => None,
        }
    }

    /// Takes the next piece out of `bytes`; `None` when more has to be read, or the body is over.
    pub fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Piece>, Malformed> {
        match self {
            Self::Length(left) => Ok(data(left, bytes)),
            Self::Close => Ok((!bytes.is_empty()).then(|| Piece::Data(std::mem::take(bytes)))),
            Self::Chunked(chunk) => chunk.take(bytes),
        }
    }
}

impl Chunk {
    fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Piece>, Malformed> {
        loop {
            match self {
                // Nothing is no number, whatever comes behind it.
                Self::Size if bytes.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) => {
                    return Err(Malformed("a malformed chunk size"));
                }
                Self::Size => match httparse::parse_chunk_size(bytes) {
                    // However much of it has come at once.
                    Ok(Status::Complete((length, _)))
                        if length > LONGEST_CHUNK_SIZE || !are_lines(&bytes[..length]) =>
                    {
                        return Err(Malformed("a malformed chunk size"));
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
                    _ => return Err(Malformed("a malformed chunk size")),
                },
                Self::Data(0) => *self = Self::End,
                Self::Data(left) => return Ok(data(left, bytes)),
                Self::End => match bytes.get(..2) {
                    Some(b"\r\n") => {
                        bytes.advance(2);
                        *self = Self::Size;
                    }
                    None if bytes.first().is_none_or(|byte| *byte == b'\r') => return Ok(None),
                    _ => return Err(Malformed("a malformed chunk")),
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

/// Whether lines end in CR and LF alone, and neither stands anywhere else: others may see another end
/// (RFC 9112 §2.2).
fn are_lines(bytes: &[u8]) -> bool {
    let mut before = 0;
    for byte in bytes {
        if (*byte == b'\n') != (before == b'\r') {
            return false;
        }
        before = *byte;
    }
    before != b'\r'
}

fn trailers(bytes: &[u8]) -> Result<Option<(HeaderMap, usize)>, Malformed> {
    const MALFORMED: Malformed = Malformed("malformed trailers");
    if bytes.starts_with(b"\r\n") {
        return Ok(Some((HeaderMap::new(), 2)));
    }
    let mut lines = [httparse::EMPTY_HEADER; MOST_LINES];
    match httparse::parse_headers(bytes, &mut lines) {
        Ok(Status::Complete((length, lines)))
            if length <= LONGEST_TRAILERS && are_lines(&bytes[..length]) =>
        {
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

    /// What is read of a body that arrives in pieces of `step` bytes, and what is left over.
    fn read(
        mut framing: Framing,
        wire: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, HeaderMap, bool, usize), Malformed> {
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
            "\r\n",
            ";x\r\n",
            " \r\n",
            "5;\nx\r\n",
            "5;a\rb\r\n",
            "0\r\na: b\n\r\n",
            "0\r\na: b\r\n\n",
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
