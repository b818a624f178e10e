//! What a token may do: never more than the key that it was issued through.

use serde_json::{Value, json};

use crate::harness::{KEY, NARROW_KEY, Response, Serve, Timed, Wallet, request};
use crate::sign_in::site::{REST, ROUTES, Site, static_key, text};

const OTHER: &str = "a-key-that-may-do-something-else";
const SERVER: &str = "a-key-that-issues-and-introspects";
const ISSUER: &str = "a-key-that-does-nothing-but-issue";

const SESSIONS: &str = r#"
[[routes]]
prefix = "/client"
require = ["session_token"]

[session_token]
scopes = ["orders:read", "orders:write"]
"#;

fn site() -> Site<Timed> {
    let keys = [
        static_key(OTHER, "acme", &["orders:read"]),
        static_key(
            SERVER,
            "acme",
            &["sessions:issue", "tokens:introspect", "orders:read", "a"],
        ),
        static_key(ISSUER, "acme", &["sessions:issue"]),
    ];
    Site::timed_by(&format!("{ROUTES}{REST}{SESSIONS}{}", keys.concat()))
}

fn with_bearer(site: &Site<Timed>, target: &str, key: &str, token: &str) -> Response {
    let bearer = format!("Bearer {token}");
    let headers = [("x-api-key", key), ("authorization", &*bearer)];
    site.world.send(request("GET", target, &headers))
}

/// The scopes that the upstream is told of.
fn seen(site: &Site<Timed>) -> String {
    let received = site.upstream.take().unwrap();
    let scopes = received.headers.one("x-auth-scopes");
    scopes.unwrap_or_default().to_owned()
}

#[test]
fn a_sign_in_grants_no_more_than_its_key_may_where_that_may_anything() {
    let mut site = site();
    for (key, scopes) in [
        (NARROW_KEY, "portfolio:read portfolio:write"),
        (KEY, "portfolio:read"),
        (OTHER, ""),
    ] {
        key.clone_into(&mut site.key);
        let signed_in = site.sign_in(&Wallet::numbered(30), "body");
        let refreshed = site.refresh(&text(&signed_in, "refreshToken"));
        for answer in [signed_in, refreshed] {
            let access = text(&answer, "accessToken");
            assert_eq!(with_bearer(&site, "/token", key, &access).status, 200);
            assert_eq!(seen(&site), scopes, "{key}");
            let guarded = site.portfolio(&access);
            if scopes.is_empty() {
                assert_eq!((guarded.status, &*guarded.code()), (403, "scope_missing"));
                let challenge = guarded.headers.all("www-authenticate")[0];
                let named = r#"error="insufficient_scope", scope="portfolio:read""#;
                assert!(challenge.ends_with(named), "{challenge}");
                site.upstream.assert_untouched("its key may not");
            } else {
                assert_eq!(guarded.status, 200, "{}", guarded.text());
                site.upstream.take();
            }
        }
    }
}

#[test]
fn a_session_is_granted_no_more_than_its_key_may() {
    let mut site = site();
    let issue = |site: &Site<Timed>, body: &Value| site.with_key("/sessions", body);
    for (key, asked, scopes) in [
        (SERVER, Value::Null, "orders:read"),
        (SERVER, json!(["a"]), "a"),
        (SERVER, json!(["orders:read", "a"]), "a orders:read"),
        (SERVER, json!([]), ""),
        (ISSUER, Value::Null, ""),
    ] {
        key.clone_into(&mut site.key);
        let mut body = json!({"subject": "user-7"});
        if !asked.is_null() {
            body["scopes"] = asked.clone();
        }
        let issued = issue(&site, &body);
        assert_eq!(issued.status, 201, "{}", issued.text());
        let bearer = format!("Bearer {}", text(&issued, "clientSessionToken"));
        let answer = site.world.get("/client", &[("authorization", &bearer)]);
        assert_eq!(answer.status, 200);
        assert_eq!(seen(&site), scopes, "{key} {asked}");
    }
    // Not even what the key may itself, where that is done to tokens.
    SERVER.clone_into(&mut site.key);
    for never in ["sessions:issue", "tokens:introspect", "orders:write", "b"] {
        let answer = issue(&site, &json!({"subject": "user-7", "scopes": ["a", never]}));
        assert_eq!((answer.status, &*answer.code()), (403, "scope_missing"));
        let challenge = answer.headers.all("www-authenticate")[0];
        assert!(
            challenge.ends_with(&format!("scope=\"{never}\"")),
            "{challenge}"
        );
    }
}
