//! Whether a request means one thing: its method, its target and host, its framing.
//!
//! The path itself is judged with the routes, in `rules::path`.

use std::net::Ipv6Addr;

use http::header;
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};

use crate::rules::decision::Reject;
use crate::rules::fields::Fields;

/// Which of the lines that the request path looks at are there.
///
/// Found in one pass, so that what most requests lack is not looked up for each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines(u16);

/// A line that a request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// `Authorization`.
    Authorization,
    /// `Connection`.
    Connection,
    /// `Content-Length`.
    ContentLength,
    /// `Content-Type`.
    ContentType,
    /// `Cookie`.
    Cookie,
    /// `TE`.
    Te,
    /// `Trailer`.
    Trailer,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Upgrade`.
    Upgrade,
}

impl Lines {
    /// The lines of these fields.
    pub fn of(fields: &Fields) -> Self {
        fields.names().fold(Self::default(), |lines, name| {
            let line = match name.as_str() {
                "authorization" => Line::Authorization,
                "connection" => Line::Connection,
                "content-length" => Line::ContentLength,
                "content-type" => Line::ContentType,
                "cookie" => Line::Cookie,
                "te" => Line::Te,
                "trailer" => Line::Trailer,
                "transfer-encoding" => Line::TransferEncoding,
                "upgrade" => Line::Upgrade,
                _ => return lines,
            };
            Self(lines.0 | 1 << line as u16)
        })
    }

    /// Whether there is such a line.
    pub fn has(self, line: Line) -> bool {
        self.0 & 1 << line as u16 != 0
    }
}

/// The parts of a well-formed request that routing looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form<'a> {
    /// The host as the caller wrote it, with its port.
    pub host: &'a [u8],
    /// The path as the caller wrote it, without the query.
    pub path: &'a str,
}

/// Judges a request's form.
///
/// `is_tunnel` says that a CONNECT is an HTTP/2 WebSocket (RFC 8441), the only kind let through.
pub fn judge<'a>(
    method: &Method,
    uri: &'a Uri,
    version: Version,
    fields: &'a Fields,
    lines: Lines,
    is_tunnel: bool,
) -> Result<Form<'a>, Reject> {
    if *method == Method::TRACE || (*method == Method::CONNECT && !is_tunnel) {
        return malformed("the method is not proxied");
    }
    if version > Version::HTTP_11 {
        judge_fields(uri, fields)?;
    }
    let host = judge_host(uri, version, fields)?;
    judge_framing(version, fields, lines)?;
    let path = uri.path();
    if !path.starts_with('/') {
        return malformed("the target is not a path");
    }
    Ok(Form { host, path })
}

/// What HTTP/2 forbids, its library lets pass, and an HTTP/1.1 upstream would read otherwise.
fn judge_fields(uri: &Uri, fields: &Fields) -> Result<(), Reject> {
    // RFC 9113 §8.3.1. The library takes a query alone for the root's.
    let begins_with_slash = |target: &PathAndQuery| target.as_str().starts_with('/');
    if !uri.path_and_query().is_some_and(begins_with_slash) {
        return malformed("the target is not a path");
    }
    // RFC 9113 §8.2.1. HTTP/1.1 drops such space: ` Bearer x` is no bearer here, and is one there.
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if fields
        .values()
        .any(|value| is_space(value.first()) || is_space(value.last()))
    {
        return malformed("a header begins or ends with white space");
    }
    Ok(())
}

/// RFC 9112 §3.2: exactly one Host, and one that an absolute target agrees with.
fn judge_host<'a>(uri: &'a Uri, version: Version, fields: &'a Fields) -> Result<&'a [u8], Reject> {
    let mut hosts = fields.get_all(&header::HOST);
    let host = hosts.next();
    if hosts.next().is_some() {
        return malformed("there is more than one Host");
    }
    if let Some(scheme) = uri.scheme_str()
        && scheme != "http"
        && scheme != "https"
    {
        return malformed("the target's scheme is not proxied");
    }
    let host = match (uri.authority(), host) {
        (Some(authority), Some(host))
            if !authority.as_str().as_bytes().eq_ignore_ascii_case(host) =>
        {
            return malformed("the Host disagrees with the target");
        }
        (Some(authority), None) if version > Version::HTTP_11 => authority.as_str().as_bytes(),
        (_, Some(host)) => host,
        (_, None) => return malformed("there is no Host"),
    };
    if is_host(host) {
        Ok(host)
    } else {
        malformed("the Host is not a host")
    }
}

/// Whether `host` is a name or an address with perhaps a port (RFC 3986 §3.2.2 and §3.2.3), and no
/// user before it.
fn is_host(host: &[u8]) -> bool {
    if let Some(literal) = host.strip_prefix(b"[") {
        return is_literal(literal);
    }
    // One dot may end a name (RFC 1034 §3.1), and nobody's name has two in a row: an upstream that
    // strips them all would serve another host's site than the one that was matched.
    let mut label_is_empty = true;
    for (at, byte) in host.iter().enumerate() {
        match OF_HOST[usize::from(*byte)] {
            OfHost::Label => label_is_empty = false,
            OfHost::Dot if !label_is_empty => label_is_empty = true,
            OfHost::Colon if at > 0 => return is_port(&host[at + 1..]),
            _ => return false,
        }
    }
    !host.is_empty()
}

/// Whether what follows an opening bracket is an address, its closing bracket and perhaps a port.
fn is_literal(literal: &[u8]) -> bool {
    let Some((address, rest)) = std::str::from_utf8(literal)
        .ok()
        .and_then(|literal| literal.split_once(']'))
    else {
        return false;
    };
    let port = rest.strip_prefix(':');
    address.parse::<Ipv6Addr>().is_ok()
        && port.map_or(rest.is_empty(), |port| is_port(port.as_bytes()))
}

fn is_port(port: &[u8]) -> bool {
    port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

/// What a byte is in a host's name.
#[derive(Clone, Copy)]
enum OfHost {
    Label,
    Dot,
    Colon,
    Nothing,
}

const OF_HOST: [OfHost; 256] = {
    let mut of_host = [OfHost::Nothing; 256];
    let mut byte = 0;
    while byte < 256 {
        of_host[byte] = match byte {
            0x30..=0x39 | 0x41..=0x5a | 0x61..=0x7a | 0x2d | 0x5f => OfHost::Label,
            0x2e => OfHost::Dot,
            0x3a => OfHost::Colon,
            _ => OfHost::Nothing,
        };
        byte += 1;
    }
    of_host
};

/// What the HTTP library lets pass and an upstream might frame otherwise (RFC 9112 §6.1, §6.3).
fn judge_framing(version: Version, fields: &Fields, lines: Lines) -> Result<(), Reject> {
    if lines.has(Line::TransferEncoding) {
        let mut codings = fields.get_all(&header::TRANSFER_ENCODING);
        let plain = codings
            .next()
            .is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        if !plain || codings.next().is_some() || version < Version::HTTP_11 {
            return malformed("the Transfer-Encoding is not exactly chunked");
        }
    }
    if lines.has(Line::ContentLength) {
        let mut lengths = fields.get_all(&header::CONTENT_LENGTH);
        let length = lengths.next().unwrap_or_default();
        let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
        if !digits || lengths.any(|other| other != length) {
            return malformed("the Content-Length is not one number");
        }
    }
    Ok(())
}

fn malformed<T>(why: &'static str) -> Result<T, Reject> {
    Err(Reject::RequestMalformed(why))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn verdict(method: &str, uri: &str, lines: &[(&str, &str)]) -> Result<String, Reject> {
        verdict_of(Version::HTTP_11, method, uri, lines)
    }

    fn verdict_of(
        version: Version,
        method: &str,
        uri: &str,
        lines: &[(&str, &str)],
    ) -> Result<String, Reject> {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let uri: Uri = uri.parse().unwrap();
        let lines = Lines::of(&fields);
        judge(&method, &uri, version, &fields, lines, false)
            .map(|form| format!("{} {}", String::from_utf8_lossy(form.host), form.path))
    }

    #[test]
    fn plain_requests_are_well_formed() {
        for host in [
            "a",
            "a.example:8080",
            "[::1]",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
            "127.0.0.1:1",
            "A_b-c.",
        ] {
            assert_eq!(
                verdict("GET", "/x?y", &[("host", host)]),
                Ok(format!("{host} /x"))
            );
        }
        let absolute = verdict("GET", "http://A:80/x", &[("host", "a:80")]);
        assert_eq!(absolute, Ok("a:80 /x".to_owned()));
    }

    #[test]
    fn ambiguous_requests_are_not() {
        let h = ("host", "a");
        for (method, uri, lines) in [
            ("TRACE", "/", &[h][..]),
            ("CONNECT", "a:80", &[h]),
            ("GET", "/", &[]),
            ("GET", "/", &[h, h]),
            ("GET", "/", &[("host", "")]),
            ("GET", "/", &[("host", "a b")]),
            ("GET", "/", &[("host", "u@a")]),
            ("GET", "/", &[("host", "a:b")]),
            ("GET", "/", &[("host", "a,b")]),
            ("GET", "/", &[("host", "a/b")]),
            ("GET", "/", &[("host", ".")]),
            ("GET", "/", &[("host", ".a")]),
            ("GET", "/", &[("host", "a..b")]),
            ("GET", "/", &[("host", "a..")]),
            ("GET", "/", &[("host", "a..:80")]),
            ("GET", "/", &[("host", "[::1")]),
            ("GET", "/", &[("host", "[]")]),
            ("GET", "/", &[("host", "[1]")]),
            ("GET", "/", &[("host", "[1..2:3]:80")]),
            ("GET", "/", &[("host", "[127.0.0.1]")]),
            ("GET", "/", &[("host", "[::1%251]")]),
            ("GET", "/", &[("host", "[::1]x")]),
            ("GET", "http://b/", &[h]),
            ("GET", "http://u@a/", &[h]),
            ("GET", "http://a/", &[]),
            ("GET", "ftp://a/", &[h]),
            ("OPTIONS", "*", &[h]),
            ("GET", "/", &[h, ("transfer-encoding", "gzip, chunked")]),
            (
                "GET",
                "/",
                &[
                    h,
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
            ),
            ("GET", "/", &[h, ("content-length", "+5")]),
            ("GET", "/", &[h, ("content-length", "")]),
            (
                "GET",
                "/",
                &[h, ("content-length", "5"), ("content-length", "6")],
            ),
            ("GET", "/", &[h, ("content-length", "5, 5")]),
        ] {
            assert!(
                matches!(
                    verdict(method, uri, lines),
                    Err(Reject::RequestMalformed(_))
                ),
                "{method} {uri} {lines:?}"
            );
        }
    }

    #[test]
    fn http_2_has_a_slash_first_and_no_space_around_values() {
        let verdict = |uri, lines: &[_]| verdict_of(Version::HTTP_2, "GET", uri, lines);
        assert_eq!(verdict("http://a/?x", &[]), Ok("a /".to_owned()));
        assert_eq!(
            verdict("http://a/x", &[("x-a", "b \t c"), ("x-b", "")]),
            Ok("a /x".to_owned())
        );
        for (uri, lines) in [
            ("http://a?x", &[][..]),
            ("http://a/x", &[("authorization", " Bearer x")]),
            ("http://a/x", &[("authorization", "\tBearer x")]),
            ("http://a/x", &[("cookie", "a=b"), ("cookie", "c=d ")]),
            ("http://a/x", &[("x-a", "b\t")]),
            ("http://a/x", &[("x-a", " ")]),
        ] {
            let verdict = verdict(uri, lines);
            assert!(
                matches!(verdict, Err(Reject::RequestMalformed(_))),
                "{uri} {lines:?}"
            );
        }
    }
}
