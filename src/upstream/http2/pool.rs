//! One worker's HTTP/2 connections to one upstream: each carries many requests, and few are enough.
//!
//! Which address is next is `shelves`' affair, of which nothing but the load is used here; how the
//! addresses stand is the directory's.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use crate::platform::{Clock, Monotonic};
use crate::upstream::Config;
use crate::upstream::directory::{Directory, keep};
use crate::upstream::pool::{ATTEMPTS, Unavailable};
use crate::upstream::shelves::{Seat, Shelves, Site};
use crate::upstream::stream::Socket;

use super::again::Repeatable;
use super::body::Answers;

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
    directory: Arc<Directory>,
    /// How many requests each address has.
    addresses: Mutex<Shelves>,
    /// The most connections this worker may open: its share of `max_connections`.
    limit: usize,
    clock: Arc<dyn Clock>,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Those that made room for others while they had requests.
    left: Mutex<Vec<Weak<State>>>,
    /// Somebody connects; the others wait to share what comes of it.
    connecting: AtomicBool,
    failed: Mutex<Failed>,
    /// Told when a connection opened, failed to open, or has room again.
    changed: Notify,
}

/// Connects that failed, for those who waited meanwhile.
#[derive(Default)]
struct Failed {
    count: u64,
    last: Option<Unavailable>,
}

struct Connection {
    /// Where it leads.
    site: Arc<Site>,
    sender: SendRequest<Repeatable>,
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
    /// It was told that the connection broke.
    broke: AtomicBool,
    /// The answers that are being read.
    pub(super) answers: Answers,
}

/// A connection to send one request on.
pub(super) struct Lease {
    pub(super) sender: SendRequest<Repeatable>,
    pub(super) stream: Arc<Stream>,
}

/// A request's place on its connection, until neither its body nor its answer needs it any more.
pub struct Stream {
    pub(super) state: Arc<State>,
    pool: Arc<Pool>,
    seat: Seat,
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
            addresses: Mutex::new(Shelves::new(worker)),
            limit: limit.max(1),
            clock,
            connections: Mutex::default(),
            left: Mutex::default(),
            connecting: AtomicBool::new(false),
            failed: Mutex::default(),
            changed: Notify::new(),
        });
        pool.fit();
        let period = pool.config().idle_timeout / 2;
        let weak = Arc::downgrade(&pool);
        tokio::spawn(keep(weak, listing, Self::fit, period, Self::close_rested));
        pool
    }

    /// Takes over the addresses that the directory has now. What is open to others ends with the
    /// requests that it has.
    fn fit(&self) {
        let endpoints = self.directory.endpoints();
        let mut addresses = self.addresses();
        addresses.fit(&endpoints);
        self.connections()
            .retain(|connection| addresses.have(&connection.site));
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

    /// A place on a connection to the address that is next: on one that is open, else on a new one.
    /// Where none can be made, a place at another address, or else the first that comes free. Cancel
    /// safe.
    ///
    /// Each address that is tried has `connect_timeout`; all together have twice that, and so has
    /// whoever waits. A connect that fails is told to all who waited for it, as each would have found.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Unavailable> {
        if self.addresses().is_empty() {
            self.directory.wait_for_addresses().await?;
            self.fit();
        }
        let mut waits = None;
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on nothing that is told is missed.
            changed.as_mut().enable();
            // A statement of its own: the lock is not held while connecting.
            let seat = self.addresses().seat(&[]);
            let Some(seat) = seat else {
                return Err(Unavailable::ConnectTimeout);
            };
            let seat = match self.lease_open(seat) {
                Ok(lease) => return Ok(lease),
                Err(seat) => seat,
            };
            let (until, failed) = *waits.get_or_insert_with(|| {
                let allowed = 2 * self.config().connect_timeout;
                let until = self.clock.timer(self.clock.monotonic(), allowed);
                (until, self.failed().count)
            });
            let failure = self.failed().since(failed);
            if let Some(failure) = failure {
                return self.lease_other(seat, true).ok_or(failure);
            }
            let is_full = self.is_full() && !self.make_room(&seat);
            let begun = (!is_full).then(|| Connecting::begin(self)).flatten();
            if let Some(connecting) = begun {
                let seat = self.connect_any(seat, until, connecting).await?;
                if let Ok(lease) = self.lease_open(seat) {
                    return Ok(lease);
                }
            } else if let Some(lease) = self.lease_other(seat, is_full) {
                return Ok(lease);
            } else if timeout_at(until, changed).await.is_err() {
                return Err(Unavailable::Busy);
            }
        }
    }

    /// A place on the open connection, where the seat is, that has the fewest requests.
    fn lease_open(self: &Arc<Self>, seat: Seat) -> Result<Lease, Seat> {
        let mut connections = self.connections();
        connections.retain(|connection| !connection.sender.is_closed());
        let connection = connections
            .iter()
            .filter(|connection| Arc::ptr_eq(&connection.site, seat.site()))
            .filter(|connection| connection.state.has_room())
            .min_by_key(|connection| connection.state.load());
        let Some(connection) = connection else {
            return Err(seat);
        };
        connection.state.streams.fetch_add(1, Ordering::Relaxed);
        *connection.state.rests() = None;
        Ok(Lease {
            sender: connection.sender.clone(),
            stream: Arc::new(Stream {
                state: Arc::clone(&connection.state),
                pool: Arc::clone(self),
                seat,
            }),
        })
    }

    fn is_full(&self) -> bool {
        self.connections().len() >= self.limit
    }

    /// Takes a connection off the full list, so that one can be opened where the seat is: one to an
    /// address that is out of service, or one of several where the seat's address has none. It ends
    /// with the requests that it has; those that do so are never more than the list has room for.
    fn make_room(&self, seat: &Seat) -> bool {
        let mut left = self.left();
        left.retain(|state| state.upgrade().is_some_and(|state| state.load() > 0));
        if seat.site().is_out() || left.len() >= self.limit {
            return false;
        }
        let mut connections = self.connections();
        let count = |site: &Arc<Site>| {
            let leads_there = |one: &&Arc<Connection>| Arc::ptr_eq(&one.site, site);
            connections.iter().filter(leads_there).count()
        };
        let is_first = count(seat.site()) == 0;
        let spare = connections.iter().enumerate().filter(|(_, connection)| {
            connection.site.is_out() || is_first && count(&connection.site) > 1
        });
        let place = spare.min_by_key(|(_, connection)| {
            let in_service = !connection.site.is_out();
            (in_service, connection.state.load())
        });
        let Some((place, _)) = place else {
            return false;
        };
        left.push(Arc::downgrade(&connections.remove(place).state));
        true
    }

    /// A place on an open connection to another address than where the seat is. One that is out of
    /// service, where the seat's is not, is only taken `at_worst`.
    fn lease_other(self: &Arc<Self>, seat: Seat, at_worst: bool) -> Option<Lease> {
        let in_service = !seat.site().is_out() && !at_worst;
        let mut tried = vec![Arc::clone(seat.site())];
        drop(seat);
        loop {
            let seat = self.addresses().seat(&tried)?;
            if seat.site().is_out() && in_service {
                return None;
            }
            match self.lease_open(seat) {
                Ok(lease) => return Some(lease),
                Err(seat) => tried.push(Arc::clone(seat.site())),
            }
        }
    }

    /// Connects where the seat is, and elsewhere where that fails; where there is a connection then.
    async fn connect_any(
        self: &Arc<Self>,
        seat: Seat,
        until: Instant,
        _connecting: Connecting<'_>,
    ) -> Result<Seat, Unavailable> {
        let mut failure = None;
        let connecting = async {
            let mut tried = Vec::new();
            let mut next = Some(seat);
            while let Some(seat) = next.take() {
                match self.connect(seat.site()).await {
                    Ok(()) => {
                        self.directory.connected(seat.endpoint());
                        return Some(seat);
                    }
                    Err(unavailable) => {
                        self.directory.refused(seat.endpoint(), &unavailable);
                        failure = Some(unavailable);
                    }
                }
                tried.push(Arc::clone(seat.site()));
                drop(seat);
                if tried.len() < ATTEMPTS {
                    next = self.addresses().seat(&tried);
                }
            }
            None
        };
        if let Ok(Some(seat)) = timeout_at(until, connecting).await {
            return Ok(seat);
        }
        match failure {
            Some(failure) => {
                self.failed().tell(failure.clone());
                Err(failure)
            }
            // No address had all of its time, which others may still have.
            None => Err(Unavailable::ConnectTimeout),
        }
    }

    async fn connect(self: &Arc<Self>, site: &Arc<Site>) -> Result<(), Unavailable> {
        let connecting = async {
            let socket = Socket::connect(site.endpoint(), self.config().tls.as_ref()).await?;
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
                .handshake::<_, Repeatable>(TokioIo::new(socket))
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
        let (sender, connection) = timeout(self.config().connect_timeout, connecting)
            .await
            .map_err(|_| Unavailable::ConnectTimeout)?
            .map_err(Unavailable::from)?;
        let state = Arc::new(State {
            streams: AtomicUsize::new(0),
            most: AtomicUsize::new(connection.current_max_send_streams()),
            opens_websockets: connection.is_extended_connect_protocol_enabled(),
            rests: Mutex::new(Some(self.clock.monotonic())),
            broke: AtomicBool::new(false),
            answers: Answers::default(),
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
        self.connections().push(Arc::new(Connection {
            site: Arc::clone(site),
            sender,
            state,
        }));
        Ok(())
    }

    fn close_rested(&self) {
        let now = self.clock.monotonic();
        self.connections().retain(|connection| {
            let rests = *connection.state.rests();
            let rested = rests.is_some_and(|since| now.since(since) >= self.config().idle_timeout);
            !rested && !connection.sender.is_closed()
        });
    }

    fn addresses(&self) -> MutexGuard<'_, Shelves> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> MutexGuard<'_, Vec<Weak<State>>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> MutexGuard<'_, Failed> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failed {
    fn tell(&mut self, failure: Unavailable) {
        self.count += 1;
        self.last = Some(failure);
    }

    /// How a connect failed since there were `count`, if one did.
    fn since(&self, count: u64) -> Option<Unavailable> {
        self.last.clone().filter(|_| self.count > count)
    }
}

/// Somebody connects, until this is dropped.
struct Connecting<'a>(&'a Pool);

impl<'a> Connecting<'a> {
    /// Begins to connect, unless somebody does already.
    fn begin(pool: &'a Pool) -> Option<Self> {
        let connects = pool.connecting.swap(true, Ordering::Relaxed);
        (!connects).then(|| Self(pool))
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.store(false, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }
}

impl State {
    fn has_room(&self) -> bool {
        let most = self.most.load(Ordering::Relaxed).min(STREAMS as usize);
        self.load() < most
    }

    /// How many requests are on it.
    fn load(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    fn rests(&self) -> MutexGuard<'_, Option<Monotonic>> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// An answer began.
    pub(super) fn answered(&self) {
        self.pool.directory.answered(self.seat.endpoint());
    }

    /// The answer to what was `asked` then did not begin in time.
    pub(super) fn late(&self, asked: Monotonic) {
        self.pool.directory.late(self.seat.endpoint(), asked);
    }

    /// The connection broke before an answer. It counts once, with however many requests it broke.
    pub(super) fn broke(&self) {
        if !self.state.broke.swap(true, Ordering::Relaxed) {
            self.pool.directory.broke(self.seat.endpoint());
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.state.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.state.rests() = Some(self.pool.clock.monotonic());
        }
        // One place came free: it is for one who waits.
        self.pool.changed.notify_one();
    }
}
