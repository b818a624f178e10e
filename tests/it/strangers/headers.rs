//! Headers that pretend to be gatelet's, and credentials that are shown in odd ways.

use super::{Field, assert_unforged};
use crate::harness::{KEY, NARROW_KEY, Upstream, World, request};

/// Names that gatelet writes or removes, as an upstream might read them.
const RESERVED: &[&str] = &[
    "x-auth-subject",
    "X-Auth-Subject",
    "X_Auth_Subject",
    "x_auth_subject",
    "x.auth.subject",
    "x-auth_subject",
    "X~AUTH~SUBJECT",
    "x!auth!subject",
    "x'auth'subject",
    "x|auth|subject",
    "x`auth`subject",
    "x^auth^subject",
    "x*auth*subject",
    "x#auth$subject",
    "x%auth&subject",
    "x+auth+subject",
    "x-auth-",
    "x-auth-roles",
    "x_auth_methods",
    "x.auth.key.id",
    "x-auth-key-owner",
    "X-AUTH-SESSION-ID",
    "x_auth_scopes",
    "X-Original-URL",
    "x_original_url",
    "X-Rewrite-URL",
    "X-HTTP-Method-Override",
    "x.http.method",
    "X_Method_Override",
    "X-Real-IP",
    "x_real_ip",
    "Forwarded",
    "X-Forwarded-Prefix",
    "x_forwarded_for",
    "x.forwarded.host",
    "X_FORWARDED_PROTO",
    "x_request_id",
];

#[test]
fn no_reserved_name_reaches_the_upstream_in_any_spelling() {
    let field = Field::new();
    for name in RESERVED {
        let forged = [(*name, "root-forged")];
        let keyed = |key| [("x-api-key", key), (*name, "root-forged")];
        for (bytes, caller) in [
            (request("GET", "/public", &forged), None),
            (request("OPTIONS", "/public", &forged), None),
            (request("GET", "/admin", &keyed(KEY)), Some("platform")),
            (request("OPTIONS", "/admin", &keyed(KEY)), Some("platform")),
            (request("GET", "/admin", &keyed(NARROW_KEY)), Some("narrow")),
        ] {
            let response = field.narrow.send(&bytes);
            assert_eq!(response.status, 200, "{bytes}");
            let received = field.upstream.take().unwrap();
            assert_unforged(&received, caller);
            let raw = String::from_utf8_lossy(&received.raw);
            assert!(!raw.contains("root-forged"), "{name}: {raw}");
        }
    }
}

#[test]
fn every_reserved_name_at_once_is_dropped_too() {
    let field = Field::new();
    let mut headers: Vec<(&str, &str)> =
        RESERVED.iter().map(|name| (*name, "root-forged")).collect();
    headers.push(("x-harmless", "stays"));
    let received = field.passes("all at once", request("GET", "/public", &headers));
    assert_eq!(received.headers.one("x-harmless"), Some("stays"));
    assert!(!String::from_utf8_lossy(&received.raw).contains("root-forged"));
}

#[test]
fn a_connection_header_cannot_strip_what_gatelet_writes() {
    let field = Field::new();
    for lines in [
        "connection: close, x-auth-subject\r\n",
        "Connection: X-Auth-Subject, X-AUTH-KEY-ID\r\n",
        "connection: keep-alive\r\nCONNECTION: x-auth-subject\r\n",
        "connection: x-forwarded-for, x-forwarded-host, host, x-request-id\r\n",
        "connection: content-length, x-auth-methods\r\n",
    ] {
        let bytes =
            format!("GET /admin HTTP/1.1\r\nhost: api.test\r\nx-api-key: {KEY}\r\n{lines}\r\n");
        assert_eq!(field.narrow.send(bytes).status, 200, "{lines}");
        let received = field.upstream.take().unwrap();
        assert_unforged(&received, Some("platform"));
        for name in [
            "x-auth-key-id",
            "x-auth-methods",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-request-id",
            "host",
        ] {
            assert!(received.headers.one(name).is_some(), "{lines} took {name}");
        }
        assert!(!received.headers.has("connection"), "{received:#?}");
    }
}

#[test]
fn what_connection_names_goes_no_further() {
    let field = Field::new();
    let bytes = "GET /public HTTP/1.1\r\nhost: api.test\r\nconnection: x-hop\r\nConnection: X-Skip, x-hop2\r\n\
                 x-hop: 1\r\nX-SKIP: 2\r\nx-hop2: 3\r\nx-end: 4\r\nkeep-alive: timeout=5\r\nte: gzip\r\n\
                 proxy-connection: keep-alive\r\nproxy-authorization: Basic eDp5\r\n\r\n";
    let received = field.passes("hop by hop", bytes);
    for gone in [
        "x-hop",
        "x-skip",
        "x-hop2",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "connection",
    ] {
        assert!(!received.headers.has(gone), "{gone}: {received:#?}");
    }
    assert_eq!(received.headers.one("x-end"), Some("4"));
}

#[test]
fn naming_the_key_in_connection_changes_no_verdict() {
    let field = Field::new();
    let with = request(
        "GET",
        "/admin",
        &[("connection", "x-api-key"), ("x-api-key", KEY)],
    );
    assert_eq!(field.narrow.send(with).status, 200);
    assert_unforged(&field.upstream.take().unwrap(), Some("platform"));
    let without = request("GET", "/admin", &[("connection", "x-api-key")]);
    field.refused("no key", without, &[401]);
}

#[test]
fn two_credentials_are_refused_and_never_picked_from() {
    let field = Field::new();
    let bad = "wrong-key-wrong-key-wrong-key";
    let bearer = format!("Bearer {KEY}");
    let bad_bearer = format!("Bearer {bad}");
    for headers in [
        [("x-api-key", KEY), ("x-api-key", bad)],
        [("x-api-key", bad), ("x-api-key", KEY)],
        [("x-api-key", KEY), ("x-api-key", KEY)],
        [("x-api-key", KEY), ("X-API-Key", NARROW_KEY)],
        [("x-api-key", KEY), ("authorization", &bearer)],
        [("authorization", &bearer), ("x-api-key", NARROW_KEY)],
        [("authorization", &bearer), ("authorization", &bearer)],
        [("authorization", &bearer), ("authorization", &bad_bearer)],
        [("authorization", &bad_bearer), ("authorization", &bearer)],
    ] {
        let response = field.narrow.get("/admin", &headers);
        assert_eq!(
            (response.status, &*response.code()),
            (400, "credential_ambiguous"),
            "{headers:?}"
        );
        field.upstream.assert_untouched("two credentials");
    }
}

#[test]
fn one_key_is_one_key_however_it_is_shown() {
    let field = Field::new();
    for (name, value) in [
        ("x-api-key", KEY.to_owned()),
        ("X-API-KEY", KEY.to_owned()),
        ("authorization", format!("Bearer {KEY}")),
        ("Authorization", format!("bEARER {KEY}")),
        ("authorization", format!("Bearer   {KEY}")),
    ] {
        let response = field.narrow.get("/admin", &[(name, &value)]);
        assert_eq!(response.status, 200, "{name}: {value}");
        let received = field.upstream.take().unwrap();
        assert_unforged(&received, Some("platform"));
        assert!(!received.headers.has("authorization"));
        assert!(!String::from_utf8_lossy(&received.raw).contains(KEY));
    }
}

#[test]
fn what_is_no_credential_opens_nothing() {
    let field = Field::new();
    let cut = &KEY[..KEY.len() - 1];
    for (name, value) in [
        ("x_api_key", KEY),
        ("x.api.key", KEY),
        ("api-key", KEY),
        ("x-api-key", ""),
        ("x-api-key", cut),
        ("x-api-key", "imported"),
        ("authorization", KEY),
        ("authorization", "Bearer"),
        ("authorization", "Bearer "),
        ("authorization", "Basic aW1wb3J0ZWQ6eA=="),
        ("cookie", "x-api-key=imported-key-of-the-platform-team-0001"),
        ("x-forwarded-uri", "/public"),
        ("x-original-url", "/public"),
        ("x-rewrite-url", "/public"),
        ("x-forwarded-prefix", "/public"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-http-method-override", "OPTIONS"),
        ("user-agent", "kube-probe/1.30"),
        ("x-auth-subject", "root"),
        ("x-auth-methods", "api_key"),
    ] {
        let bytes = request("GET", "/admin", &[(name, value)]);
        field.refused(&format!("{name}: {value}"), bytes, &[401]);
    }
    let target = format!("/admin?x-api-key={KEY}&api_key={KEY}");
    field.refused("a key in the query", request("GET", &target, &[]), &[401]);
}

#[test]
fn a_method_is_no_free_pass() {
    let field = Field::new();
    for method in [
        "OPTIONS", "HEAD", "POST", "PUT", "DELETE", "PATCH", "PROPFIND", "get", "X",
    ] {
        let bytes = request(method, "/admin", &[]);
        field.refused(method, bytes, &[401]);
    }
    let preflight = [
        ("origin", "https://app.example.com"),
        ("access-control-request-method", "GET"),
    ];
    let bytes = request("OPTIONS", "/admin", &preflight);
    field.refused("a preflight where nothing is said of CORS", bytes, &[401]);
}

/// Some frameworks fold the case of methods: there `delete` is DELETE, and is guarded as that.
#[test]
fn a_method_that_is_two_to_two_readers_is_refused() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        r#"
[[routes]]
name = "read"
prefix = "/items"
require = "nothing"

[[routes]]
name = "write"
prefix = "/items"
methods = ["POST", "DELETE"]
require = ["api_key"]
"#,
    );
    for method in ["delete", "Delete", "pOST"] {
        let answer = world.send(request(method, "/items/1", &[]));
        assert_eq!((answer.status, &*answer.code()), (400, "request_malformed"));
    }
    assert_eq!(world.send(request("DELETE", "/items/1", &[])).status, 401);
    upstream.assert_untouched("a guarded method");
    for method in ["GET", "get", "purge"] {
        let answer = world.send(request(method, "/items/1", &[]));
        assert_eq!(answer.status, 200, "{method} is one route's either way");
    }
}

#[test]
fn bytes_above_ascii_break_nothing() {
    let field = Field::new();
    let with = |target: &str, line: &[u8]| {
        let mut bytes = format!("GET {target} HTTP/1.1\r\nhost: api.test\r\n").into_bytes();
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes
    };
    field.refused("a key", with("/admin", b"x-api-key: \xff"), &[401]);
    field.refused(
        "a bearer",
        with("/admin", b"authorization: Bearer \xff\xfe"),
        &[401],
    );
    field.refused(
        "a scheme",
        with("/admin", b"authorization: \xffBearer x"),
        &[401],
    );
    field.refused("connection", with("/admin", b"connection: \xff"), &[401]);
    field.refused(
        "forwarding",
        with("/admin", b"x-forwarded-for: \xff"),
        &[401],
    );
    let received = field.passes(
        "connection",
        with("/public", b"connection: \xff, x-a\r\nx-a: 1"),
    );
    assert!(!received.headers.has("x-a") && !received.headers.has("connection"));
    let received = field.passes("any other", with("/public", b"x-b: caf\xe9"));
    assert_eq!(received.headers.one("x-b"), Some("caf\u{e9}"));
    field.harmless("a cookie", with("/public", b"cookie: \xff=\xfe"));
    field.harmless("a host", b"GET /public HTTP/1.1\r\nhost: \xff\r\n\r\n");
}

#[test]
fn a_trailer_cannot_say_what_a_header_may_not() {
    let field = Field::new();
    let bytes = "POST /public HTTP/1.1\r\nhost: api.test\r\ntransfer-encoding: chunked\r\n\
                 trailer: x-checksum, x-auth-subject, X_Auth_Subject, x-api-key, authorization, content-length, x-forwarded-for, x-original-url, host\r\n\r\n\
                 5\r\nhello\r\n0\r\nx-checksum: 7\r\nx-auth-subject: root\r\nX_Auth_Subject: root\r\n\
                 x-api-key: stolen\r\nauthorization: Bearer x\r\ncontent-length: 3\r\n\
                 x-forwarded-for: forged\r\nx-original-url: /admin\r\nhost: evil.test\r\n\r\n";
    let received = field.passes("trailers", bytes);
    assert_eq!(received.body, b"hello");
    assert_eq!(
        received.trailers.0,
        [("x-checksum".to_owned(), "7".to_owned())]
    );
}
