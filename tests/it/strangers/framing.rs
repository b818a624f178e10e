//! Messages whose end is in dispute: what a second reader would take for another request.

use super::{Field, exchange};
use crate::harness::{KEY, Upstream, World, request};

/// A second request that must never be served without a key, ending the connection.
const HIDDEN: &str = "GET /admin HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\n\r\n";

/// A request on the public path with these framing lines and this body, and a request hidden behind it.
fn post(lines: &str, body: &str) -> String {
    format!("POST /public HTTP/1.1\r\nhost: api.test\r\n{lines}\r\n{body}{HIDDEN}")
}

#[test]
fn a_transfer_encoding_other_than_chunked_is_refused() {
    let field = Field::new();
    let body = "5\r\nhello\r\n0\r\n\r\n";
    for lines in [
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked;q=1\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding: chunked\x0b\r\n",
        "transfer-encoding:\r\n",
        "transfer-encoding: ,chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip, chunked\r\ncontent-length: 5\r\n",
    ] {
        field.refused(lines, post(lines, body), &[400, 0]);
    }
}

#[test]
fn a_length_that_is_no_length_is_refused() {
    let field = Field::new();
    for lines in [
        "content-length: +5\r\n",
        "content-length: -5\r\n",
        "content-length:\r\n",
        "content-length: 5 5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5;\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 6\r\ncontent-length: 5\r\n",
        "content-length: 5, 6\r\n",
        "content-length: 99999999999999999999999\r\n",
        "content-length: five\r\n",
    ] {
        field.refused(lines, post(lines, "hello"), &[400, 0]);
    }
}

#[test]
fn what_the_library_normalises_is_framed_anew() {
    let field = Field::new();
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    for (case, bytes) in [
        (
            "a length before chunked",
            post(
                "content-length: 4\r\ntransfer-encoding: chunked\r\n",
                chunks,
            ),
        ),
        (
            "a length after chunked",
            post(
                "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
                chunks,
            ),
        ),
        (
            "a length that covers the hidden request",
            post(
                "transfer-encoding: chunked\r\ncontent-length: 100\r\n",
                chunks,
            ),
        ),
        (
            "a chunked body of nothing, a length that says more",
            post(
                "content-length: 5\r\ntransfer-encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
        ),
        (
            "a length said twice",
            post("content-length: 5, 5\r\n", "hello"),
        ),
        (
            "a length on two lines",
            post("content-length: 5\r\ncontent-length: 5\r\n", "hello"),
        ),
        (
            "chunked in capitals",
            post("Transfer-Encoding: CHUNKED\r\n", chunks),
        ),
        (
            "a chunk extension",
            post(
                "transfer-encoding: chunked\r\n",
                "5;a=b\r\nhello\r\n0\r\n\r\n",
            ),
        ),
        (
            "a quoted chunk extension",
            post(
                "transfer-encoding: chunked\r\n",
                "5;a=\"\r\nhello\r\n0\r\n\r\n",
            ),
        ),
        (
            "leading zeros",
            post(
                "transfer-encoding: chunked\r\n",
                "0005\r\nhello\r\n000\r\n\r\n",
            ),
        ),
        (
            "a chunk size with white space",
            post("transfer-encoding: chunked\r\n", "5 \r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "bare line feeds",
            "GET /public HTTP/1.1\nhost: api.test\n\n".to_owned(),
        ),
        (
            "a bare line feed before a forged header",
            "GET /public HTTP/1.1\r\nhost: api.test\r\nx-a: b\nx-auth-subject: root\r\n\r\n"
                .to_owned(),
        ),
    ] {
        field.harmless(case, bytes);
    }
}

#[test]
fn a_broken_body_is_never_finished_on_its_senders_behalf() {
    let field = Field::new();
    for (case, body) in [
        ("a chunk shorter than it says", "9\r\nhello\r\n0\r\n\r\n"),
        ("a chunk longer than it says", "3\r\nhello\r\n0\r\n\r\n"),
        ("a chunk size that is no number", "x\r\nhello\r\n0\r\n\r\n"),
        ("a signed chunk size", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a hexadecimal prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        (
            "a chunk size beyond 64 bits",
            "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        ),
    ] {
        let bytes = format!(
            "POST /public HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{body}"
        );
        for world in [&field.narrow, &field.wide] {
            let mut client = world.connect();
            client.send(&bytes);
            client.patience(std::time::Duration::from_millis(300));
            let answer = client.try_response("POST").map(|response| response.status);
            drop(client);
            assert!(!matches!(answer, Ok(200)), "{case}");
            assert!(
                field.upstream.received().iter().all(|seen| !seen.complete),
                "{case}: {:#?}",
                field.upstream.received()
            );
            field.upstream.take();
        }
    }
}

#[test]
fn a_line_that_two_readers_split_differently_is_refused() {
    let field = Field::new();
    for (case, lines) in [
        ("an empty name", ": x\r\n"),
        ("a space before the colon", "x-api-key : x\r\n"),
        (
            "a space before the colon of a length",
            "content-length : 5\r\n",
        ),
        ("a tab before the colon", "transfer-encoding\t: chunked\r\n"),
        ("a space within a name", "x auth subject: root\r\n"),
        ("no colon", "x-auth-subject\r\n"),
        ("a folded line", "x-a: b\r\n x-auth-subject: root\r\n"),
        ("a folded line with a tab", "x-a: b\r\n\tc\r\n"),
        ("a first line that is folded", " x-auth-subject: root\r\n"),
        ("a NUL in a value", "x-a: b\0c\r\n"),
        ("a NUL in a name", "x\0a: b\r\n"),
        (
            "a carriage return in a value",
            "x-a: b\rx-auth-subject: root\r\n",
        ),
        ("a control byte in a value", "x-a: b\x01c\r\n"),
        ("a parenthesis in a name", "x(a): b\r\n"),
    ] {
        let bytes = format!("GET /public HTTP/1.1\r\nhost: api.test\r\n{lines}\r\n");
        field.refused(case, bytes, &[400, 0]);
    }
    for (case, bytes) in [
        (
            "another protocol",
            "GET /public HTTP/2.0\r\nhost: api.test\r\n\r\n",
        ),
        (
            "a version of its own",
            "GET /public HTTP/1.2\r\nhost: api.test\r\n\r\n",
        ),
        ("no version", "GET /public\r\nhost: api.test\r\n\r\n"),
        ("a TLS hello", "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n"),
        (
            "a method with a space",
            "GE T /public HTTP/1.1\r\nhost: api.test\r\n\r\n",
        ),
        ("no method", " /public HTTP/1.1\r\nhost: api.test\r\n\r\n"),
    ] {
        field.refused(case, bytes, &[400, 0]);
    }
}

#[test]
fn http_1_0_has_no_transfer_encoding() {
    let field = Field::new();
    let bytes = format!(
        "POST /public HTTP/1.0\r\nhost: api.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{HIDDEN}"
    );
    field.refused("chunked", bytes, &[400, 0]);
    let bytes = format!(
        "POST /public HTTP/1.0\r\nhost: api.test\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n{HIDDEN}"
    );
    field.refused("chunked and a length", bytes, &[400, 0]);
    let received = field.passes("plain", "GET /public HTTP/1.0\r\nhost: api.test\r\n\r\n");
    assert!(received.raw.starts_with(b"GET /public HTTP/1.1\r\n"));
}

#[test]
fn an_upgrade_hides_no_second_request() {
    let field = Field::new();
    for upgrade in ["foo", "h2c", "TLS/1.0", "websocket, foo", "HTTP/3.0"] {
        let bytes = format!(
            "GET /public HTTP/1.1\r\nhost: api.test\r\nconnection: Upgrade, HTTP2-Settings\r\n\
             upgrade: {upgrade}\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n{HIDDEN}"
        );
        field.harmless(upgrade, bytes);
    }
    let bytes = "GET /public HTTP/1.1\r\nhost: api.test\r\nconnection: Upgrade, HTTP2-Settings\r\n\
                 upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n";
    let received = field.passes("h2c", bytes);
    for gone in ["upgrade", "connection", "http2-settings"] {
        assert!(!received.headers.has(gone), "{gone}: {received:#?}");
    }
}

#[test]
fn an_upstream_that_upgrades_unasked_opens_no_tunnel() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.write(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n",
        )?;
        exchange.peer_closes();
        Ok(())
    });
    let world = World::start(&upstream, super::NARROW);
    let bytes = format!(
        "GET /public HTTP/1.1\r\nhost: api.test\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n{HIDDEN}"
    );
    assert_eq!(exchange(&world, bytes.as_bytes()), 502);
    let received = upstream.received();
    assert!(
        received.iter().all(|seen| seen.target == "/public"),
        "{received:#?}"
    );
}

#[test]
fn an_unread_body_is_not_the_next_request() {
    let field = Field::new();
    let body = HIDDEN.repeat(20_000);
    let bytes = format!(
        "POST /admin HTTP/1.1\r\nhost: api.test\r\ncontent-length: {}\r\n\r\n{body}{HIDDEN}",
        body.len()
    );
    for world in [&field.narrow, &field.wide] {
        let client = world.connect();
        let mut writer = client.writer();
        let sent = bytes.clone();
        let writing = std::thread::spawn(move || {
            use std::io::Write as _;
            let _ = writer.write_all(sent.as_bytes());
        });
        let mut client = client;
        assert_eq!(super::answered(&mut client, "POST"), 401);
        client.patience(std::time::Duration::from_millis(500));
        while let Ok(more) = client.try_response("GET") {
            assert_eq!(more.status, 401);
        }
        drop(client);
        writing.join().unwrap();
        field.upstream.assert_untouched("an unread body");
    }
}

#[test]
fn pipelined_requests_are_judged_one_by_one() {
    let field = Field::new();
    let mut client = field.narrow.connect();
    let keyed = request("GET", "/admin/a", &[("x-api-key", KEY)]);
    let bare = request("GET", "/admin/b", &[]);
    let open = request("GET", "/public/c", &[]);
    client.send(format!("{keyed}{bare}{open}{keyed}{bare}"));
    let statuses: Vec<u16> = (0..5).map(|_| client.response().status).collect();
    assert_eq!(statuses, [200, 401, 200, 200, 401]);
    let targets: Vec<String> = field
        .upstream
        .received()
        .into_iter()
        .map(|received| received.target)
        .collect();
    assert_eq!(targets, ["/admin/a", "/public/c", "/admin/a"]);
}
