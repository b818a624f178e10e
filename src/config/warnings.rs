//! What is allowed and most likely not meant: guarded paths with an unguarded way around them.
//!
//! Pure, and about routes that are each valid by themselves.

use super::problems::Findings;
use super::validate::normal;
use crate::gateway::RouteConfig;
use crate::rules::credential::Kinds;
use crate::rules::policy::Policy;
use crate::rules::route::{MatchOptions, PathPattern};

/// Warns of exact paths whose children escape, and of hosts that a caller can choose around.
pub(super) fn warn(
    routes: &[(usize, RouteConfig)],
    matching: MatchOptions,
    findings: &mut Findings,
) {
    let views: Vec<View<'_>> = routes
        .iter()
        .map(|(index, route)| View::new(*index, route, matching))
        .collect();
    for view in &views {
        if let Some(around) = escape_below(view, &views) {
            findings.warn(
                &format!("routes[{}].path", view.index),
                format!(
                    "stricter than routes[{}] around it: what lies below {} needs less; \
                     a prefix would guard it too",
                    around.index, view.path
                ),
            );
        }
        if let Some(without) = escape_by_host(view, &views) {
            findings.warn(
                &format!("routes[{}].host", view.index),
                format!(
                    "stricter than routes[{}], which has no host and the same upstream: \
                     the caller chooses the Host",
                    without.index
                ),
            );
        }
    }
}

/// A route with its path as it is compared, without the slash at its end.
struct View<'a> {
    index: usize,
    route: &'a RouteConfig,
    exact: bool,
    path: String,
}

impl<'a> View<'a> {
    fn new(index: usize, route: &'a RouteConfig, matching: MatchOptions) -> Self {
        let (exact, path) = match &route.pattern.path {
            PathPattern::Exact(path) => (true, path),
            PathPattern::Prefix(path) => (false, path),
        };
        let path = normal(path, matching);
        Self {
            index,
            route,
            exact,
            path: path.trim_end_matches('/').to_owned(),
        }
    }

    fn host(&self) -> Option<&str> {
        self.route.pattern.host.as_deref()
    }

    /// Whether some request that `other` covers is one of this prefix.
    fn contains(&self, other: &Self) -> bool {
        !self.exact && is_below(&self.path, &other.path)
    }

    /// Whether a method that this route takes is one that `other` takes.
    fn shares_method(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.route.methods, &other.route.methods);
        mine.is_empty() || theirs.is_empty() || mine.iter().any(|method| theirs.contains(method))
    }

    /// Whether some caller passes `other` and not this route.
    fn is_stricter_than(&self, other: &Self) -> bool {
        self.shares_method(other) && !implies(&other.route.policy, &self.route.policy)
    }
}

/// Whether `path` is `prefix` or lies below it, by whole segments.
fn is_below(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The route with a weaker policy that takes what lies below the exact path of `view`.
fn escape_below<'v, 'a>(view: &View<'_>, views: &'v [View<'a>]) -> Option<&'v View<'a>> {
    if !view.exact {
        return None;
    }
    // The rule of matching: a host beats no host, then the longest prefix; its methods come last.
    let around = |prefix: &&View<'_>| {
        prefix.contains(view) && (prefix.host().is_none() || prefix.host() == view.host())
    };
    let rank = |prefix: &View<'_>| (prefix.host().is_some(), prefix.path.len());
    let best = views.iter().filter(around).map(rank).max()?;
    views
        .iter()
        .filter(around)
        .find(|prefix| rank(prefix) == best && view.is_stricter_than(prefix))
}

/// The route without a host, with the same upstream and a weaker policy, that a caller reaches by
/// naming another host than `view`'s.
fn escape_by_host<'v, 'a>(view: &View<'_>, views: &'v [View<'a>]) -> Option<&'v View<'a>> {
    view.host()?;
    let hostless = |other: &&View<'_>| other.host().is_none();
    let same_path = |other: &&View<'_>| {
        other.contains(view) || (other.exact && view.exact && other.path == view.path)
    };
    let rank = |other: &View<'_>| (other.exact, other.path.len());
    let best = views
        .iter()
        .filter(hostless)
        .filter(same_path)
        .map(rank)
        .max();
    views
        .iter()
        .filter(hostless)
        .filter(|other| (same_path(other) && Some(rank(other)) == best) || view.contains(other))
        .find(|other| other.route.upstream == view.route.upstream && view.is_stricter_than(other))
}

/// Whether everyone who passes `first` has shown what `second` asks for.
fn implies(first: &Policy, second: &Policy) -> bool {
    let sure = certain(first);
    let any = second.any.is_empty()
        || !sure.intersection(second.any).is_empty()
        || (!first.any.is_empty() && second.any.is_superset(first.any));
    let scopes = second.scopes.iter().all(|(kind, wanted)| {
        // Who need not show a credential of this kind passes both without one.
        let free = !second.all.contains(*kind) && !second.any.contains(*kind);
        let held = first.scopes.iter().find(|(held, _)| held == kind);
        free || held.is_some_and(|(_, held)| wanted.missing_from(held).next().is_none())
            || wanted.is_empty()
    });
    sure.is_superset(second.all) && any && scopes
}

/// The kinds that everyone who passes has proven.
fn certain(policy: &Policy) -> Kinds {
    if policy.any.iter().count() == 1 {
        policy.all.union(policy.any)
    } else {
        policy.all
    }
}
