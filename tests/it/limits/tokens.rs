//! Which tokens are guesses, and are bounded as guesses are, and which were given out once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Response, Wallet, eventually, within};
use crate::sign_in::site::{AUTH, Site, cookie, text};

/// One guess is free, and then none for a minute.
fn strict(more: &str) -> Site {
    let limits = "\n[limits]\nfailed_authentications = \"1/m\"\n";
    Site::with(&format!("{more}{limits}"))
}

/// Shows it twice: the first is judged, the second is one too many.
fn assert_charged(what: &str, code: &str, show: impl Fn() -> Response) {
    let first = show();
    assert_eq!((first.status, &*first.code()), (401, code), "{what}");
    let second = show();
    assert_eq!(second.status, 429, "{what}: {}", second.text());
    assert!(second.headers.has("retry-after"), "{what}");
}

/// Shows it again and again.
fn assert_free(what: &str, code: &str, show: impl Fn() -> Response) {
    for _ in 0..5 {
        let answer = show();
        assert_eq!((answer.status, &*answer.code()), (401, code), "{what}");
    }
}

fn bearer(site: &Site, token: &str) -> Response {
    let bearer = format!("Bearer {token}");
    site.world.get("/token", &[("authorization", &bearer)])
}

/// A token with other characters in the middle of its signature.
fn tampered(token: &str) -> String {
    let (at, _) = token.char_indices().nth_back(20).unwrap();
    let other = if token[at..].starts_with("AAA") {
        "BBB"
    } else {
        "AAA"
    };
    format!("{}{other}{}", &token[..at], &token[at + 3..])
}

/// A refresh token of the minted form, of a family that never was.
fn made_up() -> String {
    let mut token = format!("gr_{}{}{}", "0".repeat(22), "A".repeat(22), "B".repeat(43));
    token.push_str(&crate::sign_in::checksum(&token));
    token
}

#[test]
fn unknown_refresh_tokens_are_guesses() {
    let minted = made_up();
    for token in [&*minted, "a-token-of-another-system-unknown"] {
        let site = strict("");
        assert_charged(token, "refresh_invalid", || site.refresh(token));
    }
    let site = strict("");
    let line = format!("__Host-refresh={minted}");
    let by_cookie = || site.post("/refresh", &[("cookie", &line)], &Value::Null);
    assert_charged("a cookie", "refresh_invalid", by_cookie);
    // At the logout as well, whose answer tells nothing.
    let site = strict("");
    let log_out = || site.post("/logout", &[], &json!({"refreshToken": minted}));
    assert_eq!(log_out().status, 204);
    assert_eq!(log_out().status, 429);
}

#[test]
fn forged_access_tokens_are_guesses() {
    let site = strict("");
    let access = text(&site.sign_in(&Wallet::numbered(80), "body"), "accessToken");
    let forged = tampered(&access);
    assert_charged("a forged token", "token_invalid", || bearer(&site, &forged));
    assert_eq!(bearer(&site, &access).status, 200, "a good one is none");
    let site = strict("");
    let log_out = || {
        let bearer = format!("Bearer {forged}");
        site.post("/logout", &[("authorization", &bearer)], &Value::Null)
    };
    assert_eq!(log_out().status, 204);
    assert_eq!(log_out().status, 429);
}

#[test]
fn unknown_session_tokens_are_guesses() {
    let mut minted = format!("gs_{}", "A".repeat(43));
    minted.push_str(&crate::sign_in::checksum(&minted));
    let site = strict("");
    let who = || {
        let bearer = format!("Bearer {minted}");
        let target = format!("{AUTH}/session");
        site.world.get(&target, &[("authorization", &bearer)])
    };
    assert_charged("a session token", "token_invalid", who);
}

#[test]
fn what_was_given_out_once_is_no_guess() {
    let site = strict("ttl = \"1s\"\n");
    let signed_in = site.sign_in(&Wallet::numbered(81), "cookie");
    let access = text(&signed_in, "accessToken");
    eventually("the token expires", || {
        bearer(&site, &access).code() == "token_expired"
    });
    assert_free("expired", "token_expired", || bearer(&site, &access));
    let line = format!("__Host-refresh={}", cookie(&signed_in));
    let log_out = || site.post("/logout", &[("cookie", &line)], &Value::Null);
    for _ in 0..5 {
        assert_eq!(log_out().status, 204);
    }
    let refresh = || site.post("/refresh", &[("cookie", &line)], &Value::Null);
    assert_free("logged out", "refresh_invalid", refresh);
}

#[test]
fn refresh_tokens_that_are_over_are_no_guesses() {
    let site = strict("\n[refresh_token]\nttl = \"2s\"\ngrace = \"100ms\"\n");
    let signed_in = site.sign_in(&Wallet::numbered(82), "body");
    let refresh = text(&signed_in, "refreshToken");
    assert_eq!(site.refresh(&refresh).status, 200);
    within(Duration::from_secs(5), "the family ends", || {
        site.refresh(&refresh).status == 401
    });
    assert_free("expired", "refresh_invalid", || site.refresh(&refresh));
}
