//! The program in this process, with time in the test's hands.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gatelet::app::App;
use gatelet::config::{self, Overrides};
use gatelet::platform::{Platform, Resolver};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::client::{Client, Response, request};
use super::clock::HandClock;
use super::upstream::Upstream;
use super::world::{World, configuration};

/// What the clock is set to when a [`Timed`] starts, in Unix seconds.
pub(crate) const BEGAN: u64 = super::clock::BEGIN;

/// What follows the test's own words: nothing goes stale by itself however far time is moved.
const REST: &str = "\n[cache]\nmax_staleness = \"365d\"\n[log]\naccess = false\n";

const FILE: &str = "config.toml";

/// A gatelet whose clock stands still until it is moved.
pub(crate) struct Timed {
    clock: HandClock,
    proxy: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
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
        let loaded = config::load(&folder.path().join(FILE), &Overrides::default());
        let config = loaded.unwrap_or_else(|problems| panic!("{:?}", problems.list));
        let (end, ended) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let app = App::start(&config.config, &platform).await.unwrap();
                tell.send(app.proxy()).unwrap();
                let _ = ended.await;
                app.stop().await;
            });
        });
        Self {
            clock,
            proxy: told.recv().unwrap(),
            end: Some(end),
            thread: Some(thread),
            folder,
        }
    }

    /// Moves the clock on.
    pub(crate) fn pass(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Where it listens.
    pub(crate) fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// One `GET` on a fresh connection.
    pub(crate) fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.send(request("GET", target, headers))
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "gatelet panicked");
        }
    }
}

/// Whatever answers at an address.
pub(crate) trait Serve {
    /// Writes these bytes on a fresh connection and reads one answer.
    fn send(&self, bytes: impl AsRef<[u8]>) -> Response;
}

impl Serve for Timed {
    fn send(&self, bytes: impl AsRef<[u8]>) -> Response {
        Client::connect(self.proxy).send(bytes).response()
    }
}

impl Serve for World {
    fn send(&self, bytes: impl AsRef<[u8]>) -> Response {
        World::send(self, bytes)
    }
}
