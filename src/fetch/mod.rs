//! Documents that gatelet needs for itself: the keys that other issuers publish.
//!
//! One request a document, on a connection of its own. Redirects are not followed, no proxy is used,
//! and nothing is remembered between two fetches.

mod location;

pub use location::{BadLocation, Location};

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::platform::Authorities;

/// The longest that a fetch may take in all.
pub const DEADLINE: Duration = Duration::from_secs(5);

const AGENT: &str = concat!("gatelet/", env!("CARGO_PKG_VERSION"));

/// Why there is no document.
#[derive(Debug)]
pub enum FetchError {
    /// Not all of it came within [`DEADLINE`].
    TimedOut,
    /// There was no connection, or TLS was not agreed upon.
    Connect(io::Error),
    /// There is nobody whose word on the server's certificate would be trusted.
    NoAuthorities,
    /// The answer is none, or broke off.
    Protocol(hyper::Error),
    /// The answer is another than 200.
    Status(StatusCode),
    /// The document is longer than this many bytes.
    TooLong(usize),
    /// The document broke off.
    Body(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => write!(f, "it took longer than {} seconds", DEADLINE.as_secs()),
            Self::Connect(error) => write!(f, "it cannot be connected to: {error}"),
            Self::NoAuthorities => f.write_str(
                "this machine trusts no certificate authority; install ca-certificates, or name a ca_file",
            ),
            Self::Protocol(error) => write!(f, "its answer is not HTTP: {error}"),
            Self::Status(status) => write!(f, "its answer is {status}"),
            Self::TooLong(most) => write!(f, "its answer is longer than {most} bytes"),
            Self::Body(error) => write!(f, "its answer broke off: {error}"),
        }
    }
}

impl std::error::Error for FetchError {}

/// Fetches the document at `location`, of at most `most` bytes. Cancel safe.
pub async fn fetch(location: &Location, most: usize) -> Result<Bytes, FetchError> {
    let fetched = tokio::time::timeout(DEADLINE, connect_and_ask(location, most)).await;
    fetched.unwrap_or(Err(FetchError::TimedOut))
}

async fn connect_and_ask(location: &Location, most: usize) -> Result<Bytes, FetchError> {
    let address = (location.host(), location.port());
    let stream = TcpStream::connect(address)
        .await
        .map_err(FetchError::Connect)?;
    if !location.is_tls() {
        return ask(location, stream, most).await;
    }
    let name = ServerName::try_from(location.host().to_owned());
    let name = name.map_err(|error| FetchError::Connect(io::Error::other(error)))?;
    let authorities = location.authorities().clone();
    // Reading the machine's hundred authorities takes a while.
    let tls = tokio::task::spawn_blocking(move || tls(&authorities))
        .await
        .map_err(|error| FetchError::Connect(io::Error::other(error)))??;
    let stream = TlsConnector::from(tls)
        .connect(name, stream)
        .await
        .map_err(FetchError::Connect)?;
    ask(location, stream, most).await
}

async fn ask(
    location: &Location,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    most: usize,
) -> Result<Bytes, FetchError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(FetchError::Protocol)?;
    // It ends with its sender, and what breaks it is told there.
    tokio::spawn(connection);
    let request = Request::get(location.target())
        .header(HOST, location.authority())
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, AGENT)
        .body(Empty::<Bytes>::new())
        .expect("the location was checked");
    let answer = sender.send_request(request).await;
    let answer = answer.map_err(FetchError::Protocol)?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    let body = Limited::new(answer.into_body(), most).collect().await;
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            FetchError::TooLong(most)
        } else {
            FetchError::Body(error)
        }
    })?;
    Ok(body.to_bytes())
}

/// Blocks on the file system.
fn tls(authorities: &Authorities) -> Result<Arc<ClientConfig>, FetchError> {
    let roots = authorities.roots();
    if roots.is_empty() {
        return Err(FetchError::NoAuthorities);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| FetchError::Connect(io::Error::other(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
