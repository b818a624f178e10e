//! Browsers of other origins, where `[cors]` is configured.

use crate::harness::{KEY, Response, Upstream, World, request};

const ROUTES: &str = r#"
[[routes]]
name = "open"
prefix = "/open"
require = "nothing"

[[routes]]
name = "guarded"
prefix = "/guarded"
methods = ["GET", "PUT"]
require = ["api_key"]
"#;

const ORIGIN: &str = "https://app.example.com";
const OTHER: &str = "https://evil.example";

fn config(mode: &str) -> String {
    format!("{ROUTES}\n[cors]\nmode = \"{mode}\"\norigins = [\"{ORIGIN}\"]\nmax_age = \"10m\"\n")
}

fn upstream() -> Upstream {
    Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.answer(
            "200 OK",
            "access-control-allow-origin: *\r\naccess-control-expose-headers: x-theirs\r\naccess-control-allow-whatever-comes: theirs\r\nvary: accept\r\n",
            "ok",
        )
    })
}

fn preflight(target: &str, origin: &str) -> String {
    request(
        "OPTIONS",
        target,
        &[
            ("origin", origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-api-key, content-type"),
        ],
    )
}

/// The comma-separated items of a header, lower case.
fn items(response: &Response, name: &str) -> Vec<String> {
    response
        .headers
        .all(name)
        .iter()
        .flat_map(|line| line.split(','))
        .map(|item| item.trim().to_ascii_lowercase())
        .collect()
}

fn varies_by_origin(response: &Response) -> bool {
    items(response, "vary").iter().any(|item| item == "origin")
}

#[test]
fn a_preflight_is_answered_here_for_any_path() {
    let upstream = upstream();
    let world = World::start(&upstream, &config("answer"));
    for target in ["/guarded", "/open", "/nowhere", "/api/v1/auth/refresh"] {
        let response = world.send(preflight(target, ORIGIN));
        assert_eq!(response.status, 204, "{target}");
        let headers = &response.headers;
        assert_eq!(headers.one("access-control-allow-origin"), Some(ORIGIN));
        assert_eq!(
            headers.one("access-control-allow-credentials"),
            Some("true")
        );
        assert_eq!(headers.one("access-control-max-age"), Some("600"));
        let methods = items(&response, "access-control-allow-methods");
        assert!(
            methods
                .iter()
                .any(|method| method == "put" || method == "*"),
            "{methods:?}"
        );
        let allowed = items(&response, "access-control-allow-headers");
        assert!(allowed.contains(&"x-api-key".to_owned()), "{allowed:?}");
        assert!(varies_by_origin(&response));
    }
    upstream.assert_untouched("preflights");
}

#[test]
fn an_origin_that_is_not_listed_is_told_nothing() {
    let upstream = upstream();
    let world = World::start(&upstream, &config("answer"));
    for origin in [
        OTHER,
        "null",
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "https://APP.example.com:444",
    ] {
        let response = world.send(preflight("/guarded", origin));
        assert_eq!(response.status, 204, "{origin}");
        assert!(
            !response.headers.has("access-control-allow-origin"),
            "{origin}"
        );
        upstream.assert_untouched("a preflight");
        let response = world.get("/open", &[("origin", origin)]);
        assert_eq!(response.status, 200);
        assert!(
            !response.headers.has("access-control-allow-origin"),
            "{origin}: {:?}",
            response.headers
        );
        assert!(varies_by_origin(&response));
        upstream.take();
    }
}

#[test]
fn every_answer_can_be_read_by_a_listed_origin() {
    let upstream = upstream();
    let world = World::start(&upstream, &config("answer"));
    for (target, key, status) in [
        ("/open", "", 200),
        ("/guarded", KEY, 200),
        ("/guarded", "no-such-key-no-such-key", 401),
        ("/nowhere", "", 404),
        ("/open/../guarded", "", 400),
    ] {
        let response = world.get(target, &[("origin", ORIGIN), ("x-api-key", key)]);
        assert_eq!(response.status, status, "{target}");
        let headers = &response.headers;
        assert_eq!(
            headers.one("access-control-allow-origin"),
            Some(ORIGIN),
            "{target}"
        );
        assert_eq!(
            headers.one("access-control-allow-credentials"),
            Some("true")
        );
        let exposed = items(&response, "access-control-expose-headers");
        for name in [
            "x-session-expires-at",
            "x-session-max-expires-at",
            "x-request-id",
            "retry-after",
        ] {
            assert!(exposed.contains(&name.to_owned()), "{name} of {exposed:?}");
        }
        assert!(varies_by_origin(&response), "{target}");
        assert!(!headers.has("access-control-allow-whatever-comes"));
    }
}

#[test]
fn what_the_upstream_varies_by_stays() {
    let upstream = upstream();
    let world = World::start(&upstream, &config("answer"));
    let response = world.get("/open", &[("origin", ORIGIN)]);
    let varies = items(&response, "vary");
    assert!(varies.contains(&"accept".to_owned()), "{varies:?}");
}

#[test]
fn an_options_that_is_no_preflight_is_an_ordinary_request() {
    let upstream = upstream();
    let world = World::start(&upstream, &config("answer"));
    for headers in [
        vec![],
        vec![("origin", ORIGIN)],
        vec![("access-control-request-method", "GET")],
    ] {
        let guarded = world.send(request("OPTIONS", "/guarded", &headers));
        assert_eq!(guarded.status, 405, "{headers:?}");
        upstream.assert_untouched("no free pass");
        assert_eq!(
            world.send(request("OPTIONS", "/open", &headers)).status,
            200
        );
        assert_eq!(upstream.take().unwrap().method, "OPTIONS");
    }
}

#[test]
fn a_forwarded_preflight_carries_neither_credential_nor_identity() {
    let upstream = upstream();
    let world = World::start(&upstream, &config("forward"));
    let bytes = preflight("/guarded", ORIGIN).replace(
        "\r\n\r\n",
        &format!("\r\nx-api-key: {KEY}\r\nx-auth-subject: root\r\nauthorization: Bearer {KEY}x\r\ncookie: a=1\r\n\r\n"),
    );
    let response = world.send(&bytes);
    assert_eq!(response.status, 200);
    assert_eq!(
        response.headers.one("access-control-allow-origin"),
        Some("*"),
        "theirs, untouched"
    );
    let received = upstream.take().unwrap();
    assert_eq!(received.method, "OPTIONS");
    assert_eq!(received.headers.one("origin"), Some(ORIGIN));
    for gone in [
        "x-api-key",
        "x-auth-subject",
        "authorization",
        "cookie",
        "x-auth-methods",
    ] {
        assert!(!received.headers.has(gone), "{gone}: {received:#?}");
    }
    let plain = world.send(request("OPTIONS", "/guarded", &[("origin", ORIGIN)]));
    assert_ne!(plain.status, 200);
    upstream.assert_untouched("an OPTIONS that is no preflight");
    let nowhere = world.send(preflight("/nowhere", ORIGIN));
    assert_eq!(nowhere.status, 404);
    upstream.assert_untouched("what matches no route is never forwarded");
}

#[test]
fn a_forwarded_preflight_is_no_way_around_limits() {
    let upstream = upstream();
    let limited = config("forward").replace(
        "name = \"guarded\"\n",
        "name = \"guarded\"\nrate_limit = \"2/m\"\n",
    );
    let world = World::start(&upstream, &limited);
    let asked = preflight("/guarded", ORIGIN);
    let with_a_body = asked.replace("\r\n\r\n", "\r\ncontent-length: 2\r\n\r\nhi");
    assert_eq!(world.send(with_a_body).status, 400);
    let of_two = asked.replace("\r\n\r\n", "\r\naccess-control-request-method: GET\r\n\r\n");
    assert_eq!(world.send(of_two).status, 400);
    upstream.assert_untouched("no preflight that a browser sends");
    let answered: Vec<u16> = (0..4).map(|_| world.send(&asked).status).collect();
    assert!(answered.contains(&429), "{answered:?}");
}

#[test]
fn without_the_section_nothing_is_said_of_origins() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let response = world.get("/guarded", &[("origin", ORIGIN)]);
    assert_eq!(response.status, 401);
    assert!(!response.headers.has("access-control-allow-origin"));
    assert_eq!(world.send(preflight("/guarded", ORIGIN)).status, 405);
    upstream.assert_untouched("OPTIONS is a request like any other");
}
