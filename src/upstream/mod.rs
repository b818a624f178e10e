//! The API's side: connection pools, forwarding, bodies and tunnels.

pub mod body;
mod connection;
pub mod forward;
pub mod pool;
pub mod request;
pub mod response;
mod stream;
mod tls;
pub mod tunnel;

pub use tls::Tls;

use std::path::PathBuf;
use std::time::Duration;

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

/// One upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name, for routes, metrics and logs.
    pub name: Box<str>,
    /// Where it listens.
    pub address: Address,
    /// How it is spoken to over TLS, if it is.
    pub tls: Option<Tls>,
    /// The longest a connect may take, and a wait for a free connection.
    pub connect_timeout: Duration,
    /// The longest until the response head, once the request was sent.
    pub response_timeout: Duration,
    /// How long a pooled connection may rest before it is closed.
    pub idle_timeout: Duration,
    /// The most connections open at once, over all workers.
    pub max_connections: usize,
}
