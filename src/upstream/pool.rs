//! One worker's connections to one upstream: last in, first out, each used by one request a time.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, timeout};

use crate::platform::{Clock, Monotonic};
use crate::upstream::Config;
use crate::upstream::body::Pace;
use crate::upstream::connection::{Connection, Shared};
use crate::upstream::stream::Socket;

/// A connection that rested no longer than this is used without asking the kernel about it.
///
/// Under load connections hardly rest, and the runtime looks at all sockets about as often.
const UNPROBED: Duration = Duration::from_millis(1);

/// How long the reader of an answer may take nothing of it before the connection is closed.
const STALLED: Duration = Duration::from_secs(60);

/// How often that is looked at meanwhile.
const LOOKS: u32 = 4;

/// The connections of one worker to one upstream.
///
/// Not shared between workers: its locks are never contended, and are held for a push or a pop.
pub struct Pool {
    config: Config,
    /// The most connections this worker may open: its share of `max_connections`.
    limit: usize,
    clock: Arc<dyn Clock>,
    idle: Mutex<Vec<Idle>>,
    open: AtomicUsize,
    /// Told of each connection that closes or comes to rest while someone waits for one.
    freed: Notify,
}

struct Idle {
    line: Line,
    since: Monotonic,
}

struct Line {
    connection: Connection,
    /// Bounds the wait for an answer. It stays with the connection, because moving a timer on
    /// costs next to nothing, where a new one has to be entered and taken out.
    timer: Pin<Box<Sleep>>,
}

/// Why no connection was to be had.
#[derive(Debug)]
pub(super) enum Unavailable {
    /// Connecting failed.
    Connect(io::Error),
    /// Connecting, or waiting for a connection to come free, took longer than allowed.
    ConnectTimeout,
    /// All connections stayed busy for as long as a connect may take.
    Busy,
}

/// A connection in use. Given back when its answer was read whole; otherwise dropped and closed.
pub struct Lease {
    line: Line,
    pool: Arc<Pool>,
    /// The connection carried a request before this one.
    pub(super) reused: bool,
}

impl Pool {
    /// A pool that opens at most `limit` connections, and closes those that rest too long.
    ///
    /// Must be called on the worker's runtime: it spawns the task that closes them.
    pub fn start(config: Config, limit: usize, clock: Arc<dyn Clock>) -> Arc<Self> {
        let pool = Arc::new(Self {
            config,
            limit: limit.max(1),
            clock,
            idle: Mutex::new(Vec::new()),
            open: AtomicUsize::new(0),
            freed: Notify::new(),
        });
        let weak = Arc::downgrade(&pool);
        let period = pool.config.idle_timeout / 2;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(period).await;
                let Some(pool) = weak.upgrade() else { return };
                pool.close_rested();
            }
        });
        pool
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// What the pool was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A new connection, whether or not one rests. Cancel safe.
    pub(super) async fn lease_new(self: &Arc<Self>) -> Result<Lease, Unavailable> {
        match self.reserve() {
            Some(place) => self.connect(place).await,
            None => self.wait().await,
        }
    }

    /// A connection at rest, if there is one; `now` is the time.
    pub(super) fn lease_idle(self: &Arc<Self>, now: Monotonic) -> Option<Lease> {
        loop {
            let Idle { line, since } = self.idle().pop()?;
            let rested = now.since(since);
            if rested < self.config.idle_timeout
                && line.connection.is_open()
                && (rested < UNPROBED || line.connection.rests())
            {
                return Some(Lease {
                    line,
                    pool: Arc::clone(self),
                    reused: true,
                });
            }
        }
    }

    async fn wait(self: &Arc<Self>) -> Result<Lease, Unavailable> {
        let until_free = async {
            loop {
                let freed = self.freed.notified();
                if let Some(lease) = self.lease_idle(self.clock.monotonic()) {
                    return Ok(lease);
                }
                if let Some(place) = self.reserve() {
                    return self.connect(place).await;
                }
                freed.await;
            }
        };
        tokio::time::timeout(self.config.connect_timeout, until_free)
            .await
            .unwrap_or(Err(Unavailable::Busy))
    }

    fn reserve(self: &Arc<Self>) -> Option<Place> {
        if self.open.load(Ordering::Relaxed) >= self.limit {
            return None;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Place(Arc::clone(self)))
    }

    async fn connect(self: &Arc<Self>, place: Place) -> Result<Lease, Unavailable> {
        let connecting = Socket::connect(&self.config.address, self.config.tls.as_ref());
        let socket = tokio::time::timeout(self.config.connect_timeout, connecting)
            .await
            .map_err(|_| Unavailable::ConnectTimeout)?
            .map_err(Unavailable::Connect)?;
        let (connection, speaking) = Connection::new(socket, Some(place));
        let driven = tokio::spawn(speaking);
        let shared = Arc::downgrade(connection.shared());
        tokio::spawn(close_when_stalled(shared, driven));
        Ok(Lease {
            line: Line {
                connection,
                timer: Box::pin(tokio::time::sleep(self.config.response_timeout)),
            },
            pool: Arc::clone(self),
            reused: false,
        })
    }

    fn rest(&self, line: Line, since: Monotonic) {
        if line.connection.is_open() {
            self.idle().push(Idle { line, since });
            self.freed.notify_one();
        }
    }

    fn close_rested(&self) {
        let now = self.clock.monotonic();
        self.idle().retain(|idle| {
            now.since(idle.since) < self.config.idle_timeout && idle.line.connection.is_open()
        });
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// How the reader of the answer keeps up.
    pub(super) fn reader(&self) -> &Pace {
        &self.line.connection.shared().reader
    }

    /// What a request is sent on, and what bounds the wait for its answer.
    pub(super) fn parts(&mut self) -> (&Connection, Pin<&mut Sleep>) {
        (&self.line.connection, self.line.timer.as_mut())
    }

    /// Reads more of the answer's body behind `bytes`; nothing once the upstream has closed.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        bytes: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        self.line.connection.poll_read(cx, bytes)
    }

    /// The socket, for what is not HTTP, with its place in the pool.
    pub(super) fn into_socket(self) -> Option<(Socket, Option<Place>)> {
        self.line.connection.into_socket()
    }

    /// Leaves the connection, from `now`, to the next request; `rests` says that it is at rest.
    ///
    /// An answer can end before its request was sent whole; such a connection is closed.
    pub(super) fn give_back(self, rests: bool, now: Monotonic) {
        let Self { line, pool, .. } = self;
        if !rests {
            if !line.connection.is_sent() {
                return;
            }
            line.connection.rest();
        }
        pool.rest(line, now);
    }
}

/// Closes a connection when the reader of its answer has taken nothing of what is there for
/// [`STALLED`].
///
/// A caller that opens no window would hold the connection for ever, and nothing of its own is
/// polled meanwhile that could notice. A task beside the connection's, so that it costs requests
/// nothing; it ends with the connection.
async fn close_when_stalled(connection: Weak<Shared>, mut driven: JoinHandle<()>) {
    let mut held = None;
    let mut looks = 0;
    while timeout(STALLED / LOOKS, &mut driven).await.is_err() {
        let Some(connection) = connection.upgrade() else {
            return;
        };
        let holds = connection.reader.held();
        looks = if holds.is_some() && holds == held {
            looks + 1
        } else {
            0
        };
        if looks == LOOKS {
            tracing::debug!("closed an upstream connection whose answer nobody reads");
            connection.close();
            driven.abort();
        }
        held = holds;
    }
}

/// One of the connections that a pool may have open; freed when dropped.
pub struct Place(Arc<Pool>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http::Method;
    use http_body::Body;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{UnixListener, UnixStream};

    use super::*;
    use crate::platform::Platform;
    use crate::upstream::body::Inbound;
    use crate::upstream::connection::Answer;
    use crate::upstream::request::Head;
    use crate::upstream::{Address, Protocol};

    /// A pool of one connection, and the other end of that connection.
    async fn connected() -> (Arc<Pool>, Lease, UnixStream) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upstream");
        let listener = UnixListener::bind(&path).unwrap();
        let config = Config {
            name: "api".into(),
            address: Address::Unix(path),
            protocol: Protocol::Http1,
            tls: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(5),
            max_connections: 1,
        };
        let pool = Pool::start(config, 1, Platform::system().clock);
        let (lease, accepted) = tokio::join!(pool.lease_new(), listener.accept());
        (pool, lease.unwrap(), accepted.unwrap().0)
    }

    async fn answered(lease: &mut Lease) -> Answer {
        let (connection, _) = lease.parts();
        connection.submit(Head::new(&Method::GET, "/").without_body(false));
        poll_fn(|cx| connection.poll_answer(cx)).await.ok().unwrap()
    }

    #[tokio::test]
    async fn a_tunnel_keeps_its_place_from_the_moment_it_opens() {
        let (pool, mut lease, mut upstream) = connected().await;
        let wire = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        upstream.write_all(wire).await.unwrap();
        let answer = answered(&mut lease).await;
        tokio::task::yield_now().await;
        assert!(pool.reserve().is_none());
        let body = Inbound::http1(answer, lease).into_body();
        let tunnel = body.into_tunnel().unwrap();
        tokio::task::yield_now().await;
        assert!(pool.reserve().is_none());
        drop(tunnel);
        assert!(pool.reserve().is_some());
    }

    #[tokio::test]
    async fn small_pieces_of_an_answer_hold_no_more_memory_than_they_have_bytes() {
        let (_pool, mut lease, mut upstream) = connected().await;
        upstream
            .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
            .await
            .unwrap();
        let mut body = Inbound::http1(answered(&mut lease).await, lease).into_body();
        for _ in 0..20 {
            upstream.write_all(b"small").await.unwrap();
            let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            let data = frame.unwrap().unwrap().into_data().unwrap();
            assert_eq!(&*data, b"small");
            assert!(data.is_unique(), "it holds the block that more is read to");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_ends_its_connection() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (connection, _driver) = Connection::new(Socket::Unix(ours), None);
        let shared = connection.shared();
        let idle = tokio::spawn(std::future::pending());
        let watch = close_when_stalled(Arc::downgrade(shared), idle);
        let quiet = tokio::time::timeout(4 * STALLED, watch).await;
        assert!(quiet.is_err(), "a reader that waits is not late");

        let driven = tokio::spawn(std::future::pending());
        let watch = tokio::spawn(close_when_stalled(Arc::downgrade(shared), driven));
        for _ in 0..20 {
            shared.reader.holds();
            tokio::time::sleep(STALLED / 2).await;
        }
        assert!(!watch.is_finished(), "a slow reader is not a stalled one");
        tokio::time::sleep(2 * STALLED).await;
        assert!(watch.is_finished());
        assert!(connection.into_socket().is_none(), "it was closed");
    }
}
