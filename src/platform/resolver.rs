//! The addresses that names have.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

use tokio::net::lookup_host;

/// The addresses of a name, once they are known.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Tells what addresses a name has now.
pub trait Resolver: Send + Sync {
    /// Looks `host` up. Not on the request path: it may take as long as the network does.
    fn resolve(&self, host: &str) -> Resolving;
}

/// The machine's resolver: its hosts file, and the name servers that it is told of.
///
/// It does not say for how long an answer holds.
#[derive(Debug)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str) -> Resolving {
        let host = host.to_owned();
        Box::pin(async move {
            let found = lookup_host((host, 0)).await?;
            Ok(found.map(|socket| socket.ip()).collect())
        })
    }
}
