//! A request's head as it comes over HTTP/1.1 (RFC 9112).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{Extensions, Method, Uri, Version};
use httparse::{ParserConfig, Status};

use crate::rules::fields::{Fields, number};
use crate::wire::framing::{Chunk, Framing};
use crate::wire::message::Request;
use crate::wire::{names, plain, scratch};

/// The most lines that a head may have.
const MOST_LINES: usize = 100;

/// For how many lines there is room at first.
const USUAL_LINES: usize = 16;

/// The longest target.
const LONGEST_TARGET: usize = 65_534;

/// A request's head, and what it says to this hop.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of its own, beside any of the others"
)]
pub(super) struct Head {
    pub(super) request: Box<Request>,
    /// Where its body ends.
    pub(super) framing: Framing,
    /// Its caller may send another request on the connection.
    pub(super) persists: bool,
    /// Its caller waits to be told to go on (RFC 9110 §10.1.1).
    pub(super) expects: bool,
    /// It sends its body without waiting for anything, whoever reads what it expects.
    pub(super) promises: bool,
    /// It takes trailers.
    pub(super) trailers: bool,
    /// It asks for another protocol.
    pub(super) upgrades: bool,
}

/// Why there is no request in what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// It is not HTTP, or it could be read in more than one way.
    Malformed,
    /// Its head is too large.
    TooLarge,
    /// Its target is too long.
    TargetTooLong,
}

/// Reads the head that `bytes` begin with, and says how long it is; `None` while it is not whole.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Bad> {
    match plain_head(bytes) {
        Some(read) => Ok(Some(read)),
        None => any_head(bytes),
    }
}

/// As [`parse`], where the head is a plain one, and nothing is wrong with it.
fn plain_head(bytes: &[u8]) -> Option<(Head, usize)> {
    let method = bytes.iter().position(|byte| *byte == b' ')?;
    let (target, lines) = plain::target(bytes, method + 1)?;
    let method = Method::from_bytes(&bytes[..method]).ok()?;
    let mut said = Said::default();
    let mut fields = scratch::fields(Bytes::new(), USUAL_LINES);
    let read = plain::lines(bytes, lines, |name, begins, value| {
        let is_kept = said.takes(&name, &bytes[value.clone()]);
        if is_kept == Ok(true) {
            fields.append_plain(name, begins, value);
        }
        is_kept.is_ok()
    });
    let Some(length) = read else {
        scratch::give_fields_back(fields);
        return None;
    };
    // Copied in one piece, which the target and the values are then parts of.
    let copied = scratch::copied(&bytes[..length]);
    let target = copied.slice(target);
    fields.lie_in(copied);
    let head = head(method, target, Version::HTTP_11, &said, fields).ok()?;
    Some((head, length))
}

/// As [`parse`], whatever the head is.
#[cold]
fn any_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Bad> {
    // Not filled beforehand: that would take longer than most heads.
    let mut lines = [const { MaybeUninit::uninit() }; MOST_LINES];
    let mut parsed = httparse::Request::new(&mut []);
    let config = ParserConfig::default();
    match config.parse_request_with_uninit_headers(&mut parsed, bytes, &mut lines) {
        Ok(Status::Complete(length)) => {
            parsed_head(&bytes[..length], &parsed).map(|head| Some((head, length)))
        }
        Ok(Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(Bad::TooLarge),
        Err(_) => Err(Bad::Malformed),
    }
}

fn parsed_head(bytes: &[u8], parsed: &httparse::Request<'_, '_>) -> Result<Head, Bad> {
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Bad::Malformed);
    };
    let copied = scratch::copied(bytes);
    let place = |part: &[u8]| {
        let begins = part.as_ptr() as usize - bytes.as_ptr() as usize;
        begins..begins + part.len()
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Bad::Malformed)?;
    let target = copied.slice(place(target.as_bytes()));
    if !bytes.ends_with(b"\r\n\r\n") {
        return Err(Bad::Malformed);
    }
    let mut said = Said::default();
    let mut fields = scratch::fields(copied, parsed.headers.len());
    for line in &*parsed.headers {
        // Whoever takes a LF alone for no end of a line has read another head (RFC 9112 §2.2).
        let begins = place(line.name.as_bytes()).start;
        if !bytes[..begins].ends_with(b"\r\n") {
            return Err(Bad::Malformed);
        }
        let name = names::name(line.name.as_bytes()).map_err(|_| Bad::Malformed)?;
        if said.takes(&name, line.value)? {
            // The library has seen to it that a value is one.
            fields.append_read(name, place(line.value));
        }
    }
    let version = match version {
        1 => Version::HTTP_11,
        _ => Version::HTTP_10,
    };
    head(method, target, version, &said, fields)
}

/// The head of these lines, which `said` this.
fn head(
    method: Method,
    target: Bytes,
    version: Version,
    said: &Said,
    mut fields: Fields,
) -> Result<Head, Bad> {
    if target.len() > LONGEST_TARGET {
        return Err(Bad::TargetTooLong);
    }
    let uri = Uri::from_maybe_shared(target).map_err(|_| Bad::Malformed)?;
    let is_11 = version == Version::HTTP_11;
    if said.chunked && !is_11 {
        return Err(Bad::Malformed);
    }
    if said.chunked && said.length.is_some() {
        // It means nothing beside the chunks, and might be believed by whoever comes next.
        fields.remove(&header::CONTENT_LENGTH);
    }
    let framing = match said.length {
        _ if said.chunked => Framing::Chunked(Chunk::Size),
        length => Framing::Length(length.unwrap_or(0)),
    };
    Ok(Head {
        framing,
        // Whoever says two lengths may mean the other (RFC 9112 §6.1).
        persists: !said.close
            && (is_11 || said.keep_alive)
            && !(said.chunked && said.length.is_some()),
        expects: said.expects && is_11,
        promises: !said.conditions,
        trailers: said.trailers,
        upgrades: said.upgrades && is_11,
        request: Box::new(Request {
            method,
            uri,
            version,
            fields,
            extensions: Extensions::new(),
        }),
    })
}

/// What lines say to this hop.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of its own, beside any of the others"
)]
struct Said {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects: bool,
    /// There is an `Expect`, whatever it says.
    conditions: bool,
    trailers: bool,
    upgrades: bool,
}

impl Said {
    /// Reads a line; false where it only repeats one.
    fn takes(&mut self, name: &HeaderName, bytes: &[u8]) -> Result<bool, Bad> {
        if *name == header::CONTENT_LENGTH {
            let length = number(bytes).ok_or(Bad::Malformed)?;
            let before = self.length.replace(length);
            if before.is_some_and(|before| before != length) {
                return Err(Bad::Malformed);
            }
            return Ok(before.is_none());
        }
        if *name == header::TRANSFER_ENCODING {
            // RFC 9112 §6.1: a coding that is not known, or not once.
            if self.chunked || !bytes.eq_ignore_ascii_case(b"chunked") {
                return Err(Bad::Malformed);
            }
            self.chunked = true;
        } else if *name == header::CONNECTION {
            for option in bytes.split(|byte| *byte == b',') {
                let option = option.trim_ascii();
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if *name == header::EXPECT {
            self.conditions = true;
            self.expects = bytes.eq_ignore_ascii_case(b"100-continue");
        } else if *name == header::TE {
            let mut codings = bytes.split(|byte| *byte == b',');
            self.trailers |=
                codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"));
        } else if *name == header::UPGRADE {
            self.upgrades = true;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(lines: &str) -> Result<Head, Bad> {
        let text = format!("GET /a?b {lines}\r\n\r\nrest");
        let (head, length) = parse(text.as_bytes())?.expect("it is whole");
        assert_eq!(length, text.len() - 4);
        Ok(head)
    }

    #[test]
    fn the_head_says_where_the_body_ends_and_what_comes_after() {
        let chunked = Framing::Chunked(Chunk::Size);
        for (lines, framing, persists) in [
            ("HTTP/1.1", Framing::Length(0), true),
            (
                "HTTP/1.1\r\nConnection: x, Close",
                Framing::Length(0),
                false,
            ),
            (
                "HTTP/1.1\r\nConnection: close\r\nConnection: keep-alive",
                Framing::Length(0),
                false,
            ),
            ("HTTP/1.0", Framing::Length(0), false),
            (
                "HTTP/1.0\r\nConnection: Keep-Alive",
                Framing::Length(0),
                true,
            ),
            ("HTTP/1.1\r\nContent-Length: 5", Framing::Length(5), true),
            (
                "HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5",
                Framing::Length(5),
                true,
            ),
            ("HTTP/1.1\r\nTransfer-Encoding: Chunked", chunked, true),
            (
                "HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
                chunked,
                false,
            ),
            (
                "HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
                chunked,
                false,
            ),
        ] {
            let head = parsed(lines).unwrap();
            assert_eq!(
                (head.framing, head.persists),
                (framing, persists),
                "{lines}"
            );
            let lengths = head.request.fields.get_all(&header::CONTENT_LENGTH).count();
            assert_eq!(
                lengths,
                usize::from(framing == Framing::Length(5)),
                "{lines}"
            );
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for lines in [
            "HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6",
            "HTTP/1.1\r\nContent-Length: 5, 5",
            "HTTP/1.1\r\nContent-Length: +5",
            "HTTP/1.1\r\nContent-Length:",
            "HTTP/1.1\r\nContent-Length: 99999999999999999999",
            "HTTP/1.1\r\nTransfer-Encoding: gzip, chunked",
            "HTTP/1.1\r\nTransfer-Encoding: identity",
            "HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "HTTP/1.0\r\nTransfer-Encoding: chunked",
            "HTTP/1.1\r\nA : b",
            "HTTP/1.1\r\nA: b\r\n c",
            "HTTP/1.1\r\nA: b\rc",
            "HTTP/1.1\r\nA: b\0c",
            "HTTP/1.1\nA: b",
            "HTTP/1.1\r\nA: b\nC: d",
            "HTTP/1.1\r\nA: b\n",
            "HTTP/1.1\n",
            "HTTP/2.0",
            "HTTP/1.2",
        ] {
            assert_eq!(parsed(lines).err(), Some(Bad::Malformed), "{lines:?}");
        }
        let many = format!("HTTP/1.1{}", "\r\na: b".repeat(MOST_LINES + 1));
        assert_eq!(parsed(&many).err(), Some(Bad::TooLarge));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(LONGEST_TARGET));
        assert_eq!(parse(long.as_bytes()).err(), Some(Bad::TargetTooLong));
    }

    proptest! {
        #[test]
        fn a_plain_head_is_what_the_library_reads(
            first in "(GET|POST|[!-~]{1,3}) [!-~]{0,10}[ -~]? HTTP/1.[01]",
            lines in proptest::collection::vec(
                prop_oneof![
                    "(host|Connection|TE|Expect|Upgrade|[!-~]{1,4}): [ -~]{0,9}",
                    "(Content-Length|content-length): (5|6|,| )",
                    "Transfer-Encoding: (chunked|gzip)",
                    "Connection: (close|Keep-Alive|x, close)",
                ],
                0..5,
            ),
            end in prop_oneof![Just("\r\n"), Just("\n")],
        ) {
            let lines = lines.iter().map(|line| format!("{line}\r\n"));
            let text = format!("{first}\r\n{}{end}rest", lines.collect::<String>());
            if let Some((head, length)) = plain_head(text.as_bytes()) {
                let (other, other_length) = any_head(text.as_bytes()).unwrap().unwrap();
                prop_assert_eq!(format!("{head:?}"), format!("{other:?}"));
                prop_assert_eq!(length, other_length);
            }
        }
    }

    #[test]
    fn an_ordinary_head_is_plain() {
        let text =
            b"POST /a?b=%20 HTTP/1.1\r\nHost: a.test:80\r\nContent-Length: 5\r\nx-y: z a\r\n\r\n";
        assert!(plain_head(text).is_some());
    }

    #[test]
    fn a_head_is_whole_or_is_not_there() {
        let text = b"POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nTE: x, trailers\r\nUpgrade: y\r\n\r\n";
        for end in 0..text.len() {
            assert!(parse(&text[..end]).unwrap().is_none(), "{end}");
        }
        let (head, _) = parse(text).unwrap().unwrap();
        assert!(head.expects && head.trailers && head.upgrades);
        assert_eq!(head.request.uri, "/a");
        assert_eq!(head.request.fields.get(&header::HOST), Some(&b"h"[..]));
    }
}
