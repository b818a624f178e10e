//! Accepting connections: sockets, protocol choice, deadlines, drain.
//!
//! Generic over the service it is given; knows nothing of routes, credentials or upstreams.

use std::net::SocketAddr;
use std::time::Duration;

/// How the proxy listener treats its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where guarded traffic arrives.
    pub proxy: SocketAddr,
    /// Where `/metrics` and the probes are served.
    pub telemetry: SocketAddr,
    /// The largest request head, in bytes.
    pub request_head: usize,
    /// The longest a request head may take to arrive.
    pub head_timeout: Duration,
    /// The longest a connection may rest between requests.
    pub idle_timeout: Duration,
    /// The most connections open at once; one more is answered 503 and closed.
    pub connections: usize,
    /// After SIGTERM: how long to serve on while unready.
    pub drain_delay: Duration,
    /// How long running requests may take to finish after that.
    pub shutdown_grace: Duration,
}
