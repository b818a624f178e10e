//! Where paths led that this thread has looked up before.

use std::cell::RefCell;

use crate::rules::path::BadPath;
use crate::rules::route::{Found, RouteTable};

/// The longest path that is remembered.
const LONGEST: usize = 64;

/// How many are, at most: each has one place, and takes it from another.
const PLACES: usize = 128;

thread_local! {
    static MEMO: RefCell<Memo> = const { RefCell::new(Memo(Vec::new())) };
}

struct Memo(Vec<Entry>);

#[derive(Clone, Copy)]
struct Entry {
    /// Of the tables that it was looked up in; zero is none's.
    serial: u64,
    length: usize,
    path: [u8; LONGEST],
    led: Led,
}

/// Where a path led.
#[derive(Clone, Copy)]
enum Led {
    Own(Place),
    Upstream(Place),
    Nowhere,
}

/// What is kept of a [`Found`].
#[derive(Clone, Copy)]
struct Place {
    group: usize,
    encoded_slash: bool,
}

impl Place {
    fn of(found: Found<'_>) -> Self {
        Self {
            group: found.place,
            encoded_slash: found.encoded_slash,
        }
    }
}

/// Finds a path in the table `own`, or else in the other: as they say, or have said before of the same path. No other two
/// have this `serial`, which is not zero.
pub(super) fn find<'t>(
    serial: u64,
    own: &'t RouteTable,
    table: &'t RouteTable,
    host: &[u8],
    path: &str,
) -> Result<[Option<Found<'t>>; 2], BadPath> {
    if path.len() > LONGEST || table.names_hosts() || own.names_hosts() {
        return table.find_after(own, host, path);
    }
    MEMO.with_borrow_mut(|memo| {
        let entry = memo.entry(path.as_bytes());
        if entry.serial == serial && entry.path[..entry.length] == *path.as_bytes() {
            let found = match entry.led {
                Led::Own(place) => [own.recall(place.group, place.encoded_slash), None],
                Led::Upstream(place) => [None, table.recall(place.group, place.encoded_slash)],
                Led::Nowhere => [None, None],
            };
            return Ok(found);
        }
        let found = table.find_after(own, host, path)?;
        entry.serial = serial;
        entry.length = path.len();
        entry.path[..path.len()].copy_from_slice(path.as_bytes());
        entry.led = match found {
            [Some(own), _] => Led::Own(Place::of(own)),
            [None, Some(found)] => Led::Upstream(Place::of(found)),
            [None, None] => Led::Nowhere,
        };
        Ok(found)
    })
}

impl Memo {
    /// The one place that a path has.
    fn entry(&mut self, path: &[u8]) -> &mut Entry {
        if self.0.is_empty() {
            self.0 = vec![
                Entry {
                    serial: 0,
                    length: 0,
                    path: [0; LONGEST],
                    led: Led::Nowhere,
                };
                PLACES
            ];
        }
        &mut self.0[place(path)]
    }
}

/// Scatters paths over the places.
fn place(path: &[u8]) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = |hash: u64, part: u64| (hash.rotate_left(5) ^ part).wrapping_mul(ODD);
    let (eights, rest) = path.as_chunks();
    let hash = eights.iter().fold(path.len() as u64, |hash, eight| {
        mixed(hash, u64::from_le_bytes(*eight))
    });
    let hash = rest
        .iter()
        .fold(hash, |hash, byte| mixed(hash, u64::from(*byte)));
    // The high bits are mixed best.
    usize::try_from(hash >> (u64::BITS - PLACES.ilog2())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::rules::route::{MatchOptions, PathPattern, Pattern};

    use super::*;

    fn table(prefixes: &[&str], host: Option<&str>) -> RouteTable {
        let pattern = |prefix: &&str| Pattern {
            host: host.map(Into::into),
            path: PathPattern::Prefix((*prefix).into()),
        };
        let patterns: Vec<_> = prefixes.iter().map(pattern).collect();
        let routes = patterns.iter().map(|pattern| (pattern, &[][..]));
        RouteTable::build(routes, MatchOptions::default()).unwrap()
    }

    type Outcome = Result<[Option<(usize, bool)>; 2], BadPath>;

    fn outcome(found: Result<[Option<Found<'_>>; 2], BadPath>) -> Outcome {
        let parts = |found: Found<'_>| (found.place, found.encoded_slash);
        found.map(|found| found.map(|found| found.map(parts)))
    }

    /// What is found three times, once it is the same.
    fn found(serial: u64, own: &RouteTable, table: &RouteTable, path: &str) -> Outcome {
        let looked_up = outcome(table.find_after(own, b"h", path));
        for _ in 0..3 {
            let remembered = outcome(find(serial, own, table, b"h", path));
            assert_eq!(remembered, looked_up, "{path}");
        }
        looked_up
    }

    #[test]
    fn a_path_leads_where_the_tables_say_however_often_it_is_asked_for() {
        let own = table(&["/own"], None);
        let others = [table(&["/a", "/b"], None), table(&["/b", "/a"], None)];
        let long = "x".repeat(LONGEST);
        let mut paths: Vec<String> = (0..4 * PLACES).map(|n| format!("/a/{n}")).collect();
        for path in ["/own/x", "/b", "/c", "/b/%2f", "/a/../b", "/b/x%20y", "/"] {
            paths.push(path.to_owned());
        }
        for length in LONGEST - 3..LONGEST {
            paths.push(format!("/a/{}", &long[..length]));
        }
        for _ in 0..2 {
            // The tables of one serial are always the same.
            for (serial, table) in (1..).zip(&others) {
                for path in &paths {
                    found(serial, &own, table, path).ok();
                }
            }
        }
        assert_eq!(
            found(9, &own, &others[0], "/b"),
            Ok([None, Some((1, false))])
        );
        assert_eq!(
            found(9, &own, &others[0], "/own"),
            Ok([Some((0, false)), None])
        );
        assert_eq!(
            found(10, &own, &others[1], "/b"),
            Ok([None, Some((0, false))])
        );
        assert!(found(10, &own, &others[1], "/a/%2e%2e/b").is_err());
    }

    #[test]
    fn what_depends_on_the_host_is_not_remembered() {
        let own = table(&["/own"], None);
        let others = table(&["/a"], Some("h"));
        let find = |host: &[u8]| outcome(find(1, &own, &others, host, "/a"));
        assert_eq!(find(b"h"), Ok([None, Some((0, false))]));
        assert_eq!(find(b"other"), Ok([None, None]));
    }
}
