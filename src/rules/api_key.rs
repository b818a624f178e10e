//! API keys: their shape, their digests, their records, and whether one is good now.

use std::fmt;

use zeroize::Zeroizing;

use crate::rules::bucket::Rate;
use crate::rules::principal::Scopes;
use crate::rules::time::Timestamp;

/// What is kept of a key: SHA-256 of its bytes, or with a pepper HMAC-SHA-256 of that.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A digest in a log would let its reader recognise a guessed key.
        f.write_str("Digest(…)")
    }
}

/// The secret that digests are keyed with; wiped when dropped, never printed.
#[derive(Clone)]
pub struct Pepper(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

/// A key from the configuration: known by the plain SHA-256 of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticKey {
    /// Its name; its id is `static:` and the name.
    pub name: Box<str>,
    /// Who it belongs to.
    pub owner: Option<Box<str>>,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// What it may do.
    pub scopes: Scopes,
    /// The rate its holder may reach, over all routes.
    pub rate_limit: Option<Rate>,
    /// From when it is refused.
    pub expires_at: Option<Timestamp>,
}
