use serde_json::json;

use super::super::compact::base64url;
use super::super::split;
use super::*;
use crate::rules::time::Timestamp;

fn good() -> Value {
    json!({"iss": "https://id.example.com", "aud": ["api", "other"], "exp": 1900, "sub": "zoë"})
}

fn read(payload: &Value) -> Result<ForeignClaims, BadClaim> {
    read_with(r#"{"alg":"RS256"}"#, payload)
}

fn read_with(header: &str, payload: &Value) -> Result<ForeignClaims, BadClaim> {
    let [header, payload] = [header, &payload.to_string()].map(|text| base64url(text.as_bytes()));
    let token = format!("{header}.{payload}.AA");
    let parts = split(token.as_bytes()).unwrap();
    let audience = ["api".into()];
    let expected = Expected {
        issuer: "https://id.example.com",
        audience: &audience,
    };
    ForeignClaims::read(&parts.header, &parts.payload, &expected)
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

#[test]
fn four_claims_are_enough() {
    let claims = read(&good()).unwrap();
    assert_eq!(&*claims.issuer, "https://id.example.com");
    assert_eq!(&*claims.subject, "zoë");
    assert!(claims.scopes.is_empty());
    let lifetime = Lifetime {
        expires_at: Timestamp::from_seconds(1900),
        not_before: None,
        issued_at: None,
    };
    assert_eq!(claims.lifetime, lifetime);

    let from = read(&with("nbf", json!(1000.5)))
        .unwrap()
        .lifetime
        .not_before;
    assert_eq!(from, Some(Timestamp::from_nanoseconds(1_000_500_000_000)));
}

#[test]
fn four_claims_are_required_and_have_their_types() {
    for name in ["iss", "aud", "exp", "sub"] {
        let mut without = good();
        without.as_object_mut().unwrap().remove(name);
        assert_eq!(read(&without), Err(BadClaim::Missing(name)));
        for value in [json!(null), json!(true), json!({}), json!([1])] {
            let outcome = read(&with(name, value.clone()));
            assert_eq!(outcome, Err(BadClaim::Mistyped(name)), "{name}: {value}");
        }
    }
    for (name, value) in [
        ("iss", json!("")),
        ("exp", json!("1900")),
        ("exp", json!(-1)),
        ("sub", json!("")),
        ("sub", json!(17)),
        ("sub", json!("a\r\nx-auth-scopes: admin")),
        ("nbf", json!("1000")),
        ("nbf", json!(null)),
        ("scope", json!(["a"])),
        ("scope", json!(null)),
        ("scope", json!("a\"b")),
        ("scope", json!("a\tb")),
        ("scp", json!(null)),
        ("scp", json!(1)),
        ("scp", json!(["a", 1])),
        ("scp", json!(["a b"])),
        ("scp", json!([""])),
    ] {
        let outcome = read(&with(name, value.clone()));
        assert_eq!(outcome, Err(BadClaim::Mistyped(name)), "{name}: {value}");
    }
}

#[test]
fn issuer_and_audience_are_the_expected_ones() {
    for (name, value) in [
        ("iss", json!("https://id.example.com/")),
        ("iss", json!("https://id.example.org")),
        ("aud", json!("other")),
        ("aud", json!([])),
    ] {
        assert_eq!(read(&with(name, value)), Err(BadClaim::Unexpected(name)));
    }
}

#[test]
fn scopes_come_as_a_text_or_a_list() {
    for (name, value) in [
        ("scope", json!("b a")),
        ("scope", json!(" a  b ")),
        ("scp", json!("a b")),
        ("scp", json!(["b", "a", "a"])),
    ] {
        let scopes = read(&with(name, value)).unwrap().scopes;
        assert_eq!(scopes, Scopes::new(["a", "b"]));
    }
    for (name, value) in [("scope", json!("")), ("scp", json!("")), ("scp", json!([]))] {
        assert!(read(&with(name, value)).unwrap().scopes.is_empty());
    }
    // The standard claim is believed where both are there.
    let mut both = with("scope", json!("a"));
    both["scp"] = json!(["b"]);
    assert_eq!(read(&both).unwrap().scopes, Scopes::new(["a"]));
}

#[test]
fn other_claims_are_ignored() {
    let mut more = good();
    more["iat"] = json!("yesterday");
    more["jti"] = json!(1);
    more["azp"] = json!({"nested": [null]});
    assert!(read(&more).is_ok());
}

#[test]
fn a_token_that_says_it_is_something_else_is_none() {
    for typ in [
        "JWT",
        "jwt",
        "at+jwt",
        "application/at+jwt",
        "application/jwt",
    ] {
        let header = format!(r#"{{"alg":"RS256","typ":"{typ}"}}"#);
        assert!(read_with(&header, &good()).is_ok(), "{typ}");
    }
    for typ in ["logout+jwt", "dpop+jwt", "secevent+jwt", "jwt+", ""] {
        let header = format!(r#"{{"alg":"RS256","typ":"{typ}"}}"#);
        let outcome = read_with(&header, &good());
        assert_eq!(outcome, Err(BadClaim::Unexpected("typ")), "{typ}");
    }
}
