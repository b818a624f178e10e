//! Sign-in with a wallet, access tokens, refresh and logout.

mod key_files;
pub(crate) mod site;
mod stored_keys;

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Upstream, Wallet, World, eventually, request, sha256_hex};
use site::{AUTH, REST, ROUTES, Site, cookie, text};

#[test]
fn a_wallet_signs_in_and_reads_its_portfolio() {
    let site = Site::open();
    let wallet = Wallet::numbered(1);
    let offered = site.nonce(&wallet);
    assert_eq!(offered["domain"], "app.example.com");
    assert_eq!(offered["uri"], "https://app.example.com");
    assert_eq!(offered["version"], "1");
    assert_eq!(offered["chains"], json!([42161, 1]));
    let answer = site.sign_in(&wallet, "cookie");
    assert_eq!(answer.headers.one("cache-control"), Some("no-store"));
    assert!(answer.json()["refreshToken"].is_null());
    assert_eq!(answer.json()["tokenType"], "Bearer");
    assert_eq!(answer.json()["expiresIn"], 900);
    assert_eq!(answer.json()["chainId"], 42161);
    let subject = text(&answer, "subject");
    assert_eq!(subject.to_lowercase(), wallet.address());
    assert_ne!(subject, wallet.address(), "EIP-55");
    assert!(cookie(&answer).starts_with("gr_"));
    site.upstream.assert_untouched("an own route");

    let access = text(&answer, "accessToken");
    for _ in 0..3 {
        let response = site.portfolio(&access);
        assert_eq!(response.status, 200, "{}", response.text());
    }
    let received = site.upstream.received().pop().unwrap();
    assert_eq!(received.target, "/api/v1/portfolio?network=arbitrum");
    assert_eq!(received.headers.one("x-auth-subject"), Some(&*subject));
    assert_eq!(
        received.headers.one("x-auth-methods"),
        Some("api_key access_token")
    );
    assert_eq!(received.headers.one("x-auth-key-owner"), Some("acme"));
    assert_eq!(
        received.headers.one("x-auth-scopes"),
        Some("portfolio:read portfolio:write")
    );
    assert!(received.headers.has("x-auth-session-id"));
    assert!(!received.headers.has("authorization"));
    assert!(!received.headers.has("x-api-key"));

    let bearer = format!("Bearer {access}");
    let token_alone = [("authorization", &*bearer)];
    assert_eq!(
        site.world.get("/api/v1/portfolio", &token_alone).code(),
        "credential_missing"
    );
    assert_eq!(
        site.world.status_with("/api/v1/portfolio", &site.key),
        401,
        "the key alone"
    );
    let who = site.world.get(&format!("{AUTH}/session"), &token_alone);
    assert_eq!(who.json()["subject"], subject);
    assert_eq!(site.world.get("/open", &token_alone).status, 200);
    let received = site.upstream.received().pop().unwrap();
    assert!(!received.headers.has("authorization"), "on every route");
}

#[test]
fn a_401_names_what_is_missing_beside_what_was_shown() {
    let site = Site::open();
    let signed_in = site.sign_in(&Wallet::numbered(1), "body");
    let bearer = format!("Bearer {}", text(&signed_in, "accessToken"));
    for (shown, challenges, detail) in [
        (
            ("x-api-key", &*site.key),
            &[r#"Bearer realm="gatelet""#][..],
            "This route needs a bearer token; send one with the request.",
        ),
        (
            ("authorization", &*bearer),
            &[r#"Bearer realm="gatelet""#, r#"ApiKey realm="gatelet""#],
            "This route needs an API key; send one with the request.",
        ),
    ] {
        let answer = site.world.get("/api/v1/portfolio", &[shown]);
        assert_eq!(
            (answer.status, &*answer.code()),
            (401, "credential_missing")
        );
        assert_eq!(answer.headers.all("www-authenticate"), challenges);
        assert_eq!(answer.json()["detail"], detail);
    }
    site.upstream
        .assert_untouched("half of what is needed is not enough");
}

#[test]
fn the_nonce_form_signs_the_message_that_came_with_it() {
    let site = Site::open();
    let wallet = Wallet::numbered(2);
    let offered = site.nonce(&wallet);
    let signature = wallet.sign(offered["message"].as_str().unwrap());
    let answer = site.with_key(
        "/verify",
        &json!({"wallet": wallet.address(), "nonce": offered["nonce"], "signature": signature, "mode": "body"}),
    );
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert!(text(&answer, "refreshToken").starts_with("gr_"));
    assert!(!answer.headers.has("set-cookie"));
}

#[test]
fn a_nonce_is_good_for_one_try_of_one_key() {
    let site = Site::open();
    let (_, other) = site.world.create_key("other", &[]);
    site.world.within_a_second("/keys", &other, 200);
    let wallet = Wallet::numbered(3);
    let message = site.nonce(&wallet)["message"].as_str().unwrap().to_owned();
    let good = wallet.sign(&message);
    let forged = Wallet::numbered(4).sign(&message);
    let verify = |key: &str, message: &str, signature: &str| {
        let body = json!({"message": message, "signature": signature});
        site.post("/verify", &[("x-api-key", key)], &body).code()
    };
    assert_eq!(verify(&other, &message, &good), "nonce_invalid");
    assert_eq!(verify(&site.key, &message, &forged), "signature_invalid");
    assert_eq!(verify(&site.key, &message, &good), "nonce_invalid", "spent");

    let fresh = site.nonce(&wallet)["message"].as_str().unwrap().to_owned();
    assert_eq!(
        verify(&site.key, &fresh, &format!("0x{}", "00".repeat(96))),
        "wallet_unsupported"
    );
    let elsewhere = fresh.replace("app.example.com", "evil.example.com");
    let signature = wallet.sign(&elsewhere);
    assert_eq!(verify(&site.key, &elsewhere, &signature), "message_invalid");
    let moved = fresh.replace("app.example.com", "localhost:3000");
    let signature = wallet.sign(&moved);
    assert_eq!(verify(&site.key, &moved, &signature), "nonce_invalid");
    assert_eq!(verify(&site.key, "hello", &good), "message_invalid");
    let body = json!({"signature": good});
    assert_eq!(site.with_key("/verify", &body).code(), "request_malformed");
    assert_eq!(
        site.post("/nonce", &[], &json!({})).code(),
        "credential_missing"
    );
    let sign_ins = site.world.metrics();
    let refused = [("outcome", "refused")];
    assert!(sign_ins.sum("gatelet_sign_ins_total", &refused) >= 7.0);
}

#[test]
fn nonces_leave_no_trace() {
    let site = Site::open();
    let wallet = Wallet::numbered(5);
    let stored = || {
        let data = site.world.folder().join("data");
        let files = std::fs::read_dir(data).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum::<u64>()
    };
    // The first one makes the key that seals them.
    site.nonce(&wallet);
    let before = stored();
    for _ in 0..300 {
        site.nonce(&wallet);
    }
    assert_eq!(stored(), before);
}

#[test]
fn refresh_rotates_by_body_and_repeats_within_grace() {
    let site = Site::open();
    let first = site.sign_in(&Wallet::numbered(6), "body");
    let old = text(&first, "refreshToken");
    let rotated = site.refresh(&old);
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    let new = text(&rotated, "refreshToken");
    assert_ne!(old, new);
    assert_eq!(site.portfolio(&text(&rotated, "accessToken")).status, 200);
    // A second tab, and a lost answer, get the very same successor.
    assert_eq!(text(&site.refresh(&old), "refreshToken"), new);
    let third = text(&site.refresh(&new), "refreshToken");
    assert_eq!(text(&site.refresh(&old), "refreshToken"), third);
    for wrong in ["", "gr_short", &"x".repeat(40)] {
        assert_eq!(site.refresh(wrong).code(), "refresh_invalid", "{wrong}");
    }
    let metrics = site.world.metrics();
    let count = |outcome| metrics.sum("gatelet_refreshes_total", &[("outcome", outcome)]);
    assert_eq!((count("rotated"), count("repeated")), (2.0, 2.0));
}

#[test]
fn a_stolen_refresh_token_ends_the_family() {
    let site = Site::with("\n[refresh_token]\ngrace = \"1s\"\n");
    let first = site.sign_in(&Wallet::numbered(7), "body");
    let stolen = text(&first, "refreshToken");
    let thief = site.refresh(&stolen);
    let access = text(&thief, "accessToken");
    assert_eq!(site.portfolio(&access).status, 200, "the thief uses it");
    thread::sleep(Duration::from_millis(1100));
    let owner = site.refresh(&stolen);
    assert_eq!((owner.status, &*owner.code()), (401, "refresh_reused"));
    assert_eq!(site.portfolio(&access).code(), "session_revoked");
    let theirs = text(&thief, "refreshToken");
    assert_eq!(site.refresh(&theirs).code(), "refresh_invalid");
    assert_eq!(
        site.portfolio(&text(&first, "accessToken")).code(),
        "session_revoked"
    );
}

#[test]
fn an_answer_that_was_lost_is_given_again_however_late() {
    let site = Site::with("\n[refresh_token]\ngrace = \"1s\"\n");
    let first = site.sign_in(&Wallet::numbered(8), "body");
    let old = text(&first, "refreshToken");
    let lost = site.refresh(&old);
    thread::sleep(Duration::from_millis(1200));
    let again = site.refresh(&old);
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(text(&again, "refreshToken"), text(&lost, "refreshToken"));
}

#[test]
fn a_cookie_refreshes_from_its_own_pages_and_never_yields_a_body() {
    let site = Site::open();
    let signed_in = site.sign_in(&Wallet::numbered(9), "cookie");
    let value = cookie(&signed_in);
    let line = format!("a=1; __Host-refresh={value}");
    let refresh = |headers: &[(&str, &str)]| {
        let all = [&[("cookie", &*line)], headers].concat();
        site.post("/refresh", &all, &Value::Null)
    };
    for forbidden in [
        &[("origin", "https://evil.example.com")][..],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
    ] {
        let answer = refresh(forbidden);
        assert_eq!(answer.code(), "origin_forbidden", "{forbidden:?}");
        assert!(!answer.headers.has("set-cookie"));
    }
    for allowed in [
        &[][..],
        &[("origin", "https://app.example.com")],
        &[("origin", "http://api.test")],
        &[("sec-fetch-site", "same-origin")],
    ] {
        let answer = refresh(allowed);
        assert_eq!(answer.status, 200, "{allowed:?}: {}", answer.text());
        assert!(cookie(&answer).starts_with("gr_"));
        assert!(answer.json()["refreshToken"].is_null());
    }
    assert_eq!(site.refresh(&value).code(), "refresh_invalid", "in a body");
    let both = site.post(
        "/refresh",
        &[("cookie", &line)],
        &json!({"refreshToken": value}),
    );
    assert_eq!(both.code(), "credential_ambiguous");
    assert_eq!(site.world.get("/open", &[("cookie", &line)]).status, 200);
    let received = site.upstream.received().pop().unwrap();
    assert_eq!(received.headers.one("cookie"), Some("a=1"));
}

#[test]
fn logout_ends_the_session_at_once() {
    let site = Site::open();
    let wallet = Wallet::numbered(10);
    let signed_in = site.sign_in(&wallet, "cookie");
    let access = text(&signed_in, "accessToken");
    for _ in 0..5 {
        assert_eq!(site.portfolio(&access).status, 200);
    }
    let line = format!("__Host-refresh={}", cookie(&signed_in));
    for _ in 0..2 {
        let out = site.post("/logout", &[("cookie", &line)], &Value::Null);
        assert_eq!(out.status, 204, "and again");
        let cleared = out.headers.one("set-cookie").unwrap();
        assert!(cleared.starts_with("__Host-refresh=;") && cleared.contains("Max-Age=0"));
    }
    for _ in 0..5 {
        let refused = site.portfolio(&access);
        assert_eq!((refused.status, &*refused.code()), (401, "session_revoked"));
    }
    let refused = site.post("/refresh", &[("cookie", &line)], &Value::Null);
    assert_eq!(refused.code(), "refresh_invalid");
    assert!(!refused.headers.has("set-cookie"), "a loser clears nothing");

    let two: Vec<String> = (0..2)
        .map(|_| text(&site.sign_in(&wallet, "body"), "accessToken"))
        .collect();
    let bearer = format!("Bearer {}", two[0]);
    let out = site.post(
        "/logout?all=true",
        &[("authorization", &bearer)],
        &Value::Null,
    );
    assert_eq!(out.status, 204);
    for access in &two {
        assert_eq!(site.portfolio(access).code(), "session_revoked");
    }
    assert_eq!(site.post("/logout", &[], &Value::Null).status, 204);
}

#[test]
fn a_revoked_key_takes_its_sign_ins_along() {
    let site = Site::open();
    let (id, key) = site.world.create_key("gone", &[]);
    site.world.within_a_second("/keys", &key, 200);
    let other = Site {
        upstream: Upstream::echo(),
        key: key.clone(),
        world: site.world,
    };
    let signed_in = other.sign_in(&Wallet::numbered(11), "body");
    let access = text(&signed_in, "accessToken");
    let bearer = format!("Bearer {access}");
    let headers = [("authorization", &*bearer)];
    assert_eq!(other.world.get("/token", &headers).status, 200);
    let mismatch = [("x-api-key", &*site.key), ("authorization", &bearer)];
    let mismatched = other.world.get("/api/v1/portfolio", &mismatch);
    assert_eq!(mismatched.code(), "credential_mismatch");
    other.world.revoke_key(&id);
    eventually("the token is refused", || {
        other.world.get("/token", &headers).status == 401
    });
    let refreshed = other.refresh(&text(&signed_in, "refreshToken"));
    assert_eq!(refreshed.code(), "refresh_invalid");
}

#[test]
fn access_tokens_expire_and_others_are_refused() {
    let site = Site::with("ttl = \"1s\"\n");
    let signed_in = site.sign_in(&Wallet::numbered(12), "body");
    let access = text(&signed_in, "accessToken");
    let refused = |token: &str| {
        let bearer = format!("Bearer {token}");
        site.world.get("/token", &[("authorization", &bearer)])
    };
    eventually("it has expired", || {
        refused(&access).code() == "token_expired"
    });
    let mut parts: Vec<&str> = access.split('.').collect();
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0";
    for tampered in [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{access}="),
        format!("{}.{}.{}", parts[0], parts[1], parts[1]),
    ] {
        let answer = refused(&tampered);
        assert_eq!((answer.status, &*answer.code()), (401, "token_invalid"));
    }
    parts.truncate(2);
    assert_eq!(refused(&parts.join(".")).status, 401);
    let foreign = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2Vsc2UifQ.c2ln";
    let bearer = format!("Bearer {foreign}");
    assert_eq!(
        site.world
            .get("/open", &[("authorization", &bearer)])
            .status,
        200
    );
    let received = site.upstream.received().pop().unwrap();
    assert_eq!(received.headers.one("authorization"), Some(&*bearer));
    let renewed = site.refresh(&text(&signed_in, "refreshToken"));
    assert_eq!(refused(&text(&renewed, "accessToken")).status, 200);
}

#[test]
fn everything_survives_a_crash() {
    let mut site = Site::open();
    let signed_in = site.sign_in(&Wallet::numbered(13), "body");
    let access = text(&signed_in, "accessToken");
    let before = site.world.get("/.well-known/jwks.json", &[]).text();
    site.world.crash();
    assert_eq!(site.world.get("/.well-known/jwks.json", &[]).text(), before);
    assert_eq!(site.portfolio(&access).status, 200);
    let rotated = site.refresh(&text(&signed_in, "refreshToken"));
    assert_eq!(rotated.status, 200);
    site.world.crash();
    let again = site.refresh(&text(&signed_in, "refreshToken"));
    assert_eq!(text(&again, "refreshToken"), text(&rotated, "refreshToken"));
}

#[test]
fn fifty_refreshes_at_once_have_one_successor() {
    let site = Site::open();
    let mut token = text(&site.sign_in(&Wallet::numbered(14), "body"), "refreshToken");
    for round in 0..10 {
        let successors: Vec<String> = thread::scope(|scope| {
            let racing: Vec<_> = (0..50)
                .map(|_| scope.spawn(|| text(&site.refresh(&token), "refreshToken")))
                .collect();
            racing
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect()
        });
        assert!(
            successors.iter().all(|one| *one == successors[0]),
            "round {round}"
        );
        token.clone_from(&successors[0]);
    }
    let live = site.world.send(request("GET", "/open", &[]));
    assert_eq!(live.status, 200);
}

#[test]
fn live_refresh_tokens_are_taken_over() {
    let site = Site::with("\n[refresh_token.cookie]\nlegacy_names = [\"old-refresh\"]\n");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let (by_cookie, by_body) = ("an-old-refresh-cookie-value", "an-old-refresh-token-value");
    let line = |token: &str, mode: &str| {
        json!({
            "kind": "refresh", "sha256": sha256_hex(token), "subject": "0xOld", "mode": mode,
            "owner": "acme", "createdAt": now - 100, "expiresAt": now + 3600,
        })
    };
    let text_of = format!("{}\n{}\n", line(by_cookie, "cookie"), line(by_body, "body"));
    site.world.write("live.ndjson", &text_of);
    let taken = site.world.command(&["sessions", "import", "live.ndjson"]);
    assert!(taken.status.success(), "{taken:?}");

    let cookies = format!("old-refresh={by_cookie}");
    let answer = site.post("/refresh", &[("cookie", &cookies)], &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(cookie(&answer).starts_with("gr_"));
    assert_eq!(site.portfolio(&text(&answer, "accessToken")).status, 200);
    let received = site.upstream.received().pop().unwrap();
    assert_eq!(received.headers.one("x-auth-subject"), Some("0xOld"));
    assert_eq!(site.world.get("/open", &[("cookie", &cookies)]).status, 200);
    let received = site.upstream.received().pop().unwrap();
    assert!(
        !received.headers.has("cookie"),
        "a legacy name is private too"
    );

    let answer = site.refresh(by_body);
    let listed = site
        .world
        .command_json(&["sessions", "list", "--subject", "0xOld", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let access = text(&answer, "accessToken");
    assert_eq!(site.portfolio(&access).status, 200);
    let ended = site
        .world
        .command(&["sessions", "revoke", "--subject", "0xOld"]);
    assert!(ended.status.success());
    eventually("the access token is refused", || {
        site.portfolio(&access).code() == "session_revoked"
    });
}

#[test]
fn who_merely_knows_a_sessions_id_ends_nothing() {
    let site = Site::open();
    let signed_in = site.sign_in(&Wallet::numbered(20), "body");
    let access = text(&signed_in, "accessToken");
    assert_eq!(site.portfolio(&access).status, 200);
    let received = site.upstream.received().pop().unwrap();
    let id = received.headers.one("x-auth-session-id").unwrap();
    let mut forged = format!("gr_{id}{}{}", "A".repeat(22), "B".repeat(43));
    forged.push_str(&checksum(&forged));
    assert_eq!(site.refresh(&forged).code(), "refresh_invalid");
    for target in ["/logout", "/logout?all=true"] {
        let out = site.post(target, &[], &json!({"refreshToken": forged}));
        assert_eq!(out.status, 204);
    }
    assert_eq!(site.portfolio(&access).status, 200);
}

/// The CRC-32 that minted secrets end with, in base62.
pub(crate) fn checksum(text: &str) -> String {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut number = crc32fast::hash(text.as_bytes());
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    String::from_utf8(digits.to_vec()).unwrap()
}

#[test]
fn no_route_takes_what_gatelet_answers_itself() {
    let hosted = "\n[[routes]]\nname = \"hosted\"\nhost = \"api.test\"\nprefix = \"/\"\nrequire = \"nothing\"\n";
    let upstream = Upstream::echo();
    let world = World::start(&upstream, &format!("{ROUTES}{REST}{hosted}"));
    let body = json!({"refreshToken": "somebody's"}).to_string();
    let answer = world.send(format!(
        "POST {AUTH}/refresh HTTP/1.1\r\nhost: api.test\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(answer.status, 401);
    upstream.assert_untouched("an own route");
    assert_eq!(world.get("/elsewhere", &[]).status, 200);
}

#[test]
fn no_upstream_sees_a_refresh_token() {
    let site = Site::open();
    let signed_in = site.sign_in(&Wallet::numbered(21), "body");
    let refresh = text(&signed_in, "refreshToken");
    let bearer = format!("Bearer {refresh}");
    let headers = [("authorization", &*bearer), ("x-api-key", &site.key)];
    for target in ["/open", "/keys"] {
        assert_eq!(site.world.get(target, &headers).status, 200);
        let received = site.upstream.received().pop().unwrap();
        assert!(!received.headers.has("authorization"), "{target}");
    }
    let logged = format!("/open/{refresh}/{}", text(&signed_in, "accessToken"));
    site.world.get(&logged, &[]);
    eventually("the request is logged", || {
        site.world
            .log()
            .iter()
            .any(|line| line.contains(r"/open/gr_\u2026/eyJ\u2026"))
    });
    assert!(!site.world.log().iter().any(|line| line.contains(&refresh)));
}

#[test]
fn nobody_is_logged_out_by_a_page_elsewhere() {
    let site = Site::open();
    let evil = [("origin", "https://evil.example.com")];
    let out = site.post("/logout", &evil, &Value::Null);
    assert_eq!(out.status, 204);
    assert!(!out.headers.has("set-cookie"));
    for garbled in ["__Host-refresh=abc", "__Host-refresh=gr_abc"] {
        let out = site.post("/logout", &[("cookie", garbled)], &Value::Null);
        assert_eq!(out.status, 204, "{garbled}");
        assert!(out.headers.has("set-cookie"));
    }
    let nothing = site.post("/refresh", &[], &Value::Null);
    assert_eq!(nothing.code(), "credential_missing");
    assert_eq!(nothing.headers.all("www-authenticate").len(), 1);
}

#[test]
fn an_old_cookie_beside_the_new_one_is_not_read() {
    let site = Site::with("\n[refresh_token.cookie]\nlegacy_names = [\"old-refresh\"]\n");
    let signed_in = site.sign_in(&Wallet::numbered(22), "cookie");
    let line = format!(
        "old-refresh=an-old-refresh-cookie-value; __Host-refresh={}",
        cookie(&signed_in)
    );
    let answer = site.post("/refresh", &[("cookie", &line)], &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let out = site.post("/logout", &[("cookie", &line)], &Value::Null);
    let cleared = out.headers.all("set-cookie");
    assert!(cleared.len() == 2 && cleared[1].starts_with("old-refresh=;"));
}

#[test]
fn sign_in_can_be_turned_on_by_a_reload() {
    let upstream = Upstream::echo();
    let before = "[[routes]]\nprefix = \"/keys\"\nrequire = [\"api_key\"]\n[store]\npath = \"{folder}/data\"\n";
    let world = World::start(&upstream, before);
    let (_, key) = world.create_key("web", &["--owner", "acme"]);
    assert_eq!(world.get("/.well-known/jwks.json", &[]).status, 404);
    world.write_config(&upstream, &format!("{ROUTES}{REST}"));
    world.signal("HUP");
    eventually("the keys are published", || {
        world.get("/.well-known/jwks.json", &[]).status == 200
    });
    let site = Site {
        upstream,
        world,
        key,
    };
    let signed_in = site.sign_in(&Wallet::numbered(23), "body");
    assert_eq!(site.portfolio(&text(&signed_in, "accessToken")).status, 200);
}

/// Clients put their access token on every request, and a refresh may be one of them.
#[test]
fn a_refresh_takes_no_offence_at_the_access_token_beside_it() {
    let site = Site::open();
    let signed_in = site.sign_in(&Wallet::numbered(81), "body");
    let bearer = format!("Bearer {}", text(&signed_in, "accessToken"));
    let mut refresh = text(&signed_in, "refreshToken");
    for bearer in [&*bearer, "Bearer gs_x", "Bearer x.y.z"] {
        let body = json!({"refreshToken": refresh});
        let answer = site.post("/refresh", &[("authorization", bearer)], &body);
        assert_eq!(answer.status, 200, "{bearer}: {}", answer.text());
        refresh = text(&answer, "refreshToken");
    }
    // A key is judged wherever one may be shown.
    let body = json!({"refreshToken": refresh});
    let revoked = site.world.create_key("gone", &["--owner", "acme"]);
    site.world.revoke_key(&revoked.0);
    let bearer = format!("Bearer {}", revoked.1);
    let answer = site.post("/refresh", &[("authorization", &bearer)], &body);
    assert_eq!((answer.status, &*answer.code()), (401, "api_key_invalid"));
}

/// An API that introspects a token was shown it by whoever bears it.
#[test]
fn a_token_that_is_introspected_was_presented() {
    let site = Site::open();
    let (_, asking) = site
        .world
        .create_key("asking", &["--scope", "tokens:introspect"]);
    site.world.within_a_second("/keys", &asking, 200);
    let first = site.sign_in(&Wallet::numbered(82), "body");
    let old = text(&first, "refreshToken");
    let next = site.refresh(&old);
    let form = format!("token={}", text(&next, "accessToken"));
    let length = form.len();
    let told = site.world.send(format!(
        "POST {AUTH}/introspect HTTP/1.1\r\nhost: api.test\r\nx-api-key: {asking}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{form}"
    ));
    assert_eq!(told.json()["active"], true);
    let data = rusqlite::Connection::open(site.world.folder().join("data/gatelet.db")).unwrap();
    let noted: String = data
        .query_row(
            "SELECT CAST(value AS TEXT) FROM records WHERE value LIKE '%presented%'",
            (),
            |row| row.get(0),
        )
        .unwrap();
    assert!(noted.contains("presented"), "{noted}");
}

/// What was issued before is still gatelet's own, and no upstream sees it.
#[test]
fn tokens_of_a_sign_in_that_was_turned_off_go_nowhere() {
    let site = Site::open();
    let signed_in = site.sign_in(&Wallet::numbered(83), "cookie");
    let bearer = format!("Bearer {}", text(&signed_in, "accessToken"));
    let cookie = format!("__Host-refresh={}", cookie(&signed_in));
    let routes = ROUTES.split("[auth]").next().unwrap();
    let routes = routes
        .split("[[routes]]")
        .filter(|it| it.contains("/open") || it.contains("/keys"));
    let routes: Vec<&str> = routes.collect();
    let routes = format!("[[routes]]{}", routes.join("[[routes]]"));
    let store =
        "[store]\npath = \"{folder}/data\"\n[refresh_token.cookie]\nname = \"__Host-other\"\n";
    site.world
        .write_config(&site.upstream, &format!("{routes}{store}"));
    site.world.signal("HUP");
    let headers = [("authorization", &*bearer), ("cookie", &*cookie)];
    eventually("there is no sign-in", || {
        site.world.get("/.well-known/jwks.json", &[]).status == 404
    });
    site.upstream.take();
    assert_eq!(site.world.get("/open", &headers).status, 200);
    let seen = site.upstream.take().unwrap();
    assert_eq!(seen.headers.one("authorization"), None);
    assert_eq!(seen.headers.one("cookie"), None);
}
