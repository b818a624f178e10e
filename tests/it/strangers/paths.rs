//! Targets that mean one path to gatelet and another to an upstream.

use super::{Field, exchange};
use crate::harness::{KEY, request};

/// Targets that some upstream would serve as `/admin`, or that mean nothing: 400 wherever they are
/// sent, with or without a key.
const AMBIGUOUS: &[&str] = &[
    "/public/../admin",
    "/public/./../admin",
    "/public//../admin",
    "/public/x/../../admin",
    "/public/%2e%2e/admin",
    "/public/%2E%2e/admin",
    "/public/.%2e/admin",
    "/public/%2e./admin",
    "/public/..%2fadmin",
    "/public/..%2Fadmin",
    "/public%2f..%2fadmin",
    "/public/%2e%2e%2fadmin",
    "/public/..%5cadmin",
    "/public%5c..%5cadmin",
    "/public\\..\\admin",
    "/public/..\\admin",
    "/public/%252e%252e/admin",
    "/public/..%252fadmin",
    "/public%252f..%252fadmin",
    "/public/%252e%252e%252fadmin",
    "/public/%25%32%65%25%32%65/admin",
    "/public/..;/admin",
    "/public/..;x=1/admin",
    "/public/..;x=1;y=2/admin",
    "/public/%2e%2e;/admin",
    "/public/..%3b/admin",
    "/public/..%3bx/admin",
    "/public;/../admin",
    "/public/;/../../admin",
    "/public/..%23/admin",
    "//admin",
    "///admin",
    "/%2fadmin",
    "/%2Fadmin",
    "/%252fadmin",
    "/%5cadmin",
    "/\\admin",
    "\\admin",
    "/./admin",
    "/%2e/admin",
    "/;/admin",
    "/;x/admin",
    "/ADMIN",
    "/Admin",
    "/aDmIn/x",
    "/%41DMIN",
    "/ADM%49N",
    "/admin;x",
    "/admin;x=/public",
    "/admin%3bx",
    "/admin%23/public",
    "/admin%23",
    "/admin%3f",
    "/admin%3fx=/public",
    "/admin%2523",
    "/admin%2f",
    "/admin%2fx",
    "/admin%5cx",
    "/admin\\x",
    "/adm%2569n",
    "/admin%20",
    "/admin%2520",
    "/admin%20;x",
    "/admin%20/x",
    "/public/..%20/admin",
    "/admin/../public",
    "/admin/%2e%2e/public",
    "/../admin",
    "/..",
    "/../..",
    "/%2e%2e",
    "/public/../..",
    "/public/../../etc/passwd",
    "/public/%2e%2e/%2e%2e/x",
    "/public/%00",
    "/public%00/../admin",
    "/admin%00",
    "/public/%0a",
    "/public/%0d%0ax-auth-subject:%20root",
    "/public/%7f",
    "/public/%1f",
    "/public/%",
    "/public/%2",
    "/public/%zz",
    "/public/%u002e%u002e/admin",
    "/public/a%2fb",
];

/// Targets that are the guarded path under every reading.
const GUARDED: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin?x=/public",
    "/admin?x=/../public",
    "/admin/users",
    "/admin/public",
    "/adm%69n",
    "/%61%64%6d%69%6e",
    "/adm%69n/users?a=%2f",
    "http://api.test/admin",
    "HTTP://api.test/admin",
    "http://API.test/admin",
];

#[test]
fn a_path_with_two_readings_is_refused_before_any_key_is_looked_at() {
    let field = Field::new();
    for target in AMBIGUOUS {
        field.refused(target, request("GET", target, &[]), &[400]);
        let with_key = request("GET", target, &[("x-api-key", KEY)]);
        field.refused(target, with_key, &[400]);
    }
}

#[test]
fn a_refused_path_is_a_malformed_request() {
    let field = Field::new();
    for target in [
        "/public/../admin",
        "/ADMIN",
        "//admin",
        "/public/%2e%2e/x/../../..",
    ] {
        let response = field.wide.get(target, &[]);
        assert_eq!(
            (response.status, &*response.code()),
            (400, "request_malformed"),
            "{target}"
        );
    }
}

#[test]
fn the_guarded_path_is_guarded_in_every_plain_spelling() {
    let field = Field::new();
    for target in GUARDED {
        field.refused(target, request("GET", target, &[]), &[401]);
    }
}

#[test]
fn a_matched_path_is_forwarded_as_it_was_written() {
    let field = Field::new();
    for (target, arrives) in [
        ("/adm%69n/users?a=%2f", "/adm%69n/users?a=%2f"),
        ("/admin/?", "/admin/?"),
        ("/admin?x=/public", "/admin?x=/public"),
        ("http://api.test/admin?y", "/admin?y"),
    ] {
        let bytes = request("GET", target, &[("x-api-key", KEY)]);
        assert_eq!(exchange(&field.wide, bytes.as_bytes()), 200, "{target}");
        assert_eq!(field.upstream.take().unwrap().target, arrives);
    }
    for target in [
        "/public",
        "/public/",
        "/public?x=/../admin",
        "/public?/admin",
        "/public?a=%zz&b=%00",
        "/public/a%20b",
        "/public/%e2%82%ac",
        "/public/a+b;v=1",
        "/public/admin",
    ] {
        let received = field.passes(target, request("GET", target, &[]));
        assert_eq!(received.target, target);
    }
}

#[test]
fn a_fragment_never_hides_the_path_before_it() {
    let field = Field::new();
    field.refused(
        "a raw fragment",
        request("GET", "/admin#/public", &[]),
        &[400, 401],
    );
    field.refused(
        "a fragment that climbs",
        request("GET", "/admin#/../public", &[]),
        &[400, 401],
    );
    field.harmless(
        "a fragment on the public path",
        request("GET", "/public#x", &[]),
    );
}

#[test]
fn a_prefix_ends_at_a_segment() {
    let field = Field::new();
    for target in ["/administrator", "/admin2", "/admin-x", "/admi"] {
        let bytes = request("GET", target, &[]);
        assert_eq!(exchange(&field.narrow, bytes.as_bytes()), 404, "{target}");
        field
            .upstream
            .assert_untouched("what matches no route is not forwarded");
        assert_eq!(exchange(&field.wide, bytes.as_bytes()), 200, "{target}");
        assert_eq!(field.upstream.take().unwrap().target, target);
    }
    for target in ["/publi", "/publicity", "/", "/favicon.ico"] {
        let bytes = request("GET", target, &[]);
        assert_eq!(exchange(&field.narrow, bytes.as_bytes()), 404, "{target}");
        field
            .upstream
            .assert_untouched("what matches no route is not forwarded");
    }
}

#[test]
fn a_target_that_is_no_path_is_refused() {
    let field = Field::new();
    for (case, line) in [
        (
            "an absolute form in an absolute form",
            "GET http:http://internal/admin",
        ),
        ("another scheme", "GET ftp://api.test/public"),
        ("an authority", "GET foo:80"),
        ("a word", "GET foo"),
        ("a relative path", "GET admin"),
        ("a query alone", "GET ?/admin"),
        ("an asterisk", "GET *"),
        ("user information", "GET http://api.test@internal/public"),
        ("an absolute form without a host", "GET http:///public"),
        ("connect", "CONNECT api.test:80"),
        ("connect with a path", "CONNECT /public"),
        ("trace", "TRACE /public"),
        ("trace on the guarded path", "TRACE /admin"),
        ("no target", "GET"),
        ("an empty target", "GET "),
        ("two targets", "GET /public /admin"),
    ] {
        let bytes = format!("{line} HTTP/1.1\r\nhost: api.test\r\n\r\n");
        field.refused(case, bytes, &[400, 0]);
    }
    let bytes = "OPTIONS * HTTP/1.1\r\nhost: api.test\r\n\r\n";
    field.refused("options of the server", bytes, &[400, 404]);
}

#[test]
fn the_host_is_said_once() {
    let field = Field::new();
    for (case, bytes) in [
        ("no host", "GET /public HTTP/1.1\r\n\r\n"),
        (
            "two hosts",
            "GET /public HTTP/1.1\r\nhost: api.test\r\nhost: other.test\r\n\r\n",
        ),
        (
            "the same host twice",
            "GET /public HTTP/1.1\r\nhost: api.test\r\nhost: api.test\r\n\r\n",
        ),
        (
            "two hosts in one line",
            "GET /public HTTP/1.1\r\nhost: api.test, other.test\r\n\r\n",
        ),
        (
            "a host with a path",
            "GET /public HTTP/1.1\r\nhost: api.test/admin\r\n\r\n",
        ),
        (
            "a host with user information",
            "GET /public HTTP/1.1\r\nhost: a@api.test\r\n\r\n",
        ),
        (
            "an absolute target of another host",
            "GET http://other.test/public HTTP/1.1\r\nhost: api.test\r\n\r\n",
        ),
        (
            "an absolute target of another port",
            "GET http://api.test:81/public HTTP/1.1\r\nhost: api.test\r\n\r\n",
        ),
        (
            "an absolute target and no host",
            "GET http://api.test/public HTTP/1.1\r\n\r\n",
        ),
    ] {
        field.refused(case, bytes, &[400, 0]);
    }
}

#[test]
fn an_encoded_slash_passes_where_the_route_allows_it() {
    let upstream = crate::harness::Upstream::echo();
    let world = crate::harness::World::start(
        &upstream,
        r#"
[[routes]]
prefix = "/npm"
require = ["api_key"]
encoded_slash = "allow"

[[routes]]
prefix = "/admin"
require = ["api_key"]
scopes = ["nobody:has:this"]
"#,
    );
    let get = |target: &str| world.status_with(target, KEY);
    assert_eq!(get("/npm/@scope%2fname"), 200);
    assert_eq!(upstream.take().unwrap().target, "/npm/@scope%2fname");
    for target in [
        "/npm/..%2fadmin",
        "/npm/%2e%2e%2fadmin",
        "/npm/x%2f..%2fy",
        "/npm%2f..%2fadmin",
        "/npm/x%2f../y",
        "/npm/.%2fx",
        "/%2fadmin",
        "/npm/x%5c..%5cy",
    ] {
        assert_eq!(get(target), 400, "{target}");
        upstream.assert_untouched(target);
    }
    assert_eq!(world.get("/npm/@scope%2fname", &[]).status, 401);
    upstream.assert_untouched("an encoded slash is no way around the key");
}
