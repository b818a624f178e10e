//! The cryptography of access tokens: keys that sign, keys that verify, and nothing else.
//!
//! What a token must look like, what it must claim and when it is good is judged in `rules::jwt`.
//! Which stored key signs, and when the next one is made, is planned in `rules::signing_keys`. Keys
//! are neither stored nor fetched here.

mod pem;
pub mod signing;
pub mod verifying;

use crate::rules::jwt::{Algorithm, SigningAlgorithm};

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Es256 => Self::ES256,
            Algorithm::EdDsa => Self::EdDSA,
            Algorithm::Rs256 => Self::RS256,
            Algorithm::Hs256 => Self::HS256,
        }
    }
}

impl From<SigningAlgorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: SigningAlgorithm) -> Self {
        Algorithm::from(algorithm).into()
    }
}
