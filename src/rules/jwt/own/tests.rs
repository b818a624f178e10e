use super::super::split;
use super::*;
use crate::rules::jwt::{Refused, SigningAlgorithm, judge, signing_input};

const SESSION: &str = "ses_0123456789abcdef";

fn claims() -> OwnClaims {
    OwnClaims {
        issuer: "https://api.example.com".into(),
        subject: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed".into(),
        audience: vec!["api".into()],
        issued_at: Timestamp::from_seconds(1000),
        not_before: Timestamp::from_seconds(1000),
        expires_at: Timestamp::from_seconds(1900),
        id: TokenId::new(SESSION, 7, &[9; 16]),
        scopes: Scopes::new(["portfolio:read", "feed"]),
        methods: vec!["wallet".into()],
        client_id: "static:ci".into(),
    }
}

fn header(json: &str) -> Header {
    let token = format!("{}.e30.AA", base64url(json.as_bytes()));
    split(token.as_bytes()).unwrap().header
}

fn read(payload: &Value) -> Result<OwnClaims, BadClaim> {
    let header = header(r#"{"alg":"ES256","typ":"at+jwt"}"#);
    read_with(&header, payload)
}

fn read_with(header: &Header, payload: &Value) -> Result<OwnClaims, BadClaim> {
    let payload = Object::parse(payload.to_string().as_bytes()).unwrap();
    let audience = ["feed".into(), "api".into()];
    let expected = Expected {
        issuer: "https://api.example.com",
        audience: &audience,
    };
    OwnClaims::read(header, &payload, &expected)
}

#[test]
fn what_is_written_reads_back() {
    let claims = claims();
    let covered = signing_input(SigningAlgorithm::Es256, "thumb", &claims);
    let token = format!("{covered}.AA");
    let parts = split(token.as_bytes()).unwrap();
    assert_eq!(parts.header.kid.as_deref(), Some("thumb"));
    assert!(parts.header.is_of_type("at+jwt"));
    assert_eq!(
        read_with(&parts.header, &claims.to_json()),
        Ok(claims.clone())
    );

    let several = OwnClaims {
        audience: vec!["other".into(), "feed".into()],
        scopes: Scopes::default(),
        methods: Vec::new(),
        id: TokenId::new("a.b.c", u64::MAX, &[0; 16]),
        ..claims
    };
    assert_eq!(read(&several.to_json()), Ok(several));
}

#[test]
fn the_claims_have_their_names_types_and_order() {
    let claims = claims();
    let expected = r#"{"iss":"https://api.example.com","sub":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed","aud":"api","exp":1900,"iat":1000,"nbf":1000,"jti":"ses_0123456789abcdef.7.CQkJCQkJCQkJCQkJCQkJCQ","sid":"ses_0123456789abcdef","scope":"feed portfolio:read","amr":["wallet"],"client_id":"static:ci"}"#;
    assert_eq!(claims.to_json().to_string(), expected);
    let covered = signing_input(SigningAlgorithm::EdDsa, "thumb", &claims);
    let (header, _) = covered.split_once('.').unwrap();
    let header = from_base64url(header.as_bytes()).unwrap();
    assert_eq!(header, br#"{"alg":"EdDSA","kid":"thumb","typ":"at+jwt"}"#);
}

#[test]
fn every_claim_is_required() {
    let good = claims().to_json();
    let names: Vec<String> = good.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names.len(), 11);
    for name in names {
        let mut without = good.clone();
        without.as_object_mut().unwrap().remove(&name);
        let missing = read(&without).unwrap_err();
        assert!(
            matches!(missing, BadClaim::Missing(claim) if claim == name),
            "{missing}"
        );
    }
}

#[test]
fn every_claim_has_its_type() {
    let good = claims().to_json();
    for (name, values) in [
        ("iss", json!([1, null, ["https://api.example.com"], ""])),
        ("sub", json!([1, null, ["a"], {}, "", "a\nb", "a\u{85}"])),
        ("aud", json!([1, null, [1], ["api", null], {"api": 1}])),
        ("exp", json!(["1900", null, -1, true, [1900]])),
        ("iat", json!(["1000", null, -1, {}])),
        ("nbf", json!(["1000", null, -0.5, false])),
        ("jti", json!([1, null, "", "a", ["a.1.b"]])),
        ("sid", json!([1, null, "", [SESSION]])),
        (
            "scope",
            json!([1, null, ["feed"], "a  b", " a", "a\tb", "é"]),
        ),
        ("amr", json!([1, null, "wallet", [1], {}])),
        ("client_id", json!([1, null, "", ["ci"], "a\0"])),
    ] {
        for value in values.as_array().unwrap() {
            let mut changed = good.clone();
            changed[name] = value.clone();
            let mistyped = Err(BadClaim::Mistyped(name));
            assert_eq!(read(&changed), mistyped, "{name}: {value}");
        }
    }
}

#[test]
fn issuer_audience_and_session_are_the_expected_ones() {
    for (name, value) in [
        ("iss", json!("https://api.example.com/")),
        ("iss", json!("https://API.example.com")),
        ("aud", json!("apis")),
        ("aud", json!([])),
        ("aud", json!(["other"])),
        ("sid", json!("ses_1123456789abcdef")),
    ] {
        let mut changed = claims().to_json();
        changed[name] = value;
        assert_eq!(read(&changed), Err(BadClaim::Unexpected(name)));
    }
}

#[test]
fn only_a_token_that_says_so_is_an_access_token() {
    let good = claims().to_json();
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        let header = header(&format!(r#"{{"alg":"ES256","typ":"{typ}"}}"#));
        assert!(read_with(&header, &good).is_ok(), "{typ}");
    }
    for other in [
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"ES256","typ":""}"#,
        r#"{"alg":"ES256","typ":"JWT"}"#,
        r#"{"alg":"ES256","typ":"logout+jwt"}"#,
        r#"{"alg":"ES256","typ":"at+jwt;v=1"}"#,
    ] {
        assert_eq!(
            read_with(&header(other), &good),
            Err(BadClaim::Unexpected("typ"))
        );
    }
}

#[test]
fn an_id_has_one_form() {
    let id = TokenId::new(SESSION, 3, &[0xff; 16]);
    let text = id.to_string();
    assert_eq!(text, "ses_0123456789abcdef.3._____________________w");
    assert_eq!(TokenId::parse(&text), Some(id.clone()));
    assert_eq!((id.session(), id.generation()), (SESSION, 3));
    for bad in [
        "",
        "..",
        "a",
        "3._____________________w",
        ".3._____________________w",
        "a.._____________________w",
        "a.3.",
        "a.3",
        "a.-3._____________________w",
        "a.+3._____________________w",
        "a.03._____________________w",
        "a. 3._____________________w",
        "a.18446744073709551616._____________________w",
        "a.3._____________________x",
        "a.3.____________________",
        "a.3._____________________w=",
    ] {
        assert_eq!(TokenId::parse(bad), None, "{bad}");
    }
}

#[test]
fn both_beginnings_are_judged() {
    let late = OwnClaims {
        issued_at: Timestamp::from_seconds(1100),
        ..claims()
    };
    let at = |seconds| judge(&late.lifetime(), Timestamp::from_seconds(seconds));
    assert_eq!(at(1094), Err(Refused::NotYetValid));
    assert_eq!(at(1095), Ok(()));
    assert_eq!(at(1899), Ok(()));
    assert_eq!(at(1900), Err(Refused::Expired));
}
