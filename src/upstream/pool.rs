//! One worker's connections to one upstream, each used by one request a time.
//!
//! Which connections rest where is `shelves`' affair; how the addresses stand is the directory's.

mod lease;
mod stalled;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use spin::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::platform::{Clock, Monotonic};
use crate::upstream::Config;
use crate::upstream::connection::Connection;
use crate::upstream::directory::{Directory, keep};
use crate::upstream::shelves::{Idle, Line, Seat, Shelves};
use crate::upstream::stream::Socket;

pub use lease::{Lease, Place};
use stalled::close_when_stalled;

/// A connection that rested no longer than this is used without asking the kernel about it.
///
/// Under load connections hardly rest, and no server closes one this soon after an answer without
/// having said so in it.
const UNPROBED: Duration = Duration::from_millis(5);

/// How many addresses are tried for one request, as long as nothing of it was sent.
pub(super) const ATTEMPTS: usize = 3;

/// The connections of one worker to one upstream.
///
/// Not shared between workers: its locks are never contended, and are held for a push or a pop.
pub struct Pool {
    directory: Arc<Directory>,
    /// The most connections this worker may open: its share of `max_connections`.
    limit: usize,
    clock: Arc<dyn Clock>,
    shelves: Mutex<Shelves>,
    open: AtomicUsize,
    /// Told of each connection that closes or comes to rest while someone waits for one.
    freed: Notify,
}

/// Why no connection was to be had.
#[derive(Clone, Debug)]
pub(super) enum Unavailable {
    /// Connecting failed.
    Connect(Arc<io::Error>),
    /// Connecting, or waiting for a connection to come free, took longer than allowed.
    ConnectTimeout,
    /// All connections stayed busy for as long as one may be waited for.
    Busy,
}

impl From<io::Error> for Unavailable {
    fn from(error: io::Error) -> Self {
        Self::Connect(Arc::new(error))
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::ConnectTimeout => f.write_str("connecting took too long"),
            Self::Busy => f.write_str("every connection is busy"),
        }
    }
}

impl Pool {
    /// A pool that opens at most `limit` connections to the directory's addresses, and closes those
    /// that rest too long or whose address has gone. `worker` is the number of its worker.
    ///
    /// Must be called on the worker's runtime: it spawns the task that closes them.
    pub fn start(
        directory: Arc<Directory>,
        limit: usize,
        worker: usize,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let listing = directory.follow();
        let pool = Arc::new(Self {
            directory,
            limit: limit.max(1),
            clock,
            shelves: Mutex::new(Shelves::new(worker)),
            open: AtomicUsize::new(0),
            freed: Notify::new(),
        });
        pool.fit();
        let period = pool.config().idle_timeout / 2;
        let weak = Arc::downgrade(&pool);
        tokio::spawn(keep(weak, listing, Self::fit, period, Self::close_rested));
        pool
    }

    /// Takes over the addresses that the directory has now.
    fn fit(&self) {
        let endpoints = self.directory.endpoints();
        let closed = self.shelves().fit(&endpoints);
        drop(closed);
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// What the pool was built from.
    pub fn config(&self) -> &Config {
        self.directory.config()
    }

    /// Where the pool's connections lead.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// A new connection, whether or not one rests. Cancel safe.
    ///
    /// Each address that is tried has `connect_timeout`, and all together have twice that. The first
    /// request of all waits as long as a connect for the addresses of a name.
    pub(super) async fn lease_new(self: &Arc<Self>) -> Result<Lease, Unavailable> {
        if self.shelves().is_empty() {
            self.directory.wait_for_addresses().await?;
            self.fit();
        }
        match self.reserve() {
            Some(place) => self.connect(place).await,
            None => self.wait().await,
        }
    }

    /// A connection at rest to the address that is next, if there is one; `now` is the time.
    pub(super) fn lease_idle(self: &Arc<Self>, now: Monotonic) -> Option<Lease> {
        loop {
            let idle = self.shelves().pop()?;
            if let Some(lease) = self.lease(idle, now) {
                return Some(lease);
            }
        }
    }

    /// A connection at rest to whichever address, when no more may be opened.
    fn lease_other(self: &Arc<Self>, now: Monotonic) -> Option<Lease> {
        loop {
            let idle = self.shelves().pop_other()?;
            if let Some(lease) = self.lease(idle, now) {
                return Some(lease);
            }
        }
    }

    /// Uses a connection that rested, unless it did for too long or was closed meanwhile.
    fn lease(self: &Arc<Self>, Idle { line, since }: Idle, now: Monotonic) -> Option<Lease> {
        let rested = now.since(since);
        let usable =
            rested < self.config().idle_timeout && (rested < UNPROBED || line.connection.rests());
        usable.then(|| Lease::new(line, self, true))
    }

    async fn wait(self: &Arc<Self>) -> Result<Lease, Unavailable> {
        let until_free = async {
            loop {
                let freed = self.freed.notified();
                let now = self.clock.monotonic();
                if let Some(lease) = self.lease_idle(now) {
                    return Ok(lease);
                }
                if let Some(place) = self.reserve() {
                    return self.connect(place).await;
                }
                if let Some(lease) = self.lease_other(now) {
                    return Ok(lease);
                }
                freed.await;
            }
        };
        timeout(self.config().connect_timeout, until_free)
            .await
            .unwrap_or(Err(Unavailable::Busy))
    }

    fn reserve(self: &Arc<Self>) -> Option<Place> {
        if self.open.load(Ordering::Relaxed) >= self.limit {
            return None;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Place::new(self))
    }

    /// Connects to the address that is next, and to another one where that fails.
    async fn connect(self: &Arc<Self>, place: Place) -> Result<Lease, Unavailable> {
        let mut unavailable = Unavailable::ConnectTimeout;
        let connecting = async {
            let mut tried = Vec::new();
            while tried.len() < ATTEMPTS {
                // A statement of its own: the lock is not held while connecting.
                let seat = self.shelves().seat(&tried);
                let Some(seat) = seat else { break };
                match self.connect_to(&seat).await {
                    Ok(socket) => return Some((socket, seat)),
                    Err(failure) => unavailable = failure,
                }
                tried.push(Arc::clone(seat.site()));
            }
            None
        };
        let connected = timeout(2 * self.config().connect_timeout, connecting).await;
        let Ok(Some((socket, seat))) = connected else {
            return Err(unavailable);
        };
        let connection = Connection::new(socket, Some(place));
        let seat = Arc::new(seat);
        let (shared, seated) = (Arc::downgrade(connection.shared()), Arc::downgrade(&seat));
        tokio::spawn(close_when_stalled(shared, seated));
        let line = Box::new(Line {
            connection,
            timer: Box::pin(tokio::time::sleep(self.config().response_timeout)),
            seat,
        });
        Ok(Lease::new(line, self, false))
    }

    /// Connects where the seat is, and tells the directory how that went.
    async fn connect_to(&self, seat: &Seat) -> Result<Socket, Unavailable> {
        let endpoint = seat.endpoint();
        let connecting = Socket::connect(endpoint, self.config().tls.as_ref());
        let unavailable = match timeout(self.config().connect_timeout, connecting).await {
            Ok(Ok(socket)) => {
                self.directory.connected(endpoint);
                return Ok(socket);
            }
            Ok(Err(error)) => error.into(),
            Err(_) => Unavailable::ConnectTimeout,
        };
        self.directory.refused(endpoint, &unavailable);
        Err(unavailable)
    }

    fn rest(&self, line: Box<Line>, since: Monotonic) {
        if line.connection.is_open() {
            let closed = self.shelves().rest(line, since);
            drop(closed);
            self.freed.notify_one();
        }
    }

    fn close_rested(&self) {
        let now = self.clock.monotonic();
        self.shelves().retain(|idle| {
            now.since(idle.since) < self.config().idle_timeout && idle.line.connection.rests()
        });
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock()
    }
}

#[cfg(test)]
mod tests;
