//! One worker's HTTP/2 connections to one upstream: each carries many requests, and few are enough.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::Method;
use http::uri::{PathAndQuery, Scheme};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Notify;

use crate::platform::{Clock, Monotonic};
use crate::upstream::Config;
use crate::upstream::body::Outbound;
use crate::upstream::pool::Unavailable;
use crate::upstream::stream::Socket;

use super::body::Watched;
use super::request::Head;

/// The most requests on one connection at once, where the upstream allows as many.
const STREAMS: u32 = 100;

/// What one answer may have in flight unread.
const STREAM_WINDOW: u32 = 128 * 1024;

/// What all answers on a connection may have in flight unread: all of it, so that an answer that
/// nobody reads holds up no other.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;

/// What may wait unsent of one request.
const SEND_BUFFER: usize = 64 * 1024;

/// The largest head of an answer.
const LARGEST_HEAD: u32 = 64 * 1024;

/// How often a new connection is looked at until the upstream has said how many requests it takes.
const GLANCE: Duration = Duration::from_millis(1);

/// How often a connection with requests on it is asked whether anybody is there, and how long that may
/// take.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// The connections of one worker to one upstream.
///
/// Not shared between workers: its locks are never contended, and are held for a look.
pub struct Pool {
    config: Config,
    /// The most connections this worker may open: its share of `max_connections`.
    limit: usize,
    clock: Arc<dyn Clock>,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Somebody connects; the others wait to share what comes of it.
    connecting: AtomicBool,
    /// Told when a connection opened, failed to open, or has room again.
    changed: Notify,
}

struct Connection {
    sender: SendRequest<Outbound>,
    state: Arc<State>,
}

/// What is known of a connection.
pub(super) struct State {
    streams: AtomicUsize,
    /// How many requests the upstream takes at once.
    most: AtomicUsize,
    /// The upstream opens tunnels for `WebSocket`s (RFC 8441 §3).
    pub(super) opens_websockets: bool,
    /// Since when there is no request on it.
    rests: Mutex<Option<Monotonic>>,
    /// The answers that are being read.
    pub(super) watched: Watched,
}

/// A connection to send one request on.
pub(super) struct Lease {
    pub(super) sender: SendRequest<Outbound>,
    pub(super) stream: Stream,
}

/// A request's place on its connection, until it is dropped.
pub struct Stream {
    pub(super) state: Arc<State>,
    pool: Arc<Pool>,
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
            connections: Mutex::new(Vec::new()),
            connecting: AtomicBool::new(false),
            changed: Notify::new(),
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

    /// The beginning of a request for `target`.
    pub(in crate::upstream) fn head(&self, method: &Method, target: &PathAndQuery) -> Head {
        let scheme = if self.config.tls.is_some() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        Head::new(method, target, scheme)
    }

    /// What the pool was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A place on a connection: on one that is open, else on a new one, else on the first that has
    /// room. Cancel safe.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Unavailable> {
        if let Some(lease) = self.lease_open() {
            return Ok(lease);
        }
        let until_free = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                // From here on nothing that is told is missed.
                changed.as_mut().enable();
                if let Some(lease) = self.lease_open() {
                    return Ok(lease);
                }
                let is_full = self.connections().len() >= self.limit;
                if is_full || self.connecting.swap(true, Ordering::Relaxed) {
                    changed.await;
                    continue;
                }
                let connecting = Connecting(self);
                let connected = self.connect().await;
                drop(connecting);
                connected?;
            }
        };
        // A connection that is being made bounds itself; what is waited for here is room.
        tokio::time::timeout(2 * self.config.connect_timeout, until_free)
            .await
            .unwrap_or(Err(Unavailable::Busy))
    }

    /// A place on the open connection that has the fewest requests.
    fn lease_open(self: &Arc<Self>) -> Option<Lease> {
        let mut connections = self.connections();
        connections.retain(|connection| !connection.sender.is_closed());
        let connection = connections
            .iter()
            .filter(|connection| connection.state.has_room())
            .min_by_key(|connection| connection.state.streams.load(Ordering::Relaxed))?;
        connection.state.streams.fetch_add(1, Ordering::Relaxed);
        *connection.state.rests() = None;
        Some(Lease {
            sender: connection.sender.clone(),
            stream: Stream {
                state: Arc::clone(&connection.state),
                pool: Arc::clone(self),
            },
        })
    }

    async fn connect(self: &Arc<Self>) -> Result<(), Unavailable> {
        let connecting = async {
            let socket = Socket::connect(&self.config.address, self.config.tls.as_ref()).await?;
            let (sender, connection) = Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_send_buf_size(SEND_BUFFER)
                .max_header_list_size(LARGEST_HEAD)
                .keep_alive_interval(PING.0)
                .keep_alive_timeout(PING.1)
                // None before the upstream has said how many it takes: it would refuse the others.
                .initial_max_send_streams(0)
                .handshake::<_, Outbound>(TokioIo::new(socket))
                .await
                .map_err(io::Error::other)?;
            // The library tells nobody when that has come.
            while connection.current_max_send_streams() == 0 {
                if sender.is_closed() {
                    return Err(io::Error::other("it does not speak HTTP/2"));
                }
                tokio::time::sleep(GLANCE).await;
            }
            Ok((sender, connection))
        };
        let (sender, connection) = tokio::time::timeout(self.config.connect_timeout, connecting)
            .await
            .map_err(|_| Unavailable::ConnectTimeout)?
            .map_err(Unavailable::Connect)?;
        let state = Arc::new(State {
            streams: AtomicUsize::new(0),
            most: AtomicUsize::new(connection.current_max_send_streams()),
            opens_websockets: connection.is_extended_connect_protocol_enabled(),
            rests: Mutex::new(Some(self.clock.monotonic())),
            watched: Watched::default(),
        });
        let told = Arc::clone(&state);
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let ended = poll_fn(|cx| {
                let polled = connection.as_mut().poll(cx);
                let most = connection.current_max_send_streams();
                told.most.store(most, Ordering::Relaxed);
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "an HTTP/2 connection to an upstream broke");
            }
            if let Some(pool) = Weak::upgrade(&pool) {
                pool.changed.notify_waiters();
            }
        });
        tokio::spawn(super::body::end_stalled(Arc::downgrade(&state)));
        self.connections()
            .push(Arc::new(Connection { sender, state }));
        Ok(())
    }

    fn close_rested(&self) {
        let now = self.clock.monotonic();
        self.connections().retain(|connection| {
            let rests = *connection.state.rests();
            let rested = rests.is_some_and(|since| now.since(since) >= self.config.idle_timeout);
            !rested && !connection.sender.is_closed()
        });
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody connects, until this is dropped.
struct Connecting<'a>(&'a Pool);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.store(false, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }
}

impl State {
    fn has_room(&self) -> bool {
        let most = self.most.load(Ordering::Relaxed).min(STREAMS as usize);
        self.streams.load(Ordering::Relaxed) < most
    }

    fn rests(&self) -> MutexGuard<'_, Option<Monotonic>> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.state.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.state.rests() = Some(self.pool.clock.monotonic());
        }
        self.pool.changed.notify_waiters();
    }
}
