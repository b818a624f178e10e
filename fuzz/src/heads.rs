//! The form of a request: method, target, host, framing.

use http::uri::Authority;
use http::{Method, Version, header};

use crate::request::{self, Head};
use crate::rules::form::{self, Form, Line, Lines};

/// A request head as it stands on the wire.
///
/// What is well formed has one host that every reader of authorities reads, one framing, and is still
/// well formed when it is written down again.
pub fn heads(data: &[u8]) {
    let Some(head) = request::head(data) else {
        return;
    };
    let lines = Lines::of(&head.fields);
    for (line, name) in [
        (Line::Authorization, header::AUTHORIZATION),
        (Line::Connection, header::CONNECTION),
        (Line::ContentLength, header::CONTENT_LENGTH),
        (Line::ContentType, header::CONTENT_TYPE),
        (Line::Cookie, header::COOKIE),
        (Line::Te, header::TE),
        (Line::Trailer, header::TRAILER),
        (Line::TransferEncoding, header::TRANSFER_ENCODING),
        (Line::Upgrade, header::UPGRADE),
    ] {
        assert_eq!(lines.has(line), head.fields.contains(&name));
    }
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        let Head {
            method,
            uri,
            fields,
        } = &head;
        let Ok(form) = form::judge(method, uri, version, fields, lines, false) else {
            continue;
        };
        assert!(*method != Method::TRACE && *method != Method::CONNECT);
        check_host(&head, form);
        check_framing(&head, version);

        // The same, as whoever it is forwarded to reads it.
        let written = format!(
            "{method} {} HTTP/1.1\r\nhost: {}\r\n\r\n",
            form.path,
            text(form.host)
        );
        let Some(again) = request::head(written.as_bytes()) else {
            panic!("it cannot be read again: {written:?}");
        };
        let lines = Lines::of(&again.fields);
        let judged = form::judge(
            &again.method,
            &again.uri,
            Version::HTTP_11,
            &again.fields,
            lines,
            false,
        );
        assert_eq!(judged, Ok(form));
    }
}

fn text(host: &[u8]) -> &str {
    std::str::from_utf8(host).unwrap_or_else(|_| panic!("{host:?} is no host"))
}

fn check_host(head: &Head, form: Form<'_>) {
    let Form { host, path } = form;
    let host = text(host);
    assert!(
        path.starts_with('/') && !path.contains(['?', '#']),
        "{path}"
    );
    let read: Authority = host.parse().unwrap_or_else(|_| panic!("{host} is no host"));
    assert_eq!(read.as_str(), host);
    assert!(!host.contains(['@', '/', '\\', ',', ' ', '%']), "{host}");
    assert!(!host.contains(".."), "{host}");
    assert!(head.fields.get_all(&header::HOST).count() <= 1);
    for said in head.fields.get_all(&header::HOST) {
        assert!(said.eq_ignore_ascii_case(host.as_bytes()));
    }
    if let Some(said) = head.uri.authority() {
        assert!(said.as_str().eq_ignore_ascii_case(host));
    }
}

fn check_framing(head: &Head, version: Version) {
    let codings = head.fields.get_all(&header::TRANSFER_ENCODING);
    let codings: Vec<_> = codings.collect();
    match &codings[..] {
        [] => {}
        [coding] => {
            assert!(coding.eq_ignore_ascii_case(b"chunked"));
            assert!(version >= Version::HTTP_11);
        }
        _ => panic!("it has two transfer codings"),
    }
    let mut lengths = head.fields.get_all(&header::CONTENT_LENGTH);
    if let Some(first) = lengths.next() {
        assert!(first.iter().all(u8::is_ascii_digit) && !first.is_empty());
        assert!(lengths.all(|other| other == first));
    }
}
