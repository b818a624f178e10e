//! The claims of access tokens that are issued here.

use std::fmt;

use serde_json::{Value, json};

use super::claims::{self, BadClaim, Expected, string, strings, text, time};
use super::compact::ACCESS_TOKEN;
use super::{Header, Lifetime, Object, base64url, from_base64url};
use crate::rules::principal::{Scopes, is_scope_token};
use crate::rules::time::Timestamp;

/// What an access token that is issued here says (RFC 9068 §2.2).
///
/// Every claim is required, whether it is read here or not: a token that lacks one was not made
/// by this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnClaims {
    /// `iss`.
    pub issuer: Box<str>,
    /// `sub`: who it speaks for.
    pub subject: Box<str>,
    /// `aud`: for whom it was issued.
    pub audience: Vec<Box<str>>,
    /// `iat`; written in whole seconds.
    pub issued_at: Timestamp,
    /// `nbf`; written in whole seconds.
    pub not_before: Timestamp,
    /// `exp`; written in whole seconds, rounded down.
    pub expires_at: Timestamp,
    /// `jti`, and `sid`, which is part of it.
    pub id: TokenId,
    /// `scope`.
    pub scopes: Scopes,
    /// `amr`: how the subject proved itself (RFC 8176).
    pub methods: Vec<Box<str>>,
    /// `client_id`: the id of the API key through which it was issued.
    pub client_id: Box<str>,
}

/// A token's `jti`: `<sid>.<generation>.<random>`.
///
/// It tells with which refresh token of its session it was issued, so that a token that is
/// presented shows that this one reached its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenId {
    session: Box<str>,
    generation: u64,
    random: Box<str>,
}

impl OwnClaims {
    /// Reads the claims of a token that was verified with a key of our own.
    ///
    /// `typ` must be `at+jwt`, so that nothing else that is signed with these keys passes for an
    /// access token (RFC 9068 §4, RFC 8725 §3.11).
    pub fn read(
        header: &Header,
        payload: &Object,
        expected: &Expected<'_>,
    ) -> Result<Self, BadClaim> {
        if !header.is_of_type(ACCESS_TOKEN) {
            return Err(BadClaim::Unexpected("typ"));
        }
        claims::expect(payload, expected)?;
        let id = TokenId::parse(text(payload, "jti")?).ok_or(BadClaim::Mistyped("jti"))?;
        if text(payload, "sid")? != id.session() {
            return Err(BadClaim::Unexpected("sid"));
        }
        let owned = |names: Vec<&str>| names.into_iter().map(Into::into).collect();
        Ok(Self {
            issuer: expected.issuer.into(),
            subject: text(payload, "sub")?.into(),
            audience: owned(claims::audience(payload)?),
            issued_at: time(payload, "iat")?,
            not_before: time(payload, "nbf")?,
            expires_at: time(payload, "exp")?,
            id,
            scopes: scopes(string(payload, "scope")?).ok_or(BadClaim::Mistyped("scope"))?,
            methods: owned(strings(payload, "amr")?),
            client_id: text(payload, "client_id")?.into(),
        })
    }

    /// When the token is good.
    pub fn lifetime(&self) -> Lifetime {
        Lifetime {
            expires_at: self.expires_at,
            not_before: Some(self.not_before),
            issued_at: Some(self.issued_at),
        }
    }

    /// The claims as they are signed.
    pub(super) fn to_json(&self) -> Value {
        // A single audience is written as the string that RFC 7519 §4.1.3 allows for it: there
        // are readers that know no other form.
        let audience = match &self.audience[..] {
            [one] => json!(one),
            several => json!(several),
        };
        json!({
            "iss": self.issuer,
            "sub": self.subject,
            "aud": audience,
            "exp": self.expires_at.seconds(),
            "iat": self.issued_at.seconds(),
            "nbf": self.not_before.seconds(),
            "jti": self.id.to_string(),
            "sid": self.id.session(),
            "scope": self.scopes.joined(),
            "amr": self.methods,
            "client_id": self.client_id,
        })
    }
}

impl TokenId {
    /// The id of a token that is issued together with the `generation`th refresh token of `session`.
    pub fn new(session: &str, generation: u64, random: &[u8; 16]) -> Self {
        Self {
            session: session.into(),
            generation,
            random: base64url(random).into(),
        }
    }

    /// The session that the token belongs to.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// Which refresh token of its session the token was issued with.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Reads what [`TokenId`] prints, in that one form.
    fn parse(text: &str) -> Option<Self> {
        // From the right: the session's id may hold dots.
        let mut parts = text.rsplitn(3, '.');
        let random = parts.next().filter(|random| is_random(random))?;
        let number = parts.next()?;
        let session = parts.next().filter(|session| !session.is_empty())?;
        let generation: u64 = number.parse().ok()?;
        (generation.to_string() == number).then(|| Self {
            session: session.into(),
            generation,
            random: random.into(),
        })
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.session, self.generation, self.random)
    }
}

fn is_random(text: &str) -> bool {
    from_base64url(text.as_bytes()).is_some_and(|random| random.len() == 16)
}

/// The scopes that [`Scopes::joined`] wrote; none for the empty text.
fn scopes(text: &str) -> Option<Scopes> {
    if text.is_empty() {
        return Some(Scopes::default());
    }
    text.split(' ')
        .all(is_scope_token)
        .then(|| Scopes::new(text.split(' ')))
}

#[cfg(test)]
mod tests;
