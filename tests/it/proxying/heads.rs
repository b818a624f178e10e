//! Heads: what is kept, what is written, what is taken out, in both directions.

use super::ROUTES;
use crate::harness::{KEY, Received, Upstream, World, request};

fn guarded(headers: &[(&str, &str)]) -> (Received, crate::harness::Response) {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let headers = [&[("x-api-key", KEY)], headers].concat();
    let response = world.get("/guarded/a%20b?c=%2F&d", &headers);
    (upstream.only(), response)
}

#[test]
fn the_caller_is_named_and_the_key_is_gone() {
    let (received, response) = guarded(&[("x-plain", "stays")]);
    assert_eq!(response.status, 200);
    assert_eq!(received.target, "/guarded/a%20b?c=%2F&d");
    let one = |name: &str| received.headers.one(name);
    assert_eq!(one("x-auth-subject"), Some("platform"));
    assert_eq!(one("x-auth-methods"), Some("api_key"));
    assert_eq!(one("x-auth-key-id"), Some("static:ci"));
    assert_eq!(one("x-auth-key-owner"), Some("platform"));
    assert_eq!(one("x-auth-scopes"), Some("portfolio:read"));
    assert_eq!(one("x-auth-session-id"), None);
    assert_eq!(one("x-plain"), Some("stays"));
    assert_eq!(one("host"), Some("api.test"));
    assert_eq!(one("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(one("x-forwarded-proto"), Some("http"));
    assert_eq!(one("x-forwarded-host"), Some("api.test"));
    assert_eq!(one("x-request-id"), response.headers.one("x-request-id"));
    assert!(one("x-request-id").is_some_and(|id| !id.is_empty()));
    assert!(!String::from_utf8_lossy(&received.raw).contains(KEY));
}

#[test]
fn everything_else_is_unchanged() {
    let (received, _) = guarded(&[
        ("cookie", "a=1; b=\"2\""),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("accept", "text/html;q=0.5, */*"),
        ("accept", "text/plain"),
        ("range", "bytes=0-4"),
        ("if-none-match", "W/\"x\""),
        ("x-odd", "a  b\t c"),
    ]);
    let all = |name: &str| received.headers.all(name);
    assert_eq!(all("cookie"), ["a=1; b=\"2\""]);
    assert_eq!(all("traceparent").len(), 1);
    assert_eq!(all("accept"), ["text/html;q=0.5, */*", "text/plain"]);
    assert_eq!(all("range"), ["bytes=0-4"]);
    assert_eq!(all("if-none-match"), ["W/\"x\""]);
    assert_eq!(all("x-odd"), ["a  b\t c"]);
}

#[test]
fn the_refresh_cookie_stays_with_gatelet() {
    let (received, _) = guarded(&[("cookie", "a=1; __Host-refresh=secret; b=2")]);
    assert_eq!(received.headers.all("cookie"), ["a=1; b=2"]);
    let (received, _) = guarded(&[("cookie", "__Host-refresh=secret")]);
    assert!(!received.headers.has("cookie"));
}

#[test]
fn a_key_goes_upstream_only_where_the_route_forwards_it() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let bearer = format!("Bearer {KEY}");
    for (name, value) in [("x-api-key", KEY), ("authorization", &bearer)] {
        for (target, shown) in [("/guarded", None), ("/shown", Some(value)), ("/open", None)] {
            assert_eq!(world.get(target, &[(name, value)]).status, 200);
            let received = upstream.take().unwrap();
            assert_eq!(received.headers.one(name), shown, "{target}");
        }
    }
}

#[test]
fn a_bearer_that_is_not_gatelets_passes_where_the_route_is_open() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    for (target, headers) in [
        ("/open", vec![("authorization", "Bearer theirs")]),
        ("/open", vec![("authorization", "Basic dTpw")]),
        (
            "/guarded",
            vec![("x-api-key", KEY), ("authorization", "Bearer theirs")],
        ),
    ] {
        assert_eq!(world.get(target, &headers).status, 200, "{headers:?}");
        let received = upstream.take().unwrap();
        let theirs = headers.last().unwrap().1;
        assert_eq!(received.headers.one("authorization"), Some(theirs));
        assert!(!received.headers.has("x-api-key"));
    }
    assert_eq!(
        world
            .get("/guarded", &[("authorization", "Bearer theirs")])
            .status,
        401
    );
    upstream.assert_untouched("a bearer of somebody else's");
}

#[test]
fn the_host_is_kept_as_it_was_written() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    for host in ["Api.Test:8443", "127.0.0.1:9", "[::1]:80", "api.test."] {
        let bytes = format!("GET /open HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(world.send(bytes).status, 200, "{host}");
        let received = upstream.take().unwrap();
        assert_eq!(received.headers.one("host"), Some(host));
        assert_eq!(received.headers.one("x-forwarded-host"), Some(host));
    }
}

#[test]
fn forwarding_headers_are_believed_from_trusted_proxies_alone() {
    let claims = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "public.test"),
        ("x-request-id", "their-request-id-1"),
    ];
    let upstream = Upstream::echo();
    let doubting = World::start(&upstream, ROUTES);
    assert_eq!(doubting.get("/open", &claims).status, 200);
    let received = upstream.take().unwrap();
    assert_eq!(received.headers.one("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(received.headers.one("x-forwarded-proto"), Some("http"));
    assert_eq!(received.headers.one("x-forwarded-host"), Some("api.test"));
    assert_ne!(
        received.headers.one("x-request-id"),
        Some("their-request-id-1")
    );

    let trusting = World::start(
        &upstream,
        &format!("{ROUTES}\n[forwarded]\ntrusted_proxies = [\"127.0.0.0/8\"]\n"),
    );
    let response = trusting.get("/open", &claims);
    assert_eq!(
        response.headers.one("x-request-id"),
        Some("their-request-id-1")
    );
    let received = upstream.take().unwrap();
    assert_eq!(
        received.headers.one("x-forwarded-for"),
        Some("203.0.113.9, 127.0.0.1")
    );
    assert_eq!(received.headers.one("x-forwarded-proto"), Some("https"));
    assert_eq!(
        received.headers.one("x-forwarded-host"),
        Some("public.test")
    );
    assert_eq!(
        received.headers.one("x-request-id"),
        Some("their-request-id-1")
    );
}

#[test]
fn connection_cannot_take_the_forwarding_headers_away() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!("{ROUTES}\n[forwarded]\ntrusted_proxies = [\"127.0.0.0/8\"]\n"),
    );
    let lines = [
        ("connection", "x-forwarded-proto, x-forwarded-host"),
        ("connection", "x-forwarded-for"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "public.test"),
    ];
    assert_eq!(world.get("/open", &lines).status, 200);
    let received = upstream.only();
    assert_eq!(received.headers.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(received.headers.all("x-forwarded-proto"), ["http"]);
    assert_eq!(received.headers.all("x-forwarded-host"), ["api.test"]);
}

#[test]
fn a_target_of_nothing_but_a_query_asks_for_the_root() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        "[[routes]]\nprefix = \"/\"\nrequire = \"nothing\"\n",
    );
    for (target, seen) in [
        ("http://api.test?x=1", "/?x=1"),
        ("http://api.test", "/"),
        ("/?x=1", "/?x=1"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nhost: api.test\r\n\r\n");
        assert_eq!(world.send(head).status, 200, "{target}");
        assert_eq!(upstream.take().unwrap().target, seen, "{target}");
    }
}

#[test]
fn the_identity_prefix_is_the_operators() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!("{ROUTES}\n[identity]\nprefix = \"x-caller-\"\n"),
    );
    let headers = [("x-api-key", KEY), ("X_Caller_Subject", "root")];
    assert_eq!(world.get("/guarded", &headers).status, 200);
    let received = upstream.take().unwrap();
    assert_eq!(received.headers.one("x-caller-subject"), Some("platform"));
    assert!(!received.headers.has("x-auth-subject"));
    assert!(!String::from_utf8_lossy(&received.raw).contains("root"));
}

#[test]
fn an_answer_is_relayed_but_for_what_is_gatelets() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.answer(
            "418 I'm a teapot",
            "server: theirs\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nset-cookie: __Host-refresh=forged; Secure\r\n\
             x-session-expires-at: 1\r\nX-Session-Max-Expires-At: 2\r\nconnection: x-hop\r\nx-hop: 1\r\n\
             keep-alive: timeout=5\r\nx-cafe: c\r\nwww-authenticate: Basic realm=\"theirs\"\r\n",
            "short and stout",
        )
    });
    let world = World::start(&upstream, ROUTES);
    let response = world.get("/open", &[]);
    assert_eq!(
        (response.status, &*response.text()),
        (418, "short and stout")
    );
    let headers = &response.headers;
    assert_eq!(headers.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(headers.one("server"), Some("theirs"));
    assert_eq!(
        headers.one("www-authenticate"),
        Some("Basic realm=\"theirs\"")
    );
    assert_eq!(headers.one("x-cafe"), Some("c"));
    for gone in [
        "x-session-expires-at",
        "x-session-max-expires-at",
        "x-hop",
        "keep-alive",
    ] {
        assert!(!headers.has(gone), "{gone}: {headers:?}");
    }
    assert!(headers.one("x-request-id").is_some());
}

#[test]
fn answers_without_a_body_stay_without() {
    let upstream = Upstream::scripted(|exchange| {
        let request = exchange.read_body()?;
        match request.target.as_str() {
            "/open/204" => exchange.write("HTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n"),
            "/open/304" => exchange.write("HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n"),
            "/open/103" => exchange.write(
                "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            ),
            _ => exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n"),
        }
    });
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    for (method, target, status) in [
        ("GET", "/open/204", 204),
        ("GET", "/open/304", 304),
        ("HEAD", "/open/x", 200),
        ("GET", "/open/103", 200),
        ("HEAD", "/open/204", 204),
    ] {
        let response = client
            .send(request(method, target, &[]))
            .response_to(method);
        assert_eq!(response.status, status, "{method} {target}");
        if method == "HEAD" && status == 200 {
            assert_eq!(response.headers.one("content-length"), Some("1234"));
        }
    }
    assert!(
        upstream
            .received()
            .iter()
            .any(|received| received.method == "HEAD")
    );
}

#[test]
fn an_answer_is_framed_by_what_arrived_and_not_by_a_length_beside_it() {
    // RFC 9112 §6.3: the Transfer-Encoding overrides the length.
    for length in ["2", "9"] {
        let upstream = Upstream::scripted(move |exchange| {
            exchange.write(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n\
                 5\r\nhello\r\n0\r\n\r\n"
            ))
        });
        let world = World::start(&upstream, ROUTES);
        let response = world.get("/open", &[]);
        assert_eq!(response.text(), "hello", "length {length}");
        assert!(!response.headers.has("content-length"), "length {length}");
    }
}
