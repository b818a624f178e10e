//! Public keys as JSON: one key (RFC 7517), a set of them, and the name that a key has by itself.
//!
//! Pure. That a point lies on its curve is checked where keys are made ready for use, in
//! `authn::jwt::verifying`.

use std::fmt;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::rules::jwt::{Object, SigningAlgorithm, base64url, from_base64url};

/// The longest set that is read, in bytes.
pub const LONGEST_SET: usize = 1024 * 1024;

/// The most keys that a set may hold, those included that are ignored.
pub const MOST_KEYS: usize = 100;

/// Shorter RSA keys can be factored (RFC 7518 §3.3), and longer ones only cost time.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A public key of a kind that verifies signatures here. Each kind is good for one algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// A point that is said to lie on P-256 (RFC 7518 §6.2).
    P256 {
        /// Its first coordinate.
        x: [u8; 32],
        /// Its second coordinate.
        y: [u8; 32],
    },
    /// An Ed25519 key (RFC 8037 §2).
    Ed25519 {
        /// The key's bytes.
        x: [u8; 32],
    },
    /// An RSA key (RFC 7518 §6.3); numbers are big-endian, without zeros before them.
    Rsa {
        /// The modulus.
        n: Box<[u8]>,
        /// The exponent.
        e: Box<[u8]>,
    },
}

/// A key of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    /// The key.
    pub key: PublicKey,
    /// The name that tokens know it by.
    pub kid: Option<Box<str>>,
}

/// Why a key of a set is not used. Sets may hold keys for other readers (RFC 7517 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Its `kty` or `crv` is none of those above.
    Kind,
    /// It is not for verifying signatures, by its `use` or `key_ops`.
    Purpose,
    /// Its `alg` is not the one that keys of its kind are good for here, or not one that was asked for.
    Algorithm,
    /// It holds its private part: whoever read the set can sign with it.
    Private,
    /// This member is missing, or not of its form.
    Malformed(&'static str),
    /// It is an RSA key below 2048 bits or above 8192, or with an exponent that is not safe.
    Strength,
    /// Its point does not lie on the curve.
    OffCurve,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => f.write_str("its type or curve is not supported"),
            Self::Purpose => f.write_str("it is not for verifying signatures"),
            Self::Algorithm => f.write_str("its algorithm is not accepted"),
            Self::Private => f.write_str("it is published with its private part"),
            Self::Malformed(member) => write!(f, "its {member} is missing or malformed"),
            Self::Strength => {
                f.write_str("it is an RSA key of a size or exponent that is not safe")
            }
            Self::OffCurve => f.write_str("its point is not on the curve"),
        }
    }
}

/// Why a text is no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSet {
    /// Longer than [`LONGEST_SET`].
    TooLong,
    /// More than [`MOST_KEYS`] keys.
    TooMany,
    /// Not a JSON object whose members have different names, with a list `keys`.
    Malformed,
}

impl fmt::Display for BadSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the set of keys is longer than {LONGEST_SET} bytes"),
            Self::TooMany => write!(f, "the set holds more than {MOST_KEYS} keys"),
            Self::Malformed => f.write_str("the text is not a JSON Web Key Set"),
        }
    }
}

impl std::error::Error for BadSet {}

/// Reads a set of keys, each as a key or the reason why it is ignored (RFC 7517 §5).
pub fn read_set(json: &[u8]) -> Result<Vec<Result<Jwk, Ignored>>, BadSet> {
    if json.len() > LONGEST_SET {
        return Err(BadSet::TooLong);
    }
    let set = Object::parse(json).ok_or(BadSet::Malformed)?;
    let Some(Value::Array(keys)) = set.member("keys") else {
        return Err(BadSet::Malformed);
    };
    if keys.len() > MOST_KEYS {
        return Err(BadSet::TooMany);
    }
    Ok(keys.iter().map(read).collect())
}

impl PublicKey {
    /// An RSA key of a size and with an exponent that are safe.
    ///
    /// With the exponent 1 every signature verifies; even numbers are no RSA keys.
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<Self, Ignored> {
        let [n, e] = [n, e].map(without_leading_zeros);
        let bits = n
            .first()
            .map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        let exponent = e
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        let is_safe_exponent = e.len() <= 4 && exponent >= 3 && is_odd(e);
        if !RSA_BITS.contains(&bits) || !is_odd(n) || !is_safe_exponent {
            return Err(Ignored::Strength);
        }
        Ok(Self::Rsa {
            n: n.into(),
            e: e.into(),
        })
    }

    /// The one algorithm that the key is good for.
    pub fn algorithm(&self) -> SigningAlgorithm {
        match self {
            Self::P256 { .. } => SigningAlgorithm::Es256,
            Self::Ed25519 { .. } => SigningAlgorithm::EdDsa,
            Self::Rsa { .. } => SigningAlgorithm::Rs256,
        }
    }

    /// The name that the key has by itself: SHA-256 over its required members in one fixed form
    /// (RFC 7638 §3, RFC 8037 §2).
    pub fn thumbprint(&self) -> String {
        // The members come in lexical order and hold nothing that JSON would escape.
        let members = match self {
            Self::P256 { x, y } => format!(
                r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
                base64url(x),
                base64url(y)
            ),
            Self::Ed25519 { x } => {
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, base64url(x))
            }
            Self::Rsa { n, e } => format!(
                r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
                base64url(e),
                base64url(n)
            ),
        };
        base64url(&Sha256::digest(members))
    }

    /// The key as a set publishes it.
    pub fn to_jwk(&self, kid: &str) -> Value {
        let mut jwk = match self {
            Self::P256 { x, y } => {
                json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)})
            }
            Self::Ed25519 { x } => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(x)}),
            Self::Rsa { n, e } => json!({"kty": "RSA", "n": base64url(n), "e": base64url(e)}),
        };
        jwk["alg"] = self.algorithm().name().into();
        jwk["use"] = "sig".into();
        jwk["kid"] = kid.into();
        jwk
    }
}

fn read(jwk: &Value) -> Result<Jwk, Ignored> {
    let text = |name: &'static str| match &jwk[name] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.as_str())),
        _ => Err(Ignored::Malformed(name)),
    };
    let key = match (text("kty")?, text("crv")?) {
        (None, _) => return Err(Ignored::Malformed("kty")),
        (Some("EC"), Some("P-256")) => PublicKey::P256 {
            x: coordinate(jwk, "x")?,
            y: coordinate(jwk, "y")?,
        },
        (Some("OKP"), Some("Ed25519")) => PublicKey::Ed25519 {
            x: coordinate(jwk, "x")?,
        },
        (Some("RSA"), _) => PublicKey::rsa(&bytes(jwk, "n")?, &bytes(jwk, "e")?)?,
        _ => return Err(Ignored::Kind),
    };
    if !jwk["d"].is_null() {
        return Err(Ignored::Private);
    }
    let verifies = match &jwk["key_ops"] {
        Value::Null => true,
        Value::Array(operations) => operations.iter().any(|operation| operation == "verify"),
        _ => return Err(Ignored::Malformed("key_ops")),
    };
    if !verifies || text("use")?.is_some_and(|purpose| purpose != "sig") {
        return Err(Ignored::Purpose);
    }
    if text("alg")?.is_some_and(|name| name != key.algorithm().name()) {
        return Err(Ignored::Algorithm);
    }
    let kid = text("kid")?.map(Into::into);
    Ok(Jwk { key, kid })
}

/// A number of exactly 32 bytes (RFC 7518 §6.2.1.2).
fn coordinate(jwk: &Value, name: &'static str) -> Result<[u8; 32], Ignored> {
    let bytes = bytes(jwk, name)?;
    bytes.try_into().map_err(|_| Ignored::Malformed(name))
}

fn bytes(jwk: &Value, name: &'static str) -> Result<Vec<u8>, Ignored> {
    jwk[name]
        .as_str()
        .and_then(|text| from_base64url(text.as_bytes()))
        .ok_or(Ignored::Malformed(name))
}

/// Some publish a number with a zero before it, which RFC 7518 §6.3.1.1 asks readers to expect.
fn without_leading_zeros(mut number: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = number {
        number = rest;
    }
    number
}

#[cfg(test)]
mod tests;
