//! Where a caller can go round a route's requirement by asking for something beside it, and where
//! none gets through to it.
//!
//! What is found here is legal and seldom meant: `gatelet check` warns of it. How the warning is
//! worded is decided there.

use std::collections::{BTreeSet, HashMap};

use crate::rules::credential::{Kind, Kinds};
use crate::rules::policy::Policy;
use crate::rules::route::{
    Case, Choice, Hit, MatchOptions, PathGroup, PathPattern, Pattern, RouteTable, Tie, Which,
};

#[cfg(test)]
mod tests;

/// What a route covers and what it requires, in the order in which the table was built.
#[derive(Clone, Copy, Debug)]
pub struct Guarded<'a> {
    /// What it covers.
    pub pattern: &'a Pattern,
    /// What it requires.
    pub policy: &'a Policy,
    /// The place of its upstream in the list of upstreams.
    pub upstream: usize,
}

/// A way round a route. Routes are given by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Escape {
    /// An exact path is stricter than the prefix that serves what is below it.
    Below {
        /// The exact path's route.
        strict: usize,
        /// The prefix's.
        weak: usize,
    },
    /// A host's route is stricter than the one that serves the same path of the same upstream to
    /// whoever names another host.
    OtherHost {
        /// The route of the host.
        strict: usize,
        /// The route without one.
        weak: usize,
    },
}

impl RouteTable {
    /// Every way round a route, sorted; `routes` are those that the table was built from.
    pub fn escapes(&self, routes: &[Guarded<'_>]) -> Vec<Escape> {
        let mut escapes = BTreeSet::new();
        for route in routes {
            if matches!(route.pattern.path, PathPattern::Exact(_)) {
                self.escapes_below(route.pattern, routes, &mut escapes);
            }
            self.escapes_by_host(route.pattern, routes, &mut escapes);
        }
        escapes.into_iter().collect()
    }

    fn escapes_below(
        &self,
        pattern: &Pattern,
        routes: &[Guarded<'_>],
        escapes: &mut BTreeSet<Escape>,
    ) {
        let site = pattern
            .host
            .as_deref()
            .and_then(|host| self.site(host.as_bytes()));
        let path = pattern.path.normal(self.options);
        let own = self.group(self.look_up(site, path.as_bytes(), self.own()));
        let around = self.group(self.look_up(site, below(&path).as_bytes(), self.own()));
        for (strict, weak) in pairs(own, around) {
            if is_stricter(routes[strict].policy, routes[weak].policy) {
                escapes.insert(Escape::Below { strict, weak });
            }
        }
    }

    /// Compares what each host makes of a pattern's paths with what other hosts make of them.
    fn escapes_by_host(
        &self,
        pattern: &Pattern,
        routes: &[Guarded<'_>],
        escapes: &mut BTreeSet<Escape>,
    ) {
        let path = pattern.path.normal(self.options);
        for probe in [below(&path), path] {
            let elsewhere = self.group(self.everywhere.walk(probe.as_bytes(), self.own()));
            for (_, site) in &self.sites {
                let here = self.group(site.walk(probe.as_bytes(), self.own()));
                for (strict, weak) in pairs(here, elsewhere) {
                    let (ours, other) = (&routes[strict], &routes[weak]);
                    if ours.upstream == other.upstream && is_stricter(ours.policy, other.policy) {
                        escapes.insert(Escape::OtherHost { strict, weak });
                    }
                }
            }
        }
    }

    fn own(&self) -> Which {
        Which::Own(if self.options.ignore_case {
            Case::Folded
        } else {
            Case::Exact
        })
    }

    fn group(&self, hit: Option<Hit>) -> Option<&PathGroup> {
        match hit?.choice {
            Choice::Group(group) => self.groups.get(group),
            Choice::Torn => None,
        }
    }
}

/// Routes whose patterns differ in case alone, each paired with the first of its kind.
///
/// An upstream that ignores case cannot tell such paths apart, so every request to one is refused.
/// Where case does not matter here either there are none: what is left are ties.
pub fn torn<'a>(
    patterns: impl IntoIterator<Item = &'a Pattern>,
    options: MatchOptions,
) -> Vec<Tie> {
    let folded = MatchOptions {
        ignore_case: true,
        ..options
    };
    let mut known = HashMap::new();
    let mut torn = Vec::new();
    for (place, pattern) in patterns.into_iter().enumerate() {
        let own = pattern.key(options);
        let (first, spelled) = known
            .entry(pattern.key(folded))
            .or_insert_with(|| (place, own.clone()));
        if *spelled != own {
            torn.push(Tie {
                first: *first,
                second: place,
            });
        }
    }
    torn
}

/// A path below this one that no pattern names.
fn below(path: &str) -> String {
    format!("{}/\u{1}", path.trim_end_matches('/'))
}

/// The routes of two groups that take the same method.
fn pairs(ours: Option<&PathGroup>, other: Option<&PathGroup>) -> BTreeSet<(usize, usize)> {
    let (Some(ours), Some(other)) = (ours, other) else {
        return BTreeSet::new();
    };
    ours.named
        .iter()
        .chain(&other.named)
        .filter_map(|(method, _)| Some((ours.pick(method).ok()?, other.pick(method).ok()?)))
        .chain(ours.any.zip(other.any))
        .collect()
}

/// Whether someone who passes `weak` with as little as it takes can fail to pass `strict`.
fn is_stricter(strict: &Policy, weak: &Policy) -> bool {
    sets().any(|held| {
        let passes_weak = weak.presence(held).is_ok();
        let passes_strict = || {
            sets().any(|shown| {
                shown.without(held).is_empty()
                    && strict.presence(shown).is_ok()
                    && shown.iter().all(|kind| has_scopes(kind, strict, weak))
            })
        };
        passes_weak && !passes_strict()
    })
}

/// Every set of kinds.
fn sets() -> impl Iterator<Item = Kinds> {
    (0_u8..1 << Kind::ALL.len()).map(|bits| {
        Kind::ALL
            .into_iter()
            .filter(|kind| bits >> *kind as u8 & 1 == 1)
            .collect()
    })
}

/// Whether a credential with the scopes that `weak` asks for has those that `strict` does.
fn has_scopes(kind: Kind, strict: &Policy, weak: &Policy) -> bool {
    let of = |policy: &Policy| {
        let scopes = policy.scopes.clone();
        scopes.into_iter().filter(move |(own, _)| *own == kind)
    };
    of(strict).all(|(_, asked)| {
        asked
            .iter()
            .all(|scope| of(weak).any(|(_, held)| held.contains(scope)))
    })
}
