//! Claims one by one: there, and of their type.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::Object;
use crate::rules::time::Timestamp;

/// Whose tokens are read, and for whom they must have been issued.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// What `iss` must be, byte by byte.
    pub issuer: &'a str,
    /// One of these must be in `aud`.
    pub audience: &'a [Box<str>],
}

/// Why the claims of a genuine token are refused. Names the claim, never what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadClaim {
    /// A claim that must be there is not.
    Missing(&'static str),
    /// A claim is not of its type, or of a form that it cannot have.
    Mistyped(&'static str),
    /// A claim is well-formed and not what was expected: another issuer, audience or kind of token.
    Unexpected(&'static str),
}

impl fmt::Display for BadClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(claim) => write!(f, "{claim} is missing"),
            Self::Mistyped(claim) => write!(f, "{claim} is malformed"),
            Self::Unexpected(claim) => write!(f, "{claim} is not the expected one"),
        }
    }
}

impl std::error::Error for BadClaim {}

/// Checks `iss` and `aud`, which both kinds of tokens must have (RFC 7519 §4.1.1, §4.1.3).
pub(super) fn expect(claims: &Object, expected: &Expected<'_>) -> Result<(), BadClaim> {
    if text(claims, "iss")? != expected.issuer {
        return Err(BadClaim::Unexpected("iss"));
    }
    let ours = |name: &&str| expected.audience.iter().any(|held| **held == **name);
    if !audience(claims)?.iter().any(ours) {
        return Err(BadClaim::Unexpected("aud"));
    }
    Ok(())
}

/// `aud`: one string, or a list of them.
pub(super) fn audience(claims: &Object) -> Result<Vec<&str>, BadClaim> {
    match member(claims, "aud")? {
        Value::String(name) => Ok(vec![name]),
        Value::Array(_) => strings(claims, "aud"),
        _ => Err(BadClaim::Mistyped("aud")),
    }
}

/// A string that names something: not empty, and without control characters, with which it could
/// forge a header or a log line.
pub(super) fn text<'a>(claims: &'a Object, name: &'static str) -> Result<&'a str, BadClaim> {
    let text = string(claims, name)?;
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(BadClaim::Mistyped(name));
    }
    Ok(text)
}

/// Any string.
pub(super) fn string<'a>(claims: &'a Object, name: &'static str) -> Result<&'a str, BadClaim> {
    member(claims, name)?
        .as_str()
        .ok_or(BadClaim::Mistyped(name))
}

/// A list of strings.
pub(super) fn strings<'a>(
    claims: &'a Object,
    name: &'static str,
) -> Result<Vec<&'a str>, BadClaim> {
    let Value::Array(items) = member(claims, name)? else {
        return Err(BadClaim::Mistyped(name));
    };
    let strings: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
    strings.ok_or(BadClaim::Mistyped(name))
}

/// A `NumericDate`: seconds since the epoch, perhaps with a fraction (RFC 7519 §2).
///
/// What lies past the last [`Timestamp`] is that one.
pub(super) fn time(claims: &Object, name: &'static str) -> Result<Timestamp, BadClaim> {
    let value = member(claims, name)?;
    if let Some(seconds) = value.as_u64() {
        return Ok(Timestamp::from_seconds(seconds));
    }
    value
        .as_f64()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .map(|since_epoch| Timestamp::EPOCH.plus(since_epoch))
        .ok_or(BadClaim::Mistyped(name))
}

/// The claim as `read`, or `None` where it is not there.
pub(super) fn optional<T>(read: Result<T, BadClaim>) -> Result<Option<T>, BadClaim> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(BadClaim::Missing(_)) => Ok(None),
        Err(bad) => Err(bad),
    }
}

fn member<'a>(claims: &'a Object, name: &'static str) -> Result<&'a Value, BadClaim> {
    claims.member(name).ok_or(BadClaim::Missing(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Object {
        Object::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn times_are_seconds_with_or_without_a_fraction() {
        let at = |seconds| Ok(Timestamp::from_seconds(seconds));
        for (json, expected) in [
            ("0", at(0)),
            ("1300819380", at(1_300_819_380)),
            ("1300819380.0", at(1_300_819_380)),
            ("1.300819380e9", at(1_300_819_380)),
            ("1.5", Ok(Timestamp::from_nanoseconds(1_500_000_000))),
            ("-0.0", at(0)),
            ("18446744073709551615", at(u64::MAX)),
            ("1e18", at(u64::MAX)),
            ("-1", Err(BadClaim::Mistyped("exp"))),
            ("-0.5", Err(BadClaim::Mistyped("exp"))),
            ("1e300", Err(BadClaim::Mistyped("exp"))),
            ("\"1300819380\"", Err(BadClaim::Mistyped("exp"))),
            ("true", Err(BadClaim::Mistyped("exp"))),
            ("null", Err(BadClaim::Mistyped("exp"))),
            ("[1300819380]", Err(BadClaim::Mistyped("exp"))),
        ] {
            let claims = claims(&format!("{{\"exp\":{json}}}"));
            assert_eq!(time(&claims, "exp"), expected, "{json}");
        }
    }

    #[test]
    fn an_audience_is_a_string_or_a_list_and_one_of_it_is_ours() {
        let audience = ["api".into(), "feed".into()];
        let expected = Expected {
            issuer: "us",
            audience: &audience,
        };
        let mistyped = Err(BadClaim::Mistyped("aud"));
        let unexpected = Err(BadClaim::Unexpected("aud"));
        for (json, outcome) in [
            (r#""api""#, Ok(())),
            (r#"["api"]"#, Ok(())),
            (r#"["other","feed"]"#, Ok(())),
            (r#""API""#, unexpected),
            (r#""api ""#, unexpected),
            (r#""api feed""#, unexpected),
            (r#""""#, unexpected),
            ("[]", unexpected),
            (r#"["other"]"#, unexpected),
            (r#"["api",1]"#, mistyped),
            (r#"[["api"]]"#, mistyped),
            (r#"{"api":true}"#, mistyped),
            ("null", mistyped),
            ("true", mistyped),
        ] {
            let claims = claims(&format!("{{\"iss\":\"us\",\"aud\":{json}}}"));
            assert_eq!(expect(&claims, &expected), outcome, "{json}");
        }
    }
}
