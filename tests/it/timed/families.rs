//! Families of refresh tokens live 7 days, and what was rotated away 10 seconds longer.

use std::time::Duration;

use serde_json::Value;

use super::{DAY, INSTANT, MINUTE, almost, assert_refused, shown};
use crate::harness::{BEGAN, Response, Timed, Wallet};
use crate::sign_in::site::{Site, cookie, text};

const WEEK: u64 = 7 * 24 * 3600;

fn by_cookie(site: &Site<Timed>, token: &str) -> Response {
    let line = format!("__Host-refresh={token}");
    site.post("/refresh", &[("cookie", &line)], &Value::Null)
}

/// How long the browser keeps the cookie that an answer sets.
fn max_age(answer: &Response) -> u64 {
    let set = answer.headers.one("set-cookie").unwrap();
    let (_, rest) = set.split_once("Max-Age=").unwrap();
    rest.split(';').next().unwrap().parse().unwrap()
}

#[test]
fn a_family_ends_7_days_after_its_sign_in_however_often_it_is_refreshed() {
    let site = Site::timed("");
    let signed_in = site.sign_in(&Wallet::numbered(3), "cookie");
    assert_eq!(max_age(&signed_in), WEEK);
    let mut in_cookie = cookie(&signed_in);
    let body = site.sign_in(&Wallet::numbered(3), "body");
    let mut in_body = text(&body, "refreshToken");
    for day in 1..7 {
        site.world.pass(DAY);
        let answer = by_cookie(&site, &in_cookie);
        assert_eq!(answer.status, 200, "day {day}: {}", answer.text());
        assert_eq!(max_age(&answer), WEEK - day * 24 * 3600);
        assert_eq!(answer.json()["expiresIn"], 900);
        in_cookie = cookie(&answer);
        in_body = text(&site.refresh(&in_body), "refreshToken");
    }
    // What is signed in the last minutes ends with the family.
    site.world.pass(DAY.saturating_sub(10 * MINUTE));
    let late = by_cookie(&site, &in_cookie);
    assert_eq!(max_age(&late), 600);
    assert_eq!(late.json()["expiresIn"], 600);
    assert_eq!(late.json()["expiresAt"], BEGAN + WEEK);
    let access = text(&late, "accessToken");
    site.world.pass(almost(10 * MINUTE));
    assert_eq!(site.portfolio(&access).status, 200);
    let last = by_cookie(&site, &cookie(&late));
    assert_eq!(last.status, 200);
    in_body = text(&site.refresh(&in_body), "refreshToken");
    site.upstream.take();
    site.world.pass(INSTANT);
    let over = by_cookie(&site, &cookie(&last));
    assert_refused(&over, 401, "refresh_invalid");
    assert!(!over.headers.has("set-cookie"));
    assert_refused(&site.refresh(&in_body), 401, "refresh_invalid");
    assert_refused(&site.portfolio(&access), 401, "token_expired");
    site.upstream
        .assert_untouched("the wallet has to sign again");
}

#[test]
fn grace_is_10_seconds_from_the_rotation_and_is_never_extended() {
    let site = Site::timed("");
    let first = text(&site.sign_in(&Wallet::numbered(4), "body"), "refreshToken");
    let rotated = site.refresh(&first);
    let access = text(&rotated, "accessToken");
    assert_eq!(site.portfolio(&access).status, 200, "it arrived");
    let successor = text(&rotated, "refreshToken");
    // Asked again and again meanwhile, it ends when it would have.
    for wait in [Duration::from_secs(5), almost(Duration::from_secs(5))] {
        site.world.pass(wait);
        let again = site.refresh(&first);
        assert_eq!(again.status, 200, "{}", again.text());
        assert_eq!(text(&again, "refreshToken"), successor);
    }
    site.world.pass(INSTANT);
    assert_refused(&site.refresh(&first), 401, "refresh_reused");
    assert_refused(&site.refresh(&successor), 401, "refresh_invalid");
    site.upstream.take();
    assert_refused(&site.portfolio(&access), 401, "session_revoked");
    site.upstream.assert_untouched("the family is over");
}

#[test]
fn a_loser_never_clears_the_winners_cookie() {
    let site = Site::timed("");
    let first = cookie(&site.sign_in(&Wallet::numbered(5), "cookie"));
    let rotated = by_cookie(&site, &first);
    let winners = cookie(&rotated);
    assert_eq!(cookie(&by_cookie(&site, &first)), winners, "within grace");
    assert_eq!(site.portfolio(&text(&rotated, "accessToken")).status, 200);
    site.world.pass(Duration::from_secs(10));
    for (token, code) in [
        (&*first, "refresh_reused"),
        (&*first, "refresh_invalid"),
        (&*winners, "refresh_invalid"),
        ("garbled", "refresh_invalid"),
    ] {
        let refused = by_cookie(&site, token);
        assert_refused(&refused, 401, code);
        assert!(!refused.headers.has("set-cookie"), "{code}");
    }
}

#[test]
fn a_lost_answer_is_given_again_until_the_familys_end() {
    let site = Site::timed("");
    let first = text(&site.sign_in(&Wallet::numbered(6), "body"), "refreshToken");
    let lost = text(&site.refresh(&first), "refreshToken");
    site.world.pass(almost(7 * DAY));
    let found = site.refresh(&first);
    assert_eq!(found.status, 200, "{}", found.text());
    assert_eq!(text(&found, "refreshToken"), lost);
    let access = text(&found, "accessToken");
    assert_eq!(shown(&site, "/token", &access).status, 200);
    assert_refused(&site.refresh(&first), 401, "refresh_reused");
}
