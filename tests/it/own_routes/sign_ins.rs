//! What a sign-in takes and answers, member by member.

use std::thread;

use serde_json::{Value, json};

use crate::harness::{BEGAN, Response, Serve, Timed, Wallet};
use crate::sign_in::site::{Site, text};

const ADDRESS: &str = "0x5050A4F4b3f9338C3472dcC01A87C76A144b3c9c";

/// The wallet of that address.
fn wallet() -> Wallet {
    Wallet::numbered(2)
}

fn verify(site: &Site<Timed>, body: &Value) -> Response {
    site.with_key("/verify", body)
}

/// Signs a message that this makes of the one that is offered.
fn signed(site: &Site<Timed>, change: impl Fn(&str) -> String) -> Response {
    let offered = site.nonce(&wallet());
    let offered = offered["message"].as_str().unwrap();
    let message = change(offered);
    let body = json!({"message": message, "signature": wallet().sign(&message)});
    verify(site, &body)
}

#[test]
fn a_nonce_comes_with_all_that_a_message_needs() {
    let site = Site::timed("");
    for name in ["address", "wallet"] {
        for (more, domain, chain) in [
            (json!({}), "app.example.com", 42161),
            (json!({"chainId": 1}), "app.example.com", 1),
            (
                json!({"chainId": 42161, "domain": "LOCALHOST:3000"}),
                "localhost:3000",
                42161,
            ),
        ] {
            let mut body = more.clone();
            body[name] = wallet().address().into();
            let answer = site.with_key("/nonce", &body);
            assert_eq!(answer.status, 201, "{}", answer.text());
            assert_eq!(answer.headers.one("cache-control"), Some("no-store"));
            let told = answer.json();
            let nonce = told["nonce"].as_str().unwrap();
            assert!(nonce.len() >= 8 && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            let uri = match domain {
                "localhost:3000" => "http://localhost:3000".to_owned(),
                _ => format!("https://{domain}"),
            };
            let message = format!(
                "{domain} wants you to sign in with your Ethereum account:\n{ADDRESS}\n\n\
                 Sign in to your portfolio.\n\nURI: {uri}\nVersion: 1\nChain ID: {chain}\n\
                 Nonce: {nonce}\nIssued At: 2027-01-15T08:00:00Z\n\
                 Expiration Time: 2027-01-15T08:05:00Z"
            );
            let promised = json!({
                "nonce": nonce, "expiresAt": BEGAN + 300, "domain": domain, "uri": uri,
                "version": "1", "chains": [42161, 1],
                "statement": "Sign in to your portfolio.", "message": message,
            });
            assert_eq!(told, promised, "{body}");
            let shown = json!({"message": message, "signature": wallet().sign(&message)});
            let signed_in = verify(&site, &shown);
            assert_eq!(signed_in.status, 201, "{}", signed_in.text());
            assert_eq!(signed_in.json()["chainId"], chain);
            assert_eq!(signed_in.json()["subject"], ADDRESS);
        }
    }
    for wrong in [
        json!({"domain": "evil.example.com"}),
        json!({"chainId": 10}),
        json!({"chainId": "1"}),
        json!({"address": "0x12"}),
        json!({"address": ADDRESS.replace("A4F4", "a4F4")}),
        json!({"address": ADDRESS, "wallet": ADDRESS}),
        json!([ADDRESS]),
    ] {
        let answer = site.with_key("/nonce", &wrong);
        let told = (answer.status, answer.code());
        assert_eq!(told, (400, "request_malformed".to_owned()), "{wrong}");
    }
}

#[test]
fn a_wallet_is_named_in_either_word_and_speaks_by_cookie_unless_it_says_otherwise() {
    let site = Site::timed("");
    for name in ["wallet", "address"] {
        for (mode, in_body) in [(None, false), (Some("cookie"), false), (Some("body"), true)] {
            let offered = site.nonce(&wallet());
            let signature = wallet().sign(offered["message"].as_str().unwrap());
            let mut body = json!({"nonce": offered["nonce"], "signature": signature});
            body[name] = wallet().address().into();
            if let Some(mode) = mode {
                body["mode"] = mode.into();
            }
            let answer = verify(&site, &body);
            assert_eq!(answer.status, 201, "{}", answer.text());
            assert_eq!(answer.headers.one("cache-control"), Some("no-store"));
            assert_eq!(answer.headers.one("content-type"), Some("application/json"));
            assert_eq!(answer.json()["refreshToken"].is_string(), in_body);
            let cookies = answer.headers.all("set-cookie");
            assert_eq!(cookies.is_empty(), in_body, "{mode:?}");
            for cookie in cookies {
                let (pair, attributes) = cookie.split_once("; ").unwrap();
                assert!(pair.starts_with("__Host-refresh=gr_"), "{pair}");
                let promised = "Path=/; Max-Age=604800; Secure; HttpOnly; SameSite=Strict";
                assert_eq!(attributes, promised);
            }
        }
    }
}

#[test]
fn what_is_no_sign_in_is_malformed() {
    let site = Site::timed("");
    let offered = site.nonce(&wallet());
    let (message, nonce) = (&offered["message"], &offered["nonce"]);
    let signature = wallet().sign(message.as_str().unwrap());
    for wrong in [
        json!({}),
        json!({"message": message}),
        json!({"signature": signature}),
        json!({"message": message, "signature": signature, "mode": "header"}),
        json!({"message": message, "signature": signature, "mode": 1}),
        json!({"message": message, "nonce": nonce, "signature": signature}),
        json!({"message": message, "wallet": ADDRESS, "signature": signature}),
        json!({"wallet": ADDRESS, "signature": signature}),
        json!({"nonce": nonce, "signature": signature}),
        json!({"wallet": "0x12", "nonce": nonce, "signature": signature}),
        json!({"wallet": ADDRESS, "address": ADDRESS, "nonce": nonce, "signature": signature}),
    ] {
        let answer = verify(&site, &wrong);
        let told = (answer.status, answer.code());
        assert_eq!(told, (400, "request_malformed".to_owned()), "{wrong}");
    }
    // None of that spent the nonce.
    let good = json!({"message": message, "signature": signature});
    assert_eq!(verify(&site, &good).status, 201);
}

#[test]
fn each_binding_of_a_message_is_judged_alone_and_its_statement_is_its_own() {
    let site = Site::timed("");
    for (from, to) in [
        ("app.example.com wants", "evil.example.com wants"),
        ("app.example.com wants", "localhost:3000 wants"),
        ("app.example.com wants", "http://app.example.com wants"),
        (
            "URI: https://app.example.com",
            "URI: https://evil.example.com",
        ),
        ("URI: https://app.example.com", "URI: ftp://app.example.com"),
        (
            "URI: https://app.example.com",
            "URI: https://localhost:3000",
        ),
        ("Version: 1", "Version: 2"),
        ("Chain ID: 42161", "Chain ID: 10"),
        ("Issued At: 2027-01-15T08:00", "Issued At: 2027-01-15T08:06"),
        (
            "Expiration Time: 2027-01-15T08:05",
            "Expiration Time: 2027-01-15T07:59",
        ),
        ("Expiration Time: 2027", "Not Before: 2028"),
        (ADDRESS, "0x5050a4F4b3f9338C3472dcC01A87C76A144b3c9c"),
    ] {
        let answer = signed(&site, |offered| {
            assert!(offered.contains(from), "{from}: {offered}");
            offered.replace(from, to)
        });
        let told = (answer.status, answer.code());
        assert_eq!(told, (400, "message_invalid".to_owned()), "{to}");
        assert!(!answer.headers.has("set-cookie"));
    }
    for (from, to) in [
        ("Sign in to your portfolio.", "Or to anything else."),
        ("\n\nSign in to your portfolio.\n\n", "\n\n\n"),
        (
            "URI: https://app.example.com",
            "URI: http://app.example.com/a?b#c",
        ),
        ("app.example.com wants", "https://app.example.com wants"),
        ("\nExpiration Time: 2027-01-15T08:05:00Z", ""),
    ] {
        let answer = signed(&site, |offered| {
            assert!(offered.contains(from), "{from}: {offered}");
            offered.replace(from, to)
        });
        assert_eq!(answer.status, 201, "{to}: {}", answer.text());
    }
}

#[test]
fn a_nonce_that_many_spend_at_once_is_spent_by_one() {
    let site = Site::timed("");
    for _ in 0..5 {
        let message = text_of(&site.nonce(&wallet()));
        let body = json!({"message": message, "signature": wallet().sign(&message)});
        let codes: Vec<(u16, String)> = thread::scope(|scope| {
            let racing: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| verify(&site, &body)))
                .collect();
            let answers = racing.into_iter().map(|racer| racer.join().unwrap());
            answers
                .map(|answer| (answer.status, answer.code()))
                .collect()
        });
        let signed_in = codes.iter().filter(|(status, _)| *status == 201).count();
        assert_eq!(signed_in, 1, "{codes:?}");
        let others = codes.iter().filter(|(_, code)| code == "nonce_invalid");
        assert_eq!(others.count(), 15, "{codes:?}");
    }
}

fn text_of(offered: &Value) -> String {
    offered["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_refresh_is_answered_as_a_sign_in_and_a_token_stays_in_its_place() {
    let site = Site::timed("");
    let signed_in = site.sign_in(&wallet(), "body");
    let token = text(&signed_in, "refreshToken");
    // What was given out in a body is not taken from a cookie.
    let line = format!("__Host-refresh={token}");
    let in_cookie = site.post("/refresh", &[("cookie", &line)], &Value::Null);
    let told = (in_cookie.status, in_cookie.code());
    assert_eq!(told, (401, "refresh_invalid".to_owned()));
    let answer = site.refresh(&token);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers.one("cache-control"), Some("no-store"));
    assert_eq!(answer.headers.one("content-type"), Some("application/json"));
    assert!(!answer.headers.has("set-cookie"));
    let (mut before, mut after) = (signed_in.json(), answer.json());
    for fresh in ["accessToken", "refreshToken"] {
        assert_ne!(before[fresh].take(), after[fresh].take(), "{fresh}");
    }
    assert_eq!(after, before);
}

#[test]
fn the_keys_are_public_and_may_be_kept_for_5_minutes() {
    let site = Site::timed("");
    let request = crate::harness::request("GET", "/.well-known/jwks.json", &[]);
    let answer = site.world.send(request);
    assert_eq!(answer.status, 200);
    let kept = answer.headers.one("cache-control").unwrap();
    assert!(kept.split(", ").any(|word| word == "max-age=300"), "{kept}");
    let media_type = answer.headers.one("content-type");
    assert_eq!(media_type, Some("application/jwk-set+json"));
    let keys = answer.json()["keys"].clone();
    let keys = keys.as_array().unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        let names: Vec<&str> = key
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert!(!names.contains(&"d"), "{names:?}");
        assert_eq!((&key["alg"], &key["use"]), (&json!("ES256"), &json!("sig")));
    }
}
