//! Access tokens live 15 minutes, and say so.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{INSTANT, MINUTE, almost, assert_refused, members, shown};
use crate::harness::{BEGAN, Wallet};
use crate::sign_in::site::{AUTH, Site, text};

fn part(token: &str, place: usize) -> Value {
    let part = token.split('.').nth(place).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn a_token_lives_15_minutes_and_not_an_instant_longer() {
    let site = Site::timed("");
    let [signed_in, other] = [1, 2].map(|number| site.sign_in(&Wallet::numbered(number), "body"));
    let access = text(&signed_in, "accessToken");
    let unseen = text(&other, "accessToken");
    site.upstream.assert_untouched("own routes");
    site.world.pass(almost(15 * MINUTE));
    assert_eq!(shown(&site, "/token", &access).status, 200);
    let received = site.upstream.take().unwrap();
    let subject = text(&signed_in, "subject");
    assert_eq!(received.headers.one("x-auth-subject"), Some(&*subject));
    site.world.pass(INSTANT);
    // One is remembered as good, the other is verified only now.
    for over in [&access, &unseen] {
        assert_refused(&shown(&site, "/token", over), 401, "token_expired");
    }
    site.upstream
        .assert_untouched("what has expired opens nothing");
}

#[test]
fn a_token_and_its_answer_say_what_they_promise() {
    let site = Site::timed("issuer = \"https://api.example.com\"\naudience = [\"a\", \"b\"]\n");
    let signed_in = site.sign_in(&Wallet::numbered(2), "body");
    let told = signed_in.json();
    assert_eq!(
        members(&signed_in),
        [
            "accessToken",
            "chainId",
            "expiresAt",
            "expiresIn",
            "refreshToken",
            "subject",
            "tokenType"
        ]
    );
    assert_eq!(told["tokenType"], "Bearer");
    assert_eq!(told["expiresIn"], 900);
    assert_eq!(told["expiresAt"], BEGAN + 900);
    assert_eq!(told["chainId"], 42161);
    // EIP-55, as other libraries write it.
    assert_eq!(
        told["subject"],
        "0x5050A4F4b3f9338C3472dcC01A87C76A144b3c9c"
    );

    let access = text(&signed_in, "accessToken");
    let header = part(&access, 0);
    let kid = site.world.get("/.well-known/jwks.json", &[]).json()["keys"][0]["kid"].clone();
    assert_eq!(header, json!({"alg": "ES256", "kid": kid, "typ": "at+jwt"}));
    let mut claims = part(&access, 1);
    let claims = claims.as_object_mut().unwrap();
    let id = claims.remove("jti").unwrap();
    let session = claims.remove("sid").unwrap();
    let session = session.as_str().unwrap();
    assert!(id.as_str().unwrap().starts_with(&format!("{session}.0.")));
    let rest = json!({
        "iss": "https://api.example.com", "aud": ["a", "b"], "sub": told["subject"],
        "iat": BEGAN, "nbf": BEGAN, "exp": BEGAN + 900,
        "scope": "portfolio:read", "amr": ["swk"], "client_id": "static:ci",
    });
    assert_eq!(Value::Object(claims.clone()), rest);

    site.world.pass(MINUTE);
    let who = shown(&site, &format!("{AUTH}/session"), &access);
    let is = json!({
        "subject": told["subject"], "sessionId": session, "scopes": ["portfolio:read"],
        "createdAt": BEGAN, "expiresAt": BEGAN + 900, "maxExpiresAt": BEGAN + 7 * 24 * 3600,
    });
    assert_eq!((who.status, who.json()), (200, is));
    assert_eq!(who.headers.one("cache-control"), Some("no-store"));
    assert!(
        !who.headers.has("x-session-expires-at"),
        "it does not slide"
    );
}
