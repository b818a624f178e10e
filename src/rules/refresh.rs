//! Refresh tokens: how they look, how families of them begin and end, and how one is exchanged for
//! the next (RFC 6749 §6, RFC 9700 §4.14).
//!
//! Pure. Loading a family, swapping it against the version that was loaded, and judging again where
//! another was faster is `store`'s and its callers' matter; so are cookies, bodies and origins.

mod family;
mod token;

pub use family::{Family, Grant, Mode, Reason, Revocation, Rotation};
pub use token::{Garbled, Salt, Token, is_minted};

use std::time::Duration;

use crate::rules::api_key::{Digest, Pepper};
use crate::rules::time::Timestamp;

/// What the configuration says of refresh tokens.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// How long a family lives, counted from its sign-in.
    pub ttl: Duration,
    /// How long a token is still answered after it was rotated away, counted from the rotation.
    pub grace: Duration,
    /// What digests are keyed with.
    pub pepper: Option<&'a Pepper>,
}

/// What comes of presenting a refresh token.
///
/// What a family became has to be swapped in before the token is answered. Where the family is not
/// the one that was judged any more, it is loaded and judged again: of all that race, one rotates,
/// and the others find its successor.
///
/// Grace runs from the time that was judged with, not from the swap: `now` is read again for each
/// try, and a swap that may take as long as `grace` has to be given up before.
#[derive(Clone, Debug)]
pub enum Exchange {
    /// It was the current token; here is its one successor.
    Rotated {
        /// The family after the rotation, to be swapped in.
        family: Family,
        /// The current token from then on.
        token: Token,
    },
    /// Nothing is rotated: here is the token that is current already.
    Again {
        /// The current token.
        token: Token,
        /// What the family has to remember of it, to be swapped in. Nothing, as a rule.
        family: Option<Family>,
    },
    /// The thief and the owner cannot be told apart: the family ends (RFC 9700 §4.14).
    Reused {
        /// The family after its revocation, to be swapped in.
        family: Family,
    },
    /// Nothing is answered and nothing changes.
    Refused(Refused),
}

/// Why a refresh token is refused while its family is left alone. Outside these look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It never was a token of this family.
    Unknown,
    /// The family was revoked.
    Revoked(Reason),
    /// The family reached its cap.
    Expired,
}

/// Begins a family at a sign-in, with its first token.
///
/// The cap is rounded down to whole seconds: a family never outlives what was said.
pub fn begin(
    grant: Grant,
    random: &[u8; 64],
    terms: &Terms<'_>,
    now: Timestamp,
) -> (Family, Token) {
    let (id, rest) = random.split_at(16);
    let (proof, secret) = rest.split_at(16);
    let id = token::family_id(id);
    let token = Token::first(&id, proof, secret);
    let family = Family {
        proof: token.proof_digest(&id, terms.pepper),
        id,
        grant,
        created_at: whole_seconds(now),
        expires_at: whole_seconds(now.plus(terms.ttl)),
        revoked: None,
        generation: 0,
        current: token.digest(terms.pepper),
        imported: None,
        presented: false,
        rotations: Vec::new(),
    };
    (family, token)
}

/// Takes over a family that began elsewhere, of which the digest of its one living token is known,
/// keyed as the store's digests are.
pub fn take_over(
    grant: Grant,
    digest: Digest,
    created_at: Timestamp,
    expires_at: Timestamp,
    random: &[u8; 16],
) -> Family {
    Family {
        id: token::family_id(random),
        grant,
        created_at: whole_seconds(created_at),
        expires_at: whole_seconds(expires_at),
        revoked: None,
        generation: 0,
        current: digest,
        proof: None,
        imported: Some(digest),
        presented: false,
        rotations: Vec::new(),
    }
}

/// Exchanges a refresh token for the family's current one.
///
/// The current token is rotated with `salt`, which must be fresh randomness at every try. A token
/// that was rotated away is answered with the current one while `grace` lasts, and beyond if it was
/// the last to be rotated away and nothing that came with its successor was ever presented: the
/// answer was lost. Any other token of the family revokes it.
///
/// A token is of the family if its digest is known or if it shows the family's proof. One that
/// merely names the family's id is a stranger's, and the family is left alone.
pub fn exchange(
    family: &Family,
    token: &Token,
    salt: Salt,
    terms: &Terms<'_>,
    now: Timestamp,
) -> Exchange {
    let digest = token.digest(terms.pepper);
    let Some(place) = place(family, token, &digest, terms.pepper) else {
        return Exchange::Refused(Refused::Unknown);
    };
    // Revoked comes before expired: it stays so however the clock steps.
    if let Some(Revocation { reason, .. }) = family.revoked {
        return Exchange::Refused(Refused::Revoked(reason));
    }
    if family.expires_at <= now {
        return Exchange::Refused(Refused::Expired);
    }
    match place {
        Place::Current => rotated(family, token, digest, salt, terms, now),
        Place::Behind(rotations) if is_answered_again(rotations, family, terms, now) => {
            Exchange::Again {
                token: follow(token, &family.id, rotations),
                family: None,
            }
        }
        Place::Behind(_) | Place::Forgotten => Exchange::Reused {
            family: ended(family, Reason::Reused, now),
        },
    }
}

/// The family after an access token was presented that was issued with its token of this
/// generation; `None` if that changes nothing.
///
/// Only the current generation matters: what came with an older token is superseded. So does none
/// before the first rotation: there is no older token whose answer could have been lost.
pub fn note_presented(family: &Family, generation: u64) -> Option<Family> {
    let matters = generation == family.generation
        && !family.rotations.is_empty()
        && !family.presented
        && family.revoked.is_none();
    matters.then(|| Family {
        presented: true,
        ..family.clone()
    })
}

/// The family after its revocation; `None` if it is revoked already.
pub fn revoke(family: &Family, reason: Reason, now: Timestamp) -> Option<Family> {
    family.revoked.is_none().then(|| ended(family, reason, now))
}

/// Whether a token is of the family, current or not: whoever merely names the family's id has none.
pub fn is_of(family: &Family, token: &Token, pepper: Option<&Pepper>) -> bool {
    let digest = token.digest(pepper);
    place(family, token, &digest, pepper).is_some()
}

/// Whether the family is neither revoked nor past its cap.
pub fn is_good(family: &Family, now: Timestamp) -> bool {
    family.revoked.is_none() && now < family.expires_at
}

/// Where a token stands in its family.
enum Place<'a> {
    /// It may be rotated.
    Current,
    /// It was rotated away; these rotations led from it to the current token, the newest first.
    Behind(&'a [Rotation]),
    /// It is the family's, and so old that nothing else is remembered of it.
    Forgotten,
}

fn place<'a>(
    family: &'a Family,
    token: &Token,
    digest: &Digest,
    pepper: Option<&Pepper>,
) -> Option<Place<'a>> {
    if family.current.matches(digest) {
        return Some(Place::Current);
    }
    let mut behind = family.rotations.iter();
    if let Some(index) = behind.position(|rotation| rotation.digest.matches(digest)) {
        return Some(Place::Behind(&family.rotations[..=index]));
    }
    let proof = token.proof_digest(&family.id, pepper);
    let proven =
        matches!((&family.proof, &proof), (Some(kept), Some(shown)) if kept.matches(shown));
    let was_imported = family
        .imported
        .is_some_and(|imported| imported.matches(digest));
    (proven || was_imported).then_some(Place::Forgotten)
}

/// Whether a token that lies these rotations behind is answered with the current one.
fn is_answered_again(
    rotations: &[Rotation],
    family: &Family,
    terms: &Terms<'_>,
    now: Timestamp,
) -> bool {
    let in_grace = rotations
        .last()
        .is_some_and(|rotation| age(rotation, family, now) < terms.grace);
    // A successor that was itself presented would have been rotated: there would be two rotations.
    let was_lost = rotations.len() == 1 && !family.presented;
    in_grace || was_lost
}

/// The current token, reached from one that lies these rotations behind.
fn follow(token: &Token, family_id: &str, rotations: &[Rotation]) -> Token {
    rotations
        .iter()
        .rev()
        .fold(token.clone(), |token, rotation| {
            token.successor(family_id, &rotation.salt)
        })
}

/// Rotates the current token.
///
/// Rotations whose grace is over are forgotten. If too many are left, nothing is rotated: the
/// current token stays so until the oldest of them is out of grace. To forget that one would log out
/// whoever still has a right to present it, and to rotate without remembering would make a second
/// successor; to wait delays at most by `grace` the moment when a copy of the token is noticed.
fn rotated(
    family: &Family,
    token: &Token,
    digest: Digest,
    salt: Salt,
    terms: &Terms<'_>,
    now: Timestamp,
) -> Exchange {
    let stepped_back = latest(family, now).since(now);
    let mut rotations = vec![Rotation {
        digest,
        at: now,
        salt,
    }];
    // If the clock has stepped back behind the last rotation, the others are set back with it, so
    // that their age is what it was: no grace grows, and none waits for the clock to catch up.
    rotations.extend(
        family
            .rotations
            .iter()
            .filter(|rotation| age(rotation, family, now) < terms.grace)
            .map(|rotation| Rotation {
                at: rotation.at.minus(stepped_back),
                ..rotation.clone()
            }),
    );
    if rotations.len() > Family::MOST_ROTATIONS {
        return Exchange::Again {
            token: token.clone(),
            // Its holder has it, so the answer to its predecessor was not lost.
            family: note_presented(family, family.generation),
        };
    }
    let successor = token.successor(&family.id, &salt);
    let family = Family {
        generation: family.generation.saturating_add(1),
        current: successor.digest(terms.pepper),
        proof: successor.proof_digest(&family.id, terms.pepper),
        presented: false,
        rotations,
        ..family.clone()
    };
    Exchange::Rotated {
        family,
        token: successor,
    }
}

/// The family revoked. Its rotations go: no token of it is reached from another any more.
fn ended(family: &Family, reason: Reason, now: Timestamp) -> Family {
    Family {
        revoked: Some(Revocation {
            at: whole_seconds(now),
            reason,
        }),
        rotations: Vec::new(),
        ..family.clone()
    }
}

/// How long ago a rotation was.
///
/// If the clock has stepped back behind the last rotation, that one counts as just now, and the
/// others from it: what was out of grace then stays so.
fn age(rotation: &Rotation, family: &Family, now: Timestamp) -> Duration {
    latest(family, now).since(rotation.at)
}

/// The latest time known: now, or the last rotation if the clock has stepped back behind it.
fn latest(family: &Family, now: Timestamp) -> Timestamp {
    family
        .rotations
        .first()
        .map_or(now, |rotation| now.max(rotation.at))
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_seconds(time.seconds())
}

#[cfg(test)]
mod tests;
