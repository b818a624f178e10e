//! Signed tokens: their form, whose they say they are, and what they claim.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::rules::jwt::{
    self, Algorithm, Expected, ForeignClaims, Object, OwnClaims, SigningAlgorithm,
};
use crate::rules::principal::is_scope_token;
use crate::rules::time::Timestamp;

/// A token, or a header and a payload on a line each, which are put together into one.
///
/// What is taken has one spelling and one reading; what is claimed is claimed still when it is written
/// again; and whoever sorts bearers by their issuer agrees with whoever reads them.
pub fn jwt(data: &[u8]) {
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    match (lines.next(), lines.next()) {
        (Some(header), Some(payload)) => {
            check_object(payload);
            let [header, payload] = [header, payload].map(|json| URL_SAFE_NO_PAD.encode(json));
            check(format!("{header}.{payload}.AAAA").as_bytes());
        }
        _ => check(data),
    }
}

fn check_object(json: &[u8]) {
    let lenient = serde_json::from_slice::<Value>(json);
    match (Object::parse(json), lenient) {
        (Some(object), Ok(Value::Object(members))) => {
            for (name, value) in &members {
                assert_eq!(object.member(name), Some(value));
            }
        }
        (None, Ok(Value::Object(members))) => {
            // What a lenient reader makes of it names nothing twice any more.
            let printed = Value::Object(members).to_string();
            assert!(Object::parse(printed.as_bytes()).is_some());
            assert!(printed.len() < json.len(), "it names nothing twice");
        }
        (object, _) => assert!(object.is_none(), "a lenient reader knows no such object"),
    }
}

fn check(token: &[u8]) {
    let issuers = jwt::issuers_of(token);
    assert!(issuers.is_empty() || jwt::looks_like_jwt(token));
    if let Some(said) = lenient_issuer(token) {
        assert!(issuers.contains(&said.into()), "it passes as a stranger's");
    }
    let Ok(parts) = jwt::split(token) else {
        return;
    };
    assert!(token.len() <= jwt::LONGEST && jwt::looks_like_jwt(token));
    assert_eq!(
        [parts.signed, parts.signature.as_bytes()].join(&b'.'),
        token
    );
    let named = parts.payload.member("iss").and_then(Value::as_str);
    assert_eq!(issuers, Vec::from_iter(named.map(Box::from)));
    let algorithm = parts.header.algorithm;
    assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));

    let audience = ["api".into(), "feed".into()];
    let expected = Expected {
        issuer: "https://us.example",
        audience: &audience,
    };
    if let Ok(foreign) = ForeignClaims::read(&parts.header, &parts.payload, &expected) {
        assert!(!foreign.subject.is_empty());
        assert!(foreign.scopes.iter().all(is_scope_token));
        check_times(&foreign.lifetime);
    }
    if let Ok(own) = OwnClaims::read(&parts.header, &parts.payload, &expected) {
        check_own(&own, &expected);
    }
}

/// Who a reader that takes padding, stray bits and the last of several members says issued it.
fn lenient_issuer(token: &[u8]) -> Option<String> {
    let mut parts = token.split(|byte| *byte == b'.');
    let payload = parts.nth(1)?;
    (parts.count() == 1).then_some(())?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    Some(payload.as_object()?.get("iss")?.as_str()?.to_owned())
}

fn check_own(own: &OwnClaims, expected: &Expected<'_>) {
    check_times(&own.lifetime());
    let signed = jwt::signing_input(SigningAlgorithm::Es256, "kid", own);
    let token = format!("{signed}.AAAA");
    let Ok(parts) = jwt::split(token.as_bytes()) else {
        panic!("it is not read again: {token}");
    };
    let again = OwnClaims::read(&parts.header, &parts.payload, expected);
    let whole = |time: Timestamp| Timestamp::from_seconds(time.seconds());
    let rounded = OwnClaims {
        issued_at: whole(own.issued_at),
        not_before: whole(own.not_before),
        expires_at: whole(own.expires_at),
        ..own.clone()
    };
    assert_eq!(again, Ok(rounded));
}

fn check_times(lifetime: &jwt::Lifetime) {
    let end = lifetime.expires_at;
    assert!(jwt::judge(lifetime, end).is_err());
    let last = Timestamp::from_nanoseconds(end.nanoseconds().saturating_sub(1));
    let begins = lifetime
        .not_before
        .max(lifetime.issued_at)
        .unwrap_or_default();
    if begins <= last && last < end {
        assert_eq!(jwt::judge(lifetime, last), Ok(()));
    }
}
