//! Paths, against models of upstreams.

// The table of routes comes with all that the unit tests ask it.
#[path = "../../src/rules/path/tests/upstreams.rs"]
mod upstreams;
#[path = "../../src/rules/path/tests/world.rs"]
mod world;

use std::sync::LazyLock;

use upstreams::composed;
use world::{LENIENT, World, worlds};

static WORLDS: LazyLock<Vec<World>> = LazyLock::new(|| {
    let mut worlds = worlds();
    worlds.push(World::new(&["/a*", "/a/b", "/a/b/c*", "/%2f*"], LENIENT));
    worlds
});

/// A path is the first line; the bytes behind it are the steps that an upstream takes.
///
/// Whatever reading an upstream goes by, it serves the route that was matched, or the path was
/// refused.
pub fn paths(data: &[u8]) {
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    let Some(Ok(raw)) = lines.next().map(str::from_utf8) else {
        return;
    };
    let steps = lines.next().unwrap_or_default();
    for world in &*WORLDS {
        let Ok(matched) = world.find(raw) else {
            continue;
        };
        if let Err(escape) = world.check(raw, matched) {
            panic!("{escape}");
        }
        for order in steps.chunks(8).take(8) {
            let served = world.covers(&composed(raw.as_bytes(), order));
            assert_eq!(served, matched, "{raw:?} after {order:?}");
        }
    }
}
