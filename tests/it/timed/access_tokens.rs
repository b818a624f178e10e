//! Access tokens live 15 minutes, and say so.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gatelet::authn::jwt::signing::SigningKey;
use gatelet::rules::jwt::{OwnClaims, SigningAlgorithm, TokenId};
use gatelet::rules::principal::Scopes;
use gatelet::rules::time::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

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

/// What makes other claims of good ones.
type Change<'a> = &'a dyn Fn(&mut OwnClaims);

/// A file with this key, as the configuration names it.
fn key_file(folder: &TempDir, key: &SigningKey) -> String {
    let path = folder.path().join("key.pem");
    let der = STANDARD.encode(key.as_pkcs8());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
    std::fs::write(&path, pem).unwrap();
    let path = path.display();
    format!("issuer = \"https://api.example.com\"\nsigning_key_files = [\"{path}\"]\n")
}

#[test]
fn a_token_is_judged_by_what_it_says_and_its_beginning_with_5_seconds_of_leeway() {
    let folder = TempDir::new().unwrap();
    let key = SigningKey::generate(SigningAlgorithm::EdDsa).unwrap();
    let site = Site::timed(&key_file(&folder, &key));
    let signed_in = site.sign_in(&Wallet::numbered(3), "body");
    let access = text(&signed_in, "accessToken");
    assert_eq!(part(&access, 0)["alg"], "EdDSA");
    let session = part(&access, 1)["sid"].as_str().unwrap().to_owned();
    let at = |seconds| Timestamp::from_seconds(BEGAN + seconds);
    let good = OwnClaims {
        issuer: "https://api.example.com".into(),
        subject: "0xSomebody".into(),
        audience: vec!["api".into()],
        issued_at: at(0),
        not_before: at(0),
        expires_at: at(60),
        id: TokenId::new(&session, 0, &[7; 16]),
        scopes: Scopes::default(),
        methods: Vec::new(),
        client_id: "static:ci".into(),
    };
    let cases: [(Change<'_>, &str); 10] = [
        (&|_| {}, ""),
        (&|claims| claims.not_before = at(5), ""),
        (&|claims| claims.issued_at = at(5), ""),
        (&|claims| claims.audience.push("other".into()), ""),
        (&|claims| claims.not_before = at(6), "token_invalid"),
        (&|claims| claims.issued_at = at(6), "token_invalid"),
        (&|claims| claims.expires_at = at(0), "token_expired"),
        (
            &|claims| claims.issuer = "https://b".into(),
            "token_invalid",
        ),
        (
            &|claims| claims.audience = vec!["b".into()],
            "token_invalid",
        ),
        (
            &|claims| claims.id = TokenId::new("nobodys", 0, &[7; 16]),
            "session_revoked",
        ),
    ];
    for (change, code) in cases {
        let mut claims = good.clone();
        change(&mut claims);
        let answer = shown(&site, "/token", &key.sign(&claims).unwrap());
        if code.is_empty() {
            assert_eq!(answer.status, 200, "{}", answer.text());
            let received = site.upstream.take().unwrap();
            assert_eq!(received.headers.one("x-auth-subject"), Some("0xSomebody"));
        } else {
            assert_refused(&answer, 401, code);
        }
    }
    // What another key of the same kind signed is nobody's.
    let other = SigningKey::generate(SigningAlgorithm::EdDsa).unwrap();
    let forged = other.sign(&good).unwrap();
    assert_refused(&shown(&site, "/token", &forged), 401, "token_invalid");
    site.upstream.assert_untouched("none of them was good");
}
