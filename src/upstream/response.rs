//! An upstream's answer as it comes over HTTP/1.1 (RFC 9112): its head, and how its body is framed.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderName};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use crate::rules::fields::{Fields, number};
use crate::wire::framing::{Chunk, Framing, Malformed};
use crate::wire::message::Response;
use crate::wire::{names, plain, scratch};

/// The most lines that an answer's head may have.
const MOST_LINES: usize = 128;

/// For how many lines there is room at first.
const USUAL_LINES: usize = 16;

/// Room for what gatelet adds to a head.
const ADDED: usize = 1;

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

impl From<Malformed> for Broken {
    fn from(malformed: Malformed) -> Self {
        Self::Protocol(malformed.0)
    }
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

/// The first whole head in `bytes` and its length; `None` while there is none.
///
/// Interim answers are skipped (RFC 9110 §15.2), and count as part of what follows them.
/// `to_head` says that a HEAD is answered, which has no body whatever its answer announces.
pub(super) fn parse(bytes: &Bytes, to_head: bool) -> Result<Option<(Head, usize)>, Broken> {
    match plain_head(bytes, to_head) {
        Some(read) => Ok(Some(read)),
        None => any_head(bytes, to_head),
    }
}

/// As [`parse`], where the head is a plain one of a final answer, and nothing is wrong with it.
fn plain_head(bytes: &Bytes, to_head: bool) -> Option<(Head, usize)> {
    let (code, reason, lines) = plain::status(bytes)?;
    let status = StatusCode::from_bytes(&code).ok()?;
    if status.is_informational() || status.canonical_reason()?.as_bytes() != reason {
        return None;
    }
    let mut fields = scratch::fields(bytes.clone(), USUAL_LINES);
    let mut hop = Hop::default();
    let read = plain::lines(bytes, lines, |name, begins, value| {
        let is_for_gatelet = hop.takes(&name, &bytes[value.clone()]);
        if matches!(is_for_gatelet, Ok(false)) {
            fields.append_plain(name, begins, value);
        }
        is_for_gatelet.is_ok()
    });
    let Some(length) = read else {
        scratch::give_fields_back(fields);
        return None;
    };
    let head = head(status, None, true, &hop, fields, to_head).ok()?;
    Some((head, length))
}

/// As [`parse`], whatever the head is.
#[cold]
fn any_head(bytes: &Bytes, to_head: bool) -> Result<Option<(Head, usize)>, Broken> {
    let mut begins = 0;
    loop {
        // Not filled beforehand: that would take longer than most heads.
        let mut lines = [const { MaybeUninit::uninit() }; MOST_LINES];
        let mut parsed = httparse::Response::new(&mut []);
        let config = ParserConfig::default();
        let read = &bytes[begins..];
        let length = match config.parse_response_with_uninit_headers(&mut parsed, read, &mut lines)
        {
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
            let head = parsed_head(bytes, &parsed, status, to_head)?;
            return Ok(Some((head, begins)));
        }
    }
}

fn parsed_head(
    bytes: &Bytes,
    parsed: &httparse::Response<'_, '_>,
    status: StatusCode,
    to_head: bool,
) -> Result<Head, Broken> {
    let reason = parsed
        .reason
        .filter(|reason| Some(*reason) != status.canonical_reason())
        .and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let mut fields = scratch::fields(bytes.clone(), parsed.headers.len() + ADDED);
    let mut hop = Hop::default();
    for line in &*parsed.headers {
        let name = names::name(line.name.as_bytes())
            .map_err(|_| Broken::Protocol("the answer has a malformed field name"))?;
        if hop.takes(&name, line.value)? {
            continue;
        }
        // The library has seen to it that a value is one.
        let begins = line.value.as_ptr() as usize - bytes.as_ptr() as usize;
        fields.append_read(name, begins..begins + line.value.len());
    }
    let is_11 = parsed.version == Some(1);
    head(status, reason, is_11, &hop, fields, to_head)
}

/// The head of these lines, which say what `hop` tells.
fn head(
    status: StatusCode,
    reason: Option<ReasonPhrase>,
    is_11: bool,
    hop: &Hop,
    mut fields: Fields,
    to_head: bool,
) -> Result<Head, Broken> {
    if hop.chunked && !is_11 {
        return Err(Broken::Protocol("the answer is chunked in HTTP/1.0"));
    }
    if hop.chunked {
        // It means nothing beside the chunks, and would frame what goes out (RFC 9112 §6.3).
        fields.remove(&header::CONTENT_LENGTH);
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
        response: Response {
            status,
            reason,
            fields,
            body: (),
        },
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
            let said = number(value);
            let said = said.ok_or(Broken::Protocol("the answer's length is not a number"))?;
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
            if value == b"keep-alive" {
                self.keep_alive = true;
                return Ok(true);
            }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_plain_head_is_what_the_library_reads(
            first in "HTTP/1.[01] ((200|204|304|404|101|100|799|2)( OK| Not Found| No Content| |)[ -~]?)",
            lines in proptest::collection::vec(
                prop_oneof![
                    "(Date|Server|Connection|Upgrade|[!-~]{1,4}): [ -~]{0,9}",
                    "(Content-Length|content-length): (5|6|,| )",
                    "Transfer-Encoding: (chunked|gzip)",
                    "Connection: (close|Keep-Alive|x, close)",
                ],
                0..5,
            ),
            end in prop_oneof![Just("\r\n"), Just("\n")],
            to_head in any::<bool>(),
        ) {
            let lines = lines.iter().map(|line| format!("{line}\r\n"));
            let text = format!("{first}\r\n{}{end}rest", lines.collect::<String>());
            let bytes = Bytes::from(text);
            if let Some((head, length)) = plain_head(&bytes, to_head) {
                let (other, other_length) = any_head(&bytes, to_head).unwrap().unwrap();
                prop_assert_eq!(format!("{head:?}"), format!("{other:?}"));
                prop_assert_eq!(length, other_length);
            }
        }
    }

    #[test]
    fn an_ordinary_head_is_plain() {
        let text = "HTTP/1.1 404 Not Found\r\nServer: x y\r\nContent-Length: 5\r\n\r\n";
        assert!(plain_head(&Bytes::from(text), false).is_some());
    }

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
        assert_eq!(
            head.response.fields.get(&header::CONTENT_LENGTH),
            Some(&b"5"[..])
        );
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
        let fields = head.response.fields;
        let lines: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        assert_eq!(lines, [("a", &b"b"[..]), ("a", b"c")]);
        let reason = head.response.reason.unwrap();
        assert_eq!(reason.as_bytes(), b"Fine");
        // What else it names is for the scrub to drop.
        let head = parsed("HTTP/1.1 200 OK\r\nConnection: x-hop\r\nContent-Length: 0\r\n\r\n");
        let connection = head.response.fields.get(&header::CONNECTION);
        assert_eq!(connection, Some(&b"x-hop"[..]));
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
        assert_eq!(head.response.status, 200);
        assert!(head.response.fields.is_empty());
    }
}
