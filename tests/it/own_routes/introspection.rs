//! What a server is told of a token (RFC 7662).

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{BEGAN, KEY, Response, Serve, Timed, Wallet};
use crate::sign_in::site::{AUTH, REST, ROUTES, Site, static_key, text};

const ASKING: &str = "a-key-that-asks-about-tokens";

fn site() -> Site<Timed> {
    let scopes = ["tokens:introspect", "sessions:issue", "orders:read"];
    let key = static_key(ASKING, "acme", &scopes);
    Site::timed_by(&format!("{ROUTES}{REST}{key}"))
}

fn ask_in(site: &Site<Timed>, key: &str, media_type: &str, body: &str) -> Response {
    site.world.send(format!(
        "POST {AUTH}/introspect HTTP/1.1\r\nhost: api.test\r\n{key}content-type: {media_type}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn ask(site: &Site<Timed>, token: &str) -> Value {
    let key = format!("x-api-key: {ASKING}\r\n");
    let form = "application/x-www-form-urlencoded";
    let answer = ask_in(site, &key, form, &format!("token={token}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers.one("content-type"), Some("application/json"));
    assert_eq!(answer.headers.one("cache-control"), Some("no-store"));
    answer.json()
}

#[test]
fn a_good_token_is_told_of_in_the_rfcs_words() {
    let site = site();
    let signed_in = site.sign_in(&Wallet::numbered(50), "body");
    let access = text(&signed_in, "accessToken");
    let mut told = ask(&site, &access);
    let (id, session) = (told["jti"].take(), told["sid"].take());
    let (id, session) = (id.as_str().unwrap(), session.as_str().unwrap());
    assert!(id.starts_with(&format!("{session}.0.")), "{id}");
    let promised = json!({
        "active": true, "token_type": "access_token", "sub": text(&signed_in, "subject"),
        "scope": "portfolio:read", "exp": BEGAN + 900, "iat": BEGAN, "nbf": BEGAN,
        "iss": told["iss"], "aud": told["aud"], "client_id": "static:ci", "jti": null, "sid": null,
    });
    assert_eq!(told, promised);

    let body = json!({"subject": "user-7", "scopes": ["orders:read"]});
    let issued = site.post("/sessions", &[("x-api-key", ASKING)], &body);
    let client = text(&issued, "clientSessionToken");
    let promised = json!({
        "active": true, "token_type": "session_token", "sub": "user-7", "scope": "orders:read",
        "client_id": format!("static:{ASKING}"), "iat": BEGAN, "exp": BEGAN + 24 * 3600,
        "sid": text(&issued, "sessionId"),
    });
    assert_eq!(ask(&site, &client), promised);

    let nothing = json!({"active": false});
    for token in [&*text(&signed_in, "refreshToken"), KEY, ASKING, "", "x.y.z"] {
        assert_eq!(ask(&site, token), nothing, "{token}");
    }
    site.world.pass(Duration::from_secs(900));
    assert_eq!(ask(&site, &access), nothing, "expired");
    let renewed = site.refresh(&text(&signed_in, "refreshToken"));
    let renewed = text(&renewed, "accessToken");
    assert_eq!(ask(&site, &renewed)["active"], true);
    let bearer = format!("Bearer {renewed}");
    site.post("/logout", &[("authorization", &bearer)], &Value::Null);
    assert_eq!(ask(&site, &renewed), nothing, "logged out");
    site.world.pass(Duration::from_secs(24 * 3600 - 900));
    assert_eq!(ask(&site, &client), nothing, "idle");
}

#[test]
fn who_asks_in_another_way_is_told_nothing() {
    let site = site();
    let form = "application/x-www-form-urlencoded";
    let asking = format!("x-api-key: {ASKING}\r\n");
    let other = format!("x-api-key: {KEY}\r\n");
    for (key, media_type, body, status, code) in [
        ("", form, "token=a", 401, "credential_missing"),
        (&*other, form, "token=a", 403, "scope_missing"),
        (
            &*asking,
            "application/json",
            r#"{"token":"a"}"#,
            415,
            "media_type_unsupported",
        ),
        (&*asking, form, "a=b", 400, "request_malformed"),
        (&*asking, form, "token=a&token=b", 400, "request_malformed"),
    ] {
        let answer = ask_in(&site, key, media_type, body);
        assert_eq!((answer.status, &*answer.code()), (status, code), "{body}");
    }
}
