//! Accepting connections: sockets, protocol choice, deadlines, drain.
//!
//! Generic over the service it is given; knows nothing of routes, credentials or upstreams.

mod accept;
mod connection;
mod http1;
mod http2;
mod preamble;
mod share;
mod socket;
mod tls;
mod worker;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use ipnet::IpNet;
use tokio::sync::watch;

pub use accept::{Listener, accept};
pub use connection::Trouble;
pub use share::Shares;
pub use socket::Socket;
pub use tls::{BadTls, Tls};
pub use worker::{Census, Desk, Worker};

use crate::platform::Monotonic;
use crate::wire::incoming::Incoming;
use crate::wire::message::{Request, Response};

/// How the proxy listener treats its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where guarded traffic arrives.
    pub proxy: SocketAddr,
    /// Where `/metrics` and the probes are served.
    pub telemetry: SocketAddr,
    /// How guarded traffic is encrypted, if it is.
    pub tls: Option<Tls>,
    /// Whether trusted proxies say who is calling before their caller's first byte.
    pub proxy_protocol: bool,
    /// The largest request head, in bytes.
    pub request_head: usize,
    /// The longest a request head may take to arrive.
    pub head_timeout: Duration,
    /// The longest a connection may rest between requests.
    pub idle_timeout: Duration,
    /// How old a connection may grow before its caller is asked to make another.
    pub connection_age: Duration,
    /// The most connections open at once; one more is answered 503 in the clear, and closed.
    pub connections: usize,
    /// Peers that speak for many: they are believed, and may hold as many connections as there are.
    pub trusted_proxies: Vec<IpNet>,
    /// After SIGTERM: how long to serve on while unready.
    pub drain_delay: Duration,
    /// How long running requests may take to finish after that.
    pub shutdown_grace: Duration,
}

impl Config {
    /// What a listener that began with `began` does from now on: whether it encrypts stays.
    #[must_use]
    pub fn after(mut self, began: &Self) -> Self {
        if self.tls.is_some() != began.tls.is_some() {
            self.tls.clone_from(&began.tls);
        }
        self
    }

    /// What holds for a connection of the client at `address` that comes now.
    pub fn terms(&self, address: IpAddr) -> Terms {
        Terms {
            connections: self.connections,
            may_hold_all: self.trusts(address),
            over_tls: self.tls.is_some(),
        }
    }

    /// Whether the peer at `address` is a proxy that is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut networks = self.trusted_proxies.iter();
        networks.any(|network| network.contains(&address))
    }
}

/// On which terms a connection comes in, or is refused.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The most connections open at once.
    pub connections: usize,
    /// Its client may hold all of them, and not only a share.
    pub may_hold_all: bool,
    /// It is encrypted.
    pub over_tls: bool,
}

/// The bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest request head, in bytes.
    pub request_head: usize,
    /// The longest a request head may take to arrive.
    pub head_timeout: Duration,
    /// The longest a connection may rest between requests.
    pub idle_timeout: Duration,
    /// How old it may grow before its caller is asked to make another.
    pub age: Duration,
    /// The most streams open at once, where it is HTTP/2; a few at least, a hundred at most.
    pub http2_streams: u32,
}

impl Limits {
    /// The most streams on one HTTP/2 connection: what clients take for granted until they are told
    /// otherwise, and what the RFC asks for (RFC 9113 §6.5.2).
    const STREAMS: usize = 100;

    /// The fewest, however many connections there are: the six that a browser gets over HTTP/1.1.
    const FEW_STREAMS: usize = 6;

    /// How many streams a worker offers to all that come: a stream whose answer is not taken holds
    /// some KiB.
    const OFFERED: usize = 4_096;

    /// What holds for a worker's `nth` connection, which comes when it has `open` with it.
    pub fn new(config: &Config, open: usize, nth: u32) -> Self {
        // Multiples of the golden ratio, in fractions of 2³²: however many connections come at once,
        // their ends are spread evenly (Knuth, TAOCP volume 3, §6.4).
        let spread = nth.wrapping_mul(0x9E37_79B9);
        let earlier = (config.connection_age / 10).mul_f64(f64::from(spread) / f64::from(u32::MAX));
        let streams = Self::OFFERED / open.max(1);
        let streams = streams.clamp(Self::FEW_STREAMS, Self::STREAMS);
        Self {
            request_head: config.request_head,
            head_timeout: config.head_timeout,
            idle_timeout: config.idle_timeout,
            age: config.connection_age.saturating_sub(earlier),
            http2_streams: u32::try_from(streams).unwrap_or(u32::MAX),
        }
    }
}

/// How a connection came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The other side's address.
    pub remote: SocketAddr,
    /// It is encrypted.
    pub over_tls: bool,
    /// The names in the certificate that the caller showed, as one value, if it had to show one.
    pub certificate: Option<String>,
}

/// What answers requests.
pub trait Service: Send + Sync + 'static {
    /// What is known of a connection's other side, made once a connection.
    type Peer: Send + Sync + 'static;
    /// An answer's body.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Describes the other side of a new connection.
    fn peer(&self, arrival: Arrival) -> Self::Peer;

    /// Answers a request that was taken up at `began`.
    ///
    /// The future is dropped when the caller goes away before the answer's head.
    fn call(
        &self,
        peer: &Arc<Self::Peer>,
        began: Monotonic,
        request: Box<Request>,
        body: Incoming,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// How far the listener is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It is not.
    Serving = 0,
    /// It still accepts; each answer asks its caller to connect anew elsewhere.
    Draining = 1,
    /// It accepts nothing; what runs may finish.
    Closing = 2,
}

/// Moves the stage on.
#[derive(Debug)]
pub struct Exit {
    stage: Arc<AtomicU8>,
    moved: watch::Sender<()>,
}

/// Follows the stage.
#[derive(Clone, Debug)]
pub struct Stages {
    /// Read for every answer: a plain load, where the channel would take a lock.
    stage: Arc<AtomicU8>,
    moved: watch::Receiver<()>,
}

impl Exit {
    /// The way out, and one follower of it.
    pub fn new() -> (Self, Stages) {
        let stage = Arc::new(AtomicU8::new(Stage::Serving as u8));
        let (sender, receiver) = watch::channel(());
        let exit = Self {
            stage: Arc::clone(&stage),
            moved: sender,
        };
        let stages = Stages {
            stage,
            moved: receiver,
        };
        (exit, stages)
    }

    /// Moves every connection on to `stage`.
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
        self.moved.send_replace(());
    }
}

impl Stages {
    fn current(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Serving,
            1 => Stage::Draining,
            _ => Stage::Closing,
        }
    }

    /// Ends when the listener has come as far as `stage`.
    async fn reach(&self, stage: Stage) {
        let mut follower = self.clone();
        while follower.current() < stage {
            follower.changed().await;
        }
    }

    async fn changed(&mut self) {
        if self.moved.changed().await.is_err() {
            // Nobody can move the stage any more: it stays what it is.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests;
