//! TLS towards an upstream: who it has to be, and who we say we are.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::platform::{Authorities, Identity};
use crate::upstream::Protocol;

/// How an upstream is spoken to over TLS.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    /// `None`: the host of whichever address is connected to.
    server_name: Option<ServerName<'static>>,
    authorities: Authorities,
    identity: Option<Identity>,
}

impl Tls {
    /// TLS 1.2 or 1.3 with the server of this name, or else of its host's, for which `authorities`
    /// vouch, and to which `identity` is shown if it asks. `protocol` is the one that is offered.
    pub fn new(
        server_name: Option<ServerName<'static>>,
        authorities: Authorities,
        identity: Option<Identity>,
        protocol: Protocol,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(authorities.roots());
        let mut config = match &identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
        };
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        Ok(Self {
            config: Arc::new(config),
            server_name,
            authorities,
            identity,
        })
    }

    /// Agrees with the upstream at `host` on a connection. Cancel safe: dropping it closes the connection.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
        };
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(name, stream).await
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.server_name == other.server_name
            && self.config.alpn_protocols == other.config.alpn_protocols
            && self.authorities == other.authorities
            && self.identity == other.identity
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}
