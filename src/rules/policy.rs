//! What a route requires, and the one function that turns proofs into an [`Admitted`].

use crate::rules::credential::{Kind, Kinds};
use crate::rules::decision::{Reject, Wanted};
use crate::rules::principal::Scopes;

/// What a route requires of its callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Each of these must be shown and good.
    pub all: Kinds,
    /// At least one of these must be shown.
    pub any: Kinds,
    /// These may be shown.
    pub optional: Kinds,
    /// The scopes that each proven credential of the kind must carry.
    pub scopes: Vec<(Kind, Scopes)>,
}

impl Policy {
    /// Whether anyone may pass without a credential.
    pub fn is_open(&self) -> bool {
        self.all.is_empty() && self.any.is_empty()
    }

    /// Every kind the route lists: shown, one of these must verify.
    pub fn listed(&self) -> Kinds {
        self.all.union(self.any).union(self.optional)
    }

    /// Which credentials would have done, for a challenge.
    pub fn wanted(&self) -> Wanted {
        Wanted::of(self.listed())
    }

    /// Says no if a kind that must be shown was not among `shown`.
    ///
    /// Comes before any credential is looked up: a request that cannot pass costs no look-up.
    pub fn presence(&self, shown: Kinds) -> Result<(), Reject> {
        let any_shown = !shown.intersection(self.any).is_empty();
        let any_missing = if any_shown { Kinds::NONE } else { self.any };
        let missing = self.all.without(shown).union(any_missing);
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Reject::CredentialMissing(Wanted::of(missing)))
        }
    }

    /// Admits a caller that proved `proven` and whose credentials carry these scopes.
    ///
    /// The only maker of an [`Admitted`]. `scopes` is asked for the scopes of a proven kind.
    pub fn admit<'a>(
        &self,
        proven: Kinds,
        scopes: impl Fn(Kind) -> Option<&'a Scopes>,
    ) -> Result<Admitted, Reject> {
        self.presence(proven)?;
        for (kind, required) in &self.scopes {
            if !proven.contains(*kind) {
                continue;
            }
            let missing: Vec<&str> = match scopes(*kind) {
                Some(held) => required.missing_from(held).collect(),
                None => required.iter().collect(),
            };
            if !missing.is_empty() {
                return Err(Reject::ScopeMissing(missing.join(" ").into()));
            }
        }
        Ok(Admitted { proven })
    }
}

/// Proof that a request satisfied its route's policy; only [`Policy::admit`] makes one.
#[derive(Debug)]
pub struct Admitted {
    proven: Kinds,
}

impl Admitted {
    /// The kinds that were proven, for `x-auth-methods`.
    pub fn proven(&self) -> Kinds {
        self.proven
    }
}
