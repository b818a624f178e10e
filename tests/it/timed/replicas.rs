//! Two programs on one store: what one of them ends or spends is so for the other within a second.

use std::time::Duration;

use serde_json::{Value, json};

use super::{assert_refused, shown};
use crate::harness::{KEY, Response, Serve, Timed, Upstream, Wallet, request, within};
use crate::sign_in::site::{AUTH, REST, ROUTES, Site, static_key, text};

const SERVER: &str = "the-key-of-the-server-that-issues";

const CLIENT: &str = "\n[[routes]]\nprefix = \"/client\"\nrequire = [\"session_token\"]\n";

/// Two of them.
fn open() -> [Site<Timed>; 2] {
    let server = static_key(SERVER, "acme", &["sessions:issue"]);
    let here = Site::timed_by(&format!("{ROUTES}{REST}{CLIENT}{server}"));
    let there = Site {
        // The one that is configured is the other's.
        upstream: Upstream::echo(),
        world: here.world.another(),
        key: KEY.to_owned(),
    };
    [here, there]
}

fn assert_ends(code: &str, ask: impl Fn() -> Response) {
    within(Duration::from_secs(1), code, || ask().status == 401);
    assert_refused(&ask(), 401, code);
}

#[test]
fn what_one_ends_the_other_refuses_within_a_second() {
    let [here, there] = open();
    let begin = |number| {
        let signed_in = here.sign_in(&Wallet::numbered(number), "body");
        let access = text(&signed_in, "accessToken");
        for site in [&here, &there] {
            assert_eq!(shown(site, "/token", &access).status, 200, "remembered");
        }
        (text(&signed_in, "refreshToken"), access)
    };
    let (logged_out, access) = begin(1);
    let out = here.post("/logout", &[], &json!({"refreshToken": logged_out}));
    assert_eq!(out.status, 204);
    assert_ends("session_revoked", || shown(&there, "/token", &access));
    assert_refused(&there.refresh(&logged_out), 401, "refresh_invalid");

    let (stolen, access) = begin(2);
    let thiefs = text(&there.refresh(&stolen), "accessToken");
    assert_eq!(shown(&there, "/token", &thiefs).status, 200, "used");
    here.world.pass(Duration::from_secs(10));
    assert_refused(&here.refresh(&stolen), 401, "refresh_reused");
    for token in [&thiefs, &access] {
        assert_ends("session_revoked", || shown(&there, "/token", token));
    }

    let body = json!({"subject": "user-7"});
    let issued = here.post("/sessions", &[("x-api-key", SERVER)], &body);
    let token = text(&issued, "clientSessionToken");
    for site in [&here, &there] {
        assert_eq!(shown(site, "/client", &token).status, 200);
    }
    let target = format!("{AUTH}/sessions/{}", text(&issued, "sessionId"));
    let ended = request("DELETE", &target, &[("x-api-key", SERVER)]);
    assert_eq!(here.world.send(ended).status, 204);
    assert_ends("session_revoked", || shown(&there, "/client", &token));

    let (_, access) = begin(3);
    let bearer = format!("Bearer {access}");
    let headers = [("authorization", &*bearer)];
    let out = here.post("/logout?all=true", &headers, &Value::Null);
    assert_eq!(out.status, 204);
    assert_ends("session_revoked", || shown(&there, "/token", &access));
}

#[test]
fn what_one_gives_out_the_other_takes_once() {
    let [here, there] = open();
    let wallet = Wallet::numbered(4);
    let message = here.nonce(&wallet)["message"].as_str().unwrap().to_owned();
    let body = json!({
        "message": message, "signature": wallet.sign(&message), "mode": "body",
    });
    let signed_in = there.with_key("/verify", &body);
    assert_eq!(signed_in.status, 201, "{}", signed_in.text());
    for site in [&here, &there] {
        assert_refused(&site.with_key("/verify", &body), 401, "nonce_invalid");
    }
    let old = text(&signed_in, "refreshToken");
    let successor = text(&here.refresh(&old), "refreshToken");
    assert_eq!(text(&there.refresh(&old), "refreshToken"), successor);
    let access = text(&there.refresh(&successor), "accessToken");
    assert_eq!(shown(&here, "/token", &access).status, 200);
}
