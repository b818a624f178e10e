//! What is known of a family, and its stored form.

use serde::{Deserialize, Serialize};

use super::Salt;
use crate::rules::api_key::Digest;
use crate::rules::principal::Scopes;
use crate::rules::time::Timestamp;

/// One sign-in and the refresh tokens that followed from it. Its JSON is the stored form.
///
/// No token can be made from it: it holds digests, and salts that lead from one token to the next.
/// Whoever has an old token besides, whose rotation is still listed, reaches the current one: to
/// answer it again takes no less. So the list holds what grace needs, and ends with the family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Family {
    /// Its id, which is not secret and never changes.
    pub id: Box<str>,
    /// What the sign-in granted.
    pub grant: Grant,
    /// When it began, in whole seconds.
    pub created_at: Timestamp,
    /// When it ends whatever happens, in whole seconds.
    pub expires_at: Timestamp,
    /// That it was ended before, and why; no clock undoes it.
    pub revoked: Option<Revocation>,
    /// How many rotations there were.
    pub generation: u64,
    /// The digest of the one token that may be rotated.
    pub current: Digest,
    /// The digest of the proof that all its minted tokens share; none before the first rotation of
    /// a token taken over.
    pub proof: Option<Digest>,
    /// The digest of the token that was taken over from elsewhere, if it began with one.
    pub imported: Option<Digest>,
    /// Whether an access token issued with the current token was ever presented. That the current
    /// token itself was presented needs no mark: it would not be current any more.
    pub presented: bool,
    /// The rotations whose tokens may still have to be answered, the newest first.
    pub rotations: Vec<Rotation>,
}

impl Family {
    /// The most rotations a record holds.
    pub const MOST_ROTATIONS: usize = 64;
}

/// What a sign-in granted, for every token that follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who signed in.
    pub subject: Box<str>,
    /// The API key used; none where the family was taken over without one.
    pub key_id: Option<Box<str>>,
    /// Who that key belongs to.
    pub key_owner: Option<Box<str>>,
    /// What the access tokens may do.
    pub scopes: Scopes,
    /// The chain that the wallet signed in on.
    pub chain_id: Option<u64>,
    /// Where its refresh tokens travel.
    pub mode: Mode,
}

/// Where a family's refresh tokens travel; chosen at sign-in, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// In a cookie, out of reach of scripts. Such a token never appears in a body.
    Cookie,
    /// In the bodies of requests and answers.
    Body,
}

/// That a family was ended, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// When, in whole seconds.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// Why a family was ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// One of its old tokens came back (RFC 9700 §4.14).
    Reused,
    /// Its subject logged out.
    LoggedOut,
    /// An operator ended it.
    Operator,
    /// The API key that it was begun with was revoked.
    KeyRevoked,
}

/// One rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The digest of the token that was rotated away.
    pub digest: Digest,
    /// When, in nanoseconds: grace is counted from here.
    pub at: Timestamp,
    /// What leads from that token to its successor.
    pub salt: Salt,
}

/// The stored form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    id: Box<str>,
    subject: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_id: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_owner: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chain_id: Option<u64>,
    mode: Mode,
    created_at: u64,
    expires_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<StoredRevocation>,
    generation: u64,
    current: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    imported: Option<Digest>,
    presented: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rotations: Vec<StoredRotation>,
}

#[derive(Serialize, Deserialize)]
struct StoredRevocation {
    at: u64,
    reason: Reason,
}

#[derive(Serialize, Deserialize)]
struct StoredRotation {
    digest: Digest,
    at: u64,
    /// No digest, but 32 bytes that are written like one.
    salt: Digest,
}

impl From<Family> for Stored {
    fn from(family: Family) -> Self {
        Self {
            id: family.id,
            subject: family.grant.subject,
            key_id: family.grant.key_id,
            key_owner: family.grant.key_owner,
            scopes: family.grant.scopes.iter().map(Into::into).collect(),
            chain_id: family.grant.chain_id,
            mode: family.grant.mode,
            created_at: family.created_at.seconds(),
            expires_at: family.expires_at.seconds(),
            revoked: family
                .revoked
                .map(|Revocation { at, reason }| StoredRevocation {
                    at: at.seconds(),
                    reason,
                }),
            generation: family.generation,
            current: family.current,
            proof: family.proof,
            imported: family.imported,
            presented: family.presented,
            rotations: family
                .rotations
                .into_iter()
                .map(|Rotation { digest, at, salt }| StoredRotation {
                    digest,
                    at: at.nanoseconds(),
                    salt: Digest(salt.0),
                })
                .collect(),
        }
    }
}

impl From<Stored> for Family {
    fn from(stored: Stored) -> Self {
        Self {
            id: stored.id,
            grant: Grant {
                subject: stored.subject,
                key_id: stored.key_id,
                key_owner: stored.key_owner,
                scopes: Scopes::new(stored.scopes),
                chain_id: stored.chain_id,
                mode: stored.mode,
            },
            created_at: Timestamp::from_seconds(stored.created_at),
            expires_at: Timestamp::from_seconds(stored.expires_at),
            revoked: stored
                .revoked
                .map(|StoredRevocation { at, reason }| Revocation {
                    at: Timestamp::from_seconds(at),
                    reason,
                }),
            generation: stored.generation,
            current: stored.current,
            proof: stored.proof,
            imported: stored.imported,
            presented: stored.presented,
            rotations: stored
                .rotations
                .into_iter()
                .map(|StoredRotation { digest, at, salt }| Rotation {
                    digest,
                    at: Timestamp::from_nanoseconds(at),
                    salt: Salt(salt.0),
                })
                .collect(),
        }
    }
}
