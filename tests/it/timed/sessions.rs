//! Client sessions live 24 hours past their last use, and 7 days in all.

use serde_json::{Value, json};

use super::{DAY, INSTANT, MINUTE, almost, assert_refused, members, shown};
use crate::harness::{BEGAN, Response, Serve, Timed, Upstream};
use crate::sign_in::site::{AUTH, Site, static_key};

const ROUTES: &str = r#"
[[routes]]
prefix = "/client"
require = { any = ["session_token", "api_key"] }

[[routes]]
prefix = "/scoped"
require = ["session_token"]
scopes = ["orders:write"]

[store]
path = "{folder}/data"
"#;

const SERVER: &str = "the-key-of-the-server-that-issues";

/// In seconds.
const DAYS: u64 = 24 * 3600;

fn open() -> Site<Timed> {
    let upstream = Upstream::scripted(|exchange| {
        let status = match exchange.request().target.rsplit('/').next() {
            Some("missing") => "404 Not Found",
            Some("failing") => "500 Internal Server Error",
            _ => "200 OK",
        };
        exchange.answer(status, "", "")
    });
    let scopes = ["sessions:issue", "tokens:introspect", "orders:read"];
    let server = static_key(SERVER, "acme", &scopes);
    Site {
        world: Timed::start(&upstream, &format!("{ROUTES}{server}")),
        upstream,
        key: SERVER.to_owned(),
    }
}

fn issue(site: &Site<Timed>) -> Value {
    let answer = site.with_key("/sessions", &json!({"subject": "user-7"}));
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.headers.one("cache-control"), Some("no-store"));
    let promised = [
        "clientSessionToken",
        "expiresAt",
        "id",
        "maxExpiresAt",
        "sessionId",
    ];
    assert_eq!(members(&answer), promised);
    answer.json()
}

fn token(issued: &Value) -> &str {
    issued["clientSessionToken"].as_str().unwrap()
}

/// Until when an answer says that its session lives, and in all, in seconds since the beginning.
#[track_caller]
fn told(answer: &Response) -> (u64, u64) {
    let of = |name| answer.headers.one(name).unwrap().parse::<u64>().unwrap() - BEGAN;
    (of("x-session-expires-at"), of("x-session-max-expires-at"))
}

#[test]
fn a_session_dies_24_hours_past_its_last_use_to_the_nanosecond() {
    let site = open();
    let (unused, used) = (issue(&site), issue(&site));
    assert_eq!(unused["expiresAt"], BEGAN + DAYS);
    assert_eq!(unused["maxExpiresAt"], BEGAN + 7 * DAYS);
    site.world.pass(almost(DAY));
    let answer = shown(&site, "/client", token(&used));
    assert_eq!(answer.status, 200, "{}", answer.text());
    // In whole seconds, of which the last is not over.
    assert_eq!(told(&answer), (2 * DAYS - 1, 7 * DAYS));
    let received = site.upstream.take().unwrap();
    assert_eq!(received.headers.one("x-auth-subject"), Some("user-7"));

    site.world.pass(INSTANT);
    let idle = shown(&site, "/client", token(&unused));
    assert_refused(&idle, 401, "session_expired");
    assert!(!idle.headers.has("x-session-expires-at"));
    site.world.pass(almost(almost(DAY)));
    let answer = shown(&site, "/client", token(&used));
    assert_eq!(told(&answer), (3 * DAYS - 1, 7 * DAYS));
    site.world.pass(DAY);
    let idle = shown(&site, "/client", token(&used));
    assert_refused(&idle, 401, "session_expired");
    assert_eq!(site.upstream.received().len(), 1, "the one in between");
}

#[test]
fn a_session_ends_after_7_days_however_it_is_used() {
    let site = open();
    let issued = issue(&site);
    for day in 1..=6 {
        site.world.pass(almost(DAY));
        let answer = shown(&site, "/client", token(&issued));
        let expected = ((day + 1) * DAYS - 1).min(7 * DAYS);
        assert_eq!(told(&answer), (expected, 7 * DAYS), "day {day}");
    }
    site.world.pass(almost(DAY));
    let answer = shown(&site, "/client", token(&issued));
    assert_eq!(told(&answer), (7 * DAYS, 7 * DAYS));
    site.world.pass(6 * INSTANT);
    let answer = shown(&site, "/client", token(&issued));
    assert_eq!((answer.status, told(&answer)), (200, (7 * DAYS, 7 * DAYS)));
    site.upstream.take();
    site.world.pass(INSTANT);
    let over = shown(&site, "/client", token(&issued));
    assert_refused(&over, 401, "session_expired");
    site.upstream.assert_untouched("its cap is reached");
}

#[test]
fn every_request_that_is_let_in_prolongs_and_says_so() {
    let site = open();
    let issued = issue(&site);
    let own = format!("{AUTH}/session");
    for (minutes, target) in [
        (1, "/client/a"),
        (2, "/client/missing"),
        (3, "/client/failing"),
        (4, &*own),
    ] {
        site.world.pass(MINUTE);
        let answer = shown(&site, target, token(&issued));
        assert_eq!(told(&answer), (DAYS + minutes * 60, 7 * DAYS), "{target}");
    }
    let who = shown(&site, &own, token(&issued));
    let is = json!({
        "subject": "user-7", "sessionId": issued["sessionId"], "scopes": [],
        "createdAt": BEGAN, "expiresAt": BEGAN + DAYS + 240, "maxExpiresAt": BEGAN + 7 * DAYS,
    });
    assert_eq!(who.json(), is);

    // Who asks about it does not use it, and neither does who is refused.
    site.world.pass(almost(DAY));
    let form = format!("token={}", token(&issued));
    let answer = site.world.send(format!(
        "POST {AUTH}/introspect HTTP/1.1\r\nhost: api.test\r\nx-api-key: {SERVER}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    ));
    assert_eq!(answer.json()["active"], true, "{}", answer.text());
    let scoped = shown(&site, "/scoped", token(&issued));
    assert_refused(&scoped, 403, "scope_missing");
    site.upstream.take();
    site.world.pass(INSTANT);
    let idle = shown(&site, "/client", token(&issued));
    assert_refused(&idle, 401, "session_expired");
}
