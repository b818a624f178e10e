//! How a refresh token looks, what is kept of it, and how one follows from another.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::rules::api_key::{Digest, Pepper};
use crate::rules::base62;

/// How a minted token begins.
const PREFIX: &str = "gr_";

/// Where the family's proof stands in a minted token: after its id.
const PROOF: usize = PREFIX.len() + base62::BITS_128;

/// Where the secret stands in a minted token: after the proof.
const SECRET: usize = PROOF + base62::BITS_128;

/// How long a minted token is.
const MINTED: usize = SECRET + base62::BITS_256 + base62::CHECKSUM;

/// How long a token taken over from elsewhere may be.
const FOREIGN: std::ops::RangeInclusive<usize> = 20..=512;

/// A refresh token: wiped when dropped, never printed.
///
/// A minted one is `gr_`, the family's id (22 base62 characters, 128 bits), the family's proof
/// (22, 128 bits), a secret (43, 256 bits), and the CRC-32 of all that (6): 96 characters that any
/// cookie can carry. The id is no secret: it is a token's `sid`, and upstreams and logs see it. The
/// proof is the same in every token of the family and kept nowhere else, so whoever shows it has
/// seen one of the family's tokens, whereas whoever knows the id, or the store, has not. The secret
/// is one token's alone.
///
/// Any other token was taken over from elsewhere and is known by its digest alone.
#[derive(Clone)]
pub struct Token {
    written: Zeroizing<String>,
    minted: bool,
}

/// Whether these bytes are a minted token by their shape, whatever they are worth.
pub fn is_minted(presented: &[u8]) -> bool {
    presented.len() == MINTED
        && presented
            .strip_prefix(PREFIX.as_bytes())
            .is_some_and(|rest| rest.iter().all(u8::is_ascii_alphanumeric))
        && base62::is_checked(presented)
}

impl Token {
    /// Takes what was presented as a refresh token.
    ///
    /// What begins like a minted token has to be one, so that garbage costs no look-up; anything
    /// else has to be 20 to 512 visible ASCII characters.
    pub fn parse(presented: &[u8]) -> Result<Self, Garbled> {
        let minted = presented.starts_with(PREFIX.as_bytes());
        let formed = if minted {
            is_minted(presented)
        } else {
            FOREIGN.contains(&presented.len()) && presented.iter().all(u8::is_ascii_graphic)
        };
        match str::from_utf8(presented) {
            Ok(text) if formed => Ok(Self {
                written: Zeroizing::new(text.to_owned()),
                minted,
            }),
            _ => Err(Garbled),
        }
    }

    /// The token as its holder presents it.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The digest under which the store knows the token.
    pub fn digest(&self, pepper: Option<&Pepper>) -> Digest {
        Digest::of(self.written.as_bytes()).keyed(pepper)
    }

    /// The id of the family that a minted token says it belongs to; `None` if it was minted
    /// elsewhere and its family is found by its digest.
    ///
    /// A token of another installation has the minted form as well: where no family has this id,
    /// one that was taken over may have the digest.
    pub fn family_id(&self) -> Option<&str> {
        self.minted.then(|| &self.written[PREFIX.len()..PROOF])
    }

    /// The digest of the proof that a minted token shows for this family.
    pub(super) fn proof_digest(&self, family_id: &str, pepper: Option<&Pepper>) -> Option<Digest> {
        self.proof(family_id)
            .map(|proof| Digest::of(proof.as_bytes()).keyed(pepper))
    }

    /// The first token of a family, from its id and fresh randomness.
    pub(super) fn first(family_id: &str, proof: &[u8], secret: &[u8]) -> Self {
        Self::write(family_id, secret, |written| {
            base62::push::<{ base62::BITS_128 }>(written, proof);
        })
    }

    /// The token that follows this one where it is rotated away with this salt.
    ///
    /// Its secret is drawn from all of this token's bytes, so that only who holds a token reaches
    /// the ones after it: a copy of the store has the salts, the digests and no beginning. A token
    /// taken over from elsewhere has no proof to hand on; it is drawn likewise.
    pub(super) fn successor(&self, family_id: &str, salt: &Salt) -> Self {
        let secret = self.derived(salt, b"gatelet refresh token: secret");
        Self::write(family_id, &*secret, |written| {
            if let Some(proof) = self.proof(family_id) {
                written.push_str(proof);
            } else {
                let proof = self.derived(salt, b"gatelet refresh token: proof");
                base62::push::<{ base62::BITS_128 }>(written, &proof[..16]);
            }
        })
    }

    fn proof(&self, family_id: &str) -> Option<&str> {
        (self.family_id() == Some(family_id)).then(|| &self.written[PROOF..SECRET])
    }

    fn write(family_id: &str, secret: &[u8], push_proof: impl FnOnce(&mut String)) -> Self {
        // The capacity is exact: a buffer that grew would leave copies of the secret behind.
        let mut written = Zeroizing::new(String::with_capacity(MINTED));
        written.push_str(PREFIX);
        written.push_str(family_id);
        push_proof(&mut written);
        base62::push::<{ base62::BITS_256 }>(&mut written, secret);
        base62::push_checksum(&mut written);
        Self {
            written,
            minted: true,
        }
    }

    /// HKDF-SHA-256 (RFC 5869 §2) of the token, one block.
    ///
    /// The salt is the key of the extraction and the token its message. The other way around, a
    /// token longer than HMAC's block of 64 bytes would be replaced by its SHA-256 (RFC 2104 §2),
    /// and that is the very digest the store holds beside the salt.
    fn derived(&self, salt: &Salt, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        let key = hmac(&salt.0, &[self.written.as_bytes()]);
        hmac(&*key, &[purpose, &[1]])
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What was presented is no refresh token of any form. Does not repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbled;

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a refresh token")
    }
}

impl std::error::Error for Garbled {}

/// What one rotation adds to a token to make its successor: fresh randomness, kept in the record.
///
/// Without the token it leads nowhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 32]);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In a log it would lead from an old token to the current one.
        f.write_str("Salt(…)")
    }
}

/// Writes a family's id: 22 base62 characters. Ids are not secret.
pub(super) fn family_id(random: &[u8]) -> Box<str> {
    let mut id = String::with_capacity(base62::BITS_128);
    base62::push::<{ base62::BITS_128 }>(&mut id, random);
    id.into()
}

fn hmac(key: &[u8], message: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in message {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}
