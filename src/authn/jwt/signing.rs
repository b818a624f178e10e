//! Keys that sign access tokens: made, read, kept and used.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaPublicKeyComponents,
};
use jsonwebtoken::EncodingKey;
use serde_json::Value;
use zeroize::Zeroizing;

use super::pem::{self, Form};
use super::verifying::VerifyingKey;
use crate::rules::jwk::{Ignored, PublicKey};
use crate::rules::jwt::{LONGEST, OwnClaims, SigningAlgorithm, signing_input};

/// How a PKCS#8 document (RFC 5208 §5) begins that holds an RSA key of a size that is accepted: up
/// to the PKCS#1 document inside, all lengths take two bytes and the algorithm has no parameters.
const RSA_PREAMBLE: usize = 26;

/// A private key and what is known of it. Its memory is wiped when it is dropped; `Debug` shows
/// its name alone.
pub struct SigningKey {
    algorithm: SigningAlgorithm,
    kid: Box<str>,
    public: PublicKey,
    pkcs8: Zeroizing<Vec<u8>>,
    key: EncodingKey,
}

/// Why a text or a document is no key to sign with. Never holds any of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSigningKey {
    /// There is no PEM in it.
    NotPem,
    /// It holds only public keys or certificates.
    NotPrivate,
    /// It holds more than one private key.
    Several,
    /// The key is encrypted.
    Encrypted,
    /// The key is cut off or garbled.
    Malformed,
    /// The key is of another kind or on another curve.
    Unsupported,
    /// An RSA key is too short, too long, or has an exponent that is not safe.
    Strength,
}

impl fmt::Display for BadSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPem => "there is no key in PEM",
            Self::NotPrivate => "there is no private key, only public ones or certificates",
            Self::Several => "there is more than one private key; put each into a file of its own",
            Self::Encrypted => "the key is encrypted; decrypt it, for instance with `openssl pkey`",
            Self::Malformed => "the key is cut off or garbled",
            Self::Unsupported => "the key must be an EC key on P-256, an Ed25519 key or an RSA key",
            Self::Strength => "an RSA key must have 2048 to 8192 bits and an exponent of 3 or more",
        })
    }
}

impl std::error::Error for BadSigningKey {}

/// The cryptographic library did not do what it should: a breakage, never the caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningFault {
    /// No key could be generated.
    Generation,
    /// Nothing could be signed.
    Signature,
    /// The token would be longer than those that are accepted.
    TooLong,
}

impl fmt::Display for SigningFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generation => f.write_str("no signing key could be generated"),
            Self::Signature => f.write_str("the token could not be signed"),
            Self::TooLong => write!(f, "the token would be longer than {LONGEST} bytes"),
        }
    }
}

impl std::error::Error for SigningFault {}

impl SigningKey {
    /// Makes a new key. An RSA key takes a fifth of a second and more.
    pub fn generate(algorithm: SigningAlgorithm) -> Result<Self, SigningFault> {
        let made = match algorithm {
            SigningAlgorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                .map_err(BadSigningKey::from)
                .and_then(|pair| Self::from_p256(&pair)),
            SigningAlgorithm::EdDsa => Ed25519KeyPair::generate()
                .map_err(BadSigningKey::from)
                .and_then(|pair| Self::from_ed25519(&pair)),
            SigningAlgorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048)
                .map_err(BadSigningKey::from)
                .and_then(|pair| Self::from_rsa(&pair)),
        };
        made.map_err(|_| SigningFault::Generation)
    }

    /// Reads the one private key of a PEM file: PKCS#8, and what OpenSSL wrote before that.
    pub fn from_pem(text: &[u8]) -> Result<Self, BadSigningKey> {
        let found = pem::private_key(text)?;
        match found.form {
            Form::Pkcs8 => Self::from_pkcs8(&found.der),
            Form::Sec1 => {
                // Also rejected: a good key on another curve, which is by far the likelier mistake.
                let pair = EcdsaKeyPair::from_private_key_der(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    &found.der,
                )
                .map_err(|_| BadSigningKey::Unsupported)?;
                Self::from_p256(&pair)
            }
            Form::Pkcs1 => Self::from_rsa(&RsaKeyPair::from_der(&found.der)?),
        }
    }

    /// Reads a key in PKCS#8 (RFC 5208), of whichever kind it is.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, BadSigningKey> {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
            Self::from_p256(&pair)
        } else if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            Self::from_ed25519(&pair)
        } else {
            Self::from_rsa(&RsaKeyPair::from_pkcs8(der)?)
        }
    }

    fn from_p256(pair: &EcdsaKeyPair) -> Result<Self, BadSigningKey> {
        let pkcs8 = pair.to_pkcs8v1()?;
        // An uncompressed point: 4, then both coordinates (SEC 1 §2.3.3).
        let point = pair.public_key().as_ref();
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..)) else {
            return Err(BadSigningKey::Malformed);
        };
        let public = PublicKey::P256 {
            x: array(x)?,
            y: array(y)?,
        };
        let key = EncodingKey::from_ec_der(pkcs8.as_ref());
        Ok(Self::new(public, pkcs8.as_ref(), key))
    }

    fn from_ed25519(pair: &Ed25519KeyPair) -> Result<Self, BadSigningKey> {
        let pkcs8 = pair.to_pkcs8v1()?;
        let public = PublicKey::Ed25519 {
            x: array(pair.public_key().as_ref())?,
        };
        let key = EncodingKey::from_ed_der(pkcs8.as_ref());
        Ok(Self::new(public, pkcs8.as_ref(), key))
    }

    fn from_rsa(pair: &RsaKeyPair) -> Result<Self, BadSigningKey> {
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der()?;
        let numbers = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let public = PublicKey::rsa(&numbers.n, &numbers.e)?;
        // `jsonwebtoken` reads RSA keys in PKCS#1 alone.
        let pkcs1 = pkcs8.as_ref().get(RSA_PREAMBLE..).unwrap_or_default();
        RsaKeyPair::from_der(pkcs1)?;
        let key = EncodingKey::from_rsa_der(pkcs1);
        Ok(Self::new(public, pkcs8.as_ref(), key))
    }

    fn new(public: PublicKey, pkcs8: &[u8], key: EncodingKey) -> Self {
        Self {
            algorithm: public.algorithm(),
            kid: public.thumbprint().into(),
            public,
            pkcs8: Zeroizing::new(pkcs8.to_vec()),
            key,
        }
    }

    /// What the key signs with.
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// The key's name: its thumbprint (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key as the published set shows it.
    pub fn public_jwk(&self) -> Value {
        self.public.to_jwk(&self.kid)
    }

    /// The key in PKCS#8, to be kept. Whoever has it can issue tokens.
    pub fn as_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The key that verifies what this one signs.
    pub fn verifying_key(&self) -> Result<VerifyingKey, Ignored> {
        VerifyingKey::from_public(self.public.clone(), Some(self.kid.clone()))
    }

    /// Issues the token that makes these claims.
    ///
    /// Never one that would be refused for its length.
    pub fn sign(&self, claims: &OwnClaims) -> Result<Zeroizing<String>, SigningFault> {
        let covered = Zeroizing::new(signing_input(self.algorithm, &self.kid, claims));
        let signature =
            jsonwebtoken::crypto::sign(covered.as_bytes(), &self.key, self.algorithm.into())
                .map(Zeroizing::new)
                .map_err(|_| SigningFault::Signature)?;
        // The capacity is exact: a buffer that grew would leave copies of the token behind.
        let length = covered.len() + 1 + signature.len();
        if length > LONGEST {
            return Err(SigningFault::TooLong);
        }
        let mut token = Zeroizing::new(String::with_capacity(length));
        token.push_str(&covered);
        token.push('.');
        token.push_str(&signature);
        Ok(token)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.kid)
    }
}

impl From<KeyRejected> for BadSigningKey {
    fn from(rejected: KeyRejected) -> Self {
        match rejected.description_() {
            "TooSmall" | "TooLarge" => Self::Strength,
            "WrongAlgorithm" => Self::Unsupported,
            _ => Self::Malformed,
        }
    }
}

impl From<Unspecified> for BadSigningKey {
    fn from(_: Unspecified) -> Self {
        Self::Malformed
    }
}

impl From<Ignored> for BadSigningKey {
    fn from(_: Ignored) -> Self {
        Self::Strength
    }
}

fn array(bytes: &[u8]) -> Result<[u8; 32], BadSigningKey> {
    bytes.try_into().map_err(|_| BadSigningKey::Malformed)
}

#[cfg(test)]
mod tests;
