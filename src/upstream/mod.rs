//! The API's side: addresses, connection pools, forwarding, bodies and tunnels.

pub mod body;
mod check;
mod connection;
pub mod directory;
mod endpoint;
pub mod forward;
pub mod head;
pub mod http2;
mod pace;
pub mod pool;
pub mod request;
pub mod response;
mod shelves;
mod stream;
mod tls;
pub mod tunnel;

pub use tls::Tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::uri::{PathAndQuery, Scheme};

use crate::platform::Clock;
use crate::rules::health::Thresholds;

use directory::Directory;
use head::Head;

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `http://host:port`
    Tcp {
        /// A name or an IP address, without brackets.
        host: Box<str>,
        /// The port; 80 where the URL names none.
        port: u16,
    },
    /// `unix:/path`
    Unix(PathBuf),
}

impl Address {
    /// What `Host` says to it where no caller has said anything.
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, which is known beforehand, or agreed upon with TLS.
    Http2,
}

impl Protocol {
    /// What it is called where TLS agrees on it (RFC 7301 §6, RFC 9113 §3.2).
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// The connections of one worker to one upstream.
#[derive(Clone)]
pub enum Pool {
    /// Each carries one request at a time.
    Http1(Arc<pool::Pool>),
    /// Each carries many.
    Http2(Arc<http2::Pool>),
}

impl Pool {
    /// A pool that opens at most `limit` connections to the directory's addresses, for the worker of
    /// this number. Must be called on the worker's runtime.
    pub fn start(
        directory: Arc<Directory>,
        limit: usize,
        worker: usize,
        clock: Arc<dyn Clock>,
    ) -> Self {
        match directory.config().protocol {
            Protocol::Http1 => Self::Http1(pool::Pool::start(directory, limit, worker, clock)),
            Protocol::Http2 => Self::Http2(http2::Pool::start(directory, limit, worker, clock)),
        }
    }

    /// Where the pool's connections lead.
    pub fn directory(&self) -> &Arc<Directory> {
        match self {
            Self::Http1(pool) => pool.directory(),
            Self::Http2(pool) => pool.directory(),
        }
    }

    /// What the pool was built from.
    pub fn config(&self) -> &Config {
        self.directory().config()
    }
}

/// One upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name, for routes, metrics and logs.
    pub name: Box<str>,
    /// Where it listens; at least one, each once. A name stands for every address that it has.
    pub addresses: Vec<Address>,
    /// What it speaks.
    pub protocol: Protocol,
    /// How it is spoken to over TLS, if it is.
    pub tls: Option<Tls>,
    /// The longest a connect may take, and a wait for a free connection.
    pub connect_timeout: Duration,
    /// The longest until the response head, once the request was sent.
    pub response_timeout: Duration,
    /// How long a pooled connection may rest before it is closed.
    pub idle_timeout: Duration,
    /// The most connections open at once, over all addresses and workers; each worker's share of them
    /// is rounded up.
    pub max_connections: usize,
    /// How it is asked whether it is well; `None` where only requests tell.
    pub health_check: Option<HealthCheck>,
}

impl Config {
    /// The beginning of a request for `target`, path and query as they are.
    pub fn head(&self, method: &Method, target: &PathAndQuery) -> Head {
        match self.protocol {
            Protocol::Http1 => Head::Http1(request::Head::new(method, target.as_str())),
            Protocol::Http2 => {
                let scheme = match self.tls {
                    Some(_) => Scheme::HTTPS,
                    None => Scheme::HTTP,
                };
                Head::Http2(Box::new(http2::Head::new(method, target, scheme)))
            }
        }
    }
}

/// How each address of an upstream is asked whether it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for with GET; 2xx is well.
    pub path: PathAndQuery,
    /// From one check of an address to the next.
    pub interval: Duration,
    /// The longest until the answer's head, connecting included.
    pub timeout: Duration,
    /// How many checks in a row it takes to change what is thought of an address.
    pub thresholds: Thresholds,
}
