//! Routing tables, each with the slow way to look something up in it.

use http::Method;

use super::upstreams::{Seen, UPSTREAMS, decode_segments, split};
use crate::rules::path::BadPath;
use crate::rules::route::{MatchOptions, PathPattern, Pattern, RouteTable};

pub(super) const LENIENT: MatchOptions = MatchOptions {
    ignore_case: false,
    ignore_trailing_slash: true,
};

/// A routing table, and the slow way to look something up in it.
pub(super) struct World {
    /// Whether each is exact, and its segments.
    patterns: Vec<(bool, Vec<&'static str>)>,
    options: MatchOptions,
    pub(super) table: RouteTable,
}

impl World {
    /// Patterns end in `*` where they are prefixes.
    pub(super) fn new(patterns: &[&'static str], options: MatchOptions) -> Self {
        let split: Vec<(bool, &'static str)> = patterns
            .iter()
            .map(|text| match text.strip_suffix('*') {
                Some(prefix) => (false, prefix),
                None => (true, *text),
            })
            .collect();
        let routes: Vec<Pattern> = split
            .iter()
            .map(|&(exact, path)| Pattern {
                host: None,
                path: if exact {
                    PathPattern::Exact(path.into())
                } else {
                    PathPattern::Prefix(path.into())
                },
            })
            .collect();
        let methods: &[Method] = &[];
        let table = RouteTable::build(routes.iter().map(|route| (route, methods)), options);
        Self {
            patterns: split
                .into_iter()
                .map(|(exact, path)| {
                    (
                        exact,
                        path.split('/').filter(|one| !one.is_empty()).collect(),
                    )
                })
                .collect(),
            options,
            table: table.unwrap(),
        }
    }

    /// The place of the route that the judged path chooses.
    pub(super) fn find(&self, raw: &str) -> Result<Option<usize>, BadPath> {
        let found = self.table.find("localhost", raw)?;
        Ok(found.map(|found| found.group.pick(&Method::GET).unwrap()))
    }

    /// The route whose pattern covers what an upstream sees, by looking at every one.
    pub(super) fn covers(&self, seen: &Seen) -> Option<usize> {
        let fold = seen.folded || self.options.ignore_case;
        let same = |(ours, theirs): (&&str, &&[u8])| {
            if fold {
                ours.as_bytes().eq_ignore_ascii_case(theirs)
            } else {
                ours.as_bytes() == *theirs
            }
        };
        let all = split(&seen.path);
        let empty = all.iter().rev().take_while(|segment| segment.is_empty());
        let segments = &all[..all.len() - empty.count()];
        let mut best = None;
        for (place, (exact, own)) in self.patterns.iter().enumerate() {
            let covered = own.len() <= segments.len()
                && (!exact || own.len() == segments.len())
                && own.iter().zip(segments).all(same);
            let rank = (*exact, own.len());
            if covered && best.is_none_or(|(_, other)| rank > other) {
                best = Some((place, rank));
            }
        }
        best.map(|(place, _)| place)
    }

    /// Fails if an upstream serves something else than was matched.
    pub(super) fn check(&self, raw: &str, matched: Option<usize>) -> Result<(), String> {
        let own = Seen {
            path: decode_segments(raw.as_bytes()),
            folded: false,
        };
        if self.covers(&own) != matched {
            return Err(format!(
                "{raw}: matched {matched:?}, but its own reading is not that"
            ));
        }
        for (name, upstream) in UPSTREAMS {
            let served = self.covers(&upstream(raw.as_bytes()));
            if served != matched {
                return Err(format!(
                    "{raw}: matched {matched:?}, {name} serves {served:?}"
                ));
            }
        }
        Ok(())
    }
}

pub(super) fn worlds() -> Vec<World> {
    let options = |ignore_case, ignore_trailing_slash| MatchOptions {
        ignore_case,
        ignore_trailing_slash,
    };
    vec![
        World::new(&["/admin*", "/public*"], LENIENT),
        World::new(&["/*", "/admin*"], LENIENT),
        World::new(
            &["/*", "/admin*", "/admin", "/public*", "/public/x"],
            options(false, false),
        ),
        World::new(&["/public*", "/public/Admin*", "/x*", "/"], LENIENT),
        World::new(&["/*", "/Admin*", "/public/x/admin"], options(true, true)),
    ]
}
