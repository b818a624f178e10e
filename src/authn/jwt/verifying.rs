//! Keys that verify access tokens, and the one way to verify a token.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use jsonwebtoken::DecodingKey;

use crate::rules::api_key::Digest;
use crate::rules::jwk::{BadSet, Ignored, PublicKey, read_set};
use crate::rules::jwt::{
    Algorithm, BadClaim, Expected, ForeignClaims, Header, Malformed, Object, OwnClaims, Parts,
    split,
};

/// Shorter secrets can be guessed from one token (RFC 7518 §3.2).
const SHORTEST_SECRET: usize = 32;

/// A key that verifies with one algorithm, which no token can change.
pub struct VerifyingKey {
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    /// `None` for a secret.
    public: Option<PublicKey>,
    fingerprint: Fingerprint,
    key: DecodingKey,
}

/// Tells whether two keys are one, whatever sets hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(Digest);

/// The keys of one issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<VerifyingKey>,
}

/// A token whose signature was verified. What it claims has still to be read and judged.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The key that its signature is of.
    pub key: Fingerprint,
    header: Header,
    payload: Object,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unverified {
    /// It has no form that could be verified.
    Malformed(Malformed),
    /// No key of the set answers to its `kid`, or more than one does. The issuer may have new keys.
    UnknownKey,
    /// The key that it names is for another algorithm than the one it names.
    WrongAlgorithm,
    /// Its signature is not that of the key.
    WrongSignature,
}

impl fmt::Display for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(problem) => problem.fmt(f),
            Self::UnknownKey => f.write_str("no one key answers to the token's key id"),
            Self::WrongAlgorithm => f.write_str("the token's key is for another algorithm"),
            Self::WrongSignature => f.write_str("the signature is wrong"),
        }
    }
}

impl std::error::Error for Unverified {}

impl From<Malformed> for Unverified {
    fn from(problem: Malformed) -> Self {
        Self::Malformed(problem)
    }
}

/// The secret that an issuer shares is too short to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortSecret;

impl fmt::Display for ShortSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the secret must be at least {SHORTEST_SECRET} bytes long"
        )
    }
}

impl std::error::Error for ShortSecret {}

/// Verifies a token with the key that it names.
///
/// The key says which algorithm is used; the token's own word for it has to be the same, and
/// decides nothing else (RFC 8725 §3.1). Times and claims are not judged.
pub fn verify(token: &[u8], keys: &KeySet) -> Result<Verified, Unverified> {
    let parts = split(token)?;
    let key = keys.named_by(&parts.header)?;
    key.check(&parts)?;
    Ok(Verified {
        key: key.fingerprint,
        header: parts.header,
        payload: parts.payload,
    })
}

impl VerifyingKey {
    /// Makes a public key ready for use.
    ///
    /// Refuses a point that is not on the curve.
    pub fn from_public(public: PublicKey, kid: Option<Box<str>>) -> Result<Self, Ignored> {
        let key = match &public {
            PublicKey::P256 { x, y } => {
                let point = [&[4][..], x, y].concat();
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
                    .map_err(|_| Ignored::OffCurve)?;
                DecodingKey::from_ec_der(&point)
            }
            PublicKey::Ed25519 { x } => DecodingKey::from_ed_der(x),
            PublicKey::Rsa { n, e } => DecodingKey::from_rsa_raw_components(n, e),
        };
        Ok(Self {
            algorithm: public.algorithm().into(),
            kid,
            fingerprint: Fingerprint(Digest::of(public.thumbprint().as_bytes())),
            public: Some(public),
            key,
        })
    }

    /// A secret shared with an issuer, for HS256 alone. It answers to whatever `kid` a token names.
    pub fn from_secret(secret: &[u8]) -> Result<Self, ShortSecret> {
        if secret.len() < SHORTEST_SECRET {
            return Err(ShortSecret);
        }
        Ok(Self {
            algorithm: Algorithm::Hs256,
            kid: None,
            fingerprint: Fingerprint(Digest::of(secret)),
            public: None,
            key: DecodingKey::from_secret(secret),
        })
    }

    /// Whether the key may be meant by a token that names `kid`, or none.
    fn answers_to(&self, kid: Option<&str>) -> bool {
        match (self.kid.as_deref(), kid) {
            (_, None) => true,
            (Some(own), Some(named)) => own == named,
            (None, Some(_)) => self.public.is_none(),
        }
    }

    fn check(&self, parts: &Parts<'_>) -> Result<(), Unverified> {
        self.check_signature(parts.signed, parts.signature)
    }

    fn check_signature(&self, signed: &[u8], signature: &str) -> Result<(), Unverified> {
        match jsonwebtoken::crypto::verify(signature, signed, &self.key, self.algorithm.into()) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Unverified::WrongSignature),
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl KeySet {
    /// The set of these keys; one that comes twice under one name counts once.
    pub fn new(keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        let mut set = Self::default();
        for key in keys {
            let known = set.keys.iter().any(|held| {
                key.public.is_some() && held.public == key.public && held.kid == key.kid
            });
            if !known {
                set.keys.push(key);
            }
        }
        set
    }

    /// Reads an issuer's published keys (RFC 7517 §5), and why those that are ignored are.
    ///
    /// Of the keys, those for the `allowed` algorithms are used.
    pub fn from_jwks(json: &[u8], allowed: &[Algorithm]) -> Result<(Self, Vec<Ignored>), BadSet> {
        let mut keys = Vec::new();
        let mut ignored = Vec::new();
        for read in read_set(json)? {
            match read.and_then(|jwk| VerifyingKey::from_public(jwk.key, jwk.kid)) {
                Ok(key) if allowed.contains(&key.algorithm) => keys.push(key),
                Ok(_) => ignored.push(Ignored::Algorithm),
                Err(reason) => ignored.push(reason),
            }
        }
        Ok((Self::new(keys), ignored))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether the key of this fingerprint is among them.
    pub fn holds(&self, fingerprint: Fingerprint) -> bool {
        self.keys.iter().any(|key| key.fingerprint == fingerprint)
    }

    /// The one key that a token means.
    ///
    /// Never one of several: a token without a `kid` needs a set with one key of its algorithm, and
    /// a `kid` that two keys of an algorithm share names neither.
    fn named_by(&self, header: &Header) -> Result<&VerifyingKey, Unverified> {
        let kid = header.kid.as_deref();
        let mut named = self
            .keys
            .iter()
            .filter(|key| key.answers_to(kid))
            .peekable();
        if named.peek().is_none() {
            return Err(Unverified::UnknownKey);
        }
        let mut fitting = named.filter(|key| key.algorithm == header.algorithm);
        match (fitting.next(), fitting.next()) {
            (None, _) => Err(Unverified::WrongAlgorithm),
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(Unverified::UnknownKey),
        }
    }
}

impl Verified {
    /// Reads the claims of a token that was verified with keys of our own.
    pub fn own_claims(&self, expected: &Expected<'_>) -> Result<OwnClaims, BadClaim> {
        OwnClaims::read(&self.header, &self.payload, expected)
    }

    /// Reads the claims of a token that was verified with keys of its issuer.
    pub fn foreign_claims(&self, expected: &Expected<'_>) -> Result<ForeignClaims, BadClaim> {
        ForeignClaims::read(&self.header, &self.payload, expected)
    }
}

#[cfg(test)]
mod tests;
