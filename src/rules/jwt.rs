//! JSON Web Tokens: their form, their claims, and whether one is good now.
//!
//! Pure. Signatures are made in `authn::jwt::signing` and verified in `authn::jwt::verifying`; until
//! that was done, nothing that is read here may be believed. No key ever comes from a token.

mod claims;
mod compact;
mod foreign;
mod object;
mod own;

pub use claims::{BadClaim, Expected};
pub use compact::{
    Header, LONGEST, Malformed, Parts, issuers_of, looks_like_jwt, signing_input, split,
};
pub use foreign::ForeignClaims;
pub use object::Object;
pub use own::{OwnClaims, TokenId};

pub(super) use compact::{base64url, from_base64url};

use std::time::Duration;

use crate::rules::time::Timestamp;

/// How far another clock may be ahead of ours: for so long a token may be dated in the future.
///
/// Expiry has no such leeway: a token's end is a promise, and whoever holds one fetches the next
/// before it ends.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// The algorithms whose signatures are accepted (RFC 7518 §3.1, RFC 8037 §3.1).
///
/// Closed: `none`, and whatever else a header may name, is no algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// HMAC with SHA-256. Who can verify it can sign it: only for an issuer that shares its secret.
    Hs256,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] = [Self::Es256, Self::EdDsa, Self::Rs256, Self::Hs256];

    /// The algorithm that `alg` names; names are case-sensitive (RFC 7515 §4.1.1).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    /// Its name, as `alg` writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Hs256 => "HS256",
        }
    }
}

/// The algorithms that gatelet's own tokens are signed with: those that others can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl SigningAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// Its name, as `alg` writes it.
    pub fn name(self) -> &'static str {
        Algorithm::from(self).name()
    }
}

impl From<SigningAlgorithm> for Algorithm {
    fn from(algorithm: SigningAlgorithm) -> Self {
        match algorithm {
            SigningAlgorithm::Es256 => Self::Es256,
            SigningAlgorithm::EdDsa => Self::EdDsa,
            SigningAlgorithm::Rs256 => Self::Rs256,
        }
    }
}

/// When a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// `exp`: from when it is refused.
    pub expires_at: Timestamp,
    /// `nbf`: until when it is refused.
    pub not_before: Option<Timestamp>,
    /// `iat`: when it was issued.
    pub issued_at: Option<Timestamp>,
}

/// Why a genuine token is refused now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its `exp` has come.
    Expired,
    /// Its `nbf`, or its `iat`, lies in the future by more than [`LEEWAY`].
    NotYetValid,
}

/// Judges a verified token's times, now. It is judged again on every request.
///
/// On `exp` itself the token is over (RFC 7519 §4.1.4).
pub fn judge(lifetime: &Lifetime, now: Timestamp) -> Result<(), Refused> {
    let soon = now.plus(LEEWAY);
    let begins = lifetime.not_before.max(lifetime.issued_at);
    if lifetime.expires_at <= now {
        Err(Refused::Expired)
    } else if begins.is_some_and(|begins| begins > soon) {
        Err(Refused::NotYetValid)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_are_a_closed_set() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
        }
        for name in [
            "none", "None", "NONE", "", "es256", "eddsa", "EDDSA", "HS384", "HS512", "RS384",
            "PS256", "ES384", "ES256K", "Ed25519", "RS256 ", " RS256", "RS256\0", "A128KW", "dir",
        ] {
            assert_eq!(Algorithm::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_token_is_good_from_its_beginning_until_its_end() {
        let at = Timestamp::from_seconds;
        let lifetime = |not_before: Option<u64>, issued_at: Option<u64>| Lifetime {
            expires_at: at(1000),
            not_before: not_before.map(at),
            issued_at: issued_at.map(at),
        };
        let last = Timestamp::from_nanoseconds(at(1000).nanoseconds() - 1);
        let early = Timestamp::from_nanoseconds(at(895).nanoseconds() - 1);
        for (not_before, issued_at) in [
            (Some(900), None),
            (None, Some(900)),
            (Some(900), Some(10)),
            (Some(10), Some(900)),
        ] {
            let lifetime = lifetime(not_before, issued_at);
            assert_eq!(judge(&lifetime, early), Err(Refused::NotYetValid));
            assert_eq!(judge(&lifetime, at(895)), Ok(()));
            assert_eq!(judge(&lifetime, last), Ok(()));
            assert_eq!(judge(&lifetime, at(1000)), Err(Refused::Expired));
            assert_eq!(judge(&lifetime, at(1001)), Err(Refused::Expired));
        }
        assert_eq!(judge(&lifetime(None, None), Timestamp::EPOCH), Ok(()));
        // An end before the beginning is an end.
        let backwards = lifetime(Some(2000), None);
        assert_eq!(judge(&backwards, at(1500)), Err(Refused::Expired));
    }
}
