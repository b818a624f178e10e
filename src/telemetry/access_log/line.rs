//! One request, as the access log tells it.
//!
//! Both forms are ASCII without control characters but the newline at the end, whatever a caller
//! sent: nobody forges a line or a field, or speaks to the terminal that shows it.

use std::borrow::Cow;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Uri};

use crate::rules::api_key::{Shape, shape};
use crate::rules::forwarded::RequestId;
use crate::rules::refresh;
use crate::rules::time::Timestamp;

/// The longest path that is logged whole, in bytes: waiting lines are bounded in size as in number.
const PATH_LIMIT: usize = 2_048;

/// A shorter path holds no minted key: `_`, 43 characters of it and 6 of its checksum.
const SHORTEST_MINTED: usize = 50;

/// What is logged of a request. Filling it copies at most the path.
#[derive(Clone, Debug)]
pub struct Line {
    /// When its head had arrived.
    pub time: Timestamp,
    /// Its `x-request-id`.
    pub request_id: RequestId,
    /// Whose it was, by the rules for trusted proxies.
    pub client: IpAddr,
    /// Its method.
    pub method: Method,
    /// The name of the route it matched.
    pub route: Arc<str>,
    /// Its path.
    pub path: LoggedPath,
    /// The status it was answered with; 499 if the caller went away before.
    pub status: u16,
    /// The `code` of the answer, where that is gatelet's own, or of what cut it off.
    pub code: Option<&'static str>,
    /// Who the caller proved to be.
    pub subject: Option<Arc<str>>,
    /// The id of the API key it proved to hold.
    pub key_id: Option<Arc<str>>,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// From its head to the end of its answer.
    pub duration: Duration,
    /// What of that the upstream took for the head of its answer; `None` if it was not asked.
    pub upstream: Option<Duration>,
}

/// A path for the log: without its query, which may hold secrets, and cut where it is very long.
///
/// A copy, since a slice would keep its connection's buffer from being used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedPath(Box<str>);

impl From<&Uri> for LoggedPath {
    fn from(uri: &Uri) -> Self {
        let path = &*without_keys(uri.path());
        if path.len() <= PATH_LIMIT {
            return Self(path.into());
        }
        let mut cut = PATH_LIMIT;
        while !path.is_char_boundary(cut) {
            cut -= 1;
        }
        Self(format!("{}…", &path[..cut]).into())
    }
}

/// The path without the minted keys that someone put into it; past what is logged, it may end anywhere.
///
/// In one pass: a path may be nothing but keys.
fn without_keys(path: &str) -> Cow<'_, str> {
    if path.len() < SHORTEST_MINTED {
        return Cow::Borrowed(path);
    }
    let mut masked = String::new();
    // How much of the path `masked` stands for.
    let mut done = 0;
    let mut mask = |word: &str, begins: usize, prefix: &str| {
        masked.push_str(&path[done..begins]);
        masked.push_str(prefix);
        masked.push('…');
        done = begins + word.len();
        masked.len() > PATH_LIMIT
    };
    let mut begins = 0;
    'segments: for segment in path.split('/') {
        // A JWT has three parts: it begins before the last two dots.
        let jwts_end = segment.rmatch_indices('.').nth(1);
        let jwts_end = jwts_end.map_or(0, |(dot, _)| dot);
        let mut at = 0;
        while let Some(rest) = segment.get(at..).filter(|rest| !rest.is_empty()) {
            let gap = gap(rest);
            if gap > 0 {
                at += gap;
                continue;
            }
            let end = rest.find(|character| !is_of_word(character));
            let word = &rest[..end.unwrap_or(rest.len())];
            let (hidden, prefix) = if word.starts_with("eyJ") && at < jwts_end {
                (rest, "eyJ")
            } else if let Some(prefix) = minted_prefix(word) {
                (word, prefix)
            } else {
                at += word.len();
                continue;
            };
            if mask(hidden, begins + at, prefix) {
                break 'segments;
            }
            at += hidden.len();
        }
        begins += segment.len() + 1;
    }
    if done == 0 {
        return Cow::Borrowed(path);
    }
    if masked.len() <= PATH_LIMIT {
        masked.push_str(&path[done..]);
    }
    Cow::Owned(masked)
}

/// How long the character or the escape is that `text` begins with, where that is of no word.
fn gap(text: &str) -> usize {
    match text.as_bytes() {
        [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => 3,
        _ => {
            let first = text.chars().next();
            first
                .filter(|first| !is_of_word(*first))
                .map_or(0, char::len_utf8)
        }
    }
}

fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// How a minted key or refresh token begins, up to its secret.
fn minted_prefix(word: &str) -> Option<&str> {
    let (prefix, _) = word.rsplit_once('_')?;
    let is_minted =
        refresh::is_minted(word.as_bytes()) || shape(prefix, word.as_bytes()) == Shape::Minted;
    is_minted.then(|| &word[..=prefix.len()])
}

/// A field's name, as each form has it between the value before and its own.
struct Name {
    text: &'static str,
    json: &'static str,
}

macro_rules! name {
    ($name:literal) => {
        Name {
            text: concat!(" ", $name, "="),
            json: concat!(",\"", $name, "\":"),
        }
    };
}

/// A field's value, before it has a form.
enum Value<'a> {
    Absent,
    Text(&'a str),
    Digits(&'a [u8; 32]),
    Number(u64),
    Time(Timestamp),
    Address(IpAddr),
    Milliseconds(Duration),
}

/// The last second that a line was of, written down: most lines are of the same one.
#[derive(Debug, Default)]
pub(super) struct Second {
    since_epoch: u64,
    /// Such as `2026-01-01T00:00:00`; empty before the first.
    written: String,
}

impl Second {
    fn of(&mut self, time: Timestamp) -> &str {
        let since_epoch = time.seconds();
        if self.since_epoch != since_epoch || self.written.is_empty() {
            self.since_epoch = since_epoch;
            // Cannot fall back: a timestamp's year is at most 2554, and jiff's calendar ends in 9999.
            let time = jiff::Timestamp::from_second(since_epoch.cast_signed()).unwrap_or_default();
            self.written = time.to_string();
            self.written.truncate(self.written.len() - "Z".len());
        }
        &self.written
    }
}

impl Line {
    /// Appends the line, as text or as one JSON object.
    pub(super) fn write(&self, text: bool, second: &mut Second, out: &mut Vec<u8>) {
        if text {
            self.write_text(second, out);
        } else {
            self.write_json(second, out);
        }
        out.push(b'\n');
    }

    /// Every field, in the order in which both forms have them.
    fn fields(&self, mut put: impl FnMut(Name, Value<'_>)) {
        fn text(value: Option<&str>) -> Value<'_> {
            value.map_or(Value::Absent, Value::Text)
        }
        put(name!("time"), Value::Time(self.time));
        let believed;
        let request_id = match &self.request_id {
            RequestId::Made(digits) => Value::Digits(digits),
            RequestId::Believed(id) => {
                believed = String::from_utf8_lossy(id.as_bytes());
                Value::Text(&believed)
            }
        };
        put(name!("request_id"), request_id);
        put(name!("client"), Value::Address(self.client));
        put(name!("method"), Value::Text(self.method.as_str()));
        put(name!("route"), Value::Text(&self.route));
        put(name!("path"), Value::Text(&self.path.0));
        put(name!("status"), Value::Number(self.status.into()));
        put(name!("code"), text(self.code));
        put(name!("subject"), text(self.subject.as_deref()));
        put(name!("key_id"), text(self.key_id.as_deref()));
        put(name!("bytes_in"), Value::Number(self.bytes_in));
        put(name!("bytes_out"), Value::Number(self.bytes_out));
        put(name!("duration_ms"), Value::Milliseconds(self.duration));
        let upstream = self.upstream.map_or(Value::Absent, Value::Milliseconds);
        put(name!("upstream_ms"), upstream);
    }

    /// One object; what is absent is null, so that every line has every field.
    fn write_json(&self, second: &mut Second, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut skipped = ",".len();
        self.fields(|name, value| {
            out.extend_from_slice(&name.json.as_bytes()[skipped..]);
            skipped = 0;
            match value {
                Value::Absent => out.extend_from_slice(b"null"),
                Value::Text(text) => push_quoted(text, out),
                Value::Digits(digits) => {
                    out.push(b'"');
                    out.extend_from_slice(digits);
                    out.push(b'"');
                }
                Value::Number(number) => push_number(number, out),
                Value::Time(time) => {
                    out.push(b'"');
                    push_time(time, second, out);
                    out.push(b'"');
                }
                Value::Address(address) => {
                    out.push(b'"');
                    push_address(address, out);
                    out.push(b'"');
                }
                Value::Milliseconds(duration) => push_milliseconds(duration, out),
            }
        });
        out.push(b'}');
    }

    /// `name=value` pairs; what is absent is `-`, and what could be misread is quoted.
    fn write_text(&self, second: &mut Second, out: &mut Vec<u8>) {
        let mut skipped = " ".len();
        self.fields(|name, value| {
            out.extend_from_slice(&name.text.as_bytes()[skipped..]);
            skipped = 0;
            match value {
                Value::Digits(digits) => out.extend_from_slice(digits),
                Value::Absent => out.push(b'-'),
                Value::Text(text) if is_plain(text) => out.extend_from_slice(text.as_bytes()),
                Value::Text(text) => push_quoted(text, out),
                Value::Number(number) => push_number(number, out),
                Value::Time(time) => push_time(time, second, out),
                Value::Address(address) => push_address(address, out),
                Value::Milliseconds(duration) => push_milliseconds(duration, out),
            }
        });
    }
}

/// Whether the text needs no quotes: visible ASCII that ends no pair, and not what means "absent".
fn is_plain(text: &str) -> bool {
    let plain = |byte| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'=' | b'\\');
    !text.is_empty() && text != "-" && text.bytes().all(plain)
}

/// The bytes that do not stand for themselves in a JSON string, or are not visible ASCII.
const ESCAPED: [bool; 256] = {
    let mut escaped = [true; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        escaped[byte as usize] = matches!(byte, b'"' | b'\\');
        byte += 1;
    }
    escaped
};

/// Appends the text as a JSON string in ASCII; all that is not visible ASCII is escaped.
fn push_quoted(text: &str, out: &mut Vec<u8>) {
    // Nearly no text has such a byte: to look at each costs less than to stop at the first.
    let escapes = |any, byte| any | ESCAPED[usize::from(byte)];
    out.push(b'"');
    if text.bytes().fold(false, escapes) {
        text.chars()
            .for_each(|character| push_character(character, out));
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

fn push_character(character: char, out: &mut Vec<u8>) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        ' '..='~' => out.push(character as u8),
        _ => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                push(format_args!("\\u{unit:04x}"), out);
            }
        }
    }
}

fn push_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends three digits of a number below 1,000.
fn push_thousandths(number: u64, out: &mut Vec<u8>) {
    // A digit is below 10.
    let digit = |place: u64| b'0' + (number / place % 10) as u8;
    out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
}

fn push_time(time: Timestamp, second: &mut Second, out: &mut Vec<u8>) {
    out.extend_from_slice(second.of(time).as_bytes());
    push_thousandths(time.nanoseconds() / 1_000_000 % 1_000, out);
    out.push(b'Z');
}

fn push_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                push_number(octet.into(), out);
            }
        }
        IpAddr::V6(address) => push(format_args!("{address}"), out),
    }
}

fn push_milliseconds(duration: Duration, out: &mut Vec<u8>) {
    let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    push_number(microseconds / 1_000, out);
    push_thousandths(microseconds % 1_000, out);
}

fn push(arguments: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(arguments);
}

#[cfg(test)]
impl Line {
    /// A line with every field present.
    pub(super) fn sample() -> Self {
        Self {
            time: Timestamp::from_nanoseconds(1_767_225_600_012_999_999),
            request_id: RequestId::Believed(http::HeaderValue::from_static("0b1f")),
            client: IpAddr::from([192, 0, 2, 1]),
            method: Method::GET,
            route: "portfolio".into(),
            path: LoggedPath::from(&Uri::from_static("/api/v1/portfolio?key=secret")),
            status: 200,
            code: Some("rate_limited"),
            subject: Some("0xAb".into()),
            key_id: Some("static:ci".into()),
            bytes_in: 3,
            bytes_out: 140,
            duration: Duration::from_nanos(12_345_678),
            upstream: Some(Duration::from_micros(50)),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::rules::api_key::mint;

    fn written(line: &Line, text: bool) -> String {
        let mut out = Vec::new();
        line.write(text, &mut Second::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn bare() -> Line {
        Line {
            code: None,
            subject: None,
            key_id: None,
            upstream: None,
            ..Line::sample()
        }
    }

    #[test]
    fn json_has_exactly_the_fields_of_the_contract() {
        assert_eq!(
            written(&Line::sample(), false),
            concat!(
                r#"{"time":"2026-01-01T00:00:00.012Z","request_id":"0b1f","client":"192.0.2.1","#,
                r#""method":"GET","route":"portfolio","path":"/api/v1/portfolio","status":200,"#,
                r#""code":"rate_limited","subject":"0xAb","key_id":"static:ci","bytes_in":3,"#,
                r#""bytes_out":140,"duration_ms":12.345,"upstream_ms":0.050}"#,
                "\n",
            )
        );
        let bare = written(&bare(), false);
        for absent in ["code", "subject", "key_id", "upstream_ms"] {
            assert!(bare.contains(&format!("\"{absent}\":null")), "{bare}");
        }
    }

    #[test]
    fn an_id_that_was_made_here_is_logged_as_it_is() {
        let line = Line {
            request_id: RequestId::Made([b'a'; 32]),
            ..Line::sample()
        };
        let id = "a".repeat(32);
        assert!(written(&line, false).contains(&format!(",\"request_id\":\"{id}\",")));
        assert!(written(&line, true).contains(&format!(" request_id={id} ")));
    }

    #[test]
    fn text_has_the_same_fields() {
        assert_eq!(
            written(&bare(), true),
            concat!(
                "time=2026-01-01T00:00:00.012Z request_id=0b1f client=192.0.2.1 method=GET ",
                "route=portfolio path=/api/v1/portfolio status=200 code=- subject=- key_id=- ",
                "bytes_in=3 bytes_out=140 duration_ms=12.345 upstream_ms=-\n",
            )
        );
    }

    #[test]
    fn nothing_a_caller_sends_forges_a_line_or_a_field() {
        let line = Line {
            subject: Some("a\nb\" status=200 \u{1b}[2J é \u{1f600}".into()),
            key_id: Some("-".into()),
            route: "".into(),
            ..Line::sample()
        };
        let text = written(&line, true);
        assert!(text.contains(concat!(
            r#"subject="a\u000ab\" status=200 \u001b[2J \u00e9 \ud83d\ude00" "#,
            r#"key_id="-" "#
        )));
        assert!(text.contains(r#" route="" "#));
        let json: serde_json::Value = serde_json::from_str(&written(&line, false)).unwrap();
        assert_eq!(json["subject"], line.subject.as_deref().unwrap());
    }

    #[test]
    fn a_request_id_that_is_not_text_is_replaced() {
        let line = Line {
            request_id: RequestId::Believed(HeaderValue::from_bytes(b"a\xff").unwrap()),
            ..Line::sample()
        };
        assert!(written(&line, true).contains(r#"request_id="a\ufffd" "#));
    }

    #[test]
    fn a_path_is_without_its_query_and_never_very_long() {
        let path = |uri: &str| LoggedPath::from(&uri.parse::<Uri>().unwrap()).0;
        let key = mint("gk", &[7; 32]);
        assert_eq!(&*path(&format!("/guarded/{}/x", &*key)), "/guarded/gk_…/x");
        assert_eq!(
            &*path(&format!("/guarded/{}0", &*key)),
            format!("/guarded/{}0", &*key)
        );
        assert_eq!(&*path("/a%20b?token=secret"), "/a%20b");
        assert_eq!(&*path("http://example.com?token=secret"), "/");
        let long = format!("/{}", "x".repeat(3_000));
        assert_eq!(path(&long).len(), PATH_LIMIT + "…".len());
        assert!(path(&long).ends_with('…'));
    }

    #[test]
    fn keys_are_hidden_wherever_they_stand() {
        let path = |uri: &str| LoggedPath::from(&uri.parse::<Uri>().unwrap()).0;
        let key = mint("gk_live", &[7; 32]);
        let key = &*key;
        for (said, logged) in [
            (format!("/{key}"), "/gk_live_…"),
            (
                format!("/a-{key}.json/{key}/{key}"),
                "/a-gk_live_….json/gk_live_…/gk_live_…",
            ),
            (
                format!("/~{key}~/eyJa.b.c/eyJa.b/"),
                "/~gk_live_…~/eyJ…/eyJa.b/",
            ),
            (format!("//eyJ{key}.b.c"), "//eyJ…"),
            (
                format!("/t%3D{key}%2f{key}%20{key}"),
                "/t%3Dgk_live_…%2fgk_live_…%20gk_live_…",
            ),
            (format!("/Bearer%20eyJ{key}.b.c/x"), "/Bearer%20eyJ…/x"),
            (
                format!("/a.b.eyJc/{key}/eyJa%"),
                "/a.b.eyJc/gk_live_…/eyJa%",
            ),
        ] {
            assert_eq!(&*path(&said), logged);
        }
        // However many there are.
        let masked = path(&format!("/{}", "eyJ../".repeat(10_000)));
        assert!(masked.starts_with("/eyJ…/eyJ…/") && masked.len() <= PATH_LIMIT + "…".len());
        let words = format!("/{}", "eyJ-".repeat(10_000));
        assert_eq!(path(&words)[..PATH_LIMIT], words[..PATH_LIMIT]);
    }

    proptest! {
        #[test]
        fn times_numbers_and_addresses_are_written_as_ever(
            times in proptest::collection::vec(0..4_000_000_000_u64, 1..8),
            from in 0..u64::MAX / 2,
            number in any::<u64>(),
            address in any::<IpAddr>(),
        ) {
            let mut second = Second::default();
            for time in times {
                let (nanoseconds, mut out) = (from + time, Vec::new());
                push_time(Timestamp::from_nanoseconds(nanoseconds), &mut second, &mut out);
                let time = jiff::Timestamp::from_nanosecond(nanoseconds.into()).unwrap();
                prop_assert_eq!(out, format!("{time:.3}").into_bytes());
            }
            let mut out = Vec::new();
            push_milliseconds(Duration::from_micros(number), &mut out);
            out.push(b' ');
            push_address(address, &mut out);
            let expected = format!("{}.{:03} {address}", number / 1_000, number % 1_000);
            prop_assert_eq!(out, expected.into_bytes());
        }

        #[test]
        fn every_line_is_one_line_of_visible_ascii(
            subject in any::<String>(),
            route in any::<String>(),
            id in prop::collection::vec(32_u8.., 0..20),
            text: bool,
        ) {
            let id = HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static(""));
            let line = Line {
                subject: Some(subject.clone().into()),
                route: route.into(),
                request_id: RequestId::Believed(id),
                ..Line::sample()
            };
            let written = written(&line, text);
            let (line, end) = written.split_at(written.len() - 1);
            prop_assert_eq!(end, "\n");
            prop_assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            if !text {
                let json: serde_json::Value = serde_json::from_str(line).unwrap();
                prop_assert_eq!(json["subject"].as_str(), Some(subject.as_str()));
            }
        }
    }
}
