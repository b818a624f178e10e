//! Cleartext HTTP/2 callers before an HTTP/1.1 upstream.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};

use crate::harness::{Frames, H2, KEY, RawAnswer, Upstream, World, eventually, with_trailers};

const ROUTES: &str = r#"
[[routes]]
name = "public"
prefix = "/public"
require = "nothing"

[[routes]]
name = "admin"
prefix = "/admin"
require = ["api_key"]
"#;

#[test]
fn a_request_becomes_http_1_1() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut h2 = H2::connect(world.proxy());
    let request = Request::builder()
        .method(Method::PATCH)
        .uri("http://api.test/admin/a%20b?c=%2f")
        .header("x-api-key", KEY)
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-plain", "stays")
        .body(Full::new(Bytes::from_static(b"hello")).boxed())
        .unwrap();
    let response = h2.send(request);
    assert_eq!(response.status, 200);
    assert!(response.headers.contains_key("x-request-id"));
    let received = upstream.only();
    assert!(
        received
            .raw
            .starts_with(b"PATCH /admin/a%20b?c=%2f HTTP/1.1\r\n")
    );
    assert_eq!(received.body, b"hello");
    assert_eq!(received.headers.one("host"), Some("api.test"));
    assert_eq!(
        received.headers.all("cookie"),
        ["a=1; b=2"],
        "crumbs are joined (RFC 9113 §8.2.3)"
    );
    assert_eq!(received.headers.one("x-auth-subject"), Some("platform"));
    assert_eq!(received.headers.one("x-plain"), Some("stays"));
    assert!(!received.headers.has("x-api-key"));
    upstream.assert_sane();
}

#[test]
fn many_streams_share_a_connection() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut h2 = H2::connect(world.proxy());
    let statuses: Vec<u16> = h2.with(async |sender| {
        let answers: Vec<_> = (0..100)
            .map(|n| {
                let request = Request::get(format!("http://api.test/admin/{n}"));
                let request = if n % 2 == 0 {
                    request.header("x-api-key", KEY)
                } else {
                    request
                };
                sender.send_request(request.body(crate::harness::empty()).unwrap())
            })
            .collect();
        let mut statuses = Vec::new();
        for answer in answers {
            statuses.push(answer.await.unwrap().status().as_u16());
        }
        statuses
    });
    for (n, status) in statuses.iter().enumerate() {
        assert_eq!(*status, if n % 2 == 0 { 200 } else { 401 }, "{n}");
    }
    assert_eq!(upstream.received().len(), 50);
}

#[test]
fn trailers_pass_and_cannot_say_what_a_header_may_not() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.write(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: grpc-status\r\n\r\n\
             2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n",
        )
    });
    let world = World::start(&upstream, ROUTES);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    trailers.insert("x-auth-subject", "root".parse().unwrap());
    trailers.insert("x_auth_subject", "root".parse().unwrap());
    let request = Request::post("http://api.test/public")
        .header("te", "trailers")
        .header("trailer", "x-sum, x-auth-subject, x_auth_subject")
        .body(with_trailers("hi", trailers))
        .unwrap();
    let response = H2::connect(world.proxy()).send(request);
    assert_eq!(response.body, "ok");
    assert_eq!(response.trailers.unwrap()["grpc-status"], "0");
    let received = upstream.only();
    assert_eq!(received.body, b"hi");
    assert_eq!(received.trailers.0, [("x-sum".to_owned(), "7".to_owned())]);
}

/// A head in bare frames, on a connection of its own.
fn answer(world: &World, fields: &[(&str, &str)]) -> RawAnswer {
    let mut frames = Frames::connect(world.proxy());
    let _ = frames.headers(1, fields, true);
    frames.answer(1)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table is as long as its cases")]
fn a_head_that_is_no_head_is_refused() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let method = (":method", "GET");
    let scheme = (":scheme", "http");
    let path = (":path", "/public");
    let authority = (":authority", "api.test");
    for (case, fields) in [
        (
            "a path without a slash",
            vec![method, scheme, (":path", "public"), authority],
        ),
        (
            "a path that is an address",
            vec![method, scheme, (":path", "http://x/admin"), authority],
        ),
        (
            "an empty path",
            vec![method, scheme, (":path", ""), authority],
        ),
        ("no path", vec![method, scheme, authority]),
        (
            "an asterisk",
            vec![method, scheme, (":path", "*"), authority],
        ),
        (
            "a path with a space",
            vec![method, scheme, (":path", "/public /admin"), authority],
        ),
        (
            "a path with a line in it",
            vec![
                method,
                scheme,
                (":path", "/public HTTP/1.1\r\nx: y"),
                authority,
            ],
        ),
        (
            "two paths",
            vec![method, scheme, path, (":path", "/admin"), authority],
        ),
        (
            "two readings",
            vec![method, scheme, (":path", "/public/../admin"), authority],
        ),
        (
            "another case",
            vec![method, scheme, (":path", "/ADMIN"), authority],
        ),
        (
            "another host",
            vec![method, scheme, path, authority, ("host", "other.test")],
        ),
        (
            "two hosts",
            vec![
                method,
                scheme,
                path,
                ("host", "api.test"),
                ("host", "other.test"),
            ],
        ),
        ("no host", vec![method, scheme, path]),
        (
            "two authorities",
            vec![
                method,
                scheme,
                path,
                authority,
                (":authority", "other.test"),
            ],
        ),
        (
            "user information",
            vec![method, scheme, path, (":authority", "a@api.test")],
        ),
        (
            "a method with a line in it",
            vec![
                (":method", "GET /admin HTTP/1.1\r\nx:"),
                scheme,
                path,
                authority,
            ],
        ),
        ("no method", vec![scheme, path, authority]),
        ("connect", vec![(":method", "CONNECT"), authority]),
        ("trace", vec![(":method", "TRACE"), scheme, path, authority]),
        (
            "an unknown pseudo-header",
            vec![method, scheme, path, authority, (":admin", "1")],
        ),
        (
            "a pseudo-header after a header",
            vec![method, scheme, path, ("x-a", "b"), authority],
        ),
        (
            "capitals",
            vec![method, scheme, path, authority, ("X-Auth-Subject", "root")],
        ),
        (
            "a connection header",
            vec![
                method,
                scheme,
                path,
                authority,
                ("connection", "x-auth-subject"),
            ],
        ),
        (
            "a transfer encoding",
            vec![
                method,
                scheme,
                path,
                authority,
                ("transfer-encoding", "chunked"),
            ],
        ),
        (
            "an upgrade",
            vec![method, scheme, path, authority, ("upgrade", "h2c")],
        ),
        (
            "a line in a value",
            vec![
                method,
                scheme,
                path,
                authority,
                ("x-a", "b\r\nx-auth-subject: root"),
            ],
        ),
        (
            "a line feed in a value",
            vec![
                method,
                scheme,
                path,
                authority,
                ("x-a", "b\nx-auth-subject: root"),
            ],
        ),
        (
            "a NUL in a value",
            vec![method, scheme, path, authority, ("x-a", "b\0")],
        ),
        (
            "a colon in a name",
            vec![method, scheme, path, authority, ("x-a: b", "c")],
        ),
        (
            "a line in a name",
            vec![
                method,
                scheme,
                path,
                authority,
                ("x-a\r\nx-auth-subject", "root"),
            ],
        ),
        (
            "an empty name",
            vec![method, scheme, path, authority, ("", "root")],
        ),
        (
            "a length without a body",
            vec![method, scheme, path, authority, ("content-length", "5")],
        ),
        (
            "a length that is none",
            vec![method, scheme, path, authority, ("content-length", "+0")],
        ),
    ] {
        let got = answer(&world, &fields);
        assert!(got.is_refusal(), "{case}: {got:?}");
        upstream.assert_untouched(case);
    }
}

#[test]
fn the_guard_stands_before_http2_as_well() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let head = |path| {
        vec![
            (":method", "GET"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "api.test"),
        ]
    };
    for path in ["/admin", "/adm%69n", "/admin/?x=/public"] {
        assert_eq!(
            answer(&world, &head(path)),
            RawAnswer::Status(401),
            "{path}"
        );
    }
    assert_eq!(answer(&world, &head("/elsewhere")), RawAnswer::Status(404));
    upstream.assert_untouched("no key");
    let fields = [
        head("/public"),
        vec![
            ("x-auth-subject", "root"),
            ("x_auth_subject", "root"),
            ("te", "trailers"),
        ],
    ]
    .concat();
    assert_eq!(answer(&world, &fields), RawAnswer::Status(200));
    let received = upstream.take().unwrap();
    assert!(!String::from_utf8_lossy(&received.raw).contains("root"));
    let with_key = [
        head("/admin"),
        vec![("x-api-key", KEY), ("host", "api.test")],
    ]
    .concat();
    assert_eq!(answer(&world, &with_key), RawAnswer::Status(200));
    assert_eq!(
        upstream.take().unwrap().headers.one("host"),
        Some("api.test")
    );
}

#[test]
fn a_body_longer_or_shorter_than_its_length_is_not_passed_off_as_whole() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    for body in [&b"hell"[..], b"hello, GET /admin HTTP/1.1"] {
        let mut frames = Frames::connect(world.proxy());
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/public"),
            (":authority", "api.test"),
            ("content-length", "5"),
        ];
        frames.headers(1, &fields, false).unwrap();
        let _ = frames.data(1, body, true);
        let got = frames.answer(1);
        assert!(got.is_refusal(), "{got:?}");
        let received = upstream.received();
        assert!(received.iter().all(|seen| !seen.complete), "{received:#?}");
        upstream.take();
    }
}

#[test]
fn a_flood_of_resets_is_ended() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut frames = Frames::connect(world.proxy());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/admin"),
        (":authority", "api.test"),
    ];
    let before = world.peak_memory();
    let ended = (0..50_000_u32).any(|n| {
        let stream = 2 * n + 1;
        frames.headers(stream, &fields, true).is_err() || frames.reset(stream).is_err()
    });
    assert!(ended, "fifty thousand streams were opened and reset");
    upstream.assert_untouched("a flood of resets");
    assert_eq!(world.status_with("/admin", KEY), 200, "others are served");
    assert!(world.peak_memory() - before < 16 * 1024);
}

#[test]
fn a_header_block_without_end_is_ended() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut frames = Frames::connect(world.proxy());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/admin"),
        (":authority", "api.test"),
    ];
    let before = world.peak_memory();
    frames.unfinished_headers(1, &fields).unwrap();
    let filling = "x".repeat(1000);
    let ended = (0..20_000).any(|_| frames.continuation(1, &[("x-filling", &filling)]).is_err());
    assert!(ended, "twenty megabytes of one head were taken");
    assert_eq!(world.status_with("/admin", KEY), 200, "others are served");
    assert!(world.peak_memory() - before < 16 * 1024);
}

#[test]
fn a_body_in_crumbs_is_bounded() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut frames = Frames::connect(world.proxy());
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/admin"),
        (":authority", "api.test"),
    ];
    let before = world.peak_memory();
    frames.headers(1, &fields, false).unwrap();
    // The stream is refused at its head; whether its crumbs are read or reset, nobody keeps them.
    for _ in 0..50_000 {
        if frames.data(1, b"x", false).is_err() {
            break;
        }
    }
    upstream.assert_untouched("crumbs");
    assert_eq!(world.status_with("/admin", KEY), 200, "others are served");
    assert!(world.peak_memory() - before < 16 * 1024);
}

#[test]
fn a_stream_that_is_reset_takes_its_request_along() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.peer_closes();
        Ok(())
    });
    let mut world = World::start(&upstream, ROUTES);
    let mut frames = Frames::connect(world.proxy());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/public/reset"),
        (":authority", "api.test"),
    ];
    frames.headers(1, &fields, true).unwrap();
    eventually("the request arrived", || upstream.received().len() == 1);
    frames.reset(1).unwrap();
    eventually("the upstream's connection is ended", || {
        upstream.open() == 0
    });
    assert_eq!(world.access("/public/reset").field("status"), 499);
}

#[test]
fn a_connection_that_says_nothing_after_its_preface_is_parted_with() {
    let upstream = Upstream::echo();
    let limits = "[limits]\nhead_timeout = \"300ms\"\nidle_timeout = \"300ms\"\n";
    let world = World::start(&upstream, &format!("{ROUTES}\n{limits}"));
    let mut frames = Frames::connect(world.proxy());
    let begun = std::time::Instant::now();
    assert_eq!(frames.answer(1), RawAnswer::Closed);
    assert!(begun.elapsed() < Duration::from_secs(5));
}
