//! The claims of tokens that a trusted issuer signed.

use serde_json::Value;

use super::claims::{self, BadClaim, Expected, optional, string, strings, text, time};
use super::{Header, Lifetime, Object};
use crate::rules::principal::{Scopes, is_scope_token};

/// The kinds of token that can stand for an access token; a token may also not say what it is.
const KINDS: [&str; 2] = ["at+jwt", "JWT"];

/// What is read of a trusted issuer's token; all else that it says is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignClaims {
    /// `iss`.
    pub issuer: Box<str>,
    /// `sub`: who it speaks for.
    pub subject: Box<str>,
    /// `scope`, or where that is not there `scp`.
    pub scopes: Scopes,
    /// `exp` and `nbf`.
    pub lifetime: Lifetime,
}

impl ForeignClaims {
    /// Reads the claims of a token that was verified with a key of its issuer.
    ///
    /// A token that says it is something else, such as `logout+jwt`, is no access token, although
    /// the same issuer signed it for the same audience (RFC 8725 §3.11).
    pub fn read(
        header: &Header,
        payload: &Object,
        expected: &Expected<'_>,
    ) -> Result<Self, BadClaim> {
        if header.is_typed() && !KINDS.iter().any(|kind| header.is_of_type(kind)) {
            return Err(BadClaim::Unexpected("typ"));
        }
        claims::expect(payload, expected)?;
        Ok(Self {
            issuer: expected.issuer.into(),
            subject: text(payload, "sub")?.into(),
            scopes: scopes(payload)?,
            lifetime: Lifetime {
                expires_at: time(payload, "exp")?,
                not_before: optional(time(payload, "nbf"))?,
                issued_at: None,
            },
        })
    }
}

/// The scopes: `scope` (RFC 8693 §4.2), or `scp`, which some issuers write as a list.
fn scopes(payload: &Object) -> Result<Scopes, BadClaim> {
    if let Some(text) = optional(string(payload, "scope"))? {
        return checked("scope", words(text));
    }
    match payload.member("scp") {
        None => Ok(Scopes::default()),
        Some(Value::String(text)) => checked("scp", words(text)),
        Some(_) => checked("scp", strings(payload, "scp")?),
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').filter(|word| !word.is_empty()).collect()
}

/// A name with a space in it would be two in the list that upstreams are shown.
fn checked(claim: &'static str, names: Vec<&str>) -> Result<Scopes, BadClaim> {
    if names.iter().all(|name| is_scope_token(name)) {
        Ok(Scopes::new(names))
    } else {
        Err(BadClaim::Mistyped(claim))
    }
}

#[cfg(test)]
mod tests;
