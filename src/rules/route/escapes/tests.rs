//! Which configurations are warned of, and which are not.

use http::Method;

use super::*;
use crate::rules::principal::Scopes;
use crate::rules::route::MatchOptions;
use crate::rules::route::tests::pattern;

fn open() -> Policy {
    Policy::default()
}

fn all(kinds: &[Kind]) -> Policy {
    Policy {
        all: kinds.iter().copied().collect(),
        ..Policy::default()
    }
}

fn any(kinds: &[Kind]) -> Policy {
    Policy {
        any: kinds.iter().copied().collect(),
        ..Policy::default()
    }
}

fn scoped(mut policy: Policy, kind: Kind, scope: &str) -> Policy {
    policy.scopes.push((kind, Scopes::new([scope])));
    policy
}

/// Routes as pattern, methods, policy and upstream.
fn escapes(routes: &[(&str, &[Method], Policy, usize)]) -> Vec<Escape> {
    let patterns: Vec<Pattern> = routes.iter().map(|route| pattern(route.0)).collect();
    let entries = patterns
        .iter()
        .zip(routes)
        .map(|(pattern, route)| (pattern, route.1));
    let options = MatchOptions {
        ignore_case: false,
        ignore_trailing_slash: true,
    };
    let table = RouteTable::build(entries, options).unwrap();
    let guarded: Vec<Guarded<'_>> = patterns
        .iter()
        .zip(routes)
        .map(|(pattern, route)| Guarded {
            pattern,
            policy: &route.2,
            upstream: route.3,
        })
        .collect();
    table.escapes(&guarded)
}

#[test]
fn the_children_of_a_strict_exact_path_escape() {
    let key = || all(&[Kind::ApiKey]);
    let below = |strict, weak| vec![Escape::Below { strict, weak }];
    let routes = [("/*", &[][..], open(), 0), ("/admin", &[], key(), 0)];
    assert_eq!(escapes(&routes), below(1, 0));
    let routes = [("/admin*", &[][..], open(), 0), ("/admin", &[], key(), 0)];
    assert_eq!(escapes(&routes), below(1, 0));

    // No prefix around it, one that is as strict, or one of its own in between.
    assert_eq!(escapes(&[("/admin", &[], key(), 0)]), []);
    let routes = [("/*", &[][..], key(), 0), ("/admin", &[], key(), 0)];
    assert_eq!(escapes(&routes), []);
    let routes = [
        ("/*", &[][..], open(), 0),
        ("/admin", &[], key(), 0),
        ("/admin*", &[], key(), 0),
    ];
    assert_eq!(escapes(&routes), []);
}

#[test]
fn only_routes_that_take_the_same_method_are_compared() {
    let key = || all(&[Kind::ApiKey]);
    let routes = [
        ("/*", &[Method::GET][..], open(), 0),
        ("/admin", &[Method::POST], key(), 0),
    ];
    assert_eq!(escapes(&routes), []);
    let routes = [
        ("/*", &[Method::GET][..], open(), 0),
        ("/admin", &[Method::GET], open(), 0),
        ("/admin", &[], key(), 0),
    ];
    assert_eq!(escapes(&routes), []);
}

#[test]
fn a_strict_host_is_escaped_by_naming_another() {
    let key = || all(&[Kind::ApiKey]);
    let other = |strict, weak| vec![Escape::OtherHost { strict, weak }];
    let routes = [
        ("/*", &[][..], open(), 0),
        ("a.example /admin*", &[], key(), 0),
    ];
    assert_eq!(escapes(&routes), other(1, 0));
    let routes = [
        ("/admin/x*", &[][..], open(), 0),
        ("a.example /*", &[], key(), 0),
    ];
    assert_eq!(escapes(&routes), other(1, 0));

    // Another upstream, a host-less route as strict, or none at all.
    let routes = [
        ("/*", &[][..], open(), 1),
        ("a.example /admin*", &[], key(), 0),
    ];
    assert_eq!(escapes(&routes), []);
    let routes = [
        ("/*", &[][..], key(), 0),
        ("a.example /admin*", &[], key(), 0),
    ];
    assert_eq!(escapes(&routes), []);
    assert_eq!(escapes(&[("a.example /admin*", &[], key(), 0)]), []);
}

#[test]
fn stricter_means_that_someone_who_passes_the_other_is_stopped() {
    let (key, session) = (Kind::ApiKey, Kind::SessionToken);
    for (strict, weak) in [
        (all(&[key]), open()),
        (all(&[key, session]), all(&[key])),
        (all(&[key]), any(&[key, session])),
        (all(&[key]), all(&[session])),
        (scoped(all(&[key]), key, "a"), all(&[key])),
        (scoped(all(&[key]), key, "a"), scoped(all(&[key]), key, "b")),
    ] {
        assert!(is_stricter(&strict, &weak), "{strict:?} {weak:?}");
    }
    let optional = Policy {
        optional: Kinds::NONE.with(session),
        ..all(&[key])
    };
    for (lax, other) in [
        (open(), all(&[key])),
        (any(&[key]), all(&[key])),
        (all(&[key]), any(&[key])),
        (any(&[key, session]), all(&[session])),
        (scoped(optional, session, "a"), all(&[key])),
        (scoped(all(&[key]), key, "a"), scoped(all(&[key]), key, "a")),
    ] {
        assert!(!is_stricter(&lax, &other), "{lax:?} {other:?}");
    }
}

#[test]
fn patterns_that_differ_in_case_alone_are_torn() {
    let patterns = [
        "/docs", "/Docs/", "/Docs", "/Docs*", "/docs/x", "a /docs", "A /DOCS",
    ]
    .map(pattern);
    let pairs = |options| -> Vec<(usize, usize)> {
        let torn = torn(&patterns, options);
        torn.iter().map(|tie| (tie.first, tie.second)).collect()
    };
    let slash = |ignore_trailing_slash| MatchOptions {
        ignore_case: false,
        ignore_trailing_slash,
    };
    assert_eq!(pairs(slash(true)), [(0, 1), (0, 2), (5, 6)]);
    assert_eq!(pairs(slash(false)), [(0, 2), (5, 6)]);
    let ignore_case = MatchOptions {
        ignore_case: true,
        ..slash(true)
    };
    assert_eq!(pairs(ignore_case), []);
}
