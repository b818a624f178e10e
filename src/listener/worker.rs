//! Workers: one thread and one runtime each, with connections of its own.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;

use crate::listener::accept::refuse;
use crate::listener::connection::{self, Seat, Speaks, Trouble};
use crate::listener::http2::Heads;
use crate::listener::preamble;
use crate::listener::share::{Place, Shares};
use crate::listener::tls::{self, Tls};
use crate::listener::{Arrival, Config, Limits, Service, Socket, Stage, Stages};
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
    /// Who has how many of the listener's connections.
    pub shares: Shares,
    /// Whether it is where guarded traffic arrives: encrypted, and announced by proxies, as the
    /// configuration says.
    pub is_edge: bool,
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
            let heads = Heads::default();
            while let Some((stream, remote, place)) = inbox.recv().await {
                nth = nth.wrapping_add(1);
                let open = Open(Arc::clone(&open), place);
                if let Ok(stream) = TcpStream::from_std(stream) {
                    desk.take(stream, remote, open, nth, heads.clone());
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
    /// Serves one connection in the clear until it ends, whatever it came by; no worker counts it.
    ///
    /// Dropping the future closes the connection at once.
    pub fn serve<S>(
        &self,
        stream: S,
        remote: SocketAddr,
    ) -> impl Future<Output = Result<(), Trouble>> + Send + use<S, V, C>
    where
        S: Socket,
    {
        let arrival = Arrival {
            remote,
            over_tls: false,
            certificate: None,
        };
        let limits = Limits::new(&self.config.load(), 1, 0);
        self.seat(limits, Heads::default(), ())
            .serve(stream, Speaks::AsItBegins, arrival)
    }

    /// What a connection is served with that `counted` counts, besides the census.
    fn seat(&self, limits: Limits, heads: Heads, counted: impl Send + Sync + 'static) -> Seat<V> {
        Seat {
            service: Arc::clone(&self.service),
            limits,
            clock: Arc::clone(&self.clock),
            stages: self.stages.clone(),
            heads,
            // A tunnel takes it along: it is still this connection when its HTTP has ended.
            hold: Hold::new((self.census.open(), counted, self.alive.clone())),
        }
    }

    fn take(&self, mut stream: TcpStream, remote: SocketAddr, open: Open, nth: u32, heads: Heads) {
        let config = self.config.load();
        let announced = self.is_edge && config.proxy_protocol && config.trusts(remote.ip());
        let tls = config.tls.clone().filter(|_| self.is_edge);
        let limits = Limits::new(&config, open.0.load(Ordering::Relaxed), nth);
        let mut seat = self.seat(limits, heads, open);
        let asked = announced.then(|| (Arc::clone(&self.config), self.shares.clone()));
        let serving = async move {
            let mut arrival = Arrival {
                remote,
                over_tls: tls.is_some(),
                certificate: None,
            };
            if let Some((config, shares)) = asked {
                let caller = preamble::caller(&mut stream, remote, &seat.limits, &seat.stages);
                let Some(caller) = caller.await? else {
                    return Ok(());
                };
                arrival.remote = caller;
                let terms = config.load().terms(caller.ip());
                let Some(share) = shares.share(caller.ip(), terms) else {
                    refuse(stream.into_std().map_err(|_| Trouble::Io)?, terms);
                    return Err(Trouble::Overloaded);
                };
                seat.hold = Hold::new((seat.hold, share));
            }
            match tls {
                None => seat.serve(stream, Speaks::AsItBegins, arrival).await,
                Some(tls) => {
                    // Large, and over with the handshake.
                    let Some(stream) = Box::pin(seat.agree(stream, tls)).await? else {
                        return Ok(());
                    };
                    let (_, session) = stream.get_ref();
                    let speaks = if tls::speaks_http2(session) {
                        Speaks::Http2
                    } else {
                        Speaks::Http1
                    };
                    arrival.certificate = tls::names(session);
                    seat.serve(stream, speaks, arrival).await
                }
            }
        };
        let census = Arc::clone(&self.census);
        tokio::spawn(async move {
            if let Err(trouble) = serving.await {
                tracing::debug!(peer = %remote, reason = ?trouble, "a connection ended badly");
                census.trouble(trouble);
            }
        });
    }
}

impl<V: Service> Seat<V> {
    async fn serve<S>(self, stream: S, speaks: Speaks, arrival: Arrival) -> Result<(), Trouble>
    where
        S: Socket,
    {
        let peer = Arc::new(self.service.peer(arrival));
        connection::serve(stream, speaks, peer, self).await
    }

    /// Agrees upon TLS, for which a caller has as long as for a head; `None` where there is nobody to
    /// serve then.
    async fn agree(&self, stream: TcpStream, tls: Tls) -> Result<Option<Agreed>, Trouble> {
        let agreeing = tokio::time::timeout(self.limits.head_timeout, tls.accept(stream));
        let agreed = tokio::select! {
            agreed = agreeing => agreed,
            () = self.stages.reach(Stage::Closing) => return Ok(None),
        };
        match agreed {
            Ok(Ok(stream)) => Ok(Some(Box::new(stream))),
            // Whoever looks whether the port is open leaves without a word.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS was not agreed upon");
                Err(Trouble::Tls)
            }
            Err(_) => Err(Trouble::Tls),
        }
    }
}

/// An encrypted connection. Boxed, because a connection's future has room for each of the hands that it goes through.
type Agreed = Box<TlsStream<TcpStream>>;

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
