//! Workers: one thread and one runtime each, with connections of its own.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::listener::connection::{self, Trouble};
use crate::listener::preamble;
use crate::listener::share::Place;
use crate::listener::{Config, Limits, Service, Stages};
use crate::platform::{Alive, Clock, Hold};

/// Counts what happens to connections; made by whoever keeps the metrics.
pub trait Census: Send + Sync + 'static {
    /// Counts a connection as open for as long as it lives.
    type Open: Send + Sync + 'static;

    /// A connection opened.
    fn open(&self) -> Self::Open;

    /// A connection ended before its time.
    fn trouble(&self, trouble: Trouble);
}

/// Hands connections to one worker.
#[derive(Clone, Debug)]
pub struct Worker {
    connections: mpsc::UnboundedSender<(StdStream, SocketAddr, Place)>,
    open: Arc<AtomicUsize>,
}

/// What a worker serves its connections with.
pub struct Desk<V, C> {
    /// Answers requests.
    pub service: Arc<V>,
    /// What holds for a connection is what holds here when it comes.
    pub config: Arc<ArcSwap<Config>>,
    /// Whether proxies may stand before it, which say who is calling where the configuration asks them
    /// to.
    pub behind_proxies: bool,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts connections.
    pub census: Arc<C>,
    /// How far the listener is on its way out.
    pub stages: Stages,
    /// Held by each connection until it ended.
    pub alive: Alive,
}

impl Worker {
    /// A worker's inbox, and the future that serves what arrives there.
    ///
    /// The future ends when every clone of the inbox is gone; connections run on, each holding
    /// the desk's [`Alive`]. The queue needs no bound of its own: the acceptor counts connections.
    pub fn new<V: Service, C: Census>(desk: Desk<V, C>) -> (Self, impl Future<Output = ()>) {
        let (sender, mut inbox) = mpsc::unbounded_channel();
        let worker = Self {
            connections: sender,
            open: Arc::new(AtomicUsize::new(0)),
        };
        let open = Arc::clone(&worker.open);
        let serving = async move {
            let mut nth = 0_u32;
            while let Some((stream, remote, place)) = inbox.recv().await {
                nth = nth.wrapping_add(1);
                let open = Open(Arc::clone(&open), place);
                if let Ok(stream) = TcpStream::from_std(stream) {
                    desk.seat(stream, remote, open, nth);
                }
            }
        };
        (worker, serving)
    }

    /// How many connections the worker has.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Hands over a connection.
    pub(super) fn hand(
        &self,
        stream: StdStream,
        remote: SocketAddr,
        place: Place,
    ) -> io::Result<()> {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.connections.send((stream, remote, place)).map_err(|_| {
            self.open.fetch_sub(1, Ordering::Relaxed);
            io::Error::from(io::ErrorKind::BrokenPipe)
        })
    }
}

impl<V: Service, C: Census> Desk<V, C> {
    fn seat(&self, mut stream: TcpStream, remote: SocketAddr, open: Open, nth: u32) {
        let config = self.config.load();
        let limits = Limits::new(&config, open.0.load(Ordering::Relaxed), nth);
        let announced = self.behind_proxies && config.proxy_protocol && config.trusts(remote.ip());
        // A tunnel takes it along: it is still this connection when its HTTP has ended.
        let counted = Hold::new((self.census.open(), open, self.alive.clone()));
        let service = Arc::clone(&self.service);
        let clock = Arc::clone(&self.clock);
        let stages = self.stages.clone();
        let serving = async move {
            let remote = if announced {
                preamble::caller(&mut stream, remote, &limits, stages.clone()).await?
            } else {
                Some(remote)
            };
            let Some(remote) = remote else { return Ok(()) };
            let peer = Arc::new(service.peer(remote));
            connection::serve(stream, service, peer, limits, clock, stages, counted).await
        };
        let census = Arc::clone(&self.census);
        tokio::spawn(async move {
            if let Err(trouble) = serving.await {
                census.trouble(trouble);
            }
        });
    }
}

/// One of a worker's connections, from the hand-over on.
struct Open(
    Arc<AtomicUsize>,
    #[expect(dead_code, reason = "its existence is its use")] Place,
);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
