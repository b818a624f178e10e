//! The program in this process, with time in the test's hands.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatelet::platform::{Platform, Resolver};
use tempfile::TempDir;

use super::client::{Client, Response, request};
use super::clock::HandClock;
use super::in_process::InProcess;
use super::upstream::Upstream;
use super::world::{World, configuration};

/// What the clock is set to when a [`Timed`] starts, in Unix seconds.
pub(crate) const BEGAN: u64 = super::clock::BEGIN;

/// What follows the test's own words: nothing goes stale by itself however far time is moved.
const REST: &str = "\n[cache]\nmax_staleness = \"365d\"\n[log]\naccess = false\n";

const FILE: &str = "config.toml";

/// A gatelet whose clock stands still until it is moved.
pub(crate) struct Timed {
    gatelet: InProcess,
    clock: HandClock,
    folder: Arc<TempDir>,
}

impl Timed {
    /// Runs gatelet before `upstream`; `toml` as in [`World::start`], but for `[cache]` and
    /// `[log]`.
    pub(crate) fn start(upstream: &Upstream, toml: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let text = configuration(folder.path(), &upstream.url(), &format!("{toml}{REST}"));
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let clock = HandClock::default();
        let platform = clock.platform();
        Self::run(folder, clock, platform)
    }

    /// Runs gatelet before the addresses that `resolver` says the host of `url` has.
    pub(crate) fn before_name(url: &str, toml: &str, resolver: Arc<dyn Resolver>) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let text = configuration(folder.path(), url, &format!("{toml}{REST}"));
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let clock = HandClock::default();
        let platform = Platform {
            resolver,
            ..clock.platform()
        };
        Self::run(folder, clock, platform)
    }

    /// Another gatelet on the same configuration and store, in the same time.
    pub(crate) fn another(&self) -> Self {
        let platform = self.clock.platform();
        Self::run(Arc::clone(&self.folder), self.clock.clone(), platform)
    }

    fn run(folder: Arc<TempDir>, clock: HandClock, platform: Platform) -> Self {
        let gatelet = InProcess::start(&folder.path().join(FILE), platform);
        Self {
            gatelet,
            clock,
            folder,
        }
    }

    /// Moves the clock on.
    pub(crate) fn pass(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Where it listens.
    pub(crate) fn proxy(&self) -> SocketAddr {
        self.gatelet.proxy
    }

    /// One `GET` on a fresh connection.
    pub(crate) fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.send(request("GET", target, headers))
    }
}

/// Whatever answers at an address.
pub(crate) trait Serve {
    /// Writes these bytes on a fresh connection and reads one answer.
    fn send(&self, bytes: impl AsRef<[u8]>) -> Response;
}

impl Serve for Timed {
    fn send(&self, bytes: impl AsRef<[u8]>) -> Response {
        Client::connect(self.gatelet.proxy).send(bytes).response()
    }
}

impl Serve for World {
    fn send(&self, bytes: impl AsRef<[u8]>) -> Response {
        World::send(self, bytes)
    }
}
