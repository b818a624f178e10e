//! Heads as nearly all are written: in visible ASCII, with one space where one belongs, and every line ended by CR LF.
//!
//! What is read here is what the library would read, in fewer steps. Any other head is not for here to judge: it is left
//! to the library, whether it is well-formed or not.

use std::ops::Range;

use http::HeaderName;

use crate::wire::names;

/// The most lines of a head that is read here.
const MOST_LINES: usize = 64;

const EIGHT: u64 = u64::from_ne_bytes([1; 8]);

/// Where the first byte at or behind `from` is that is not visible ASCII, or a space where `spaces` may be among it;
/// `None` where there is no such byte.
fn run_end(bytes: &[u8], from: usize, spaces: bool) -> Option<usize> {
    let least = if spaces { b' ' } else { b'!' };
    let (mut at, mut rest) = (from, bytes.get(from..)?);
    while let Some((eight, behind)) = rest.split_first_chunk() {
        let eight = u64::from_le_bytes(*eight);
        // Too small a byte borrows, DEL carries, and any other is large already. What is borrowed or carried shows in
        // bytes behind the first one alone.
        let least = EIGHT * u64::from(least);
        let ends = (eight.wrapping_sub(least) | eight.wrapping_add(EIGHT) | eight) & (EIGHT << 7);
        if ends != 0 {
            return Some(at + (ends.trailing_zeros() / 8) as usize);
        }
        (at, rest) = (at + 8, behind);
    }
    let is_end = |byte: &u8| !(least..=b'~').contains(byte);
    rest.iter().position(is_end).map(|end| at + end)
}

/// Where the first such byte is, at or behind `from`.
fn find(bytes: &[u8], from: usize, byte: u8) -> Option<usize> {
    let (mut at, mut rest) = (from, bytes.get(from..)?);
    while let Some((eight, behind)) = rest.split_first_chunk() {
        // The first byte that is none is the first to borrow.
        let eight = u64::from_le_bytes(*eight) ^ (EIGHT * u64::from(byte));
        let found = eight.wrapping_sub(EIGHT) & !eight & (EIGHT << 7);
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        (at, rest) = (at + 8, behind);
    }
    let is_it = |other: &u8| *other == byte;
    rest.iter().position(is_it).map(|found| at + found)
}

/// The target of a request whose first line goes on at `at`, and where its next line begins; `None` where that is not a
/// plain one of HTTP/1.1.
pub fn target(bytes: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    const VERSION: &[u8] = b" HTTP/1.1\r\n";
    let end = run_end(bytes, at, false)?;
    let is_plain = end > at && bytes[end..].starts_with(VERSION);
    is_plain.then_some((at..end, end + VERSION.len()))
}

/// The code and the reason of an answer of HTTP/1.1, and where its next line begins; `None` where its first line is not a
/// plain one.
pub fn status(bytes: &[u8]) -> Option<([u8; 3], &[u8], usize)> {
    let rest = bytes.strip_prefix(b"HTTP/1.1 ")?;
    let (code, rest) = rest.split_first_chunk()?;
    let reason = rest.strip_prefix(b" ")?;
    let end = run_end(reason, 0, true)?;
    let next = bytes.len() - reason.len() + end + 2;
    reason[end..]
        .starts_with(b"\r\n")
        .then_some((*code, &reason[..end], next))
}

/// Reads the lines that begin at `at`, and says where the head ends; `None` where they are not whole or not plain, or one
/// is not taken. `take` is given each line's name, where the line begins, and the place of its value.
pub fn lines(
    bytes: &[u8],
    mut at: usize,
    mut take: impl FnMut(HeaderName, usize, Range<usize>) -> bool,
) -> Option<usize> {
    for _ in 0..=MOST_LINES {
        if bytes.get(at..)?.starts_with(b"\r\n") {
            return Some(at + 2);
        }
        let colon = find(bytes, at, b':')?;
        let value = colon + 2;
        // A space before the value is its first byte, and one behind it its last.
        let end = run_end(bytes, value, true)?;
        let is_plain = bytes[colon..].starts_with(b": ")
            && end > value
            && bytes[value] != b' '
            && bytes[end - 1] != b' '
            && bytes[end..].starts_with(b"\r\n");
        if !is_plain {
            return None;
        }
        let name = names::name(&bytes[at..colon]).ok()?;
        if !take(name, at, value..end) {
            return None;
        }
        at = end + 2;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_ends_at_the_first_byte_that_is_none_of_it() {
        for end in 0..=u8::MAX {
            for before in 0..20 {
                for behind in 0..20 {
                    let mut bytes = vec![b'~'; before];
                    bytes.push(end);
                    bytes.extend(vec![0xff; behind]);
                    for spaces in [true, false] {
                        let is_of_it = (b'!'..=b'~').contains(&end) || (spaces && end == b' ');
                        let first = before + usize::from(is_of_it);
                        let expected = (first < bytes.len()).then_some(first);
                        assert_eq!(run_end(&bytes, 0, spaces), expected, "{bytes:?}");
                    }
                }
            }
        }
        assert_eq!(run_end(b"", 1, true), None);
    }

    #[test]
    fn a_byte_is_found_where_it_is_first() {
        for before in 0..20 {
            for behind in 0..20 {
                for other in [b':' - 1, b':' + 1, 0, 0xff, b':' | 0x80] {
                    let mut bytes = vec![other; before];
                    bytes.push(b':');
                    bytes.extend(vec![b':'; behind]);
                    assert_eq!(find(&bytes, 0, b':'), Some(before), "{bytes:?}");
                    assert_eq!(find(&bytes, before + 1, b':').is_some(), behind > 0);
                    assert_eq!(find(&vec![other; before], 0, b':'), None);
                }
            }
        }
    }

    /// Where a head ends, and its lines.
    type Read = (usize, Vec<(HeaderName, Vec<u8>)>);

    /// What is read of a head's lines here, if anything is.
    fn read(bytes: &[u8]) -> Option<Read> {
        let mut read = Vec::new();
        let end = lines(bytes, 0, |name, begins, place| {
            // It is written on as it stands.
            let line = &bytes[begins..place.end + 2];
            let written = [
                name.as_str().as_bytes(),
                b": ",
                &bytes[place.clone()],
                b"\r\n",
            ];
            assert!(line.eq_ignore_ascii_case(&written.concat()));
            read.push((name, bytes[place].to_vec()));
            true
        })?;
        Some((end, read))
    }

    /// What the library reads of them.
    fn read_by_library(bytes: &[u8]) -> Option<Read> {
        let mut lines = [httparse::EMPTY_HEADER; 2 * MOST_LINES];
        let Ok(httparse::Status::Complete((end, lines))) =
            httparse::parse_headers(bytes, &mut lines)
        else {
            return None;
        };
        let line = |line: &httparse::Header<'_>| {
            let name = HeaderName::from_bytes(line.name.as_bytes()).unwrap();
            (name, line.value.to_vec())
        };
        Some((end, lines.iter().map(line).collect()))
    }

    #[test]
    fn lines_that_are_not_plain_are_left_to_the_library() {
        for strange in [
            "a:b\r\n\r\n",
            "a:  b\r\n\r\n",
            "a: b \r\n\r\n",
            "a: \r\n\r\n",
            "a:\r\n\r\n",
            "a: b\n\r\n",
            "a: b\r\n\n",
            "a: b\r\n c: d\r\n\r\n",
            "a : b\r\n\r\n",
            "a b: c\r\n\r\n",
            ": b\r\n\r\n",
            "a\r\n\r\n",
            "a: b\tc\r\n\r\n",
            "a: \u{e9}\r\n\r\n",
            "a: b\rc\r\n\r\n",
            "a: b\r\n",
            "a: b\r\n\r",
            "",
        ] {
            assert_eq!(read(strange.as_bytes()), None, "{strange:?}");
        }
        let many = |lines| format!("{}\r\n", "a: b\r\n".repeat(lines));
        assert!(read(many(MOST_LINES).as_bytes()).is_some());
        assert!(read(many(MOST_LINES + 1).as_bytes()).is_none());
    }

    #[test]
    fn a_first_line_is_plain_or_not_for_here() {
        let line = b"GET /a?b HTTP/1.1\r\nrest";
        assert_eq!(target(line, 4), Some((4..8, 19)));
        for strange in [
            "GET  HTTP/1.1\r\n",
            "GET /a  HTTP/1.1\r\n",
            "GET /a HTTP/1.0\r\n",
            "GET /a HTTP/1.1\n",
            "GET /a HTTP/1.1 \r\n",
            "GET /\u{e9} HTTP/1.1\r\n",
            "GET /a\tHTTP/1.1\r\n",
            "GET /a HTTP/1.1",
            "GET",
        ] {
            assert_eq!(target(strange.as_bytes(), 4), None, "{strange:?}");
        }
        let line = b"HTTP/1.1 404 Not Found\r\nrest";
        assert_eq!(status(line), Some((*b"404", &b"Not Found"[..], 24)));
        assert_eq!(status(b"HTTP/1.1 200 \r\n"), Some((*b"200", &b""[..], 15)));
        for strange in [
            "HTTP/1.0 200 OK\r\n",
            "HTTP/1.1 200\r\n",
            "HTTP/1.1 200 OK\n",
            "HTTP/1.1 200 O\tK\r\n",
            "HTTP/1.1 200 OK",
            "HTTP/1.1 20",
        ] {
            assert_eq!(status(strange.as_bytes()), None, "{strange:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_the_library_reads(
            text in "((Host|host|x-a|[!-~]{1,3})(: |:|[ -~\t]{1,2})[ -~]{0,20}(\r\n|\n|\r)){0,4}\r?\n?[a-z]{0,3}",
        ) {
            if let Some(read) = read(text.as_bytes()) {
                prop_assert_eq!(Some(read), read_by_library(text.as_bytes()));
            }
        }

        #[test]
        fn ordinary_lines_are_read(
            lines in proptest::collection::vec(("[a-zA-Z-]{1,20}", "[!-~]([ -~]{0,40}[!-~])?"), 0..10),
        ) {
            let lines = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
            let text = lines.collect::<String>() + "\r\n";
            prop_assert!(read(text.as_bytes()).is_some());
            prop_assert_eq!(read(text.as_bytes()), read_by_library(text.as_bytes()));
        }
    }
}
