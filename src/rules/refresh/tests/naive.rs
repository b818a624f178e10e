//! The rules once more, told sentence by sentence over a history that forgets nothing.

use std::collections::BTreeSet;

/// All that ever happened to a family. Its token of generation `n` is the one after `n` rotations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct History {
    /// When each generation was rotated away, and who did it.
    pub(super) rotations: Vec<(u64, usize)>,
    /// The generations of which an access token was presented.
    pub(super) presented: BTreeSet<usize>,
    /// When the family was revoked.
    pub(super) revoked: Option<u64>,
}

/// What is to come of presenting a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Rotate,
    Again,
    Revoke,
    Refuse,
}

impl History {
    /// What is to come of presenting the token of this generation.
    pub(super) fn verdict(&self, generation: usize, now: u64, grace: u64, cap: u64) -> Verdict {
        // "Families … end 7 days later", and what was revoked stays so.
        if self.revoked.is_some() || now >= cap {
            return Verdict::Refuse;
        }
        let Some((rotated_at, _)) = self.rotations.get(generation) else {
            return Verdict::Rotate;
        };
        // "A token that was rotated away less than grace ago is answered with the family's current
        // token again."
        if now - rotated_at < grace {
            return Verdict::Again;
        }
        // "Past grace, a token one rotation behind revokes the family, unless neither its
        // successor nor any access token issued with that successor was ever presented."
        let successor = generation + 1;
        let one_behind = self.rotations.len() == successor;
        let successor_presented = self.rotations.len() > successor;
        if one_behind && !successor_presented && !self.presented.contains(&successor) {
            return Verdict::Again;
        }
        // "Anything else revokes the family."
        Verdict::Revoke
    }
}
