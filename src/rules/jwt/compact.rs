//! The compact form of a signed token: `header.payload.signature` (RFC 7515 §7.1).

use std::fmt;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Value, json};

use super::{Algorithm, Object, OwnClaims, SigningAlgorithm};

/// The longest token that is read, in bytes.
pub const LONGEST: usize = 8 * 1024;

/// What [`signing_input`] writes as `typ`, and what own tokens must have (RFC 9068 §2.1).
pub(super) const ACCESS_TOKEN: &str = "at+jwt";

/// Takes padding and stray bits for what they may have meant to a less strict reader.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A token taken apart. Nothing in it was verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts<'a> {
    /// The header's members that matter.
    pub header: Header,
    /// The payload.
    pub payload: Object,
    /// What the signature covers: the first two parts as they came, with the dot (RFC 7515 §5.2).
    pub signed: &'a [u8],
    /// The signature, in canonical base64url.
    pub signature: &'a str,
}

/// What a header says that matters. `jwk`, `jku`, `x5u` and `x5c` are not even read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `alg`.
    pub algorithm: Algorithm,
    /// `kid`.
    pub kid: Option<Box<str>>,
    typ: Option<Box<str>>,
}

/// Why bytes are no token that can be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Longer than [`LONGEST`].
    TooLong,
    /// Not three parts, or one of them is empty: unsigned and encrypted tokens are among these.
    Parts,
    /// A part is not base64url, or not the one way to write what it holds (RFC 4648 §3.5).
    Encoding,
    /// The header or the payload is not a JSON object whose members have different names.
    Json,
    /// The header's `alg`, `kid` or `typ` is missing or not a string.
    Header,
    /// The header's `alg` is none of ours.
    Algorithm,
    /// The header has a `crit`: something that has to be understood and is not (RFC 7515 §4.1.11).
    Critical,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the token is too long",
            Self::Parts => "the token is not three parts that hold something",
            Self::Encoding => "a part is not canonical base64url",
            Self::Json => "a part is not a JSON object with members of different names",
            Self::Header => "a header member is missing or of another type",
            Self::Algorithm => "the algorithm is not supported",
            Self::Critical => "the header demands an extension",
        })
    }
}

impl std::error::Error for Malformed {}

/// Takes a token apart and judges its form.
pub fn split(token: &[u8]) -> Result<Parts<'_>, Malformed> {
    if token.len() > LONGEST {
        return Err(Malformed::TooLong);
    }
    let parts = parts(token).ok_or(Malformed::Parts)?;
    if parts.iter().any(|part| part.is_empty()) {
        return Err(Malformed::Parts);
    }
    let [header, payload, signature] = parts;
    let signed = &token[..header.len() + 1 + payload.len()];
    from_base64url(signature).ok_or(Malformed::Encoding)?;
    Ok(Parts {
        header: Header::read(&object(header)?)?,
        payload: object(payload)?,
        signed,
        signature: str::from_utf8(signature).map_err(|_| Malformed::Encoding)?,
    })
}

/// Whether a bearer has the form of a signed token, however badly it is made.
pub fn looks_like_jwt(bearer: &[u8]) -> bool {
    parts(bearer).is_some()
}

/// The issuers that a bearer names, if it looks like a token; unverified, only to sort bearers by.
///
/// More forgiving than [`split`]: a token that names an issuer of ours is ours to refuse, however
/// badly it is made, and never passes as a stranger's. One that names several is taken by some
/// readers for the first one's and by some for the last one's.
pub fn issuers_of(bearer: &[u8]) -> Vec<Box<str>> {
    let named = || {
        let [_, payload, _] = parts(bearer)?;
        let payload = FORGIVING.decode(payload).ok()?;
        serde_json::from_slice(&payload).ok()
    };
    named().map_or_else(Vec::new, |Named(issuers)| issuers)
}

/// Every string that an object has as its `iss`, in their order.
struct Named(Vec<Box<str>>);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Naming)
    }
}

struct Naming;

impl<'de> Visitor<'de> for Naming {
    type Value = Named;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Named, A::Error> {
        let mut issuers = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            if name != "iss" {
                members.next_value::<IgnoredAny>()?;
            } else if let Value::String(issuer) = members.next_value()? {
                issuers.push(issuer.into());
            }
        }
        Ok(Named(issuers))
    }
}

/// What the signature of an own token has to cover: its header and its claims (RFC 7515 §5.1).
pub fn signing_input(algorithm: SigningAlgorithm, kid: &str, claims: &OwnClaims) -> String {
    let header = json!({"alg": algorithm.name(), "kid": kid, "typ": ACCESS_TOKEN});
    let header = base64url(header.to_string().as_bytes());
    let payload = base64url(claims.to_json().to_string().as_bytes());
    format!("{header}.{payload}")
}

impl Header {
    fn read(header: &Object) -> Result<Self, Malformed> {
        if header.member("crit").is_some() {
            return Err(Malformed::Critical);
        }
        let text = |name: &str| match header.member(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(Malformed::Header),
        };
        let algorithm = text("alg")?.ok_or(Malformed::Header)?;
        Ok(Self {
            algorithm: Algorithm::parse(algorithm).ok_or(Malformed::Algorithm)?,
            kid: text("kid")?.map(Into::into),
            typ: text("typ")?.map(Into::into),
        })
    }

    /// Whether it says what the token is.
    pub(super) fn is_typed(&self) -> bool {
        self.typ.is_some()
    }

    /// Whether it says that the token is a `media_type` below `application/` (RFC 7515 §4.1.9).
    pub(super) fn is_of_type(&self, media_type: &str) -> bool {
        const PREFIX: &str = "application/";
        self.typ.as_deref().is_some_and(|typ| {
            let short = match typ.split_at_checked(PREFIX.len()) {
                Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
                _ => typ,
            };
            short.eq_ignore_ascii_case(media_type)
        })
    }
}

/// The three parts between two dots.
fn parts(token: &[u8]) -> Option<[&[u8]; 3]> {
    let mut dots = memchr::memchr_iter(b'.', token);
    let (first, second) = (dots.next()?, dots.next()?);
    dots.next().is_none().then(|| {
        [
            &token[..first],
            &token[first + 1..second],
            &token[second + 1..],
        ]
    })
}

fn object(part: &[u8]) -> Result<Object, Malformed> {
    let json = from_base64url(part).ok_or(Malformed::Encoding)?;
    Object::parse(&json).ok_or(Malformed::Json)
}

/// Writes base64url without padding (RFC 7515 §2).
pub(in crate::rules) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads base64url without padding; `None` for whatever [`base64url`] would write differently.
pub(in crate::rules) fn from_base64url(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests;
