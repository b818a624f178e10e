//! TLS towards callers: what is shown to them, and what they have to show (RFC 8446, RFC 5246).

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::platform::{Authorities, Identity};
use crate::rules::certificate;

/// What HTTP/2 over TLS is called (RFC 9113 §3.2).
const H2: &[u8] = b"h2";

/// What HTTP/1.1 is called beside it (RFC 7301 §6).
const HTTP1: &[u8] = b"http/1.1";

/// How many tickets a caller gets with a connection: as many as OpenSSL gives, and half of the
/// library's default, each of which costs a sealing and bytes.
const TICKETS: usize = 2;

/// How a listener speaks TLS.
///
/// Two are equal only where one is a clone of the other.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// Why TLS cannot be spoken with what is given.
#[derive(Debug)]
pub enum BadTls {
    /// Certificates are asked of callers, and nobody could vouch for one.
    Clients(String),
    /// The machine gave no randomness for the keys of tickets, or another part of it failed.
    Machine(rustls::Error),
}

impl fmt::Display for BadTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients(error) => write!(f, "nobody could vouch for callers: {error}"),
            Self::Machine(error) => write!(f, "TLS cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for BadTls {}

impl Tls {
    /// TLS as `identity`; `clients` vouch for the certificates that callers must show, if they must.
    ///
    /// TLS 1.2 and 1.3 with the library's cipher suites, all of which are forward secret, and hybrid
    /// post-quantum key exchange first.
    pub fn new(identity: &Identity, clients: Option<&Authorities>) -> Result<Self, BadTls> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(BadTls::Machine)?;
        let mut config = match clients {
            None => {
                let mut config = builder
                    .with_no_client_auth()
                    .with_cert_resolver(identity.resolver());
                config.ticketer = ticketer().map_err(BadTls::Machine)?;
                config.send_tls13_tickets = TICKETS;
                config
            }
            Some(authorities) => {
                let roots = Arc::new(authorities.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| BadTls::Clients(error.to_string()))?;
                let mut config = builder
                    .with_client_cert_verifier(verifier)
                    .with_cert_resolver(identity.resolver());
                // A session that is resumed shows no certificate: one that has expired, or whose
                // authority is trusted no more, would go on being good.
                config.send_tls13_tickets = 0;
                config
            }
        };
        // A ticket holds its session sealed, and any worker opens it; nothing is kept here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Agrees with a caller on a connection. Cancel safe: dropping it closes the connection.
    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(Arc::clone(&self.0)).accept(stream).await
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// The caller and we agreed on HTTP/2.
pub(super) fn speaks_http2(session: &ServerConnection) -> bool {
    session.alpn_protocol() == Some(H2)
}

/// The names in the certificate that the caller showed, as one value; it was verified.
pub(super) fn names(session: &ServerConnection) -> Option<String> {
    let leaf = session.peer_certificates()?.first()?;
    certificate::names(leaf)
}

/// What seals sessions, so that a caller who comes back need not agree anew (RFC 8446 §4.6.1,
/// RFC 5077). One a process: a reload and every worker know the tickets of the others. Its keys are
/// made anew every six hours.
fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    static TICKETER: OnceLock<Arc<dyn ProducesTickets>> = OnceLock::new();
    if let Some(ticketer) = TICKETER.get() {
        return Ok(Arc::clone(ticketer));
    }
    let made = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::clone(TICKETER.get_or_init(|| made)))
}
